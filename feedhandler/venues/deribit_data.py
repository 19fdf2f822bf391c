"""The market data of Deribit v2; `feedhandler.venues.deribit` has the rules and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from feedhandler._core.construct import twin_of
from feedhandler._core.fields import NumberReader, Problems, SymbolNames
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler.abc import Control, Ignored, Subscription
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Quote, Side, Trade

if TYPE_CHECKING:
    from feedhandler.venues.deribit_book import BookReader

__all__ = ["DeribitData", "target"]

_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_NOTHING = Decimal(0)
_OF_MANY = 4  # parts of trades.(kind).(currency).(interval)
_GROUPED = 5  # parts of book.(instrument_name).(group).(depth).(interval)
_Trade = twin_of(Trade)
_Quote = twin_of(Quote)


@frozen
class _Fill:
    trade_seq: int
    trade_id: str
    timestamp: int
    instrument_name: str
    direction: Literal["buy", "sell"]
    price: Any
    amount: Any


@frozen
class _FillsParams:
    data: list[_Fill]


@frozen
class _Fills:
    params: _FillsParams


@frozen
class _Top:
    timestamp: int
    instrument_name: str
    best_bid_price: Any
    best_bid_amount: Any
    best_ask_price: Any
    best_ask_amount: Any


@frozen
class _TopParams:
    data: _Top


@frozen
class _Tops:
    params: _TopParams


def target(channel: str) -> tuple[str, str]:
    """What a channel's name is about: ``book``, ``trades``, ``quote`` or ``ticker``, and the
    instrument, which is empty where it is of many; both are, where it is another channel."""
    parts = channel.split(".")
    kind = parts[0]
    if kind == "trades" and len(parts) == _OF_MANY:
        return kind, ""
    lengths = {"book": (3, _GROUPED), "trades": (3,), "ticker": (3,), "quote": (2,)}
    return (kind, parts[1]) if len(parts) in lengths.get(kind, ()) else ("", "")


def _number(value: Any, path: str, problems: Problems, *, zero: bool = False) -> Decimal:
    """An amount that was sent as a JSON number."""
    if type(value) is str:
        problems.add(path, "expected a number, got a string")
        return _NOTHING
    return problems.amount(value, path, zero=zero)


class DeribitData:
    """What one connection has brought of each symbol."""

    def __init__(self, venue: str, names: SymbolNames, books: BookReader) -> None:
        self._venue = venue
        self._names = names
        self.books = books.books
        self._read_book = books
        self._trades: SequenceTracker[str] = SequenceTracker()
        self._fills = NumberReader(_Fills, venue)
        self._tops = NumberReader(_Tops, venue)
        # Which channel a symbol's book comes from: two of them are two books.
        self._channel_of: dict[str, str] = {}

    def forget(self, subscriptions: Iterable[Subscription]) -> None:
        """They have ended."""
        gone = list(subscriptions)
        self.books.forget(gone)
        for subscription in gone:
            if subscription.channel == "trades":
                self._trades.last_of.pop(subscription.symbol, None)
            elif subscription.channel == "book":
                self._channel_of.pop(subscription.symbol, None)

    def take(
        self, channel: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        kind, name = target(channel)
        symbol = self._names.ours(name)
        if kind == "trades" and (symbol is not None or not name):
            return self._take_trades(name, message, recv_ns, epoch)
        if symbol is None:
            return [Ignored(channel[:40])]
        if kind != "book":
            return [self._quote(symbol, name, message, recv_ns, epoch)]
        if self._channel_of.get(symbol, channel) != channel:
            return [Ignored(f"{channel}: a second book"[:60])]
        grouped = channel.count(".") == _GROUPED - 1
        try:
            book = self._read_book(name, message, recv_ns, epoch, grouped=grouped)
        except DecodeError as error:
            text = message if isinstance(message, str) else str(message)
            whole = grouped or '"snapshot"' in text or "prev_change_id" not in text
            return self.books.malformed(
                error, symbol, is_snapshot=whole, recv_ns=recv_ns, epoch=epoch
            )
        if book.is_snapshot:
            self._channel_of[symbol] = channel
        return self.books.take(symbol, book)

    def _take_trades(
        self, name: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        """The trades in the order in which they were sent, after the `Gap`s before them.

        They are of that instrument, or, without a `name`, each of its own.
        """
        problems = Problems()
        trades: list[Trade | None] = []  # None: of an instrument that is not known
        fills = self._fills(message).params.data
        for i, fill in enumerate(fills):
            path = f"$.params.data[{i}]"
            if name and fill.instrument_name != name:
                problems.add(f"{path}.instrument_name", "another one than the channel's")
            problems.count(fill.trade_seq, f"{path}.trade_seq")
            symbol = self._names.ours(fill.instrument_name)
            trade: Any = _Trade(
                symbol or "",
                _number(fill.price, f"{path}.price", problems),
                _number(fill.amount, f"{path}.amount", problems),
                _SIDES[fill.direction], fill.trade_id, fill.trade_seq,
                problems.time_ns(fill.timestamp, f"{path}.timestamp"), recv_ns, self._venue, epoch,
            )  # fmt: skip
            trade.__class__ = Trade
            trades.append(None if symbol is None else trade)
        problems.check(self._venue, message)
        items: list[Event | Control] = []
        told: list[Event | Control] = [
            trade or Ignored("an unknown instrument") for trade in trades
        ]
        order = range(len(fills))
        for i in order if len(fills) == 1 else sorted(order, key=lambda i: fills[i].trade_seq):
            one = trades[i]
            if one is None:
                continue
            place = self._trades.check(one.symbol, fills[i].trade_seq)
            if isinstance(place, Hole):
                gap = place.as_gap(one.symbol, recv_ns=recv_ns, venue=self._venue, epoch=epoch)
                items.append(gap)
                if place.late:
                    told[i] = Ignored("late")
            elif place is Order.DUPLICATE:
                told[i] = Ignored("duplicate")
        return [*items, *told]

    def _quote(
        self, symbol: str, name: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Quote:
        """The top of the book; of an empty side the price is null, or 0 as its amount is."""
        top = self._tops(message).params.data
        problems = Problems()
        if top.instrument_name != name:
            problems.add("$.params.data.instrument_name", "another one than the channel's")
        sides: list[Decimal | None] = []
        for price_name, amount_name in (
            ("best_bid_price", "best_bid_amount"), ("best_ask_price", "best_ask_amount"),
        ):  # fmt: skip
            price, amount = getattr(top, price_name), getattr(top, amount_name)
            if price is None or (price == 0 == amount and not isinstance(price, bool)):
                sides += None, None
            else:
                sides.append(_number(price, f"$.params.data.{price_name}", problems))
                sides.append(_number(amount, f"$.params.data.{amount_name}", problems))
        time_ns = problems.time_ns(top.timestamp, "$.params.data.timestamp")
        problems.check(self._venue, message)
        quote: Any = _Quote(symbol, *sides, None, time_ns, recv_ns, self._venue, epoch)
        quote.__class__ = Quote
        return quote  # type: ignore[no-any-return]  # its class was changed in the line before
