"""Which pages may connect: the allow-list, and all the ways around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamproc.edge.origins import Origins, normal
from streamproc.errors import SettingsError
from tests.edge.kit import world

APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        (APP, True),
        ("HTTPS://App.Example.COM", True),
        ("https://app.example.com:443", True),
        ("https://app.example.com:0443", True),
        ("https://app.example.com:8443", False),
        ("http://app.example.com", False),
        ("https://app.example.com.evil.org", False),
        ("https://evilapp.example.com", False),
        ("https://evil.org/https://app.example.com", False),
        ("https://app.example.com@evil.org", False),
        ("https://app.example.com:443@evil.org", False),
        ("https://app.example.com#", False),
        ("https://app.example.com\\.evil.org", False),
        ("https://app.example.com, https://evil.org", False),
        ("https://аpp.example.com", False),  # the first letter is Cyrillic
        ("null", False),
        ("", False),
        ("*", False),
        ("https://", False),
        ("http://localhost", False),
    ],
)
def test_an_origin_is_compared_whole(said: str, ok: bool) -> None:
    assert Origins([APP]).allow([said]) is ok


def test_no_origin_is_no_browser_and_two_are_a_trick() -> None:
    assert Origins([APP]).allow([])
    assert not Origins([APP]).allow([APP, APP])
    assert not Origins([APP]).allow([APP, "https://evil.org"])


def test_null_and_all_have_to_be_asked_for() -> None:
    assert Origins(["null"]).allow(["null"])
    assert Origins(["*"]).allow(["https://anything"])
    assert Origins(["*"]).allow(["null"])


@pytest.mark.parametrize(
    "said", ["http://localhost:5173", "http://127.0.0.1", "https://[::1]:8443", "HTTP://LOCALHOST"]
)
def test_pages_of_this_machine_may_be_let_in(said: str) -> None:
    assert Origins(loopback=True).allow([said])
    assert not Origins().allow([said])


@pytest.mark.parametrize(
    "said", ["http://localhost.evil.org", "http://evil.org:8000", "http://127.0.0.1.evil.org", "null"]
)
def test_names_that_only_look_like_this_machine_are_not_it(said: str) -> None:
    assert not Origins(loopback=True).allow([said])


@pytest.mark.parametrize("wrong", ["app.example.com", "https://*.example.com", "https://a/b", "https://ü.example", ""])
def test_what_is_no_origin_cannot_be_allowed(wrong: str) -> None:
    with pytest.raises(SettingsError, match="expected a page's scheme, host and port"):
        Origins([wrong])


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z.]{1,9}(:[0-9]{1,5})?", fullmatch=True))
def test_any_text_is_an_origin_in_one_form_or_none(text: str) -> None:
    found = normal(text)
    assert found is None or normal(found) == found
    assert Origins([APP]).allow([text]) is (found == APP)


async def test_another_page_is_refused_before_it_is_a_websocket() -> None:
    async with world(origins=Origins([APP])) as there:
        with pytest.raises(InvalidStatus) as refused:
            await connect(there.gateway.url, origin="https://evil.org")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        assert b"--origin" in refused.value.response.body
        headers = [("Origin", APP), ("Origin", "https://evil.org")]
        with pytest.raises(InvalidStatus):
            await connect(there.gateway.url, additional_headers=headers)
        async with there.client(origin=APP) as client:
            assert (await client.ask(op="ping"))["op"] == "pong"
        async with there.client() as client:
            assert (await client.ask(op="ping"))["op"] == "pong"


async def test_a_gateway_on_this_machine_lets_its_pages_in_and_no_others() -> None:
    async with world() as there:
        async with there.client(origin="http://localhost:3000") as client:
            assert (await client.ask(op="ping"))["op"] == "pong"
        with pytest.raises(InvalidStatus):
            await connect(there.gateway.url, origin=f"http://rebound.evil.org:{there.gateway.port}")  # type: ignore[arg-type]


async def test_a_gateway_for_others_lets_no_page_in_that_is_not_listed() -> None:
    async with world(host="0.0.0.0") as there:
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{there.gateway.port}", origin="http://localhost:3000")  # type: ignore[arg-type]
