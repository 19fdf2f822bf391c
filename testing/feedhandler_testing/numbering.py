"""Which plain message an event is of, where the venue has numbers of its own."""

from __future__ import annotations

import zlib
from collections import deque
from decimal import Decimal

from attrs import define, evolve, field

from feedhandler_testing.dialect import Dialect
from feedhandler_testing.trace import BookTold, Made, Record

__all__ = ["BookSides", "Numbering"]

_KEPT = 4_096  # states of a book, of which a subject may still tell


@define
class BookSides:
    """A book as a subject has told it so far: size by price, digit for digit."""

    bids: dict[str, str] = field(factory=dict)
    asks: dict[str, str] = field(factory=dict)

    def take(self, told: BookTold) -> None:
        if told.whole:
            self.bids, self.asks = {}, {}
        for side, levels in ((self.bids, told.bids), (self.asks, told.asks)):
            for price, size in (level.split(":") for level in levels):
                if Decimal(size):
                    side[price] = size
                else:
                    side.pop(price, None)

    @property
    def checksum(self) -> int:
        """That of `MockBook.checksum`, of which `trace.Made` tells."""
        bids = sorted(self.bids, key=Decimal, reverse=True)[:10]
        asks = sorted(self.asks, key=Decimal)[:10]
        best = [*((p, self.bids[p]) for p in bids), *((p, self.asks[p]) for p in asks)]
        return zlib.crc32("|".join(f"{price}:{size}" for price, size in best).encode())


@define
class Numbering:
    """Gives the events of books the number of the plain message that they are of.

    Where the venue's own number does not tell, a book is known by its ten best levels: the number
    is that of a message after which the venue's book had them, the one that follows the last if it
    is among these, and `None` if there is none.
    """

    dialect: Dialect
    _made: dict[str, deque[tuple[int, int]]] = field(factory=dict)
    _sides: dict[str, BookSides] = field(factory=dict)
    _last: dict[str, int] = field(factory=dict)

    def made(self, record: Made) -> None:
        """The venue's book has changed."""
        states = self._made.setdefault(record.symbol, deque(maxlen=_KEPT))
        states.append((record.number, record.checksum))

    def told(self, record: Record) -> Record:
        """What a subject has told, with the plain number."""
        if not isinstance(record, BookTold):
            return record
        if self.dialect.means.numbered_books:
            number = self.dialect.book_number(record.symbol, record.number)
            return evolve(record, number=number)
        return evolve(record, number=self._by_levels(record))

    def _by_levels(self, record: BookTold) -> int | None:
        sides = self._sides.setdefault(record.symbol, BookSides())
        sides.take(record)
        checksum = sides.checksum
        numbers = [n for n, known in self._made.get(record.symbol, ()) if known == checksum]
        if not numbers:
            return None
        last = self._last.get(record.symbol, -1)
        later = [n for n in numbers if n > last]
        self._last[record.symbol] = number = later[0] if later else numbers[-1]
        return number
