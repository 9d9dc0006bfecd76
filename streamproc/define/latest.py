"""Topics as tables: the newest record of each key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamproc.define.duration import Duration
from streamproc.define.joined import tables
from streamproc.define.operators import How

if TYPE_CHECKING:
    from streamproc.define.flow import Flow


@dataclass(frozen=True, eq=False, slots=True)
class Latest:
    """The newest row of each key, by event time; of rows of one time, the one that came last.

    Args:
        everywhere: whether every worker has all keys, so that it can be asked for any of them.
    """

    flow: Flow
    everywhere: bool = False

    def join(
        self,
        other: Latest,
        *,
        how: How = "inner",
        grace: Duration = 0,
        idle: Duration | None = "1s",
        suffix: str = "_right",
    ) -> Flow:
        """A row for every change of either table: what is newest of its key in both.

        Args:
            how: ``"inner"``: where both have the key; ``"left"``: where this one has; ``"outer"``: where either has.
            grace: how much later than the newest of its own topic a record may come, in event time. Later ones go to
                the late output.
            idle: after this long without records, a topic holds the other back no more; None waits for ever.
            suffix: of the other's fields whose names are taken.

        Raises:
            DefinitionError: the two cannot be joined.
        """
        return tables(self, other, how, grace, idle, suffix)
