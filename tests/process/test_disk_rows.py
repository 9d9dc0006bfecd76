"""Tables on disk against plain dicts, with everything that tables in memory are tried with; and crashes that lose what
the store got last.
"""

from __future__ import annotations

import importlib.util
from contextvars import Token
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from streamproc import App
from streamproc.define.table import tables_of_task
from streamproc.errors import StateError
from streamproc.process import disk_rows
from streamproc.process.disk_rows import MemoryStore, put_rows
from streamproc.process.state import binary, items
from streamproc.process.tables import TableState
from streamproc.state.rocks import Mark, RocksStore, marked, open_store, shared_cache
from tests.process.test_tables_oracle import TABLES, Tables, app

ON_DISK = [name for name in TABLES if name not in ("volatile", "any")]  # "any" stays in memory
DISK = [TABLES[name] for name in ON_DISK]
rocks = pytest.mark.skipif(importlib.util.find_spec("rocksdict") is None, reason="rocksdict is not installed")


class DiskTables(Tables):
    """The changelog is a list of what it got; the store has its rows up to some place."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.log: list[tuple[bytes, bytes | None]] = []
        self.store = MemoryStore()
        self.disks: list[tuple[int, dict[bytes, bytes]]] = [(0, {})]  # the store after each write, and up to where
        self.upto: int | None = None  # of the flush that is under way
        self.kept: tuple[dict[bytes, bytes], list[bytes]] | None = None  # of that, where it is committed
        self.written = False  # and has come to the store
        self._start()
        self.state.advance(0)
        self.header = self.state.header()

    def _start(self) -> None:
        self.state = TableState(app.tables, self.store, ON_DISK)
        tables_of_task.set(self.state)

    @rule()
    def flush(self) -> None:
        self.done()
        self.committed()
        changes = self.state.changes()
        puts, gone = items(changes.keys), items(changes.gone)
        assert len(set(puts) | set(gone)) == len(puts) + len(gone)
        self.log += [*zip(puts, items(changes.values), strict=True), *((key, None) for key in gone)]
        self.header = self.state.header()
        self.flushed = deepcopy(self.model), self.now
        self.upto = len(self.log)
        rows = sum(len(rows) for name, rows in self.model.items() if name != "volatile")
        assert sum(key[0] == 0x92 for key, value in dict(self.log).items() if value is not None) == rows

    def committed(self) -> None:
        for _ in range(3):
            self.goes_on()

    @rule()
    def goes_on(self) -> None:
        """The flush comes a step further: each in a thread of its own time, while events are done."""
        if self.upto is None:
            return
        if self.kept is None:
            self.kept = self.state.kept()
        elif not self.written:
            self.store.write(*self.kept)
            self.disks.append((self.upto, dict(self.store.rows)))
            self.written = True
        else:
            self.state.stored()
            self.upto, self.kept, self.written = None, None, False

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        upto, rows = data.draw(st.sampled_from(self.disks[-3:]))
        self.store.rows = dict(rows)
        left = put_rows(self.store, DISK, dict(self.log[upto:]))
        assert not any(key.startswith(disk_rows.Layout(table).rows) for key in left for table in DISK)
        self.disks = [(len(self.log), dict(self.store.rows))]
        self.upto, self.kept, self.written = None, None, False
        self._start()
        own = {key: value for key, value in dict(self.log).items() if value is not None and b"\xa3any" in key}
        self.state.restore(dict(self.header), binary(list(own)), binary(list(own.values())))
        self.model, self.now = deepcopy(self.flushed)
        self.model["volatile"] = {}
        self.before = deepcopy(self.model)
        assert self.state.header() == self.header
        assert len(self.state.changes().keys) == 0

    @invariant()
    def equal(self) -> None:
        for name, rows in getattr(self, "model", {}).items():
            table = TABLES[name]
            held = [(key, table.get(key)) for key in table]
            want = [(key, value) for key, (value, _) in rows.items()]
            assert held == (sorted(want) if name in ON_DISK else want)
            assert len(table) == len(rows)


@pytest.mark.parametrize("near", [0, 2, 4096])
def test_they_are_as_dicts(near: int):
    with patch.object(disk_rows, "_NEAR", near):
        run_state_machine_as_test(DiskTables, settings=settings(max_examples=60, stateful_step_count=60, deadline=None))


# By hand.


@pytest.fixture
def table() -> Any:
    return App("disk").table("t", default=int, key=int, ttl="10s")


def using(state: TableState) -> Token[Any]:
    return tables_of_task.set(state)


def keep(state: TableState, store: Any) -> None:
    state.changes()
    store.write(*state.kept())
    state.stored()


def test_few_rows_stay_in_memory():
    table = App("disk").table("t", default=list, key=int, value=list[int])
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    with patch.object(disk_rows, "_NEAR", 100):
        for i in range(5000):
            state.advance(i)
            table[i].append(i)
            _ = table.get(i // 2)
            state.check()
            state.commit()
            if i % 50 == 0:
                keep(state, store)
            rows: Any = state.rows(table)
            assert len(rows._cells.near) <= 300
            assert len(rows._cells.gone) <= 300
        assert len(table) == 5000
        assert all(value == [key] for key, value in table.items())
        state.rollback()  # until here it might have changed any of these lists
        keep(state, store)
        assert len(rows._cells.near) <= 300
    tables_of_task.reset(token)


def test_rows_that_were_undone_are_forgotten(table: Any):
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    rows: Any = state.rows(table)
    with patch.object(disk_rows, "_NEAR", 100):
        for i in range(1000):
            table[i] = i
            state.rollback()
            if i % 50 == 0:
                keep(state, store)
            assert len(rows._cells.gone) <= 150
    assert len(table) == 0
    tables_of_task.reset(token)


def test_rows_that_are_over_leave_the_store(table: Any):
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    for i in range(2000):
        state.advance(100 * i)
        table[i % 150] = i  # half of them come again before they are over
        state.check()
        state.commit()
        keep(state, store)
        assert len(table) <= 100
        assert len(store.rows) <= 2 * 102 + 2
        assert not state.rows(table)._oldest  # type: ignore[attr-defined]
    tables_of_task.reset(token)


def test_a_row_expires_while_its_flush_is_on_its_way_to_the_store(table: Any):
    for moment in range(4):
        store = MemoryStore()
        state = TableState({"t": table}, store, ["t"])
        token = using(state)
        state.advance(0)
        table[1] = 1
        state.commit()
        steps = [state.changes, state.kept, lambda: store.write(*kept), state.stored]  # noqa: B023
        kept: Any = None
        for number, step in enumerate(steps):
            kept = step() if number == 1 else (step(), kept)[1]
            if number == moment:
                state.advance(10_000)
                assert len(table) == 0
        keep(state, store)
        assert disk_rows.Layout(table).count(store) == 0
        tables_of_task.reset(token)


def test_a_store_of_other_types_is_refused(table: Any):
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    state.advance(1)
    table[1] = 1
    state.commit()
    keep(state, store)
    tables_of_task.reset(token)
    for other, said in (
        (App("disk").table("t", default=int, key=int), "had a ttl, and has none now"),
        (App("disk").table("t", default=float, key=int, ttl="10s"), "values of int; now"),
    ):
        with pytest.raises(StateError, match=said):
            TableState({"t": other}, store, ["t"]).restore(state.header(), binary([]), binary([]))


def test_a_row_that_is_damaged_on_disk(table: Any):
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    store.write({disk_rows.Layout(table).rows + b"\x01": b"\x92\x00\xa1x"}, [])
    with pytest.raises(StateError, match="on disk cannot be read"):
        _ = table[1]
    tables_of_task.reset(token)


# RocksDB.


MARK = Mark("log", "id", 3, "tables 1", 7, 1000, b"head")


@rocks
def test_a_store_of_rocksdb_is_as_one_in_memory(tmp_path: Path):
    stores = [open_store(tmp_path, shared_cache(), "log", "id", 3, "tables 1", 0), MemoryStore()]
    for store in stores:
        store.write({b"b": b"2", b"a\x00": b"", b"a\xff": b"1", b"c": b"3"}, [])
        rows = store.scan(b"a")
        store.write({b"a": b"0", b"b": b"4"}, [b"c", b"a\xff", b"none"])
        assert list(rows) == [(b"a\x00", b""), (b"a\xff", b"1")]
        assert list(store.scan(b"")) == [(b"a", b"0"), (b"a\x00", b""), (b"b", b"4")]
        assert list(store.scan(b"a", b"\x00")) == [(b"a\x00", b"")]
        assert (store.get(b"b"), store.get(b"c")) == (b"4", None)


@rocks
def test_a_store_is_used_again_only_where_it_fits(tmp_path: Path):
    cache, like = shared_cache(), ("log", "id", 3, "tables 1")
    store = open_store(tmp_path, cache, *like, 0)
    assert store.mark is None
    store.write(marked({b"x": b"1"}, MARK), [])
    store.close()
    again = open_store(tmp_path, cache, *like, 1000)
    assert again.mark == MARK
    assert again.get(b"x") == b"1"
    again.close()
    for other in (("log", "another", 3, "tables 1", 0), ("log", "id", 3, "tables 2", 0), (*like, 1001)):
        store = open_store(tmp_path, cache, *other)
        assert (store.mark, store.get(b"x")) == (None, None)
        store.write(marked({b"x": b"1"}, MARK), [])
        store.close()


@rocks
def test_a_damaged_store_is_made_anew(tmp_path: Path):
    cache = shared_cache()
    store = open_store(tmp_path, cache, "log", "id", 3, "tables 1", 0)
    store.write(marked({b"x": b"1"}, MARK), [])
    store.close()
    for path in (tmp_path / "log-3.rocks").glob("MANIFEST-*"):
        path.write_bytes(b"damaged")
    assert open_store(tmp_path, cache, "log", "id", 3, "tables 1", 0).mark is None


@rocks
def test_what_another_has_open_is_left_alone(tmp_path: Path):
    cache = shared_cache()
    store = open_store(tmp_path, cache, "log", "id", 3, "tables 1", 0)
    store.write(marked({b"x": b"1"}, MARK), [])
    store.flush()
    files = {path.name for path in tmp_path.rglob("*.sst")}
    assert open_store(tmp_path, cache, "log", "id", 3, "tables 1", 0) is None
    assert files == {path.name for path in tmp_path.rglob("*.sst")} != set()


@rocks
def test_tables_on_rocksdb(tmp_path: Path, table: Any):
    store = RocksStore(tmp_path / "rows", shared_cache())
    state = TableState({"t": table}, store, ["t"])
    token = using(state)
    for i in range(500):
        state.advance(100 * i)
        table[i % 130] += i
        state.check()
        if i % 7 == 0:
            state.rollback()
        else:
            state.commit()
        if i % 20 == 0:
            keep(state, store)
    keep(state, store)
    held, header = dict(table), state.header()
    store.close()
    state = TableState({"t": table}, RocksStore(tmp_path / "rows", shared_cache()), ["t"])
    using(state)
    state.restore(header, binary([]), binary([]))
    assert dict(table) == held
    assert len(table) == len(held)
    tables_of_task.reset(token)
