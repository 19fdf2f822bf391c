"""Kraken v2: each message that its documentation shows, and what may be wrong with it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from feedhandler import (
    BookDelta,
    BookSnapshot,
    ConfigError,
    DecodeError,
    Gap,
    GapReason,
    Instruments,
    Level,
    Quote,
    Side,
    Trade,
    Trust,
    UnknownSymbol,
)
from feedhandler.abc import (
    BookVenue,
    Control,
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
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.model import Event
from feedhandler.venues.kraken import Kraken, KrakenSession
from feedhandler_testing.venue_fuzz import fuzz_session

BOOK = Subscription("book", "BTC-USD")
# Guide "Book checksum (v2)": the snapshot whose checksum is 3310070434.
SNAPSHOT = (
    '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
    '{"price":45283.5,"qty":0.10000000},{"price":45283.4,"qty":1.54582015},'
    '{"price":45282.1,"qty":0.10000000},{"price":45281.0,"qty":0.10000000},'
    '{"price":45280.3,"qty":1.54592586},{"price":45279.0,"qty":0.07990000},'
    '{"price":45277.6,"qty":0.03310103},{"price":45277.5,"qty":0.30000000},'
    '{"price":45277.3,"qty":1.54602737},{"price":45276.6,"qty":0.15445238}],"asks":['
    '{"price":45285.2,"qty":0.00100000},{"price":45286.4,"qty":1.54571953},'
    '{"price":45286.6,"qty":1.54571109},{"price":45289.6,"qty":1.54560911},'
    '{"price":45290.2,"qty":0.15890660},{"price":45291.8,"qty":1.54553491},'
    '{"price":45294.7,"qty":0.04454749},{"price":45296.1,"qty":0.35380000},'
    '{"price":45297.5,"qty":0.09945542},{"price":45299.5,"qty":0.18772827}],'
    '"checksum":3310070434}]}'
)
# The same as a JSON writer leaves it that drops zeros.
SHORT = json.dumps(json.loads(SNAPSHOT))
# Of a pair with prices below 1, as the venue has sent it.
SMALL = (
    '{"channel":"book","type":"snapshot","data":[{"symbol":"GST/USD","bids":['
    '{"price":0.016,"qty":255965.95133811},{"price":0.015,"qty":264465.46682136},'
    '{"price":0.014,"qty":198234.50375152},{"price":0.013,"qty":263077.71115063},'
    '{"price":0.012,"qty":135283.23181445},{"price":0.011,"qty":232726.34707055},'
    '{"price":0.010,"qty":211909.56878553},{"price":0.009,"qty":16666.66666666},'
    '{"price":0.008,"qty":13600.00000000},{"price":0.007,"qty":1000.00000000}],"asks":['
    '{"price":0.017,"qty":94510.50669693},{"price":0.018,"qty":232489.98702916},'
    '{"price":0.019,"qty":244770.01655926},{"price":0.020,"qty":103394.23779803},'
    '{"price":0.021,"qty":120226.44704447},{"price":0.022,"qty":122811.44535027},'
    '{"price":0.023,"qty":185766.68965043},{"price":0.024,"qty":95339.83830809},'
    '{"price":0.025,"qty":32960.86333331},{"price":0.026,"qty":86326.77204454}],'
    '"checksum":1931231958}]}'
)
TRADES = (
    '{"channel":"trade","type":"%s","data":[{"symbol":"MATIC/USD","side":"buy","price":0.5147,'
    '"qty":6423.46326,"ord_type":"limit","trade_id":4665846,'
    '"timestamp":"2023-09-25T07:48:36.925533Z"},{"symbol":"MATIC/USD","side":"sell",'
    '"price":0.5147,"qty":1136.19677815,"ord_type":"market","trade_id":4665847,'
    '"timestamp":"2023-09-25T07:49:36.925603Z"}]}'
)
UPDATE = TRADES % "update"
TICKER = (
    '{"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","bid":0.10025,'
    '"bid_qty":740.0,"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,'
    '"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,"change":-0.00017,'
    '"change_pct":-0.17}]}'
)
PAIRS = json.dumps(
    {
        "error": [],
        "result": {
            "XXBTZUSD": {
                "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD",
                "pair_decimals": 1, "lot_decimals": 8, "tick_size": "0.1", "status": "online",
            },
            "XDGUSD": {
                "altname": "XDGUSD", "wsname": "XDG/USD", "base": "XXDG", "quote": "ZUSD",
                "pair_decimals": 7, "lot_decimals": 8, "status": "cancel_only",
            },
            "XXBTZUSD.d": {"altname": "XBTUSD.d", "pair_decimals": 3, "lot_decimals": 8},
        },
    }
).encode()  # fmt: skip


def session(*, listed: bool = False, depth: int = 10) -> KrakenSession:
    venue = Kraken(depth=depth)
    return (venue.with_instruments(venue.parse_instruments([PAIRS])) if listed else venue).session()


def decode(to: KrakenSession, message: str | bytes | dict[str, Any]) -> Sequence[Event | Control]:
    text = json.dumps(message) if isinstance(message, dict) else message
    return to.decode(text, recv_ns=7, epoch=2)


def kinds(items: Sequence[object]) -> list[type]:
    return [type(item) for item in items]


def checksum(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> int:
    """Written apart from the library, from the guide's four steps."""
    text = ""
    for price, size in asks[:10] + bids[:10]:
        for number in (price, size):
            text += number.replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


