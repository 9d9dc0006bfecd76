"""``streamproc verify`` on a real Kafka: state that is as it should be, and state that was tampered with."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.partition import partition_of
from streamproc.runtime.reader import ChangelogReader
from streamproc.state import snapshot
from streamproc.state.head import Head, decode, encode
from streamproc.state.rows import HEAD, ROW
from streamproc.state.table_rows import row_key
from tests.cli.table_kit import Expected, Place, lying, made, worked
from tests.cli.table_topology import PARTITIONS

pytestmark = pytest.mark.e2e
TICKS = made(600)
UNIT = "u3"
AT = partition_of(UNIT.encode(), PARTITIONS)


@pytest.fixture(scope="module")
def ran(broker, tmp_path_factory):
    """A topology whose worker has kept all, and has gone."""
    with worked(broker.settings, tmp_path_factory.mktemp("verify"), TICKS) as place:
        yield place


@pytest.fixture
def place(ran):
    """The same for every test: what one writes into a changelog, it takes back."""
    before = {stage: last(ran, stage) for stage in ran.app.agents}
    yield ran
    for stage, rows in before.items():
        now = last(ran, stage)
        for key in sorted(now.keys() | rows.keys(), reverse=True):  # the head is the last
            if now.get(key) != rows.get(key):
                write(ran, stage, key, rows.get(key))


def last(place: Place, stage: str) -> dict[bytes, bytes | None]:
    """What a changelog's partition has of every key."""
    return lying(place.kafka, place.changelog(stage), AT)


def write(place: Place, stage: str, key: bytes, value: bytes | None) -> None:
    producer = Producer(place.kafka.librdkafka())
    producer.produce(place.changelog(stage), value, key, partition=AT)
    assert producer.flush(20) == 0


def head_of(place: Place, stage: str) -> Head:
    return decode(last(place, stage)[HEAD] or b"")


def tamper(place: Place, stage: str, key: bytes, value: bytes | None) -> None:
    """Writes a row as nobody should."""
    write(place, stage, ROW + key, value)


def entry(number: int, value: object) -> bytes:
    return msgspec.msgpack.encode([number, value])


def number(place: Place, key: str) -> int:
    return int(msgspec.msgpack.decode(last(place, "counting")[ROW + row_key("counts", key)] or b"")[0])


def test_state_that_is_as_it_should_be(place, capsys):
    rows = place.json(capsys, "verify", "TOPOLOGY")
    assert {(row["stage"], row["partition"]) for row in rows} == {
        (stage, p) for stage in ("counting", "pairing", f"{place.name}-windows") for p in range(PARTITIONS)
    }
    assert all(row["verified"] and row["whole"] and not row["header"] for row in rows)
    assert sum(row["events"] for row in rows) == 3 * len(TICKS)
    expected = Expected(TICKS)
    equal = {stage: sum(row["equal"] for row in rows if row["stage"] == stage) for stage in ("counting", "pairing")}
    told = {"counting": 2, "pairing": 2}  # rows that say the types of two tables, in every partition with events
    busy = sum(1 for row in rows if row["stage"] == "counting" and row["events"])
    assert equal["counting"] == len(expected.counts) + len(expected.last) + told["counting"] * busy
    assert equal["pairing"] == len(expected.loud) + len(expected.pairs) + told["pairing"] * busy
    assert all(row["equal"] > 0 for row in rows if row["events"])
    code, out, _ = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
    assert (code, out.split()[-1]) == (0, "yes")
    assert len(out.splitlines()) == 2


def test_a_wrong_row_a_missing_one_and_one_too_many(place, capsys):
    expected = Expected(TICKS)
    tamper(place, "counting", row_key("counts", UNIT), entry(number(place, UNIT), 12345))
    code, out, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting")
    assert code == 1
    (line,) = [line.split() for line in out.splitlines() if line.split()[1] == str(AT)]
    assert line[-4:] == ["1", "0", "0", "NO"]
    nth = number(place, UNIT)
    assert (
        f'counting[{AT}]: counts["{UNIT}"]: 12345 (number {nth}); '
        f"replayed: {expected.counts[UNIT]} (number {nth})\n" in err
    )
    assert all(row["verified"] for row in place.json_anyway(capsys, "verify", "TOPOLOGY") if row["partition"] != AT)

    tamper(place, "counting", row_key("last", UNIT), None)
    tamper(place, "counting", row_key("counts", "nobody"), entry(99, 1))
    code, out, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
    assert (code, out.split()[-4:]) == (1, ["1", "1", "1", "NO"])
    assert f'last["{UNIT}"]: ' in err
    assert "it is not kept" in err
    assert 'counts["nobody"]: 1 (number 99); replayed: none' in err
    code, out, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT), "--rows", "1")
    assert (code, "and 2 more rows" in err) == (1, True)


