"""Each recording, served over loopback, read through the whole handler: every digest, no gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from feedhandler import BookSnapshot, CoverageLedger, Event, Quote, Trust
from feedhandler.cli.replay import replay

V, U = Trust.VERIFIED, Trust.UNVERIFIABLE
# The recording, the venue that it is of, what its books deserve, whether its ticker has prices,
# and whether it holds what the expected results are about and nothing else.
WHOLE = [
    pytest.param("binance", None, V, True, True, id="binance"),
    pytest.param("binance_futures", None, V, True, True, id="binance_futures"),
    pytest.param("bitstamp", None, U, False, True, id="bitstamp"),
    pytest.param("bybit", "bybit", V, True, False, id="bybit"),
    pytest.param("bybit", "bybit_spot", V, False, False, id="bybit_spot"),
    pytest.param("coinbase", None, V, True, True, id="coinbase"),
    pytest.param("kraken", None, V, True, True, id="kraken"),
]


@pytest.mark.parametrize(("name", "venue", "trust", "ticker", "whole"), WHOLE)
async def test_a_recording_through_the_whole_handler_is_as_expected(
    name: str,
    venue: str | None,
    trust: Trust,
    ticker: bool,
    whole: bool,
    proof: Callable[[str], Any],
) -> None:
    expected = proof(name)
    events: list[Event] = []
    result = await replay(expected.path, venue=venue, on_event=events.append)
    assert result.gaps == result.decode_errors == 0
    assert not result.torn
    if name == "bitstamp":  # it has a top of book of its own, which was not recorded
        assert not [event for event in events if isinstance(event, Quote)]
    if name == "kraken":
        # Its snapshots have no checksum, so nothing verifies them before the first delta.
        snapshots = [event for event in events if isinstance(event, BookSnapshot)]
        assert {event.trust for event in snapshots} == {U}
        events = [lifted(event) for event in events]
    expected.check(events, trust=trust, ticker=ticker, partly=not whole)
    ledger = CoverageLedger()
    ledger.fold(events)
    for symbol, coverage in ledger.coverage(0).items():
        assert coverage.message_share(trust) == 1, symbol


def lifted(event: Event) -> Event:
    if not isinstance(event, BookSnapshot):
        return event
    return BookSnapshot(
        event.symbol, event.bids, event.asks, event.sequence, event.venue_time_ns, event.recv_ns,
        event.venue, event.epoch, V,
    )  # fmt: skip
