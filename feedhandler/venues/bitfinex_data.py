"""The data frames of Bitfinex (sources: see `bitfinex`): from the wire to events.

A frame is ``[channel, payload]`` or ``[channel, kind, payload]``, and what the `conf` flags add:
the sequence, then the time in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from feedhandler._core.construct import twin_of
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler.abc import Control, Heartbeat, Ignored, Malformed, Subscription
from feedhandler.codec import check_amount
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Quote, Side, Trade
from feedhandler.venues.bitfinex_books import BitfinexBooks, decimal_of

__all__ = ["ASKED", "BitfinexData"]

TIMESTAMP, SEQUENCE, CHECKSUM, BULK = 32768, 65536, 131072, 536870912
ASKED = TIMESTAMP + SEQUENCE + CHECKSUM
_FIRST = 1  # the number of a connection's first frame
_MAX_MS = 10**14
_MAX_FRAMES = 10**11
_Trade, _Quote = twin_of(Trade), twin_of(Quote)


class BitfinexData:
    """What the frames of one connection mean; `channels` are filled by whoever reads the events.

    Which flags are on, the answer to `conf` tells, or else the length of the first frame.
    """

    def __init__(self, venue: str) -> None:
        self.channels: dict[int, Subscription] = {}
        self.read = msgspec.json.Decoder(Any, float_hook=Decimal).decode
        self._venue = venue
        self._sequence: SequenceTracker[None] = SequenceTracker()
        self._flags: int | None = None
        self._begun: set[int] = set()  # the channels of books that have sent their snapshot
        self.books = BitfinexBooks(venue, sequenced=True)

    def begin(self, number: int, subscription: Subscription | None) -> Subscription | None:
        """Channel `number` is of `subscription` (`None`: of none); returns of what it was."""
        self._begun.discard(number)
        before = self.channels.pop(number, None)
        if subscription is not None:
            self.channels[number] = subscription
        return before

    def configure(self, flags: int) -> None:
        """The venue says which flags are on; not to be changed once data has come."""
        if self._sequence.last(None) is None and not self._begun:
            self._flags = flags
            self.books = BitfinexBooks(self._venue, sequenced=bool(flags & SEQUENCE))

    def take(
        self, frame: list[Any], message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Take a frame in. Raises `DecodeError`, unless it is of a book that can be told."""
        if len(frame) < 2 or type(frame[0]) is not int:
            raise DecodeError(self._venue, message, [("$", "expected a channel and its data")])
        kind = frame[1]
        at = 3 if isinstance(kind, str) and kind != "hb" else 2
        if self._flags is None:
            self.configure(_flags_of(frame[at:]))
        items: list[Event | Control] = []
        flags = self._flags or 0
        if flags & SEQUENCE:
            number = frame[at] if len(frame) > at else None
            if type(number) is not int:
                told = f"expected the sequence, got {number!r:.40}"
                raise DecodeError(self._venue, message, [(f"$[{at}]", told)])
            order = self._order(number)
            if order is Order.DUPLICATE or (isinstance(order, Hole) and order.late):
                return [Ignored("duplicate, or too late")]
            if isinstance(order, Hole):
                items.append(order.as_gap(None, recv_ns=recv_ns, venue=self._venue, epoch=epoch))
                items += self.books.interrupted(recv_ns=recv_ns, epoch=epoch)
            at += 1
        time_ns = None
        try:
            if flags & TIMESTAMP:
                time_ns = _time_ns(frame[at] if len(frame) > at else None, f"$[{at}]")
            items += self._data(frame, message, time_ns, recv_ns, epoch)
        except _Wrong as wrong:
            error = DecodeError(self._venue, message, wrong.problems)
            if not items:
                raise error from wrong
            items.append(Malformed(error))  # the gap before it is true all the same
        except DecodeError as error:
            if not items:
                raise
            items.append(Malformed(error))
        return items

    def _order(self, number: int) -> Order | Hole:
        if self._sequence.last(None) is None and number > _FIRST:
            self._sequence.check(None, number)
            return Hole(_FIRST, number - 1)
        return self._sequence.check(None, number)

    def _data(
        self,
        frame: list[Any],
        message: str | bytes,
        time_ns: int | None,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control]:
        subscription, payload = self.channels.get(frame[0]), frame[1]
        if payload == "hb":
            return [Heartbeat()]
        if subscription is None:
            return [Ignored("data of a channel that has no name (yet, or any more)")]
        symbol = subscription.symbol
        match subscription.channel, payload:
            case "book", [*_]:
                # Where updates come in bulk, the first list of a channel is the snapshot.
                bulk = bool((self._flags or 0) & BULK) and frame[0] in self._begun
                self._begun.add(frame[0])
                return self.books.take(
                    symbol, payload, message,
                    bulk=bulk, time_ns=time_ns, recv_ns=recv_ns, epoch=epoch,
                )  # fmt: skip
            case "book", "cs":
                check = frame[2] if len(frame) > 2 else None
                return self.books.check(symbol, check, message, recv_ns=recv_ns, epoch=epoch)
            case "trades", "te":
                row = frame[2] if len(frame) > 2 else None
                return [self._trade(symbol, row, "$[2]", recv_ns, epoch)]
            case "trades", [*rows]:
                return [
                    self._trade(symbol, row, f"$[1][{i}]", recv_ns, epoch)
                    for i, row in enumerate(rows)
                ] or [Ignored("no trades yet")]
            case "ticker", [*row]:
                return [self._quote(symbol, row, time_ns, recv_ns, epoch)]
            case _, str(kind):
                return [Ignored(f"{subscription.channel} {kind}"[:40])]
        raise _Wrong("$[1]", f"expected a list, got {payload!r:.40}")

    def _trade(self, symbol: str, row: object, path: str, recv_ns: int, epoch: int) -> Trade:
        if not isinstance(row, list) or len(row) < 4:
            raise _Wrong(path, "expected id, time, amount and price")
        number = row[0]
        if type(number) is not int or number < 0:
            raise _Wrong(f"{path}[0]", f"expected an id, got {number!r:.40}")
        time_ns = _time_ns(row[1], f"{path}[1]")
        try:
            amount, price = decimal_of(row[2]), check_amount(decimal_of(row[3]))
            size = check_amount(amount.copy_abs())
            if not (size and price):
                raise ValueError("a price or an amount of 0")
        except ValueError as error:
            raise _Wrong(path, str(error)) from error
        side = Side.BUY if amount > 0 else Side.SELL
        trade: Any = _Trade(
            symbol, price, size, side, str(number), None, time_ns, recv_ns, self._venue, epoch
        )
        trade.__class__ = Trade
        return trade  # type: ignore[no-any-return]  # its class was changed in the line before

    def _quote(
        self, symbol: str, row: list[Any], time_ns: int | None, recv_ns: int, epoch: int
    ) -> Quote:
        if len(row) < 4:
            raise _Wrong("$[1]", "expected bid, its size, ask and its size")
        numbers: list[Decimal | None] = []
        for k, value in enumerate(row[:4]):
            try:
                numbers.append(None if value is None else check_amount(decimal_of(value)))
            except ValueError as error:
                raise _Wrong(f"$[1][{k}]", str(error)) from error
        quote: Any = _Quote(symbol, *numbers, None, time_ns, recv_ns, self._venue, epoch)
        quote.__class__ = Quote
        return quote  # type: ignore[no-any-return]  # its class was changed in the line before


def _flags_of(added: Sequence[object]) -> int:
    """What was added to a frame: times are numbers that no count of frames comes to."""
    is_time = [type(one) is int and one > _MAX_FRAMES for one in added]
    return (SEQUENCE if False in is_time[:1] else 0) + (TIMESTAMP if True in is_time[:2] else 0)


class _Wrong(Exception):
    """What is wrong with a frame, and where; never seen outside."""

    def __init__(self, path: str, told: str) -> None:
        super().__init__(told)
        self.problems = [(path, told)]


def _time_ns(value: object, path: str) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_MS:
        raise _Wrong(path, f"expected milliseconds since the epoch, got {value!r:.40}")
    return value * 1_000_000
