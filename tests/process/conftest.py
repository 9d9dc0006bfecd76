"""Every test that takes ``engine`` runs with each way in which windows can be computed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.kit import ENGINES, using


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param
