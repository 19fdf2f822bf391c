"""What Coinbase's messages mean, of one connection; `feedhandler.venues.coinbase` has the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from feedhandler._core.books import SessionBooks
from feedhandler._core.resync import Item, SyncState
from feedhandler._core.sequence import Hole
from feedhandler._core.validators import BookMessage, ByConnection
from feedhandler.abc import (
    Control,
    Heartbeat,
    Ignored,
    Malformed,
    Refused,
    Resync,
    Subscribed,
    Subscription,
)
from feedhandler.codec import REFUSALS, FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Gap, GapReason, Level
from feedhandler.venues.coinbase_book import Books, CoinbaseBookCodec
from feedhandler.venues.coinbase_data import CoinbaseCodec
from feedhandler.venues.coinbase_messages import (
    Beats,
    Envelope,
    Message,
    Subscriptions,
    Tickers,
    Trades,
)
from feedhandler.venues.coinbase_products import ask, own_name, their_name

__all__ = ["VALIDATOR", "CoinbaseSession"]

VALIDATOR = ByConnection()
_read = msgspec.json.Decoder(Trades | Tickers | Books | Beats).decode
_CHANNEL_OF: Mapping[type, str] = {
    Trades: "market_trades", Tickers: "ticker", Books: "l2_data", Beats: "heartbeats",
}  # fmt: skip
# What is told of these has a number in every message.
_NUMBERED = frozenset({"market_trades", "ticker", "l2_data"})


class CoinbaseSession:
    """One connection: its sequence runs over all messages, those of control included."""

    def __init__(self, venue: str, instruments: Instruments) -> None:
        self._venue = venue
        self._instruments = instruments
        listed: Callable[[str], str | None] = instruments.symbols.get
        self._symbol_of = listed if len(instruments) else own_name
        self._last = -1  # the number that came last: a connection counts from 0
        self._after_jump: int | None = None  # what follows, if the jump to `_last` was none
        self._codec = CoinbaseCodec(venue, self._symbol_of)
        self._book_codec = CoinbaseBookCodec(venue, self._codec)
        self._books = SessionBooks(venue, validator=VALIDATOR)
        self._newest_ns: dict[str, int] = {}  # when the last message of each book was sent
        self._pending: dict[Subscription, None] = {}  # asked for, and not confirmed
        self._following: set[str] | None = None  # books that were asked for; `None`: not known
        self._beats: int | None = None
        self._lost_since_beat = False
        self._envelope = FastDecoder(Envelope, venue=venue, amounts_as_text=True)
        self._subscriptions = FastDecoder(Subscriptions, venue=venue, amounts_as_text=True)

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def best(self, symbol: str) -> tuple[Level | None, Level | None]:
        return self._books.best(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        """A book that is asked for again ends first: only then it begins with a snapshot."""
        following = self._following = self._following or set()
        again = [s for s in subscribe if s.channel == "book" and s.symbol in following]
        following.update(s.symbol for s in subscribe if s.channel == "book")
        following.difference_update(s.symbol for s in unsubscribe if s.channel == "book")
        self._books.forget(unsubscribe)
        self._pending.update(dict.fromkeys(subscribe))
        for subscription in unsubscribe:
            self._pending.pop(subscription, None)
        return ask(
            subscribe=subscribe, unsubscribe=[*unsubscribe, *again], instruments=self._instruments
        )

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message; a `Gap` for all symbols comes first where messages were lost."""
        read: Message | None
        number: int | None
        try:
            taken: Message = _read(message)
            read, number, channel = taken, taken.sequence_num, _CHANNEL_OF[type(taken)]
        except REFUSALS:
            envelope = self._envelope.decode(message)
            if not envelope.channel:
                return self._unnumbered(envelope)
            read, number, channel = None, envelope.sequence_num, envelope.channel
            if number is None and channel not in _NUMBERED:
                return self._take(None, channel, message, 0, recv_ns, epoch)
            if number is None or number < 0:
                told = "missing: sequence_num" if number is None else f"negative: {number}"
                raise DecodeError(self._venue, message, [("$.sequence_num", told)]) from None
        items: list[Event | Control] = []
        if self._last == number - 1:
            self._last = number
            self._after_jump = None
        elif number <= self._last and number != self._after_jump:
            return [Ignored("duplicate")]  # or late, and then announced already
        else:
            if number > self._last:
                hole = Hole(self._last + 1, number - 1)
                gap = hole.as_gap(None, recv_ns=recv_ns, venue=self._venue, epoch=epoch)
                items += self._lost(gap)
            # If it was this number that was wrong, the next message tells.
            self._after_jump = self._last + 2 if number > self._last else None
            self._last = number
        try:
            items += self._take(read, channel, message, number, recv_ns, epoch)
        except DecodeError as error:
            if not items:
                raise
            items.append(Malformed(error))  # the gap before it is true all the same
        return items

    def _unnumbered(self, envelope: Envelope) -> Sequence[Control]:
        if envelope.type != "error":
            return [Ignored(envelope.type[:40] or "message without a channel")]
        told = ": ".join(filter(None, (envelope.message, envelope.reason)))
        words = set(told.replace(",", " ").replace('"', " ").split())
        named = [s for s in self._pending if their_name(s.symbol, self._instruments) in words]
        for subscription in named:
            del self._pending[subscription]
        return [Refused(s, told or "an error without a message") for s in named or (None,)]

    def _take(
        self,
        read: Message | None,
        channel: str,
        message: str | bytes,
        number: int,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control]:
        match channel:
            case "l2_data":
                books = read if isinstance(read, Books) else None
                return self._take_books(books, message, recv_ns, epoch)
            case "market_trades":
                trades = read if isinstance(read, Trades) else None
                return self._codec.trades(trades, message, number, recv_ns, epoch)
            case "ticker":
                tickers = read if isinstance(read, Tickers) else None
                return self._codec.quotes(tickers, message, number, recv_ns, epoch)
            case "heartbeats":
                return self._beat(read if isinstance(read, Beats) else None, recv_ns, epoch)
            case "subscriptions":
                return [self._subscribed(message)]
            case other:
                return [Ignored(other[:40])]

    # --- books ---

    def _take_books(
        self, read: Books | None, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        try:
            time_ns, books = self._book_codec.books(read, message)
        except DecodeError as error:
            return self._malformed(error, message, recv_ns, epoch)
        items: list[Event | Control] = []
        for book in books:
            symbol = self._symbol_of(book.product)
            if symbol is None or (self._following is not None and symbol not in self._following):
                items.append(Ignored("book that was not asked for"))
                continue
            if book.is_snapshot and time_ns < self._newest_ns.get(symbol, 0):
                items += self._too_old(symbol)
                continue
            self._newest_ns[symbol] = time_ns
            items += self._books.take(
                symbol,
                BookMessage(book.is_snapshot, book.bids, book.asks, time_ns, recv_ns, epoch),
            )
        return items

    def _too_old(self, symbol: str) -> list[Event | Control]:
        """A snapshot that was sent before what has come of the book already."""
        sync = self._books.of(symbol)
        ignored = Ignored("snapshot that is too old")
        return [ignored] if sync.state is SyncState.SYNCED else [ignored, Resync(sync.subscription)]

    def _malformed(
        self, error: DecodeError, message: str | bytes, recv_ns: int, epoch: int
    ) -> list[Event | Control]:
        """No later message will show that this one is missing: its number was right."""
        items: list[Item] = []
        products = self._book_codec.products(message)
        if products is None:  # it can't be said whose they are
            items += self._books.interrupted(GapReason.MALFORMED, recv_ns=recv_ns, epoch=epoch)
        for product, is_snapshot in (products or {}).items():
            sync = self._books.get(self._symbol_of(product) or "")
            if sync is not None:
                items += sync.malformed(is_snapshot=is_snapshot, recv_ns=recv_ns, epoch=epoch)
        if not items:
            raise error
        return [*items, Malformed(error, announced=True)]

    def _lost(self, gap: Gap) -> list[Event | Control]:
        self._lost_since_beat = True
        reason, recv_ns, epoch = gap.reason, gap.recv_ns, gap.epoch
        return [gap, *self._books.interrupted(reason, recv_ns=recv_ns, epoch=epoch)]

    # --- controls ---

    def _beat(self, read: Beats | None, recv_ns: int, epoch: int) -> list[Event | Control]:
        """A heartbeat that is missing is a loss, if that has not shown in the count of messages."""
        items: list[Event | Control] = [Heartbeat()]
        for event in read.events if read is not None else ():
            beats = event.heartbeat_counter
            if isinstance(beats, str):
                beats = int(beats) if beats.isdecimal() and len(beats) < 19 else None
            last, lost = self._beats, self._lost_since_beat
            self._beats, self._lost_since_beat = beats, False
            if beats is not None and last is not None and beats > last + 1 and not lost:
                gap = Gap(
                    None, GapReason.SEQUENCE, None, None, None, recv_ns, None, recv_ns,
                    self._venue, epoch,
                )  # fmt: skip
                items = [*self._lost(gap), *items]
                self._lost_since_beat = False
        return items

    def _subscribed(self, message: str | bytes) -> Subscribed:
        """The venue lists all that is subscribed, on each change."""
        listed = self._subscriptions.decode(message).listed(self._symbol_of)
        for subscription in listed:
            self._pending.pop(subscription, None)
        return Subscribed(listed, complete=True)
