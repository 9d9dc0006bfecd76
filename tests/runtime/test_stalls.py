"""Work that does not go on is noticed, and a held-up event loop ends its process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from streamproc.runtime.stalls import EXIT, Stalls


def test_work_that_stays_the_same_is_noticed_once_its_time_is_over() -> None:
    stalls = Stalls[str](10.0)
    assert stalls.look({"a": 1, "b": 1}, 0.0) == []
    assert stalls.look({"a": 1, "b": 2}, 9.9) == []
    assert stalls.look({"a": 1, "b": 2}, 10.0) == ["a"]
    stalls.forget("a")
    assert stalls.look({"a": 1, "b": 2}, 25.0) == ["b"]


def test_what_has_nothing_to_do_does_not_stall() -> None:
    stalls = Stalls[str](10.0)
    stalls.look({"a": 1}, 0.0)
    assert stalls.look({}, 5.0) == []
    assert stalls.look({"a": 1}, 12.0) == []
    assert stalls.look({"a": 1}, 22.0) == ["a"]


def test_a_loop_that_is_held_up_ends_its_process_and_says_where() -> None:
    code = """
        import time
        from streamproc.runtime.stalls import LoopWatch

        watch = LoopWatch(0.5)
        watch.start()
        for _ in range(10):
            time.sleep(0.1)
            watch.beat()
        print("alive", flush=True)

        def an_agent_that_computes():
            time.sleep(60)

        an_agent_that_computes()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=50)
    assert ended.returncode == EXIT
    assert ended.stdout == "alive\n"
    assert "the event loop is held up" in ended.stderr
    assert "an_agent_that_computes" in ended.stderr
