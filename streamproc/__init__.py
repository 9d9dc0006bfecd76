"""Real-time AI over WebSockets on Kafka: definitions in Python, the speed of columns.

::

    from streamproc import App, Record, count, hopping, mean, tumbling
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamproc.batch import Batch
    from streamproc.define.aggregates import (
        correlation,
        count,
        count_min,
        covariance,
        deviation,
        distinct,
        ewma,
        first,
        histogram,
        last,
        maximum,
        mean,
        minimum,
        occurrences,
        own,
        quantile,
        quantiles,
        rate,
        top_k,
        total,
        value_range,
        variance,
    )
    from streamproc.define.app import App
    from streamproc.define.errors import retry
    from streamproc.define.flow import Flow, merge
    from streamproc.define.latest import Latest
    from streamproc.define.table import Table
    from streamproc.define.topic import Channel, Topic
    from streamproc.define.windows import counting, everything, hopping, session, sliding, tumbling, updates
    from streamproc.record import Record
    from streamproc.stream import Event, Stream

__version__ = "0.1.0"

#: Where each public name lives. Loaded when first asked for, so that the command line starts fast.
_HOMES = {
    "App": "define.app",
    "Batch": "batch",
    "Channel": "define.topic",
    "Event": "stream",
    "Flow": "define.flow",
    "Latest": "define.latest",
    "Record": "record",
    "Stream": "stream",
    "Table": "define.table",
    "Topic": "define.topic",
    "correlation": "define.aggregates",
    "count": "define.aggregates",
    "count_min": "define.aggregates",
    "counting": "define.windows",
    "covariance": "define.aggregates",
    "deviation": "define.aggregates",
    "distinct": "define.aggregates",
    "everything": "define.windows",
    "ewma": "define.aggregates",
    "first": "define.aggregates",
    "histogram": "define.aggregates",
    "hopping": "define.windows",
    "last": "define.aggregates",
    "maximum": "define.aggregates",
    "mean": "define.aggregates",
    "merge": "define.flow",
    "minimum": "define.aggregates",
    "occurrences": "define.aggregates",
    "own": "define.aggregates",
    "quantile": "define.aggregates",
    "quantiles": "define.aggregates",
    "rate": "define.aggregates",
    "retry": "define.errors",
    "session": "define.windows",
    "sliding": "define.windows",
    "top_k": "define.aggregates",
    "total": "define.aggregates",
    "tumbling": "define.windows",
    "updates": "define.windows",
    "value_range": "define.aggregates",
    "variance": "define.aggregates",
}

__all__ = [
    "App",
    "Batch",
    "Channel",
    "Event",
    "Flow",
    "Latest",
    "Record",
    "Stream",
    "Table",
    "Topic",
    "__version__",
    "correlation",
    "count",
    "count_min",
    "counting",
    "covariance",
    "deviation",
    "distinct",
    "everything",
    "ewma",
    "first",
    "histogram",
    "hopping",
    "last",
    "maximum",
    "mean",
    "merge",
    "minimum",
    "occurrences",
    "own",
    "quantile",
    "quantiles",
    "rate",
    "retry",
    "session",
    "sliding",
    "top_k",
    "total",
    "tumbling",
    "updates",
    "value_range",
    "variance",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"streamproc.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
