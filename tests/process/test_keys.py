from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.log.partition import murmur2
from streamproc.process import keys as module
from streamproc.process.keys import DictCodes, KeyCodes, key_codes

WAYS = [False, True] if compiled.available() else [False]
way = pytest.mark.parametrize("fast", WAYS, ids=["dictionary", "compiled"][: len(WAYS)])


def texts(keys: list[str]) -> Texts:
    """Keys in a buffer, with other things between them."""
    parts = [key.encode() for key in keys]
    sizes = np.array([len(part) for part in parts], np.int64)
    data = np.frombuffer(b"".join(b"--" + part for part in parts), np.uint8)
    return Texts(data, np.cumsum(sizes + 2) - sizes, sizes)


def names(codes: KeyCodes) -> list[object]:
    """All keys, by code."""
    column = codes.column(np.arange(len(codes)))
    return (column.series() if isinstance(column, Texts) else pl.Series(column)).to_list()


@way
@pytest.mark.parametrize("few", [1, 1000], ids=["columnar", "one by one"])
@pytest.mark.parametrize("kind", [str, int])
@given(parts=st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=60), max_size=4))
@settings(deadline=None)
def test_codes_are_numbers_in_order_of_first_appearance(few: int, kind: type, fast: bool, parts: list[list[int]]):
    codes = key_codes(kind, fast)
    seen: dict[object, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW", few)
        for part in parts:
            keys = [kind(key) for key in part]
            want = [seen.setdefault(key, len(seen)) for key in keys]
            assert codes.codes(pl.Series(keys)).tolist() == want
    if parts:
        assert names(codes) == list(seen)


@way
@given(parts=st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=40), min_size=1, max_size=4))
@settings(deadline=None)
def test_strings_in_a_buffer(fast: bool, parts: list[list[str]]):
    codes, seen = key_codes(str, fast), {}
    for keys in parts:
        want = [seen.setdefault(key, len(seen)) for key in keys]
        # Once from the buffer, where other bytes follow, and once as a Series, where none do.
        assert codes.codes(texts(keys) if len(seen) % 2 else pl.Series(keys)).tolist() == want
    assert names(codes) == list(seen)


@way
def test_awkward_text(fast: bool):
    keys = ["", " ", "ä", "a\u0308", "\x00", "\x00\x00", "🛰", "a" * 10_000, "1234567", "12345678", "123456789"] * 10
    codes = key_codes(str, fast)
    assert codes.codes(pl.Series(keys)).tolist() == list(range(11)) * 10
    assert names(codes) == keys[:11]


@way
def test_the_widest_ints(fast: bool):
    keys = [-(2**63), 2**63 - 1, 0] * 20
    codes = key_codes(int, fast)
    assert codes.codes(np.array(keys)).tolist() == [0, 1, 2] * 20
    assert names(codes) == keys[:3]


@way
@pytest.mark.parametrize("kind", [str, int])
def test_no_rows(fast: bool, kind: type):
    empty = pl.Series([], dtype=pl.String if kind is str else pl.Int64)
    assert key_codes(kind, fast).codes(empty).tolist() == []


@way
@pytest.mark.parametrize("kind", [str, int])
def test_many_keys_and_few_that_stay(fast: bool, kind: type):
    """The table grows, and after that keys come, go and come again."""
    codes = key_codes(kind, fast)
    keys = [kind(i * 7919) for i in range(5000)]
    assert codes.codes(pl.Series(keys)).tolist() == list(range(5000))
    codes.keep(np.array([1, 3, 4999]))
    assert names(codes) == [keys[1], keys[3], keys[4999]]
    assert codes.codes(pl.Series([keys[4999], keys[0], keys[1]] * 20)).tolist() == [2, 3, 0] * 20
    assert codes.codes(pl.Series(keys)).tolist() == [3, 0, 4, 1, *range(5, 5000), 2]


@way
@pytest.mark.parametrize("kind", [str, int])
def test_a_column_given_out_stays_what_it_is(fast: bool, kind: type):
    codes = key_codes(kind, fast)
    keys = [kind(i) for i in range(100)]
    column = codes.column(codes.codes(pl.Series(keys)))
    codes.keep(np.array([50]))
    codes.codes(pl.Series([kind(i) for i in range(1000, 9000)]))
    assert (column.series() if isinstance(column, Texts) else pl.Series(column)).to_list() == keys


@pytest.mark.skipif(len(WAYS) < 2, reason="needs the kernels")
@pytest.mark.parametrize("kind", [str, int])
@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50))
@settings(deadline=None)
def test_partitions_are_those_of_kafka(kind: type, numbers: list[int]):
    codes = key_codes(kind, True)
    for part in (numbers, [number // 2 for number in numbers]):
        keys = [kind(number) for number in part]
        spread = codes.spread(codes.codes(pl.Series(keys, dtype=pl.String if kind is str else pl.Int64)))
        assert spread is not None
        assert spread.tolist() == [murmur2(str(key).encode()) & 0x7FFFFFFF for key in keys]
    codes.keep(np.array([0]))
    assert codes.spread(np.array([0])).tolist() == [murmur2(str(numbers[0]).encode()) & 0x7FFFFFFF]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [str, int])
@given(data=st.data())
@settings(deadline=None)
def test_a_dictionary_gives_any_keys_at_any_time(kind: type, data: st.DataObject):
    """Whatever was asked before, and whichever keys came and went since."""
    codes = DictCodes()
    all_: list[object] = []
    for _ in range(data.draw(st.integers(1, 8))):
        if all_ and data.draw(st.booleans()):
            live = sorted(data.draw(st.sets(st.sampled_from(range(len(all_))), min_size=1)))
            codes.keep(np.array(live))
            all_ = [all_[code] for code in live]
        new = [kind(number) for number in data.draw(st.lists(st.integers(0, 99), min_size=1))]
        codes.codes(pl.Series(new))
        all_ += [key for key in dict.fromkeys(new) if key not in all_]
        asked = data.draw(st.lists(st.sampled_from(range(len(all_))), max_size=2 * len(all_)))
        got = codes.column(np.array(asked, np.int64))
        assert isinstance(got, pl.Series if kind is str else np.ndarray)
        assert pl.Series(got).to_list() == [all_[code] for code in asked]


def test_a_new_key_does_not_cost_a_column_of_all(monkeypatch: pytest.MonkeyPatch):
    """Of so many keys, a few are asked for each time that there is a new one."""
    codes, made = DictCodes(), 0

    def counted(keys: list[object], like: list[object]) -> object:
        nonlocal made
        made += len(keys)
        return column_of(keys, like)

    column_of = module._column_of
    monkeypatch.setattr(module, "_column_of", counted)
    codes.codes(pl.Series([str(i) for i in range(10_000)]))
    for i in range(10_000):
        assert codes.column(codes.codes(pl.Series([f"new-{i}"]))).to_list() == [f"new-{i}"]
        assert codes.column(np.array([i])).to_list() == [str(i)]
    assert made <= 4 * 20_000


def test_a_dictionary_has_no_partitions():
    assert DictCodes().spread(np.array([0])) is None
