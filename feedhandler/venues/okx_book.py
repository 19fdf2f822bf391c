"""The order books of OKX v5 on the wire; `feedhandler.venues.okx` has the rules' sources."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Literal

import msgspec
from attrs import frozen

from feedhandler._core.books import SessionBooks
from feedhandler._core.fields import MS, Problems, plain, time_of
from feedhandler._core.levels import book_side, strict_side
from feedhandler._core.validators import BookMessage, ByPreviousId
from feedhandler.book import OrderBook
from feedhandler.codec import FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.model import Level

__all__ = ["VALIDATOR", "BookReader", "checksum"]

VALIDATOR = ByPreviousId()
_CHECKED = 25  # levels of each side that the checksum covers
_new = tuple.__new__


def checksum(book: OrderBook) -> int:
    """CRC-32, signed, over ``price:size`` of the best 25 bids and asks in turn, joined by colons.

    Both have the digits that were last sent; where one side has fewer levels, the other goes on.
    """
    bids, asks = islice(book.bids(), _CHECKED), islice(book.asks(), _CHECKED)
    parts = [f"{one[0]:f}:{one[1]:f}" for pair in zip_longest(bids, asks) for one in pair if one]
    number = zlib.crc32(":".join(parts).encode())
    return number - 2**32 if number >= 2**31 else number


# --- where nothing is out of the ordinary --------------------------------------------------------

_FastLevels = tuple[tuple[Decimal, Decimal, str, str], ...]


class _FastTop(msgspec.Struct, gc=False):
    asks: _FastLevels
    bids: _FastLevels
    ts: str
    seqId: int | None = None  # noqa: N815  # the venue's names, here and below


class _FastTops(msgspec.Struct, gc=False):
    data: list[_FastTop]


class _FastBook(_FastTop, gc=False, kw_only=True):
    checksum: int
    prevSeqId: int | None = None  # noqa: N815


class _FastBooks(msgspec.Struct, gc=False):
    action: Literal["snapshot", "update"]
    data: list[_FastBook]


# --- the same, to name what is wrong -------------------------------------------------------------


@frozen
class _Top:
    asks: list[Level]
    bids: list[Level]
    ts: str
    seqId: int | None = None  # noqa: N815


@frozen
class _Tops:
    data: list[_Top]


@frozen(kw_only=True)
class _Book(_Top):
    checksum: int
    prevSeqId: int | None = None  # noqa: N815


@frozen
class _Books:
    action: Literal["snapshot", "update"]
    data: list[_Book]


class BookReader:
    """Reads the messages of books, checks what can be checked of each, and keeps the books."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._fast_tops = msgspec.json.Decoder(_FastTops).decode
        self._fast_books = msgspec.json.Decoder(_FastBooks).decode
        self._tops = FastDecoder(_Tops, venue=venue)
        self._books = FastDecoder(_Books, venue=venue)
        self.kept = SessionBooks(venue, validator=VALIDATOR, checksum=checksum)

    def tops(self, message: str | bytes, recv_ns: int, epoch: int) -> list[BookMessage]:
        """Whole books of a few levels, of which a side may have none. Raises `DecodeError`."""
        fast = plain(self._fast_tops, message)
        found = fast if fast is not None else self._tops.decode_strictly(message)
        data: Sequence[_FastTop | _Top] = found.data
        books = []
        for i, one in enumerate(data):
            book = self._levels(one, message, i, recv_ns, epoch, whole=True)
            if one.seqId is not None:
                problems = Problems()
                book.sequence = problems.count(one.seqId, f"$.data[{i}].seqId")
                problems.check(self._venue, message)
            books.append(book)
        return books

    def books(
        self, message: str | bytes, recv_ns: int, epoch: int, *, numbered: bool
    ) -> list[BookMessage]:
        """`numbered` says that those before it had numbers. Raises `DecodeError`."""
        fast = plain(self._fast_books, message)
        found = fast if fast is not None else self._books.decode_strictly(message)
        data: Sequence[_FastBook | _Book] = found.data
        whole = found.action == "snapshot"
        books = []
        for i, one in enumerate(data):
            book = self._levels(one, message, i, recv_ns, epoch, whole=whole)
            self._number(book, one, message, f"$.data[{i}]", numbered=numbered)
            books.append(book)
        return books

    def _levels(
        self,
        one: _FastTop | _Top,
        message: str | bytes,
        i: int,
        recv_ns: int,
        epoch: int,
        *,
        whole: bool,
    ) -> BookMessage:
        given_bids = [_new(Level, (level[0], level[1])) for level in one.bids]
        given_asks = [_new(Level, (level[0], level[1])) for level in one.asks]
        bids = book_side(given_bids, down=True, delta=not whole)
        asks = book_side(given_asks, down=False, delta=not whole)
        time_ms = time_of(one.ts)
        if bids is None or asks is None or time_ms is None:
            problems = Problems()
            problems.time_ns(one.ts, f"$.data[{i}].ts")
            for name, levels in (("asks", given_asks), ("bids", given_bids)):
                strict_side(
                    levels, down=name == "bids", delta=not whole, path=f"$.data[{i}].{name}",
                    problems=problems.found,
                )  # fmt: skip
            raise DecodeError(self._venue, message, problems.found)
        return BookMessage(whole, bids, asks, time_ms * MS, recv_ns, epoch)

    def _number(
        self,
        book: BookMessage,
        one: _FastBook | _Book,
        message: str | bytes,
        path: str,
        *,
        numbered: bool,
    ) -> None:
        """Give `book` its numbers and its checksum. Raises `DecodeError`."""
        number, previous, check = one.seqId, one.prevSeqId, one.checksum
        problems = Problems()
        if number is not None and previous is not None:
            problems.count(number, f"{path}.seqId")
            problems.count(previous + 1, f"{path}.prevSeqId")  # of a snapshot it is -1
        elif number is not previous or numbered:
            for name, value in (("seqId", number), ("prevSeqId", previous)):
                if value is None:
                    problems.add(f"{path}.{name}", f"missing: {name}")
        if not -(2**31) <= check < 2**31:
            problems.add(f"{path}.checksum", "not a signed number of 32 bits")
        problems.check(self._venue, message)
        book.sequence, book.previous = number, previous
        book.checksum = check or None  # 0 where the venue has retired it
