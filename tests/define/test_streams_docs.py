"""The code in docs/streams.md and docs/joins.md runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TYPES = {"str": "string", "int": "long", "bool": "boolean", "float": "double"}


def schema(name: str, body: str) -> str:
    """Of a record type as it is written."""
    fields = [
        {"name": field, "type": ["null", TYPES[kind]] if null else TYPES[kind]}
        for field, kind, null in re.findall(r"(\w+): (\w+)( \| None)?", body)
    ]
    return json.dumps({"type": "record", "name": name, "fields": fields})


@pytest.mark.parametrize("page", ["streams", "joins"])
def test_the_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / f"{page}.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for name, body in re.findall(r"^class (\w+)\(Record\):\n((?:    .*\n)+)", code, re.MULTILINE):
        (schemas / f"{name.lower()}.avsc").write_text(schema(name, body))
    module = ModuleType("bank")
    module.__file__ = str(tmp_path / "bank.py")
    monkeypatch.setitem(sys.modules, "bank", module)
    exec(compile(code, "bank.py", "exec"), module.__dict__)


@pytest.mark.parametrize("page", ["streams", "joins"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / f"{page}.md").read_text()):
        assert (DOCS / target).exists(), target
