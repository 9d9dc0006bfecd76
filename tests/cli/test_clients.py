"""``publish``, ``tail`` and ``replay`` against a gateway over a log in memory."""

import asyncio
import contextlib
import io
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from streamproc.cli.main import main
from streamproc.edge.limits import Limits
from tests.cli.kit import command
from tests.edge.kit import Note, tick, world


class Gateway:
    """A gateway with an event loop and a thread of its own, for commands that have theirs."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.manager = world(limits=Limits(ping=3600))  # a ping would wake a command that sleeps through Ctrl-C
        self.there = self.do(self.manager.__aenter__())
        self.url = self.there.gateway.url

    def do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def call(self, function, *args, **named):
        async def called():
            return function(*args, **named)

        return self.do(called())

    def close(self):
        self.do(self.manager.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def gateway(monkeypatch):
    started = Gateway()
    monkeypatch.setenv("STREAMPROC_URL", started.url)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main(args)
        return (code, *capsys.readouterr())

    return run


def events(count, **more):
    return [json.dumps(tick(f"e{n}", **more)) for n in range(count)]


def test_publishes_what_it_is_given(gateway, run):
    code, out, err = run("publish", "t-ticks", *events(3), "--id-field", "id")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["e0", "e1", "e2"]
    assert [line.split()[1][:8] for line in lines] == ["t-ticks["] * 3
    assert [line.split()[2] for line in lines] == ["0", "1", "2"]


def test_publishes_lines_of_stdin(gateway, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(['{"text": "a"}', "", '{"text": "b"}'])))
    code, out, _ = run("publish", "t-notes")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert sorted(note.text for note in gateway.there.records("t-notes")) == ["a", "b"]


def test_refused_events_are_told_and_the_others_go_through(gateway, run):
    good, bad = json.dumps(tick("g")), json.dumps(tick("w", x="high"))
    code, out, err = run("publish", "t-ticks", bad, good, "--id-field", "id")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["g"]
    lines = err.splitlines()
    assert lines[0].startswith("w: refused: x: ")
    assert lines[-1] == "error: 1 event was refused"


def test_a_line_is_answered_before_the_next_is_there(gateway):
    words = ("-m", "streamproc", "publish", "t-notes", "--url", gateway.url)
    with command(*words, stdin=subprocess.PIPE, stderr=None) as process:
        for _ in range(2):
            process.stdin.write('{"text": "a"}\n')
            process.stdin.flush()
            assert "t-notes[" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(30) == 0


def test_an_id_twice_is_refused_once(gateway, run):
    gateway.call(gateway.there.log.down)
    timer = threading.Timer(0.5, lambda: gateway.call(gateway.there.log.up))
    timer.start()
    code, out, err = run("publish", "t-ticks", json.dumps(tick("e")), json.dumps(tick("e")), "--id-field", "id")
    timer.join()
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["e"]
    assert "e: refused: an event with id 'e' is on its way" in err


@pytest.mark.parametrize("text", ["{", "[1]", "nope"])
def test_what_is_no_event_names_its_number(gateway, run, text):
    code, _, err = run("publish", "t-notes", '{"text": "a"}', text)
    assert code == 2
    assert err.startswith("error: event 2 is not a JSON object: ")
    assert "bug" not in err


@pytest.mark.parametrize("command", [("publish", "t-notes", "{}"), ("tail", "t-bare"), ("replay", "shuttle")])
def test_no_gateway(run, monkeypatch, command):
    monkeypatch.setenv("STREAMPROC_URL", "ws://127.0.0.1:1")
    code, out, err = run(*command)
    assert (code, out) == (3, "")
    assert err.startswith("error: no gateway at ws://127.0.0.1:1: ")


def test_an_address_that_is_none(run):
    code, _, err = run("tail", "t-bare", "--url", "localhost:8000")
    assert (code, err) == (2, "error: expected a gateway's address such as ws://127.0.0.1:8000; got 'localhost:8000'\n")


@contextlib.contextmanager
def five_results(gateway):
    """Sends n0 to n4 once somebody subscribes."""

    def emit():
        while gateway.there.gateway.metrics.subscriptions == 0:
            time.sleep(0.01)
        for n in range(5):
            gateway.call(gateway.there.emit, "t-bare", Note(f"n{n}"))

    thread = threading.Thread(target=emit)
    thread.start()
    yield
    thread.join()


def test_tails_so_many(gateway, run):
    with five_results(gateway):
        code, out, err = run("tail", "t-bare", "-n", "3")
    assert (code, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["n0", "n1", "n2"]


def test_tails_what_matches(gateway, run):
    with five_results(gateway):
        code, out, err = run(
            "tail", "t-bare", "-n", "2", "--filter", '{"key": "text", "cmp": "in", "vals": ["n1", "n4"]}'
        )
    assert (code, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["n1", "n4"]


@pytest.mark.parametrize(
    ("filter", "code", "told"),
    [
        ("{", 2, "--filter: not JSON"),
        ("5", 2, "--filter: expected a JSON object"),
        ('{"key": "zap", "cmp": "ex"}', 1, "filter.key: 'zap': expected $key, or one of text, event"),
    ],
)
def test_a_filter_that_is_none_is_told(gateway, run, filter, code, told):
    found, out, err = run("tail", "t-bare", "--filter", filter)
    assert (found, out) == (code, "")
    assert told in err


def test_a_channel_that_is_not_there(gateway, run):
    code, out, err = run("tail", "nothing")
    assert (code, out) == (1, "")
    assert err == "error: channel 'nothing': expected one of: t-bare, t-results (code 102)\n"


#: Another thread gets Ctrl-C's signal: the main one's wait for its sockets is not broken off by it, just as when the
#: signal comes a moment before that wait.
ASIDE = """
import signal, sys, threading, time
from streamproc.cli.main import main
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", [("-m", "streamproc"), ("-c", ASIDE)], ids=["plain", "aside"])
def test_a_tail_that_is_interrupted_says_nothing(gateway, how):
    with command(*how, "tail", "t-bare", "--url", gateway.url) as process:
        while gateway.there.gateway.metrics.subscriptions == 0:
            assert process.poll() is None
            time.sleep(0.01)
        gateway.call(gateway.there.emit, "t-bare", Note("seen at once"))
        assert json.loads(process.stdout.readline())["text"] == "seen at once"
        time.sleep(0.3)  # it has nothing more to do then, and waits
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 130


