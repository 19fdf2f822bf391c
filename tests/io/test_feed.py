"""A feed as its consumer sees it: overflow, subscriptions, errors, merging."""

from __future__ import annotations

import contextlib
import gc
import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from feedhandler import (
    AuthenticationFailed,
    BackoffConfig,
    BreakerConfig,
    Coinbase,
    ConfigError,
    ConnectionConfig,
    ConnectionState,
    DecodeFailed,
    Event,
    Feed,
    FeedConfig,
    FeedHandler,
    FeedStateChanged,
    Gap,
    GapReason,
    MalformedBurst,
    OverflowPolicy,
    PriceUpdate,
    PriceVenue,
    RetriesExhausted,
    SlowConsumer,
    SubscriptionFailed,
    UsageError,
    open_feed,
)
from feedhandler.abc import Subscription
from feedhandler_testing import (
    FailureMode,
    MockWebSocketServer,
    Refusal,
    Rejection,
    VirtualClock,
    memory_network,
    price_message,
)


def open_prices(
    server: MockWebSocketServer, symbols: Sequence[str] = ("A",), **settings: Any
) -> Any:
    venue = PriceVenue(server.url, dial=server.dial)
    return open_feed(venue, symbols, **{"clock": VirtualClock(), **settings})


def prices(symbol: str, numbers: Sequence[int]) -> list[str]:
    return [price_message(symbol, f"{n}.5", n) for n in numbers]


async def until_price(feed: Feed, sequence: int, symbol: str = "A") -> list[Event]:
    events: list[Event] = []
    async for event in feed:
        events.append(event)
        if isinstance(event, PriceUpdate) and (event.symbol, event.sequence) == (symbol, sequence):
            break
    return events


async def collect(feed: Feed | FeedHandler, events: list[Event]) -> None:
    async for event in feed:
        events.append(event)  # noqa: PERF401  # an error must leave what came before it


# --- overflow ------------------------------------------------------------------------------------


async def test_drop_oldest_announces_what_is_gone_in_its_place(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=10)
    async with open_prices(server, ["A", "B"], config=config) as feed:
        connection = await server.next_connection()
        for start in range(0, 40, 4):
            await connection.send_many(prices("A", range(start, start + 4)))
            await connection.send_many(prices("B", range(start, start + 4)))
            await trio.sleep(1)
        events = await until_price(feed, 39, "B")
    data = [event for event in events if isinstance(event, PriceUpdate)]
    assert len(data) == 10
    gaps = {event.symbol: event for event in events if isinstance(event, Gap)}
    assert events.index(gaps["A"]) < events.index(data[0])
    for symbol in ("A", "B"):
        first = min(event.sequence for event in data if event.symbol == symbol)
        gap = gaps[symbol]
        assert gap.reason is GapReason.OVERFLOW
        assert (gap.from_sequence, gap.to_sequence, gap.missing) == (0, first - 1, first)
    states = [event.new for event in events if isinstance(event, FeedStateChanged)]
    assert states == [ConnectionState.CONNECTED], "the newest state is not lost"


async def test_conflate_keeps_the_newest_of_each_symbol(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.CONFLATE, buffer_events=10)
    async with open_prices(server, ["A", "B"], config=config) as feed:
        connection = await server.next_connection()
        await connection.send_many(prices("B", range(3)))
        for start in range(0, 100, 5):
            await connection.send_many(prices("A", range(start, start + 5)))
            await trio.sleep(1)
        events = await until_price(feed, 99)
    data = [event for event in events if isinstance(event, PriceUpdate)]
    assert [e.sequence for e in data if e.symbol == "B"] == [2]
    newest = [e.sequence for e in data if e.symbol == "A"]
    assert newest[-1] == 99
    assert newest == sorted(newest)
    gaps = {event.symbol: event for event in events if isinstance(event, Gap)}
    assert gaps["A"].reason is gaps["B"].reason is GapReason.CONFLATED
    assert gaps["A"].missing == 100 - len(newest)
    assert gaps["B"].missing == 2


