"""Bitfinex: each message that its documentation shows, the sequence, the checksum, and mutants."""

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
    InstrumentKind,
    Level,
    Quote,
    Side,
    Trade,
    Trust,
)
from feedhandler.abc import (
    BookVenue,
    Control,
    Heartbeat,
    Ignored,
    ListedVenue,
    Malformed,
    ReconnectRequested,
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
from feedhandler.model import Event
from feedhandler.venues.bitfinex import Bitfinex, BitfinexSession
from feedhandler.venues.bitfinex_books import BookChecksum
from feedhandler_testing.venue_fuzz import fuzz_session

BOOK, TRADES, TICKER = (Subscription(c, "BTC-USD") for c in ("book", "trades", "ticker"))
B, T, Q = 10, 11, 12  # the numbers of their channels
LISTS = [
    b'[["BTCUSD","BTCUST","DUSK:USD","BCHN:USD","USTUSD","LINK:UST","btcusd","ABCD"]]',
    b'[["BTCF0:USTF0","ETHF0:BTCF0"]]',
]
# Two books as the venue has sent them (fixtures of its own Go library, ws_public tests), each with
# an update and the checksum after it; the second has prices below 1e-6.
REAL = [
    (
        "[81757,[[0.000089,1,185.25362178],[0.00008898,1,1000],[0.00008896,2,4727.04575171],"
        "[0.00008895,2,21458.69508413],[0.00008893,1,4376.42464394],[0.00008892,2,3368.61853124],"
        "[0.00008891,1,19883.51942917],[0.0000889,3,9435.62761455],[0.00008889,3,2028.31355429],"
        "[0.00008887,2,1648.2231714],[0.00008885,1,2759.9202752],[0.00008881,1,54317.999],"
        "[0.00008879,1,20000],[0.00008875,1,2500],[0.00008873,1,623.90816043],"
        "[0.00008867,2,1623.72590867],[0.00008863,1,1001],[0.00008862,1,81476.999],"
        "[0.00008861,2,31514.63403132],[0.0000886,1,200000],[0.00008855,1,14000],"
        "[0.00008854,1,812.50832839],[0.00008851,1,1000],[0.0000885,1,100],[0.00008847,2,74338],"
        "[0.00008901,1,-1067.2702412],[0.00008905,1,-18296.32986369],[0.00008906,1,-15678.6],"
        "[0.00008907,1,-2696.32625547],[0.0000891,1,-2247.09217145],[0.00008911,1,-28169.38978256],"
        "[0.00008912,2,-7862.51772819],[0.00008913,1,-4491.60631071],[0.00008917,1,-2246.34063345],"
        "[0.00008918,3,-2502.36695768],[0.00008919,1,-2759.8023267],[0.0000892,1,-1716.543113],"
        "[0.00008923,3,-9841.07336657],[0.00008925,1,-2500],[0.00008929,1,-54317.999],"
        "[0.0000893,1,-20000],[0.00008931,2,-1779.82438355],[0.00008932,1,-3000],"
        "[0.00008934,1,-1626.72409133],[0.00008935,1,-7600],[0.00008937,1,-1655.81250531],"
        "[0.0000894,1,-14000],[0.00008943,1,-24069.65852907],[0.00008944,2,-8600],"
        "[0.00008946,1,-1768.039406]]]",
        "[81757,[0.00008918,2,-1379.90652441]]",
        1217733465,
    ),
    (
        "[81757,[[0.0000011,13,271510.49],[0.00000109,4,500793.10790141],[0.00000108,5,776367.43],"
        "[0.00000107,1,23329.54842056],[0.00000106,3,116868.87735849],[0.00000105,3,205000],"
        "[0.00000103,3,227308.25386407],[0.00000102,2,105000],[0.00000101,1,2970],"
        "[0.000001,2,21000],[7e-7,1,10000],[6.6e-7,1,10000],[6e-7,1,100000],[4.9e-7,1,10000],"
        "[2.5e-7,1,2000],[6e-8,1,100000],[5e-8,1,200000],[1e-8,4,640000],[0.00000111,1,-4847.13],"
        "[0.00000112,7,-528102.69042633],[0.00000113,5,-302397.07],[0.00000114,3,-339088.93],"
        "[0.00000126,4,-245944.06],[0.00000127,1,-5000],[0.0000013,1,-5000],"
        "[0.00000134,1,-8249.18938656],[0.00000136,1,-13161.25184766],[0.00000145,1,-2914],"
        "[0.0000015,3,-54448.5],[0.00000152,2,-5538.54849594],[0.00000153,1,-62691.75475079],"
        "[0.00000159,1,-2914],[0.0000016,1,-52631.10296831],[0.00000164,1,-4000],"
        "[0.00000166,1,-3831.46784605],[0.00000171,1,-14575.17730379],[0.00000174,1,-3124.81815395],"
        "[0.0000018,1,-18000],[0.00000182,1,-16000],[0.00000186,1,-4000],"
        "[0.00000189,1,-10000.686624],[0.00000191,1,-14500],[0.00000193,1,-2422]]]",
        "[81757,[0.0000011,12,266122.94]]",
        -1175357890,
    ),
]
SIDES = ([[7254.7, 3, 3.3], [7254.5, 1, 2]], [[7255.1, 1, -0.5], [7256, 2, -1.25]])


def signed_crc(text: str) -> int:
    check = zlib.crc32(text.encode())
    return check if check < 2**31 else check - 2**32


# Of SIDES, from the documentation's steps, by hand.
CHECK = signed_crc("7254.7:3.3:7255.1:-0.5:7254.5:2:7256:-1.25")


class Line:
    """A connection that numbers its frames, with three channels."""

    def __init__(self, *, flags: int | None = 65536 + 131072, listed: bool = True) -> None:
        venue = Bitfinex()
        if listed:
            venue = venue.with_instruments(venue.parse_instruments(LISTS))
        self.session: BitfinexSession = venue.session()
        self.number = 0
        self.flags = flags or 0
        self.say({"event": "info", "version": 2, "serverId": "x", "platform": {"status": 1}})
        if flags is not None:
            self.say({"event": "conf", "status": "OK", "flags": flags})
        for number, channel in ((B, "book"), (T, "trades"), (Q, "ticker")):
            more = {"prec": "P0", "freq": "F0", "len": "100"} if channel == "book" else {}
            assert kinds(
                self.say(
                    {"event": "subscribed", "channel": channel, "chanId": number,
                     "symbol": "tBTCUSD", **more, "pair": "BTCUSD"}
                )
            ) == [Subscribed]  # fmt: skip

    def say(self, message: Any) -> Sequence[Event | Control]:
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        return self.session.decode(text, recv_ns=7, epoch=2)

    def frame(
        self, *parts: Any, number: int | None = None, ms: int = 1610920929093
    ) -> Sequence[Event | Control]:
        """The next frame, with what the flags add to it."""
        whole = [*parts]
        if self.flags & 65536:
            self.number = self.number + 1 if number is None else number
            whole.append(self.number)
        if self.flags & 32768:
            whole.append(ms)
        return self.say(whole)

    def whole_book(self) -> None:
        assert kinds(self.frame(B, [*SIDES[0], *SIDES[1]])) == [BookSnapshot, Synced]


def kinds(items: Sequence[object]) -> list[type]:
    return [type(item) for item in items]


def test_it_fits_the_protocols_and_names_its_limits() -> None:
    venue = Bitfinex()
    for protocol in (BookVenue, TraitedVenue, ListedVenue):
        assert isinstance(venue, protocol)
    assert isinstance(venue.session(), RequestingSession)
    limits = venue.traits.limits
    assert (limits.subscriptions, limits.per_message, limits.connects_per_minute) == (25, 1, 20)
    with pytest.raises(ConfigError, match="depth"):
        Bitfinex(depth=1)


# --- instruments ---


def test_the_lists_of_pairs() -> None:
    listed = Bitfinex().parse_instruments(LISTS)
    assert [(one.symbol, one.venue_symbol) for one in listed] == [
        ("BTC-USD", "tBTCUSD"),
        ("BTC-USDT", "tBTCUST"),
        ("DUSK-USD", "tDUSK:USD"),
        ("BCH-USD", "tBCHN:USD"),
        ("USDT-USD", "tUSTUSD"),
        ("LINK-USDT", "tLINK:UST"),
        ("BTC-USDT-PERP", "tBTCF0:USTF0"),
        ("ETH-BTC-PERP", "tETHF0:BTCF0"),
    ]
    assert listed.by_symbol("BTC-USDT-PERP").kind is InstrumentKind.PERPETUAL


@pytest.mark.parametrize(
    "bodies",
    [
        [b'["error",10020,"key: invalid"]', LISTS[1]],
        [b"<html>", LISTS[1]],
        [b'["BTCUSD"]', LISTS[1]],
        [b"[[7]]", LISTS[1]],
        [b"[[]]", b"[[]]"],
        LISTS[:1],
    ],
)
def test_what_is_no_list_is_an_error(bodies: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        Bitfinex().parse_instruments(bodies)


def test_without_a_list_nothing_can_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="load_instruments"):
        Bitfinex().session().requests(subscribe=[BOOK])


# --- requests and events ---


def test_the_flags_are_set_before_the_first_subscription_and_once() -> None:
    venue = Bitfinex(depth=250)
    session = venue.with_instruments(venue.parse_instruments(LISTS)).session()
    first = [json.loads(text) for text in session.requests(subscribe=[BOOK, TRADES])]
    assert first == [
        {"event": "conf", "flags": 32768 + 65536 + 131072},
        {"event": "subscribe", "channel": "book", "symbol": "tBTCUSD", "prec": "P0", "freq": "F0",
         "len": "250"},
        {"event": "subscribe", "channel": "trades", "symbol": "tBTCUSD"},
    ]  # fmt: skip
    (ticker,) = session.requests(subscribe=[TICKER])
    assert json.loads(ticker)["channel"] == "ticker"


def test_a_subscription_ends_by_its_number() -> None:
    line = Line()
    line.session.requests()
    (request,) = line.session.requests(unsubscribe=[TRADES])
    assert json.loads(request) == {"event": "unsubscribe", "chanId": T}
    ended = {"event": "unsubscribed", "status": "OK", "chanId": T}
    assert line.say(ended) == [Unsubscribed([TRADES])]
    assert kinds(line.say(ended)) == [Ignored]
    assert kinds(line.frame(T, "te", [1, 2, 3, 4])) == [Ignored]


def test_a_subscription_that_ends_before_it_has_a_number_ends_when_it_has_one() -> None:
    line = Line()
    line.session.requests()
    perpetual = Subscription("book", "BTC-USDT-PERP")
    assert line.session.requests(unsubscribe=[perpetual]) == []
    answer = line.say(
        {"event": "subscribed", "channel": "book", "chanId": 99, "symbol": "tBTCF0:USTF0",
         "prec": "P0", "pair": "BTCF0:USTF0"}
    )  # fmt: skip
    assert answer == [Reply('{"event":"unsubscribe","chanId":99}')]
    assert line.say({"event": "unsubscribed", "chanId": 99}) == [Unsubscribed([perpetual])]


def test_a_book_that_is_asked_for_again_gets_a_channel_of_its_own() -> None:
    line = Line()
    line.session.requests()
    line.whole_book()
    end, begin = (json.loads(text) for text in line.session.requests(subscribe=[BOOK]))
    assert (end, begin["event"]) == ({"event": "unsubscribe", "chanId": B}, "subscribe")
    assert kinds(line.say({"event": "unsubscribed", "status": "OK", "chanId": B})) == [Ignored]
    again = {"event": "subscribed", "channel": "book", "chanId": 77, "symbol": "tBTCUSD"}
    assert line.say(again) == [Subscribed([BOOK])]
    assert kinds(line.frame(77, [*SIDES[0], *SIDES[1]])) == [BookSnapshot, Synced]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"channel": "ticker", "symbol": "tABCDEF", "event": "error", "msg": "symbol: invalid",
             "code": 10300, "pair": "ABCDEF"},
            [Refused(Subscription("ticker", "ABC-DEF"), "symbol: invalid (code 10300)")],
        ),
        (
            {"event": "error", "msg": "event: invalid (nope)", "code": 10000},
            [Refused(None, "event: invalid (nope) (code 10000)")],
        ),
        (
            {"event": "error", "msg": "pair: unknown", "code": 10001},
            [Refused(None, "pair: unknown (code 10001)")],
        ),
        (
            {"event": "error", "channel": "book", "symbol": "tBTCUST", "msg": "subscribe: limit",
             "code": 10305},
            [Refused(Subscription("book", "BTC-USDT"), "subscribe: limit (code 10305)")],
        ),
        ({"event": "error", "code": 10300}, [Refused(None, "error 10300")]),
        (
            {"event": "error", "channel": "book", "symbol": "tBTCUSD", "msg": "subscribe: dup",
             "code": 10301, "chanId": B},
            [Subscribed([BOOK])],
        ),
        (
            {"event": "error", "channel": "book", "symbol": "tBTCUST", "msg": "subscribe: dup",
             "code": 10301},
            [Ignored("subscribe: dup (code 10301)")],
        ),
        (
            {"event": "error", "msg": "unsubscribe: invalid", "code": 10400, "chanId": 5},
            [Ignored("unsubscribe: invalid (code 10400)")],
        ),
        (
            {"event": "info", "code": 20051, "msg": "Stopping. Please try to reconnect"},
            [ReconnectRequested("20051: Stopping. Please try to reconnect")],
        ),
        (
            {"event": "info", "code": 20060, "msg": "Entering in Maintenance mode."},
            [Ignored("info 20060: Entering in Maintenance mode.")],
        ),
        (
            {"event": "info", "code": 20061, "msg": "Maintenance ended."},
            [ReconnectRequested("20061: Maintenance ended.")],
        ),
        ({"event": "pong", "ts": 1511545528111, "cid": 1234}, [Heartbeat()]),
        ({"event": "auth", "status": "FAILED"}, [Ignored("event auth")]),
        ({}, [Ignored("event None")]),
        (
            {"event": "subscribed", "channel": "trades", "chanId": 5, "symbol": "fUSD",
             "currency": "USD"},
            [Ignored("subscription to trades of fUSD")],
        ),
        (
            {"event": "subscribed", "channel": "book", "chanId": 5, "symbol": "tBTCUSD",
             "prec": "R0"},
            [Ignored("subscription to book of tBTCUSD")],
        ),
        (
            {"event": "conf", "status": "FAILED", "msg": "flags: invalid"},
            [Refused(None, "conf: flags: invalid")],
        ),
    ],
)  # fmt: skip
def test_events(message: dict[str, Any], expected: list[Event | Control]) -> None:
    assert line_items(message) == expected


