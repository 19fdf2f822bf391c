"""The order books of a connection to Bitfinex (sources: see `bitfinex`)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any

from feedhandler._core.books import SessionBooks
from feedhandler._core.levels import book_side, strict_side
from feedhandler._core.resync import SyncState
from feedhandler._core.validators import BookMessage, ByConnection, Unchecked
from feedhandler.abc import Control, Ignored, Subscription
from feedhandler.book import OrderBook
from feedhandler.codec import check_amount
from feedhandler.errors import DecodeError
from feedhandler.model import BookSnapshot, Event, GapReason, Level

__all__ = ["BitfinexBooks", "BookChecksum", "decimal_of"]

_CHECKED = 25  # levels of each side that the checksum covers
_REMEMBERED = 8192  # levels whose text is kept
_MAX_CROSSED = 32  # frames that a book may stay crossed for
_ENDED = Decimal(0)


class BookChecksum:
    """CRC-32, signed, over ``price:amount`` of the best 25 levels: bid, ask, bid, ask, and so on.

    Amounts of asks are negative, and a side that has fewer levels is left out where it ends. The
    numbers are those on the wire, which JavaScript has written: with an exponent below 1e-6.
    """

    def __init__(self) -> None:
        # By identity, as most of the best levels are those of the time before. What is kept here
        # lives, so no other level can have its identity.
        self._texts: dict[int, tuple[Level, str]] = {}

    def __repr__(self) -> str:
        return f"<BookChecksum {len(self._texts)} levels known>"

    def __call__(self, book: OrderBook) -> int:
        known = self._texts
        if len(known) > _REMEMBERED:
            known.clear()
        texts: list[str] = []
        sides = (islice(book.bids(), _CHECKED), islice(book.asks(), _CHECKED))
        for pair in zip_longest(*sides):
            for level, sign in zip(pair, ("", "-"), strict=True):
                if level is not None:
                    found = known.get(id(level))
                    if found is None:
                        # Python and JavaScript begin to use an exponent at the same magnitude.
                        text = f"{level.price!s}:{sign}{level.size!s}".lower()
                        found = known[id(level)] = level, text
                    texts.append(found[1])
        check = zlib.crc32(":".join(texts).encode())
        return check - 2**32 if check >= 2**31 else check


class BitfinexBooks:
    """The books of one connection: by its sequence, and whenever a checksum comes, by that too.

    Without a sequence (`sequenced` is false) nothing shows that a message is missing until the next
    checksum, so such books are `UNVERIFIABLE`.

    A frame changes one level. Where an order that trades is seen before what it takes away has
    ended, the two sides cross between two frames: such a delta waits for those that uncross the
    book, and all become one.
    """

    def __init__(self, venue: str, *, sequenced: bool) -> None:
        self._venue = venue
        self._crossed: dict[str, list[BookMessage]] = {}
        self._checksum = BookChecksum()
        self._books = SessionBooks(
            venue,
            validator=ByConnection() if sequenced else Unchecked(),
            checksum=self._checksum,
        )

    def image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def forget(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            if subscription.channel == "book":
                self._crossed.pop(subscription.symbol, None)
        self._books.forget(subscriptions)

    def interrupted(self, *, recv_ns: int, epoch: int) -> Sequence[Event | Control]:
        self._crossed.clear()
        return self._books.interrupted(GapReason.SEQUENCE, recv_ns=recv_ns, epoch=epoch)

    def take(
        self,
        symbol: str,
        payload: Sequence[Any],
        message: str | bytes,
        *,
        bulk: bool,
        time_ns: int | None,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control]:
        """A list of levels is a snapshot, one level a delta.

        With `bulk` a list of levels is a delta as well: the channel has sent its snapshot.
        """
        whole = not payload or isinstance(payload[0], list)
        is_snapshot = whole and not bulk
        bids: list[Level] = []
        asks: list[Level] = []
        problems: list[tuple[str, str]] = []
        for i, row in enumerate(payload if whole else (payload,)):
            try:
                level, is_bid = _level(row, is_snapshot)
            except ValueError as wrong:
                problems.append((f"$[1][{i}]" if whole else "$[1]", str(wrong)))
            else:
                (bids if is_bid else asks).append(level)
        delta = not is_snapshot
        right_bids = book_side(bids, down=True, delta=delta)
        right_asks = book_side(asks, down=False, delta=delta)
        if right_bids is None or right_asks is None:
            right_bids = strict_side(
                [[*level] for level in bids], down=True, delta=delta, path="$[1]", problems=problems
            )
            right_asks = strict_side(
                [[*level] for level in asks],
                down=False, delta=delta, path="$[1]", problems=problems,
            )  # fmt: skip
        if problems:
            self._crossed.pop(symbol, None)
            error = DecodeError(self._venue, message, problems[:20])
            return self._books.malformed(
                error, symbol, is_snapshot=is_snapshot, recv_ns=recv_ns, epoch=epoch
            )
        book = BookMessage(is_snapshot, right_bids, right_asks, time_ns, recv_ns, epoch)
        if is_snapshot:
            self._crossed.pop(symbol, None)
            return self._books.take(symbol, book)
        return self._delta(symbol, book)

    def _delta(self, symbol: str, book: BookMessage) -> Sequence[Event | Control]:
        sync, waiting = self._books.get(symbol), self._crossed.get(symbol)
        if sync is None or sync.state is not SyncState.SYNCED:
            return self._books.take(symbol, book)
        if waiting is not None:
            waiting.append(book)
            book = _as_one(waiting)
        if _crosses(sync.book, book) and len(waiting or ()) < _MAX_CROSSED:
            self._crossed.setdefault(symbol, [book])
            return [Ignored("delta that waits for the book to uncross")]
        self._crossed.pop(symbol, None)
        return self._books.take(symbol, book)

    def check(
        self, symbol: str, check: object, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Compare the venue's checksum with the book as it is now; says only where it is wrong."""
        if type(check) is not int:
            told = f"expected a checksum, got {check!r:.40}"
            error = DecodeError(self._venue, message, [("$[2]", told)])
            return self._books.malformed(
                error, symbol, is_snapshot=False, recv_ns=recv_ns, epoch=epoch
            )
        sync = self._books.get(symbol)
        if sync is None or sync.state is not SyncState.SYNCED:
            return [Ignored("checksum of a book that is not whole")]
        waiting = self._crossed.pop(symbol, None)
        if waiting is not None:  # what is crossed by now is wrong
            return self._books.take(symbol, _as_one(waiting))
        if self._checksum(sync.book) == check:
            return []
        # A delta without a level: what it finds wrong is what is wrong already.
        book = BookMessage(False, (), (), None, recv_ns, epoch, checksum=check)
        return self._books.take(symbol, book)


