"""Kafka's Java client in a Python process: Java's machine is loaded into it by JPype. As a program: does what it is
asked on standard input until that ends, see ``tests.java.client``.

It has a process of its own because Java changes how signals and memory faults are handled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jpype
import msgspec

from streamproc.log.broker.jars import fetch
from streamproc.log.broker.java import find_java
from streamproc.log.broker.locked import Lock
from tests.java.client import Asked, Produce, Read, Row, frame, unframe

_POLL_MS = 200
_PATIENCE = 10.0  # seconds


def start() -> None:
    """Loads Java with the broker's own jars: they hold its client."""
    java = find_java()
    flags = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    flags += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    if java.major >= 24:
        flags += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    library = java.path.parent.parent / "lib" / "server" / "libjvm.so"
    jpype.startJVM(str(library), *flags, classpath=[str(jar) for jar in fetch(Lock.read())])


def produce(asked: Produce) -> list[Row]:
    """Sends the rows and waits for Kafka to have them."""
    serializer = _class("common.serialization.ByteArraySerializer")()
    producer = _class("clients.producer.KafkaProducer")(_config(asked.config), serializer, serializer)
    try:
        if asked.transaction is not None:
            producer.initTransactions()
            producer.beginTransaction()
        sent = []
        for n, row in enumerate(asked.rows, 1):
            sent.append(producer.send(_record(asked, row)))
            if asked.flush_every and n % asked.flush_every == 0:
                producer.flush()
        producer.flush()
        for each in sent:
            each.get()
        if asked.transaction is not None:
            producer.commitTransaction() if asked.transaction else producer.abortTransaction()
    finally:
        producer.close()
    return []


def _record(asked: Produce, row: Row) -> Any:
    header = _class("common.header.internals.RecordHeader")
    headers = jpype.JClass("java.util.ArrayList")()
    for name, value in row.headers:
        headers.add(header(jpype.JString(name), _bytes(value)))
    stamp = None if row.timestamp is None else jpype.JLong(row.timestamp)
    partition = jpype.JInt(asked.partition)
    made = _class("clients.producer.ProducerRecord")
    return made(asked.topic, partition, stamp, _bytes(row.key), _bytes(row.value), headers)


def read(asked: Read) -> list[Row]:
    """All rows of a partition up to its end, or so many as there must be."""
    deserializer = _class("common.serialization.ByteArrayDeserializer")()
    consumer = _class("clients.consumer.KafkaConsumer")(_config(asked.config), deserializer, deserializer)
    rows: list[Row] = []
    try:
        at = jpype.java.util.List.of(_class("common.TopicPartition")(asked.topic, asked.partition))
        consumer.assign(at)
        consumer.seekToBeginning(at)
        end = int(consumer.endOffsets(at).get(at.get(0)))
        patience = time.monotonic() + _PATIENCE
        while int(consumer.position(at.get(0))) < end or (len(rows) < asked.at_least and time.monotonic() < patience):
            rows += map(_row, consumer.poll(jpype.java.time.Duration.ofMillis(_POLL_MS)))
    finally:
        consumer.close()
    return rows


def _row(found: Any) -> Row:
    headers = [(str(h.key()), None if h.value() is None else bytes(h.value())) for h in found.headers()]
    key, value = (None if part is None else bytes(part) for part in (found.key(), found.value()))
    return Row(key, value, int(found.timestamp()), headers, int(found.offset()))


def _bytes(data: bytes | None) -> Any:
    return jpype.JObject(None, jpype.JByte[:]) if data is None else jpype.JArray(jpype.JByte)(data)


def _class(name: str) -> Any:
    return jpype.JClass(f"org.apache.kafka.{name}")


def _config(given: dict[str, str]) -> Any:
    config = jpype.JClass("java.util.HashMap")()
    for name, value in given.items():
        config.put(name, value)
    return config


def main() -> None:
    start()
    doing: dict[type, Callable[[Any], list[Row]]] = {Produce: produce, Read: read}
    while (data := unframe(sys.stdin.buffer)) is not None:
        asked = msgspec.msgpack.decode(data, type=Asked)
        try:
            answer: tuple[list[Row], str] = (doing[type(asked)](asked), "")
        except Exception as error:  # whoever asked shall see it
            answer = ([], f"{type(error).__name__}: {error}")
        frame(sys.stdout.buffer, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
