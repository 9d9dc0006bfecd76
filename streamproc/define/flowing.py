"""What topics and flows have in common: all that can be done with rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import polars as pl

from streamproc.define import joined, transforms
from streamproc.define.aggregation import Windowed, windowed
from streamproc.define.duration import Duration
from streamproc.define.ending import ended
from streamproc.define.latest import Latest
from streamproc.define.operators import How
from streamproc.define.reordered import deduplicated, rekeyed
from streamproc.define.steps import FlatMap, Map
from streamproc.define.windows import Updates, Window
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.flow import Flow
    from streamproc.define.topic import Channel

R = TypeVar("R", bound=Record)


class Flowing(ABC):
    """What topics and flows have in common: each method gives a flow, and changes nothing.

    Nothing runs, and nothing is made in Kafka, before the flow ends: in :meth:`to`, or in windows' ``agg``.
    """

    __slots__ = ()

    @abstractmethod
    def _flow(self) -> Flow:
        """As a flow."""

    # Row by row.

    def where(self, expr: pl.Expr) -> Flow:
        """The rows for which an expression is true: ``where(pl.col("amount") > 100)``. Null counts as false.

        Raises:
            DefinitionError: it is not true or false, names a field that is not there, or looks at other rows.
        """
        return transforms.filtered(self._flow(), expr)

    def with_columns(self, *exprs: pl.Expr | str, **named: pl.Expr | str | bool | int | float | bytes) -> Flow:
        """With more columns, or others in the place of those of the same names: ``with_columns(fee=pl.col("amount") *
        0.01)``. Expressions are polars'; a string is the column of that name.

        Raises:
            DefinitionError: an expression looks at other rows (``shift``, ``cum_sum``, ``over`` …), names a field that
                is not there, or gives what no column of a flow is: int, float, str, bool or bytes.
        """
        return transforms.widened(self._flow(), exprs, named)

    def select(self, *exprs: pl.Expr | str, **named: pl.Expr | str | bool | int | float | bytes) -> Flow:
        """With these columns only: ``select("card", "at", euros=pl.col("cents") / 100)``. As :meth:`with_columns`."""
        return transforms.selected(self._flow(), exprs, named)

    def map(self, out: type[R], fn: Callable[[Any], R | None]) -> Flow:
        """A record made of each by a function, or none where it gives None.

        Args:
            out: the type of what it gives.
            fn: it gets the topic's record; of a flow whose columns changed, an object with these as attributes. The
                field that is the key must come out as it went in; to change it, :meth:`rekey` afterwards.

        Raises:
            DefinitionError: ``out`` is no record type, or ``fn`` no plain function of one argument.
        """
        return transforms.mapped(self._flow(), Map, out, fn)

    def flat_map(self, out: type[R], fn: Callable[[Any], Iterable[R]]) -> Flow:
        """Any number of records made of each by a function. As :meth:`map`."""
        return transforms.mapped(self._flow(), FlatMap, out, fn)

    def branch(self, *exprs: pl.Expr) -> tuple[Flow, ...]:
        """One flow for each condition, and one of the rest: a row is in that of the first condition that is true.

        ::

            small, large, rest = payments.branch(pl.col("amount") < 10, pl.col("amount") > 1000)
        """
        return transforms.branched(self._flow(), exprs)

    # Of one key.

    def rekey(
        self, key: str, record: type[Record] | None = None, *, name: str | None = None, partitions: int | None = None
    ) -> Flow:
        """By another field: rows go through a topic of their own, where those of one value lie together. What was on
        time before is on time after it.

        Args:
            key: the field, a str or an int.
            record: the type of that topic's records; None: the flow's, where its columns are still those.
            name: of the topic, which is ``<app>-<name>``; None: ``<topic>-by-<key>``.
            partitions: of the topic; None: as many as this one's.

        Raises:
            DefinitionError: no such field, no record type of these columns, or the flow has several inputs.
        """
        return rekeyed(self._flow(), key, record, name, partitions)

    def deduplicate(self, id: str, *, within: Duration, grace: Duration = 0, idle: Duration | None = "1s") -> Flow:
        """The first row of each id; further ones are left out until event time is ``within`` past it.

        Args:
            id: a field, a str or an int. Rows of one id must have one key.
            grace, idle: where rows of several inputs are put in order first; see :meth:`to`.

        Raises:
            DefinitionError: no such field, or the flow has no key.
        """
        return deduplicated(self._flow(), id, within, grace, idle)

    # With others.

    @overload
    def join(
        self,
        other: Flowing,
        *,
        within: Duration | tuple[Duration, Duration],
        how: How = "inner",
        grace: Duration = 0,
        idle: Duration | None = "1s",
        suffix: str = "_right",
    ) -> Flow: ...

    @overload
    def join(
        self,
        other: Latest,
        *,
        on: str | None = None,
        how: How = "inner",
        grace: Duration = 0,
        idle: Duration | None = "1s",
        suffix: str = "_right",
    ) -> Flow: ...

    def join(
        self,
        other: Flowing | Latest,
        *,
        within: Any = None,
        on: str | None = None,
        how: How = "inner",
        grace: Duration = 0,
        idle: Duration | None = "1s",
        suffix: str = "_right",
    ) -> Flow:
        """Rows of this one together with those of another.

        With a flow: all pairs of one key whose event times lie near each other. With a table, ``other.latest()``: each
        row with what was the newest one of its key then.

        Args:
            within: of flows: how far apart the two may be, ``"10m"``, or how far the other one is from this one at
                least and at most, ``("-5m", "0s")``: up to five minutes before.
            on: of a table that is everywhere: the field that has its keys; None: this flow's key.
            how: ``"inner"``: what matched; ``"left"``: all rows of this one; ``"outer"`` (of flows): of both.
            grace: how much later than the newest of its own input a row may come, in event time. Later ones are not
                joined, and go to the late output.
            idle: after this long without rows, an input holds the other back no more; None waits for ever, and makes
                results independent of the clock.
            suffix: of the other's fields whose names are taken.

        Raises:
            DefinitionError: the two cannot be joined: keys, their types or counts of partitions differ, or names clash.
        """
        flow = self._flow()
        if isinstance(other, Latest):
            if within is not None:
                raise DefinitionError(
                    f"{flow.what}, join: within= is of two flows; of the age of a row, as_of(within=)"
                )
            return joined.latest(flow, other, on, how, grace, idle, suffix)
        if on is not None:
            raise DefinitionError(f"{flow.what}, join: flows are joined by their keys: rekey() makes another one")
        return joined.interval(flow, as_flow(other), within, how, grace, idle, suffix)

    def as_of(
        self,
        other: Flowing,
        *,
        within: Duration | None = None,
        how: How = "inner",
        grace: Duration = 0,
        idle: Duration | None = "1s",
        suffix: str = "_right",
    ) -> Flow:
        """Each row with the other's newest of its key, of the same event time or before; not older than ``within``.

        Args:
            how: ``"inner"`` or ``"left"``.
            grace, idle, suffix: as in :meth:`join`.
        """
        return joined.as_of(self._flow(), as_flow(other), within, how, grace, idle, suffix)

    def enrich(
        self,
        table: Latest,
        *names: str,
        on: str | None = None,
        grace: Duration = 0,
        idle: Duration | None = "1s",
        **renamed: str,
    ) -> Flow:
        """With fields of a table's newest row, null where there is none: ``enrich(accounts.latest(), "country",
        limit="credit_limit")``.

        Args:
            names: fields of the table.
            renamed: further ones, by the names that they are to have.
            on, grace, idle: as in :meth:`join`.
        """
        flow = self._flow()
        if not isinstance(table, Latest):
            raise DefinitionError(f"{flow.what}, enrich: expected a table, such as accounts.latest(); got {table!r}")
        return joined.enriched(flow, table, names, renamed, on, grace, idle)

    def latest(self, *, everywhere: bool = False) -> Latest:
        """As a table: the newest row of each key, by event time; of rows of one time, the one that came last.

        Args:
            everywhere: every worker reads all of it, so that any of its keys can be looked up.

        Raises:
            DefinitionError: it has no key, or is no topic with steps alone.
        """
        flow = self._flow()
        flow.check_single("a table")
        if len(flow.inputs) > 1:
            raise DefinitionError(f"{flow.what}: a merge as a table goes to a topic first: .to(name, Record)")
        flow.check_key("a table is per key")
        flow.check_time("a table is by event time")
        return Latest(flow, everywhere)

    # Ends.

    def window(
        self, window: Window, *, grace: Duration = 0, idle: Duration | None = "30s", emit: Updates | None = None
    ) -> Windowed:
        """Windows over these events, per key, judged by event time.

        Args:
            grace: how long after a window's end, in event time, its events may still come. Later ones go to the late
                output.
            idle: after this long without an event, a partition's event time goes on by the clock, so that its last
                windows close; None waits for ever, and makes results independent of the clock.
            emit: ``updates("1s")`` gives results before a window's last one, too.

        Raises:
            DefinitionError: there is no key, a duration is none, or the window knows no grace or no updates.
        """
        return windowed(self._flow(), window, grace, idle, emit)

    def to(
        self,
        name: str,
        record: type[Record],
        *,
        key: str | None = None,
        time: str | None = None,
        cause: str | None = None,
        partitions: int | None = None,
        config: Mapping[str, str] = MappingProxyType({}),
        grace: Duration = 0,
        idle: Duration | None = "1s",
    ) -> Channel:
        """Ends the flow: its rows go to a channel, and so to a Kafka topic, of that name.

        Args:
            record: the type of its records. Columns that it has no field for are left out.
            key, time: of the channel; None: the flow's, where the record type has them.
            cause, partitions, config: of the channel; see :meth:`~streamproc.define.app.App.channel`.
            grace: of flows that were merged or rekeyed, whose rows are put in order of event time: how much later than
                the newest of its own input a row may come. Later ones go to the late output.
            idle: of those flows, after how long without rows an input holds the others back no more; None: never.

        Raises:
            DefinitionError: the columns are not the record type's fields.
        """
        return ended(self._flow(), name, record, key, time, cause, partitions, config, grace, idle)


def as_flow(given: Any) -> Flow:
    if not isinstance(given, Flowing):
        raise DefinitionError(f"expected a topic or a flow; got {given!r}")
    return given._flow()
