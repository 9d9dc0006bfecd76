"""The test driver, and the check that results do not depend on batch cuts, which must find what it is for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from streamproc import App, Batch, Channel, Record, Stream, Topic, count, hopping, tumbling
from streamproc.define.table import Table
from streamproc.errors import DefinitionError, InvalidRecord, StreamprocError
from streamproc.testing import TestDriver, split_invariant


class Word(Record):
    text: str
    ts: int
    n: int = 0


class WordCount(Record):
    text: str
    start: int
    end: int
    n: int


class World:
    """Words, their counts, and an agent that shouts."""

    def __init__(self) -> None:
        self.app = App("test")
        self.words = self.app.topic("words", Word, key="text", time="ts")
        self.counts = self.words.window(tumbling("1s"), idle="2s").agg("counts", WordCount, n=count())
        self.loud = self.app.channel("loud", Word, key="text", time="ts")
        self.app.agent(self.words, sink=self.loud)(self.shout)

    async def shout(self, stream: Stream[Word]) -> AsyncIterator[Word]:
        async for word in stream:
            if word.text == "bad":
                raise ValueError("such a word")
            yield Word(word.text.upper(), word.ts, word.n)


@pytest.fixture
def world() -> World:
    return World()


class TestDriving:
    def test_results_are_there_when_publish_returns(self, world: World):
        with TestDriver(world.app) as driver:
            driver.publish(world.words, Word("a", 0), Word("b", 1))
            assert driver.results(world.loud) == [Word("A", 0), Word("B", 1)]
            driver.publish(world.words, Word("a", 500), Word("a", 1000))
            assert WordCount("a", 0, 1000, 2) in driver.results(world.counts)
            assert driver.results(world.words) == [Word("a", 0), Word("b", 1), Word("a", 500), Word("a", 1000)]

    def test_the_clock_moves_by_hand_and_closes_idle_windows(self, world: World):
        with TestDriver(world.app, now=1_000_000) as driver:
            driver.publish(world.words, Word("a", 0))
            driver.advance("1999ms")
            assert driver.results(world.counts) == []
            driver.advance("1ms")
            assert driver.results(world.counts) == [WordCount("a", 0, 1000, 1)]
            assert driver.now == 1_002_000
            assert [r.timestamp for r in driver.log] == [1_000_000, 1_000_000, 1_002_000]

    def test_the_log_has_keys_partitions_timestamps_and_headers(self, world: World):
        with TestDriver(world.app) as driver:
            driver.publish(world.words, Word("a", 3000), Word("a", 1), timestamps=[70, 80])
            late = [r for r in driver.log if r.topic == "counts-late"]
            assert [(r.key, r.record, r.timestamp) for r in late] == [(b"a", Word("a", 1), 80)]
            assert late[0].headers == (("missed", b"1"), ("of", b"1"))
            assert len({r.partition for r in driver.log if r.key == b"a"}) == 1

    def test_dead_letters_are_as_a_worker_writes_them(self, world: World):
        with TestDriver(world.app, now=77) as driver:
            driver.publish(world.words, Word("ok", 0), Word("bad", 1), Word("ok", 2))
            assert [w.text for w in driver.results(world.loud)] == ["OK", "OK"]
            (letter,) = driver.dead_letters
            assert (letter.stage, letter.topic, letter.key) == ("shout", "words", b"bad")
            assert letter.error == "ValueError: such a word"
            assert letter.value is not None
            assert driver._codec(world.words).decode(letter.value) == Word("bad", 1)

    def test_chains_run_to_the_end(self):
        """Each event counts down to zero, through the topic that it came from."""
        app = App("test")
        words = app.topic("words", Word, key="text")

        @app.agent(words, sink=words)
        async def again(stream: Stream[Word]) -> AsyncIterator[Word]:
            async for word in stream:
                if word.n:
                    yield Word(word.text, word.ts, word.n - 1)

        with TestDriver(app) as driver:
            driver.publish(words, Word("a", 0, 20))
            assert [w.n for w in driver.results(words)] == list(range(20, -1, -1))

    def test_records_without_a_key_are_spread(self):
        app = App("test", partitions=3)
        words = app.topic("words", Word)
        with TestDriver(app) as driver:
            driver.publish(words, *[Word("a", i) for i in range(6)])
            assert sorted(r.partition for r in driver.log) == [0, 0, 1, 1, 2, 2]
            driver.publish(words, Word("a", 7), partition=2)
            assert driver.log[-1].partition == 2

    def test_records_are_encoded_as_for_kafka(self, world: World):
        with TestDriver(world.app) as driver:
            with pytest.raises(InvalidRecord, match=r"n: 1099511627776 does not fit"):
                driver.publish(world.words, Word("a", 0), Word("b", 0, 2**40))
            assert driver.log == []

    def test_what_cannot_be_published(self, world: World):
        with TestDriver(world.app) as driver:
            with pytest.raises(TypeError, match=r"publish: topic 'words' takes Word; got WordCount"):
                driver.publish(world.words, WordCount("a", 0, 1, 1))
            with pytest.raises(ValueError, match=r"publish: expected 1 timestamps, one per record; got 2"):
                driver.publish(world.words, Word("a", 0), timestamps=[1, 2])
            with pytest.raises(DefinitionError, match=r"publish: topic 'words' is not one of app 'other'"):
                TestDriver.publish(TestDriver(App("other")), world.words, Word("a", 0))

    def test_what_would_stop_a_worker_is_raised(self):
        app = App("test")
        words = app.topic("words", Word)

        @app.agent(words)
        async def once(stream: Stream[Word]) -> None:
            async for _ in stream:
                return

        with TestDriver(app) as driver, pytest.raises(StreamprocError, match="agent 'once' returned"):
            driver.publish(words, Word("a", 0))


class TestLife:
    async def test_it_works_inside_a_running_loop(self, world: World):
        with TestDriver(world.app) as driver:
            driver.publish(world.words, Word("a", 0))
            await asyncio.sleep(0)
            assert driver.results(world.loud) == [Word("A", 0)]

    def test_close_leaves_nothing(self):
        """Agents that wait, threads and tasks that they made: no warning (they are errors here), no thread."""
        app = App("test")
        words = app.topic("words", Word)
        kept: list[Any] = []

        @app.agent(words)
        async def messy(stream: Stream[Word]) -> None:
            async for _ in stream:
                kept.append(asyncio.create_task(asyncio.sleep(1000)))
                await asyncio.to_thread(len, "work")

        before = threading.active_count()
        driver = TestDriver(app)
        driver.publish(words, *[Word("a", i) for i in range(8)])
        driver.close()
        driver.close()
        assert threading.active_count() == before
        assert all(task.cancelled() for task in kept)
        gc.collect()

    def test_a_closed_driver_says_so(self, world: World):
        driver = TestDriver(world.app)
        driver.close()
        with pytest.raises(RuntimeError, match="the driver is closed"):
            driver.publish(world.words, Word("a", 0))


def words(n: int) -> list[Word]:
    return [Word("abc"[i % 3], i * 100 - (i % 7) * 250, i) for i in range(n)]


class TestSplitInvariant:
    def test_good_topologies_pass(self, world: World):
        @world.app.agent(world.words, sink=world.app.channel("big", Word, key="text"))
        async def big(stream: Stream[Word]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.where(batch["n"] > 20)

        late = world.app.topics["counts-late"]
        late.window(hopping("3s", "1s"), grace="1s").agg("late-counts", WordCount, n=count())
        split_invariant(world.app, {world.words: [*words(60), Word("bad", 6000)]}, tries=5)

    def run(self, function: Any, n: int = 20) -> str:
        app = App("test", partitions=1)
        source = app.topic("words", Word, key="text", time="ts")
        app.agent(source, sink=app.channel("out", Word, key="text"), name="cut")(function)
        with pytest.raises(AssertionError) as caught:
            split_invariant(app, {source: words(n)}, tries=2)
        return str(caught.value)

    def test_it_finds_results_that_tell_a_batchs_length(self):
        async def length(stream: Stream[Word]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(n=batch["n"] * 0 + len(batch))

        assert self.run(length) == (
            "topic 'out', key b'a': 7 results when run whole, 7 one by one; the first difference is result 0: "
            "Word(text='a', ts=0, n=20) at 0, against Word(text='a', ts=0, n=1) at 0"
        )

    def test_it_finds_results_that_come_once_a_batch(self):
        async def last(stream: Stream[Word]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.slice(len(batch) - 1, len(batch))

        assert "0 results when run whole, 7 one by one; the first difference is result 0: nothing" in self.run(last)

    def test_it_finds_timestamps(self):
        async def stamp(stream: Stream[Word]) -> AsyncIterator[Word]:
            async for batch in stream.batches():
                for record in batch.records():
                    yield record  # stamped with the batch's last event

        assert "Word(text='a', ts=0, n=0) at 19, against Word(text='a', ts=0, n=0) at 0" in self.run(stamp)

    def test_it_finds_dead_letters(self):
        app = App("test")
        source = app.topic("words", Word, key="text", time="ts")

        @app.agent(source)
        async def crowd(stream: Stream[Word]) -> None:
            async for batch in stream.batches():
                assert len(batch) > 1

        with pytest.raises(
            AssertionError, match="topic 'test-dead-letters', key None: 0 results when run whole, 20 one"
        ):
            split_invariant(app, {source: words(20)}, tries=0)

    def test_it_finds_results_that_are_missing(self):
        async def first(stream: Stream[Word]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.where(batch["n"] == batch["n"].max())

        assert "the first difference is result" in self.run(first, n=5)

    def test_a_topic_of_two_writers_may_be_in_any_order(self):
        app = App("test")
        source = app.topic("words", Word, key="text", time="ts")
        sink = app.channel("out", Word, key="text")

        async def copy(stream: Stream[Word]) -> AsyncIterator[Word]:
            async for word in stream:
                yield word

        async def shift(stream: Stream[Word]) -> AsyncIterator[Word]:
            async for word in stream:
                yield Word(word.text, word.ts, word.n + 100)

        app.agent(source, sink=sink)(copy)
        app.agent(source, sink=sink)(shift)
        split_invariant(app, {source: words(30)}, tries=3)

    def test_other_keys_downstream_are_no_cut(self):
        """Events of several partitions meet in one: their order there is that of the partitions, in every run."""
        app = App("test")
        source = app.topic("words", Word, key="text", time="ts")
        mixed: Topic = app.topic("mixed", Word, key="n", time="ts")

        @app.agent(source, sink=mixed)
        async def rekey(stream: Stream[Word]) -> AsyncIterator[Word]:
            async for word in stream:
                yield Word(word.text, word.ts, word.n % 2)

        found: Channel = app.channel("out", Word, key="n")

        @app.agent(mixed, sink=found)
        async def number(stream: Stream[Word]) -> AsyncIterator[Word]:
            seen = 0
            async for word in stream:
                seen += 1
                yield Word(word.text, seen, word.n)

        split_invariant(app, {source: words(40)}, tries=3)

    def test_a_tables_changes_are_told_flush_by_flush_and_are_no_cut(self):
        app = tallied(lambda tally, word: tally.__setitem__(word.text, tally[word.text] + 1))
        split_invariant(app, {app.topics["words"]: words(50)}, tries=3)

    def test_nor_are_rows_that_come_and_go(self):
        """Whole, nobody hears of them."""

        def toggle(tally: Table[int], word: Word) -> None:
            if tally.pop(word.text, None) is None:
                tally[word.text] = 1

        app = tallied(toggle)
        split_invariant(app, {app.topics["words"]: words(50)}, tries=3)

    def test_it_finds_tables_that_tell_a_batchs_length(self):
        app = App("test")
        source = app.topic("words", Word, key="text", time="ts")
        tally = app.table("tally", default=int)
        tally.changes("word-tallies", WordTally)

        @app.agent(source)
        async def add(stream: Stream[Word]) -> None:
            async for batch in stream.batches():
                tally["longest"] = max(tally["longest"], len(batch))

        with pytest.raises(AssertionError, match="topic 'word-tallies', key b'longest': 1 results when run whole, 1 "):
            split_invariant(app, {source: words(50)}, tries=3)


class WordTally(Record):
    key: str
    value: int | None
    written: int


def tallied(write: Callable[[Table[int], Word], None]) -> App:
    """An agent that writes a table for each word, and the table's changes."""
    app = App("test")
    source = app.topic("words", Word, key="text", time="ts")
    tally = app.table("tally", default=int)
    tally.changes("word-tallies", WordTally)

    @app.agent(source)
    async def keep(stream: Stream[Word]) -> None:
        async for word in stream:
            write(tally, word)

    return app
