"""Snapshots: made of the last one and what came since, used at a start, and never where they do not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc.errors import BrokerUnavailable, StateError
from streamproc.process.state import binary
from streamproc.runtime import snapshots
from streamproc.runtime.snapshots import Snapshots
from streamproc.state.restore import NOTHING, Restored
from tests.state.kit import head

TOPIC = "app-stage-changelog"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Reader:
    """A changelog of one row that counts up; remembers from where it was read."""

    def __init__(self) -> None:
        self.at, self.read_from = 0, list[int]()
        self.error: Exception | None = None
        self.refuses_rest = False
        self.holds: asyncio.Event | None = None  # until then nothing that is read comes
        self.in_work = False

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def end(self, topic: str, partition: int) -> int:
        if self.error is not None:
            raise self.error
        return self.at

    async def read(self, topic: str, partition: int, onto: Restored = NOTHING) -> Restored:
        self.read_from.append(onto.next_offset)
        if self.refuses_rest and onto is not NOTHING:
            raise StateError("the topic was made anew")
        assert not self.in_work, "it is being read already"
        self.in_work = True
        try:
            if self.holds is not None:
                await self.holds.wait()
        finally:
            self.in_work = False
        return Restored(head(self.at), binary([b"row"]), binary([b"%d" % self.at]), self.at)


def made(reader: Reader, folder: Path | None, **ids: str) -> Snapshots:
    known: Any = reader
    return Snapshots(known, folder, ids or {TOPIC: "id"}, every=0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def renewed(reader: Reader, folder: Path) -> None:
    """A worker that lives until it has made a snapshot."""
    some = made(reader, folder)
    await some.start()
    await some.read(TOPIC, 3, "v1")
    reader.at += snapshots._LEAST
    await until(lambda: f"{TOPIC}-3.state" in files(folder))
    await some.close()


def test_a_start_reads_only_what_came_behind_the_snapshot(tmp_path: Path) -> None:
    async def test() -> None:
        reader = Reader()
        await renewed(reader, tmp_path)
        upto = reader.at
        reader.at += 5
        reader.read_from.clear()
        found = await made(reader, tmp_path).read(TOPIC, 3, "v1")
        assert reader.read_from == [upto]
        assert found.values.values() == [b"%d" % reader.at]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("topic", "partition", "version", "ids"),
    [(TOPIC, 4, "v1", {}), (TOPIC, 3, "v2", {}), (TOPIC, 3, "v1", {TOPIC: "another"}), (TOPIC, 3, "v1", {"x": "id"})],
)
def test_one_of_something_else_is_not_used(
    tmp_path: Path, topic: str, partition: int, version: str, ids: dict[str, str]
) -> None:
    async def test() -> None:
        reader = Reader()
        await renewed(reader, tmp_path)
        reader.read_from.clear()
        await made(reader, tmp_path, **ids).read(topic, partition, version)
        assert reader.read_from == [0]

    asyncio.run(test())


def test_one_that_the_changelog_does_not_go_on_from_is_not_used(tmp_path: Path) -> None:
    async def test() -> None:
        reader = Reader()
        await renewed(reader, tmp_path)
        reader.read_from.clear()
        reader.refuses_rest = True
        await made(reader, tmp_path).read(TOPIC, 3, "v1")
        assert reader.read_from[-1] == 0
        assert len(reader.read_from) == 2

    asyncio.run(test())


def test_little_change_is_not_worth_a_snapshot_and_an_absent_broker_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        reader = Reader()
        some = made(reader, tmp_path)
        await some.start()
        await some.read(TOPIC, 3, "v1")
        reader.at += snapshots._LEAST - 1
        await asyncio.sleep(0.1)
        assert files(tmp_path) == []
        reader.error = BrokerUnavailable("no Kafka")
        await asyncio.sleep(0.1)
        reader.error = None
        reader.at += 1
        await asyncio.sleep(0.2)
        assert files(tmp_path) == [f"{TOPIC}-3.state"]
        await some.close()

    asyncio.run(test())
    assert "no snapshot" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_tried_less_and_less_and_then_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streamproc.state")

    async def test() -> None:
        reader, folder = Reader(), tmp_path / "state"
        folder.touch()  # so that there can be no folder
        some = made(reader, folder)
        await some.start()
        for partition in (3, 4):
            await some.read(TOPIC, partition, "v1")
        reader.at += snapshots._LEAST
        await until(lambda: "another try in 0.08 s (3 failed)" in caplog.text)
        tried = [line for line in caplog.text.splitlines() if "no snapshot of" in line]
        assert [line.partition("-changelog")[2][:3] for line in tried[:3]] == ["[3]", "[4]", "[3]"]
        folder.unlink()
        await until(lambda: folder.exists() and len(files(folder)) == 2)
        assert "can be written to" in caplog.text
        await some.close()

    asyncio.run(test())


def test_a_keeper_does_not_wait_for_a_snapshot_of_what_it_wants_to_read(tmp_path: Path) -> None:
    async def test() -> None:
        reader = Reader()
        some = made(reader, tmp_path)
        await some.start()
        await some.read(TOPIC, 3, "v1")
        reader.at += snapshots._LEAST
        reader.holds = asyncio.Event()
        await until(lambda: reader.in_work)  # for a snapshot
        some.keep(set())  # the partition goes elsewhere, and comes back at once
        back = asyncio.create_task(some.read(TOPIC, 3, "v1"))
        await until(lambda: len(reader.read_from) == 3)
        await asyncio.sleep(0.1)  # looks go on meanwhile
        reader.holds.set()
        assert (await back).next_offset == reader.at
        await until(lambda: files(tmp_path) == [f"{TOPIC}-3.state"])
        await some.close()

    asyncio.run(test())


def test_no_more_snapshots_of_what_went_elsewhere_while_one_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        reader = Reader()
        some = made(reader, tmp_path)
        write = snapshots.snapshot.write

        def slow(*args: Any) -> bool:
            some.keep(set())
            return write(*args)

        monkeypatch.setattr(snapshots.snapshot, "write", slow)
        await some.start()
        await some.read(TOPIC, 3, "v1")
        reader.at += snapshots._LEAST
        await until(lambda: files(tmp_path) == [f"{TOPIC}-3.state"])
        count = len(reader.read_from)
        reader.at += snapshots._LEAST
        await asyncio.sleep(0.1)
        assert len(reader.read_from) == count
        await some.close()

    asyncio.run(test())


def test_without_a_folder_changelogs_are_read_whole(tmp_path: Path) -> None:
    async def test() -> None:
        reader = Reader()
        some = made(reader, None)
        await some.start()
        await some.read(TOPIC, 3, "v1")
        assert reader.read_from == [0]
        await some.close()

    asyncio.run(test())
