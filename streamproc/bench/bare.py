"""The least that a consumer can do: reads one topic and writes each record to another as it is.

Runs as ``python -m streamproc.bench.bare SOURCE SINK``; prints ``up``. It ends with whoever holds the other end of its
input.
"""

from __future__ import annotations

import os
import sys
import threading

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamproc.settings import KafkaSettings


async def main(source: str, sink: str) -> None:
    """Never returns."""
    kafka = KafkaSettings.load().aiokafka()
    consumer = AIOKafkaConsumer(source, auto_offset_reset="earliest", fetch_max_wait_ms=50, **kafka)
    producer = AIOKafkaProducer(acks="all", enable_idempotence=True, linger_ms=0, **kafka)
    await consumer.start()
    await producer.start()
    print("up", flush=True)
    async for message in consumer:
        await producer.send(sink, message.value, key=message.key, timestamp_ms=message.timestamp)


def _end_with_input() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock would be held at the end
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    uvloop.run(main(*sys.argv[1:]))
