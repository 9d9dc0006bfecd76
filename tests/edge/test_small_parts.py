"""Codes, limits, rates, frame headers and the search for silence."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from streamproc.edge import codes, wire
from streamproc.edge.keepalive import TICKS, Keepalive
from streamproc.edge.limits import Limits
from streamproc.edge.rate import Rate
from streamproc.errors import SettingsError


def test_the_codes_are_tables_without_doubles() -> None:
    errors = [value for value in vars(codes).values() if isinstance(value, codes.ErrorCode)]
    closes = [value for value in vars(codes).values() if isinstance(value, codes.CloseCode)]
    assert {error.code: error for error in errors} == codes.ERRORS
    assert {close.code: close for close in closes} == codes.CLOSES
    assert len({error.name for error in errors}) == len(errors)
    assert {error.code for error in errors} >= set(range(100, 113))


@pytest.mark.parametrize("close", codes.CLOSES.values(), ids=lambda close: close.name)
def test_a_close_code_s_range_says_whether_to_come_back(close: codes.CloseCode) -> None:
    assert close.reconnect is (3000 <= close.code < 3500)


@pytest.mark.parametrize("error", codes.ERRORS.values(), ids=lambda error: error.name)
def test_only_a_temporary_error_says_when_to_come_back(error: codes.ErrorCode) -> None:
    assert error.temporary is (error.retry_after is not None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_ready_made_frame_is_what_websockets_would_send(size: int) -> None:
    payload = b"x" * size
    assert wire.framed(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_the_ping_is_one() -> None:
    assert Frame(Opcode.PING, b"").serialize(mask=False) == wire.PING


def test_limits_must_make_sense() -> None:
    with pytest.raises(SettingsError, match="limit queue: expected more than 0; got 0"):
        Limits(queue=0)
    with pytest.raises(SettingsError, match="abort"):
        Limits(abort=1000)


def test_a_rate_allows_a_burst_and_then_its_pace() -> None:
    rate = Rate(10)
    assert [rate.take(100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert rate.take(100.25)
    assert rate.take(100.25)
    assert not rate.take(100.25)
    assert sum(rate.take(200.0) for _ in range(50)) == 10


class Peer:
    def __init__(self) -> None:
        self.heard = False
        self.quiet = 0
        self.held = False
        self.pings = 0
        self.ended = False


def watch(ping: float = 5.0, timeout: float = 3.0) -> Keepalive:
    def pinged(peer: Peer) -> None:
        peer.pings += 1

    def ended(peer: Peer) -> None:
        peer.ended = True

    return Keepalive(Limits(ping=ping, ping_timeout=timeout), pinged, ended)  # type: ignore[arg-type]


def test_silence_is_asked_and_then_ended() -> None:
    keepalive, peer = watch(), Peer()
    assert keepalive.interval == 1.0
    for _ in range(TICKS):
        assert (peer.pings, peer.ended) == (0, False)
        keepalive.tick([peer])
    for _ in range(2):
        keepalive.tick([peer])
        assert (peer.pings, peer.ended) == (1, False)
    keepalive.tick([peer])
    assert peer.ended


@pytest.mark.parametrize("sign", ["heard", "held"])
def test_a_sign_of_life_or_our_own_deafness_starts_it_anew(sign: str) -> None:
    keepalive, peer = watch(), Peer()
    for _ in range(40):
        for _ in range(TICKS + 2):
            keepalive.tick([peer])
        setattr(peer, sign, True)
        keepalive.tick([peer])
        peer.held = False
    assert (peer.pings, peer.ended) == (40, False)
