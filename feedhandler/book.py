"""The order book of one symbol: exact, sorted, never crossed, and bounded.

It knows levels and nothing of sequences or trust: what a message means for it is decided by
`feedhandler._core.resync`. Prices and sizes are `Decimal`s with the digits that were last sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact
from itertools import islice

from attrs import frozen

from feedhandler.errors import BookError, BookTooDeep, CrossedBook
from feedhandler.model import Level, Side, Trust

__all__ = ["MAX_LEVELS", "BookTop", "OrderBook"]

MAX_LEVELS = 65_536  # on one side, unless told otherwise

# Sums and differences keep every digit, where the default context would round to 28.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
_HALF = Decimal("0.5")


class _Ladder:
    """One side: each level by its price, and the prices in order, lowest first."""

    __slots__ = ("levels", "prices")

    def __init__(self) -> None:
        self.levels: dict[Decimal, Level] = {}
        self.prices: list[Decimal] = []

    def set(self, level: Level) -> Level | None:
        """Put `level` in, or end it where its size is 0; returns what was at its price."""
        price, size = level
        levels = self.levels
        if size:
            old = levels.get(price)
            levels[price] = level
            if old is None:
                self.prices.insert(bisect_left(self.prices, price), price)
            return old
        old = levels.pop(price, None)
        if old is not None:
            del self.prices[bisect_left(self.prices, price)]
        return old


class OrderBook:
    """The order book of `symbol`, with at most `limit` levels on each side.

    At all times it is sorted, its best bid is below its best ask, and no level is empty: what would
    break that raises `BookError` and changes nothing. The best bid and ask cost O(1), a change of a
    level a binary search and the shift of a list.
    """

    def __init__(self, symbol: str, *, limit: int = MAX_LEVELS) -> None:
        self.symbol = symbol
        self.limit = limit
        self._bids = _Ladder()
        self._asks = _Ladder()

    def __repr__(self) -> str:
        bid, ask = self.best_bid, self.best_ask
        return (
            f"<OrderBook {self.symbol} bid={bid and bid.price} ask={ask and ask.price} "
            f"levels={len(self._bids.prices)}+{len(self._asks.prices)}>"
        )

    # --- changing it ---

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Take `bids` and `asks`, in any order, for the whole book. Raises as `apply()` does."""
        before = self._bids, self._asks
        self._bids, self._asks = _Ladder(), _Ladder()
        try:
            self.apply(bids, asks)
        except BookError:
            self._bids, self._asks = before
            raise

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set each level to its size; a size of 0 ends it, and one that is not there stays away.

        Raises `CrossedBook`, `BookTooDeep`, or `BookError` for what is no price or size, and then
        changes nothing.
        """
        undo: list[tuple[_Ladder, Level]] = []
        try:
            for ladder, levels in ((self._bids, bids), (self._asks, asks)):
                for level in levels:
                    _check(self.symbol, level)
                    old = ladder.set(level)
                    undo.append((ladder, old or Level(level.price, Decimal(0))))
                if len(ladder.prices) > self.limit:
                    raise BookTooDeep(self.symbol, self.limit)
            bid, ask = self.best_bid, self.best_ask
            if bid is not None and ask is not None and bid.price >= ask.price:
                raise CrossedBook(self.symbol, bid.price, ask.price)
        except BookError:
            for ladder, old in reversed(undo):
                ladder.set(old)
            raise

    def truncate(self, n: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Let go of the levels beyond the best `n` of each side; returns them, bids and asks."""
        if len(self._bids.prices) <= n and len(self._asks.prices) <= n:
            return (), ()
        gone = tuple(islice(self.bids(), n, None)), tuple(islice(self.asks(), n, None))
        for ladder, levels in zip((self._bids, self._asks), gone, strict=True):
            for level in levels:
                ladder.set(Level(level.price, Decimal(0)))
        return gone

    # --- reading it ---

    @property
    def best_bid(self) -> Level | None:
        prices = self._bids.prices
        return self._bids.levels[prices[-1]] if prices else None

    @property
    def best_ask(self) -> Level | None:
        prices = self._asks.prices
        return self._asks.levels[prices[0]] if prices else None

    @property
    def spread(self) -> Decimal | None:
        """Best ask less best bid, exactly; `None` while a side is empty."""
        return _spread(self.best_bid, self.best_ask)

    @property
    def mid(self) -> Decimal | None:
        """The middle of best bid and best ask, exactly; `None` while a side is empty."""
        return _mid(self.best_bid, self.best_ask)

    @property
    def depth(self) -> tuple[int, int]:
        """How many levels there are: of bids, of asks."""
        return len(self._bids.prices), len(self._asks.prices)

    def bids(self) -> Iterator[Level]:
        """The bids from the best on; not to be used beyond the next change."""
        return map(self._bids.levels.__getitem__, reversed(self._bids.prices))

    def asks(self) -> Iterator[Level]:
        """The asks from the best on; not to be used beyond the next change."""
        return map(self._asks.levels.__getitem__, self._asks.prices)

    def cumulative_size(self, side: Side, price: Decimal) -> Decimal:
        """The exact sum of the sizes on `side` (`BUY`: bids) at `price` or better."""
        if side is Side.BUY:
            ladder, better = self._bids, slice(bisect_left(self._bids.prices, price), None)
        else:
            ladder, better = self._asks, slice(bisect_right(self._asks.prices, price))
        total = Decimal(0)
        for one in ladder.prices[better]:
            total = _EXACT.add(total, ladder.levels[one].size)
        return total

    def top(self, n: int | None = None) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """A copy of the best `n` levels (`None`: all) of bids and asks, best first."""
        return tuple(islice(self.bids(), n)), tuple(islice(self.asks(), n))


@frozen
class BookTop:
    """The top of a symbol's book as it was after message `sequence`, and how far to trust it.

    `bids` and `asks` are the best levels, best first. The times and `epoch` are those of the newest
    event that it was made from.
    """

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    trust: Trust
    sequence: int | None
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int

    @property
    def best_bid(self) -> Level | None:
        return self.bids[0] if self.bids else None

    @property
    def best_ask(self) -> Level | None:
        return self.asks[0] if self.asks else None

    @property
    def spread(self) -> Decimal | None:
        """Best ask less best bid, exactly; `None` while a side is empty."""
        return _spread(self.best_bid, self.best_ask)

    @property
    def mid(self) -> Decimal | None:
        """The middle of best bid and best ask, exactly; `None` while a side is empty."""
        return _mid(self.best_bid, self.best_ask)


def _check(symbol: str, level: Level) -> None:
    price, size = level
    # The comparisons raise for a NaN that signals; infinities are larger than every amount.
    if not (price.is_finite() and size.is_finite() and price > 0 and size >= 0):
        raise BookError(f"{symbol}: {size} at {price} is no level")


def _spread(bid: Level | None, ask: Level | None) -> Decimal | None:
    return None if bid is None or ask is None else _EXACT.subtract(ask.price, bid.price)


def _mid(bid: Level | None, ask: Level | None) -> Decimal | None:
    if bid is None or ask is None:
        return None
    return _EXACT.multiply(_EXACT.add(bid.price, ask.price), _HALF)
