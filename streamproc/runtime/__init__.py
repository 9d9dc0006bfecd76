"""Running topologies: tasks, the Faust transport, the worker."""
