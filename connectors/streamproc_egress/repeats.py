"""Tells results that have come already: a worker that goes on after a crash sends some of them a second time. Sans-I/O.

Results of one stage and source partition have ids that increase strictly in each partition of their topic, so what is
not above the highest one seen is a repeat. What was seen is not kept anywhere: a gateway begins at the log's end, and
knows of all that came after that. What came before it never sent to anybody.
"""

from __future__ import annotations

from collections import OrderedDict

from streamproc.log.origins import origin_of
from streamproc.log.ports import Message

#: Sources of results that are kept. With more, those are forgotten of which nothing has come for longest.
MOST = 1 << 16
_Source = tuple[str, int, str, int]  # a topic's partition; a stage, and the partition of its source


class Repeats:
    """What has come of all topics."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Source, tuple[int, int]] = OrderedDict()

    def is_new(self, message: Message) -> bool:
        """Whether a message is no repeat, nor a beat, which has nothing to say to anybody. One without an id is new."""
        if not message.headers:
            return True
        origin = origin_of(message.headers, empty=message.key is None and message.value is None)
        if origin is None:
            return True
        source, place = (message.topic, message.partition, origin.stage, origin.partition), origin[2:4]
        seen = self._seen.get(source)
        if origin.is_beat or (seen is not None and place <= seen):
            return False
        self._seen[source] = place
        self._seen.move_to_end(source)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return True
