"""``streamproc dlq`` on a real Kafka: letters as workers and gateways write them, and what is put back."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
import typer
from confluent_kafka import Consumer, Producer, TopicPartition

from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.registry import open_registry
from streamproc.cli.letters import Letters, Wanted
from streamproc.cli.main import main
from streamproc.cli.putback import HEADER, PutBack
from streamproc.cli.replay_plan import plan
from streamproc.cli.values import shown
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import BrokerError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import Message
from streamproc.runtime.outlet import cut
from streamproc.runtime.topics import topic_specs
from tests.e2e import topology
from tests.e2e.kit import TOPOLOGY
from tests.e2e.topology import NAME, Event

pytestmark = pytest.mark.e2e


class Place:
    """An app's topics on the broker, and the command."""

    def __init__(self, kafka: Any, name: str, folder: Any, capsys: Any) -> None:
        self.kafka, self.name, self.url, self.capsys = kafka, name, f"file:{folder / 'registry.json'}", capsys
        self.app = topology.build(name)
        self.registry = open_registry(self.url)
        self.events = f"{name}-events"
        self.topic = self.app.dead_letters.name
        self.letters = Codec.of(self.app.dead_letters, self.registry)
        self.codec = Codec.of(self.app.topics[self.events], self.registry)
        self.producer = Producer(kafka.librdkafka() | {"linger.ms": 5, "log_level": 0, "enable.idempotence": True})
        asyncio.run(self.ensure())

    async def ensure(self) -> None:
        admin = KafkaAdmin(self.kafka)
        await admin.ensure([spec for spec in topic_specs(self.app, 1) if spec.name in (self.events, self.topic)])
        await admin.close()

    def wire(self, id: str, text: str = "") -> bytes:
        return self.codec.encode(Event(id, f"u{id}", 1000, 0.5, text))

    def send(self, topic: str, value: bytes | None, **named: Any) -> int:
        """Produces a record, and returns its offset."""
        at: list[Any] = []
        self.producer.produce(topic, value, on_delivery=lambda error, message: at.append(message.offset()), **named)
        self.producer.flush(20)
        return int(at[0])

    def letter(self, value: bytes | None = b"", **named: Any) -> int:
        """Puts a letter into the topic, of an event that nothing has any more unless told."""
        fields: dict[str, Any] = {
            "time": int(time.time() * 1000),
            "app": self.name,
            "stage": "shaky",
            "reason": "agent_error",
            "error": "ValueError: no",
            "topic": self.events,
            "partition": 1,
            "offset": 7,
            "key": b"k",
        }
        letter = DeadLetter(**fields | {"value": value} | named)
        return self.send(self.topic, self.letters.encode(letter), timestamp=letter.time)

    def dead(self, id: str, *, partition: int = 1, headers: Any = None, **named: Any) -> int:
        """An event in its topic, and a letter about it."""
        wire, key = self.wire(id), f"u{id}".encode()
        at = self.send(self.events, wire, key=key, partition=partition, timestamp=5000, headers=headers)
        return self.letter(wire, **{"partition": partition, "offset": at, "key": key} | named)

    def run(self, command: str, *words: str, where: str = TOPOLOGY) -> tuple[int, str, str]:
        code = main(["dlq", command, where, *words, "--bootstrap", self.kafka.bootstrap, "--registry", self.url])
        return (code, *self.capsys.readouterr())

    def listed(self, *words: str) -> list[dict[str, Any]]:
        code, out, err = self.run("list", "-o", "json", *words)
        assert (code, err) == (0, "")
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def back(self) -> list[Message]:
        """The records that were put back."""
        return [raw for raw in self.records() if dict(raw.headers).get(HEADER)]

    def records(self) -> list[Message]:
        """All events that are committed, read by a client that has nothing to do with the command."""
        conf = {"group.id": "all", "enable.auto.commit": False, "enable.partition.eof": True}
        conf["auto.offset.reset"] = "earliest"  # a broker may not know a partition's offsets at once
        consumer = Consumer(self.kafka.librdkafka() | conf)
        consumer.assign([TopicPartition(self.events, partition, 0) for partition in range(3)])
        found, ended = [], 0
        while ended < 3:
            raw = consumer.poll(10)
            assert raw is not None
            if raw.error() is not None:
                ended += 1
                continue
            headers = tuple((name, value or b"") for name, value in raw.headers() or ())
            at = raw.topic(), raw.partition(), raw.offset(), raw.timestamp()[1]
            found.append(Message(*at, raw.key(), raw.value(), headers))
        consumer.close()
        return found


