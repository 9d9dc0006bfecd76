"""From a client's event to the bytes for Kafka."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.edge.dialects import NATIVE
from streamproc.edge.limits import Limits
from streamproc.edge.words import ClientFrame, FrameError, Publish
from streamproc_ingest.parse import Bad, Outgoing, Parser
from tests.edge.kit import Note, Tick, make_app, tick

APP = make_app()
REGISTRY = MemoryRegistry()
PARSER = Parser(APP.publishable, REGISTRY)
TICKS = Codec.of(APP.topics["t-ticks"], REGISTRY)
NOTES = Codec.of(APP.topics["t-notes"], REGISTRY)

CODEC = NATIVE.codec(Limits())


def decode(data: bytes) -> ClientFrame:
    (frame,) = CODEC.decode(data)
    if isinstance(frame, FrameError):
        raise frame
    return frame


def parse(**frame: Any) -> list[Outgoing | Bad]:
    decoded = decode(json.dumps({"op": "publish"} | frame).encode())
    assert isinstance(decoded, Publish)
    return list(PARSER.parse(decoded))


def good(**frame: Any) -> Outgoing:
    (event,) = parse(**frame)
    assert isinstance(event, Outgoing), event
    return event


def bad(**frame: Any) -> Bad:
    (event,) = parse(**frame)
    assert isinstance(event, Bad), event
    return event


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in tick("e").items() if name != field}


def test_an_event_becomes_its_key_and_its_framed_avro() -> None:
    event = good(id="e", topic="t-ticks", data=tick("e", "u9"))
    assert (event.id, event.topic, event.key) == ("e", "t-ticks", b"u9")
    assert TICKS.decode(event.value) == Tick(**tick("e", "u9"))
    assert event.size == len(event.value) + 2


def test_the_frame_s_id_fills_in_the_id_field() -> None:
    assert TICKS.decode(good(id="e", topic="t-ticks", data=without("id")).value) == Tick(**tick("e"))


def test_the_frame_s_time_fills_in_the_time_field() -> None:
    event = good(id="e", topic="t-ticks", data=without("ts"), ts=77)
    assert TICKS.decode(event.value) == Tick(**tick("e", ts=77))


def test_an_empty_object_can_be_filled_in() -> None:
    refused = bad(id="e", topic="t-ticks", data={}, ts=1)
    assert refused.error.field == "unit"  # neither id nor ts


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"id": "other", "data": tick("e")}, "id"),
        ({"id": "e", "data": tick("e") | {"id": None}}, "id"),
        ({"id": "e", "data": tick("e"), "ts": 5}, "ts"),
        ({"id": "e", "data": tick("e", "u"), "key": "v"}, "key"),
        ({"id": "e", "data": without("ts")}, "ts"),
        ({"id": "e", "data": tick("e", x="high")}, "x"),
        ({"id": "e", "data": tick("e", x=None)}, "x"),
        ({"id": "e", "data": tick("e", more=1)}, "more"),
        ({"id": "e", "data": tick("e", ts=2**70)}, "ts"),
    ],
)
def test_what_contradicts_or_does_not_fit_is_refused_by_name(frame: dict[str, Any], field: str) -> None:
    refused = bad(topic="t-ticks", **frame)
    assert (refused.error.code, refused.error.field, refused.error.id) == (107, field, frame["id"])
    assert refused.error.message.startswith(field)
    assert json.loads(refused.value or b"") == frame["data"]
    assert refused.reason == "invalid"


@pytest.mark.parametrize("data", [[], 5, "x", None, True])
def test_data_that_is_no_object_is_refused(data: Any) -> None:
    assert bad(id="e", topic="t-ticks", data=data).error.code == 107


def test_a_key_field_s_own_text_may_be_repeated() -> None:
    assert good(id="e", topic="t-ticks", data=tick("e", "u"), key="u").key == b"u"


def test_a_topic_without_key_takes_the_frame_s() -> None:
    assert good(id="e", topic="t-notes", data={"text": "x"}, key="ü").key == "ü".encode()
    assert good(id="e", topic="t-notes", data={"text": "x"}).key is None


def test_broken_utf_8_inside_the_data_is_refused() -> None:
    for topic in ("t-notes", "t-ticks"):
        frame = decode(b'{"op":"publish","id":"e","topic":"%b","data":{"text":"\xff"}}' % topic.encode())
        assert isinstance(frame, Publish)
        (refused,) = PARSER.parse(frame)
        assert isinstance(refused, Bad)
        assert refused.value == b'{"text":"\xff"}'


def test_deep_nesting_inside_the_data_is_refused() -> None:
    deep = b"[" * 30_000 + b"]" * 30_000
    with pytest.raises(FrameError) as refused:
        decode(b'{"op":"publish","id":"e","topic":"t-notes","data":' + deep + b"}")
    assert "nested too deeply" in refused.value.error.message


@given(text=st.text(), id=st.text(min_size=1, max_size=128), key=st.none() | st.text(max_size=20))
def test_any_text_goes_through_unchanged(text: str, id: str, key: str | None) -> None:
    try:
        event = good(id=id, topic="t-notes", data={"text": text, "event": id}, key=key)
    except FrameError:
        assert any("\ud800" <= c <= "\udfff" for c in id + text + (key or ""))
    else:
        assert NOTES.decode(event.value) == Note(text, id)
        assert event.key == (None if key is None else key.encode())


@given(
    members=st.lists(st.sampled_from(["id", "ts", "unit", "x"]), unique=True),
    space=st.sampled_from(["", " ", "\n\t"]),
)
def test_filling_in_never_breaks_the_json(members: list[str], space: str) -> None:
    data = {name: tick("e")[name] for name in members}
    text = space + json.dumps(data, indent=1 if space else None) + space
    frame = decode(b'{"op":"publish","id":"e","topic":"t-ticks","ts":1700000000000,"data":%b}' % text.encode())
    assert isinstance(frame, Publish)
    (event,) = PARSER.parse(frame)
    missing = {"unit", "x"} - set(members)
    if missing:
        assert isinstance(event, Bad)
        assert event.error.field in missing
    else:
        assert isinstance(event, Outgoing)
        assert TICKS.decode(event.value) == Tick(**tick("e"))