def line_items(message: dict[str, Any]) -> list[Event | Control]:
    return [*Line().say(message)]


# --- trades and ticker ---


def test_a_trade_is_told_once() -> None:
    line = Line()
    row = [401597395, 1574694478808, -0.005, 7245.3]
    assert line.frame(T, "te", row) == [
        Trade(
            "BTC-USD", Decimal("7245.3"), Decimal("0.005"), Side.SELL, "401597395", None,
            1574694478808000000, 7, "bitfinex", 2,
        )
    ]  # fmt: skip
    assert kinds(line.frame(T, "tu", row)) == [Ignored]


def test_the_trades_that_come_with_the_subscription_are_told_in_the_venues_order() -> None:
    rows = [[401597395, 1574694478808, 0.005, 7245.3], [401597393, 1574694475039, 0.005, 7244.9]]
    trades = Line().frame(T, rows)
    assert [trade.trade_id for trade in trades if isinstance(trade, Trade)] == [
        "401597395",
        "401597393",
    ]
    assert kinds(Line().frame(T, [])) == [Ignored]


def test_the_ticker_is_the_top_of_the_book_with_the_frames_time() -> None:
    row = [14957, 68.17328796, 14958, 55.29588132, -659, -0.0422, 14971, 53723.08, 16494, 14454]
    line = Line(flags=32768 + 65536)
    assert line.frame(Q, row) == [
        Quote(
            "BTC-USD", Decimal(14957), Decimal("68.17328796"), Decimal(14958),
            Decimal("55.29588132"), None, 1610920929093000000, 7, "bitfinex", 2,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ((T, "te", [1, 2, 3]), "$[2]"),
        ((T, "te", ["1", 2, 3, 4]), "$[2][0]"),
        ((T, "te", [1, 2.5, 3, 4]), "$[2][1]"),
        ((T, "te", [1, -2, 3, 4]), "$[2][1]"),
        ((T, "te", [1, 2, 0, 4]), "$[2]"),
        ((T, "te", [1, 2, 3, -4]), "$[2]"),
        ((T, "te", [1, 2, "3", 4]), "$[2]"),
        ((T, "te", [1, 2, True, 4]), "$[2]"),
        ((T, [[1, 2, 3, 4], 7]), "$[1][1]"),
        ((T, 7), "$[1]"),
        ((Q, [1, 2, 3]), "$[1]"),
        ((Q, [1, 2, -3, 4]), "$[1][2]"),
        ((Q, [1, 2, "x", 4]), "$[1][2]"),
        ((Q, {}), "$[1]"),
        ((), "$"),
        (("x", [1]), "$"),
    ],
)
def test_what_is_wrong_is_named(parts: tuple[Any, ...], path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Line().frame(*parts)
    assert caught.value.path == path


# --- the sequence ---


def test_a_hole_is_announced_once_and_every_book_is_suspect() -> None:
    line = Line()
    line.whole_book()
    line.frame(B, "hb")
    items = line.frame(T, "te", [1, 2, 3, 4], number=5)
    whole, of_book, resync, trade = items
    assert isinstance(whole, Gap)
    assert (whole.symbol, whole.from_sequence, whole.to_sequence) == (None, 3, 4)
    assert isinstance(of_book, Gap)
    assert (of_book.symbol, of_book.reason, of_book.of_book) == (
        "BTC-USD", GapReason.SEQUENCE, True,
    )  # fmt: skip
    assert resync == Resync(BOOK)
    assert isinstance(trade, Trade)
    assert line.frame(B, [7254.7, 1, 5]) == []
    line.whole_book()


def test_the_first_frame_has_number_1() -> None:
    gap, beat = Line().frame(B, "hb", number=3)
    assert isinstance(gap, Gap)
    assert (gap.from_sequence, gap.to_sequence) == (1, 2)
    assert beat == Heartbeat()


def test_what_comes_twice_or_late_changes_nothing() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7254.7, 1, 5])) == [BookDelta]
    assert kinds(line.frame(B, [7254.7, 1, 9], number=2)) == [Ignored]
    image = line.session.book_image("BTC-USD")
    assert image is not None
    assert image.bids[0].size == 5


