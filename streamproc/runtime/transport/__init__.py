"""The Faust transport ``streamproc://``: Kafka by aiokafka, with one message per block for topics that ask for blocks.

The only place that imports aiokafka, and with ``runtime.worker`` the only one that imports Faust. What it leans on
inside the two is pinned by ``tests/runtime/test_pins.py``.
"""

from streamproc.runtime.transport.driver import Transport

__all__ = ["Transport"]
