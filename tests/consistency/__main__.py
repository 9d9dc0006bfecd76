"""``python -m tests.consistency --cycles 52 --seed 1``: everything happens to three workers on three brokers, under
both guarantees; after each strike windows, tables and results must be those of a run without faults.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.consistency import nemeses
from tests.consistency.cluster import Cluster
from tests.consistency.figures import Strike, line, table
from tests.consistency.nemeses import Nemesis
from tests.consistency.run import Run

WORKERS = 3
GUARANTEES = ("exactly_once", "at_least_once")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.consistency", description=__doc__)
    parser.add_argument("--cycles", type=int, default=52, help="strikes, half of them under each guarantee")
    parser.add_argument("--rate", type=float, default=400.0, help="events per second")
    parser.add_argument("--seed", type=int, help="a random number when left out")
    parser.add_argument("--guarantee", choices=GUARANTEES, action="append", help="this one alone")
    parser.add_argument("--nemesis", choices=[n.__name__ for n in nemeses.ALL], action="append", help="these alone")
    parser.add_argument("--folder", type=Path, help="where logs go; a temporary folder, kept after a failure")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="streamproc-consistency-"))
    chosen = [n for n in nemeses.ALL if not given.nemesis or n.__name__ in given.nemesis]
    guarantees = given.guarantee or GUARANTEES
    print(f"seed {seed}; logs in {folder}", flush=True)
    strikes: list[Strike] = []
    failed = 0
    with Cluster(WORKERS) as cluster:
        for guarantee in guarantees:
            chance = random.Random(f"{seed} {guarantee}")
            cycles = plan(chosen, -(-given.cycles // len(guarantees)), chance)
            failed |= asyncio.run(_run(guarantee, cluster, folder, given.rate, cycles, chance, strikes))
    print(table(strikes))
    if not failed and given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return failed


def plan(chosen: list[type[Nemesis]], cycles: int, chance: random.Random) -> list[Nemesis]:
    """All of them in a random order, again and again."""
    found: list[Nemesis] = []
    while len(found) < cycles:
        found += [nemesis(chance) for nemesis in chance.sample(chosen, len(chosen))]
    return found[:cycles]


async def _run(
    guarantee: str,
    cluster: Cluster,
    folder: Path,
    rate: float,
    cycles: list[Nemesis],
    chance: random.Random,
    strikes: list[Strike],
) -> int:
    inside = folder / guarantee
    inside.mkdir(parents=True, exist_ok=True)
    run = Run(f"c{uuid.uuid4().hex[:8]}", guarantee, cluster.settings, cluster, inside, rate, WORKERS)
    try:
        await run.start(chance)
        print(f"{guarantee}: {len(cycles)} cycles at {rate:g} events/s", flush=True)
        for number, nemesis in enumerate(cycles, 1):
            began = time.monotonic()
            print(f"{time.strftime('%H:%M:%S')} {number:3} {nemesis.name:34}", end=" ", flush=True)
            strike = await run.cycle(nemesis)
            strikes.append(strike)
            print(line(strike, time.monotonic() - began), flush=True)
    except AssertionError as error:
        print(f"\nFAILED {type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        await run.stop()
        print(run.summary(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