def test_two_that_are_swapped_are_a_hole() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7254.7, 1, 5], number=3)) == [Gap, Gap, Resync]
    assert kinds(line.frame(B, [7254.7, 1, 9], number=2)) == [Ignored]
    assert line.session.book_image("BTC-USD") is None


def test_heartbeats_and_checksums_count_too() -> None:
    line = Line()
    line.whole_book()
    assert line.frame(B, "hb") == [Heartbeat()]
    assert line.frame(B, "cs", CHECK) == []
    assert line.frame(55, "hb") == [Heartbeat()]
    assert kinds(line.frame(B, [7254.7, 1, 5])) == [BookDelta]


@pytest.mark.parametrize("frame", [[B, [7254.7, 1, 5]], [B, [7254.7, 1, 5], "2"], [B, "hb"]])
def test_a_frame_without_its_number_is_wrong(frame: list[Any]) -> None:
    line = Line()
    line.whole_book()
    with pytest.raises(DecodeError):
        line.say(frame)


def test_a_malformed_frame_after_a_hole_does_not_hide_it() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(T, "te", [1], number=9)) == [Gap, Gap, Resync, Malformed]


def test_without_the_answer_to_conf_the_first_frame_tells_the_flags() -> None:
    line = Line(flags=None)
    (snapshot, _) = line.say([B, SIDES[0], 1])
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.trust is Trust.VERIFIED
    assert kinds(line.say([B, [7254.7, 1, 5], 3])) == [Gap, Gap, Resync]


