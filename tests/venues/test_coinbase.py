"""Coinbase's books, products and counts, and mutants; `test_venues.py` has the rest."""

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
    Trade,
    Trust,
    UnknownSymbol,
)
from feedhandler.abc import (
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
)
from feedhandler.venues.bitstamp import Bitstamp
from feedhandler.venues.coinbase import Coinbase
from feedhandler.venues.gemini import Gemini
from feedhandler_testing.venue_fuzz import fuzz_session

BOOK, ETH = Subscription("book", "BTC-USD"), Subscription("book", "ETH-USD")
TRADES = Subscription("trades", "BTC-USD")
TIME = "2026-08-09T21:05:48.505350477Z"
TIME_NS = 1_786_309_548_505_350_477
BEAT = {"current_time": "2026-08-09 21:05:48.85 +0000 UTC m=+41691.26", "heartbeat_counter": 41691}


def message(channel: str, number: int, *events: Any, time: str = TIME) -> dict[str, Any]:
    return {
        "channel": channel, "timestamp": time, "sequence_num": number, "events": [*events],
    }  # fmt: skip


def updates(kind: str, *levels: tuple[str, str, str], product: str = "BTC-USD") -> dict[str, Any]:
    told = [
        {"side": side, "event_time": TIME, "price_level": price, "new_quantity": size}
        for side, price, size in levels
    ]
    return {"type": kind, "product_id": product, "updates": told}


WHOLE = updates("snapshot", ("bid", "99.0", "1"), ("bid", "98", "2.50"), ("offer", "101", "1"))
CHANGE = updates("update", ("offer", "101", "0"), ("offer", "102", "3"), ("bid", "99.5", "1"))


def compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def decode(session: Session, document: object, *, blanks: bool = False) -> list[Any]:
    text = json.dumps(document) if blanks else compact(document)
    return list(session.decode(text, recv_ns=5, epoch=2))


def with_books() -> Any:
    """A session that has the books of BTC-USD and ETH-USD; the next number is 2."""
    session = Coinbase().session()
    decode(session, message("l2_data", 0, WHOLE))
    decode(session, message("l2_data", 1, {**WHOLE, "product_id": "ETH-USD"}))
    return session


def test_a_real_session(proof: Callable[[str], Any]) -> None:
    """Every digest that is expected, the books' too, with and without the list of products."""
    recorded = proof("coinbase")
    venue = Coinbase()
    recorded.check(recorded.decode(venue), trust=Trust.VERIFIED)
    venue = venue.with_instruments(venue.parse_instruments(recorded.instruments_bodies(venue)))
    assert len(venue.instruments) == 920
    recorded.check(recorded.decode(venue), trust=Trust.VERIFIED)


def test_it_is_a_venue_with_books_and_needs_no_list() -> None:
    for protocol in (BookVenue, ListedVenue, TraitedVenue):
        assert isinstance(Coinbase(), protocol)
    assert isinstance(Coinbase().session(), RequestingSession)
    assert not len(Coinbase().instruments)
    assert Coinbase().traits.limits.messages_per_s == 8


@pytest.mark.parametrize("blanks", [True, False])
def test_a_book_begins_with_a_snapshot_and_is_verified_by_the_count(blanks: bool) -> None:
    session = Coinbase().session()
    assert decode(session, message("l2_data", 0, WHOLE), blanks=blanks) == [
        BookSnapshot(
            "BTC-USD",
            (Level(Decimal("99.0"), Decimal(1)), Level(Decimal(98), Decimal("2.50"))),
            (Level(Decimal(101), Decimal(1)),),
            None, TIME_NS, 5, "coinbase", 2, Trust.VERIFIED,
        ),
        Synced(BOOK),
    ]  # fmt: skip
    assert decode(session, message("l2_data", 1, CHANGE), blanks=blanks) == [
        BookDelta(
            "BTC-USD",
            (Level(Decimal("99.5"), Decimal(1)),),
            (Level(Decimal(101), Decimal(0)), Level(Decimal(102), Decimal(3))),
            None, TIME_NS, 5, "coinbase", 2, Trust.VERIFIED, None,
        )
    ]  # fmt: skip
    image = session.book_image("BTC-USD")
    assert image is not None
    assert [str(level.price) for level in image.bids] == ["99.5", "99.0", "98"]


