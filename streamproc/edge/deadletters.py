"""What could not be taken, put aside in the app's dead-letter topic: bounded, and never in anyone's way."""

from __future__ import annotations

import logging
import time

from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.rate import Rate
from streamproc.log.ports import Delivery, Producer, QueueFull

logger = logging.getLogger("streamproc.edge")


class DeadLetters:
    """Sends dead letters of one gateway. What does not fit the rate or the producer's queue is counted, and dropped."""

    def __init__(self, app: App, registry: Registry, producer: Producer, metrics: GatewayMetrics) -> None:
        self._app = app.name
        self._topic = app.dead_letters
        self._codec = Codec.of(self._topic, registry)
        self._producer = producer
        self._metrics = metrics
        self._warned = False

    def put(
        self,
        stage: str,
        reason: str,
        error: str,
        *,
        rate: Rate,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        session: str | None = None,
        key: bytes | None = None,
        value: bytes | None = None,
    ) -> None:
        """Puts one record aside. Its Kafka key names its source, so that repeats can be told."""
        if not rate.take(time.monotonic()):
            self._metrics.dead_letters_dropped.labels("rate").inc()
            return
        now = int(time.time() * 1000)
        letter = DeadLetter(
            time=now,
            app=self._app,
            stage=stage,
            reason=reason,
            error=error,
            topic=topic,
            partition=partition,
            offset=offset,
            session=session,
            key=key,
            value=value,
        )
        source = f"{topic}/{partition}/{offset}" if offset is not None else session or stage
        try:
            self._producer.send(
                self._topic.name, self._codec.encode(letter), key=source.encode(), timestamp=now, done=self._delivered
            )
        except QueueFull:
            self._metrics.dead_letters_dropped.labels("queue").inc()
        else:
            self._metrics.dead_letters.labels(reason).inc()

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.error is None:
            self._warned = False
            return
        self._metrics.dead_letters_dropped.labels("log").inc()
        if not self._warned:
            self._warned = True
            logger.warning("dead letters do not reach %r: %s", self._topic.name, delivery.error)
