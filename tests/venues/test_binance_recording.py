"""Real sessions of Binance, spot and futures, against what another implementation made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from feedhandler import BookSnapshot, Trust
from feedhandler.venues.binance import Binance
from feedhandler.venues.binance_futures import BinanceFutures

VENUES = {"binance": Binance, "binance_futures": BinanceFutures}


@pytest.fixture(params=VENUES)
def recorded(request: Any, proof: Callable[[str], Any]) -> tuple[Any, Any]:
    """A recording, and the venue with the list of instruments that is in it."""
    data = proof(request.param)
    venue = VENUES[request.param]()
    return data, venue.with_instruments(venue.parse_instruments(data.instruments_bodies(venue)))


def test_the_decoder_gives_what_is_expected(recorded: tuple[Any, Any]) -> None:
    data, venue = recorded
    items = data.decode(venue)
    data.check(items, trust=Trust.VERIFIED)
    assert {i.symbol for i in items if isinstance(i, BookSnapshot)} == set(
        data.expected["venue_symbol"]
    )


def test_the_list_maps_names_both_ways(recorded: tuple[Any, Any]) -> None:
    data, venue = recorded
    for symbol, theirs in data.expected["venue_symbol"].items():
        assert venue.instruments.by_symbol(symbol).venue_symbol == theirs
        assert venue.instruments.symbols[theirs] == symbol
