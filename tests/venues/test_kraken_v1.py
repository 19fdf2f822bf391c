"""Kraken v1: the messages of its documentation, and a real recording of 2021."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

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
from feedhandler.recording import Record
from feedhandler.venues.kraken_market import BookChecksum
from feedhandler.venues.kraken_v1 import KrakenV1, KrakenV1Session
from feedhandler_testing.venue_fuzz import fuzz_session

BOOK = Subscription("book", "BTC-USD")
# Guide "Book checksum (v1)": the book whose checksum is 974947235.
ASKS = [("0.05005", "0.00000500"), ("0.05010", "0.00000500"), ("0.05015", "0.00000500"),
        ("0.05020", "0.00000500"), ("0.05025", "0.00000500"), ("0.05030", "0.00000500"),
        ("0.05035", "0.00000500"), ("0.05040", "0.00000500"), ("0.05045", "0.00000500"),
        ("0.05050", "0.00000500")]  # fmt: skip
BIDS = [("0.05000", "0.00000500"), ("0.04995", "0.00000500"), ("0.04990", "0.00000500"),
        ("0.04980", "0.00000500"), ("0.04975", "0.00000500"), ("0.04970", "0.00000500"),
        ("0.04965", "0.00000500"), ("0.04960", "0.00000500"), ("0.04955", "0.00000500"),
        ("0.04950", "0.00000500")]  # fmt: skip
TRADE = (
    '[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""],'
    '["6060.00000","0.02455000","1534614057.324998","b","l",""]],"trade","XBT/USD"]'
)
TICKER = (
    '[0,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.500"],'
    '"c":["5525.10000","0.00398963"],"v":["2634.11501494","3591.17907851"],'
    '"p":["5631.44067","5653.78939"],"t":[11493,16267],"l":["5505.00000","5505.00000"],'
    '"h":["5783.00000","5783.00000"],"o":["5760.70000","5763.40000"]},"ticker","XBT/USD"]'
)


def rows(levels: Iterable[tuple[str, str]], *more: str) -> list[list[str]]:
    return [[price, size, "1582905486.493008", *more] for price, size in levels]


def message(*bodies: dict[str, Any], pair: str = "XBT/USD") -> str:
    return json.dumps([0, *bodies, "book-10", pair], separators=(",", ":"))


SNAPSHOT = message({"as": rows(ASKS), "bs": rows(BIDS)})


def checksum(bids: Iterable[tuple[str, str]], asks: Iterable[tuple[str, str]]) -> str:
    """Written apart from the library, from the guide's steps."""
    best = sorted(asks)[:10] + sorted(bids, reverse=True)[:10]
    text = "".join(number.replace(".", "").lstrip("0") for level in best for number in level)
    return str(zlib.crc32(text.encode()))


def after(bids: Sequence[tuple[str, str]] = (), asks: Sequence[tuple[str, str]] = ()) -> str:
    sides = []
    for old, new in ((BIDS, bids), (ASKS, asks)):
        levels = {**dict(old), **dict(new)}
        sides.append([(p, s) for p, s in levels.items() if Decimal(s)])
    return checksum(*sides)


def session(depth: int = 10) -> KrakenV1Session:
    return KrakenV1(depth=depth).session()


def decode(to: KrakenV1Session, text: str | bytes | dict[str, Any]) -> Sequence[Event | Control]:
    return to.decode(json.dumps(text) if isinstance(text, dict) else text, recv_ns=7, epoch=2)


def kinds(items: Sequence[object]) -> list[type]:
    return [type(item) for item in items]


def whole_book(to: KrakenV1Session) -> None:
    assert kinds(decode(to, SNAPSHOT)) == [BookSnapshot, Synced]


def status(kind: str, name: str = "book", pair: str = "XBT/USD", **more: object) -> dict[str, Any]:
    return {
        "channelID": 10, "channelName": name, "event": "subscriptionStatus", "pair": pair,
        "status": kind, "subscription": {"name": name, "depth": 10}, **more,
    }  # fmt: skip


def test_it_fits_the_protocols() -> None:
    for protocol in (BookVenue, TraitedVenue, ListedVenue):
        assert isinstance(KrakenV1(), protocol)
    assert isinstance(session(), RequestingSession)


# --- requests and answers ---


