"""Commands that take a topology: what they print of it, and what they say when it is wrong."""

import contextlib
import sys
from pathlib import Path

import pytest

from streamproc.cli.main import main
from tests.cli.kit import command

ROOT = Path(__file__).parents[2]
HEAD = """
from streamproc import App, Record, count, mean, tumbling

class Reading(Record):
    unit: str
    ts: int

class Bar(Record):
    unit: str
    start: int
    end: int
    n: int
    mean: float

"""


@pytest.fixture
def shuttle(monkeypatch):
    monkeypatch.chdir(ROOT)
    return "topologies.shuttle:app"


@pytest.fixture
def write(tmp_path):
    """Writes a topology and its schema; gives its name for the command line."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "reading.avsc").write_text(
        '{"type": "record", "name": "Reading", "fields": ['
        '{"name": "unit", "type": "string"}, {"name": "ts", "type": "long"}]}'
    )

    def write(body, name="mine"):
        (tmp_path / f"{name}.py").write_text(body)
        return f"{tmp_path / name}.py:app"

    return write


def told(capsys, *args):
    """Exit code and what was said on stderr; stdout has to be empty."""
    code = main(args)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


def test_as_text(shuttle, capsys):
    assert main(["describe", shuttle]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "app shuttle"
    assert "topic readings: Reading (key=unit, time=ts, id=id, 4 partitions)" in lines
    assert "agent score" in lines
    assert "channel scores: Score (key=unit, time=ts, cause=event, 4 partitions)" in lines
    assert "table hst: str to any object, volatile" in lines
    assert "dead letters: shuttle-dead-letters" in lines


@pytest.mark.parametrize(("form", "first"), [("mermaid", "flowchart LR"), ("dot", "digraph")])
def test_as_a_graph(shuttle, capsys, form, first):
    assert main(["describe", shuttle, "--graph", form]) == 0
    out = capsys.readouterr().out
    assert out.startswith(first)
    assert all(name in out for name in ("readings", "scores", "spikes", "bars", "agent score"))


def test_the_name_app_is_understood(shuttle, capsys):
    assert main(["describe", shuttle.removesuffix(":app")]) == 0
    assert capsys.readouterr().out.startswith("app shuttle")


def test_a_wrong_column_names_line_and_column(write, capsys):
    body = HEAD + (
        'app = App("mine")\n'
        'readings = app.topic("readings", Reading, key="unit", time="ts")\n'
        'bars = readings.window(tumbling("1s")).agg("bars", Bar, n=count(), mean=mean("s1"))\n'
    )
    code, err = told(capsys, "describe", write(body))
    line = len(body.splitlines())
    assert code == 2
    assert err.endswith(
        f"mine.py:{line}: aggregation 'bars', mean=mean(s1): Reading has no field 's1'; it has unit, ts\n"
    )


def test_an_error_of_any_kind_names_the_line(write, capsys):
    code, err = told(capsys, "describe", write("x = 1\ny = x + 'a'\n"))
    assert (code, err.splitlines()[0].endswith("unsupported operand type(s) for +: 'int' and 'str'")) == (2, True)
    assert "mine.py:2: TypeError: " in err


def test_a_syntax_error_names_the_line(write, capsys):
    code, err = told(capsys, "describe", write("x = 1\ny = = 2\n"))
    assert code == 2
    assert "mine.py:2: SyntaxError: invalid syntax" in err


def test_a_module_that_is_missing_inside(write, capsys):
    code, err = told(capsys, "describe", write("import nothing_of_this_name\n"))
    assert code == 2
    assert "mine.py:1: ModuleNotFoundError: No module named 'nothing_of_this_name'" in err


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("nothing.here:app", "no module 'nothing.here': run this in the folder that it is in, or give a file"),
        ("nothing.py:app", "no file nothing.py"),
        ("topologies.shuttle:ap", "no App named 'ap' there; it has topologies.shuttle:app"),
        ("json:app", "no App named 'app' there; it defines no App"),
        ("topologies/shuttle:app", "expected MODULE:APP or FILE.py:APP, such as topologies.shuttle:app; got "),
        (":app", "expected MODULE:APP or FILE.py:APP, such as topologies.shuttle:app; got ''"),
        ("..x:app", "expected MODULE:APP or FILE.py:APP, such as topologies.shuttle:app; got '..x'"),
    ],
)
@pytest.mark.parametrize("noun", ["describe", "dev", "worker", "gateway"])
def test_a_topology_that_is_not_there(monkeypatch, capsys, noun, topology, said):
    monkeypatch.chdir(ROOT)
    code, err = told(capsys, noun, topology)
    assert code == 2
    assert err.startswith("error: ")
    assert said in err


def test_a_file_may_be_called_like_a_module_and_import_its_neighbours(tmp_path, write, capsys):
    before = sys.modules["json"]
    (tmp_path / "beside_json.py").write_text('NAME = "mine"\n')
    body = 'from beside_json import NAME\napp = App(NAME)\nreadings = app.topic("readings", Reading, key="unit")\n'
    assert main(["describe", write(HEAD + body, name="json")]) == 0
    assert capsys.readouterr().out.startswith("app mine")
    assert sys.modules["json"] is before


def test_a_broker_that_is_not_there(tmp_path):
    words = ("topologies.shuttle:app", "--bootstrap", "127.0.0.1:1", "--registry", f"file:{tmp_path / 'registry.json'}")
    with contextlib.ExitStack() as stack:
        for process in [
            stack.enter_context(command("-m", "streamproc", noun, *words, cwd=ROOT)) for noun in ("worker", "gateway")
        ]:
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (3, "")
            assert "error: no broker answers at 127.0.0.1:1 within 5 s" in err
            assert "Traceback" not in err
            assert "ERROR" not in err
