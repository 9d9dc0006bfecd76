"""The code in docs/windows.md runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "windows.md"
TYPES = {"str": "string", "int": "long", "bool": "boolean", "float": "double"}


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE))
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for name, body in re.findall(r"^class (\w+)\(Record\):\n((?:    .*\n)+)", code, re.MULTILINE):
        fields = [{"name": field, "type": TYPES[kind]} for field, kind in re.findall(r"(\w+): (\w+)", body)]
        schema = {"type": "record", "name": name, "fields": fields}
        (schemas / f"{name.lower()}.avsc").write_text(json.dumps(schema))
    module = ModuleType("hearts")
    module.__file__ = str(tmp_path / "hearts.py")
    monkeypatch.setitem(sys.modules, "hearts", module)
    exec(compile(code, "hearts.py", "exec"), module.__dict__)
