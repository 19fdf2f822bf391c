"""Bitfinex, WebSocket API v2: trades, ticker, book.

Sources, on docs.bitfinex.com: *WS General* (events, error codes, info codes 20051, 20060 and 20061,
`conf` flags, heartbeats of each channel every 15 s, lists may grow at their end), *Public Channels*
(25 channels on a connection, 20 connects a minute), *Trades* (``te`` at once, ``tu`` the same trade
again when it is stored; the last trades come first), *Ticker*, *Books* (price, count, amount; a
count of 0 ends the level, the amount's sign is the side), *WebSocket Checksum*. Beside that, as
observed: the sequence is the last element of a frame, or the last but one before the timestamp, and
counts all frames of a connection from 1, those of heartbeats and checksums included; checksums come
some 2.5 s apart; a level that leaves the depth is ended; a refusal repeats channel and symbol.

Each trade is told once, at ``te``, and those that come with the subscription in the venue's order.
A checksum is wrong only after a level was changed on its way, which the sequence can't show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import (
    Control,
    Dialer,
    Fetcher,
    Heartbeat,
    Ignored,
    Refused,
    Reply,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import REFUSALS, read_json
from feedhandler.config import valid_url
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event
from feedhandler.traits import VenueTraits
from feedhandler.venues.bitfinex_data import ASKED, BitfinexData
from feedhandler.venues.bitfinex_market import (
    LIST_URLS,
    TRAITS,
    check_depth,
    instrument_of,
    notice_of,
    parse_lists,
)  # fmt: skip

__all__ = ["Bitfinex"]

URL = "wss://api-pub.bitfinex.com/ws/2"
_CHANNELS = ("trades", "ticker", "book")  # the venue's names are ours
_COARSE = ("P1", "P2", "P3", "P4")
_DUPLICATE, _NOT_SUBSCRIBED = 10301, (10400, 10401)


@frozen
class Bitfinex:
    """Bitfinex's public market data, with books of `depth` levels at the finest precision."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="bitfinex", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True, repr=False)
    depth: int = field(default=100, kw_only=True, validator=check_depth)

    @property
    def channels(self) -> Sequence[str]:
        return _CHANNELS

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return TRAITS

    def instrument_urls(self) -> Sequence[str]:
        return LIST_URLS

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_lists(bodies, venue=self.name)

    def with_instruments(self, instruments: Instruments) -> Bitfinex:
        return evolve(self, instruments=instruments)

    def session(self) -> BitfinexSession:
        return BitfinexSession(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return []  # only a session knows the numbers of its channels


class BitfinexSession:
    """One connection: what its channels are, by number, and its sequence over all of them."""

    def __init__(self, venue: Bitfinex) -> None:
        self._venue = venue.name
        self._depth = venue.depth
        self._instruments = venue.instruments
        self._data = BitfinexData(venue.name)
        self._channels = self._data.channels
        self._greeted = False
        self._again: set[int] = set()  # channels that end only to begin anew
        self._coarse: set[int] = set()  # channels of books that are not of the finest precision
        self._unwanted: set[Subscription] = set()  # to end as soon as they have a number

    def last_book_sequence(self, symbol: str) -> int | None:
        return None

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._data.books.image(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        numbers = {subscription: number for number, subscription in self._channels.items()}
        messages = [] if self._greeted else [_encode({"event": "conf", "flags": ASKED})]
        self._greeted = True
        for subscription in (*unsubscribe, *subscribe):
            number = numbers.get(subscription)
            if number is not None:
                messages.append(_encode({"event": "unsubscribe", "chanId": number}))
        self._unwanted.update(one for one in unsubscribe if one not in numbers)
        for subscription in subscribe:
            self._unwanted.discard(subscription)
            if subscription in numbers:
                self._again.add(numbers[subscription])
            request = {
                "event": "subscribe",
                "channel": subscription.channel,
                "symbol": self._theirs(subscription.symbol),
            }
            if subscription.channel == "book":
                request |= {"prec": "P0", "freq": "F0", "len": str(self._depth)}
            messages.append(_encode(request))
        return messages

    def _theirs(self, symbol: str) -> str:
        if self._instruments is not None:
            return self._instruments.by_symbol(symbol).venue_symbol
        raise ConfigError(
            "instruments", None, "the venue's names can't be known without its list",
            mend="load it: venue = await load_instruments(venue)",
        )  # fmt: skip

    def _ours(self, theirs: object) -> str | None:
        if not isinstance(theirs, str) or not theirs.startswith("t"):
            return None  # funding
        if self._instruments is not None and theirs in self._instruments.symbols:
            return self._instruments.symbols[theirs]
        named = instrument_of(theirs[1:])
        return None if named is None else named.symbol

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message: a list is data of a channel, an object is an event."""
        try:
            document = self._data.read(message)
        except REFUSALS:
            document = read_json(message, venue=self._venue)  # raises what is wrong with it
        if isinstance(document, list):
            return self._data.take(document, message, recv_ns=recv_ns, epoch=epoch)
        if not isinstance(document, dict):
            raise DecodeError(self._venue, message, [("$", "expected a list or an object")])
        match event := document.get("event"):
            case "subscribed":
                return self._subscribed(document, message)
            case "unsubscribed":
                return self._ended(document)
            case "error":
                return [self._refusal(document)]
            case "info":
                return [notice_of(document)]
            case "conf":
                return self._configured(document)
            case "pong":
                return [Heartbeat()]
            case _:
                return [Ignored(f"event {event}"[:40])]

    def _configured(self, document: dict[str, Any]) -> Sequence[Control]:
        flags = document.get("flags")
        if document.get("status") != "OK":
            self._data.configure(0)
            return [Refused(None, f"conf: {document.get('msg', document.get('status'))}"[:200])]
        if type(flags) is int:
            self._data.configure(flags)
        return [Ignored("conf")]

    def _subscribed(self, document: dict[str, Any], message: str | bytes) -> Sequence[Control]:
        number, channel = document.get("chanId"), document.get("channel")
        if type(number) is not int:
            raise DecodeError(self._venue, message, [("$.chanId", f"no number: {number!r:.40}")])
        symbol = self._ours(document.get("symbol"))
        subscription = Subscription(str(channel), symbol or "")
        # A coarser book is a book too, but not beside a finer one; in R0 its rows are orders.
        fine = (precision := document.get("prec", "P0")) == "P0"
        coarse = precision in _COARSE and subscription not in self._channels.values()
        if not symbol or channel not in _CHANNELS or not (fine or coarse):
            return [Ignored(f"subscription to {channel} of {document.get('symbol')}"[:80])]
        for other in [n for n in self._coarse if self._channels.get(n) == subscription]:
            self._data.begin(other, None)
        (self._coarse.discard if fine else self._coarse.add)(number)
        self._data.begin(number, subscription)
        self._again.discard(number)
        if subscription in self._unwanted:
            self._unwanted.discard(subscription)
            return [Reply(_encode({"event": "unsubscribe", "chanId": number}))]
        return [Subscribed([subscription])]

    def _ended(self, document: dict[str, Any]) -> Sequence[Control]:
        number = document.get("chanId")
        if type(number) is not int:
            return [Ignored("end of a channel without a number")]
        subscription, again = self._data.begin(number, None), number in self._again
        self._again.discard(number)
        if subscription is None or again:
            return [Ignored("end of what begins anew, or is not known")]
        self._data.books.forget([subscription])
        return [Unsubscribed([subscription])]

    def _refusal(self, document: dict[str, Any]) -> Control:
        code, words = document.get("code"), document.get("msg")
        told = f"{words} (code {code})" if isinstance(words, str) else f"error {code}"
        symbol, channel = self._ours(document.get("symbol")), document.get("channel")
        if code in _NOT_SUBSCRIBED:
            return Ignored(told[:80])
        if symbol is None or channel not in _CHANNELS:
            return Refused(None, told[:200])
        subscription = Subscription(str(channel), symbol)
        if code == _DUPLICATE:  # it runs, or its acknowledgement is on the way
            running = subscription in self._channels.values()
            return Subscribed([subscription]) if running else Ignored(told[:80])
        return Refused(subscription, told[:200])


def _encode(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
