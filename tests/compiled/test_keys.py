"""The tables behind key codes; what they give is tested in tests/process/test_keys.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from streamproc.compiled.keys import LongTable, TextTable


def places(keys: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.array([len(key) for key in keys], np.int64)
    return np.frombuffer(b"".join(keys), np.uint8), np.cumsum(sizes) - sizes, sizes


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this Python hashes otherwise")
def test_the_hash_is_siphash_1_3():
    """CPython hashes bytes with it, under a secret of zeros when PYTHONHASHSEED is 0."""
    keys = [bytes(range(1, n + 1)) for n in range(1, 40)]
    code = f"import json; print(json.dumps([hash(bytes(key)) for key in {[list(key) for key in keys]}]))"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.PIPE, check=True
    )
    table = TextTable()
    table._secret[:] = 0
    table.codes(*places(keys))
    assert table._hashes[: len(keys)].astype(np.int64).tolist() == json.loads(ran.stdout)


def test_every_table_has_a_secret_of_its_own():
    keys = places([b"%d" % i for i in range(50)])
    one, other = TextTable(), TextTable()
    assert one.codes(*keys).tolist() == other.codes(*keys).tolist()
    assert not set(one._hashes[:50].tolist()) & set(other._hashes[:50].tolist())


@pytest.mark.parametrize("step", [1, 64, 2**17, 2**32, 2**47])
def test_keys_that_are_alike_do_not_crowd(step: int):
    """The longest run of full slots stays short: with linear probing at half load it is about a dozen times log2(n)."""
    table = LongTable()
    table.codes(np.arange(60_000, dtype=np.int64) * step)
    empty = np.flatnonzero(table._table == 0)
    assert np.diff(empty).max() < 250


@pytest.mark.parametrize(("start", "size"), [(-1, 1), (0, -1), (0, 6), (5, 1), (2**62, 2**62), (3, 2**63 - 1)])
def test_a_key_outside_its_buffer_is_refused(start: int, size: int):
    data = np.zeros(5, np.uint8)
    with pytest.raises(IndexError, match="outside its buffer"):
        TextTable().codes(data, np.array([0, start]), np.array([1, size]))


def test_a_buffer_is_not_read_past_its_end():
    """Eight bytes are read at once where there are eight."""
    whole = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    for end in range(1, 26):
        for size in range(1, end + 1):
            table = TextTable()
            one = table.codes(whole[:end], np.array([end - size]), np.array([size]))
            assert table.codes(whole, np.array([end - size]), np.array([size])).tolist() == one.tolist() == [0]
            assert bytes(table.arena[:size]) == bytes(whole[end - size : end])


def test_forgotten_keys_take_no_memory():
    table = TextTable()
    for part in range(60):
        table.codes(*places([b"%040d" % (part * 2000 + i) for i in range(2000)]))
        table.keep(np.arange(10, dtype=np.int64))
    assert len(table) == 10
    assert len(table.arena) < 1000
    assert table._hashes.nbytes + table._table.nbytes < 24 * 8192
