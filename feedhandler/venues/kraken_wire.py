"""The messages of Kraken's WebSocket API v2, as they are on the wire (sources: see `kraken`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
from attrs import frozen

from feedhandler.codec import MAX_AMOUNT, MIN_AMOUNT, check_amount, parse_time_ns
from feedhandler.model import Side

__all__ = [
    "Book", "Books", "Kind", "PlainBooks", "Tickers", "TradeRow", "Trades", "check_sane", "time_of",
    "told",
]  # fmt: skip

Kind = Literal["snapshot", "update"]


class PlainRow(msgspec.Struct, gc=False):
    price: Decimal
    qty: Decimal


class PlainBook(msgspec.Struct, gc=False):
    symbol: str
    bids: list[PlainRow]
    asks: list[PlainRow]
    checksum: int
    timestamp: str | None = None


class PlainBooks(msgspec.Struct, gc=False):
    """A book's message where nothing about it is out of the ordinary."""

    channel: Literal["book"]
    type: Kind
    data: tuple[PlainBook]


@frozen
class BookRow:
    price: Decimal
    qty: Decimal


@frozen
class Book:
    symbol: str
    bids: list[BookRow]
    asks: list[BookRow]
    checksum: int
    timestamp: str | None = None


@frozen
class Books:
    channel: Literal["book"]
    type: Kind
    data: list[Book]


@frozen
class TradeRow:
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    trade_id: int
    timestamp: str


@frozen
class Trades:
    channel: Literal["trade"]
    type: Kind
    data: list[TradeRow]


@frozen
class TickerRow:
    symbol: str
    bid: Decimal | None
    bid_qty: Decimal | None
    ask: Decimal | None
    ask_qty: Decimal | None
    timestamp: str | None = None


@frozen
class Tickers:
    channel: Literal["ticker"]
    type: Kind
    data: list[TickerRow]


def check_sane(
    value: Decimal | None,
    path: str,
    problems: list[tuple[str, str]],
    *,
    least: Decimal | None = None,
) -> None:
    """Name what is wrong with an amount: of a sane size, and not below `least`."""
    if value is None:
        return
    try:
        if MIN_AMOUNT <= value <= MAX_AMOUNT:
            return
        check_amount(value)
        if least is not None:
            raise ValueError(f"below {least}: {value!s:.40}")
    except (ValueError, ArithmeticError) as error:
        problems.append((path, str(error)))


def told(price: Decimal | None, size: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
    """The best of a side; a price and a size of 0 stand for a side that is empty."""
    return (price, size) if price or size else (None, None)


def time_of(value: str | None, path: str, problems: list[tuple[str, str]]) -> int | None:
    try:
        return None if value is None else parse_time_ns(value)
    except ValueError as error:
        problems.append((path, str(error)))
        return None
