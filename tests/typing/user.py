"""The public API, used as its users would: this file is checked, and never run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, assert_type

import trio

from feedhandler import (
    DEFAULT_POLICIES,
    BackoffConfig,
    Batch,
    BookDelta,
    BookShelf,
    BookSnapshot,
    BookTop,
    CircuitBreaker,
    CircuitBreakerClient,
    CircuitBreakerMetrics,
    CircuitState,
    Coinbase,
    ConnectionConfig,
    ConnectionState,
    DecodeError,
    DecodeFailed,
    Event,
    FailureKind,
    FailurePolicy,
    Feed,
    FeedConfig,
    FeedHandler,
    FeedStateChanged,
    FeedStatistics,
    Gap,
    GapReason,
    HttpxFetcher,
    Instrument,
    InstrumentKind,
    Instruments,
    Level,
    OrderBook,
    OverflowPolicy,
    PriceParser,
    PriceUpdate,
    PriceVenue,
    Quote,
    RetriesExhausted,
    Side,
    Subscriber,
    SubscriptionFailed,
    Trade,
    Transition,
    Trust,
    WebSocketClient,
    canonical_symbol,
    dial_tcp,
    feed_config_from_mapping,
    load_instruments,
    open_feed,
    venue_by_name,
)
from feedhandler.abc import (
    BookVenue,
    Clock,
    Dialer,
    DialTarget,
    Fetcher,
    HttpResponse,
    Ignored,
    ListedVenue,
    Subscription,
    TokenProvider,
    Venue,
)
from feedhandler.recording import Record, RecordingWriter, read_recording
from feedhandler_testing import (
    Disconnect,
    FailureMode,
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    VirtualClock,
    price_message,
)

# --- feeds ---------------------------------------------------------------------------------------


async def consume(feed: Feed) -> None:
    async for event in feed:
        match event:
            case PriceUpdate() | Trade():
                assert_type(event.price, Decimal)
                assert_type(event.side, Side)
                assert_type(event.recv_ns, int)
            case Quote():
                assert_type(event.bid, Decimal | None)
            case BookSnapshot() | BookDelta():
                assert_type(event.bids, tuple[Level, ...])
                assert_type(event.trust, Trust)
                assert_type(feed.book(event.symbol), BookTop | None)
            case Gap():
                assert_type(event.of_book, bool)
                assert_type(event.reason, GapReason)
                assert_type(event.symbol, str | None)
            case FeedStateChanged():
                assert_type(event.new, ConnectionState)
                assert_type(event.failure, FailureKind | None)
                assert_type(event.next_attempt_ns, int | None)
            case DecodeFailed():
                assert_type(event.error, DecodeError)
            case SubscriptionFailed():
                print(event.error.detail)
    async for events in feed.batches():
        assert_type(events, list[Event])


async def embed(context: ssl.SSLContext) -> None:
    config = FeedConfig(
        connection=ConnectionConfig(heartbeat_interval_s=5, pong_deadline_s=12.5),
        backoff=BackoffConfig(max_retries=0),
        overflow=OverflowPolicy.CONFLATE,
    )
    policies = {**DEFAULT_POLICIES, FailureKind.RESET: FailurePolicy(scale=2.0)}
    async with open_feed(
        Coinbase(),
        ["BTC-USD"],
        channels=["trades", "ticker"],
        config=config,
        policies=policies,
        headers=[("X-Name", "value")],
        ssl_context=context,
        rng=Random(1),
    ) as feed:
        assert_type(feed, Feed)
        feed.subscribe(["ETH-USD"])
        feed.unsubscribe({"BTC-USD"}, channels=["trades"])
        assert_type(feed.state, ConnectionState)
        assert_type(feed.statistics(), FeedStatistics)
        assert_type(feed.subscriptions.confirmed, frozenset[Subscription])
        with feed.subscriber(overflow=OverflowPolicy.DROP_OLDEST, buffer_events=10) as extra:
            assert_type(extra, Subscriber)
            assert_type(await anext(extra), Event)
        try:
            await consume(feed)
        except RetriesExhausted as error:
            print(error.causes)


async def books(extra: Subscriber, book: OrderBook) -> None:
    shelf = BookShelf()
    async for events in extra.batches():
        shelf.fold(events)
    top = shelf.top("A", depth=None)
    if top is not None and top.best_bid is not None:
        assert_type(top.best_bid, Level)
        assert_type(top.spread, Decimal | None)
    book.apply([Level(Decimal(1), Decimal(2))], [])
    assert_type(book.cumulative_size(Side.BUY, Decimal(1)), Decimal)
    assert_type([*book.bids()], list[Level])


async def many(venues: Sequence[Venue]) -> None:
    async with FeedHandler(clock=VirtualClock()) as handler:
        feeds = [handler.add(venue, ["A"]) for venue in venues]
        assert_type(feeds, list[Feed])
        async for event in handler:
            assert_type(event, Event)


def settings(table: dict[str, object]) -> FeedConfig:
    return feed_config_from_mapping(table)


# --- a venue, a dialer, a clock and a token of one's own ----------------------------------------


class Session:
    def decode(self, message: str | bytes, *, recv_ns: int, epoch: int) -> list[Event | Ignored]:
        return [Ignored(str(message))]


class MyVenue:
    name = "mine"
    url = "wss://host/"
    channels = ("trades",)
    dial = None

    def session(self) -> Session:
        return Session()

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [subscription.symbol for subscription in subscriptions]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return []


class MyListedVenue(MyVenue):
    def __init__(self, instruments: Instruments | None = None) -> None:
        self.instruments = instruments
        self.fetch: Fetcher | None = my_fetch

    def instrument_urls(self) -> list[str]:
        return ["https://host/instruments"]

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return Instruments(
            [Instrument(canonical_symbol("A", "B"), "AB", "A", "B", InstrumentKind.SPOT)]
        )

    def with_instruments(self, instruments: Instruments) -> MyListedVenue:
        return MyListedVenue(instruments)


async def my_fetch(url: str, /, *, max_bytes: int) -> HttpResponse:
    async with HttpxFetcher(dial=my_dial) as fetch:
        return await fetch(url, max_bytes=max_bytes)


async def symbols() -> None:
    loaded = await load_instruments(MyListedVenue(), cache=Path("list.json"), fetch=my_fetch)
    assert_type(loaded, MyListedVenue)
    if loaded.instruments is not None:
        assert_type(loaded.instruments.by_symbol("A-B"), Instrument)
        assert_type(loaded.instruments.by_venue_symbol("AB"), Instrument | None)
        assert_type(iter(loaded.instruments), Iterator[Instrument])
        assert_type(Instruments.loads(loaded.instruments.dumps()), Instruments)


class MyClock:
    def time_ns(self) -> int:
        return 0


async def my_dial(target: DialTarget) -> trio.abc.Stream:
    return await dial_tcp(target)


async def my_token() -> str:
    return "token"


venue: Venue = MyVenue()
listed: ListedVenue = MyListedVenue()
known: list[Venue] = [Coinbase(), PriceVenue("ws://host/"), venue_by_name("coinbase")]
with_books: BookVenue = PriceVenue("ws://host/", book_levels=100)
clock: Clock = MyClock()
dialer: Dialer = my_dial
provider: TokenProvider = my_token


# --- clients -------------------------------------------------------------------------------------


async def client() -> None:
    async with WebSocketClient("wss://host/", dial=my_dial, token=my_token, clock=clock) as one:
        await one.connect()
        assert_type(one.is_connected, bool)
        assert_type(one.connection_state, ConnectionState)
        await one.send("text")
        await one.send(b"binary")
        async for message in one:
            assert_type(message, str | bytes)
        async for batch in one.batches():
            assert_type(batch, Batch)
        async for step in one.transitions():
            assert_type(step, Transition)
        await one.reconnect_with_backoff()
        await one.disconnect()
    metrics = CircuitBreakerMetrics()
    guarded = CircuitBreakerClient(WebSocketClient("wss://host/"), CircuitBreaker(), metrics)
    async with guarded as two:
        await two.connect()
        assert_type(two.circuit_breaker.state, CircuitState)


def parse(data: bytes) -> Decimal:
    parser = PriceParser()
    assert_type(parser.parse_json(data), PriceUpdate)
    return parser.validate_price(parser.preserve_precision("1.50"))


# --- recordings and the kit ----------------------------------------------------------------------


def recordings() -> None:
    with RecordingWriter("a.zst", venue="x", subscribed={"trades": ["A"]}) as writer:
        writer.write(Record(1, "recv", 0, payload="x"))
    with read_recording("a.zst") as recording:
        for record in recording:
            assert_type(record.payload, str | bytes | None)


async def kit() -> AsyncIterator[MockWebSocketConnection]:
    async with MockWebSocketServer(failure_mode=FailureMode.TIMEOUT, tcp=True) as server:
        server.failure_mode = Disconnect(how="close", after=3, code=1012)
        yield await server.next_connection()
        await server.send_price_update({"symbol": "A"})
        server.simulate_drop(1)
        server.books["A"] = MockBook("A", {"1.5": "2"})
        assert_type(server.books["A"].delta({"1.5": "0"}), dict[str, Any])
        assert_type(price_message("A", "1.5", 1), str)
