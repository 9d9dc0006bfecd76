"""Aggregates as data: what to compute of a window's events. How is in ``process``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streamproc.define.duration import Duration, milliseconds, written
from streamproc.define.own import Accumulator, check
from streamproc.errors import DefinitionError

Kind = Literal[
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "variance",
    "deviation",
    "first",
    "last",
    "range",
    "ewma",
    "covariance",
    "correlation",
    "rate",
    "histogram",
    "distinct",
    "quantiles",
    "top",
    "occurrences",
    "count_min",
    "own",
]
_WORDS = {"sum": "total", "min": "minimum", "max": "maximum", "range": "value_range", "top": "top_k"}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value per key and window.

    Args:
        field: the input's field; None where there is none, such as in count.
        other: the second one, of two.
        options: what else it takes, by the name of the function's argument.
        maker: of one's own, the class.
    """

    kind: Kind
    field: str | None = None
    other: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    maker: type[Accumulator] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The input's fields that it needs."""
        own: tuple[str, ...] = self.option("fields", ())
        return own or tuple(field for field in (self.field, self.other) if field is not None)

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)

    def __str__(self) -> str:
        given = [*self.fields, *(_said(name, value) for name, value in self.options if name not in ("fields", "type"))]
        word = self.maker.__name__ if self.maker else _WORDS.get(self.kind, self.kind)
        return f"{word}({', '.join(given)})"


def count() -> Aggregate:
    """How many events. An int."""
    return Aggregate("count")


def total(field: str) -> Aggregate:
    """The sum of a number field: an int of ints, a float of floats. Nulls count for nothing. A sum of ints past 64
    bits is null; where the result's field cannot be, that result goes to the dead letters.
    """
    return Aggregate("sum", field)


def mean(field: str) -> Aggregate:
    """The arithmetic mean of a number field: its sum by its count. A float, right also where a sum of ints takes more
    than 64 bits; null where every value is null.
    """
    return Aggregate("mean", field)


def minimum(field: str) -> Aggregate:
    """The least value of a number field; null where every value is null. NaN wins over every number."""
    return Aggregate("min", field)


def maximum(field: str) -> Aggregate:
    """The greatest value of a number field; null where every value is null. NaN wins over every number."""
    return Aggregate("max", field)


def value_range(field: str) -> Aggregate:
    """The greatest value of a number field less the least: a float; null where every value is null. NaN where one of
    them is NaN, or the two are the same infinity.
    """
    return Aggregate("range", field)


def variance(field: str, *, ddof: int = 1) -> Aggregate:
    """The variance of a number field, a float: of a sample (``ddof=1``) or of all there is (``ddof=0``). Null where
    there are not more than ``ddof`` values; NaN where one of them is NaN or infinite. Ints count as doubles. Welford's
    method (https://doi.org/10.2307/1266577), joined by Chan's (https://doi.org/10.2307/2683386).
    """
    return Aggregate("variance", field, options=(("ddof", _ddof("variance", ddof)),))


def deviation(field: str, *, ddof: int = 1) -> Aggregate:
    """The standard deviation of a number field: the square root of :func:`variance`."""
    return Aggregate("deviation", field, options=(("ddof", _ddof("deviation", ddof)),))


def first(field: str) -> Aggregate:
    """The field of the event with the least event time; of several, of the one that came first. Null counts."""
    return Aggregate("first", field)


def last(field: str) -> Aggregate:
    """The field of the event with the greatest event time; of several, of the one that came last. Null counts."""
    return Aggregate("last", field)


def ewma(field: str, half_life: Duration) -> Aggregate:
    """The mean of a number field in which a value counts half as much as one that is ``half_life`` of event time
    younger. A float; null where every value is null, NaN or infinite where one of them is.
    """
    ms = milliseconds(half_life, "ewma, half_life")
    if not ms:
        raise DefinitionError("ewma: expected a half_life above zero; got 0ms")
    return Aggregate("ewma", field, options=(("half_life", ms),))


def covariance(field: str, other: str, *, ddof: int = 1) -> Aggregate:
    """The covariance of two number fields, of the events that have both: a float. Null where they are not more than
    ``ddof``; NaN or infinite where a value of theirs is.
    """
    return Aggregate("covariance", field, other, (("ddof", _ddof("covariance", ddof)),))


def correlation(field: str, other: str) -> Aggregate:
    """Pearson's correlation of two number fields, of the events that have both. Null where there are fewer than two, or
    one of the fields has the same value throughout; NaN where a value is NaN or infinite.
    """
    return Aggregate("correlation", field, other)


def rate(field: str | None = None, *, per: Duration = "1s") -> Aggregate:
    """How many events, or how much of a number field, in so much time: a float. By the window's length. Nulls count for
    nothing.
    """
    ms = milliseconds(per, "rate, per")
    if not ms:
        raise DefinitionError("rate: expected per= above zero; got 0ms")
    return Aggregate("rate", field, options=(("per", ms),))


def histogram(field: str, edges: Sequence[float]) -> Aggregate:
    """How many values of a number field lie below ``edges[0]``, in ``[edges[0], edges[1])`` and so on, and at or above
    the last edge: a list of ``len(edges) + 1`` ints. NaN and null count nowhere. Ints count as doubles.
    """
    found = tuple(float(edge) if _is_number(edge) else math.nan for edge in edges)
    if not found or any(not math.isfinite(edge) for edge in found) or list(found) != sorted(set(found)):
        raise DefinitionError(f"histogram: expected edges that ascend, at least one; got {list(edges)!r}")
    if len(found) > 1000:
        raise DefinitionError(f"histogram: expected at most 1000 edges; got {len(found)}")
    return Aggregate("histogram", field, options=(("edges", found),))


