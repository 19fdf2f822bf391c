"""A feed whose subscriptions do not fit on one connection: several, and one stream."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BackoffConfig,
    BookShelf,
    BookSnapshot,
    ConnectionState,
    DecodeFailed,
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
    RetriesExhausted,
    SlowConsumer,
    SubscriptionFailed,
    Trust,
    open_feed,
)
from feedhandler.abc import Dialer, Session, SplitVenue, Subscription, Venue
from feedhandler.traits import Limits, VenueTraits
from feedhandler_testing import (
    FailureMode,
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    Refusal,
    Rejection,
    VirtualClock,
    price_message,
)

S = ConnectionState
NO_RETRY = FeedConfig(backoff=BackoffConfig(max_retries=1, jitter=False), breaker=None)
NONE = FailureMode.NONE
NOTICE = '{"type":"reconnect","reason":"maintenance"}'


def venue(server: MockWebSocketServer, limit: int) -> PriceVenue:
    traits = VenueTraits(limits=Limits(subscriptions=limit))
    return PriceVenue(server.url, dial=server.dial, traits=traits)


def open_spread(
    server: MockWebSocketServer, symbols: Sequence[str] = "ABCDE", *, limit: int = 2, **more: Any
) -> Any:
    settings = {"clock": VirtualClock(), "rng": Random(5), **more}
    return open_feed(venue(server, limit), list(symbols), **settings)


@frozen
class SplitPrices:
    """A venue that has its books at another address than its prices."""

    prices: PriceVenue
    books: PriceVenue
    name: str = "split"

    @property
    def url(self) -> str:
        return self.prices.url

    @property
    def dial(self) -> Dialer | None:
        return self.prices.dial

    @property
    def channels(self) -> Sequence[str]:
        return self.prices.channels

    @property
    def book_channels(self) -> Sequence[str]:
        return self.prices.book_channels

    def entry(self, channel: str) -> Venue:
        return self.books if channel == "book" else self.prices

    def session(self) -> Session:
        return self.prices.session()

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.prices.subscribe(subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.prices.unsubscribe(subscriptions)


async def settled(server: MockWebSocketServer) -> dict[str, MockWebSocketConnection]:
    """The live connection of each symbol, once nothing moves any more."""
    await trio.sleep(0.01)
    await wait_all_tasks_blocked()
    return {
        symbol: connection
        for connection in server.connections.values()
        for symbol in (*connection.subscriptions, *connection.book_subscriptions)
    }


def waiting(feed: Feed) -> list[Event]:
    """What waits to be read, taken."""
    events: list[Event] = []
    while (more := feed.main_subscriber.take()) is not None:
        events += more
    return events


def legs_of(feed: Feed) -> list[tuple[int, set[str]]]:
    return [(leg.number, {s.symbol for s in leg.subscriptions.wanted}) for leg in feed.legs]


def states(events: Sequence[Event], leg: int) -> list[ConnectionState]:
    return [e.new for e in events if isinstance(e, FeedStateChanged) and e.leg == leg]


async def test_symbols_are_spread_over_as_many_connections_as_it_takes(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        homes = await settled(server)
        assert sorted(homes) == [*"ABCDE"]
        assert sorted(len(c.subscriptions) for c in server.connections.values()) == [1, 2, 2]
        assert legs_of(feed) == [(0, {"A", "B"}), (1, {"C", "D"}), (2, {"E"})]
        assert feed.state is S.CONNECTED
        assert {s.symbol for s in feed.subscriptions.confirmed} == {*"ABCDE"}
        for number in range(20):
            for symbol in "ABCDE":
                await homes[symbol].send(price_message(symbol, "1.5", number))
        events: list[Event] = []
        async for event in feed:
            events.append(event)
            if len([e for e in events if isinstance(e, PriceUpdate)]) == 100:
                break
        for symbol in "ABCDE":
            mine = [e for e in events if isinstance(e, PriceUpdate) and e.symbol == symbol]
            assert [e.sequence for e in mine] == [*range(20)]
        assert [states(events, leg) for leg in range(3)] == [[S.CONNECTING, S.CONNECTED]] * 3
        told = feed.statistics()
        assert (told.connections, told.events) == (3, len(events))
        assert told.messages == 100 + 3, "and an acknowledgement on each"
        assert "legs=3" in repr(feed)
    assert feed.state is S.CLOSED
    assert server.open_streams == 0


async def test_where_all_fits_there_is_one_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, limit=5) as feed:
        await settled(server)
        assert server.accepted == 1
        assert [leg.number for leg in feed.legs] == [0]
        assert "epoch=1" in repr(feed)


async def test_a_handler_merges_spread_feeds_with_others(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with FeedHandler() as handler:
        handler.add(venue(server, 1), ["A", "B"])
        handler.add(venue(server, 1), ["C"])
        homes = await settled(server)
        for symbol in "ABC":
            await homes[symbol].send(price_message(symbol, "1.5", 0))
        seen: set[str] = set()
        async for event in handler:
            if isinstance(event, PriceUpdate):
                seen.add(event.symbol)
                if len(seen) == 3:
                    break
        assert seen == {*"ABC"}


async def test_a_loss_of_one_connection_is_of_no_matter_to_the_others(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, config=NO_RETRY) as feed:
        homes = await settled(server)
        waiting(feed)
        homes["C"].drop()
        await wait_all_tasks_blocked()
        assert feed.state is S.RECONNECTING
        await homes["A"].send(price_message("A", "1.5", 1))
        await trio.sleep(5)
        assert feed.state is S.CONNECTED
        assert server.accepted == 4
        events = waiting(feed)
        changes = [e for e in events if isinstance(e, FeedStateChanged)]
        assert [(e.leg, e.new, e.epoch) for e in changes] == [
            (1, S.RECONNECTING, 1), (1, S.CONNECTED, 2),
        ]  # fmt: skip
        gaps = [e for e in events if isinstance(e, Gap)]
        assert {(e.symbol, e.reason, e.leg) for e in gaps} == {
            ("C", GapReason.RECONNECT, 1), ("D", GapReason.RECONNECT, 1),
        }  # fmt: skip
        assert [e.epoch for e in events if isinstance(e, PriceUpdate)] == [1]
        assert [leg.epoch for leg in feed.legs] == [1, 2, 1]


async def test_status_events_say_whose_they_are(
    autojump_clock: MockClock,
) -> None:
    async with (
        MockWebSocketServer(unknown_symbols=["F"]) as server,
        open_spread(server, "ABCDEF") as feed,
    ):
        homes = await settled(server)
        waiting(feed)
        await homes["D"].send("{")
        await homes["A"].send("{")
        feed.subscribe(["F"])
        await settled(server)
        events = waiting(feed)
        failed = [e.leg for e in events if isinstance(e, DecodeFailed)]
        assert sorted(failed) == [0, 1]
        assert sorted(e.leg or 0 for e in events if isinstance(e, Gap)) == [0, 1]
        assert [e.leg for e in events if isinstance(e, SubscriptionFailed)] == [2]


async def test_a_reconnect_that_is_asked_for_is_one_of_all(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        await settled(server)
        feed.reconnect()
        await trio.sleep(2)
        assert [leg.epoch for leg in feed.legs] == [2, 2, 2]


async def test_a_leg_rolls_over_on_its_own(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        homes = await settled(server)
        await homes["C"].send(NOTICE)
        await trio.sleep(20)
        assert [leg.epoch for leg in feed.legs] == [1, 2, 1]
        assert len(server.connections) == 3
        after = await settled(server)
        assert after["A"] is homes["A"]
        assert after["C"] is after["D"] is not homes["C"]


# --- subscribing ---------------------------------------------------------------------------------


async def test_a_new_symbol_goes_where_there_is_room_and_then_to_a_new_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        feed.subscribe(["F"])
        homes = await settled(server)
        assert homes["F"] is homes["E"]
        assert server.accepted == 3
        feed.subscribe(["G", "A"])
        homes = await settled(server)
        assert server.accepted == 4
        assert legs_of(feed)[-1] == (3, {"G"})
        assert [*homes["G"].subscriptions] == ["G"]
        assert all(len(c.subscriptions) <= 2 for c in server.connections.values())


async def test_a_further_channel_goes_to_the_symbols_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, "AC", limit=1) as feed:
        await settled(server)
        feed.subscribe(["B"])
        await settled(server)
        feed.unsubscribe(["B"])
    async with open_spread(server, "ABC", limit=3) as feed:
        await settled(server)
        feed.subscribe(["D"])
        feed.unsubscribe(["A", "D"])
        await settled(server)
        feed.subscribe(["B", "X"], channels=["book"])
        homes = await settled(server)
        assert "B" in homes["B"].subscriptions
        assert "B" in homes["B"].book_subscriptions


async def test_a_connection_that_is_left_empty_is_closed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        homes = await settled(server)
        await homes["C"].send(price_message("C", "1.5", 1))
        await settled(server)
        before = feed.statistics()
        waiting(feed)
        feed.unsubscribe(["C"])
        assert len(feed.legs) == 3
        feed.unsubscribe(["D"])
        assert [leg.number for leg in feed.legs] == [0, 2]
        await trio.sleep(3)
        assert len(server.connections) == 2
        assert 1000 in server.close_codes
        assert states(waiting(feed), 1) == [S.CLOSING, S.CLOSED]
        assert feed.state is S.CONNECTED
        after = feed.statistics()
        assert after.messages >= before.messages, "what it has seen is not forgotten"
        assert after.connections == 3
        feed.subscribe(["X", "Y"])
        homes = await settled(server)
        assert homes["X"] is homes["E"]
        assert legs_of(feed)[-1] == (3, {"Y"}), "a number is not given twice"


async def test_the_last_connection_stays_as_it_does_in_any_feed(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        await settled(server)
        feed.unsubscribe([*"ABCDE"])
        await trio.sleep(3)
        assert len(server.connections) == 1
        assert len(feed.legs) == 1
        feed.subscribe(["Z"])
        assert [*await settled(server)] == ["Z"]
        assert len(server.connections) == 1


async def test_a_connection_all_of_whose_symbols_are_refused_is_closed(
    autojump_clock: MockClock,
) -> None:
    async with (
        MockWebSocketServer(unknown_symbols=["C", "D"]) as server,
        open_spread(server) as feed,
    ):
        await trio.sleep(3)
        assert legs_of(feed) == [(0, {"A", "B"}), (2, {"E"})]
        assert len(server.connections) == 2
        events = waiting(feed)
        refused = [e for e in events if isinstance(e, SubscriptionFailed)]
        assert {e.error.symbol for e in refused} == {"C", "D"}
        closing = [e for e in events if isinstance(e, FeedStateChanged) and e.new is S.CLOSING]
        assert events.index(refused[-1]) < events.index(closing[0])


async def test_what_was_subscribed_before_the_feed_has_begun_is_there(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with FeedHandler() as handler:
        feed = handler.add(venue(server, 2), [*"ABC"])
        feed.subscribe([*"DEFG"])
        feed.unsubscribe([*"AB"])
        homes = await settled(server)
        assert sorted(homes) == [*"CDEFG"]
        await trio.sleep(3)
        assert len(server.connections) == len(feed.legs) == 3


# --- giving up, closing --------------------------------------------------------------------------


async def give_up(server: MockWebSocketServer, connection: MockWebSocketConnection) -> None:
    server.failure_mode = Refusal()
    connection.drop()
    await trio.sleep(5)
    server.failure_mode = Rejection(503)
    await wait_all_tasks_blocked()


async def test_a_leg_that_gives_up_says_so_and_the_others_flow_on(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, config=NO_RETRY) as feed:
        homes = await settled(server)
        waiting(feed)
        await give_up(server, homes["C"])
        assert states(waiting(feed), 1)[-1] is S.DISCONNECTED
        assert feed.state is S.DISCONNECTED, "not all is well"
        (dead,) = [leg for leg in feed.legs if leg.state is S.DISCONNECTED]
        assert {s.symbol for s in dead.subscriptions.wanted} == {"C", "D"}
        await homes["A"].send(price_message("A", "1.5", 7))
        async for event in feed:
            if isinstance(event, PriceUpdate):
                assert event.sequence == 7
                break


async def test_what_was_on_a_leg_that_gave_up_can_be_subscribed_again(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, config=NO_RETRY) as feed:
        homes = await settled(server)
        await give_up(server, homes["C"])
        server.failure_mode = NONE
        feed.subscribe(["C"])
        homes = await settled(server)
        assert homes["C"] is homes["E"]
        assert legs_of(feed) == [(0, {"A", "B"}), (1, {"D"}), (2, {"C", "E"})]
        feed.subscribe(["D"])
        await settled(server)
        assert legs_of(feed) == [(0, {"A", "B"}), (2, {"C", "E"}), (3, {"D"})]
        assert feed.state is S.CONNECTED
        waiting(feed)
    events = waiting(feed)
    assert not [e for e in events if isinstance(e, FeedStateChanged) and e.leg == 1]


async def test_the_first_error_is_raised_when_no_leg_is_left(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    dead = set()
    async with open_spread(server, config=NO_RETRY) as feed:
        homes = await settled(server)
        server.failure_mode = Refusal()
        for connection in list(homes.values()):
            connection.drop()
        error: RetriesExhausted | None = None
        try:
            async for event in feed:
                if isinstance(event, FeedStateChanged) and event.new is S.DISCONNECTED:
                    dead.add(event.leg)
        except RetriesExhausted as raised:
            error = raised
    assert error is not None
    assert dead == {0, 1, 2}, "what was received comes first"


async def test_after_the_end_subscribing_changes_nothing(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = Refusal()
    async with open_spread(server, config=NO_RETRY) as feed:
        await trio.sleep(10)
        dialled = server.dialled
        feed.subscribe(["X", "Y", "Z"])
        feed.unsubscribe([*"ABCDE"])
        await trio.sleep(10)
        assert server.dialled == dialled
        with pytest.raises(RetriesExhausted):
            async for _ in feed:
                pass


async def test_cancelling_drops_every_leg_at_once(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    with trio.move_on_after(1) as scope:
        async with open_spread(server):
            await settled(server)
            for connection in server.connections.values():
                connection.answer_close = False
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert server.open_streams == 0


async def test_closing_is_bounded_whatever_the_legs_do(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server) as feed:
        await settled(server)
        for connection in server.connections.values():
            connection.answer_close = False
        feed.unsubscribe(["C", "D"])
        began = trio.current_time()
    assert trio.current_time() - began <= 2.1
    assert server.open_streams == 0


# --- bounds, books, other consumers --------------------------------------------------------------


async def test_the_bound_is_for_all_legs_together(
    autojump_clock: MockClock,
) -> None:
    config = FeedConfig(buffer_events=50)
    async with (
        MockWebSocketServer(buffer_bytes=4096) as server,
        open_spread(server, "ABC", limit=1, config=config) as feed,
        trio.open_nursery() as nursery,
    ):
        homes = await settled(server)
        for symbol in "ABC":
            texts = [price_message(symbol, "1.5", n) for n in range(6000)]
            nursery.start_soon(homes[symbol].send_many, texts)
        await trio.sleep(100)
        assert 50 <= feed.waiting < 50 + 4096 / 60, "at most one read more"
        assert feed.state is S.CONNECTED
        seen: dict[str, list[int]] = {symbol: [] for symbol in "ABC"}
        async for event in feed:
            if isinstance(event, PriceUpdate):
                seen[event.symbol].append(event.sequence)
                if sum(map(len, seen.values())) == 18_000:
                    break
        assert all(numbers == [*range(6000)] for numbers in seen.values())


async def test_what_is_dropped_of_any_leg_is_announced(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=10)
    async with open_spread(server, "AB", limit=1, config=config) as feed:
        homes = await settled(server)
        for number in range(30):
            for symbol in "AB":
                await homes[symbol].send(price_message(symbol, "1.5", number))
            await trio.sleep(1)
        events = waiting(feed)
        assert states(events, 0) == states(events, 1) == [S.CONNECTED], "the newest of each"
        gaps = {e.symbol: e for e in events if isinstance(e, Gap)}
        for symbol in "AB":
            left = [e.sequence for e in events if isinstance(e, PriceUpdate) and e.symbol == symbol]
            assert left[-1] == 29
            assert (gaps[symbol].from_sequence, gaps[symbol].to_sequence) == (0, left[0] - 1)


async def test_a_slow_consumer_that_is_cut_off_ends_every_leg(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DISCONNECT, buffer_events=20)
    async with open_spread(server, "AB", limit=1, config=config) as feed:
        homes = await settled(server)
        for number in range(30):
            await homes["A"].send(price_message("A", "1.5", number))
            await wait_all_tasks_blocked()
            if feed.state is not S.CONNECTED:
                break
        await trio.sleep(5)
        assert not server.connections
        with pytest.raises(SlowConsumer):
            async for _ in feed:
                pass


async def test_books_of_one_leg_are_stale_while_those_of_others_are_not(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for symbol in "AB":
        server.books[symbol] = MockBook.drawn(symbol, Random(symbol))
    async with open_spread(server, "AB", limit=1, channels=["book"], config=NO_RETRY) as feed:
        homes = await settled(server)
        with feed.subscriber() as other:
            waiting(feed)
            images = [e for e in other.take() or [] if isinstance(e, BookSnapshot)]
            images += [e for e in other.take() or [] if isinstance(e, BookSnapshot)]
            assert sorted((e.symbol, e.leg) for e in images) == [("A", 0), ("B", 1)]
            assert trusts(feed) == {"A": Trust.VERIFIED, "B": Trust.VERIFIED}
            server.failure_mode = Refusal()
            homes["B"].drop()
            await wait_all_tasks_blocked()
            events = waiting(feed)
            assert trusts(feed) == {"A": Trust.VERIFIED, "B": Trust.STALE}
            shelf = BookShelf()
            shelf.fold([*images, *events])
            tops = {symbol: shelf.top(symbol) for symbol in "AB"}
            assert {s: top and top.trust for s, top in tops.items()} == trusts(feed)
            server.failure_mode = NONE
            await trio.sleep(2)
            waiting(feed)
            assert trusts(feed) == {"A": Trust.VERIFIED, "B": Trust.VERIFIED}


def trusts(feed: Feed) -> dict[str, Trust | None]:
    tops = {symbol: feed.book(symbol) for symbol in "AB"}
    return {symbol: top and top.trust for symbol, top in tops.items()}


async def test_a_book_that_moves_to_another_leg_is_whole_there(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for symbol in "ABC":
        server.books[symbol] = MockBook.drawn(symbol, Random(symbol))
    async with open_spread(server, "ABC", limit=2, channels=["book"]) as feed:
        homes = await settled(server)
        assert homes["A"] is homes["B"] is not homes["C"]
        feed.unsubscribe(["A", "B"], channels=["book"])
        await trio.sleep(3)
        events = waiting(feed)
        ended = [e for e in events if isinstance(e, Gap) and e.reason is GapReason.UNSUBSCRIBED]
        assert [(e.symbol, e.leg) for e in ended] == [("A", 0), ("B", 0)]
        assert feed.book("A", depth=1) is not None
        feed.subscribe(["A"], channels=["book"])
        homes = await settled(server)
        assert homes["A"] is homes["C"]
        snapshots = [e for e in waiting(feed) if isinstance(e, BookSnapshot)]
        assert [(e.symbol, e.leg) for e in snapshots] == [("A", 1)]
        top = feed.book("A")
        assert top is not None
        assert top.trust is Trust.VERIFIED


async def test_the_same_seed_gives_the_same_run(
    autojump_clock: MockClock,
) -> None:
    async def run() -> list[str]:
        async with MockWebSocketServer() as server:
            config = FeedConfig(backoff=BackoffConfig(max_retries=0), breaker=None)
            async with open_spread(server, config=config) as feed:
                await settled(server)
                for _ in range(4):
                    for connection in list(server.connections.values()):
                        connection.drop()
                    await trio.sleep(3)
                changes = [e for e in waiting(feed) if isinstance(e, FeedStateChanged)]
                return [
                    f"{e.leg} {e.new.name} {e.epoch} {(e.next_attempt_ns or 0) - e.recv_ns}"
                    for leg in range(3)
                    for e in changes
                    if e.leg == leg and e.next_attempt_ns is not None
                ]

    first, second = await run(), await run()
    assert len(first) > 10
    assert first == second
    delays = [line.split()[-1] for line in first]
    assert len(set(delays)) == len(delays), "no two legs draw the same"


async def test_a_book_whose_deltas_were_dropped_is_told_anew_from_its_own_leg(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for symbol in "AB":
        server.books[symbol] = MockBook.drawn(symbol, Random(symbol))
    config = FeedConfig(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=8)
    async with open_spread(server, "AB", limit=1, channels=["book"], config=config) as feed:
        homes = await settled(server)
        waiting(feed)
        for _ in range(30):
            await homes["B"].send_messages([server.next_delta("B")])
            await wait_all_tasks_blocked()
        events = waiting(feed)
        images = [e for e in events if isinstance(e, BookSnapshot)]
        assert [(e.symbol, e.leg, e.sequence) for e in images][-1:] == [
            ("B", 1, server.books["B"].sequence)
        ]
        assert trusts(feed) == {"A": Trust.VERIFIED, "B": Trust.VERIFIED}


async def test_a_leg_that_has_given_up_is_not_closed_once_more(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_spread(server, config=NO_RETRY) as feed:
        homes = await settled(server)
        await give_up(server, homes["C"])
        waiting(feed)
    assert states(waiting(feed), 1) == []
    assert feed.state is S.CLOSED


async def test_the_coverage_of_a_book_is_that_of_its_own_leg(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for symbol in "AB":
        server.books[symbol] = MockBook.drawn(symbol, Random(symbol))
    async with open_spread(server, "AB", limit=1, channels=["book"], config=NO_RETRY) as feed:
        homes = await settled(server)
        await give_up(server, homes["B"])
        await trio.sleep(10)
        told = feed.coverage()
        assert told["A"].seconds[Trust.STALE] == 0
        assert told["A"].seconds[Trust.VERIFIED] > 10
        assert told["B"].seconds[Trust.STALE] > 10


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_subscribed_lost_and_rolled_over_the_limit_holds(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    limit = rng.choice([1, 2, 3, 5])
    most = 0

    class Watcher:
        def happened(self, attempt: int, event: str) -> None:
            nonlocal most
            for connection in server.connections.values():
                count = len(connection.subscriptions) + len(connection.book_subscriptions)
                most = max(most, count)

        def sent(self, attempt: int, message: dict[str, Any], *, intact: bool) -> None: ...

        def requested(self, attempt: int, kind: str, symbols: Sequence[str]) -> None: ...

        def fired(self, placed: object, attempt: int) -> None: ...

        def removed(self, placed: object) -> None: ...

    config = FeedConfig(
        backoff=BackoffConfig(max_retries=0), breaker=None, ack_deadline_s=1.0,
        rollover_overlap_s=1.0,
    )  # fmt: skip
    traits = VenueTraits(limits=Limits(subscriptions=limit, per_message=3, messages_per_s=20))
    async with MockWebSocketServer(seed=seed) as server:
        server.observer = Watcher()
        market = PriceVenue(server.url, dial=server.dial, traits=traits)
        wanted = {Subscription("price", "A")}
        async with open_feed(
            market, ["A"], config=config, clock=VirtualClock(), rng=Random(seed)
        ) as feed:
            for _ in range(60):
                names = rng.sample("ABCDEFGHIJKL", rng.randint(1, 4))
                channel = rng.choice(["price", "book"])
                these = {Subscription(channel, name) for name in names}
                for name in names:
                    server.books.setdefault(name, MockBook.drawn(name, Random(name)))
                alive = list(server.connections.values())
                match rng.randrange(6):
                    case 0 | 1:
                        feed.subscribe(names, channels=[channel])
                        wanted |= these
                    case 2 | 3:
                        feed.unsubscribe(names, channels=[channel])
                        wanted -= these
                    case 4 if alive:
                        rng.choice(alive).drop()
                    case 5 if alive:
                        with contextlib.suppress(trio.ClosedResourceError):
                            await rng.choice(alive).send(NOTICE)
                    case _:
                        pass
                waiting(feed)
                await trio.sleep(rng.choice([0.0, 0.01, 0.5, 3.0]))
            await trio.sleep(60)
            assert feed.subscriptions.wanted == wanted
            assert feed.subscriptions.confirmed == wanted
            sent = [
                Subscription(channel, symbol)
                for connection in server.connections.values()
                for channel, has in (
                    ("price", connection.subscriptions), ("book", connection.book_subscriptions),
                )
                for symbol in has
            ]  # fmt: skip
            assert sorted(sent, key=str) == sorted(wanted, key=str), "each once"
            assert len(server.connections) == len(feed.legs)
            assert (
                all(len(leg.subscriptions.wanted) > 0 for leg in feed.legs) or len(feed.legs) == 1
            )
        assert most == limit, "reached, and never passed"
        assert server.open_streams == 0


async def test_channels_at_several_addresses_are_one_feed(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as prices, MockWebSocketServer() as books:
        for symbol in "AB":
            books.books[symbol] = MockBook(symbol, {"10": "1"}, {"11": "3"}, sequence=7)
        split = SplitPrices(venue(prices, 100), venue(books, 100))
        assert isinstance(split, SplitVenue)
        async with open_feed(
            split, ["A"], channels=["price", "book"], clock=VirtualClock()
        ) as feed:
            assert [leg.number for leg in feed.legs] == [0, 1]
            assert set(await settled(prices)) == set(await settled(books)) == {"A"}
            feed.subscribe(["B"], channels=["price"])
            feed.subscribe(["B"], channels=["book"])
            assert set(await settled(prices)) == set(await settled(books)) == {"A", "B"}
            assert len(feed.legs) == 2, "each goes where its channel is"
            await (await settled(prices))["A"].send(price_message("A", "1", 1))
            await trio.sleep(0.1)
            events = waiting(feed)
            assert [e.price for e in events if isinstance(e, PriceUpdate)] == [1]
            assert {e.symbol for e in events if isinstance(e, BookSnapshot)} == {"A", "B"}
            assert feed.book("B") is not None
            feed.unsubscribe(["A", "B"], channels=["book"])
            await trio.sleep(0.1)
            assert len(feed.legs) == 1
            assert not books.connections
            feed.subscribe(["A"], channels=["book"])
            assert set(await settled(books)) == {"A"}