@pytest.fixture
def place(kafka, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(NAME, name)
    made = Place(kafka, name, tmp_path, capsys)
    yield made
    del made.producer


class TestList:
    def test_the_newest_last_and_filters(self, place):
        assert place.run("list") == (0, "offset  time  stage  reason  where  error\n", "")
        place.letter(time=1_000, error="ValueError: an old one")
        place.letter(stage="decode", reason="undecodable", error="a zero byte\nfirst " + "x" * 100, offset=8)
        place.letter(stage="ingest", reason="invalid", offset=None, partition=None, session="s1", error="y" * 100)
        code, out, err = place.run("list")
        assert (code, err) == (0, "")
        head, *rows = [re.split(r"  +", line.strip()) for line in out.splitlines()]
        assert head == ["offset", "time", "stage", "reason", "where", "error"]
        where = f"{place.events}[1] 7"
        assert rows[0] == ["0", "1970-01-01T00:00:01Z", "shaky", "agent_error", where, "ValueError: an old one"]
        assert [row[0] for row in rows] == ["0", "1", "2"]
        assert rows[1][-1] == "a zero byte"
        assert rows[2][-2:] == [f"{place.events} session s1", "y" * 79 + "…"]

        assert [row["offset"] for row in place.listed()] == [0, 1, 2]
        assert [row["offset"] for row in place.listed("--stage", "decode")] == [1]
        assert [row["offset"] for row in place.listed("--reason", "invalid")] == [2]
        assert place.listed("--topic", "other") == []
        assert [row["offset"] for row in place.listed("--since", "1h")] == [1, 2]
        assert [row["offset"] for row in place.listed("--since", "1970-01-01T00:00:01Z")] == [0, 1, 2]
        assert place.listed("--since", "2999-01-01") == []
        place.letter(time=2_000, stage="late")  # put aside before those that lie before it
        assert [row["offset"] for row in place.listed("--since", "1h")] == [1, 2]
        assert [row["offset"] for row in place.listed()] == [0, 3, 1, 2]
        assert [row["offset"] for row in place.listed("--limit", "2")] == [1, 2]
        assert place.run("list", "-n", "2")[2] == "the newest 2; --limit for more\n"
        assert place.listed("--stage", "shaky") == [
            {
                "partition": 0,
                "offset": 0,
                "time": 1000,
                "stage": "shaky",
                "reason": "agent_error",
                "topic": place.events,
                "at": [1, 7],
                "session": None,
                "error": "ValueError: an old one",
                "replayed": None,
            }
        ]

    def test_looking_backwards_finds_all_that_looking_forwards_does(self, place, monkeypatch):
        for i in range(25):
            place.letter(offset=i, stage="a" if i % 3 else "b", time=1000 + i)
        monkeypatch.setattr("streamproc.cli.letters._FIRST_LOOK", 2)
        monkeypatch.setattr("streamproc.cli.letters._LARGEST_LOOK", 4)
        assert [row["offset"] for row in place.listed("--stage", "b", "--limit", "4")] == [15, 18, 21, 24]
        assert [row["offset"] for row in place.listed()] == list(range(25))

    def test_by_the_topics_name(self, place):
        place.letter()
        assert place.run("list", where=place.topic) == place.run("list")

    def test_what_a_client_sent_does_not_reach_the_terminal_raw(self, place):
        at = place.letter(error="\x1b[2Jgone", topic="a\x1b[1mb", session="x", offset=None, partition=None)
        for words in (["list"], ["show", str(at)]):
            out = place.run(words[0], *words[1:])[1]
            assert "\x1b" not in out
            assert "�[2Jgone" in out

    def test_records_that_are_no_letters(self, place):
        place.send(place.topic, b"what")
        code, out, err = place.run("list")
        assert (code, out) == (1, "")
        assert err.startswith(
            f"error: a record is no dead letter, {place.topic}[0] offset 0: expected at least 5 bytes"
        )
        place.letter()
        place.send(place.topic, FRAME.pack(0, 999) + b"what")
        code, out, err = place.run("count")
        assert (code, len(out.splitlines())) == (0, 2)
        assert err.startswith(f"2 are no dead letters, {place.topic}[0] offset 0")
        assert place.run("show", "0")[0] == 1

    def test_another_registry(self, place, tmp_path):
        place.letter()
        place.url = f"file:{tmp_path / 'other.json'}"
        code, _, err = place.run("list")
        assert code == 1
        assert "is not in the registry: --registry names the worker's" in err
        assert not (tmp_path / "other.json").exists()  # nothing was added to it

    def test_wrong_use(self, place, kafka, monkeypatch):
        assert place.run("list", "--since", "soon") == (
            2,
            "",
            "error: --since: expected 1h, 30m or a time such as 2026-01-31T12:00Z; got 'soon'\n",
        )
        code, _, err = place.run("list", where="nothing-dead-letters")
        assert (code, err) == (
            1,
            "error: no topic 'nothing-dead-letters' on this broker: give MODULE:APP, FILE.py:APP, or a topic of dead "
            "letters\n",
        )
        monkeypatch.setenv(NAME, "another")
        assert "a worker or gateway makes its topology's topics when it starts" in place.run("list")[2]


def test_count(place):
    for stage in ("a", "b", "b"):
        place.letter(stage=stage)
    place.letter(stage="ingest", reason="malformed", topic=None, partition=None, offset=None, session="s")
    code, out, err = place.run("count", "-o", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"letters": 2, "stage": "b", "reason": "agent_error", "topic": place.events},
        {"letters": 1, "stage": "a", "reason": "agent_error", "topic": place.events},
        {"letters": 1, "stage": "ingest", "reason": "malformed", "topic": "-"},
    ]
    assert place.run("count", "--stage", "a")[1].splitlines()[1].split() == ["1", "a", "agent_error", place.events]


