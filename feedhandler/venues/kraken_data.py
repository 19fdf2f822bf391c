"""The data of Kraken's WebSocket API v2 (sources: see `kraken`): from the wire to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from feedhandler._core.construct import twin_of
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler.abc import Control, Ignored
from feedhandler.codec import MIN_AMOUNT, REFUSALS, FastDecoder, are_plain, parse_time_ns
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Level, Quote, Trade
from feedhandler.venues.kraken_market import MAX_CHECKSUM
from feedhandler.venues.kraken_pairs import KrakenPairs
from feedhandler.venues.kraken_wire import (
    Book,
    Books,
    Kind,
    PlainBooks,
    Tickers,
    TradeRow,
    Trades,
    check_sane,
    time_of,
    told,
)

__all__ = ["KrakenData"]

_Trade, _Quote = twin_of(Trade), twin_of(Quote)
_UNDERSCORED = (
    '"trade_id"', '"ord_type"', '"bid_qty"', '"ask_qty"', '"change_pct"',
)  # fmt: skip


class KrakenData:
    """What the data messages of one connection mean."""

    def __init__(self, venue: str, pairs: KrakenPairs) -> None:
        self._venue = venue
        self._pairs = pairs
        self._sequence: SequenceTracker[str] = SequenceTracker()
        self._plain_books = msgspec.json.Decoder(PlainBooks).decode
        self._plain_trades = msgspec.json.Decoder(Trades).decode
        self._plain_tickers = msgspec.json.Decoder(Tickers).decode
        self._books = FastDecoder(Books, venue=venue)
        self._trades = FastDecoder(Trades, venue=venue)
        self._tickers = FastDecoder(Tickers, venue=venue)

    def last_trade(self, symbol: str) -> int | None:
        return self._sequence.last(symbol)

    def take_plain(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control] | None:
        """What follows from data that has nothing out of the ordinary; else `None`."""
        try:
            if isinstance(message, bytes):
                message = message.decode()
            if message.startswith('{"channel":"book"'):
                return self._plain_book(message, recv_ns, epoch) if are_plain((message,)) else None
            trades = message.startswith('{"channel":"trade"')
            if not trades and not message.startswith('{"channel":"ticker"'):
                return None
            bare = message
            for key in _UNDERSCORED:  # what is left is in no key of ours
                bare = bare.replace(key, "")
            if not are_plain((bare,)):
                return None
            if trades:
                return self._trade_events(self._plain_trades(message), message, recv_ns, epoch)
            return self._quote_events(self._plain_tickers(message), message, recv_ns, epoch)
        except (*REFUSALS, DecodeError):
            return None

    def _plain_book(
        self, message: str, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control] | None:
        decoded = self._plain_books(message)
        book = decoded.data[0]
        symbol = self._pairs.known(book.symbol)
        if symbol is None or not 0 <= book.checksum <= MAX_CHECKSUM:
            return None
        try:
            time_ns = None if book.timestamp is None else parse_time_ns(book.timestamp)
        except ValueError:
            return None
        return self._pairs.take(
            symbol,
            [Level(row.price, row.qty) for row in book.bids],
            [Level(row.price, row.qty) for row in book.asks],
            book.checksum,
            is_snapshot=decoded.type == "snapshot",
            time_ns=time_ns,
            recv_ns=recv_ns,
            epoch=epoch,
        )

    def take(
        self, message: str | bytes, document: dict[str, Any], *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """As `take_plain()`, for any message of a data channel; `document` is its JSON.

        Raises `DecodeError`, unless it is of a book that can be told.
        """
        match document["channel"]:
            case "trade":
                trades = self._trades.decode_strictly(message)
                return self._trade_events(trades, message, recv_ns, epoch)
            case "ticker":
                tickers = self._tickers.decode_strictly(message)
                return self._quote_events(tickers, message, recv_ns, epoch)
        try:
            books = self._books.decode_strictly(message)
        except DecodeError as error:
            return self._malformed(error, document, recv_ns, epoch)
        items: list[Event | Control] = []
        for k, book in enumerate(books.data):
            items += self._book(book, f"$.data[{k}]", books.type, message, recv_ns, epoch)
        return items or [Ignored("message without a book")]

    def _book(
        self, book: Book, path: str, kind: Kind, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        symbol = self._pairs.known(book.symbol)
        if symbol is None:
            return [Ignored(f"book of {book.symbol}"[:80])]
        problems: list[tuple[str, str]] = []
        if not 0 <= book.checksum <= MAX_CHECKSUM:
            problems.append((f"{path}.checksum", "not an unsigned number of 32 bits"))
        return self._pairs.take_strictly(
            symbol,
            [[level.price, level.qty] for level in book.bids],
            [[level.price, level.qty] for level in book.asks],
            book.checksum,
            problems,
            message,
            paths=(f"{path}.bids", f"{path}.asks"),
            is_snapshot=kind == "snapshot",
            time_ns=time_of(book.timestamp, f"{path}.timestamp", problems),
            recv_ns=recv_ns,
            epoch=epoch,
        )

    def _malformed(
        self, error: DecodeError, document: dict[str, Any], recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """The book that a message names has lost something; raises `error` where it names none."""
        match document:
            case {"data": [{"symbol": str(pair)}, *_]}:
                snapshot = document.get("type") == "snapshot"
                return self._pairs.malformed(
                    error, pair, is_snapshot=snapshot, recv_ns=recv_ns, epoch=epoch
                )
        raise error

    def _trade_events(
        self, trades: Trades, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        problems: list[tuple[str, str]] = []
        read: list[tuple[str, TradeRow, int | None]] = []
        for k, row in enumerate(trades.data):
            path = f"$.data[{k}]"
            check_sane(row.price, f"{path}.price", problems, least=MIN_AMOUNT)
            check_sane(row.qty, f"{path}.qty", problems, least=MIN_AMOUNT)
            if row.trade_id < 0:
                problems.append((f"{path}.trade_id", f"negative: {row.trade_id}"))
            time_ns = time_of(row.timestamp, f"{path}.timestamp", problems)
            symbol = self._pairs.known(row.symbol)
            if symbol is not None:
                read.append((symbol, row, time_ns))
        if problems:
            raise DecodeError(self._venue, message, problems)
        items: list[Event | Control] = []
        if trades.type == "snapshot":
            read = self._begin(read, items, recv_ns, epoch)
        for symbol, row, time_ns in read:
            if trades.type == "update" and not self._follows(
                symbol, row.trade_id, items, recv_ns, epoch
            ):
                continue
            event = _Trade(
                symbol, row.price, row.qty, row.side, str(row.trade_id), row.trade_id, time_ns,
                recv_ns, self._venue, epoch,
            )  # fmt: skip
            event.__class__ = Trade
            items.append(event)
        return items or [Ignored("no trade that is new, or of a known pair")]

    def _follows(
        self, symbol: str, number: int, items: list[Event | Control], recv_ns: int, epoch: int
    ) -> bool:
        """Whether it is new; a `Gap` is announced before it if trades are missing."""
        order = self._sequence.check(symbol, number)
        if order is Order.DUPLICATE:
            items.append(Ignored("duplicate"))
            return False
        if isinstance(order, Hole):
            items.append(order.as_gap(symbol, recv_ns=recv_ns, venue=self._venue, epoch=epoch))
            return not order.late
        return True

    def _begin(
        self,
        read: list[tuple[str, TradeRow, int | None]],
        items: list[Event | Control],
        recv_ns: int,
        epoch: int,
    ) -> list[tuple[str, TradeRow, int | None]]:
        """The trades of a snapshot that are new, in whatever order it has them."""
        new = []
        numbers: dict[str, list[int]] = {}
        for one in read:
            symbol, number = one[0], one[1].trade_id
            if number > (self._sequence.last(symbol) or -1):
                numbers.setdefault(symbol, []).append(number)
                new.append(one)
        for symbol, those in numbers.items():
            if self._sequence.last(symbol) is not None:
                self._follows(symbol, min(those), items, recv_ns, epoch)
            self._sequence.resume_after(symbol, max(those))
        return new

    def _quote_events(
        self, tickers: Tickers, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        problems: list[tuple[str, str]] = []
        items: list[Event | Control] = []
        for k, row in enumerate(tickers.data):
            path = f"$.data[{k}]"
            for name in ("bid", "bid_qty", "ask", "ask_qty"):
                check_sane(getattr(row, name), f"{path}.{name}", problems)
            time_ns = time_of(row.timestamp, f"{path}.timestamp", problems)
            symbol = self._pairs.known(row.symbol)
            if symbol is None:
                items.append(Ignored(f"ticker of {row.symbol}"[:80]))
                continue
            event = _Quote(
                symbol, *told(row.bid, row.bid_qty), *told(row.ask, row.ask_qty), None,
                time_ns or None, recv_ns, self._venue, epoch,
            )  # fmt: skip
            event.__class__ = Quote
            items.append(event)
        if problems:
            raise DecodeError(self._venue, message, problems)
        return items or [Ignored("message without a ticker")]
