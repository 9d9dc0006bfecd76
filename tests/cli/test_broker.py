"""``streamproc broker`` as a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.kit import command

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def started(tmp_path, *args):
    """The command, up and running, with its address. Temporary files go to tmp_path."""
    words = ("-m", "streamproc", "broker", "--port", "0", *args)
    with command(*words, env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True) as process:
        line = process.stdout.readline()
        assert " at " in line, process.communicate()[1]
        yield process, line


def answers(line):
    host, port = line.split(" at ")[1].split(";")[0].split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_until_told_to_stop_and_leaves_nothing(tmp_path, number):
    with started(tmp_path) as (process, line):
        assert line.endswith("its data goes when it stops. Ctrl-C stops it.\n")
        assert answers(line)
        assert len(list(tmp_path.iterdir())) == 1
        os.killpg(process.pid, number)  # as a terminal does
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines()[-1].startswith("starting Apache Kafka")
    assert not answers(line)
    assert list(tmp_path.iterdir()) == []


def test_keeps_data_where_it_is_told(tmp_path):
    with started(tmp_path, "--data", str(tmp_path / "kept")) as (process, line):
        assert f"its data is in {tmp_path / 'kept'}" in line
        process.terminate()
        process.communicate(timeout=60)
    assert (tmp_path / "kept" / "log" / "meta.properties").exists()


def test_a_broker_that_dies_is_told(tmp_path):
    with started(tmp_path) as (process, _):
        (folder,) = tmp_path.iterdir()
        (java,) = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and runs(p, folder)]
        os.kill(java, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: Kafka ended by itself" in err
    assert list(tmp_path.iterdir()) == []


def runs(process, folder):
    """Whether a process is the Java that was started for a folder."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return bytes(folder / "server.properties") in words and words[0].endswith(b"java")


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "streamproc", "broker", "--port", str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1] == f"error: port {port} is in use: choose another, or stop what listens there"


def test_a_wrong_heap():
    words = [sys.executable, "-m", "streamproc", "broker", "--heap-mb", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: heap_mb: Kafka needs 128 or more; got 1\n")
