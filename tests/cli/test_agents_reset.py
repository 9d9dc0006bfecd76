"""``streamproc agents reset`` on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.partition import partition_of
from streamproc.runtime.resetting import GroupInUse, Resetter, Target
from tests.cli.table_kit import Expected, Place, lying, made, worked
from tests.cli.table_topology import NAME, PARTITIONS
from tests.e2e.kit import committed

pytestmark = pytest.mark.e2e
TICKS = made(200)


@pytest.fixture(scope="module")
def ran(broker, tmp_path_factory):
    """A topology whose worker has kept all, and has gone."""
    with worked(broker.settings, tmp_path_factory.mktemp("reset"), TICKS) as place:
        yield place


def ids(place: Place) -> dict[str, str]:
    async def ask() -> dict[str, str]:
        admin = KafkaAdmin(place.kafka)
        try:
            return await admin.ids([place.changelog(stage) for stage in place.app.agents])
        finally:
            await admin.close()

    return asyncio.run(ask())


def offsets(place: Place) -> dict[int, int]:
    return committed(place.kafka, place.name, place.source, PARTITIONS)


def lie() -> dict[int, int]:
    """How many ticks lie in each partition."""
    places = [partition_of(tick.unit.encode(), PARTITIONS) for tick in TICKS]
    return {p: places.count(p) for p in range(PARTITIONS)}


def counts(place: Place, capsys) -> dict[str, int]:
    code, out, _ = place.run(
        capsys, "tables", "scan", "TOPOLOGY", "counts", "--stage", "counting", "-n", "0", "-o", "json"
    )
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    return {row["key"]: row["value"] for row in rows}


def test_all_of_it_step_by_step(ran, capsys):
    place = ran
    before, at = ids(place), offsets(place)
    assert at == lie()

    # Nothing without a yes.
    code, out, err = place.run(capsys, "agents", "reset", "TOPOLOGY")
    assert (code, err.splitlines()[-1]) == (
        2,
        "error: state would be deleted for good: say --yes where nobody can be asked",
    )
    assert out.splitlines()[0] == f"group {place.name}, stages {place.name}-windows, counting, pairing:"
    busy = max(at, key=lambda p: at[p])
    (line,) = [line.split() for line in out.splitlines() if line.split()[:2] == [place.source, str(busy)]]
    assert line[2:] == [str(at[busy]), "0", str(at[busy]), f"{at[busy]:,}", "again"]
    assert f"delete and make anew: {place.changelog('counting')}, " in out
    assert f"results come again in {place.name}-windows" in err
    assert (ids(place), offsets(place)) == (before, at)

    # Forwards, one stage alone: the others would miss events.
    place.publish(TICKS[:5])
    code, _, err = place.run(capsys, "agents", "reset", "TOPOLOGY", "--stage", "counting", "--to", "end", "--yes")
    assert code == 1
    assert "too, and would miss events" in err
    assert (ids(place), offsets(place)) == (before, at)

    # One stage: its changelog alone is made anew, as it was; the others keep theirs, and see nothing twice.
    code, out, err = place.run(capsys, "agents", "reset", "TOPOLOGY", "--stage", "counting", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "counting: reset; the next worker begins there, with no state")
    after = ids(place)
    assert {stage for stage in place.app.agents if after[place.changelog(stage)] != before[place.changelog(stage)]} == {
        "counting"
    }
    assert not any(lying(place.kafka, place.changelog("counting"), p) for p in range(PARTITIONS))
    found = config(place, "counting")
    assert (found["cleanup.policy"], found["segment.bytes"]) == ("compact", str(32 << 20))
    assert offsets(place) == dict.fromkeys(range(PARTITIONS), 0)
    asyncio.run(place.work())
    every = TICKS + TICKS[:5]
    assert counts(place, capsys) == Expected(every).counts
    rows = place.json(capsys, "verify", "TOPOLOGY")
    assert all(row["verified"] for row in rows)

    # Everybody to the end: as if nothing had ever been.
    code, out, err = place.run(capsys, "agents", "reset", "TOPOLOGY", "--to", "end", "-y")
    assert code == 0
    assert counts(place, capsys) == {}
    assert sum(offsets(place).values()) == len(every)

    # An offset, and a time.
    code, out, _ = place.run(capsys, "agents", "reset", "TOPOLOGY", "--to", "10", "-y")
    assert (code, offsets(place)) == (0, {p: min(10, n) for p, n in lie().items()})
    code, out, _ = place.run(capsys, "agents", "reset", "TOPOLOGY", "--to", "1h", "-y")
    assert (code, offsets(place)) == (0, dict.fromkeys(range(PARTITIONS), 0))
    code, out, _ = place.run(capsys, "agents", "reset", "TOPOLOGY", "--to", f"{time.gmtime().tm_year + 1}-01-01", "-y")
    assert (code, sum(offsets(place).values())) == (0, len(every))


def config(place: Place, stage: str) -> dict[str, str]:
    asked = ConfigResource(ResourceType.TOPIC, place.changelog(stage))
    admin = AdminClient(place.kafka.librdkafka())
    ((_, future),) = admin.describe_configs([asked]).items()
    return {name: entry.value for name, entry in future.result(20).items()}


def test_while_a_worker_runs(ran):
    before, at = ids(ran), offsets(ran)
    resetter = Resetter(ran.app, ran.kafka)
    plan = asyncio.run(resetter.plan(None, Target(beginning=True)))

    async def reset(_: str) -> None:
        said = f"1 worker of '{ran.name}' .*: stop them first"
        with pytest.raises(GroupInUse, match=said):
            await resetter.plan(None, Target(beginning=True))
        with pytest.raises(GroupInUse, match=said):  # it came after the plan was made
            await resetter.run(plan)

    asyncio.run(ran.work(while_up=reset))
    assert (ids(ran), offsets(ran)) == (before, at)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--stage", "nothing"], 2, "has no stage 'nothing': it has"),
        (["--to", "soon"], 2, "--to: expected beginning, end, an offset, 1h, 30m or a time such as"),
    ],
)
def test_wrong_use(ran, capsys, words, code, said):
    got, out, err = ran.run(capsys, "agents", "reset", "TOPOLOGY", "--yes", *words)
    assert (got, out) == (code, "")
    assert said in err


def test_before_any_worker(ran, capsys, monkeypatch):
    monkeypatch.setenv(NAME, "never-ran")
    code, _, err = ran.run(capsys, "agents", "reset", "TOPOLOGY", "--yes")
    assert code == 1
    assert "a worker or gateway makes its topology's topics when it starts" in err
