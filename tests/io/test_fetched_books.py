"""Books whose snapshots come over REST, through a whole feed: whatever REST does, none is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BookDelta,
    BookSnapshot,
    Event,
    Feed,
    FeedConfig,
    Gap,
    GapReason,
    Quote,
    SnapshotFailed,
    SubscriptionFailed,
    Trade,
    Trust,
    open_feed,
)
from feedhandler._io.snapshots import SnapshotDesk
from feedhandler.abc import HttpResponse, Subscription
from feedhandler.errors import DecodeError, FetchFailed
from feedhandler_testing import MockWebSocketConnection, MockWebSocketServer, VirtualClock
from feedhandler_testing.dialect import dialect_by_name

BTC, ETH = "BTC-USDT", "ETH-USDT"
JSON = (("Content-Type", "application/json"),)
INVALID = HttpResponse(400, JSON, b'{"code":-1121,"msg":"Invalid symbol."}')
PAGE = HttpResponse(502, (), b"<html><body>Bad Gateway</body></html>")
Answer = Callable[[str], Any]


class Rest:
    """REST that answers as it is told to, each answer once, and then as the mock venue does."""

    def __init__(self, server: MockWebSocketServer) -> None:
        self._server = server
        self.script: dict[str, list[Any]] = {}  # by the venue's symbol
        self.asked: list[tuple[str, float]] = []
        self.under_way = 0

    async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
        symbol = parse_qs(urlsplit(url).query)["symbol"][0]
        self.asked.append((symbol, trio.current_time()))
        script = self.script.get(symbol)
        if not script:
            return await self._server.fetch(url, max_bytes=max_bytes)
        step = script.pop(0)
        if isinstance(step, HttpResponse):
            await trio.lowlevel.checkpoint()
            return step
        if isinstance(step, FetchFailed):
            raise step
        self.under_way += 1
        try:
            answer: HttpResponse = await step(url)
            return answer
        finally:
            self.under_way -= 1

    def times(self, symbol: str) -> list[float]:
        return [at for asked, at in self.asked if asked == symbol]


class Market:
    """A feed of books, its mock venue, and REST between them."""

    def __init__(self, server: MockWebSocketServer, feed: Feed, rest: Rest) -> None:
        self.server = server
        self.feed = feed
        self.rest = rest
        self.events: list[Event] = []
        self.connection: MockWebSocketConnection

    async def ready(self) -> None:
        self.connection = await self.server.next_connection()
        await wait_all_tasks_blocked()

    async def change(self, *symbols: str) -> None:
        """The books change once, and the changes are sent."""
        for symbol in symbols:
            await self.connection.send_messages([self.server.next_delta(symbol)])

    async def read(self, seconds: float = 0.01) -> list[Event]:
        """What comes in that time."""
        new: list[Event] = []
        with trio.move_on_after(seconds):
            async for events in self.feed.batches():
                new += events
        self.events += new
        for symbol in (BTC, ETH):
            self.check(symbol)
        return new

    def check(self, symbol: str) -> None:
        """A book that is told to be verified is a book that the venue has had."""
        top = self.feed.book(symbol, depth=None)
        if top is not None and top.trust is Trust.VERIFIED:
            number = self.server.dialect.book_number(symbol, top.sequence)
            assert number is not None
            ago = self.server.books[symbol].sequence - number
            then = self.server.next_snapshot(symbol, ago=ago)
            assert then is not None
            sides = [[(f"{p}", f"{s}") for p, s in side] for side in (top.bids, top.asks)]
            assert sides == [[tuple(level) for level in then[side]] for side in ("bids", "asks")]

    def is_whole(self, symbol: str) -> bool:
        top = self.feed.book(symbol)
        number = None if top is None else top.sequence
        newest = self.server.books[symbol].sequence
        return (
            top is not None
            and top.trust is Trust.VERIFIED
            and self.server.dialect.book_number(symbol, number) == newest
        )

    def body(self, symbol: str, *, ago: int = 0) -> HttpResponse:
        """What REST would answer now, or would have `ago` messages ago."""
        message = self.server.next_snapshot(symbol, ago=ago)
        request = {"type": "snapshot", "symbol": symbol, "limit": 1000}
        return self.server.dialect.rest_answer(request, message, self.server.listing)


Open = Callable[..., Any]


@pytest.fixture(params=["binance", "binance_futures"])
def opened(request: pytest.FixtureRequest) -> Open:
    @asynccontextmanager
    async def open_market(
        channels: tuple[str, ...] = ("book",), **settings: Any
    ) -> AsyncIterator[Market]:
        async with MockWebSocketServer(dialect=dialect_by_name(request.param)) as server:
            server.list_symbols([BTC, ETH])
            for symbol in (BTC, ETH):
                for _ in range(20):
                    server.next_delta(symbol)
            rest = Rest(server)
            venue = evolve(server.venue([BTC, ETH]), fetch=rest)  # type: ignore[type-var]  # a frozen value, as all venues are
            config = FeedConfig(**settings)
            async with open_feed(
                venue, [BTC, ETH], channels=channels, clock=VirtualClock(), config=config
            ) as feed:
                market = Market(server, feed, rest)
                await market.ready()
                yield market

    return open_market


def kinds(events: list[Event], kind: type, symbol: str | None = None) -> list[Any]:
    return [e for e in events if isinstance(e, kind) and symbol in (None, getattr(e, "symbol", 0))]


async def test_books_begin_over_rest_when_their_first_delta_comes(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        assert market.rest.asked == []
        await market.change(BTC)
        events = await market.read()
        assert len(kinds(events, BookSnapshot)) == 1
        assert market.is_whole(BTC)
        assert market.feed.book(ETH) is None
        await market.change(BTC, ETH, BTC)
        await market.read()
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)
        assert len(market.rest.asked) == 2
        assert market.feed.coverage()[BTC]


async def test_a_quiet_book_is_fetched_too(autojump_clock: MockClock, opened: Open) -> None:
    """It can't be verified before the stream says anything, and is then."""
    async with opened() as market:
        await market.read(20)
        top = market.feed.book(BTC)
        assert top is not None
        assert top.trust is Trust.UNVERIFIABLE
        assert not kinds(market.events, Gap)
        await market.change(BTC)
        await market.read()
        assert market.is_whole(BTC)
        assert market.feed.statistics().connections == 1
        assert len(market.rest.times("BTCUSDT")) == 1


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_an_error_page_is_told_in_its_words_and_tried_again(
    autojump_clock: MockClock, opened: Open, status: int
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [evolve(PAGE, status=status), evolve(PAGE, status=status)]
        await market.change(BTC, ETH)
        events = await market.read(60)
        failed = kinds(events, SnapshotFailed)
        assert [e.symbol for e in failed] == [BTC, BTC]
        assert isinstance(failed[0].error, FetchFailed)
        assert failed[0].error.status == status
        assert "Bad Gateway" in str(failed[0].error)
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)
        assert market.feed.statistics().connections == 1


