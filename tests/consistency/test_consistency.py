"""The short form of ``make consistency``: one broker, two workers, of which one is killed, and one stands still for
longer than its group waits for it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streamproc.settings import KafkaSettings
from tests.consistency.nemeses import Kill, Nemesis, Zombie
from tests.consistency.run import Run

pytestmark = [pytest.mark.e2e]


@pytest.mark.parametrize(
    ("guarantee", "kinds"),
    [
        pytest.param("exactly_once", (Zombie,), id="exactly_once"),
        pytest.param("at_least_once", (Kill, Zombie), id="at_least_once"),
    ],
)
async def test_what_comes_of_it_is_what_a_run_without_faults_gives(
    guarantee: str, kinds: tuple[type[Nemesis], ...], name: str, kafka: KafkaSettings, tmp_path: Path
) -> None:
    print("seed", name)
    chance = random.Random(name)
    run = Run(name, guarantee, kafka, None, tmp_path, rate=400, workers=2)
    try:
        await run.start(chance)
        for kind in kinds:
            await run.cycle(kind(chance))
        assert run.fleet.ends() == 0
    finally:
        await run.stop()
        print(run.summary())
