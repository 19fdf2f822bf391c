"""Feeds of Bitfinex against the mock server that speaks it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    BookDelta,
    BookSnapshot,
    BookTop,
    Event,
    FeedStateChanged,
    Gap,
    Trade,
    Trust,
    open_feed,
)
from feedhandler.recording import Record
from feedhandler.venues.bitfinex_market import instrument_of
from feedhandler_testing import (
    BadJson,
    CrossedBook,
    Cut,
    Duplicate,
    Expect,
    Inject,
    Messages,
    MissingField,
    MockWebSocketServer,
    Notice,
    Reorder,
    Reset,
    Scenario,
    SequenceGap,
    Serve,
    StaleSnapshot,
    WrongChecksum,
    simulate,
)
from feedhandler_testing.dialect import Listing, dialect_by_name
from feedhandler_testing.replay import LoadedRecording, Planted, ReplayServer

COMMON = [SequenceGap(), Duplicate(), Reorder(), BadJson()]


@pytest.mark.parametrize(
    ("channel", "fault"),
    [
        *(("price", fault) for fault in (*COMMON, MissingField("price"))),
        *(("book", fault) for fault in (*COMMON, CrossedBook())),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_each_fault_is_announced_and_mended(channel: Any, fault: Any, seed: int) -> None:
    steps = [Serve(6), Inject(fault, Messages(3)), Serve(20), Cut(Reset()), Serve(6)]
    expect = Expect(connections=2)
    scenario = Scenario(venue="bitfinex", channel=channel, steps=steps, expect=expect, seed=seed)
    simulate(scenario).check()


@pytest.mark.parametrize(
    ("steps", "expect"),
    [
        (
            [Inject(WrongChecksum(), Messages(6)), Serve(40)],
            Expect(gaps=["checksum"], connections=1),
        ),
        (
            [Inject(SequenceGap(), Messages(6)), Serve(40)],
            Expect(gaps=["sequence"], connections=1),
        ),
        (
            [
                Inject(WrongChecksum(), Messages(6)),
                Inject(StaleSnapshot(), Messages(6)),
                Serve(60),
            ],
            Expect(gaps=["checksum"]),
        ),
        ([Serve(6), Inject(Notice(), Messages(2)), Serve(20)], Expect(connections=2)),
    ],
)
def test_a_book_that_is_not_whole_is_asked_for_again(steps: list[Any], expect: Expect) -> None:
    simulate(Scenario(venue="bitfinex", channel="book", steps=steps, expect=expect)).check()


async def test_one_connection_has_books_and_trades_of_pairs_and_perpetuals(
    autojump_clock: MockClock,
) -> None:
    symbols = ["BTC-USD", "DUSK-USDT", "ETH-USDT-PERP"]
    async with MockWebSocketServer(dialect=dialect_by_name("bitfinex")) as server:
        made = server.venue(symbols)
        for symbol in symbols:
            server.next_delta(symbol)  # now it has a book
        async with open_feed(made, symbols, channels=["trades", "book"]) as feed:
            wanted: set[object] = {*symbols, "trade"}
            with trio.fail_after(60):
                async for event in feed:
                    if isinstance(event, BookSnapshot):
                        assert event.trust is Trust.VERIFIED
                        wanted.discard(event.symbol)
                        await server.send_price_update(server.next_price("BTC-USD"))
                    elif isinstance(event, Trade):
                        wanted.discard("trade")
                    if not wanted:
                        break
            assert not feed.subscriptions.pending
            assert feed.statistics().gaps == 0
        assert server.accepted == 1


# --- recordings of other clients ---


def recorded(*, asked: bool, listed: bool, futures: bool) -> LoadedRecording:
    """A session with the sequence alone, as other clients ask for it, of three books."""
    rows: list[tuple[Literal["open", "recv", "send", "http"], str | None, object]] = []
    names = {"tBTCUSD": "BTC-USD", "tDUSK:UST": "DUSK-USDT", "tBTCF0:USTF0": "BTC-USDT-PERP"}
    conf = "https://api-pub.bitfinex.com/v2/conf/pub:list"
    if listed:
        rows.append(("http", f"{conf}:pair:exchange", [["BTCUSD", "DUSK:UST"]]))
        rows.append(("http", f"{conf}:currency", [["BTC", "USD"]]))
    if futures:
        rows.append(("http", f"{conf}:pair:futures", [["BTCF0:USTF0"]]))
    rows.append(("open", "wss://api-pub.bitfinex.com/ws/2", None))
    rows.append(("recv", None, {"event": "info", "version": 2, "platform": {"status": 1}}))
    if asked:
        rows.append(("send", None, {"event": "conf", "flags": 65536}))
    rows.append(("recv", None, {"event": "conf", "status": "OK", "flags": 65536}))
    channels = [(kind, name) for kind in ("book", "trades", "ticker") for name in names]
    sides = [[100 - i, 1, 1.5] for i in range(9)] + [[101 + i, 1, -2.5] for i in range(9)]
    first = {
        "book": sides,
        "trades": [[9, 1640000000123, -0.5, 100], [8, 1640000000122, 0.5, 101]],
        "ticker": [100, 1, 101, 2, 0, 0, 100, 5, 102, 99],
    }
    sequence = 0
    for number, (kind, name) in enumerate(channels, 1000):
        named = {"channel": kind, "chanId": number, "symbol": name, "pair": name[1:]}
        more = {"prec": "P0", "freq": "F0", "len": "100"} if kind == "book" else {}
        rows.append(("recv", None, {"event": "subscribed", **named, **more}))
        rows.append(("recv", None, [number, first[kind], sequence := sequence + 1]))
    for k in range(30):
        for number, (kind, _) in enumerate(channels, 1000):
            data = {
                "book": [[100 - k % 5, int(k % 3 > 0), k + 0.5 if k % 3 else 1]],
                "trades": ["tu" if k % 2 else "te", [10 + k // 2, 1640000000200 + k, 0.25, 100.5]],
                "ticker": ["hb"] if k % 2 else [[100, 1 + k, 101, 2, 0, 0, 100, 5, 102, 99]],
            }[kind]
            rows.append(("recv", None, [number, *data, sequence := sequence + 1]))
    records = [
        Record(
            1_640_000_000_000_000_000 + n * 100_000_000,
            kind,
            None if kind == "http" else 0,
            url,
            None if said is None else json.dumps(said, separators=(",", ":")),
        )
        for n, (kind, url, said) in enumerate(rows)
    ]
    symbols = tuple(names.values())
    subscribed = {"trades": symbols, "ticker": symbols, "l2_book": symbols}
    return LoadedRecording("bitfinex", subscribed, tuple(records))


async def played(
    recording: LoadedRecording, *, mutate: Planted | None = None
) -> tuple[list[Event], list[BookTop | None]]:
    """What a feed makes of it until nothing more comes, and its books then."""
    events: list[Event] = []
    async with ReplayServer(
        recording, mutate=mutate, speed=1.0, stays=True, fresh_books=True
    ) as server:
        channels = ["trades", "ticker", "book"]
        async with open_feed(server.venue(), recording.symbols, channels=channels) as feed:
            with trio.move_on_after(40):  # 30 of it are recorded
                async for batch in feed.batches():
                    events += batch
            return events, [feed.book(symbol) for symbol in recording.symbols]


@pytest.mark.parametrize(
    ("asked", "listed", "futures"),
    [
        (True, True, True),
        (True, True, False),
        (True, False, False),
        (False, True, True),
        (False, False, False),
    ],
)
async def test_a_recording_of_another_client(
    asked: bool, listed: bool, futures: bool, autojump_clock: MockClock
) -> None:
    events, books = await played(recorded(asked=asked, listed=listed, futures=futures))
    found = Counter(type(event).__name__ for event in events)
    assert (found["BookSnapshot"], found["BookDelta"]) == (3, 90)
    assert (found["Trade"], found["Quote"]) == (3 * (2 + 15), 3 * (1 + 15))
    assert (found["Gap"], found["DecodeFailed"]) == (0, 0)
    assert {e.trust for e in events if isinstance(e, BookSnapshot | BookDelta)} == {Trust.VERIFIED}
    assert all(top is not None and top.bids for top in books)


@pytest.mark.parametrize("how", ["drop", "swap"])
async def test_a_frame_that_is_missing_from_a_recording_is_mended(
    how: Any, autojump_clock: MockClock
) -> None:
    planted = Planted(how, where=r"^\[100[0-2],\[\d+,[01],", nth=20)
    recording = recorded(asked=True, listed=True, futures=True)
    clean, books = await played(recording)
    events, mended = await played(recording, mutate=planted)
    assert planted.acted
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [gap.symbol for gap in gaps] == [None, "BTC-USD", "DUSK-USDT", "BTC-USDT-PERP"]
    assert (gaps[0].from_sequence, gaps[0].missing) == (65, 1)
    assert sum(isinstance(event, BookSnapshot) for event in events) == 6
    assert sum(isinstance(event, FeedStateChanged) for event in events) == sum(
        isinstance(event, FeedStateChanged) for event in clean
    )
    for before, after in zip(books, mended, strict=True):
        assert before is not None
        assert after is not None
        assert (before.bids, before.asks) == (after.bids, after.asks)


@pytest.mark.parametrize(
    ("symbol", "theirs"),
    [
        ("BTC-USD", "tBTCUSD"),
        ("BTC-USDT", "tBTCUST"),
        ("DUSK-USDT", "tDUSK:UST"),
        ("BCH-USD", "tBCHN:USD"),
        ("BTC-USDT-PERP", "tBTCF0:USTF0"),
    ],
)
def test_the_names_are_the_venue_s(symbol: str, theirs: str) -> None:
    assert dialect_by_name("bitfinex").venue_symbol(symbol) == theirs
    found = instrument_of(theirs[1:])
    assert found is not None
    assert found.symbol == symbol


def test_what_a_client_asks_for() -> None:
    dialect = dialect_by_name("bitfinex")
    listing = Listing(dialect.venue_symbol)
    listing.add(["BTC-USD"])
    session = dialect.session(listing)

    def asked(**request: Any) -> list[dict[str, Any]]:
        return list(session.requests(json.dumps(request)))

    (conf,) = asked(event="conf", flags=8)
    (text,) = session.encode({**conf, "type": "result"})
    assert json.loads(str(text))["flags"] == 8 + 32768 + 65536 + 131072 + 536870912
    (ping,) = asked(event="ping", cid=7)
    (text,) = session.encode({**ping, "type": "pong", "time": 1_000_000})
    assert json.loads(str(text)) == {"event": "pong", "ts": 1, "cid": 7}
    (begin,) = asked(event="subscribe", channel="book", symbol="tBTCUSD", len="25")
    (text,) = session.encode({**begin, "type": "subscribed"})
    number = json.loads(str(text))["chanId"]
    (end,) = asked(event="unsubscribe", chanId=number)
    (text,) = session.encode({**end, "type": "unsubscribed"})
    assert json.loads(str(text)) == {"event": "unsubscribed", "status": "OK", "chanId": number}
    assert asked(event="unsubscribe", chanId=number) == []
    (unknown,) = asked(event="subscribe", channel="ticker", symbol="tXXXYYY")
    (text,) = session.encode({**unknown, "type": "error", "symbol": "tXXXYYY", "message": "?"})
    assert json.loads(str(text))["code"] == 10300


@pytest.mark.parametrize(
    ("text", "stamp", "restamped"),
    [
        ('[5,"hb",7]', 7, '[5,"hb",9]'),
        ('[5,"hb",7,1610920929093]', 7, '[5,"hb",9,1610920929093]'),
        ('[5,"cs",-12,7]', 7, '[5,"cs",-12,9]'),
        ("[5,[1.50,1,-2],7]", 7, "[5,[1.50,1,-2],9]"),
        ("[5,[[1.50,1,-2]]]", None, "[5,[[1.50,1,-2]]]"),
        ("[5, [1.50, 1, -2], 7, 1610920929093]", 7, "[5, [1.50, 1, -2],9, 1610920929093]"),
        ('{"event":"info","a":[1,7]}', None, '{"event":"info","a":[1,7]}'),
    ],
)
def test_the_count_of_recorded_frames(text: str, stamp: int | None, restamped: str) -> None:
    session: Any = dialect_by_name("bitfinex").session(Listing(str))
    assert session.stamp_of(text) == stamp
    assert session.with_stamp(text.encode(), 9) in (restamped, restamped.encode())