async def test_a_page_that_says_it_is_right_is_no_snapshot(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [evolve(PAGE, status=200)]
        await market.change(BTC)
        [failed] = kinds(await market.read(60), SnapshotFailed)
        assert isinstance(failed.error, DecodeError)
        assert market.is_whole(BTC)
        assert market.feed.statistics().decode_errors == 1


async def test_a_limit_is_kept_for_as_long_as_the_venue_asks(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        answer = HttpResponse(429, (("Retry-After", "7"),), b'{"code":-1003,"msg":"Too many."}')
        market.rest.script["BTCUSDT"] = [answer]
        await market.change(BTC)
        await market.read()
        await market.change(ETH)
        events = await market.read(40)
        [failed] = kinds(market.events, SnapshotFailed, BTC)
        assert failed.error.retry_after_s == 7
        assert "Too many." in str(failed.error)
        assert not kinds(events, SubscriptionFailed)
        first, *later = [at for _, at in market.rest.asked]
        assert later
        assert min(later) >= first + 7  # also for the other book
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)


async def test_what_is_too_large_is_told(autojump_clock: MockClock, opened: Open) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [HttpResponse(200, JSON, b" " * (17 * 2**20))]
        await market.change(BTC)
        [failed] = kinds(await market.read(60), SnapshotFailed)
        assert isinstance(failed.error, FetchFailed)
        assert "16,777,216" in str(failed.error)
        assert market.is_whole(BTC)


async def test_what_comes_too_late_is_given_up_and_asked_for_anew(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:

        async def never(url: str) -> HttpResponse:
            await trio.sleep_forever()
            raise AssertionError

        market.rest.script["BTCUSDT"] = [never]
        await market.change(BTC, ETH)
        events = await market.read(9)
        assert market.is_whole(ETH)  # it did not wait for the other
        assert market.rest.under_way == 1
        events += await market.read(60)
        [failed] = kinds(events, SnapshotFailed)
        assert "no answer within 10 s" in str(failed.error)
        assert market.rest.under_way == 0
        assert market.is_whole(BTC)


async def test_a_late_answer_is_right_where_the_stream_was_kept(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        answer = market.body(BTC)

        async def late(url: str) -> HttpResponse:
            await trio.sleep(4)
            return answer

        market.rest.script["BTCUSDT"] = [late]
        for _ in range(30):
            await market.change(BTC, ETH)
            await market.read(0.1)
        assert market.feed.book(BTC) is None
        await market.read(2)
        assert market.is_whole(BTC)
        assert len(market.rest.times("BTCUSDT")) == 1


async def test_a_stale_snapshot_is_not_told_and_the_next_one_is_taken(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [market.body(BTC, ago=6)]
        await market.change(BTC)
        events = await market.read(10)
        assert not kinds(events, Gap)
        assert len(kinds(events, BookSnapshot, BTC)) == 1
        assert market.is_whole(BTC)
        first, second = market.rest.times("BTCUSDT")
        assert second - first < 1  # the second try is at once


async def test_a_venue_that_has_only_stale_snapshots_is_not_hammered(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [market.body(BTC, ago=6)] * 1000
        with suppress(trio.ClosedResourceError):
            for _ in range(600):
                await market.change(BTC, ETH)
                await market.read(0.1)
        assert market.feed.statistics().connections == 2
        # The book is asked for three times; then the connection is given up for it.
        assert kinds(market.events, BookSnapshot, BTC) == []
        assert 3 <= len(market.rest.times("BTCUSDT")) < 10


async def test_the_snapshot_of_another_symbol_is_never_told(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [market.body(ETH)]
        market.rest.script["ETHUSDT"] = [market.body(BTC)]
        for _ in range(200):
            await market.change(BTC, ETH)
            await market.read(0.1)
        for symbol in (BTC, ETH):
            assert market.is_whole(symbol)
            assert len(kinds(market.events, BookSnapshot, symbol)) == 1
        assert market.feed.statistics().connections == 1


async def test_a_snapshot_that_is_ahead_waits_for_the_stream(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        first = market.server.next_delta(BTC)
        await market.change(BTC)
        market.rest.script["BTCUSDT"] = []
        assert first is not None
        await market.read()
        assert market.is_whole(BTC)
        # The same with changes that the stream has not brought when REST answers.
        held = market.server.next_delta(ETH)
        late = [market.server.next_delta(ETH) for _ in range(3)]
        await market.connection.send_messages([held])
        assert not kinds(await market.read(), BookSnapshot, ETH)
        await market.connection.send_messages(late[:1])
        assert not kinds(await market.read(), BookSnapshot, ETH)
        await market.connection.send_messages(late[1:])
        [snapshot] = kinds(await market.read(), BookSnapshot, ETH)
        assert snapshot.trust is Trust.VERIFIED
        assert market.is_whole(ETH)


async def test_a_hole_in_the_stream_is_healed_over_rest_while_others_flow(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        await market.change(BTC, ETH)
        await market.read()
        market.server.next_delta(BTC)  # is lost
        await market.change(BTC, ETH)
        events = await market.read()
        [gap] = kinds(events, Gap)
        assert (gap.symbol, gap.reason, gap.of_book) == (BTC, GapReason.SEQUENCE, True)
        assert gap.from_sequence is not None
        assert [type(e) for e in kinds(events, BookSnapshot) + kinds(events, BookDelta, ETH)] == [
            BookSnapshot, BookDelta,
        ]  # fmt: skip
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)
        assert len(market.rest.times("BTCUSDT")) == 2
        assert len(market.rest.times("ETHUSDT")) == 1
        assert market.feed.statistics().connections == 1


async def test_a_delisted_symbol_is_refused_in_the_venues_words_and_others_flow(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened(channels=("trades", "book")) as market:
        market.rest.script["ETHUSDT"] = [INVALID]
        await market.change(ETH, BTC)
        events = await market.read()
        [failed] = kinds(events, SubscriptionFailed)
        assert (failed.error.symbol, failed.error.channel) == (ETH, "book")
        assert '{"code":-1121,"msg":"Invalid symbol."}' in failed.error.detail
        wanted = market.feed.subscriptions.wanted
        assert Subscription("book", ETH) not in wanted
        assert Subscription("trades", ETH) in wanted
        for _ in range(100):
            await market.change(ETH, BTC)
            await market.connection.send_messages([market.server.next_price(ETH)])
            await market.read(0.2)
        assert market.is_whole(BTC)
        assert market.feed.book(ETH) is None
        assert len(kinds(market.events, Trade, ETH)) == 100
        assert len(market.rest.times("ETHUSDT")) == 1  # it is not asked for again
        assert market.feed.statistics().connections == 1


async def test_what_is_unsubscribed_is_not_told_when_its_answer_comes(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        answer = market.body(BTC)

        async def late(url: str) -> HttpResponse:
            await trio.sleep(2)
            return answer

        market.rest.script["BTCUSDT"] = [late]
        await market.change(BTC, ETH)
        await market.read(1)
        market.feed.unsubscribe([BTC], channels=["book"])
        events = await market.read(9)
        assert kinds(events, BookSnapshot, BTC) == kinds(events, SnapshotFailed) == []
        assert market.feed.book(BTC) is None
        assert market.is_whole(ETH)


async def test_a_book_that_ends_and_begins_at_once_is_not_fetched_in_vain(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        await market.change(BTC, ETH)
        await market.read()
        market.feed.unsubscribe([BTC], channels=["book"])
        market.feed.subscribe([BTC], channels=["book"])
        await market.read()
        assert market.is_whole(BTC)
        for _ in range(300):  # REST is always a little behind such a stream
            await market.change(BTC, ETH)
            await market.read(0.2)
        assert market.is_whole(BTC)
        assert len(market.rest.times("BTCUSDT")) == 1
        assert market.feed.statistics().connections == 1


async def test_a_firewall_is_no_refusal_of_a_symbol(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        market.rest.script["BTCUSDT"] = [HttpResponse(403, (), b"<html>Forbidden</html>")]
        await market.change(BTC, ETH)
        events = await market.read()
        assert len(kinds(events, SnapshotFailed, BTC)) == 1
        assert not kinds(events, SubscriptionFailed)
        for _ in range(600):
            await market.change(BTC, ETH)
            await market.read(0.2)
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)
        assert market.feed.statistics().connections == 1


async def test_an_answer_to_a_request_from_before_is_not_taken_for_the_next_ones(
    autojump_clock: MockClock,
) -> None:
    answers: list[HttpResponse | FetchFailed] = []
    delays = [3.0, 1.0]

    class Late:
        async def get(
            self, url: str, *, weight: float, max_bytes: int, deadline_s: float
        ) -> HttpResponse:
            delay = delays.pop(0)
            await trio.sleep(delay)
            return HttpResponse(200, (), b"%d" % delay)

    class Anywhere:
        snapshot_weight = 1.0

        def snapshot_url(self, subscription: Subscription) -> str:
            return "https://venue.example"

    desk = SnapshotDesk(
        Anywhere(), Late(), deadline_s=10, max_bytes=10,
        answered=lambda _, answer, epoch: answers.append(answer),
    )  # fmt: skip
    book = Subscription("book", BTC)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run, 1)
        desk.ask([book])
        await trio.sleep(1)
        desk.forget(book)
        desk.ask([book])
        await trio.sleep(9)
        nursery.cancel_scope.cancel()
    assert [answer.body for answer in answers if isinstance(answer, HttpResponse)] == [b"1"]


async def test_a_new_connection_has_its_own_snapshots(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        await market.change(BTC, ETH)
        await market.read()
        asked = len(market.rest.asked)

        async def late(url: str) -> HttpResponse:
            await trio.sleep(3)
            return market.body(BTC)

        market.server.next_delta(BTC)
        market.rest.script["BTCUSDT"] = [late]
        await market.change(BTC)  # shows the hole: a snapshot is asked for
        await market.read(1)
        market.feed.reconnect("test")
        await market.ready()
        assert market.rest.under_way == 0  # it went with its connection
        await market.change(BTC, ETH)
        events = await market.read(5)
        assert {gap.symbol for gap in kinds(events, Gap)} == {BTC, ETH}
        assert market.is_whole(BTC)
        assert market.is_whole(ETH)
        assert len(market.rest.asked) == asked + 3
        assert {e.epoch for e in kinds(events, BookSnapshot)} == {2}


async def test_a_notice_of_shutdown_renews_the_connection_without_a_loss(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened(channels=("trades", "ticker", "book")) as market:
        server = market.server
        for _ in range(3):
            await market.change(BTC, ETH)
            for symbol in (BTC, ETH):
                await market.connection.send_messages(
                    [server.next_price(symbol), server.next_quote(symbol)]
                )
            await market.read(0.1)
        old = market.connection
        await old.send('{"e":"serverShutdown","E":1770123456789}')
        market.connection = await server.next_connection()
        for _ in range(40):
            for symbol in (BTC, ETH):
                said = [server.next_price(symbol), server.next_delta(symbol)]
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await old.send_messages(said)
                await market.connection.send_messages(said)
            await market.read(0.1)
        assert market.feed.statistics().connections == 2
        for symbol in (BTC, ETH):
            trades = [trade.sequence for trade in kinds(market.events, Trade, symbol)]
            assert trades == list(range(1, 44))
            assert market.is_whole(symbol)
        assert kinds(market.events, Quote)
        assert not kinds(market.events, Gap)


async def test_the_weight_of_snapshots_is_paced(autojump_clock: MockClock, opened: Open) -> None:
    async with opened() as market:
        venue = market.feed.venue
        allowed = venue.traits.limits.requests_per_minute / venue.snapshot_weight  # type: ignore[attr-defined]  # it has both
        begun = trio.current_time()
        for _ in range(int(allowed * 1.5)):
            market.server.next_delta(BTC)
            await market.change(BTC)
            await market.read(0.05)
        await market.read(30)
        times = [at - begun for at in market.rest.times("BTCUSDT")]
        assert max(sum(t <= at < t + 60 for at in times) for t in times) <= allowed


async def test_requests_are_what_the_venue_documents(
    autojump_clock: MockClock, opened: Open
) -> None:
    async with opened() as market:
        request = json.loads(await market.connection.receive())
        assert request["method"] == "SUBSCRIBE"
        assert request["params"] == ["btcusdt@depth@100ms", "ethusdt@depth@100ms"]
        assert market.feed.subscriptions.confirmed == {
            Subscription("book", BTC), Subscription("book", ETH),
        }  # fmt: skip
