"""What trio-websocket does alone, and what it does here: why the stream under it is watched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import MockClock

from feedhandler import ConnectionConfig, ConnectionLost, HandshakeError, WebSocketClient
from feedhandler_testing import BadHandshake, MockWebSocketConnection, MockWebSocketServer

QUIET = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None, close_timeout_s=2.0)


@asynccontextmanager
async def alone(
    server: MockWebSocketServer,
) -> AsyncIterator[tuple[trio_websocket.WebSocketConnection, MockWebSocketConnection]]:
    """A connection of trio-websocket's over a memory stream, and the server's side of it."""
    async with trio.open_nursery() as nursery:
        stream = await server.simulate_connection()
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # declared narrower than it is used
            "mock",
            "/",
        )
        yield connection, await server.next_connection()
        nursery.cancel_scope.cancel()


def here(server: MockWebSocketServer) -> WebSocketClient:
    return WebSocketClient(server.url, dial=server.dial, config=QUIET)


async def test_the_end_before_the_101(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = BadHandshake(kind="end")
    with trio.move_on_after(60) as scope:
        async with alone(server):
            pass
    assert scope.cancelled_caught, "alone, nothing notices it"
    began = trio.current_time()
    async with here(server) as client:
        with pytest.raises(ConnectionLost):
            await client.connect()
    assert trio.current_time() == began


async def test_a_garbage_handshake(autojump_clock: MockClock, server: MockWebSocketServer) -> None:
    server.failure_mode = BadHandshake(kind="garbage")
    with pytest.raises(ExceptionGroup) as caught:
        await alone(server).__aenter__()
    (foreign,) = caught.value.exceptions
    assert not isinstance(foreign, trio_websocket.HandshakeError), "alone, it is h11's"
    async with here(server) as client:
        with pytest.raises(HandshakeError) as ours:
            await client.connect()
    assert ours.value.received.startswith(b"\x16\x03\x01 this is not HTTP")


async def test_a_ping_that_times_out(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with alone(server) as (connection, peer):
        peer.answer_pings = False
        for _ in range(100):
            with trio.move_on_after(1):
                await connection.ping()
        assert len(connection._pings) == 100, "alone, each is kept for ever"
    config = ConnectionConfig(heartbeat_interval_s=1, pong_deadline_s=100.5, frame_stale_s=None)
    async with WebSocketClient(server.url, dial=server.dial, config=config) as client:
        await client.connect()
        peer = await server.next_connection()
        peer.answer_pings = False
        tasks = trio.lowlevel.current_statistics().tasks_living
        await (await server.next_connection()).send("made again")
        assert await anext(client) == "made again"
        assert peer.pings_received == 100
        assert trio.lowlevel.current_statistics().tasks_living <= tasks, "here, they go with it"


async def test_a_peer_that_breaks_the_protocol_and_stays(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with alone(server) as (connection, peer):
        peer.answer_close = False
        await peer.send_raw(b"\xc1\x01a")
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_message()
        await trio.sleep(600)
        assert not peer.closed, "alone, TCP stays open for as long as the peer likes"
    async with here(server) as client:
        steps = client.transitions()
        await client.connect()
        peer = await server.next_connection()
        peer.answer_close = False
        began = trio.current_time()
        await peer.send_raw(b"\xc1\x01a")
        async for step in steps:
            if step.error is not None:
                break
        await peer.wait_closed()
        assert trio.current_time() - began <= QUIET.close_timeout_s
        assert peer.close_code == 1002


async def test_a_ping_while_the_consumer_sleeps(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with alone(server) as (_, peer):
        await peer.send_many(["x"] * 10)
        await peer.ping()
        await trio.sleep(600)
        assert peer.pongs_received == 0, "alone, one message that nobody takes is enough"
    async with here(server) as client:
        await client.connect()
        peer = await server.next_connection()
        await peer.send_many(["x"] * 10)
        await peer.ping()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.pongs_received == 1