class TestShow:
    def test_everything(self, place):
        at = place.letter(place.wire("7", "hé"), error="ValueError: 7\nand more", traceback="Traceback\n  line\n")
        code, out, err = place.run("show", str(at))
        assert (code, err) == (0, "")
        value = '{"id":"7","unit":"u7","ts":1000,"x":0.5,"text":"hé"}'
        lines = out.splitlines()
        assert lines[4:7] == ["stage      shaky", "reason     agent_error", f"from       {place.events}[1] 7"]
        assert lines[7:] == [
            "error      ValueError: 7",
            "           and more",
            "key        k",
            f"value      {value}",
            "value is   Event, schema 2",
            "traceback  Traceback",
            "             line",
        ]
        (found,) = json.loads(place.run("show", str(at), "-o", "json")[1])
        assert (found["value"], found["value is"], found["replayed"]) == (value, "Event, schema 2", [])

    def test_values_that_are_no_avro(self, place):
        for data, form, text in (
            (b'{"id": 1}', "text", '{"id": 1}'),
            (b"\x00\x00\x00\x00\x02\x01", "hex", "000000000201"),  # of a schema that is there, and not its record
            (b"\x00\x00\x00\x03\xe7\x01", "hex", "000000000003e701"[4:]),
            (b"\xff\xfe", "hex", "fffe"),
            (b"\x1b[2J", "hex", "1b5b324a"),
            (b"", "text", ""),
        ):
            assert shown(data, place.registry) == (form, text)
        assert shown(None, place.registry) == (None, None)

    def test_letters_that_are_not_there(self, place):
        assert "no letter at offset 3 of" in place.run("show", "3")[2]
        place.letter()
        assert place.run("show", "1")[2].endswith("it has offsets 0 to 0\n")
        assert place.run("show", "0", "-p", "1")[2].endswith("has no partition 1: it has 0 to 0\n")


