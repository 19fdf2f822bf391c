"""Each dialect, held to what every dialect has to do; and the mock server, speaking them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import FetchFailed, Trade, WebSocketClient, open_feed
from feedhandler.errors import ConfigError
from feedhandler_testing import (
    AppPing,
    BadJson,
    BadNumber,
    Cut,
    DataBeforeAck,
    Duplicate,
    Expect,
    Inject,
    Messages,
    MissingField,
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    MuteSymbol,
    Notice,
    Reorder,
    Reset,
    RestError,
    RestLate,
    RestLimited,
    RestOtherSymbol,
    RestReset,
    RestStale,
    RestTooLarge,
    Scenario,
    SequenceGap,
    Serve,
    StaleSnapshot,
    WrongType,
    simulate,
)
from feedhandler_testing.dialect import (
    DIALECTS,
    Dialect,
    Listing,
    PlainDialect,
    UpdateIds,
    dialect_by_name,
)
from feedhandler_testing.venues.binance import BinanceSpotDialect
from feedhandler_testing.venues.coinbase import CoinbaseDialect

SYMBOLS = ("BTC-USDT", "ETH-USDT")
TIME_NS = 1_786_309_548_170_326_789
LIMIT = 1 << 24
VENUES = sorted(set(DIALECTS) - {"price"})


class Client:
    """A WebSocket client that keeps what it gets; made by `connected()`."""

    def __init__(self, client: WebSocketClient) -> None:
        self._client = client
        self.received: list[str] = []
        self.arrived = trio.Event()

    async def send(self, text: str) -> None:
        """Send, and wait until the answer has come (in virtual time)."""
        await self._client.send(text)
        await wait_all_tasks_blocked()

    async def read(self) -> None:
        async for message in self._client:
            self.received.append(message if isinstance(message, str) else message.decode())
            arrived, self.arrived = self.arrived, trio.Event()
            arrived.set()


@contextlib.asynccontextmanager
async def connected(server: MockWebSocketServer) -> AsyncIterator[Client]:
    async with WebSocketClient(server.url, dial=server.dial) as client, trio.open_nursery() as own:
        await client.connect()
        reading = Client(client)
        own.start_soon(reading.read)
        yield reading
        own.cancel_scope.cancel()


def book() -> MockBook:
    made = MockBook("BTC-USDT", {"65000.10": "1.5", "64999": "2"}, {"65000.20": "2"}, sequence=6)
    made.time_ns = TIME_NS
    return made


def plain_messages(dialect: Dialect) -> Iterator[dict[str, Any]]:
    """One message of each kind, as the server would hand it on."""
    its = book()
    its.checksum_of = dialect.checksum
    price = {
        "type": "price", "symbol": "BTC-USDT", "price": "65000.10", "size": "0.0120",
        "side": "buy", "sequence": 7, "time": TIME_NS,
    }  # fmt: skip
    quote = {
        "type": "quote", "symbol": "BTC-USDT", "bid": "65000.10", "bid_size": "1.5",
        "ask": "65000.20", "ask_size": "2", "sequence": 6, "time": TIME_NS,
    }  # fmt: skip
    for message in (price, quote, its.snapshot(), its.delta({"64999": "0"}, {"65000.3": "4"})):
        if message["type"] in dialect.means.says:
            yield {**message, "stamp": 3}


@pytest.fixture(params=VENUES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return dialect_by_name(request.param)


def listing_of(dialect: Dialect) -> Listing:
    listing = Listing(dialect.venue_symbol)
    listing.add(SYMBOLS)
    return listing


# --- every dialect -------------------------------------------------------------------------------


def test_a_dialect_is_found_by_its_name(dialect: Dialect) -> None:
    assert DIALECTS[dialect.name].endswith(f":{type(dialect).__name__}")
    assert dialect == dialect_by_name(dialect.name)
    assert {"price", "book"} <= set(dialect.channels)
    assert len({dialect.venue_symbol(symbol) for symbol in SYMBOLS}) == len(SYMBOLS)


def test_what_a_dialect_writes_has_the_digits_of_the_plain_message(dialect: Dialect) -> None:
    session = dialect.session(listing_of(dialect))
    seen = set()
    for message in plain_messages(dialect):
        before = json.dumps(message)
        written, *more = session.encode(message)
        # Where messages are counted, one may be several, each with a number of its own.
        assert 1 + len(more) == dialect.means.stamps.get(message["type"], 1)
        assert [written, *more] == session.encode(message)  # it changes nothing
        assert json.dumps(message) == before
        text = written if isinstance(written, str) else written.decode()
        amounts = _amounts(json.loads(text, parse_float=Decimal, parse_int=Decimal))
        expected = [message[name] for name in ("price", "size", "bid", "ask") if name in message]
        for levels in (message.get("bids", ()), message.get("asks", ())):
            expected += [amount for level in levels for amount in level]
        assert {Decimal(amount) for amount in expected} - {Decimal(0)} <= amounts
        seen.add(message["type"])
    assert {"price", "delta"} <= seen


def _amounts(node: Any) -> set[Decimal]:
    if isinstance(node, dict):
        return {amount for item in node.values() for amount in _amounts(item)}
    if isinstance(node, list):
        return {amount for item in node for amount in _amounts(item)}
    try:
        return {abs(Decimal(node))} if isinstance(node, str | Decimal) else set()
    except ArithmeticError:
        return set()


def test_requests_that_are_none_are_passed_over(dialect: Dialect) -> None:
    session = dialect.session(listing_of(dialect))
    for text in ("", "{", "[]", "7", "null", '{"type":"subscribe"}', '{"op":1}', b"\xff", "[[[["):
        assert list(session.requests(text)) == []


def test_what_the_library_asks_for_is_understood(dialect: Dialect) -> None:
    from feedhandler.abc import RequestingSession, Subscription

    server = MockWebSocketServer(dialect=dialect)
    try:
        venue = server.venue(SYMBOLS)
    except ConfigError as error:
        pytest.skip(f"the library does not have this venue yet: {error}")
    asked: set[tuple[str, str, str]] = set()
    wanted = [
        Subscription(theirs, symbol)
        for ours, theirs in dialect.channels.items()
        if theirs in venue.channels and ours in ("price", "book")
        for symbol in SYMBOLS
    ]
    library = venue.session()
    session = dialect.session(server.listing)
    for kind in ("subscribe", "unsubscribe"):
        if isinstance(library, RequestingSession):
            texts = (
                library.requests(subscribe=wanted)
                if kind == "subscribe"
                else library.requests(unsubscribe=wanted)
            )
        else:
            texts = venue.subscribe(wanted) if kind == "subscribe" else venue.unsubscribe(wanted)
        for text in texts:
            for request in session.requests(text):
                asked |= {
                    (request["type"], request["channel"], symbol)
                    for symbol in request.get("symbols", ())
                    if request["channel"] in ("price", "book")
                }
    ours = {theirs: name for name, theirs in dialect.channels.items()}
    assert {("subscribe", ours[one.channel], one.symbol) for one in wanted} <= asked


# --- numbers -------------------------------------------------------------------------------------


def test_update_ids_follow_one_another_without_a_hole() -> None:
    ids = UpdateIds(base=1000, span=3)
    for n in range(1, 20):
        assert ids.first(n) == ids.last(n - 1) + 1
        assert ids.message(ids.last(n)) == n
        assert ids.message(ids.last(n) - 1) is None
    assert ids.message(5) is None


def test_a_symbol_that_is_not_listed_is_given_back_as_it_is() -> None:
    listing = Listing(lambda symbol: symbol.replace("-", ""))
    listing.add(["BTC-USDT"])
    assert listing.ours("BTCUSDT") == "BTC-USDT"
    assert listing.theirs("ETH-USDT") == "ETHUSDT"
    assert listing.ours("ETHUSDT") == "ETHUSDT"
    assert listing.symbols == ("BTC-USDT",)


def test_an_unknown_venue_is_refused_with_all_known_ones() -> None:
    with pytest.raises(ConfigError, match="binance"):
        dialect_by_name("binanse")
    with pytest.raises(ConfigError, match="venue"):
        Scenario(venue="binanse", steps=[Serve(1)])


def test_a_fault_that_the_venue_has_no_message_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="binance has no snapshot"):
        Scenario(venue="binance", channel="book", steps=[Serve(1), StaleSnapshot(), Serve(3)])
    with pytest.raises(ConfigError, match="price has no rest"):
        Scenario(channel="book", steps=[RestStale(), Serve(3)])
    with pytest.raises(ConfigError, match="coinbase has no reconnect"):
        Scenario(venue="coinbase", steps=[Serve(1), Cut(Notice()), Serve(3)])


# --- Coinbase ------------------------------------------------------------------------------------


def subscribe(channel: str, *products: str) -> str:
    return json.dumps({"type": "subscribe", "channel": channel, "product_ids": products})


async def test_a_connection_is_numbered_over_all_its_messages(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(dialect=CoinbaseDialect()) as server,
        connected(server) as client,
    ):
        server.list_symbols(SYMBOLS)
        server.next_delta("BTC-USDT")
        await client.send(subscribe("level2", "BTC-USDT"))
        await client.send(subscribe("heartbeats", "BTC-USDT"))
        await client.send(subscribe("market_trades", "BTC-USDT"))
        connection = await server.next_connection()
        await connection.send_messages([server.next_price("BTC-USDT")])
        await trio.sleep(1.5)
        got = [json.loads(text) for text in client.received]
    assert [message["sequence_num"] for message in got] == [0, 1, 2, 3, 4, 5]
    assert [message["channel"] for message in got] == [
        "subscriptions", "l2_data", "subscriptions", "subscriptions", "market_trades", "heartbeats",
    ]  # fmt: skip
    assert got[3]["events"] == [
        {
            "subscriptions": {
                "level2": ["BTC-USDT"],
                "heartbeats": ["heartbeats"],
                "market_trades": ["BTC-USDT"],
            }
        }
    ]


async def stamps(server: MockWebSocketServer, client: Client, count: int) -> list[int]:
    server.list_symbols(SYMBOLS)
    await client.send(subscribe("market_trades", *SYMBOLS))
    connection = await server.next_connection()
    for n in range(count):
        await connection.send_messages([server.next_price(SYMBOLS[n % 2])])
    await trio.sleep(0.1)
    return [json.loads(text)["sequence_num"] for text in client.received]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (SequenceGap(), [0, 2, 3, 4]),  # a message that is dropped leaves its hole
        (Duplicate(), [0, 1, 1, 2, 3, 4]),
        (Reorder(), [0, 2, 1, 3, 4]),
        (MuteSymbol("BTC-USDT"), [0, 1, 2]),  # what was never said has no number
        (DataBeforeAck(count=1), [0, 1, 2, 3, 4, 5, 6]),  # what a fault adds is numbered in place
    ],
)
async def test_numbers_stand_where_the_venue_has_put_them(
    fault: Any, expected: list[int], autojump_clock: MockClock
) -> None:
    async with (
        MockWebSocketServer(dialect=CoinbaseDialect()) as server,
        connected(server) as client,
    ):
        placed = server.fault(fault)
        assert await stamps(server, client, 4) == expected
        assert placed.count


async def test_what_is_spoiled_is_the_venues_own_text(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(dialect=CoinbaseDialect()) as server,
        connected(server) as client,
    ):
        server.list_symbols(SYMBOLS)
        await client.send(subscribe("market_trades", "BTC-USDT"))
        connection = await server.next_connection()
        await trio.sleep(0.1)
        client.received.clear()
        for fault in (MissingField("price"), WrongType("size"), BadNumber("NaN"), BadJson()):
            async with server.fault(fault):
                await connection.send_messages([server.next_price("BTC-USDT")])
        await trio.sleep(0.1)
        missing, wrong, bad, broken = client.received
    [trade] = json.loads(missing)["events"][0]["trades"]
    assert "price" not in trade
    assert trade["side"] in ("BUY", "SELL")
    assert isinstance(json.loads(wrong)["events"][0]["trades"][0]["size"], list)
    assert json.loads(bad)["events"][0]["trades"][0]["price"] == "NaN"
    assert broken.startswith('{"channel"="market_trades"')


async def test_a_symbol_that_is_not_listed_is_refused(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(dialect=CoinbaseDialect()) as server,
        connected(server) as client,
    ):
        server.list_symbols(["BTC-USDT"])
        await client.send(subscribe("market_trades", "BTC-USDT", "NO-SUCH"))
        await trio.sleep(0.1)
        error, answer = map(json.loads, client.received)
    assert error == {"type": "error", "message": "unknown symbol"}
    assert answer["events"] == [{"subscriptions": {"market_trades": ["BTC-USDT"]}}]


async def test_the_library_reads_what_the_dialect_writes(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer(dialect=CoinbaseDialect()) as server:
        venue = server.venue(["BTC-USDT"])
        async with open_feed(venue, ["BTC-USDT"], channels=["trades"]) as feed:
            connection = await server.next_connection()
            sent = server.next_price("BTC-USDT")
            await wait_all_tasks_blocked()
            with trio.fail_after(5):
                await connection.send_messages([sent])
                async for event in feed:
                    if isinstance(event, Trade):
                        break
    assert (str(event.price), str(event.size)) == (sent["price"], sent["size"])
    assert event.side.value == sent["side"]
    assert event.trade_id == "1"
    assert event.venue_time_ns == sent["time"] - sent["time"] % 1000


@pytest.mark.parametrize(
    "fault", [SequenceGap(2), Duplicate(), Reorder(), MissingField(), BadJson(), WrongType("size")]
)
def test_a_scenario_runs_at_another_venue(fault: Any) -> None:
    steps = [Serve(6), Inject(fault, Messages(3)), Serve(20), Cut(Reset()), Serve(6)]
    expect = Expect(connections=2, messages=20)
    simulate(Scenario(venue="coinbase", steps=steps, expect=expect)).check()


def test_the_same_seed_gives_the_same_run_at_a_venue() -> None:
    scenario = Scenario(venue="coinbase", seed=5, steps=[Serve(9), Cut(Reset()), Serve(9)])
    assert simulate(scenario).digest == simulate(scenario).digest


# --- Binance, and REST ---------------------------------------------------------------------------

DEPTH = "api/v3/depth?symbol=BTCUSDT&limit=1000"


async def subscribed(
    server: MockWebSocketServer, client: Client, *streams: str
) -> MockWebSocketConnection:
    server.list_symbols(SYMBOLS)
    server.next_delta("BTC-USDT")
    request = {"method": "SUBSCRIBE", "params": streams, "id": 9}
    await client.send(json.dumps(request))
    return await server.next_connection()


async def test_a_request_for_several_streams_has_one_answer(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer(dialect=BinanceSpotDialect()) as server,
        connected(server) as client,
    ):
        streams = ("btcusdt@depth@100ms", "btcusdt@aggTrade", "ethusdt@bookTicker")
        connection = await subscribed(server, client, *streams)
        await connection.send_messages([server.next_price("BTC-USDT")])
        await connection.send_messages([server.next_delta("BTC-USDT")])
        await connection.send_messages([server.next_quote("BTC-USDT")])
        await trio.sleep(0.1)
        answer, trade, update, top = map(json.loads, client.received)
    assert answer == {"result": None, "id": 9}
    assert connection.subscriptions == connection.book_subscriptions == {"BTC-USDT": None}
    assert connection.quote_subscriptions == {"ETH-USDT": None}
    assert trade["stream"] == "btcusdt@aggTrade"
    assert trade["data"]["a"] == 1
    assert update["data"]["u"] - update["data"]["U"] == 2
    assert top["data"]["u"] == update["data"]["u"]


async def test_a_snapshot_over_rest_links_with_the_deltas(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer(dialect=BinanceSpotDialect()) as server:
        async with connected(server) as client:
            connection = await subscribed(server, client, "btcusdt@depth@100ms")
            answer = await server.fetch(server.rest_url + DEPTH, max_bytes=LIMIT)
            await connection.send_messages([server.next_delta("BTC-USDT")])
            await trio.sleep(0.1)
            update = json.loads(client.received[-1])["data"]
        snapshot = json.loads(answer.body)
        assert snapshot["lastUpdateId"] + 1 == update["U"]
        number = BinanceSpotDialect().book_number("BTC-USDT", update["u"])
        assert number == server.books["BTC-USDT"].sequence == 2
        info = await server.fetch(server.rest_url + "api/v3/exchangeInfo", max_bytes=LIMIT)
        assert [one["symbol"] for one in json.loads(info.body)["symbols"]] == ["BTCUSDT", "ETHUSDT"]
        assert (await server.fetch(server.rest_url + "nothing", max_bytes=LIMIT)).status == 404
        wrong = await server.fetch(server.rest_url + "api/v3/depth?symbol=NO", max_bytes=LIMIT)
        assert (wrong.status, json.loads(wrong.body)["code"]) == (400, -1121)


async def test_what_rest_can_do_wrong(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer(dialect=BinanceSpotDialect()) as server:
        server.list_symbols(SYMBOLS)
        for symbol in SYMBOLS:
            for _ in range(12):
                server.next_delta(symbol)
        url = server.rest_url + DEPTH
        right = await server.fetch(url, max_bytes=LIMIT)
        async with server.fault(RestError()):
            page = await server.fetch(url, max_bytes=LIMIT)
        assert page.status == 502
        assert page.body.startswith(b"<html>")
        async with server.fault(RestLimited(7)):
            limited = await server.fetch(url, max_bytes=LIMIT)
        assert limited.status == 429
        assert dict(limited.headers)["Retry-After"] == "7"
        async with server.fault(RestTooLarge()):
            with pytest.raises(FetchFailed, match="more than 16,777,216 bytes"):
                await server.fetch(url, max_bytes=LIMIT)
        async with server.fault(RestLate(4.0)):
            began = trio.current_time()
            assert await server.fetch(url, max_bytes=LIMIT) == right
            assert trio.current_time() - began == pytest.approx(4.0)
        async with server.fault(RestReset()):
            with pytest.raises(FetchFailed, match="reset"):
                await server.fetch(url, max_bytes=LIMIT)
        newest = json.loads(right.body)["lastUpdateId"]
        async with server.fault(RestStale(5)):
            stale = json.loads((await server.fetch(url, max_bytes=LIMIT)).body)
        assert stale["lastUpdateId"] == newest - 5 * 3
        async with server.fault(RestOtherSymbol()):
            other = json.loads((await server.fetch(url, max_bytes=LIMIT)).body)
        assert BinanceSpotDialect().book_number("ETH-USDT", other["lastUpdateId"]) == 12
        assert await server.fetch(url, max_bytes=LIMIT) == right  # each has acted once


async def test_httpx_is_answered_on_the_port_of_the_stream() -> None:
    async with MockWebSocketServer(dialect=BinanceSpotDialect(), tcp=True) as server:
        with trio.fail_after(10):
            async with connected(server) as client, httpx.AsyncClient(trust_env=False) as web:
                await subscribed(server, client, "btcusdt@depth@100ms")
                answer = await web.get(server.rest_url + DEPTH)
                assert answer.json()["lastUpdateId"] % 10_000 == 3
                async with server.fault(RestError()):
                    assert (await web.get(server.rest_url + DEPTH)).status_code == 502
                async with server.fault(RestReset()):
                    with pytest.raises(httpx.TransportError):
                        await web.get(server.rest_url + DEPTH)
                assert (await web.get(server.rest_url + "nothing")).status_code == 404
                await client.send('{"method":"UNSUBSCRIBE","params":["btcusdt@depth"],"id":1}')
                while len(client.received) < 2:
                    await client.arrived.wait()
    assert json.loads(client.received[1]) == {"result": None, "id": 1}


# --- keep-alive ----------------------------------------------------------------------------------


async def test_a_ping_of_the_venue_that_is_answered_ends_nothing(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server, connected(server) as client:
        connection = await server.next_connection()
        async with server.fault(AppPing(within_s=3)) as ping:
            await ping.fired.wait()
            await client.send('{"type":"pong","id":1}')
            await trio.sleep(5)
        assert not connection.closed


def test_the_default_is_the_plain_dialect() -> None:
    assert MockWebSocketServer().dialect == PlainDialect()
    session = PlainDialect().session(Listing(str))
    assert session.encode({"type": "heartbeat"}) == ['{"type":"heartbeat"}']
