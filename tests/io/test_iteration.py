"""One by one or in batches, left early or changed midway: nothing is lost, nobody is starved."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from feedhandler import FeedHandler, PriceUpdate, PriceVenue, WebSocketClient, open_feed
from feedhandler_testing import MockWebSocketServer, price_message


async def test_a_client_s_loop_can_be_left_and_go_on_in_batches(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with WebSocketClient(server.url, dial=server.dial) as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send_many(["a", "b", "c"])
        async for message in client:
            assert message == "a"
            break
        async for batch in client.batches():
            assert (batch.messages, batch.epoch) == (["b", "c"], 1)
            break
        await connection.send("d")
        assert await anext(client) == "d"
    gc.collect()  # an iterator that needed clean-up would warn here


async def test_a_feed_s_loops_can_be_left_and_go_on_merged_and_in_batches(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with FeedHandler() as handler:
        feed = handler.add(PriceVenue(server.url, dial=server.dial), ["A"])
        connection = await server.next_connection()
        await connection.send_many([price_message("A", "1", n) for n in range(6)])
        numbers: list[int] = []
        async for event in feed:
            if isinstance(event, PriceUpdate):
                numbers.append(event.sequence)
                if len(numbers) == 2:
                    break
        async for event in handler:
            if isinstance(event, PriceUpdate):
                numbers.append(event.sequence)
                break
        async for events in handler.batches():
            numbers += [event.sequence for event in events if isinstance(event, PriceUpdate)]
            break
    assert numbers == list(range(6))
    gc.collect()


@pytest.mark.parametrize("kind", ["feed", "handler", "client"])
async def test_working_through_a_batch_lets_other_tasks_and_a_cancellation_in(
    server: MockWebSocketServer, kind: str
) -> None:
    """500 items of 0.1 ms each are one batch; the rule is a checkpoint for each millisecond."""
    count = 500
    turns = 0
    work = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        venue = PriceVenue(server.url, dial=server.dial)
        async with (
            open_feed(venue, ["A"]) as feed,
            FeedHandler() as handler,
            WebSocketClient(server.url, dial=server.dial) as client,
        ):
            handler.add(venue, ["A"])
            await client.connect()
            while len(server.connections) < 3:
                await server.next_connection()
            for connection in list(server.connections.values()):
                await connection.send_many([price_message("A", "1", n) for n in range(count)])
            iterators: dict[str, AsyncIterator[object]] = {
                "feed": aiter(feed),
                "handler": handler,
                "client": client,
            }
            nursery.start_soon(other)
            while work < count:
                item = await anext(iterators[kind])
                if isinstance(item, str | PriceUpdate):
                    work += 1
                    until = time.perf_counter() + 0.0001
                    while time.perf_counter() < until:
                        pass
                if work == 1:
                    turns = 0  # what counts is what happens inside the batch
            assert 20 <= turns <= count, "about 50 ms of work, and not one turn for each item"
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(iterators[kind])
            assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_in_virtual_time_no_turn_depends_on_how_fast_the_machine_works(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with (
        WebSocketClient(server.url, dial=server.dial) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect()
        connection = await server.next_connection()
        await connection.send_many(["a", "b", "c"])
        assert await anext(client) == "a"
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        before = turns
        until = time.perf_counter() + 0.003
        while time.perf_counter() < until:
            pass
        assert [await anext(client), await anext(client)] == ["b", "c"]
        assert turns == before
        nursery.cancel_scope.cancel()