def book(
    bids: list[tuple[str, str]],
    asks: list[tuple[str, str]],
    check: int,
    *,
    kind: str = "update",
    more: str = "",
) -> str:
    sides = [
        ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side)
        for side in (bids, asks)
    ]
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{sides[0]}],'
        f'"asks":[{sides[1]}],"checksum":{check}{more}}}]}}'
    )


def whole_book(to: KrakenSession) -> None:
    assert kinds(decode(to, SNAPSHOT)) == [BookSnapshot, Synced]


def test_it_fits_the_protocols() -> None:
    venue = Kraken()
    assert isinstance(venue, BookVenue)
    assert isinstance(venue, TraitedVenue)
    assert isinstance(venue, ListedVenue)
    assert isinstance(venue.session(), RequestingSession)
    assert venue.traits.silence_s == 10.0
    with pytest.raises(ConfigError, match="depth"):
        Kraken(depth=11)


# --- instruments ---


def test_the_list_has_the_names_that_v2_uses() -> None:
    listed = Kraken().parse_instruments([PAIRS])
    assert [(one.symbol, one.venue_symbol, one.active) for one in listed] == [
        ("BTC-USD", "BTC/USD", True),
        ("DOGE-USD", "DOGE/USD", False),
    ]
    assert listed.by_symbol("BTC-USD").price_increment == Decimal("0.1")
    assert listed.by_symbol("BTC-USD").size_increment == Decimal("0.00000001")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(b'{"error":["EService:Unavailable"]}', "$.error", id="the venue's error"),
        pytest.param(b"<html>", "$", id="an error page"),
        pytest.param(b'{"error":[],"result":{}}', "$.result", id="nothing"),
        pytest.param(b'{"error":[],"result":{"A":{"wsname":"A"}}}', "$.result.A", id="no pair"),
        pytest.param(b'{"error":[],"result":{"A":{"wsname":"A/B"}}}', "$.result.A", id="no digits"),
        pytest.param(b"[]", "$.result", id="a list"),
    ],
)
def test_what_is_no_list_is_an_error(body: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Kraken().parse_instruments([body])
    assert caught.value.path == path


def test_a_symbol_that_is_not_listed_is_not_asked_for() -> None:
    with pytest.raises(UnknownSymbol, match="BTC-USD"):
        session(listed=True).requests(subscribe=[Subscription("book", "BTC-USDD")])


def test_data_of_what_is_not_listed_is_ignored() -> None:
    assert kinds(decode(session(listed=True), SMALL)) == [Ignored]


# --- requests and their answers ---


def test_a_request_is_for_a_channel_and_says_which_by_its_number() -> None:
    wanted = [Subscription(c, s) for c in ("trades", "ticker", "book") for s in ("A-B", "C-D")]
    requests = [json.loads(text) for text in session().requests(subscribe=wanted)]
    assert [request["params"] for request in requests] == [
        {"channel": "trade", "symbol": ["A/B", "C/D"], "snapshot": True},
        {"channel": "ticker", "symbol": ["A/B", "C/D"], "event_trigger": "bbo", "snapshot": True},
        {"channel": "book", "symbol": ["A/B", "C/D"], "depth": 10, "snapshot": True},
    ]
    assert len({request["req_id"] for request in requests}) == 3


def acknowledged(request: str, **more: object) -> dict[str, Any]:
    asked = json.loads(request)
    result = {**asked["params"], "symbol": asked["params"]["symbol"][0]}
    return {
        "method": asked["method"], "req_id": asked["req_id"], "result": result, "success": True,
        "time_in": "2023-09-25T09:04:31.742599Z", "time_out": "2023-09-25T09:04:31.742648Z",
        **more,
    }  # fmt: skip


def test_acknowledgements_come_for_each_symbol() -> None:
    to = session()
    (request,) = to.requests(subscribe=[BOOK])
    assert decode(to, acknowledged(request)) == [Subscribed([BOOK])]
    (request,) = to.requests(unsubscribe=[BOOK])
    assert decode(to, acknowledged(request)) == [Unsubscribed([BOOK])]


@pytest.mark.parametrize("channel", ["trades", "ticker", "book"])
def test_a_refusal_names_its_channel_by_the_number(channel: str) -> None:
    to = session()
    (request,) = to.requests(subscribe=[Subscription(channel, "XX-YY")])
    refusal = {
        "error": "Currency pair not supported XX/YY", "method": "subscribe", "success": False,
        "symbol": "XX/YY", "req_id": json.loads(request)["req_id"],
        "time_in": "2023-09-25T09:04:31.742599Z", "time_out": "2023-09-25T09:04:31.742648Z",
    }  # fmt: skip
    assert decode(to, refusal) == [
        Refused(Subscription(channel, "XX-YY"), "Currency pair not supported XX/YY")
    ]
    del refusal["req_id"]
    assert decode(to, refusal) == [Refused(None, "Currency pair not supported XX/YY")]


def test_a_second_subscription_to_what_runs_is_a_confirmation() -> None:
    to = session()
    (request,) = to.requests(subscribe=[BOOK])
    refusal = {
        "error": "Already subscribed", "method": "subscribe", "success": False,
        "symbol": "BTC/USD", "req_id": json.loads(request)["req_id"],
    }  # fmt: skip
    assert decode(to, refusal) == [Subscribed([BOOK])]


def test_a_book_that_is_asked_for_again_ends_first() -> None:
    to = session()
    (request,) = to.requests(subscribe=[BOOK])
    decode(to, acknowledged(request))
    end, begin = to.requests(subscribe=[BOOK])
    assert [json.loads(text)["method"] for text in (end, begin)] == ["unsubscribe", "subscribe"]
    assert "depth" in json.loads(end)["params"]
    assert kinds(decode(to, acknowledged(end))) == [Ignored]
    assert decode(to, acknowledged(begin)) == [Subscribed([BOOK])]


def test_the_depth_is_what_the_venue_says() -> None:
    to = session(depth=1000)
    (request,) = to.requests(subscribe=[BOOK])
    answer = acknowledged(request)
    answer["result"]["depth"] = 10
    decode(to, answer)
    whole_book(to)
    (delta,) = decode(
        to,
        book([("45283.6", "1.00000000")], [], _check(bids=[("45283.6", "1.00000000")])),
    )
    assert isinstance(delta, BookDelta)
    assert delta.bids[-1] == Level(Decimal("45276.6"), Decimal(0))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param('{"channel":"heartbeat"}', Heartbeat, id="heartbeat"),
        pytest.param(
            '{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z",'
            '"time_out":"2023-09-24T14:10:23.799703Z"}', Heartbeat, id="pong",
        ),
        pytest.param(
            '{"channel":"status","data":[{"api_version":"v2","connection_id":13834774380200032777,'
            '"system":"online","version":"2.0.0"}],"type":"update"}', Ignored, id="status",
        ),
        pytest.param('{"channel":"instrument","type":"snapshot","data":{}}', Ignored, id="other"),
        pytest.param('{"channel":7}', Ignored, id="a channel that is none"),
        pytest.param('{"method":"add_order","success":true}', Ignored, id="another method"),
        pytest.param('{"error":"Malformed request"}', Refused, id="error alone"),
        pytest.param(
            '{"method":"subscribe","result":{"channel":"ohlc","symbol":"A/B"},"success":true}',
            Ignored, id="a channel that was not asked for",
        ),
        pytest.param("{}", Ignored, id="nothing"),
    ],
)  # fmt: skip
def test_what_is_no_data(message: str, expected: type) -> None:
    assert kinds(decode(session(), message)) == [expected]


