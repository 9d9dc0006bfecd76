"""Changed rows as record bodies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.errors import OversizedRecord
from streamproc.log.batch_builder import LIMIT, record_size
from streamproc.process.state import NO_TEXTS, Changes, binary
from streamproc.state.head import encode
from streamproc.state.rows import bodies
from tests.state.kit import WAYS, batches, changes, head

KEYS = st.binary(max_size=70)
VALUES = st.binary(max_size=70) | st.integers(60, 200).map(bytes)


@pytest.mark.parametrize("use_kernels", WAYS)
def test_rows_then_tombstones_then_the_head(use_kernels):
    made = bodies(changes({b"a": b"1", b"": b""}, [b"b"]), head(3), 1_000, topic="t", use_kernels=use_kernels)
    (batch,) = batches(made)
    found = [(r.timestamp, r.key, r.value, r.headers) for r in batch.records()]
    assert found == [
        (1_000, b"\x01a", b"1", ()),
        (1_000, b"\x01", b"", ()),
        (1_000, b"\x01b", None, ()),
        (1_000, b"\x00", encode(head(3)), ()),
    ]


@pytest.mark.skipif(not compiled.available(), reason="no kernels")
@given(st.dictionaries(KEYS, VALUES, max_size=40), st.lists(KEYS, max_size=20), st.integers(1, 2_000))
@settings(deadline=None)  # kernels may have to be compiled first
def test_kernels_write_the_same_bytes(put, gone, limit):
    both = [
        list(bodies(changes(put, gone), head(), 5, limit, topic="t", use_kernels=use_kernels))
        for use_kernels in (True, False)
    ]
    assert both[0] == both[1]
    assert all(len(body.data) <= limit or body.records == 1 for body in both[0])


@pytest.mark.skipif(not compiled.available(), reason="no kernels")
@pytest.mark.parametrize("n", [63, 64, 65, 8_191, 8_192, 8_193, 20_000])
def test_kernels_write_the_same_bytes_where_varints_get_longer(n):
    put = {b"%d" % i: b"v" * (i % 130) for i in range(n)} | {b"long": bytes(n), bytes(n): b"", b"longer": bytes(70_000)}
    both = [list(bodies(changes(put), head(), 5, topic="t", use_kernels=use_kernels)) for use_kernels in (True, False)]
    assert both[0] == both[1]


@pytest.mark.skipif(not compiled.available(), reason="no kernels")
def test_columns_may_lie_anyhow():
    """Every other row of a buffer, backwards, as a state may give them."""
    texts = binary([b"k%d" % i for i in range(40)])[::-2]
    both = [
        list(bodies(Changes(texts, texts, NO_TEXTS), head(), 5, 99, topic="t", use_kernels=use_kernels))
        for use_kernels in (True, False)
    ]
    assert both[0] == both[1]
    assert next(r.key for batch in batches(both[0]) for r in batch.records()) == b"\x01k39"


@pytest.mark.parametrize("use_kernels", WAYS)
def test_many_rows_are_cut_at_the_limit(use_kernels):
    put = {b"%08d" % i: bytes(40) for i in range(30_000)}
    made = list(bodies(changes(put), head(), 5, topic="t", use_kernels=use_kernels))
    assert len(made) == 2
    assert LIMIT - 60 < len(made[0].data) <= LIMIT
    assert sum(body.records for body in made) == 30_001


@pytest.mark.parametrize("use_kernels", WAYS)
def test_a_body_may_be_exactly_as_long_as_the_limit(use_kernels):
    put = {b"%d" % i: bytes(10) for i in range(9)}
    (whole,) = bodies(changes(put), head(), 5, topic="t", use_kernels=use_kernels)
    for limit, expected in ((len(whole.data), 1), (len(whole.data) - 1, 2)):
        made = list(bodies(changes(put), head(), 5, limit, topic="t", use_kernels=use_kernels))
        assert len(made) == expected


@pytest.mark.parametrize("use_kernels", WAYS)
def test_bodies_fit_a_topic_that_takes_less(use_kernels):
    put = {b"%08d" % i: bytes(40) for i in range(3_000)}
    made = list(bodies(changes(put), head(), 5, topic="t", most=10_000, use_kernels=use_kernels))
    assert max(len(body.data) for body in made) <= 9_900


@pytest.mark.parametrize("use_kernels", WAYS)
def test_a_row_that_its_topic_does_not_take_is_named(use_kernels):
    fits = 1_000 - record_size(b"\x01big", b"")
    made = bodies(changes({b"big": bytes(fits)}), head(), 5, topic="t", most=1_000, use_kernels=use_kernels)
    assert [body.records for body in made] == [1, 1]
    with pytest.raises(OversizedRecord, match=r"row with the key b'big' of about 1,001 bytes for t, which takes 1,000"):
        bodies(changes({b"a": b"", b"big": bytes(fits + 1)}), head(), 5, topic="t", most=1_000, use_kernels=use_kernels)
    with pytest.raises(OversizedRecord, match=r"row with the key b'x{64}'… of"):
        bodies(changes({}, [b"x" * 1_000]), head(), 5, topic="t", most=1_000, use_kernels=use_kernels)
    with pytest.raises(OversizedRecord, match=r"of a state's head of about"):
        bodies(changes({}), head(version="v" * 1_000), 5, topic="t", most=1_000, use_kernels=use_kernels)


def test_what_is_no_rows_is_refused():
    null = Texts(NO_TEXTS.data, np.array([0]), np.array([-1]), binary=True)
    one = binary([b"a"])
    for wrong in (Changes(null, one, NO_TEXTS), Changes(one, null, NO_TEXTS), Changes(NO_TEXTS, NO_TEXTS, null)):
        with pytest.raises(ValueError, match="null"):
            bodies(wrong, head(), 5, topic="t")
    with pytest.raises(ValueError, match="1 keys and 0 values"):
        bodies(Changes(one, NO_TEXTS, NO_TEXTS), head(), 5, topic="t")
