"""From a client's event to the bytes that go into Kafka. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.define.topic import Topic
from streamproc.edge import codes
from streamproc.edge.words import MALFORMED, Error, Event, FrameError, Publish, error_of
from streamproc.errors import InvalidRecord


class Outgoing(NamedTuple):
    """An event, ready for the producer. ``nth`` is its place in its batch."""

    id: str
    nth: int | None
    topic: str
    key: bytes | None
    value: bytes

    @property
    def size(self) -> int:
        return len(self.value) + len(self.key or b"")


class Bad(NamedTuple):
    """An event that cannot be taken. ``value`` is what came, where it is worth keeping."""

    error: Error
    reason: str
    topic: str
    key: bytes | None = None
    value: bytes | None = None


class Intake:
    """Takes events for one topic.

    Raises:
        IncompatibleSchema: the registry refuses the topic's schema.
    """

    def __init__(self, topic: Topic, registry: Registry) -> None:
        self.topic = topic
        self.codec = Codec.of(topic, registry)
        self._peek: msgspec.json.Decoder[Any] | None = None
        #: Fields that the frame fills in where the data lacks them, or must agree with: field, option of the frame.
        self._filled = [
            (field, option) for field, option in ((topic.id, "id"), (topic.time, "ts")) if field is not None
        ]
        if self._filled:
            spec = [(f"f{n}", Raw | UnsetType, UNSET) for n in range(len(self._filled))]
            rename = {f"f{n}": field for n, (field, _) in enumerate(self._filled)}
            self._peek = msgspec.json.Decoder(msgspec.defstruct("Peek", spec, rename=rename))

    def take(self, id: str, data: Raw, key: str | None, ts: int | None) -> tuple[bytes | None, bytes]:
        """The Kafka key and value of one event. Raises InvalidRecord."""
        topic = self.topic
        if ts is not None and topic.time is None:
            raise InvalidRecord(f"ts: topic {topic.name!r} has no time field; put the time into the data", "ts")
        try:
            record = self.codec.from_json(self._fill(data, {"id": id, "ts": ts}))
        except (UnicodeDecodeError, RecursionError) as error:
            raise InvalidRecord(f"not JSON: {error}") from None
        wire = topic.key_of(record)
        if key is not None:
            given = _utf8(key)
            if wire is not None and given != wire:
                shown = wire.decode()
                raise InvalidRecord(f"key: the frame says {key!r}, the data's {topic.key!r} says {shown!r}", "key")
            wire = given
        return wire, self.codec.encode(record)

    def _fill(self, data: Raw, given: Mapping[str, str | int | None]) -> bytes | Raw:
        if self._peek is None:
            return data
        try:
            found = self._peek.decode(data)
        except msgspec.ValidationError:
            return data  # not an object: the codec says so
        except MALFORMED as error:
            raise InvalidRecord(f"not JSON: {error}") from None
        missing: dict[str, str | int] = {}
        for number, (field, option) in enumerate(self._filled):
            value, raw = given[option], getattr(found, f"f{number}")
            if value is None:
                continue
            if raw is UNSET:
                missing[field] = value
            elif (said := msgspec.json.decode(raw)) != value:
                raise InvalidRecord(f"{option}: the frame says {value!r}, the data's {field!r} says {said!r}", option)
        return _with(bytes(data), missing) if missing else data


class Parser:
    """Takes ``publish`` frames for the topics that clients may publish to."""

    def __init__(self, topics: Mapping[str, Topic], registry: Registry) -> None:
        self._intakes = {name: Intake(topic, registry) for name, topic in topics.items()}

    def parse(self, frame: Publish) -> Iterator[Outgoing | Bad]:
        """Each event of a frame, in order; one that is bad costs its neighbours nothing."""
        intake = self._intakes.get(frame.topic)
        if intake is None:
            yield self._unknown(frame)
            return
        for number, event in enumerate(frame.events):
            index = None if frame.single else number
            if isinstance(event, FrameError):
                yield Bad(event.error, "malformed", frame.topic, None, event.data)
            else:
                yield self._one(intake, event.id, event.data, event.key, event.ts, index)

    def _unknown(self, frame: Publish) -> Bad:
        known = ", ".join(sorted(self._intakes)[:10]) or "none"
        text = f"topic {frame.topic!r}: expected one of those that can be published to: {known}"
        event = frame.events[0] if frame.single else None
        id = event.id if isinstance(event, Event) else None
        refused = error_of(codes.UNKNOWN_CHANNEL, text, id=id, field="topic")
        return Bad(refused, "unknown_topic", frame.topic, value=bytes(event.data) if isinstance(event, Event) else None)

    def _one(
        self, intake: Intake, id: str, data: Raw, key: str | None, ts: int | None, index: int | None
    ) -> Outgoing | Bad:
        try:
            wire_key, value = intake.take(id, data, key, ts)
        except InvalidRecord as error:
            field = error.field
            text = str(error) if not field or str(error).startswith(field) else f"{field}: {error}"
            answer = error_of(codes.BAD_REQUEST, text, id=id, index=index, field=field)
            name = intake.topic.name
            return Bad(answer, error.reason, name, None if key is None else key.encode(errors="replace"), bytes(data))
        return Outgoing(id, index, intake.topic.name, wire_key, value)


def _with(data: bytes, missing: Mapping[str, str | int]) -> bytes:
    """A JSON object with members added. At the end, since of two members of one name the last counts."""
    members = msgspec.json.encode(missing)[1:]
    body = data.rstrip()[:-1]
    comma = b"" if body.rstrip().endswith(b"{") else b","
    return body + comma + members


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise InvalidRecord(f"key: not UTF-8: {error.reason}", "key") from None