def test_without_a_sequence_books_can_not_be_verified() -> None:
    line = Line(flags=131072)
    (snapshot, _) = line.frame(B, [*SIDES[0], *SIDES[1]])
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.trust is Trust.UNVERIFIABLE
    assert line.frame(B, "cs", CHECK) == []
    assert kinds(line.frame(B, "cs", CHECK + 1)) == [Gap, Resync]


# --- books ---


def test_a_count_of_0_ends_a_level_and_the_sign_is_the_side() -> None:
    line = Line(flags=32768 + 65536 + 131072)
    line.whole_book()
    ended, added = line.frame(B, [7254.5, 0, 1]), line.frame(B, [7255.05, 2, -0.75])
    (bid,), (ask,) = ended, added
    assert isinstance(bid, BookDelta)
    assert isinstance(ask, BookDelta)
    assert (bid.bids, bid.asks) == ((Level(Decimal("7254.5"), Decimal(0)),), ())
    assert (ask.bids, ask.asks) == ((), (Level(Decimal("7255.05"), Decimal("0.75")),))
    assert ask.trust is Trust.VERIFIED
    assert ask.venue_time_ns == 1610920929093000000


@pytest.mark.parametrize(("snapshot", "update", "check"), REAL)
def test_the_venues_own_checksums_are_right(snapshot: str, update: str, check: int) -> None:
    line = Line(flags=131072)
    line.say({"event": "subscribed", "channel": "book", "chanId": 81757, "symbol": "tXRPBTC"})
    assert kinds(line.say(snapshot)) == [BookSnapshot, Synced]
    assert kinds(line.say(update)) == [BookDelta]
    assert line.say([81757, "cs", check]) == []
    assert kinds(line.say([81757, "cs", check - 1])) == [Gap, Resync]