async def test_block_stops_reading_and_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig(
        overflow=OverflowPolicy.BLOCK,
        buffer_events=50,
        connection=ConnectionConfig(heartbeat_interval_s=1, pong_deadline_s=3, frame_stale_s=5),
    )
    async with (
        MockWebSocketServer(buffer_bytes=4096) as server,
        open_prices(server, config=config) as feed,
        trio.open_nursery() as nursery,
    ):
        connection = await server.next_connection()
        total = 5000

        async def send() -> None:
            for start in range(0, total, 100):
                await connection.send_many(prices("A", range(start, start + 100)))

        nursery.start_soon(send)
        # Far longer than every deadline: none runs while the reader waits for the consumer.
        await trio.sleep(60)
        assert connection.sent < total, "the bound is felt by the sender"
        events = await until_price(feed, total - 1)
        assert feed.statistics().connections == 1
    data = [event.sequence for event in events if isinstance(event, PriceUpdate)]
    assert data == list(range(total))
    assert not [event for event in events if isinstance(event, Gap)]


async def test_disconnect_cuts_the_slow_consumer_off(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=20)
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(30)))
        await trio.sleep(1)
        with pytest.raises(SlowConsumer, match="20 events"):
            await until_price(feed, -1)


async def test_each_subscriber_has_a_bound_of_its_own(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server) as feed:
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        with feed.subscriber(buffer_events=5) as slow:
            await connection.send_many(prices("A", range(100)))
            assert len(await until_price(feed, 99)) >= 100
            seen = []
            async for event in slow:
                seen.append(event)
                if isinstance(event, PriceUpdate) and event.sequence == 99:
                    break
        assert [type(event) for event in seen] == [Gap] + [PriceUpdate] * 5


# --- subscriptions -------------------------------------------------------------------------------


async def test_a_lost_acknowledgement_is_asked_for_again(autojump_clock: MockClock) -> None:
    config = FeedConfig(ack_deadline_s=2.0)
    async with (
        MockWebSocketServer(lose_acks=2) as server,
        open_prices(server, ["A", "B"], config=config) as feed,
    ):
        await trio.sleep(1.9)
        wanted = {Subscription("price", "A"), Subscription("price", "B")}
        assert feed.subscriptions.pending == feed.subscriptions.wanted == wanted
        await trio.sleep(2.2)
        assert not feed.subscriptions.confirmed, "the second time it waits twice as long"
        await trio.sleep(2.0)
        assert feed.subscriptions.confirmed == wanted
        connection = await server.next_connection()
        await trio.sleep(60)
        for _ in range(3):
            await connection.receive()
        with trio.move_on_after(60) as nothing_more:
            await connection.receive()
        assert nothing_more.cancelled_caught, "asked for until it was confirmed, and not after"


async def test_a_refused_symbol_leaves_the_others(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(unknown_symbols=["XX"]) as server,
        open_prices(server, ["A", "XX"]) as feed,
    ):
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        await connection.send_many(prices("A", [0]))
        events = await until_price(feed, 0)
        (refused,) = [event for event in events if isinstance(event, SubscriptionFailed)]
        assert (refused.error.symbol, refused.error.detail) == ("XX", "unknown symbol")
        assert feed.subscriptions.wanted == {Subscription("price", "A")}


async def test_a_silent_symbol_is_subscribed_anew(autojump_clock: MockClock) -> None:
    config = FeedConfig(symbol_stale_s=5.0)
    async with (
        MockWebSocketServer() as server,
        open_prices(server, ["A", "B"], config=config) as feed,
    ):
        connection = await server.next_connection()
        assert await connection.receive() == '{"type":"subscribe","symbols":["A","B"]}'
        for n in range(8):
            await connection.send_many(prices("A", [n]))
            await trio.sleep(1)
        assert await connection.receive() == '{"type":"subscribe","symbols":["B"]}'
        assert feed.statistics().connections == 1


async def test_an_application_ping_is_answered_and_a_notice_is_followed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server, config=FeedConfig(rollover=False)) as feed:
        connection = await server.next_connection()
        await connection.receive()
        await connection.send('{"type":"ping","id":42}')
        assert await connection.receive() == '{"type":"pong","id":42}'
        await connection.send('{"type":"reconnect","reason":"maintenance"}')
        await connection.wait_closed()
        await server.next_connection()
        async for event in feed:
            if isinstance(event, FeedStateChanged) and event.failure is not None:
                break
        assert "maintenance" in event.reason


# --- errors --------------------------------------------------------------------------------------


class MyError(Exception):
    pass


