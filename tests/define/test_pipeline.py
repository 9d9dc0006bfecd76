"""Stages of flows as data, and printed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import polars as pl
import pytest

import streamproc
from streamproc import Stream, count, merge, total, tumbling
from streamproc.define import graph
from streamproc.define.pipeline import Input, in_order, late_names
from streamproc.process.windowing import window_task
from tests.define.flow_kit import Account, Bank, Known, Payment, Total

AMOUNT = pl.col("amount")


@pytest.fixture
def bank() -> Bank:
    """Flows of every kind."""
    bank = Bank()
    large = bank.payments.where(AMOUNT > 100)
    known = large.enrich(bank.accounts.latest(), "country", grace="5s").to("known", Known)
    old = bank.topic("old", Payment)
    merge(large, old).window(tumbling("1m")).agg("totals", Total, n=count(), amount=total("amount"))
    bank.payments.rekey("account").deduplicate("id", within="1m").to("once", Payment)
    known.where(pl.col("country") == "DE").map(Known, lambda known: known).to("german", Known)
    return bank


def test_text(bank: Bank):
    assert graph.text(bank.app) == (
        "app bank\n"
        "  topic payments: Payment (key=card, time=at, 4 partitions)\n"
        "    join as of event time, left, grace 5s: payments (where), accounts (select); then select\n"
        "      channel known: Known (key=card, time=at, 4 partitions)\n"
        "        pipeline: known (where, map(Known))\n"
        "          channel german: Known (key=card, time=at, 4 partitions)\n"
        "      topic known-late-payments: Payment (key=card, time=at, 4 partitions)\n"
        "      topic known-late-accounts: Account (key=card, time=at, 4 partitions)\n"
        "    window tumbling(1m) grace 0ms over payments (where), old: n=count(), amount=total(amount)\n"
        "      channel totals: Total (key=card, time=end, 4 partitions)\n"
        "      topic totals-late-payments: Payment (key=card, time=at, 4 partitions)\n"
        "      topic totals-late-old: Payment (key=card, time=at, 4 partitions)\n"
        "    rekey: payments\n"
        "      topic bank-payments-by-account: Payment (key=account, time=at, 4 partitions)\n"
        "        deduplicate by id within 1m, grace 0ms: bank-payments-by-account\n"
        "          channel once: Payment (key=account, time=at, 4 partitions)\n"
        "          topic once-late: Payment (key=account, time=at, 4 partitions)\n"
        "  topic accounts: Account (key=card, time=at, 4 partitions)\n"
        "    join as of event time, left, grace 5s: payments (where), accounts (select); then select\n"
        "      channel known: Known (key=card, time=at, 4 partitions) (see above)\n"
        "      topic known-late-payments: Payment (key=card, time=at, 4 partitions)\n"
        "      topic known-late-accounts: Account (key=card, time=at, 4 partitions)\n"
        "  topic rates: Rate (key=currency, time=at, 1 partition)\n"
        "  topic old: Payment (key=card, time=at, 4 partitions)\n"
        "    window tumbling(1m) grace 0ms over payments (where), old: n=count(), amount=total(amount)\n"
        "      channel totals: Total (key=card, time=end, 4 partitions)\n"
        "      topic totals-late-payments: Payment (key=card, time=at, 4 partitions)\n"
        "      topic totals-late-old: Payment (key=card, time=at, 4 partitions)\n"
        "  dead letters: bank-dead-letters"
    )


def test_graphs_have_an_edge_from_each_source(bank: Bank):
    mermaid, dot = graph.mermaid(bank.app).splitlines(), graph.dot(bank.app).splitlines()
    node = mermaid.index(
        '  a0["join as of event time, left, grace 5s: payments (where), accounts (select); then select"]'
    )
    assert mermaid[node + 1 : node + 6] == ["  t0 --> a0", "  t1 --> a0", "  a0 --> t3", "  a0 --> t4", "  a0 --> t5"]
    assert '  "payments" -> "agent known";' in dot
    assert '  "accounts" -> "agent known";' in dot
    assert '  "agent known" -> "known-late-accounts";' in dot


@pytest.mark.parametrize(
    ("define", "text"),
    [
        (lambda b: b.payments.join(b.accounts, within=("-5m", "1s"), how="outer", grace="1s"),
         "join within [-5m, 1s], outer, grace 1s: payments, accounts; then select"),
        (lambda b: b.payments.as_of(b.accounts, within="1h"),
         "join as of event time, within 1h, inner, grace 0ms: payments, accounts; then select"),
        (lambda b: b.payments.join(b.accounts.latest(everywhere=True)),
         "lookup by card, inner, grace 0ms: payments, accounts; then select"),
        (lambda b: b.payments.latest().join(b.accounts.latest()),
         "join of tables, inner, grace 0ms: payments, accounts; then select"),
    ],
)  # fmt: skip
def test_joins_in_words(define: object, text: str):
    bank = Bank()
    flow = define(bank)  # type: ignore[operator]
    flow.select(
        "card", "credit_limit", at=pl.coalesce("at", "at_right", 0), country=pl.col("country").fill_null("")
    ).to("x", Account, time="at")
    assert str(bank.app.agents["x"]) == text


def test_merges_and_copies_in_words():
    bank = Bank()
    bank.payments.to("copy", Payment)
    merge(bank.payments, bank.payments.flat_map(Payment, lambda payment: [])).to("both", Payment, grace="2s")
    assert [str(stage) for stage in bank.app.agents.values()] == [
        "pipeline: payments",
        "merge, grace 2s: payments, payments (flat_map(Payment))",
    ]


def test_readers_are_all_who_have_it_among_their_sources(bank: Bank):
    @bank.app.agent(bank.accounts)
    async def watch(stream: Stream[Account]) -> None: ...

    watching = bank.app.agents["watch"]
    assert watching.sources == (bank.accounts,)
    assert not watching.sequenced
    assert [stage.name for stage in bank.app.readers(bank.payments)] == ["known", "totals", "payments-by-account"]
    assert [stage.name for stage in bank.app.readers(bank.accounts)] == ["known", "watch"]


def test_inputs(bank: Bank):
    one = Input(bank.payments, (), {}, "card", "at")
    rekeyed = Input(bank.payments, (), {}, "card", "at", origins=4)
    assert (in_order((one,)), in_order((rekeyed,)), in_order((one, one))) == (False, True, True)
    assert late_names("x", (one,)) == ["x-late"]
    assert late_names("x", (one, rekeyed, Input(bank.accounts, (), {}, "card", "at"))) == [
        "x-late-payments", "x-late-payments-2", "x-late-accounts",
    ]  # fmt: skip


def test_agents_read_what_flows_give(bank: Bank):
    @bank.app.agent(bank.app.topics["german"], sink=bank.app.channel("seen", Known))
    async def see(stream: Stream[Known]) -> AsyncIterator[Known]:
        async for known in stream:
            yield known

    assert bank.app.readers(bank.app.topics["german"])[0].name == "see"


def test_state_of_windows_without_steps_means_what_it_meant():
    """Windows that were kept before there were flows are read on."""
    bank = Bank()
    bank.payments.window(tumbling("1m")).agg("totals", Total, n=count(), amount=total("amount"))
    (made,) = bank.app.agents.values()
    assert window_task(made).version() == "windows-1-89d0104c765e7134"


def test_public_names():
    from streamproc.define.flow import Flow
    from streamproc.define.latest import Latest

    assert streamproc.merge is merge
    assert (streamproc.Flow, streamproc.Latest) == (Flow, Latest)
