"""``streamproc tables`` on a real Kafka: what a worker has kept, seen without it."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import time
import uuid

import pytest

from streamproc.runtime.topics import topic_specs
from tests.cli import table_topology
from tests.cli.kit import command
from tests.cli.table_kit import START, TOPOLOGY, Expected, Place, made
from tests.cli.table_topology import NAME

pytestmark = pytest.mark.e2e
TICKS = made(400)


@pytest.fixture(scope="module")
def ran(broker, tmp_path_factory):
    """A topology whose worker has kept all, and has gone."""
    with pytest.MonkeyPatch.context() as patch:
        name = f"t{uuid.uuid4().hex[:8]}"
        patch.setenv(NAME, name)
        place = Place(broker.settings, name, tmp_path_factory.mktemp("tables"))
        asyncio.run(place.make_topics())
        place.publish(TICKS)
        asyncio.run(place.work())
        yield place


@pytest.fixture
def run(ran, capsys):
    return lambda *words: ran.run(capsys, "tables", *words)


def test_list(ran, capsys, run):
    rows = ran.json(capsys, "tables", "list", "TOPOLOGY")
    expected = Expected(TICKS)
    found = {(row["table"], row["stage"]): row for row in rows}
    assert found["counts", "counting"] == {
        "table": "counts",
        "kind": "table",
        "key": "str",
        "value": "int",
        "ttl": "-",
        "stage": "counting",
        "rows": len(expected.counts),
        "bytes": found["counts", "counting"]["bytes"],
    }
    assert (found["last", "counting"]["rows"], found["last", "counting"]["ttl"]) == (len(expected.last), "1h")
    assert found["counts", "pairing"]["rows"] == len(expected.loud)
    assert found["pairs", "pairing"]["rows"] == len(expected.pairs)
    assert found["pairs", "pairing"]["bytes"] > 10 * len(expected.pairs)
    assert (found["unused", "-"]["rows"], found["models", "-"]["kind"]) == (0, "volatile")
    windows = found["(windows)", f"{ran.name}-windows"]
    assert (windows["kind"], windows["rows"] > 0) == ("windows", True)
    code, out, err = run("list", "TOPOLOGY")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["table", "key", "value", "ttl", "stage", "rows", "bytes"]


def test_get(ran, capsys, run):
    expected = Expected(TICKS)
    before = int(time.time() * 1000)
    for unit, count in expected.counts.items():
        (row,) = ran.json(capsys, "tables", "get", "TOPOLOGY", "counts", unit)
        assert (row["key"], row["value"], row["stage"]) == (unit, count, "counting")
        assert before - 600_000 < row["kept"] <= before
        assert row["positions"][ran.source] == sum(1 for t in TICKS if lies(t.unit) == lies(unit))
        (row,) = ran.json(capsys, "tables", "get", "TOPOLOGY", "last", unit)
        last = expected.last[unit]
        assert (row["value"], row["written"]) == ({"ts": last.ts, "x": last.x}, last.ts)
    for key, values in expected.pairs.items():
        (row,) = ran.json(capsys, "tables", "get", "TOPOLOGY", "pairs", json.dumps(key))
        assert (row["key"], row["value"]) == (list(key), values)
    code, out, err = run("get", "TOPOLOGY", "counts", "u3")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ['key      "u3"  (str)', f"value    {expected.counts['u3']}  (int)"]
    assert "\nstate    all before offset " in out


def lies(unit: str) -> int:
    from streamproc.log.partition import partition_of

    return partition_of(unit.encode(), table_topology.PARTITIONS)


def test_a_row_outside_its_keys_own_partition(ran, capsys, run):
    """An agent may use any keys: rows of U0 lie where u0's events are."""
    elsewhere = [unit for unit in (f"u{i}" for i in range(7)) if lies(unit) != lies(unit.upper())]
    assert elsewhere, "no key to try it with"
    for unit in elsewhere:
        (row,) = ran.json(capsys, "tables", "get", "TOPOLOGY", "counts", unit.upper())
        assert (row["partition"], row["value"]) == (lies(unit), Expected(TICKS).loud[unit.upper()])
    code, _, err = run("get", "TOPOLOGY", "counts", elsewhere[0].upper(), "--stage", "counting")
    assert (code, err) == (
        1,
        f"error: table 'counts' has no row with the key {elsewhere[0].upper()!r} in stage 'counting'\n",
    )


