"""The market data of OKX v5; `feedhandler.venues.okx` has the rules and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from feedhandler._core.construct import twin_of
from feedhandler._core.fields import MS, Problems, SymbolNames, are_amounts, time_of
from feedhandler.abc import Control, Ignored, Subscription
from feedhandler.codec import FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Quote, Side, Trade

if TYPE_CHECKING:
    from feedhandler.venues.okx_book import BookReader

__all__ = ["BOOKS", "TOPS", "TRADES", "OKXData", "target"]

_WHOLE = "books5"  # each message is the whole of its five levels
BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt", _WHOLE)
TOPS = ("bbo-tbt", "tickers")
TRADES = ("trades", "trades-all")
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_Trade = twin_of(Trade)
_Quote = twin_of(Quote)


@frozen
class _Fill:
    tradeId: str  # noqa: N815  # the venue's names, here and below
    px: Decimal
    sz: Decimal
    side: Literal["buy", "sell"]
    ts: str


@frozen
class _Fills:
    data: list[_Fill]


@frozen
class _Ticker:
    bidPx: str  # noqa: N815
    bidSz: str  # noqa: N815
    askPx: str  # noqa: N815
    askSz: str  # noqa: N815
    ts: str


@frozen
class _Tickers:
    data: list[_Ticker]


class OKXData:
    """What one connection has brought of each symbol."""

    def __init__(self, venue: str, names: SymbolNames, reader: BookReader) -> None:
        self._venue = venue
        self._names = names
        self.books = reader.kept
        self._fills = FastDecoder(_Fills, venue=venue)
        self._tickers = FastDecoder(_Tickers, venue=venue, amounts_as_text=True)
        self._reader = reader
        # Which channel a symbol's book comes from: two of them are two books.
        self._channel_of: dict[str, str] = {}

    def forget(self, subscriptions: Iterable[Subscription]) -> None:
        """They have ended."""
        gone = list(subscriptions)
        self.books.forget(gone)
        for subscription in gone:
            if subscription.channel == "book":
                self._channel_of.pop(subscription.symbol, None)

    def take(
        self, channel: str, name: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode a message of that channel and instrument."""
        symbol = self._names.ours(name)
        if symbol is None:
            return [Ignored(f"{channel}: {name}"[:40])]
        if channel in BOOKS:
            return self._book(symbol, channel, message, recv_ns, epoch)
        if channel in TRADES:
            return self._trades(symbol, message, recv_ns, epoch)
        if channel == "tickers":
            return self._quotes(symbol, message, recv_ns, epoch)
        if channel == "bbo-tbt":
            return self._best(symbol, message, recv_ns, epoch)
        return [Ignored(channel[:40])]

    def _trades(
        self, symbol: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        fills = self._fills.decode(message).data
        items: list[Event | Control] = []
        for fill in fills:
            time_ms = time_of(fill.ts)
            if time_ms is None or not are_amounts(fill.px, fill.sz):
                problems = Problems()
                for i, one in enumerate(fills):
                    problems.time_ns(one.ts, f"$.data[{i}].ts")
                    problems.amount(one.px, f"$.data[{i}].px")
                    problems.amount(one.sz, f"$.data[{i}].sz")
                raise DecodeError(self._venue, message, problems.found)
            trade: Any = _Trade(
                symbol, fill.px, fill.sz, _SIDES[fill.side], fill.tradeId, None, time_ms * MS,
                recv_ns, self._venue, epoch,
            )  # fmt: skip
            trade.__class__ = Trade
            items.append(trade)
        return items

    # --- the top of the book ---

    def _quotes(
        self, symbol: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        problems = Problems()
        items: list[Event | Control] = []
        for i, one in enumerate(self._tickers.decode(message).data):
            path = f"$.data[{i}]"
            sides = [
                # An empty side is sent as empty text.
                problems.amount(text, f"{path}.{name}", zero=True) if text else None
                for name, text in (
                    ("bidPx", one.bidPx), ("bidSz", one.bidSz),
                    ("askPx", one.askPx), ("askSz", one.askSz),
                )
            ]  # fmt: skip
            bid, bid_size, ask, ask_size = sides
            quote: Any = _Quote(
                symbol, bid or None, bid_size if bid else None, ask or None,
                ask_size if ask else None, None, problems.time_ns(one.ts, f"{path}.ts"),
                recv_ns, self._venue, epoch,
            )  # fmt: skip
            quote.__class__ = Quote
            items.append(quote)
        problems.check(self._venue, message)
        return items

    def _best(
        self, symbol: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        items: list[Event | Control] = []
        for top in self._reader.tops(message, recv_ns, epoch):
            bid, ask = (side[0] if side else (None, None) for side in (top.bids, top.asks))
            quote: Any = _Quote(symbol, *bid, *ask, None, top.time_ns, recv_ns, self._venue, epoch)
            quote.__class__ = Quote
            items.append(quote)
        return items

    # --- the book ---

    def _book(
        self, symbol: str, channel: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        if self._channel_of.get(symbol, channel) != channel:
            return [Ignored(f"{channel}: a second book of {symbol}"[:60])]
        known = self.books.get(symbol)
        numbered = known is not None and known.newest is not None
        try:
            if channel == _WHOLE:
                books = self._reader.tops(message, recv_ns, epoch)
            else:
                books = self._reader.books(message, recv_ns, epoch, numbered=numbered)
        except DecodeError as error:
            text = message if isinstance(message, str) else str(message)
            whole = channel == _WHOLE or "snapshot" in text
            return self.books.malformed(
                error, symbol, is_snapshot=whole, recv_ns=recv_ns, epoch=epoch
            )
        if books and books[0].is_snapshot:
            self._channel_of[symbol] = channel
        if len(books) == 1:
            return self.books.take(symbol, books[0])
        return [item for book in books for item in self.books.take(symbol, book)]


def target(message: str | bytes) -> tuple[str, str]:
    """Channel and instrument of a message of data, found without decoding it; else empty."""
    if not isinstance(message, str) or not message.startswith('{"arg":{"channel":"'):
        return "", ""
    end = message.find('"', 19)
    if not message.startswith('","instId":"', end):
        return "", ""
    last = message.find('"', end + 12)
    if "\\" in message or '"event"' in message:
        return "", ""
    return message[19:end], message[end + 12 : last]