def test_a_flipped_digit_shows_at_the_next_checksum_and_a_snapshot_mends_it() -> None:
    line = Line()
    line.whole_book()
    assert line.frame(B, "cs", CHECK) == []
    assert kinds(line.frame(B, [7254.5, 1, 2.1])) == [BookDelta]
    gap, resync = line.frame(B, "cs", CHECK)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.symbol) == (GapReason.CHECKSUM, "BTC-USD")
    assert resync == Resync(BOOK)
    assert kinds(line.frame(B, "cs", CHECK)) == [Ignored]
    line.whole_book()
    assert line.frame(B, "cs", CHECK) == []


@pytest.mark.parametrize(
    "payload",
    [
        [7254.7, 1],
        [7254.7, 1, "5"],
        [7254.7, -1, 5],
        [7254.7, 1.5, 5],
        [7254.7, True, 5],
        [-7254.7, 1, 5],
        [0, 1, 5],
        [7254.7, 1, 0],
        [7254.7, 1, None],
        [[7254.7, 0, 5]],
        [[7254.7, 1, 5], 7],
        [[7254.7, 1, 5], [7254.7, 1, 6]],
        [{}],
    ],
)
def test_a_books_frame_that_is_wrong_makes_it_suspect(payload: Any) -> None:
    line = Line()
    line.whole_book()
    items = line.frame(B, payload)
    assert kinds(items) == [Gap, Resync, Malformed]
    line.whole_book()