def test_requests_have_the_names_of_v1() -> None:
    wanted = [BOOK, Subscription("trades", "ADA-BTC"), Subscription("ticker", "DOGE-USD")]
    assert [json.loads(text) for text in session().requests(subscribe=wanted)] == [
        {"event": "subscribe", "pair": ["XBT/USD"], "subscription": {"name": "book", "depth": 10}},
        {"event": "subscribe", "pair": ["ADA/XBT"], "subscription": {"name": "trade"}},
        {"event": "subscribe", "pair": ["XDG/USD"], "subscription": {"name": "ticker"}},
    ]


def test_answers_have_our_names() -> None:
    to = session()
    assert decode(to, status("subscribed")) == [Subscribed([BOOK])]
    assert decode(to, status("unsubscribed")) == [Unsubscribed([BOOK])]
    refusal = status("error", pair="XX/YY", errorMessage="Currency pair not supported XX/YY")
    assert decode(to, refusal) == [
        Refused(Subscription("book", "XX-YY"), "Currency pair not supported XX/YY")
    ]
    wrong_depth = status("error", errorMessage="Subscription depth not supported")
    assert decode(to, wrong_depth) == [Refused(BOOK, "Subscription depth not supported")]
    assert decode(to, {"event": "error", "errorMessage": "Malformed request"}) == [
        Refused(None, "Malformed request")
    ]
    assert kinds(decode(to, status("subscribed", "ohlc-5"))) == [Ignored]


def test_a_book_that_is_asked_for_again_ends_first() -> None:
    to = session()
    decode(to, status("subscribed"))
    end, begin = (json.loads(text) for text in to.requests(subscribe=[BOOK]))
    assert (end["event"], begin["event"]) == ("unsubscribe", "subscribe")
    assert kinds(decode(to, status("unsubscribed", reqid=end["reqid"]))) == [Ignored]
    assert decode(to, status("subscribed")) == [Subscribed([BOOK])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"event":"heartbeat"}', Heartbeat),
        ('{"event":"pong","reqid":42}', Heartbeat),
        (
            '{"connectionID":8628615390848610000,"event":"systemStatus","status":"maintenance",'
            '"version":"1.9.1"}', Ignored,
        ),
        ('{"event":"addOrderStatus"}', Ignored),
        ("{}", Ignored),
        ('[0,["5698.40000","5700.00000","1542057299.545897","1.0","2.0"],"spread","XBT/USD"]',
         Ignored),
    ],
)  # fmt: skip
def test_what_is_of_no_use(text: str, expected: type) -> None:
    assert kinds(decode(session(), text)) == [expected]


# --- data ---


def test_trades_and_ticker() -> None:
    sold, bought = decode(session(), TRADE)
    assert sold == Trade(
        "BTC-USD", Decimal("5541.20000"), Decimal("0.15850568"), Side.SELL, None, None,
        1534614057321597000, 7, "kraken_v1", 2,
    )  # fmt: skip
    assert isinstance(bought, Trade)
    assert bought.side is Side.BUY
    assert decode(session(), TICKER) == [
        Quote(
            "BTC-USD", Decimal("5525.1"), Decimal("1.5"), Decimal("5525.4"), Decimal(1), None,
            None, 7, "kraken_v1", 2,
        )
    ]  # fmt: skip


def test_the_guides_checksum_is_right() -> None:
    assert checksum(BIDS, ASKS) == "974947235"
    to = session()
    whole_book(to)
    (delta,) = decode(to, message({"a": rows(ASKS[:1]), "c": "974947235"}))
    assert isinstance(delta, BookDelta)
    assert delta.trust is Trust.VERIFIED


def test_a_message_can_have_two_bodies_and_the_last_has_the_checksum() -> None:
    to = session()
    whole_book(to)
    asks, bids = [("0.05006", "0.00000300")], [("0.05000", "0.00000000")]
    check = after(bids, asks)
    (delta,) = decode(to, message({"a": rows(asks)}, {"b": rows(bids), "c": check}))
    assert isinstance(delta, BookDelta)
    assert delta.asks[0] == Level(Decimal("0.05006"), Decimal("0.000003"))
    assert delta.asks[-1] == Level(Decimal("0.05050"), Decimal(0))  # out of the depth
    assert delta.bids == (Level(Decimal("0.05000"), Decimal(0)),)


def test_of_a_price_that_comes_twice_the_last_one_counts() -> None:
    to = session()
    whole_book(to)
    twice = [("0.05005", "7.00000000"), ("0.05005", "0.00000600")]
    (delta,) = decode(to, message({"a": rows(twice), "c": after(asks=twice)}))
    assert isinstance(delta, BookDelta)
    assert delta.asks == (Level(Decimal("0.05005"), Decimal("0.000006")),)


