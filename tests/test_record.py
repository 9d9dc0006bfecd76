from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamproc import Record


class Reading(Record):
    unit: str
    value: float = 0.0


class PumpStateV2(Record):
    on: bool


class Named(Record):
    __schema__ = "another_name"
    on: bool


def test_a_schema_is_named_like_its_class_in_snake_case():
    assert [r.schema_name() for r in (Reading, PumpStateV2, Named)] == ["reading", "pump_state_v2", "another_name"]


def test_the_search_for_a_schema_begins_where_the_class_is_written():
    assert Reading.home() == Path(__file__).resolve().parent


def test_a_class_made_nowhere_has_no_home():
    made = msgspec.defstruct("Made", [("a", int)], bases=(Record,), module="nowhere")
    assert made.home() is None


def test_records_are_values():
    one, same = Reading("a", 1.0), Reading("a", 1.0)
    assert one == same
    assert len({one, same}) == 1
    with pytest.raises(AttributeError):
        one.value = 2.0
    assert msgspec.structs.replace(one, value=2.0) == Reading("a", 2.0)


def test_unknown_fields_are_refused():
    with pytest.raises(msgspec.ValidationError, match="unknown field `volume`"):
        msgspec.json.decode(b'{"unit": "a", "volume": 1}', type=Reading)
