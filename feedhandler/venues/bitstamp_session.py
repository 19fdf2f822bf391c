"""What Bitstamp's messages mean, of one connection; `feedhandler.venues.bitstamp` has the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import Factory, frozen

from feedhandler._core.books import SessionBooks
from feedhandler._core.validators import BookMessage, Unchecked
from feedhandler.abc import (
    Control,
    Heartbeat,
    HttpResponse,
    Ignored,
    ReconnectRequested,
    Refused,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import REFUSALS, FastDecoder
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Quote, Trade
from feedhandler.venues.bitstamp_data import BitstampCodec, Data, TradeMessage, read

__all__ = ["CHANNELS", "VALIDATOR", "BitstampSession", "ask"]

VALIDATOR = Unchecked()
# Our channels, and how the venue's begin.
CHANNELS = {"trades": "live_trades_", "ticker": "order_book_", "book": "diff_order_book_"}


def ask(event: str, subscriptions: Sequence[Subscription], instruments: Instruments) -> list[str]:
    """One message for each: the venue takes one channel at a time."""
    channels = [
        CHANNELS[one.channel] + instruments.by_symbol(one.symbol).venue_symbol
        for one in subscriptions
    ]
    return [
        msgspec.json.encode({"event": event, "data": {"channel": channel}}).decode()
        for channel in channels
    ]


@frozen
class _Told:
    message: str = ""
    code: Any = None  # a number, or null


@frozen
class _Envelope:
    event: str
    channel: str = ""


@frozen
class _Error:
    data: _Told = Factory(_Told)


class BitstampSession:
    """One connection. `instruments` names its markets; data of any other is passed over."""

    def __init__(self, venue: str, instruments: Instruments) -> None:
        self._venue = venue
        self._instruments = instruments
        self._codec = BitstampCodec(venue)
        self._books = SessionBooks(venue, validator=VALIDATOR, fetched=True)
        self._envelope = FastDecoder(_Envelope, venue=venue, amounts_as_text=True)
        self._error = FastDecoder(_Error, venue=venue, amounts_as_text=True)
        self._routes: dict[str, Subscription] = {}  # of the channels that were seen
        self._pending: dict[Subscription, None] = {}  # asked for, and not answered

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        self._pending.update(dict.fromkeys(subscribe))
        for subscription in unsubscribe:
            self._pending.pop(subscription, None)
        return [
            *ask("bts:unsubscribe", unsubscribe, self._instruments),
            *ask("bts:subscribe", subscribe, self._instruments),
        ]

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        found: Data | TradeMessage | None
        try:
            taken: Data | TradeMessage = read(message)
            event = "data" if isinstance(taken, Data) else "trade"
            found, channel = taken, taken.channel
        except REFUSALS:
            try:
                envelope = self._envelope.decode(message)
            except DecodeError as error:  # it may have been any book's
                return self._books.malformed(
                    error, None, is_snapshot=False, recv_ns=recv_ns, epoch=epoch
                )
            found, event, channel = None, envelope.event, envelope.channel
        if event.startswith("bts:"):
            return self._control(event, channel, message)
        route = self._route(channel)
        if route is None or event != ("trade" if route.channel == "trades" else "data"):
            return [Ignored(f"{event} {channel}"[:40])]
        if isinstance(found, TradeMessage) or route.channel == "trades":
            trades = found if isinstance(found, TradeMessage) else None
            return [self._trade(trades, message, route.symbol, recv_ns, epoch)]
        if route.channel == "ticker":
            return [self._quote(found, message, route.symbol, recv_ns, epoch)]
        try:
            book = self._codec.book(found, message, delta=True)
        except DecodeError as error:
            return self._books.malformed(
                error, route.symbol, is_snapshot=False, recv_ns=recv_ns, epoch=epoch
            )
        return self._books.take(
            route.symbol,
            BookMessage(
                False, book.bids, book.asks, book.time_ns, recv_ns, epoch, sequence=book.second
            ),
        )

    def decode_snapshot(
        self, subscription: Subscription, response: HttpResponse, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        book = self._codec.snapshot(response.body)
        # Its time is the one by which it is compared with the changes.
        time_ns = book.second * 10**9
        return self._books.take(
            subscription.symbol,
            BookMessage(True, book.bids, book.asks, time_ns, recv_ns, epoch, sequence=book.second),
        )

    # --- inside ---

    def _route(self, channel: str) -> Subscription | None:
        """Which of our channels it is, and whose."""
        route = self._routes.get(channel)
        if route is None:
            for ours, prefix in CHANNELS.items():
                if channel.startswith(prefix):
                    symbol = self._instruments.symbols.get(channel.removeprefix(prefix))
                    if symbol is None:
                        return None
                    route = self._routes[channel] = Subscription(ours, symbol)
        return route

    def _trade(
        self, found: TradeMessage | None, data: str | bytes, symbol: str, recv_ns: int, epoch: int
    ) -> Trade:
        told = self._codec.trade(found, data)
        return Trade(
            symbol, told.price, told.size, told.side, told.trade_id, None, told.time_ns, recv_ns,
            self._venue, epoch,
        )  # fmt: skip

    def _quote(
        self, found: Data | None, data: str | bytes, symbol: str, recv_ns: int, epoch: int
    ) -> Quote:
        top = self._codec.best(found, data)
        bid, bid_size = top.bids[0] if top.bids else (None, None)
        ask_price, ask_size = top.asks[0] if top.asks else (None, None)
        return Quote(
            symbol, bid, bid_size, ask_price, ask_size, None, top.time_ns, recv_ns, self._venue,
            epoch,
        )  # fmt: skip

    def _control(self, event: str, channel: str, message: str | bytes) -> Sequence[Control]:
        route = self._route(channel)
        match event:
            case "bts:heartbeat":
                return [Heartbeat()]
            case "bts:subscription_succeeded" if route is not None:
                self._pending.pop(route, None)
                return [Subscribed([route])]
            case "bts:unsubscription_succeeded" if route is not None:
                self._books.forget([route])
                return [Unsubscribed([route])]
            case "bts:request_reconnect":
                return [ReconnectRequested(event)]
            case "bts:error":
                return [self._refused(route, message)]
            case _:
                return [Ignored(event[:40])]

    def _refused(self, route: Subscription | None, message: str | bytes) -> Refused:
        """It mostly does not say which: then it is the one that is waited for, if it is one."""
        told = self._error.decode(message).data
        if route is None and len(self._pending) == 1:
            route = next(iter(self._pending))
        if route is not None:
            self._pending.pop(route, None)
        code = f"{told.code}: " if isinstance(told.code, int) else ""
        return Refused(route, f"{code}{told.message}" or "an error without a message")
