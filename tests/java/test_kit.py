"""The kit itself: what the Java client writes, it and the console consumer read, and the log holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamproc.log.broker import EmbeddedBroker
from tests.fuzz.reading import make_topic
from tests.java import tools
from tests.java.client import JavaClient, Row

ODD = [
    Row(b"k\t\n\\", bytes(range(256)), 1_700_000_000_000, [("a", b"\x00\xff"), ("a", b""), ("b", None)]),
    Row(None, b"", 0),
    Row(b"", None, 5, [("c", b"1")]),
    Row(b"null", b"\\x00 ", 6),
]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="module")
def java(broker: EmbeddedBroker) -> Iterator[JavaClient]:
    with JavaClient(broker.bootstrap) as client:
        yield client


def numbered(rows: list[Row]) -> list[Row]:
    return [Row(r.key, r.value, r.timestamp, list(r.headers), i) for i, r in enumerate(rows)]


@pytest.mark.e2e
async def test_any_bytes_come_back(broker: EmbeddedBroker, java: JavaClient, name: str) -> None:
    topic = name
    await make_topic(broker.settings, topic)
    java.produce(topic, ODD)
    assert java.read(topic) == numbered(ODD)
    assert tools.console(broker.bootstrap, topic, len(ODD)) == numbered(ODD)


@pytest.mark.e2e
async def test_batches_are_as_asked_for(broker: EmbeddedBroker, java: JavaClient, name: str) -> None:
    topic = name
    await make_topic(broker.settings, topic)
    for codec in CODECS:
        java.produce(topic, ODD * 3, codec=codec, flush_every=4)
    java.produce(topic, ODD, flush_every=1, idempotent=False)
    java.produce(topic, ODD, transaction=False)
    java.produce(topic, ODD, transaction=True)
    assert broker.config.data_dir is not None
    (folder,) = (path for path in broker.config.data_dir.rglob(f"{topic}-0") if path.is_dir())
    batches = tools.dump(folder)
    assert all(batch["isvalid"] == "true" for batch in batches)
    data = [batch for batch in batches if batch["isControl"] == "false"]
    assert [(batch["compresscodec"], batch["count"]) for batch in data[:15]] == [
        (c, "4") for c in CODECS for _ in "123"
    ]
    assert [(batch["producerId"], batch["count"]) for batch in data[15:-2]] == [("-1", "1")] * 4
    assert [batch["isTransactional"] for batch in batches[-4:]] == ["true"] * 4
    assert batches[0].header_keys == [["a", "a", "b"], [], ["c"], []]
    committed = [row.offset for row in java.read(topic, committed_only=True, at_least=68)]
    assert committed == [*range(64), *range(69, 73)]
    assert [row.offset for row in tools.console(broker.bootstrap, topic, 68, committed_only=True)] == committed
    assert len(java.read(topic)) == 72


@pytest.mark.e2e
def test_errors_are_told(java: JavaClient) -> None:
    with pytest.raises(RuntimeError, match="ConfigException"):
        java.produce("nothing", [], codec="brotli")
