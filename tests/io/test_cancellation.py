"""Cancelled at any await, nothing is left: no task, no stream, no half-changed state."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    BackoffConfig,
    ConnectionState,
    FeedConfig,
    PriceUpdate,
    PriceVenue,
    WebSocketClient,
    open_feed,
)
from feedhandler_testing import MockWebSocketServer, price_message


class _CancelAt(trio.abc.Instrument):
    """Cancels a scope at the nth time that a task is about to run."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope = scope
        self.step = step
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.scope.cancel()


async def client_life(server: MockWebSocketServer) -> None:
    backoff = BackoffConfig(jitter=False)
    async with WebSocketClient(server.url, dial=server.dial, backoff=backoff) as client:
        await client.connect()
        connection = await server.next_connection()
        await client.send("hello")
        assert await connection.receive() == "hello"
        await connection.send_many(["a", "b"])
        assert await anext(client) == "a"
        connection.drop()
        connection = await server.next_connection()
        await connection.send("c")
        assert [await anext(client), await anext(client)] == ["b", "c"]
        await client.reconnect_with_backoff()
        await client.disconnect()


async def feed_life(server: MockWebSocketServer) -> None:
    venue = PriceVenue(server.url, dial=server.dial)
    async with open_feed(venue, ["A", "B"]) as feed:
        connection = await server.next_connection()
        await connection.send_many([price_message("A", "1.5", n) for n in range(3)])
        for _ in range(5):
            await anext(feed)
        feed.subscribe(["C"])
        connection.drop()
        connection = await server.next_connection()
        await connection.send(price_message("B", "2.5", 0))
        for _ in range(3):
            await anext(feed)


LIVES: dict[str, Callable[[MockWebSocketServer], Awaitable[None]]] = {
    "client": client_life,
    "feed": feed_life,
}


@contextmanager
def cancelled_at(step: int) -> Iterator[tuple[trio.CancelScope, _CancelAt]]:
    """Cancel the block at the nth time that a task, any task, is about to run."""
    with trio.CancelScope() as scope:
        instrument = _CancelAt(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield scope, instrument
        finally:
            trio.lowlevel.remove_instrument(instrument)


@pytest.mark.parametrize("name", LIVES)
async def test_cancelling_at_every_step_leaves_nothing(
    autojump_clock: MockClock, name: str
) -> None:
    life = LIVES[name]
    step = 0
    finished = False
    while not finished:
        step += 1
        async with MockWebSocketServer() as server:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            with cancelled_at(step) as (scope, instrument):
                await life(server)
            finished = not scope.cancelled_caught and instrument.steps < step
            # The handler's tasks are gone with its block; the server notices the closed streams.
            await trio.testing.wait_all_tasks_blocked()
            assert not server.connections, f"step {step}: a stream was left open"
            assert trio.lowlevel.current_statistics().tasks_living == before, f"step {step}"
    assert step > 50, "it was cancelled in many places"


async def test_a_cancelled_connect_leaves_a_client_that_can_connect(
    autojump_clock: MockClock,
) -> None:
    for step in range(1, 25):
        async with (
            MockWebSocketServer() as server,
            WebSocketClient(server.url, dial=server.dial) as client,
        ):
            with cancelled_at(step) as (scope, _):
                await client.connect()
            if scope.cancelled_caught:
                assert client.connection_state is ConnectionState.DISCONNECTED
                await client.connect()
            assert client.is_connected
            await trio.testing.wait_all_tasks_blocked()
            assert len(server.connections) == 1


async def test_a_cancelled_send_or_receive_loses_nothing(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer() as server,
        WebSocketClient(server.url, dial=server.dial) as client,
    ):
        await client.connect()
        connection = await server.next_connection()
        received = []
        for n in range(50):
            with trio.move_on_after(0):
                received.append(await anext(client))
            await connection.send(f"m{n}")
            with trio.move_on_after(0):
                await client.send(f"cancelled {n}")
            await client.send(f"s{n}")
        while len(received) < 50:
            received.append(await anext(client))
        assert received == [f"m{n}" for n in range(50)]
        sent = [await connection.receive() for _ in range(50)]
        assert sent == [f"s{n}" for n in range(50)], "a cancelled send queues nothing"


async def test_cancelling_at_every_step_over_tcp_leaves_no_socket() -> None:
    """Here the subject is the socket: there is no virtual time, and every wait is short."""

    async def life(server: MockWebSocketServer) -> None:
        async with WebSocketClient(server.url) as client:
            await client.connect()
            connection = await server.next_connection()
            await connection.send("a")
            assert await anext(client) == "a"
            await client.send("b")
            assert await connection.receive() == "b"
            await client.disconnect()

    step = 0
    finished = False
    while not finished:
        step += 3
        async with MockWebSocketServer(tcp=True) as server:
            before = open_files()
            with cancelled_at(step) as (scope, instrument):
                await life(server)
            finished = not scope.cancelled_caught and instrument.steps < step
            await closed(server, before)
    assert step > 50


async def test_a_thousand_reconnects_over_tcp_leave_no_socket() -> None:
    backoff = BackoffConfig(base_s=0.0001, cap_s=0.0001, max_retries=0)
    async with MockWebSocketServer(tcp=True) as server:
        venue = PriceVenue(server.url)
        async with open_feed(venue, ["A"], config=FeedConfig(backoff=backoff)) as feed:
            before = open_files()
            for number in range(1000):
                connection = await server.next_connection()
                await connection.send(price_message("A", "1.5", number))
                async for event in feed:
                    if isinstance(event, PriceUpdate):
                        break
                connection.drop()
            assert feed.statistics().connections >= 1000
            assert open_files() <= before + 4
        await closed(server, before)


async def closed(server: MockWebSocketServer, open_before: int) -> None:
    with trio.fail_after(5):
        while server.connections or open_files() > open_before:  # noqa: ASYNC110  # no event tells
            await trio.sleep(0.001)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))
