"""The market data of Bybit v5; `feedhandler.venues.bybit` has the rules and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from feedhandler._core.books import SessionBooks
from feedhandler._core.construct import twin_of
from feedhandler._core.fields import MS, Problems, SymbolNames, are_amounts
from feedhandler._core.levels import amount_of, book_side, strict_side
from feedhandler._core.validators import BookMessage, ByCount
from feedhandler.abc import Control, Ignored, Subscription
from feedhandler.codec import FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Quote, Side, Trade
from feedhandler.venues.bybit_data_wire import (
    Book,
    FastBook,
    FastFills,
    FastTicker,
    Fills,
    Ticker,
)

__all__ = ["VALIDATOR", "BybitData"]

VALIDATOR = ByCount()
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_MAX_TARGETS = 8192  # topics that are remembered
_RESTARTED = 1  # this number begins the venue's count anew
_Trade = twin_of(Trade)
_Quote = twin_of(Quote)


_TOP = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")
_Side = tuple[Decimal | None, Decimal | None]  # price and size; of an empty side there is none


class BybitData:
    """What one connection has brought of each symbol. `tops` says that the topic of level 1 is the
    top of the book."""

    def __init__(self, venue: str, names: SymbolNames, *, tops: bool) -> None:
        self._venue = venue
        self._names = names
        self._tops = tops
        self.books = SessionBooks(venue, validator=VALIDATOR)
        self._fills = FastDecoder(Fills, venue=venue, fast=FastFills)
        self._ticker = FastDecoder(Ticker, venue=venue, amounts_as_text=True, fast=FastTicker)
        self._book = FastDecoder(Book, venue=venue, fast=FastBook)
        self._targets: dict[str, tuple[str, str, str]] = {}  # of topics of ours
        # By symbol: of a ticker's four amounts those that have come, and the two sides of a top.
        self._tickers: dict[str, dict[str, Decimal | None]] = {}
        self._sides: dict[str, list[_Side]] = {}
        # Which topic a symbol's book comes from: those of two depths are two books.
        self._topic_of: dict[str, str] = {}

    def forget(self, subscriptions: Iterable[Subscription]) -> None:
        """They have ended, or will begin anew."""
        gone = list(subscriptions)
        self.books.forget(gone)
        for subscription in gone:
            if subscription.channel == "ticker":
                self._tickers.pop(subscription.symbol, None)
                self._sides.pop(subscription.symbol, None)
            elif subscription.channel == "book":
                self._topic_of.pop(subscription.symbol, None)

    def _target(self, topic: str) -> tuple[str, str, str]:
        """Our channel, if it is one, the venue's name of the symbol, and ours, if it is known."""
        kind, _, name = topic.partition(".")
        channel = {"publicTrade": "trades", "tickers": "ticker"}.get(kind, "")
        if kind == "orderbook":
            depth, _, name = name.partition(".")
            channel = "ticker" if depth == "1" and self._tops else "book"
        return channel, name, self._names.ours(name) or ""

    def subscription(self, topic: str) -> Subscription | None:
        channel, _, symbol = self._target(topic)
        return Subscription(channel, symbol) if channel and symbol else None

    def take(
        self, topic: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode a message of that topic."""
        target = self._targets.get(topic)
        channel, name, symbol = target or self._target(topic)
        if target is None:
            if not (channel and symbol):
                return [Ignored(topic[:40])]
            if len(self._targets) < _MAX_TARGETS:
                self._targets[topic] = channel, name, symbol
        if channel == "trades":
            return self._trades(topic, name, symbol, message, recv_ns, epoch)
        if channel == "ticker" and topic.startswith("tickers"):
            return self._quote(topic, name, symbol, message, recv_ns, epoch)
        if channel == "ticker":
            return self._top(self._levels(topic, name, message, recv_ns, epoch), symbol)
        if self._topic_of.get(symbol, topic) != topic:
            return [Ignored(f"{topic}: a second book"[:60])]
        try:
            book = self._levels(topic, name, message, recv_ns, epoch)
        except DecodeError as error:
            whole = "snapshot" in (message if isinstance(message, str) else str(message))
            return self.books.malformed(
                error, symbol, is_snapshot=whole, recv_ns=recv_ns, epoch=epoch
            )
        if book.is_snapshot:
            self._topic_of[symbol] = topic
        return self.books.take(symbol, book)

    # --- trades ---

    def _trades(
        self, topic: str, name: str, symbol: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        decoded = self._fills.decode(message)
        items: list[Event | Control] = []
        for fill in decoded.data:
            right = fill.s == name and decoded.topic == topic
            if not (right and are_amounts(fill.p, fill.v) and 0 <= fill.T < 2**53):
                raise self._wrong_fills(decoded, topic, name, message)
            trade: Any = _Trade(
                symbol, fill.p, fill.v, _SIDES[fill.S], fill.i, None, fill.T * MS,
                recv_ns, self._venue, epoch,
            )  # fmt: skip
            trade.__class__ = Trade
            items.append(trade)
        return items

    def _wrong_fills(
        self, fills: Fills, topic: str, name: str, message: str | bytes
    ) -> DecodeError:
        problems = Problems()
        for i, fill in enumerate(fills.data):
            if fill.s != name or fills.topic != topic:
                problems.add(f"$.data[{i}].s", "another symbol than the topic's")
            problems.count(fill.T, f"$.data[{i}].T")
            problems.amount(fill.p, f"$.data[{i}].p")
            problems.amount(fill.v, f"$.data[{i}].v")
        return DecodeError(self._venue, message, problems.found)

    # --- the top of the book ---

    def _quote(
        self, topic: str, name: str, symbol: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        """A ticker: of a contract what has changed, of spot nothing of the book at all."""
        known = self._tickers.setdefault(symbol, {})
        problems = Problems()
        try:
            ticker = self._ticker.decode(message)
            data = ticker.data
            if ticker.topic != topic or data.symbol != name:
                problems.add("$.data.symbol", "another symbol than the topic's")
            if ticker.type == "snapshot":
                known.clear()
            sent = data.bid1Price, data.bid1Size, data.ask1Price, data.ask1Size
            for field, text in zip(_TOP, sent, strict=True):
                if text:
                    amount = amount_of(text)
                    if amount is None:
                        amount = problems.amount(text, f"$.data.{field}", zero=True)
                    known[field] = amount
                elif text is not None:  # an empty side is sent as an empty text
                    known[field] = None
            time_ns = problems.time_ns(ticker.ts, "$.ts")
            problems.check(self._venue, message)
        except DecodeError:
            known.clear()  # what it would have changed is not known: it has to come anew
            raise
        if not self._tops and len(known) < len(_TOP):
            return [Ignored("ticker before all of it is known")]
        bid, bid_size, ask, ask_size = map(known.get, _TOP)
        quote: Any = _Quote(
            symbol, bid or None, bid_size if bid else None, ask or None, ask_size if ask else None,
            None, time_ns, recv_ns, self._venue, epoch,
        )  # fmt: skip
        quote.__class__ = Quote
        return [quote]

    def _top(self, book: BookMessage, symbol: str) -> list[Event | Control]:
        """Level 1: a snapshot, or what has changed of one, as it was sent before 2025."""
        if book.is_snapshot:
            self._sides[symbol] = [(None, None), (None, None)]
        sides = self._sides.get(symbol)
        if sides is None:
            return [Ignored("top of the book before its snapshot")]
        for i, levels in enumerate((book.bids, book.asks)):
            for price, size in levels:
                if size:
                    sides[i] = price, size
                    break  # the best comes first
                if sides[i][0] == price:
                    sides[i] = None, None
        return [
            Quote(
                symbol, *sides[0], *sides[1], None, book.time_ns, book.recv_ns, self._venue,
                book.epoch,
            )
        ]  # fmt: skip

    # --- the book ---

    def _levels(
        self, topic: str, name: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> BookMessage:
        """A message of a book, checked. Raises `DecodeError`."""
        book = self._book.decode(message)
        data = book.data
        number = data.u
        whole = book.type == "snapshot" or number == _RESTARTED
        bids = book_side(data.b, down=True, delta=not whole)
        asks = book_side(data.a, down=False, delta=not whole)
        if (
            bids is None
            or asks is None
            or not (0 <= number < 2**63 and 0 <= book.ts < 2**53)
            or data.s != name
            or book.topic != topic
        ):
            raise self._wrong_levels(book, topic, name, message, whole=whole)
        return BookMessage(
            whole, bids, asks, book.ts * MS, recv_ns, epoch,
            sequence=number, restarts=number == _RESTARTED,
        )  # fmt: skip

    def _wrong_levels(
        self, book: Book, topic: str, name: str, message: str | bytes, *, whole: bool
    ) -> DecodeError:
        problems = Problems()
        if book.topic != topic or book.data.s != name:
            problems.add("$.data.s", "another symbol than the topic's")
        problems.time_ns(book.ts, "$.ts")
        problems.count(book.data.u, "$.data.u")
        for name, levels in (("b", book.data.b), ("a", book.data.a)):
            strict_side(
                levels, down=name == "b", delta=not whole, path=f"$.data.{name}",
                problems=problems.found,
            )  # fmt: skip
        return DecodeError(self._venue, message, problems.found)