def test_replays_a_file(gateway, run, tmp_path):
    file = tmp_path / "ticks.jsonl"
    file.write_text("\n".join(events(20)) + "\n")
    code, out, err = run("replay", str(file), "--topic", "t-ticks", "--rate", "0", "--id-field", "id", "--limit", "15")
    assert (code, err) == (0, "")
    assert out.startswith("15 events in ")
    assert out.endswith(", 0 refused\n")
    assert {record.id for record in gateway.there.records("t-ticks")} == {f"e{n}" for n in range(15)}


def test_a_replay_with_refusals_says_why(gateway, run, tmp_path):
    file = tmp_path / "ticks.jsonl"
    file.write_text("\n".join([*events(3), *[line.replace("1.5", '"high"') for line in events(2)]]))
    code, out, err = run("replay", str(file), "--topic", "t-ticks", "--rate", "0")
    assert code == 1
    assert out.startswith("0 events in ")
    assert err.startswith("error: 5 events were refused\n  1: ")
    assert "the data's 'id' says 'e0'" in err  # so what --id-field is for can be guessed


def test_wrong_numbers_are_wrong_use(run):
    assert run("replay", "shuttle", "--rate", "-1")[0] == 2
    assert run("tail", "t-bare", "-n", "-1")[0] == 2
    assert run("demo", "--readings", "-1")[0] == 2