def test_a_level_that_is_published_again_is_a_level() -> None:
    to = session()
    whole_book(to)
    gone, back = ("0.05005", "0.00000000"), ("0.05055", "0.00000100")
    entries = [*rows([gone]), *rows([back], "r")]
    (delta,) = decode(to, message({"a": entries, "c": after(asks=[gone, back])}))
    assert isinstance(delta, BookDelta)
    assert delta.asks[-1] == Level(Decimal("0.05055"), Decimal("0.000001"))


def test_a_missing_delta_shows_at_the_next_checksum() -> None:
    to = session()
    whole_book(to)
    lost, seen = ("0.04995", "0.00000000"), ("0.05000", "0.00000900")
    gap, resync = decode(to, message({"b": rows([seen]), "c": after([lost, seen])}))
    assert isinstance(gap, Gap)
    assert gap.reason is GapReason.CHECKSUM
    assert resync == Resync(BOOK)
    assert to.book_image("BTC-USD") is None
    whole_book(to)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (message({"a": rows(ASKS[:1])}), "$[1].c"),
        (message({"a": rows(ASKS[:1]), "c": 5}), "$[1].c"),
        (message({"a": rows(ASKS[:1]), "c": "-5"}), "$[1].c"),
        (message({"a": rows(ASKS[:1]), "c": "5" * 11}), "$[1]"),
        (message({"a": rows([("-1", "1")]), "c": "5"}), "$[1].a[0][0]"),
        (message({"a": rows([("1", "NaN")]), "c": "5"}), "$[1].a[0][1]"),
        (message({"a": rows([("0", "1")]), "c": "5"}), "$[1].a[0]"),
        (message({"a": [["1", "2"]], "c": "5"}), "$[1].a[0]"),
        (message({"b": "x", "c": "5"}), "$[1].b"),
        (message({"b": rows(BIDS[:1])}, {"b": rows(BIDS[:1]), "c": "5"}), "$[2].b"),
        (message({"as": rows(ASKS)}), "$[1]"),
        (message({"as": rows([("1", "0")]), "bs": []}), "$[1].as[0]"),
        (message({"c": "5"}), "$[1]"),
        ('[0,7,"book-10","XBT/USD"]', "$[1]"),
    ],
)
def test_a_books_message_that_is_wrong_makes_it_suspect(text: str, path: str) -> None:
    to = session()
    whole_book(to)
    items = decode(to, text)
    assert kinds(items) == [Gap, Resync, Malformed]
    malformed = items[-1]
    assert isinstance(malformed, Malformed)
    assert path in [problem.path for problem in malformed.error.problems]
    whole_book(to)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[]", "$"),
        ("[0,1]", "$"),
        ("7", "$"),
        ("[0", "$"),
        ('[0,{},5,"XBT/USD"]', "$"),
        ('[0,{},"trade","XBT/USD"]', "$[1]"),
        (TRADE.replace('"s"', '"x"'), "$[1][0][3]"),
        (TRADE.replace("1534614057.321597", "soon"), "$[1][0][2]"),
        (TRADE.replace('"0.15850568"', '"0"'), "$[1][0]"),
        (TRADE.replace('"5541.20000"', "null"), "$[1][0][0]"),
        (TICKER.replace('"b"', '"B"'), "$[1].b"),
        (TICKER.replace('"1.000"', '"-1"'), "$[1].a[2]"),
    ],
)
def test_other_data_that_is_wrong(text: str, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(session(), text)
    assert caught.value.path == path


def test_any_bytes_give_events_or_a_declared_error() -> None:
    two = message({"a": rows(ASKS[:2])}, {"b": rows(BIDS[:2]), "c": after()})
    corpus = [SNAPSHOT, two, message({"a": rows(ASKS[:1]), "c": after()}), TRADE, TICKER]
    corpus += [json.dumps(status("subscribed")), '{"event":"heartbeat"}']
    report = fuzz_session(KrakenV1(depth=10).session, corpus, runs=8000, seed=6)
    assert report.refused > 1000
    assert report.events > 1000


def test_what_is_remembered_of_levels_is_bounded() -> None:
    to = session()
    whole_book(to)
    check = BookChecksum()
    book = to._pairs._books.of("BTC-USD").book
    for n in range(9000):
        price = Decimal(n + 1).scaleb(-7)
        book.replace([Level(price, Decimal(1))], [])
        check(book)
    assert "levels known" in repr(check)
    assert len(check._digits) <= 8193


# --- the recording ---


@pytest.fixture(scope="module")
def kraken(proof: Callable[[str], Any]) -> Any:
    return proof("kraken")


@pytest.fixture(scope="module")
def venue(kraken: Any) -> KrakenV1:
    empty = KrakenV1()
    return empty.with_instruments(empty.parse_instruments(kraken.instruments_bodies(empty)))


def test_the_recording_gives_every_digest_that_is_expected(kraken: Any, venue: KrakenV1) -> None:
    items = kraken.decode(venue)
    snapshots = [item for item in items if isinstance(item, BookSnapshot)]
    # The venue sends no checksum with them; the first delta after each verifies it.
    assert {snapshot.trust for snapshot in snapshots} == {Trust.UNVERIFIABLE}
    verified = (
        evolve(item, trust=Trust.VERIFIED) if isinstance(item, BookSnapshot) else item
        for item in items
    )
    kraken.check(verified, trust=Trust.VERIFIED)
    assert sum(isinstance(item, BookDelta) for item in items) == 4269


def test_the_list_of_2021_has_304_pairs_of_which_293_are_streamed(venue: KrakenV1) -> None:
    assert venue.instruments is not None
    assert len(venue.instruments) == 293
    assert venue.instruments.by_symbol("DOGE-USD").venue_symbol == "XDG/USD"
    assert venue.instruments.by_symbol("BTC-CHF").price_increment == Decimal("0.1")


def _deltas_of(records: Iterable[Record], pair: str) -> list[int]:
    return [
        n
        for n, record in enumerate(records)
        if record.k == "recv"
        and isinstance(record.payload, str)
        and f'"book-1000","{pair}"' in record.payload
        and '"as"' not in record.payload
    ]


def _flipped(record: Record) -> Record:
    """With another digit in the price of its first level."""
    assert isinstance(record.payload, str)
    head, quote, tail = record.payload.partition('[["')
    price, end, rest = tail.partition('"')
    digit = str((int(price[-4]) + 1) % 10)
    return evolve(record, payload=f"{head}{quote}{price[:-4]}{digit}{price[-3:]}{end}{rest}")


@pytest.mark.parametrize("fault", ["drop", "swap", "flip", "stale"])
def test_planted_faults_are_found_by_the_checksum_or_do_no_harm(
    kraken: Any, venue: KrakenV1, fault: str
) -> None:
    """Each fault at 40 places: a book that says it is verified has the right ten best levels."""
    places = _deltas_of(kraken.records, "SC/EUR")
    right = _tops(kraken.decode(venue), "SC-EUR")
    found = 0
    for at in places[10:810:20]:

        def change(records: Iterable[Record], at: int = at) -> Iterator[Record]:
            ordered = [*records]
            following = next(n for n in places if n > at)
            match fault:
                case "drop":
                    del ordered[at]
                case "swap":
                    ordered[at], ordered[following] = ordered[following], ordered[at]
                case "flip":
                    ordered[at] = _flipped(ordered[at])
                case "stale":
                    ordered.insert(at, _snapshot_of(ordered, "SC/EUR"))
            yield from ordered

        items = kraken.decode(venue, change=change)
        found += any(isinstance(item, Gap) for item in items)
        wrong = [check for check, top in _tops(items, "SC-EUR").items() if right.get(check) != top]
        assert not wrong
    assert found >= {"drop": 20, "swap": 10, "flip": 20, "stale": 30}[fault]


def _snapshot_of(records: Iterable[Record], pair: str) -> Record:
    return next(
        record
        for record in records
        if isinstance(record.payload, str)
        and '"as"' in record.payload
        and pair in record.payload[-60:]
    )


def _tops(items: Iterable[object], symbol: str) -> dict[int, object]:
    """The ten best levels of each verified book, by the time of its message."""
    from feedhandler import BookShelf

    shelf, tops = BookShelf(), {}
    for item in items:
        if isinstance(item, BookSnapshot | BookDelta) and item.symbol == symbol:
            shelf.fold([item])
            top = shelf.top(symbol, depth=10)
            if item.trust is Trust.VERIFIED and top is not None:
                tops[item.recv_ns] = (top.bids, top.asks)
    return tops