@pytest.mark.parametrize("check", [None, "5", 1.5, True])
def test_a_checksum_that_is_none_makes_its_book_suspect(check: Any) -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, "cs", check)) == [Gap, Resync, Malformed]


def test_a_delta_that_crosses_waits_for_those_that_uncross_the_book() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7255.5, 1, 5])) == [Ignored]
    image = line.session.book_image("BTC-USD")
    assert image is not None
    assert image.bids[0].price == Decimal("7254.7")
    (delta,) = line.frame(B, [7255.1, 0, -1])
    assert isinstance(delta, BookDelta)
    assert delta.trust is Trust.VERIFIED
    assert (delta.bids, delta.asks) == (
        (Level(Decimal("7255.5"), Decimal(5)),), (Level(Decimal("7255.1"), Decimal(0)),),
    )  # fmt: skip
    assert line.frame(B, "cs", signed_crc("7255.5:5:7256:-1.25:7254.7:3.3:7254.5:2")) == []


def test_a_level_that_only_passes_through_leaves_nothing() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7255.5, 1, 5])) == [Ignored]
    (delta,) = line.frame(B, [7255.5, 0, 1])
    assert isinstance(delta, BookDelta)
    assert line.frame(B, "cs", CHECK) == []


@pytest.mark.parametrize("end", ["checksum", "many frames"])
def test_a_book_that_stays_crossed_is_wrong(end: str) -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7255.5, 1, 5])) == [Ignored]
    if end == "checksum":
        gap, resync = line.frame(B, "cs", CHECK)
    else:
        told = [line.frame(B, [7000 + n, 1, 5]) for n in range(31)]
        gap, resync = told.pop()
        assert {kind for items in told for kind in kinds(items)} == {Ignored}
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.CROSSED
    assert resync == Resync(BOOK)
    line.whole_book()


def test_a_hole_ends_the_wait() -> None:
    line = Line()
    line.whole_book()
    line.frame(B, [7255.5, 1, 5])
    assert kinds(line.frame(B, [7255.1, 0, -1], number=9)) == [Gap, Gap, Resync]
    line.whole_book()
    assert line.frame(B, "cs", CHECK) == []


def test_a_book_can_be_empty() -> None:
    line = Line()
    snapshot, synced = line.frame(B, [])
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.bids, snapshot.asks, synced) == ((), (), Synced(BOOK))


