"""Connecting, talking, and ending politely: over memory streams, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from feedhandler import (
    AlreadyConnected,
    AuthenticationFailed,
    BackoffConfig,
    ClientClosed,
    ConnectionConfig,
    ConnectionEvent,
    ConnectionState,
    HandshakeTimeout,
    IllegalTransition,
    NotConnected,
    WebSocketClient,
)
from feedhandler._core.state import StateMachine
from feedhandler_testing import MockWebSocketServer, Timeout

MakeClient = Callable[..., WebSocketClient]
NO_JITTER = BackoffConfig(jitter=False)


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        yield mock


@pytest.fixture
def make_client(server: MockWebSocketServer) -> MakeClient:
    def make(**settings: Any) -> WebSocketClient:
        defaults: dict[str, Any] = {"dial": server.dial, "backoff": NO_JITTER}
        return WebSocketClient(server.url, **{**defaults, **settings})

    return make


async def test_basic_websocket_connection(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    async with make_client(headers=[("X-Desk", "fx")]) as client:
        await client.connect()
        connection = await server.next_connection()
        assert client.is_connected

        headers = dict(connection.request_headers)
        assert headers["upgrade"].lower() == "websocket"
        assert headers["sec-websocket-version"] == "13"
        assert headers["x-desk"] == "fx"

        await client.send("to the server")
        await client.send(b"\x00\xff")
        assert await connection.receive() == "to the server"
        assert await connection.receive() == b"\x00\xff"

        await connection.send("to the client")
        await connection.send(b"\xff\x00")
        assert await anext(client) == "to the client"
        assert await anext(client) == b"\xff\x00"


async def test_multiple_concurrent_connections(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    clients = [make_client() for _ in range(5)]
    async with clients[0], clients[1], clients[2], clients[3], clients[4]:
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.connect)
        connections = [await server.next_connection() for _ in clients]
        assert len({connection.id for connection in connections}) == 5
        assert all(client.is_connected for client in clients)

        await clients[1].disconnect()
        states = [client.connection_state for client in clients]
        assert states[1] is ConnectionState.CLOSED
        assert states.count(ConnectionState.CONNECTED) == 4
        assert len(server.connections) == 4


async def test_concurrent_message_reading(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    counts = 200
    received: dict[int, list[str | bytes]] = {}

    async def read(number: int) -> None:
        async with make_client(headers=[("X-Number", str(number))]) as client:
            await client.connect()
            received[number] = [await anext(client) for _ in range(counts)]

    async def write() -> None:
        connection = await server.next_connection()
        number = dict(connection.request_headers)["x-number"]
        for start in range(0, counts, 7):
            part = range(start, min(start + 7, counts))
            await connection.send_many([f"{number}:{n}" for n in part])
            await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(read, number)
            nursery.start_soon(write)

    assert received == {c: [f"{c}:{n}" for n in range(counts)] for c in range(4)}


async def test_websocket_auth_validation(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    server.token = "right"  # a test's token
    async with make_client(token="right") as client:  # a test's token
        await client.connect()
        headers = dict((await server.next_connection()).request_headers)
        assert headers["authorization"] == "Bearer right"

    async with make_client(token="wrong-secret") as client:  # a test's token
        dialled = server.dialled
        with pytest.raises(AuthenticationFailed) as caught:
            await client.reconnect_with_backoff()
        assert caught.value.status == 401
        assert b"invalid token" in caught.value.body
        assert server.dialled == dialled + 1, "a refused token is not tried again"
        assert "wrong-secret" not in f"{caught.value!r} {caught.value} {client!r}"

    tokens = iter(["stale", "right", "right"])
    asked = 0

    async def provider() -> str:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async with make_client(token=provider) as client:
        with pytest.raises(AuthenticationFailed):
            await client.connect()
        await client.connect()
        (await server.next_connection()).drop()
        await server.next_connection()
        assert asked == 3, "once for each attempt, the reconnect included"


async def test_connection_timeout_handling(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    config = ConnectionConfig(connect_timeout_s=3.5)
    for silence in (Timeout(where="dial"), Timeout(where="handshake")):
        server.failure_mode = silence
        async with make_client(config=config) as client:
            started = trio.current_time()
            with pytest.raises(HandshakeTimeout) as caught:
                await client.connect()
            assert trio.current_time() - started == pytest.approx(3.5, abs=1e-9)
            assert caught.value.timeout_s == 3.5
            assert client.connection_state is ConnectionState.DISCONNECTED
            assert not server.connections
    assert trio.lowlevel.current_statistics().tasks_living < 12


async def test_connection_state_transitions(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    client = make_client()
    seen = client.transitions()
    async with client:
        await client.connect()
        (await server.next_connection()).drop()
        connection = await server.next_connection()
        await connection.send("again")
        assert await anext(client) == "again"
        await client.disconnect()

    steps = [step async for step in seen]
    assert [step.event.value for step in steps] == [
        "connect", "established", "lost", "established", "close", "closed",
    ]  # fmt: skip
    assert [steps[0].old.value, *(step.new.value for step in steps)] == [
        "disconnected", "connecting", "connected", "reconnecting", "connected", "closing", "closed",
    ]  # fmt: skip
    assert [step.epoch for step in steps] == [0, 1, 1, 2, 2, 2]
    assert steps[2].next_attempt_at == pytest.approx(steps[2].at + 0.1)

    machine = StateMachine()
    with pytest.raises(IllegalTransition, match="ESTABLISHED is not possible in state DISCONN"):
        machine.advance(ConnectionEvent.ESTABLISHED)
    assert machine.state is ConnectionState.DISCONNECTED
    machine.state = ConnectionState.CLOSED
    for event in ConnectionEvent:
        with pytest.raises(IllegalTransition):
            machine.advance(event)
    with pytest.raises(ClientClosed, match=r"make a new WebSocketClient"):
        await client.connect()


async def test_double_connection_prevention(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    async with make_client() as client:
        outcomes: list[str] = []

        async def connect() -> None:
            try:
                await client.connect()
                outcomes.append("connected")
            except AlreadyConnected as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(connect)
        assert outcomes.count("connected") == 1
        assert server.accepted == server.dialled == 1

        with pytest.raises(AlreadyConnected, match=r"await client\.reconnect_with_backoff\(\)"):
            await client.connect()
        assert server.dialled == 1
        assert client.is_connected


async def test_graceful_disconnect(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    async with make_client() as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send_many(["received", "before the end"])
        await trio.testing.wait_all_tasks_blocked()
        await client.disconnect()
        await connection.wait_closed()
        assert connection.close_code == 1000
        assert client.connection_state is ConnectionState.CLOSED
        assert trio.current_time() == 0, "the peer answered at once"
        assert [message async for message in client] == ["received", "before the end"]
        with pytest.raises(NotConnected):
            await client.send("too late")

    config = ConnectionConfig(close_timeout_s=1.5)
    for silence in ("answer_close", "silent"):
        async with make_client(config=config) as client:
            await client.connect()
            connection = await server.next_connection()
            setattr(connection, silence, silence == "silent")
            started = trio.current_time()
            await client.disconnect()
            assert trio.current_time() - started == pytest.approx(1.5, abs=1e-9)
            assert connection.close_code == 1000
            await connection.wait_closed()
    assert not server.connections
