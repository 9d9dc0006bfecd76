"""One connection's subscriptions, against a link that can be told to be slow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamproc.edge.limits import Limits
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.words import Error, ServerFrame, Subscribe, Subscribed, Unsubscribe, Unsubscribed
from streamproc_egress.hub import Hub
from streamproc_egress.writer import Subscriber
from tests.egress.test_hub import payload


class SlowLink:
    session = "s"

    def __init__(self) -> None:
        self.writable = True
        self.frames: list[ServerFrame] = []
        self.written: list[dict[str, Any]] = []

    def send(self, frame: ServerFrame) -> None:
        self.frames.append(frame)

    def write(self, framed: bytes) -> bool:
        self.written.append(payload(framed))
        return True


class Bench:
    def __init__(self, **limits: int) -> None:
        self.hub = Hub(["a", "b"], 1000)
        self.metrics = GatewayMetrics()
        self.link = SlowLink()
        self.state = SimpleNamespace(draining=False, problem=None)
        context: Any = SimpleNamespace(limits=Limits(**limits), metrics=self.metrics, node="n1")
        self.subscriber = Subscriber(context, self.hub, self.link, self.state)  # type: ignore[arg-type]

    def subscribe(self, channel: str) -> ServerFrame:
        self.subscriber.receive(Subscribe("1", channel), 0)
        return self.link.frames[-1]


def test_what_waits_for_a_subscription_that_ends_is_forgotten() -> None:
    bench = Bench(queue=200)
    first, second = bench.subscribe("a"), bench.subscribe("b")
    assert isinstance(first, Subscribed)
    assert isinstance(second, Subscribed)
    bench.link.writable = False
    for _ in range(20):
        bench.hub.publish("a", [b"1"])
    bench.hub.publish("b", [b"2"])
    bench.subscriber.receive(Unsubscribe("2", first.sid), 0)
    assert bench.link.frames[-1] == Unsubscribed("2", first.sid)
    bench.link.writable = True
    bench.subscriber.writable()
    assert [(frame["op"], frame["sid"]) for frame in bench.link.written] == [("batch", second.sid)]
    assert (bench.metrics.queue_bytes, bench.metrics.subscriptions) == (0, 1)


def test_a_queue_is_emptied_before_anything_newer_is_written() -> None:
    bench = Bench()
    bench.subscribe("a")
    bench.link.writable = False
    bench.hub.publish("a", [b"1"])
    bench.link.writable = True
    bench.hub.publish("a", [b"2"])
    assert bench.link.written == []
    assert bench.metrics.queue_bytes > 0
    bench.subscriber.writable()
    assert [frame["msgs"] for frame in bench.link.written] == [[1], [2]]
    assert bench.metrics.queue_bytes == 0


def test_closing_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.subscribe("a")
    bench.link.writable = False
    bench.hub.publish("a", [b"1"])
    bench.subscriber.close()
    bench.subscriber.close()
    assert not bench.hub.wanted("a")
    assert (bench.metrics.queue_bytes, bench.metrics.subscriptions) == (0, 0)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"draining": True}, 202), ({"problem": "away"}, 200), ({}, 106)],
)
def test_a_subscription_that_cannot_be_is_refused(change: dict[str, Any], code: int) -> None:
    bench = Bench(subscriptions=1)
    if not change:
        bench.subscribe("b")
    vars(bench.state).update(change)
    refused = bench.subscribe("a")
    assert isinstance(refused, Error)
    assert refused.code == code
    assert not bench.hub.wanted("a")