def test_bulk_updates_are_deltas_after_the_first_list() -> None:
    line = Line(flags=65536 + 536870912)
    line.whole_book()
    (delta,) = line.frame(B, [[7254.5, 0, 1], [7255.1, 3, -9]])
    assert isinstance(delta, BookDelta)
    assert (delta.bids[0].size, delta.asks[0].size) == (0, 9)


def test_lists_may_grow_at_their_end() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7254.5, 2, 1, "new"])) == [BookDelta]


def test_any_bytes_give_events_or_a_declared_error() -> None:
    subscribed = [
        {"event": "subscribed", "channel": name, "chanId": number, "symbol": "tBTCUSD"}
        for name, number in (("book", B), ("trades", T), ("ticker", Q))
    ]
    corpus = [
        json.dumps(message)
        for message in (
            {"event": "conf", "status": "OK", "flags": 65536 + 32768},
            *subscribed,
            [B, [*SIDES[0], *SIDES[1]], 1, 1610920929093],
            [B, [7254.7, 1, 5], 2, 1610920929093],
            [B, "cs", CHECK, 3, 1610920929093],
            [T, [[1, 2, 3.5, 4]], 4, 1610920929093],
            [T, "te", [2, 3, 4.5, 5], 5, 1610920929093],
            [Q, [1, 2, 3, 4], 6, 1610920929093],
            [B, "hb", 7, 1610920929093],
            {"event": "error", "channel": "book", "symbol": "tBTCUSD", "msg": "x", "code": 10300},
            {"event": "info", "code": 20051, "msg": "reconnect"},
        )
    ]
    report = fuzz_session(Bitfinex().session, corpus, runs=8000, seed=7)
    assert report.refused > 1000
    assert report.events > 1000


def test_what_is_remembered_of_levels_is_bounded() -> None:
    from feedhandler import OrderBook

    check, book = BookChecksum(), OrderBook("A")
    for n in range(9000):
        book.replace([Level(Decimal(n + 1), Decimal(1))], [])
        check(book)
    assert len(check._texts) <= 8193


# --- sessions that nobody has asked for as we do ---


def test_the_end_of_another_subscription_leaves_what_waits_for_the_book_to_uncross() -> None:
    line = Line()
    line.whole_book()
    assert kinds(line.frame(B, [7255.2, 1, 9])) == [Ignored], "it crosses"
    line.session.requests(unsubscribe=[TRADES])
    line.say({"event": "unsubscribed", "status": "OK", "chanId": T})
    (delta,) = line.frame(B, [7255.1, 0, -1])
    assert isinstance(delta, BookDelta)
    assert [level.price for level in delta.bids] == [Decimal("7255.2")]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ([T, "hb"], None),
        ([T, "hb", 1], None),
        ([T, "te", [1, 1610920929093, 1, 5], 1], None),
        ([Q, [1, 2, 3, 4, 0, 0, 0, 0, 0, 0], 1610920929093], 1610920929093_000_000),
        ([Q, [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, None], 1, 1610920929094], 1610920929094_000_000),
    ],
)
def test_without_an_answer_to_conf_the_first_frame_tells_what_is_added(
    frame: list[Any], expected: int | None
) -> None:
    line = Line(flags=None)
    (told,) = line.say(frame)
    assert isinstance(told, Heartbeat | Trade | Quote)
    if isinstance(told, Quote):
        assert told.venue_time_ns == expected


def test_a_recorded_session_with_the_sequence_alone() -> None:
    """As other clients ask: no checksums and no times; trades before, at and after the moment."""
    line = Line(flags=65536)
    line.whole_book()
    past = [[401597393, 1574694475039, 0.005, 7244.9], [401597392, 1574694470503, -0.01, 7245.3]]
    first, second = line.frame(T, past)
    assert isinstance(first, Trade)
    assert isinstance(second, Trade)
    assert (first.trade_id, first.side, second.side) == ("401597393", Side.BUY, Side.SELL)
    trade = [401597395, 1574694478808, 0.005, 7245.3]
    assert kinds(line.frame(T, "te", trade)) == [Trade]
    assert kinds(line.frame(T, "tu", trade)) == [Ignored]
    (quote,) = line.frame(Q, [0.00002271, 657877.4673439099, 0.00002274, 1, -1, 0, 1, 1, 1, 1])
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.venue_time_ns) == (
        Decimal("0.00002271"), Decimal("657877.4673439099"), None,
    )  # fmt: skip
    (delta,) = line.frame(B, [7254.7, 0, 1])
    assert isinstance(delta, BookDelta)
    assert (delta.trust, delta.venue_time_ns, delta.sequence) == (Trust.VERIFIED, None, None)


