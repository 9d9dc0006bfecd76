"""Strings in a buffer, gathered."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.columns import Texts

gather = pytest.importorskip("streamproc.compiled.texts").gather


def texts_of(values: list[str | None] | list[bytes | None], *, binary: bool = False) -> Texts:
    data, starts, sizes = b"##", [], []
    for value in values:
        starts.append(len(data))
        raw = value.encode() if isinstance(value, str) else value
        sizes.append(-1 if raw is None else len(raw))
        data += (raw or b"") + b"#"
    return Texts(np.frombuffer(data, np.uint8), np.array(starts, np.int64), np.array(sizes, np.int64), binary=binary)


@given(st.lists(st.none() | st.text(max_size=5), max_size=8), st.sampled_from([1, 40]))
def test_strings(values: list[str | None], times: int) -> None:
    texts = texts_of(values * times)
    assert texts.series().to_list() == texts.values() == values * times
    assert texts.series().dtype == pl.String


@given(st.lists(st.none() | st.binary(max_size=5), max_size=8), st.sampled_from([1, 40]))
def test_bytes(values: list[bytes | None], times: int) -> None:
    texts = texts_of(values * times, binary=True)
    assert texts.series().to_list() == texts.values() == values * times
    assert texts.series().dtype == pl.Binary


def test_some_of_them() -> None:
    texts = texts_of(["a", None, "cé", "d"])
    assert texts[np.array([1, 2])].values() == [None, "cé"]
    assert texts[1:].series().to_list() == [None, "cé", "d"]


def test_a_place_past_the_buffer_is_an_error() -> None:
    with pytest.raises(IndexError):
        gather(np.zeros(4, np.uint8), np.array([2]), np.array([3]))
