"""Deribit v2, futures, perpetuals, options and spot: trades, top of book, order book.

Sources, all on docs.deribit.com: *Subscriptions* `book.(instrument_name).(interval)` (the first
notification is the whole book; ``[action, price, amount]``; `prev_change_id` is the `change_id` of
the notification before it) and `book.(instrument_name).(group).(depth).(interval)` (each is whole,
without actions), `trades.(instrument_name).(interval)`, `trades.(kind).(currency).(interval)`
(`trade_seq` is the trade's number within its instrument; `direction` is the taker's),
`quote.(instrument_name)`, `ticker.(instrument_name).(interval)`; *API reference* `public/subscribe`
(the answer lists the channels that are subscribed; about 3.3 requests a second),
`public/set_heartbeat` (at least 10 s; a `test_request` that is not answered by `public/test` ends
the connection), `public/get_instruments`, *JSON-RPC* (errors have a code, a message and data);
*Connection management* (32 connections of one address). ``raw`` needs an account; it, grouped books
and trades of a kind are understood, not asked for. Of two books of an instrument the first counts.

Amounts are in the venue's own units: of perpetuals and futures that are inverse, such as
``BTC-PERPETUAL``, in US dollars, of all others in the base currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve, field, frozen

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
    Reply,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import FastDecoder
from feedhandler.config import valid_url
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event
from feedhandler.traits import Limits, VenueTraits
from feedhandler.venues.deribit_book import BookReader
from feedhandler.venues.deribit_data import DeribitData, target
from feedhandler.venues.deribit_list import URLS_OF_LISTS, parse_lists

__all__ = ["Deribit"]

URL = "wss://www.deribit.com/ws/api/v2"
_HEARTBEAT_S = 10  # the least that the venue allows
_PER_MESSAGE = 100
_OURS = {"trades": "trades", "quote": "ticker", "ticker": "ticker", "book": "book"}
# So that an answer in a recording, to somebody else's request, is not taken for one to ours.
_FIRST_ID = 710_000
# Rate limits and troubles of the venue's own (*RPC Error Codes*): another try may mend them.
_PASSING = frozenset({10028, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13503, 13888})
_TRAITS = VenueTraits(
    limits=Limits(per_message=_PER_MESSAGE, messages_per_s=3.3, requests_per_minute=60),
    silence_s=3.0 * _HEARTBEAT_S,
)


@frozen
class Deribit:
    """Deribit v2's public market data, with books of all levels each 100 ms."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="deribit", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True, repr=False)

    @property
    def channels(self) -> Sequence[str]:
        return "trades", "ticker", "book"

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def session(self) -> DeribitSession:
        return DeribitSession(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(unsubscribe=subscriptions)

    def channel(self, subscription: Subscription) -> str:
        """What the venue calls it. Raises `UnknownSymbol`."""
        name = SymbolNames(self.instruments).theirs(subscription.symbol)
        if subscription.channel == "ticker":
            return f"quote.{name}"
        return f"{subscription.channel}.{name}.100ms"

    def instrument_urls(self) -> Sequence[str]:
        return URLS_OF_LISTS

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_lists(self.name, bodies)

    def with_instruments(self, instruments: Instruments) -> Deribit:
        return evolve(self, instruments=instruments)


@frozen
class _Envelope:
    id: Any = None
    method: str = ""
    params: Any = None
    result: Any = None
    error: Any = None


class DeribitSession:
    """One connection: its requests, and what has come of each symbol."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue
        self._names = SymbolNames(venue.instruments)
        self._log = RequestLog()
        self._greeted = False
        self._envelope = FastDecoder(_Envelope, venue=venue.name, amounts_as_text=True)
        self._data = DeribitData(venue.name, self._names, BookReader(venue.name))

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._data.books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._data.books.image(symbol)

    # --- what is asked for ---

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        """Before the first of them the heartbeats are asked for."""
        again, wanted = self._log.split(subscribe)
        messages = []
        if not self._greeted:
            self._greeted = True
            messages.append(self._call("set_heartbeat", {"interval": _HEARTBEAT_S}))
        return [
            *messages,
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
            channels = [self._venue.channel(subscription) for subscription in some]
            messages.append(self._call(kind, {"channels": channels}, some, again=again))
        return messages

    def _call(
        self,
        method: str,
        params: dict[str, Any],
        subscriptions: Iterable[Subscription] = (),
        *,
        again: bool = False,
    ) -> str:
        number = _FIRST_ID + self._log.number(method, subscriptions, again=again)
        call = {"jsonrpc": "2.0", "id": number, "method": f"public/{method}", "params": params}
        return encode(call)

    # --- what comes ---

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        channel = _channel(message)
        if not channel:
            envelope = self._envelope.decode(message)
            params = envelope.params if isinstance(envelope.params, dict) else {}
            named = params.get("channel")
            channel = named if isinstance(named, str) else ""
            if envelope.method == "heartbeat":
                if params.get("type") == "test_request":
                    return [Reply(self._call("test", {}))]
                return [Heartbeat()]
            if envelope.method != "subscription" or not channel:
                return self._answer(envelope)
        return self._data.take(channel, message, recv_ns, epoch)

    def _answer(self, envelope: _Envelope) -> Sequence[Control]:
        number = envelope.id
        own = isinstance(number, int) and not isinstance(number, bool)
        asked = self._log.answered(number - _FIRST_ID) if own else None
        if envelope.error is not None:
            return self._refusal(envelope.error, asked)
        if asked is not None and asked.kind == "unsubscribe":
            self._log.end(asked.subscriptions)
            if asked.again:
                return [Ignored("end of what begins anew")]
            self._data.forget(asked.subscriptions)
            return [Unsubscribed(asked.subscriptions)]
        if isinstance(envelope.result, list):
            return self._listed(envelope.result, asked)
        return [Heartbeat() if asked else Ignored(envelope.method[:40] or "an answer")]

    def _listed(self, result: list[Any], asked: Asked | None) -> Sequence[Control]:
        """The channels that are subscribed now; one that was asked for and is not among them was
        refused without a word."""
        there: dict[Subscription, None] = {}
        for channel in result:
            kind, name = target(channel) if isinstance(channel, str) else ("", "")
            symbol = self._names.ours(name)
            if kind and symbol is not None:
                there[Subscription(_OURS[kind], symbol)] = None
        self._log.confirm(there)
        controls: list[Control] = [Subscribed([*there])] if there else []
        for subscription in asked.subscriptions if asked else ():
            if subscription not in there:
                told = f"{self._venue.channel(subscription)} is not among the subscribed channels"
                controls.append(Refused(subscription, told))
        return controls or [Ignored("an answer")]

    def _refusal(self, error: Any, asked: Asked | None) -> Sequence[Control]:
        told = (
            [error.get(key) for key in ("code", "message", "data")]
            if isinstance(error, dict)
            else [error]
        )
        words = " ".join(f"{one!s:.200}" for one in told if one)
        passing = isinstance(told[0], int) and told[0] in _PASSING
        if passing or (asked is not None and asked.kind != "subscribe"):
            return [Ignored(words[:200])]
        return [Refused(s, words) for s in (asked.subscriptions if asked else (None,))]


def _channel(message: str | bytes) -> str:
    """The channel of a notification, found without decoding it."""
    if isinstance(message, bytes) or "\\" in message:
        return ""
    begin = message.find('"params":{"channel":"') + 21
    return message[begin : message.find('"', begin)] if begin >= 21 else ""