async def test_an_error_in_the_loop_reaches_the_user_as_it_was(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    cause = KeyError("cause")

    async def program() -> None:
        async with open_prices(server) as feed:
            async for _ in feed:
                raise MyError("mine") from cause

    with pytest.raises(MyError) as caught:
        await program()
    assert caught.value.__cause__ is cause
    await trio.sleep(100)
    assert server.dialled == 1, "and it causes no reconnect"
    assert not server.connections


async def test_the_users_own_group_is_not_taken_apart(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    group = ExceptionGroup("mine", [MyError("a"), MyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_prices(server):
            raise group
    assert caught.value is group


async def test_giving_up_raises_after_what_was_received(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(backoff=BackoffConfig(jitter=False), breaker=None)
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(3)))
        await trio.sleep(1)
        server.failure_mode = Refusal()
        connection.drop()
        seen: list[Event] = []
        with pytest.raises(RetriesExhausted) as caught:
            await collect(feed, seen)
        assert len(caught.value.causes) == 6
        assert feed.state is ConnectionState.DISCONNECTED
    assert sum(isinstance(event, PriceUpdate) for event in seen) == 3
    waits = [
        (event.next_attempt_ns - event.recv_ns) / 1e9
        for event in seen
        if isinstance(event, FeedStateChanged) and event.next_attempt_ns is not None
    ]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])


async def test_bad_credentials_end_the_feed_at_once(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = Rejection(403, (), b"no entry")
    async with open_prices(server) as feed:
        with pytest.raises(AuthenticationFailed, match="no entry"):
            async for _ in feed:
                pass
    assert server.dialled == 1


async def test_a_burst_of_malformed_messages_reconnects(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(breaker=None, decode_burst=10, decode_burst_window_s=1.0)
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        for _ in range(30):
            await connection.send("slowly: no burst")
            await trio.sleep(0.2)
        assert not connection.closed
        await connection.send_many(["{"] * 10)
        await connection.wait_closed()
        await (await server.next_connection()).send(price_message("A", "1", 0))
        events = await until_price(feed, 0)
    (lost,) = [e for e in events if isinstance(e, FeedStateChanged) and e.failure]
    assert isinstance(lost.error, MalformedBurst)
    assert sum(isinstance(event, DecodeFailed) for event in events) == 40
    malformed = [e for e in events if isinstance(e, Gap) and e.reason is GapReason.MALFORMED]
    assert len(malformed) == 40


async def test_a_venues_bug_is_a_decode_error_and_not_the_end(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    class Buggy(PriceVenue):
        def session(self) -> Any:
            session = super().session()

            class Session:
                def decode(self, message: str, *, recv_ns: int, epoch: int) -> Any:
                    if message == "boom":
                        raise KeyError("b")
                    return session.decode(message, recv_ns=recv_ns, epoch=epoch)

            return Session()

    async with open_feed(Buggy(server.url, dial=server.dial), ["A"]) as feed:
        connection = await server.next_connection()
        await connection.send_many(["boom", price_message("A", "1", 0)])
        events = await until_price(feed, 0)
    (failed,) = [event for event in events if isinstance(event, DecodeFailed)]
    assert isinstance(failed.error.__cause__, KeyError)
    assert failed.error.raw == b"boom"


@pytest.mark.parametrize(
    ("symbols", "channels", "message"),
    [
        ([], None, "must not be empty"),
        ("BTC-USD", None, r"use \['BTC-USD'\]"),
        ([""], None, "non-empty string"),
        ([7], None, "non-empty string"),
        (["A"], ["books"], "no such channel"),
        (["A"], "price", r"use \['price'\]"),
    ],
)
async def test_impossible_subscriptions_are_refused_before_anything_is_connected(
    autojump_clock: MockClock,
    server: MockWebSocketServer,
    symbols: Any,
    channels: Any,
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        async with open_prices(server, symbols, channels=channels):
            pytest.fail("it was opened")
    async with open_prices(server) as feed:
        before = feed.subscriptions.wanted
        with pytest.raises(ConfigError, match=message):
            feed.subscribe(symbols, channels=channels)
        assert feed.subscriptions.wanted == before
    assert server.dialled == 0, "and a feed that is closed at once never dials"


async def test_what_is_not_a_venue_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a venue"):
        async with open_feed("coinbase", ["A"]):  # type: ignore[arg-type]  # the mistake itself
            pytest.fail("it was opened")
    with pytest.raises(UsageError, match="async with FeedHandler"):
        FeedHandler().add(PriceVenue("ws://mock.invalid/"), ["A"])


# --- many feeds ----------------------------------------------------------------------------------


async def test_merged_feeds_are_all_heard_and_outlive_one_another(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig(backoff=BackoffConfig(max_retries=1), breaker=None)
    async with (
        MockWebSocketServer() as good,
        MockWebSocketServer(failure_mode=Refusal()) as bad,
        FeedHandler(config=config, clock=VirtualClock()) as handler,
    ):
        for name in ("one", "two"):
            handler.add(PriceVenue(good.url, dial=good.dial, name=name), ["A"])
        broken = handler.add(PriceVenue(bad.url, dial=bad.dial, name="three"), ["A"])
        connections = [await good.next_connection() for _ in range(2)]
        for n in range(3):
            for connection in connections:
                await connection.send_many(prices("A", [n]))
        heard: dict[str, list[int]] = {"one": [], "two": []}
        gave_up = False
        async for event in handler:
            if isinstance(event, PriceUpdate):
                heard[event.venue].append(event.sequence)
            elif isinstance(event, FeedStateChanged) and event.venue == "three":
                gave_up = event.new is ConnectionState.DISCONNECTED
            if gave_up and heard == {"one": [0, 1, 2], "two": [0, 1, 2]}:
                break
        assert broken.state is ConnectionState.DISCONNECTED
        good.failure_mode = Refusal()
        for connection in connections:
            connection.drop()
        with pytest.raises(RetriesExhausted):
            async for _ in handler:
                pass


async def test_other_tasks_get_their_turn_while_events_are_consumed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server) as feed, trio.open_nursery() as nursery:
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(1000)))
        await trio.testing.wait_all_tasks_blocked()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(other)
        async for event in feed:
            autojump_clock.jump(0.0005)  # half a millisecond of work for each event
            if isinstance(event, PriceUpdate) and event.sequence == 999:
                break
        assert turns >= 400, "one checkpoint for each millisecond of work"
        nursery.cancel_scope.cancel()


async def test_the_breaker_can_be_switched_off_and_failures_be_named(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server, config=FeedConfig(breaker=None)) as feed:
        assert feed.breaker is None
        server.failure_mode = FailureMode.TIMEOUT
        assert "A" in {s.symbol for s in feed.subscriptions.wanted}
        assert "price" in repr(feed)


async def test_data_in_the_same_read_as_the_handshake_comes_after_the_state_and_the_gap(
    autojump_clock: MockClock,
) -> None:
    """A venue may send at once; its first data must not overtake what is said about it."""
    numbers = iter([1, 5])

    async def serve(stream: trio.abc.Stream) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        while not any(isinstance(event, Request) for event in protocol.events()):
            protocol.receive_data(bytes(await stream.receive_some()))
        price = TextMessage(data=price_message("A", "1.5", next(numbers)))
        await stream.send_all(protocol.send(AcceptConnection()) + protocol.send(price))
        await stream.aclose()

    async with trio.open_nursery() as nursery:

        async def dial(target: object) -> trio.abc.Stream:
            client, server = memory_network()
            nursery.start_soon(serve, server)
            return client

        venue = PriceVenue("ws://mock.invalid", dial=dial)
        async with open_feed(venue, ["A"], clock=VirtualClock()) as feed:
            events = await until_price(feed, 5)
    names = [(type(event).__name__, event.epoch) for event in events]
    assert names == [
        ("FeedStateChanged", 0),
        ("FeedStateChanged", 1),
        ("PriceUpdate", 1),
        ("FeedStateChanged", 1),
        ("FeedStateChanged", 2),
        ("Gap", 2),
        ("PriceUpdate", 2),
    ]
    gap = events[-2]
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.RECONNECT
    assert gap.from_sequence == 2


# --- what else a review found --------------------------------------------------------------------


async def test_a_cut_off_feed_says_what_is_missing_and_is_closed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=5)
    async with FeedHandler(config=config) as handler:
        slow = handler.add(PriceVenue(server.url, dial=server.dial, name="slow"), ["A"])
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(20)))
        await connection.wait_closed()
        await trio.testing.wait_all_tasks_blocked()
        assert slow.state is ConnectionState.CLOSED
        quick = handler.add(PriceVenue(server.url, dial=server.dial, name="quick"), ["A"])
        await server.next_connection()
        seen: list[Event] = []
        with pytest.raises(SlowConsumer):
            await collect(handler, seen)
        assert quick.state is ConnectionState.CONNECTED
        assert handler.feeds == (quick,)
    own = [event for event in seen if event.venue == "slow"]
    gap = own[-1]
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.OVERFLOW
    received = [event.sequence for event in own if isinstance(event, PriceUpdate)]
    assert received == list(range(len(received)))
    assert (gap.from_sequence, gap.to_sequence) == (len(received), 19)


