"""The order books of the plain price JSON: the part of `feedhandler.venues.price` that they need.

`price.py` documents the messages. Each level is ``["65000.10", "1.5"]``, price and size, as strings
or numbers; a price occurs once on a side, and only a delta has sizes of 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Annotated, Any, Literal

import msgspec
from attrs import frozen

from feedhandler._core.books import SessionBooks
from feedhandler._core.levels import book_side, strict_side
from feedhandler._core.resync import Item
from feedhandler._core.validators import BookMessage, ByCount
from feedhandler.abc import Malformed, Subscription
from feedhandler.book import OrderBook
from feedhandler.codec import (
    REFUSALS,
    FastDecoder,
    are_plain,
    parse_time_ns,
)
from feedhandler.errors import DecodeError
from feedhandler.model import BookSnapshot, Level

__all__ = ["BOOK_CHANNEL", "BOOK_KINDS", "VALIDATOR", "PriceBooks", "checksum"]

BOOK_CHANNEL = "book"
BOOK_KINDS = ("snapshot", "delta")
VALIDATOR = ByCount(checked=True)
_CHECKED = 10  # levels of each side that the checksum covers
_MAX_CHECKSUM = 2**32 - 1


def checksum(book: OrderBook) -> int:
    """CRC-32 over ``price:size`` of the best 10 bids and then asks, joined with ``|``.

    Both are in plain notation, without an exponent, with the digits that were last sent.
    """
    levels = chain(islice(book.bids(), _CHECKED), islice(book.asks(), _CHECKED))
    return zlib.crc32("|".join([f"{price:f}:{size:f}" for price, size in levels]).encode())


class _Plain(msgspec.Struct, gc=False):
    """A book message where nothing about it is out of the ordinary (see `price._Plain`)."""

    type: Literal["snapshot", "delta"]
    symbol: str
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    time: Annotated[int, msgspec.Meta(ge=0)]
    checksum: Annotated[int, msgspec.Meta(ge=0, le=_MAX_CHECKSUM)] | None = None


@frozen
class _Message:
    """Any book message, to name what is wrong with it."""

    type: Literal["snapshot", "delta"]
    symbol: str
    sequence: int
    bids: list[list[Decimal]]
    asks: list[list[Decimal]]
    time: int | str
    checksum: int | None = None


class PriceBooks:
    """The books of one connection, each with what came of it."""

    def __init__(self, venue: str, *, limit: int) -> None:
        self._venue = venue
        self._books = SessionBooks(
            venue,
            validator=VALIDATOR,
            channel=BOOK_CHANNEL,
            checksum=checksum,
            limit=limit,
        )
        self._decode = msgspec.json.Decoder(_Plain).decode
        self._strict = FastDecoder(_Message, venue=venue)

    def last_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def forget(self, subscriptions: Sequence[Subscription]) -> None:
        """They have ended: what may come later is another one's."""
        self._books.forget(subscriptions)

    def take_plain(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Item | Malformed] | None:
        """What follows from `message`; `None`, and nothing changed, if it is not a plain one."""
        try:
            # Both are true of a book message alone, unless somebody has gone out of their way.
            if isinstance(message, bytes):
                message = message.decode()
            if '"bids"' not in message or not are_plain((message,)):
                return None
            plain = self._decode(message)
        except REFUSALS:
            return None
        delta = plain.type == "delta"
        bids = book_side(plain.bids, down=True, delta=delta)
        asks = book_side(plain.asks, down=False, delta=delta)
        if bids is None or asks is None or not plain.symbol:
            return None
        return self._take(
            plain.type, plain.symbol, plain.sequence, bids, asks, plain.time, plain.checksum,
            recv_ns, epoch,
        )  # fmt: skip

    def take(
        self, message: str | bytes, document: dict[str, Any], *, recv_ns: int, epoch: int
    ) -> Sequence[Item | Malformed]:
        """As `take_plain()`, for any message; `document` is its JSON.

        Raises `DecodeError` where it cannot even be said whose book it is.
        """
        try:
            strict = self._strict.decode_strictly(message)
            bids, asks, time_ns = self._checked(strict, message)
        except DecodeError as error:
            symbol = document.get("symbol")
            return self._books.malformed(
                error,
                symbol if isinstance(symbol, str) else None,
                is_snapshot=document.get("type") == "snapshot",
                recv_ns=recv_ns,
                epoch=epoch,
            )
        return self._take(
            strict.type, strict.symbol, strict.sequence, bids, asks, time_ns, strict.checksum,
            recv_ns, epoch,
        )  # fmt: skip

    def _take(
        self,
        kind: str,
        symbol: str,
        sequence: int,
        bids: tuple[Level, ...],
        asks: tuple[Level, ...],
        time_ns: int,
        check: int | None,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Item]:
        message = BookMessage(
            kind == "snapshot", bids, asks, time_ns, recv_ns, epoch,
            sequence=sequence, checksum=check,
        )  # fmt: skip
        return self._books.take(symbol, message)

    def _checked(
        self, message: _Message, data: str | bytes
    ) -> tuple[tuple[Level, ...], tuple[Level, ...], int]:
        """Name all that is wrong with what `message` says; returns bids, asks and time."""
        problems: list[tuple[str, str]] = []
        time_ns = 0
        if not message.symbol:
            problems.append(("$.symbol", "empty"))
        if message.sequence < 0:
            problems.append(("$.sequence", f"negative: {message.sequence}"))
        if message.checksum is not None and not 0 <= message.checksum <= _MAX_CHECKSUM:
            problems.append(("$.checksum", "not an unsigned number of 32 bits"))
        try:
            time_ns = parse_time_ns(message.time)
        except ValueError as error:
            problems.append(("$.time", str(error)))
        delta = message.type == "delta"
        for name, pairs in (("bids", message.bids), ("asks", message.asks)):
            for k, pair in enumerate(pairs):
                if len(pair) > 2:
                    told = f"expected a price and a size, got {len(pair)} values"
                    problems.append((f"$.{name}[{k}]", told))
        bids = strict_side(message.bids, down=True, delta=delta, path="$.bids", problems=problems)
        asks = strict_side(message.asks, down=False, delta=delta, path="$.asks", problems=problems)
        if problems:
            raise DecodeError(self._venue, data, problems)
        return bids, asks, time_ns
