"""OKX v5, by the messages that its documentation shows (okx.com/docs-v5)."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import Any

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
    ReconnectRequested,
    Refused,
    RequestingSession,
    Resync,
    Subscribed,
    Subscription,
    Synced,
    TraitedVenue,
    Unsubscribed,
)
from feedhandler.book import OrderBook
from feedhandler.errors import UnknownSymbol
from feedhandler.instruments import Instrument, InstrumentKind, Instruments
from feedhandler.model import GapReason
from feedhandler.venues.okx import OKX, OKXSession
from feedhandler.venues.okx_book import checksum

D = Decimal
PERP = Subscription("book", "BTC-USDT-PERP")
BOOK = Subscription("book", "BTC-USDT")
LIST = Instruments(
    [
        Instrument("BTC-USDT", "BTC-USDT", "BTC", "USDT", InstrumentKind.SPOT),
        Instrument("BTC-USDT-PERP", "BTC-USDT-SWAP", "BTC", "USDT", InstrumentKind.PERPETUAL),
    ],
    venue="okx",
)


def session() -> OKXSession:
    return OKX(instruments=LIST).session()


def decode(session: OKXSession, message: str | bytes | dict[str, Any]) -> list[Any]:
    text = json.dumps(message) if isinstance(message, dict) else message
    return [*session.decode(text, recv_ns=7, epoch=2)]


def compact(message: dict[str, Any]) -> str:
    """As the venue writes it: the fast way is for this."""
    return json.dumps(message, separators=(",", ":"))


def book(
    action: str,
    number: int | None,
    previous: int | None,
    *,
    bids: list[list[str]] | None = None,
    asks: list[list[str]] | None = None,
    check: int | None = 0,
    channel: str = "books",
    name: str = "BTC-USDT",
) -> dict[str, Any]:
    data: dict[str, Any] = {"asks": asks or [], "bids": bids or [], "ts": "1597026383085"}
    numbers = {"checksum": check, "prevSeqId": previous, "seqId": number}
    data.update({key: value for key, value in numbers.items() if value is not None})
    return {"arg": {"channel": channel, "instId": name}, "action": action, "data": [data]}


BIDS = [["3366.1", "7", "0", "3"], ["3366", "6", "3", "4"]]
ASKS = [["3366.8", "9", "10", "3"], ["3368", "8", "3", "4"]]


def started(**changes: Any) -> OKXSession:
    one = session()
    items = decode(one, compact(book("snapshot", 10, -1, bids=BIDS, asks=ASKS, **changes)))
    assert [type(item) for item in items] == [BookSnapshot, Synced]
    assert items[0].trust is Trust.VERIFIED
    return one


def test_it_fits_the_protocols() -> None:
    venue = OKX()
    assert isinstance(venue, BookVenue)
    assert isinstance(venue, ListedVenue)
    assert isinstance(venue, TraitedVenue)
    assert isinstance(venue.session(), BookSession)
    assert isinstance(venue.session(), RequestingSession)
    assert venue.url == "wss://ws.okx.com:8443/ws/v5/public"
    assert venue.traits.keep_alive is not None
    assert venue.traits.keep_alive.message == "ping"
    assert venue.traits.keep_alive.every_s < 30
    with pytest.raises(ConfigError, match="bbo-tbt"):
        OKX(top="books5")  # type: ignore[arg-type]  # what is wrong is the subject


# --- requests and their answers ------------------------------------------------------------------


def test_requests_name_the_venues_channels_and_instruments() -> None:
    one = session()
    (message,) = one.requests(
        subscribe=[PERP, Subscription("trades", "BTC-USDT"), Subscription("ticker", "BTC-USDT")]
    )
    assert json.loads(message) == {
        "id": "1",
        "op": "subscribe",
        "args": [
            {"channel": "books", "instId": "BTC-USDT-SWAP"},
            {"channel": "trades", "instId": "BTC-USDT"},
            {"channel": "bbo-tbt", "instId": "BTC-USDT"},
        ],
    }
    tickers = OKX(top="tickers").session().requests(subscribe=[Subscription("ticker", "X-Y")])
    assert json.loads(tickers[0])["args"] == [{"channel": "tickers", "instId": "X-Y"}]


def test_many_subscriptions_are_several_requests() -> None:
    wanted = [Subscription("trades", f"A{i}-USDT") for i in range(250)]
    messages = OKX().session().requests(subscribe=wanted)
    assert [len(json.loads(message)["args"]) for message in messages] == [100, 100, 50]


def test_an_unknown_symbol_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownSymbol, match="BTC-USDT"):
        session().requests(subscribe=[Subscription("book", "BTC-USDZ")])


def test_each_argument_is_acknowledged() -> None:
    one = session()
    for theirs, ours in (
        ("books", "book"), ("books-l2-tbt", "book"), ("books5", "book"), ("trades", "trades"),
        ("trades-all", "trades"), ("tickers", "ticker"), ("bbo-tbt", "ticker"),
    ):  # fmt: skip
        answer = {
            "id": "1512",
            "event": "subscribe",
            "arg": {"channel": theirs, "instId": "BTC-USDT-SWAP"},
            "connId": "accb8e21",
        }
        assert decode(one, answer) == [Subscribed([Subscription(ours, "BTC-USDT-PERP")])]
        assert decode(one, compact({**answer, "event": "unsubscribe"})) == [
            Unsubscribed([Subscription(ours, "BTC-USDT-PERP")])
        ]


def test_a_book_that_is_not_whole_ends_and_begins_anew_without_a_word_of_its_end() -> None:
    one = session()
    one.requests(subscribe=[BOOK])
    acknowledged = {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
    assert decode(one, acknowledged) == [Subscribed([BOOK])]
    messages = [json.loads(message) for message in one.requests(subscribe=[BOOK])]
    assert [message["op"] for message in messages] == ["unsubscribe", "subscribe"]
    (ended,) = decode(one, {**acknowledged, "event": "unsubscribe"})
    assert isinstance(ended, Ignored)
    assert decode(one, acknowledged) == [Subscribed([BOOK])]
    assert decode(one, {**acknowledged, "event": "unsubscribe"}) == [Unsubscribed([BOOK])]


def test_what_was_not_confirmed_is_asked_for_again_without_ending_it() -> None:
    one = session()
    one.requests(subscribe=[BOOK])
    (message,) = one.requests(subscribe=[BOOK])
    assert json.loads(message)["op"] == "subscribe"


NO_SUCH = (
    "Wrong URL or channel:books,instId:BTC-USDT-SWAP doesn't exist. Please use the correct URL, "
    "channel and parameters referring to API document."
)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        ({"code": "60018", "msg": NO_SUCH}, [PERP]),
        ({"code": "60012", "msg": 'Invalid request: {"op": "subscribe"}', "id": "1"}, [PERP, BOOK]),
        ({"code": "60012", "msg": "Invalid request"}, [None]),
        (
            {"code": "60018", "msg": "no", "arg": {"channel": "books", "instId": "BTC-USDT"}},
            [BOOK],
        ),
    ],
)
def test_a_refusal_is_in_the_venues_words(
    error: dict[str, Any], refused: list[Subscription | None]
) -> None:
    one = session()
    one.requests(subscribe=[PERP, BOOK])
    items = decode(one, {"event": "error", "connId": "a4d3ae55", **error})
    words = f"{error['code']} {error['msg']}"
    assert items == [Refused(subscription, words) for subscription in refused]


@pytest.mark.parametrize("code", ["60014", "50011", "50001", "63999", "64007"])
def test_a_passing_trouble_of_the_venue_is_no_refusal(code: str) -> None:
    one = session()
    one.requests(subscribe=[BOOK])
    (item,) = decode(one, {"event": "error", "code": code, "msg": "Requests too frequent"})
    assert isinstance(item, Ignored)


def test_a_channel_that_needs_an_account_is_refused() -> None:
    one = session()
    one.requests(subscribe=[BOOK])
    words = "Your trading fee tier doesn't meet the requirement to access this channel"
    arg = {"channel": "books-l2-tbt", "instId": "BTC-USDT"}
    error = {"event": "error", "code": "64003", "msg": words, "arg": arg}
    assert decode(one, error) == [Refused(BOOK, f"64003 {words}")]


def test_each_part_of_an_end_may_fail() -> None:
    one = session()
    one.requests(unsubscribe=[BOOK, PERP])
    for name in ("BTC-USDT", "BTC-USDT-SWAP"):
        words = NO_SUCH.replace("BTC-USDT-SWAP", name)
        (item,) = decode(one, {"event": "error", "id": "1", "code": "60018", "msg": words})
        assert isinstance(item, Ignored)


def test_an_end_that_failed_is_not_waited_for() -> None:
    """It was of a book that begins anew; the next end is somebody's business again."""
    one = session()
    one.requests(subscribe=[BOOK, PERP])
    for name in ("BTC-USDT", "BTC-USDT-SWAP"):
        decode(one, {"event": "subscribe", "arg": {"channel": "books", "instId": name}})
    again, _ = one.requests(subscribe=[BOOK, PERP])
    error = {"event": "error", "id": json.loads(again)["id"], "code": "60018", "msg": NO_SUCH}
    (item,) = decode(one, error)
    assert isinstance(item, Ignored)
    ended = {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT-SWAP"}}
    assert decode(one, ended) == [Unsubscribed([PERP])]
    (swallowed,) = decode(one, {**ended, "arg": {"channel": "books", "instId": "BTC-USDT"}})
    assert isinstance(swallowed, Ignored)


def test_a_failed_end_is_no_refusal() -> None:
    one = session()
    one.requests(unsubscribe=[BOOK])
    (item,) = decode(one, {"event": "error", "id": "1", "code": "60018", "msg": NO_SUCH})
    assert isinstance(item, Ignored)


def test_pong_is_life() -> None:
    assert decode(session(), "pong") == [Heartbeat()]
    assert decode(session(), b"pong") == [Heartbeat()]


def test_the_notice_of_an_upgrade_asks_for_a_new_connection() -> None:
    words = "The connection will soon be closed for a service upgrade. Please reconnect."
    notice = {"event": "notice", "code": "64008", "msg": words, "connId": "a4d3ae55"}
    assert decode(session(), notice) == [ReconnectRequested(words)]
    (other,) = decode(session(), {**notice, "code": "64099"})
    assert isinstance(other, Ignored)


@pytest.mark.parametrize(
    "message",
    [
        {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd"},
        {"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"},
        {"event": "subscribe", "arg": {"channel": "candle1m", "instId": "BTC-USDT"}},
        {"arg": {"channel": "books-rpi", "instId": "BTC-USDT"}, "data": []},
        {"arg": {"channel": "mark-price", "instId": "BTC-USDT"}, "data": [{}]},
        {"arg": {"channel": "trades", "instId": "ETH-USDT"}, "data": [{}]},
        {"arg": {"channel": "instruments", "instType": "SPOT"}, "data": []},
        {},
    ],
)
def test_what_is_of_no_use_is_ignored(message: dict[str, Any]) -> None:
    for text in (json.dumps(message), compact(message)):
        (item,) = decode(session(), text)
        assert isinstance(item, Ignored)


# --- trades and the top of the book --------------------------------------------------------------

TRADES = {
    "arg": {"channel": "trades", "instId": "BTC-USDT"},
    "data": [
        {
            "instId": "BTC-USDT",
            "tradeId": "130639474",
            "px": "42219.9",
            "sz": "0.12060306",
            "side": "buy",
            "ts": "1630048897897",
            "count": "3",
            "source": "0",
            "seqId": 1234,
        },
        {
            "instId": "BTC-USDT",
            "tradeId": "130639480",
            "px": "42219.90",
            "sz": "1",
            "side": "sell",
            "ts": "1630048897898",
            "count": "1",
        },
    ],
}


@pytest.mark.parametrize("text", [json.dumps(TRADES), compact(TRADES)])
def test_trades(text: str) -> None:
    stamp = 1_630_048_897_897_000_000
    assert decode(session(), text) == [
        Trade(
            "BTC-USDT", D("42219.9"), D("0.12060306"), Side.BUY, "130639474", None, stamp, 7,
            "okx", 2,
        ),
        Trade(
            "BTC-USDT", D("42219.90"), D("1"), Side.SELL, "130639480", None, stamp + 1_000_000, 7,
            "okx", 2,
        ),
    ]  # fmt: skip
    assert str(decode(session(), text)[1].price) == "42219.90"


def test_trades_that_stand_for_no_others() -> None:
    one = compact({**TRADES, "arg": {"channel": "trades-all", "instId": "BTC-USDT"}})
    assert decode(session(), one) == decode(session(), compact(TRADES))


def test_the_top_of_the_book_each_10_ms() -> None:
    top = {
        "arg": {"channel": "bbo-tbt", "instId": "BTC-USDT-SWAP"},
        "data": [
            {
                "asks": [["111.06", "55154", "0", "2"]],
                "bids": [["111.05", "57745", "0", "2"]],
                "ts": "1670324386802",
                "seqId": 363996337,
            }
        ],
    }
    quote = Quote(
        "BTC-USDT-PERP", D("111.05"), D("57745"), D("111.06"), D("55154"), None,
        1_670_324_386_802_000_000, 7, "okx", 2,
    )  # fmt: skip
    assert decode(session(), compact(top)) == decode(session(), top) == [quote]
    top["data"][0]["bids"] = []  # type: ignore[index]  # a list of objects
    (one_sided,) = decode(session(), compact(top))
    assert (one_sided.bid, one_sided.bid_size, one_sided.ask) == (None, None, D("111.06"))


def test_tickers_are_quotes() -> None:
    ticker = {
        "arg": {"channel": "tickers", "instId": "BTC-USDT"},
        "data": [
            {
                "instType": "SPOT",
                "instId": "BTC-USDT",
                "last": "9999.99",
                "lastSz": "0.1",
                "askPx": "9999.99",
                "askSz": "11",
                "bidPx": "8888.88",
                "bidSz": "5",
                "ts": "1597026383085",
            }
        ],
    }
    (quote,) = decode(session(), compact(ticker))
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (
        D("8888.88"), D("5"), D("9999.99"), D("11"),
    )  # fmt: skip
    ticker["data"][0].update(bidPx="", bidSz="")  # type: ignore[index,union-attr]
    (quote,) = decode(session(), compact(ticker))
    assert (quote.bid, quote.bid_size, quote.ask) == (None, None, D("9999.99"))


# --- the checksum --------------------------------------------------------------------------------


def levels(rows: list[list[str]]) -> list[Level]:
    return [Level(D(row[0]), D(row[1])) for row in rows]


@pytest.mark.parametrize(
    ("bids", "asks", "text"),
    [
        (BIDS, ASKS, "3366.1:7:3366.8:9:3366:6:3368:8"),
        (BIDS[:1], [*ASKS, ["3372", "8", "3", "4"]], "3366.1:7:3366.8:9:3368:8:3372:8"),
        ([["0.00000010", "5"]], [], "0.00000010:5"),
    ],
)
def test_the_checksum_of_the_documentation(
    bids: list[list[str]], asks: list[list[str]], text: str
) -> None:
    number = zlib.crc32(text.encode())
    signed = number - 2**32 if number >= 2**31 else number
    order_book = OrderBook("BTC-USDT")
    order_book.replace(levels(bids), levels(asks))
    assert checksum(order_book) == signed


def test_the_checksum_covers_25_levels_of_each_side() -> None:
    order_book = OrderBook("BTC-USDT")
    bids = [Level(D(1000 - i), D(i + 1)) for i in range(30)]
    asks = [Level(D(1001 + i), D(i + 1)) for i in range(30)]
    order_book.replace(bids, asks)
    before = checksum(order_book)
    order_book.apply([Level(D(1000 - 25), D(99))], [Level(D(1001 + 25), D(0))])
    assert checksum(order_book) == before
    order_book.apply([Level(D(1000 - 24), D(99))], [])
    assert checksum(order_book) != before


# As the venue has sent them: an option's four asks and five bids, and the best 28 of a future's.
OPTION = {
    "asks": [["0.038", "200"], ["0.0385", "1550"], ["0.0395", "2888"], ["0.0435", "1500"]],
    "bids": [
        ["0.035", "1550"], ["0.031", "200"], ["0.0305", "2888"], ["0.0285", "1500"],
        ["0.026", "500"],
    ],
}  # fmt: skip
FUTURE_ASKS = (
    "7026:5 7027:765 7028:110 7030:1264 7034:280 7035:2255 7036:28 7037:63 7039:137 7040:48 "
    "7041:32 7043:3985 7057:257 7058:7870 7059:161 7061:4539 7068:1438 7088:3162 7104:99 7108:5018 "
    "7115:1540 7129:5080 7145:1512 7150:5016 7171:5026 7192:5062 7197:1517 7260:1511"
)
FUTURE_BIDS = (
    "7014:56 7011:608 7009:110 7006:1264 7004:2347 7003:279 7001:52 6997:91 6996:4242 6995:486 "
    "6992:161 6991:63 6988:7518 6976:186 6975:71 6973:1086 6961:513 6959:4603 6950:186 6946:3043 "
    "6939:103 6930:5053 6909:5039 6888:5037 6886:1526 6867:5008 6846:5065 6826:1572"
)


def hundred_thousandths(text: str) -> list[list[str]]:
    """Prices and sizes as the venue writes them: without zeros at the end."""
    pairs = (pair.split(":") for pair in text.split())
    return [[f"{D(price).scaleb(-5):f}".rstrip("0"), size] for price, size in pairs]


@pytest.mark.parametrize(
    ("bids", "asks", "number", "previous", "check"),
    [
        (OPTION["bids"], OPTION["asks"], 7966474, -1, 750243667),
        (
            hundred_thousandths(FUTURE_BIDS), hundred_thousandths(FUTURE_ASKS), None, None,
            -1462286744,
        ),
    ],
)  # fmt: skip
def test_the_checksums_of_snapshots_that_were_sent(
    bids: list[list[str]], asks: list[list[str]], number: int | None, previous: int | None,
    check: int,
) -> None:  # fmt: skip
    rows = ([[*row, "0", "1"] for row in side] for side in (bids, asks))
    message = book("snapshot", number, previous, check=check)
    message["data"][0].update(zip(("bids", "asks"), rows, strict=True))
    snapshot, synced = decode(session(), compact(message))
    assert snapshot.trust is Trust.VERIFIED
    assert isinstance(synced, Synced)


SUM_OF_BOTH = -1881014294  # of "3366.1:7:3366.8:9:3366:6:3368:8"


def test_a_right_checksum_verifies_and_a_wrong_one_breaks_the_book() -> None:
    one = started(check=SUM_OF_BOTH)
    bad = book("update", 15, 10, bids=[["3366", "5", "0", "1"]], check=SUM_OF_BOTH)
    gap, resync = decode(one, compact(bad))
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.of_book, gap.from_sequence) == (GapReason.CHECKSUM, True, 15)
    assert resync == Resync(BOOK)
    assert one.book_image("BTC-USDT") is None


def test_a_wrong_checksum_of_a_snapshot_makes_no_book() -> None:
    one = session()
    items = decode(one, compact(book("snapshot", 10, -1, bids=BIDS, asks=ASKS, check=1)))
    assert [type(item) for item in items] == [Gap, Resync]


def test_a_checksum_of_0_is_retired() -> None:
    one = started(check=0)
    (delta,) = decode(one, compact(book("update", 15, 10, bids=[["3366", "5", "0", "1"]])))
    assert delta.trust is Trust.VERIFIED


# --- the sequence --------------------------------------------------------------------------------


def test_the_sequence_of_the_documentation() -> None:
    """A normal update, none, a reset and a normal one again."""
    one = started()
    trusts = []
    for number, previous in ((15, 10), (15, 15), (3, 15), (5, 3)):
        (delta,) = decode(one, compact(book("update", number, previous)))
        assert isinstance(delta, BookDelta)
        trusts.append((delta.sequence, delta.previous, delta.trust))
    assert trusts == [
        (15, 10, Trust.VERIFIED), (15, 15, Trust.VERIFIED), (3, 15, Trust.VERIFIED),
        (5, 3, Trust.VERIFIED),
    ]  # fmt: skip
    assert one.last_book_sequence("BTC-USDT") == 5


def test_a_hole_is_announced_with_its_bounds_and_closed_by_a_snapshot() -> None:
    one = started()
    gap, resync = decode(one, compact(book("update", 25, 20)))
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.reason, gap.from_sequence, gap.to_sequence, gap.of_book) == (
        "BTC-USDT", GapReason.SEQUENCE, 11, 20, True,
    )  # fmt: skip
    assert resync == Resync(BOOK)
    assert decode(one, compact(book("update", 30, 25, bids=[["3366", "1", "0", "1"]]))) == []
    items = decode(one, compact(book("snapshot", 25, -1, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [BookSnapshot, Synced, BookDelta]
    assert items[-1].sequence == 30
    assert items[-1].trust is Trust.VERIFIED


def test_a_stale_snapshot_is_no_answer() -> None:
    one = started()
    decode(one, compact(book("update", 15, 10)))
    decode(one, compact(book("update", 25, 20)))
    items = decode(one, compact(book("snapshot", 12, -1, bids=BIDS, asks=ASKS)))
    assert [type(item) for item in items] == [Ignored, Resync]
    assert one.book_image("BTC-USDT") is None


def test_a_message_that_comes_twice_is_dropped() -> None:
    one = started()
    update = compact(book("update", 15, 10, bids=[["3366", "1", "0", "1"]]))
    assert len(decode(one, update)) == 1
    (again,) = decode(one, update)
    assert isinstance(again, Ignored)
    (delta,) = decode(one, compact(book("update", 20, 15)))
    assert delta.trust is Trust.VERIFIED


def test_other_instruments_flow_on() -> None:
    one = started()
    decode(one, compact(book("snapshot", 5, -1, bids=BIDS, asks=ASKS, name="BTC-USDT-SWAP")))
    decode(one, compact(book("update", 25, 20)))
    (delta,) = decode(one, compact(book("update", 6, 5, name="BTC-USDT-SWAP")))
    assert (delta.symbol, delta.trust) == ("BTC-USDT-PERP", Trust.VERIFIED)


def test_books_without_numbers_are_told_by_their_checksum_alone() -> None:
    """As they were sent before 2022-11."""
    one = session()
    first = book("snapshot", None, None, bids=BIDS, asks=ASKS, check=SUM_OF_BOTH)
    assert [type(item) for item in decode(one, compact(first))] == [BookSnapshot, Synced]
    text = "3366.1:7:3366.8:9:3366:5:3368:8"
    number = zlib.crc32(text.encode())
    signed = number - 2**32 if number >= 2**31 else number
    (delta,) = decode(
        one, compact(book("update", None, None, bids=[["3366", "5", "0", "1"]], check=signed))
    )
    assert (delta.sequence, delta.trust) == (None, Trust.VERIFIED)
    gap, _ = decode(one, compact(book("update", None, None, check=12)))
    assert gap.reason is GapReason.CHECKSUM


def test_without_numbers_and_checksum_nothing_can_be_verified() -> None:
    one = session()
    items = decode(one, compact(book("snapshot", None, None, bids=BIDS, asks=ASKS)))
    assert items[0].trust is Trust.UNVERIFIABLE
    (delta,) = decode(one, compact(book("update", None, None)))
    assert delta.trust is Trust.UNVERIFIABLE


def five(bids: list[list[str]], number: int | None, name: str = "BTC-USDT") -> str:
    data = {"asks": ASKS, "bids": bids, "instId": name, "ts": "1652671418459", "seqId": number}
    data = {key: value for key, value in data.items() if value is not None}
    return compact({"arg": {"channel": "books5", "instId": name}, "data": [data]})


@pytest.mark.parametrize(
    ("numbers", "trust"), [((8, 12), Trust.VERIFIED), ((None, None), Trust.UNVERIFIABLE)]
)
def test_each_message_of_five_levels_is_a_whole_book(
    numbers: tuple[int | None, int | None], trust: Trust
) -> None:
    one = session()
    for bids, number in zip((BIDS, BIDS[:1]), numbers, strict=True):
        snapshot, _ = decode(one, five(bids, number))
        assert isinstance(snapshot, BookSnapshot)
        assert (len(snapshot.bids), len(snapshot.asks), snapshot.trust) == (len(bids), 2, trust)
        assert (snapshot.sequence, snapshot.venue_time_ns) == (number, 1_652_671_418_459_000_000)
    image = one.book_image("BTC-USDT")
    assert image is not None
    assert [level.price for level in image.bids] == [D("3366.1")]
    gap, resync, malformed = decode(one, five([["3366", "-1", "0", "1"]], 13))
    assert (gap.reason, resync) == (GapReason.MALFORMED, Resync(BOOK))
    assert [problem.path for problem in malformed.error.problems] == ["$.data[0].bids[0]"]


def test_a_channel_that_was_never_right_keeps_no_other_out() -> None:
    one = session()
    with pytest.raises(DecodeError):
        decode(one, five([["NaN", "1", "0", "1"]], 3))
    snapshot, _ = decode(one, compact(book("snapshot", 10, -1, bids=BIDS, asks=ASKS)))
    assert snapshot.trust is Trust.VERIFIED


def test_a_second_book_of_a_symbol_does_not_disturb_the_first() -> None:
    one = started()
    (ignored,) = decode(one, five(BIDS, 900))
    assert isinstance(ignored, Ignored)
    (delta,) = decode(one, compact(book("update", 15, 10)))
    assert delta.trust is Trust.VERIFIED
    ended = {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
    assert decode(one, ended) == [Unsubscribed([BOOK])]
    snapshot, _ = decode(one, five(BIDS, 900))
    assert snapshot.trust is Trust.VERIFIED


# --- bad input -----------------------------------------------------------------------------------


def changed(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    data = {**message["data"][0], **fields}
    return {**message, "data": [{k: v for k, v in data.items() if v is not ...}]}


UPDATE = book("update", 15, 10, bids=[["3366", "1", "0", "1"]])


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"bids": [["3366", "-1", "0", "1"]]}, "$.data[0].bids[0]"),
        ({"bids": [["NaN", "1", "0", "1"]]}, "$.data[0].bids[0]"),
        ({"asks": [["1_000", "1", "0", "1"]]}, "$.data[0].asks[0]"),
        ({"asks": [["3368"]]}, "$.data[0].asks[0]"),
        ({"asks": [["0", "1", "0", "1"]]}, "$.data[0].asks[0]"),
        ({"asks": [["1e999", "1", "0", "1"]]}, "$.data[0].asks[0]"),
        ({"asks": [["3368", "1", "0", "1"], ["3368", "2", "0", "1"]]}, "$.data[0].asks"),
        ({"asks": None}, "$.data[0].asks"),
        ({"asks": ...}, "$.data[0].asks"),
        ({"checksum": ...}, "$.data[0].checksum"),
        ({"checksum": 2**31}, "$.data[0].checksum"),
        ({"checksum": "5"}, "$.data[0].checksum"),
        ({"seqId": ...}, "$.data[0].seqId"),
        ({"prevSeqId": ...}, "$.data[0].prevSeqId"),
        ({"seqId": ..., "prevSeqId": ...}, "$.data[0].seqId"),
        ({"seqId": -5}, "$.data[0].seqId"),
        ({"seqId": 2**70}, "$.data[0].seqId"),
        ({"ts": "soon"}, "$.data[0].ts"),
        ({"ts": ...}, "$.data[0].ts"),
    ],
)
def test_a_malformed_update_breaks_its_book_and_names_the_field(
    fields: dict[str, Any], path: str
) -> None:
    one = started()
    gap, resync, malformed = decode(one, compact(changed(UPDATE, **fields)))
    assert (gap.reason, gap.symbol, gap.of_book) == (GapReason.MALFORMED, "BTC-USDT", True)
    assert resync == Resync(BOOK)
    assert isinstance(malformed, Malformed)
    assert path in [problem.path for problem in malformed.error.problems]


def test_a_snapshot_has_no_empty_level() -> None:
    with pytest.raises(DecodeError, match="a size of 0 in a snapshot"):
        decode(session(), compact(book("snapshot", 1, -1, bids=[["3366", "0", "0", "0"]])))


@pytest.mark.parametrize(
    ("field", "value"), [("px", "-1"), ("px", "0"), ("sz", "NaN"), ("ts", "-5"), ("side", "up")]
)
def test_a_malformed_trade_names_the_field(field: str, value: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(session(), compact(changed(TRADES, **{field: value})))
    assert f"$.data[0].{field}" in [problem.path for problem in error.value.problems]


@pytest.mark.parametrize("message", ["", "{", b"\xff", "[]", "3", '{"event":5}', '{"arg":[]}'])
def test_what_is_no_message_is_a_decode_error(message: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(session(), message)


def test_a_crossed_book_is_not_published() -> None:
    one = started()
    gap, resync = decode(one, compact(book("update", 15, 10, bids=[["3366.8", "1", "0", "1"]])))
    assert (gap.reason, resync) == (GapReason.CROSSED, Resync(BOOK))
    assert one.book_image("BTC-USDT") is None


# --- the list of instruments ---------------------------------------------------------------------


def answer(*lines: dict[str, str], code: str = "0", msg: str = "") -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": lines}).encode()


def test_the_list_of_instruments() -> None:
    spot = {
        "instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT",
        "state": "live", "tickSz": "0.1", "lotSz": "0.00000001", "instFamily": "", "uly": "",
        "expTime": "",
    }  # fmt: skip
    swap = {
        "instType": "SWAP", "instId": "BTC-USD-SWAP", "baseCcy": "", "quoteCcy": "",
        "uly": "BTC-USD", "instFamily": "BTC-USD", "state": "live", "tickSz": "0.1", "lotSz": "1",
    }  # fmt: skip
    other_family = {**swap, "instId": "BTC-USD_UM-SWAP", "instFamily": "BTC-USD_UM"}
    gone = {**swap, "instId": "LUNA-USDT-SWAP", "instFamily": "LUNA-USDT", "state": "suspend"}
    future = {
        **swap, "instType": "FUTURES", "instId": "BTC-USD-260327", "expTime": "1774598400000",
    }  # fmt: skip
    venue = OKX()
    assert len(venue.instrument_urls()) == 3
    listed = venue.parse_instruments(
        [answer(spot), answer(swap, other_family, gone), answer(future)]
    )
    assert {one.venue_symbol: (one.symbol, one.active) for one in listed} == {
        "BTC-USDT": ("BTC-USDT", True),
        "BTC-USD-SWAP": ("BTC-USD-PERP", True),
        "BTC-USD_UM-SWAP": ("BTC-USD_UM-PERP", True),
        "LUNA-USDT-SWAP": ("LUNA-USDT-PERP", False),
        "BTC-USD-260327": ("BTC-USD-20260327", True),
    }
    assert listed.by_symbol("BTC-USDT").size_increment == D("0.00000001")
    with pytest.raises(UnknownSymbol, match="not active"):
        venue.with_instruments(listed).session().requests(
            subscribe=[Subscription("book", "LUNA-USDT-PERP")]
        )


def line(**fields: str) -> dict[str, str]:
    return {"instType": "SPOT", "instId": "A-B", "state": "live", "baseCcy": "A", **fields}


@pytest.mark.parametrize(
    "body",
    [
        answer(code="50011", msg="Too Many Requests"),
        b"<html>503</html>",
        b'{"code":"0","data":[{"instId":"X"}]}',
        answer(line(quoteCcy="B"), line(quoteCcy="C")),
    ],
)
def test_an_answer_that_is_no_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        OKX().parse_instruments([body])
