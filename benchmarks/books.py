"""Measure order books side by side: ``nox -s bench``, or ``python benchmarks/books.py``.

The peer is the C extension `order_book`, which cryptofeed's books are made of. Both get the same
prices and sizes, made anew as `Decimal`s for each round, because a `Decimal` that has been hashed
once is not hashed again. Timed are, for the deltas: the loop over the messages, which looks up the
symbol's book, applies each level, and after each message reads the best bid and the best ask; and
for the snapshots: a new book of all the levels, best bid and ask read. Not timed is the making of
the `Decimal`s, and of our levels, which the decoder makes out of the message in one go.

The peers take turns in one process, and it is the thread's processor time that counts, because a
pass is so short that another process would show in it. Told are medians over the rounds, and of the
ratio in each round. All tops after each message and all levels at the end must be the same for
both, or it is an error, not a time. Memory is what a book holds for each level after the last
message: price, size, and all that keeps them in order.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

from attrs import define
from book_steps import RECORDED, Step, made_up, recorded

from feedhandler import Level, OrderBook

try:
    # GPL: a peer to measure, never a dependency, and never a source to copy from.
    import order_book
except ImportError:
    order_book = None

HERE = Path(__file__).parent
OURS, PEER = "feedhandler", "order_book"
TARGET = 1.0  # the least ratio of the peer's time for a level to ours
SNAPSHOT_TARGET_MS = 100.0  # for the 46,000 levels of Coinbase's BTC-USD

Sides = tuple[tuple[Level, ...], tuple[Level, ...]]
Message = tuple[str, bool, tuple[Level, ...], tuple[Level, ...]]
Top = tuple[Any, Any]


@define
class Run:
    """What one pass over the messages took, and what came of it."""

    delta_ns: int
    snapshot_ns: int
    slowest_snapshot_ns: int
    tops: list[Top]
    books: dict[str, Sides]


def messages_of(steps: Sequence[Step]) -> list[Message]:
    """The steps as a decoder gives them; no `Decimal` in them was ever used before."""

    def levels(pairs: Sequence[tuple[str, str]]) -> tuple[Level, ...]:
        return tuple([Level(Decimal(price), Decimal(size)) for price, size in pairs])

    return [(step.symbol, step.whole, levels(step.bids), levels(step.asks)) for step in steps]


def parts_of(messages: list[Message]) -> list[list[Message]]:
    """Each snapshot by itself, and the deltas between them together."""
    parts: list[list[Message]] = []
    for message in messages:
        if message[1] or not parts or parts[-1][0][1]:
            parts.append([])
        parts[-1].append(message)
    return parts


# --- the peers -----------------------------------------------------------------------------------


class Ours:
    """feedhandler's book."""

    def __init__(self) -> None:
        self.books: dict[str, OrderBook] = {}

    def snapshot(self, message: Message) -> Top:
        symbol, _, bids, asks = message
        book = self.books[symbol] = OrderBook(symbol)
        book.replace(bids, asks)
        return book.best_bid, book.best_ask

    def deltas(self, messages: list[Message], tops: list[Top]) -> None:
        books = self.books
        for symbol, _, bids, asks in messages:
            book = books[symbol]
            book.apply(bids, asks)
            tops.append((book.best_bid, book.best_ask))

    def levels(self) -> dict[str, Sides]:
        return {symbol: book.top() for symbol, book in self.books.items()}


class Peer:
    """The C extension, used as its documentation shows, and as cryptofeed does."""

    def __init__(self) -> None:
        self.books: dict[str, Any] = {}

    def snapshot(self, message: Message) -> Top:
        symbol, _, bids, asks = message
        book = self.books[symbol] = order_book.OrderBook()
        book.bids = dict(bids)
        book.asks = dict(asks)
        return (book.bids.index(0) if bids else None, book.asks.index(0) if asks else None)

    def deltas(self, messages: list[Message], tops: list[Top]) -> None:
        books = self.books
        for symbol, _, bids, asks in messages:
            book = books[symbol]
            bid_side, ask_side = book.bids, book.asks
            for price, size in bids:
                if size:
                    bid_side[price] = size
                elif price in bid_side:
                    del bid_side[price]
            for price, size in asks:
                if size:
                    ask_side[price] = size
                elif price in ask_side:
                    del ask_side[price]
            tops.append((bid_side.index(0), ask_side.index(0)))

    def levels(self) -> dict[str, Sides]:
        return {
            symbol: (
                tuple(Level(*pair) for pair in book.bids.to_list()),
                tuple(Level(*pair) for pair in book.asks.to_list()),
            )
            for symbol, book in self.books.items()
        }


def run(peer: Ours | Peer, messages: list[Message]) -> Run:
    """One timed pass, with the collector of garbage at rest."""
    now = time.thread_time_ns
    made = Run(0, 0, 0, [], {})
    parts = parts_of(messages)
    gc.collect()
    gc.disable()
    try:
        for part in parts:
            began = now()
            if part[0][1]:
                made.tops.append(peer.snapshot(part[0]))
                spent = now() - began
                made.snapshot_ns += spent
                made.slowest_snapshot_ns = max(made.slowest_snapshot_ns, spent)
            else:
                peer.deltas(part, made.tops)
                made.delta_ns += now() - began
    finally:
        gc.enable()
    made.books = peer.levels()
    return made


