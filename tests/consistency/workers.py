"""Workers as processes of their own: each in a slot with its own line to the brokers and its own clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from streamproc import compiled
from streamproc.log.broker.watchdog import Watchdog
from streamproc.settings import KafkaSettings
from tests.consistency import topology

_ROOT = Path(__file__).parents[2]
_UP = re.compile(r"is up; metrics on (\S+)/metrics")
_PARTITION = re.compile(r'^streamproc_worker_watermark\w*\{.*partition="(\d+)".*\} ', re.M)
_PATIENCE = 300.0  # seconds: kernels may have to be compiled


@dataclass
class Worker:
    """One slot's process, and the next one when it has ended."""

    slot: int
    environ: dict[str, str]
    folder: Path
    replication: int
    process: subprocess.Popen[bytes] | None = None
    watchdog: Watchdog | None = None  # ends the process when this one has died
    starts: int = 0
    wanted: bool = False  # whether it is to run: one that ends by itself is started again
    ends: list[str] = field(default_factory=list)  # what it said when it ended by itself
    _logging: threading.Thread | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"worker-{self.slot}-{self.starts}.log"

    @property
    def state(self) -> Path:
        """Its state dir."""
        return self.folder / f"state-{self.slot}"

    @property
    def _dump(self) -> Path:
        return self.folder / f"dump-{self.slot}"

    def dump(self) -> None:
        """Has it say in its log what all its tasks wait for."""
        self._dump.touch()

    @property
    def _clock(self) -> Path:
        return self.folder / f"clock-{self.slot}"

    def start(self) -> None:
        """Starts the process, and does not wait for it."""
        assert self.process is None
        if not self._clock.exists():
            self._clock.write_bytes(bytes(8))
        self.starts += 1
        self.wanted = True
        path = os.pathsep.join([str(Path(__file__).with_name("clock")), str(_ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.consistency.worker", f"{Path(topology.__file__)}:app"),
                *("--replication", str(self.replication), "--state-dir", str(self.state), "--verbose"),
            ],
            env=self.environ
            | {
                "PYTHONPATH": path,
                "STREAMPROC_TEST_CLOCK": str(self._clock),
                "STREAMPROC_TEST_DUMP": str(self._dump),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # and not the file: its disk may be full, and what it says must be heard
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
        )
        self._logging = threading.Thread(target=_copy, args=[self.process.stdout, self.log], name="log", daemon=True)
        self._logging.start()
        self.watchdog = Watchdog(self.process.pid)

    async def up(self) -> None:
        """Returns when it says that it is."""
        async with asyncio.timeout(_PATIENCE):
            while self.url is None:
                assert self.process is None or self.process.poll() is None, self.said()
                await asyncio.sleep(0.05)

    @property
    def url(self) -> str | None:
        """Its pages'. None until it is up."""
        found = _UP.search(self.said(whole=True))
        return found[1] if found else None

    def said(self, *, whole: bool = False) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text if whole else "\n".join(text.splitlines()[-6:])

    def partitions(self) -> set[int]:
        """Those of which it has tasks; none where it does not say."""
        if self.url is None:
            return set()
        try:
            with urllib.request.urlopen(self.url + "/metrics", timeout=3) as answer:
                return {int(partition) for partition in _PARTITION.findall(answer.read().decode())}
        except OSError:
            return set()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.wanted = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._gone()

    async def stop(self, within: float = 30.0) -> None:
        """Asks it to end in order."""
        self.wanted = False
        process = self.process
        if process is None:
            return
        process.terminate()
        end = time.monotonic() + within
        while process.poll() is None:
            if time.monotonic() > end:
                process.kill()
                process.wait()
                self.ends.append(f"did not end within {within:g} s of SIGTERM")
                break
            await asyncio.sleep(0.02)
        self._gone()

    def _gone(self) -> None:
        assert self.watchdog is not None
        assert self._logging is not None
        self.watchdog.release()
        self._logging.join()
        self.process = self.watchdog = None

    def fill_disk(self, size: int | None) -> None:
        """Makes whatever it writes to files from here on fail behind so many bytes; None: no more."""
        if self.process is not None:
            _, most = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))

    def move_clock(self, seconds: float) -> None:
        """Makes its clock so much ahead of the machine's."""
        with self._clock.open("r+b") as file:  # it is mapped: were it cut short, its readers would die
            file.write(struct.pack("<d", seconds))

    def mind(self) -> None:
        """Starts it again where it has ended by itself."""
        if self.process is not None and self.wanted and (code := self.process.poll()) is not None:
            self._gone()
            words = [line for line in self.said().splitlines() if "rror" in line]
            self.ends.append(f"code {code}: {words[-1] if words else self.said()}")
            self.start()


def _copy(said: IO[bytes], log: Path) -> None:
    with said, log.open("wb", buffering=0) as file:
        while data := os.read(said.fileno(), 1 << 16):
            file.write(data)


class Fleet:
    """All workers of a run, and who sees to it that they run."""

    def __init__(self, slots: list[KafkaSettings], environ: dict[str, str], folder: Path, *, replication: int) -> None:
        self.workers = [
            Worker(slot, {**os.environ, **kafka.environ(), **environ}, folder, replication)
            for slot, kafka in enumerate(slots)
        ]
        self._minding: asyncio.Task[None] | None = None

    async def start(self, count: int) -> None:
        # Once, and not by all of them at the same time.
        if compiled.available():
            compiling = await asyncio.create_subprocess_exec(sys.executable, "-m", "streamproc.compiled", cwd=_ROOT)
            assert await compiling.wait() == 0
        for worker in self.workers[:count]:
            worker.start()
        for worker in self.workers[:count]:
            await worker.up()
        self._minding = asyncio.create_task(self._mind())

    def ends(self) -> int:
        """How many have ended by themselves."""
        return sum(len(worker.ends) for worker in self.workers)

    async def stop(self) -> None:
        if self._minding is not None:
            self._minding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._minding
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for worker in self.workers:
                worker.mind()
