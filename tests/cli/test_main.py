import json
import subprocess
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

from streamproc import __version__
from streamproc.cli import main as cli
from streamproc.errors import BrokerUnavailable, DefinitionError, StreamprocError


def failing(monkeypatch, error):
    """Makes ``streamproc broken`` raise ``error``."""
    module = types.ModuleType("streamproc.cli.broken")
    module.app = typer.Typer()

    @module.app.command()
    def broken():
        raise error

    monkeypatch.setitem(sys.modules, "streamproc.cli.broken", module)
    monkeypatch.setitem(cli.NOUNS, "broken", "Fails.")
    monkeypatch.setattr(cli, "app", typer.Typer(cls=cli.Nouns, rich_markup_mode=None))
    cli.app.callback()(cli.root)


def test_help_lists_every_noun_and_imports_none():
    code = "import sys; from streamproc.cli.main import main; main(['--help']); print('-', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    text, _, modules = done.stdout.rpartition("-")
    for noun, told in cli.NOUNS.items():
        assert f"  {noun} " in text
        assert told in text
    heavy = {"rich.console", "numpy", "polars", "confluent_kafka", "aiokafka", "faust", "river", "jgo", "asyncio"}
    assert not heavy & set(modules.split())
    assert not [name for name in modules.split() if name == "streamproc.cli.topics"]


@pytest.mark.parametrize("noun", cli.NOUNS)
def test_every_noun_is_there(noun, capsys):
    assert cli.main([noun, "--help"]) == 0
    assert f"Usage: streamproc {noun}" in capsys.readouterr().out


def test_version():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"streamproc {__version__}\n")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (StreamprocError("went wrong"), 1, "error: went wrong\n"),
        (DefinitionError("first\n  second"), 2, "error: first\n  second\n"),
        (BrokerUnavailable("nobody"), 3, "error: nobody\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
        (KeyError("x"), 1, "error: KeyError: 'x'\nthis is a bug; streamproc --debug … shows where\n"),
    ],
)
def test_errors_are_a_line_and_a_code(monkeypatch, capsys, error, code, told):
    failing(monkeypatch, error)
    assert cli.main(["broken"]) == code
    assert capsys.readouterr() == ("", told)


def test_debug_shows_the_traceback(monkeypatch):
    failing(monkeypatch, DefinitionError("wrong"))
    with pytest.raises(DefinitionError):
        cli.main(["--debug", "broken"])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["topic"], "error: No such command 'topic'. Did you mean 'topics'?\nsee streamproc --help\n"),
        (["topics", "create"], "error: Missing argument 'NAME'.\nsee streamproc topics create --help\n"),
        (["topics", "list", "--output", "xml"], "error: Invalid value for '--output'"),
    ],
)
def test_wrong_use(capsys, args, told):
    assert cli.main(args) == 2
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("args", [[], ["topics"]])
def test_a_missing_command_shows_what_there_is(capsys, args):
    assert cli.main(args) == 2
    assert "Commands:" in capsys.readouterr().out


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "streamproc", "nothing"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'nothing'.")


def test_colour_only_on_a_terminal(capsys):
    cli.main(["nothing"])
    assert "\x1b" not in capsys.readouterr().err


def test_json_of_nothing_is_json(capsys):
    from streamproc.cli import show
    from streamproc.cli.options import Format

    show.rows([], Format.json, ("a",))
    assert json.loads(capsys.readouterr().out) == []
    show.rows([], Format.table, ("a", "b"))
    assert capsys.readouterr().out == "a  b\n"
