"""Windows of one partition: the engine of each kind."""

from __future__ import annotations

from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import AlignedWindow, CountWindow, SessionWindow, SlidingWindow
from streamproc.process.aligned import AlignedEngine
from streamproc.process.counting import CountEngine
from streamproc.process.engine import Engine
from streamproc.process.everything import GlobalEngine
from streamproc.process.sessions import SessionEngine
from streamproc.process.sliding import SlidingEngine


def window_task(definition: Aggregation, compiled: bool | None = None) -> Engine:
    """An aggregation over one partition, with empty state.

    Args:
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """
    window = definition.window
    if isinstance(window, AlignedWindow):
        return AlignedEngine(definition, compiled)
    if isinstance(window, SessionWindow):
        return SessionEngine(definition, compiled)
    if isinstance(window, SlidingWindow):
        return SlidingEngine(definition, compiled)
    return (CountEngine if isinstance(window, CountWindow) else GlobalEngine)(definition, compiled)
