"""Every venue's messages, spoiled at random: events or a `DecodeError`, nothing else, no growth.

`FEEDHANDLER_FUZZ_RUNS` is how many for each venue; `nox -s fuzz` takes a million.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from feedhandler import BookDelta, BookSnapshot, DecodeError, Trade, venue_by_name
from feedhandler.abc import (
    HttpResponse,
    RequestingSession,
    Session,
    SnapshotSession,
    Subscription,
    Venue,
)
from feedhandler.recording import read_recording
from feedhandler.venues import VENUES
from feedhandler_testing import MockBook
from feedhandler_testing.dialect import DIALECTS, Dialect, Listing, dialect_by_name
from feedhandler_testing.venue_fuzz import fuzz_session, mutant_of

RUNS = int(os.environ.get("FEEDHANDLER_FUZZ_RUNS", "4000"))
SYMBOL = "BTC-USD-PERP"  # listed by whatever name the venue has for it
TIME_NS = 1_786_309_548_170_326_789
SPOKEN = sorted({*DIALECTS} - {"price"})
RECORDED = ["binance", "binance_futures", "bitstamp", "bybit", "coinbase", "kraken"]


def listed(dialect: Dialect) -> tuple[str, Listing]:
    """A symbol that the venue can have, and the list with it."""
    for symbol in ("BTC-USDT", "BTC-USD", "BTC-USDT-PERP", SYMBOL):
        listing = Listing(dialect.venue_symbol)
        try:
            listing.add([symbol])
            name = listing.symbols[0]
            venue = venue_of(dialect, listing)
            if getattr(venue, "instruments", None) and symbol in venue.instruments:  # type: ignore[attr-defined]  # a ListedVenue
                return name, listing
        except (DecodeError, KeyError, ValueError):
            continue
    raise AssertionError(f"{dialect.name} lists none of them")


def venue_of(dialect: Dialect, listing: Listing) -> Venue:
    venue: Any = venue_by_name(dialect.name)
    bodies = []
    for url in venue.instrument_urls():
        request = dialect.rest_request(url, listing)
        assert request is not None
        bodies.append(dialect.rest_answer(request, None, listing).body)
    made: Venue = venue.with_instruments(venue.parse_instruments(bodies))
    return made


def data_of(dialect: Dialect, symbol: str) -> Iterator[dict[str, Any]]:
    book, rng = MockBook.drawn(symbol, Random(3)), Random(4)
    book.checksum_of = dialect.checksum
    book.time_ns = TIME_NS
    yield {**book.snapshot(), "stamp": 3}
    base = {"symbol": symbol, "time": TIME_NS}
    for n in range(1, 20):
        yield {**book.step(rng), "stamp": 3 * n + 1}
        yield {**base, "type": "price", "price": "65000.10", "size": "0.5", "side": "buy",
               "sequence": n, "stamp": 3 * n + 2}  # fmt: skip
        yield {**base, "type": "quote", "bid": "1.5", "bid_size": "1", "ask": "2", "ask_size": "1",
               "sequence": n, "stamp": 3 * n + 3}  # fmt: skip


def corpus_of(name: str) -> tuple[Callable[[], Session], list[str], str]:
    """What makes a session that has subscribed, and what its venue says to it."""
    dialect = dialect_by_name(name)
    symbol, listing = listed(dialect)
    venue = venue_of(dialect, listing)
    wanted = [Subscription(channel, symbol) for channel in venue.channels]

    def make() -> Session:
        session = venue.session()
        if isinstance(session, RequestingSession):
            session.requests(subscribe=wanted)
        return session

    speaker = dialect.session(listing)
    first = venue.session()
    asked = (
        first.requests(subscribe=wanted)
        if isinstance(first, RequestingSession)
        else venue.subscribe(wanted)
    )
    said: list[dict[str, Any]] = []
    said += [
        {**request, "type": f"{request['type']}d", "stamp": 1, "time": TIME_NS}
        for text in asked
        for request in speaker.requests(text)
    ]
    said += [{"type": "heartbeat", "stamp": 2, "time": TIME_NS}]
    said += [m for m in data_of(dialect, symbol) if m["type"] in dialect.means.says]
    texts = []
    for message in said:
        try:
            written = speaker.encode(message)
        except (KeyError, TypeError):
            continue  # this venue does not say that
        texts += [text if isinstance(text, str) else text.decode() for text in written]
    return make, texts, symbol


@pytest.mark.parametrize("name", SPOKEN)
def test_the_corpus_is_what_the_venue_says(name: str) -> None:
    make, texts, _ = corpus_of(name)
    session = make()
    kinds = {type(i) for text in texts for i in session.decode(text, recv_ns=TIME_NS, epoch=1)}
    assert Trade in kinds
    assert isinstance(session, SnapshotSession) or {BookSnapshot, BookDelta} <= kinds


@pytest.mark.timeout(max(60, RUNS // 2000))
@pytest.mark.parametrize("name", SPOKEN)
def test_spoiled_messages_are_events_or_decode_errors(name: str) -> None:
    make, texts, _ = corpus_of(name)
    report = fuzz_session(make, texts, runs=RUNS, seed=7)
    assert report.runs >= RUNS
    assert min(report.refused, report.events) > RUNS // 50, report


@pytest.mark.timeout(max(60, RUNS // 2000))
@pytest.mark.parametrize("name", RECORDED)
def test_spoiled_messages_of_real_venues_are_events_or_decode_errors(
    name: str, recordings: Path
) -> None:
    with read_recording(recordings / f"{name}.jsonl.zst") as recording:
        texts = [
            record.payload
            for record in recording
            if record.k == "recv" and isinstance(record.payload, str)
        ]
    texts = [text for text in texts if len(text) < 4000][:400]
    venue = "kraken_v1" if name == "kraken" else name
    report = fuzz_session(corpus_of(venue)[0], texts, runs=RUNS, seed=11)
    assert report.refused > RUNS // 50, report


@pytest.mark.parametrize("name", [n for n in SPOKEN if hasattr(venue_by_name(n), "snapshot_url")])
def test_spoiled_snapshots_of_rest_are_books_or_decode_errors(name: str) -> None:
    make, texts, symbol = corpus_of(name)
    dialect = dialect_by_name(name)
    _, listing = listed(dialect)
    venue: Any = venue_of(dialect, listing)
    request = dialect.rest_request(venue.snapshot_url(Subscription("book", symbol)), listing)
    assert request is not None
    book = MockBook.drawn(symbol, Random(3))
    body = dialect.rest_answer(request, book.snapshot(), listing).body.decode()
    rng, refused = Random(5), 0
    for n in range(max(RUNS // 4, 500)):
        session: Any = make()
        for text in texts[:4]:
            session.decode(text, recv_ns=TIME_NS, epoch=1)
        mutant = mutant_of(body, rng) if n else body
        data = mutant.encode("utf-8", "surrogatepass") if isinstance(mutant, str) else mutant
        answer = HttpResponse(200, (), data)
        subscription = Subscription("book", symbol)
        try:
            session.decode_snapshot(subscription, answer, recv_ns=TIME_NS, epoch=1)
        except DecodeError:
            refused += 1
    assert refused > 50


def size_of(session: Session) -> int:
    """How much a session keeps: everything of ours that has a length, and what is in that."""
    seen: set[int] = set()

    def count(thing: Any, depth: int) -> int:
        if id(thing) in seen or depth > 8 or isinstance(thing, str | bytes | type | int):
            return 0
        seen.add(id(thing))
        if isinstance(thing, dict):
            return len(thing) + sum(count(item, depth + 1) for item in thing.values())
        if isinstance(thing, list | tuple | set):
            return len(thing) + sum(count(item, depth + 1) for item in thing)
        if not type(thing).__module__.startswith("feedhandler"):
            return 0
        own = list(getattr(thing, "__dict__", {}).values())
        names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        own += [getattr(thing, name) for name in names if hasattr(thing, name)]
        return sum(count(item, depth + 1) for item in own)

    return count(session, 0)


@pytest.mark.timeout(max(60, RUNS // 1000))
@pytest.mark.parametrize("name", SPOKEN)
def test_a_session_neither_grows_nor_slows_down(name: str) -> None:
    make, texts, _ = corpus_of(name)
    session, rng = make(), Random(9)
    sizes, times = [], []
    for _ in range(8):
        begun = time.process_time()
        for n in range(max(RUNS // 8, 1000)):
            with contextlib.suppress(DecodeError):
                session.decode(mutant_of(texts[n % len(texts)], rng), recv_ns=n, epoch=1)
        times.append(time.process_time() - begun)
        sizes.append(size_of(session))
    # Deltas wait for a snapshot, a bounded number of them; nothing else may pile up.
    assert max(sizes[4:]) < max(sizes[:4]) + 40_000, sizes
    assert min(times[4:]) < 10 * max(times[:4]), times


def test_every_venue_is_spoken_or_told() -> None:
    """A venue without a dialect is spoiled in its own tests."""
    assert {*VENUES} - {*SPOKEN} <= {"price", "bybit_spot", "bitfinex"}