def distinct(field: str, *, precision: int = 12) -> Aggregate:
    """About how many different values a field has: an int. Null is no value; NaN is one, and so is zero, whatever its
    sign. HyperLogLog with ``2 ** precision`` registers, a relative standard error of 1.04 / sqrt(2 ** precision): 1.6 %
    by default. https://arxiv.org/abs/1702.01284.
    """
    if not _is_count(precision, 4, 18):
        raise DefinitionError(f"distinct: expected a precision of 4 to 18; got {precision!r}")
    return Aggregate("distinct", field, options=(("precision", precision),))


def quantile(field: str, q: float, *, k: int = 200) -> Aggregate:
    """About the least value that a share ``q`` of a number field's values does not exceed: a float, null where every
    value is null. Nulls and NaN count for nothing; of NaN alone it is NaN. KLL with parameter ``k``
    (https://arxiv.org/abs/1603.05346): 200 means a rank that is off by 1.3 % at most, 99 times of 100. Up to ``k``
    values it is exact, and so are the least and the greatest (``q`` 0 and 1).
    """
    return Aggregate("quantiles", field, options=(("q", _share(q)), ("k", _sketch_size(k))))


def quantiles(field: str, qs: Sequence[float], *, k: int = 200) -> Aggregate:
    """As :func:`quantile`, of several shares at once: a list of floats, null where every value is null."""
    if not qs:
        raise DefinitionError("quantiles: expected at least one share, such as [0.5, 0.99]")
    return Aggregate("quantiles", field, options=(("qs", tuple(map(_share, qs))), ("k", _sketch_size(k))))


def top_k(field: str, k: int, *, size: int = 1024) -> Aggregate:
    """About the ``k`` most frequent values of a string or int field, and how often each came: a dict from the value's
    text to an int, the most frequent first, and of equals the lesser value. Null is no value. Misra-Gries in ``size``
    counters, joined as in https://doi.org/10.1145/2500128: a count is never too high, and too low by at most 1 / size
    of all events; all are right where there are not more than ``size`` different values.
    """
    if not _is_count(size, 8, 1 << 20):
        raise DefinitionError(f"top_k: expected a size of 8 to 1048576; got {size!r}")
    if not _is_count(k, 1, size // 2):
        raise DefinitionError(f"top_k: expected a k of 1 to half the size, {size // 2}; got {k!r}")
    return Aggregate("top", field, options=(("k", k), ("size", size)))


def occurrences(field: str, of: Sequence[str | int]) -> Aggregate:
    """How often each of the values ``of`` came in a string or int field, exactly: a dict from the value's text to an
    int, in this order.
    """
    found = tuple(of) if not isinstance(of, str) else ()
    kinds = {type(value) for value in found}
    if not (kinds == {str} or kinds == {int}) or len(set(found)) < len(found) or len(found) > 1000:
        raise DefinitionError(
            f'occurrences: expected 1 to 1000 different values, all strings or all ints, such as of=["EUR", "USD"]; '
            f"got {of!r}"
        )
    return Aggregate("occurrences", field, options=(("of", found),))


def count_min(field: str, *, relative_error: float = 0.01, confidence: float = 0.99) -> Aggregate:
    """A count-min sketch of a string or int field, as bytes, that is asked later how often a value came:
    ``datasketches.count_min_sketch.deserialize(found).get_estimate("EUR")``. Never too few, and too many by at most
    ``relative_error`` of all events with this ``confidence``. Null and the empty string are no values.
    """
    if not (_is_number(relative_error) and 0.0001 <= relative_error < 1):
        raise DefinitionError(f"count_min: expected a relative_error of 0.0001 to below 1; got {relative_error!r}")
    if not (_is_number(confidence) and 0 < confidence <= 0.999999):
        raise DefinitionError(f"count_min: expected a confidence above 0, up to 0.999999; got {confidence!r}")
    return Aggregate("count_min", field, options=(("relative_error", relative_error), ("confidence", confidence)))


def own(maker: type[Accumulator], *fields: str, type: Any) -> Aggregate:
    """An aggregate of one's own: a class with ``add(*values)``, ``merge(other)`` and ``close()``, of which an instance
    is made for every key and window. Optional: ``add_columns(*arrays)`` takes many events at once, in their order, and
    must do what ``add`` of one after the other does. Its arrays are of int64, float64 or bool, and of objects for other
    fields and for those that may be null.

    Args:
        fields: the input's fields that ``add`` takes; None where an event's is null.
        type: of the result.

    Its instances are kept as msgpack of their ``__dict__`` (or slots): of None, bools, ints, floats, strings, bytes,
    and lists and dicts of those. Or by its own ``dump() -> bytes`` and ``load(bytes)``, a classmethod.

    What it raises costs nobody else anything: from ``add``, the event goes to the dead letters and counts in the other
    aggregates only; from ``merge`` or ``close``, the result goes there.

    Raises:
        DefinitionError: it is no such class, cannot be made without arguments, or a fresh one cannot be kept.
    """
    check(maker, fields)
    return Aggregate("own", options=(("fields", fields), ("type", type)), maker=maker)


def _ddof(what: str, ddof: int) -> int:
    if not _is_count(ddof, 0, 1):
        raise DefinitionError(f"{what}: expected a ddof of 0 or 1; got {ddof!r}")
    return ddof


def _share(q: float) -> float:
    if not _is_number(q) or not 0 <= q <= 1:
        raise DefinitionError(f"quantile: expected a share of 0 to 1, such as 0.99; got {q!r}")
    return float(q)


def _sketch_size(k: int) -> int:
    if not _is_count(k, 8, 65535):
        raise DefinitionError(f"quantile: expected a k of 8 to 65535; got {k!r}")
    return k


def _said(name: str, value: Any) -> str:
    return f"{name}={written(value) if name in ('half_life', 'per') else value!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
