"""What Gemini's messages mean, of one connection; `feedhandler.venues.gemini` has the rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from feedhandler._core.books import SessionBooks
from feedhandler._core.validators import BookMessage, Unchecked
from feedhandler.abc import (
    Control,
    Heartbeat,
    Ignored,
    Refused,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import REFUSALS, FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Trade
from feedhandler.venues.gemini_data import (
    Beat,
    Envelope,
    GeminiCodec,
    L2Updates,
    ReadTrade,
    TradeMessage,
    read,
)

__all__ = ["CHANNELS", "VALIDATOR", "GeminiSession", "ask"]

VALIDATOR = Unchecked()
CHANNELS = ("trades", "book")  # the venue has both in one


def ask(kind: str, symbols: Iterable[str], instruments: Instruments) -> list[str]:
    """One message for all; none for none."""
    theirs = [instruments.by_symbol(symbol).venue_symbol for symbol in dict.fromkeys(symbols)]
    if not theirs:
        return []
    request = {"type": kind, "subscriptions": [{"name": "l2", "symbols": theirs}]}
    return [msgspec.json.encode(request).decode()]


class GeminiSession:
    """One connection. What it was not asked for is passed over; what was never asked for is told,
    as where a recording is read."""

    def __init__(self, venue: str, instruments: Instruments) -> None:
        self._venue = venue
        self._instruments = instruments
        self._symbols = instruments.symbols
        self._codec = GeminiCodec(venue)
        self._books = SessionBooks(venue, validator=VALIDATOR)
        self._envelope = FastDecoder(Envelope, venue=venue, amounts_as_text=True)
        # Symbols that were asked for, and what of them is wanted; `None`: nothing was asked for.
        self._wanted: dict[str, set[str]] | None = None
        self._pending: set[str] = set()  # asked for, and not answered
        self._begun: set[str] = set()  # those of which a book's message came
        self._last_trade: dict[str, int] = {}
        self._missed: set[str] = set()  # asked for anew, so their recent trades may be new
        self._to_say: list[Control] = []

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        """What has come already is ended first where it is asked for again, to have it whole.

        The feed ends with the last that is wanted of it; that is never confirmed, so it is taken as
        done when the next message comes.
        """
        wanted = self._wanted = self._wanted or {}
        ended, begun, again = [], [], []
        for one in unsubscribe:
            channels = wanted.get(one.symbol, set())
            channels.discard(one.channel)
            if not channels and wanted.pop(one.symbol, None) is not None:
                ended.append(one.symbol)
                self._pending.discard(one.symbol)
        if unsubscribe:
            self._books.forget(unsubscribe)
            self._to_say.append(Unsubscribed(tuple(unsubscribe)))
        for one in subscribe:
            channels = wanted.setdefault(one.symbol, set())
            if channels and one.channel == "trades" and one.symbol not in self._pending:
                self._to_say.append(Subscribed([one]))  # it comes with the book already
            elif one.symbol not in begun:
                begun.append(one.symbol)
                if channels:
                    again.append(one.symbol)
            channels.add(one.channel)
        self._pending.update(begun)
        self._missed.update(again)
        return [
            *ask("unsubscribe", [*ended, *again], self._instruments),
            *ask("subscribe", begun, self._instruments),
        ]

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        items = self._decode(message, recv_ns, epoch)
        said, self._to_say = self._to_say, []
        return [*said, *items] if said else items

    def _decode(self, message: str | bytes, recv_ns: int, epoch: int) -> Sequence[Event | Control]:
        found: L2Updates | TradeMessage | Beat | None
        try:
            found = read(message)
        except REFUSALS:
            found = None
        if isinstance(found, Beat):
            return [Heartbeat()]
        if isinstance(found, L2Updates):
            return self._updates(found, found.symbol, message, recv_ns, epoch)
        if isinstance(found, TradeMessage):
            return self._traded(found, message, recv_ns, epoch)
        try:
            envelope = self._envelope.decode(message)
        except DecodeError as error:  # it may have been any book's
            return self._books.malformed(
                error, None, is_snapshot=False, recv_ns=recv_ns, epoch=epoch
            )
        if envelope.result == "error" or envelope.type == "error":
            return self._refused(envelope)
        if envelope.type == "trade":
            return self._traded(None, message, recv_ns, epoch)
        if envelope.type == "l2_updates":
            return self._updates(None, envelope.symbol, message, recv_ns, epoch)
        return [Ignored(envelope.type[:40] or "message without a type")]

    # --- books ---

    def _updates(
        self,
        found: L2Updates | None,
        theirs: str,
        message: str | bytes,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control]:
        symbol = self._symbol_of(theirs)
        if theirs and (symbol is None or not self._wants(symbol)):
            return [Ignored(f"l2_updates {theirs}"[:40])]
        answer = self._codec.is_answer(message) if found is None else found.is_answer
        first = symbol not in self._begun
        items: list[Event | Control] = []
        if symbol is None or self._wants(symbol, "book"):
            try:
                sides = None
                if found is not None:
                    sides = self._codec.sides(found, delta=not answer)
                bids, asks = sides or self._codec.strictly(message, delta=not answer)
            except DecodeError as error:
                return self._books.malformed(
                    error, symbol, is_snapshot=answer or first, recv_ns=recv_ns, epoch=epoch
                )
            if symbol is None:
                return [Ignored("l2_updates of no symbol")]
            # The first one is the whole book, also where it has no trades to show.
            whole = bool(bids and asks and all(level.size for level in (*bids, *asks)))
            answer = answer or (first and whole)
            book = BookMessage(answer, bids, asks, None, recv_ns, epoch)
            items += self._books.take(symbol, book)
        self._begun.add(symbol)
        answered = (answer or not self._wants(symbol, "book")) and symbol in self._pending
        if answered and self._wanted is not None:
            self._pending.discard(symbol)
            confirmed = [Subscription(channel, symbol) for channel in sorted(self._wanted[symbol])]
            items.insert(0, Subscribed(confirmed))
        if answer and symbol in self._missed:
            self._missed.discard(symbol)
            items += self._caught_up(symbol, self._codec.recent(found), recv_ns, epoch)
        if items or self._wants(symbol, "book"):
            return items
        return [Ignored("l2_updates of which only trades are wanted")]

    def _symbol_of(self, theirs: str) -> str | None:
        return self._symbols.get(theirs) or self._symbols.get(theirs.upper())

    def _wants(self, symbol: str, channel: str | None = None) -> bool:
        if self._wanted is None:
            return True
        channels = self._wanted.get(symbol, ())
        return bool(channels) if channel is None else channel in channels

    # --- trades ---

    def _traded(
        self, found: TradeMessage | None, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        theirs, told = self._codec.trade(found, message)
        symbol = self._symbol_of(theirs)
        if symbol is None or told is None or not self._wants(symbol, "trades"):
            return [Ignored(f"trade {theirs}"[:40])]
        return [self._trade(symbol, told, recv_ns, epoch)]

    def _trade(self, symbol: str, told: ReadTrade, recv_ns: int, epoch: int) -> Trade:
        number = _number(told)
        if number is not None:
            self._last_trade[symbol] = number
        return Trade(
            symbol, told.price, told.size, told.side, told.trade_id, None, told.time_ns, recv_ns,
            self._venue, epoch,
        )  # fmt: skip

    def _caught_up(
        self, symbol: str, recent: Sequence[ReadTrade], recv_ns: int, epoch: int
    ) -> list[Trade]:
        """What was traded between the end of the feed and its new beginning."""
        last = self._last_trade.get(symbol)
        if last is None or not self._wants(symbol, "trades"):
            return []
        new = [told for told in recent if (_number(told) or 0) > last]
        return [self._trade(symbol, told, recv_ns, epoch) for told in new]

    # --- errors ---

    def _refused(self, envelope: Envelope) -> list[Control]:
        """What it names, and else the one that is waited for, if it is one."""
        told = ": ".join(filter(None, (envelope.reason, envelope.message)))
        words = {word.strip("'\".,:;()").upper() for word in told.split()}
        named = {
            symbol
            for symbol in self._pending
            if self._instruments.by_symbol(symbol).venue_symbol in words
        }
        if not named and len(self._pending) == 1:
            named = set(self._pending)
        refused: list[Control] = []
        for symbol in sorted(named):
            self._pending.discard(symbol)
            channels = sorted((self._wanted or {}).pop(symbol, ()))
            refused += [Refused(Subscription(channel, symbol), told) for channel in channels]
        return refused or [Refused(None, told or "an error without a message")]


def _number(told: ReadTrade) -> int | None:
    text = told.trade_id
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else None
