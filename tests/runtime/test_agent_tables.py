"""Tables as agents see them: undone with the event that raised, aged by event time, whole between batches."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from streamproc import App, Batch, Record, Stream
from streamproc.errors import InvalidRecord
from streamproc.testing import TestDriver, split_invariant


class WordCount(Record):
    __schema__ = "pong"
    key: str
    n: int
    note: str = ""


class Word(Record):
    __schema__ = "beat"
    key: str
    ts: int
    n: int = 0
    note: str = ""


def counting(by_rows: bool) -> App:
    """Counts of words that were heard in the last 200 ms, of event time."""
    app = App("test", partitions=1)
    words = app.topic("words", Word, key="key", time="ts")
    sums = app.channel("sums", WordCount, key="key")
    counts = app.table("counts", default=int, ttl="0.2s")

    def count(batch: Batch) -> list[WordCount]:
        found = []
        for word in batch["key"]:
            counts[word] += 1
            found.append(WordCount(word, counts[word] * 100 + len(counts)))
        return found

    async def rows(stream: Stream[Word]) -> AsyncIterator[WordCount]:
        async for word in stream:
            counts[word.key] += 1
            yield WordCount(word.key, counts[word.key] * 100 + len(counts))

    async def batches(stream: Stream[Word]) -> AsyncIterator[Batch]:
        async for batch in stream.batches():
            results = count(batch)
            made = Batch(batch.topic, batch.partition, WordCount, batch.offsets, batch.timestamps, records=results)
            yield made

    app.agent(words, sink=sums, name="count")(rows if by_rows else batches)
    return app


@pytest.mark.parametrize("by_rows", [True, False])
def test_results_do_not_depend_on_cuts(by_rows: bool):
    app = counting(by_rows)
    chance = random.Random(3)
    words = [Word(chance.choice("abcd"), i * 9 + chance.randrange(-60, 60)) for i in range(300)]
    split_invariant(app, {app.topics["words"]: words}, tries=8)


def test_rows_age_by_event_time():
    app = counting(True)
    with TestDriver(app) as driver:
        driver.publish(app.topics["words"], Word("a", 0), Word("a", 199), Word("b", 398), Word("a", 399))
        driver.advance("1h")  # the clock is nothing to them
        driver.publish(app.topics["words"], Word("b", 400))
        assert [count.n for count in driver.results(app.channels["sums"])] == [101, 201, 102, 102, 202]


def failing(by_rows: bool) -> App:
    app = App("test", partitions=1)
    words = app.topic("words", Word, key="key", time="ts")
    sums = app.channel("sums", WordCount, key="key")
    counts, heard = app.table("counts", default=int), app.table("heard", default=list, value=list[int])

    def take(word: str, ts: int) -> WordCount:
        counts["all"] += 1
        heard["all"].append(ts if word != "bad" else 2**64)
        if word == "raise":
            raise ValueError(word)
        return WordCount(word, counts["all"] * 100 + len(heard["all"]))

    async def rows(stream: Stream[Word]) -> AsyncIterator[WordCount]:
        async for word in stream:
            yield take(word.key, word.ts)

    async def batches(stream: Stream[Word]) -> AsyncIterator[Batch]:
        async for b in stream.batches():
            results = [take(word, ts) for word, ts in zip(b["key"], b["ts"], strict=True)]
            yield Batch(b.topic, b.partition, WordCount, b.offsets, b.timestamps, records=results)

    app.agent(words, sink=sums, name="count")(rows if by_rows else batches)
    return app


@pytest.mark.parametrize("by_rows", [True, False])
def test_what_an_event_did_before_it_raised_is_undone(by_rows: bool):
    """Of a batch, too, of which each half comes again; and where a value is found wrong only when the event is done."""
    app = failing(by_rows)
    words = ["a", "raise", "b", "bad", "c", "raise", "d"]
    with TestDriver(app) as driver:
        driver.publish(app.topics["words"], *(Word(word, i) for i, word in enumerate(words)))
        assert driver.results(app.channels["sums"]) == [
            WordCount(word, n * 101) for n, word in enumerate("abcd", start=1)
        ]
        assert [(letter.offset, letter.reason) for letter in driver.dead_letters] == [
            (1, "agent_error"),
            (3, InvalidRecord.reason),
            (5, "agent_error"),
        ]
        assert driver.dead_letters[1].error == (
            "table 'heard', row 'all': value: msgpack does not take it: can't serialize ints < -2**63 or > 2**64 - 1"
        )
