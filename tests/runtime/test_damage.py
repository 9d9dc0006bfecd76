"""What a broker cannot read, with a broker made by hand: some places of its log cannot be read from."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streamproc.runtime.transport.damage import Damage, GivenUp, WatchedClient

TP = TopicPartition("t", 3)
END = 1_000


class Broker:
    """Answers fetches of one partition: with ``code`` for offsets in ``bad``, in v11's layout."""

    def __init__(self, bad: range, code: int, end: int = END) -> None:
        self.bad, self.code, self.end = bad, code, end
        self.asked: list[int] = []
        self.cluster = "passed on"

    async def send(self, node_id: int, request: Any, **_: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return "another answer"
        ((topic, ((partition, offset, _size),)),) = request.topics
        self.asked.append(offset)
        bad = offset in self.bad
        part = (partition, self.code, -1, -1, -1, None, -1, b"") if bad and self.code else None
        data = b"" if bad or offset >= self.end else b"data"
        return SimpleNamespace(
            topics=[(topic, [part or (partition, 0, self.end, self.end, 0, None, -1, data)])], API_VERSION=11
        )


class Fetcher:
    _retry_backoff, _isolation_level, _max_partition_fetch_bytes = 0.0, 1, 4_096

    def __init__(self) -> None:
        self._damages: defaultdict[TopicPartition, Damage] = defaultdict(Damage)

    async def end_offsets(self, partitions: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, END)


async def ask(client: WatchedClient, offset: int) -> Any:
    request = FetchRequest(50, 1, 1 << 20, 1, [("t", [(3, offset, 4_096)])])
    ((_, (part,)),) = (await client.send(0, request)).topics
    return part


async def test_other_answers_and_names_are_passed_on() -> None:
    client = WatchedClient(Broker(range(0), 0), Fetcher())
    assert client.cluster == "passed on"
    assert await client.send(0, object()) == "another answer"
    assert (await ask(client, 5))[-1] == b"data"


@pytest.mark.parametrize(("code", "patience"), [(2, 3), (-1, 3), (0, 20)])
@pytest.mark.parametrize("bad", [range(70, 71), range(60, 99), range(70, 999), range(1_000)])
async def test_what_cannot_be_read_is_given_up_up_to_the_first_offset_that_can(
    bad: range, code: int, patience: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(bad, code)
    client = WatchedClient(broker, Fetcher())
    for _ in range(patience - 1):
        assert (await ask(client, 70))[-1] == b""
    assert broker.asked == [70] * (patience - 1)
    part = await ask(client, 70)
    assert part[:4] == (3, 0, END, END)
    assert isinstance(part[-1], GivenUp)
    assert (part[-1].batch.base_offset, part[-1].batch.next_offset) == (70, bad.stop)
    assert len(broker.asked) < patience + 25
    assert (
        f"t[3]: the broker cannot read its log at offset 70, however often it is asked; offsets 70 to {bad.stop - 1}"
        in (caplog.text)
    )


async def test_a_log_of_which_not_even_the_end_can_be_read_is_asked_on() -> None:
    client = WatchedClient(Broker(range(END + 1), 2), Fetcher())
    for _ in range(10):
        assert (await ask(client, 70))[:2] == (3, 2)


async def test_a_broker_that_had_no_room_for_a_partition_is_not_mistaken() -> None:
    """Of many partitions it may leave out some. Asked for one alone, it sends it."""

    class Stingy(Broker):
        async def send(self, node_id: int, request: Any, **more: Any) -> Any:
            response = await super().send(node_id, request, **more)
            if request._max_wait_ms:
                response.topics = [("t", [(3, 0, END, END, 0, None, -1, b"")])]
            return response

    client = WatchedClient(Stingy(range(0), 0), Fetcher())
    for _ in range(50):
        assert (await ask(client, 70))[-1] == b""


async def test_an_end_that_is_reached_is_no_damage() -> None:
    broker = Broker(range(0), 0)
    client = WatchedClient(broker, Fetcher())
    for _ in range(50):
        assert (await ask(client, END))[-1] == b""
    assert len(broker.asked) == 50


async def test_an_offset_that_is_gone_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fetcher = Fetcher()
    assert (await ask(WatchedClient(Broker(range(100), 1), fetcher), 70))[1] == 1
    assert "t[3]: offset 70 is not in the log any more; reading goes on at its start" in caplog.text
    assert fetcher._damages[TP].restarted(0)
    assert not fetcher._damages[TP].restarted(0)
