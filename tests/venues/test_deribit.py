"""Deribit v2, by the messages that its documentation shows (docs.deribit.com)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from feedhandler import (
    BookDelta,
    BookSnapshot,
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
    Reply,
    RequestingSession,
    Resync,
    Subscribed,
    Subscription,
    Synced,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.errors import UnknownSymbol
from feedhandler.instruments import Instrument, InstrumentKind, Instruments
from feedhandler.model import GapReason
from feedhandler.venues.deribit import Deribit, DeribitSession

D = Decimal
BOOK = Subscription("book", "BTC-USD-PERP")
TRADES = Subscription("trades", "BTC-USD-PERP")
LINEAR = Subscription("book", "BTC-USDC-PERP")
LIST = Instruments(
    [
        Instrument("BTC-USD-PERP", "BTC-PERPETUAL", "BTC", "USD", InstrumentKind.PERPETUAL),
        Instrument("BTC-USDC-PERP", "BTC_USDC-PERPETUAL", "BTC", "USDC", InstrumentKind.PERPETUAL),
    ],
    venue="deribit",
)


def session() -> DeribitSession:
    return Deribit(instruments=LIST).session()


def decode(session: DeribitSession, message: str | bytes | dict[str, Any]) -> list[Any]:
    text = json.dumps(message) if isinstance(message, dict) else message
    return [*session.decode(text, recv_ns=7, epoch=2)]


def note(channel: str, data: Any) -> str:
    message = {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": channel, "data": data},
    }
    return json.dumps(message, separators=(",", ":"))


def book(number: int, previous: int | None = None, **fields: Any) -> str:
    data = {
        "type": "snapshot" if previous is None else "change",
        "timestamp": 1554373962454,
        "instrument_name": "BTC-PERPETUAL",
        "change_id": number,
        "bids": [],
        "asks": [],
        **({} if previous is None else {"prev_change_id": previous}),
        **fields,
    }
    name = fields.get("instrument_name", "BTC-PERPETUAL")
    return note(f"book.{name}.100ms", {k: v for k, v in data.items() if v is not ...})


BIDS = [["new", 5042.34, 30], ["new", 5041.94, 20]]
ASKS = [["new", 5042.64, 40], ["new", 5043.3, 40]]


def started() -> DeribitSession:
    one = session()
    items = decode(one, book(297217, bids=BIDS, asks=ASKS))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    assert items[0].trust is Trust.VERIFIED
    return one


def test_it_fits_the_protocols() -> None:
    venue = Deribit()
    assert isinstance(venue, BookVenue)
    assert isinstance(venue, ListedVenue)
    assert isinstance(venue, TraitedVenue)
    assert isinstance(venue.session(), BookSession)
    assert isinstance(venue.session(), RequestingSession)
    assert venue.url == "wss://www.deribit.com/ws/api/v2"
    assert venue.traits.silence_s is not None


# --- requests and their answers ------------------------------------------------------------------


def asked(one: DeribitSession, **wanted: Any) -> list[dict[str, Any]]:
    return [json.loads(message) for message in one.requests(**wanted)]


def test_heartbeats_are_asked_for_before_all_else_and_once() -> None:
    one = session()
    first, second = asked(one, subscribe=[BOOK, TRADES, Subscription("ticker", "BTC-USDC-PERP")])
    assert (first["method"], first["params"]) == ("public/set_heartbeat", {"interval": 10})
    assert second["jsonrpc"] == "2.0"
    assert second["method"] == "public/subscribe"
    assert second["params"] == {
        "channels": [
            "book.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.100ms", "quote.BTC_USDC-PERPETUAL",
        ]
    }  # fmt: skip
    assert first["id"] != second["id"]
    (third,) = asked(one, unsubscribe=[BOOK])
    assert (third["method"], third["params"]) == (
        "public/unsubscribe", {"channels": ["book.BTC-PERPETUAL.100ms"]},
    )  # fmt: skip
    answer = {"jsonrpc": "2.0", "id": first["id"], "result": "ok"}
    assert decode(one, answer) == [Heartbeat()]


def test_many_channels_are_several_requests() -> None:
    wanted = [Subscription("trades", f"A{i}-USD") for i in range(250)]
    messages = asked(Deribit().session(), subscribe=wanted)[1:]
    assert [len(message["params"]["channels"]) for message in messages] == [100, 100, 50]


def test_the_answer_lists_what_is_subscribed_and_the_rest_is_refused() -> None:
    one = session()
    _, request = asked(one, subscribe=[BOOK, LINEAR, TRADES])
    answer = {
        "jsonrpc": "2.0", "id": request["id"], "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False,
        "result": ["book.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.100ms"],
    }  # fmt: skip
    subscribed, refused = decode(one, answer)
    assert subscribed == Subscribed([BOOK, TRADES])
    assert isinstance(refused, Refused)
    assert refused.subscription == LINEAR
    assert "book.BTC_USDC-PERPETUAL.100ms" in refused.detail


def test_an_answer_to_somebody_elses_request_tells_what_is_subscribed() -> None:
    one = session()
    asked(one, subscribe=[BOOK, TRADES])
    answer = {"jsonrpc": "2.0", "id": 2, "result": ["book.BTC-PERPETUAL.raw"]}
    assert decode(one, answer) == [Subscribed([BOOK])]
    (item,) = decode(one, {"jsonrpc": "2.0", "id": 1, "result": "ok"})
    assert isinstance(item, Ignored)


def test_a_book_that_is_not_whole_ends_and_begins_anew_without_a_word_of_its_end() -> None:
    one = session()
    _, request = asked(one, subscribe=[BOOK])
    channels = ["book.BTC-PERPETUAL.100ms"]
    decode(one, {"jsonrpc": "2.0", "id": request["id"], "result": channels})
    end, begin = asked(one, subscribe=[BOOK])
    assert (end["method"], begin["method"]) == ("public/unsubscribe", "public/subscribe")
    (ended,) = decode(one, {"jsonrpc": "2.0", "id": end["id"], "result": channels})
    assert isinstance(ended, Ignored)
    answer = {"jsonrpc": "2.0", "id": begin["id"], "result": channels}
    assert decode(one, answer) == [Subscribed([BOOK])]
    (end,) = asked(one, unsubscribe=[BOOK])
    answer = {"jsonrpc": "2.0", "id": end["id"], "result": channels}
    assert decode(one, answer) == [Unsubscribed((BOOK,))]


def test_an_error_refuses_all_of_its_request_in_the_venues_words() -> None:
    one = session()
    _, request = asked(one, subscribe=[BOOK, TRADES])
    error = {
        "code": -32602, "message": "Invalid params",
        "data": {"reason": "wrong format", "param": "channels"},
    }  # fmt: skip
    items = decode(one, {"jsonrpc": "2.0", "id": request["id"], "error": error, "testnet": False})
    assert [item.subscription for item in items] == [BOOK, TRADES]
    for word in ("-32602", "Invalid params", "wrong format"):
        assert word in items[0].detail
    (item,) = decode(one, {"jsonrpc": "2.0", "error": {"code": 13009, "message": "unauthorized"}})
    assert item == Refused(None, "13009 unauthorized")


@pytest.mark.parametrize("code", [10028, 10040, 11051, 13888])
def test_a_passing_trouble_of_the_venue_is_no_refusal(code: int) -> None:
    one = session()
    _, request = asked(one, subscribe=[BOOK])
    error = {"code": code, "message": "too_many_requests"}
    (item,) = decode(one, {"jsonrpc": "2.0", "id": request["id"], "error": error})
    assert isinstance(item, Ignored)


def test_heartbeats_and_test_requests() -> None:
    one = session()
    beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}}
    assert decode(one, beat) == [Heartbeat()]
    test = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    (reply,) = decode(one, json.dumps(test, separators=(",", ":")))
    assert isinstance(reply, Reply)
    call = json.loads(reply.message)
    assert call["method"] == "public/test"
    answer = {"jsonrpc": "2.0", "id": call["id"], "result": {"version": "1.2.26"}}
    assert decode(one, answer) == [Heartbeat()]


@pytest.mark.parametrize(
    "message",
    [
        note("deribit_price_index.btc_usd", {"timestamp": 1, "price": 2, "index_name": "btc_usd"}),
        note("book.ETH-PERPETUAL.none.10.100ms", {}),
        note("trades.future.BTC", []),
        note("trades.ETH-PERPETUAL.100ms", []),
        note("platform_state", {"maintenance": True}),
        json.dumps({"jsonrpc": "2.0", "method": "news"}),
        "{}",
    ],
)
def test_what_is_of_no_use_is_ignored(message: str) -> None:
    (item,) = decode(session(), message)
    assert isinstance(item, Ignored)


# --- trades --------------------------------------------------------------------------------------


def fill(number: int = 30289442, **fields: Any) -> dict[str, Any]:
    return {
        "trade_seq": number,
        "trade_id": str(48079269 + number - 30289442),
        "timestamp": 1590484512188,
        "tick_direction": 2,
        "price": 8950,
        "mark_price": 8948.9,
        "instrument_name": "BTC-PERPETUAL",
        "index_price": 8955.88,
        "direction": "sell",
        "amount": 10,
        **fields,
    }


def trades(*fills: dict[str, Any]) -> str:
    return note("trades.BTC-PERPETUAL.100ms", fills)


def test_the_trade_of_the_documentation() -> None:
    trade = Trade(
        "BTC-USD-PERP", D(8950), D(10), Side.SELL, "48079269", 30289442,
        1_590_484_512_188_000_000, 7, "deribit", 2,
    )  # fmt: skip
    message = trades(fill())
    assert decode(session(), message) == [trade]
    assert decode(session(), json.dumps(json.loads(message), indent=1)) == [trade]
    assert decode(session(), message.encode()) == [trade]
    assert decode(session(), message.replace(".100ms", ".raw")) == [trade]


def test_every_digit_of_a_number_is_kept() -> None:
    text = trades(fill()).replace('"price":8950,', '"price":0.00012345678901234567890,')
    text = text.replace('"amount":10}', '"amount":1e-7}')
    (trade,) = decode(session(), text)
    assert str(trade.price) == "0.00012345678901234567890"
    assert trade.size == D("1e-7")
    text = text.replace("8955.88", "1e400")  # what is of no use does no harm
    assert len(decode(session(), text)) == 1


def test_trades_that_are_missing_are_announced() -> None:
    one = session()
    decode(one, trades(fill(1), fill(2)))
    gap, trade = decode(one, trades(fill(5)))
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.reason, gap.from_sequence, gap.to_sequence, gap.missing) == (
        "BTC-USD-PERP", GapReason.SEQUENCE, 3, 4, 2,
    )  # fmt: skip
    assert not gap.of_book
    assert trade.sequence == 5
    (again,) = decode(one, trades(fill(5)))
    assert isinstance(again, Ignored)


def test_a_trade_that_one_message_has_twice_is_told_once() -> None:
    one = session()
    decode(one, trades(fill(1)))
    first, second = decode(one, trades(fill(2), fill(2)))
    assert isinstance(first, Trade)
    assert isinstance(second, Ignored)


def test_trades_of_a_kind_are_of_many_instruments() -> None:
    linear = "BTC_USDC-PERPETUAL"
    fills = [
        fill(8),
        fill(3, instrument_name=linear, amount=0.5),
        fill(1706, instrument_name="BTC-26MAR21-62000-C"),
        fill(5, instrument_name=linear),
    ]
    items = decode(session(), note("trades.future.any.100ms", fills))
    assert [type(item) for item in items] == [Gap, Trade, Trade, Ignored, Trade]
    assert (items[0].symbol, items[0].from_sequence, items[0].to_sequence) == (
        "BTC-USDC-PERP", 4, 4,
    )  # fmt: skip
    told = [(item.symbol, item.sequence) for item in items if isinstance(item, Trade)]
    assert told == [("BTC-USD-PERP", 8), ("BTC-USDC-PERP", 3), ("BTC-USDC-PERP", 5)]


def test_trades_of_one_message_may_come_newest_first() -> None:
    items = decode(session(), trades(fill(3), fill(2), fill(1)))
    assert [item.sequence for item in items] == [3, 2, 1]


def test_trades_are_counted_anew_after_their_subscription_has_ended() -> None:
    one = session()
    decode(one, trades(fill(1)))
    (end,) = asked(one, unsubscribe=[TRADES])[1:]
    decode(one, {"jsonrpc": "2.0", "id": end["id"], "result": []})
    assert [type(item) for item in decode(one, trades(fill(9)))] == [Trade]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"price": "8950"}, "price"),
        ({"price": -1}, "price"),
        ({"price": 0}, "price"),
        ({"amount": None}, "amount"),
        ({"amount": True}, "amount"),
        ({"trade_seq": -1}, "trade_seq"),
        ({"timestamp": -1}, "timestamp"),
        ({"instrument_name": "ETH-PERPETUAL"}, "instrument_name"),
        ({"direction": "up"}, "direction"),
        ({"trade_id": 5}, "trade_id"),
    ],
)
def test_a_malformed_trade_names_the_field(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(session(), trades(fill(**fields)))
    assert f"$.params.data[0].{name}" in [problem.path for problem in error.value.problems]


# --- the top of the book -------------------------------------------------------------------------

QUOTE = {
    "timestamp": 1550658624149,
    "instrument_name": "BTC-PERPETUAL",
    "best_bid_price": 3914.97,
    "best_bid_amount": 40,
    "best_ask_price": 3996.61,
    "best_ask_amount": 50,
}


@pytest.mark.parametrize("channel", ["quote.BTC-PERPETUAL", "ticker.BTC-PERPETUAL.100ms"])
def test_the_quote_of_the_documentation(channel: str) -> None:
    quote = Quote(
        "BTC-USD-PERP", D("3914.97"), D(40), D("3996.61"), D(50), None,
        1_550_658_624_149_000_000, 7, "deribit", 2,
    )  # fmt: skip
    assert decode(session(), note(channel, {**QUOTE, "state": "open"})) == [quote]


@pytest.mark.parametrize("price", [None, 0, 0.0])
def test_an_empty_side_has_neither_price_nor_size(price: float | None) -> None:
    data = {**QUOTE, "best_bid_price": price, "best_bid_amount": 0.0}
    (quote,) = decode(session(), note("quote.BTC-PERPETUAL", data))
    assert (quote.bid, quote.bid_size, quote.ask) == (None, None, D("3996.61"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("best_bid_price", "1"), ("best_ask_price", -1), ("best_ask_amount", None), ("timestamp", "")],
)
def test_a_malformed_quote_names_the_field(name: str, value: object) -> None:
    with pytest.raises(DecodeError) as error:
        decode(session(), note("quote.BTC-PERPETUAL", {**QUOTE, name: value}))
    assert f"$.params.data.{name}" in [problem.path for problem in error.value.problems]


# --- the book ------------------------------------------------------------------------------------


def test_the_book_of_the_documentation() -> None:
    one = session()
    snapshot, synced = decode(one, book(297217, bids=BIDS, asks=ASKS))
    assert snapshot.bids == (Level(D("5042.34"), D(30)), Level(D("5041.94"), D(20)))
    assert snapshot.asks == (Level(D("5042.64"), D(40)), Level(D("5043.3"), D(40)))
    assert (snapshot.sequence, snapshot.venue_time_ns) == (297217, 1_554_373_962_454_000_000)
    assert synced == Synced(BOOK)
    change = book(
        297218, 297217, bids=[["delete", 5041.94, 0]], asks=[["delete", 5042.64, 0.0],
        ["change", 5043.3, 10.5], ["new", 5044, 1]],
    )  # fmt: skip
    (delta,) = decode(one, change)
    assert delta.bids == (Level(D("5041.94"), D(0)),)
    assert delta.asks == (
        Level(D("5042.64"), D(0)), Level(D("5043.3"), D("10.5")), Level(D(5044), D(1)),
    )  # fmt: skip
    assert (delta.sequence, delta.previous, delta.trust) == (297218, 297217, Trust.VERIFIED)
    image = one.book_image("BTC-USD-PERP")
    assert image is not None
    assert image.asks == (Level(D("5043.3"), D("10.5")), Level(D(5044), D(1)))
    assert one.last_book_sequence("BTC-USD-PERP") == 297218


def test_a_message_without_a_type_is_a_snapshot_if_it_follows_nothing() -> None:
    """As they were sent before 2020."""
    one = session()
    items = decode(one, book(5, bids=BIDS, asks=ASKS, type=...))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    (delta,) = decode(one, book(6, 5, bids=[["change", 5041.94, 1]], type=...))
    assert isinstance(delta, BookDelta)


def grouped(number: int, **fields: Any) -> str:
    data = {
        "timestamp": 1769246173071,
        "instrument_name": "BTC-PERPETUAL",
        "change_id": number,
        "bids": [[89532.5, 254900.0], [89532.0, 1000.0]],
        "asks": [[89533.0, 91570.0]],
        **fields,
    }
    return note("book.BTC-PERPETUAL.none.10.100ms", data)


def test_a_grouped_book_is_whole_each_time() -> None:
    one = session()
    for number, bids in ((136725664747, 2), (136725664790, 1)):
        snapshot, synced = decode(one, grouped(number, bids=[[89532.5, 20], [89532, 10]][:bids]))
        assert isinstance(snapshot, BookSnapshot)
        assert synced == Synced(BOOK)
        assert (len(snapshot.bids), len(snapshot.asks), snapshot.sequence) == (bids, 1, number)
        assert snapshot.trust is Trust.VERIFIED
    (stale,) = decode(one, grouped(136725664748))
    assert isinstance(stale, Ignored)
    gap, resync, malformed = decode(one, grouped(136725664791, asks=[["new", 89533.0, 5.0]]))
    assert (gap.reason, resync) == (GapReason.MALFORMED, Resync(BOOK))
    assert [problem.path for problem in malformed.error.problems] == ["$.params.data.asks[0]"]


def test_a_second_book_of_a_symbol_does_not_disturb_the_first() -> None:
    one = started()
    (ignored,) = decode(one, grouped(300_000))
    assert isinstance(ignored, Ignored)
    raw = book(297218, 297217).replace(".100ms", ".raw")
    (ignored,) = decode(one, raw)
    assert isinstance(ignored, Ignored)
    (delta,) = decode(one, book(297219, 297217))
    assert delta.trust is Trust.VERIFIED


def test_amounts_with_an_exponent_are_exact() -> None:
    one = session()
    text = book(297217, bids=BIDS, asks=ASKS).replace("5042.34,30", "5042.34,1.0002e6")
    snapshot, _ = decode(one, text.replace("5042.64,40", "5042.64,6.563e-5"))
    assert f"{snapshot.bids[0].size:f} {snapshot.asks[0].size:f}" == "1000200 0.00006563"


def test_a_hole_is_announced_with_its_bounds_and_closed_by_a_snapshot() -> None:
    one = started()
    gap, resync = decode(one, book(297230, 297225))
    assert (gap.reason, gap.from_sequence, gap.to_sequence, gap.of_book) == (
        GapReason.SEQUENCE, 297218, 297225, True,
    )  # fmt: skip
    assert resync == Resync(BOOK)
    assert decode(one, book(297231, 297230, bids=[["change", 5041.94, 2]])) == []
    items = decode(one, book(297230, bids=BIDS, asks=ASKS))
    assert [type(item) for item in items] == [BookSnapshot, Synced, BookDelta]
    assert {item.trust for item in (items[0], items[2])} == {Trust.VERIFIED}


def test_a_stale_snapshot_is_no_answer() -> None:
    one = started()
    decode(one, book(297230, 297225))
    items = decode(one, book(297000, bids=BIDS, asks=ASKS))
    assert [type(item) for item in items] == [Ignored, Resync]


def test_a_message_that_comes_twice_is_dropped() -> None:
    one = started()
    change = book(297218, 297217, bids=[["delete", 5041.94, 0]])
    assert len(decode(one, change)) == 1
    (again,) = decode(one, change)
    assert isinstance(again, Ignored)


def test_other_instruments_flow_on() -> None:
    one = started()
    name = "BTC_USDC-PERPETUAL"
    decode(one, book(1, bids=BIDS, asks=ASKS, instrument_name=name))
    decode(one, book(297230, 297225))
    (delta,) = decode(one, book(2, 1, bids=[["change", 5041.94, 2]], instrument_name=name))
    assert (delta.symbol, delta.trust) == ("BTC-USDC-PERP", Trust.VERIFIED)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"bids": [["new", "5041.94", 1]]}, "bids[0]"),
        ({"bids": [["new", -1, 1]]}, "bids[0]"),
        ({"bids": [["new", 5041.94, -1]]}, "bids[0]"),
        ({"bids": [["change", 5041.94, 0]]}, "bids[0]"),
        ({"bids": [["move", 5041.94, 1]]}, "bids[0]"),
        ({"bids": [["new", 5041.94]]}, "bids[0]"),
        ({"bids": [["new", 5041.94, 1, 1]]}, "bids[0]"),
        ({"bids": [["new", 5041.94, True]]}, "bids[0]"),
        ({"asks": [["new", None, 1]]}, "asks[0]"),
        ({"asks": [["delete", 0, 0]]}, "asks[0]"),
        ({"asks": {}}, "asks"),
        ({"asks": ...}, "asks"),
        ({"change_id": -1}, "change_id"),
        ({"change_id": 2**64}, "change_id"),
        ({"prev_change_id": ...}, "prev_change_id"),
        ({"timestamp": ...}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"type": "delta"}, "type"),
    ],
)
def test_a_malformed_change_breaks_its_book_and_names_the_field(
    fields: dict[str, Any], path: str
) -> None:
    one = started()
    gap, resync, malformed = decode(one, book(297218, 297217, **fields))
    assert (gap.reason, gap.symbol, gap.of_book) == (GapReason.MALFORMED, "BTC-USD-PERP", True)
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    found = [problem.path for problem in malformed.error.problems]
    assert any(one.startswith(f"$.params.data.{path}") for one in found), found


def test_an_amount_beyond_every_magnitude_is_named_as_well() -> None:
    message = book(297218, 297217, bids=[["new", 5041.94, 1]])
    text = message if isinstance(message, str) else json.dumps(message)
    (_, _, malformed) = decode(started(), text.replace("5041.94", "1e99999999999999999999"))
    assert isinstance(malformed, Malformed)
    assert malformed.error.problems[0].path.startswith("$.params.data.bids[0]")


def test_a_book_of_another_instrument_is_not_taken() -> None:
    one = started()
    text = book(297218, 297217).replace(
        '"instrument_name":"BTC-PERPETUAL"', '"instrument_name":"ETH-PERPETUAL"'
    )
    assert isinstance(decode(one, text)[-1], Malformed)


def test_a_snapshot_deletes_nothing() -> None:
    with pytest.raises(DecodeError, match="no such action here"):
        decode(session(), book(1, bids=[["delete", 5041.94, 0]]))


@pytest.mark.parametrize("message", ["", "{", b"\xff", "[]", "3", '{"method":5}'])
def test_what_is_no_message_is_a_decode_error(message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(session(), message)


# --- the list of instruments ---------------------------------------------------------------------


def line(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "instrument_name": name,
        "kind": kind,
        "base_currency": "BTC",
        "counter_currency": "USD",
        "quote_currency": "USD",
        "is_active": True,
        "tick_size": 0.5,
        "min_trade_amount": 10,
        **fields,
    }


def answer(*lines: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": lines, "usIn": 1}).encode()


def test_the_list_of_instruments() -> None:
    friday = 1673596800000
    futures = answer(
        line("BTC-PERPETUAL", "future", settlement_period="perpetual"),
        line(
            "BTC_USDC-PERPETUAL", "future", settlement_period="perpetual", counter_currency="USDC",
            quote_currency="USDC", tick_size=0.0001,
        ),
        line("BTC-13JAN23", "future", settlement_period="week", expiration_timestamp=friday),
        line("BTC-FS-13JAN23_PERP", "future_combo", expiration_timestamp=friday),
    )  # fmt: skip
    option = {
        "quote_currency": "BTC", "settlement_period": "week", "expiration_timestamp": friday,
        "strike": 16000.0, "option_type": "put", "tick_size": 0.0005, "min_trade_amount": 0.1,
    }  # fmt: skip
    options = answer(
        line("BTC-13JAN23-16000-P", "option", **option),
        line("BTC-13JAN23-99999-C", "option", **{**option, "strike": 99999, "option_type": "call"},
             is_active=False),
    )  # fmt: skip
    spot = answer(line("BTC_USDC", "spot", counter_currency="USDC", quote_currency="USDC"))
    venue = Deribit()
    assert len(venue.instrument_urls()) == 3
    listed = venue.parse_instruments([futures, options, spot])
    assert {one.venue_symbol: (one.symbol, one.active) for one in listed} == {
        "BTC-PERPETUAL": ("BTC-USD-PERP", True),
        "BTC_USDC-PERPETUAL": ("BTC-USDC-PERP", True),
        "BTC-13JAN23": ("BTC-USD-20230113", True),
        "BTC-13JAN23-16000-P": ("BTC-USD-20230113-16000-P", True),
        "BTC-13JAN23-99999-C": ("BTC-USD-20230113-99999-C", False),
        "BTC_USDC": ("BTC-USDC", True),
    }
    assert listed.by_symbol("BTC-USDC-PERP").price_increment == D("0.0001")
    with pytest.raises(UnknownSymbol, match="BTC-USD-PERP"):
        venue.with_instruments(listed).session().requests(
            subscribe=[Subscription("book", "BTC-USD-PER")]
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","error":{"code":10028,"message":"too_many_requests"}}',
        b"<html>503</html>",
        b'{"jsonrpc":"2.0","result":[{"kind":"spot"}]}',
        b'{"jsonrpc":"2.0"}',
        answer(line("BTC-1JAN27", "future")),
        answer(line("BTC-X-C", "option", expiration_timestamp=1673596800000)),
        answer(line("A", "spot"), line("A", "spot", base_currency="B")),
    ],
)
def test_an_answer_that_is_no_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        Deribit().parse_instruments([body])
