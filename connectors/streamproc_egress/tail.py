"""From the log to the hub: decodes what somebody subscribes to, once for all. Results that come again go no further."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from streamproc.avro.codec import Codec
from streamproc.define.topic import Channel
from streamproc.edge.dialects import NATIVE, Result
from streamproc.edge.ports import Context
from streamproc.edge.rate import Rate
from streamproc.errors import RecordError
from streamproc.log.ports import Message
from streamproc.record import Record
from streamproc_egress.filters import Seen
from streamproc_egress.hub import Hub
from streamproc_egress.repeats import Repeats

logger = logging.getLogger("streamproc.egress")
_SLICE = 256  # records between two turns of the loop


class Decoder:
    """Turns a channel's records into messages of the dialect."""

    def __init__(self, channel: Channel, context: Context) -> None:
        self._cause = channel.cause
        self._codec = Codec.of(channel, context.registry)

    def decode(self, source: Message) -> tuple[bytes, Seen]:
        """A message, and what filters look at. Raises RecordError. A tombstone has the data null."""
        caused = self._cause is not None
        result = Result(source.partition, source.offset, source.timestamp, source.key, b"null", caused=caused)
        record: Record | None = None
        if source.value is not None:
            record = self._codec.decode(source.value)
            result.data = self._codec.to_json(record)
            result.cause = getattr(record, self._cause) if self._cause else None
        key = None if source.key is None else source.key.decode(errors="replace")
        return NATIVE.body(result), Seen(key, record)


class Feed:
    """Gives what a tail brings to the hub. A record that cannot be decoded is a dead letter, and a gap of one."""

    def __init__(self, context: Context, hub: Hub) -> None:
        self._context = context
        self._hub = hub
        self._repeats = Repeats()
        self._rate = Rate(context.limits.dead_letters)
        self._decoders = {name: Decoder(channel, context) for name, channel in context.app.channels.items()}

    async def follow(self, batch: list[Message]) -> None:
        """Everything that one poll brought: sent as it is, nothing waits for more."""
        for start in range(0, len(batch), _SLICE):
            if start:
                await asyncio.sleep(0)
            self._slice(batch[start : start + _SLICE])

    def _slice(self, messages: Iterable[Message]) -> None:
        by_channel: dict[str, list[Message]] = {}
        for source in messages:
            if self._repeats.is_new(source):
                by_channel.setdefault(source.topic, []).append(source)
        for channel, sources in by_channel.items():
            if self._hub.wanted(channel):
                self._publish(channel, sources)

    def _publish(self, channel: str, sources: list[Message]) -> None:
        metrics = self._context.metrics
        rows = [self._decode(source) for source in sources]
        told = self._hub.publish(channel, [body for body, _ in rows], [seen for _, seen in rows])
        now = time.time()
        for source, (body, _) in zip(sources, rows, strict=True):
            if body is not None:
                metrics.end_to_end.observe(max(now - source.timestamp / 1000, 0.0))
        metrics.deliveries += told.results
        if told.lost:
            metrics.lost.labels("undecodable").inc(told.lost)

    def _decode(self, source: Message) -> tuple[bytes | None, Seen]:
        try:
            return self._decoders[source.topic].decode(source)
        except RecordError as error:
            reason, text = error.reason, str(error)
        except Exception as error:  # whatever it is, it is this record's: the next ones go on
            logger.exception("egress: %s/%d/%d", source.topic, source.partition, source.offset)
            reason, text = "error", f"{type(error).__name__}: {error}"
        self._context.dead_letters.put(
            "egress",
            reason,
            text,
            rate=self._rate,
            topic=source.topic,
            partition=source.partition,
            offset=source.offset,
            key=source.key,
            value=source.value,
        )
        return None, Seen(None, None)
