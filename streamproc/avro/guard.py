"""Values that would kill their reader, refused before it sees them.

fastavro follows a recursive schema as deep as the bytes say, until the C stack is full and the process dies: some
5,000 bytes do it. And it reads as many items as a count says, also where an item takes no bytes. Values of schemas
with which that can happen are walked over first.
"""

from __future__ import annotations

from typing import Any

from streamproc.avro.layout import Layout
from streamproc.avro.program import program_of
from streamproc.compiled import ops

DEPTH = 300  # levels; fastavro does 1,000 on a stack of 8 MB, not 5,000
_EMPTY = Layout({"fields": []}, frozenset())


class Refused(Exception):
    """A value is malformed, too deep, or has too many items that take no bytes."""


class Guard:
    """Walks over values of one writer's schema.

    Raises:
        ValueError: the schema is not of a known form.
    """

    def __init__(self, writer: Any) -> None:
        self._code: list[list[int]] = program_of(writer, None, _EMPTY).tolist()
        self.needed = _is_risky(self._code)

    def check(self, data: bytes, at: int) -> None:
        """Raises Refused."""
        try:
            self._walk(data, at)
        except IndexError:
            raise Refused("a malformed value") from None

    def _walk(self, data: bytes, at: int) -> None:
        code, pc = self._code, 0
        stack: list[list[int]] = []  # where to go on, how many items are left, and where they must end
        free = 0
        while True:
            op, then, _, a, _ = code[pc]
            if op == ops.END:
                return
            if op == ops.SKIP:
                at = _within(data, at + a)
            elif op in (ops.LONG, ops.BRANCH, ops.TEXT, ops.STRING):
                value, at = _varint(data, at)
                if op == ops.BRANCH:
                    if not 0 <= value < a:
                        raise IndexError
                    then = code[pc + 1 + value][1]
                elif op in (ops.TEXT, ops.STRING):
                    if value < 0:
                        raise IndexError
                    at = _within(data, at + value)
            elif op == ops.BOOLEAN:
                if data[at] > 1:
                    raise IndexError
                at += 1
            elif op == ops.EMPTY:
                count = -1
                while count:
                    count, until, at = _count(data, at)
                    if until not in (-1, at):
                        raise IndexError
                    free += count
                    if free > ops.EMPTY_ITEMS:
                        raise Refused(f"more than {ops.EMPTY_ITEMS:,} items that take no bytes")
            elif op in (ops.ARRAY, ops.CALL):
                if len(stack) >= DEPTH:
                    raise Refused(f"more than {DEPTH} levels in one another")
                stack.append([pc if op == ops.ARRAY else then, 1, -1])
                then = a
            if op in (ops.ARRAY, ops.LOOP):
                top = stack[-1]
                top[1] -= 1
                if not top[1]:
                    if top[2] not in (-1, at):  # fastavro, where it skips a block, goes by its size
                        raise IndexError
                    top[1], top[2], at = _count(data, at)
                then = code[top[0]][3] if top[1] else code[stack.pop()[0]][1]
            elif op == ops.RETURN:
                then = stack.pop()[0]
            pc = then


def guard_of(writer: Any) -> Guard | None:
    """The guard of a schema, if it needs one."""
    guard = Guard(writer)
    return guard if guard.needed else None


def _is_risky(code: list[list[int]]) -> bool:
    """Whether a program has items without bytes, or records inside themselves."""
    return any(row[0] == ops.EMPTY for row in code) or _has_cycle(code)


def _has_cycle(code: list[list[int]]) -> bool:
    """Whether a subroutine may come to itself: each lies between its first row and its RETURN."""
    calls: dict[int, set[int]] = {}
    inside = 0
    for i, row in enumerate(code):
        if row[0] == ops.CALL:
            calls.setdefault(inside, set()).add(row[3])
        if row[0] in (ops.END, ops.RETURN):
            inside = i + 1
    done: set[int] = set()
    path: set[int] = set()

    def visit(at: int) -> bool:
        if at in path:
            return True
        if at in done:
            return False
        path.add(at)
        found = any(map(visit, calls.get(at, ())))
        path.discard(at)
        done.add(at)
        return found

    return visit(0)


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    raise IndexError


def _count(data: bytes, at: int) -> tuple[int, int, int]:
    """The count of an array's next block, where the block must end (-1 where it does not say), and the place behind."""
    count, at = _varint(data, at)
    if count >= 0:
        return count, -1, at
    size, at = _varint(data, at)
    return -count, _within(data, at + max(size, 0)), at