def test_a_message_may_have_several_products() -> None:
    session = with_books()
    both = message("l2_data", 2, CHANGE, {**CHANGE, "product_id": "ETH-USD"})
    assert [item.symbol for item in decode(session, both)] == ["BTC-USD", "ETH-USD"]


def test_a_hole_in_the_count_is_one_for_all_and_every_book_is_had_anew() -> None:
    session = with_books()
    gap, *books, trade = decode(
        session,
        message("market_trades", 4, {"type": "update", "trades": [TOLD]}),
    )
    assert (gap.symbol, gap.from_sequence, gap.to_sequence, gap.missing) == (None, 2, 3, 2)
    assert isinstance(trade, Trade)
    gaps = [item for item in books if isinstance(item, Gap)]
    assert [(g.symbol, g.reason, g.of_book) for g in gaps] == [
        ("BTC-USD", GapReason.SEQUENCE, True), ("ETH-USD", GapReason.SEQUENCE, True),
    ]  # fmt: skip
    assert [item for item in books if isinstance(item, Resync)] == [Resync(BOOK), Resync(ETH)]
    assert decode(session, message("l2_data", 5, CHANGE)) == []
    whole = decode(session, message("l2_data", 6, WHOLE))
    assert [type(item) for item in whole] == [BookSnapshot, Synced]
    assert whole[0].trust is Trust.VERIFIED
    assert session.book_image("ETH-USD") is None


TOLD = {
    "product_id": "BTC-USD", "trade_id": "7", "price": "1", "size": "2", "time": TIME,
    "side": "BUY",
}  # fmt: skip


def test_what_comes_late_or_twice_is_dropped() -> None:
    session = with_books()
    assert decode(session, message("l2_data", 1, CHANGE)) == [Ignored("duplicate")]
    decode(session, message("l2_data", 3, CHANGE))
    assert decode(session, message("l2_data", 2, CHANGE)) == [Ignored("duplicate")]
    assert decode(session, message("heartbeats", 4, BEAT)) == [Heartbeat()]


def test_one_number_that_is_wrong_makes_no_connection_deaf() -> None:
    session = with_books()
    gap, *_ = decode(session, message("heartbeats", 9002, BEAT))
    assert (gap.from_sequence, gap.to_sequence) == (2, 9001)
    assert decode(session, message("heartbeats", 3, BEAT)) == [Heartbeat()]
    assert decode(session, message("heartbeats", 4, BEAT)) == [Heartbeat()]
    assert decode(session, message("heartbeats", 4, BEAT)) == [Ignored("duplicate")]


@pytest.mark.parametrize("spell", [int, str])
def test_a_heartbeat_that_is_missing_is_a_loss_too(spell: Callable[[int], Any]) -> None:
    session = with_books()

    def beat(number: int, counter: int) -> list[Any]:
        event = {**BEAT, "heartbeat_counter": spell(counter)}
        return decode(session, message("heartbeats", number, event))

    assert beat(2, 10) == [Heartbeat()]
    assert beat(3, 11) == [Heartbeat()]
    gap, *books, heartbeat = beat(4, 13)
    assert (gap.symbol, gap.reason, gap.from_sequence) == (None, GapReason.SEQUENCE, None)
    assert [item for item in books if isinstance(item, Resync)] == [Resync(BOOK), Resync(ETH)]
    assert heartbeat == Heartbeat()
    assert beat(5, 14) == [Heartbeat()]
    gap, *_ = beat(7, 16)
    assert gap.from_sequence == 6, "the count has told it, so it is told once"
    assert beat(8, 3) == [Heartbeat()], "another server counts from where it is"


