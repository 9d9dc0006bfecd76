"""Change streams: whoever takes the records over, in order, has the table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.define.app import App
from streamproc.define.table import Table, tables_of_task
from streamproc.errors import DefinitionError
from streamproc.log.batch_builder import BATCH_OVERHEAD
from streamproc.process.table_changes import TableChanges
from streamproc.process.tables import TableState
from streamproc.record import Record
from streamproc.runtime.change_streams import ChangeStreams
from streamproc.state.head import FORMAT


class LevelChange(Record):
    """A change of a level."""

    key: str
    value: float | None
    written: int
    stage: str


class WordChange(Record):
    """A change of the words of a number."""

    key: int
    value: list[str] | None
    written: int


def made() -> tuple[App, Table[Any], Table[Any]]:
    app = App("changes")
    levels = app.table("levels", key=str, value=float, ttl="1s")
    levels.changes("level-changes", LevelChange)
    words = app.table("words", key=int, value=list[str])
    words.changes("word-changes", WordChange, partitions=2, config={"cleanup.policy": "compact"})
    app.table("quiet", default=int)
    return app, levels, words


STEP = st.tuples(
    st.sampled_from(["put", "remove", "flush", "fail"]),
    st.integers(0, 4),
    st.floats(allow_nan=False),
    st.integers(0, 600),
)


@given(steps=st.lists(STEP, max_size=40))
@settings(max_examples=150, deadline=None)
def test_records_taken_over_in_order_are_the_table(steps: list[tuple[str, int, float, int]]) -> None:
    app, levels, words = made()
    registry = MemoryRegistry()
    codecs = {topic.name: Codec.of(topic, registry) for topic in app.topics.values()}
    state, now = TableState(app.tables), 10_000_000
    streams = [table.change_stream for table in app.tables.values() if table.change_stream is not None]
    changes = TableChanges(streams, "agent", 3)
    copies: dict[str, dict[Any, Any]] = {"level-changes": {}, "word-changes": {}}
    written: dict[str, int] = {}
    time = 0

    def flush() -> None:
        for stream, records in changes.records(state.changes(), state.header()["time"], now):
            codec, copy = codecs[stream.channel.name], copies[stream.channel.name]
            assert len({record.key for record in records}) == len(records)  # type: ignore[attr-defined]
            for record in records:
                found: Any = codec.decode(codec.encode(record))
                assert found == record
                if found.value is None:
                    copy.pop(found.key, None)
                else:
                    copy[found.key] = found.value
                if isinstance(found, LevelChange):
                    assert found.stage == "agent"
                    assert found.written == (time if found.value is None else written[found.key])
                else:
                    assert found.written == now
        assert copies == {"level-changes": dict(levels), "word-changes": dict(words)}
        assert list(changes.records(state.changes(), None, now)) == []

    token = tables_of_task.set(state)
    try:
        for what, key, value, wait in steps:
            time += wait
            state.advance(time)
            if what in ("put", "fail"):
                levels[f"k{key}"] = value
                words[key] = [*words.get(key, []), str(value)]
            elif what == "remove":
                levels.pop(f"k{key}", None)
                words.pop(key, None)
            if what == "fail":
                state.rollback()
                continue
            if what == "put":
                written[f"k{key}"] = time
            state.check()
            state.commit()
            if what == "flush":
                flush()
        flush()
    finally:
        tables_of_task.reset(token)


def test_as_results_of_a_flush() -> None:
    app, levels, words = made()
    registry = MemoryRegistry()
    codecs = {topic.name: Codec.of(topic, registry) for topic in app.topics.values()}
    state = TableState(app.tables)
    token = tables_of_task.set(state)
    state.advance(5)
    for i in range(200):
        levels[f"k{i}"] = i / 2
    words[1] = ["x" * 3000]
    words[2] = ["fits"]
    state.check()
    state.commit()
    tables_of_task.reset(token)
    streams = ChangeStreams(app, "agent", 0, codecs, {"word-changes": 2000 + BATCH_OVERHEAD})
    assert streams
    results = streams.results(state.changes(), state.header())
    counts: dict[str, int] = {}
    for topic, partition, body in results:
        assert 0 <= partition < app.topics[topic].partitions
        counts[topic] = counts.get(topic, 0) + body.records
    assert counts == {"level-changes": 200, "word-changes": 1, "changes-dead-letters": 1}
    assert len({partition for topic, partition, _ in results if topic == "level-changes"}) == 4
    assert not ChangeStreams(App("none"), "agent", 0, {}, {})
    assert FORMAT


class NoValue(Record):
    """Lacks a value."""

    key: str
    value: float
    written: int
    stage: str


class TestDefinitions:
    def test_what_a_record_must_have(self) -> None:
        app = App("d")
        table = app.table("t", key=str, value=float)
        with pytest.raises(DefinitionError, match=r"expected NoValue.value to be float \| None; it is float"):
            table.changes("c", NoValue)
        with pytest.raises(DefinitionError, match=r"expected WordChange.key to be str; it is int"):
            table.changes("c", WordChange)
        other = app.table("u", key=str, value=int)
        with pytest.raises(DefinitionError, match=r"LevelChange.value to be int \| None; it is float \| None"):
            other.changes("c", LevelChange)
        with pytest.raises(DefinitionError, match="expected a subclass of Record; got <class 'dict'>"):
            table.changes("c", dict)  # type: ignore[arg-type]

    def test_which_tables(self) -> None:
        app = App("d")
        for table, said in (
            (app.table("a", volatile=True), "it is volatile|the table is volatile"),
            (app.table("b", key=bytes, value=float), "keys of str or int; it has bytes"),
            (app.table("c"), "say its type"),
            (app.table("e", value=float | None), "may be None"),
            (Table("f", value=float), "it is no app's"),
            (App("g", flush=None).table("h", value=float), "flush=None"),
        ):
            with pytest.raises(DefinitionError, match=said):
                table.changes("changes", LevelChange)

    def test_once(self) -> None:
        app, levels, _ = made()
        assert app.channels["level-changes"].key == "key"
        assert app.channels["word-changes"].config == {"cleanup.policy": "compact"}
        assert app.channels["word-changes"].partitions == 2
        with pytest.raises(DefinitionError, match="they go to 'level-changes' already"):
            levels.changes("again", LevelChange)
