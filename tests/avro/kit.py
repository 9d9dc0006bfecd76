"""Record types bound to schemas that a test writes itself."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

from streamproc.record import Record


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def schema_of_fields(*fields: dict[str, Any], name: str = "Thing", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "test", "fields": list(fields), **more}


def bound(folder: Path, schema: dict[str, Any], hints: dict[str, Any], **options: Any) -> type[Record]:
    """A new record type with these fields, in a module next to ``schemas/thing.avsc``, which is written."""
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / "thing.avsc").write_text(json.dumps(schema))
    module = types.ModuleType(f"things{abs(hash(folder))}")
    module.__file__ = str(folder / "things.py")
    sys.modules[module.__name__] = module

    def body(space: dict[str, Any]) -> None:
        space["__module__"] = module.__name__
        space["__annotations__"] = hints

    return types.new_class("Thing", (Record,), options, body)