def _as_one(deltas: Sequence[BookMessage]) -> BookMessage:
    """One delta that does what these do, in order."""
    last = deltas[-1]
    bids = {level.price: level for delta in deltas for level in delta.bids}
    asks = {level.price: level for delta in deltas for level in delta.asks}
    return BookMessage(
        False,
        tuple(sorted(bids.values(), reverse=True)),
        tuple(sorted(asks.values())),
        last.time_ns,
        last.recv_ns,
        last.epoch,
    )


def _crosses(book: OrderBook, delta: BookMessage) -> bool:
    """Whether the book would be crossed after `delta`."""
    best_bid, best_ask = book.best_bid, book.best_ask
    bid = next((level.price for level in delta.bids if level.size), None)
    ask = next((level.price for level in delta.asks if level.size), None)
    if bid is None and ask is None:  # nothing is added
        return False
    ended_bids = {level.price for level in delta.bids if not level.size}
    ended_asks = {level.price for level in delta.asks if not level.size}
    if ended_bids:
        best_bid = next((level for level in book.bids() if level.price not in ended_bids), None)
    if ended_asks:
        best_ask = next((level for level in book.asks() if level.price not in ended_asks), None)
    bids = [price for price in (bid, best_bid and best_bid.price) if price is not None]
    asks = [price for price in (ask, best_ask and best_ask.price) if price is not None]
    return bool(bids and asks) and max(bids) >= min(asks)


def decimal_of(value: object) -> Decimal:
    """A JSON number, exactly, whatever its sign. Raises `ValueError`."""
    if type(value) is int:
        return Decimal(value)
    if type(value) is not Decimal:
        raise ValueError(f"expected a number, got {value!r:.40}")
    return value


def _level(row: object, is_snapshot: bool) -> tuple[Level, bool]:
    """A level, and whether it is a bid, from price, count of orders, and signed amount."""
    if not isinstance(row, list) or len(row) < 3:
        raise ValueError("expected price, count and amount")
    price, count, amount = check_amount(decimal_of(row[0])), row[1], decimal_of(row[2])
    size = check_amount(amount.copy_abs())
    if type(count) is not int or count < 0:
        raise ValueError(f"expected a count, got {count!r:.40}")
    if not size or not price:
        raise ValueError("a price or an amount of 0")
    if count == 0:
        if is_snapshot:
            raise ValueError("a count of 0 in a snapshot")
        size = _ENDED
    return Level(price, size), amount > 0
