"""Bitstamp's messages, from bytes to numbers: the part of `feedhandler.venues.bitstamp` that knows
their fields.

Amounts are strings; where the venue sends one as a number too, that is passed over. A message is
read at once. Where something about it is out of the ordinary it is read once more, field by field,
to name all that is wrong.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
from attrs import frozen

from feedhandler._core.levels import strict_side, text_side
from feedhandler.codec import FastDecoder, parse_amount
from feedhandler.errors import DecodeError
from feedhandler.model import Level, Side

__all__ = ["BitstampCodec", "Data", "ReadBook", "ReadTrade", "TradeMessage", "read"]

Problems = list[tuple[str, str]]

_SIDES = {0: Side.BUY, 1: Side.SELL}
_MAX_DIGITS = 18  # of a number that counts units of time


class _Book(msgspec.Struct, gc=False):
    timestamp: str
    microtimestamp: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Data(msgspec.Struct, gc=False, tag_field="event", tag="data"):
    """A book, whole or changed, as its `channel` says."""

    channel: str
    data: _Book


@frozen
class _Trade:
    id: int | str
    price_str: str
    amount_str: str
    type: Literal[0, 1]
    microtimestamp: str


class TradeMessage(msgspec.Struct, gc=False, tag_field="event", tag="trade"):
    channel: str
    data: _Trade


read = msgspec.json.Decoder(Data | TradeMessage).decode


@frozen
class _StrictTrade:
    data: _Trade


@frozen
class _StrictBook:
    timestamp: str
    bids: list[list[Decimal]]
    asks: list[list[Decimal]]
    microtimestamp: str = ""


@frozen
class _StrictData:
    data: _StrictBook


@frozen
class ReadTrade:
    trade_id: str
    price: Decimal
    size: Decimal
    side: Side
    time_ns: int


@frozen
class ReadBook:
    """Levels, checked and best first. `second` is the venue's `timestamp`, in whole seconds."""

    second: int
    time_ns: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BitstampCodec:
    """Reads messages and snapshots. Raises `DecodeError` with all that is wrong."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._snapshot = msgspec.json.Decoder(_Book).decode
        self._strict_trade = FastDecoder(_StrictTrade, venue=venue, amounts_as_text=True)
        self._strict_book = FastDecoder(_StrictData, venue=venue)
        self._strict_snapshot = FastDecoder(_StrictBook, venue=venue)

    def trade(self, message: TradeMessage | None, data: str | bytes) -> ReadTrade:
        told = (message or self._strict_trade.decode_strictly(data)).data
        problems: Problems = []
        amounts = []
        for name in ("price_str", "amount_str"):
            try:
                amounts.append(parse_amount(getattr(told, name)))
            except ValueError as error:
                problems.append((f"$.data.{name}", str(error)))
        micros = _units(told.microtimestamp, "$.data.microtimestamp", problems)
        self._raise(problems, data)
        return ReadTrade(str(told.id), amounts[0], amounts[1], _SIDES[told.type], micros * 1000)

    def book(self, message: Data | None, data: str | bytes, *, delta: bool) -> ReadBook:
        """A price may occur twice in a `delta`: then the last one counts."""
        found = None if message is None else _fast(message.data, delta=delta)
        return found or self._strictly(
            self._strict_book.decode_strictly(data).data, data, "$.data", delta=delta
        )

    def snapshot(self, body: bytes) -> ReadBook:
        try:
            found = _fast(self._snapshot(body), delta=False)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            found = None
        return found or self._strictly(
            self._strict_snapshot.decode_strictly(body), body, "$", delta=False
        )

    def best(self, message: Data | None, data: str | bytes) -> ReadBook:
        """Of a whole book the first bid and ask, for the rest of it is not looked at."""
        if message is not None:
            del message.data.bids[1:], message.data.asks[1:]
        return self.book(message, data, delta=False)

    def _strictly(self, told: _StrictBook, data: str | bytes, at: str, *, delta: bool) -> ReadBook:
        problems: Problems = []
        second = _units(told.timestamp, f"{at}.timestamp", problems)
        time_ns = second * 10**9
        if told.microtimestamp:
            time_ns = _units(told.microtimestamp, f"{at}.microtimestamp", problems) * 1000
        bids = strict_side(
            told.bids, down=True, delta=delta, path=f"{at}.bids", problems=problems, repeats=delta
        )
        asks = strict_side(
            told.asks, down=False, delta=delta, path=f"{at}.asks", problems=problems, repeats=delta
        )
        self._raise(problems, data)
        return ReadBook(second, time_ns, bids, asks)

    def _raise(self, problems: Problems, data: str | bytes) -> None:
        if problems:
            raise DecodeError(self._venue, data, problems)


def _fast(told: _Book, *, delta: bool) -> ReadBook | None:
    """`None` where something is wrong with it, or out of the ordinary."""
    bids = text_side(
        [level[0] for level in told.bids], [level[1] for level in told.bids],
        down=True, delta=delta, repeats=delta,
    )  # fmt: skip
    asks = text_side(
        [level[0] for level in told.asks], [level[1] for level in told.asks],
        down=False, delta=delta, repeats=delta,
    )  # fmt: skip
    second, micros = told.timestamp, told.microtimestamp
    if bids is None or asks is None or not (_is_count(second) and _is_count(micros)):
        return None
    return ReadBook(int(second), int(micros) * 1000, bids, asks)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _units(text: str, path: str, problems: Problems) -> int:
    if _is_count(text):
        return int(text)
    problems.append((path, f"not a whole number of seconds or parts of them: {text[:40]!r}"))
    return 0