def test_the_status_is_told_in_the_venues_words() -> None:
    for status in ("maintenance", "cancel_only", "post_only"):
        message = {"channel": "status", "type": "update", "data": [{"system": status}]}
        assert decode(session(), message) == [Ignored(f"status: {status}")]


# --- trades and ticker ---


def test_trades() -> None:
    first, second = decode(session(), UPDATE)
    assert first == Trade(
        "MATIC-USD", Decimal("0.5147"), Decimal("6423.46326"), Side.BUY, "4665846", 4665846,
        1695628116925533000, 7, "kraken", 2,
    )  # fmt: skip
    assert isinstance(second, Trade)
    assert second.side is Side.SELL


def test_a_trade_that_is_missing_is_announced_and_one_twice_is_not_told() -> None:
    to = session()
    assert kinds(decode(to, UPDATE)) == [Trade, Trade]
    assert kinds(decode(to, UPDATE)) == [Ignored, Ignored]
    assert to.last_sequence("MATIC-USD") == 4665847
    later = UPDATE.replace("4665846", "4665850").replace("4665847", "4665851")
    gap, *trades = decode(to, later)
    assert isinstance(gap, Gap)
    assert (gap.from_sequence, gap.to_sequence, gap.of_book) == (4665848, 4665849, False)
    assert kinds(trades) == [Trade, Trade]


