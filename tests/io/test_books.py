"""Order books through a whole feed: each way in which they go wrong is told, and mended."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    BookTop,
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
    Subscriber,
    SubscriptionFailed,
    Trust,
    TrustChanged,
    open_feed,
)
from feedhandler.abc import Subscription
from feedhandler_testing import (
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    VirtualClock,
    price_message,
)

SUBSCRIBE = '{"type":"subscribe","channel":"book","symbols":["%s"]}'
Message = dict[str, Any]


def open_books(
    server: MockWebSocketServer,
    symbols: Sequence[str] = ("A", "B"),
    channels: Sequence[str] = ("book",),
    **settings: Any,
) -> Any:
    venue = PriceVenue(server.url, dial=server.dial)
    return open_feed(venue, symbols, channels=channels, **{"clock": VirtualClock(), **settings})


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        for symbol in ("A", "B"):
            mock.books[symbol] = MockBook(symbol, {"10": "1", "9": "2"}, {"11": "3"}, sequence=7)
        yield mock


class Reader:
    """Reads a feed one by one, and holds `feed.book()` to what the events say, at each of them."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[Event] = []
        self._shelf = BookShelf()

    async def until(self, found: Callable[[Event], bool]) -> list[Event]:
        """Read on to the event that is `found`; returns those that were read."""
        with trio.fail_after(300):
            async for event in self.feed:
                self.events.append(event)
                self._shelf.fold([event])
                for symbol in ("A", "B"):
                    expected = self._shelf.top(symbol, depth=None)
                    assert self.feed.book(symbol, depth=None) == expected
                if found(event):
                    break
        read, self.events = self.events, []
        return read

    async def until_book(self, symbol: str, sequence: int) -> list[Event]:
        return await self.until(
            lambda event: (
                isinstance(event, BookSnapshot | BookDelta)
                and (event.symbol, event.sequence) == (symbol, sequence)
            )
        )

    async def begin(self) -> None:
        await self.until_book("B", 7)


async def send(connection: MockWebSocketConnection, *messages: Message) -> None:
    await connection.send_many([as_text(message) for message in messages])


def as_text(message: Message) -> str:
    return json.dumps(message, separators=(",", ":"))  # as venues write it, and the fast way wants


def levels(*pairs: tuple[str, str]) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((Decimal(price), Decimal(size)) for price, size in pairs)


def matches(top: BookTop | None, book: MockBook) -> bool:
    """Whether it is exactly the venue's book, and known to be."""
    assert top is not None
    same = (top.bids, top.asks) == (levels(*book.bids), levels(*book.asks))
    return same and top.trust is Trust.VERIFIED and top.sequence == book.sequence


def gaps(events: Sequence[Event]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap)]


# --- the books of FAULTS.md ----------------------------------------------------------------------


