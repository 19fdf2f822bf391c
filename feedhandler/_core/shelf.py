"""The books that a reader has, made from the events that it has read."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from attrs import define

from feedhandler._core.state import ConnectionState
from feedhandler.book import BookTop, OrderBook
from feedhandler.errors import BookError
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedStateChanged,
    Gap,
    Trust,
    TrustChanged,
)

__all__ = ["BookShelf"]

_FIT = (Trust.VERIFIED, Trust.UNVERIFIABLE)


@define
class _Kept:
    """A book, and what is known of it."""

    book: OrderBook
    last: BookSnapshot | BookDelta  # the newest that is in it
    trust: Trust
    whole: bool = True  # no message is missing: a delta may be applied
    leg: int = 0  # the connection on which it comes


class BookShelf:
    """Order books, folded from one feed's events in the order in which they are read.

    ```python
    shelf = BookShelf()
    async for event in subscriber:
        shelf.fold([event])
        top = shelf.top("BTC-USD")
    ```

    A `BookSnapshot` takes the place of the book, a `BookDelta` is applied to the one that it
    follows and to no other, and a `Gap` of the book makes it `SUSPECT` until the next snapshot.
    A `Gap` for a message that might have been any symbol's makes all books `SUSPECT`, each until
    its next message shows that it was not its own. While its connection is down, a book is `STALE`.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._down: set[int] = set()  # the legs that are not connected

    def __repr__(self) -> str:
        return f"<BookShelf {len(self._kept)} books>"

    def fold(self, events: Iterable[Event]) -> None:
        """Take in the next events; those that say nothing of books are passed over."""
        for event in events:
            match event:
                case BookDelta():
                    self._delta(event)
                case BookSnapshot():
                    self._snapshot(event)
                case Gap():
                    self._gap(event)
                case FeedStateChanged():
                    self._moved(event.leg, event.new)
                case TrustChanged():
                    kept = self._kept.get(event.symbol)
                    if kept is not None and kept.whole:
                        kept.trust = event.trust
                case _:
                    pass

    def top(self, symbol: str, *, depth: int | None = 10) -> BookTop | None:
        """The best `depth` levels (`None`: all) of each side; `None` if there was no snapshot yet.

        Raises `ValueError` for a negative depth.
        """
        kept = self._kept.get(symbol)
        if kept is None:
            return None
        last = kept.last
        bids, asks = kept.book.top(depth)
        return BookTop(
            symbol=symbol,
            bids=bids,
            asks=asks,
            trust=Trust.STALE if kept.leg in self._down else kept.trust,
            sequence=last.sequence,
            venue_time_ns=last.venue_time_ns,
            recv_ns=last.recv_ns,
            venue=last.venue,
            epoch=last.epoch,
        )

    def _snapshot(self, event: BookSnapshot) -> None:
        kept = self._kept.get(event.symbol)
        if kept is None:
            # The feed has bounded its depth already.
            kept = _Kept(OrderBook(event.symbol, limit=sys.maxsize), event, event.trust)
        try:
            kept.book.replace(event.bids, event.asks)
        except BookError:
            self._broken(kept)
            return
        self._kept[event.symbol] = kept
        kept.last, kept.trust = event, event.trust
        kept.whole = event.trust is not Trust.SUSPECT  # one that is stale may be gone on with
        kept.leg = event.leg

    def _delta(self, event: BookDelta) -> None:
        kept = self._kept.get(event.symbol)
        if kept is None or not kept.whole:
            return
        last = kept.last.sequence
        if _is_older(event, last):
            return
        follows = last is None or event.previous is None or event.previous == last
        if not follows or event.trust not in _FIT:
            self._broken(kept)
            return
        try:
            kept.book.apply(event.bids, event.asks)
        except BookError:
            self._broken(kept)
            return
        kept.last, kept.trust = event, event.trust

    def _gap(self, gap: Gap) -> None:
        if gap.symbol is not None:
            kept = self._kept.get(gap.symbol)
            if gap.of_book and kept is not None:
                self._broken(kept)
            return
        for kept in self._of_leg(gap.leg):
            if gap.of_book:
                self._broken(kept)
            else:
                kept.trust = Trust.SUSPECT

    def _moved(self, leg: int, state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            self._down.discard(leg)
            return
        self._down.add(leg)
        for kept in self._of_leg(leg):
            self._broken(kept)  # the next connection begins with a snapshot

    def _of_leg(self, leg: int | None) -> list[_Kept]:
        """The books that come on that connection; all, where it is not known."""
        return [kept for kept in self._kept.values() if leg is None or kept.leg == leg]

    def _broken(self, kept: _Kept) -> None:
        kept.whole, kept.trust = False, Trust.SUSPECT


def _is_older(event: BookDelta, last: int | None) -> bool:
    """Whether the book has it already; a delta that builds on the last one never is."""
    number = event.sequence
    return number is not None and last is not None and number <= last and event.previous != last