def test_a_snapshot_of_trades_gives_those_that_are_new_in_any_order() -> None:
    to = session()
    document = json.loads(TRADES % "snapshot")
    document["data"].reverse()
    assert kinds(decode(to, document)) == [Trade, Trade]
    document["data"][0]["trade_id"] = 4665848
    (trade,) = decode(to, document)
    assert isinstance(trade, Trade)
    assert trade.sequence == 4665848


def test_a_ticker_of_zeros_is_of_an_empty_book() -> None:
    """As the venue has sent it (2026-07) of a pair that was not open: no price is 0."""
    row = {"symbol": "ANETX/USD", "bid": 0, "bid_qty": 0, "ask": 0, "ask_qty": 0,
           "timestamp": "1970-01-01T00:00:00.000000Z"}  # fmt: skip
    (quote,) = decode(session(), {"channel": "ticker", "type": "update", "data": [row]})
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (None, None, None, None)
    assert quote.venue_time_ns is None


def test_the_ticker_is_the_top_of_the_book() -> None:
    assert decode(session(), TICKER) == [
        Quote(
            "ALGO-USD", Decimal("0.10025"), Decimal("740.0"), Decimal("0.10036"),
            Decimal("1361.44813783"), None, None, 7, "kraken", 2,
        )
    ]  # fmt: skip
    timed = TICKER.replace('"last"', '"timestamp":"2023-09-25T07:48:36.925533Z","last"')
    (quote,) = decode(session(), timed)
    assert isinstance(quote, Quote)
    assert quote.venue_time_ns == 1695628116925533000


