"""What of one connection is on its way to Kafka, and what it must be told. Sans-I/O."""

from __future__ import annotations

from streamproc.edge import codes
from streamproc.edge.words import Ack, Error, ServerFrame, error_of
from streamproc.errors import BrokerUnavailable
from streamproc.log.ports import Delivery
from streamproc_ingest.parse import Outgoing

#: Acknowledgements in one frame at most.
ACKS = 256


class InFlight:
    """Bounded in bytes: while there is no :meth:`room`, the connection is not read.

    Args:
        limit: how many bytes may be on their way. One event may always be, whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._acks: list[tuple[str, int, int]] = []
        self._errors: list[Error] = []

    def room(self, size: int) -> bool:
        return self.bytes == 0 or self.bytes + size <= self._limit

    def sent(self, event: Outgoing) -> None:
        self.bytes += event.size

    def settled(self, event: Outgoing, delivery: Delivery) -> None:
        """Kafka has the event, or refused it for good."""
        self.bytes -= event.size
        if delivery.error is None:
            self._acks.append((event.id, delivery.partition, delivery.offset))
            return
        # Of an unavailable log nobody knows whether it has the event: the answer may be what was lost.
        code = codes.LOG_UNAVAILABLE if isinstance(delivery.error, BrokerUnavailable) else codes.LOG_REFUSED
        self._errors.append(error_of(code, str(delivery.error), id=event.id, index=event.nth))

    def take(self) -> list[ServerFrame]:
        """What there is to tell the client: everything that was settled since the last call, in few frames."""
        acks, self._acks = self._acks, []
        errors, self._errors = self._errors, []
        return [*(Ack(acks[i : i + ACKS]) for i in range(0, len(acks), ACKS)), *errors]
