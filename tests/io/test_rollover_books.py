"""Order books through a change of connection: none goes back, none is forgotten, none is left."""

from __future__ import annotations

import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    ConnectionState,
    Event,
    Feed,
    FeedConfig,
    FeedStateChanged,
    Gap,
    GapReason,
    PriceUpdate,
    PriceVenue,
    SubscriptionFailed,
    Trust,
    open_feed,
)
from feedhandler.abc import Subscription
from feedhandler.venues.price import InflatingSession, PriceSession
from feedhandler_testing import (
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    VirtualClock,
    price_message,
)

NOTICE = '{"type":"reconnect","reason":"maintenance"}'
SUBSCRIBED = '{"type":"subscribed","channel":"book","symbols":["A"]}'


SESSIONS: weakref.WeakSet[object] = weakref.WeakSet()


class Watched(PriceVenue):
    """Notes its sessions in `SESSIONS`, from where they go when nothing else holds them."""

    def session(self) -> PriceSession | InflatingSession:
        session = super().session()
        SESSIONS.add(session)
        return session


class Reader:
    """Reads a feed to its end, and keeps the books as any other reader of the events would."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[Event] = []
        self.shelf = BookShelf()

    async def run(self) -> None:
        async for event in self.feed:
            self.events.append(event)  # others look while it is filled
            self.shelf.fold([event])

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    @property
    def epochs(self) -> list[int]:
        """Those of the connections that served, in order."""
        states = [event for event in self.events if isinstance(event, FeedStateChanged)]
        told = [state.epoch for state in states if state.new is ConnectionState.CONNECTED]
        return [*dict.fromkeys(told)]

    def trusted(self, symbol: str, sequence: int) -> bool:
        """Whether the book is whole, at that number, for the feed and for a reader alike."""
        top, other = self.feed.book(symbol), self.shelf.top(symbol)
        assert top == other
        return top is not None and (top.trust, top.sequence) == (Trust.VERIFIED, sequence)


@contextlib.asynccontextmanager
async def reading(
    server: MockWebSocketServer,
    symbols: Sequence[str] = ("A",),
    *,
    channel: str = "book",
    venue: PriceVenue | None = None,
    **settings: Any,
) -> AsyncIterator[Reader]:
    venue = venue or PriceVenue(server.url, dial=server.dial)
    async with (
        open_feed(venue, symbols, channels=[channel], clock=VirtualClock(), **settings) as feed,
        trio.open_nursery() as nursery,
    ):
        reader = Reader(feed)
        nursery.start_soon(reader.run)
        yield reader
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def next_connection(server: MockWebSocketServer) -> MockWebSocketConnection:
    connection = await server.next_connection()
    await connection.receive()  # its subscriptions
    await wait_all_tasks_blocked()
    return connection


async def gone(connection: MockWebSocketConnection) -> None:
    with trio.fail_after(120):
        await connection.wait_closed()
    await wait_all_tasks_blocked()


def a_book(symbol: str = "A") -> MockBook:
    return MockBook(symbol, {"10": "1", "9": "2"}, {"11": "3"}, sequence=7)


def as_text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


def changes(book: MockBook, count: int) -> list[str]:
    return [as_text(book.delta({"10": str(n)})) for n in range(2, 2 + count)]


async def send(connection: MockWebSocketConnection, *messages: str) -> None:
    await connection.send_many(list(messages))
    await wait_all_tasks_blocked()


async def test_what_the_old_connection_still_asks_for_does_not_end_the_new_one(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"] = a_book()
    async with reading(server) as reader:
        old = await next_connection(server)
        del server.books["A"]  # what is asked for again is acknowledged, and no snapshot follows
        _, after_the_hole = changes(book, 2)
        await send(old, after_the_hole)  # tries at 0, 5 and 10 s are given up at 15 s
        await trio.sleep(14.5)
        server.books["A"] = book
        old.stop_reading()  # it does not answer the Close, and so is there at 15 s
        await send(old, NOTICE)
        new = await next_connection(server)
        await trio.sleep(10)
        assert not new.closed
        assert server.dialled == 2
        assert reader.epochs == [1, 2]
        assert reader.trusted("A", 9)


async def test_connections_that_were_replaced_leave_no_books_behind(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.books["A"] = a_book()
    venue = Watched(server.url, dial=server.dial)
    async with reading(server, venue=venue) as reader:
        connection = await next_connection(server)
        for _ in range(20):
            await connection.send(NOTICE)
            connection = await next_connection(server)
            await trio.sleep(20)
        assert reader.epochs == [*range(1, 22)]
        gc.collect()
        assert len(SESSIONS) <= 2


async def test_a_book_that_was_not_to_be_had_before_the_switch_is_had_after_it(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    book = server.books["A"] = a_book()
    async with reading(server, config=FeedConfig(rollover_overlap_s=30.0)) as reader:
        old = await next_connection(server)
        del server.books["A"]
        await send(old, NOTICE)
        new = await next_connection(server)
        for _ in range(29):  # longer than the new connection's tries last
            await send(old, *changes(book, 1))
            await trio.sleep(1)
        assert not old.closed
        await gone(old)
        (gap,) = reader.gaps
        assert (gap.symbol, gap.reason, gap.of_book) == ("A", GapReason.RECONNECT, True)
        server.books["A"] = book  # whoever asks is answered now
        for _ in range(60):
            if not new.closed:
                await new.send_many(changes(book, 1))
            await trio.sleep(1)
        assert reader.trusted("A", book.sequence)


async def test_a_book_that_does_not_become_whole_after_the_switch_ends_the_new_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.books["A"] = a_book()
    async with reading(server) as reader:
        old = await next_connection(server)
        del server.books["A"]
        await send(old, NOTICE)
        new = await next_connection(server)
        await gone(old)
        assert not new.closed, "the book may still come"
        await gone(new)
        server.books["A"] = a_book()
        await next_connection(server)
        assert reader.epochs == [1, 2, 3]
        assert reader.trusted("A", 7)
    reasons = [event.reason for event in reader.events if isinstance(event, FeedStateChanged)]
    assert "forced disconnect: no book of A became whole in 3 tries" in reasons


async def test_a_connection_that_is_refused_what_the_old_one_delivers_does_not_take_over(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    books = server.books
    books["A"], books["B"] = a_book("A"), a_book("B")
    wanted = {Subscription("book", "A"), Subscription("book", "B")}
    async with reading(server, ["A", "B"]) as reader:
        old = await next_connection(server)
        server.unknown_symbols = frozenset({"A"})  # as where one connection at a time can have it
        await send(old, NOTICE)
        await trio.sleep(30)
        assert not old.closed
        assert reader.epochs == [1]
        await send(old, *changes(books["A"], 1))
        assert reader.trusted("A", 8)
        assert reader.feed.subscriptions.wanted == wanted
        server.unknown_symbols = frozenset()
        await gone(old)
        assert reader.feed.subscriptions.confirmed == wanted
        assert reader.trusted("A", 8)
        assert reader.trusted("B", 7)
    assert reader.gaps == []
    assert not [event for event in reader.events if isinstance(event, SubscriptionFailed)]


async def test_a_notice_that_comes_with_what_makes_the_new_connection_level_is_heeded(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.auto_ack = False
    subscribed = '{"type":"subscribed","symbols":["A"]}'
    async with reading(server, channel="price") as reader:
        old = await next_connection(server)
        await send(old, subscribed, price_message("A", "1.5", 1))
        await send(old, NOTICE)
        new = await next_connection(server)
        await send(new, subscribed, price_message("A", "1.5", 1), NOTICE)  # in one read
        await gone(new)
        assert not old.closed
        assert reader.epochs == [1]
        third = await next_connection(server)
        await send(third, subscribed, price_message("A", "1.5", 1), price_message("A", "2.5", 2))
        await gone(old)
        assert not third.closed
        assert reader.epochs == [1, 2]
        prices = [event for event in reader.events if isinstance(event, PriceUpdate)]
        assert [(price.sequence, price.epoch) for price in prices] == [(1, 1), (2, 2)]
    assert reader.gaps == []


async def test_a_book_does_not_go_back_when_the_old_connection_dies_ahead_of_the_new_one(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.auto_ack = False
    book = a_book()
    async with reading(server) as reader:
        old = await next_connection(server)
        await send(old, SUBSCRIBED, as_text(book.snapshot()))
        await send(old, NOTICE)
        new = await next_connection(server)
        snapshot, deltas = as_text(book.snapshot()), changes(book, 4)
        await send(old, *deltas)
        await send(new, SUBSCRIBED, snapshot)
        old.drop()
        await wait_all_tasks_blocked()
        top = reader.feed.book("A")
        assert top is not None
        assert (top.sequence, top.trust) == (11, Trust.SUSPECT)
        await send(new, *deltas[:2])
        assert reader.feed.book("A") == top, "still behind"
        await send(new, *deltas[2:])
        assert reader.trusted("A", 11)
        await send(new, *changes(book, 1))
        assert reader.trusted("A", 12)
    data = [event for event in reader.events if isinstance(event, BookSnapshot | BookDelta)]
    assert [(type(event), event.sequence, event.epoch) for event in data] == [
        (BookSnapshot, 7, 1),
        *[(BookDelta, n, 1) for n in (8, 9, 10, 11)],
        (BookSnapshot, 11, 2),
        (BookDelta, 12, 2),
    ]
    (gap,) = reader.gaps
    assert (gap.reason, gap.from_sequence, gap.of_book) == (GapReason.RECONNECT, 12, True)


async def test_a_loss_after_a_switch_without_a_book_is_told_from_where_the_book_was(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.auto_ack = False
    book = a_book()
    async with reading(server) as reader:
        connection = await next_connection(server)
        await send(connection, SUBSCRIBED, as_text(book.snapshot()))
        connection.drop()
        old = await next_connection(server)
        await send(old, SUBSCRIBED, as_text(book.snapshot()), *changes(book, 50))
        await send(old, NOTICE)
        new = await next_connection(server)
        await send(new, SUBSCRIBED)  # and no snapshot, for longer than the overlap
        await gone(old)
        assert reader.gaps[-1].from_sequence == 58
        new.drop()
        await next_connection(server)
    assert reader.epochs == [1, 2, 3, 4]
    assert [gap.from_sequence for gap in reader.gaps] == [8, 58, 58]
    assert all(gap.of_book and gap.reason is GapReason.RECONNECT for gap in reader.gaps)
