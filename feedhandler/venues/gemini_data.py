"""Gemini's messages, from bytes to numbers: the part of `feedhandler.venues.gemini` that knows
their fields."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
from attrs import frozen

from feedhandler._core.levels import in_order, text_side
from feedhandler.codec import REFUSALS, FastDecoder, parse_amount
from feedhandler.errors import DecodeError
from feedhandler.model import Level, Side

__all__ = [
    "Beat",
    "Envelope",
    "GeminiCodec",
    "L2Updates",
    "ReadTrade",
    "TradeMessage",
    "read",
]

Problems = list[tuple[str, str]]
Sides = tuple[tuple[Level, ...], tuple[Level, ...]]

# A block trade is made beside the book, and has no taker.
_TradeSide = Literal["buy", "sell", "block"]
_NOTHING = msgspec.Raw(b"")
_MAX_MS = 10**15


@frozen
class _Trade:
    symbol: str
    timestamp: int
    price: str
    quantity: str
    side: _TradeSide
    tid: int | str = ""
    event_id: int | str = ""
    eventid: int | str = ""  # as the documentation calls it in the first answer


class _Answer(msgspec.Struct, gc=False):
    trades: msgspec.Raw = _NOTHING
    auction_events: msgspec.Raw = _NOTHING

    @property
    def is_answer(self) -> bool:
        """Whether it has what only the answer to a subscription has."""
        return any(bytes(raw) not in (b"", b"null") for raw in (self.trades, self.auction_events))


class L2Updates(_Answer, gc=False, tag_field="type", tag="l2_updates", kw_only=True):
    symbol: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]


class TradeMessage(msgspec.Struct, gc=False, tag_field="type", tag="trade"):
    symbol: str
    timestamp: int
    price: str
    quantity: str
    side: _TradeSide
    tid: int | str = ""
    event_id: int | str = ""
    eventid: int | str = ""


class Beat(msgspec.Struct, gc=False, tag_field="type", tag="heartbeat"):
    pass


read = msgspec.json.Decoder(L2Updates | TradeMessage | Beat).decode


@frozen
class Envelope:
    """Any message; an error has a `result`, a `reason` and a `message`."""

    type: str = ""
    result: str = ""
    reason: str = ""
    message: str = ""
    symbol: str = ""


@frozen
class _StrictL2:
    symbol: str
    changes: list[list[str]]


@frozen
class ReadTrade:
    trade_id: str | None
    price: Decimal
    size: Decimal
    side: Side
    time_ns: int


class GeminiCodec:
    """Reads one connection's messages. Raises `DecodeError` with all that is wrong."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._trade = FastDecoder(_Trade, venue=venue, amounts_as_text=True)
        self._l2 = FastDecoder(_StrictL2, venue=venue, amounts_as_text=True)
        self._answer = msgspec.json.Decoder(_Answer).decode
        self._recent = msgspec.json.Decoder(list[_Trade]).decode

    def trade(self, told: TradeMessage | None, data: str | bytes) -> tuple[str, ReadTrade | None]:
        """The venue's symbol, and the trade; `None` for a block trade."""
        trade = told or self._trade.decode_strictly(data)
        problems: Problems = []
        made = _checked(trade, problems)
        if problems:
            raise DecodeError(self._venue, data, problems)
        return trade.symbol, made

    def recent(self, message: L2Updates | None) -> list[ReadTrade]:
        """The trades before the subscription, oldest first, as far as they are right."""
        try:
            told = self._recent(message.trades) if message is not None else []
        except REFUSALS:
            return []
        made = [_checked(trade, []) for trade in reversed(told)]
        return [trade for trade in made if trade is not None]

    def is_answer(self, data: str | bytes) -> bool:
        """As `L2Updates.is_answer`, of a message that is none."""
        try:
            return self._answer(data).is_answer
        except REFUSALS:
            return False

    def sides(self, told: L2Updates, *, delta: bool) -> Sides | None:
        """Bids and asks, best first; `None` where something is wrong, which `strictly()` says.

        A price may occur twice in a `delta`, which lists changes in their order.
        """
        bids = [change for change in told.changes if change[0] == "buy"]
        asks = [change for change in told.changes if change[0] == "sell"]
        best_bids = text_side(
            [bid[1] for bid in bids], [bid[2] for bid in bids],
            down=True, delta=delta, repeats=delta,
        )  # fmt: skip
        best_asks = text_side(
            [ask[1] for ask in asks], [ask[2] for ask in asks],
            down=False, delta=delta, repeats=delta,
        )  # fmt: skip
        return None if best_bids is None or best_asks is None else (best_bids, best_asks)

    def strictly(self, data: str | bytes, *, delta: bool) -> Sides:
        problems: Problems = []
        sides: dict[str, list[Level]] = {"buy": [], "sell": []}
        for i, change in enumerate(self._l2.decode_strictly(data).changes):
            at = f"$.changes[{i}]"
            if len(change) < 3:
                told = f"expected a side, a price and a size, got {len(change)} values"
                problems.append((at, told))
                continue
            if change[0] not in sides:
                problems.append((f"{at}[0]", f"expected 'buy' or 'sell', got {change[0][:40]!r}"))
                continue
            amounts = []
            for j in (1, 2):
                try:
                    amounts.append(parse_amount(change[j]))
                except ValueError as error:
                    problems.append((f"{at}[{j}]", str(error)))
            if len(amounts) < 2:
                continue
            if not amounts[0]:
                problems.append((f"{at}[1]", "a price of 0"))
            elif not (amounts[1] or delta):
                problems.append((f"{at}[2]", "a size of 0 in a snapshot"))
            sides[change[0]].append(Level(amounts[0], amounts[1]))
        ordered = []
        for name, levels in sides.items():
            try:
                ordered.append(in_order(levels, down=name == "buy", repeats=delta))
            except ValueError as error:
                problems.append(("$.changes", str(error)))
        if problems:
            raise DecodeError(self._venue, data, problems)
        return ordered[0], ordered[1]


def _checked(told: _Trade | TradeMessage, problems: Problems) -> ReadTrade | None:
    amounts = []
    for name in ("price", "quantity"):
        try:
            amounts.append(parse_amount(getattr(told, name)))
        except ValueError as error:
            problems.append((f"$.{name}", str(error)))
    if not 0 <= told.timestamp <= _MAX_MS:
        problems.append(("$.timestamp", f"not a time in milliseconds: {told.timestamp}"))
    if len(amounts) < 2 or problems or told.side == "block":
        return None
    number = next((str(one) for one in (told.tid, told.event_id, told.eventid) if one != ""), None)
    side = Side.BUY if told.side == "buy" else Side.SELL
    return ReadTrade(number, amounts[0], amounts[1], side, told.timestamp * 1_000_000)