@pytest.mark.parametrize(
    ("message", "old", "new", "path"),
    [
        pytest.param(UPDATE, '"price":0.5147', '"price":-1', "$.data[0].price", id="-"),
        pytest.param(UPDATE, '"qty":6423.46326', '"qty":0', "$.data[0].qty", id="0"),
        pytest.param(UPDATE, '"price":0.5147', '"price":"NaN"', "$.data[0].price", id="n"),
        pytest.param(UPDATE, '"price":0.5147', '"price":"1_0"', "$.data[0].price", id="_"),
        pytest.param(UPDATE, '"side":"buy"', '"side":"b"', "$.data[0].side", id="side"),
        pytest.param(UPDATE, '"side":"buy",', "", "$.data[0].side", id="no side"),
        pytest.param(UPDATE, "2023-09-25T", "", "$.data[0].timestamp", id="time"),
        pytest.param(UPDATE, "4665846", "-1", "$.data[0].trade_id", id="id"),
        pytest.param(UPDATE, '"update"', '"upd"', "$.type", id="type"),
        pytest.param(TICKER, '"bid":0.10025,', "", "$.data[0].bid", id="no bid"),
        pytest.param(TICKER, '"bid":0.10025', '"bid":-1', "$.data[0].bid", id="bid"),
        pytest.param(TICKER, "1361.44813783", "1e999", "$.data[0].ask_qty", id="huge"),
        pytest.param("x", "x", "[1]", "$", id="a list"),
        pytest.param("x", "x", '{"channel"', "$", id="cut"),
        pytest.param("x", "x", "", "$", id="empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(message: str, old: str, new: str, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(session(), message.replace(old, new, 1))
    assert caught.value.path == path


# --- books ---


def _check(
    *,
    bids: Sequence[tuple[str, str]] = (),
    asks: Sequence[tuple[str, str]] = (),
) -> int:
    """The checksum of SNAPSHOT's book after these levels."""
    document = json.loads(SNAPSHOT, parse_float=str)["data"][0]
    sides = []
    for name, new, down in (("bids", bids, True), ("asks", asks, False)):
        levels = {level["price"]: level["qty"] for level in document[name]} | dict(new)
        kept = [(p, s) for p, s in levels.items() if Decimal(s)]
        sides.append(sorted(kept, key=lambda level: Decimal(level[0]), reverse=down))
    return checksum(*sides)


def test_the_guides_checksum_is_right_and_the_digits_stay() -> None:
    snapshot, synced = decode(session(), SNAPSHOT)
    assert synced == Synced(BOOK)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.trust is Trust.VERIFIED
    assert str(snapshot.bids[0].size) == "0.10000000"
    assert _check() == 3310070434
    assert kinds(decode(session(), SMALL)) == [BookSnapshot, Synced]


def test_zeros_that_were_dropped_are_known_from_the_list() -> None:
    assert kinds(decode(session(listed=True), SHORT)) == [BookSnapshot, Synced]
    assert kinds(decode(session(), SHORT)) == [Gap, Resync]


def test_an_update_is_checked_and_told_with_what_falls_out_of_the_depth() -> None:
    to = session()
    whole_book(to)
    bids, asks = [("45283.6", "0.50000000")], [("45285.2", "0.00000000")]
    more = ',"timestamp":"2023-10-06T17:35:55.440295Z"'
    (delta,) = decode(to, book(bids, asks, _check(bids=bids, asks=asks), more=more))
    assert isinstance(delta, BookDelta)
    assert delta.trust is Trust.VERIFIED
    assert delta.venue_time_ns == 1696613755440295000
    assert delta.bids == (
        Level(Decimal("45283.6"), Decimal("0.5")), Level(Decimal("45276.6"), Decimal(0)),
    )  # fmt: skip
    assert delta.asks == (Level(Decimal("45285.2"), Decimal(0)),)
    image = to.book_image("BTC-USD")
    assert image is not None
    assert (len(image.bids), len(image.asks)) == (10, 9)


def test_of_a_price_that_comes_twice_the_last_one_counts() -> None:
    to = session()
    whole_book(to)
    asks = [("45285.2", "5.00000000"), ("45285.2", "0.00200000")]
    (delta,) = decode(to, book([], asks, _check(asks=asks)))
    assert isinstance(delta, BookDelta)
    assert delta.asks == (Level(Decimal("45285.2"), Decimal("0.002")),)


def test_a_missing_delta_shows_at_the_next_checksum_and_a_snapshot_mends_it() -> None:
    to = session()
    whole_book(to)
    lost, seen = [("45283.4", "0.00000000")], [("45283.5", "0.20000000")]
    gap, resync = decode(to, book(seen, [], _check(bids=lost + seen)))
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.symbol, gap.of_book) == (GapReason.CHECKSUM, "BTC-USD", True)
    assert resync == Resync(BOOK)
    assert to.book_image("BTC-USD") is None
    assert decode(to, book(seen, [], _check(bids=lost + seen))) == []
    whole_book(to)


def test_a_delta_before_the_snapshot_is_of_no_use() -> None:
    to = session()
    assert decode(to, book([("1", "1")], [], 5)) == []
    whole_book(to)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        pytest.param(',"checksum":5', "", "$.data[0].checksum", id="none"),
        pytest.param('"checksum":5', '"checksum":-5', "$.data[0].checksum", id="checksum < 0"),
        pytest.param('"checksum":5', '"checksum":"5"', "$.data[0].checksum", id="text"),
        pytest.param('"price":1.5', '"price":-1.5', "$.data[0].bids[0].price", id="price"),
        pytest.param('"price":1.5', '"price":0', "$.data[0].bids[0]", id="price 0"),
        pytest.param('"qty":2.5', '"qty":-1', "$.data[0].bids[0].qty", id="size"),
        pytest.param('"qty":2.5', '"qty":null', "$.data[0].bids[0].qty", id="null"),
        pytest.param('"asks"', '"offers"', "$.data[0].asks", id="renamed"),
        pytest.param('"bids":[', '"bids":[7,', "$.data[0].bids[0]", id="no level"),
        pytest.param('"update"', '"refresh"', "$.type", id="kind"),
    ],
)
def test_a_delta_that_is_wrong_makes_its_book_suspect(old: str, new: str, path: str) -> None:
    to = session()
    whole_book(to)
    message = book([("1.5", "2.5")], [], 5)
    gap, resync, malformed = decode(to, message.replace(old, new))
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.MALFORMED
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    assert malformed.announced
    assert malformed.error.path == path
    whole_book(to)


