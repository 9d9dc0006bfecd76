"""The native dialect in JSON, ``streamproc.v1.json``: every frame, in and out. Pure. ``docs/protocol.md`` describes it.

Each WebSocket message is one JSON object, and its ``op`` says what it is. Unknown fields are refused, as are options of
the dialect that this gateway does not have yet: nothing that a client asks for is silently ignored.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from streamproc.avro.codec import field_of
from streamproc.edge import codes
from streamproc.edge.codes import ErrorCode

SUBPROTOCOL = "streamproc.v1.json"
VERSION = 1
MAX_ID = 128
_LONGEST = 400  # characters of an error's message

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
Name = Annotated[str, Meta(min_length=1, max_length=249)]
#: An option that the dialect has and this gateway does not, yet.
Later = Raw | UnsetType


# From clients.


class ClientFrame(Struct, tag_field="op", forbid_unknown_fields=True):
    """A frame from a client. Options in ``later`` are refused when they are given."""

    later: ClassVar[tuple[str, ...]] = ()


class Hello(ClientFrame, tag="hello"):
    """Opens the session. May be left out: any other first frame opens it too, unanswered."""

    client: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    version: int = VERSION
    token: Later = UNSET
    caps: Later = UNSET
    resume: Later = UNSET
    later = ("token", "caps", "resume")


class Publish(ClientFrame, tag="publish"):
    """One event, or with ``batch`` several of one topic, each an :class:`Event`."""

    topic: Name
    id: Id | None = None
    data: Raw | UnsetType = UNSET
    key: str | None = None
    ts: int | None = None
    batch: list[Raw] | None = None
    schema: Later = UNSET
    later = ("schema",)


class Event(Struct, forbid_unknown_fields=True):
    """One event of a batch."""

    id: Id
    data: Raw
    key: str | None = None
    ts: int | None = None


class Subscribe(ClientFrame, tag="subscribe", rename={"from_": "from"}):
    """Asks for a channel's results from now on."""

    id: Id
    ch: Name
    filter: Later = UNSET
    max_rate: Later = UNSET
    conflate: Later = UNSET
    fields: Later = UNSET
    snapshot: Later = UNSET
    cursor: Later = UNSET
    from_: Later = UNSET
    credit: Later = UNSET
    later = ("filter", "max_rate", "conflate", "fields", "snapshot", "cursor", "from_", "credit")


class Unsubscribe(ClientFrame, tag="unsubscribe"):
    """Ends a subscription."""

    id: Id
    sid: int


class Ping(ClientFrame, tag="ping"):
    """Asks whether the gateway is there; ``t`` comes back."""

    t: float | int | str | None = None


# To clients.


class ServerFrame(Struct, tag_field="op", omit_defaults=True):
    """A frame to a client."""


class Welcome(ServerFrame, tag="welcome"):
    """Answers ``hello``. ``ping`` is in seconds, ``time`` in milliseconds since the epoch."""

    session: str
    version: int
    node: str
    time: int
    ping: float
    limits: dict[str, int]


class Ack(ServerFrame, tag="ack"):
    """Kafka has these events: ``[id, partition, offset]`` each."""

    acks: list[tuple[str, int, int]]


class Error(ServerFrame, tag="error"):
    """A request failed, or one event of a batch (number ``index``). See :mod:`streamproc.edge.codes`."""

    code: int
    message: str
    temporary: bool
    id: str | None = None
    index: int | None = None
    field: str | None = None
    retry_after: float | None = None


class Subscribed(ServerFrame, tag="subscribed"):
    """The next message of the subscription has number ``seq``, counted within ``epoch``."""

    id: str
    sid: int
    ch: str
    epoch: str
    seq: int


class Unsubscribed(ServerFrame, tag="unsubscribed"):
    """Nothing more comes for ``sid``."""

    id: str
    sid: int


class Gap(ServerFrame, tag="gap"):
    """The messages ``from_seq`` to ``to_seq``, both included, do not come: ``lost`` of them."""

    sid: int
    from_seq: int
    to_seq: int
    reason: str
    lost: int


class Pong(ServerFrame, tag="pong"):
    """Answers ``ping``."""

    t: float | int | str | None = None


class Drain(ServerFrame, tag="drain"):
    """The gateway closes in at most ``after_ms``: come back after a random part of ``jitter_ms`` more."""

    after_ms: int
    jitter_ms: int


# Both ways.


class FrameError(Exception):
    """A frame, or one event of it, that cannot be taken. ``error`` is the answer; ``op`` the frame's, if it had one."""

    def __init__(self, error: Error, op: str | None = None) -> None:
        self.error = error
        self.op = op
        super().__init__(error.message)


class _Traces(Struct):
    """What can be told of a frame that is not one."""

    op: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET


_frame = msgspec.json.Decoder(Hello | Publish | Subscribe | Unsubscribe | Ping)
_event = msgspec.json.Decoder(Event)
_traces = msgspec.json.Decoder(_Traces)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode

#: What msgspec raises on bytes from outside: RecursionError on deep nesting, UnicodeDecodeError on broken UTF-8.
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(data: bytes) -> ClientFrame:
    """Raises FrameError."""
    try:
        frame: ClientFrame = _frame.decode(data)
    except MALFORMED as error:
        raise _refused(data, error) from None
    for name in frame.later:
        if getattr(frame, name) is not UNSET:
            option = name.rstrip("_")
            text = f"option {option!r} is not available in this version"
            raise FrameError(
                error_of(codes.NOT_AVAILABLE, text, id=getattr(frame, "id", None), field=option),
                str(frame.__struct_config__.tag),
            )
    return frame


def decode_event(raw: Raw, index: int) -> Event:
    """One event of a batch. Raises FrameError."""
    try:
        return _event.decode(raw)
    except MALFORMED as error:
        refused = _refused(bytes(raw), error, what="event")
        refused.error.index = index
        refused.op = "publish"
        raise refused from None


def error_of(
    code: ErrorCode, message: str = "", *, id: str | None = None, index: int | None = None, field: str | None = None
) -> Error:
    """An error frame with what the table advises. What a client sent comes back cut: an answer is no amplifier."""
    text = message or code.text
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return Error(code.code, text, code.temporary, id, index, (field or "")[:MAX_ID] or None, code.retry_after)


def _refused(data: bytes, error: Exception, what: str = "frame") -> FrameError:
    if not isinstance(error, msgspec.ValidationError):
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return FrameError(error_of(codes.BAD_REQUEST, f"not a JSON {what}: {text}"))
    field, text = field_of(str(error))
    op, id = _trace(data)
    if what == "frame" and field == "op":
        known = "hello, publish, subscribe, unsubscribe, ping"
        if op is None:
            return FrameError(error_of(codes.BAD_REQUEST, f"expected an op, one of {known}", id=id, field="op"))
        return FrameError(
            error_of(codes.METHOD_NOT_FOUND, f"op {op!r}: expected one of {known}", id=id, field="op"), op
        )
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
