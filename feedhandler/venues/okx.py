"""OKX v5, spot and contracts: trades, top of book, order book.

Sources, all on okx.com/docs-v5: *Overview*, "WebSocket" (`ping` is answered by `pong`, and a
connection without a push for 30 s is ended; 3 connects a second; 480 subscribe and unsubscribe
requests an hour on one connection; 64 KB a request; one answer for each argument; notice 64008, one
minute before the service is upgraded), *Order Book Trading*, "WS / Order book channel" (a level is
price, size, an unused 0, count of orders; `prevSeqId` is the `seqId` before it; both repeat when
nothing has changed for a minute; `seqId` may begin anew, at a message that still has the right
`prevSeqId`; the checksum of the best 25), "WS / Trades channel" (`side` is the taker's; a message
may stand for several trades, with the id of the last, so ids skip), "WS / Tickers channel", *Error
Code*, "WebSocket" (60018: no such channel or instrument). *API changelog* of 2026-05-21: the
checksum is 0 from 2026-06-23 on. Before 2022-11 books had no `seqId`; then the checksum alone
tells. ``trades-all`` and ``books5``, whose messages are whole books, are not asked for, but
understood; of two books of a symbol the first to come is kept.

Sizes of contracts are in contracts, as the venue sends them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from attrs import evolve, field, frozen

from feedhandler._core.fields import SymbolNames, encode
from feedhandler._core.redaction import redact_url
from feedhandler._core.requests import RequestLog
from feedhandler.abc import (
    Control,
    Dialer,
    Fetcher,
    Heartbeat,
    Ignored,
    ReconnectRequested,
    Refused,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import FastDecoder
from feedhandler.config import valid_url
from feedhandler.errors import ConfigError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event
from feedhandler.traits import KeepAlive, Limits, VenueTraits
from feedhandler.venues.okx_book import BookReader
from feedhandler.venues.okx_data import BOOKS, TOPS, TRADES, OKXData, target
from feedhandler.venues.okx_list import URLS_OF_LISTS, parse_lists

__all__ = ["OKX"]

URL = "wss://ws.okx.com:8443/ws/v5/public"
_OURS = {
    theirs: ours
    for ours, group in (("trades", TRADES), ("ticker", TOPS), ("book", BOOKS))
    for theirs in group
}
_PER_MESSAGE = 100  # far below 64 KB
_UPGRADE = "64008"
# Rate limits, and troubles of the venue's own: another try may mend them.
_PASSING = frozenset({"50001", "50004", "50011", "50013", "50026", "60014", "63999", "64007"})
_NAMED = re.compile(r"channel:\s*([\w-]+),\s*instId:\s*([\w-]+)")
_TRAITS = VenueTraits(
    limits=Limits(
        per_message=_PER_MESSAGE, connects_per_minute=180, requests_per_minute=600,
    ),
    keep_alive=KeepAlive("ping", 20.0),
    silence_s=45.0,  # each ping is answered
)  # fmt: skip


def _check(_: object, attribute: Any, value: object) -> None:
    if value not in TOPS:
        raise ConfigError(attribute.name, value, "is no such channel", mend=f"use one of {TOPS}")


@frozen
class OKX:
    """OKX v5's public market data. `top` is its channel for the top of the book: ``bbo-tbt``, each
    10 ms and from the matching engine, or ``tickers``, each 100 ms at most."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="okx", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True, repr=False)
    top: Literal["bbo-tbt", "tickers"] = field(default="bbo-tbt", kw_only=True, validator=_check)

    @property
    def channels(self) -> Sequence[str]:
        return "trades", "ticker", "book"

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def session(self) -> OKXSession:
        return OKXSession(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(unsubscribe=subscriptions)

    def argument(self, subscription: Subscription) -> dict[str, str]:
        """What the venue calls it. Raises `UnknownSymbol`."""
        theirs = {"trades": "trades", "ticker": self.top, "book": "books"}[subscription.channel]
        name = SymbolNames(self.instruments).theirs(subscription.symbol)
        return {"channel": theirs, "instId": name}

    def instrument_urls(self) -> Sequence[str]:
        return URLS_OF_LISTS

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_lists(self.name, bodies)

    def with_instruments(self, instruments: Instruments) -> OKX:
        return evolve(self, instruments=instruments)


@frozen
class _Argument:
    channel: str = ""
    instId: str = ""  # noqa: N815  # the venue's name of it


@frozen
class _Envelope:
    event: str = ""
    code: str = ""
    msg: str = ""
    id: str = ""
    channel: str = ""
    arg: _Argument = field(factory=_Argument)


class OKXSession:
    """One connection: its requests, and what has come of each symbol."""

    def __init__(self, venue: OKX) -> None:
        self._venue = venue
        self._names = SymbolNames(venue.instruments)
        self._log = RequestLog()
        # Ended by this side only to begin anew: how many answers are to come.
        self._renewed: Counter[Subscription] = Counter()
        self._envelope = FastDecoder(_Envelope, venue=venue.name, amounts_as_text=True)
        self._data = OKXData(venue.name, self._names, BookReader(venue.name))

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._data.books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._data.books.image(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        again, wanted = self._log.split(subscribe)
        self._renewed.update(again)
        return [
            *self._ask("unsubscribe", unsubscribe),
            *self._ask("unsubscribe", again, again=True),
            *self._ask("subscribe", wanted),
        ]

    def _ask(
        self, kind: str, subscriptions: Sequence[Subscription], *, again: bool = False
    ) -> list[str]:
        messages = []
        for i in range(0, len(subscriptions), _PER_MESSAGE):
            some = subscriptions[i : i + _PER_MESSAGE]
            number = self._log.number(kind, some, again=again)
            arguments = [self._venue.argument(subscription) for subscription in some]
            messages.append(encode({"id": str(number), "op": kind, "args": arguments}))
        return messages

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        if message in ("pong", b"pong"):
            return [Heartbeat()]
        channel, name = target(message)
        if not channel:
            envelope = self._envelope.decode(message)
            channel, name = envelope.arg.channel, envelope.arg.instId
            if envelope.event:
                return self._event(envelope)
        if not channel:
            return [Ignored("message without a channel")]
        return self._data.take(channel, name, message, recv_ns, epoch)

    def _event(self, envelope: _Envelope) -> Sequence[Control]:
        subscription = self._subscription(envelope.arg.channel, envelope.arg.instId)
        match envelope.event:
            case "subscribe" if subscription is not None:
                self._log.confirm([subscription])
                return [Subscribed([subscription])]
            case "unsubscribe" if subscription is not None:
                return self._ended(subscription)
            case "error":
                return self._refusal(envelope, subscription)
            case "notice" if envelope.code == _UPGRADE:
                return [ReconnectRequested(envelope.msg)]
            case "notice":
                return [Ignored(f"notice {envelope.code}: {envelope.msg}"[:200])]
        return [Ignored(f"{envelope.event} {envelope.arg.channel or envelope.channel}"[:40])]

    def _ended(self, subscription: Subscription) -> Sequence[Control]:
        self._log.end([subscription])
        if self._renewed[subscription]:
            self._renewed[subscription] -= 1
            return [Ignored("end of what begins anew")]
        del self._renewed[subscription]
        self._data.forget([subscription])
        return [Unsubscribed([subscription])]

    def _refusal(self, envelope: _Envelope, subscription: Subscription | None) -> Sequence[Control]:
        """The one that is named, or all of the request; in the venue's words."""
        words = f"{envelope.code} {envelope.msg}".strip()
        asked = self._log.asked(envelope.id)  # there may be an answer for each of it
        match = _NAMED.search(envelope.msg)
        if subscription is None and match:
            subscription = self._subscription(match[1], match[2])
        meant = (subscription,) if subscription else asked.subscriptions if asked else (None,)
        if asked is not None and asked.kind == "unsubscribe":
            if asked.again:  # its end will not be told
                self._renewed.subtract(s for s in meant if s is not None and self._renewed[s])
            return [Ignored(words[:200])]
        if envelope.code in _PASSING:
            return [Ignored(words[:200])]
        return [Refused(s, words) for s in meant]

    def _subscription(self, channel: str, name: str) -> Subscription | None:
        ours, symbol = _OURS.get(channel), self._names.ours(name)
        return None if ours is None or symbol is None else Subscription(ours, symbol)
