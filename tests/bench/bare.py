"""The least that a consumer can do: reads one topic and writes each value to another as it is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamproc.settings import KafkaSettings


async def main(source: str, sink: str) -> None:
    kafka = KafkaSettings.load().aiokafka()
    consumer = AIOKafkaConsumer(source, group_id="bare", auto_offset_reset="earliest", fetch_max_wait_ms=50, **kafka)
    producer = AIOKafkaProducer(acks="all", enable_idempotence=True, linger_ms=0, **kafka)
    await consumer.start()
    await producer.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    print("up", flush=True)
    async for message in consumer:
        await producer.send(sink, message.value, key=message.key, timestamp_ms=message.timestamp)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
