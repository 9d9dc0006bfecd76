"""What aggregates take and give, and what is said where they are wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from streamproc.define import aggregates as a
from streamproc.define.aggregation import result_field
from streamproc.define.own import dumped, loaded
from streamproc.define.windows import everything, session, sliding, tumbling
from streamproc.errors import DefinitionError
from streamproc.record import Record


class Reading(Record):
    i: int
    f: float
    s: str
    b: bool
    y: bytes
    ni: int | None = None
    nf: float | None = None
    ns: str | None = None


class Own:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def add(self, *values: Any) -> None:
        self.seen.append(values)

    def merge(self, other: Own) -> None:
        self.seen += other.seen

    def close(self) -> int:
        return len(self.seen)


GIVES = [
    (a.count(), "int"),
    (a.total("i"), "int"),
    (a.total("nf"), "float"),
    (a.mean("i"), "float"),
    (a.mean("ni"), "float | None"),
    (a.minimum("ni"), "int | None"),
    (a.maximum("f"), "float"),
    (a.value_range("i"), "float"),
    (a.variance("f"), "float | None"),
    (a.variance("f", ddof=0), "float"),
    (a.deviation("nf", ddof=0), "float | None"),
    (a.first("s"), "str"),
    (a.last("ns"), "str | None"),
    (a.last("y"), "bytes"),
    (a.ewma("f", "1m"), "float"),
    (a.ewma("nf", "1m"), "float | None"),
    (a.covariance("f", "i", ddof=0), "float"),
    (a.covariance("f", "i"), "float | None"),
    (a.correlation("f", "i"), "float | None"),
    (a.rate(), "float"),
    (a.rate("nf"), "float"),
    (a.histogram("nf", [1]), "list[int]"),
    (a.distinct("ns"), "int"),
    (a.quantile("f", 0.5), "float"),
    (a.quantile("nf", 0.5), "float | None"),
    (a.quantiles("nf", [0.5]), "list[float] | None"),
    (a.top_k("ns", 3), "dict[str, int]"),
    (a.occurrences("ni", [1]), "dict[str, int]"),
    (a.count_min("s"), "bytes"),
    (a.own(Own, "f", type=int), "int"),
    (a.own(Own, "f", "ns", type=list[str] | None), "list[str] | None"),
]


@pytest.mark.parametrize(("aggregate", "gives"), GIVES, ids=str)
def test_results_types(aggregate: a.Aggregate, gives: str) -> None:
    field = result_field("here", "x", aggregate, Reading, tumbling("1m"))
    kind = field.type if "[" in str(field.type) else field.type.__name__
    assert f"{kind}{' | None' if field.nullable else ''}" == gives


WRONG: list[tuple[Any, str]] = [
    (a.mean("s"), "here, x=mean(s): expected Reading.s to be int or float; it is str"),
    (a.variance("b"), "here, x=variance(b, ddof=1): expected Reading.b to be int or float; it is bool"),
    (a.covariance("f", "s"), "here, x=covariance(f, s, ddof=1): expected Reading.s to be int or float; it is str"),
    (a.ewma("y", "1m"), "here, x=ewma(y, half_life='1m'): expected Reading.y to be int or float; it is bytes"),
    (a.top_k("f", 3), "here, x=top_k(f, k=3, size=1024): expected Reading.f to be int or str; it is float"),
    (a.first("none"), "here, x=first(none): Reading has no field 'none'; it has i, f, s, b, y, ni, nf, ns"),
    (a.own(Own, "none", type=int), "here, x=Own(none): Reading has no field 'none'; it has i, f, s, b, y, ni, nf, ns"),
    (
        a.occurrences("s", [1, 2]),
        "here, x=occurrences(s, of=(1, 2)): expected values of the field's type; Reading.s is str",
    ),
    ("mean", "here: x: expected an aggregate such as mean('s1'); got 'mean'"),
]


@pytest.mark.parametrize(("aggregate", "said"), WRONG)
def test_fields_of_the_wrong_type(aggregate: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        result_field("here", "x", aggregate, Reading, tumbling("1m"))
    assert str(caught.value) == said


@pytest.mark.parametrize("window", [session("1m"), everything(each=3)])
def test_a_rate_needs_a_length(window: Any) -> None:
    assert result_field("here", "x", a.rate(), Reading, sliding("1m")).type is float
    with pytest.raises(DefinitionError, match="a rate is for windows of one length; this one is"):
        result_field("here", "x", a.rate(), Reading, window)


class NoMerge:
    def add(self, value: Any) -> None: ...

    def close(self) -> None: ...


class Needs(Own):
    def __init__(self, size: int) -> None:
        super().__init__()


class HoldsASet(Own):
    def __init__(self) -> None:
        self.seen = {1}  # type: ignore[assignment]


class OnlyDump(Own):
    def dump(self) -> bytes:
        return b""


class BadDump(OnlyDump):
    def dump(self) -> bytes:
        return "text"  # type: ignore[return-value]

    @classmethod
    def load(cls, data: bytes) -> BadDump:
        return cls()


ARGUMENTS: list[tuple[Any, str]] = [
    (lambda: a.variance("f", ddof=2), "variance: expected a ddof of 0 or 1; got 2"),
    (lambda: a.deviation("f", ddof=True), "deviation: expected a ddof of 0 or 1; got True"),
    (lambda: a.ewma("f", 0), "ewma: expected a half_life above zero; got 0ms"),
    (lambda: a.rate(per=0), "rate: expected per= above zero; got 0ms"),
    (lambda: a.histogram("f", []), "histogram: expected edges that ascend, at least one; got []"),
    (lambda: a.histogram("f", [1, 1]), "histogram: expected edges that ascend, at least one; got [1, 1]"),
    (lambda: a.histogram("f", [math.nan]), "histogram: expected edges that ascend, at least one; got [nan]"),
    (lambda: a.histogram("f", ["1"]), "histogram: expected edges that ascend, at least one; got ['1']"),  # type: ignore[list-item]
    (lambda: a.histogram("f", range(1001)), "histogram: expected at most 1000 edges; got 1001"),
    (lambda: a.distinct("s", precision=3), "distinct: expected a precision of 4 to 18; got 3"),
    (lambda: a.distinct("s", precision=12.0), "distinct: expected a precision of 4 to 18; got 12.0"),  # type: ignore[arg-type]
    (lambda: a.quantile("f", 99), "quantile: expected a share of 0 to 1, such as 0.99; got 99"),
    (lambda: a.quantile("f", math.nan), "quantile: expected a share of 0 to 1, such as 0.99; got nan"),
    (lambda: a.quantile("f", 0.5, k=7), "quantile: expected a k of 8 to 65535; got 7"),
    (lambda: a.quantiles("f", []), "quantiles: expected at least one share, such as [0.5, 0.99]"),
    (lambda: a.top_k("s", 0), "top_k: expected a k of 1 to half the size, 512; got 0"),
    (lambda: a.top_k("s", 5, size=8), "top_k: expected a k of 1 to half the size, 4; got 5"),
    (lambda: a.top_k("s", 5, size="8"), "top_k: expected a size of 8 to 1048576; got '8'"),  # type: ignore[arg-type]
    (
        lambda: a.occurrences("s", "EUR"),
        'occurrences: expected 1 to 1000 different values, all strings or all ints, such as of=["EUR", "USD"]; '
        "got 'EUR'",
    ),
    (
        lambda: a.occurrences("s", ["a", 1]),
        'occurrences: expected 1 to 1000 different values, all strings or all ints, such as of=["EUR", "USD"]; '
        "got ['a', 1]",
    ),
    (
        lambda: a.count_min("s", relative_error=0),
        "count_min: expected a relative_error of 0.0001 to below 1; got 0",
    ),
    (lambda: a.count_min("s", confidence=1), "count_min: expected a confidence above 0, up to 0.999999; got 1"),
    (
        lambda: a.own(NoMerge, "f", type=int),  # type: ignore[arg-type]
        f"own: expected a class with add, merge and close; {NoMerge!r} has no merge",
    ),
    (lambda: a.own(Own, type=int), "own: expected the fields that Own.add takes, by name; got ()"),
    (
        lambda: a.own(Needs, "f", type=int),
        "own: expected Needs() to make what can be kept; TypeError: Needs.__init__() missing 1 required positional "
        "argument: 'size'",
    ),
    (
        lambda: a.own(HoldsASet, "f", type=int),
        "own: expected HoldsASet() to make what can be kept; TypeError: seen is a set, which is not kept; give the "
        "class dump and load",
    ),
    (lambda: a.own(OnlyDump, "f", type=int), "own: expected OnlyDump to have both dump and load, or neither"),
    (
        lambda: a.own(BadDump, "f", type=int),
        "own: expected BadDump() to make what can be kept; TypeError: expected bytes of dump; got 'text'",
    ),
]


@pytest.mark.parametrize(("make", "said"), ARGUMENTS)
def test_arguments_that_are_wrong(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert str(caught.value) == said


def test_an_instance_is_no_class() -> None:
    with pytest.raises(DefinitionError, match="own: expected a class, of which instances can be made; got <"):
        a.own(Own(), "f", type=int)  # type: ignore[arg-type]


class Base:
    __slots__ = ("__hidden", "plain")

    def hide(self, value: Any) -> None:
        self.__hidden = value

    def hidden(self) -> Any:
        return self.__hidden


class Slotted(Base, Own):  # type: ignore[misc]
    __slots__ = "single"


def test_what_an_instance_holds_is_kept() -> None:
    made = Slotted()
    held = [None, True, 1 << 63, -1.5, math.inf, "é", b"\xff", {"a": [1], 2: {}}]
    made.hide(held)
    made.single, made.more = "one", {"x": 0.1}
    again = loaded(Slotted, dumped(made))
    assert (again.hidden(), again.single, again.more, again.seen) == (held, "one", {"x": 0.1}, [])
    assert not hasattr(again, "plain")
    for value in ((1, 2), {1}, object(), [(1,)], {"a": {(1, 2): 3}}, 1 << 64):
        made.more = value
        with pytest.raises((TypeError, OverflowError)):
            dumped(made)
