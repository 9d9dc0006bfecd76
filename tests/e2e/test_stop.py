"""``streamproc dev``, however it ends: nothing stays behind. And a whole system over a broker that wants secrets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from streamproc.client import Client, Disconnected
from streamproc.log.broker import BrokerConfig, EmbeddedBroker, Listener
from streamproc.log.broker.config import HOST, free_port
from streamproc.settings import KafkaSettings
from tests.e2e.kit import PATIENCE, TOPOLOGY, collecting, events, publish, running
from tests.e2e.topology import NAME
from tests.log.broker.test_security import JAAS, Authority

pytestmark = pytest.mark.e2e


class Dev:
    """``streamproc dev`` with a broker of its own and a folder for all that is temporary."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder / "tmp"
        self.folder.mkdir()
        words = [sys.executable, "-m", "streamproc", "dev", TOPOLOGY, "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*words, "--registry", f"file:{folder / 'registry.json'}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder), NAME: "dev"},
            start_new_session=True,
        )
        self.said: list[str] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def says(self, text: str) -> None:
        """Returns when it has said that."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return
        pytest.fail("".join(["it ended first:\n", *self.said]))

    def ends(self) -> int:
        """Its exit code."""
        self.said += self.process.communicate(timeout=PATIENCE)[0].splitlines(keepends=True)
        return self.process.returncode


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    started = Dev(tmp_path)
    try:
        yield started
    finally:
        for pid in [started.process.pid, *family(started.process.pid)]:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        started.process.wait()
        assert started.process.stdout is not None
        started.process.stdout.close()


def family(pid: int) -> list[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for at in found:
        found += [child for child, parent in parents.items() if parent == at]
    return found[1:]


def gone(pids: list[int]) -> None:
    """Returns when none of them runs."""
    deadline = time.monotonic() + PATIENCE
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        time.sleep(0.1)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def empty(folder: Path) -> None:
    """Returns when nothing is in it."""
    deadline = time.monotonic() + PATIENCE
    while left := list(folder.iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


async def some_events(url: str) -> None:
    """Publishes until the gateway goes, without an eye on answers."""
    async with Client(url, window=100_000) as client:
        try:
            for event in events("dev", 1_000_000):
                future = await client.send("dev-events", event.id, msgspec.to_builtins(event))
                future.add_done_callback(asyncio.Future.exception)
                await asyncio.sleep(0.001)
        except Disconnected:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_told_to_stop(dev: Dev, number: signal.Signals) -> None:
    dev.says("ready: ")
    dev.says("Ctrl-C stops everything.")
    pids = family(dev.process.pid)
    assert len(pids) >= 4  # Java, its watchdog, gateway, worker
    publishing = asyncio.create_task(some_events(dev.url))
    await asyncio.sleep(0.5)
    os.killpg(dev.process.pid, number)  # as a terminal does
    assert await asyncio.to_thread(dev.ends) == 0
    await publishing
    gone(pids)
    assert list(dev.folder.iterdir()) == []
    assert not [line for line in dev.said if "Traceback" in line or "ERROR" in line], "".join(dev.said)


def test_told_to_stop_while_it_starts(dev: Dev) -> None:
    dev.says("starting Apache Kafka")
    os.killpg(dev.process.pid, signal.SIGINT)
    assert dev.ends() == 0
    gone(family(dev.process.pid))
    assert list(dev.folder.iterdir()) == []
    assert not [line for line in dev.said if "Traceback" in line], "".join(dev.said)


def test_told_to_stop_when_half_of_it_runs(dev: Dev) -> None:
    dev.says("starting gateway and worker")
    pids = family(dev.process.pid)
    os.killpg(dev.process.pid, signal.SIGTERM)
    assert dev.ends() == 0
    gone(pids)
    assert list(dev.folder.iterdir()) == []
    assert not [line for line in dev.said if "Traceback" in line], "".join(dev.said)


async def test_killed(dev: Dev) -> None:
    dev.says("Ctrl-C stops everything.")
    pids = family(dev.process.pid)
    publishing = asyncio.create_task(some_events(dev.url))
    await asyncio.sleep(0.5)
    dev.process.kill()
    await publishing
    await asyncio.to_thread(gone, pids)
    await asyncio.to_thread(empty, dev.folder)


def test_a_part_that_dies_ends_the_whole(dev: Dev) -> None:
    dev.says("Ctrl-C stops everything.")
    pids = family(dev.process.pid)
    (worker,) = [pid for pid in pids if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    os.kill(worker, signal.SIGKILL)
    assert dev.ends() == 1
    assert "error: the worker was killed by SIGKILL\n" in dev.said, "".join(dev.said)
    gone(pids)
    assert list(dev.folder.iterdir()) == []


async def test_a_broker_that_wants_secrets(tmp_path: Path) -> None:
    authority = Authority("tests")
    key, certificate = authority.issue("broker")
    sasl = {
        "sasl.enabled.mechanisms": "PLAIN",
        "plain.sasl.jaas.config": JAAS.format("plain.PlainLoginModule", ' user_ada="right"'),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": key,
        "ssl.keystore.certificate.chain": certificate,
    }
    port = free_port()
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    settings = KafkaSettings(f"{HOST}:{port}", "SASL_SSL", "PLAIN", "ada", "right", str(ca))
    with EmbeddedBroker(BrokerConfig(listeners=(Listener("BOTH", port, "SASL_SSL", sasl),))):
        async with (
            running("secret", tmp_path, settings) as place,
            place.client() as client,
            collecting(client, place.topic("counted"), place.topic("plain")) as (counted, plain),
        ):
            sent = list(events("secret", 300))
            await publish(client, place.topic("events"), sent)
            for collector in (counted, plain):
                await collector.has({event.id for event in sent})
                assert set(collector.causes.values()) == {1}
