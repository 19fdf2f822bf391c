"""What a venue allows and expects is kept to: pace, size of requests, keep-alive, silence, life."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BackoffConfig,
    ConnectionConfig,
    ConnectionState,
    Event,
    FailureKind,
    FeedConfig,
    FeedHandler,
    FeedStateChanged,
    PriceUpdate,
    PriceVenue,
    open_feed,
)
from feedhandler.abc import DialTarget, Session, Subscription
from feedhandler.traits import KeepAlive, Limits, VenueTraits
from feedhandler_testing import (
    MockWebSocketConnection,
    MockWebSocketServer,
    Refusal,
    VirtualClock,
    price_message,
)

CONNECTED = ConnectionState.CONNECTED
NO_JITTER = BackoffConfig(jitter=False, max_retries=0)


class Meter:
    """When clients have dialled, and what each connection has been sent when."""

    def __init__(self, server: MockWebSocketServer) -> None:
        self._server = server
        self.dials: list[float] = []
        self.messages: dict[int, list[tuple[float, str]]] = {}

    async def dial(self, target: DialTarget) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        return await self._server.dial(target)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._listen, await self._server.next_connection())

    async def _listen(self, connection: MockWebSocketConnection) -> None:
        log = self.messages.setdefault(connection.id, [])
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                message = await connection.receive()
                log.append((trio.current_time(), str(message)))

    def requests(self, number: int) -> list[tuple[float, str, list[str]]]:
        told = [(at, json.loads(text)) for at, text in self.messages[number] if "symbols" in text]
        return [(at, request["type"], request["symbols"]) for at, request in told]

    def venue(self, traits: VenueTraits) -> PriceVenue:
        return PriceVenue(self._server.url, dial=self.dial, traits=traits)


@contextlib.asynccontextmanager
async def metering(server: MockWebSocketServer) -> AsyncIterator[Meter]:
    async with trio.open_nursery() as nursery:
        meter = Meter(server)
        nursery.start_soon(meter.run)
        yield meter
        nursery.cancel_scope.cancel()


def most_within(times: list[float], seconds: float) -> int:
    """The most in any window of that length, its end not counted."""
    return max((sum(s <= t < s + seconds - 1e-9 for t in times) for s in times), default=0)


def symbols(count: int, *, first: int = 0) -> list[str]:
    return [f"S{number}" for number in range(first, first + count)]


async def drain(feed: Any, events: list[Event]) -> None:
    async for batch in feed.batches():
        events.extend(batch)


# --- requests ------------------------------------------------------------------------------------


async def test_a_storm_of_subscriptions_stays_within_every_limit(
    autojump_clock: MockClock,
) -> None:
    """FAULTS.md, 58: 500 symbols, and every connection lost again and again."""
    limits = Limits(subscriptions=200, per_message=100, messages_per_s=5, connects_per_minute=20)
    async with (
        MockWebSocketServer(heartbeat_interval=0.25) as server,
        metering(server) as meter,
        open_feed(
            meter.venue(VenueTraits(limits=limits, keep_alive=KeepAlive("ping", 2.0))),
            symbols(500),
            config=FeedConfig(backoff=NO_JITTER, breaker=None),
            clock=VirtualClock(),
            rng=Random(58),
        ) as feed,
        trio.open_nursery() as nursery,
    ):
        events: list[Event] = []
        nursery.start_soon(drain, feed, events)
        await trio.sleep(10)
        assert sorted(len(c.subscriptions) for c in server.connections.values()) == [100, 200, 200]
        for round_ in range(8):
            for connection in list(server.connections.values()):
                connection.drop()
            await trio.sleep(0.7 * round_)
            feed.unsubscribe(symbols(30, first=40 * round_))
            feed.subscribe(symbols(90, first=1000 + 90 * round_))
            await trio.sleep(0.3)
        await trio.sleep(120)
        wanted = 500 - 8 * 30 + 8 * 90
        assert len(feed.subscriptions.confirmed) == wanted
        live = [len(c.subscriptions) for c in server.connections.values()]
        assert sum(live) == wanted, "each symbol is on one connection, and once"
        assert max(live) <= 200
        nursery.cancel_scope.cancel()
    assert len(meter.dials) > 15, "the test is about reconnects"
    assert most_within(meter.dials, 60.0) <= 20
    sent = 0
    for number, log in meter.messages.items():
        assert most_within([at for at, _ in log], 1.0) <= 5, number
        assert all(len(names) <= 100 for _, _, names in meter.requests(number))
        sent += len(log)
    assert sent > 60


async def test_what_ends_is_asked_for_before_what_is_new(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    """A venue that counts must never find one more than it allows."""
    limits = Limits(subscriptions=10, per_message=3, messages_per_s=4)
    async with (
        metering(server) as meter,
        open_feed(meter.venue(VenueTraits(limits=limits)), symbols(10)) as feed,
    ):
        await trio.sleep(5)
        feed.unsubscribe(symbols(9))
        feed.subscribe(symbols(9, first=50))
        await trio.sleep(10)
        (log,) = [meter.requests(number) for number in meter.messages]
        live: set[str] = set()
        for _, kind, names in log:
            live = live | set(names) if kind == "subscribe" else live - set(names)
            assert len(live) <= 10
        assert live == {"S9", *symbols(9, first=50)}
        assert len(server.connections) == 1


async def test_an_answer_is_not_missed_while_its_request_waits_for_its_turn(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    """At one message a second, forty requests take longer than any acknowledgement may."""

    class OneByOne(PriceVenue):
        def subscribe(self, subscriptions: Any) -> list[str]:
            return [text for s in subscriptions for text in super(OneByOne, self).subscribe([s])]

    venue = OneByOne(
        server.url, dial=server.dial, traits=VenueTraits(limits=Limits(messages_per_s=1))
    )
    async with metering(server) as meter, open_feed(venue, symbols(40)) as feed:
        await trio.sleep(120)
        assert len(feed.subscriptions.confirmed) == 40
        (log,) = [meter.requests(number) for number in meter.messages]
        assert [name for _, _, names in log for name in names] == symbols(40), "each once"


async def test_replies_and_keep_alive_take_their_turns_with_requests(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(
        limits=Limits(per_message=1, messages_per_s=5), keep_alive=KeepAlive("alive", 1.0)
    )
    async with metering(server) as meter, open_feed(meter.venue(traits), symbols(60)):
        await wait_all_tasks_blocked()
        (connection,) = server.connections.values()
        for number in range(5):
            await connection.send(json.dumps({"type": "ping", "id": number}))
        await trio.sleep(30)
        (log,) = meter.messages.values()
        assert most_within([at for at, _ in log], 1.0) <= 5
        pongs = [at for at, text in log if "pong" in text]
        assert len(pongs) == 5
        assert max(pongs) < 5, "they do not wait for all the requests"
        alive = [at for at, text in log if text == "alive"]
        assert len(alive) >= 28


async def test_a_roll_over_has_the_time_that_its_requests_need(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    limits = Limits(per_message=1, messages_per_s=2)
    async with (
        metering(server) as meter,
        open_feed(meter.venue(VenueTraits(limits=limits)), symbols(60)) as feed,
        trio.open_nursery() as nursery,
    ):
        events: list[Event] = []
        nursery.start_soon(drain, feed, events)
        await trio.sleep(100)
        (old,) = server.connections.values()
        await old.send('{"type":"reconnect","reason":"maintenance"}')
        await trio.sleep(200)
        changes = [e for e in events if isinstance(e, FeedStateChanged)]
        assert [(e.old, e.new, e.epoch) for e in changes[-1:]] == [(CONNECTED, CONNECTED, 2)]
        assert old.closed
        assert len(feed.subscriptions.confirmed) == 60
        nursery.cancel_scope.cancel()


# --- connects ------------------------------------------------------------------------------------


async def test_all_feeds_of_a_handler_share_the_pace_of_an_address(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(limits=Limits(connects_per_minute=6))
    async with metering(server) as meter, FeedHandler() as handler:
        for name in "ABCDE":
            handler.add(meter.venue(traits), [name])
        handler.add(PriceVenue("ws://elsewhere.invalid/", dial=meter.dial, traits=traits), ["F"])
        await trio.sleep(1)
        assert len(meter.dials) == 3 + 1, "half of six at once, and another address on its own"
        await trio.sleep(100)
        assert len(meter.dials) == 6
        assert most_within(meter.dials, 60.0) <= 6


async def test_a_connect_that_waits_for_its_turn_has_not_failed_and_can_be_called_off(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(limits=Limits(connects_per_minute=1))
    config = FeedConfig(connection=ConnectionConfig(connect_timeout_s=1))
    async with metering(server) as meter:
        began = trio.current_time()
        async with FeedHandler(config=config) as handler:
            handler.add(meter.venue(traits), ["A"])
            await wait_all_tasks_blocked()
            waiting = handler.add(meter.venue(traits), ["B"])
            await trio.sleep(60)
            assert waiting.state is ConnectionState.CONNECTING
            assert waiting.attempt_count == 0
            assert len(meter.dials) == 1
            await trio.sleep(61)
            assert waiting.state is CONNECTED
            late = handler.add(meter.venue(traits), ["C"])
            await trio.sleep(1)
            assert late.state is ConnectionState.CONNECTING
        assert trio.current_time() - began < 125, "nothing waits for a turn while it closes"
        assert late.state is ConnectionState.CLOSED
        assert len(meter.dials) == 2


async def test_reconnects_go_at_the_venues_pace_too(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(limits=Limits(connects_per_minute=10))
    config = FeedConfig(backoff=NO_JITTER, breaker=None)
    server.failure_mode = Refusal()
    async with metering(server) as meter, open_feed(meter.venue(traits), ["A"], config=config):
        await trio.sleep(300)
        assert len(meter.dials) > 8
        assert most_within(meter.dials, 60.0) <= 10


# --- keep-alive, silence, life -------------------------------------------------------------------


async def test_the_keep_alive_goes_out_at_its_interval_on_each_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(keep_alive=KeepAlive('{"op":"ping"}', 20.0))
    async with metering(server) as meter, open_feed(meter.venue(traits), ["A"]):
        await trio.sleep(61)
        (connection,) = server.connections.values()
        began = trio.current_time()
        connection.drop()
        await trio.sleep(41)
        first, second = meter.messages.values()
        times = [at for at, text in first if text == '{"op":"ping"}']
        assert [b - a for a, b in pairwise(times)] == [20.0, 20.0]
        assert len([at for at, text in second if text == '{"op":"ping"}']) == 2
        assert min(at for at, text in second if "op" in text) - began >= 20.0


async def test_the_keep_alive_goes_out_also_while_nobody_reads(
    autojump_clock: MockClock,
) -> None:
    traits = VenueTraits(keep_alive=KeepAlive("ping", 10.0), silence_s=15.0)
    config = FeedConfig(
        buffer_events=5, connection=ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)
    )
    async with (
        MockWebSocketServer(buffer_bytes=4096) as server,
        metering(server) as meter,
        open_feed(meter.venue(traits), ["A"], config=config) as feed,
    ):
        await wait_all_tasks_blocked()
        (connection,) = server.connections.values()
        async with trio.open_nursery() as nursery:
            texts = [price_message("A", "1.5", n) for n in range(5000)]
            nursery.start_soon(connection.send_many, texts)
            await trio.sleep(101)
            (log,) = meter.messages.values()
            assert len([text for _, text in log if text == "ping"]) == 10
            assert feed.state is CONNECTED, "where nobody reads, no silence counts"
            numbers: list[int] = []
            async for event in feed:
                if isinstance(event, PriceUpdate):
                    numbers.append(event.sequence)
                    if event.sequence == 4999:
                        break
        assert numbers == [*range(5000)]
        assert server.accepted == 1


@pytest.mark.parametrize("pings", [True, False])
async def test_a_silence_that_the_venue_never_keeps_ends_the_connection(
    autojump_clock: MockClock, pings: bool
) -> None:
    """Pings do not count: the venue says something all the time, or it is broken."""
    traits = VenueTraits(silence_s=10.0)
    async with (
        MockWebSocketServer(heartbeat_interval=1.0 if pings else None) as server,
        metering(server) as meter,
        open_feed(meter.venue(traits), ["A"], config=FeedConfig(backoff=NO_JITTER)) as feed,
        trio.open_nursery() as nursery,
    ):
        events: list[Event] = []
        nursery.start_soon(drain, feed, events)
        await wait_all_tasks_blocked()
        (connection,) = server.connections.values()
        for _ in range(5):
            await trio.sleep(9)
            await connection.send('{"type":"heartbeat"}')
        assert server.accepted == 1, "a heartbeat of the venue's is enough"
        await trio.sleep(9.9)
        assert server.accepted == 1
        await trio.sleep(1)
        assert server.accepted == 2
        (lost,) = [e for e in events if isinstance(e, FeedStateChanged) and e.failure]
        assert lost.failure is FailureKind.STALE
        assert "no messages for 10 s" in lost.reason
        nursery.cancel_scope.cancel()


async def test_connections_of_a_venue_with_a_lifetime_roll_over_a_little_before_its_end(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(max_lifetime_s=86_400.0)
    config = FeedConfig(backoff=NO_JITTER)
    async with (
        metering(server) as meter,
        FeedHandler(config=config, rng=Random(3)) as handler,
        trio.open_nursery() as nursery,
    ):
        feeds = [handler.add(meter.venue(traits), [name]) for name in "ABCD"]
        events: list[Event] = []
        nursery.start_soon(drain, handler, events)
        await trio.sleep(0.96 * 86_400 - 1)
        assert len(meter.dials) == 4
        await trio.sleep(0.02 * 86_400 + 10)
        assert len(meter.dials) == 8
        apart = sorted(meter.dials[4:])
        assert all(b - a > 1 for a, b in pairwise(apart))
        assert [feed.state for feed in feeds] == [CONNECTED] * 4
        assert not [e for e in events if isinstance(e, FeedStateChanged) and e.failure]
        assert len(server.connections) == 4
        nursery.cancel_scope.cancel()


async def test_a_users_shorter_life_counts_before_the_venues(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    traits = VenueTraits(max_lifetime_s=86_400.0)
    config = FeedConfig(connection=ConnectionConfig(max_lifetime_s=100.0))
    async with metering(server) as meter, open_feed(meter.venue(traits), ["A"], config=config):
        await trio.sleep(99)
        assert len(meter.dials) == 1
        await trio.sleep(7)
        assert len(meter.dials) == 2


async def test_a_venue_without_traits_works_as_ever(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    class Bare:
        """Nothing but what `Venue` asks for."""

        name = "bare"
        channels = ("price",)

        def __init__(self) -> None:
            self._venue = PriceVenue(server.url, dial=server.dial)
            self.url, self.dial = self._venue.url, self._venue.dial

        def session(self) -> Session:
            return self._venue.session()

        def subscribe(self, subscriptions: Any) -> list[str]:
            return self._venue.subscribe(subscriptions)

        def unsubscribe(self, subscriptions: Any) -> list[str]:
            return self._venue.unsubscribe(subscriptions)

    async with metering(server) as meter, open_feed(Bare(), symbols(300)) as feed:
        await trio.sleep(1)
        assert len(feed.subscriptions.confirmed) == 300
        ((_, _, names),) = meter.requests(1)
        assert len(names) == 300
        assert [leg.number for leg in feed.legs] == [0]
        assert Subscription("price", "S7") in feed.legs[0].subscriptions.confirmed
