"""What clients ask and what they are told, whatever the dialect: one struct for each. Pure.

A dialect (:mod:`streamproc.edge.dialects`) turns bytes into requests and replies into bytes. Everything behind it knows
only these words. Their JSON form is that of the native dialect: ``docs/protocol.md`` describes it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from streamproc.edge.codes import ErrorCode

VERSION = 1
MAX_ID = 128
_LONGEST = 400  # characters of an error's message

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
Name = Annotated[str, Meta(min_length=1, max_length=512)]
#: An option that the dialect has and this gateway does not, yet.
Later = Raw | UnsetType

#: What msgspec raises on bytes from outside: RecursionError on deep nesting, UnicodeDecodeError on broken UTF-8.
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# From clients.


class ClientFrame(Struct, tag_field="op", forbid_unknown_fields=True):
    """A request. Options in ``later`` are refused when they are given."""

    later: ClassVar[tuple[str, ...]] = ()


class Hello(ClientFrame, tag="hello"):
    """Opens the session. May be left out: any other first frame opens it too, unanswered."""

    client: Annotated[str, Meta(max_length=MAX_ID)] | None = None
    version: int = VERSION
    token: Later = UNSET
    caps: Later = UNSET
    resume: Later = UNSET
    later = ("token", "caps", "resume")


class Event(Struct, forbid_unknown_fields=True):
    """One event. ``data`` is JSON."""

    id: Id
    data: Raw
    key: str | None = None
    ts: int | None = None


class Publish(ClientFrame, tag="publish"):
    """Events of one topic, in order. One that could not be read is the error that says so.

    Args:
        single: whether it is one event that came alone; those of a batch have numbers in errors.
    """

    topic: str
    events: list[Event | FrameError]
    single: bool = False
    id: str | None = None


class Subscribe(ClientFrame, tag="subscribe", rename={"from_": "from"}):
    """Asks for a channel's results from now on; with ``filter`` for those that match it."""

    id: Id
    ch: Name
    filter: Raw | UnsetType = UNSET
    max_rate: Later = UNSET
    conflate: Later = UNSET
    fields: Later = UNSET
    snapshot: Later = UNSET
    cursor: Later = UNSET
    from_: Later = UNSET
    credit: Later = UNSET
    later = ("max_rate", "conflate", "fields", "snapshot", "cursor", "from_", "credit")


class Unsubscribe(ClientFrame, tag="unsubscribe"):
    """Ends a subscription."""

    id: Id
    sid: int


class Ping(ClientFrame, tag="ping"):
    """Asks whether the gateway is there; ``t`` comes back."""

    t: float | int | str | None = None


# To clients.


class ServerFrame(Struct, tag_field="op", omit_defaults=True):
    """A reply, or what a client is told unasked."""


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


# Errors.


class FrameError(Exception):
    """A frame, or one event of it, that cannot be taken.

    Args:
        error: the answer.
        op: the frame's, if it had one.
        data: what came, where it is worth keeping.
    """

    def __init__(self, error: Error, op: str | None = None, data: bytes | None = None) -> None:
        self.error = error
        self.op = op
        self.data = data
        super().__init__(error.message)

    @property
    def publishing(self) -> bool:
        """Whether it was, or may have been, an event."""
        return self.op in (None, "publish")


def error_of(
    code: ErrorCode, message: str = "", *, id: str | None = None, index: int | None = None, field: str | None = None
) -> Error:
    """An error frame with what the table advises. What a client sent comes back cut: an answer is no amplifier."""
    text = message or code.text
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return Error(code.code, text, code.temporary, id, index, (field or "")[:MAX_ID] or None, code.retry_after)
