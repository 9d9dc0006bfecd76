"""The protocol's document names everything that there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from msgspec import Struct

from streamproc.edge import codes, words
from streamproc.edge.dialects.native import PublishFrame
from streamproc.edge.limits import Limits

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
ROWS = {
    cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split("|") for line in TEXT.splitlines())
    if len(cells) > 3
}

ASKED = [kind for kind in words.ClientFrame.__subclasses__() if kind is not words.Publish]
FRAMES: list[type[Struct]] = [PublishFrame, *ASKED, *words.ServerFrame.__subclasses__()]


@pytest.mark.parametrize("error", codes.ERRORS.values(), ids=lambda error: error.name)
def test_every_error_code_is_in_the_document(error: codes.ErrorCode) -> None:
    name, temporary, _ = ROWS[str(error.code)]
    assert (name, temporary) == (error.name, "yes" if error.temporary else "no")


@pytest.mark.parametrize("close", codes.CLOSES.values(), ids=lambda close: close.name)
def test_every_close_code_is_in_the_document(close: codes.CloseCode) -> None:
    assert ROWS[str(close.code)][0] == close.name


def test_the_document_has_no_code_that_is_not_there() -> None:
    assert {int(row) for row in ROWS if row.isdigit()} == set(codes.ERRORS) | set(codes.CLOSES)


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_every_limit_is_in_the_document_with_its_default(field: object) -> None:
    default = getattr(field, "default")  # noqa: B009
    number, unit = re.match(r"(\d+) ?(\w*)", ROWS[f"`{getattr(field, 'name')}`"][0]).groups()  # type: ignore[union-attr]  # noqa: B009
    assert int(number) * {"KiB": 1 << 10, "MiB": 1 << 20}.get(unit, 1) == default


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_and_field_is_in_the_document(
    kind: type[Struct],
) -> None:
    config = kind.__struct_config__
    lines = [line for line in TEXT.splitlines() if f'"op":"{config.tag}"' in line]
    assert lines
    for name in kind.__struct_encode_fields__:
        assert any(f'"{name}"' in line for line in lines) or f"`{name}`" in TEXT
