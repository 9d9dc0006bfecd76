"""Filters: what they mean, what they refuse, and when two are one."""

from __future__ import annotations

import json
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from streamproc_egress.filters import DEPTH, NODES, VALUES, Filter, FilterError, Seen, filter_of
from tests.edge.kit import Note, make_app, world


class Inner(Struct):
    city: str | None
    floor: int


class Reading(Struct):
    """Filters ask for fields only: a schema makes no difference to them."""

    unit: str
    n: int
    x: float | None
    on: bool
    place: Inner | None
    tags: list[str]


def made(tree: Any) -> Filter:
    return filter_of(json.dumps(tree).encode(), Reading)  # type: ignore[arg-type]


def leaf(key: str, cmp: str, *values: Any) -> dict[str, Any]:
    if cmp in ("in", "nin"):
        return {"key": key, "cmp": cmp, "vals": list(values)}
    return {"key": key, "cmp": cmp} | ({"val": values[0]} if values else {})


def seen(key: str | None = "k", **changed: Any) -> Seen:
    values: dict[str, Any] = {"unit": "a1", "n": 5, "x": 1.5, "on": True, "place": Inner("Ulm", 2), "tags": []}
    return Seen(key, Reading(**values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tree", "holds"),
    [
        (leaf("unit", "eq", "a1"), True),
        (leaf("unit", "eq", "A1"), False),
        (leaf("unit", "neq", "a1"), False),
        (leaf("unit", "in", "b", "a1"), True),
        (leaf("unit", "nin", "b", "c"), True),
        (leaf("unit", "sw", "a"), True),
        (leaf("unit", "ew", "1"), True),
        (leaf("unit", "ct", "z"), False),
        (leaf("n", "eq", "5"), True),
        (leaf("n", "eq", 5.0), True),
        (leaf("n", "gt", "4.5"), True),
        (leaf("n", "lte", 5), True),
        (leaf("n", "lt", 5), False),
        (leaf("n", "gte", "1e1"), False),
        (leaf("x", "eq", 1.5), True),
        (leaf("on", "eq", "true"), True),
        (leaf("on", "neq", True), False),
        (leaf("place", "ex"), True),
        (leaf("place.city", "eq", "Ulm"), True),
        (leaf("place.floor", "gt", 1), True),
        (leaf("tags", "ex"), True),
        (leaf("$key", "eq", "k"), True),
        ({"op": "and", "nodes": [leaf("n", "gt", 4), leaf("n", "lt", 6)]}, True),
        ({"op": "or", "nodes": [leaf("n", "gt", 5), leaf("n", "lt", 5)]}, False),
        ({"op": "not", "nodes": [leaf("n", "gt", 5)]}, True),
    ],
)
def test_what_comparisons_mean(tree: Any, holds: bool) -> None:
    assert made(tree).matches(seen()) is holds


@pytest.mark.parametrize("key", ["x", "place.city", "place.floor", "$key"])
def test_what_is_null_is_equal_to_nothing(key: str) -> None:
    value: Any = "1" if key in ("place.city", "$key") else 1
    for nothing in (seen(key=None, x=None, place=None), Seen(None, None)):
        for cmp, holds in (("eq", False), ("neq", True), ("in", False), ("nin", True)):
            assert made(leaf(key, cmp, value)).matches(nothing) is holds
        assert made(leaf(key, "ex")).matches(nothing) is False
        assert made(leaf(key, "nex")).matches(nothing) is True
        order = "sw" if isinstance(value, str) else "lte"
        assert made(leaf(key, order, value)).matches(nothing) is False


@pytest.mark.parametrize(
    ("tree", "field", "text"),
    [
        ({}, "filter.cmp", "expected a comparison"),
        ([], "filter", ""),
        ({"key": "unit", "cmp": "like", "val": "x"}, "filter.cmp", "like"),
        ({"key": "unit", "cmp": "eq", "val": "x", "more": 1}, "filter.more", ""),
        (leaf("zap", "eq", "x"), "filter.key", "unit, n, x, on, place, tags"),
        (leaf("unit.x", "eq", "x"), "filter.key", "no record"),
        (leaf("place.zap", "eq", "x"), "filter.key", "city, floor"),
        (leaf("", "eq", "x"), "filter.key", "expected $key"),
        (leaf("n", "sw", "x"), "filter.cmp", "for texts"),
        (leaf("unit", "gt", "x"), "filter.cmp", "for numbers"),
        (leaf("place", "eq", "x"), "filter.cmp", "of type Inner"),
        (leaf("tags", "in", "x"), "filter.cmp", "list"),
        (leaf("n", "eq", "five"), "filter.val", "a whole number; got 'five'"),
        (leaf("x", "eq", "nan"), "filter.val", "a number; got 'nan'"),
        (leaf("x", "eq", True), "filter.val", "a number"),
        (leaf("on", "eq", "yes"), "filter.val", "true or false"),
        (leaf("unit", "eq", 5), "filter.val", "a text"),
        (leaf("unit", "eq"), "filter.val", "has val"),
        ({"key": "unit", "cmp": "in", "val": "x"}, "filter.vals", "has vals"),
        ({"key": "unit", "cmp": "ex", "val": "x"}, "filter", "neither"),
        ({"op": "and"}, "filter.nodes", "at least one"),
        ({"op": "not", "nodes": [leaf("n", "ex"), leaf("x", "ex")]}, "filter.nodes", "one node"),
        ({"op": "and", "key": "n", "nodes": [leaf("n", "ex")]}, "filter", "no key"),
        ({"nodes": [leaf("n", "ex")]}, "filter", "need an op"),
        ({"op": "or", "nodes": [leaf("n", "ex"), leaf("zap", "ex")]}, "filter.nodes[1].key", "zap"),
        ({"op": "or", "nodes": [leaf("n", "ex")] * NODES}, "filter.nodes[63]", "64 nodes"),
        (leaf("n", "in", *range(VALUES + 1)), "filter.vals", "256 values"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tree: Any, field: str, text: str) -> None:
    with pytest.raises(FilterError) as refused:
        made(tree)
    assert refused.value.field == field
    assert text in str(refused.value)
    assert str(refused.value).startswith(field.split("[")[0].split(".")[0])


def test_depth_is_bounded_however_deep() -> None:
    def deep(levels: int) -> bytes:
        return b'{"op":"not","nodes":[' * (levels - 1) + json.dumps(leaf("n", "ex")).encode() + b"]}" * (levels - 1)

    filter_of(deep(DEPTH), Reading)  # type: ignore[arg-type]
    for levels in (DEPTH + 1, 500, 20_000):
        with pytest.raises(FilterError, match=r"levels|deep"):
            filter_of(deep(levels), Reading)  # type: ignore[arg-type]


def test_like_filters_are_equal_however_they_are_written() -> None:
    one, two, three = leaf("n", "gt", 4), leaf("unit", "in", "a", "b"), leaf("x", "ex")
    both = made({"op": "and", "nodes": [one, two, three]})
    for other in (
        {"op": "and", "nodes": [three, leaf("unit", "in", "b", "a", "b"), one, one]},
        {"op": "and", "nodes": [one, {"op": "and", "nodes": [two, three]}]},
        {"op": "not", "nodes": [{"op": "not", "nodes": [{"op": "and", "nodes": [one, two, three]}]}]},
    ):
        assert made(other) == both
        assert hash(made(other)) == hash(both)
    assert made(leaf("n", "eq", 5)) == made(leaf("n", "in", "5"))
    assert made(leaf("n", "neq", 5)) == made({"op": "not", "nodes": [leaf("n", "eq", "5")]})
    assert made(leaf("n", "eq", 5)) != made(leaf("n", "eq", 6))


compares = {"eq": operator.eq, "neq": operator.ne, "gt": operator.gt, "gte": operator.ge, "lt": operator.lt}
leaves = st.builds(leaf, st.sampled_from(["n", "x"]), st.sampled_from(sorted(compares)), st.integers(-2, 2))
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda op, nodes: {"op": op, "nodes": nodes[:1] if op == "not" else nodes},
        st.sampled_from(["and", "or", "not"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def naive(tree: dict[str, Any], have: dict[str, float | None]) -> bool:
    if "op" in tree:
        found = [naive(node, have) for node in tree["nodes"]]
        return not found[0] if tree["op"] == "not" else (all if tree["op"] == "and" else any)(found)
    value = have[tree["key"]]
    return tree["cmp"] == "neq" if value is None else bool(compares[tree["cmp"]](value, tree["val"]))


@given(trees, st.integers(-2, 2), st.none() | st.sampled_from([-2.0, 0.5, 1.0, 2.0]))
def test_any_tree_means_what_its_parts_mean(tree: dict[str, Any], n: int, x: float | None) -> None:
    assert made(tree).matches(seen(n=n, x=x)) is naive(tree, {"n": n, "x": x})


async def test_a_subscriber_gets_what_it_asked_for_numbered_without_holes() -> None:
    async with world(app=make_app()) as there, there.client() as some, there.client() as all_of_them:
        wants = {"key": "text", "cmp": "sw", "val": "a"}
        told = await some.ask(op="subscribe", id="1", ch="t-results", filter=wants)
        assert (told["op"], told["seq"]) == ("subscribed", 1)
        await all_of_them.ask(op="subscribe", id="1", ch="t-results")
        for number, text in enumerate(["a1", "b", "a2", "c", "a3"]):
            there.emit("t-results", Note(text, f"e{number}"), partition=0)
        texts: list[str] = []
        while len(texts) < 3:
            frame = await some.the("batch", sid=told["sid"])
            assert frame["seq"] == len(texts) + 1
            texts += [message["d"]["text"] for message in frame["msgs"]]
        assert texts == ["a1", "a2", "a3"]
        everything: list[str] = []
        while len(everything) < 5:
            everything += [message["d"]["text"] for message in (await all_of_them.the("batch"))["msgs"]]
        assert everything == ["a1", "b", "a2", "c", "a3"]


async def test_a_filter_that_does_not_fit_the_channel_is_refused_by_name() -> None:
    async with world() as there, there.client() as client:
        refused = await client.ask(op="subscribe", id="1", ch="t-results", filter={"key": "zap", "cmp": "ex"})
        assert (refused["code"], refused["field"]) == (107, "filter.key")
        assert "text, event" in refused["message"]
        unknown = await client.ask(op="subscribe", id="2", ch="t-zap", filter={"key": "zap", "cmp": "ex"})
        assert unknown["code"] == 102
        assert (await client.ask(op="subscribe", id="3", ch="t-results"))["op"] == "subscribed"
