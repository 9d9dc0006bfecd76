"""The gateway's metrics for Prometheus, all named ``streamproc_gateway_…``, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "streamproc_gateway"
LATENCY = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: Counted per frame or per delivery, so plain integers, read when Prometheus asks: attribute, name, labels, help.
_HOT: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("frames_in", "frames", {"direction": "in"}, "WebSocket messages"),
    ("frames_out", "frames", {"direction": "out"}, "WebSocket messages"),
    ("bytes_in", "bytes", {"direction": "in"}, "Bytes of WebSocket messages"),
    ("bytes_out", "bytes", {"direction": "out"}, "Bytes of WebSocket messages"),
    ("events", "events", {}, "Events that clients published and the gateway took"),
    ("acks", "acks", {}, "Events that Kafka has and clients were told so"),
    ("deliveries", "deliveries", {}, "Results handed to subscribers, counted per subscriber"),
)
_HOT_GAUGES = (
    ("connections", "WebSocket connections"),
    ("subscriptions", "Subscriptions"),
    ("queue_bytes", "Results that wait for slow subscribers, in bytes"),
    ("in_flight_bytes", "Published bytes that Kafka has not acknowledged"),
)


class GatewayMetrics:
    """Counters of one gateway process. Attributes that are integers are added to directly, on the loop's thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self.events = self.acks = self.deliveries = 0
        self.connections = self.subscriptions = self.queue_bytes = self.in_flight_bytes = 0
        self.accepted = self._counter("accepted", "Connections accepted")
        self.refused = self._counter("refused", "Handshakes answered with an error", "status")
        self.closed = self._counter("closed", "Connections closed by the gateway", "code")
        self.errors = self._counter("errors", "Error frames sent", "code")
        self.dead_letters = self._counter("dead_letters", "Bad records put aside", "reason")
        self.dead_letters_dropped = self._counter("dead_letters_dropped", "Bad records not put aside", "reason")
        self.lost = self._counter("lost", "Results that a subscriber was told it will not get", "reason")
        self.paused = self._counter("paused", "Times that a connection was read no more for a while", "reason")
        self.produce = self._histogram("produce_seconds", "From taking an event to Kafka's acknowledgement")
        self.end_to_end = self._histogram(
            "end_to_end_seconds",
            "From the ingest stamp (the Kafka record's timestamp, in whole milliseconds) to delivery",
        )
        self.up = Gauge(f"{PREFIX}_up", "1 while the gateway takes connections", registry=self.registry)
        self.registry.register(self)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, buckets=LATENCY, registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client: the integers above."""
        families: dict[str, CounterMetricFamily] = {}
        for attribute, name, labels, text in _HOT:
            family = families.get(name)
            if family is None:
                family = families[name] = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=list(labels))
            family.add_metric(list(labels.values()), getattr(self, attribute))
        yield from families.values()
        for attribute, text in _HOT_GAUGES:
            yield GaugeMetricFamily(f"{PREFIX}_{attribute}", text, value=getattr(self, attribute))
