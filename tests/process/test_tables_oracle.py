"""Tables against plain dicts, under everything that a task does to them."""

from __future__ import annotations

from contextvars import Token
from copy import deepcopy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamproc import App
from streamproc.define.table import tables_of_task
from streamproc.process.state import binary, items
from streamproc.process.tables import TableState

app = App("test")
TABLES = {
    "plain": app.table("plain", default=int, ttl=0.010),
    "plain kept": app.table("plain kept", value=float),
    "fixed": app.table("fixed", default=str, ttl=0.017),
    "fixed kept": app.table("fixed kept", value=tuple[int, ...]),
    "lists": app.table("lists", default=list, value=list[int], ttl=0.025),
    "lists kept": app.table("lists kept", default=list),
    "any": app.table("any", ttl=0.010),
    "volatile": app.table("volatile", default=lambda: 0, volatile=True, ttl=0.010),
}
WITH_DEFAULT = [name for name, table in TABLES.items() if table.default is not None]
LISTS = ["lists", "lists kept"]
NUMBERS = st.integers(-3, 300)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "plain": NUMBERS,
    "plain kept": NUMBERS.map(float),
    "fixed": NUMBERS.map(str),
    "fixed kept": st.lists(NUMBERS, max_size=2).map(tuple),
    "lists": st.lists(NUMBERS, max_size=2),
    "lists kept": st.lists(NUMBERS, max_size=2),
    "any": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2), st.dictionaries(st.just("x"), NUMBERS)),
    "volatile": NUMBERS,
}
KEYS = st.sampled_from("abcd")
Model = dict[str, dict[str, tuple[Any, int]]]  # table, key: the value and when it was written


class Tables(RuleBasedStateMachine):
    """The model is what dicts would hold, the changelog what Kafka would."""

    token: Token[Any]

    @initialize()
    def begin(self) -> None:
        self.state = TableState(app.tables)
        self.token = tables_of_task.set(self.state)
        self.now = 0
        self.state.advance(0)
        self.model: Model = {name: {} for name in TABLES}
        self.before = deepcopy(self.model)
        self.changelog: dict[bytes, bytes] = {}
        self.header = self.state.header()
        self.flushed = deepcopy(self.model), 0

    def teardown(self) -> None:
        if hasattr(self, "token"):
            tables_of_task.reset(self.token)

    # Of an event.

    @rule(data=st.data(), name=st.sampled_from(list(TABLES)), key=KEYS)
    def write(self, data: st.DataObject, name: str, key: str) -> None:
        value = data.draw(VALUES[name])
        TABLES[name][key] = deepcopy(value)
        self.model[name][key] = value, self.now

    @rule(name=st.sampled_from(WITH_DEFAULT), key=KEYS)
    def read(self, name: str, key: str) -> None:
        if key not in self.model[name]:
            self.model[name][key] = TABLES[name].default(), self.now  # type: ignore[misc]
        assert TABLES[name][key] == self.model[name][key][0]

    @rule(name=st.sampled_from(LISTS), key=KEYS, number=NUMBERS)
    def change_in_place(self, name: str, key: str, number: int) -> None:
        TABLES[name][key].append(number)
        values, _ = self.model[name].get(key, ([], 0))
        self.model[name][key] = [*values, number], self.now

    @rule(name=st.sampled_from(list(TABLES)), key=KEYS)
    def pop(self, name: str, key: str) -> None:
        assert TABLES[name].pop(key, "none") == self.model[name].pop(key, ("none", 0))[0]

    @rule(name=st.sampled_from(list(TABLES)))
    def clear(self, name: str) -> None:
        TABLES[name].clear()
        self.model[name].clear()

    @rule()
    def done(self) -> None:
        self.state.check()
        self.state.commit()
        self.before = deepcopy(self.model)

    @rule()
    def raised(self) -> None:
        self.state.rollback()
        self.model = deepcopy(self.before)

    # Between events.

    @rule(step=st.integers(-5, 30))
    def go_on(self, step: int) -> None:
        self.done()
        self.state.advance(self.now + step)
        self.now = max(self.now, self.now + step)
        for name, rows in self.model.items():
            if (ttl := TABLES[name].ttl) is not None:
                for key in [key for key, (_, written) in rows.items() if written + ttl <= self.now]:
                    del rows[key]
        self.before = deepcopy(self.model)

    @rule()
    def flush(self) -> None:
        self.done()
        changes = self.state.changes()
        puts, gone = items(changes.keys), items(changes.gone)
        assert len(set(puts) | set(gone)) == len(puts) + len(gone)
        assert set(gone) <= self.changelog.keys()
        self.changelog.update(zip(puts, items(changes.values), strict=True))
        for key in gone:
            del self.changelog[key]
        self.header = self.state.header()
        self.flushed = deepcopy(self.model), self.now
        rows = sum(len(rows) for name, rows in self.model.items() if name != "volatile")
        assert sum(key[0] == 0x92 for key in self.changelog) == rows

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        order = data.draw(st.permutations(list(self.changelog)))
        self.state = TableState(app.tables)
        self.state.restore(dict(self.header), binary(order), binary([self.changelog[key] for key in order]))
        tables_of_task.set(self.state)
        self.model, self.now = deepcopy(self.flushed)
        self.model["volatile"] = {}
        self.before = deepcopy(self.model)
        assert self.state.header() == self.header
        assert len(self.state.changes().keys) == 0

    @invariant()
    def equal(self) -> None:
        for name, rows in getattr(self, "model", {}).items():
            held = {key: TABLES[name].get(key) for key in TABLES[name]}
            assert list(held.items()) == [(key, value) for key, (value, _) in rows.items()]


Tables.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestTables = Tables.TestCase