def test_a_snapshot_from_before_what_has_come_is_too_old() -> None:
    session = with_books()
    old = message("l2_data", 2, WHOLE, time="2026-08-09T21:05:40Z")
    assert decode(session, old) == [Ignored("snapshot that is too old")]
    decode(session, message("heartbeats", 9, BEAT))
    again = {**old, "sequence_num": 10}
    assert decode(session, again) == [Ignored("snapshot that is too old"), Resync(BOOK)]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"price_level": "-1"}, ".updates[1].price_level"),
        ({"price_level": "0"}, ".updates[1].price_level"),
        ({"price_level": "1_0"}, ".updates[1].price_level"),
        ({"new_quantity": "NaN"}, ".updates[1].new_quantity"),
        ({"new_quantity": " 1"}, ".updates[1].new_quantity"),
        ({"new_quantity": ""}, ".updates[1].new_quantity"),
        ({"new_quantity": 5}, ".updates[1].new_quantity"),
        ({"new_quantity": None}, ".updates[1].new_quantity"),
        ({"side": "ask"}, ".updates[1].side"),
    ],
)
@pytest.mark.parametrize("blanks", [True, False])
def test_a_level_that_is_wrong_is_named_and_its_book_suspect(
    change: dict[str, Any], path: str, blanks: bool
) -> None:
    session = with_books()
    event = json.loads(json.dumps(CHANGE))
    event["updates"][1].update(change)
    gap, resync, malformed = decode(session, message("l2_data", 2, event), blanks=blanks)
    assert (gap.symbol, gap.reason, gap.of_book) == ("BTC-USD", GapReason.MALFORMED, True)
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    assert malformed.error.path == f"$.events[0]{path}"
    (delta,) = decode(session, message("l2_data", 3, {**CHANGE, "product_id": "ETH-USD"}))
    assert isinstance(delta, BookDelta), "the other one flows on"


def test_a_message_of_books_that_names_none_may_have_been_any_one_s() -> None:
    session = with_books()
    event = {name: value for name, value in CHANGE.items() if name != "product_id"}
    items = decode(session, message("l2_data", 2, event))
    assert [item for item in items if isinstance(item, Resync)] == [Resync(BOOK), Resync(ETH)]
    assert isinstance(items[-1], Malformed)


def test_a_message_of_no_book_that_is_followed_is_a_decode_error() -> None:
    session = Coinbase().session()
    with pytest.raises(DecodeError) as caught:
        decode(session, message("l2_data", 0, updates("update", ("bid", "x", "1"))))
    assert caught.value.path == "$.events[0].updates[0].price_level"


def test_a_size_of_nothing_is_wrong_in_a_snapshot() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(
            Coinbase().session(),
            message("l2_data", 0, updates("snapshot", ("bid", "1", "0"))),
        )
    assert caught.value.path == "$.events[0].updates[0].new_quantity"


def test_a_book_that_is_asked_for_again_ends_first() -> None:
    session = Coinbase().session()

    def asked(**kinds: Any) -> list[tuple[str, str]]:
        told = [json.loads(text) for text in session.requests(**kinds)]
        return [(one["type"], one["channel"]) for one in told]

    assert asked(subscribe=[TRADES, BOOK]) == [
        ("subscribe", "market_trades"), ("subscribe", "level2"), ("subscribe", "heartbeats"),
    ]  # fmt: skip
    assert asked(subscribe=[BOOK]) == [
        ("unsubscribe", "level2"), ("subscribe", "level2"), ("subscribe", "heartbeats"),
    ]  # fmt: skip
    assert asked(unsubscribe=[BOOK]) == [("unsubscribe", "level2")]
    assert decode(session, message("l2_data", 0, CHANGE)) == [
        Ignored("book that was not asked for")
    ]
    assert asked(subscribe=[BOOK])[0] == ("subscribe", "level2")


