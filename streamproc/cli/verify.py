"""``streamproc verify``: replays a source, and compares what comes of it with the state that is kept."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.cli.running import run
from streamproc.cli.serving import RegistryOption, registry_url
from streamproc.cli.topology import Topology, load_app
from streamproc.errors import SettingsError
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.runtime.verifying import Verified, Verifier

app = noun()

_EVERY = 2.0  # seconds between two lines of progress


class Begin(StrEnum):
    """Where a replay begins."""

    begin = "begin"
    snapshot = "snapshot"


@app.command()
@takes_kafka
def verify(
    topology: Topology,
    kafka: KafkaSettings,
    stage: Annotated[str | None, typer.Option(help="Only this one's state.")] = None,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Only this one's.")] = None,
    begin: Annotated[
        Begin, typer.Option("--from", help="Replay from the begin of the source, or from snapshots in --snapshots.")
    ] = Begin.begin,
    snapshots: Annotated[Path | None, typer.Option(help="The folder with the worker's snapshots.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows that differ are told of each partition.")] = 5,
    registry: RegistryOption = None,
    output: Output = Format.table,
) -> None:
    """Replay the source of each stage into fresh state, up to where the kept state is, and compare them row by row.
    Exits with 1 unless they are equal. Runs agents' code once more, and sends nothing; workers may go on meanwhile.
    """
    if (begin is Begin.snapshot) != (snapshots is not None):
        raise SettingsError("--from snapshot and --snapshots FOLDER go together")
    definition = load_app(topology)
    from streamproc.avro.read_only import ReadOnlyRegistry
    from streamproc.avro.registry import open_registry
    from streamproc.runtime.verifying import Verifier

    opened = ReadOnlyRegistry(open_registry(registry_url(registry)))
    verifier = Verifier(definition, kafka, opened, snapshots=snapshots, show=rows, progress=_Shown())
    found = run(_all(verifier, stage, partition))
    show.rows([_row(each, output) for each in found], output, _COLUMNS)
    if verifier.skipped:
        typer.echo(f"nothing to verify, as they keep no rows: {', '.join(verifier.skipped)}", err=True)
    if output is Format.table:
        for each in found:
            _tell(each)
    if not all(each.is_equal for each in found):
        raise typer.Exit(1)


_COLUMNS = ("stage", "partition", "offsets", "events", "equal", "different", "missing", "extra", "verified")


async def _all(verifier: Verifier, stage: str | None, partition: int | None) -> list[Verified]:
    return [each async for each in verifier.run(stage, partition)]


def _row(found: Verified, output: Format) -> dict[str, Any]:
    rows = found.rows
    row: dict[str, Any] = {"stage": found.stage, "partition": found.partition}
    words = (f"{begin}..{end}" for begin, end in found.offsets.values())
    row["offsets"] = " ".join(words) if output is Format.table else dict(found.offsets)
    row |= {"events": found.events, "equal": rows.equal, "different": rows.different}
    row |= {"missing": rows.missing, "extra": rows.extra, "verified": _word(found)}
    if output is Format.json:
        row["verified"] = found.is_equal
        row |= {"whole": found.whole, "header": list(found.header), "first": list(found.first)}
        row["notes"] = list(found.notes)
    return row


def _word(found: Verified) -> str:
    if found.is_equal:
        return "yes"
    return "NO" if found.whole else "in part"


def _tell(found: Verified) -> None:
    lines = [*found.header, *found.first]
    shown = found.rows.different + found.rows.missing + found.rows.extra - len(found.first)
    if found.first and shown > 0:
        lines.append(f"and {shown:,} more rows")
    lines += [] if found.is_equal and found.whole else found.notes
    for line in lines:
        typer.echo(f"{found.stage}[{found.partition}]: {line}", err=True)


class _Shown:
    """Says now and then how far a replay is."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, stage: str, partition: int, topic: str, offset: int, end: int) -> None:
        if time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            typer.echo(f"{stage}[{partition}]: offset {offset:,} of {end:,} of {topic} …", err=True)
