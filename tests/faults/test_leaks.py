"""What `no_leaks` finds, names and lets be; and what the trace of a test records."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from feedhandler import FeedConfig, PriceUpdate, PriceVenue, UsageError, open_feed
from feedhandler_testing import FeedTrace, MockWebSocketServer, no_leaks, price_message
from feedhandler_testing.faults.bytes import Reset
from feedhandler_testing.leaks import Leaked
from feedhandler_testing.subject import contract_of
from feedhandler_testing.trace import Moved


async def endless() -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            number += 1
            yield number
    finally:
        pass


async def test_a_block_that_ends_what_it_begins_is_clean(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server, no_leaks(server):
        async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]):
            await (await server.next_connection()).receive()
        async with contextlib.aclosing(endless()) as numbers:
            await anext(numbers)
        with trio.move_on_after(3600):
            await trio.sleep_forever()


async def test_over_real_sockets_a_feed_leaves_none_open() -> None:
    async with (
        MockWebSocketServer(tcp=True) as server,
        no_leaks(server),
        open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]),
    ):
        await (await server.next_connection()).receive()


async def test_a_task_is_named_with_the_line_where_it_waits(autojump_clock: MockClock) -> None:
    async def worker() -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with pytest.raises(Leaked) as caught:
            async with no_leaks():
                nursery.start_soon(worker)
        nursery.cancel_scope.cancel()
    (line,) = caught.value.left
    assert "worker" in line
    assert f"at {__file__}:" in line


async def test_a_nursery_given_is_somebody_else_s(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with no_leaks(nursery):
            nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()


async def test_a_task_that_ends_within_the_time_of_grace_is_no_leak(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with no_leaks():
            nursery.start_soon(trio.sleep, 0.9)
        with pytest.raises(Leaked, match="task trio"):
            async with no_leaks(grace_s=0.5):
                nursery.start_soon(trio.sleep, 0.9)


async def test_an_open_socket_is_found() -> None:
    with pytest.raises(Leaked, match="socket with descriptor"):
        async with no_leaks(grace_s=0.02):
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for listener in listeners:
        await listener.aclose()


async def test_a_timer_is_found_where_there_was_none(autojump_clock: MockClock) -> None:
    changed = trio.Event()

    async def older() -> None:
        await changed.wait()
        await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(older)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Leaked, match="timer, due in 59"):
            async with no_leaks():
                changed.set()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_generator_that_is_not_closed_is_found(
    autojump_clock: MockClock, *, kept: bool
) -> None:
    numbers: AsyncIterator[int] | None = None
    # Trio's own word on the one that is dropped.
    with warnings.catch_warnings(), pytest.raises(Leaked) as caught:
        warnings.simplefilter("ignore", ResourceWarning)
        async with no_leaks():
            numbers = endless()
            await anext(numbers)
            if not kept:
                numbers = None
                gc.collect()
    (line,) = caught.value.left
    assert line.startswith("async generator endless: ")
    assert ("neither" if kept else "dropped") in line


async def test_an_error_of_the_block_goes_on_alone(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="mine"):
            async with no_leaks():
                nursery.start_soon(trio.sleep_forever)
                raise OSError("mine")
        nursery.cancel_scope.cancel()


async def test_a_cancelled_block_is_left_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            async with no_leaks():
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(1)
        nursery.cancel_scope.cancel()


# --- the trace of a test -------------------------------------------------------------------------


async def test_a_trace_holds_a_feed_to_its_own_configuration(autojump_clock: MockClock) -> None:
    config = FeedConfig()
    async with MockWebSocketServer(lose_acks=1) as server:
        trace = FeedTrace()
        trace.attach(server)
        trace.attach(server)
        venue = PriceVenue(server.url, dial=server.dial)
        async with open_feed(venue, ["BTC-USD"], config=config, clock=server.clock) as feed:
            connection = await server.next_connection()
            await connection.receive()
            await connection.receive()  # it asks again, because no acknowledgement came
            await connection.send(price_message("BTC-USD", "1.10", 1))
            async for event in trace.watch(feed, contract=contract_of(config)):
                if isinstance(event, PriceUpdate):
                    break
    assert trace.violations() == []
    assert trace.contract.backoff == config.backoff


async def test_a_trace_holds_the_faults_and_judges_waits_from_when_they_began(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig()
    await trio.sleep(5)  # a server's time begins with it
    async with MockWebSocketServer() as server:
        trace = FeedTrace()
        trace.attach(server)
        venue = PriceVenue(server.url, dial=server.dial)
        async with open_feed(venue, ["BTC-USD"], config=config, clock=server.clock) as feed:
            watched = trace.watch(feed, contract=contract_of(config))
            connection = await server.next_connection()
            await connection.receive()
            async with server.fault(Reset()):
                connection = await server.next_connection()
            await connection.receive()
            await trio.sleep(2)  # the consumer is late
            await connection.send(price_message("BTC-USD", "1.10", 1))
            async for event in watched:
                if isinstance(event, PriceUpdate):
                    break
    assert trace.violations() == []
    kinds = [type(record).__name__ for record in trace.trace]
    assert {"Fired", "Removed"} <= {*kinds}
    lost = next(one for one in trace.trace if isinstance(one, Moved) and one.failure)
    assert lost.since_s == pytest.approx(0, abs=0.1)
    assert lost.at_s == pytest.approx(2, abs=0.5)


async def test_a_number_s_digits_are_not_held_against_a_feed(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        trace = FeedTrace()
        trace.attach(server)
        venue = PriceVenue(server.url, dial=server.dial)
        async with open_feed(venue, ["BTC-USD"], clock=server.clock) as feed:
            connection = await server.next_connection()
            await connection.receive()
            await connection.send('{"type":"price"}')
            message = price_message("BTC-USD", "1.10", 1).replace('"1.10"', "1.10")
            await connection.send(message)
            async for event in trace.watch(feed):
                if isinstance(event, PriceUpdate):
                    break
    assert trace.violations() == []


async def test_a_trace_records_one_server_and_what_a_feed_raises() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise OSError("mine")

    async with MockWebSocketServer() as one, MockWebSocketServer() as two:
        trace = FeedTrace()
        trace.attach(one)
        with pytest.raises(UsageError, match="one server"):
            trace.attach(two)
        with pytest.raises(UsageError, match="an observer already"):
            FeedTrace().attach(one)
        async with contextlib.aclosing(trace.watch(failing())) as watched:
            assert await anext(watched) == 1
            with pytest.raises(OSError, match="mine"):
                await anext(watched)
    assert trace.lines(1)[0].endswith("failed    kind=OSError message=mine")
