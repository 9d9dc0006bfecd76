"""Commands that run a system or ask one, on a real Kafka; and what keeps their logs calm."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, NodeNotReadyError

from streamproc.cli.main import main
from streamproc.cli.serving import Calm, registry_url
from tests.cli.kit import command
from tests.e2e.kit import TOPOLOGY
from tests.e2e.topology import NAME

CANCELLED = asyncio.CancelledError
ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry(tmp_path):
    return f"file:{tmp_path / 'registry.json'}"


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def run(*args, **environ):
    done = subprocess.run(
        [sys.executable, "-m", "streamproc", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | environ,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_dev_with_a_port_in_use_starts_nothing(taken):
    code, out, err = run("dev", "topologies.shuttle:app", "--port", str(taken))
    assert (code, out) == (2, "")
    assert err == f"error: port {taken} is in use: choose another with --port, or stop what listens there\n"


@pytest.mark.e2e
def test_a_gateway_with_a_port_in_use(kafka, name, taken, registry):
    words = ("--registry", registry, "--bootstrap", kafka.bootstrap)
    for option in ("--port", "--admin-port"):
        code, out, err = run("gateway", TOPOLOGY, option, str(taken), *words, **{NAME: name})
        assert (code, out) == (2, "")
        assert f"port {taken} on 127.0.0.1 is in use; choose another, or 0" in err.splitlines()[-1]


@pytest.mark.e2e
def test_agents_and_their_lag(kafka, name, monkeypatch, capsys):
    monkeypatch.setenv(NAME, name)
    assert main(["topics", "list", "--bootstrap", kafka.bootstrap]) == 0
    capsys.readouterr()
    code = main(["agents", "list", TOPOLOGY, "--bootstrap", kafka.bootstrap])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert f"{name}-events" in err  # its topics are not there before a worker or gateway has run
    assert "worker" in err


@pytest.mark.e2e
@pytest.mark.parametrize("noun", ["worker", "gateway"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_when_told(kafka, name, registry, noun, number):
    words = ["-m", "streamproc", noun, TOPOLOGY, "--bootstrap", kafka.bootstrap, "--registry", registry]
    words += ["--port", "0"] if noun == "gateway" else []
    with command(*words, stdout=None, env=os.environ | {NAME: name}) as process:
        said = []
        while "metrics on" not in (line := process.stderr.readline()):
            assert line, said
            said.append(line)
        process.send_signal(number)
        said += process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 0, said
    assert not [line for line in said if "ERROR" in line or "Traceback" in line]
    if (noun, number) == ("worker", signal.SIGINT):
        listed(kafka, name)


def listed(kafka, name):
    """``agents list`` once the topics are there."""
    code, out, _ = run("agents", "list", TOPOLOGY, "--bootstrap", kafka.bootstrap, **{NAME: name})
    assert code == 0
    assert out.splitlines()[0].split() == ["agent", "kind", "reads", "writes", "partitions", "lag"]
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert rows["rows"] == ["rows", "agent", f"{name}-events", f"{name}-counted", "3", "0"]
    assert rows[f"{name}-windows"][1] == "window"
    code, out, _ = run("agents", "list", TOPOLOGY, "--bootstrap", kafka.bootstrap, "-o", "json", **{NAME: name})
    assert {row["agent"]: row["lag"] for row in json.loads(out)} == {
        f"{name}-windows": 0,
        "rows": 0,
        "batches": 0,
        "shaky": 0,
    }


@pytest.mark.e2e
def test_the_demo_balances():
    code, out, err = run("demo", "--readings", "500", "--plain", COLUMNS="120")
    assert code == 0, err
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0].startswith("broker, gateway and worker are up after ")
    title = lines.index("every event and every result is accounted for")
    closing = dict(line.split("  ", 1) for line in lines[title + 1 :])
    assert closing["events in"].strip() == "500 sent, 500 acknowledged by Kafka, 0 refused"
    assert closing["scores out"].strip() == "500 to each of 6 subscribers; 0 lost, 0 doubled, 0 left out"
    assert closing["windows out"].strip().endswith("all are equal")


def record(name, message, *args, exc_info=None):
    return logging.LogRecord(name, logging.ERROR, "", 0, message, args, exc_info)


@pytest.mark.parametrize(
    ("told", "given"),
    [
        (True, record("streamproc.edge", "whatever %s", OSError("x"))),
        (True, record("aiokafka.consumer.group_coordinator", "failed: %s", GroupAuthorizationFailedError("g"))),
        (True, record("faust.agents.actor", "Crashed", exc_info=(ValueError, ValueError("x"), None))),
        (False, record("aiokafka.consumer.fetcher", "Failed fetch: %s", NodeNotReadyError("x"))),
        (False, record("aiokafka", "Unable connect to node %s: %s", 1, ConnectionRefusedError())),
        (
            False,
            record("faust.agents.actor", "Crashed", exc_info=(asyncio.CancelledError, asyncio.CancelledError(), None)),
        ),
    ],
)
def test_only_what_somebody_needs_to_know_is_logged(told, given):
    assert Calm().filter(given) is told


def test_where_the_registry_is(tmp_path, monkeypatch):
    assert registry_url("http://somewhere") == "http://somewhere"
    (tmp_path / "schemas").mkdir()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")
    assert registry_url(None) == f"file:{tmp_path}/schemas/registry.json"
