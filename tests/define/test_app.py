from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamproc import App, Channel, Stream, count, hopping, mean, tumbling
from streamproc.define.aggregation import Aggregation
from tests.define.kit import Thing, ThingSum, things

ROOT = Path(__file__).parents[2]


def test_what_a_topology_is_made_of():
    app = App("plant", partitions=3)
    events = things(app)
    sums = events.window(hopping("10s", "5s"), grace="1s", idle=None).agg("sums", ThingSum, n=count(), x=mean("x"))

    @app.agent(events)
    async def look(stream: Stream[Thing]) -> None: ...

    assert list(app.topics) == ["plant-dead-letters", "things", "sums", "sums-late"]
    assert list(app.channels) == ["sums"]
    assert list(app.publishable) == ["things"]
    assert list(app.agents) == ["sums", "look"]
    assert app.readers(events) == list(app.agents.values())
    assert isinstance(sums, Channel)
    assert (sums.key, sums.time, sums.partitions, sums.publish) == ("unit", "end", 3, False)
    late = app.topics["sums-late"]
    assert (late.record, late.key, late.time, late.publish) == (Thing, "unit", "ts", False)
    made = app.agents["sums"]
    assert isinstance(made, Aggregation)
    assert (made.window.size, made.window.step, made.window.pane, made.grace, made.idle) == (
        10000,
        5000,
        5000,
        1000,
        None,
    )
    assert made.sinks == (sums, late)
    assert repr(app) == "App('plant': 4 topics, 2 agents)"
    assert app.dead_letters.partitions == 1


def test_the_decorated_function_stays_itself():
    app = App("test")

    async def look(stream: Stream[Thing]) -> None: ...

    assert app.agent(things(app), name="other")(look) is look
    assert list(app.agents) == ["other"]


def test_faust_hooks_are_kept_in_order():
    app = App("test")
    first, second = app.faust(lambda _: None), app.faust(lambda _: None)
    assert list(app.faust_hooks) == [first, second]


def test_keys_are_text():
    app = App("test")
    thing = Thing("id", "ä", 7, 3, 1.0, None, True)
    assert app.topic("a", Thing, key="unit").key_of(thing) == "ä".encode()
    assert app.topic("b", Thing, key="ts").key_of(thing) == b"7"
    assert app.topic("c", Thing).key_of(thing) is None


def test_windows_print_as_they_are_written():
    assert str(tumbling("90s")) == "tumbling(90s)"
    assert str(hopping("1h", "250ms")) == "hopping(1h, 250ms)"


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'faust', 'river', 'polars', 'numpy', 'aiokafka', 'confluent_kafka', 'fastavro', 'msgspec', 'websockets'}"
    assert python(f"import sys, streamproc; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


def test_importing_a_topology_loads_neither_faust_nor_a_kafka_client():
    unwanted = "{'faust', 'aiokafka', 'confluent_kafka', 'websockets', 'aiohttp', 'prometheus_client'}"
    code = f"import sys, topologies.shuttle; print(sorted({unwanted} & set(sys.modules)))"
    assert python(code) == "[]\n"


def test_building_a_topology_only_reads_schemas():
    """No socket, no thread, no process, no file but schemas, once the modules are there."""
    pytest.importorskip("river")
    code = """
import sys, threading
import topologies.shuttle
from streamproc.avro.agree import schema_of
import fastavro, avro.schema, avro.errors
schema_of.cache_clear()
touched = []
def hook(event, args):
    if event == "open" and not str(args[0]).endswith((".avsc", ".py", ".pyc")):
        touched.append((event, str(args[0])))
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.fork", "os.mkdir", "os.remove")):
        touched.append((event, str(args)))
before = threading.active_count()
sys.addaudithook(hook)
source = open(topologies.shuttle.__file__).read()
exec(compile(source, "again", "exec"), {"__name__": "topologies.shuttle"})
print(touched, threading.active_count() - before)
"""
    assert python(code) == "[] 0\n"
