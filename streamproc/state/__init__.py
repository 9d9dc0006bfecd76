"""State that outlives its worker: rows to record bodies of a changelog and back, and snapshots in files."""