def subscribed(number: int, precision: str) -> dict[str, Any]:
    return {"event": "subscribed", "channel": "book", "chanId": number, "symbol": "tBTCUST",
            "prec": precision, "freq": "F1", "len": "25", "pair": "BTCUST"}  # fmt: skip


def test_a_coarser_book_is_told_unless_there_is_a_finer_one() -> None:
    line = Line()
    book = Subscription("book", "BTC-USDT")
    assert line.say(subscribed(20, "P1")) == [Subscribed([book])]
    assert kinds(line.frame(20, [*SIDES[0], *SIDES[1]])) == [BookSnapshot, Synced]
    assert kinds(line.say(subscribed(21, "P2"))) == [Ignored], "there is one already"
    assert line.say(subscribed(22, "P0")) == [Subscribed([book])]
    assert kinds(line.frame(20, [7254, 1, 1])) == [Ignored], "its place is taken"
    assert kinds(line.frame(22, [*SIDES[0], *SIDES[1]])) == [BookSnapshot, Synced]
    assert kinds(line.say(subscribed(23, "R0"))) == [Ignored]


# Two more books as the venue has sent them (fixtures of its own Python library), after the deltas.
@pytest.mark.parametrize(
    ("rows", "deltas", "check"),
    [
        (
            "[0.0000886,1,1060.55466114],[0.00008859,1,1000],[0.00008858,1,2713.47159343],"
            "[0.00008857,1,4276.92870916],[0.00008856,2,6764.75562319],"
            "[0.00008854,1,5641.48532401],[0.00008853,1,2255.92632223],[0.0000885,1,2256.69584601],"
            "[0.00008848,2,3630.3],[0.00008845,1,28195.70625766],[0.00008844,1,15571.7],"
            "[0.00008843,1,2500],[0.00008841,1,64196.16117814],[0.00008838,1,7500],"
            "[0.00008837,2,2764.12999012],[0.00008834,2,10886.476298],[0.00008831,1,20000],"
            "[0.0000883,1,1000],[0.00008829,2,2517.22175358],[0.00008828,1,450.45],"
            "[0.00008827,1,13000],[0.00008824,1,1500],[0.0000882,1,300],[0.00008817,1,3000],"
            "[0.00008816,1,100],[0.00008864,1,-481.8549041],[0.0000887,2,-2141.77009092],"
            "[0.00008871,1,-2256.45433182],[0.00008872,1,-2707.58122743],"
            "[0.00008874,1,-5640.31794092],[0.00008876,1,-29004.93294912],[0.00008878,1,-2500],"
            "[0.0000888,1,-20000],[0.00008881,2,-2880.15595827],[0.00008882,1,-27705.42933984],"
            "[0.00008883,1,-4509.83708214],[0.00008884,1,-1500],[0.00008885,1,-2500],"
            "[0.00008888,1,-902.91405442],[0.00008889,1,-900],[0.00008891,1,-7500],"
            "[0.00008894,1,-775.08564697],[0.00008896,1,-150],[0.00008899,3,-11628.02590049],"
            "[0.000089,2,-1299.7],[0.00008902,2,-4841.8],[0.00008904,3,-25320.46250083],"
            "[0.00008909,1,-14000],[0.00008913,1,-123947.999],[0.00008915,2,-28019.6]",
            ["[0.00008915,0,-1]", "[0.00008837,1,56.54876269]", "[0.00008873,1,-15699.9]"],
            30026640,
        ),
    ],
)
def test_a_checksum_after_levels_that_came_and_went(
    rows: str, deltas: list[str], check: int
) -> None:
    line = Line(flags=131072)
    assert kinds(line.say(f"[{B},[{rows}]]")) == [BookSnapshot, Synced]
    for delta in deltas:
        assert kinds(line.say(f"[{B},{delta}]")) == [BookDelta]
    assert line.say(f'[{B},"cs",{check}]') == []
    assert kinds(line.say(f'[{B},"cs",{check + 1}]')) == [Gap, Resync]
