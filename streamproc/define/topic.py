"""Topics: named logs of records of one type. Channels: topics that WebSocket clients may subscribe to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from streamproc.avro.agree import schema_of
from streamproc.define.fields import require
from streamproc.define.flow import Flow
from streamproc.define.flowing import Flowing
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.app import App

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, eq=False, slots=True)
class Topic(Flowing):
    """A Kafka topic whose values are records of one type, in Confluent's Avro framing.

    Args:
        name: the Kafka topic's name.
        record: the type of its values.
        key: the field whose text is the Kafka key, so that records of one key keep their order; None spreads them.
        time: the field with the event time, in milliseconds since the epoch; None takes the Kafka record's timestamp.
        id: the field that identifies an event, filled from the publishing client's id.
        partitions: how many partitions it is created with.
        config: further settings of the topic, by Kafka's names.
        publish: whether WebSocket clients may publish to it.
        ahead: milliseconds by which an event's time may be later than the record's timestamp. One with a later time is
            put aside: it would close everybody's windows. None: any time will do.

    Raises:
        DefinitionError: a field is not there or of the wrong type.
        SchemaMismatch: the record type and its schema disagree.
        SchemaNotFound: there is no schema of that name.
    """

    app: App = field(repr=False)
    name: str
    record: type[Record]
    key: str | None = None
    time: str | None = None
    id: str | None = None
    partitions: int = 4
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    publish: bool = True
    ahead: int | None = None

    def __post_init__(self) -> None:
        what = f"topic {self.name!r}"
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)) or self.name in (".", ".."):
            raise DefinitionError(f"{what}: expected a name of 1 to 249 of the characters A-Z a-z 0-9 . _ -")
        if not (isinstance(self.record, type) and issubclass(self.record, Record)):
            raise DefinitionError(f"{what}: expected a subclass of Record; got {self.record!r}")
        if renamed := [f for f in msgspec.structs.fields(self.record) if f.name != f.encode_name]:
            raise DefinitionError(
                f"{what}: {self.record.__name__}.{renamed[0].name} is renamed to {renamed[0].encode_name!r}: "
                "a record's fields have the names of its schema's"
            )
        schema_of(self.record)
        if not isinstance(self.partitions, int) or self.partitions < 1:
            raise DefinitionError(f"{what}: expected at least 1 partition; got {self.partitions!r}")
        if self.key is not None:
            require(self.record, self.key, (str, int), f"{what}, key")
        if self.time is not None:
            require(self.record, self.time, (int,), f"{what}, time")
        if self.id is not None:
            require(self.record, self.id, (str,), f"{what}, id")

    def key_of(self, record: Record) -> bytes | None:
        """The Kafka key of a record: its key field's text in UTF-8."""
        return None if self.key is None else str(getattr(record, self.key)).encode()

    def _flow(self) -> Flow:
        return Flow.of(self)


@dataclass(frozen=True, eq=False, slots=True)
class Channel(Topic):
    """A topic that WebSocket clients may subscribe to. ``cause`` names the field with the id of the event that caused
    a result.
    """

    cause: str | None = None

    def __post_init__(self) -> None:
        super(Channel, self).__post_init__()
        if self.cause is not None:
            require(self.record, self.cause, (str,), f"channel {self.name!r}, cause", nullable=True)
