"""Kafka record batches to columns where that can be done, to records where not.

There are three ways, with the same result: compiled kernels (:mod:`streamproc.avro.compiled_blocks`), a fast Avro
reader whose result is proven right (:mod:`streamproc.avro.polars_blocks`), and one record after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import polars as pl

from streamproc import compiled as kernels
from streamproc.avro.codec import Codec
from streamproc.avro.compiled_blocks import CompiledBlocks
from streamproc.avro.decoded import Bad, Decoded, decode_rows
from streamproc.avro.polars_blocks import PolarsBlocks
from streamproc.avro.trust import may_refuse
from streamproc.batch import column_types
from streamproc.log.batches import Part, RecordBatch

__all__ = ["Bad", "BlockDecoder", "Decoded"]

#: Records, below which polars' way costs more than reading row by row (it takes 0.5 ms for the first), and below which
#: the compiled way does (25 us) where records are wanted; columns are always made faster from columns.
_FEW_FOR_POLARS, _FEW_FOR_KERNELS = 48, 8


class BlockDecoder:
    """Decodes the record batches of one topic.

    Args:
        topic: the topic's name.
        codec: of the topic's values.
        columns: the fields that are needed, or None for all; a batch has at least these.
        few: fetches of fewer records than this are read row by row; None for as many as that is faster for.
        compiled: whether to use compiled kernels; None for where there are any.
    """

    def __init__(
        self,
        topic: str,
        codec: Codec,
        columns: frozenset[str] | None = None,
        *,
        few: int | None = None,
        compiled: bool | None = None,
    ) -> None:
        self.topic = topic
        self.codec = codec
        self.columns = columns
        self._way = self._find(kernels.available() if compiled is None else compiled)
        self._few = self._usual_few() if few is None else few

    def _usual_few(self) -> int:
        if isinstance(self._way, PolarsBlocks):
            return _FEW_FOR_POLARS
        return _FEW_FOR_KERNELS if self.columns is None else 0

    def _find(self, compiled: bool) -> CompiledBlocks | PolarsBlocks | None:
        """The way for whole blocks, if there is one for these columns."""
        if may_refuse(self.codec.record):
            return None
        names = [field["name"] for field in self.codec.reader["fields"]]
        wanted = [name for name in names if self.columns is None or name in self.columns] or names[:1]
        types = column_types(self.codec.record)
        if any(types[name] == pl.Object for name in wanted):  # a column of what only a record's field can hold
            return None
        way = CompiledBlocks if compiled else PolarsBlocks
        try:
            return way(self.topic, self.codec, wanted)
        except ValueError:
            return None

    def decode(self, partition: int, parts: Sequence[Part], first_offset: int) -> Decoded:
        """All rows at or after ``first_offset``."""
        out = Decoded()
        for _ in self.steps(out, partition, parts, first_offset):
            pass
        return out

    def steps(self, out: Decoded, partition: int, parts: Sequence[Part], first_offset: int) -> Iterator[None]:
        """As :meth:`decode`, into ``out``. Where records must be read one by one it stops now and then, so that others
        may run.
        """
        few = sum(part.count if isinstance(part, RecordBatch) else len(part) for part in parts) < self._few
        if self._way is None or few:
            yield from decode_rows(out, self.topic, self.codec, partition, parts, first_offset)
            return
        for packed, group in groupby(parts, lambda part: isinstance(part, RecordBatch)):
            if packed:
                yield from self._way.steps(out, partition, list(group), first_offset)  # type: ignore[arg-type]
            else:
                yield from decode_rows(out, self.topic, self.codec, partition, list(group), first_offset)
