"""The order books that a feed has at present: its session's, as far as they may be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from feedhandler.abc import BookSession, Session
from feedhandler.model import BookDelta, BookSnapshot, Event

__all__ = ["FeedBooks"]

_DATA = (BookSnapshot, BookDelta)


class FeedBooks:
    """The books of the session that serves the feed.

    After a roll-over a book may be `behind` what the connection before has told: then it is not
    told before it has come as far, so that no reader's book goes back in time.
    """

    def __init__(self) -> None:
        self._session: BookSession | None = None
        self._behind: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<FeedBooks behind={len(self._behind)}>"

    def use(self, session: Session, *, behind: Mapping[str, int] | None = None) -> None:
        """Another session serves the feed from now on."""
        self._session = session if isinstance(session, BookSession) else None
        self._behind = dict(behind or {})

    def last_sequence(self, symbol: str) -> int | None:
        return None if self._session is None else self._session.last_book_sequence(symbol)

    def image(self, symbol: str) -> BookSnapshot | None:
        """The symbol's book, if it is whole and not behind."""
        image = None if self._session is None else self._session.book_image(symbol)
        if image is None or (image.sequence or 0) < self._behind.get(symbol, 0):
            return None
        return image

    def images(self, symbols: Iterable[str]) -> list[BookSnapshot]:
        """Those of `symbols` that are whole, after all that was received."""
        images = [self.image(symbol) for symbol in symbols]
        return [image for image in images if image is not None]

    def without_steps_back(self, events: list[Event]) -> list[Event]:
        """`events`, with an image in place of the data of books that were further before."""
        behind = self._behind
        if not behind:
            return events
        told = {e.symbol for e in events if isinstance(e, _DATA) and e.symbol in behind}
        events = [e for e in events if not (isinstance(e, _DATA) and e.symbol in told)]
        images = self.images(sorted(told))
        for image in images:
            del behind[image.symbol]
        return [*events, *images]
