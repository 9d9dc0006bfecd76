from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.avro import apicurio


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry server; its state is shared by all tests, so they use subjects of their own."""
    with apicurio.running(tmp_path_factory.mktemp("apicurio") / "log") as url:
        yield url
