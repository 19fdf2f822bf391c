"""Spoiled messages of venues: events or a `DecodeError`, nothing else, and no growth.

`FEEDHANDLER_MUTATIONS` is how many for each venue: a million takes a few minutes each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from feedhandler import BookDelta, BookSnapshot, DecodeError, Quote, Trade
from feedhandler.abc import Session
from feedhandler.instruments import Instruments
from feedhandler.venues.bybit import Bybit
from feedhandler.venues.deribit import Deribit
from feedhandler.venues.okx import OKX
from feedhandler_testing import MockBook
from feedhandler_testing.dialect import Listing, dialect_by_name
from feedhandler_testing.mutations import Mutator

COUNT = int(os.environ.get("FEEDHANDLER_MUTATIONS", "4000"))
SYMBOLS = {"bybit": "BTC-USDT-PERP", "okx": "BTC-USDT", "deribit": "BTC-USD-PERP"}
VENUES: dict[str, Callable[[], Any]] = {"bybit": Bybit, "okx": OKX, "deribit": Deribit}
NEVER: Sequence[str] = (
    "pong", '{"event":"error","code":"60018","msg":"x","id":"1"}',
    '{"jsonrpc":"2.0","id":710001,"error":{"code":1,"message":"x"}}',
    '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
    '{"success":false,"ret_msg":"error:handler not found,topic:x","req_id":"1","op":"subscribe"}',
)  # fmt: skip


def plain_messages(symbol: str, checksum: Any) -> list[dict[str, Any]]:
    book = MockBook.drawn(symbol, Random(3))
    book.checksum_of = checksum
    rng = Random(4)
    data: list[dict[str, Any]] = [book.snapshot()]
    for n in range(1, 30):
        data.append(book.step(rng))
        data.append(
            {
                "type": "price", "symbol": symbol, "price": "65000.10", "size": "0.5",
                "side": "buy", "sequence": n, "time": 1_700_000_000_000_000_000,
            }
        )  # fmt: skip
        data.append(
            {
                "type": "quote", "symbol": symbol, "bid": "1.5", "bid_size": "1", "ask": "2",
                "ask_size": "1", "sequence": n, "time": 1_700_000_000_000_000_000,
            }
        )  # fmt: skip
    return data


def corpus_of(name: str) -> tuple[Session, list[str]]:
    """A session, and messages that it takes."""
    dialect = dialect_by_name(name)
    symbol = SYMBOLS[name]
    listing = Listing(dialect.venue_symbol)
    listing.add([symbol])
    venue = VENUES[name]()
    bodies = []
    for url in venue.instrument_urls():
        request = dialect.rest_request(url, listing)
        assert request is not None
        bodies.append(dialect.rest_answer(request, None, listing).body)
    instruments = venue.parse_instruments(bodies)
    assert isinstance(instruments, Instruments)
    speaker = dialect.session(listing)
    texts = [
        text if isinstance(text, str) else text.decode()
        for message in plain_messages(symbol, dialect.checksum)
        for text in speaker.encode(message)
    ]
    session: Session = venue.with_instruments(instruments).session()
    return session, texts


def size_of(session: Session) -> int:
    """How much a session keeps: everything in it that has a length, and what is in that."""
    seen: set[int] = set()

    def count(thing: Any, depth: int) -> int:
        if id(thing) in seen or depth > 8 or isinstance(thing, str | bytes | type | int):
            return 0
        seen.add(id(thing))
        if isinstance(thing, dict):
            return len(thing) + sum(count(item, depth + 1) for item in thing.values())
        if isinstance(thing, list | tuple | set):
            return len(thing) + sum(count(item, depth + 1) for item in thing)
        own = list(getattr(thing, "__dict__", {}).values())
        names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        own += [getattr(thing, name) for name in names if hasattr(thing, name)]
        if not type(thing).__module__.startswith("feedhandler"):
            return 0
        return sum(count(item, depth + 1) for item in own)

    return count(session, 0)


def problems_of(session: Session, message: str | bytes, recv_ns: int) -> list[object] | None:
    """What a `DecodeError` names; `None` where there is none. Anything else that is raised, is."""
    try:
        session.decode(message, recv_ns=recv_ns, epoch=1)
    except DecodeError as error:
        return [*error.problems]
    return None


@pytest.mark.parametrize("name", VENUES)
def test_the_corpus_is_right(name: str) -> None:
    session, texts = corpus_of(name)
    kinds = set()
    for text in texts:
        for item in session.decode(text, recv_ns=1, epoch=1):
            kinds.add(type(item))
    assert {BookSnapshot, BookDelta, Trade, Quote} <= kinds


@pytest.mark.parametrize("name", VENUES)
def test_spoiled_messages_are_events_or_decode_errors(name: str) -> None:
    session, texts = corpus_of(name)
    spoiled = Mutator(Random(f"{name}/1"), [*texts, *NEVER])
    outcomes = {"events": 0, "errors": 0}
    sizes = []
    for n in range(COUNT):
        message = spoiled.next()
        problems = problems_of(session, message, n)
        assert problems != [], message
        outcomes["events" if problems is None else "errors"] += 1
        if n % max(1, COUNT // 8) == COUNT // 16:
            sizes.append(size_of(session))
    assert min(outcomes.values()) > COUNT // 20, outcomes
    # Deltas wait for a snapshot, a bounded number of them; nothing else may pile up.
    assert max(sizes[4:]) < max(sizes[:4]) + 40_000, sizes
