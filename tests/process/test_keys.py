from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.process import keys as module
from streamproc.process.keys import KeyCodes


@pytest.mark.parametrize("few", [1, 1000], ids=["columnar", "dictionary"])
@pytest.mark.parametrize("kind", [str, int])
@given(parts=st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=60), max_size=4))
def test_codes_are_numbers_in_order_of_first_appearance(few: int, kind: type, parts: list[list[int]]):
    codes = KeyCodes()
    seen: dict[object, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW", few)
        for part in parts:
            keys = [kind(key) for key in part]
            want = [seen.setdefault(key, len(seen)) for key in keys]
            assert codes.codes(pl.Series(keys)).tolist() == want
    assert codes.keys == list(seen)


def test_awkward_text():
    keys = ["", " ", "ä", "a\u0308", "\x00", "🛰", "a" * 10_000] * 10
    codes = KeyCodes()
    assert codes.codes(pl.Series(keys)).tolist() == list(range(7)) * 10
    assert codes.column().to_list() == keys[:7]


def test_the_widest_ints():
    keys = [-(2**63), 2**63 - 1, 0] * 20
    codes = KeyCodes()
    assert codes.codes(pl.Series(keys)).tolist() == [0, 1, 2] * 20
    assert codes.ascending().tolist() == [0, 2, 1]


def test_no_rows():
    assert KeyCodes().codes(pl.Series([], dtype=pl.String)).tolist() == []


def test_ascending_follows_new_keys():
    codes = KeyCodes()
    codes.codes(pl.Series(["b", "c"]))
    assert codes.ascending().tolist() == [0, 1]
    codes.codes(pl.Series(["a"]))
    assert codes.ascending().tolist() == [2, 0, 1]
    assert codes.column().to_list() == ["b", "c", "a"]


def test_keep_forgets_the_others():
    codes = KeyCodes()
    codes.codes(pl.Series(["a", "b", "c", "d"]))
    codes.keep(np.array([1, 3]))
    assert (codes.keys, len(codes)) == (["b", "d"], 2)
    assert codes.codes(pl.Series(["d", "a", "b"])).tolist() == [1, 2, 0]
    assert codes.column().to_list() == ["b", "d", "a"]
