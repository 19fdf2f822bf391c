"""Bybit v5, linear contracts and spot: trades, top of book, order book.

Sources, all on bybit-exchange.github.io/docs/v5: *Connect* (addresses; `req_id` comes back in the
answer; at most 10 topics in a request on spot, 21,000 characters elsewhere; a ping each 20 s; 500
connections in 5 minutes), *Websocket Stream, Public: Orderbook* (a snapshot takes the place of the
book whenever it comes; a size of 0 ends a level; `u` = 1 is a snapshot after a restart; of level 1
there are snapshots only, repeated after 3 s with the same `u`), *Trade* (`S` is the taker's side),
*Ticker* (of contracts: a field that is missing has not changed), *Get Instruments Info*, *Rate
Limit Rules* (600 REST requests in 5 s). That `u` goes up by one is not documented; it does in all
2,142 deltas of a recording. Answers name at most one topic: the one that was refused.

Spot's tickers have no bid or ask. So its top of book is asked for as `orderbook.1`; a ticker of
spot that comes nevertheless is a `Quote` that names neither side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from attrs import Factory, evolve, field, frozen

from feedhandler._core.fields import SymbolNames, encode
from feedhandler._core.redaction import redact_url
from feedhandler._core.requests import Asked, RequestLog
from feedhandler.abc import (
    Control,
    Dialer,
    Fetcher,
    Heartbeat,
    Ignored,
    Refused,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import FastDecoder
from feedhandler.config import valid_url
from feedhandler.errors import ConfigError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Level
from feedhandler.traits import KeepAlive, Limits, VenueTraits
from feedhandler.venues.bybit_data import BybitData
from feedhandler.venues.bybit_list import parse_list, url_of_list

__all__ = ["Bybit"]

Category = Literal["linear", "spot"]
_URLS = {
    "linear": "wss://stream.bybit.com/v5/public/linear",
    "spot": "wss://stream.bybit.com/v5/public/spot",
}
_DEPTHS = (1, 50, 200, 1000)
_PER_MESSAGE = 10  # spot's limit; elsewhere it keeps few topics waiting when one is refused
_NAMED = re.compile(r"topic:\s*([\w.\-]+)")
# Refusals that another try may mend.
_BUSY = re.compile(r"(?i)too many|busy|time.?out|internal|system error|10006|10016")
_TRAITS = VenueTraits(
    limits=Limits(
        per_message=_PER_MESSAGE, connects_per_minute=100, requests_per_minute=7200,
    ),
    keep_alive=KeepAlive('{"op":"ping"}', 20.0),
    silence_s=45.0,  # each ping is answered
)  # fmt: skip


def _check(_: object, attribute: Any, value: object) -> None:
    allowed = [*_URLS] if attribute.name == "category" else [*_DEPTHS]
    if value not in allowed or isinstance(value, bool):
        raise ConfigError(attribute.name, value, "is not one of the venue's", mend=f"use {allowed}")


@frozen
class Bybit:
    """Bybit v5's public market data of one `category`, with books of `depth` levels.

    ```python
    async with open_feed(Bybit(category="spot"), ["BTC-USDT"], channels=["book"]) as feed: ...
    ```
    """

    category: Category = field(default="linear", kw_only=True, validator=_check)
    url: str = field(
        default=Factory(lambda self: _URLS.get(self.category, ""), takes_self=True),
        validator=valid_url,
        repr=redact_url,
    )
    name: str = field(default="bybit", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True, repr=False)
    depth: int = field(default=200, kw_only=True, validator=_check)

    def __attrs_post_init__(self) -> None:
        if self.category == "spot" and self.depth == 1:
            raise ConfigError(
                "depth", 1, "is spot's top of the book, which is the channel 'ticker'",
                mend="use 50",
            )  # fmt: skip

    @property
    def channels(self) -> Sequence[str]:
        return "trades", "ticker", "book"

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def session(self) -> BybitSession:
        return BybitSession(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(unsubscribe=subscriptions)

    def topic(self, subscription: Subscription) -> str:
        """Raises `UnknownSymbol`."""
        theirs = SymbolNames(self.instruments).theirs(subscription.symbol)
        if subscription.channel == "trades":
            return f"publicTrade.{theirs}"
        if subscription.channel == "book":
            return f"orderbook.{self.depth}.{theirs}"
        return f"orderbook.1.{theirs}" if self.category == "spot" else f"tickers.{theirs}"

    # --- instruments ---

    def instrument_urls(self) -> Sequence[str]:
        return (url_of_list(self.category),)

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_list(self.name, self.category, bodies)

    def with_instruments(self, instruments: Instruments) -> Bybit:
        return evolve(self, instruments=instruments)


@frozen
class _Envelope:
    topic: str = ""
    op: str = ""
    ret_msg: str = ""
    req_id: str = ""
    success: Any = True


class BybitSession:
    """One connection: its requests, and what has come of each symbol."""

    def __init__(self, venue: Bybit) -> None:
        self._venue = venue
        self._log = RequestLog()
        self._envelope = FastDecoder(_Envelope, venue=venue.name, amounts_as_text=True)
        names = SymbolNames(venue.instruments)
        self._data = BybitData(venue.name, names, tops=venue.category == "spot")

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._data.books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._data.books.image(symbol)

    def best(self, symbol: str) -> tuple[Level | None, Level | None]:
        return self._data.books.best(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        again, wanted = self._log.split(subscribe)
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
            topics = [self._venue.topic(subscription) for subscription in some]
            messages.append(encode({"req_id": str(number), "op": kind, "args": topics}))
        return messages

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        topic = _topic(message)
        if not topic:
            envelope = self._envelope.decode(message)
            if not envelope.topic:
                return self._answer(envelope)
            topic = envelope.topic
        return self._data.take(topic, message, recv_ns, epoch)

    def _answer(self, envelope: _Envelope) -> Sequence[Control]:
        op, words = envelope.op, envelope.ret_msg
        refused = envelope.success is False
        if op not in ("subscribe", "unsubscribe"):
            if op in ("ping", "pong") and not refused:
                return [Heartbeat()]
            return [Refused(None, words or op)] if refused else [Ignored(op[:40] or "no topic")]
        log = self._log
        asked = log.answered(envelope.req_id) if envelope.req_id else log.oldest(op)
        if asked is None or asked.kind != op:
            named = self._named(words)
            return [Refused(named, words)] if refused else [Ignored(f"{op}: not asked for here")]
        if refused:
            return self._refusal(asked, words)
        if op == "subscribe":
            log.confirm(asked.subscriptions)
            return [Subscribed(asked.subscriptions)]
        log.end(asked.subscriptions)
        if asked.again:
            return [Ignored("end of what begins anew")]
        self._data.forget(asked.subscriptions)
        return [Unsubscribed(asked.subscriptions)]

    def _refusal(self, asked: Asked, words: str) -> Sequence[Control]:
        """One topic that is refused ends the whole request: the others are asked for again."""
        if asked.kind == "unsubscribe" or _BUSY.search(words):
            return [Ignored(words[:200])]
        named = self._named(words)
        if "already subscribed" in words and named is not None:
            self._log.confirm([named])
            return [Subscribed([named])]
        return [Refused(s, words) for s in ([named] if named else asked.subscriptions)]

    def _named(self, words: str) -> Subscription | None:
        """The subscription whose topic is in the venue's words."""
        match = _NAMED.search(words)
        return self._data.subscription(match[1]) if match else None


def _topic(message: str | bytes) -> str:
    """The topic, found without decoding the message; the decoded one is compared with it."""
    if isinstance(message, str):
        begin = message.find('"topic":"') + 9
        return message[begin : message.find('"', begin)] if begin >= 9 else ""
    return ""