def test_the_list_of_subscriptions_has_the_books() -> None:
    listed = {"subscriptions": {"level2": ["BTC-USD"], "heartbeats": ["heartbeats"]}}
    found = decode(Coinbase().session(), message("subscriptions", 0, listed))
    assert found == [Subscribed([BOOK], complete=True)]


def test_an_error_is_of_what_it_names() -> None:
    session = Coinbase().session()
    session.requests(subscribe=[TRADES, BOOK, ETH])
    told = "BTC-USD is not a valid product"
    error = {"type": "error", "message": told}
    assert decode(session, error) == [Refused(TRADES, told), Refused(BOOK, told)]
    assert decode(session, error) == [Refused(None, told)]
    assert decode(session, {"type": "error", "message": "no", "reason": "why"}) == [
        Refused(None, "no: why")
    ]


# --- products ------------------------------------------------------------------------------------

SPOT = {
    "product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD",
    "product_type": "SPOT", "status": "online", "base_increment": "0.00000001",
    "price_increment": "0.01", "alias": "", "trading_disabled": False, "is_disabled": False,
}  # fmt: skip
PERPETUAL = {
    "product_id": "BTC-PERP-INTX", "base_currency_id": "", "quote_currency_id": "USDC",
    "product_type": "FUTURE", "status": "", "base_increment": "0.0001", "price_increment": "0.1",
    "future_product_details": {
        "contract_root_unit": "BTC", "contract_expiry_type": "PERPETUAL", "contract_expiry": None,
    },
}  # fmt: skip
DATED = {
    "product_id": "BIT-27FEB26-CDE", "base_currency_id": "", "quote_currency_id": "USD",
    "product_type": "FUTURE", "status": "", "price_increment": "5",
    "future_product_details": {
        "contract_root_unit": "BTC", "contract_expiry_type": "EXPIRING",
        "contract_expiry": "2026-02-27T16:00:00Z",
    },
}  # fmt: skip
ALIAS = {**SPOT, "product_id": "BTC-USDC", "quote_currency_id": "USDC", "alias": "BTC-USD"}
GONE = {**SPOT, "product_id": "XYZ-USD", "base_currency_id": "XYZ", "status": "delisted"}


def test_the_list_of_products() -> None:
    venue = Coinbase()
    body = json.dumps({"products": [SPOT, PERPETUAL, DATED, ALIAS, GONE]}).encode()
    listed = venue.parse_instruments([body])
    assert dict(listed.symbols) == {
        "BTC-USD": "BTC-USD",
        "BTC-PERP-INTX": "BTC-USDC-PERP",
        "BIT-27FEB26-CDE": "BTC-USD-20260227",
    }
    for symbol in ("BTC-USDC", "XYZ-USD"):
        with pytest.raises(UnknownSymbol, match="not active"):
            listed.by_symbol(symbol)
    session = venue.with_instruments(listed).session()
    (snapshot, _) = decode(session, message("l2_data", 0, {**WHOLE, "product_id": "BTC-PERP-INTX"}))
    assert snapshot.symbol == "BTC-USDC-PERP"
    other = {**WHOLE, "product_id": "ABC-USD"}
    assert decode(session, message("l2_data", 1, other)) == [Ignored("book that was not asked for")]
    for bad in (b"", b"[]", b'{"products":[{}]}', b'{"products":[{"product_id":5}]}'):
        with pytest.raises(DecodeError):
            venue.parse_instruments([bad])


def test_perpetuals_have_their_names_without_a_list() -> None:
    session = Coinbase().session()
    perpetual = Subscription("book", "BTC-USDC-PERP")
    asked = json.loads(session.requests(subscribe=[perpetual])[0])
    assert asked["product_ids"] == ["BTC-PERP-INTX"]
    (snapshot, _) = decode(session, message("l2_data", 0, {**WHOLE, "product_id": "BTC-PERP-INTX"}))
    assert snapshot.symbol == "BTC-USDC-PERP"


