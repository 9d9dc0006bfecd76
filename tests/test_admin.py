"""Metrics and health over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from streamproc.admin import AdminServer
from streamproc.errors import SettingsError


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_metrics_are_those_of_the_given_registry(http: aiohttp.ClientSession) -> None:
    registry = CollectorRegistry()
    Counter("apples", "Apples", registry=registry).inc(3)
    admin = AdminServer(registry)
    await admin.start()
    async with http.get(f"{admin.url}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = await answer.text()
    assert "apples_total 3.0" in text
    assert "python_info" not in text
    await admin.stop()


async def test_health_and_readiness_name_their_problems(http: aiohttp.ClientSession) -> None:
    problems: dict[str, str] = {}
    admin = AdminServer(CollectorRegistry(), ready=lambda: problems)
    await admin.start()
    for _ in range(2):
        async with http.get(f"{admin.url}/readyz") as answer:
            expected = (503, "kafka: away\n") if problems else (200, "ok\n")
            assert (answer.status, await answer.text()) == expected
        async with http.get(f"{admin.url}/healthz") as answer:
            assert answer.status == 200
        problems["kafka"] = "away"
    async with http.get(f"{admin.url}/elsewhere") as answer:
        assert answer.status == 404
    await admin.stop()


async def test_a_port_in_use_is_a_clear_error() -> None:
    first = AdminServer(CollectorRegistry())
    await first.start()
    with pytest.raises(SettingsError, match=f"port {first.port} on 127.0.0.1 is in use"):
        await AdminServer(CollectorRegistry(), port=first.port).start()
    await first.stop()
    await first.stop()