async def test_a_book_begins_with_a_snapshot_and_follows_its_deltas(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        connection = await server.next_connection()
        assert await connection.receive() == SUBSCRIBE.replace('"%s"', '"A","B"')
        assert feed.book("A") is None
        reader = Reader(feed)
        await reader.begin()
        assert matches(feed.book("A"), book)
        await send(connection, book.delta({"10": "0", "9.50": "4"}), book.delta({}, {"11": "1"}))
        await reader.until_book("A", 9)
        top = feed.book("A", depth=1)
        assert top is not None
        assert (top.bids, top.asks) == (levels(("9.50", "4")), levels(("11", "1")))
        assert (top.spread, top.mid, str(top.bids[0].price)) == (
            Decimal("1.5"), Decimal("10.25"), "9.50",
        )  # fmt: skip
        assert matches(feed.book("B"), server.books["B"])
        assert feed.subscriptions.confirmed == {Subscription("book", s) for s in "AB"}


async def test_46_a_sequence_gap_resyncs_that_symbol_only(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book, other = server.books["A"], server.books["B"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await connection.receive()
        await reader.begin()
        book.delta({"10": "5"})
        book.delta({"10": "6"})
        # The answer comes after B's delta, but B does not wait for it.
        await send(connection, book.delta({"10": "7"}), other.delta({"10": "9"}))
        events = await reader.until_book("B", 8)
        (gap,) = gaps(events)
        assert (gap.symbol, gap.reason, gap.of_book) == ("A", GapReason.SEQUENCE, True)
        assert (gap.from_sequence, gap.to_sequence, gap.missing) == (8, 9, 2)
        suspect = feed.book("A")
        assert suspect is not None
        assert (suspect.trust, suspect.sequence) == (Trust.SUSPECT, 7)
        assert matches(feed.book("B"), other)
        assert await connection.receive() == SUBSCRIBE % "A"
        assert not gaps(await reader.until_book("A", 10))
        assert matches(feed.book("A"), book)
        assert feed.statistics().connections == 1


async def test_47_duplicates_and_backward_numbers_are_dropped_and_counted(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        first, second = book.delta({"10": "5"}), book.delta({"10": "6"})
        await send(connection, first, second, second, first, book.delta({"9": "0"}))
        events = await reader.until_book("A", 10)
        assert [event.sequence for event in events if isinstance(event, BookDelta)] == [8, 9, 10]
        assert not gaps(events)
        assert matches(feed.book("A"), book)
        assert feed.statistics().ignored == 2


async def test_48_a_snapshot_older_than_the_deltas_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    book = MockBook("A", {"10": "1"}, {"11": "3"}, sequence=7)
    async with MockWebSocketServer(auto_ack=False) as server, open_books(server, ["A"]) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        assert await connection.receive() == SUBSCRIBE % "A"
        old = book.snapshot()
        book.delta({"10": "2"})
        acknowledged = {"type": "subscribed", "channel": "book", "symbols": ["A"]}
        await send(connection, acknowledged, book.delta({"10": "3"}), old)
        assert await connection.receive() == SUBSCRIBE % "A"
        assert feed.book("A") is None
        await send(connection, acknowledged, book.snapshot(), book.delta({"10": "4"}))
        events = await reader.until_book("A", 10)
        kinds = [type(event) for event in events if not isinstance(event, FeedStateChanged)]
        assert kinds == [BookSnapshot, BookDelta]
        assert matches(feed.book("A"), book)


async def test_49_and_50_deltas_around_the_snapshot_are_discarded_or_applied(
    autojump_clock: MockClock,
) -> None:
    book = MockBook("A", {"10": "1"}, {"11": "3"}, sequence=7)
    async with MockWebSocketServer(auto_ack=False) as server, open_books(server, ["A"]) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        early = [book.delta({"10": "2"}), book.delta({"10": "3"})]
        snapshot = book.snapshot()
        late = [book.delta({"10": "4"}), book.delta({"9": "1"})]
        await send(connection, *early, *late, snapshot, book.delta({"8": "1"}))
        events = await reader.until_book("A", 12)
        data = [event for event in events if isinstance(event, BookSnapshot | BookDelta)]
        assert [(type(event), event.sequence) for event in data] == [
            (BookSnapshot, 9), (BookDelta, 10), (BookDelta, 11), (BookDelta, 12),
        ]  # fmt: skip
        assert matches(feed.book("A"), book)


async def test_51_a_snapshot_in_mid_stream_replaces_the_book(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        await send(connection, book.replace({"20": "1"}, {"21": "1"}), book.delta({"20": "2"}))
        assert not gaps(await reader.until_book("A", 9))
        top = feed.book("A", depth=None)
        assert top is not None
        assert top.bids == levels(("20", "2"))
        assert matches(top, book)


@pytest.mark.parametrize("fault", ["checksum", "crossed"])
async def test_52_and_53_a_book_that_fails_its_check_is_rebuilt_and_no_other(
    autojump_clock: MockClock, server: MockWebSocketServer, fault: str
) -> None:
    book, other = server.books["A"], server.books["B"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await connection.receive()
        await reader.begin()
        message = book.delta({"10": "5"})
        if fault == "checksum":
            message["bids"] = [["10", "6"]]
        else:
            message["bids"] = [["11.5", "6"]]
        await send(connection, message, book.delta({"9": "7"}), other.delta({"9": "8"}))
        (gap,) = gaps(await reader.until_book("B", 8))
        assert (gap.symbol, gap.reason, gap.of_book) == ("A", GapReason(fault), True)
        assert (gap.from_sequence, gap.to_sequence) == (8, 8)
        suspect = feed.book("A")
        assert suspect is not None
        assert (suspect.trust, suspect.sequence) == (Trust.SUSPECT, 7)
        assert matches(feed.book("B"), other)
        assert await connection.receive() == SUBSCRIBE % "A"
        await reader.until_book("A", 9)
        assert matches(feed.book("A"), book)
        assert feed.statistics().connections == 1


async def test_a_book_without_a_checksum_is_unverifiable_but_its_sequence_is_checked(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    book.checked = False
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        message = book.delta({"10": "5"})
        del message["checksum"]
        await send(connection, message)
        await reader.until_book("A", 8)
        assert feed.book("A").trust is Trust.UNVERIFIABLE
        book.delta({"10": "6"})
        await send(connection, book.delta({"10": "7"}))
        assert len(gaps(await reader.until_book("A", 10))) == 1
        assert feed.book("A").trust is Trust.UNVERIFIABLE


async def test_a_malformed_book_message_is_of_its_symbol_only(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book, other = server.books["A"], server.books["B"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        await send(connection, {**book.delta({"10": "5"}), "asks": [["11"]]}, other.delta())
        events = await reader.until_book("B", 8)
        (failed,) = [event for event in events if isinstance(event, DecodeFailed)]
        assert [problem.path for problem in failed.error.problems] == ["$.asks[0]"]
        (gap,) = gaps(events)
        assert (gap.symbol, gap.reason, gap.of_book) == ("A", GapReason.MALFORMED, True)
        assert matches(feed.book("B"), other)
        await reader.until_book("A", 8)
        assert matches(feed.book("A"), book)
        # What cannot be read at all may have been of any book, until each goes on in order.
        await connection.send("{")
        await reader.until(lambda event: isinstance(event, Gap))
        assert [feed.book(symbol).trust for symbol in "AB"] == [Trust.SUSPECT] * 2
        await send(connection, book.delta(), other.delta())
        await reader.until_book("B", 9)
        assert matches(feed.book("A"), book)
        assert matches(feed.book("B"), other)


# --- the ladder ----------------------------------------------------------------------------------


async def test_a_book_that_does_not_become_whole_is_asked_for_thrice_and_then_reconnected(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books.pop("A")
    async with open_books(server, config=FeedConfig(ack_deadline_s=2.0)) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        begun = trio.current_time()
        await connection.receive()
        for n in range(1, 4):
            assert await connection.receive() == SUBSCRIBE % "A"
            assert trio.current_time() - begun == pytest.approx(2.0 * n)
        server.books["A"] = book
        await (await server.next_connection()).receive()
        assert trio.current_time() - begun == pytest.approx(8.0, abs=0.2)
        events = await reader.until_book("A", 7)
        (lost,) = [
            event
            for event in events
            if isinstance(event, FeedStateChanged) and event.new is ConnectionState.RECONNECTING
        ]
        assert "no book of A became whole in 3 tries" in lost.reason
        await reader.until_book("B", 7)
        assert matches(feed.book("A"), book)


async def test_a_venue_whose_snapshots_are_all_wrong_is_not_hammered(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    wrong = server.books["A"]
    wrong.snapshot = lambda *, ago=0: {**MockBook.snapshot(wrong), "checksum": 1}  # type: ignore[method-assign]  # the venue itself is wrong
    async with open_books(server, config=FeedConfig(ack_deadline_s=2.0)) as feed:
        connection = await server.next_connection()
        await trio.sleep(1.5)
        assert [await connection.receive() for _ in range(3)][1:] == [SUBSCRIBE % "A"] * 2
        with trio.move_on_after(0.2) as nothing_more:
            await connection.receive()
        assert nothing_more.cancelled_caught
        await Reader(feed).begin()
        assert feed.book("A") is None
        assert matches(feed.book("B"), server.books["B"])


async def test_a_book_that_breaks_after_each_snapshot_is_not_hammered(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_books(server) as feed:
        connection = await server.next_connection()
        asked = 0
        with trio.move_on_after(60):
            while True:
                asked += await connection.receive() == SUBSCRIBE % "A"
                await trio.sleep(0.05)
                await send(connection, {**server.books["A"].delta({"10": "4"}), "checksum": 1})
        assert 5 <= asked <= 9, "twice at once, then after 1, 2, 4, 8, 16, 30 s"
        assert feed.statistics().connections == 1
        assert feed.book("B") is None or feed.book("B").trust is Trust.VERIFIED


async def test_a_late_acknowledgement_does_not_stand_for_a_book(
    autojump_clock: MockClock,
) -> None:
    book = MockBook("A", {"10": "1"}, {"11": "3"}, sequence=7)
    acknowledged = {"type": "subscribed", "channel": "book", "symbols": ["A"]}
    config = FeedConfig(subscribe_pace_s=1.0)
    async with (
        MockWebSocketServer(auto_ack=False) as server,
        open_books(server, ["A"], config=config) as feed,
    ):
        reader = Reader(feed)
        connection = await server.next_connection()
        await connection.receive()
        await send(connection, {**book.snapshot(), "checksum": 1}, acknowledged)
        assert await connection.receive() == SUBSCRIBE % "A"
        assert trio.current_time() == pytest.approx(1.0), "paced, and before its deadline"
        await send(connection, book.snapshot())
        await reader.until_book("A", 7)
        # It is whole: that this request is not acknowledged does not end the connection.
        for n in range(1, 60):
            await trio.sleep(1)
            await send(connection, book.delta({"10": str(n)}))
        await reader.until_book("A", 66)
        assert feed.statistics().connections == 1


async def test_a_slow_consumer_is_no_reason_to_ask_again(autojump_clock: MockClock) -> None:
    config = FeedConfig(ack_deadline_s=2.0, buffer_events=4)
    async with (
        MockWebSocketServer(buffer_bytes=4096) as server,
        trio.open_nursery() as nursery,
        open_books(server, ["A"], ["price", "book"], config=config) as feed,
    ):
        connection = await server.next_connection()
        await connection.receive()
        prices = [price_message("A", "1", n) for n in range(5000)]
        nursery.start_soon(connection.send_many, prices)
        await trio.sleep(60)
        assert feed.statistics().connections == 1
        async for event in feed:
            if isinstance(event, PriceUpdate) and event.sequence == 4999:
                break
        assert await connection.receive() == SUBSCRIBE % "A"


# --- reconnects, and what is wanted --------------------------------------------------------------


async def test_a_reconnect_makes_books_stale_then_suspect_then_whole_again(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server, ["A"], ["price", "book"]) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.until_book("A", 7)
        await connection.send(price_message("A", "1", 500))
        await send(connection, book.delta({"10": "5"}))
        await reader.until_book("A", 8)
        connection.drop()
        book.delta({"10": "6"})
        found = []
        trusts = []
        while not (found and isinstance(found[-1], BookSnapshot)):
            found += await reader.until(lambda _: True)
            trusts.append(feed.book("A").trust)
        # down; up again, a gap of the prices, one of the book; and the snapshot
        assert trusts == [Trust.STALE, *[Trust.SUSPECT] * 3, Trust.VERIFIED]
        assert [(gap.of_book, gap.from_sequence, gap.reason) for gap in gaps(found)] == [
            (False, 501, GapReason.RECONNECT), (True, 9, GapReason.RECONNECT),
        ]  # fmt: skip
        assert matches(feed.book("A"), book)


async def test_prices_and_books_of_a_symbol_are_told_apart(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_books(server, ["A"], ["price", "book"]) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        requests = [await connection.receive() for _ in range(2)]
        assert requests == ['{"type":"subscribe","symbols":["A"]}', SUBSCRIBE % "A"]
        await connection.send_many([price_message("A", "1", n) for n in (1, 3)])
        await send(connection, server.books["A"].delta())
        events = await reader.until_book("A", 8)
        (gap,) = gaps(events)
        assert (gap.of_book, gap.from_sequence) == (False, 2)
        assert matches(feed.book("A"), server.books["A"]), "a hole in the prices is none of its own"
        feed.unsubscribe(["A"], channels=["book"])
        assert await connection.receive() == (SUBSCRIBE % "A").replace("sub", "unsub", 1)
        assert feed.book("A").trust is Trust.STALE
        server.books["A"].delta({"10": "9"})
        feed.subscribe(["A"], channels=["book"])
        (ended,) = gaps(await reader.until(lambda event: isinstance(event, Gap)))
        assert (ended.reason, ended.from_sequence) == (GapReason.UNSUBSCRIBED, 9)
        assert feed.book("A").trust is Trust.SUSPECT, "what was missed meanwhile is not known"
        await reader.until_book("A", 9)
        assert matches(feed.book("A"), server.books["A"])


async def test_a_refused_book_leaves_the_others(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(unknown_symbols=["XX"]) as server,
        open_books(server, ["XX", "A"]) as feed,
    ):
        server.books["A"] = MockBook("A", {"1": "1"})
        events = await Reader(feed).until_book("A", 0)
        (refused,) = [event for event in events if isinstance(event, SubscriptionFailed)]
        assert (refused.error.symbol, refused.error.channel) == ("XX", "book")
        assert feed.subscriptions.wanted == {Subscription("book", "A")}


async def test_a_silent_book_is_stale_and_subscribed_anew(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_books(
        server, ["A"], ["price", "book"], config=FeedConfig(symbol_stale_s=5.0)
    ) as feed:
        connection = await server.next_connection()
        for _ in range(2):
            await connection.receive()
        async for event in feed:
            if isinstance(event, BookSnapshot):
                break
        server.books["A"].delta({"10": "9"})
        for n in range(4):
            await connection.send(price_message("A", "1", n))
            await trio.sleep(1.3)
        assert feed.book("A").trust is Trust.STALE
        assert await connection.receive() == SUBSCRIBE % "A"
        async for event in feed:
            if isinstance(event, BookSnapshot):
                break
        assert matches(feed.book("A"), server.books["A"])


# --- where the reader is -------------------------------------------------------------------------


async def test_the_book_is_that_of_the_reader_and_not_of_the_network(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with FeedHandler(clock=VirtualClock()) as handler:
        venue = PriceVenue(server.url, dial=server.dial)
        one, two = (handler.add(venue, [s], channels=["book"]) for s in "AB")
        for _ in range(2):
            connection = await server.next_connection()
            if "A" in str(await connection.receive()):
                await send(connection, *(book.delta({"10": str(n)}) for n in range(1, 5)))
        await wait_all_tasks_blocked()
        assert one.book("A") is None, "nothing was read"
        seen = 0
        async for event in handler:
            if isinstance(event, BookSnapshot | BookDelta):
                seen += 1
                for symbol, feed in (("A", one), ("B", two)):
                    top = feed.book(symbol)
                    read = symbol == event.symbol
                    assert not read or (top is not None and top.sequence == event.sequence)
            if seen == 6:
                break
        assert matches(one.book("A"), book)
        batches = one.batches()
        connection = next(c for c in server.connections.values() if c.sent >= 4)
        await send(connection, book.delta(), book.delta())
        assert len(await anext(batches)) == 2
        assert matches(one.book("A"), book)


async def test_one_more_subscriber_begins_with_the_books_as_they_are(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        await Reader(feed).begin()
        connection = next(iter(server.connections.values()))
        with feed.subscriber() as extra:
            await send(connection, book.delta({"10": "4"}))
            shelf = BookShelf()
            async for event in extra:
                shelf.fold([event])
                if isinstance(event, BookDelta):
                    break
            assert matches(shelf.top("A"), book)
            assert matches(shelf.top("B"), server.books["B"])


async def test_one_more_subscriber_is_told_of_a_stale_book_that_it_is(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server, ["A"], config=FeedConfig(symbol_stale_s=5.0)) as feed:
        connection = await server.next_connection()
        await trio.sleep(1)
        server.lose_acks = 10  # it won't be subscribed anew
        while not any(isinstance(event, TrustChanged) for event in await anext(feed.batches())):
            pass
        assert feed.book("A").trust is Trust.STALE
        with feed.subscriber() as extra:
            shelf = BookShelf()
            shelf.fold(await anext(extra.batches()))
            assert shelf.top("A").trust is Trust.STALE
            await send(connection, book.delta({"10": "4"}))
            shelf.fold(await anext(extra.batches()))
            assert matches(shelf.top("A"), book), "the next message of the book tells"
        with feed.subscriber() as extra:
            [image] = await anext(extra.batches())
            assert image.trust is Trust.VERIFIED


async def test_what_is_on_its_way_of_a_book_that_has_ended_is_not_told(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        await reader.begin()
        connection = next(iter(server.connections.values()))
        server.auto_ack = False  # and so the venue goes on for a while
        feed.unsubscribe(["A"], channels=["book"])
        await send(connection, book.delta({"10": "4"}))
        await trio.sleep(100)
        await send(connection, {**book.delta({"10": "5"}), "checksum": 1}, book.snapshot())
        await send(connection, server.books["B"].delta({"10": "6"}))
        told: list[Event] = []
        while not told or not isinstance(told[-1], BookDelta):
            told += await anext(feed.batches())
        assert (told[-1].symbol, told[-1].sequence) == ("B", 8)
        [end] = [event for event in told if getattr(event, "symbol", None) == "A"]
        assert isinstance(end, Gap)
        assert end.reason is GapReason.UNSUBSCRIBED
        coverage = feed.coverage()["A"]
        assert sum(coverage.seconds.values()) < 1, "a book that has ended costs no time"
        assert coverage.messages[Trust.VERIFIED] == 1


async def test_a_book_that_ends_and_begins_at_once_goes_on(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"]
    async with open_books(server) as feed:
        reader = Reader(feed)
        await reader.begin()
        connection = next(iter(server.connections.values()))
        await connection.receive()
        feed.unsubscribe(["A"], channels=["book"])
        feed.subscribe(["A"], channels=["book"])
        await send(connection, book.delta({"10": "4"}))
        told = await reader.until_book("A", 8)
        assert [type(event) for event in told] == [Gap, BookSnapshot, BookDelta]
        assert matches(feed.book("A"), book)
        with trio.move_on_after(100):
            await connection.receive()
            raise AssertionError("there is nothing to ask for")
        assert feed.coverage()["A"].time_share(Trust.VERIFIED) > 0.99


async def test_a_subscriber_of_a_feed_that_is_down_begins_with_no_book(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_books(server) as feed:
        reader = Reader(feed)
        await reader.begin()
        server.reject_next(503, times=2)
        next(iter(server.connections.values())).drop()
        await reader.until(lambda event: isinstance(event, FeedStateChanged))
        with feed.subscriber() as extra:
            shelf = BookShelf()
            async for event in extra:
                shelf.fold([event])
                if isinstance(event, BookSnapshot) and event.symbol == "B":
                    break
                assert shelf.top("B") is None
            assert matches(shelf.top("B"), server.books["B"])


# --- slow readers --------------------------------------------------------------------------------


async def test_conflating_a_book_gives_the_newest_image(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.CONFLATE, buffer_events=10)
    book = server.books["A"]
    async with open_books(server, config=config) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        await send(connection, *(book.delta({"10": str(n)}) for n in range(1, 30)))
        await wait_all_tasks_blocked()
        events = await reader.until_book("A", 36)
        (gap,) = gaps(events)
        assert (gap.reason, gap.of_book, gap.missing) == (GapReason.CONFLATED, True, 29)
        assert (gap.from_sequence, gap.to_sequence) == (8, 36)
        assert [type(event) for event in events] == [Gap, BookSnapshot]
        assert matches(feed.book("A"), book)
        await send(connection, book.delta({"10": "7"}))
        await reader.until_book("A", 37)
        assert matches(feed.book("A"), book)


async def test_what_follows_dropped_deltas_is_suspect_until_the_image(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=10)
    book = server.books["A"]
    async with open_books(server, config=config) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        await send(connection, *(book.delta({"10": str(n)}) for n in range(1, 30)))
        await wait_all_tasks_blocked()
        events = await reader.until(lambda event: isinstance(event, BookSnapshot))
        gap, *deltas, image = events
        assert isinstance(gap, Gap)
        assert (gap.from_sequence, gap.to_sequence, gap.of_book) == (8, 26, True)
        assert [(d.sequence, d.trust) for d in deltas if isinstance(d, BookDelta)] == [
            (n, Trust.SUSPECT) for n in range(27, 37)
        ]
        assert isinstance(image, BookSnapshot)
        assert matches(feed.book("A"), book)


async def test_an_image_is_not_made_of_a_book_that_is_not_whole(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=5)
    book = server.books["A"]
    async with open_books(server, config=config) as feed:
        reader = Reader(feed)
        connection = await server.next_connection()
        await reader.begin()
        server.books.pop("A")  # so the answer to the resync is none
        deltas = [book.delta({"10": str(n)}) for n in range(1, 20)]
        await send(connection, *deltas, {**book.delta(), "checksum": 1})
        await wait_all_tasks_blocked()
        events = await reader.until(lambda event: isinstance(event, Gap))
        events += await reader.until(
            lambda event: isinstance(event, Gap) and event.reason is GapReason.CHECKSUM
        )
        assert feed.book("A").trust is Trust.SUSPECT
        await send(connection, book.snapshot())
        await reader.until_book("A", book.sequence)
        assert matches(feed.book("A"), book)


@pytest.mark.parametrize("policy", [OverflowPolicy.DROP_OLDEST, OverflowPolicy.CONFLATE])
@pytest.mark.parametrize("seed", range(20))
async def test_no_slow_reader_trusts_a_wrong_book(
    autojump_clock: MockClock, policy: OverflowPolicy, seed: int
) -> None:
    """A subscriber alone, a venue's book, and a reader that looks in now and then."""
    rng = Random(seed)
    book = MockBook("A", {"10": "1"}, {"20": "1"}, sequence=0)
    venue = PriceVenue("ws://host/")
    session = venue.session()
    history = {}
    subscriber = Subscriber(limit=8, policy=policy, image=session.book_image)
    shelf = BookShelf()

    def take_all() -> None:
        while (events := subscriber.take()) is not None:
            for event in events:
                shelf.fold([event])
                top = shelf.top("A", depth=None)
                if top is not None and top.trust is Trust.VERIFIED:
                    assert (top.bids, top.asks) == history[top.sequence]
            if rng.random() < 0.2:
                return

    for _ in range(600):
        kind = rng.random()
        events: list[Event] = []
        for _ in range(rng.randint(1, 6)):
            if kind < 0.1:
                message = book.snapshot()
            elif kind < 0.15:
                book.delta({"9": str(rng.randint(0, 2))})  # lost on the way
                message = book.delta()
            else:
                message = book.delta({str(rng.randint(1, 12)): str(rng.randint(0, 3))})
            history[book.sequence] = levels(*book.bids), levels(*book.asks)
            items = session.decode(as_text(message), recv_ns=1, epoch=1)
            events += [one for one in items if isinstance(one, BookSnapshot | BookDelta | Gap)]
        if events:
            subscriber.post(events)
        if rng.random() < 0.3:
            take_all()
    items = session.decode(json.dumps(book.snapshot()), recv_ns=1, epoch=1)
    subscriber.post([one for one in items if isinstance(one, BookSnapshot)])
    while subscriber.ready:
        take_all()
    assert matches(shelf.top("A", depth=None), book), "and in the end it is whole"


async def test_a_book_that_is_silent_by_its_own_rhythm_is_stale_and_asked_for(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_books(server) as feed:
        connection = await server.next_connection()
        reader = Reader(feed)
        await reader.begin()
        for _ in range(25):  # A comes each second, B never
            await trio.sleep(1)
            await send(connection, server.books["A"].delta({"10": "5"}))
        await reader.until_book("A", 32)
        before = trio.current_time()
        read = await reader.until(lambda event: isinstance(event, TrustChanged))
        assert trio.current_time() - before == pytest.approx(30, abs=1.5)
        assert [event.symbol for event in read] == ["A"]
        stale = feed.book("A")
        assert stale is not None
        assert stale.trust is Trust.STALE
        assert feed.book("B").trust is Trust.VERIFIED, "which is always quiet"
        snapshot = (await reader.until_book("A", 32))[-1]
        assert isinstance(snapshot, BookSnapshot)
        assert feed.book("A").trust is Trust.VERIFIED
        coverage = feed.coverage()["A"]
        assert coverage.time_share(Trust.STALE) < 0.01
        assert coverage.time_share(Trust.VERIFIED) > 0.99
        assert coverage.messages[Trust.VERIFIED] == 27
        assert feed.statistics().connections == 1