# --- whatever comes ------------------------------------------------------------------------------

TICKER = {
    "type": "ticker", "product_id": "BTC-USD", "best_bid": "1.5", "best_bid_quantity": "2",
    "best_ask": "1.6", "best_ask_quantity": "3", "price": "1.55",
}  # fmt: skip
COINBASE = [
    message("l2_data", 0, WHOLE),
    message("subscriptions", 1, {"subscriptions": {"level2": ["BTC-USD"]}}),
    message("market_trades", 2, {"type": "snapshot", "trades": [TOLD, TOLD]}),
    message("ticker", 3, {"type": "update", "tickers": [TICKER]}),
    message("heartbeats", 4, BEAT),
    *(message("l2_data", number, CHANGE) for number in range(5, 12)),
    {"type": "error", "message": "no"},
]
L2 = {"type": "l2_updates", "symbol": "BTCUSD"}
PRINT = {
    "type": "trade", "symbol": "BTCUSD", "event_id": 5, "timestamp": 1560976400428, "price": "2",
    "quantity": "1", "side": "sell", "tid": 7,
}  # fmt: skip
GEMINI = [
    {**L2, "changes": [["buy", "1.5", "2"], ["sell", "2.5", "1"]], "trades": [PRINT]},
    PRINT,
    *({**L2, "changes": [["buy", f"1.{n}", "3"], ["sell", "2.5", f"{n}"]]} for n in range(9)),
    {"type": "heartbeat", "timestamp": 1},
    {"result": "error", "reason": "InvalidJson"},
]
BOOK_DATA = {"timestamp": "10", "microtimestamp": "10000000", "bids": [["1", "2"]], "asks": []}
BITSTAMP = [
    {"event": "bts:subscription_succeeded", "channel": "diff_order_book_btcusd", "data": {}},
    *({"event": "data", "channel": "diff_order_book_btcusd", "data": BOOK_DATA} for _ in range(9)),
    {"event": "data", "channel": "order_book_btcusd", "data": BOOK_DATA},
    {
        "event": "trade", "channel": "live_trades_btcusd",
        "data": {"id": 1, "price_str": "1", "amount_str": "2", "type": 1, "microtimestamp": "1"},
    },
    {"event": "bts:error", "channel": "", "data": {"code": None, "message": "no"}},
    {"event": "bts:request_reconnect", "channel": "", "data": None},
]  # fmt: skip


def gemini() -> Session:
    details = b'[{"symbol":"BTCUSD","base_currency":"BTC","quote_currency":"USD"}]'
    venue = Gemini()
    return venue.with_instruments(venue.parse_instruments([details])).session()


def bitstamp() -> Session:
    from feedhandler.abc import HttpResponse

    venue = Bitstamp()
    listed = venue.parse_instruments(
        [b'[{"name":"BTC/USD","url_symbol":"btcusd","trading":"Enabled"}]']
    )
    session = venue.with_instruments(listed).session()
    body = b'{"timestamp":"9","microtimestamp":"9","bids":[["1","1"]],"asks":[["2","1"]]}'
    session.decode_snapshot(BOOK, HttpResponse(200, (), body), recv_ns=1, epoch=1)
    return session


@pytest.mark.parametrize(
    ("make", "corpus"),
    [(Coinbase().session, COINBASE), (gemini, GEMINI), (bitstamp, BITSTAMP)],
    ids=["coinbase", "gemini", "bitstamp"],
)
def test_mutated_messages_give_events_or_a_decode_error(
    make: Callable[[], Session], corpus: list[Any]
) -> None:
    report = fuzz_session(make, [compact(one) for one in corpus], runs=8000, seed=11)
    assert report.events > 500
    assert report.refused > 50, "what may be a book's makes it suspect, and is no error of its own"
