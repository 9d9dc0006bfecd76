"""What is done to a run: each strikes, and then lets go."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING, ClassVar

from tests.consistency.proxy import Mode

if TYPE_CHECKING:
    from tests.consistency.run import Run
    from tests.consistency.workers import Worker

SESSION = 10.0  # seconds: of the workers' consumer group


class Nemesis:
    """Strikes once. What is random of it comes from ``chance``."""

    name: ClassVar[str]
    needs_cluster: ClassVar[bool] = False

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.victims: set[int] = set()  # slots of workers; all, where it strikes brokers

    def one(self, run: Run) -> int:
        """A worker."""
        slot = self.chance.randrange(run.workers)
        self.victims = {slot}
        return slot

    async def strike(self, run: Run) -> None:
        """Returns when as much of it is done as is to be done."""
        raise NotImplementedError

    async def recover(self, run: Run) -> None:
        """Lets go."""
        raise NotImplementedError

    async def look_back(self, run: Run) -> None:
        """Returns when workers have got over it. Raises where they do not."""


class Kill(Nemesis):
    """``kill -9`` of a worker; the next one starts at once."""

    name = "kill -9, started again"

    async def strike(self, run: Run) -> None:
        run.fleet.workers[self.one(run)].kill()

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].start()


class KillForLong(Kill):
    """``kill -9`` of a worker, which comes back when others have its partitions."""

    name = "kill -9, back after 15 s"

    async def strike(self, run: Run) -> None:
        await super().strike(run)
        await asyncio.sleep(SESSION + 5)


class KillAll(Nemesis):
    """``kill -9`` of all workers at once."""

    name = "kill -9 of all"

    async def strike(self, run: Run) -> None:
        self.victims = set(range(run.workers))
        for slot in self.victims:
            run.fleet.workers[slot].kill()

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].start()


class Restart(Nemesis):
    """A worker ends in order, and the next one starts."""

    name = "SIGTERM, started again"

    async def strike(self, run: Run) -> None:
        await run.fleet.workers[self.one(run)].stop()

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].start()


class Zombie(Nemesis):
    """A worker stands still for longer than its group waits for it, and goes on as though nothing had been."""

    name = "SIGSTOP past the session"

    def __init__(self, chance: random.Random, seconds: float = SESSION + 5) -> None:
        super().__init__(chance)
        self.seconds = seconds

    async def strike(self, run: Run) -> None:
        run.fleet.workers[self.one(run)].signal(signal.SIGSTOP)
        await asyncio.sleep(self.seconds)

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].signal(signal.SIGCONT)


class Pause(Zombie):
    """A worker stands still, but not for so long that the group notices."""

    name = "SIGSTOP for 5 s"

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance, 5.0)


class Broker(Nemesis):
    """A broker is killed, and started again."""

    name = "broker killed, back"
    needs_cluster = True
    down: ClassVar[int] = 1
    seconds: ClassVar[float] = 5.0

    async def strike(self, run: Run) -> None:
        assert run.cluster is not None
        self.victims = set(range(run.workers))
        self._nodes = self.chance.sample(range(len(run.cluster.brokers)), self.down)
        await asyncio.to_thread(run.cluster.kill, self._nodes)
        await asyncio.sleep(self.seconds)

    async def recover(self, run: Run) -> None:
        assert run.cluster is not None
        await asyncio.to_thread(run.cluster.start, self._nodes)


class TwoBrokers(Broker):
    """Two of three brokers are killed, and come back."""

    name = "two brokers of three lost, back"
    down = 2
    seconds = 15.0


class Cut(Nemesis):
    """One worker hears nothing of any broker, for longer than its group waits; what it sent comes afterwards."""

    name = "network stalled past the session"
    needs_cluster = True
    mode: ClassVar[Mode] = "stalled"
    seconds: ClassVar[float] = SESSION + 5

    async def strike(self, run: Run) -> None:
        assert run.cluster is not None
        run.cluster.proxy.set(self.one(run), self.mode)
        await asyncio.sleep(self.seconds)

    async def recover(self, run: Run) -> None:
        assert run.cluster is not None
        for slot in self.victims:
            run.cluster.proxy.set(slot, "open")


class Reset(Cut):
    """One worker's connections are reset, for longer than its group waits."""

    name = "network cut past the session"
    mode = "cut"


class Blink(Cut):
    """One worker's connections are reset for a moment."""

    name = "network cut for 1 s"
    mode = "cut"
    seconds = 1.0


class Slow(Nemesis):
    """Whatever one worker sends and hears takes 200 ms longer."""

    name = "network slow, 200 ms"
    needs_cluster = True

    async def strike(self, run: Run) -> None:
        assert run.cluster is not None
        run.cluster.proxy.set(self.one(run), "open", delay=0.2)
        await asyncio.sleep(10)

    async def recover(self, run: Run) -> None:
        assert run.cluster is not None
        for slot in self.victims:
            run.cluster.proxy.set(slot, "open")


class Storm(Nemesis):
    """Workers join and leave, one every second or so."""

    name = "rebalance storm"

    async def strike(self, run: Run) -> None:
        first, second = run.fleet.workers[run.workers :]
        for _ in range(2):
            for one, other in ((first, second), (second, first)):
                one.start()
                await one.up()
                await asyncio.sleep(self.chance.random())
                await other.stop()

    async def recover(self, run: Run) -> None:
        for worker in run.fleet.workers[run.workers :]:
            await worker.stop()


class Clock(Nemesis):
    """A worker's clock jumps by hours, and later back."""

    name = "clock jumps"

    async def strike(self, run: Run) -> None:
        worker = run.fleet.workers[self.one(run)]
        worker.move_clock(self.chance.choice((-86_400.0, -7200.0, -10.0, 10.0, 7200.0, 86_400.0)))
        await asyncio.sleep(10)

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].move_clock(0.0)


class DiskFull(Nemesis):
    """The disk of a worker's state dir is full, and later not."""

    name = "disk full"

    async def strike(self, run: Run) -> None:
        worker = run.fleet.workers[self.one(run)]
        worker.fill_disk(self.chance.choice((0, 500)))  # a file may be begun, or not even that
        await self._said(worker, "no snapshot of")
        await asyncio.sleep(5)

    async def recover(self, run: Run) -> None:
        for slot in self.victims:
            run.fleet.workers[slot].fill_disk(None)

    async def look_back(self, run: Run) -> None:
        for slot in self.victims:
            await self._said(run.fleet.workers[slot], "snapshots can be written")

    async def _said(self, worker: Worker, what: str) -> None:
        try:
            async with asyncio.timeout(60):
                while what not in worker.said(whole=True):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"{self.name}: {worker.log} does not say {what!r}") from None


class DiskFullAtStart(DiskFull):
    """A worker is killed; the next one finds that its disk is full."""

    name = "kill -9, disk full at start"

    async def strike(self, run: Run) -> None:
        slot = self.one(run)
        worker = run.fleet.workers[slot]
        worker.kill()
        worker.start()
        worker.fill_disk(500)
        await worker.up()
        await self._said(worker, "no snapshot of")


ALL: tuple[type[Nemesis], ...] = (
    Kill,
    KillForLong,
    KillAll,
    Restart,
    Zombie,
    Pause,
    Broker,
    TwoBrokers,
    Cut,
    Reset,
    Blink,
    Slow,
    Storm,
    Clock,
    DiskFull,
    DiskFullAtStart,
)
