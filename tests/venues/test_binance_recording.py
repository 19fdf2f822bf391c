"""Real sessions of Binance, spot and futures, against what another implementation made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    BookTop,
    Event,
    Gap,
    Trust,
    open_feed,
)
from feedhandler.venues.binance import Binance
from feedhandler.venues.binance_futures import BinanceFutures
from feedhandler_testing import Messages, Reset
from feedhandler_testing.replay import LoadedRecording, Planted, ReplayServer

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


# --- through a whole feed, over loopback ---------------------------------------------------------

NAMES = ("binance", "binance_futures")
DELTA = r'^\{"stream":"%s@depth@100ms"'
END = r'"u":\d*(\d)\d\d[,}]'
# A symbol of each recording, whose deltas are spoiled.
SPOILED = {
    "binance": ("nknusdt", "NKN-USDT"),
    "binance_futures": ("sushiusdt", "SUSHI-USDT-PERP"),
}


@pytest.fixture(scope="session")
def loaded(recordings: Path) -> Callable[[str], LoadedRecording]:
    made: dict[str, LoadedRecording] = {}

    def load(name: str) -> LoadedRecording:
        if name not in made:
            made[name] = LoadedRecording.load(recordings / f"{name}.jsonl.zst")
        return made[name]

    return load


async def follow(
    server: ReplayServer, channels: Sequence[str], seconds: float
) -> tuple[list[Event], dict[str, BookTop]]:
    """The events of the recording, and the books at its end."""
    events: list[Event] = []
    symbols = server.recording.symbols
    async with open_feed(server.venue(), symbols, channels=channels) as feed:
        with trio.move_on_after(seconds):
            async for batch in feed.batches():
                events += batch
        tops = {symbol: feed.book(symbol, depth=None) for symbol in symbols}
    return events, {symbol: top for symbol, top in tops.items() if top is not None}


def seconds_of(recording: LoadedRecording) -> float:
    times = [record.t for record in recording.records if record.c is not None]
    return (max(times) - min(times)) / 1e9


@pytest.mark.parametrize("name", NAMES)
async def test_the_whole_path_gives_what_is_expected(
    autojump_clock: MockClock,
    name: str,
    loaded: Callable[[str], LoadedRecording],
    proof: Callable[[str], Any],
) -> None:
    recording = loaded(name)
    async with ReplayServer(recording, stays=True) as server:
        events, _ = await follow(server, ["trades", "ticker", "book"], 4)
    proof(name).check(events, trust=Trust.VERIFIED)


@pytest.mark.parametrize("nth", [3, 100])
@pytest.mark.parametrize("how", ["drop", "swap", "repeat", "flip", "cut"])
@pytest.mark.parametrize("name", NAMES)
async def test_planted_faults_are_told_and_mended(
    autojump_clock: MockClock,
    name: str,
    how: Any,
    nth: int,
    loaded: Callable[[str], LoadedRecording],
    proof: Callable[[str], Any],
) -> None:
    """No book that is told to be verified was another than the venue's, and all end as expected."""
    recording = loaded(name)
    stream, symbol = SPOILED[name]
    where = DELTA % stream + (".*" + END if how == "flip" else "")
    planted = Planted("drop" if how == "cut" else how, where=where, nth=nth)
    right = tops_of(recorded_items(name, proof))
    async with ReplayServer(
        recording, speed=1.0, stays=True, fresh_books=True, mutate=None if how == "cut" else planted
    ) as server:
        if how == "cut":
            server.mock.fault(Reset(), Messages(nth * 2))
        events, books = await follow(server, ["book"], 2 * seconds_of(recording) + 10)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert {gap.symbol for gap in gaps} <= ({symbol} if how != "cut" else set(recording.symbols))
    assert bool(gaps) is (how != "repeat")
    if how == "drop":
        assert gaps[0].from_sequence is not None
    for one, top in books.items():
        last = proof(name).expected["final_books"][one]["last_sequence"]
        assert (top.trust, top.sequence) == (Trust.VERIFIED, last), one
        assert (top.bids[:10], top.asks[:10]) == right[one, last], one
    if how != "flip":  # which gives books other numbers than the venue's
        wrong = {key: top for key, top in tops_of(events).items() if right.get(key, top) != top}
        assert not wrong


def recorded_items(name: str, proof: Callable[[str], Any]) -> list[Any]:
    data = proof(name)
    venue = VENUES[name]()
    listed = venue.parse_instruments(data.instruments_bodies(venue))
    return [*data.decode(venue.with_instruments(listed))]


def tops_of(items: Iterable[object]) -> dict[tuple[str, int | None], Any]:
    """Each verified book's ten best levels, by its symbol and number, as it was told last."""
    shelf = BookShelf()
    tops: dict[tuple[str, int | None], Any] = {}
    for item in items:
        if isinstance(item, BookSnapshot | BookDelta | Gap):
            shelf.fold([item])
        if isinstance(item, BookSnapshot | BookDelta) and item.trust is Trust.VERIFIED:
            top = shelf.top(item.symbol, depth=10)
            assert top is not None
            tops[item.symbol, item.sequence] = (top.bids, top.asks)
    return tops
