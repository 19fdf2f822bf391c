"""Make before break: a planned change of the connection that the data does not notice."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BackoffConfig,
    BreakerConfig,
    Coinbase,
    ConnectionConfig,
    ConnectionState,
    Event,
    Feed,
    FeedConfig,
    FeedHandler,
    FeedStateChanged,
    Gap,
    GapReason,
    OverflowPolicy,
    PriceUpdate,
    PriceVenue,
    Trade,
    WebSocketClient,
    open_feed,
)
from feedhandler.abc import Subscription
from feedhandler_testing import (
    FailureMode,
    MockWebSocketConnection,
    MockWebSocketServer,
    Refusal,
    VirtualClock,
    price_message,
)

NOTICE = '{"type":"reconnect","reason":"maintenance"}'
CONNECTED = ConnectionState.CONNECTED
NO_JITTER = BackoffConfig(jitter=False)


def prices(symbol: str, *numbers: int) -> list[str]:
    return [price_message(symbol, f"{n}.5", n) for n in numbers]


class Reader:
    """Reads a feed to its end, and judges what came."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[Event] = []

    async def run(self) -> None:
        async for event in self.feed:
            self.events.append(event)  # others look while it is filled

    def numbers(self, symbol: str = "A") -> list[int]:
        return [
            event.sequence
            for event in self.events
            if isinstance(event, PriceUpdate) and event.symbol == symbol
        ]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    @property
    def states(self) -> list[FeedStateChanged]:
        return [event for event in self.events if isinstance(event, FeedStateChanged)]

    @property
    def story(self) -> list[str]:
        return [f"{state.old.name} {state.new.name} {state.epoch}" for state in self.states]


@contextlib.asynccontextmanager
async def reading(
    server: MockWebSocketServer, symbols: Sequence[str] = ("A",), **settings: Any
) -> AsyncIterator[Reader]:
    venue = PriceVenue(server.url, dial=server.dial)
    async with (
        open_feed(venue, symbols, clock=VirtualClock(), **settings) as feed,
        trio.open_nursery() as nursery,
    ):
        reader = Reader(feed)
        nursery.start_soon(reader.run)
        yield reader
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def first_connection(server: MockWebSocketServer) -> MockWebSocketConnection:
    connection = await server.next_connection()
    await connection.receive()  # its subscriptions
    await wait_all_tasks_blocked()
    return connection


async def gone(connection: MockWebSocketConnection) -> None:
    await connection.wait_closed()
    await wait_all_tasks_blocked()


async def both(
    server: MockWebSocketServer,
) -> tuple[MockWebSocketConnection, MockWebSocketConnection]:
    """The old connection after the notice, and the new one, which is subscribed."""
    old = await first_connection(server)
    await old.send_many(prices("A", 0, 1, 2))
    await old.send(NOTICE)
    return old, await first_connection(server)


