"""Bitstamp: each message that is documented, what can be wrong with it, and a real session."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    Quote,
    Side,
    Trade,
    Trust,
    UsageError,
)
from feedhandler.abc import (
    BookVenue,
    Heartbeat,
    HttpResponse,
    Ignored,
    ListedVenue,
    Malformed,
    ReconnectRequested,
    Refused,
    RequestingSession,
    Resync,
    Session,
    SnapshotSession,
    SnapshotVenue,
    Subscribed,
    Subscription,
    Synced,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.venues.bitstamp import Bitstamp

MARKETS = [
    {
        "name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC", "base_decimals": 8,
        "counter_currency": "USD", "counter_decimals": 2, "minimum_order_value": "10.00",
        "trading": "Enabled", "instant_and_market_orders": "Enabled", "market_type": "SPOT",
        "description": "Bitcoin / U.S. dollar",
    },
    {
        "name": "BTC/USD-PERP", "market_symbol": "btcusd-perp", "base_currency": "BTC",
        "counter_currency": "USD", "base_decimals": 5, "counter_decimals": 0,
        "trading": "Enabled", "market_type": "PERPETUAL", "tick_size": "1",
    },
    {
        "name": "XRP/EUR", "market_symbol": "xrpeur", "base_currency": "XRP",
        "counter_currency": "EUR", "trading": "Disabled", "market_type": "SPOT",
    },
]  # fmt: skip
VENUE = Bitstamp()
VENUE = VENUE.with_instruments(VENUE.parse_instruments([json.dumps(MARKETS).encode()]))
TRADES, BOOK = Subscription("trades", "BTC-USD"), Subscription("book", "BTC-USD")
TICKER = Subscription("ticker", "BTC-USD")

TRADE = {
    "event": "trade", "channel": "live_trades_btcusd",
    "data": {
        "id": 216000477, "timestamp": "1641343699", "amount": 0.0792, "amount_str": "0.07920000",
        "price": 3805.44, "price_str": "3805.44", "type": 0,
        "microtimestamp": "1641343699596001", "buy_order_id": 1443875737346049,
        "sell_order_id": 1443875731320832,
    },
}  # fmt: skip


def book(
    second: int, bids: list[Any], asks: list[Any], *, channel: str = "diff_order_book_btcusd"
) -> dict[str, Any]:
    data = {
        "timestamp": str(second), "microtimestamp": f"{second}000007", "bids": bids, "asks": asks,
    }  # fmt: skip
    return {"data": data, "channel": channel, "event": "data"}


def snapshot(second: int = 10, **change: Any) -> HttpResponse:
    body = {
        "timestamp": str(second), "microtimestamp": f"{second}500000",
        "bids": [["99", "1.0"], ["98", "2"]], "asks": [["101", "1"]], **change,
    }  # fmt: skip
    return HttpResponse(200, (), json.dumps(body).encode())


def decode(session: Session, message: object) -> list[Any]:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    return list(session.decode(text, recv_ns=5, epoch=2))


def fetched(session: Any, response: HttpResponse) -> list[Any]:
    return list(session.decode_snapshot(BOOK, response, recv_ns=6, epoch=2))


def test_a_real_session(proof: Callable[[str], Any]) -> None:
    """Every digest that is expected; and nothing but the times of snapshots checks the books."""
    recorded = proof("bitstamp")
    old_list = [body for url, body in recorded.rest_answers() if "trading-pairs-info" in url]
    venue = Bitstamp()
    venue = venue.with_instruments(venue.parse_instruments(old_list))
    assert len(venue.instruments or ()) == 140
    recorded.check(recorded.decode(venue), trust=Trust.UNVERIFIABLE, ticker=False)


def test_it_is_a_venue_with_books_over_rest_and_a_list() -> None:
    for protocol in (BookVenue, SnapshotVenue, ListedVenue, TraitedVenue):
        assert isinstance(VENUE, protocol)
    session = VENUE.session()
    assert isinstance(session, SnapshotSession)
    assert isinstance(session, RequestingSession)
    assert VENUE.snapshot_url(BOOK) == "https://www.bitstamp.net/api/v2/order_book/btcusd/"
    assert VENUE.instrument_urls() == ("https://www.bitstamp.net/api/v2/markets/",)
    keep_alive = VENUE.traits.keep_alive
    assert keep_alive is not None
    assert keep_alive.message == '{"event":"bts:heartbeat"}'
    assert VENUE.traits.limits.subscriptions == 1024
    with pytest.raises(UsageError, match="no list of instruments"):
        Bitstamp().subscribe([BOOK])


def test_the_list_of_markets() -> None:
    listed = VENUE.instruments
    assert listed is not None
    assert dict(listed.symbols) == {"btcusd": "BTC-USD", "btcusd-perp": "BTC-USD-PERP"}
    assert listed.by_symbol("BTC-USD").price_increment == Decimal("0.01")
    assert listed.by_symbol("BTC-USD-PERP").price_increment == 1
    for body in (
        b"",
        b"{}",
        b"[5]",
        b"[{}]",
        b'[{"base_decimals":-1,"name":"A/B","url_symbol":"ab"}]',
    ):
        with pytest.raises(DecodeError):
            VENUE.parse_instruments([body])


def test_requests_are_one_for_each_channel() -> None:
    session = VENUE.session()
    asked = session.requests(subscribe=[TRADES, BOOK], unsubscribe=[TICKER])
    assert [json.loads(text) for text in asked] == [
        {"event": "bts:unsubscribe", "data": {"channel": "order_book_btcusd"}},
        {"event": "bts:subscribe", "data": {"channel": "live_trades_btcusd"}},
        {"event": "bts:subscribe", "data": {"channel": "diff_order_book_btcusd"}},
    ]
    assert asked == VENUE.unsubscribe([TICKER]) + VENUE.subscribe([TRADES, BOOK])
    assert all(len(text) < 512 for text in asked)


def test_a_trade_has_the_taker_s_side_and_the_digits_that_were_sent() -> None:
    assert decode(VENUE.session(), TRADE) == [
        Trade(
            "BTC-USD", Decimal("3805.44"), Decimal("0.07920000"), Side.BUY, "216000477", None,
            1_641_343_699_596_001_000, 5, "bitstamp", 2,
        )
    ]  # fmt: skip
    (sold,) = decode(VENUE.session(), {**TRADE, "data": {**TRADE["data"], "type": 1}})  # type: ignore[dict-item]  # it is a dict
    assert sold.side is Side.SELL


def test_the_best_of_the_whole_book_is_a_quote() -> None:
    whole = book(7, [["99.0", "1"], ["98", "2"]], [["101", "3"]], channel="order_book_btcusd-perp")
    assert decode(VENUE.session(), whole) == [
        Quote(
            "BTC-USD-PERP", Decimal("99.0"), Decimal(1), Decimal(101), Decimal(3), None,
            7_000_007_000, 5, "bitstamp", 2,
        )
    ]  # fmt: skip
    (empty,) = decode(VENUE.session(), book(7, [], [["1", "1"]], channel="order_book_btcusd"))
    assert (empty.bid, empty.bid_size, empty.ask) == (None, None, Decimal(1))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}, Heartbeat()),
        ({"event": "bts:heartbeat"}, Heartbeat()),
        (
            {
                "event": "bts:subscription_succeeded",
                "channel": "diff_order_book_btcusd",
                "data": {},
            },
            Subscribed([BOOK]),
        ),
        (
            {"event": "bts:unsubscription_succeeded", "channel": "live_trades_btcusd", "data": {}},
            Unsubscribed([TRADES]),
        ),
        (
            {"event": "bts:request_reconnect", "channel": "", "data": None},
            ReconnectRequested("bts:request_reconnect"),
        ),
        (
            {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad string."}},
            Refused(None, "Bad string."),
        ),
        (
            {"event": "bts:error", "channel": "", "data": {"code": 4009, "message": "Not you."}},
            Refused(None, "4009: Not you."),
        ),
        ({"event": "bts:error", "data": {}}, Refused(None, "an error without a message")),
        ({"event": "bts:new", "channel": ""}, Ignored("bts:new")),
        ({**TRADE, "channel": "live_trades_xrpeur"}, Ignored("trade live_trades_xrpeur")),
        ({**TRADE, "channel": "live_trades_xxx"}, Ignored("trade live_trades_xxx")),
        (
            {"event": "order_created", "channel": "live_orders_btcusd", "data": {}},
            Ignored("order_created live_orders_btcusd"),
        ),
        (
            {"event": "funding_rate_saved", "channel": "funding_rate_btcusd-perp", "data": {}},
            Ignored("funding_rate_saved funding_rate_btcusd-p"),
        ),
        (
            book(1, [["1", "1", "77"]], [], channel="detail_order_book_btcusd"),
            Ignored("data detail_order_book_btcusd"),
        ),
        (
            {"event": "bts:subscription_succeeded", "channel": "diff_order_book_xxx"},
            Ignored("bts:subscription_succeeded"),
        ),
    ],
)
def test_what_else_comes(message: dict[str, Any], expected: object) -> None:
    assert decode(VENUE.session(), message) == [expected]


def test_an_error_is_of_the_one_channel_that_is_waited_for() -> None:
    session = VENUE.session()
    session.requests(subscribe=[TRADES, BOOK])
    error = {"event": "bts:error", "channel": "", "data": {"code": None, "message": "No."}}
    assert decode(session, error) == [Refused(None, "No.")], "it may be either"
    decode(session, {"event": "bts:subscription_succeeded", "channel": "live_trades_btcusd"})
    assert decode(session, error) == [Refused(BOOK, "No.")]
    assert decode(session, error) == [Refused(None, "No.")]


def test_a_book_begins_with_its_snapshot_and_the_changes_that_are_not_before_it() -> None:
    session = VENUE.session()
    assert decode(session, book(8, [["99", "7"]], [])) == [Resync(BOOK)], "it has to be fetched"
    for second in (9, 10, 11):
        assert decode(session, book(second, [["97", f"{second}"]], [])) == []
    whole, synced, tenth, eleventh = fetched(session, snapshot(10))
    assert whole == BookSnapshot(
        "BTC-USD",
        (Level(Decimal(99), Decimal("1.0")), Level(Decimal(98), Decimal(2))),
        (Level(Decimal(101), Decimal(1)),),
        None, 10_000_000_000, 6, "bitstamp", 2, Trust.UNVERIFIABLE,
    )  # fmt: skip
    assert synced == Synced(BOOK)
    assert [delta.bids[0].size for delta in (tenth, eleventh)] == [10, 11]
    assert decode(session, book(12, [["99", "0.00000000"]], [["101", "3"]])) == [
        BookDelta(
            "BTC-USD", (Level(Decimal(99), Decimal(0)),), (Level(Decimal(101), Decimal(3)),),
            None, 12_000_007_000, 5, "bitstamp", 2, Trust.UNVERIFIABLE, None,
        )
    ]  # fmt: skip
    image = session.book_image("BTC-USD")
    assert image is not None
    assert [level.price for level in image.bids] == [98, 97]
    assert session.last_book_sequence("BTC-USD") is None


def test_changes_before_the_snapshot_are_dropped_until_the_first_that_is_not() -> None:
    session = VENUE.session()
    fetched(session, snapshot(10))
    assert decode(session, book(9, [["99", "7"]], [])) == [Ignored("duplicate")]
    assert isinstance(decode(session, book(10, [["99", "7"]], []))[0], BookDelta)
    assert isinstance(decode(session, book(9, [["99", "8"]], []))[0], BookDelta)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"bids": [["99", "1"], ["-1", "1"]]}, "$.data.bids[1][0]"),
        ({"bids": [["99", "NaN"]]}, "$.data.bids[0][1]"),
        ({"bids": [["99", "1_0"]]}, "$.data.bids[0][1]"),
        ({"bids": [["99"]]}, "$.data.bids[0]"),
        ({"bids": [["0", "1"]]}, "$.data.bids[0]"),
        ({"asks": "x"}, "$.data.asks"),
        ({"asks": None}, "$.data.asks"),
        ({"timestamp": "soon"}, "$.data.timestamp"),
        ({"timestamp": 5}, "$.data.timestamp"),
        ({"microtimestamp": "-5"}, "$.data.microtimestamp"),
    ],
)
@pytest.mark.parametrize("blanks", [True, False])
def test_a_change_that_is_wrong_is_named_and_its_book_suspect(
    change: dict[str, Any], path: str, blanks: bool
) -> None:
    session = VENUE.session()
    fetched(session, snapshot())
    message = book(11, [], [])
    message["data"].update(change)
    text = json.dumps(message, separators=None if blanks else (",", ":"))
    gap, resync, malformed = decode(session, text)
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.reason, gap.of_book) == ("BTC-USD", GapReason.MALFORMED, True)
    assert resync == Resync(BOOK, anew=True)
    assert isinstance(malformed, Malformed)
    assert malformed.error.path == path
    assert decode(session, book(12, [["97", "1"]], [])) == [], "kept for the next snapshot"
    assert [type(item) for item in fetched(session, snapshot(12))] == [
        BookSnapshot, Synced, BookDelta,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"bids": [["99", "0"]]}, "$.bids[0]"),
        ({"bids": [["99", "1"], ["99.0", "2"]]}, "$.bids"),
        ({"asks": [["101", "-1"]]}, "$.asks[0][1]"),
        ({"timestamp": None}, "$.timestamp"),
    ],
)
def test_a_snapshot_that_is_wrong_is_named(change: dict[str, Any], path: str) -> None:
    session = VENUE.session()
    with pytest.raises(DecodeError) as caught:
        fetched(session, snapshot(**change))
    assert caught.value.path == path
    assert session.book_image("BTC-USD") is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>busy</html>", b'{"code":"404.001","reason":"x"}', b"\xff"]
)
def test_an_answer_that_is_no_snapshot_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        fetched(VENUE.session(), HttpResponse(200, (), body))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"price_str": "x"}, "$.data.price_str"),
        ({"amount_str": "-1"}, "$.data.amount_str"),
        ({"price_str": None}, "$.data.price_str"),
        ({"type": 2}, "$.data.type"),
        ({"microtimestamp": "x"}, "$.data.microtimestamp"),
        ({"id": None}, "$.data.id"),
    ],
)
def test_a_trade_with_a_wrong_field_names_it(change: dict[str, Any], path: str) -> None:
    data: Any = TRADE["data"]
    with pytest.raises(DecodeError) as caught:
        decode(VENUE.session(), {**TRADE, "data": {**data, **change}})
    assert caught.value.path == path
    without = {name: value for name, value in data.items() if name not in change}
    with pytest.raises(DecodeError) as caught:
        decode(VENUE.session(), {**TRADE, "data": without})


@pytest.mark.parametrize(
    "message", ["", "[]", "{", "5", b"\xff", "[" * 99_999, '{"event":5}', "{}"]
)
def test_what_can_not_be_read_may_have_been_any_book_s(message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(VENUE.session(), message)
    session = VENUE.session()
    fetched(session, snapshot())
    gap, resync, malformed = decode(session, message)
    assert (gap.symbol, resync, type(malformed)) == ("BTC-USD", Resync(BOOK, anew=True), Malformed)
