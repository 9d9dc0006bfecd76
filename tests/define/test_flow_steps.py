"""Steps of flows: what a row has after each, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest

from streamproc import Flow
from streamproc.define.steps import FlatMap, Map, Select, Where
from tests.define.flow_kit import Account, Bank, Known, Payment, refused, types

AMOUNT = pl.col("amount")
HAS = "Payment has no field 'amont'; it has id, card, account, currency, at, amount, note"


@pytest.fixture
def bank() -> Bank:
    return Bank()


def last_step(flow: Flow) -> Any:
    return flow.inputs[0].steps[-1]


def test_each_method_gives_a_new_flow_and_makes_nothing(bank: Bank):
    flow = bank.payments.where(AMOUNT > 100)
    more = flow.where(AMOUNT < 1000)
    assert (len(flow.inputs[0].steps), len(more.inputs[0].steps)) == (1, 2)
    assert not bank.app.agents


class TestWhere:
    def test_rows_are_as_they_were(self, bank: Bank):
        flow = bank.payments.where(AMOUNT > 100)
        assert isinstance(last_step(flow), Where)
        assert flow.record is Payment
        assert types(flow) == types(bank.payments._flow())
        assert (flow.key, flow.time) == ("card", "at")

    def test_what_it_keeps_out_is_never_null_behind_it(self, bank: Bank):
        assert types(bank.payments.where(pl.col("note").is_not_null()))["note"] == "str"
        assert types(bank.payments.where(pl.col("note").is_null()))["note"] == "str | None"
        assert types(bank.payments.where(pl.col("note").is_not_null() | (AMOUNT > 1)))["note"] == "str | None"
        assert types(bank.payments.where(AMOUNT > 1e12))["note"] == "str | None"

    @pytest.mark.parametrize(
        ("expr", "text"),
        [
            (True, 'expected an expression such as pl.col("x") > 0; got True'),
            (
                AMOUNT + 1,
                'expected an expression that is true or false; [(col("amount")) + (dyn int: 1)] gives Float64',
            ),
            (pl.col("amont") > 1, HAS),
            (pl.col("card") > 1, "cannot compare string with numeric type (i32)"),
            (
                AMOUNT.mean() < AMOUNT,
                '[(col("amount").mean()) < (col("amount"))] looks at other rows, so what it gives would depend on how '
                "they came: windows, joins, deduplicate and tables of agents do not",
            ),
        ],
    )
    def test_refused(self, bank: Bank, expr: Any, text: str):
        assert refused(lambda: bank.payments.where(expr)) == f"topic 'payments', where: {text}"

    def test_a_flow_is_called_one(self, bank: Bank):
        flow = bank.payments.where(AMOUNT > 1)
        assert refused(lambda: flow.where(None)).startswith("flow of 'payments', where: expected an expression")  # type: ignore[arg-type]


class TestWithColumns:
    def test_types_are_those_of_polars(self, bank: Bank):
        flow = bank.payments.with_columns(
            AMOUNT.round().alias("whole"),
            fee=AMOUNT * 0.01,
            hour=pl.from_epoch("at", time_unit="ms").dt.hour(),
            big=AMOUNT > 1000,
            twice="card",
            kind=3,
            said=pl.col("note").fill_null(""),
            length=pl.col("note").str.len_chars(),
            raw=pl.col("card").cast(pl.Binary),
            less=pl.when(AMOUNT > 2).then(AMOUNT),
            short=AMOUNT.cast(pl.Float32),
        )
        made = {name: kind for name, kind in types(flow).items() if name not in types(bank.payments._flow())}
        assert made == {
            "whole": "float",
            "fee": "float",
            "hour": "int",
            "big": "bool",
            "twice": "str",
            "kind": "int",
            "said": "str",
            "length": "int | None",
            "raw": "bytes",
            "less": "float | None",
            "short": "float",
        }
        assert flow.record is None
        assert (flow.key, flow.time) == ("card", "at")

    def test_columns_of_flows_have_64_bits(self, bank: Bank):
        flow = bank.payments.with_columns(length=pl.col("card").str.len_chars(), short=AMOUNT.cast(pl.Float32))
        made = pl.DataFrame({"card": ["ab"], "amount": [1.5]}).with_columns(*last_step(flow).exprs)
        assert made.schema == {"card": pl.String, "amount": pl.Float64, "length": pl.Int64, "short": pl.Float64}

    def test_a_selection_is_all_its_columns(self, bank: Bank):
        flow = bank.payments.select(pl.col("card", "at"), pl.selectors.float())
        assert list(flow.fields) == ["card", "at", "amount"]
        assert all(expr.meta.is_column() for expr in last_step(flow).exprs)

    def test_the_record_type_stays_where_it_fits(self, bank: Bank):
        assert bank.payments.with_columns(amount=AMOUNT * 2).record is Payment
        assert bank.payments.with_columns(amount=pl.when(AMOUNT > 2).then(AMOUNT)).record is None
        assert bank.payments.with_columns(note=pl.col("note").fill_null("")).record is Payment

    @pytest.mark.parametrize(
        ("named", "text"),
        [
            ({"x": pl.col("amont") * 2}, HAS),
            ({"x": "amont"}, HAS),
            ({"x": None}, "expected a column's name or a polars expression; got None"),
            ({"x": pl.lit(None)}, "x is Null, which no column of a flow is; say of which type it is null: "
             ".cast(pl.Float64)"),
            ({"x": pl.from_epoch("at", time_unit="ms")}, "x is Datetime(time_unit='us', time_zone=None), which no "
             'column of a flow is; make milliseconds of it: .dt.epoch("ms")'),
            ({"x": pl.duration(seconds="at")}, "x is Duration(time_unit='us'), which no column of a flow is; make "
             "milliseconds of it: .dt.total_milliseconds()"),
            ({"x": pl.col("card").str.split(",")}, "x is List(String), which no column of a flow is; make a record "
             "with map()"),
            ({"x": AMOUNT.cast(pl.Decimal(10, 2))}, "x is Decimal(precision=10, scale=2), which no column of a flow "
             "is; cast it, or make a record with map()"),
            ({"x": AMOUNT.filter(AMOUNT > 1)}, 'expected an expression that gives one value for each row; got '
             'col("amount").filter([(col("amount")) > (dyn int: 1)]).alias("x")'),
            ({"x": pl.col("amount", "at") * 2}, None),
            ({}, "expected at least one column or expression"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, named: dict[str, Any], text: str | None):
        said = refused(lambda: bank.payments.with_columns(**named))
        assert said.startswith("topic 'payments', with_columns: ")
        assert text is None or said.partition("with_columns: ")[2] == text

    def test_several_columns_of_one_expression_are_refused(self, bank: Bank):
        assert refused(lambda: bank.payments.with_columns((pl.col("amount", "at") * 2).name.suffix("_2"))).endswith(
            "gives amount_2, at_2: write one each"
        )

    def test_one_name_twice_is_refused(self, bank: Bank):
        assert refused(lambda: bank.payments.with_columns(AMOUNT, amount=AMOUNT * 2)) == (
            "topic 'payments', with_columns: it gives amount twice"
        )


class TestSelect:
    def test_columns_in_the_order_given(self, bank: Bank):
        flow = bank.payments.select("amount", "card", euros=AMOUNT / 100)
        assert types(flow) == {"amount": "float", "card": "str", "euros": "float"}
        assert isinstance(last_step(flow), Select)

    def test_key_and_time_are_followed(self, bank: Bank):
        assert bank.payments.select("at", "card").key == "card"
        renamed = bank.payments.select(number="card", when="at")
        assert (renamed.key, renamed.time) == ("number", "when")
        assert (renamed.inputs[0].key, renamed.inputs[0].time) == ("number", "when")
        both = bank.payments.with_columns(copy="card", moved="at")
        assert (both.key, both.time) == ("card", "at")

    def test_an_event_time_may_be_set_right(self, bank: Bank):
        assert bank.payments.with_columns(at=pl.col("at") * 1000).time == "at"
        assert bank.payments.with_columns(at=pl.when(AMOUNT > 2).then("at")).time is None

    def test_another_value_is_no_key(self, bank: Bank):
        flow = bank.payments.with_columns(card=pl.col("card").str.to_lowercase())
        assert flow.key is None
        assert flow.inputs[0].key == ""
        assert refused(flow.latest) == (
            "flow of 'payments': a table is per key, and it has none: it has card no more: with_columns leaves it out, "
            "or makes another of it: keep it, or rekey()"
        )


class TestMap:
    def test_the_function_gets_the_topics_records(self, bank: Bank):
        flow = bank.payments.map(Account, lambda payment: None)
        step = last_step(flow)
        assert isinstance(step, Map)
        assert (step.record, step.out, step.same) == (Payment, Account, "card")
        assert flow.record is Account
        assert (flow.key, flow.time) == ("card", "at")

    def test_of_other_columns_it_gets_objects_with_these(self, bank: Bank):
        flow = bank.payments.select("card", "note", fee=AMOUNT * 2).flat_map(Account, lambda row: [])
        step = last_step(flow)
        assert isinstance(step, FlatMap)
        made = step.record("c", None, 2.0)
        assert (made.card, made.note, made.fee) == ("c", None, 2.0)
        assert {f.name: f.type for f in msgspec.structs.fields(step.record)} == {
            "card": str, "note": str | None, "fee": float,
        }  # fmt: skip

    def test_a_type_without_the_key_has_none(self, bank: Bank):
        flow = bank.rates.map(Account, lambda rate: None)
        assert (flow.key, flow.time, last_step(flow).same) == (None, "at", None)
        assert refused(lambda: flow.deduplicate("card", within="1m")) == (
            "flow of 'rates': rows are deduplicated partition by partition, that is by key, and it has none: it has "
            "currency no more: map makes Account, without it: keep it, or rekey()"
        )

    @pytest.mark.parametrize(
        ("out", "fn", "text"),
        [
            (dict, lambda r: r, "expected a subclass of Record for what the function gives; got <class 'dict'>"),
            (Known, 7, "expected a function of one record; got 7"),
            (Known, lambda: None, "expected a function of one record; got <function"),
            (Known, lambda a, b: None, "expected a function of one record; got <function"),
        ],
    )
    def test_refused(self, bank: Bank, out: Any, fn: Any, text: str):
        assert refused(lambda: bank.payments.map(out, fn)).startswith(f"topic 'payments', map: {text}")

    def test_async_functions_are_for_agents(self, bank: Bank):
        async def ask(payment: Payment) -> Any: ...

        assert refused(lambda: bank.payments.flat_map(Known, ask)) == (  # type: ignore[arg-type]
            "topic 'payments', flat_map: expected a plain function; ask is async: that is for an agent"
        )

    def test_any_function_of_one_argument_will_do(self, bank: Bank):
        class Maker:
            def __call__(self, payment: Payment, more: int = 1) -> None: ...

            def make(self, payment: Payment) -> None: ...

        for fn in (Maker(), Maker().make, str):
            bank.payments.map(Known, fn)  # type: ignore[arg-type]


class TestBranch:
    def test_a_row_is_in_the_first_that_is_true(self, bank: Bank):
        branches = bank.payments.branch(AMOUNT < 10, pl.col("note") == "gift")
        rows = pl.DataFrame({"amount": [1.0, 1.0, 20.0, 20.0, 20.0], "note": ["gift", "", "gift", "", None]})
        masks = [rows.select(last_step(flow).expr).to_series().to_list() for flow in branches]
        assert masks == [
            [True, True, False, False, False],
            [False, False, True, False, False],
            [False, False, False, True, True],
        ]

    def test_each_is_checked(self, bank: Bank):
        assert refused(lambda: bank.payments.branch(AMOUNT > 1, AMOUNT)) == (
            "topic 'payments', branch: expected an expression that is true or false; col(\"amount\") gives Float64"
        )
        assert refused(lambda: bank.payments.branch()) == (
            "topic 'payments', branch: expected at least one condition, such as pl.col(\"x\") > 0"
        )
