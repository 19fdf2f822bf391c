"""Which trades a feed has told last, so that a new connection does not tell them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from feedhandler.model import Event, Quote, Trade

__all__ = ["Tape"]

_REMEMBERED = 512  # trades of a symbol; venues repeat at most some 100 when one subscribes


class Tape:
    """The newest trades and the newest quote of each symbol, as they were told.

    Venues repeat recent trades when somebody subscribes, and two connections deliver the same for a
    while in a roll-over. After `turn()` a trade that was told before is a repetition: its id is not
    higher than the highest, where ids are numbers, and otherwise it is among the last 512. What is
    timed later than all that was told is none, whatever its id: a venue may count from the start.
    """

    def __init__(self) -> None:
        self._told: dict[str, deque[Hashable]] = {}
        self._highest: dict[str, int] = {}
        self._quotes: dict[str, Quote] = {}
        self._known: dict[str, frozenset[Hashable]] = {}
        self._floor: dict[str, int] = {}
        self._until_ns: dict[str, int] = {}  # the latest time of a trade that was told before
        self._newest_ns: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Tape {len(self._told)} symbols>"

    def note(self, events: Iterable[Event]) -> None:
        """These have been told."""
        for event in events:
            if type(event) is Trade:
                told = self._told.get(event.symbol)
                if told is None:
                    told = self._told[event.symbol] = deque(maxlen=_REMEMBERED)
                told.append(_key(event))
                time_ns = event.venue_time_ns
                if time_ns is not None and time_ns > self._newest_ns.get(event.symbol, -1):
                    self._newest_ns[event.symbol] = time_ns
            elif type(event) is Quote:
                self._quotes[event.symbol] = event

    def turn(self) -> None:
        """Another connection follows: what was told until now may come again."""
        self._until_ns = dict(self._newest_ns)
        for symbol, told in self._told.items():
            self._known[symbol] = frozenset(told)
            numbers = [key for key in told if isinstance(key, int)]
            if numbers:
                self._floor[symbol] = max(numbers)

    def without_repetitions(self, events: list[Event]) -> list[Event]:
        """`events` without the trades that were told before the last `turn()`."""
        if not self._known:
            return events
        return [e for e in events if type(e) is not Trade or not self._repeats(e)]

    def knows_quote(self, quote: Quote) -> bool:
        """Whether the symbol's newest quote says the same."""
        told = self._quotes.get(quote.symbol)
        return told is not None and _top(told) == _top(quote)

    def _repeats(self, trade: Trade) -> bool:
        known = self._known.get(trade.symbol)
        if known is None:
            return False
        time_ns, until_ns = trade.venue_time_ns, self._until_ns.get(trade.symbol)
        if time_ns is not None and until_ns is not None and time_ns > until_ns:
            return False
        key = _key(trade)
        floor = self._floor.get(trade.symbol)
        if floor is not None and isinstance(key, int):
            return key <= floor
        return key in known


def _key(trade: Trade) -> Hashable:
    """The trade's id, as a number where it is one; all that is known of it where it has none."""
    name = trade.trade_id
    if name is None:
        return trade.venue_time_ns, trade.price, trade.size, trade.side
    return int(name) if name.isdecimal() and len(name) < 20 else name


def _top(quote: Quote) -> tuple[object, ...]:
    return quote.bid, quote.bid_size, quote.ask, quote.ask_size
