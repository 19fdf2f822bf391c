"""Bybit, OKX and Deribit, whose books are chains of numbers: faults at the mock of each."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import BookSnapshot, Gap, Quote, SubscriptionFailed, Trade, Trust, open_feed
from feedhandler.abc import ListedVenue, Venue
from feedhandler.model import GapReason
from feedhandler_testing import (
    Cut,
    Duplicate,
    Expect,
    Inject,
    LostAck,
    Messages,
    MockWebSocketServer,
    Notice,
    RefuseSubscription,
    Reorder,
    Reset,
    Scenario,
    SequenceGap,
    Serve,
    StaleSnapshot,
    Wait,
    WrongChecksum,
    simulate,
)
from feedhandler_testing.dialect import dialect_by_name

VENUES = ("bybit", "okx", "deribit")
SYMBOLS = ["BTC-USDT", "ETH-USDT"]
PERPETUAL = "BTC-USDT-PERP"


@pytest.fixture(params=VENUES)
def name(request: pytest.FixtureRequest) -> str:
    venue: str = request.param
    return venue


async def next_of(feed: Any, kind: type) -> Any:
    with trio.fail_after(60):
        async for event in feed:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind.__name__} came")


@pytest.mark.parametrize("symbol", ["BTC-USDT", PERPETUAL])
async def test_all_channels_of_a_symbol_flow(
    name: str, symbol: str, autojump_clock: MockClock
) -> None:
    async with MockWebSocketServer(dialect=dialect_by_name(name)) as server:
        venue: Venue = server.venue([symbol])
        server.next_delta(symbol)
        async with open_feed(venue, [symbol], channels=["trades", "ticker", "book"]) as feed:
            book = await next_of(feed, BookSnapshot)
            assert (book.symbol, book.trust) == (symbol, Trust.VERIFIED)
            connection = await server.next_connection()
            sent = server.next_price(symbol)
            await connection.send_messages([sent])
            trade = await next_of(feed, Trade)
            assert (trade.symbol, str(trade.price), str(trade.size)) == (
                symbol, sent["price"], sent["size"],
            )  # fmt: skip
            assert trade.side.value == sent["side"]
            assert trade.venue_time_ns == sent["time"] - sent["time"] % 1_000_000
            top = {
                "type": "quote", "symbol": symbol, "bid": "10.50", "bid_size": "2", "ask": "11.0",
                "ask_size": "0.30", "sequence": 1, "time": sent["time"],
            }  # fmt: skip
            await connection.send_messages([top])
            quote = await next_of(feed, Quote)
            assert [str(n) for n in (quote.bid, quote.bid_size, quote.ask, quote.ask_size)] == [
                "10.50", "2", "11.0", "0.30",
            ]  # fmt: skip


@pytest.mark.parametrize("fault", [SequenceGap(1), SequenceGap(7), Duplicate(), Reorder()])
def test_a_books_chain_that_breaks_is_mended(name: str, fault: Any) -> None:
    steps = [Serve(6), Inject(fault, Messages(9)), Serve(60), Cut(Reset()), Serve(20)]
    expect = Expect(connections=2)
    simulate(Scenario(venue=name, channel="book", steps=steps, expect=expect)).check()


def test_a_stale_answer_to_a_broken_chain_is_not_taken(name: str) -> None:
    """Even where the venue gives a book from before the hole."""
    steps = [Serve(6), Inject(SequenceGap(2), Messages(9)), StaleSnapshot(), Serve(120)]
    simulate(Scenario(venue=name, channel="book", steps=steps)).check()


def test_a_wrong_checksum_is_seen_where_there_is_one() -> None:
    steps = [Serve(6), Inject(WrongChecksum(), Messages(9)), Serve(60)]
    expect = Expect(connections=1, gaps=["checksum"])
    simulate(Scenario(venue="okx", channel="book", steps=steps, expect=expect)).check()


@pytest.mark.parametrize("channel", ["price", "book"])
def test_a_connection_that_is_cut_is_made_anew(name: str, channel: Any) -> None:
    steps = [Serve(9), Cut(Reset()), Serve(9), Cut(Reset()), Serve(9)]
    scenario = Scenario(venue=name, channel=channel, steps=steps, expect=Expect(connections=3))
    simulate(scenario).check()


def test_an_upgrade_that_is_announced_rolls_over() -> None:
    steps = [Serve(9), Cut(Notice()), Serve(30)]
    simulate(Scenario(venue="okx", steps=steps)).check()


def test_a_quiet_connection_is_kept_alive(name: str) -> None:
    """OKX ends one on which nothing was sent for 30 s, Deribit wants its heartbeats seen."""
    steps = [Serve(3), Wait(300.0), Serve(3)]
    simulate(Scenario(venue=name, steps=steps, expect=Expect(connections=1))).check()


@pytest.mark.parametrize("fault", [LostAck(), RefuseSubscription()])
def test_an_answer_that_is_lost_or_refuses(name: str, fault: Any) -> None:
    simulate(Scenario(venue=name, steps=[Inject(fault), Serve(60)])).check()


async def test_what_the_venue_refuses_is_told_and_the_others_flow(
    name: str, autojump_clock: MockClock
) -> None:
    gone = MockWebSocketServer(dialect=dialect_by_name(name)).venue(SYMBOLS)
    assert isinstance(gone, ListedVenue)
    assert gone.instruments is not None
    async with MockWebSocketServer(dialect=dialect_by_name(name)) as server:
        venue = server.venue(["BTC-USDT"])
        assert isinstance(venue, ListedVenue)
        venue = venue.with_instruments(gone.instruments)  # of before it was delisted
        async with open_feed(venue, SYMBOLS, channels=["book"]) as feed:
            failed = await next_of(feed, SubscriptionFailed)
            assert failed.error.symbol == "ETH-USDT"
            server.next_delta("BTC-USDT")
            book = await next_of(feed, BookSnapshot)
            assert (book.symbol, book.trust) == ("BTC-USDT", Trust.VERIFIED)


async def test_a_trade_that_is_missing_is_told_where_trades_are_numbered(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer(dialect=dialect_by_name("deribit")) as server:
        venue: Venue = server.venue(["BTC-USDT"])
        async with open_feed(venue, ["BTC-USDT"], channels=["trades"]) as feed:
            connection = await server.next_connection()
            await wait_all_tasks_blocked()
            prices = [server.next_price("BTC-USDT") for _ in range(4)]
            await connection.send_messages([prices[0], prices[3]])
            gap = await next_of(feed, Gap)
            assert (gap.reason, gap.from_sequence, gap.to_sequence) == (GapReason.SEQUENCE, 2, 3)
            assert (await next_of(feed, Trade)).trade_id == "4"


async def test_deribit_says_its_heartbeats_only_to_who_has_asked(
    autojump_clock: MockClock,
) -> None:
    dialect = dialect_by_name("deribit")
    async with MockWebSocketServer(dialect=dialect) as server:
        session = dialect.session(server.listing)
        assert not session.says({"type": "heartbeat"})
        call = {"jsonrpc": "2.0", "id": 1, "method": "public/set_heartbeat", "params": {}}
        (request,) = session.requests(json.dumps(call))
        assert session.says({"type": "heartbeat"})
        (answer,) = session.encode({**request, "type": "result"})
        assert json.loads(answer)["result"] == "ok"
