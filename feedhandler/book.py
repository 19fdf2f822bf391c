"""The order book of one symbol: exact, sorted, never crossed, and bounded.

It knows levels and nothing of sequences or trust: what a message means for it is decided by
`feedhandler._core.resync`. Prices and sizes are `Decimal`s with the digits that were last sent.

The structure was chosen by measurement on recorded books (``benchmarks/books.py``): a side is a
list of short sorted blocks of prices, beside them the levels. A new `Decimal` takes longer to hash
than a binary search in a thousand takes, so nothing is hashed; and no change moves more than
one short block, however deep the book.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from itertools import chain, islice, repeat
from operator import itemgetter, lt

from attrs import frozen

from feedhandler.errors import BookError, BookTooDeep, CrossedBook
from feedhandler.model import CountedLevel, Level, Side, Trust

__all__ = ["MAX_LEVELS", "BookTop", "OrderBook"]

MAX_LEVELS = 65_536  # on one side, unless told otherwise

_BLOCK = 128  # levels of a new block
_FULL = 2 * _BLOCK  # of more it becomes two

# Sums and differences keep every digit, where the default context would round to 28.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
_HALF = Decimal("0.5")
_ZERO = Decimal(0)
_INFINITY = Decimal("Infinity")
_SEQUENCES = (tuple, list)
_price, _size = itemgetter(0), itemgetter(1)


class _Ladder:
    """One side, lowest price first: blocks of prices, and in `rows` the level of each.

    `fences` has one price fewer than there are blocks. Block `n` is below ``fences[n]``, and block
    ``n + 1`` is not; that a fence's own price has gone is of no matter. No block is empty but the
    only one. `count` is the number of levels.
    """

    __slots__ = ("count", "fences", "prices", "rows")

    def __init__(self) -> None:
        self.fences: list[Decimal] = []
        self.prices: list[list[Decimal]] = [[]]
        self.rows: list[list[Level]] = [[]]
        self.count = 0

    def fill(self, symbol: str, levels: Iterable[Level]) -> None:
        """Take `levels`, while there are none yet; fast where they are in order, either way up."""
        rows = [*levels]
        prices = [*map(_price, rows)]
        sizes = [*map(_size, rows)]
        try:
            if rows and prices[0] > prices[-1]:
                prices.reverse()
                downwards = True
            else:
                downwards = False
            in_order = (
                all(map(lt, prices, islice(prices, 1, None)))
                and all(_ZERO < price < _INFINITY for price in (*prices[:1], *prices[-1:]))
                and all(map(lt, repeat(_ZERO), sizes))
                and all(map(lt, sizes, repeat(_INFINITY)))
            )
        except InvalidOperation:
            in_order = downwards = False  # `merge()` says which of them is not a number
        if not in_order:
            self.merge(symbol, rows, [])
            return
        if downwards:
            rows.reverse()
        if not rows:
            return
        starts = range(0, len(rows), _BLOCK)
        self.rows = [rows[start : start + _BLOCK] for start in starts]
        self.prices = [prices[start : start + _BLOCK] for start in starts]
        self.fences = [prices[start] for start in starts[1:]]
        self.count = len(rows)

    def merge(self, symbol: str, levels: Sequence[Level], replaced: list[Level | None]) -> None:
        """Set each level, or end it where its size is 0; what was there is added to `replaced`.

        Raises `BookError` for what is no level, with those before it set.
        """
        fences, blocks, rows_of = self.fences, self.prices, self.rows
        count = self.count
        note = replaced.append
        zero, infinity = _ZERO, _INFINITY
        block = 0
        prices, rows = blocks[0], rows_of[0]
        level = None
        try:
            for level in levels:
                price, size = level
                if fences:
                    block = bisect_right(fences, price)
                    prices, rows = blocks[block], rows_of[block]
                at = bisect_right(prices, price)
                # A price that is there is a right one. The comparisons are false for a NaN, or
                # raise, as the context's traps say.
                if at and prices[at - 1] == price:
                    at -= 1
                    if zero < size < infinity:
                        note(rows[at])
                        rows[at] = level
                        prices[at] = price  # or two of the same would be kept
                    elif not size:
                        note(rows[at])
                        count -= 1
                        del prices[at], rows[at]
                        if not prices and fences:
                            self._drop(block)
                            block = 0
                            prices, rows = blocks[0], rows_of[0]
                    else:
                        raise _no_level(symbol, level)
                elif not zero < price < infinity:
                    raise _no_level(symbol, level)
                elif zero < size < infinity:
                    note(None)
                    count += 1
                    prices.insert(at, price)
                    rows.insert(at, level)
                    if len(prices) > _FULL:
                        self._halve(block)
                elif not size:
                    note(None)
                else:
                    raise _no_level(symbol, level)
        except InvalidOperation:
            raise _no_level(symbol, level) from None
        finally:
            self.count = count

    def restore(self, levels: Sequence[Level], replaced: list[Level | None]) -> None:
        """Undo a `merge()` of `levels`, which may have ended early."""
        done = [
            Level(level[0], _ZERO) if old is None else old
            for level, old in zip(levels, replaced, strict=False)
        ]
        self.merge("", done[::-1], [])

    def get(self, price: Decimal) -> Level | None:
        """The level at `price`."""
        block = bisect_right(self.fences, price)
        at = bisect_right(self.prices[block], price)
        return self.rows[block][at - 1] if at and self.prices[block][at - 1] == price else None

    def cut_lowest(self, excess: int) -> list[Level]:
        """Let go of the `excess` lowest levels; returns them, lowest first."""
        gone: list[Level] = []
        while len(gone) < excess:
            some = excess - len(gone)
            gone += self.rows[0][:some]
            del self.rows[0][:some], self.prices[0][:some]
            if not self.rows[0] and self.fences:
                self._drop(0)
        self.count -= len(gone)
        return gone

    def cut_highest(self, excess: int) -> list[Level]:
        """Let go of the `excess` highest levels; returns them, highest first."""
        gone: list[Level] = []
        while len(gone) < excess:
            rows = self.rows[-1]
            keep = max(len(rows) - (excess - len(gone)), 0)
            gone += reversed(rows[keep:])
            del rows[keep:], self.prices[-1][keep:]
            if not rows and self.fences:
                self._drop(len(self.fences))
        self.count -= len(gone)
        return gone

    def _drop(self, block: int) -> None:
        """Forget an empty block, and the fence on one side of it."""
        del self.prices[block], self.rows[block], self.fences[block - 1 if block else 0]

    def _halve(self, block: int) -> None:
        prices, rows = self.prices[block], self.rows[block]
        half = len(prices) // 2
        self.fences.insert(block, prices[half])
        self.prices.insert(block + 1, prices[half:])
        self.rows.insert(block + 1, rows[half:])
        del prices[half:], rows[half:]


class _Counted(Level):
    """A level of which it is known of how many `orders` it is made up."""

    orders: int  # kept here, so that books without counts pay nothing for them


class OrderBook:
    """The order book of `symbol`, with at most `limit` levels on each side.

    At all times it is sorted, its best bid is below its best ask, and no level is empty: what would
    break that raises `BookError` and changes nothing. The best bid and ask cost O(1), and a change
    of a level a binary search.
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
            f"levels={self._bids.count}+{self._asks.count}>"
        )

    # --- changing it ---

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Take `bids` and `asks`, in any order, for the whole book. Raises as `apply()` does.

        It is fastest with sides that are in order, from the best or from the worst.
        """
        new_bids, new_asks = _Ladder(), _Ladder()
        for ladder, levels in ((new_bids, bids), (new_asks, asks)):
            ladder.fill(self.symbol, levels)
            if ladder.count > self.limit:
                raise BookTooDeep(self.symbol, self.limit)
        high, low = new_bids.prices[-1], new_asks.prices[0]
        if high and low and high[-1] >= low[0]:
            raise CrossedBook(self.symbol, high[-1], low[0])
        self._bids, self._asks = new_bids, new_asks

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set each level to its size; a size of 0 ends it, and one that is not there stays away.

        Raises `CrossedBook`, `BookTooDeep`, or `BookError` for what is no price or size, and then
        changes nothing.
        """
        # The hot path of every venue: each call less is felt where a delta has a single level.
        if not isinstance(bids, _SEQUENCES):
            bids = tuple(bids)
        if not isinstance(asks, _SEQUENCES):
            asks = tuple(asks)
        bid_side, ask_side = self._bids, self._asks
        old_bids: list[Level | None] = []
        old_asks: list[Level | None] = []
        try:
            if bids:
                bid_side.merge(self.symbol, bids, old_bids)
                if bid_side.count > self.limit:
                    raise BookTooDeep(self.symbol, self.limit)
            if asks:
                ask_side.merge(self.symbol, asks, old_asks)
                if ask_side.count > self.limit:
                    raise BookTooDeep(self.symbol, self.limit)
            high, low = bid_side.prices[-1], ask_side.prices[0]
            if high and low and high[-1] >= low[0]:
                raise CrossedBook(self.symbol, high[-1], low[0])
        except BaseException:
            bid_side.restore(bids, old_bids)
            ask_side.restore(asks, old_asks)
            raise

    def apply_by_count(self, bids: Iterable[CountedLevel], asks: Iterable[CountedLevel]) -> None:
        """As `apply()`, for a venue that ends a level by a count of 0, whatever its size then is.

        Raises as `apply()` does, and `BookError` for a count below 0, or orders without a size.
        """
        symbol = self.symbol
        self.apply(
            [_by_count(symbol, one) for one in bids], [_by_count(symbol, one) for one in asks]
        )

    def truncate(self, n: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Let go of what is beyond the best `n` levels; returns those bids and asks, best first.

        Costs O(1) while there are no more than `n`. Raises `ValueError` for a negative `n`.
        """
        if n < 0:
            raise ValueError(f"{n} is no depth; to empty a book, use truncate(0)")
        bids, asks = self._bids, self._asks
        gone_bids = bids.cut_lowest(bids.count - n) if bids.count > n else ()
        gone_asks = asks.cut_highest(asks.count - n) if asks.count > n else ()
        return tuple(reversed(gone_bids)), tuple(reversed(gone_asks))

    # --- reading it ---

    @property
    def best_bid(self) -> Level | None:
        rows = self._bids.rows[-1]
        return rows[-1] if rows else None

    @property
    def best_ask(self) -> Level | None:
        rows = self._asks.rows[0]
        return rows[0] if rows else None

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
        return self._bids.count, self._asks.count

    def bids(self) -> Iterator[Level]:
        """The bids from the best on; not to be used beyond the next change."""
        return chain.from_iterable(map(reversed, reversed(self._bids.rows)))

    def asks(self) -> Iterator[Level]:
        """The asks from the best on; not to be used beyond the next change."""
        return chain.from_iterable(self._asks.rows)

    def cumulative_size(self, side: Side, price: Decimal) -> Decimal:
        """The exact sum of the sizes on `side` (`BUY`: bids) at `price` or better."""
        total = _ZERO
        for level in self.bids() if side is Side.BUY else self.asks():
            if level.price < price if side is Side.BUY else level.price > price:
                break
            total = _EXACT.add(total, level.size)
        return total

    def order_count(self, side: Side, price: Decimal) -> int | None:
        """Of how many orders the level at `price` on `side` (`BUY`: bids) is made up.

        `None` where there is no level, or where `apply_by_count()` was not what set it last.
        """
        level = (self._bids if side is Side.BUY else self._asks).get(price)
        return level.orders if isinstance(level, _Counted) else None

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


def _by_count(symbol: str, one: CountedLevel) -> Level:
    price, count, size = one
    if count == 0:
        return Level(price, _ZERO)
    if count < 0 or not size:
        raise BookError(f"{symbol}: {count} orders of {size} at {price} are no level")
    level = _Counted(price, size)
    level.orders = count
    return level


def _no_level(symbol: str, level: Level | None) -> BookError:
    return BookError(
        f"{symbol}: no level"
        if level is None
        else f"{symbol}: {level.size} at {level.price} is no level"
    )


def _spread(bid: Level | None, ask: Level | None) -> Decimal | None:
    return None if bid is None or ask is None else _EXACT.subtract(ask.price, bid.price)


def _mid(bid: Level | None, ask: Level | None) -> Decimal | None:
    if bid is None or ask is None:
        return None
    return _EXACT.multiply(_EXACT.add(bid.price, ask.price), _HALF)
