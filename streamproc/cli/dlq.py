"""``streamproc dlq``: lists, shows, counts and replays dead letters."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.cli.serving import RegistryOption, registry_url
from streamproc.cli.topology import load_app
from streamproc.errors import SettingsError, StreamprocError, TopicError
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.avro.ports import Registry
    from streamproc.cli.letters import Found, Letters, Newest, Wanted
    from streamproc.cli.putback import PutBack
    from streamproc.cli.replay_plan import Plan
    from streamproc.define.app import App
    from streamproc.define.deadletter import DeadLetter

app = noun("List, show, count and replay dead letters.")

_SHORT = 80  # characters of an error in a table

Where = Annotated[
    str, typer.Argument(help="MODULE:APP or FILE.py:APP, or the name of a topic of dead letters.", metavar="TOPOLOGY")
]
Stage = Annotated[str | None, typer.Option(help="Only those of this agent, or of ingest, decode or egress.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason, such as agent_error.")]
Topic = Annotated[str | None, typer.Option(help="Only those whose records came from this topic.")]
Since = Annotated[
    str | None, typer.Option(help="Only those put aside since: how long ago (1h, 30m), or a time (2026-01-31T12:00Z).")
]


class Source(NamedTuple):
    """Where the letters are, and what is known of their topology."""

    topic: str
    app: App | None
    registry: Registry


@app.command("list")
@takes_kafka
def list_(
    topology: Where,
    kafka: KafkaSettings,
    stage: Stage = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
    registry: RegistryOption = None,
    output: Output = Format.table,
) -> None:
    """List dead letters, the newest last."""
    wanted = _wanted(stage, reason, topic, since)
    with _open(_source(topology, registry), kafka) as letters:
        newest = letters.newest(wanted, limit)
        _tell_strangers(letters, found=bool(newest.letters))
        several = letters.info.partitions > 1
    rows = [_row(found, newest, output) for found in newest.letters]
    columns = ("offset", "time", "stage", "reason", "where", "error")
    show.rows(rows, output, ("partition", *columns) if several else columns)
    if output is Format.table and newest.more:
        typer.echo(f"the newest {limit}; --limit for more", err=True)


@app.command("show")
@takes_kafka
def show_(
    topology: Where,
    offset: Annotated[int, typer.Argument(min=0, help="The letter's, as `list` shows it.")],
    kafka: KafkaSettings,
    partition: Annotated[int, typer.Option("--partition", "-p", min=0, help="The letter's.")] = 0,
    registry: RegistryOption = None,
    output: Output = Format.table,
) -> None:
    """Show all of one dead letter: the error, its traceback, and the record."""
    from streamproc.cli.values import shown

    source = _source(topology, registry)
    with _open(source, kafka) as letters:
        found = letters.at(partition, offset)
        notes = letters.notes_about(partition, offset)
    letter = found.letter
    facts: dict[str, Any] = {
        "offset": found.offset,
        "partition": found.partition,
        "time": _time(letter.time),
        "app": letter.app,
        "stage": letter.stage,
        "reason": letter.reason,
        "from": _where(letter),
        "replayed": [f"{_time(note.time)}, {note.text}" for note in notes],
        "error": letter.error,
        "key": None if letter.key is None else shown(letter.key, source.registry).text,
        **shown(letter.value, source.registry).facts(cut=found.is_cut),
        "traceback": letter.traceback,
    }
    if output is Format.json:
        show.rows([facts], output, ())
        return
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [] if value is None else str(value).rstrip("\n").split("\n")
        for at, line in enumerate(lines):
            typer.echo(f"{name if at == 0 else '':<11}{_printable(line)}".rstrip())


@app.command()
@takes_kafka
def count(
    topology: Where,
    kafka: KafkaSettings,
    stage: Stage = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    registry: RegistryOption = None,
    output: Output = Format.table,
) -> None:
    """Count dead letters by stage, reason and topic, the most first. Reads all of them."""
    from streamproc.cli.letters import Found

    wanted = _wanted(stage, reason, topic, since)
    with _open(_source(topology, registry), kafka) as letters:
        found = (item.letter for item in letters.all(wanted) if isinstance(item, Found))
        counts = Counter((letter.stage, letter.reason, letter.topic or "-") for letter in found)
        _tell_strangers(letters, found=bool(counts))
    rows = [
        {"letters": n, "stage": kind[0], "reason": kind[1], "topic": kind[2]}
        for kind, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    show.rows(rows, output, ("letters", "stage", "reason", "topic"))


@app.command()
@takes_kafka
def replay(
    topology: Where,
    kafka: KafkaSettings,
    offsets: Annotated[list[int] | None, typer.Argument(help="Letters, as `list` shows them.")] = None,
    partition: Annotated[int, typer.Option("--partition", "-p", min=0, help="That of the offsets.")] = 0,
    stage: Stage = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="All letters.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Those, too, that were replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    registry: RegistryOption = None,
) -> None:
    """Put the records of dead letters back into the topics that they came from, byte for byte. Whatever reads those
    topics gets them again.
    """
    wanted = _wanted(stage, reason, topic, since)
    if not offsets and not everything and wanted == type(wanted)():
        raise SettingsError("say which: offsets, a filter such as --stage, or --all")
    if everything and offsets:
        raise SettingsError("--all and offsets do not go together")
    from streamproc.cli.putback import PutBack
    from streamproc.cli.replay_plan import plan

    source = _source(topology, registry)
    limit = _largest(kafka, source.topic)
    # It takes its place as the one that replays this topic before it reads what was replayed so far.
    with closing(PutBack(kafka, source.topic, source.registry, source.app, limit=limit)) as put_back:
        with _open(source, kafka) as letters:
            only = {partition: offsets} if offsets else None
            what = plan(letters, wanted, source.app, offsets=only, again=again)
            _tell_strangers(letters, found=bool(len(what) or what.before or what.left_out))
            _tell_before(what, again)
            if len(what) and _agreed(what, yes):
                _run(put_back, letters, what)
        _tell_replayed(put_back, what)


def _source(topology: str, registry: str | None) -> Source:
    from streamproc.avro.registry import open_registry

    opened = open_registry(registry_url(registry))
    if ":" not in topology and not topology.endswith(".py"):
        return Source(topology, None, opened)
    found = load_app(topology)
    return Source(found.dead_letters.name, found, opened)


def _open(source: Source, kafka: KafkaSettings) -> Letters:
    from streamproc.cli.letters import Letters

    try:
        return Letters(kafka, source.topic, source.registry)
    except TopicError as error:
        made = "a worker or gateway makes its topology's topics when it starts"
        hint = made if source.app is not None else "give MODULE:APP, FILE.py:APP, or a topic of dead letters"
        raise TopicError(f"{error}: {hint}") from None


def _largest(kafka: KafkaSettings, topic: str) -> int:
    """How large a record may be that is replayed: as large as any topic takes."""
    from streamproc.log.kafka_admin import KafkaAdmin

    async def limits() -> int:
        admin = KafkaAdmin(kafka)
        try:
            names = await admin.list()
            return max((await admin.message_limits(names)).values(), default=0)
        finally:
            await admin.close()

    return asyncio.run(limits())


def _wanted(stage: str | None, reason: str | None, topic: str | None, since: str | None) -> Wanted:
    from streamproc.cli.instants import instant
    from streamproc.cli.letters import Wanted

    return Wanted(stage, reason, topic, None if since is None else instant(since, "--since"))


def _row(found: Found, newest: Newest, output: Format) -> dict[str, Any]:
    letter = found.letter
    note = newest.notes.get((found.partition, found.offset))
    row: dict[str, Any] = {"partition": found.partition, "offset": found.offset}
    if output is Format.json:
        row |= {"time": letter.time, "stage": letter.stage, "reason": letter.reason, "topic": letter.topic}
        row |= {"at": None if letter.offset is None else [letter.partition, letter.offset], "session": letter.session}
        return row | {"error": letter.error, "replayed": note and note.time}
    error = _printable(letter.error.strip().partition("\n")[0])
    said = error if len(error) <= _SHORT else error[: _SHORT - 1] + "…"
    row |= {"time": _time(letter.time), "stage": _printable(letter.stage), "reason": _printable(letter.reason)}
    row["where"] = _printable(_where(letter))
    return row | {"error": f"{said} (replayed)" if note else said}


def _where(letter: DeadLetter) -> str:
    at = letter.topic or ""
    if letter.offset is not None:
        return f"{at}[{letter.partition}] {letter.offset}"
    return f"{at} session {letter.session}".strip() if letter.session else at or "-"


def _printable(text: str) -> str:
    """What clients send reaches errors and names, and must not move this terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in text)


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def _tell_strangers(letters: Letters, *, found: bool) -> None:
    told = letters.told_strangers()
    if told and not found:
        raise StreamprocError(told)
    if told:
        typer.echo(told, err=True)


