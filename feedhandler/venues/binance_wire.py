"""Binance's messages on the wire, spot and futures: read fast, or with all that is wrong named.

`feedhandler.venues.binance` and `binance_futures` cite where each is documented. Combined streams
wrap each message: ``{"stream": "btcusdt@depth@100ms", "data": {…}}``.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from attrs import frozen

from feedhandler._core.levels import book_side, strict_side
from feedhandler.codec import MAX_AMOUNT, MIN_AMOUNT, REFUSALS, FastDecoder, check_amount
from feedhandler.errors import DecodeError
from feedhandler.model import Level

__all__ = ["AggTrade", "BookTicker", "Depth", "DepthSnapshot", "Reader", "Wire"]

_MAX_ID = 2**63 - 1
_MAX_TIME = 10**16  # microseconds, far beyond any that is meant
_Id = Annotated[int, msgspec.Meta(ge=0, le=_MAX_ID)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=_MAX_TIME)]
_NOTHING = Decimal(0)

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


class _TimedTicker(BookTicker, gc=False):
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


class _LinkedDepth(Depth, gc=False):
    pu: _Id


class DepthSnapshot(msgspec.Struct, gc=False):
    """The book after change `lastUpdateId`, over REST."""

    lastUpdateId: _Id  # noqa: N815  # the venue's spelling
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    E: _Time | None = None


class _Frame(msgspec.Struct, Generic[T], gc=False):
    data: T


# --- the same, to name what is wrong with it -----------------------------------------------------


@frozen
class _StrictTrade:
    e: Literal["aggTrade"]
    s: str
    a: int
    p: Decimal
    q: Decimal
    T: int
    m: bool


@frozen
class _StrictTicker:
    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal


@frozen
class _StrictTimedTicker(_StrictTicker):
    E: int


@frozen
class _StrictDepth:
    e: Literal["depthUpdate"]
    s: str
    E: int
    U: int
    u: int
    b: list[list[Decimal]]
    a: list[list[Decimal]]


@frozen
class _StrictLinkedDepth(_StrictDepth):
    pu: int


@frozen
class _StrictSnapshot:
    lastUpdateId: int  # noqa: N815  # the venue's spelling
    bids: list[list[Decimal]]
    asks: list[list[Decimal]]


@frozen
class _StrictTimedSnapshot(_StrictSnapshot):
    E: int


@frozen
class _StrictFrame(Generic[S]):
    data: S


Problems = list[tuple[str, str]]


class Reader(Generic[T]):
    """Reads one kind of message: fast where it is plain, and strictly where that refuses."""

    def __init__(
        self,
        venue: str,
        fast: Any,
        strict: Any,
        *,
        path: str,
        right: Callable[[Any], bool],
        judge: Callable[[Any, str, Problems], T],
    ) -> None:
        self._venue = venue
        self._decode = msgspec.json.Decoder(fast).decode
        self._strict: FastDecoder[Any] = FastDecoder(strict, venue=venue)
        self._path = path
        self._right = right
        self._judge = judge

    def fast(self, text: str | bytes) -> T | None:
        """The message in `text`, which `are_plain()` has found plain; `None` if it is not right."""
        try:
            read = self._decode(text)
            data = read.data if self._path else read
            return data if self._right(data) else None
        except REFUSALS:
            return None

    def strictly(self, text: str | bytes, theirs: str | None = None) -> T:
        """As `fast()`, of any message about the symbol `theirs`. Raises `DecodeError`."""
        read = self._strict.decode_strictly(text)
        data = read.data if self._path else read
        path = f"${self._path}"
        problems: Problems = []
        if theirs is not None and data.s != theirs:
            problems.append((f"{path}.s", f"expected {theirs!r}, got {data.s!r:.40}"))
        judged = self._judge(data, path, problems)
        if problems:
            raise DecodeError(self._venue, text, problems)
        return judged


class Wire:
    """The readers of one venue; `linked` is futures: with `pu`, and times in every message."""

    def __init__(self, venue: str, *, linked: bool) -> None:
        def framed(fast: Any, strict: Any, right: Any, judge: Any) -> Any:
            return Reader(
                venue, _Frame[fast], _StrictFrame[strict], path=".data", right=right, judge=judge
            )

        self.trade: Reader[AggTrade] = framed(AggTrade, _StrictTrade, _is_right_trade, _trade)
        self.ticker: Reader[BookTicker] = framed(
            _TimedTicker if linked else BookTicker,
            _StrictTimedTicker if linked else _StrictTicker,
            _is_right_ticker,
            _ticker,
        )
        self.depth: Reader[Depth] = framed(
            _LinkedDepth if linked else Depth,
            _StrictLinkedDepth if linked else _StrictDepth,
            _order_depth,
            _depth,
        )
        self.snapshot: Reader[DepthSnapshot] = Reader(
            venue,
            DepthSnapshot,
            _StrictTimedSnapshot if linked else _StrictSnapshot,
            path="",
            right=_order_snapshot,
            judge=_snapshot,
        )


def _is_right_trade(data: AggTrade) -> bool:
    return MIN_AMOUNT <= data.p <= MAX_AMOUNT and MIN_AMOUNT <= data.q <= MAX_AMOUNT


def _is_right_ticker(data: BookTicker) -> bool:
    low, high = MIN_AMOUNT, MAX_AMOUNT
    return (
        low <= data.b <= high
        and low <= data.B <= high
        and low <= data.a <= high
        and low <= data.A <= high
    )


def _order_depth(data: Depth) -> bool:
    """Whether its levels are right, which it has best first then."""
    bids = book_side(data.b, down=True, delta=True)
    asks = book_side(data.a, down=False, delta=True)
    if bids is None or asks is None:
        return False
    data.b, data.a = bids, asks
    return True


def _order_snapshot(data: DepthSnapshot) -> bool:
    bids = book_side(data.bids, down=True, delta=False)
    asks = book_side(data.asks, down=False, delta=False)
    if bids is None or asks is None:
        return False
    data.bids, data.asks = bids, asks
    return True


def _trade(data: _StrictTrade, path: str, problems: Problems) -> AggTrade:
    _check(data, path, problems, ids=("a",), times=("T",), amounts=("p", "q"))
    return AggTrade("aggTrade", data.s, data.a, data.p, data.q, data.T, data.m)


def _ticker(data: _StrictTicker, path: str, problems: Problems) -> BookTicker:
    for price, size in (("b", "B"), ("a", "A")):
        if getattr(data, price) or getattr(data, size):
            _check(data, path, problems, amounts=(price, size))
    time = getattr(data, "E", None)
    if time is not None:
        _check(data, path, problems, times=("E",))
    return BookTicker(data.s, data.b, data.B, data.a, data.A, time)


def _depth(data: _StrictDepth, path: str, problems: Problems) -> Depth:
    previous = getattr(data, "pu", None)
    numbers = ("U", "u") if previous is None else ("U", "u", "pu")
    _check(data, path, problems, ids=numbers, times=("E",))
    bids = strict_side(data.b, down=True, delta=True, path=f"{path}.b", problems=problems)
    asks = strict_side(data.a, down=False, delta=True, path=f"{path}.a", problems=problems)
    return Depth("depthUpdate", data.s, data.E, data.U, data.u, bids, asks, previous)


def _snapshot(data: _StrictSnapshot, path: str, problems: Problems) -> DepthSnapshot:
    _check(data, path, problems, ids=("lastUpdateId",))
    time = getattr(data, "E", None)
    if time is not None:
        _check(data, path, problems, times=("E",))
    bids = strict_side(data.bids, down=True, delta=False, path=f"{path}.bids", problems=problems)
    asks = strict_side(data.asks, down=False, delta=False, path=f"{path}.asks", problems=problems)
    return DepthSnapshot(data.lastUpdateId, bids, asks, time)


def _check(
    data: object,
    path: str,
    problems: Problems,
    *,
    ids: tuple[str, ...] = (),
    times: tuple[str, ...] = (),
    amounts: tuple[str, ...] = (),
) -> None:
    for names, highest in ((ids, _MAX_ID), (times, _MAX_TIME)):
        for name in names:
            number = getattr(data, name)
            if not 0 <= number <= highest:
                told = f"{number:.3g}" if abs(number) < 10**300 else "a number of many digits"
                problems.append((f"{path}.{name}", f"not between 0 and {highest}: {told}"))
    for name in amounts:
        try:
            if not check_amount(getattr(data, name)):
                raise ValueError("zero")
        except ValueError as error:
            problems.append((f"{path}.{name}", str(error)))
