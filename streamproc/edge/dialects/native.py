"""The native dialect in JSON, ``streamproc.v1.json``: each WebSocket message is one object, and its ``op`` says what it
is. Unknown fields are refused: nothing that a client asks for is silently ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from streamproc.avro.codec import field_of
from streamproc.edge import codes, wire
from streamproc.edge.dialects.port import Codec, Dialect, Result
from streamproc.edge.limits import Limits
from streamproc.edge.words import (
    MALFORMED,
    MAX_ID,
    ClientFrame,
    Event,
    FrameError,
    Hello,
    Id,
    Ping,
    Publish,
    ServerFrame,
    Subscribe,
    Unsubscribe,
    error_of,
)

SUBPROTOCOL = "streamproc.v1.json"
_OPS = "hello, publish, subscribe, unsubscribe, ping"


class PublishFrame(Struct, tag_field="op", tag="publish", forbid_unknown_fields=True):
    """``publish`` as it comes: one event, or with ``batch`` several."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    id: Id | None = None
    data: Raw | UnsetType = UNSET
    key: str | None = None
    ts: int | None = None
    batch: list[Raw] | None = None
    schema: Raw | UnsetType = UNSET


class _Traces(Struct):
    """What can be told of a frame that is not one."""

    op: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET


_frame = msgspec.json.Decoder(Hello | PublishFrame | Subscribe | Unsubscribe | Ping)
_event = msgspec.json.Decoder(Event)
_traces = msgspec.json.Decoder(_Traces)
_json = msgspec.json.Encoder().encode


class NativeCodec:
    """Of the port :class:`streamproc.edge.dialects.port.Codec`."""

    def __init__(self, limits: Limits) -> None:
        self._batch = limits.batch

    def decode(self, data: bytes) -> Sequence[ClientFrame | FrameError]:
        try:
            frame = _frame.decode(data)
        except MALFORMED as error:
            return (_refused(data, error),)
        if type(frame) is PublishFrame:
            return (self._publish(frame),)
        assert isinstance(frame, ClientFrame)
        for name in frame.later:
            if getattr(frame, name) is not UNSET:
                option = name.rstrip("_")
                return (_unavailable(option, getattr(frame, "id", None), str(frame.__struct_config__.tag)),)
        return (frame,)

    def encode(self, frame: ServerFrame) -> bytes:
        return wire.framed(_json(frame))

    def _publish(self, frame: PublishFrame) -> Publish | FrameError:
        if frame.schema is not UNSET:
            return _unavailable("schema", frame.id, "publish")
        if frame.batch is None:
            return Publish(frame.topic, [_single(frame)], True, id=frame.id)
        if frame.id is not None or frame.data is not UNSET or frame.key is not None or frame.ts is not None:
            text = "batch: id, data, key and ts belong into the batch's events"
            return FrameError(error_of(codes.BAD_REQUEST, text, id=frame.id, field="batch"), "batch")
        if not frame.batch:
            return FrameError(error_of(codes.BAD_REQUEST, "batch: expected an event", field="batch"), "batch")
        if len(frame.batch) > self._batch:
            # One answer for all: an answer for each would be forty times what was sent.
            text = f"batch: expected at most {self._batch} events; got {len(frame.batch)}: none was taken"
            return FrameError(error_of(codes.LIMIT_EXCEEDED, text, field="batch"), "batch")
        return Publish(frame.topic, [_of_batch(raw, index) for index, raw in enumerate(frame.batch)])


class Native:
    """Of the port :class:`streamproc.edge.dialects.port.Dialect`."""

    name = SUBPROTOCOL
    ping = wire.PING

    def codec(self, limits: Limits) -> Codec:
        return NativeCodec(limits)

    def body(self, result: Result) -> bytes:
        """``k`` key, ``p`` and ``o`` its place, ``ts`` the log's time, ``d`` data, ``cid`` the cause's id."""
        key = b"null" if result.key is None else _json(result.key.decode(errors="replace"))
        place = (key, result.partition, result.offset, result.timestamp, result.data)
        head = b'{"k":%b,"p":%d,"o":%d,"ts":%d,"d":%b' % place
        return b'%b,"cid":%b}' % (head, _json(result.cause)) if result.caused else head + b"}"

    def batch(self, sid: int, first: int, bodies: Sequence[bytes], cursor: str | None = None) -> bytes:
        told = b"" if cursor is None else b'"cursor":"%b",' % cursor.encode()
        return wire.framed(b'{"op":"batch","sid":%d,"seq":%d,%b"msgs":[%b]}' % (sid, first, told, b",".join(bodies)))


NATIVE: Dialect = Native()


def _single(frame: PublishFrame) -> Event | FrameError:
    if frame.id is not None and not isinstance(frame.data, UnsetType):
        return Event(frame.id, frame.data, frame.key, frame.ts)
    field = "id" if frame.id is None else "data"
    error = error_of(codes.BAD_REQUEST, f"{field}: publish needs an id and data, or a batch", field=field)
    error.id = frame.id
    return FrameError(error, "publish", None if isinstance(frame.data, UnsetType) else bytes(frame.data))


def _of_batch(raw: Raw, index: int) -> Event | FrameError:
    try:
        return _event.decode(raw)
    except MALFORMED as error:
        refused = _refused(bytes(raw), error, what="event")
        refused.error.index = index
        return FrameError(refused.error, "publish", bytes(raw))


def _unavailable(option: str, id: str | None, op: str) -> FrameError:
    text = f"option {option!r} is not available in this version"
    return FrameError(error_of(codes.NOT_AVAILABLE, text, id=id, field=option), op)


def _refused(data: bytes, error: Exception, what: str = "frame") -> FrameError:
    if not isinstance(error, msgspec.ValidationError):
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return FrameError(error_of(codes.BAD_REQUEST, f"not a JSON {what}: {text}"))
    field, text = field_of(str(error))
    op, id = _trace(data)
    if what == "frame" and field == "op":
        if op is None:
            return FrameError(error_of(codes.BAD_REQUEST, f"expected an op, one of {_OPS}", id=id, field="op"))
        text = f"op {op!r}: expected one of {_OPS}"
        return FrameError(error_of(codes.METHOD_NOT_FOUND, text, id=id, field="op"), op)
    return FrameError(error_of(codes.BAD_REQUEST, f"{field}: {text}" if field else text, id=id, field=field), op)


def _trace(data: bytes) -> tuple[str | None, str | None]:
    try:
        found = _traces.decode(data)
    except MALFORMED:
        return None, None
    return _short_text(found.op), _short_text(found.id)


def _short_text(raw: Raw | UnsetType) -> str | None:
    if isinstance(raw, UnsetType):
        return None
    try:
        text = msgspec.json.decode(raw, type=str)
    except MALFORMED:
        return None
    return text if len(text) <= MAX_ID else None
