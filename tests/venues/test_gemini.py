"""Gemini: each message that is documented, and what can be wrong with it."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest

from feedhandler import (
    BookDelta,
    BookSnapshot,
    DecodeError,
    Gap,
    GapReason,
    Level,
    Side,
    Trade,
    Trust,
    UnknownSymbol,
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
    Session,
    Subscribed,
    Subscription,
    Synced,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.venues.gemini import Gemini

DETAILS = [
    {
        "symbol": "BTCUSD", "base_currency": "BTC", "quote_currency": "USD", "tick_size": 1e-8,
        "quote_increment": 0.01, "min_order_size": "0.00001", "status": "open",
        "wrap_enabled": False, "product_type": "spot", "contract_type": "vanilla",
        "contract_price_currency": "USD",
    },
    {
        "symbol": "PAXGUSD", "base_currency": "PAXG", "quote_currency": "USD", "tick_size": 1e-8,
        "quote_increment": 0.01, "status": "post_only", "product_type": "spot",
    },
    {
        "symbol": "BTCGUSDPERP", "base_currency": "BTC", "quote_currency": "GUSD",
        "tick_size": 0.0001, "quote_increment": 0.5, "status": "open", "product_type": "swap",
    },
    {
        "symbol": "ZECBTC", "base_currency": "ZEC", "quote_currency": "BTC", "status": "closed",
        "product_type": "spot",
    },
]  # fmt: skip
VENUE = Gemini()
VENUE = VENUE.with_instruments(VENUE.parse_instruments([json.dumps(DETAILS).encode()]))
TRADES, BOOK = Subscription("trades", "BTC-USD"), Subscription("book", "BTC-USD")

# The examples of the documentation.
RECENT = {
    "type": "trade", "symbol": "BTCUSD", "eventid": 169841458, "timestamp": 1560976400428,
    "price": "9122.04", "quantity": "0.0073173", "side": "sell", "tid": 2840140800042677,
}  # fmt: skip
ANSWER = {
    "type": "l2_updates", "symbol": "BTCUSD",
    "changes": [
        ["buy", "9122.04", "0.00121425"], ["buy", "9121.5", "1"], ["sell", "9122.07", "0.98942292"],
    ],
    "trades": [RECENT],
}  # fmt: skip
UPDATE = {
    "type": "l2_updates", "symbol": "BTCUSD", "changes": [["sell", "9160.20", "0.1921229751"]],
}  # fmt: skip
TRADE = {
    "type": "trade", "symbol": "BTCUSD", "event_id": 3575573053, "timestamp": 151231241,
    "price": "9004.21000000", "quantity": "0.09110000", "side": "buy", "tid": 2840140800042678,
}  # fmt: skip
HEARTBEAT = {"type": "heartbeat", "timestamp": 1560976400428}
CANDLES = {
    "type": "candles_15m_updates", "symbol": "BTCUSD",
    "changes": [[1561054500000, 9350.18, 9358.35, 9350.18, 9355.51, 2.07]],
}  # fmt: skip
MARK_PRICE = {"type": "mark_price_updates", "symbol": "BTCGUSDPERP", "mark_price": "30000"}
FUNDING = {"type": "funding_amount_updates", "symbol": "BTCGUSDPERP", "funding_amount": "0.5"}
AUCTION = {
    "type": "auction_result", "symbol": "BTCUSD", "time_ms": 1655323200000, "result": "failure",
}  # fmt: skip
ERROR = {
    "result": "error", "reason": "InvalidSymbol",
    "message": "Supplied value 'BTCUSD' is not a valid symbol",
}  # fmt: skip


def decode(session: Session, message: object) -> list[Any]:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    return list(session.decode(text, recv_ns=5, epoch=2))


def compact(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))


def test_it_is_a_venue_with_books_and_a_list() -> None:
    assert isinstance(VENUE, BookVenue)
    assert isinstance(VENUE, ListedVenue)
    assert isinstance(VENUE, TraitedVenue)
    session = VENUE.session()
    assert isinstance(session, BookSession)
    assert isinstance(session, RequestingSession)
    assert VENUE.instrument_urls() == ("https://api.gemini.com/v1/symbols/details/all",)
    assert "key=k" not in repr(Gemini("wss://host/?key=k"))


def test_the_list_of_symbols_has_bases_that_no_suffix_tells() -> None:
    listed = VENUE.instruments
    assert listed is not None
    assert dict(listed.symbols) == {
        "BTCUSD": "BTC-USD", "PAXGUSD": "PAXG-USD", "BTCGUSDPERP": "BTC-GUSD-PERP",
    }  # fmt: skip
    btc = listed.by_symbol("BTC-USD")
    assert (btc.price_increment, btc.size_increment) == (Decimal("0.01"), Decimal("1E-8"))
    with pytest.raises(UnknownSymbol, match="not active"):
        listed.by_symbol("ZEC-BTC")


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"symbol":5}]', b"\xff", b"[" * 99999])
def test_what_is_no_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.parse_instruments([body])


@pytest.mark.parametrize("written", [compact, json.dumps])
def test_the_answer_is_the_book_and_what_follows_changes_it(written: Any) -> None:
    session = VENUE.session()
    snapshot, synced = decode(session, written(ANSWER))
    assert snapshot == BookSnapshot(
        "BTC-USD",
        (Level(Decimal("9122.04"), Decimal("0.00121425")), Level(Decimal("9121.5"), Decimal(1))),
        (Level(Decimal("9122.07"), Decimal("0.98942292")),),
        None, None, 5, "gemini", 2, Trust.UNVERIFIABLE,
    )  # fmt: skip
    assert synced == Synced(BOOK)
    assert decode(session, written(UPDATE)) == [
        BookDelta(
            "BTC-USD", (), (Level(Decimal("9160.20"), Decimal("0.1921229751")),),
            None, None, 5, "gemini", 2, Trust.UNVERIFIABLE, None,
        )
    ]  # fmt: skip
    ended = {**UPDATE, "changes": [["buy", "9121.5", "0"], ["sell", "9122.07", "0.5"]]}
    decode(session, written(ended))
    image = session.book_image("BTC-USD")
    assert image is not None
    assert [level.price for level in image.bids] == [Decimal("9122.04")]
    assert [level.size for level in image.asks] == [Decimal("0.5"), Decimal("0.1921229751")]
    assert session.last_book_sequence("BTC-USD") is None


def test_a_price_that_comes_twice_in_an_update_has_its_last_size() -> None:
    session = VENUE.session()
    decode(session, compact(ANSWER))
    twice = [["buy", "9122.04", "7"], ["buy", "9122.04", "8"]]
    (delta,) = decode(session, compact({**UPDATE, "changes": twice}))
    assert delta.bids == (Level(Decimal("9122.04"), Decimal(8)),)


def test_an_answer_without_trades_is_one_where_it_is_the_first_and_whole() -> None:
    plain = {name: value for name, value in ANSWER.items() if name != "trades"}
    kinds = [type(item) for item in decode(VENUE.session(), compact(plain))]
    assert kinds == [BookSnapshot, Synced]
    session = VENUE.session()
    decode(session, compact(UPDATE))
    assert session.book_image("BTC-USD") is None, "one change is no book"
    decode(session, compact(ANSWER))
    (item,) = decode(session, compact({**plain, "changes": plain["changes"][:1]}))
    assert isinstance(item, BookDelta)


def test_events_of_auctions_mark_an_answer_too() -> None:
    session = VENUE.session()
    answer = {**ANSWER, "trades": [], "auction_events": [AUCTION]}
    answer["changes"] = ANSWER["changes"][:1]
    assert isinstance(decode(session, compact(answer))[0], BookSnapshot)


@pytest.mark.parametrize("written", [compact, json.dumps])
def test_a_trade(written: Any) -> None:
    (trade,) = decode(VENUE.session(), written(TRADE))
    assert trade == Trade(
        "BTC-USD", Decimal("9004.21000000"), Decimal("0.09110000"), Side.BUY, "2840140800042678",
        None, 151_231_241_000_000, 5, "gemini", 2,
    )  # fmt: skip
    (older,) = decode(VENUE.session(), {k: v for k, v in TRADE.items() if k != "tid"})
    assert older.trade_id == "3575573053", "what the venue sent before it had another number"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (HEARTBEAT, Heartbeat()),
        (CANDLES, Ignored("candles_15m_updates")),
        (MARK_PRICE, Ignored("mark_price_updates")),
        (FUNDING, Ignored("funding_amount_updates")),
        (AUCTION, Ignored("auction_result")),
        ({"type": "block_trade", "symbol": "BTCUSD"}, Ignored("block_trade")),
        ({}, Ignored("message without a type")),
        ({**TRADE, "symbol": "XXXUSD"}, Ignored("trade XXXUSD")),
        ({**UPDATE, "symbol": "ZECBTC"}, Ignored("l2_updates ZECBTC")),
        (ERROR, Refused(None, "InvalidSymbol: Supplied value 'BTCUSD' is not a valid symbol")),
    ],
)
def test_what_else_comes(message: dict[str, Any], expected: object) -> None:
    assert decode(VENUE.session(), message) == [expected]


# --- what is asked for ---------------------------------------------------------------------------


def requests(session: Any, **asked: Any) -> list[Any]:
    return [json.loads(text) for text in session.requests(**asked)]


def l2(kind: str, *symbols: str) -> dict[str, Any]:
    return {"type": kind, "subscriptions": [{"name": "l2", "symbols": [*symbols]}]}


def test_both_channels_are_one_request_and_confirmed_by_the_answer() -> None:
    session = VENUE.session()
    assert requests(session, subscribe=[TRADES, BOOK]) == [l2("subscribe", "BTCUSD")]
    (trade,) = decode(session, TRADE)
    assert isinstance(trade, Trade)
    confirmed, snapshot, _ = decode(session, ANSWER)
    assert confirmed == Subscribed([BOOK, TRADES])
    assert isinstance(snapshot, BookSnapshot)
    assert VENUE.subscribe([TRADES, BOOK]) == [compact(l2("subscribe", "BTCUSD"))]
    assert VENUE.unsubscribe([BOOK]) == [compact(l2("unsubscribe", "BTCUSD"))]


def test_trades_alone_keep_no_book() -> None:
    session = VENUE.session()
    requests(session, subscribe=[TRADES])
    assert decode(session, ANSWER) == [Subscribed([TRADES])]
    assert decode(session, UPDATE) == [Ignored("l2_updates of which only trades are wanted")]
    assert session.book_image("BTC-USD") is None
    assert isinstance(decode(session, TRADE)[0], Trade)


def test_a_book_alone_has_no_trades() -> None:
    session = VENUE.session()
    requests(session, subscribe=[BOOK])
    decode(session, ANSWER)
    assert decode(session, TRADE) == [Ignored("trade BTCUSD")]
    assert decode(session, {**TRADE, "symbol": "PAXGUSD"}) == [Ignored("trade PAXGUSD")]


def test_a_book_that_is_added_to_its_trades_is_had_whole_and_no_trade_is_missed() -> None:
    session = VENUE.session()
    requests(session, subscribe=[TRADES])
    decode(session, ANSWER)
    decode(session, {**TRADE, "tid": 100})
    asked = requests(session, subscribe=[BOOK])
    assert asked == [l2("unsubscribe", "BTCUSD"), l2("subscribe", "BTCUSD")]
    recent = [{**RECENT, "tid": tid} for tid in (103, 102, 100, 99)]
    confirmed, snapshot, synced, *trades = decode(session, {**ANSWER, "trades": recent})
    assert confirmed == Subscribed([BOOK, TRADES])
    assert (type(snapshot), synced) == (BookSnapshot, Synced(BOOK))
    assert [trade.trade_id for trade in trades] == ["102", "103"], "new ones, the oldest first"
    assert len(decode(session, ANSWER)) == 2, "told once"


def test_trades_that_are_added_to_a_book_come_already() -> None:
    session = VENUE.session()
    requests(session, subscribe=[BOOK])
    decode(session, ANSWER)
    assert requests(session, subscribe=[TRADES]) == []
    confirmed, trade = decode(session, TRADE)
    assert confirmed == Subscribed([TRADES])
    assert isinstance(trade, Trade)


def test_the_feed_ends_with_the_last_that_is_wanted_of_it() -> None:
    session = VENUE.session()
    requests(session, subscribe=[TRADES, BOOK])
    decode(session, ANSWER)
    assert requests(session, unsubscribe=[BOOK]) == []
    assert decode(session, HEARTBEAT) == [Unsubscribed((BOOK,)), Heartbeat()]
    assert session.book_image("BTC-USD") is None
    assert requests(session, unsubscribe=[TRADES]) == [l2("unsubscribe", "BTCUSD")]
    ended, ignored = decode(session, TRADE)
    assert ended == Unsubscribed((TRADES,))
    assert ignored == Ignored("trade BTCUSD")


def test_a_refusal_names_what_was_asked_for() -> None:
    session = VENUE.session()
    requests(session, subscribe=[TRADES, BOOK, Subscription("trades", "PAXG-USD")])
    told = "InvalidSymbol: Supplied value 'BTCUSD' is not a valid symbol"
    assert decode(session, ERROR) == [Refused(BOOK, told), Refused(TRADES, told)]
    vague = {"result": "error", "reason": "RateLimited"}
    assert decode(session, vague) == [Refused(Subscription("trades", "PAXG-USD"), "RateLimited")]
    assert decode(session, vague) == [Refused(None, "RateLimited")]


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (["buy", "-1", "1"], "$.changes[1][1]"),
        (["buy", "NaN", "1"], "$.changes[1][1]"),
        (["buy", "1_0", "1"], "$.changes[1][1]"),
        (["buy", " 1", "1"], "$.changes[1][1]"),
        (["buy", "٣", "1"], "$.changes[1][1]"),
        (["buy", "0", "1"], "$.changes[1][1]"),
        (["buy", "1", "-0.5"], "$.changes[1][2]"),
        (["buy", "1", "Infinity"], "$.changes[1][2]"),
        (["buy", "1", ""], "$.changes[1][2]"),
        (["buy", "1"], "$.changes[1]"),
        (["bid", "1", "1"], "$.changes[1][0]"),
        (["buy", 1, "1"], "$.changes[1][1]"),
        ([], "$.changes[1]"),
        ("buy", "$.changes[1]"),
        (None, "$.changes[1]"),
    ],
)
@pytest.mark.parametrize("written", [compact, json.dumps])
def test_a_change_that_is_wrong_is_named_and_its_book_suspect(
    change: Any, path: str, written: Any
) -> None:
    session = VENUE.session()
    decode(session, ANSWER)
    gap, resync, malformed = decode(
        session, written({**UPDATE, "changes": [["sell", "9200", "1"], change]})
    )
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.reason, gap.of_book) == ("BTC-USD", GapReason.MALFORMED, True)
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    assert malformed.error.path == path
    assert session.book_image("BTC-USD") is None
    assert decode(session, UPDATE) == [], "no change is applied to a book that has a hole"
    assert isinstance(decode(session, ANSWER)[0], BookSnapshot)


def test_a_size_of_nothing_is_wrong_in_the_whole_book() -> None:
    wrong = {**ANSWER, "changes": [["buy", "1", "0"], ["sell", "2", "1"]]}
    with pytest.raises(DecodeError) as caught:
        decode(VENUE.session(), wrong)
    assert caught.value.path == "$.changes[0][2]"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"price": "x"}, "$.price"),
        ({"quantity": "-1"}, "$.quantity"),
        ({"side": "auction"}, "$.side"),
        ({"timestamp": -1}, "$.timestamp"),
        ({"timestamp": "soon"}, "$.timestamp"),
        ({"timestamp": 10**40}, "$.timestamp"),
        ({"price": None}, "$.price"),
    ],
)
def test_a_trade_with_a_wrong_field_names_it(change: dict[str, Any], path: str) -> None:
    for written in (compact, json.dumps):
        with pytest.raises(DecodeError) as caught:
            decode(VENUE.session(), written({**TRADE, **change}))
        assert caught.value.path == path


@pytest.mark.parametrize("message", ["", "[]", "{", "5", b"\xff", "[" * 99_999, '{"type":5}'])
def test_what_can_not_be_read_may_have_been_any_book_s(message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(VENUE.session(), message)
    session = VENUE.session()
    decode(session, ANSWER)
    gap, resync, malformed = decode(session, message)
    assert (gap.symbol, resync, type(malformed)) == ("BTC-USD", Resync(BOOK), Malformed)


def test_a_message_without_its_symbol_is_no_one_s() -> None:
    session = VENUE.session()
    with pytest.raises(DecodeError):
        decode(session, {"type": "l2_updates", "changes": []})
    decode(session, ANSWER)
    assert [type(i) for i in decode(session, {"type": "l2_updates", "changes": []})] == [
        Gap, Resync, Malformed,
    ]  # fmt: skip


def test_what_a_crossed_book_says() -> None:
    session = VENUE.session()
    decode(session, ANSWER)
    gap, resync = decode(session, {**UPDATE, "changes": [["buy", "99999", "1"]]})
    assert (gap.reason, resync) == (GapReason.CROSSED, Resync(BOOK))


def test_nothing_grows_with_symbols_that_are_not_listed() -> None:
    session = VENUE.session()
    for n in range(1000):
        with contextlib.suppress(DecodeError):
            decode(session, {**UPDATE, "symbol": f"X{n}USD"})
            decode(session, {**TRADE, "symbol": f"X{n}USD"})
    kept = vars(session)
    assert all(len(kept[name]) == 0 for name in ("_begun", "_last_trade", "_missed", "_to_say"))


@pytest.mark.parametrize("how", ["each by itself", "names first", "all at once"])
def test_the_details_of_symbols_may_come_one_by_one(how: str) -> None:
    """As they are told at the documented address, and as earlier clients have asked for them."""
    bodies = [json.dumps(details).encode() for details in DETAILS]
    if how == "names first":
        bodies.insert(0, b'["btcusd","paxgusd","btcgusdperp","zecbtc"]')
    elif how == "all at once":
        bodies = [json.dumps(DETAILS).encode()]
    assert Gemini().parse_instruments(bodies) == VENUE.instruments


def test_a_swap_is_known_by_its_name_where_nothing_else_tells() -> None:
    spot = {"symbol": "btcgusd", "base_currency": "BTC", "quote_currency": "GUSD"}
    swap = {**spot, "symbol": "btcgusdperp"}
    listed = Gemini().parse_instruments([json.dumps([spot, swap]).encode()])
    assert dict(listed.symbols) == {"BTCGUSD": "BTC-GUSD", "BTCGUSDPERP": "BTC-GUSD-PERP"}


@pytest.mark.parametrize(
    "body",
    [b"[]", b'["btcusd"]', json.dumps([DETAILS[0], {**DETAILS[0], "status": "closed"}]).encode()],
)
def test_a_list_without_a_symbol_or_with_one_that_is_two_is_an_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        Gemini().parse_instruments([body])


# Messages as the venue has sent them in 2019 and 2020, of a feed that nobody has asked for here.
@pytest.mark.parametrize("blanks", [True, False])
def test_what_was_sent_in_earlier_years(blanks: bool) -> None:
    session = VENUE.session()

    def said(message: dict[str, Any]) -> list[Any]:
        text = json.dumps(message, separators=(", ", ": ") if blanks else (",", ":"))
        return list(session.decode(text, recv_ns=5, epoch=2))

    changes = [["buy", "0.688", "51.55728"], ["buy", "0.686", "1.168083"], ["sell", "15", "0.07"]]
    first = {"type": "l2_updates", "symbol": "BTCUSD", "changes": changes, "auction_events": []}
    whole, synced = said(first)
    assert isinstance(whole, BookSnapshot)
    assert (len(whole.bids), len(whole.asks), whole.trust) == (2, 1, Trust.UNVERIFIABLE)
    assert isinstance(synced, Synced)
    # Out of order, and with the end of a level that there is not.
    changes = [["sell", "14", "4"], ["sell", "13", "0"], ["sell", "13.5", "149.57"]]
    (delta,) = said({"type": "l2_updates", "symbol": "BTCUSD", "changes": changes})
    assert isinstance(delta, BookDelta)
    trade = {
        "type": "trade", "symbol": "BTCUSD", "event_id": 8280715334, "timestamp": 1569888020080,
        "price": "8325.00", "quantity": "0.1", "side": "buy",
    }  # fmt: skip
    (told,) = said(trade)
    assert (told.trade_id, told.side, told.venue_time_ns) == (
        "8280715334", Side.BUY, 1_569_888_020_080_000_000,
    )  # fmt: skip
    auction = {
        "type": "auction_result", "symbol": "BTCUSD", "time_ms": 1656100800000, "result": "failure",
        "highest_bid_price": "21241.05",
    }  # fmt: skip
    assert said(auction) == [Ignored("auction_result")]
    block = {**trade, "event_id": 9608228023, "quantity": "100", "side": "block"}
    assert said(block) == [Ignored("trade BTCUSD")], "beside the book, and of no taker"
    with pytest.raises(DecodeError):
        said({**block, "price": "-1"})
    with pytest.raises(DecodeError):
        said({**trade, "side": "both"})