def test_a_crossed_book_is_not_told() -> None:
    to = session()
    whole_book(to)
    gap, resync = decode(to, book([("45286.0", "1.00000000")], [], 5))
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.CROSSED
    assert resync == Resync(BOOK)


def test_several_books_in_one_message_are_taken_each() -> None:
    one, other = json.loads(SNAPSHOT, parse_float=str), json.loads(SMALL, parse_float=str)
    one["data"] += other["data"]
    assert kinds(decode(session(), one)) == [BookSnapshot, Synced] * 2


def test_bytes_and_blanks_are_no_different() -> None:
    assert kinds(decode(session(), SNAPSHOT.encode())) == [BookSnapshot, Synced]
    spaced = SNAPSHOT.replace(":[", ": [").replace('{"channel"', '{ "channel"')
    assert kinds(decode(session(), spaced)) == [BookSnapshot, Synced]


def test_the_end_of_a_subscription_forgets_its_book() -> None:
    to = session()
    (request,) = to.requests(subscribe=[BOOK])
    decode(to, acknowledged(request))
    whole_book(to)
    (request,) = to.requests(unsubscribe=[BOOK])
    decode(to, acknowledged(request))
    assert to.book_image("BTC-USD") is None


def test_any_bytes_give_events_or_a_declared_error() -> None:
    update = book([("45283.6", "0.50000000")], [], _check(bids=[("45283.6", "0.50000000")]))
    corpus = [SNAPSHOT, update, TRADES % "snapshot", UPDATE, TICKER]
    corpus += ['{"channel":"heartbeat"}', '{"channel":"status","data":[{"system":"online"}]}']
    corpus.append(json.dumps(acknowledged(session().requests(subscribe=[BOOK])[0])))
    report = fuzz_session(Kraken(depth=10).session, corpus, runs=8000, seed=5)
    assert report.refused > 1000
    assert report.events > 1000


def test_the_list_comes_back_from_a_file() -> None:
    listed = Instruments.loads(Kraken().parse_instruments([PAIRS]).dumps())
    assert listed.by_symbol("BTC-USD").venue_symbol == "BTC/USD"
