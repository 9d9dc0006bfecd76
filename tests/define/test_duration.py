from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.define.duration import milliseconds, written
from streamproc.errors import DefinitionError


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        ("250ms", 250),
        ("10s", 10_000),
        (" 1.5 h ", 5_400_000),
        ("2m", 120_000),
        ("1d", 86_400_000),
        ("1.001s", 1001),  # as a float it would be 1000.9999999999999
        ("0.001s", 1),
        (timedelta(milliseconds=7), 7),
        (timedelta(days=3650, milliseconds=1), 315_360_000_001),
        (10, 10_000),
        (0.25, 250),
        (1.001, 1001),
        (0, 0),
        ("100000d", 8_640_000_000_000),
    ],
)
def test_durations(duration: Any, ms: int):
    assert milliseconds(duration) == ms


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ("10", 'size: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got \'10\''),
        ("10 sec", 'size: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got \'10 sec\''),
        ("-1s", 'size: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got \'-1s\''),
        ("", 'size: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got \'\''),
        ("0.5ms", "size: expected whole milliseconds, not negative; got '0.5ms'"),
        (-1, "size: expected whole milliseconds, not negative; got -1"),
        (1.0001, "size: expected whole milliseconds, not negative; got 1.0001"),
        (float("inf"), "size: expected whole milliseconds, not negative; got inf"),
        (float("nan"), "size: expected whole milliseconds, not negative; got nan"),
        (timedelta(microseconds=1), "size: expected whole milliseconds, not negative; got "),
        (timedelta(seconds=-1), "size: expected whole milliseconds, not negative; got "),
        ("100001d", "size: expected at most 100000 days; got '100001d'"),
        (10**30, f"size: expected at most 100000 days; got {10**30}"),
        (None, 'size: expected a duration such as "10s", or a number of seconds; got None'),
        (True, 'size: expected a duration such as "10s", or a number of seconds; got True'),
        ([1], 'size: expected a duration such as "10s", or a number of seconds; got [1]'),
    ],
)
def test_what_is_no_duration(duration: Any, message: str):
    with pytest.raises(DefinitionError) as caught:
        milliseconds(duration, "size")
    assert str(caught.value).startswith(message)


@given(st.integers(0, 10**12))
def test_written_durations_read_back(ms: int):
    assert milliseconds(written(ms)) == ms


def test_written():
    assert [written(ms) for ms in (0, 250, 1000, 90_000, 120_000, 7_200_000, 86_400_000, 1001)] == [
        "0ms", "250ms", "1s", "90s", "2m", "2h", "1d", "1001ms",
    ]  # fmt: skip
