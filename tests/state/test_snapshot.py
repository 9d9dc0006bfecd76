"""Snapshots in files: whole and of the right state, or not used."""

from __future__ import annotations

import errno
import logging
import os
import random
import time
from pathlib import Path

import pytest

from streamproc import compiled
from streamproc.process.state import NO_TEXTS, binary
from streamproc.state import snapshot
from streamproc.state.restore import Restored
from streamproc.state.snapshot import Place, read, write
from tests.state.kit import head, rows

PLACE = Place("app-stage-changelog", "an-id", 3)
CHANCE = random.Random(1)
MANY = {b"%d" % i: CHANCE.randbytes(CHANCE.randrange(50)) for i in range(500)}


def state(kept: dict[bytes, bytes] = MANY, position: int = 7) -> Restored:
    # Backwards, so that places are not in the buffer's order.
    return Restored(head(position), binary(list(kept))[::-1], binary(list(kept.values()))[::-1], 1_234)


@pytest.fixture(params=[True, False], ids=["kernels", "python"], autouse=True)
def _ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not compiled.available():
        pytest.skip("no kernels")
    monkeypatch.setattr(compiled, "available", lambda: request.param)


@pytest.mark.parametrize("kept", [MANY, {b"": b""}, {}, {b"large": bytes(1 << 20)}])
def test_there_and_back(tmp_path: Path, kept: dict[bytes, bytes], caplog: pytest.LogCaptureFixture):
    assert write(tmp_path / "new", PLACE, state(kept), 5)
    found = read(tmp_path / "new", PLACE, "v1", 5)
    assert found is not None
    assert rows(found) == kept
    assert found.head == head(7)
    assert found.next_offset == 1_234
    assert not caplog.messages
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["app-stage-changelog-3.state"]


def test_the_bytes_do_not_depend_on_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a", PLACE, state(), 5)
    monkeypatch.setattr(compiled, "available", lambda: False)
    write(tmp_path / "b", PLACE, state(), 5)
    assert PLACE.path(tmp_path / "a").read_bytes() == PLACE.path(tmp_path / "b").read_bytes()


def test_the_last_one_counts(tmp_path: Path):
    for position in range(3):
        assert write(tmp_path, PLACE, state(position=position), 5)
    found = read(tmp_path, PLACE, "v1")
    assert found is not None
    assert found.head == head(2)


def unused(folder: Path, caplog: pytest.LogCaptureFixture, place: Place = PLACE, version: str = "v1") -> str:
    caplog.clear()
    assert read(folder, place, version, 5) is None
    (message,) = caplog.messages
    assert "is not used, and the changelog is read instead: " in message
    return message


def test_none_is_no_reason_to_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert read(tmp_path, PLACE, "v1") is None
    assert read(tmp_path / "nowhere", PLACE, "v1") is None
    assert not caplog.messages


def test_a_torn_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, PLACE, state({b"a": b"1", b"b": b"22"}), 5)
    data = PLACE.path(tmp_path).read_bytes()
    for end in range(len(data)):
        PLACE.path(tmp_path).write_bytes(data[:end])
        unused(tmp_path, caplog)
    PLACE.path(tmp_path).write_bytes(data + b"\0")
    assert "it is damaged" in unused(tmp_path, caplog)


def test_flipped_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, PLACE, state({b"a": b"1", b"b": b"22"}), 5)
    data = PLACE.path(tmp_path).read_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        PLACE.path(tmp_path).write_bytes(flipped)
        unused(tmp_path, caplog)


def resealed(folder: Path, change: bytes, by: bytes) -> None:
    """A file that was changed, and its digest made right again."""
    data = PLACE.path(folder).read_bytes()[:-16]
    assert data.count(change) == 1
    digest = snapshot._digest()
    digest.update(data.replace(change, by))
    PLACE.path(folder).write_bytes(data.replace(change, by) + digest.digest())


def test_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    PLACE.path(tmp_path).write_bytes(bytes(100))
    assert "not a snapshot" in unused(tmp_path, caplog)
    PLACE.path(tmp_path).unlink()
    PLACE.path(tmp_path).mkdir()
    assert "Is a directory" in unused(tmp_path, caplog)


def test_other_formats(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, PLACE, state(), 5)
    resealed(tmp_path, b"SPSTATE\n\x01", b"SPSTATE\n\x02")
    assert "it is of format 2; expected 1" in unused(tmp_path, caplog)
    write(tmp_path, PLACE, state(), 5)
    resealed(tmp_path, b"\xa6format\x02", b"\xa6format\x03")  # the head's
    assert "a head of format 3; expected 2" in unused(tmp_path, caplog)
    write(tmp_path, PLACE, state(), 5)
    resealed(tmp_path, b"next_offset", b"nxet_offset")
    assert "missing required field `next_offset`" in unused(tmp_path, caplog)


@pytest.mark.parametrize(("sizes", "by"), [(b"\1\0\0\0\1\0\0\0", b"\2\0\0\0\0\0\0\0"), (b"\2\0\0\0", b"\3\0\0\0")])
def test_sizes_that_do_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture, sizes: bytes, by: bytes):
    """Sizes of keys that add up are as good as any; others are refused before anything is read by them."""
    write(tmp_path, PLACE, state({b"a": b"\x61" * 7, b"b": b"22"}), 5)
    resealed(tmp_path, sizes, by)
    if sum(sizes) == sum(by):
        assert read(tmp_path, PLACE, "v1") is not None
    else:
        assert "its rows are not as long as it says" in unused(tmp_path, caplog)


def test_another_state(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, PLACE, state(), 5)
    assert "of version 'v1'; expected 'v2'" in unused(tmp_path, caplog, version="v2")
    said = "it is of app-stage-changelog[3] with the id an-id; expected another"
    assert said in unused(tmp_path, caplog, PLACE._replace(topic_id="another"))
    os.rename(PLACE.path(tmp_path), PLACE._replace(partition=4).path(tmp_path))
    assert "it is of app-stage-changelog[3]" in unused(tmp_path, caplog, PLACE._replace(partition=4))


def test_one_that_is_too_old(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, PLACE, state(), 4)
    assert "too old" in unused(tmp_path, caplog)


def test_a_full_disk_costs_a_warning_and_leaves_the_last_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, PLACE, state(position=1), 5)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert not write(tmp_path, PLACE, state(position=2), 5)
    assert "no snapshot of app-stage-changelog[3]: [Errno 28] No space left on device" in caplog.messages
    found = read(tmp_path, PLACE, "v1")
    assert found is not None
    assert found.head == head(1)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_none_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_bytes(b"")
    assert not write(tmp_path / "file", PLACE, state(), 5)
    assert "no snapshot of" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_what_a_killed_worker_left_goes_away(tmp_path: Path):
    old, young, others = (tmp_path / f"{PLACE.path(tmp_path).name}.{x}.tmp" for x in ("old", "young", "o"))
    others = tmp_path / "app-other-changelog-3.state.x.tmp"
    for path in (old, young, others):
        path.write_bytes(b"x")
    for path in (old, others):
        os.utime(path, (time.time() - 3_600,) * 2)
    write(tmp_path, PLACE, state(), 5)
    assert not old.exists()
    assert young.exists()
    assert others.exists()


def test_nothing_is_no_state(tmp_path: Path):
    with pytest.raises(AssertionError):
        write(tmp_path, PLACE, Restored(None, NO_TEXTS, NO_TEXTS, 0), 5)
    assert not list(tmp_path.iterdir())