def test_a_wrong_window(place, capsys):
    stage = f"{place.name}-windows"
    rows = {key: value for key, value in last(place, stage).items() if key != HEAD and value is not None}
    key, value = next(iter(rows.items()))
    tamper(place, stage, key[1:], value[:-1] + bytes([value[-1] ^ 1]))
    code, out, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", stage, "-p", str(AT))
    assert (code, out.split()[-4:]) == (1, ["1", "0", "0", "NO"])
    assert f"row {key[1:].hex()}: " in err


def test_a_position_that_is_wrong(place, capsys):
    """Rows of all events, and a head that says that they are of fewer."""
    head = head_of(place, "counting")
    short = msgspec.structs.replace(head, positions={name: at - 5 for name, at in head.positions.items()})
    write(place, "counting", HEAD, encode(short))
    (row,) = place.json_anyway(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
    assert not row["verified"]
    assert row["different"] > 0
    assert row["header"][0].startswith("time: ")


def test_state_of_another_topic_or_of_another_version(place, capsys):
    head = head_of(place, "counting")
    for other, said in (
        (
            msgspec.structs.replace(head, version="tables 0"),
            "written by another version of it: expected tables 1; found",
        ),
        (msgspec.structs.replace(head, marks={"sources": {place.source: "gone"}}), "that was deleted and made anew"),
    ):
        write(place, "counting", HEAD, encode(other))
        code, _, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
        assert code == 1
        assert said in err


def test_wrong_use(place, capsys):
    code, _, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "nothing")
    assert (code, "no stage 'nothing'" in err) == (2, True)
    code, _, err = place.run(capsys, "verify", "TOPOLOGY", "-p", "9")
    assert (code, "has no partition 9: it has 0 to 2" in err) == (2, True)


def test_from_a_snapshot(ran, capsys, tmp_path):
    place = ran
    asyncio.run(keep(place, tmp_path))
    place.publish(made(900)[600:])
    asyncio.run(place.work())
    words = (
        "verify",
        "TOPOLOGY",
        "--stage",
        "counting",
        "-p",
        str(AT),
        "--from",
        "snapshot",
        "--snapshots",
        str(tmp_path),
    )
    (row,) = place.json(capsys, *words)
    assert row["verified"]
    ((begin, end),) = row["offsets"].values()
    assert 0 < begin < end
    assert row["events"] == end - begin
    tamper(place, "counting", row_key("counts", UNIT), entry(number(place, UNIT), 1))
    assert place.run(capsys, *words)[0] == 1
    code, _, err = place.run(capsys, *words[:-1], str(tmp_path / "nowhere"))
    assert (code, "no snapshot of" in err) == (1, True)


async def keep(place: Place, folder: Path) -> None:
    """Snapshots of all that a stage has kept."""
    topic = place.changelog("counting")
    admin = KafkaAdmin(place.kafka)
    ids = await admin.ids([topic])
    await admin.close()
    reader = ChangelogReader(place.kafka)
    await reader.start()
    for partition in range(PARTITIONS):
        found = await reader.read(topic, partition)
        if found.head is not None:
            assert snapshot.write(folder, snapshot.Place(topic, ids[topic], partition), found, int(time.time() * 1000))
    await reader.close()


def test_a_source_that_has_forgotten(ran, capsys):
    """What the replay lacks is told, and that not all is verified; with a snapshot of before, all is."""
    place, admin = ran, AdminClient(ran.kafka.librdkafka())
    for future in admin.delete_records([TopicPartition(place.source, AT, 40)]).values():
        future.result(20)
    code, out, err = place.run(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
    assert (code, out.split()[-2:]) == (1, ["in", "part"])
    assert f"{place.source} has no records before offset 40 any more" in err
    (row,) = place.json_anyway(capsys, "verify", "TOPOLOGY", "--stage", "counting", "-p", str(AT))
    ((begin, _),) = row["offsets"].values()
    assert (row["verified"], row["whole"], begin) == (False, False, 40)
    assert row["equal"] > 0  # last values, which do not depend on what came before
    code, _, err = place.run(capsys, "verify", "TOPOLOGY", "--from", "snapshot")
    assert (code, err) == (2, "error: --from snapshot and --snapshots FOLDER go together\n")
