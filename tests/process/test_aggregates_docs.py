"""The code in docs/aggregates.md runs, and the page has every aggregate there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from streamproc.define import aggregates

PAGE = (Path(__file__).parents[2] / "docs" / "aggregates.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schemas").mkdir()
    for text in blocks("json"):
        name = re.search(r'"name": "(\w+)"', text)
        assert name
        (tmp_path / "schemas" / f"{name[1].lower()}.avsc").write_text(text)
    topology, test = blocks("python")
    module = ModuleType("market")
    module.__file__ = str(tmp_path / "market.py")
    monkeypatch.setitem(sys.modules, "market", module)
    exec(compile(topology, "market.py", "exec"), module.__dict__)
    exec(compile(test, "test_market.py", "exec"), module.__dict__)


def test_every_aggregate_is_on_the_page() -> None:
    table = PAGE[: PAGE.index("## An example")]
    there = set(re.findall(r"`(\w+)\(", table))
    public = {
        name
        for name, value in vars(aggregates).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == aggregates.__name__
    }
    assert there >= public - {"Aggregate"}
