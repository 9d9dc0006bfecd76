"""What the gateway leans on inside websockets: fails when a new version moves it."""

from __future__ import annotations

import asyncio

from websockets.asyncio.connection import Connection as Base
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from tests.edge.kit import world


def test_the_callbacks_are_those_of_an_asyncio_protocol() -> None:
    for name in ("connection_made", "connection_lost", "data_received", "resume_writing", "pause_writing"):
        assert callable(getattr(ServerConnection, name))
    assert asyncio.iscoroutinefunction(Base.drain)


async def test_an_open_connection_has_what_a_ready_made_frame_needs() -> None:
    async with world() as there, there.client(compression="deflate") as client:
        await client.ask(op="ping")
        (connection,) = there.gateway._links
        assert connection.protocol.state is State.OPEN
        assert connection.send_in_progress is None
        assert connection.protocol.extensions == []
        assert connection.protocol.parser_exc is None
        assert connection.protocol.data_to_send() == []
        assert connection.paused is False
        assert connection.recv_messages.paused is False
        assert connection.keepalive_task is None
        assert connection.transport.get_write_buffer_size() == 0
        assert connection.transport.get_write_buffer_limits()[1] == there.gateway.limits.write_buffer
