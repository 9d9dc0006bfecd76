"""What leans on transports holds under uvloop, too, which is what the gateway's process runs."""

from __future__ import annotations

import inspect

import pytest
import uvloop

from tests.edge import test_pins, test_server

TESTS = {
    name: test
    for module in (test_pins, test_server)
    for name, test in vars(module).items()
    if inspect.iscoroutinefunction(test) and name.startswith("test_") and not inspect.signature(test).parameters
}


@pytest.mark.parametrize("name", TESTS)
def test_under_uvloop(name: str) -> None:
    uvloop.run(TESTS[name]())


def test_refusing_sockets_under_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = test_server.test_sockets_far_over_the_cap_get_a_short_answer_before_any_handshake
    uvloop.run(refusing(monkeypatch))
