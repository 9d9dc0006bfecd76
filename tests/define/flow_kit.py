"""Payments, accounts and rates, to define flows and joins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamproc import App, Record, Topic
from streamproc.errors import DefinitionError


class Payment(Record):
    id: str
    card: str
    account: int
    currency: str
    at: int
    amount: float
    note: str | None


class Account(Record):
    card: str
    at: int
    country: str
    credit_limit: float | None


class Rate(Record):
    currency: str
    at: int
    per_euro: float


class Known(Record):
    """A payment with its account's country."""

    id: str
    card: str
    at: int
    amount: float
    country: str | None


class Total(Record):
    card: str
    start: int
    end: int
    n: int
    amount: float


class Bank:
    """An app with the three topics."""

    def __init__(self) -> None:
        self.app = App("bank")
        self.payments = self.topic("payments", Payment)
        self.accounts = self.topic("accounts", Account)
        self.rates = self.app.topic("rates", Rate, key="currency", time="at", partitions=1)

    def topic(self, name: str, record: type[Record], **how: Any) -> Topic:
        return self.app.topic(name, record, **{"key": "card", "time": "at", **how})


def types(flow: Any) -> dict[str, str]:
    """What a flow's rows have."""
    return {name: str(field) for name, field in flow.fields.items()}


def refused(define: Callable[[], Any]) -> str:
    """What a wrong definition says."""
    with pytest.raises(DefinitionError) as caught:
        define()
    return str(caught.value)
