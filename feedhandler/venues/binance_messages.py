"""The messages of Binance that are read, spot and futures; and the same, to name what is wrong.

`feedhandler.venues.binance` and `binance_futures` cite where each is documented. Combined streams
wrap each message: ``{"stream": "btcusdt@depth@100ms", "data": {…}}``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from attrs import Factory, frozen

from feedhandler.model import Level

__all__ = [
    "MAX_ID",
    "MAX_TIME",
    "AggTrade",
    "BookTicker",
    "Depth",
    "DepthSnapshot",
    "Envelope",
    "Frame",
    "LinkedDepth",
    "StrictDepth",
    "StrictFrame",
    "StrictLinkedDepth",
    "StrictSnapshot",
    "StrictTicker",
    "StrictTimedSnapshot",
    "StrictTimedTicker",
    "StrictTrade",
    "TimedTicker",
]

MAX_ID = 2**63 - 1
MAX_TIME = 10**16  # microseconds, far beyond any that is meant
_Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]

T = TypeVar("T")
S = TypeVar("S")


# --- what is read --------------------------------------------------------------------------------
# Times are in the stream's unit. `E` is when the message was made, `T` when it happened.


class AggTrade(msgspec.Struct, gc=False):
    """Trades of one taker at one price; where the buyer is the maker (`m`), the taker sells."""

    e: Literal["aggTrade"]
    s: str
    a: _Id
    p: Decimal
    q: Decimal
    T: _Time
    m: bool


class BookTicker(msgspec.Struct, gc=False):
    """The top of the book; a side that is empty has 0 for its price and size."""

    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal
    E: _Time | None = None


class TimedTicker(msgspec.Struct, gc=False):
    """A `BookTicker` of futures."""

    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal
    E: _Time


class Depth(msgspec.Struct, gc=False):
    """Changes `U` to `u` of the book; on futures, those after change `pu`."""

    e: Literal["depthUpdate"]
    s: str
    E: _Time
    U: _Id
    u: _Id
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    pu: _Id | None = None


class LinkedDepth(msgspec.Struct, gc=False):
    """A `Depth` of futures."""

    e: Literal["depthUpdate"]
    s: str
    E: _Time
    U: _Id
    u: _Id
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    pu: _Id


class DepthSnapshot(msgspec.Struct, gc=False):
    """The book after change `lastUpdateId`, over REST."""

    lastUpdateId: _Id  # noqa: N815  # the venue's spelling
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    E: _Time | None = None


class Frame(msgspec.Struct, Generic[T], gc=False):
    data: T


# --- the same, to name what is wrong with it -----------------------------------------------------


@frozen
class StrictTrade:
    e: Literal["aggTrade"]
    s: str
    a: int
    p: Decimal
    q: Decimal
    T: int
    m: bool


@frozen
class StrictTicker:
    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal


@frozen
class StrictTimedTicker(StrictTicker):
    E: int


@frozen
class StrictDepth:
    e: Literal["depthUpdate"]
    s: str
    E: int
    U: int
    u: int
    b: list[list[Decimal]]
    a: list[list[Decimal]]


@frozen
class StrictLinkedDepth(StrictDepth):
    pu: int


@frozen
class StrictSnapshot:
    lastUpdateId: int  # noqa: N815  # the venue's spelling
    bids: list[list[Decimal]]
    asks: list[list[Decimal]]


@frozen
class StrictTimedSnapshot(StrictSnapshot):
    E: int


@frozen
class StrictFrame(Generic[S]):
    data: S


# --- any message ---------------------------------------------------------------------------------


@frozen
class _Error:
    code: Any = None
    msg: Any = None


@frozen
class Envelope:
    """Any message. An answer has an `id`; of an error, its words are at either of two places."""

    stream: str = ""
    e: str = ""
    id: Any = None
    code: Any = None
    msg: Any = None
    error: _Error = Factory(_Error)
