"""The kernels of changelogs; that they agree with Python is tested in tests/state."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from streamproc.compiled.records import Body, walk
from streamproc.compiled.rows import RowTable, Writer, find_keys

NOTHING = np.empty(0, np.int64)


def places(values: list[bytes | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.array([-1 if value is None else len(value) for value in values], np.int64)
    starts = np.cumsum(np.maximum(sizes, 0)) - np.maximum(sizes, 0)
    return np.frombuffer(b"".join(value or b"" for value in values), np.uint8), starts, sizes


def content(table: RowTable) -> dict[bytes, bytes]:
    keys, key_starts, key_sizes, values, starts, sizes = table.rows()
    assert len(table) == len(key_starts)
    return {
        keys[k : k + n].tobytes(): values[v : v + m].tobytes()
        for k, n, v, m in zip(key_starts, key_sizes, starts, sizes, strict=True)
    }


def test_a_value_takes_the_last_ones_place_where_it_fits():
    table = RowTable()
    for step in range(100):
        table.put(*places([b"a", b"b"]), *places([bytes([step]) * 8, b"x" * (8 - step % 8)]))
    assert content(table) == {b"a": bytes([99]) * 8, b"b": b"x" * 5}
    assert table._state[0] == 16


def test_a_row_comes_goes_and_comes():
    table = RowTable()
    table.put(*places([b"a", b"a", b"b", b"a", b"c", b"b"]), *places([b"1", None, b"22", b"333", None, None]))
    assert content(table) == {b"a": b"333"}
    table.put(*places([b"b", b"a"]), *places([b"", None]))
    assert content(table) == {b"b": b""}


def test_values_that_grow_do_not_leave_their_old_places_behind():
    table = RowTable()
    for size in range(1, 40_000, 97):
        table.put(*places([b"a", b"b"]), *places([bytes(size), b"b"]))
    assert content(table) == {b"a": bytes(size), b"b": b"b"}
    assert len(table._arena) < 300_000  # of 8 million bytes that there were


@pytest.mark.parametrize(("start", "size"), [(-1, 1), (5, 1), (0, 6), (2**62, 2), (0, 2**62)])
def test_places_outside_their_buffer_are_refused(start: int, size: int):
    good, bad = places([b"abcde"]), (np.zeros(5, np.uint8), np.array([start]), np.array([size]))
    table = RowTable()
    with pytest.raises((IndexError, MemoryError, ValueError)):
        table.put(*good, *bad)
    with pytest.raises(IndexError):
        RowTable().put(*bad, *good)
    for arguments in ((*good, *bad), (*bad, *good)):
        with pytest.raises((IndexError, MemoryError, ValueError)):
            list(Writer(100).write(1, *arguments))


def test_keys_are_told_by_their_first_byte():
    writer = Writer(1_000)
    keys, values = [b"", b"a", b"bc"], [b"1", None, b"2"]
    assert list(writer.write(1, *places(keys), *places(values))) == []
    assert list(writer.write(0, *places([b""]), *places([b"head"]))) == []
    assert list(writer.write(1, np.zeros(0, np.uint8), NOTHING, NOTHING, np.zeros(0, np.uint8), NOTHING, NOTHING)) == []
    data, count = writer.end()
    assert count == 4
    found = walk(np.frombuffer(data, np.uint8), [Body(0, len(data), 4, 0, 3, 0, True)])
    said = find_keys(np.frombuffer(data, np.uint8), found)
    assert said.foreign == -1
    assert said.rows.tolist() == [0, 1, 2]
    assert [data[at : at + n] for at, n in zip(said.starts, said.sizes, strict=True)] == keys
    assert said.heads.tolist() == [3]
    assert writer.end() == (b"", 0)


@pytest.mark.parametrize("first", [2, 3, 255])
def test_foreign_keys_are_found(first: int):
    writer = Writer(1_000)
    for byte in (1, first, 1):
        list(writer.write(byte, *places([b"a"]), *places([b"1"])))
    data, _ = writer.end()
    found = walk(np.frombuffer(data, np.uint8), [Body(0, len(data), 3, 0, 2, 0, True)])
    assert find_keys(np.frombuffer(data, np.uint8), found).foreign == 1
