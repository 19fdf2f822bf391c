"""Binance, spot and futures: each message that is documented, and what can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from feedhandler import (
    BookDelta,
    BookSnapshot,
    DecodeError,
    Gap,
    GapReason,
    Instruments,
    Level,
    Quote,
    Side,
    Trade,
    Trust,
)
from feedhandler.abc import (
    BookVenue,
    HttpResponse,
    Ignored,
    ListedVenue,
    Malformed,
    ReconnectRequested,
    Refused,
    RequestingSession,
    Resync,
    SequencedSession,
    SnapshotSession,
    SnapshotVenue,
    SplitVenue,
    Subscribed,
    Subscription,
    Synced,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.instruments import Instrument, InstrumentKind
from feedhandler.venues.binance import Binance
from feedhandler.venues.binance_futures import MARKET, BinanceFutures
from feedhandler_testing.venue_fuzz import fuzz_session, mutant_of

RECV = 1_786_309_548_000_000_000
SPOT = InstrumentKind.SPOT
FUTURE = InstrumentKind.FUTURE

# The messages of the venue's documentation ("WebSocket Streams"; "USDS-Margined Futures").
TRADE = {
    "e": "aggTrade", "E": 1672515782136, "s": "BNBBTC", "a": 12345, "p": "0.001", "q": "100",
    "f": 100, "l": 105, "T": 1672515782130, "m": True, "M": True,
}  # fmt: skip
TICKER = {
    "u": 400900217, "s": "BNBBTC", "b": "25.35190000", "B": "31.21000000", "a": "25.36520000",
    "A": "40.66000000",
}  # fmt: skip
DEPTH = {
    "e": "depthUpdate", "E": 1672515782136, "s": "BNBBTC", "U": 157, "u": 160,
    "b": [["0.0024", "10"]], "a": [["0.0026", "100"]],
}  # fmt: skip
SNAPSHOT = {
    "lastUpdateId": 160, "bids": [["0.0024", "10.00000000"]], "asks": [["0.0026", "12.00000000"]],
}  # fmt: skip
TIMES = {"E": 1568014460893, "T": 1568014460891}

SHUTDOWN = {"e": "serverShutdown", "E": 1770123456789}
BOOK = Subscription("book", "BNB-BTC")
TRADES = Subscription("trades", "BNB-BTC")


def listed(*more: Instrument) -> Instruments:
    symbols = [("BNB-BTC", "BNBBTC"), ("ETH-BTC", "ETHBTC")]
    known = [Instrument(s, n, *s.split("-"), SPOT) for s, n in symbols]
    return Instruments([*known, *more], venue="binance")


class Line:
    """A session of one of the two, and the messages as that one sends them."""

    def __init__(self, *, futures: bool, more: Sequence[Instrument] = ()) -> None:
        self.futures = futures
        self.venue = (BinanceFutures if futures else Binance)(instruments=listed(*more))
        self.session = self.venue.session()

    def text(self, stream: str, data: dict[str, Any], **changes: Any) -> str:
        timed = self.futures and stream.endswith("bookTicker")
        data = {**data, **(TIMES if timed else {}), **changes}
        if self.futures and "U" in data:
            data.setdefault("pu", 3)
        return compact({"stream": stream, "data": data})

    def take(self, message: str | bytes) -> list[Any]:
        return [*self.session.decode(message, recv_ns=RECV, epoch=3)]

    def trade(self, **changes: Any) -> list[Any]:
        return self.take(self.text("bnbbtc@aggTrade", TRADE, **changes))

    def ticker(self, **changes: Any) -> list[Any]:
        return self.take(self.text("bnbbtc@bookTicker", TICKER, **changes))

    def depth(self, first: int, last: int, previous: int | None = None, **changes: Any) -> Any:
        linked = {"pu": first - 1 if previous is None else previous} if self.futures else {}
        return self.take(
            self.text("bnbbtc@depth@100ms", DEPTH, **{"U": first, "u": last, **linked, **changes})
        )

    def snapshot(self, **changes: Any) -> list[Any]:
        body = {**SNAPSHOT, **(TIMES if self.futures else {}), **changes}
        return self.snapshot_of(compact(body).encode())

    def snapshot_of(self, body: bytes) -> list[Any]:
        answer = HttpResponse(200, (), body)
        return [*self.session.decode_snapshot(BOOK, answer, recv_ns=RECV, epoch=3)]

    def whole(self) -> None:
        """Have a book, of number 160."""
        self.depth(157, 160)
        kinds = [type(item) for item in self.snapshot()]
        assert kinds[:2] == [BookSnapshot, Synced]


def compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


@pytest.fixture(params=["spot", "futures"])
def line(request: pytest.FixtureRequest) -> Line:
    return Line(futures=request.param == "futures")


def problems(error: pytest.ExceptionInfo[DecodeError]) -> dict[str, str]:
    return {problem.path: problem.message for problem in error.value.problems}


# --- the value -----------------------------------------------------------------------------------


def test_both_fit_every_protocol(line: Line) -> None:
    for protocol in (BookVenue, SnapshotVenue, TraitedVenue, ListedVenue):
        assert isinstance(line.venue, protocol)
    for kind in (SnapshotSession, RequestingSession, SequencedSession):
        assert isinstance(line.session, kind)
    assert line.venue == type(line.venue)(instruments=listed())
    assert hash(line.venue) == hash(type(line.venue)(instruments=listed()))


def test_limits_are_those_of_the_documentation() -> None:
    spot, futures = Binance().traits, BinanceFutures().traits
    assert (spot.limits.subscriptions, spot.limits.connects_per_minute) == (1024, 60)
    assert (spot.limits.requests_per_minute, Binance().snapshot_weight) == (6000, 50)
    assert (futures.limits.subscriptions, futures.limits.connects_per_minute) == (200, None)
    assert (futures.limits.requests_per_minute, BinanceFutures().snapshot_weight) == (2400, 20)
    assert spot.max_lifetime_s == futures.max_lifetime_s == 86_400
    assert spot.keep_alive is futures.keep_alive is None


def test_the_futures_have_an_address_for_trades_and_one_for_the_rest() -> None:
    venue = BinanceFutures(name="x", instruments=listed())
    assert isinstance(venue, SplitVenue)
    assert list(venue.channels) == list(Binance().channels) == ["trades", "ticker", "book"]
    assert venue.entry("book") == venue.entry("ticker") == venue
    assert venue.entry("trades") == venue.entry("trades").entry("trades")
    assert (venue.entry("trades").url, venue.entry("trades").name) == (MARKET, "x")
    proxied = BinanceFutures("ws://127.0.0.1:80/")
    assert {proxied.entry(channel) for channel in proxied.channels} == {proxied}


def test_addresses_over_rest() -> None:
    book = Subscription("book", "BNB-BTC")
    spot = Binance(instruments=listed())
    assert spot.snapshot_url(book) == (
        "https://api.binance.com/api/v3/depth?symbol=BNBBTC&limit=1000"
    )
    assert spot.instrument_urls() == ["https://api.binance.com/api/v3/exchangeInfo"]
    futures = BinanceFutures(instruments=listed(), rest_url="http://127.0.0.1:8")
    assert futures.snapshot_url(book) == "http://127.0.0.1:8/fapi/v1/depth?symbol=BNBBTC&limit=1000"
    assert futures.instrument_urls() == ["http://127.0.0.1:8/fapi/v1/exchangeInfo"]
    odd = Instrument("币安人生-USDT", "币安人生USDT", "币安人生", "USDT", SPOT)
    url = Binance(instruments=listed(odd)).snapshot_url(Subscription("book", odd.symbol))
    assert url.isascii()


def test_no_secret_is_shown() -> None:
    venue = Binance("wss://user:secret@proxy.example/stream", rest_url="https://user:secret@p.x")
    assert "secret" not in repr(venue)


# --- requests and answers ------------------------------------------------------------------------


def test_requests_name_streams_and_are_answered_by_number(line: Line) -> None:
    wanted = [BOOK, TRADES, Subscription("ticker", "ETH-BTC")]
    [text] = line.session.requests(subscribe=wanted)
    assert json.loads(text) == {
        "method": "SUBSCRIBE",
        "params": ["bnbbtc@depth@100ms", "bnbbtc@aggTrade", "ethbtc@bookTicker"],
        "id": 1,
    }
    assert line.take('{"result":null,"id":1}') == [Subscribed(tuple(wanted))]
    [text] = line.session.requests(unsubscribe=[BOOK])
    assert json.loads(text) == {
        "method": "UNSUBSCRIBE", "params": ["bnbbtc@depth@100ms"], "id": 2,
    }  # fmt: skip
    assert line.take('{"id":2,"result":null}') == [Unsubscribed((BOOK,))]
    assert line.take('{"result":null,"id":2}') == [Ignored("answer that nobody waits for")]


def test_both_kinds_of_requests_have_numbers_of_their_own(line: Line) -> None:
    texts = line.session.requests(subscribe=[BOOK], unsubscribe=[TRADES])
    numbers = {json.loads(text)["id"]: json.loads(text)["method"] for text in texts}
    assert numbers == {1: "UNSUBSCRIBE", 2: "SUBSCRIBE"}
    assert line.take('{"result":null,"id":"2"}') == [Subscribed((BOOK,))]


@pytest.mark.parametrize(
    "answer",
    [
        '{"code":2,"msg":"Invalid request: too many parameters","id":1}',
        '{"error":{"code":2,"msg":"Invalid request: too many parameters"},"id":1}',
    ],
)
def test_a_refusal_has_the_venues_words(line: Line, answer: str) -> None:
    line.session.requests(subscribe=[BOOK, TRADES])
    told = "2: Invalid request: too many parameters"
    assert line.take(answer) == [Refused(BOOK, told), Refused(TRADES, told)]


@pytest.mark.parametrize(
    "answer",
    [
        '{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}',
        '{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1","id":77}',
    ],
)
def test_a_refusal_of_nobody_knows_what_is_told(line: Line, answer: str) -> None:
    line.session.requests(unsubscribe=[BOOK])
    [refused] = line.take(answer)
    assert (refused.subscription, refused.detail[:15]) == (None, "3: Invalid JSON")


def test_a_stream_may_come_before_its_answer(line: Line) -> None:
    line.session.requests(subscribe=[TRADES])
    assert isinstance(line.trade()[0], Trade)


def test_a_symbol_that_is_not_listed_is_asked_for_all_the_same(line: Line) -> None:
    gone = Subscription("trades", "OLD-BTC")
    [text] = line.session.requests(subscribe=[gone])
    assert json.loads(text)["params"] == ["oldbtc@aggTrade"]
    [trade] = line.take(line.text("oldbtc@aggTrade", TRADE, s="OLDBTC"))
    assert trade.symbol == "OLD-BTC"


@pytest.mark.parametrize("text", [SHUTDOWN, {"stream": "!serverShutdown", "data": SHUTDOWN}])
def test_the_notice_of_a_shutdown_asks_for_a_new_connection(line: Line, text: Any) -> None:
    assert line.take(compact(text)) == [ReconnectRequested("serverShutdown")]


# --- trades --------------------------------------------------------------------------------------


def test_a_trade(line: Line) -> None:
    assert line.trade() == [
        Trade(
            "BNB-BTC", Decimal("0.001"), Decimal(100), Side.SELL, "12345", 12345,
            1_672_515_782_130_000_000, RECV, line.venue.name, 3,
        )
    ]  # fmt: skip
    [bought] = line.trade(a=12346, m=False)
    assert bought.side is Side.BUY
    assert line.session.last_sequence("BNB-BTC") == 12346


def test_digits_are_kept(line: Line) -> None:
    [trade] = line.trade(p="0.00100", q="7e-8")
    assert (str(trade.price), trade.size) == ("0.00100", Decimal("7e-8"))


def test_trades_are_followed_by_their_ids(line: Line) -> None:
    line.trade(a=10)
    assert line.trade(a=10) == line.trade(a=10) == [Ignored("duplicate")]
    gap, trade = line.trade(a=13)
    assert (gap.symbol, gap.from_sequence, gap.to_sequence, gap.missing) == ("BNB-BTC", 11, 12, 2)
    assert (gap.reason, gap.of_book, trade.sequence) == (GapReason.SEQUENCE, False, 13)
    other = line.take(line.text("ethbtc@aggTrade", TRADE, s="ETHBTC", a=5))
    assert [type(item) for item in other] == [Trade]
    [gap, late] = line.trade(a=8)
    assert (gap.from_sequence, gap.to_sequence, late) == (8, 9, Ignored("late"))


def test_a_subscription_that_begins_anew_counts_anew(line: Line) -> None:
    line.trade(a=10)
    line.session.requests(unsubscribe=[TRADES])
    line.take('{"result":null,"id":1}')
    assert [type(item) for item in line.trade(a=500)] == [Trade]


# --- top of book ---------------------------------------------------------------------------------


def test_a_ticker(line: Line) -> None:
    time = 1_568_014_460_893_000_000 if line.futures else None
    assert line.ticker() == [
        Quote(
            "BNB-BTC", Decimal("25.3519"), Decimal("31.21"), Decimal("25.3652"), Decimal("40.66"),
            None, time, RECV, line.venue.name, 3,
        )
    ]  # fmt: skip


def test_a_side_that_is_empty_has_no_price(line: Line) -> None:
    [quote] = line.ticker(b="0.00000000", B="0.00000000")
    assert (quote.bid, quote.bid_size, quote.ask) == (None, None, Decimal("25.3652"))


def test_times_may_be_exacter() -> None:
    venue = Binance("wss://x.example/stream?timeUnit=MICROSECOND", instruments=listed())
    text = compact({"stream": "bnbbtc@aggTrade", "data": {**TRADE, "T": 1_672_515_782_130_123}})
    [trade] = venue.session().decode(text, recv_ns=RECV, epoch=1)
    assert isinstance(trade, Trade)
    assert trade.venue_time_ns == 1_672_515_782_130_123_000


# --- books ---------------------------------------------------------------------------------------


def test_a_book_begins_over_rest_and_goes_on_with_the_stream(line: Line) -> None:
    assert line.depth(157, 160) == [Resync(BOOK)]
    assert line.depth(161, 165) == []
    assert line.session.book_image("BNB-BTC") is None
    snapshot, synced, *deltas = line.snapshot()
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.symbol, snapshot.sequence, snapshot.trust) == ("BNB-BTC", 160, Trust.VERIFIED)
    assert snapshot.bids == (Level(Decimal("0.0024"), Decimal(10)),)
    assert snapshot.venue_time_ns == (1_568_014_460_893_000_000 if line.futures else None)
    assert synced == Synced(BOOK)
    # Futures have the delta that ends with the snapshot once more.
    expected = [160, 165] if line.futures else [165]
    assert [delta.sequence for delta in deltas] == expected
    [delta] = line.depth(166, 170, b=[["0.0025", "1"], ["0.0024", "0"]], a=[])
    assert isinstance(delta, BookDelta)
    assert (delta.sequence, delta.previous, delta.trust) == (170, 165, Trust.VERIFIED)
    assert delta.venue_time_ns == 1_672_515_782_136_000_000
    image = line.session.book_image("BNB-BTC")
    assert image is not None
    assert image.bids == (Level(Decimal("0.0025"), Decimal(1)),)
    assert line.session.last_book_sequence("BNB-BTC") == 170


def test_levels_are_told_best_first_however_they_come(line: Line) -> None:
    line.whole()
    [delta] = line.depth(161, 162, b=[["1e-4", "1"], ["2e-4", "0"], ["15e-5", "3"]])
    assert [level.price for level in delta.bids] == [Decimal(n) for n in ("2e-4", "15e-5", "1e-4")]


def test_a_hole_is_told_and_the_book_asked_for_anew(line: Line) -> None:
    line.whole()
    gap, resync = line.depth(164, 170)
    assert (gap.from_sequence, gap.to_sequence, gap.of_book) == (161, 163, True)
    assert resync == Resync(BOOK)
    assert line.session.book_image("BNB-BTC") is None
    assert line.depth(171, 175) == []
    assert line.snapshot() == [Ignored("snapshot that is too old"), Resync(BOOK)]
    snapshot, *_, delta = line.snapshot(lastUpdateId=170)
    assert (snapshot.trust, delta.sequence, delta.trust) == (Trust.VERIFIED, 175, Trust.VERIFIED)


def test_on_futures_the_previous_id_counts() -> None:
    line = Line(futures=True)
    line.whole()
    assert isinstance(line.depth(190, 199, previous=160)[0], BookDelta)
    gap, _ = line.depth(200, 210, previous=198)
    assert (gap.reason, gap.from_sequence) == (GapReason.SEQUENCE, None)


def test_what_comes_twice_is_dropped(line: Line) -> None:
    line.whole()
    line.depth(161, 165)
    assert line.depth(161, 165) == [Ignored("duplicate")]
    assert isinstance(line.depth(166, 166)[0], BookDelta)


def test_a_crossed_book_is_no_book(line: Line) -> None:
    line.whole()
    gap, resync = line.depth(161, 165, b=[["0.0026", "1"]], a=[])
    assert (gap.reason, gap.from_sequence, resync) == (GapReason.CROSSED, 165, Resync(BOOK))


def test_other_books_go_on(line: Line) -> None:
    line.whole()
    line.depth(164, 170)
    eth = line.take(line.text("ethbtc@depth@100ms", DEPTH, s="ETHBTC", U=5, u=6))
    assert eth == [Resync(Subscription("book", "ETH-BTC"))]


def test_a_book_that_ended_is_forgotten(line: Line) -> None:
    line.whole()
    line.session.requests(unsubscribe=[BOOK])
    line.take('{"result":null,"id":1}')
    assert line.session.book_image("BNB-BTC") is None
    assert line.depth(900, 901) == [Resync(BOOK)]


def test_dated_futures_and_names_of_other_scripts_are_read_exactly() -> None:
    dated = Instrument("BTC-USDT-20260327", "BTCUSDT_260327", "BTC", "USDT", FUTURE)
    odd = Instrument("币安-USDT", "币安USDT", "币安", "USDT", SPOT)
    line = Line(futures=True, more=[dated, odd])
    for one in (dated, odd):
        name = one.venue_symbol
        stream = f"{name.lower()}@aggTrade"
        [trade] = line.take(line.text(stream, TRADE, s=name))
        assert (trade.symbol, trade.price) == (one.symbol, Decimal("0.001"))
        with pytest.raises(DecodeError) as error:
            line.take(line.text(stream, TRADE, s=name, p="1_0", a=12346))
        assert "$.data.p" in problems(error)


# --- what is none of ours ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"stream": "bnbbtc@kline_1m", "data": {"e": "kline"}}, "kline_1m"),
        ({"stream": "bnbbtc@newThing", "data": 7}, "newThing"),
        ({"stream": "nosuch@aggTrade", "data": {**TRADE, "s": "NOSUCH"}}, "aggTrade"),
        ({"stream": "!miniTicker@arr", "data": []}, "arr"),
        ({"data": {}, "stream": "bnbbtc@kline_1m"}, "kline_1m"),
        ({"e": "newThing", "E": 1}, "newThing"),
        ({"result": ["bnbbtc@aggTrade"], "id": 3}, "answer that nobody waits for"),
        ({}, "answer that nobody waits for"),
    ],
)
def test_what_is_not_known_is_ignored(line: Line, message: Any, what: str) -> None:
    for _ in range(2):
        assert line.take(compact(message)) == [Ignored(what)]


def test_the_order_of_fields_and_blanks_do_not_matter(line: Line) -> None:
    data = {**TRADE}
    text = json.dumps({"data": dict(reversed(data.items())), "stream": "bnbbtc@aggTrade"}, indent=1)
    [trade] = line.take(text)
    assert isinstance(trade, Trade)
    assert line.take(text.encode()) == [Ignored("duplicate")]


# --- what is wrong -------------------------------------------------------------------------------

NOT_NUMBERS = ["-1", "NaN", "Infinity", "1_0", " 1", "\u0661", "", "1e9999", None, [], True]


@pytest.mark.parametrize("value", [*NOT_NUMBERS, "0"])
@pytest.mark.parametrize("name", ["p", "q"])
def test_a_trade_of_no_amount_is_refused_by_its_path(line: Line, name: str, value: Any) -> None:
    with pytest.raises(DecodeError) as error:
        line.trade(**{name: value})
    assert list(problems(error)) == [f"$.data.{name}"]
    assert line.session.last_sequence("BNB-BTC") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "12345"), ("a", -1), ("a", 2**63), ("a", 1.5), ("a", None), ("a", 10**400),
        ("T", -1), ("T", "now"), ("T", 10**17), ("m", 1), ("m", "yes"), ("m", None), ("s", 7),
        ("s", "ETHBTC"), ("e", "trade"), ("e", None),
    ],
)  # fmt: skip
def test_a_trade_with_a_wrong_field_is_refused_by_its_path(
    line: Line, name: str, value: Any
) -> None:
    with pytest.raises(DecodeError) as error:
        line.trade(**{name: value})
    assert list(problems(error)) == [f"$.data.{name}"]


@pytest.mark.parametrize("name", ["e", "s", "a", "p", "q", "T", "m"])
def test_a_trade_without_a_field_is_refused(line: Line, name: str) -> None:
    data = {key: value for key, value in TRADE.items() if key != name}
    with pytest.raises(DecodeError) as error:
        line.take(line.text("bnbbtc@aggTrade", data))
    assert f"missing: {name}" in problems(error).values()


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("name", ["b", "B", "a", "A"])
def test_a_ticker_of_no_amount_is_refused_by_its_path(line: Line, name: str, value: Any) -> None:
    with pytest.raises(DecodeError) as error:
        line.ticker(**{name: value})
    assert list(problems(error)) == [f"$.data.{name}"]


def test_half_a_side_is_refused(line: Line) -> None:
    with pytest.raises(DecodeError) as error:
        line.ticker(B="0")
    assert problems(error) == {"$.data.B": "zero"}


def test_on_futures_a_ticker_has_a_time() -> None:
    line = Line(futures=True)
    with pytest.raises(DecodeError) as error:
        line.ticker(E=-1)
    assert list(problems(error)) == ["$.data.E"]


WRONG_DEPTHS = [
    ({"b": [["-1", "1"]]}, "$.data.b[0][0]"),
    ({"b": [["1", "-1"]]}, "$.data.b[0][1]"),
    ({"a": [["1", "NaN"]]}, "$.data.a[0][1]"),
    ({"a": [["0", "1"]]}, "$.data.a[0]"),
    ({"a": [["1"]]}, "$.data.a[0]"),
    ({"a": [["3", "1"], ["3.0", "2"]]}, "$.data.a"),
    ({"a": "x"}, "$.data.a"),
    ({"u": -1}, "$.data.u"),
    ({"U": 2**64}, "$.data.U"),
    ({"U": "1"}, "$.data.U"),
    ({"E": None}, "$.data.E"),
    ({"s": "ETHBTC"}, "$.data.s"),
    ({"e": "kline"}, "$.data.e"),
]


@pytest.mark.parametrize(("changes", "path"), WRONG_DEPTHS)
def test_a_wrong_delta_ends_the_trust_in_that_book(
    line: Line, changes: dict[str, Any], path: str
) -> None:
    line.whole()
    gap, resync, malformed = line.depth(161, 165, **changes)
    assert isinstance(malformed, Malformed)
    assert malformed.announced
    assert malformed.error.path == path
    assert (gap.symbol, gap.reason, resync) == ("BNB-BTC", GapReason.MALFORMED, Resync(BOOK))
    assert line.session.book_image("BNB-BTC") is None


def test_on_futures_a_delta_names_the_one_before() -> None:
    line = Line(futures=True)
    line.whole()
    *_, malformed = line.depth(161, 165, pu=None)
    assert malformed.error.path == "$.data.pu"


@pytest.mark.parametrize("cut", [30, 60, 120])
def test_a_torn_delta_is_known_by_its_stream(line: Line, cut: int) -> None:
    line.whole()
    text = line.text("bnbbtc@depth@100ms", DEPTH, U=161, u=165)
    gap, resync, malformed = line.take(text[: len(text) - cut])
    assert (gap.reason, resync) == (GapReason.MALFORMED, Resync(BOOK))
    assert "not JSON" in malformed.error.problems[0].message


@pytest.mark.parametrize(
    "message",
    ["", "x", "[]", "7", "null", "{", '{"stream":', b"\xff\xfe", '{"stream":7}', "[" * 999],
)
def test_what_is_no_message_is_refused(line: Line, message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        line.take(message)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"<html><body>502 Bad Gateway</body></html>", "$"),
        (b"", "$"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "$.lastUpdateId"),
        (b"\xff", "$"),
        (b'{"lastUpdateId":160,"E":1,"bids":[["1","0"]],"asks":[]}', "$.bids[0]"),
        (b'{"lastUpdateId":160,"E":1,"bids":[["1","-1"]],"asks":[]}', "$.bids[0][1]"),
        (b'{"lastUpdateId":160,"E":1,"bids":[["1_0","1"]],"asks":[]}', "$.bids[0][0]"),
        (b'{"lastUpdateId":-1,"E":1,"bids":[],"asks":[]}', "$.lastUpdateId"),
        (b'{"lastUpdateId":"160","E":1,"bids":[],"asks":[]}', "$.lastUpdateId"),
        (b'{"lastUpdateId":160,"E":1,"bids":[["1","1"],["1","2"]],"asks":[]}', "$.bids"),
    ],
)
def test_a_snapshot_that_is_none_is_refused(line: Line, body: bytes, path: str) -> None:
    line.depth(157, 160)
    with pytest.raises(DecodeError) as error:
        line.snapshot_of(body)
    assert error.value.path == path
    assert line.session.book_image("BNB-BTC") is None
    assert isinstance(line.snapshot()[0], BookSnapshot)


def test_the_venues_words_are_in_the_error_of_an_answer_that_is_none(line: Line) -> None:
    with pytest.raises(DecodeError, match=r"Invalid symbol\."):
        line.snapshot_of(b'{"code":-1121,"msg":"Invalid symbol."}')


# --- instruments ---------------------------------------------------------------------------------


def spot_info(**changes: Any) -> dict[str, Any]:
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
    ]
    one = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
    return {**one, "filters": filters, **changes}


def futures_info(**changes: Any) -> dict[str, Any]:
    kind = {"contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000}
    return {**spot_info(), **kind, **changes}


def parse(venue: Any, *symbols: dict[str, Any]) -> Instruments:
    body = compact({"timezone": "UTC", "symbols": symbols}).encode()
    return venue.parse_instruments([body])  # type: ignore[no-any-return]  # any of the two


def test_the_list_of_spot() -> None:
    halted = spot_info(symbol="OLDBTC", status="BREAK", baseAsset="OLD", quoteAsset="BTC")
    instruments = parse(Binance(), spot_info(), halted)
    assert instruments.by_symbol("BTC-USDT") == Instrument(
        "BTC-USDT", "BTCUSDT", "BTC", "USDT", SPOT, True, Decimal("0.01"), Decimal("0.00001")
    )
    old = instruments.by_venue_symbol("OLDBTC")
    assert old is not None
    assert (old.symbol, old.active, "OLD-BTC" in instruments) == ("OLD-BTC", False, False)


def test_the_list_of_futures() -> None:
    dated = {"contractType": "CURRENT_QUARTER", "deliveryDate": 1_774_598_400_000}
    stock = {"contractType": "TRADIFI_PERPETUAL", "symbol": "TSLAUSDT", "baseAsset": "TSLA"}
    coming = {"contractType": "", "status": "PENDING_TRADING", "symbol": "NEWUSDT"}
    instruments = parse(
        BinanceFutures(),
        futures_info(),
        futures_info(symbol="BTCUSDT_260327", **dated),
        futures_info(**stock),
        futures_info(baseAsset="NEW", **coming),
    )
    assert instruments.symbols == {
        "BTCUSDT": "BTC-USDT-PERP",
        "BTCUSDT_260327": "BTC-USDT-20260327",
        "TSLAUSDT": "TSLA-USDT-PERP",
    }
    new = instruments.by_venue_symbol("NEWUSDT")
    assert new is not None
    assert (new.symbol, new.active) == ("NEW-USDT-PERP", False)


@pytest.mark.parametrize("venue", [Binance(), BinanceFutures()])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"{}", b'{"symbols":[]}', b'{"symbols":[{}]}', b'{"symbols":7}', b"",
        compact({"symbols": [spot_info(filters=7)]}).encode(),
        compact({"symbols": [futures_info(), futures_info(status="HALT")]}).encode(),
        compact(
            {"symbols": [spot_info(filters=[{"filterType": "PRICE_FILTER", "tickSize": "x"}])]}
        ).encode(),
        compact(
            {"symbols": [futures_info(symbol="A_1", contractType="", deliveryDate=10**30)]}
        ).encode() + b"]",
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(venue: Any, body: bytes) -> None:
    with pytest.raises(DecodeError):
        venue.parse_instruments([body])


def test_a_date_that_can_not_be_is_refused() -> None:
    with pytest.raises(DecodeError, match=r"symbols\[0\]"):
        parse(BinanceFutures(), futures_info(symbol="A_1", contractType="", deliveryDate=10**30))


def test_gaps_are_events_that_can_be_told_from_others(line: Line) -> None:
    line.whole()
    items = line.depth(170, 171)
    assert [item for item in items if isinstance(item, Gap) and item.of_book and item.symbol]


# --- mutants -------------------------------------------------------------------------------------


def corpus(line: Line) -> list[str]:
    stream = "bnbbtc@depth@100ms"
    ours = [line.text(stream, DEPTH, U=n, u=n + 1, pu=n - 1) for n in range(157, 180, 2)]
    return [
        '{"result":null,"id":1}',
        '{"code":2,"msg":"Invalid request: too many parameters","id":2}',
        compact({"stream": "!serverShutdown", "data": SHUTDOWN}),
        compact({"stream": "bnbbtc@kline_1m", "data": {"e": "kline"}}),
        *(line.text("bnbbtc@aggTrade", TRADE, a=n) for n in (1, 2, 5)),
        line.text("ethbtc@bookTicker", TICKER, s="ETHBTC"),
        *ours,
    ]


class Whole:
    """Makes sessions that have asked for something, and have a book."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.made: list[Any] = []

    def __call__(self) -> Any:
        line = Line(futures=self._line.futures)
        line.session.requests(subscribe=[BOOK, TRADES])
        line.whole()
        self.made = [line.session]  # the last
        return line.session