async def test_the_old_connection_goes_when_the_new_one_is_level(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        await old.send_many(prices("A", 3))
        await new.send_many(prices("A", 5, 6))
        await wait_all_tasks_blocked()
        assert reader.numbers() == [0, 1, 2, 3]
        assert not old.closed, "4 is still to come, on the old connection"
        await old.send_many(prices("A", 4))
        await gone(old)
        assert old.close_code == 1000
        assert reader.numbers() == [0, 1, 2, 3, 4, 5, 6]
        await new.send_many(prices("A", 7))
        await wait_all_tasks_blocked()
        assert reader.numbers() == list(range(8))
        assert [event.epoch for event in reader.events if isinstance(event, PriceUpdate)] == [
            *[1] * 5, *[2] * 3
        ]  # fmt: skip
        assert list(server.connections) == [new.id]
        assert reader.feed.state is CONNECTED
        assert reader.feed.subscriptions.confirmed == {Subscription("price", "A")}
        assert reader.feed.statistics().connections == 2
    assert reader.gaps == []
    assert reader.story == [
        "DISCONNECTED CONNECTING 0",
        "CONNECTING CONNECTED 1",
        "CONNECTED CONNECTED 2",
    ]
    assert reader.states[-1].reason == "the venue asks for it: maintenance"
    assert reader.states[-1].failure is None


class Exchange:
    """Sends the same on every connection, each with a delay of its own, which varies."""

    def __init__(self, server: MockWebSocketServer, nursery: trio.Nursery, seed: int) -> None:
        self.rng = Random(seed)
        self.sent = dict.fromkeys("ABC", 0)
        self.connections: list[MockWebSocketConnection] = []
        self._server = server
        self._nursery = nursery
        self._outlets: dict[int, trio.MemorySendChannel[str]] = {}

    async def accept(self) -> None:
        while True:
            connection = await self._server.next_connection()
            with contextlib.suppress(trio.EndOfChannel):
                await connection.receive()  # its subscriptions
                self._outlets[connection.id], source = trio.open_memory_channel[str](1000)
                self.connections.append(connection)
                self._nursery.start_soon(self._deliver, connection, source)

    async def _deliver(
        self, connection: MockWebSocketConnection, source: trio.MemoryReceiveChannel[str]
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for message in source:
                await trio.sleep(self.rng.random() / 10)
                await connection.send(message)

    def notify(self) -> None:
        """Ask the newest connection to go."""
        self._outlets[self.connections[-1].id].send_nowait(NOTICE)

    async def trade(self) -> None:
        symbol = self.rng.choice("AAABBBC")
        for outlet in self._outlets.values():
            with contextlib.suppress(trio.BrokenResourceError, trio.WouldBlock):
                outlet.send_nowait(prices(symbol, self.sent[symbol])[0])
        self.sent[symbol] += 1
        await trio.sleep(self.rng.random() / 8)
        assert len(self._server.connections) <= 2


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_interleaving_each_number_comes_once_and_in_order(
    autojump_clock: MockClock, server: MockWebSocketServer, seed: int
) -> None:
    async with reading(server, [*"ABC"]) as reader, trio.open_nursery() as nursery:
        exchange = Exchange(server, nursery, seed)
        nursery.start_soon(exchange.accept)
        await wait_all_tasks_blocked()
        for n in range(300):
            if n % 60 == 30:
                exchange.notify()
            await exchange.trade()
        await trio.sleep(30)
        assert {s: reader.numbers(s) for s in "ABC"} == {
            s: [*range(count)] for s, count in exchange.sent.items()
        }
        assert len(server.connections) == 1
        assert len(reader.states) == 2 + 5, "each notice was followed"
        nursery.cancel_scope.cancel()
    assert reader.gaps == []


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_fails_every_loss_is_told_and_nothing_comes_twice(
    autojump_clock: MockClock, server: MockWebSocketServer, seed: int
) -> None:
    """Notices, drops of either connection, refusals and forced reconnects, at any moment."""
    config = FeedConfig(backoff=BackoffConfig(max_retries=0), breaker=None, rollover_overlap_s=1.0)
    async with reading(server, [*"ABC"], config=config) as reader, trio.open_nursery() as nursery:
        exchange = Exchange(server, nursery, seed)
        nursery.start_soon(exchange.accept)
        await wait_all_tasks_blocked()
        for _ in range(400):
            match exchange.rng.randrange(60):
                case 0 | 1 | 2 | 3:
                    exchange.notify()
                case 4 | 5 if server.connections:
                    exchange.rng.choice([*server.connections.values()]).drop()
                case 6:
                    server.reject_next(503)
                case 7 if reader.feed.state is CONNECTED:
                    reader.feed.reconnect()
                case 8 if server.connections:
                    exchange.rng.choice([*server.connections.values()]).answer_close = False
                case _:
                    pass
            await exchange.trade()
        await trio.sleep(3000)  # the phase without faults
        assert len(server.connections) == 1
        assert reader.feed.state is CONNECTED
        for _ in range(30):
            await exchange.trade()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert max(state.epoch for state in reader.states) > 1
    for symbol in "ABC":
        following, told = 0, False
        for event in reader.events:
            if isinstance(event, Gap) and event.symbol == symbol:
                told = True  # until the next number
            elif isinstance(event, PriceUpdate) and event.symbol == symbol:
                assert event.sequence >= following, "twice, or out of order"
                assert told or event.sequence == following, "missing, and not told"
                following, told = event.sequence + 1, False
        assert told or following == exchange.sent[symbol]


async def test_duplicates_are_dropped_and_counted(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        await new.send_many(prices("A", 1, 2))  # the new connection lags behind
        await gone(old)
        await new.send_many(prices("A", 2, 3))
        await wait_all_tasks_blocked()
        assert reader.numbers() == [0, 1, 2, 3]
        assert reader.feed.statistics().ignored == 3
    assert reader.gaps == []


async def test_a_quiet_symbol_is_waited_for_only_so_long(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, ["A", "B"], config=FeedConfig(rollover_overlap_s=3.0)) as reader:
        old, new = await both(server)
        await new.send_many(prices("A", 3))
        await trio.sleep(2.9)
        assert not old.closed
        await trio.sleep(0.2)
        assert old.closed
        await new.send_many(prices("B", 7))
        await wait_all_tasks_blocked()
        assert reader.numbers("A") == [0, 1, 2, 3]
        assert reader.numbers("B") == [7]
    assert reader.gaps == []


async def test_what_neither_connection_brought_is_announced_with_its_bounds(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        await new.send_many(prices("A", 5, 6))
        await gone(old)  # after the overlap's time
        assert reader.numbers() == [0, 1, 2, 5, 6]
        (gap,) = reader.gaps
        assert (gap.reason, gap.symbol) == (GapReason.RECONNECT, "A")
        assert (gap.from_sequence, gap.to_sequence, gap.missing) == (3, 4, 2)
        kinds = [type(event) for event in reader.events]
        assert kinds[-4:] == [FeedStateChanged, Gap, PriceUpdate, PriceUpdate]


async def test_a_hole_of_the_new_connection_that_the_old_one_fills_is_none(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, ["A", "B"]) as reader:
        old, new = await both(server)
        await new.send_many(prices("A", 3, 9))  # 4 to 8 are missing on this one
        await old.send_many(prices("A", 3, 4, 5))
        await gone(old)
        (gap,) = reader.gaps
        assert (gap.from_sequence, gap.to_sequence, gap.missing) == (6, 8, 3)
        assert reader.numbers() == [0, 1, 2, 3, 4, 5, 9]


async def test_a_planned_end_of_life_rolls_over(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(connection=ConnectionConfig(max_lifetime_s=84_600))
    async with reading(server, config=config) as reader:
        await server.next_connection()
        await trio.sleep(84_599)
        assert server.accepted == 1
        await trio.sleep(7)
        assert server.accepted == 2
        assert len(server.connections) == 1
        await trio.sleep(84_600)
        assert server.accepted == 3
        assert len(server.connections) == 1
        assert reader.states[-1].epoch == 3
        assert "84600 s" in reader.states[-1].reason
    assert not reader.gaps


async def test_without_roll_over_the_old_connection_is_dropped_first(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(connection=ConnectionConfig(max_lifetime_s=100), rollover=False)
    async with reading(server, config=config) as reader:
        old = await first_connection(server)
        await gone(old)
        await first_connection(server)
        assert reader.story[-2:] == ["CONNECTED RECONNECTING 1", "RECONNECTING CONNECTED 2"]
        (gap,) = reader.gaps
        assert gap.reason is GapReason.RECONNECT


async def test_a_client_drops_its_connection_at_the_end_of_its_planned_life(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(max_lifetime_s=100)
    async with WebSocketClient(server.url, dial=server.dial, config=config) as client:
        await client.connect()
        await trio.sleep(99)
        assert client.epoch == 1
        await trio.sleep(2)
        assert client.epoch == 2
        await trio.sleep(300)
        assert client.epoch == 5
        assert len(server.connections) == 1


async def test_a_connection_that_was_replaced_does_not_ask_for_another(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(connection=ConnectionConfig(max_lifetime_s=10), rollover_overlap_s=1.0)
    async with reading(server, config=config) as reader:
        old = await first_connection(server)
        old.answer_close = False
        await trio.sleep(8.5)
        await old.send(NOTICE)
        await trio.sleep(6)  # it is still closing when its planned life is over
        assert old.closed
        assert reader.states[-1].epoch == 2
        await trio.sleep(6)
        assert reader.states[-1].epoch == 3, "the new one has a life of its own"


# --- the new connection fails --------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3, 8])
async def test_a_refused_successor_is_tried_again_while_the_old_one_delivers(
    autojump_clock: MockClock, server: MockWebSocketServer, times: int
) -> None:
    config = FeedConfig(backoff=BackoffConfig(jitter=False, max_retries=2), breaker=None)
    async with reading(server, config=config) as reader:
        old = await first_connection(server)
        server.reject_next(503, times=times)
        await old.send(NOTICE)
        await wait_all_tasks_blocked()
        n = 0
        while server.accepted == 1:
            await old.send_many(prices("A", n))
            n += 1
            await trio.sleep(0.5)
        await old.send_many(prices("A", n))
        new = await first_connection(server)
        await new.send_many(prices("A", n))
        await gone(old)
        assert reader.numbers() == [*range(n + 1)]
        failures = [state for state in reader.states if state.failure is not None]
        assert [(state.old, state.new) for state in failures] == [(CONNECTED, CONNECTED)] * times
        assert [state.attempt for state in failures] == [*range(1, times + 1)]
        waits = [round(((state.next_attempt_ns or 0) - state.recv_ns) / 1e9) for state in failures]
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60][:times], "its own back-off, which data leaves"
        assert server.dialled == 2 + times
    assert reader.gaps == []


async def test_retry_after_is_respected_also_when_the_old_connection_dies(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, config=FeedConfig(backoff=NO_JITTER)) as reader:
        old = await first_connection(server)
        server.reject_next(429, headers=[("Retry-After", "40")])
        await old.send(NOTICE)
        await trio.sleep(10)
        assert server.dialled == 2
        old.drop()
        await trio.sleep(29)
        assert server.dialled == 2
        await trio.sleep(2)
        assert server.dialled == 3
        assert reader.feed.state is CONNECTED


async def test_the_breaker_decides_on_the_new_connection_too(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(backoff=NO_JITTER, breaker=BreakerConfig(failure_threshold=2, open_s=80))
    async with reading(server, config=config) as reader:
        old = await first_connection(server)
        server.failure_mode = Refusal()
        await old.send(NOTICE)
        await trio.sleep(60)
        assert server.dialled == 3, "two failures have opened it"
        assert reader.states[-1].breaker_open
        server.failure_mode = FailureMode.NONE
        await trio.sleep(30)
        assert server.dialled == 4
        assert reader.states[-1].epoch == 2
        assert old.closed
        assert len(server.connections) == 1


async def test_a_handshake_that_hangs_is_given_up_at_the_time_out(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, config=FeedConfig(backoff=NO_JITTER)) as reader:
        old = await first_connection(server)
        server.failure_mode = FailureMode.TIMEOUT
        await old.send(NOTICE)
        await trio.sleep(9)
        server.failure_mode = FailureMode.NONE
        old.silent = False
        await trio.sleep(2)
        new = await first_connection(server)
        assert not old.closed
        await trio.sleep(6)
        assert list(server.connections) == [new.id]
        assert reader.states[-1].epoch == 2


async def test_a_fatal_refusal_leaves_the_old_connection_alone(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old = await first_connection(server)
        server.reject_next(401)
        await old.send(NOTICE)
        await trio.sleep(1000)
        assert server.dialled == 2
        assert reader.states[-1].next_attempt_ns is None
        await old.send_many(prices("A", 0))
        await old.send(NOTICE)  # asked again, it tries again
        await trio.sleep(10)
        assert server.dialled == 3
        assert old.closed
        assert reader.numbers() == [0]


async def test_a_successor_that_is_never_confirmed_is_dropped_and_tried_again(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer() as server, reading(server) as reader:
        old = await first_connection(server)
        server.auto_ack = False
        await old.send(NOTICE)
        first = await first_connection(server)
        await gone(first)
        assert trio.current_time() == pytest.approx(15.0, abs=0.1)
        server.auto_ack = True
        second = await first_connection(server)
        await gone(old)
        assert list(server.connections) == [second.id]
        assert [state.failure and state.failure.name for state in reader.states[-2:]] == [
            "STALE",
            None,
        ]
    assert reader.gaps == []


async def test_a_successor_that_dies_costs_nothing(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        await new.send_many(prices("A", 9))  # far ahead: not level
        await new.wait_received()
        await wait_all_tasks_blocked()
        new.drop()
        await old.send_many(prices("A", 3, 4, 5))
        third = await first_connection(server)
        await third.send_many(prices("A", 5, 6))
        await gone(old)
        assert reader.numbers() == [*range(7)]
    assert reader.gaps == []


async def test_a_notice_on_the_new_connection_makes_another(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        await new.send(NOTICE)
        await gone(new)
        await first_connection(server)
        await gone(old)
        assert reader.states[-1].epoch == 2
        assert len(server.connections) == 1


# --- the old connection dies in the middle -------------------------------------------------------


async def test_the_new_connection_takes_over_when_the_old_one_dies(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, ["A", "B", "C"]) as reader:
        old, new = await both(server)
        await old.send_many(prices("C", 0))
        await new.send_many([*prices("A", 5, 6), *prices("C", 1)])
        await wait_all_tasks_blocked()
        old.drop()
        await wait_all_tasks_blocked()
        await new.send_many([*prices("A", 7), *prices("B", 3), *prices("C", 2)])
        await wait_all_tasks_blocked()
        assert reader.numbers("A") == [0, 1, 2, 5, 6, 7]
        assert reader.numbers("B") == [3]
        assert reader.numbers("C") == [0, 1, 2]
        assert server.dialled == 2, "no third connection"
        assert reader.story[-1] == "CONNECTED CONNECTED 2"
        assert reader.states[-1].failure is not None
    bounds = {gap.symbol: (gap.from_sequence, gap.to_sequence) for gap in reader.gaps}
    assert bounds == {"A": (3, 4), "B": (None, None)}, "C was level"


async def test_nothing_comes_twice_when_a_lagging_successor_takes_over(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        old.drop()
        await wait_all_tasks_blocked()
        await new.send_many(prices("A", 1, 2, 3))
        await wait_all_tasks_blocked()
        assert reader.numbers() == [0, 1, 2, 3]
        (gap,) = reader.gaps
        assert (gap.from_sequence, gap.to_sequence) == (3, None)
        await trio.sleep(200)
        assert list(server.connections) == [new.id], "nothing of the roll-over is left"


async def test_the_old_connection_dies_while_the_new_one_is_being_made(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old = await first_connection(server)
        await old.send_many(prices("A", 0))
        server.failure_mode = FailureMode.TIMEOUT
        await old.send(NOTICE)
        await trio.sleep(5)
        server.failure_mode = FailureMode.NONE
        old.drop()
        await trio.sleep(1)
        new = await first_connection(server)
        await new.send_many(prices("A", 1))
        await wait_all_tasks_blocked()
        assert reader.story[-2:] == ["CONNECTED RECONNECTING 1", "RECONNECTING CONNECTED 2"]
        assert reader.numbers() == [0, 1]
        await trio.sleep(100)
        assert len(server.connections) == 1
    assert len(reader.gaps) == 1


# --- the user comes between ----------------------------------------------------------------------


async def test_a_forced_reconnect_drops_both(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        reader.feed.reconnect("because")
        await gone(old)
        await gone(new)
        third = await first_connection(server)
        await trio.sleep(60)
        assert list(server.connections) == [third.id]
        assert reader.story[-2:] == ["CONNECTED RECONNECTING 1", "RECONNECTING CONNECTED 2"]


@pytest.mark.parametrize("answers", [True, False])
async def test_leaving_the_block_closes_both_politely(
    autojump_clock: MockClock, server: MockWebSocketServer, answers: bool
) -> None:
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["A"]):
        old, new = await both(server)
        old.answer_close = new.answer_close = answers
        left_at = trio.current_time()
    assert trio.current_time() - left_at <= 2.1
    await wait_all_tasks_blocked()
    assert (old.close_code, new.close_code) == (1000, 1000)
    assert not server.connections


async def test_leaving_the_block_while_the_new_connection_is_being_made(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["A"]):
        old = await first_connection(server)
        server.failure_mode = Refusal()
        await old.send(NOTICE)
        await trio.sleep(3)
        server.failure_mode = FailureMode.NONE
        left_at = trio.current_time()
    assert trio.current_time() == left_at
    await wait_all_tasks_blocked()
    assert not server.connections


@pytest.mark.parametrize("level", [False, True])
async def test_an_exception_or_a_cancellation_leaves_nothing_open(
    autojump_clock: MockClock, server: MockWebSocketServer, level: bool
) -> None:
    for cancelled in (False, True):
        with trio.CancelScope() as scope, contextlib.suppress(KeyError):
            async with open_feed(PriceVenue(server.url, dial=server.dial), ["A"]):
                old, new = await both(server)
                old.answer_close = False
                if level:
                    await new.send_many(prices("A", 3))
                    await wait_all_tasks_blocked()
                    assert not old.closed
                left_at = trio.current_time()
                if cancelled:
                    scope.cancel()
                    await trio.sleep_forever()
                raise KeyError("the user's own")
        assert scope.cancelled_caught is cancelled
        assert trio.current_time() == left_at
        await wait_all_tasks_blocked()
        assert not server.connections


async def test_a_slow_goodbye_does_not_hold_up_the_data_nor_allow_a_third(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server) as reader:
        old, new = await both(server)
        old.answer_close = False
        await new.send_many(prices("A", 3))
        await wait_all_tasks_blocked()
        assert reader.numbers() == [0, 1, 2, 3], "the old one is closing, the new one delivers"
        await old.send_many(prices("A", 99))
        await new.send(NOTICE)
        await trio.sleep(1.9)
        assert server.dialled == 2
        await trio.sleep(0.2)
        assert server.dialled == 3
        assert old.closed
        await trio.sleep(6)
        assert reader.states[-1].epoch == 3
        assert reader.numbers() == [0, 1, 2, 3]
    assert reader.gaps == []


async def test_the_new_connection_dies_right_after_the_switch(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, config=FeedConfig(backoff=NO_JITTER)) as reader:
        old, new = await both(server)
        old.answer_close = False
        await new.send_many(prices("A", 3))
        await wait_all_tasks_blocked()
        new.drop()
        await wait_all_tasks_blocked()
        assert old.closed, "it would be a third otherwise"
        third = await first_connection(server)
        await third.send_many(prices("A", 6))
        await wait_all_tasks_blocked()
        assert reader.numbers() == [0, 1, 2, 3, 6]
        (gap,) = reader.gaps
        assert gap.from_sequence == 4
        assert list(server.connections) == [third.id]


async def test_subscriptions_that_change_in_the_middle_change_on_both(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server, ["A", "B"]) as reader:
        old, new = await both(server)
        reader.feed.subscribe(["C"])
        reader.feed.unsubscribe(["B"])
        await wait_all_tasks_blocked()
        for connection in (old, new):
            assert await connection.receive() == '{"type":"unsubscribe","symbols":["B"]}'
            assert await connection.receive() == '{"type":"subscribe","symbols":["C"]}'
        await old.send_many(prices("C", 0))
        await new.send_many([*prices("C", 0), *prices("A", 3)])
        await gone(old)
        assert reader.feed.subscriptions.wanted == {
            Subscription("price", "A"),
            Subscription("price", "C"),
        }
        assert reader.numbers("C") == [0]
        reader.feed.subscribe(["D"])
        assert await new.receive() == '{"type":"subscribe","symbols":["D"]}'
    assert reader.gaps == []


async def test_replies_go_out_on_the_connection_that_asked(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with reading(server):
        old, new = await both(server)
        await new.send('{"type":"ping","id":1}')
        assert await new.receive() == '{"type":"pong","id":1}'
        await old.send('{"type":"ping","id":2}')
        assert await old.receive() == '{"type":"pong","id":2}'
        await gone(old)
        await new.send('{"type":"ping","id":3}')
        assert await new.receive() == '{"type":"pong","id":3}'


async def test_two_feeds_roll_over_at_once(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer() as left,
        MockWebSocketServer() as right,
        FeedHandler(clock=VirtualClock()) as handler,
        trio.open_nursery() as nursery,
    ):
        readers = []
        for server in (left, right):
            feed = handler.add(PriceVenue(server.url, dial=server.dial), ["A"])
            readers.append(Reader(feed))
            nursery.start_soon(readers[-1].run)
        for server in (left, right):
            _, new = await both(server)
            await new.send_many(prices("A", 3))
        await trio.sleep(10)
        for server, reader in zip((left, right), readers, strict=True):
            assert len(server.connections) == 1
            assert reader.numbers() == [0, 1, 2, 3]
            assert reader.gaps == []
            assert reader.states[-1].epoch == 2
        nursery.cancel_scope.cancel()


async def test_a_full_consumer_holds_the_switch_up_and_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.BLOCK, buffer_events=10)
    venue_buffer = MockWebSocketServer(buffer_bytes=4096)
    async with (
        venue_buffer as server,
        open_feed(
            PriceVenue(server.url, dial=server.dial), ["A"], config=config, clock=VirtualClock()
        ) as feed,
        trio.open_nursery() as nursery,
    ):
        old = await first_connection(server)
        await old.send_many([*prices("A", 0), NOTICE])
        new = await first_connection(server)

        async def send(connection: MockWebSocketConnection) -> None:
            try:
                for n in range(1, 4000, 50):
                    await connection.send_many(prices("A", *range(n, n + 50)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                assert connection is old

        nursery.start_soon(send, old)
        nursery.start_soon(send, new)
        await trio.sleep(120)
        numbers: list[int] = []
        with trio.fail_after(600):
            async for event in feed:
                assert not isinstance(event, Gap)
                if isinstance(event, PriceUpdate):
                    numbers.append(event.sequence)
                    if event.sequence == 4000:
                        break
        assert numbers == [*range(4001)]
        await gone(old)
        assert len(server.connections) == 1


# --- where there is no sequence ------------------------------------------------------------------


def trades(sequence: int, *numbers: int) -> str:
    listed = [
        {
            "product_id": "A", "trade_id": str(n), "price": "1.5", "size": "1",
            "time": "2026-08-09T13:59:08Z", "side": "BUY",
        }
        for n in numbers
    ]  # fmt: skip
    return json.dumps(
        {"channel": "market_trades", "sequence_num": sequence, "events": [{"trades": listed}]}
    )


async def test_trades_come_once_by_their_ids(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(connection=ConnectionConfig(max_lifetime_s=100))
    venue = Coinbase(server.url, dial=server.dial)
    async with open_feed(venue, ["A"], config=config, clock=VirtualClock()) as feed:
        old = await first_connection(server)
        await old.send(trades(0, 1, 2))
        for number in range(1, 100):  # without these the connection is dead after 10 s
            await trio.sleep(1)
            await old.send(json.dumps({"channel": "heartbeats", "sequence_num": number}))
        old_epoch = feed.legs[0].epoch
        new = await first_connection(server)
        assert feed.legs[0].epoch == old_epoch == 1, "the old one lives on"
        await new.send(trades(0, 2))  # as the old one has brought
        await gone(old)
        await new.send(trades(1, 3))
        events: list[Event] = []
        async for event in feed:
            events.append(event)
            if isinstance(event, Trade) and event.trade_id == "3":
                break
        assert feed.statistics().ignored == 1
    assert [event.trade_id for event in events if isinstance(event, Trade)] == ["1", "2", "3"]
    assert not [event for event in events if isinstance(event, Gap)], "both had them"