def _tell_before(what: Plan, again: bool) -> None:
    if what.before:
        were = _letters(what.before, "was", "were")
        typer.echo(
            f"{were} replayed before: {'once more now' if again else 'left out; --again takes them too'}", err=True
        )


def _agreed(what: Plan, yes: bool) -> bool:
    if yes:
        return True
    into = ", ".join(f"{topic} ({n:,})" for topic, n in what.topics.most_common())
    if not sys.stdin.isatty():
        raise SettingsError(
            f"{_letters(len(what))} would be replayed, into {into}: say --yes where nobody can be asked"
        )
    return typer.confirm(
        f"Put {_letters(len(what))} back into {into}? All that reads there gets them again.", abort=True
    )


def _run(put_back: PutBack, letters: Letters, what: Plan) -> None:
    shown = time.monotonic()
    try:
        for done in put_back.run(letters, what):
            if time.monotonic() - shown > 2:
                shown = time.monotonic()
                typer.echo(f"{done:,} of {len(what):,} …", err=True)
    except BaseException:
        _tell_replayed(put_back, what)
        raise


def _tell_replayed(put_back: PutBack, what: Plan) -> None:
    into = ", ".join(f"{topic} ({n:,})" for topic, n in put_back.replayed.most_common())
    typer.echo(f"{_letters(put_back.replayed.total())} replayed{f', into {into}' if into else ''}")
    for why, n in (what.left_out + put_back.left_out).most_common():
        typer.echo(f"{_letters(n)} left out: {why}", err=True)


def _letters(n: int, one: str = "", many: str = "") -> str:
    return f"{n:,} letter{'s' if n != 1 else ''} {one if n == 1 else many}".rstrip()
