"""The record that says what rows mean."""

from __future__ import annotations

import msgspec
import pytest

from streamproc.errors import StateError
from streamproc.state.head import FORMAT, Head, decode, encode
from tests.state.kit import head

GOOD = {
    "format": FORMAT,
    "version": "v",
    "positions": {"events": 5},
    "header": {"a": 1, "b": None},
    "marks": {"c": [b"x", 1.5]},
}


def test_there_and_back():
    assert decode(encode(head(7))) == head(7)
    assert decode(msgspec.msgpack.encode(GOOD)) == Head(
        FORMAT, "v", {"events": 5}, {"a": 1, "b": None}, {"c": [b"x", 1.5]}
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": FORMAT + 1}, f"format {FORMAT + 1}; expected {FORMAT}"),
        ({"format": "1"}, r"Expected `int`, got `str` - at `\$.format`"),
        ({"version": 1}, r"\$.version"),
        ({"positions": {"events": -1}}, r"\$.positions"),
        ({"positions": {"events": 1.5}}, r"\$.positions"),
        ({"header": {"a": "x"}}, r"\$.header"),
        ({"marks": None}, r"\$.marks"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_what_is_none_is_refused(changed, said):
    with pytest.raises(StateError, match=said):
        decode(msgspec.msgpack.encode(GOOD | changed))


@pytest.mark.parametrize("missing", GOOD)
def test_what_lacks_a_part_is_refused(missing):
    with pytest.raises(StateError, match=missing):
        decode(msgspec.msgpack.encode({k: v for k, v in GOOD.items() if k != missing}))


def test_a_format_of_later_is_told_from_damage():
    """Whatever else it has."""
    with pytest.raises(StateError, match="format 9; expected 2: another version of streamproc wrote it"):
        decode(msgspec.msgpack.encode({"format": 9, "whatever": True}))


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", encode(head())[:-1], encode(head()) + b"x", b"\x81\xa1\xff\x01"])
def test_damage_is_refused(data):
    with pytest.raises(StateError, match="not the head of a state"):
        decode(data)
