"""Feeds of Bitfinex against the mock server that speaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from feedhandler import BookSnapshot, Trade, Trust, open_feed
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
        ('{"event":"info","a":[1,7]}', None, '{"event":"info","a":[1,7]}'),
    ],
)
def test_the_count_of_recorded_frames(text: str, stamp: int | None, restamped: str) -> None:
    session: Any = dialect_by_name("bitfinex").session(Listing(str))
    assert session.stamp_of(text) == stamp
    assert session.with_stamp(text.encode(), 9) in (restamped, restamped.encode())
