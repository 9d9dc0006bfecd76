"""The worker's metrics, by Prometheus' conventions. Made by the worker, never at import."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class SourceMetrics:
    """One topic's part of the metrics of what is taken in. To find it anew for every event would cost as much as the
    event.
    """

    def __init__(self, metrics: WorkerMetrics, topic: str) -> None:
        self.blocks, self.bytes = metrics.blocks.labels(topic), metrics.bytes.labels(topic)
        self.decode = metrics.decode.labels(topic)
        self._rows = {path: metrics.rows.labels(topic, path) for path in ("block", "row", "tombstone", "bad")}

    def count_rows(self, **by_path: int) -> None:
        """Counts rows, by path."""
        for path, count in by_path.items():
            if count:
                self._rows[path].inc(count)


class StageMetrics:
    """One agent's or aggregation's part of the metrics of its work."""

    def __init__(self, metrics: WorkerMetrics, agent: str) -> None:
        self.events, self.late = metrics.events.labels(agent), metrics.late.labels(agent)
        self.processing, self.latency = metrics.processing.labels(agent), metrics.latency.labels(agent)
        self.tasks, self.retries = metrics.tasks.labels(agent), metrics.retries.labels(agent)


class WorkerMetrics:
    """All metrics of one worker. Labels are names from the topology, so their number is bounded by it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.events = self._counter("events", "Events handed to an agent or aggregation.", "agent")
        self.results = self._counter("results", "Results that Kafka has acknowledged.", "topic")
        self.blocks = self._counter("blocks", "Blocks (fetches of one partition) taken in.", "topic")
        self.bytes = self._counter("bytes", "Bytes of record batches taken in, as compressed in Kafka.", "topic")
        self.rows = self._counter("rows", "Rows decoded, by path: block, row, tombstone or bad.", "topic", "path")
        self.late = self._counter(
            "late_events", "Events that came after the close of at least one of their windows.", "agent"
        )
        self.retries = self._counter("retries", "Tries of events or batches that had raised before.", "agent")
        self.dead_letters = self._counter("dead_letters", "Records put aside.", "stage", "reason")
        self.decode = self._histogram("decode_seconds", "Time to decode one block.", "topic")
        self.processing = self._histogram(
            "processing_seconds", "Time an agent or aggregation took for one block.", "agent"
        )
        self.stalls = self._counter("stalls", "Times that a partition had work and nothing was done for long.", "topic")
        self.recovery = self._histogram("recovery_seconds", "Time until a partition's state was there again.", "topic")
        self.flush = self._histogram("flush_seconds", "Time to keep what changed of a partition's state.", "topic")
        self.latency = self._histogram(
            "latency_seconds", "From an event's intake to its result handed to Kafka.", "agent"
        )
        self.lag = self._gauge("lag_records", "Records in the topic that are not finished yet.", "topic", "partition")
        self.watermark = self._gauge(
            "watermark_seconds", "Stream time: the highest event time seen.", "agent", "partition"
        )
        self.open_panes = self._gauge("open_panes", "Panes of windows that are held in memory.", "agent", "partition")
        self.keys = self._gauge("keys", "Keys that windows hold in memory.", "agent", "partition")
        self.tasks = self._gauge("tasks", "Tasks (an agent over one partition) that have state here.", "agent")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"streamproc_worker_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"streamproc_worker_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"streamproc_worker_{name}", text, labels, buckets=_FAST, registry=self.registry)
