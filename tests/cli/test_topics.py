import json
import socket

import pytest

from streamproc.cli.main import main


@pytest.fixture
def run(capsys, monkeypatch, request):
    """Runs ``streamproc topics …`` against the shared broker; returns exit code, stdout and stderr."""
    monkeypatch.setenv("STREAMPROC_BOOTSTRAP", request.getfixturevalue("kafka").bootstrap)

    def run(*args):
        code = main(["topics", *args])
        return (code, *capsys.readouterr())

    return run


@pytest.mark.e2e
def test_the_life_of_a_topic(run, name, monkeypatch):
    assert run("create", name, "-p", "2", "-c", "retention.ms=1000") == (0, f"{name}: created, partitions 2\n", "")
    assert run("create", name, "-p", "2") == (0, f"{name}: is there already, partitions 2\n", "")
    code, out, err = run("create", name, "-p", "3")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: topic '{name}' has 2 partitions; expected 3")

    code, out, _ = run("list")
    assert out.splitlines()[0].split() == ["topic", "partitions", "replication", "records", "config"]
    assert [line.split() for line in out.splitlines() if line.startswith(name)] == [
        [name, "2", "1", "0", "retention.ms=1000"]
    ]
    (found,) = [row for row in json.loads(run("list", "--output", "json")[1]) if row["topic"] == name]
    assert found == {
        "topic": name,
        "partitions": 2,
        "replication": 1,
        "records": 0,
        "config": {"retention.ms": "1000"},
    }

    code, out, _ = run("describe", name)
    assert out.splitlines() == [
        f"{name}: partitions 2, replication 1, retention.ms=1000",
        "partition  begin  end  records",
        "        0      0    0        0",
        "        1      0    0        0",
    ]
    (found,) = json.loads(run("describe", name, "-o", "json")[1])
    assert (found["begin"], found["end"]) == ([0, 0], [0, 0])

    assert run("delete", name)[0] == 2  # nobody to ask
    assert run("delete", name, "--yes") == (0, f"{name}: deleted\n", "")
    code, _, err = run("describe", name)
    assert (code, err) == (1, f"error: no topic '{name}' on this broker\n")


@pytest.mark.e2e
def test_a_setting_without_a_value(run, name):
    assert run("create", name, "-c", "retention") == (
        2,
        "",
        "error: --config: expected KEY=VALUE; got 'retention'\n",
    )


def test_a_broker_that_is_not_there(capsys):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        assert main(["topics", "list", "--bootstrap", address]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: no broker answers at {address} within 5 s (")
    assert len(err.splitlines()) == 1
