"""Prints results for people (a table) or for programs (JSON, one document)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from streamproc.cli.options import Format


def rows(rows: Sequence[Mapping[str, Any]], output: Format, columns: Sequence[str]) -> None:
    """Prints ``rows``: ``columns`` of them as a table, or all that is in them as JSON."""
    if output is Format.json:
        typer.echo(json.dumps(list(rows), indent=2))
        return
    cells = [list(columns), *([_text(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    numeric = [all(isinstance(row[column], int) for row in rows) for column in columns]
    for at, line in enumerate(cells):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        text = "  ".join(padded).rstrip()
        typer.echo(typer.style(text, bold=True) if at == 0 else text)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)
