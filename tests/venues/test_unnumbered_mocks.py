"""Feeds of the venues that number nothing, against a mock server that is one."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import BookSnapshot, SnapshotFailed, Trust, open_feed
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
    RestError,
    Scenario,
    SequenceGap,
    Serve,
    simulate,
)
from feedhandler_testing.dialect import dialect_by_name

VENUES = ("bitstamp", "gemini")
COMMON = [SequenceGap(), Duplicate(), Reorder(), BadJson()]
FAULTS = [
    *(("price", fault) for fault in (*COMMON, MissingField("price"))),
    *(("book", fault) for fault in (*COMMON, CrossedBook())),
]


@pytest.mark.parametrize("venue", [*VENUES, "coinbase"])
@pytest.mark.parametrize(
    ("channel", "fault"), FAULTS, ids=[f"{c}-{type(f).__name__}" for c, f in FAULTS]
)
def test_each_fault_is_announced_as_far_as_the_venue_lets_it_be_seen(
    venue: str, channel: Any, fault: Any
) -> None:
    steps = [Serve(6), Inject(fault, Messages(3)), Serve(20), Cut(Reset()), Serve(6)]
    expect = Expect(connections=2)
    simulate(Scenario(venue=venue, channel=channel, steps=steps, expect=expect)).check()


async def test_a_snapshot_that_fails_is_fetched_again(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer(dialect=dialect_by_name("bitstamp")) as server:
        made = server.venue(["BTC-USD"])
        server.next_delta("BTC-USD")
        async with open_feed(made, ["BTC-USD"], channels=["book"]) as feed:
            with trio.fail_after(120):
                async with server.fault(RestError()):
                    async for event in feed:
                        if isinstance(event, SnapshotFailed):
                            break
                async for event in feed:
                    if isinstance(event, BookSnapshot):
                        break
    assert event.symbol == "BTC-USD"


def test_bitstamp_s_notice_brings_a_new_connection() -> None:
    steps = [Serve(6), Inject(Notice(), Messages(2)), Serve(20)]
    simulate(Scenario(venue="bitstamp", steps=steps, expect=Expect(connections=2))).check()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_feed_s_book_is_whole_and_unverifiable(
    venue: str, autojump_clock: MockClock
) -> None:
    symbols = ["BTC-USD", "ETH-USD"]
    async with MockWebSocketServer(dialect=dialect_by_name(venue)) as server:
        made = server.venue(symbols)
        for symbol in symbols:
            server.next_delta(symbol)  # now it has a book
        channels = ["trades", "book"]
        async with open_feed(made, symbols, channels=channels) as feed:
            whole = set()
            with trio.fail_after(60):
                async for event in feed:
                    if isinstance(event, BookSnapshot):
                        assert event.trust is Trust.UNVERIFIABLE
                        whole.add(event.symbol)
                        if len(whole) == len(symbols):
                            break
            await wait_all_tasks_blocked()
            top = feed.book("ETH-USD")
            assert top is not None
            assert top.trust is Trust.UNVERIFIABLE
            assert top.bids
            assert top.asks
            assert not feed.subscriptions.pending
            feed.unsubscribe(symbols, channels=["book"])
            feed.unsubscribe(["BTC-USD"], channels=["trades"])
            await wait_all_tasks_blocked()
            assert {s.channel for s in feed.subscriptions.wanted} == {"trades"}