def test_mutants_give_events_or_decode_errors(line: Line) -> None:
    make = Whole(line)
    report = fuzz_session(make, corpus(line), runs=12_000, seed=11)
    assert report.refused > 2000
    assert report.events > 2000


def test_mutants_leave_nothing_behind(line: Line) -> None:
    make = Whole(line)
    session = make()
    fuzz_session(lambda: session, corpus(line), runs=6000, seed=12)
    assert set(session._asked.values()) == {"BNB-BTC"}
    assert {route.symbol for route in session._routes.values()} <= {"BNB-BTC", "ETH-BTC"}
    assert len(session._routes) < 2000
    assert set(session._books._syncs) <= {"BNB-BTC", "ETH-BTC"}
    assert set(session._ids.last_of) <= {"BNB-BTC", "ETH-BTC"}


def test_streams_that_are_remembered_are_bounded(line: Line) -> None:
    for n in range(10_000):
        assert line.take(compact({"stream": f"bnbbtc@kline_{n}", "data": {}}))
    assert len(line.session._routes) == 8192
    assert isinstance(line.ticker()[0], Quote)


def test_mutants_of_snapshots_give_a_book_or_a_decode_error(line: Line) -> None:
    body = compact({**SNAPSHOT, **(TIMES if line.futures else {}), "lastUpdateId": 160})
    rng, books = Random(13), 0
    for _ in range(4000):
        fresh = Line(futures=line.futures)
        fresh.depth(157, 160)
        mutant = mutant_of(body, rng)
        try:
            items = fresh.snapshot_of(mutant if isinstance(mutant, bytes) else mutant.encode())
        except DecodeError:
            continue
        books += any(isinstance(item, BookSnapshot) for item in items)
    assert books > 100
