"""Fields' defaults as the values that they stand for: a schema has them as JSON, which has no bytes and one number.

fastavro gives them as the JSON that they are.
Source: Apache Avro 1.12 specification, "Complex Types, Records": the table of default values.
"""

from __future__ import annotations

from typing import Any

from streamproc.avro.resolve import Names, kind_of


def with_defaults(schema: Any) -> Any:
    """The same schema, as fastavro parsed it, with such defaults. It is changed in place."""
    names = Names(schema)
    for node in names.records():
        for field in node["fields"]:
            if "default" in field:
                field["default"] = _value(field["default"], field["type"], names)
    return schema


def _value(default: Any, schema: Any, names: Names) -> Any:
    schema = names.find(schema)
    kind = kind_of(schema)
    if kind == "union":
        return next((_value(default, branch, names) for branch in schema if _is(default, names.find(branch))), default)
    if kind in ("float", "double") and isinstance(default, int):
        return float(default)
    if kind in ("bytes", "fixed") and isinstance(default, str) and max(default, default="") <= "\xff":
        return default.encode("latin-1")
    if kind == "array" and isinstance(default, list):
        return [_value(item, schema["items"], names) for item in default]
    if kind == "map" and isinstance(default, dict):
        return {key: _value(item, schema["values"], names) for key, item in default.items()}
    if kind == "record" and isinstance(default, dict):
        types = {field["name"]: field["type"] for field in schema["fields"]}
        return {key: _value(item, types[key], names) if key in types else item for key, item in default.items()}
    return default


_JSON: dict[str, Any] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "array": list,
    "map": dict,
    "record": dict,
}


def _is(default: Any, schema: Any) -> bool:
    kind = kind_of(schema)
    return isinstance(default, _JSON.get(kind, str)) and (kind == "boolean" or not isinstance(default, bool))
