"""Reading Binance's messages: fast where they are plain, and else with all that is wrong named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from feedhandler._core.levels import book_side, strict_side
from feedhandler.codec import MAX_AMOUNT, MIN_AMOUNT, REFUSALS, FastDecoder, check_amount
from feedhandler.errors import DecodeError
from feedhandler.venues.binance_messages import (
    MAX_ID,
    MAX_TIME,
    AggTrade,
    BookTicker,
    Depth,
    DepthSnapshot,
    Frame,
    LinkedDepth,
    StrictDepth,
    StrictFrame,
    StrictLinkedDepth,
    StrictSnapshot,
    StrictTicker,
    StrictTimedSnapshot,
    StrictTimedTicker,
    StrictTrade,
    TimedTicker,
)

__all__ = ["Reader", "Wire"]

T = TypeVar("T")

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
                venue, Frame[fast], StrictFrame[strict], path=".data", right=right, judge=judge
            )

        self.trade: Reader[AggTrade] = framed(AggTrade, StrictTrade, _is_right_trade, _trade)
        self.ticker: Reader[BookTicker] = framed(
            TimedTicker if linked else BookTicker,
            StrictTimedTicker if linked else StrictTicker,
            _is_right_ticker,
            _ticker,
        )
        self.depth: Reader[Depth] = framed(
            LinkedDepth if linked else Depth,
            StrictLinkedDepth if linked else StrictDepth,
            _order_depth,
            _depth,
        )
        self.snapshot: Reader[DepthSnapshot] = Reader(
            venue,
            DepthSnapshot,
            StrictTimedSnapshot if linked else StrictSnapshot,
            path="",
            right=_order_snapshot,
            judge=_snapshot,
        )


_low, _high = MIN_AMOUNT, MAX_AMOUNT


def _is_right_trade(data: AggTrade) -> bool:
    return _low <= data.p <= _high and _low <= data.q <= _high


def _is_right_ticker(data: BookTicker) -> bool:
    return (
        _low <= data.b <= _high
        and _low <= data.B <= _high
        and _low <= data.a <= _high
        and _low <= data.A <= _high
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


def _trade(data: StrictTrade, path: str, problems: Problems) -> AggTrade:
    _check(data, path, problems, ids=("a",), times=("T",), amounts=("p", "q"))
    return AggTrade("aggTrade", data.s, data.a, data.p, data.q, data.T, data.m)


def _ticker(data: StrictTicker, path: str, problems: Problems) -> BookTicker:
    for price, size in (("b", "B"), ("a", "A")):
        if getattr(data, price) or getattr(data, size):
            _check(data, path, problems, amounts=(price, size))
    time = getattr(data, "E", None)
    if time is not None:
        _check(data, path, problems, times=("E",))
    return BookTicker(data.s, data.b, data.B, data.a, data.A, time)


def _depth(data: StrictDepth, path: str, problems: Problems) -> Depth:
    previous = getattr(data, "pu", None)
    numbers = ("U", "u") if previous is None else ("U", "u", "pu")
    _check(data, path, problems, ids=numbers, times=("E",))
    bids = strict_side(data.b, down=True, delta=True, path=f"{path}.b", problems=problems)
    asks = strict_side(data.a, down=False, delta=True, path=f"{path}.a", problems=problems)
    return Depth("depthUpdate", data.s, data.E, data.U, data.u, bids, asks, previous)


def _snapshot(data: StrictSnapshot, path: str, problems: Problems) -> DepthSnapshot:
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
    for names, highest in ((ids, MAX_ID), (times, MAX_TIME)):
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