def test_scan(ran, capsys, run):
    expected = Expected(TICKS)
    code, out, err = run("scan", "TOPOLOGY", "counts", "-n", "0", "-o", "json")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert {row["key"]: row["value"] for row in rows} == expected.counts | expected.loud
    assert len(rows) == len(expected.counts) + len(expected.loud)
    for partition in range(3):  # in the order in which keys came
        units = [row["key"] for row in rows if (row["stage"], row["partition"]) == ("counting", partition)]
        assert units == [unit for unit in expected.counts if lies(unit) == partition]

    code, out, err = run("scan", "TOPOLOGY", "counts", "--limit", "3")
    assert (code, len(out.splitlines()), err) == (0, 3, "the first 3; --limit for more\n")
    keys = [
        json.loads(line)["key"]
        for line in run("scan", "TOPOLOGY", "counts", "--prefix", "U", "-o", "json")[1].splitlines()
    ]
    assert sorted(keys) == sorted(expected.loud)
    words = ("--where", "value.x >= 50", "--where", "key != u3", "-o", "json")
    found = [json.loads(line)["key"] for line in run("scan", "TOPOLOGY", "last", *words)[1].splitlines()]
    assert sorted(found) == sorted(unit for unit, last in expected.last.items() if last.x >= 50 and unit != "u3")
    assert "u0" in run("scan", "TOPOLOGY", "last", "--prefix", "u0")[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["get", "TOPOLOGY", "nothing", "a"], 2, "has no table 'nothing': it has counts, last, models, pairs, unused"),
        (["scan", "TOPOLOGY", "models"], 2, "table 'models' is volatile: its rows are in the worker's memory only"),
        (["get", "TOPOLOGY", "unused", "x"], 2, "keys of int: expected a whole number of 64 bits; got 'x'"),
        (["get", "TOPOLOGY", "unused", "9" * 30], 2, "expected a whole number of 64 bits"),
        (["get", "TOPOLOGY", "pairs", "u0"], 2, "expected a JSON array of its parts, bytes as base64; got 'u0'"),
        (["get", "TOPOLOGY", "pairs", '["u0"]'], 2, "expected a JSON array of its parts"),
        (["get", "TOPOLOGY", "counts", "u99"], 1, "table 'counts' has no row with the key 'u99' in any stage"),
        (
            ["get", "TOPOLOGY", "counts", "u1", "--stage", "x"],
            2,
            "no stage 'x' that keeps tables: it has counting, pairing",
        ),
        (["scan", "TOPOLOGY", "counts", "--where", "value"], 2, "--where: expected such as 'value > 3'"),
    ],
)
def test_wrong_use(run, words, code, said):
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_before_any_worker(ran, capsys, monkeypatch):
    monkeypatch.setenv(NAME, "never-ran")
    code, out, err = ran.run(capsys, "tables", "list", "TOPOLOGY")
    assert (code, out) == (1, "")
    assert "a worker makes the changelogs when it starts" in err


def test_no_broker(ran, capsys):
    from streamproc.cli.main import main

    code = main(["tables", "get", TOPOLOGY, "counts", "u1", "--bootstrap", "127.0.0.1:1"])
    assert code == 3
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_changelog_with_something_else_in_it(broker, tmp_path, capsys, monkeypatch, name):
    from confluent_kafka import Producer

    monkeypatch.setenv(NAME, name)
    place = Place(broker.settings, name, tmp_path)
    asyncio.run(place.make_topics())
    assert place.json(capsys, "tables", "list", "TOPOLOGY")[0]["rows"] == 0  # made, and nothing in it
    assert {spec.name for spec in topic_specs(place.app)} >= {place.changelog("counting")}
    producer = Producer(broker.settings.librdkafka())
    producer.produce(place.changelog("counting"), b"x", b"foreign", partition=1)
    producer.flush(20)
    code, _, err = place.run(capsys, "tables", "scan", "TOPOLOGY", "counts")
    assert code == 1
    assert f"{place.changelog('counting')}[1] offset 0: a record with the key b'foreign'" in err


def test_ctrl_c_ends_it(ran):
    """While it waits for a broker that never answers."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        silent.settimeout(60)
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        words = (
            "-X",
            "faulthandler",
            "-m",
            "streamproc",
            "tables",
            "get",
            TOPOLOGY,
            "counts",
            "u1",
            "--bootstrap",
            where,
        )
        with command(*words) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            connection.close()
            assert process.returncode == 130


def test_bytes_are_base64():
    from streamproc.define.table import Table
    from streamproc.state.table_rows import WrongKey, key_of, plain

    table = Table("t", key=bytes, value=int)
    assert key_of(table, base64.b64encode(b"\x00\xff").decode()) == b"\x00\xff"
    with pytest.raises(WrongKey, match="expected base64"):
        key_of(table, "???")
    assert plain({1: b"a", (1, "b"): [float("nan"), 2.5, None, (True,)]}) == {
        "1": "YQ==",
        '[1, "b"]': [None, 2.5, None, [True]],
    }
    assert START > 0
