"""Real-time AI over WebSockets on Kafka: definitions in Python, the speed of columns.

::

    from streamproc import App, Record, count, hopping, mean, tumbling
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamproc.batch import Batch
    from streamproc.define.aggregates import count, maximum, mean, minimum, total
    from streamproc.define.app import App
    from streamproc.define.table import Table
    from streamproc.define.topic import Channel, Topic
    from streamproc.define.windows import hopping, tumbling
    from streamproc.record import Record
    from streamproc.stream import Event, Stream

__version__ = "0.1.0"

#: Where each public name lives. Loaded when first asked for, so that the command line starts fast.
_HOMES = {
    "App": "define.app",
    "Batch": "batch",
    "Channel": "define.topic",
    "Event": "stream",
    "Record": "record",
    "Stream": "stream",
    "Table": "define.table",
    "Topic": "define.topic",
    "count": "define.aggregates",
    "hopping": "define.windows",
    "maximum": "define.aggregates",
    "mean": "define.aggregates",
    "minimum": "define.aggregates",
    "total": "define.aggregates",
    "tumbling": "define.windows",
}

__all__ = [
    "App",
    "Batch",
    "Channel",
    "Event",
    "Record",
    "Stream",
    "Table",
    "Topic",
    "__version__",
    "count",
    "hopping",
    "maximum",
    "mean",
    "minimum",
    "total",
    "tumbling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"streamproc.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
