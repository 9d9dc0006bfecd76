"""Batches of results as ready-made frames: each record encoded once, each frame built once for all who get it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from streamproc.edge.protocol import Gap, encode
from streamproc.edge.wire import framed
from streamproc.log.ports import Message

_json = msgspec.json.Encoder().encode


class Item(NamedTuple):
    """A frame that carries, or accounts for, ``n`` messages of a subscription, from number ``first`` on."""

    sid: int
    first: int
    n: int
    framed: bytes
    gap: bool = False


def message(source: Message, data: bytes, cause: object, caused: bool) -> bytes:
    """One result: ``k`` key, ``p`` and ``o`` its place, ``ts`` the log's time, ``d`` data, ``cid`` the cause's id."""
    key = b"null" if source.key is None else _json(source.key.decode(errors="replace"))
    head = b'{"k":%b,"p":%d,"o":%d,"ts":%d,"d":%b' % (key, source.partition, source.offset, source.timestamp, data)
    return b'%b,"cid":%b}' % (head, _json(cause)) if caused else head + b"}"


def items(sid: int, first: int, messages: Sequence[bytes | None], limit: int) -> Iterator[Item]:
    """Frames for a run of messages, each of about ``limit`` bytes at most; None is one that could not be decoded."""
    run: list[bytes] = []
    size = 0
    for number, body in enumerate(messages, first):
        if run and (body is None or size + len(body) > limit):
            yield _batch(sid, number - len(run), run)
            run, size = [], 0
        if body is None:
            yield Item(sid, number, 1, gap(sid, number, number, "undecodable", 1), True)
        else:
            run.append(body)
            size += len(body) + 1
    if run:
        yield _batch(sid, first + len(messages) - len(run), run)


def gap(sid: int, first: int, last: int, reason: str, lost: int) -> bytes:
    return framed(encode(Gap(sid, first, last, reason, lost)))


def _batch(sid: int, first: int, run: Sequence[bytes]) -> Item:
    payload = b'{"op":"batch","sid":%d,"seq":%d,"msgs":[%b]}' % (sid, first, b",".join(run))
    return Item(sid, first, len(run), framed(payload))
