"""Topologies printed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from streamproc import App, Record, Stream, count, mean, tumbling
from streamproc.define import graph
from streamproc.define.deadletter import DeadLetter
from tests.define.kit import Thing, ThingSum, things


class LevelChange(Record):
    key: str
    value: int | None
    written: int


async def passes(stream: Stream[Thing]) -> AsyncIterator[Thing]:
    async for thing in stream:
        yield thing


@pytest.fixture
def app() -> App:
    """Two agents and a window, one of them over results of the other."""
    app = App("plant", partitions=2)
    events = things(app)
    hot = app.channel("hot", Thing, key="unit", cause="id", partitions=1)
    app.agent(events, sink=hot, name="filter")(passes)
    hot.window(tumbling("10s"), grace="1.5s").agg("sums", ThingSum, n=count(), x=mean("x"))
    app.table("seen", default=int, ttl="1h")
    app.table("rooms", key=tuple[str, int], value=list[str] | None)
    app.table("models", default=object, volatile=True)
    return app


def test_text(app: App):
    assert str(app) == graph.text(app)
    assert graph.text(app) == (
        "app plant\n"
        "  topic things: Thing (key=unit, time=ts, id=id, 2 partitions)\n"
        "    agent filter\n"
        "      channel hot: Thing (key=unit, cause=id, 1 partition)\n"
        "        window tumbling(10s) grace 1500ms: n=count(), x=mean(x)\n"
        "          channel sums: ThingSum (key=unit, time=end, 1 partition)\n"
        "          topic sums-late: Thing (key=unit, 1 partition)\n"
        "  table seen: str to int, ttl 1h\n"
        "  table rooms: tuple[str, int] to list[str] | None\n"
        "  table models: str to any object, volatile\n"
        "  dead letters: plant-dead-letters"
    )


def test_what_lies_below_a_topic_is_printed_once():
    """Layers of two agents each would double the text with every layer."""
    app = App("layers")
    topic = things(app, "t0")
    for layer in range(1, 40):
        sink = app.topic(f"t{layer}", Thing, key="unit")
        app.agent(topic, sink=sink, name=f"a{layer}")(passes)
        app.agent(topic, sink=sink, name=f"b{layer}")(passes)
        topic = sink
    text = graph.text(app)
    assert text.count("topic t1: Thing (key=unit, 4 partitions) (see above)") == 1
    assert len(text.splitlines()) < 200


def test_circles_are_printed():
    app = App("circle")
    a, b = things(app, "a"), things(app, "b")
    app.agent(a, sink=b, name="there")(passes)
    app.agent(b, sink=a, name="back")(passes)
    text = graph.text(app)
    for name in ("topic a", "agent there", "topic b", "agent back", "topic a: Thing (key=unit, time=ts, id=id, 4"):
        assert name in text
    assert text.count("see above") == 1


def test_readers_of_the_dead_letters_are_printed():
    app = App("test")

    @app.agent(app.dead_letters)
    async def alert(stream: Stream[DeadLetter]) -> None: ...

    assert "agent alert" in graph.text(app)
    assert "test-dead-letters" in graph.mermaid(app)
    assert '"test-dead-letters" [shape=cylinder]' in graph.dot(app)


async def keeps(stream: Stream[Thing]) -> None:
    async for _ in stream:
        pass


@pytest.fixture
def told() -> App:
    """A table whose changes go round: the agent that reads them writes what the table's agent reads."""
    app = App("told")
    events = things(app)
    app.agent(events, name="keep")(keeps)
    app.table("quiet", default=int)
    app.table('say "hi"', default=int).changes("level-changes", LevelChange)
    app.agent(app.channels["level-changes"], sink=events, name="again")(passes)
    return app


def test_a_tables_changes_lie_below_it(told: App):
    assert graph.text(told) == (
        "app told\n"
        "  table quiet: str to int\n"
        '  table say "hi": str to int\n'
        "    channel level-changes: LevelChange (key=key, time=written, 4 partitions)\n"
        "      agent again\n"
        "        topic things: Thing (key=unit, time=ts, id=id, 4 partitions)\n"
        "          agent keep\n"
        "  dead letters: told-dead-letters"
    )


def test_a_tables_changes_come_from_it(told: App):
    assert graph.mermaid(told).splitlines()[-2:] == ['  c0[["table say #quot;hi#quot;"]]', "  c0 --> t1"]
    assert '  t1(["level-changes"])' in graph.mermaid(told)
    assert graph.dot(told).splitlines()[-3:-1] == [
        '  "table say \\"hi\\"" [shape=folder];',
        '  "table say \\"hi\\"" -> "level-changes";',
    ]


def test_mermaid(app: App):
    assert graph.mermaid(app) == (
        "flowchart LR\n"
        '  t0[("things")]\n'
        '  t1(["hot"])\n'
        '  t2(["sums"])\n'
        '  t3[("sums-late")]\n'
        '  a0["agent filter"]\n'
        "  t0 --> a0\n"
        "  a0 --> t1\n"
        '  a1["window tumbling(10s) grace 1500ms: n=count(), x=mean(x)"]\n'
        "  t1 --> a1\n"
        "  a1 --> t2\n"
        "  a1 --> t3"
    )


def test_names_cannot_break_a_graph():
    """``end`` ends a Mermaid graph; ``a.b`` and ``a-b`` are two topics; an agent's name may be anything."""
    app = App("test")
    topics = [things(app, name) for name in ("end", "a.b", "a-b")]
    app.agent(topics[0], sink=topics[1], name='say "hi" \\')(passes)
    nodes = re.findall(r"^  (\w+)[\[(]", graph.mermaid(app), re.MULTILINE)
    assert nodes == ["t0", "t1", "t2", "a0"]
    assert 'a0["agent say #quot;hi#quot; \\"]' in graph.mermaid(app)
    assert '"agent say \\"hi\\" \\\\"' in graph.dot(app)


def test_dot(app: App):
    dot = graph.dot(app)
    assert dot.startswith('digraph "plant" {\n  rankdir=LR;\n')
    assert dot.endswith("\n}")
    assert '  "hot" [shape=ellipse];' in dot
    assert '  "things" [shape=cylinder];' in dot
    edges = re.findall(r'^  "(.+)" -> "(.+)";$', dot, re.MULTILINE)
    assert edges == [
        ("things", "agent filter"),
        ("agent filter", "hot"),
        ("hot", "agent sums"),
        ("agent sums", "sums"),
        ("agent sums", "sums-late"),
    ]
