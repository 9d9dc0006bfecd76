"""Fetching, against a Maven repository on loopback that holds two small jars."""

import gc
import hashlib
import http.server
import subprocess
import sys
import threading
import warnings
from functools import partial

import pytest

from streamproc.errors import BrokerStartError
from streamproc.log.broker.jars import cache_dir, cache_root, exclusive, fetch
from streamproc.log.broker.locked import Jar, Lock

CONTENT = {"org.example:one:1.0": b"one" * 1000, "org.example:two:2.0": b"two" * 10}


@pytest.fixture(autouse=True)
def refused_answers_left_open():
    """jgo leaves the answer open when it is not the jar; its collection must not be another test's warning."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def lock():
    return Lock("0.0", tuple(Jar(c, len(data), hashlib.sha256(data).hexdigest()) for c, data in CONTENT.items()))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Requests for jars, in order. Its files lie in tmp_path/repository."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            if self.path.endswith(".jar"):
                asked.append(self.path.rpartition("/")[2])

    for coordinate, data in CONTENT.items():
        group, artifact, version = coordinate.split(":")
        folder = tmp_path / "repository" / group.replace(".", "/") / artifact / version
        folder.mkdir(parents=True)
        (folder / f"{artifact}-{version}.jar").write_bytes(data)
    handler = partial(Handler, directory=str(tmp_path / "repository"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("STREAMPROC_MAVEN", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_fetches_once_and_tells_how_far_it_is(lock, cache, repository):
    told = []
    paths = fetch(lock, told.append)
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert (told[0].done, told[0].total, told[0].total_bytes) == (0, 2, 3030)
    assert (told[-1].done, told[-1].done_bytes) == (2, 3030)
    assert fetch(lock) == paths
    assert sorted(repository) == ["one-1.0.jar", "two-2.0.jar"]
    assert sorted(path.name for path in (cache / "kafka-0.0" / "jars").iterdir()) == sorted(repository)


def test_works_offline_afterwards(lock, cache, repository, monkeypatch):
    paths = fetch(lock)
    monkeypatch.setenv("STREAMPROC_MAVEN", "http://127.0.0.1:1")
    assert fetch(lock) == paths


def test_a_cut_jar_is_fetched_again(lock, cache, repository):
    paths = fetch(lock)
    paths[0].write_bytes(b"one")
    assert fetch(lock)[0].read_bytes() == CONTENT["org.example:one:1.0"]
    assert repository.count("one-1.0.jar") == 2
    assert repository.count("two-2.0.jar") == 1


def test_another_checksum_is_refused(lock, cache, repository, tmp_path):
    file = tmp_path / "repository/org/example/two/2.0/two-2.0.jar"
    file.write_bytes(b"bad" * 10)
    with pytest.raises(BrokerStartError, match=r"org\.example:two:2\.0 was fetched with sha256 .* is locked"):
        fetch(lock)
    assert not (cache_dir(lock) / "jars" / "two-2.0.jar").exists()
    assert not list((cache_dir(lock) / "jars").glob(".fetch-*"))


def test_offline_and_not_there(lock, cache, monkeypatch):
    monkeypatch.setenv("STREAMPROC_MAVEN", "http://127.0.0.1:1")
    with pytest.raises(BrokerStartError, match=r"not in the cache .*no connection .*STREAMPROC_CACHE.*--bootstrap"):
        fetch(lock)


def test_not_in_the_repository(lock, cache, repository):
    unknown = Lock("0.0", (Jar("org.example:three:1.0", 1, "00"),))
    with pytest.raises(BrokerStartError, match=r"org\.example:three:1\.0 is not in the cache"):
        fetch(unknown)


def test_two_processes_at_once_fetch_once(lock, cache, repository, tmp_path):
    lock.write(tmp_path / "lock.toml")
    code = "import sys; from pathlib import Path; from streamproc.log.broker.jars import fetch; "
    code += "from streamproc.log.broker.locked import Lock; fetch(Lock.read(Path(sys.argv[1])))"
    words = [sys.executable, "-c", code, str(tmp_path / "lock.toml")]
    with exclusive(cache_dir(lock)):  # both wait here
        processes = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert sorted(repository) == ["one-1.0.jar", "two-2.0.jar"]


def test_a_cache_that_cannot_be_written(lock, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path / "file"))
    with pytest.raises(BrokerStartError, match=r"cannot be written .*set STREAMPROC_CACHE"):
        fetch(lock)


def test_where_the_cache_is(tmp_path):
    assert cache_root({"STREAMPROC_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == cache_root({"STREAMPROC_CACHE": "/a"})
    assert str(cache_root({"XDG_CACHE_HOME": "/b"})) == "/b/streamproc"
    assert str(cache_root({"HOME": "/x"})).endswith("/.cache/streamproc")
