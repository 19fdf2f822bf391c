"""Two connections that deliver the same for a while: what the newer one brings waits here.

Until the switch only the older one is heard. At the switch the newer one's events follow from where
the older one has come to: by the numbers of each symbol's sequence nothing is lost, nothing comes
twice, and the order is kept. Trades are told apart by their ids (`feedhandler._core.tape`), and of
quotes only the newest counts. Where prices have no such numbers, what both may have brought cannot
be told apart: the newer one's data before the switch is dropped, and a `Gap` says that the two ends
need not meet: something may be missing, or come twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from attrs import evolve, field, frozen

from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    DecodeFailed,
    Event,
    Gap,
    GapReason,
    PriceUpdate,
    Quote,
    Trade,
)

__all__ = ["Break", "Overlap"]


@frozen
class Break:
    """Data of `symbol` that is missing, or may be where `missing` is not known."""

    symbol: str
    from_sequence: int | None
    to_sequence: int | None
    missing: int | None = None
    of_book: bool = False


@frozen
class _Data:
    symbol: str
    sequence: int
    event: Event = field(repr=False)


class Overlap:
    """The newer connection's side. `reached` tells how far the older one has come in a symbol's
    sequence; `None` instead of it says that there are no sequences to go by.

    At most about `limit` events wait; `full` says that no more should be added for now.
    """

    def __init__(self, reached: Callable[[str], int | None] | None, *, limit: int) -> None:
        self._reached = reached
        self._limit = limit
        self._first: dict[str, int | None] = {}
        self._blind: set[str] = set()  # symbols whose data cannot be told apart
        self._quotes: dict[str, Quote] = {}
        self._held: deque[_Data | Event] = deque()
        self.duplicates = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def full(self) -> bool:
        return len(self._held) >= self._limit

    @property
    def symbols(self) -> Iterable[str]:
        """Those of which the newer connection has brought data."""
        return self._first

    def add(self, events: Iterable[Event]) -> None:
        """The newer connection has brought `events`."""
        numbered = self._reached is not None
        for event in events:
            match event:
                case PriceUpdate():
                    sequence = event.sequence if numbered else None
                    self._first.setdefault(event.symbol, sequence)
                    if sequence is None:
                        self._blind.add(event.symbol)
                        self.duplicates += 1
                    else:
                        self._held.append(_Data(event.symbol, sequence, event))
                case Trade():
                    self._first.setdefault(event.symbol, None)
                    self._held.append(event)
                case Quote():
                    self._first.setdefault(event.symbol, None)
                    self._quotes[event.symbol] = event
                case BookSnapshot() | BookDelta() | Gap(of_book=True):
                    pass  # at the switch comes the book as it is then
                case Gap(symbol=str(), reason=GapReason.SEQUENCE) if numbered:
                    self._held.append(event)
                case Gap() | DecodeFailed():
                    pass  # the numbers after it, or the Gap at the switch, will tell
                case _:
                    self._held.append(event)
        self.prune()
        if self.full:
            self._held = deque(item for item in self._held if not self._drop_known(item))

    def prune(self) -> None:
        """Let go of what the older connection has brought as well, from the front."""
        held = self._held
        while held and self._drop_known(held[0]):
            held.popleft()

    def is_level(self, symbol: str) -> bool:
        """Whether `symbol` can go on with the newer connection as if there had been only one."""
        if symbol not in self._first:
            return False
        first = self._first[symbol]
        if first is None:
            return True
        last = None if self._reached is None else self._reached(symbol)
        return last is not None and first <= last + 1

    def breaks(self, symbols: Iterable[str], *, lost: bool) -> Iterator[Break]:
        """What is, or may be, missing between the two if the switch is now.

        `lost` says that the older connection did not live to the switch.
        """
        for symbol in symbols:
            first = self._first.get(symbol)
            last = None if self._reached is None else self._reached(symbol)
            if symbol in self._blind or (self._blind and self._reached is None):
                yield Break(symbol, None, None)
                continue
            if first is not None and last is not None:
                if first > last + 1:
                    yield Break(symbol, last + 1, first - 1, first - 1 - last)
            elif lost:
                yield Break(
                    symbol,
                    None if last is None else last + 1,
                    None if first is None else first - 1,
                )

    def release(self) -> list[Event]:
        """The events that follow what the older connection has brought; nothing waits then."""
        held, self._held = self._held, deque()
        quotes, self._quotes = self._quotes, {}
        released: list[Event] = [*quotes.values()]
        for item in held:
            if self._drop_known(item):
                continue
            if isinstance(item, _Data):
                released.append(item.event)
            elif isinstance(item, Gap):
                released.append(self._rest_of(item))
            else:
                released.append(item)
        return released

    def _drop_known(self, item: _Data | Event) -> bool:
        """Whether the older connection has brought it, or has come past the hole that it tells.

        Data that is to be dropped for this is counted.
        """
        if not isinstance(item, _Data | Gap):
            return False
        last = self._last(item.symbol)
        if last is None:
            return False
        if isinstance(item, _Data):
            known = item.sequence <= last
            self.duplicates += known
            return known
        # What came too late on the newer one, before its first, is told by the break there.
        first = self._first.get(item.symbol or "")
        end = item.to_sequence
        return end is not None and (end <= last or (first is not None and end < first))

    def _rest_of(self, gap: Gap) -> Gap:
        """The part of the hole that the older connection has not filled."""
        last = self._last(gap.symbol)
        begin, end = gap.from_sequence, gap.to_sequence
        if last is None or begin is None or end is None or begin > last:
            return gap
        return evolve(gap, from_sequence=last + 1, missing=end - last)

    def _last(self, symbol: str | None) -> int | None:
        return None if self._reached is None or symbol is None else self._reached(symbol)
