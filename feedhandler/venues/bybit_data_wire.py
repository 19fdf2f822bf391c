"""The messages of Bybit v5 as they are on the wire; what is not listed here is passed over.

Each is there twice: `Fast…` is made of what is right, and the other names what is wrong.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
from attrs import frozen

from feedhandler.model import Level

__all__ = ["Book", "BookData", "FastBook", "FastFills", "FastTicker", "Fill", "Fills", "Ticker"]


@frozen
class Fill:
    T: int
    s: str
    S: Literal["Buy", "Sell"]
    p: Decimal
    v: Decimal
    i: str


@frozen
class Fills:
    topic: str
    data: list[Fill]


@frozen
class TickerData:
    symbol: str
    bid1Price: str | None = None  # noqa: N815  # the venue's name of it, as of the next three
    bid1Size: str | None = None  # noqa: N815
    ask1Price: str | None = None  # noqa: N815
    ask1Size: str | None = None  # noqa: N815


@frozen
class Ticker:
    topic: str
    ts: int
    type: Literal["snapshot", "delta"]
    data: TickerData


@frozen
class BookData:
    s: str
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    u: int


@frozen
class Book:
    topic: str
    ts: int
    type: Literal["snapshot", "delta"]
    data: BookData


class _FastFill(msgspec.Struct, gc=False):
    T: int
    s: str
    S: Literal["Buy", "Sell"]
    p: Decimal
    v: Decimal
    i: str


class FastFills(msgspec.Struct, gc=False):
    topic: str
    data: list[_FastFill]


class _FastTickerData(msgspec.Struct, gc=False):
    symbol: str
    bid1Price: str | None = None  # noqa: N815  # the venue's name of it, as of the next three
    bid1Size: str | None = None  # noqa: N815
    ask1Price: str | None = None  # noqa: N815
    ask1Size: str | None = None  # noqa: N815


class FastTicker(msgspec.Struct, gc=False):
    topic: str
    ts: int
    type: Literal["snapshot", "delta"]
    data: _FastTickerData


class _FastBookData(msgspec.Struct, gc=False):
    s: str
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    u: int


class FastBook(msgspec.Struct, gc=False):
    topic: str
    ts: int
    type: Literal["snapshot", "delta"]
    data: _FastBookData
