"""Coinbase's order books, from the messages of `level2` to levels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from attrs import frozen

from feedhandler._core.levels import in_order, text_side
from feedhandler.codec import REFUSALS, FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.model import Level
from feedhandler.venues.coinbase_data import CoinbaseCodec, Problems, named
from feedhandler.venues.coinbase_messages import Message

__all__ = ["Books", "CoinbaseBookCodec", "ReadBook"]


class _Level(msgspec.Struct, gc=False, tag_field="side"):
    price_level: str
    new_quantity: str


class _Bid(_Level, gc=False, tag="bid"):
    pass


class _Offer(_Level, gc=False, tag="offer"):
    pass


class _Event(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[_Bid | _Offer]


class Books(Message, gc=False, tag="l2_data"):
    timestamp: str
    events: list[_Event]


@frozen
class _StrictLevel:
    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str


@frozen
class _StrictEvent:
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[_StrictLevel]


@frozen
class _StrictBooks:
    timestamp: str
    events: list[_StrictEvent]


class _NamedEvent(msgspec.Struct):
    product_id: str
    type: Any = None


class _Named(msgspec.Struct):
    events: list[_NamedEvent]


class ReadBook(msgspec.Struct):
    """A snapshot or an update of one product's book: its levels are checked, and best first."""

    product: str
    is_snapshot: bool
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class CoinbaseBookCodec:
    """Reads the books of one connection; `codec` reads what else is in its messages."""

    def __init__(self, venue: str, codec: CoinbaseCodec) -> None:
        self._venue = venue
        self._codec = codec
        self._strict = FastDecoder(_StrictBooks, venue=venue, amounts_as_text=True)
        self._named = msgspec.json.Decoder(_Named).decode

    def books(self, read: Books | None, data: str | bytes) -> tuple[int, list[ReadBook]]:
        """The message's time, and its books, already read or not. Raises `DecodeError`."""
        try:
            if read is not None:
                return self._codec.time_ns(read.timestamp), [_book(event) for event in read.events]
        except ValueError:
            pass  # it will be said what is wrong
        strict = self._strict.decode_strictly(data)
        problems: Problems = []
        time_ns = self._codec.check_time(strict.timestamp, "$.timestamp", problems)
        books = [
            _strict_book(event, f"$.events[{i}].updates", problems)
            for i, event in enumerate(strict.events)
        ]
        if problems:
            raise DecodeError(self._venue, data, problems)
        return time_ns, books

    def products(self, data: str | bytes) -> dict[str, bool] | None:
        """Those that a malformed message names, and whether it has a snapshot of each.

        `None` where it does not say so of every event.
        """
        try:
            named_events = self._named(data).events
        except REFUSALS:
            return None
        return {event.product_id: event.type != "update" for event in named_events} or None


def _book(event: _Event) -> ReadBook:
    """Raises `ValueError` where something is wrong. A price may occur twice in an update, which
    lists changes in their order."""
    delta = event.type == "update"
    bids = [level for level in event.updates if type(level) is _Bid]
    asks = [level for level in event.updates if type(level) is _Offer]
    best_bids = text_side(
        [level.price_level for level in bids], [level.new_quantity for level in bids],
        down=True, delta=delta, repeats=delta,
    )  # fmt: skip
    best_asks = text_side(
        [level.price_level for level in asks], [level.new_quantity for level in asks],
        down=False, delta=delta, repeats=delta,
    )  # fmt: skip
    if best_bids is None or best_asks is None:
        raise ValueError
    return ReadBook(event.product_id, not delta, best_bids, best_asks)


def _strict_book(event: _StrictEvent, at: str, problems: Problems) -> ReadBook:
    delta = event.type == "update"
    updates = [(f"{at}[{j}]", level) for j, level in enumerate(event.updates)]
    bids, asks = (
        _strict_side(
            ((path, level) for path, level in updates if level.side == side),
            at, down=side == "bid", delta=delta, problems=problems,
        )
        for side in ("bid", "offer")
    )  # fmt: skip
    return ReadBook(event.product_id, not delta, bids, asks)


def _strict_side(
    updates: Iterable[tuple[str, _StrictLevel]],
    at: str,
    *,
    down: bool,
    delta: bool,
    problems: Problems,
) -> tuple[Level, ...]:
    levels = []
    for path, level in updates:
        amounts = named(level, ("price_level", "new_quantity"), path, problems)
        if len(amounts) < 2:
            continue
        price, size = amounts
        if not price:
            problems.append((f"{path}.price_level", "a price of 0"))
        elif not (size or delta):
            problems.append((f"{path}.new_quantity", "a size of 0 in a snapshot"))
        else:
            levels.append(Level(price, size))
    try:
        return in_order(levels, down=down, repeats=delta)
    except ValueError as error:
        problems.append((at, str(error)))
        return ()