async def test_a_feed_that_is_read_only_by_a_subscriber_does_not_stall(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(buffer_events=50)
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        with feed.subscriber() as extra:
            numbers: list[int] = []
            for n in range(0, 1000, 10):
                await connection.send_many(prices("A", range(n, n + 10)))
            async for event in extra:
                if isinstance(event, PriceUpdate):
                    numbers.append(event.sequence)
                    if event.sequence == 999:
                        break
            assert numbers == list(range(1000))
        first = await anext(feed)
        assert isinstance(first, Gap)
        assert first.reason is GapReason.OVERFLOW


async def test_pings_are_answered_while_a_full_consumer_sleeps(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for policy in (OverflowPolicy.DROP_OLDEST, OverflowPolicy.CONFLATE):
        config = FeedConfig(overflow=policy, buffer_events=10)
        async with open_prices(server, config=config) as feed:
            connection = await server.next_connection()
            for n in range(20):
                await connection.send_many(prices("A", range(n * 40, n * 40 + 40)))
                await connection.ping(b"alive?")
                await trio.sleep(10)
            assert connection.pongs_received >= 20
            assert len(await until_price(feed, 799)) > 0


async def test_conflation_keeps_working_with_more_symbols_than_room(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.CONFLATE, buffer_events=10)
    names = [f"S{n}" for n in range(30)]
    async with open_prices(server, names, config=config) as feed:
        connection = await server.next_connection()
        for sequence in range(3):
            await connection.send_many([price_message(name, "1", sequence) for name in names])
            await trio.testing.wait_all_tasks_blocked()
        events: list[Event] = []
        with trio.move_on_after(1):
            await collect(feed, events)
    updates = [event for event in events if isinstance(event, PriceUpdate)]
    assert [(event.symbol, event.sequence) for event in updates] == [
        (name, 2) for name in names[-10:]
    ]
    lost = {event.symbol: event for event in events if isinstance(event, Gap)}
    for number, name in enumerate(names):
        gap = lost[name]
        assert (gap.from_sequence, gap.to_sequence) == (0, 2 if number < 20 else 1)
        assert gap.missing == (3 if number < 20 else 2)


async def test_the_reason_for_a_drop_by_the_breaker_is_true(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server) as feed:
        connection = await server.next_connection()
        for _ in range(5):
            await connection.send("bad")
            await trio.sleep(10)
        events = [await anext(feed) for _ in range(13)]
        assert connection.closed
    (lost,) = [e for e in events if isinstance(e, FeedStateChanged) and e.error]
    assert lost.reason == "5 malformed messages opened the circuit"


async def test_a_failure_rate_counts_the_good_as_well(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    breaker = BreakerConfig(
        failure_threshold=1000, failure_rate=0.5, window_minimum=10, window_s=1000
    )
    config = FeedConfig(breaker=breaker, decode_burst=10_000)
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        for n in range(40):
            good = prices("A", range(n * 10, n * 10 + 10))
            await connection.send_many([*good, "bad"])
            await trio.testing.wait_all_tasks_blocked()
        assert feed.state is ConnectionState.CONNECTED, "one in eleven is bad"
        await connection.send_many(["bad"] * 300)
        await trio.testing.wait_all_tasks_blocked()
        assert feed.state is ConnectionState.CONNECTED, "340 of 740"
        await connection.send_many(["bad"] * 70)
        await trio.testing.wait_all_tasks_blocked()
        assert feed.state is ConnectionState.RECONNECTING, "more than half of 810"


async def test_heartbeats_of_the_venue_are_no_data(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(connection=ConnectionConfig(data_stale_s=5.0))
    async with open_prices(server, config=config):
        connection = await server.next_connection()
        with trio.move_on_after(60):
            while not connection.closed:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await connection.send('{"type":"heartbeat"}')
                await trio.sleep(1)
        assert trio.current_time() == pytest.approx(5, abs=1.1)


@pytest.mark.parametrize("decode", ["generator", "none", "raises midway"])
async def test_a_venue_that_breaks_its_contract_gives_decode_errors(
    autojump_clock: MockClock, server: MockWebSocketServer, decode: str
) -> None:
    class Broken:
        def decode(self, message: str, *, recv_ns: int, epoch: int) -> Any:
            if decode == "none":
                return None
            return self.items()

        def items(self) -> Any:
            yield from ()
            if decode == "raises midway":
                raise ZeroDivisionError

    class Venue(PriceVenue):
        def session(self) -> Any:
            return Broken()

    async with open_feed(Venue(server.url, dial=server.dial), ["A"]) as feed:
        connection = await server.next_connection()
        await connection.send_many(["x", "y"])
        await trio.testing.wait_all_tasks_blocked()
        assert feed.state is ConnectionState.CONNECTED
        expected = 0 if decode == "generator" else 2
        assert feed.statistics().decode_errors == expected + (expected and 1)


async def test_coinbase_unsubscribing_ends_when_the_venue_lists_it_no_longer(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer(auto_ack=False) as server:
        venue = Coinbase(server.url, dial=server.dial)
        async with open_feed(venue, ["A", "B"]) as feed:
            connection = await server.next_connection()

            async def say(number: int, channel: str, event: object) -> None:
                document = {"channel": channel, "sequence_num": number, "events": [event]}
                await connection.send(json.dumps(document))
                await trio.testing.wait_all_tasks_blocked()

            async def listed(number: int, *symbols: str) -> None:
                await say(number, "subscriptions", {"subscriptions": {"market_trades": symbols}})

            await trio.sleep(1)  # requests go at the venue's pace
            await listed(0, "A", "B")
            assert len(feed.subscriptions.confirmed) == 2
            feed.unsubscribe(["B"])
            await trio.sleep(1)
            await listed(1, "A")
            for number in range(2, 102):  # without these the connection is dead after 10 s
                await say(number, "heartbeats", {"heartbeat_counter": number})
                await trio.sleep(1)
            assert feed.state is ConnectionState.CONNECTED
            requests = []
            with trio.move_on_after(1):
                while True:
                    requests.append(json.loads(await connection.receive()))
            assert feed.statistics().connections == 1
    ended = [r["channel"] for r in requests if r["type"] == "unsubscribe"]
    assert ended == ["market_trades"]


async def test_a_handler_refuses_what_can_not_be_and_forgets_what_is_over(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    venue = PriceVenue(server.url, dial=server.dial)
    async with FeedHandler() as handler:
        with pytest.raises(UsageError, match=r"handler\.add"):
            await anext(handler)
        for _ in range(10):
            feed = handler.add(venue, ["A"])
            await server.next_connection()
            feed.close()
            async for _event in feed:
                pass
        assert len(handler.feeds) <= 1
        assert [event async for event in handler] == []
    with pytest.raises(UsageError, match="is closed"):
        handler.add(venue, ["A"])


# --- and a second one ----------------------------------------------------------------------------


async def test_a_handler_is_left_although_a_cut_off_feed_has_another_reader(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=5)
    with trio.fail_after(100):
        async with FeedHandler(config=config) as handler:
            feed = handler.add(PriceVenue(server.url, dial=server.dial), ["A"])
            connection = await server.next_connection()
            with feed.subscriber() as extra:
                await connection.send_many(prices("A", range(20)))
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(SlowConsumer):
                    await collect(handler, [])
                assert feed.state is ConnectionState.CONNECTED, "another reads on"
                assert len(extra.take() or []) > 0
            await trio.testing.wait_all_tasks_blocked()
            assert feed.state is ConnectionState.CLOSED, "nobody is left"


async def test_subscribers_one_after_the_other_all_get_data(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(buffer_events=5)
    async with open_prices(server, config=config) as feed, trio.open_nursery() as nursery:
        connection = await server.next_connection()
        await anext(feed)  # somebody has read here once, and never again

        async def send() -> None:
            for n in range(0, 100_000, 10):
                await connection.send_many(prices("A", range(n, n + 10)))
                await trio.sleep(0.1)

        nursery.start_soon(send)
        for _ in range(3):
            await trio.sleep(50)  # the main subscriber is full by now, and reading stands still
            with feed.subscriber() as extra, trio.fail_after(60):
                count = 0
                async for event in extra:
                    count += isinstance(event, PriceUpdate)
                    if count == 300:
                        break
        nursery.cancel_scope.cancel()


async def test_pings_are_answered_while_a_blocking_consumer_sleeps(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server, config=FeedConfig(buffer_events=5)) as feed:
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(10)))
        for n in range(5):
            await connection.ping()
            await connection.send_many(prices("A", [10 + n]))
            await trio.sleep(10)
        assert connection.pongs_received >= 5
        received = [e.sequence for e in await until_price(feed, 14) if isinstance(e, PriceUpdate)]
        assert received == list(range(15)), "in order, and none is lost"


async def test_what_was_read_ahead_survives_the_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server, config=FeedConfig(buffer_events=5)) as feed:
        connection = await server.next_connection()
        for n in range(10):
            await connection.send_many(prices("A", range(n * 10, n * 10 + 10)))
            await trio.testing.wait_all_tasks_blocked()
        connection.drop()
        await server.next_connection()
        await trio.sleep(10)
        events = await until_price(feed, 99)
        received = [event.sequence for event in events if isinstance(event, PriceUpdate)]
        assert received == list(range(100))


async def test_a_slow_merged_consumer_is_told_although_another_feed_gave_up_before(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=5)
    async with FeedHandler() as handler:
        refusing = MockWebSocketServer(failure_mode=Rejection(403))
        async with refusing:
            handler.add(PriceVenue(refusing.url, dial=refusing.dial), ["A"])
            await trio.sleep(1)
        handler.add(PriceVenue(server.url, dial=server.dial), ["A"], config=config)
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(20)))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SlowConsumer):
            await collect(handler, [])


async def test_a_feed_that_gives_up_while_its_consumer_is_too_slow_is_closed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(
        overflow=OverflowPolicy.DISCONNECT, buffer_events=5, backoff=BackoffConfig(max_retries=1)
    )
    async with open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        await connection.send_many(prices("A", range(2)))
        await trio.testing.wait_all_tasks_blocked()
        server.failure_mode = Refusal()
        connection.drop()
        await trio.sleep(100)
        assert feed.state is ConnectionState.CLOSED
        with pytest.raises(SlowConsumer) as caught:
            await collect(feed, [])
        assert isinstance(caught.value.__cause__, RetriesExhausted)


async def test_what_conflation_drops_for_want_of_room_is_an_overflow(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.CONFLATE, buffer_events=3, decode_burst=1000)
    async with open_prices(server, list("ABCDEF"), config=config) as feed:
        connection = await server.next_connection()
        await connection.send_many([price_message(symbol, "1", 1) for symbol in "ABCDEF"])
        await connection.send_many(["bad"] * 3)
        events: list[Event] = []
        with trio.move_on_after(1):
            await trio.testing.wait_all_tasks_blocked()
            await collect(feed, events)
    assert [e.symbol for e in events if isinstance(e, PriceUpdate)] == ["D", "E", "F"]
    gaps = {e.symbol: e.reason for e in events if isinstance(e, Gap)}
    assert [gaps[symbol] for symbol in "ABC"] == [GapReason.OVERFLOW] * 3
    assert gaps[None] is GapReason.MALFORMED


async def test_a_subscriber_of_a_feed_that_has_ended_ends_as_it_did(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = Rejection(403)
    async with open_prices(server) as feed:
        await trio.sleep(1)
        with feed.subscriber() as late, pytest.raises(AuthenticationFailed):
            await anext(late)


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "conflate"])
async def test_memory_is_bounded_for_a_venue_that_floods_for_a_minute(
    autojump_clock: MockClock, policy: str
) -> None:
    config = FeedConfig(
        overflow=OverflowPolicy(policy),
        buffer_events=500,
        connection=ConnectionConfig(buffer_bytes=200_000),
    )
    # 7 MB in a minute, which is a thousand times what may be kept.
    burst = [price_message(f"S{n % 50}", "65000.10", 1) for n in range(1000)]
    async with (
        MockWebSocketServer(buffer_bytes=65_536) as server,
        open_prices(server, [f"S{n}" for n in range(50)], config=config) as feed,
        trio.open_nursery() as nursery,
    ):
        connection = await server.next_connection()

        async def flood() -> None:
            for number in range(60):
                await connection.send_many([m.replace(":1,", f":{number},") for m in burst])
                await trio.sleep(1)

        await connection.send_many(burst)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        tracemalloc.start()
        try:
            nursery.start_soon(flood)
            await trio.sleep(61)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3_000_000
        assert feed.state is ConnectionState.CONNECTED
        if policy != "block":
            assert connection.sent == 61_000, "reading goes on"
        nursery.cancel_scope.cancel()


