"""The head of a changelog partition: the record that says what its rows mean, and up to where they have the sources."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from streamproc.errors import StateError

FORMAT = 2  # of heads, and of how rows lie in a changelog


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes with the rows of one task's state.

    Args:
        format: :data:`FORMAT`.
        version: what the rows mean: :meth:`streamproc.process.state.State.version`.
        positions: by source topic, the offset from which it is to be read: of one source alone, all before it is in the
            rows, and nothing from there on. Of several, the rest is in the header.
        header: the few numbers beside the rows.
        marks: what others need to go on from there, by names of their own.
    """

    format: int
    version: str
    positions: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    header: dict[str, int | None]
    marks: dict[str, Any]


class _Format(msgspec.Struct):
    format: int


_heads = msgspec.msgpack.Decoder(Head)
_formats = msgspec.msgpack.Decoder(_Format)


def encode(head: Head) -> bytes:
    """As msgpack."""
    return msgspec.msgpack.encode(head)


def decode(data: bytes) -> Head:
    """Raises StateError where it is no head, or one of a format that is not known here."""
    try:
        found = _formats.decode(data).format
        if found != FORMAT:
            raise StateError(f"a head of format {found}; expected {FORMAT}: another version of streamproc wrote it")
        return _heads.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(f"not the head of a state: {error}") from None
