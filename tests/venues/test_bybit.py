"""Bybit v5: a real session, and the messages that its documentation shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import pytest

from feedhandler import (
    BookDelta,
    BookSnapshot,
    ConfigError,
    DecodeError,
    Gap,
    Level,
    Quote,
    Side,
    Trade,
    Trust,
)
from feedhandler.abc import (
    BookSession,
    BookVenue,
    Heartbeat,
    Ignored,
    ListedVenue,
    Malformed,
    Refused,
    RequestingSession,
    Resync,
    Subscribed,
    Subscription,
    Synced,
    TopSession,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.errors import UnknownSymbol
from feedhandler.instruments import Instrument, InstrumentKind, Instruments
from feedhandler.model import GapReason
from feedhandler.venues.bybit import Bybit, BybitSession

D = Decimal
Category = Literal["linear", "spot"]
SYMBOL = "BTC-USDT-PERP"
BOOK = Subscription("book", SYMBOL)
TRADES = Subscription("trades", SYMBOL)
TICKER = Subscription("ticker", SYMBOL)
LISTS = {
    "linear": Instruments(
        [Instrument(SYMBOL, "BTCUSDT", "BTC", "USDT", InstrumentKind.PERPETUAL)], venue="bybit"
    ),
    "spot": Instruments(
        [Instrument("BTC-USDT", "BTCUSDT", "BTC", "USDT", InstrumentKind.SPOT)], venue="bybit"
    ),
}


def session(category: Category = "linear", **fields: Any) -> BybitSession:
    return Bybit(category=category, instruments=LISTS[category], **fields).session()


def decode(session: BybitSession, message: str | bytes | dict[str, Any]) -> list[Any]:
    text = json.dumps(message) if isinstance(message, dict) else message
    return [*session.decode(text, recv_ns=7, epoch=2)]


def compact(message: dict[str, Any]) -> str:
    """As the venue writes it: the fast way is for this."""
    return json.dumps(message, separators=(",", ":"))


# --- a real session ------------------------------------------------------------------------------


def recorded(proof: Any, category: Category) -> list[Any]:
    venue = Bybit(category=category)
    bodies = [body for url, body in proof.rest_answers() if f"category={category}&" in url]
    venue = venue.with_instruments(venue.parse_instruments(bodies))
    return [*proof.decode(venue, only=lambda url: url.endswith(category))]


def test_the_recording_of_contracts(proof: Callable[[str], Any]) -> None:
    one = proof("bybit")
    items = recorded(one, "linear")
    assert not any(isinstance(item, Refused | Resync) for item in items)
    one.check(items, trust=Trust.VERIFIED, partly=True)


def test_the_recording_of_spot(proof: Callable[[str], Any]) -> None:
    """Its tickers have no bid or ask, and the expected lines say 0 for both of them.

    Neither a bid nor an ask of 0 was sent: the quotes here name no side, so their lines are
    compared with that word in the place of the 0.
    """
    one = proof("bybit")
    items = recorded(one, "spot")
    one.check(items, trust=Trust.VERIFIED, ticker=False, partly=True)
    quotes = [item for item in items if isinstance(item, Quote)]
    assert {(quote.bid, quote.bid_size, quote.ask, quote.ask_size) for quote in quotes} == {
        (None, None, None, None)
    }
    for symbol in ("BTC-USDT", "ETH-USDT"):
        own = [quote for quote in quotes if quote.symbol == symbol]
        lines = "".join(f"Q|{symbol}|0|0\n" for _ in own)
        times = "".join(f"{(quote.venue_time_ns or 0) // 1000}\n" for quote in own)
        expected = one.expected["per_symbol"][symbol]
        assert hashlib.sha256(lines.encode()).hexdigest() == expected["ticker"]
        assert hashlib.sha256(times.encode()).hexdigest() == expected["ticker_ts"]


def test_the_recording_as_a_whole(proof: Callable[[str], Any]) -> None:
    one = proof("bybit")
    items = [*recorded(one, "linear"), *recorded(one, "spot")]
    one.check(items, trust=Trust.VERIFIED, ticker=False)


# --- the venue, its requests and their answers ---------------------------------------------------


def test_it_fits_the_protocols() -> None:
    venue = Bybit()
    assert isinstance(venue, BookVenue)
    assert isinstance(venue, ListedVenue)
    assert isinstance(venue, TraitedVenue)
    assert isinstance(venue.session(), BookSession)
    assert isinstance(venue.session(), RequestingSession)
    assert venue.url == "wss://stream.bybit.com/v5/public/linear"
    assert Bybit(category="spot").url == "wss://stream.bybit.com/v5/public/spot"
    assert Bybit("ws://127.0.0.1:1/", category="spot").url == "ws://127.0.0.1:1/"
    assert venue.traits.keep_alive is not None
    assert venue.traits.keep_alive.every_s == 20
    assert venue.traits.limits.per_message == 10


@pytest.mark.parametrize(
    "fields",
    [{"category": "option"}, {"depth": 20}, {"depth": True}, {"category": "spot", "depth": 1}],
)
def test_what_the_venue_does_not_have_is_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Bybit(**fields)


def asked(one: BybitSession, **wanted: Any) -> list[dict[str, Any]]:
    return [json.loads(message) for message in one.requests(**wanted)]


def test_requests_name_topics() -> None:
    (request,) = asked(session(), subscribe=[BOOK, TRADES, TICKER])
    assert request == {
        "req_id": "1",
        "op": "subscribe",
        "args": ["orderbook.200.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"],
    }
    (request,) = asked(session("spot", depth=50), subscribe=[
        Subscription("book", "BTC-USDT"), Subscription("ticker", "BTC-USDT"),
    ])  # fmt: skip
    assert request["args"] == ["orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT"]


def test_a_request_has_at_most_ten_topics() -> None:
    wanted = [Subscription("trades", f"A{i}USDT") for i in range(25)]
    requests = asked(Bybit().session(), subscribe=wanted)
    assert [len(request["args"]) for request in requests] == [10, 10, 5]
    assert [request["req_id"] for request in requests] == ["1", "2", "3"]


def test_an_unknown_symbol_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownSymbol, match=SYMBOL):
        session().requests(subscribe=[Subscription("book", "BTC-USDT")])


def answer(number: str = "", *, op: str = "subscribe", **fields: Any) -> dict[str, Any]:
    return {"success": True, "ret_msg": "", "conn_id": "2324", "req_id": number, "op": op, **fields}


def test_one_answer_acknowledges_all_of_its_request() -> None:
    one = session()
    asked(one, subscribe=[BOOK, TRADES])
    asked(one, subscribe=[TICKER])
    assert decode(one, answer("2", ret_msg="subscribe")) == [Subscribed((TICKER,))]
    assert decode(one, answer("1")) == [Subscribed((BOOK, TRADES))]
    (request,) = asked(one, unsubscribe=[TRADES])
    ended = answer(request["req_id"], op="unsubscribe")
    assert decode(one, ended) == [Unsubscribed((TRADES,))]


def test_an_answer_without_a_number_is_to_the_oldest_request() -> None:
    one = session()
    asked(one, subscribe=[BOOK])
    asked(one, subscribe=[TRADES])
    assert decode(one, answer()) == [Subscribed((BOOK,))]
    bare = {"success": True, "ret_msg": "subscribe", "conn_id": "x", "op": "subscribe"}
    assert decode(one, bare) == [Subscribed((TRADES,))]
    (item,) = decode(one, bare)
    assert isinstance(item, Ignored)


def test_a_book_that_is_not_whole_ends_and_begins_anew_without_a_word_of_its_end() -> None:
    one = session()
    asked(one, subscribe=[BOOK])
    decode(one, answer("1"))
    end, begin = asked(one, subscribe=[BOOK])
    assert (end["op"], begin["op"]) == ("unsubscribe", "subscribe")
    (ended,) = decode(one, answer(end["req_id"], op="unsubscribe"))
    assert isinstance(ended, Ignored)
    assert decode(one, answer(begin["req_id"])) == [Subscribed((BOOK,))]


def test_the_topic_that_is_refused_is_named_in_the_venues_words() -> None:
    one = session()
    asked(one, subscribe=[BOOK, TRADES])
    words = "error:handler not found,topic:orderbook.200.BTCUSDT"
    items = decode(one, answer("1", success=False, ret_msg=words))
    assert items == [Refused(BOOK, words)]


def test_a_refusal_that_names_no_topic_is_of_the_whole_request() -> None:
    one = session()
    asked(one, subscribe=[BOOK, TRADES])
    items = decode(one, answer("1", success=False, ret_msg="args size >10"))
    assert items == [Refused(BOOK, "args size >10"), Refused(TRADES, "args size >10")]
    assert decode(one, answer(success=False, ret_msg="error:invalid op", op="nope")) == [
        Refused(None, "error:invalid op")
    ]


def test_what_is_subscribed_already_is_confirmed() -> None:
    one = session()
    asked(one, subscribe=[BOOK, TRADES])
    words = "error:already subscribed,topic:publicTrade.BTCUSDT"
    assert decode(one, answer("1", success=False, ret_msg=words)) == [Subscribed([TRADES])]


@pytest.mark.parametrize("words", ["Too many visits!", "system error", "server busy"])
def test_a_passing_trouble_of_the_venue_is_no_refusal(words: str) -> None:
    one = session()
    asked(one, subscribe=[BOOK])
    (item,) = decode(one, answer("1", success=False, ret_msg=words))
    assert isinstance(item, Ignored)


@pytest.mark.parametrize(
    "pong",
    [
        answer(op="ping", ret_msg="pong"),
        {"success": True, "ret_msg": "pong", "conn_id": "0970e817", "op": "ping"},
        {"args": ["1672916271846"], "op": "pong"},
    ],
)
def test_pongs_are_life(pong: dict[str, Any]) -> None:
    assert decode(session(), pong) == [Heartbeat()]


@pytest.mark.parametrize(
    "message",
    [
        {"topic": "kline.1.BTCUSDT", "data": [], "ts": 1, "type": "snapshot"},
        {"topic": "allLiquidation.BTCUSDT", "data": []},
        {"topic": "publicTrade.ETHUSDT", "data": [{}]},
        {"topic": "orderbook.200.ETHUSDT", "data": {}},
        {"type": "COMMAND_RESP", "success": True, "conn_id": "aa01"},
        {},
    ],
)
def test_what_is_of_no_use_is_ignored(message: dict[str, Any]) -> None:
    for text in (json.dumps(message), compact(message)):
        (item,) = decode(session(), text)
        assert isinstance(item, Ignored)


# --- trades and the top of the book --------------------------------------------------------------

TRADE = {
    "topic": "publicTrade.BTCUSDT",
    "type": "snapshot",
    "ts": 1672304486868,
    "data": [
        {
            "T": 1672304486865,
            "s": "BTCUSDT",
            "S": "Buy",
            "v": "0.001",
            "p": "16578.50",
            "L": "PlusTick",
            "i": "20f43950-d8dd-5b31-9112-a178eb6023af",
            "BT": False,
            "seq": 1783284617,
        }
    ],
}


@pytest.mark.parametrize(
    "text",
    [json.dumps(TRADE), compact(TRADE), compact(TRADE).encode(), json.dumps(TRADE, indent=1)],
)
def test_the_trade_of_the_documentation(text: str | bytes) -> None:
    assert decode(session(), text) == [
        Trade(
            SYMBOL, D("16578.50"), D("0.001"), Side.BUY, "20f43950-d8dd-5b31-9112-a178eb6023af",
            None, 1_672_304_486_865_000_000, 7, "bybit", 2,
        )
    ]  # fmt: skip


def ticker(kind: str = "snapshot", **data: str) -> str:
    message = {"topic": "tickers.BTCUSDT", "type": kind, "cs": 1, "ts": 1672304486868}
    return compact({**message, "data": {"symbol": "BTCUSDT", "lastPrice": "1", **data}})


def test_a_ticker_says_what_has_changed_of_it() -> None:
    one = session()
    whole = ticker(bid1Price="10.0", bid1Size="5", ask1Price="11.50", ask1Size="6")
    time_ns = 1_672_304_486_868_000_000
    first = Quote(SYMBOL, D("10.0"), D(5), D("11.50"), D(6), None, time_ns, 7, "bybit", 2)
    assert decode(one, whole) == [first]
    (quote,) = decode(one, ticker("delta", ask1Price="11.40", ask1Size="1"))
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (D(10), D(5), D("11.4"), D(1))
    assert decode(one, ticker("delta"))[0].ask == D("11.4")
    (quote,) = decode(one, ticker("delta", bid1Price="", bid1Size=""))
    assert (quote.bid, quote.bid_size, quote.ask) == (None, None, D("11.4"))


def test_a_ticker_is_not_told_before_all_of_it_is_known() -> None:
    one = session()
    (item,) = decode(one, ticker("delta", bid1Price="10", bid1Size="5"))
    assert isinstance(item, Ignored)
    (quote,) = decode(one, ticker("delta", ask1Price="11", ask1Size="5"))
    assert (quote.bid, quote.ask) == (D(10), D(11))


def test_after_a_malformed_ticker_nothing_old_is_told() -> None:
    one = session()
    decode(one, ticker(bid1Price="10", bid1Size="5", ask1Price="11", ask1Size="6"))
    with pytest.raises(DecodeError, match=r"\$\.data\.bid1Price"):
        decode(one, ticker("delta", bid1Price="-1", bid1Size="5"))
    (item,) = decode(one, ticker("delta", ask1Price="12"))
    assert isinstance(item, Ignored)
    decode(one, ticker("delta", bid1Price="10", bid1Size="4"))
    (quote,) = decode(one, ticker("delta", ask1Size="4"))
    assert (quote.bid_size, quote.ask, quote.ask_size) == (D(4), D(12), D(4))


def book(
    kind: str, number: int, *, bids: Any = (), asks: Any = (), depth: int = 200, **data: Any
) -> dict[str, Any]:
    fields = {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": 7961638724, **data}
    return {
        "topic": f"orderbook.{depth}.BTCUSDT",
        "type": kind,
        "ts": 1672304484978,
        "data": {name: value for name, value in fields.items() if value is not ...},
        "cts": 1672304484976,
    }


def test_the_top_of_spots_book_is_its_first_level() -> None:
    one = session("spot")
    first = book("snapshot", 5, bids=[["10", "1"]], asks=[["11", "2"]], depth=1)
    time_ns = 1_672_304_484_978_000_000
    quote = Quote("BTC-USDT", D(10), D(1), D(11), D(2), None, time_ns, 7, "bybit", 2)
    assert decode(one, compact(first)) == [quote]
    (empty,) = decode(one, compact(book("snapshot", 6, bids=[["10", "1"]], depth=1)))
    assert (empty.bid, empty.ask, empty.ask_size) == (D(10), None, None)
    assert one.book_image("BTC-USDT") is None


def test_the_first_level_by_its_changes() -> None:
    """As it was sent before 2025."""
    one = session("spot")
    (item,) = decode(one, compact(book("delta", 4, bids=[["10", "1"]], depth=1)))
    assert isinstance(item, Ignored)
    decode(one, compact(book("snapshot", 5, bids=[["10", "1"]], asks=[["11", "2"]], depth=1)))
    (quote,) = decode(
        one, compact(book("delta", 6, bids=[["10", "0"], ["9", "3"]], asks=[["11", "4"]], depth=1))
    )
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (D(9), D(3), D(11), D(4))


# --- the book ------------------------------------------------------------------------------------

BIDS = [["16493.50", "0.006"], ["16493.00", "0.100"]]
ASKS = [["16611.00", "0.029"], ["16612.00", "0.213"]]


def started() -> BybitSession:
    one = session()
    items = decode(one, compact(book("snapshot", 18521288, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    assert items[0].trust is Trust.VERIFIED
    return one


def test_the_book_of_the_documentation() -> None:
    one = session()
    first = book("snapshot", 18521288, bids=BIDS, asks=ASKS)
    snapshot, synced = decode(one, first)
    assert snapshot.bids == (Level(D("16493.50"), D("0.006")), Level(D("16493.00"), D("0.100")))
    assert (snapshot.sequence, snapshot.venue_time_ns) == (18521288, 1_672_304_484_978_000_000)
    assert synced == Synced(BOOK)
    later = book("delta", 18521289, bids=[["16493.50", "0"]], asks=[["16610.50", "1"]])
    (delta,) = decode(one, compact(later))
    assert (delta.sequence, delta.previous, delta.trust) == (18521289, 18521288, Trust.VERIFIED)
    image = one.book_image(SYMBOL)
    assert image is not None
    assert (image.bids[0].price, image.asks[0].price) == (D("16493"), D("16610.5"))
    assert isinstance(one, TopSession)
    assert one.best(SYMBOL) == (image.bids[0], image.asks[0])
    assert one.last_book_sequence(SYMBOL) == 18521289


def test_a_book_of_another_depth_does_not_disturb_the_first() -> None:
    one = started()
    for kind, number in (("snapshot", 900), ("delta", 901)):
        other = book(kind, number, bids=BIDS, asks=ASKS, depth=50)
        (ignored,) = decode(one, compact(other))
        assert isinstance(ignored, Ignored)
    (delta,) = decode(one, compact(book("delta", 18521289)))
    assert delta.trust is Trust.VERIFIED


def test_a_hole_is_announced_with_its_bounds_and_closed_by_a_snapshot() -> None:
    one = started()
    gap, resync = decode(one, compact(book("delta", 18521292)))
    assert one.best(SYMBOL) == one.best("ETH-USDT-PERP") == (None, None)
    assert (gap.reason, gap.from_sequence, gap.to_sequence, gap.missing, gap.of_book) == (
        GapReason.SEQUENCE, 18521289, 18521291, 3, True,
    )  # fmt: skip
    assert resync == Resync(BOOK)
    items = decode(one, compact(book("snapshot", 18521292, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    (delta,) = decode(one, compact(book("delta", 18521293)))
    assert delta.trust is Trust.VERIFIED


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_number_1_is_a_snapshot_after_a_restart(kind: str) -> None:
    one = started()
    items = decode(one, compact(book(kind, 1, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    (delta,) = decode(one, compact(book("delta", 2)))
    assert (delta.sequence, delta.trust) == (2, Trust.VERIFIED)


def test_a_snapshot_takes_the_place_of_the_book_at_any_time() -> None:
    one = started()
    items = decode(one, compact(book("snapshot", 18521289, bids=BIDS[:1], asks=ASKS)))
    assert isinstance(items[0], BookSnapshot)
    image = one.book_image(SYMBOL)
    assert image is not None
    assert len(image.bids) == 1


def test_the_first_level_as_a_book_is_repeated_with_its_number() -> None:
    one = session(depth=1)
    for number in (5, 5, 6):
        items = decode(one, compact(book("snapshot", number, bids=BIDS[:1], asks=ASKS, depth=1)))
        assert items[0].trust is Trust.VERIFIED


def test_an_old_snapshot_is_dropped() -> None:
    one = started()
    (item,) = decode(one, compact(book("snapshot", 18521280, bids=BIDS, asks=ASKS)))
    assert isinstance(item, Ignored)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"b": [["16493.50", "-1"]]}, "$.data.b[0]"),
        ({"b": [["NaN", "1"]]}, "$.data.b[0]"),
        ({"b": [["1_000", "1"]]}, "$.data.b[0]"),
        ({"b": [["16493.50"]]}, "$.data.b[0]"),
        ({"b": [["0", "1"]]}, "$.data.b[0]"),
        ({"a": [["16611", "1"], ["16611.0", "2"]]}, "$.data.a"),
        ({"a": ...}, "$.data.a"),
        ({"a": None}, "$.data.a"),
        ({"u": -1}, "$.data.u"),
        ({"u": "5"}, "$.data.u"),
        ({"u": ...}, "$.data.u"),
        ({"u": 2**63}, "$.data.u"),
        ({"s": "ETHUSDT"}, "$.data.s"),
    ],
)
def test_a_malformed_delta_breaks_its_book_and_names_the_field(
    fields: dict[str, Any], path: str
) -> None:
    one = started()
    gap, resync, malformed = decode(one, compact(book("delta", 18521289, **fields)))
    assert (gap.reason, gap.symbol, gap.of_book) == (GapReason.MALFORMED, SYMBOL, True)
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    assert path in [problem.path for problem in malformed.error.problems]


def test_a_snapshot_has_no_empty_level() -> None:
    with pytest.raises(DecodeError, match="a size of 0 in a snapshot"):
        decode(session(), compact(book("snapshot", 5, bids=[["10", "0"]])))


def test_a_crossed_book_is_not_published() -> None:
    one = started()
    gap, resync = decode(one, compact(book("delta", 18521289, bids=[["16611.5", "1"]])))
    assert isinstance(gap, Gap)
    assert (gap.reason, resync) == (GapReason.CROSSED, Resync(BOOK))


def test_deltas_before_a_snapshot_wait_for_it() -> None:
    one = session()
    assert decode(one, compact(book("delta", 6))) == []
    items = decode(one, compact(book("snapshot", 5, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [BookSnapshot, Synced, BookDelta]


@pytest.mark.parametrize(
    ("field", "value"),
    [("p", "-1"), ("p", "0"), ("v", "NaN"), ("T", -5), ("S", "Up"), ("s", "ETHUSDT"), ("i", 5)],
)
def test_a_malformed_trade_names_the_field(field: str, value: object) -> None:
    message: dict[str, Any] = json.loads(json.dumps(TRADE))
    message["data"][0][field] = value
    with pytest.raises(DecodeError) as error:
        decode(session(), compact(message))
    assert f"$.data[0].{field}" in [problem.path for problem in error.value.problems]


@pytest.mark.parametrize("message", ["", "{", b"\xff", "[]", "3", '{"topic":5}', '{"op":[]}'])
def test_what_is_no_message_is_a_decode_error(message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(session(), message)


# --- the list of instruments ---------------------------------------------------------------------


def lines(*listed: dict[str, Any], category: str = "linear", code: int = 0) -> bytes:
    result = {"category": category, "list": listed, "nextPageCursor": ""}
    return json.dumps({"retCode": code, "retMsg": "words", "result": result}).encode()


def line(symbol: str, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "deliveryTime": "0",
        "priceFilter": {"tickSize": "0.10"},
        "lotSizeFilter": {"qtyStep": "0.001"},
        **fields,
    }


def test_the_list_of_instruments() -> None:
    future = {"contractType": "LinearFutures", "deliveryTime": "1786694400000"}
    listed = Bybit().parse_instruments(
        [
            lines(
                line("BTCUSDT"),
                line("BTCPERP", quoteCoin="USDC"),
                line("BTCUSDT-14AUG26", **future),
                line("LUNAUSDT", baseCoin="LUNA", status="Closed"),
            )
        ]
    )
    assert {one.venue_symbol: (one.symbol, one.active) for one in listed} == {
        "BTCUSDT": (SYMBOL, True),
        "BTCPERP": ("BTC-USDC-PERP", True),
        "BTCUSDT-14AUG26": ("BTC-USDT-20260814", True),
        "LUNAUSDT": ("LUNA-USDT-PERP", False),
    }
    assert listed.by_symbol(SYMBOL).price_increment == D("0.1")


@pytest.mark.parametrize(
    "body",
    [
        lines(code=10006),
        lines(category="spot"),
        b"<html>403, access too frequent</html>",
        b'{"retCode":0,"result":{"category":"linear","list":[{}]}}',
        lines(line("X"), line("X", baseCoin="ETH")),
    ],
)
def test_an_answer_that_is_no_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        Bybit().parse_instruments([body])
