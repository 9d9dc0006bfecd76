"""A worker's pages of its tables, and the change stream of one, on a real Kafka."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from itertools import pairwise
from typing import Any

import pytest

from streamproc.avro.codec import Codec
from tests.cli.table_kit import Expected, Place, made, page
from tests.cli.table_topology import CHANGES, NAME, PARTITIONS
from tests.e2e.kit import everything, until

pytestmark = pytest.mark.e2e
TICKS = made(300)


@pytest.fixture
def place(kafka, name, tmp_path, monkeypatch):
    monkeypatch.setenv(NAME, name)
    monkeypatch.setenv(CHANGES, "1")
    return Place(kafka, name, tmp_path, changes=True)


async def test_pages_of_a_worker(place):
    await place.make_topics()
    await asyncio.to_thread(place.publish, TICKS)
    expected = Expected(TICKS)

    def look(url: str) -> None:
        for unit, count in expected.counts.items():
            status, body = page(f"{url}/tables/counts/{unit}?stage=counting")
            assert (status, body["rows"][0]["value"], body["rows"][0]["from"]) == (200, count, "worker")
        assert page(f"{url}/tables/counts/nobody")[0] == 404
        status, body = page(f"{url}/tables/counts?limit=1000")
        assert {row["key"]: row["value"] for row in body["rows"]} == expected.counts | expected.loud
        assert len(body["tasks"]) == 2 * PARTITIONS
        status, body = page(f"{url}/tables")
        assert [table["table"] for table in body["tables"]] == ["counts", "last", "pairs", "unused", "models"]

    await place.work("--serve-tables", while_up=lambda url: asyncio.to_thread(look, url))


async def test_there_are_none_unless_they_are_wanted(place):
    await place.make_topics()

    def look(url: str) -> None:
        with pytest.raises(urllib.error.HTTPError, match="404") as found:
            urllib.request.urlopen(f"{url}/tables", timeout=20)
        found.value.close()

    await place.work(while_up=lambda url: asyncio.to_thread(look, url))


async def test_whoever_takes_the_changes_over_has_the_table(place):
    """Also where a worker was killed: the next one goes on with what was kept, and tells nothing twice."""
    await place.make_topics()

    async def kill(worker: Any) -> None:
        await until(lambda: everything(place.kafka, f"{place.name}-changes"))
        worker.kill()

    await asyncio.to_thread(place.publish, TICKS[:150])
    await place.work(killing=kill)
    await asyncio.to_thread(place.publish, TICKS[150:])
    await place.work()
    codec = Codec.of(place.app.topics[f"{place.name}-changes"], place.registry)
    values: dict[tuple[str, str], list[int]] = {}
    for raw in everything(place.kafka, f"{place.name}-changes"):
        change: Any = codec.decode(raw.value or b"")
        assert raw.key == change.key.encode()
        values.setdefault((change.stage, change.key), []).append(change.value)
    expected = Expected(TICKS)
    for stage, counts in (("counting", expected.counts), ("pairing", expected.loud)):
        assert {key: found[-1] for (of, key), found in values.items() if of == stage} == counts
    assert all(one < two for found in values.values() for one, two in pairwise(found))