async def test_the_bound_in_bytes_stops_the_reading(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig(connection=ConnectionConfig(buffer_bytes=100_000))
    async with (
        MockWebSocketServer(buffer_bytes=65_536) as server,
        open_prices(server, config=config),
        trio.open_nursery() as nursery,
    ):
        connection = await server.next_connection()

        async def flood() -> None:
            for number in range(100_000):
                await connection.send(price_message("A", "1", number) + " " * 10_000)

        nursery.start_soon(flood)
        await trio.sleep(60)
        assert 10 < connection.sent * 10_000 / 1000 < 100 + 65 * 3 + 262 + 200
        nursery.cancel_scope.cancel()


async def test_a_feed_can_be_read_in_both_ways_at_once(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    seen: list[int] = []

    async def take(events: Any) -> None:
        async for event in events:
            if isinstance(event, PriceUpdate):
                seen.append(event.sequence)
                await trio.sleep(0.002)

    async with FeedHandler() as handler, trio.open_nursery() as nursery:
        feed = handler.add(PriceVenue(server.url, dial=server.dial), ["A"])
        nursery.start_soon(take, feed)
        nursery.start_soon(take, handler)
        connection = await server.next_connection()
        for n in range(0, 300, 30):
            await connection.send_many(prices("A", range(n, n + 30)))
            await trio.sleep(0.03)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert sorted(seen) == list(range(300))


async def test_a_slow_merged_consumer_is_told_although_another_feed_is_busy(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=5)
    async with (
        MockWebSocketServer() as busy,
        FeedHandler() as handler,
        trio.open_nursery() as nursery,
    ):
        handler.add(PriceVenue(server.url, dial=server.dial), ["A"], config=config)
        handler.add(PriceVenue(busy.url, dial=busy.dial), ["A"])
        connection = await server.next_connection()
        other = await busy.next_connection()

        async def tick() -> None:
            for number in range(100_000):
                await other.send(price_message("A", "1", number))
                await trio.sleep(0.1)

        nursery.start_soon(tick)
        await connection.send_many(prices("A", range(20)))

        async def read() -> None:
            async for _ in handler:
                await trio.sleep(0.2)

        with trio.fail_after(60), pytest.raises(SlowConsumer):
            await read()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("policy", ["drop_oldest", "disconnect"])
async def test_the_bound_in_bytes_holds_where_events_are_dropped(
    autojump_clock: MockClock, policy: str
) -> None:
    config = FeedConfig(
        overflow=OverflowPolicy(policy),
        buffer_events=1000,
        connection=ConnectionConfig(buffer_bytes=100_000),
        decode_burst=1000,
    )
    async with MockWebSocketServer() as server, open_prices(server, config=config) as feed:
        connection = await server.next_connection()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for n in range(30):
                await connection.send(price_message("S" * 20_000 + str(n), "1", 1))
                await trio.testing.wait_all_tasks_blocked()
        assert feed.main_subscriber._mailbox.bytes <= 120_000
        events: list[Event] = []
        with contextlib.suppress(SlowConsumer), trio.move_on_after(1):
            await collect(feed, events)
        kept = [event for event in events if isinstance(event, PriceUpdate)]
        lost = [event for event in events if isinstance(event, Gap)]
        assert 0 < len(kept) < 30
        assert lost
        assert {gap.reason for gap in lost} == {GapReason.OVERFLOW}


async def test_a_slow_reader_loses_nothing_when_a_subscriber_opens(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with (
        open_prices(server, config=FeedConfig(buffer_events=5)) as feed,
        trio.open_nursery() as nursery,
    ):
        connection = await server.next_connection()
        seen: list[Event] = []

        async def read() -> None:
            async for event in feed:
                seen.append(event)
                await trio.sleep(1)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()  # one that has not begun to read holds nobody up
        for n in range(20):
            await connection.send_many(prices("A", range(n * 10, n * 10 + 10)))
            if n % 4 == 0:
                with feed.subscriber():
                    await trio.sleep(0.3)
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    assert not any(isinstance(event, Gap) for event in seen)
    assert sum(isinstance(event, PriceUpdate) for event in seen) == 200