def bytes_per_level(peer: Ours | Peer, steps: Sequence[Step]) -> float:
    """What is held for each level once all messages were applied, their own digits included."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for step in steps:
            (message,) = messages_of([step])
            if step.whole:
                peer.snapshot(message)
            else:
                peer.deltas([message], [])
            del message
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    count = sum(len(bids) + len(asks) for bids, asks in peer.levels().values())
    return held / count


# --- measuring and telling -----------------------------------------------------------------------


def measure(steps: Sequence[Step], rounds: int) -> dict[str, Any]:
    """All peers in turn, `rounds` times; checks that they agree."""
    peers: dict[str, Callable[[], Ours | Peer]] = {OURS: Ours}
    if order_book is not None:
        peers[PEER] = Peer
    runs: dict[str, list[Run]] = {name: [] for name in peers}
    for number in range(rounds):
        for name in [*peers][:: -1 if number % 2 else 1]:
            made = run(peers[name](), messages_of(steps))
            if runs[name]:
                made.tops, made.books = [], {}  # of one round they are enough
            runs[name].append(made)
    first = {name: made[0] for name, made in runs.items()}
    for name, made in first.items():
        if made.tops != first[OURS].tops or made.books != first[OURS].books:
            raise SystemExit(f"{name} and {OURS} do not agree on the books")
    deltas = [step for step in steps if not step.whole]
    levels = sum(step.levels for step in deltas)
    found: dict[str, Any] = {
        "deltas": len(deltas),
        "levels_of_deltas": levels,
        "largest_snapshot": max(step.levels for step in steps if step.whole),
        "ns_per_level": {},
        "snapshot_ms": {},
        "bytes_per_level": {},
    }
    for name, made_by in runs.items():
        found["ns_per_level"][name] = statistics.median(one.delta_ns for one in made_by) / levels
        slowest = statistics.median(one.slowest_snapshot_ns for one in made_by)
        found["snapshot_ms"][name] = slowest / 1e6
        found["bytes_per_level"][name] = bytes_per_level(peers[name](), steps)
    if PEER in runs:
        pairs = zip(runs[PEER], runs[OURS], strict=True)
        found["ratio"] = statistics.median(
            theirs.delta_ns / ours.delta_ns for theirs, ours in pairs
        )
    return found


def tell(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Print the table; returns what this project holds itself to, and whether it does."""
    print(
        f"\nbooks: deltas applied, best bid and ask read after each\n{'':18}{'deltas':>8}"
        f"{'levels':>8}{'ours, ns':>10}{'C, ns':>8}{'ratio':>7}{'snapshot of':>13}"
        f"{'ours, ms':>10}{'C, ms':>8}{'ours, B':>9}{'C, B':>7}"
    )
    rows: list[dict[str, Any]] = []

    def row(name: str, value: float, target: float, met: bool) -> None:
        rows.append({"name": name, "value": round(value, 3), "target": target, "met": met})

    for name, one in results.items():
        theirs = {
            key: f"{one[key][PEER]:,.{digits}f}" if PEER in one[key] else "-"
            for key, digits in (("ns_per_level", 0), ("snapshot_ms", 1), ("bytes_per_level", 0))
        }
        ratio = f"{one['ratio']:.2f}" if "ratio" in one else "-"
        print(
            f"{name:18}{one['deltas']:8,}{one['levels_of_deltas']:8,}"
            f"{one['ns_per_level'][OURS]:10,.0f}{theirs['ns_per_level']:>8}{ratio:>7}"
            f"{one['largest_snapshot']:13,}{one['snapshot_ms'][OURS]:10.1f}"
            f"{theirs['snapshot_ms']:>8}{one['bytes_per_level'][OURS]:9.0f}"
            f"{theirs['bytes_per_level']:>7}"
        )
        if "ratio" in one:
            row(f"{name}: speed / {PEER}", one["ratio"], TARGET, one["ratio"] >= TARGET)
        if name == "coinbase":
            taken = one["snapshot_ms"][OURS]
            met = taken < SNAPSHOT_TARGET_MS
            row(f"{name}: snapshot, ms", taken, SNAPSHOT_TARGET_MS, met)
    for one in rows:
        print(f"{one['name']:36} {one['value']:8.2f}  {'ok' if one['met'] else 'SHORT'}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, default=HERE.parent / "bench-results")
    options = parser.parse_args()
    named = os.environ.get("FEEDHANDLER_RECORDINGS")
    recordings = Path(named) if named else HERE.parent.parent / "shared" / "recordings"

    works = {"made up": made_up()}
    if recordings.is_dir():
        works |= {venue: recorded(venue, recordings) for venue in RECORDED}
    else:
        print("only a made-up book: there are no recordings; set FEEDHANDLER_RECORDINGS")
    if order_book is None:
        print("no peer: the package order-book is not installed here")
    results: dict[str, Any] = {}
    for name, steps in works.items():
        results[name] = measure(steps, options.rounds)
        print(f"  books: {name}", file=sys.stderr)
    document = {
        "setting": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "order-book": None if order_book is None else metadata.version("order-book"),
        },
        "rounds": options.rounds,
        "books": results,
        "targets": tell(results),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "books.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nwritten: {options.out / 'books.json'}")


if __name__ == "__main__":
    main()
