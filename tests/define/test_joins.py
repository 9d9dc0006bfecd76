"""Joins as they are defined: whose columns, whose key, whose time; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from streamproc import merge
from streamproc.define.joined import right_names
from streamproc.define.operators import AsOf, Interval, Lookup, Tables
from tests.define.flow_kit import Account, Bank, Known, Payment, Rate, refused, types

AMOUNT = pl.col("amount")


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def refunds(bank: Bank) -> Any:
    return bank.topic("refunds", Payment)


def stage(bank: Bank, name: str) -> Any:
    return bank.app.agents[name]


class TestIntervals:
    @pytest.mark.parametrize(
        ("within", "bounds"),
        [
            ("10m", (-600_000, 600_000)),
            (("-5m", "0s"), (-300_000, 0)),
            (("1s", "2s"), (1000, 2000)),
            ((-1.5, 0), (-1500, 0)),
            (0, (0, 0)),
        ],
    )
    def test_bounds(self, bank: Bank, refunds: Any, within: Any, bounds: tuple[int, int]):
        assert bank.payments.join(refunds, within=within).operator == Interval(*bounds, "inner", "_right")

    def test_columns_of_both(self, bank: Bank):
        joined = bank.payments.select("id", "card", "at").join(bank.accounts, within="1m", suffix="_of_account")
        assert types(joined) == {
            "id": "str",
            "card": "str",
            "at": "int",
            "at_of_account": "int",
            "country": "str",
            "credit_limit": "float | None",
        }
        assert right_names(*joined.inputs, "_of_account") == {
            "at": "at_of_account", "country": "country", "credit_limit": "credit_limit",
        }  # fmt: skip
        assert joined.record is None
        assert (joined.key, joined.time) == ("card", "at")

    def test_what_may_be_missing_may_be_null(self, bank: Bank):
        left = bank.payments.join(bank.accounts, within="1m", how="left")
        assert (types(left)["amount"], types(left)["country"]) == ("float", "str | None")
        outer = bank.payments.join(bank.accounts, within="1m", how="outer")
        assert (types(outer)["amount"], types(outer)["country"], types(outer)["card"]) == (
            "float | None", "str | None", "str",
        )  # fmt: skip
        assert (outer.key, outer.time) == ("card", None)

    def test_the_stage(self, bank: Bank):
        fields = bank.payments.where(AMOUNT > 1).join(bank.accounts, within="1m", how="left", grace="5s", idle=None)
        known = fields.where(pl.col("country").is_not_null()).to("known", Known)
        made = stage(bank, "known")
        assert (made.grace, made.idle, made.sequenced) == (5000, None, True)
        assert made.sources == (bank.payments, bank.accounts)
        assert list(made.fields) == [*Payment.__struct_fields__, "at_right", "country", "credit_limit"]
        assert len(made.steps) == 1
        assert [late.name for late in made.late] == ["known-late-payments", "known-late-accounts"]
        assert [late.record for late in made.late] == [Payment, Account]
        assert made.sinks == (known, *made.late)
        assert (known.key, known.time) == ("card", "at")
        assert bank.app.readers(bank.accounts) == bank.app.readers(bank.payments) == [made]

    def test_a_stream_may_meet_itself(self, bank: Bank):
        bank.payments.join(bank.payments.where(AMOUNT > 1), within="1m").to("pairs", Payment)
        assert stage(bank, "pairs").sources == (bank.payments,)
        assert [late.name for late in stage(bank, "pairs").late] == ["pairs-late-payments", "pairs-late-payments-2"]

    def test_keys_may_have_two_names(self, bank: Bank):
        other = bank.accounts.select("at", "country", number="card")
        joined = bank.payments.join(other, within="1m")
        assert "number" not in joined.fields
        assert joined.inputs[1].key == "number"

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.payments.join(b.accounts), 'expected within=, such as within="10m" or within=("-5m", "0s"): '
             "how far apart the two may be; or the other topic as a table: .latest()"),
            (lambda b: b.payments.join(b.accounts, within=("0s", "-5m")), "within: expected two durations that "
             "ascend, such as (\"-5m\", \"0s\"); got ('0s', '-5m')"),
            (lambda b: b.payments.join(b.accounts, within=("1s",)), "within: expected one duration, or two such as "
             "(\"-5m\", \"0s\"); got ('1s',)"),
            (lambda b: b.payments.join(b.accounts, within="-1m"), 'within: expected a duration such as "250ms", '
             "\"10s\", \"5m\", \"1h\" or \"1d\"; got '-1m'"),
            (lambda b: b.payments.join(b.accounts, within="1m", how="right"), "expected how to be 'inner' or 'left' "
             "or 'outer'; got 'right'"),
            (lambda b: b.payments.join(b.accounts, within="1m", suffix=""), "expected a suffix such as \"_right\"; "
             "got ''"),
            (lambda b: b.payments.join(b.accounts, within="1m", idle=0), "idle: expected a duration above zero, or "
             "None; got 0"),
            (lambda b: b.payments.join(b.accounts, within="1m", on="card"), "flows are joined by their keys: rekey() "
             "makes another one"),
            (lambda b: b.payments.join(b.rates, within="1m"), "expected topics of equally many partitions; payments "
             "has 4, rates 1: rekey one of them, with partitions="),
            (lambda b: b.payments.join(b.topic("n", Payment, key="account"), within="1m"), "expected keys of one "
             "type; card is str, n's account is int"),
            (lambda b: b.payments.join(Bank().accounts, within="1m"), "expected two flows of one app; accounts is of "
             "app 'bank'"),
            (lambda b: b.payments.join(merge(b.accounts, b.accounts), within="1m"), "flow of 'accounts' is a merge: "
             "give it a topic of its own first: .to(name, Record)"),
            (lambda b: b.payments.with_columns(at_right="at").join(b.accounts, within="1m"), "both sides have "
             "at_right: give another suffix=, or rename one with select()"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str):
        said = refused(lambda: define(bank))
        assert said.startswith(("topic 'payments', join", "flow of 'payments', join"))
        assert said.partition(", join")[2].lstrip(":, ") == text

    def test_a_join_of_a_join_needs_a_topic(self, bank: Bank):
        joined = bank.payments.join(bank.accounts, within="1m")
        for more in (
            lambda: joined.join(bank.accounts, within="1m"),
            lambda: bank.accounts.join(joined, within="1m"),
            lambda: joined.as_of(bank.accounts),
        ):
            assert refused(more) == (
                "flow of 'payments': between a join and a join there must be a topic: .to(name, Record)"
            )

    def test_what_has_no_key_or_time_any_more(self, bank: Bank):
        assert "a join is by key, and it has none" in refused(
            lambda: bank.payments.select("at").join(bank.accounts, within="1m")
        )
        assert "a join is of event time, and it has none" in refused(
            lambda: bank.payments.join(bank.accounts.select("card"), within="1m")
        )

    def test_grace_is_said_once(self, bank: Bank):
        joined = bank.payments.join(bank.accounts, within="1m", grace="1s")
        assert refused(lambda: joined.to("x", Known, grace="2s")) == (
            "flow of 'payments', to 'x': grace= is for a join to say, not here"
        )

    def test_nulls_of_a_left_join_need_a_field_that_takes_them(self, bank: Bank):
        """A row without a match is sure to come."""
        left = bank.payments.join(bank.accounts, within="1m", how="left")
        found = left.select("card", "at", "country", credit_limit=pl.col("credit_limit"))
        assert refused(lambda: found.to("x", Account)) == (
            "flow of 'payments', to 'x': expected country never to be null, as in Account; it may be: say what then, "
            "with fill_null or where(is_not_null), or make the field str | None"
        )
        found.with_columns(country=pl.col("country").fill_null("?")).to("filled", Account)


class TestAsOf:
    def test_the_newest_before(self, bank: Bank):
        joined = bank.payments.as_of(bank.accounts, within="1h", how="left", grace="1s")
        assert joined.operator == AsOf(3_600_000, "left", "_right")
        assert types(joined)["country"] == "str | None"
        assert (joined.key, joined.time) == ("card", "at")

    def test_a_table_is_as_of_event_time(self, bank: Bank):
        joined = bank.payments.where(AMOUNT > 1).join(bank.accounts.where(pl.col("country") != "").latest())
        assert joined.operator == AsOf(None, "inner", "_right")
        assert [len(given.steps) for given in joined.inputs] == [1, 1]
        assert not joined.inputs[1].everywhere

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.payments.as_of(b.accounts, how="outer"), "topic 'payments', as_of: expected how to be "
             "'inner' or 'left'; got 'outer'"),
            (lambda b: b.payments.join(b.accounts.latest(), how="outer"), "topic 'payments', join: expected how to be "
             "'inner' or 'left'; got 'outer'"),
            (lambda b: b.payments.as_of(b.accounts.latest()), None),
            (lambda b: b.payments.join(b.accounts.latest(), within="1m"), "topic 'payments', join: within= is of two "
             "flows; of the age of a row, as_of(within=)"),
            (lambda b: b.payments.join(b.accounts.latest(), on="card"), "topic 'payments', join: on= is for a table "
             "that is everywhere, such as accounts.latest(everywhere=True); this one is joined by key"),
            (lambda b: merge(b.accounts, b.accounts).latest(), "flow of 'accounts': a merge as a table goes to a "
             "topic first: .to(name, Record)"),
            (lambda b: b.payments.deduplicate("id", within="1m").latest(), "flow of 'payments': between a "
             "deduplication and a table there must be a topic: .to(name, Record)"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str | None):
        said = refused(lambda: define(bank))
        assert said == text if text else said.startswith("expected a topic or a flow; got Latest(")


class TestTables:
    def test_a_row_for_each_change(self, bank: Bank):
        limits = bank.topic("limits", Account)
        joined = bank.accounts.latest().join(limits.latest(), how="outer", grace="1s", idle="5s")
        assert joined.operator == Tables("outer", "_right")
        assert (types(joined)["card"], types(joined)["country"]) == ("str", "str | None")
        assert (joined.key, joined.time) == ("card", None)
        assert (joined.grace, joined.idle) == (1000, 5000)

    def test_its_time_is_no_field(self, bank: Bank):
        joined = bank.accounts.latest().join(bank.topic("limits", Account).latest())
        assert joined.to("both", Account).time is None
        assert joined.to("said", Account, time="at").time == "at"

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.accounts.latest().join(b.payments), "expected another table, such as limits.latest(); got "),
            (lambda b: b.accounts.latest(everywhere=True).join(b.payments.latest()), "tables are joined by key, "
             "partition by partition: leave everywhere= out"),
            (lambda b: b.accounts.latest().join(b.payments.latest(), how="all"), "expected how to be 'inner' or "
             "'left' or 'outer'; got 'all'"),
            (lambda b: b.accounts.latest().join(b.rates.latest()), "expected topics of equally many partitions; "
             "accounts has 4, rates 1"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str):
        assert refused(lambda: define(bank)).startswith(f"topic 'accounts', latest().join: {text}")


class TestLookup:
    def test_by_any_field(self, bank: Bank):
        joined = bank.payments.join(bank.rates.latest(everywhere=True), on="currency", how="left")
        assert joined.operator == Lookup("currency", "left", "_right")
        assert [given.everywhere for given in joined.inputs] == [False, True]
        assert types(joined)["per_euro"] == "float | None"
        assert "currency_right" not in joined.fields
        assert (joined.key, joined.time) == ("card", "at")

    def test_by_the_key_where_nothing_else_is_said(self, bank: Bank):
        assert bank.payments.join(bank.accounts.latest(everywhere=True)).operator == Lookup("card", "inner", "_right")

    def test_the_stage_has_no_late_output_of_the_table(self, bank: Bank):
        bank.payments.join(bank.rates.latest(everywhere=True), on="currency").to("known", Payment)
        made = stage(bank, "known")
        assert [late and late.name for late in made.late] == ["known-late-payments", None]
        assert made.sinks[1:] == made.late[:1]

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b, t: b.payments.join(t, on="amount"), "topic 'payments', join, on: expected Payment.amount to be "
             "str or int; it is float"),
            (lambda b, t: b.payments.join(t, on="nope"), "topic 'payments', join, on: Payment has no field 'nope'; it "
             "has id, card, account, currency, at, amount, note"),
            (lambda b, t: b.payments.join(t, on="account"), "topic 'payments', join: expected keys of one type; "
             "account is int, rates's currency is str"),
            (lambda b, t: b.app.topic("free", Payment).join(t), "topic 'free', join: expected on=, the field that has "
             "the keys of rates"),
            (lambda b, t: b.payments.join(b.accounts.rekey("country").latest(everywhere=True), on="note"), "topic "
             "'payments', join: bank-accounts-by-country was rekeyed: as it is everywhere, it need not be"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[..., Any], text: str):
        assert refused(lambda: define(bank, bank.rates.latest(everywhere=True))) == text

    def test_what_has_no_key_can_be_looked_up_with(self, bank: Bank):
        free = bank.app.topic("free", Payment, time="at")
        assert free.join(bank.rates.latest(everywhere=True), on="currency").key is None


class TestEnrich:
    def test_these_fields_only(self, bank: Bank):
        joined = bank.payments.enrich(bank.accounts.latest(), "country", limit="credit_limit")
        assert types(joined) == {
            **types(bank.payments._flow()), "country": "str | None", "limit": "float | None",
        }  # fmt: skip
        assert isinstance(joined.operator, AsOf)
        assert (joined.operator.how, joined.key, joined.time) == ("left", "card", "at")
        known = joined.to("known", Known)
        assert (known.key, known.time) == ("card", "at")

    def test_nothing_else_is_kept(self, bank: Bank):
        right = bank.payments.enrich(bank.accounts.latest(), "country").inputs[1]
        assert list(right.fields) == ["card__", "at__", "country_"]
        assert (right.key, right.time) == ("card__", "at__")

    def test_from_everywhere(self, bank: Bank):
        joined = bank.payments.enrich(bank.rates.latest(everywhere=True), "per_euro", on="currency")
        assert isinstance(joined.operator, Lookup)
        assert types(joined)["per_euro"] == "float | None"

    def test_names_that_are_taken_are_no_hindrance(self, bank: Bank):
        """Neither those of a column that ends like the hidden ones, nor that of the table's own time."""
        left = bank.payments.select("card", "at", card_="id", x__="at")
        joined = left.enrich(bank.accounts.latest(), limit="credit_limit", when="at")
        assert list(joined.fields) == ["card", "at", "card_", "x__", "limit", "when"]
        other = bank.payments.select("card", when="at").enrich(bank.rates.latest(everywhere=True), at="at", on="card")
        assert (other.time, list(other.fields)) == ("when", ["card", "when", "at"])

    def test_another_field_may_have_the_name_of_the_tables_time(self, bank: Bank):
        left = bank.payments.select("card", when="at")
        scores = bank.topic("scores", Payment)
        joined = left.enrich(scores.latest(), at="account")
        assert joined.inputs[1].time == "at__"  # the time still, not the account
        assert list(joined.fields) == ["card", "when", "at"]

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.payments.enrich(b.accounts.latest()), "topic 'payments', enrich: expected fields of Account, "
             'such as "country" or limit="credit_limit"'),
            (lambda b: b.payments.enrich(b.accounts.latest(), "nope"), "topic 'payments', enrich: Account has no field "
             "'nope'; it has card, at, country, credit_limit"),
            (lambda b: b.payments.enrich(b.accounts.latest(), "at"), "topic 'payments', enrich: Payment has a field at "
             "already: give the other one another name, such as at_of_accounts='at'"),
            (lambda b: b.payments.enrich(b.accounts, "country"), None),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str | None):
        said = refused(lambda: define(bank))
        assert said == text if text else said.startswith("topic 'payments', enrich: expected a table, such as acc")


def test_rates_by_hand(bank: Bank):
    """What one would write without enrich."""
    joined = bank.payments.join(bank.rates.latest(everywhere=True), on="currency")
    euros = joined.with_columns(amount=AMOUNT / pl.col("per_euro")).to("euros", Payment)
    assert euros.record is Payment
    assert Rate.__struct_fields__[2] in stage(bank, "euros").fields