class TestReplay:
    def test_the_record_comes_back_as_it_was(self, place):
        first = place.dead("1", headers=[("trace", b"t1"), ("none", b""), ("streamproc-id", b"9")])
        place.dead("2", partition=2)
        code, out, err = place.run("replay", str(first), "--yes")
        assert (code, out, err) == (0, f"1 letter replayed, into {place.events} (1)\n", "")
        before, after = [raw for raw in place.records() if raw.key == b"u1"]
        assert (after.key, after.value, after.timestamp, after.partition) == (*before[4:6], 5000, 1)
        assert after.headers == (("trace", b"t1"), ("none", b""), (HEADER, f"{place.topic}/0/{first}".encode()))

    def test_once_unless_it_is_wanted_again(self, place):
        place.dead("1")
        place.dead("2", partition=0)
        assert place.run("replay", "0", "-y")[:2] == (0, f"1 letter replayed, into {place.events} (1)\n")
        code, out, err = place.run("replay", "--all", "-y")
        assert (code, out) == (0, f"1 letter replayed, into {place.events} (1)\n")
        assert err == "1 letter was replayed before: left out; --again takes them too\n"
        code, out, err = place.run("replay", "--all", "-y")
        assert (code, out) == (0, "0 letters replayed\n")
        assert err == "2 letters were replayed before: left out; --again takes them too\n"
        assert sorted(raw.key for raw in place.back()) == [b"u1", b"u2"]
        code, out, err = place.run("replay", "1", "-y", "--again")
        assert (code, out) == (0, f"1 letter replayed, into {place.events} (1)\n")
        assert err == "1 letter was replayed before: once more now\n"
        assert sorted(raw.key for raw in place.back()) == [b"u1", b"u2", b"u2"]

        rows = place.listed()
        assert [bool(row["replayed"]) for row in rows] == [True, True]
        assert "ValueError: no (replayed)" in place.run("list")[1]
        told = [line for line in place.run("show", "1")[1].splitlines() if "put back as" in line]
        assert len(told) == 2
        assert told[0].endswith(f"put back as {place.events}[0] offset 1")
        assert len(place.run("count")[1].splitlines()) == 2  # notes are no letters
        assert "is no letter, but the note that another was replayed" in place.run("show", "2")[2]

    def test_filters_choose(self, place):
        for id in ("1", "2", "3"):
            place.dead(id, stage=f"s{id}")
        assert place.run("replay", "--stage", "s2", "-y")[0] == 0
        assert [raw.key for raw in place.back()] == [b"u2"]

    def test_nobody_to_ask_and_nothing_said(self, place):
        place.dead("1")
        code, out, err = place.run("replay", "0")
        assert (code, out) == (2, "")
        assert (
            err == f"error: 1 letter would be replayed, into {place.events} (1): say --yes where nobody can be asked\n"
        )
        assert place.run("replay")[2] == "error: say which: offsets, a filter such as --stage, or --all\n"
        assert place.run("replay", "0", "--all")[0] == 2
        assert "no letter at offset 5" in place.run("replay", "0", "5", "-y")[2]
        assert place.back() == []

    def test_asking(self, place, monkeypatch):
        place.dead("1")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        for answer, code in ((False, 130), (True, 0)):

            def confirm(text: str, abort: bool, answer: bool = answer) -> bool:
                assert text.startswith(f"Put 1 letter back into {place.events} (1)?")
                if not answer:
                    raise typer.Abort
                return True

            monkeypatch.setattr("typer.confirm", confirm)
            assert place.run("replay", "0")[0] == code
        assert len(place.back()) == 1

    def test_records_that_their_topic_has_no_more(self, place):
        """The letter's own bytes are taken; and nothing, where they are not all of the record's."""
        wire = place.wire("9", "x" * 3000)
        place.letter(wire, key=b"u9", offset=400, time=9000)
        small = cut(DeadLetter(0, "a", "b", "c", "d", value=wire), 2000)
        place.letter(small.value, error=small.error, offset=401)
        place.letter(wire, stage="decode", reason="undecodable", offset=402)
        place.letter(wire, topic="nowhere", offset=1)
        code, out, err = place.run("replay", "--all", "-y")
        assert (code, out) == (0, f"1 letter replayed, into {place.events} (1)\n")
        gone = f"{place.events} has not their records any more"
        assert sorted(err.splitlines()) == [
            "1 letter left out: came from nowhere, which is not there any more",
            f"1 letter left out: have bytes that are kept in part only, and {gone}",
            f"1 letter left out: have bytes that may be those of many records, and {gone}",
        ]
        (raw,) = place.back()
        assert (raw.key, raw.value, raw.partition, raw.timestamp) == (b"u9", wire, 1, 9000)
        assert [name for name, _ in raw.headers] == [HEADER]

    def test_cut_and_undecodable_ones_come_from_their_topic(self, place):
        wire = place.wire("9", "x" * 3000)
        at = place.send(place.events, wire, key=b"u9", partition=0)
        small = cut(DeadLetter(0, "a", "b", "c", "d", value=wire), 2000)
        assert len(small.value or b"") < len(wire)
        place.letter(small.value, error=small.error, partition=0, offset=at, key=b"u9")
        bad = place.send(place.events, b"bad", key=b"b", partition=0)
        place.letter(b"bad", stage="decode", partition=0, offset=bad, key=b"b")
        assert place.run("replay", "--all", "-y")[1] == f"2 letters replayed, into {place.events} (2)\n"
        assert [raw.value for raw in place.back()] == [wire, b"bad"]

    def test_another_record_at_that_offset_is_not_mistaken_for_it(self, place):
        """The topic was deleted and made anew."""
        place.send(place.events, place.wire("1"), key=b"u1", partition=1, headers=[("trace", b"other")])
        place.letter(place.wire("2"), partition=1, offset=0, key=b"u2")
        place.run("replay", "--all", "-y")
        (raw,) = place.back()
        assert (raw.value, raw.headers) == (place.wire("2"), ((HEADER, f"{place.topic}/0/0".encode()),))

    def test_what_never_was_in_kafka_goes_through_validation(self, place):
        session = {"partition": None, "offset": None, "key": None, "session": "s", "stage": "ingest"}
        place.letter(b'{"id": "7", "unit": "u7", "ts": 1, "x": 2.5, "text": ""}', **session)
        place.letter(b'{"id": "7", "unit": "u7", "ts": 1, "x": "no"}', **session)
        place.letter(b"{", **session | {"topic": None})
        place.letter(b"{}", **session | {"topic": f"{place.name}-big"})
        place.letter(b"{}", **session | {"topic": "unknown"})
        place.letter(None)
        code, out, err = place.run("replay", "--all", "-y")
        assert (code, out) == (0, f"1 letter replayed, into {place.events} (1)\n")
        assert sorted(err.splitlines()) == [
            f"1 letter left out: came from a WebSocket session, and clients may not publish to {place.name}-big",
            "1 letter left out: came from a WebSocket session, for a topic that it does not name",
            f"1 letter left out: do not fit {place.events} still: x: Expected `float`, got `str`",
            "1 letter left out: has no value",
            "1 letter left out: never was in Kafka, and the topology has no topic unknown",
        ]
        (raw,) = place.back()
        assert (raw.key, place.codec.decode(raw.value)) == (b"u7", Event("7", "u7", 1, 2.5, ""))
        assert "give the topology" in place.run("replay", "1", "-y", where=place.topic)[2]

    def test_many_in_several_transactions(self, place, monkeypatch):
        monkeypatch.setattr("streamproc.cli.putback._CHUNK", 7)
        monkeypatch.setattr("streamproc.cli.originals._NEAR", 3)
        for i in range(40):
            place.producer.produce(place.events, place.wire(str(i)), f"u{i}".encode(), partition=i % 2)
        place.producer.flush(20)
        for raw in place.records():
            if raw.offset % 4 != 1:
                place_of = {"topic": raw.topic, "partition": raw.partition, "offset": raw.offset}
                letter = DeadLetter(1, place.name, "s", "r", "e", key=raw.key, value=raw.value, **place_of)
                place.producer.produce(place.topic, place.letters.encode(letter))
        place.producer.flush(20)
        assert place.run("replay", "--all", "-y")[1] == f"30 letters replayed, into {place.events} (30)\n"
        wanted = [(i % 2, f"u{i}".encode()) for i in range(40) if i // 2 % 4 != 1]
        assert sorted((raw.partition, raw.key) for raw in place.back()) == sorted(wanted)
        assert place.run("replay", "--all", "-y")[1] == "0 letters replayed\n"

    def test_of_two_at_the_same_time_the_first_stops(self, place):
        place.dead("1")
        first = PutBack(place.kafka, place.topic, place.registry, place.app, limit=0)
        with Letters(place.kafka, place.topic, place.registry) as letters:
            what = plan(letters, Wanted(), place.app, offsets=None, again=False)
            assert len(what) == 1
            assert place.run("replay", "--all", "-y")[0] == 0
            with pytest.raises(BrokerError, match="somebody else began to replay"):
                list(first.run(letters, what))
        first.close()
        assert place.run("replay", "--all", "-y")[1] == "0 letters replayed\n"
        assert len(place.back()) == 1

    def test_a_failure_leaves_no_record_without_its_note(self, place, monkeypatch):
        place.dead("1")

        def broken(*_: Any) -> None:
            raise RuntimeError("power cut")

        with monkeypatch.context() as patch:
            patch.setattr(PutBack, "_note", broken)
            assert place.run("replay", "--all", "-y")[:2] == (1, "0 letters replayed\n")
        assert [raw for raw in place.back() if raw.headers] == []  # readers of what is committed
        assert place.run("replay", "--all", "-y")[1] == f"1 letter replayed, into {place.events} (1)\n"
        assert len(place.back()) == 1


def test_offsets_of_transactions_are_passed_over(place):
    """A transaction's marker takes an offset, also the last one."""
    place.dead("1")
    place.run("replay", "0", "-y")
    last = place.letter(offset=9)
    assert last == 3  # behind the note and the marker, which the command has waited for
    place.run("replay", str(last), "-y")
    assert [row["offset"] for row in place.listed()] == [0, last]
