"""The jobs in Quix Streams, without changelog topics; windows close by the partition's time."""

from __future__ import annotations

import time
from typing import Any

import meter
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Mean, Sum
from quixstreams.models import Deserializer

read = meter.reader()


class Trade(Deserializer):
    def __call__(self, value: bytes, ctx: Any) -> dict[str, Any]:
        return read(value)  # type: ignore[no-any-return]


def processed(topic: str, partition: int, offset: int) -> None:
    if meter.tick():
        app.stop()


app = Application(
    broker_address=meter.BOOTSTRAP,
    consumer_group=meter.SINK,
    auto_offset_reset="earliest",
    state_dir=meter.FOLDER,
    use_changelog_topics=False,
    loglevel="WARNING",
    on_message_processed=processed,
    producer_extra_config={"linger.ms": 20, "compression.type": "lz4"},
)
source = app.topic(
    meter.SOURCE,
    value_deserializer=Trade(),
    key_deserializer="str",
    timestamp_extractor=lambda value, headers, timestamp, kind: value["ts"],
)
sink = app.topic(meter.SINK, value_serializer="bytes", key_serializer="str")
frame = app.dataframe(source)
told: dict[str, float] = {}


def count(trade: dict[str, Any], state: Any) -> Any:
    n = state.get("n", 0) + 1
    state.set("n", n)
    now = time.monotonic()
    if now - told.get(trade["symbol"], 0.0) < meter.EVERY:
        return None
    told[trade["symbol"]] = now
    return meter.count(trade["ts"], n)


if meter.WINDOWS:
    windows = frame.hopping_window(60_000, 10_000, grace_ms=5000)
    sums = windows.agg(n=Count(), sum=Sum("price"), max=Max("price"), mean=Mean("price"))
    frame = sums.final(closing_strategy="partition")
    frame = frame.apply(lambda w: meter.window(w["start"], w["n"], w["sum"], w["max"], w["mean"]))
else:
    frame = frame.apply(count, stateful=True).filter(lambda value: value is not None)
frame.to_topic(sink)
app.run()
meter.done()
