"""What each venue makes of messages, good and bad; none names another."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import (
    Coinbase,
    ConfigError,
    DecodeError,
    Gap,
    GapReason,
    PriceUpdate,
    PriceVenue,
    Quote,
    Side,
    Trade,
    venue_by_name,
)
from feedhandler.abc import (
    Heartbeat,
    Ignored,
    Malformed,
    ReconnectRequested,
    Refused,
    Reply,
    Session,
    Subscribed,
    Subscription,
    Unsubscribed,
    Venue,
)
from feedhandler_testing import price_message

PRICE = PriceVenue("ws://host/")


def decode(session: Session, message: object) -> list[Any]:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    return list(session.decode(text, recv_ns=5, epoch=2))


# --- the plain price JSON ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "heartbeat"}, [Heartbeat()]),
        ({"type": "subscribed", "symbols": ["A"]}, [Subscribed([Subscription("price", "A")])]),
        ({"type": "unsubscribed", "symbols": ["A"]}, [Unsubscribed([Subscription("price", "A")])]),
        (
            {"type": "error", "symbol": "X", "message": "unknown"},
            [Refused(Subscription("price", "X"), "unknown")],
        ),
        ({"type": "error", "message": "no"}, [Refused(None, "no")]),
        ({"type": "ping", "id": 3}, [Reply('{"type":"pong","id":3}')]),
        ({"type": "reconnect", "reason": "m"}, [ReconnectRequested("m")]),
        ({"type": "candle", "new": [1]}, [Ignored("candle")]),
    ],
)
def test_price_controls(message: dict[str, Any], expected: list[object]) -> None:
    assert decode(PRICE.session(), message) == expected


def test_prices_follow_their_sequence() -> None:
    session = PRICE.session()
    (first,) = decode(session, price_message("A", "1.50", 4))
    assert first == PriceUpdate(
        "A", Decimal("1.50"), Decimal(1), Side.BUY, 4, 1_700_000_000_000_000_000, 5, "price", 2
    )
    assert len(decode(session, price_message("B", "1", 9))) == 1, "each symbol has its own"
    gap, update = decode(session, price_message("A", "1", 8))
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.from_sequence, gap.to_sequence, gap.missing) == (
        GapReason.SEQUENCE, 5, 7, 3,
    )  # fmt: skip
    assert update.sequence == 8
    assert decode(session, price_message("A", "1", 8)) == [Ignored("duplicate")]
    gap, ignored = decode(session, price_message("A", "1", 2))
    assert (gap.from_sequence, gap.to_sequence) == (2, 3), "it was not there, and comes too late"
    assert ignored == Ignored("late")
    assert decode(session, price_message("A", "1", 3)) == [Ignored("duplicate")]
    assert len(decode(session, price_message("A", "1", 9))) == 1


def test_a_price_without_its_type_is_refused() -> None:
    untyped = price_message("A", "1", 1).replace('"type":"price",', "")
    with pytest.raises(DecodeError) as caught:
        decode(PRICE.session(), untyped)
    assert caught.value.path == "$.type"


def test_price_requests() -> None:
    wanted = [Subscription("price", "A"), Subscription("price", "B")]
    assert PRICE.subscribe(wanted) == ['{"type":"subscribe","symbols":["A","B"]}']
    assert PRICE.unsubscribe(wanted[:1]) == ['{"type":"unsubscribe","symbols":["A"]}']


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribed"},
        {"type": "subscribed", "symbols": "A"},
        {"type": "error"},
        {"type": "price"},
        {"type": 5},
        {},
    ],
)
def test_price_controls_with_missing_keys_are_decode_errors(message: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(PRICE.session(), message)


# --- Coinbase ------------------------------------------------------------------------------------

TRADE = {
    "product_id": "BTC-USD", "trade_id": "7", "price": "65083.670", "size": "0.001",
    "time": "2026-08-09T13:59:08.123456Z", "side": "BUY",
}  # fmt: skip
TICKER = {
    "product_id": "BTC-USD", "best_bid": "1.5", "best_bid_quantity": "2",
    "best_ask": "1.6", "best_ask_quantity": "3", "price": "1.55", "brand_new": {"x": 1},
}  # fmt: skip


def coinbase(channel: str, number: int, **members: Any) -> dict[str, Any]:
    return {
        "channel": channel, "sequence_num": number, "timestamp": "2026-08-09T13:59:09Z",
        "events": [{"type": "update", **members}],
    }  # fmt: skip


def test_a_coinbase_trade_has_the_taker_s_side() -> None:
    (trade,) = decode(Coinbase().session(), coinbase("market_trades", 0, trades=[TRADE]))
    assert trade == Trade(
        "BTC-USD", Decimal("65083.670"), Decimal("0.001"), Side.SELL, "7", 0,
        1_786_283_948_123_456_000, 5, "coinbase", 2,
    )  # fmt: skip
    assert str(trade.price) == "65083.670"


def test_a_coinbase_ticker_is_a_quote() -> None:
    (quote,) = decode(Coinbase().session(), coinbase("ticker", 0, tickers=[TICKER]))
    assert quote == Quote(
        "BTC-USD", Decimal("1.5"), Decimal(2), Decimal("1.6"), Decimal(3), 0,
        1_786_283_949_000_000_000, 5, "coinbase", 2,
    )  # fmt: skip


def test_coinbase_counts_every_message_of_a_connection() -> None:
    session = Coinbase().session()
    assert decode(session, coinbase("heartbeats", 0)) == [Heartbeat()]
    assert decode(session, coinbase("candles", 1)) == [Ignored("candles")]
    gap, heartbeat = decode(session, coinbase("heartbeats", 4))
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.from_sequence, gap.to_sequence) == (None, 2, 3)
    assert heartbeat == Heartbeat()
    assert decode(session, coinbase("heartbeats", 4)) == [Ignored("duplicate")]


def test_coinbase_confirms_and_refuses_subscriptions() -> None:
    session = Coinbase().session()
    confirmed = coinbase("subscriptions", 0, subscriptions={"ticker": ["A"], "heartbeats": ["x"]})
    assert decode(session, confirmed) == [Subscribed([Subscription("ticker", "A")], complete=True)]
    refused = {"type": "error", "message": "ETHUSD is not a valid product"}
    assert decode(session, refused) == [Refused(None, "ETHUSD is not a valid product")]
    assert decode(session, {"type": "hello"}) == [Ignored("hello")]


def test_coinbase_requests_are_one_for_each_channel() -> None:
    wanted = [Subscription("trades", "A"), Subscription("ticker", "A"), Subscription("trades", "B")]
    requests = [json.loads(request) for request in Coinbase().subscribe(wanted)]
    assert requests == [
        {"type": "subscribe", "product_ids": ["A", "B"], "channel": "market_trades"},
        {"type": "subscribe", "product_ids": ["A"], "channel": "ticker"},
        {"type": "subscribe", "product_ids": ["A", "B"], "channel": "heartbeats"},
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"price": "-1"}, "$.events[0].trades[1].price"),
        ({"price": "NaN"}, "$.events[0].trades[1].price"),
        ({"price": 5}, "$.events[0].trades[1].price"),
        ({"size": None}, "$.events[0].trades[1].size"),
        ({"side": "BID"}, "$.events[0].trades[1].side"),
        ({"time": "soon"}, "$.events[0].trades[1].time"),
    ],
)
def test_a_coinbase_trade_with_one_wrong_field_names_it(change: dict[str, Any], path: str) -> None:
    message = coinbase("market_trades", 0, trades=[TRADE, {**TRADE, **change}])
    with pytest.raises(DecodeError) as caught:
        decode(Coinbase().session(), message)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_a_coinbase_trade_without_a_field_names_it() -> None:
    for missing in TRADE:
        trade = {name: value for name, value in TRADE.items() if name != missing}
        with pytest.raises(DecodeError) as caught:
            decode(Coinbase().session(), coinbase("market_trades", 0, trades=[trade]))
        assert [p.path for p in caught.value.problems] == [f"$.events[0].trades[0].{missing}"]


@pytest.mark.parametrize(
    ("channel", "events", "problem"),
    [
        ("market_trades", "x", ("$.events", "expected a list, got a string")),
        ("market_trades", ["x"], ("$.events[0]", "expected an object, got a string")),
        ("market_trades", [{"trades": {}}], ("$.events[0].trades", "expected a list, got an obj")),
        ("subscriptions", ["x"], ("$.events[0]", "expected an object, got a string")),
        (
            "subscriptions",
            [{"subscriptions": []}],
            ("$.events[0].subscriptions", "expected an object, got a list"),
        ),
        (
            "subscriptions",
            [{"subscriptions": {"ticker": "AB"}}],
            ("$.events[0].subscriptions['ticker']", "expected a list, got a string"),
        ),
    ],
)
def test_the_shape_of_a_coinbase_message_is_checked(
    channel: str, events: object, problem: tuple[str, str]
) -> None:
    message = {**coinbase(channel, 0), "events": events}
    with pytest.raises(DecodeError) as caught:
        decode(Coinbase().session(), message)
    ((path, told),) = caught.value.problems
    assert path == problem[0]
    assert told.startswith(problem[1])


def test_a_malformed_message_is_not_a_hole_in_the_sequence() -> None:
    session = Coinbase().session()
    decode(session, coinbase("heartbeats", 0))
    with pytest.raises(DecodeError):
        decode(session, coinbase("market_trades", 1, trades=[{**TRADE, "price": "x"}]))
    assert decode(session, coinbase("heartbeats", 2)) == [Heartbeat()]


# --- every venue ---------------------------------------------------------------------------------

_TEXT = st.text(max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            _TEXT
            | st.sampled_from(
                ["type", "channel", "events", "trades", "tickers", "symbols", "price"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_ENVELOPES = st.fixed_dictionaries(
    {"channel": st.sampled_from(["market_trades", "ticker", "subscriptions", "heartbeats"])},
    optional={"sequence_num": _JSON, "events": _JSON, "timestamp": _JSON},
) | st.fixed_dictionaries(
    {"type": st.sampled_from(["price", "subscribed", "error", "ping", "reconnect"])},
    optional={"symbols": _JSON, "message": _JSON, "symbol": _JSON, "id": _JSON, "reason": _JSON},
)


@pytest.mark.parametrize("venue", [PRICE, Coinbase()], ids=lambda venue: str(venue.name))
@given(message=st.binary() | st.text() | (_JSON | _ENVELOPES).map(json.dumps))
def test_any_message_gives_events_or_a_decode_error(venue: Venue, message: str | bytes) -> None:
    with contextlib.suppress(DecodeError):
        for item in venue.session().decode(message, recv_ns=1, epoch=1):
            assert not isinstance(item, Trade | Quote | PriceUpdate) or item.venue == venue.name


def test_venues_are_found_by_name() -> None:
    assert venue_by_name("coinbase") == Coinbase()
    assert venue_by_name("Price", url="ws://host/") == PRICE
    with pytest.raises(ConfigError, match=r"did you mean 'coinbase'.* known are binance, "):
        venue_by_name("coinbse")
    with pytest.raises(ConfigError, match="has no address of its own"):
        venue_by_name("price")


def test_no_repr_of_a_venue_shows_credentials() -> None:
    for venue in (PriceVenue("wss://me:pw@host/?key=k"), Coinbase("wss://me:pw@host/?key=k")):
        assert "pw" not in repr(venue)
        assert "key=k" not in repr(venue)


def test_a_hole_before_a_malformed_message_is_announced() -> None:
    session = Coinbase().session()
    decode(session, coinbase("heartbeats", 0))
    bad = coinbase("market_trades", 50, trades=[{**TRADE, "price": "x"}])
    gap, malformed = decode(session, bad)
    assert isinstance(gap, Gap)
    assert (gap.from_sequence, gap.to_sequence) == (1, 49)
    assert isinstance(malformed, Malformed)
    assert malformed.error.path == "$.events[0].trades[0].price"


def test_a_coinbase_connection_counts_from_zero() -> None:
    gap, heartbeat = decode(Coinbase().session(), coinbase("heartbeats", 40))
    assert isinstance(gap, Gap)
    assert (gap.from_sequence, gap.to_sequence) == (0, 39)
    assert heartbeat == Heartbeat()
