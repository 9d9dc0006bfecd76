"""A wrong definition fails when it is written, and says what is wrong with it. Each message is here in full."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamproc import App, Record, Stream, count, hopping, maximum, mean, minimum, total, tumbling
from streamproc.errors import DefinitionError, RecordError, SchemaMismatch, SchemaNotFound, TimeAhead
from tests.define.kit import Thing, ThingSum, things


class Renamed(Record, rename="camel"):
    unit_name: str


@pytest.fixture
def app() -> App:
    return App("test")


def message(error: type[Exception], define: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        define()
    assert isinstance(caught.value, DefinitionError)
    return str(caught.value)


@pytest.mark.parametrize("name", ["", "Shuttle", "-x", "a b", "x" * 101, None, "ä"])
def test_app_names(name: Any):
    assert message(DefinitionError, lambda: App(name)) == (
        "app: expected a name of 1 to 100 lower-case letters, digits and . _ -, not beginning with . _ or -; "
        f"got {name!r}"
    )


class TestTopics:
    @pytest.mark.parametrize("name", ["", "a b", "a/b", ".", "..", "x" * 250, Thing, 7])
    def test_names(self, app: App, name: Any):
        assert message(DefinitionError, lambda: app.topic(name, Thing)) == (
            f"topic {name!r}: expected a name of 1 to 249 of the characters A-Z a-z 0-9 . _ -"
        )

    @pytest.mark.parametrize("record", [dict, "Thing", None])
    def test_records(self, app: App, record: Any):
        assert message(DefinitionError, lambda: app.topic("t", record)) == (
            f"topic 't': expected a subclass of Record; got {record!r}"
        )

    def test_renamed_fields(self, app: App):
        assert message(DefinitionError, lambda: app.topic("t", Renamed)) == (
            "topic 't': Renamed.unit_name is renamed to 'unitName': a record's fields have the names of its schema's"
        )

    @pytest.mark.parametrize("partitions", [0, -1, 2.5])
    def test_partitions(self, app: App, partitions: Any):
        assert message(DefinitionError, lambda: app.topic("t", Thing, partitions=partitions)) == (
            f"topic 't': expected at least 1 partition; got {partitions}"
        )

    def test_partitions_of_the_app(self):
        assert message(DefinitionError, lambda: App("a", partitions=0).topic("t", Thing)) == (
            "topic 't': expected at least 1 partition; got 0"
        )

    @pytest.mark.parametrize(
        ("named", "text"),
        [
            ({"key": "unti"}, "key: Thing has no field 'unti'; it has id, unit, ts, n, x, maybe, on"),
            ({"key": "x"}, "key: expected Thing.x to be str or int; it is float"),
            ({"key": "on"}, "key: expected Thing.on to be str or int; it is bool"),
            ({"key": "maybe"}, "key: expected Thing.maybe to be str or int; it is float | None"),
            ({"time": "when"}, "time: Thing has no field 'when'; it has id, unit, ts, n, x, maybe, on"),
            ({"time": "x"}, "time: expected Thing.x to be int; it is float"),
            ({"id": "n"}, "id: expected Thing.n to be str; it is int"),
        ],
    )
    def test_fields(self, app: App, named: dict[str, Any], text: str):
        assert message(DefinitionError, lambda: app.topic("t", Thing, **named)) == f"topic 't', {text}"

    def test_cause(self, app: App):
        assert message(DefinitionError, lambda: app.channel("c", Thing, cause="n")) == (
            "channel 'c', cause: expected Thing.n to be str; it is int"
        )

    def test_twice(self, app: App):
        things(app)
        assert message(DefinitionError, lambda: app.channel("things", Thing)) == "topic 'things' is declared twice"

    def test_what_failed_is_not_declared(self, app: App):
        before = dict(app.topics)
        message(DefinitionError, lambda: app.topic("t", Thing, key="nope"))
        assert app.topics == before


class TestSchemas:
    """The record type and its schema are compared when the topic is declared."""

    def bind(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *fields: dict[str, Any]) -> None:
        (folder / "schemas").mkdir()
        schema = {"type": "record", "name": "Bound", "fields": list(fields)}
        (folder / "schemas" / "bound.avsc").write_text(json.dumps(schema))
        monkeypatch.chdir(folder)

    def test_a_field_of_another_type(self, app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        class Bound(Record):
            a: int

        self.bind(monkeypatch, tmp_path, {"name": "a", "type": "string"})
        assert message(SchemaMismatch, lambda: app.topic("t", Bound)) == (
            "Bound and bound.avsc disagree: Bound.a: the class says int, the schema string"
        )

    def test_a_field_that_the_class_lacks(self, app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        class Bound(Record):
            a: int

        self.bind(monkeypatch, tmp_path, {"name": "a", "type": "long"}, {"name": "b", "type": "long"})
        assert "b" in message(SchemaMismatch, lambda: app.topic("t", Bound)).partition("disagree: ")[2]

    def test_a_field_that_the_schema_lacks(self, app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        class Bound(Record):
            a: int
            extra: int

        self.bind(monkeypatch, tmp_path, {"name": "a", "type": "long"})
        assert "extra" in message(SchemaMismatch, lambda: app.topic("t", Bound)).partition("disagree: ")[2]

    def test_no_schema(self, app: App):
        class Unbound(Record):
            a: int

        with pytest.raises(SchemaNotFound, match=r"no schema 'unbound': there is no unbound\.avsc in .+; add it"):
            app.topic("t", Unbound)


class TestWindows:
    def test_steps(self):
        assert message(DefinitionError, lambda: hopping("1s", "2s")) == (
            "hopping: expected 0 < step <= size; got size 1s and step 2s"
        )
        assert message(DefinitionError, lambda: hopping("1s", 0)) == (
            "hopping: expected 0 < step <= size; got size 1s and step 0ms"
        )
        assert message(DefinitionError, lambda: tumbling(0)) == "tumbling: expected a size above zero; got 0ms"

    def test_sizes(self):
        assert message(DefinitionError, lambda: tumbling("10 apples")).startswith("window size: expected a duration")
        assert message(DefinitionError, lambda: hopping("1s", "x")).startswith("window step: expected a duration")

    def test_no_key(self, app: App):
        topic = app.topic("t", Thing)
        assert message(DefinitionError, lambda: topic.window(tumbling("1s"))) == (
            "topic 't': windows are per key, and it has none: declare it with key="
        )

    def test_no_window(self, app: App):
        assert message(DefinitionError, lambda: things(app).window("10s")) == (  # type: ignore[arg-type]
            'topic \'things\': expected a window such as tumbling("10s"), hopping("10s", "1s"); got \'10s\''
        )

    def test_grace_and_idle(self, app: App):
        topic = things(app)
        assert message(DefinitionError, lambda: topic.window(tumbling("1s"), grace=-1)) == (
            "grace: expected whole milliseconds, not negative; got -1"
        )
        assert message(DefinitionError, lambda: topic.window(tumbling("1s"), idle="soon")).startswith("idle: expected")


class TestAggregations:
    @pytest.mark.parametrize(
        ("aggregates", "text"),
        [
            ({}, "expected at least one aggregate, such as n=count()"),
            ({"n": count(), "x": mean("y")}, "x=mean(y): Thing has no field 'y'; it has id, unit, ts, n, x, maybe, on"),
            (
                {"n": count(), "x": maximum("unit")},
                "x=maximum(unit): expected Thing.unit to be int or float; it is str",
            ),
            ({"n": count(), "x": total("on")}, "x=total(on): expected Thing.on to be int or float; it is bool"),
            ({"n": count(), "x": minimum("n")}, "expected ThingSum.x to be int; it is float"),
            ({"n": mean("n"), "x": mean("x")}, "expected ThingSum.n to be float; it is int"),
            ({"n": count(), "x": mean("maybe")}, "expected ThingSum.x to be float | None; it is float"),
            pytest.param(
                {"n": count(), "x": mean},
                f"x: expected an aggregate such as mean('s1'); got {mean!r}",
                id="uncalled",  # an address in its name would be another in each of pytest's processes
            ),
            ({"n": count()}, "nothing fills x of ThingSum"),
            (
                {"n": count(), "x": mean("x"), "peak": maximum("x")},
                "expected ThingSum to have a field peak: float; it has unit, start, end, n, x",
            ),
            ({"n": count(), "x": mean("x"), "end": count()}, "end cannot be an aggregate's name"),
            ({"n": count(), "x": mean("x"), "unit": count()}, "unit cannot be an aggregate's name"),
        ],
    )
    def test_aggregates(self, app: App, aggregates: dict[str, Any], text: str):
        windowed = things(app).window(tumbling("1s"))
        got = message(DefinitionError, lambda: windowed.agg("sums", ThingSum, **aggregates))
        assert got in (f"aggregation 'sums': {text}", f"aggregation 'sums', {text}")
        assert not app.agents

    def test_a_result_without_the_key(self, app: App):
        windowed = app.topic("t", Thing, key="id", time="ts").window(tumbling("1s"))
        assert message(DefinitionError, lambda: windowed.agg("sums", ThingSum, n=count(), x=mean("x"))) == (
            "aggregation 'sums': expected ThingSum to have a field id: str; it has unit, start, end, n, x"
        )

    def test_a_result_that_is_no_record(self, app: App):
        windowed = things(app).window(tumbling("1s"))
        assert message(DefinitionError, lambda: windowed.agg("sums", dict, n=count())) == (  # type: ignore[arg-type]
            "aggregation 'sums': expected a subclass of Record for its results; got <class 'dict'>"
        )

    def test_a_sum_of_nullable_values_is_never_null(self, app: App):
        assert things(app).window(tumbling("1s")).agg("sums", ThingSum, n=count(), x=total("maybe")).name == "sums"

    def test_names_are_one_space(self, app: App):
        topic = things(app)

        @app.agent(topic, name="sums")
        async def read(stream: Stream[Thing]) -> None: ...

        assert message(
            DefinitionError, lambda: topic.window(tumbling("1s")).agg("sums", ThingSum, n=count(), x=mean("x"))
        ) == ("the name 'sums' is taken: another stage of this app has it")


class TestAgents:
    async def yields(self, stream: Stream[Thing]) -> AsyncIterator[Thing]:
        async for thing in stream:
            yield thing

    async def reads(self, stream: Stream[Thing]) -> None:
        async for _ in stream:
            pass

    def test_a_sink_and_nothing_yielded(self, app: App):
        source, sink = things(app), app.channel("sink", Thing)
        assert message(DefinitionError, lambda: app.agent(source, sink=sink)(self.reads)) == (
            "agent 'reads': it has a sink and yields nothing: yield its results, or leave the sink out"
        )

    def test_results_and_no_sink(self, app: App):
        source = things(app)
        assert message(DefinitionError, lambda: app.agent(source)(self.yields)) == (
            "agent 'yields': it yields results that go nowhere: name a sink"
        )

    def test_topics_of_another_app(self, app: App):
        source, other = things(app), App("other").channel("sink", Thing)
        assert message(DefinitionError, lambda: app.agent(source, sink=other)) == (
            "agent: expected a topic of app 'test'; got topic 'sink' of another"
        )
        assert message(DefinitionError, lambda: app.agent("things")) == (  # type: ignore[arg-type]
            "agent: expected a topic of app 'test'; got 'things'"
        )

    def test_sinks_of_different_types(self, app: App):
        sinks = app.channel("a", Thing), app.channel("b", ThingSum)
        source = things(app)
        assert message(DefinitionError, lambda: app.agent(source, sink=sinks)(self.yields)) == (
            "agent 'yields': expected sinks of one record type; they hold different ones: a Thing, b ThingSum"
        )

    def test_a_sink_twice(self, app: App):
        source, sink = things(app), app.channel("a", Thing)
        assert message(DefinitionError, lambda: app.agent(source, sink=[sink, sink])(self.yields)) == (
            "agent 'yields': a sink is named twice: its results would be doubled there"
        )

    def test_functions(self, app: App):
        source = things(app)

        def plain(stream: Any) -> None: ...

        async def two(stream: Any, more: Any) -> None: ...

        assert message(DefinitionError, lambda: app.agent(source)(plain)).startswith(  # type: ignore[type-var]
            "agent 'plain': expected an async function; got <function"
        )
        assert message(DefinitionError, lambda: app.agent(source)(two)) == (  # type: ignore[type-var]
            "agent 'two': expected a function of one argument, the stream; it takes 2"
        )

    def test_twice(self, app: App):
        source = things(app)
        app.agent(source)(self.reads)
        assert message(DefinitionError, lambda: app.agent(source)(self.reads)) == (
            "the name 'reads' is taken: another stage of this app has it"
        )


def test_a_table_twice(app: App):
    app.table("t")
    assert message(DefinitionError, lambda: app.table("t")) == "table 't' is declared twice"


def _kinds(error: type[RecordError]) -> Iterator[type[RecordError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _kinds(kind)


def test_every_reason_of_a_dead_letter_is_in_the_docs() -> None:
    found = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    ours = [kind for kind in _kinds(RecordError) if kind.__module__.startswith("streamproc.")]
    assert TimeAhead in ours
    for reason in {"agent_error", *(kind.reason for kind in ours if "reason" in vars(kind))}:
        assert re.search(rf"^\| [^|]*`{reason}`[^|]* \|", found, re.MULTILINE), f"docs/errors.md does not tell {reason}"
