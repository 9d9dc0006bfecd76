"""Batches of results as ready-made frames: each record encoded once, each frame built once for all who get it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from streamproc.edge.dialects import NATIVE
from streamproc.edge.wire import framed
from streamproc.edge.words import Gap

_json = msgspec.json.Encoder().encode


class Item(NamedTuple):
    """A frame that carries, or accounts for, ``n`` messages of a subscription, from number ``first`` on."""

    sid: int
    first: int
    n: int
    framed: bytes
    gap: bool = False


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
    return framed(_json(Gap(sid, first, last, reason, lost)))


def _batch(sid: int, first: int, run: Sequence[bytes]) -> Item:
    return Item(sid, first, len(run), NATIVE.batch(sid, first, run))
