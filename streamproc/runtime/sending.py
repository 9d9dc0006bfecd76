"""Sends results that may not all fit their topic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np

from streamproc.avro.writer import Misfits
from streamproc.columns import Causes, Columns, Longs, Rows
from streamproc.define.topic import Topic
from streamproc.errors import RecordError
from streamproc.runtime.outlet import Outlet

#: Takes one result that does not fit, its row among those that were to be sent, and why.
PutAside = Callable[[Columns, int, RecordError], Awaitable[None]]


async def send_fitting(
    outlet: Outlet,
    sink: Topic,
    columns: Columns,
    timestamps: Longs,
    put_aside: PutAside,
    partitions: Longs | None = None,
    causes: Causes | None = None,
) -> None:
    """Sends rows; those that do not fit the sink's schema (a count past 32 bits into an ``int``) are put aside."""

    async def send(rows: Rows) -> None:
        some = columns.take(rows)
        if not len(some):
            return
        try:
            await outlet.send_columns(
                sink,
                some,
                timestamps[rows],
                None if partitions is None else partitions[rows],
                None if causes is None else causes.take(rows),
            )
        except RecordError as error:
            numbers = np.arange(len(columns))[rows]
            if len(some) == 1:
                await put_aside(some, int(numbers[0]), error)
                return
            for part in _parts(len(some), error):
                await send(numbers[part])

    await send(slice(0, len(columns)))


def _parts(length: int, error: RecordError) -> list[Rows]:
    """How to try again: without the rows that are to blame, and each of those alone; in halves, where nobody knows."""
    if not isinstance(error, Misfits):
        return [slice(0, length // 2), slice(length // 2, length)]
    fit = np.delete(np.arange(length), error.rows)
    return [fit, *(slice(row, row + 1) for row in error.rows.tolist())]
