"""Where flows end: in channels, in windows, in topics of another key; and merging and deduplicating on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from streamproc import App, Channel, Record, count, counting, merge, total, tumbling
from streamproc.define.operators import Deduplicate, Rekey
from streamproc.define.pipeline import Pipeline
from streamproc.define.steps import Select, Where
from tests.define.flow_kit import Account, Bank, Known, Payment, Total, refused

AMOUNT = pl.col("amount")


@pytest.fixture
def bank() -> Bank:
    return Bank()


def stage(bank: Bank, name: str) -> Any:
    return bank.app.agents[name]


class TestTo:
    def test_a_stage_and_its_channel(self, bank: Bank):
        large = bank.payments.where(AMOUNT > 100).to("large", Payment)
        assert isinstance(large, Channel)
        assert bank.app.topics["large"] is large
        assert (large.key, large.time, large.partitions) == ("card", "at", 4)
        made = stage(bank, "large")
        assert isinstance(made, Pipeline)
        assert (made.operator, made.steps, made.sinks, made.late) == (None, (), (large,), (None,))
        assert (made.source, made.sources, made.sequenced) == (bank.payments, (bank.payments,), False)
        assert [type(step) for step in made.inputs[0].steps] == [Where]
        assert bank.app.readers(bank.payments) == [made]

    def test_columns_that_the_type_does_not_have_are_left_out(self, bank: Bank):
        known = bank.payments.with_columns(country=pl.lit("DE")).to("known", Known)
        assert known.record is Known

    def test_settings_of_the_channel(self, bank: Bank):
        known = bank.payments.to(
            "copy", Payment, key="account", cause="id", partitions=2, config={"retention.ms": "1000"}
        )
        assert (known.key, known.cause, known.partitions) == ("account", "id", 2)
        assert known.config == {"retention.ms": "1000"}

    def test_a_type_without_key_and_time_has_none(self, bank: Bank):
        class Fee(Record):
            __schema__ = "fee"
            amount: float

        fees = bank.payments.map(Fee, lambda payment: Fee(payment.amount)).to("fees", Fee)
        assert (fees.key, fees.time) == (None, None)

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.payments.to("x", dict), "topic 'payments', to 'x': expected a subclass of Record; got "
             "<class 'dict'>"),
            (lambda b: b.payments.to("x", Known), "topic 'payments', to 'x': Known has a field country; the flow has "
             "id, card, account, currency, at, amount, note"),
            (lambda b: b.payments.with_columns(amount="at").to("x", Payment), "flow of 'payments', to 'x': expected "
             "amount to be float, as in Payment; it is int: .cast(pl.Float64)"),
            (lambda b: b.payments.with_columns(card=pl.col("note")).to("x", Payment), "flow of 'payments', to 'x': "
             "expected card never to be null, as in Payment; it may be: say what then, with fill_null or "
             "where(is_not_null), or make the field str | None"),
            (lambda b: b.payments.to("x", Payment, grace="5s"), "topic 'payments', to 'x': grace= is for flows that "
             "were merged or rekeyed; this one goes by the log"),
            (lambda b: b.payments.to("x", Payment, key="nope"), "topic 'x', key: Payment has no field 'nope'; it has "
             "id, card, account, currency, at, amount, note"),
            (lambda b: b.payments.to("payments", Payment), "topic 'payments' is declared twice"),
            (lambda b: b.payments.rekey("account").to("x", Payment, idle=0), "topic 'bank-payments-by-account', to "
             "'x', idle: expected a duration above zero, or None; got 0"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str):
        assert refused(lambda: define(bank)) == text

    def test_a_null_that_the_rows_that_are_tried_do_not_bring_is_for_the_run(self, bank: Bank):
        """A string that is no number is null only where there is one."""
        bank.payments.with_columns(at=pl.col("id").cast(pl.Int64)).to("strict", Payment)
        said = refused(
            lambda: bank.payments.with_columns(at=pl.col("id").cast(pl.Int64, strict=False)).to("x", Payment)
        )
        assert "expected at never to be null" in said


class TestWindows:
    def test_over_what_steps_give(self, bank: Bank):
        flow = bank.payments.where(AMOUNT > 1).select("card", "at", amount=AMOUNT * 2)
        totals = flow.window(tumbling("1m"), grace="5s").agg("totals", Total, n=count(), amount=total("amount"))
        made = stage(bank, "totals")
        assert (made.source, made.key, made.time, made.sequenced) == (bank.payments, "card", "at", False)
        assert list(made.fields) == ["card", "at", "amount"]
        assert (totals.key, totals.time) == ("card", "end")
        assert made.late.name == "totals-late"
        assert made.late.record is Payment  # late events come as they were
        assert made.sinks == (totals, made.late)

    def test_over_several_inputs(self, bank: Bank):
        old = bank.topic("old", Payment)
        merge(bank.payments, old).window(tumbling("1m")).agg("totals", Total, n=count(), amount=total("amount"))
        made = stage(bank, "totals")
        assert made.sequenced
        assert made.sources == (bank.payments, old)
        assert [late.name for late in made.lates] == ["totals-late-payments", "totals-late-old"]
        assert made.late is made.lates[0]

    def test_aggregates_know_the_columns(self, bank: Bank):
        flow = bank.payments.select("card", "at", doubled=AMOUNT * 2)
        said = refused(lambda: flow.window(tumbling("1m")).agg("t", Total, n=count(), amount=total("amount")))
        assert said == "aggregation 't', amount=total(amount): the flow has no field 'amount'; it has card, at, doubled"

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda p: p.select("at", "amount"), "windows are per key, and it has none: it has card no more: select "
             "leaves it out, or makes another of it: keep it, or rekey()"),
            (lambda p: p.select("card", "amount"), "windows are of event time, and it has none: it has at no more: "
             "select leaves it out, or makes another of it"),
            (lambda p: p.deduplicate("id", within="1m"), "between a deduplication and windows there must be a topic: "
             ".to(name, Record)"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Any], Any], text: str):
        assert refused(lambda: define(bank.payments).window(tumbling("1m"))) == f"flow of 'payments': {text}"

    def test_of_the_window_it_says_what_it_said_of_topics(self, bank: Bank):
        flow = bank.payments.where(AMOUNT > 1)
        assert refused(lambda: flow.window(counting(3), grace="1s")) == (
            "flow of 'payments': counting(3) takes events in any order: it has no grace"
        )


class TestRekey:
    def test_through_a_topic(self, bank: Bank):
        flow = bank.payments.where(AMOUNT > 1).rekey("account")
        (made,) = bank.app.agents.values()
        topic = bank.app.topics["bank-payments-by-account"]
        assert (made.name, made.operator, made.sinks, made.late) == ("payments-by-account", Rekey(), (topic,), (None,))
        assert not made.sequenced
        assert (topic.key, topic.time, topic.record, topic.partitions) == ("account", "at", Payment, 4)
        assert not topic.publish
        (given,) = flow.inputs
        assert (given.topic, given.origins, given.steps, flow.key) == (topic, 4, (), "account")

    def test_what_reads_it_is_put_in_order(self, bank: Bank):
        channel = bank.payments.rekey("account", partitions=2).to("accounted", Payment, grace="3s", idle="2s")
        made = stage(bank, "accounted")
        assert made.sequenced
        assert (made.grace, made.idle) == (3000, 2000)
        assert made.inputs[0].origins == 4  # of the topic before, whatever this one has
        assert channel.partitions == 2
        assert [late.name for late in made.late] == ["accounted-late"]
        assert made.sinks == (channel, *made.late)

    def test_of_other_columns_with_their_type(self, bank: Bank):
        flow = bank.payments.with_columns(country=pl.lit("DE"))
        assert refused(lambda: flow.rekey("id")) == (
            "flow of 'payments', rekey: its columns are not its record type's any more, but id, card, account, "
            "currency, at, amount, note, country: give the new one, such as rekey('id', Record)"
        )
        assert flow.rekey("id", Known).record is Known

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: b.payments.rekey("nope"), "topic 'payments', rekey: Payment has no field 'nope'; it has id, "
             "card, account, currency, at, amount, note"),
            (lambda b: b.payments.rekey("amount"), "topic 'bank-payments-by-amount', key: expected Payment.amount to "
             "be str or int; it is float"),
            (lambda b: b.payments.rekey("note"), "topic 'bank-payments-by-note', key: expected Payment.note to be str "
             "or int; it is str | None"),
            (lambda b: merge(b.payments, b.payments.where(AMOUNT > 1)).rekey("id"), "flow of 'payments', rekey: it is "
             "a merge: rekey the flows first, and merge what comes of that"),
            (lambda b: b.payments.rekey("id").rekey("account"), "topic 'bank-payments-by-id', rekey: it was rekeyed "
             "already: rekey the flow before, or go on from .to(name, Record)"),
            (lambda b: (b.payments.rekey("id"), b.payments.where(AMOUNT > 1).rekey("id")), "flow of 'payments', "
             "rekey: topic 'bank-payments-by-id' is there already: give this one another name="),
            (lambda b: b.payments.deduplicate("id", within="1m").rekey("id"), "flow of 'payments': between a "
             "deduplication and a rekeying there must be a topic: .to(name, Record)"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str):
        assert refused(lambda: define(bank)) == text

    def test_two_of_one_topic_have_two_names(self, bank: Bank):
        bank.payments.rekey("id")
        other = bank.payments.where(AMOUNT > 1).rekey("id", name="large-by-id")
        assert other.inputs[0].topic.name == "bank-large-by-id"


class TestDeduplicate:
    def test_in_order_of_the_log(self, bank: Bank):
        bank.payments.deduplicate("id", within="10m").to("once", Payment)
        made = stage(bank, "once")
        assert made.operator == Deduplicate("id", 600_000)
        assert (made.sequenced, made.late, made.idle) == (False, (None,), None)

    def test_of_several_inputs_in_order_of_event_time(self, bank: Bank):
        old = bank.topic("old", Payment)
        flow = merge(bank.payments, old).deduplicate("id", within="10m", grace="5s").with_columns(amount=AMOUNT * 2)
        flow.to("once", Payment)
        made = stage(bank, "once")
        assert (made.sequenced, made.grace, made.idle, len(made.steps)) == (True, 5000, 1000, 1)

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda p: p.deduplicate("nope", within="1m"), "topic 'payments', deduplicate: Payment has no field "
             "'nope'; it has id, card, account, currency, at, amount, note"),
            (lambda p: p.deduplicate("amount", within="1m"), "topic 'payments', deduplicate: expected Payment.amount "
             "to be str or int; it is float"),
            (lambda p: p.deduplicate("id", within=0), "topic 'payments', deduplicate: expected within= above zero; "
             "got 0"),
            (lambda p: p.deduplicate("id", within="1m", grace="1s"), "topic 'payments', deduplicate: grace= is for "
             "flows that were merged or rekeyed; this one goes by the log"),
            (lambda p: p.rekey("account").deduplicate("id", within="1m").to("x", Payment, grace="1s"), "topic "
             "'bank-payments-by-account', to 'x': grace= is for a deduplication to say, not here"),
            (lambda p: p.app.topic("free", Payment).deduplicate("id", within="1m"), "topic 'free': rows are "
             "deduplicated partition by partition, that is by key, and it has none: declare it with key="),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Any], Any], text: str):
        said = refused(lambda: define(bank.payments))
        assert said.replace("flow of 'bank-", "topic 'bank-") == text


class TestMerge:
    def test_inputs_side_by_side(self, bank: Bank):
        old, third = bank.topic("old", Payment), bank.topic("third", Payment)
        flow = merge(bank.payments, merge(old, third)).where(AMOUNT > 1)
        assert flow.record is Payment
        flow.to("all", Payment)
        made = stage(bank, "all")
        assert made.operator is None
        assert made.sources == (bank.payments, old, third)
        assert [type(given.steps[-1]) for given in made.inputs] == [Where] * 3

    def test_a_topic_may_come_in_twice(self, bank: Bank):
        small, rest = bank.payments.branch(AMOUNT < 10)
        merge(small, rest).to("all", Payment)
        made = stage(bank, "all")
        assert made.sources == (bank.payments,)
        assert made.sequenced
        assert [late.name for late in made.late] == ["all-late-payments", "all-late-payments-2"]
        assert bank.app.readers(bank.payments) == [made]

    def test_columns_come_in_one_order(self, bank: Bank):
        one = bank.payments.select("card", "at", "note")
        other = bank.payments.select("at", "card", note=pl.col("note").fill_null(""))
        flow = merge(other, one)
        assert [list(given.fields) for given in flow.inputs] == [["at", "card", "note"]] * 2
        assert [type(step) for step in flow.inputs[1].steps] == [Select, Select]
        assert [expr.meta.output_name() for expr in flow.inputs[1].steps[1].exprs] == ["at", "card", "note"]
        assert str(flow.fields["note"]) == "str | None"
        assert flow.inputs[0].fields == flow.inputs[1].fields == flow.fields

    @pytest.mark.parametrize(
        ("define", "text"),
        [
            (lambda b: merge(b.payments), "merge: expected two flows or more; got 1"),
            (lambda b: merge(b.payments, 7), "expected a topic or a flow; got 7"),
            (lambda b: merge(b.payments, b.accounts), "merge: expected flows of equal columns; id is str in topic "
             "'payments', not in topic 'accounts'"),
            (lambda b: merge(b.payments, b.payments.with_columns(amount="at")), "merge: expected flows of equal "
             "columns; amount is float in topic 'payments', int in flow of 'payments'"),
            (lambda b: merge(b.payments, b.payments.with_columns(x="at")), "merge: expected flows of equal columns; x "
             "is not in topic 'payments', int in flow of 'payments'"),
            (lambda b: merge(b.payments, b.topic("p2", Payment, key="id")), "merge: expected flows of one key; topic "
             "'payments' has card, topic 'p2' id"),
            (lambda b: merge(b.payments, b.topic("p2", Payment, time=None)), "merge: expected flows of one time; "
             "topic 'payments' has at, topic 'p2' none"),
            (lambda b: merge(b.payments, b.topic("p2", Payment, partitions=2)), "merge: expected topics of equally "
             "many partitions; payments has 4, p2 2: rekey one of them, with partitions="),
            (lambda b: merge(b.payments, Bank().payments), "merge: expected flows of one app; payments is of app "
             "'bank'"),
            (lambda b: merge(b.payments, b.payments.join(b.accounts, within="1m")), "flow of 'payments': between a "
             "join and a merge there must be a topic: .to(name, Record)"),
        ],
    )  # fmt: skip
    def test_refused(self, bank: Bank, define: Callable[[Bank], Any], text: str):
        assert refused(lambda: define(bank)) == text


def test_names_of_stages_are_taken_once(bank: Bank):
    bank.payments.to("copy", Payment)
    said = refused(lambda: bank.app.add(Pipeline("copy", (), None, {}, (), (), ())))
    assert said == "the name 'copy' is taken: another stage of this app has it"


def test_accounts_are_a_topic_like_any_other():
    """A flow of one app is not another's."""
    one, other = App("one"), App("two")
    a = one.topic("a", Account, key="card", time="at")
    b = other.topic("b", Account, key="card", time="at")
    assert "expected flows of one app; b is of app 'two'" in refused(lambda: merge(a, b))
