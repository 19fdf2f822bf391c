"""Kraken, WebSocket API v2: trades, ticker, book.

Sources, on docs.kraken.com, "Spot WebSocket v2": *Book* (depths; snapshot and updates each have a
checksum; a price may occur more than once in an update, and the last counts), *Book checksum (v2)*
(the ten best of each side, by the digits on the wire; levels that fall out of the depth are not
ended, each client lets go of them), *Trade* (`side` is the taker's; `trade_id` is a sequence number
of the book), *Ticker* (`event_trigger`: on each change of the top), *Status*, *Heartbeat* (each
second where nothing else is sent), *Ping*. An acknowledgement or refusal is for one symbol, and a
refusal does not name the channel; `req_id` comes back, so that it tells it. JSON numbers are on
the wire with all their decimals ("full precision"); where a writer has dropped zeros, the pair's
decimals are known from the list.

Nothing here is numbered but trades. A delta that is missing shows at the first checksum after it
that covers its prices, the ten best of a side; below them it can't be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Control, Dialer, Fetcher, Heartbeat, Ignored, Refused, Subscription
from feedhandler.codec import read_json
from feedhandler.config import valid_url
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event
from feedhandler.traits import VenueTraits
from feedhandler.venues.kraken_data import KrakenData
from feedhandler.venues.kraken_market import PAIRS_URL, TRAITS, check_depth, parse_pairs
from feedhandler.venues.kraken_pairs import CHANNELS, OURS, KrakenPairs

__all__ = ["Kraken"]

URL = "wss://ws.kraken.com/v2"
# What a `req_id` says of its request, as its remainder: the channel, or that a book is only ended
# in order to begin anew.
_KINDS = (*CHANNELS, "again")


@frozen
class Kraken:
    """Kraken's public market data over WebSockets v2, with books of `depth` levels."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="kraken", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True, repr=False)
    depth: int = field(default=1000, kw_only=True, validator=check_depth)

    @property
    def channels(self) -> Sequence[str]:
        return tuple(CHANNELS)

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return TRAITS

    def instrument_urls(self) -> Sequence[str]:
        return (PAIRS_URL,)

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_pairs(bodies, venue=self.name, common=True)

    def with_instruments(self, instruments: Instruments) -> Kraken:
        return evolve(self, instruments=instruments)

    def session(self) -> KrakenSession:
        return KrakenSession(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(unsubscribe=subscriptions)


class KrakenSession:
    """One connection: the books of its pairs, and each pair's count of trades."""

    def __init__(self, venue: Kraken) -> None:
        self._venue = venue.name
        self._pairs = KrakenPairs(venue.name, venue.instruments, depth=venue.depth, common=True)
        self._data = KrakenData(venue.name, self._pairs)
        self._requests = 0

    def last_sequence(self, symbol: str) -> int | None:
        return self._data.last_trade(symbol)

    def last_book_sequence(self, symbol: str) -> int | None:
        return None

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._pairs.image(symbol)

    # --- asking ---

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        again = self._pairs.running(subscribe)
        return [
            *self._written("unsubscribe", unsubscribe),
            *self._written("unsubscribe", again, kind="again"),
            *self._written("subscribe", subscribe),
        ]

    def _written(
        self, method: str, subscriptions: Sequence[Subscription], *, kind: str | None = None
    ) -> Iterable[str]:
        for channel, symbols in self._pairs.by_channel(subscriptions).items():
            params: dict[str, object] = {"channel": CHANNELS[channel], "symbol": symbols}
            if channel == "book":
                params["depth"] = self._pairs.depth
            elif channel == "ticker":
                params["event_trigger"] = "bbo"
            if method == "subscribe":
                params["snapshot"] = True
            self._requests += 1
            number = self._requests * len(_KINDS) + _KINDS.index(kind or channel)
            request = {"method": method, "params": params, "req_id": number}
            yield msgspec.json.encode(request).decode()

    # --- answers ---

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message: of a channel, or the answer to a request."""
        items = self._data.take_plain(message, recv_ns=recv_ns, epoch=epoch)
        if items is not None:
            return items
        document = read_json(message, venue=self._venue)
        if not isinstance(document, dict):
            raise DecodeError(self._venue, message, [("$", "expected an object")])
        match document:
            case {"channel": "heartbeat"} | {"method": "pong"}:
                return [Heartbeat()]
            case {"channel": str(channel)} if channel in OURS:
                return self._data.take(message, document, recv_ns=recv_ns, epoch=epoch)
            case {"channel": "status", "data": [{"system": str(system)}, *_]}:
                return [Ignored(f"status: {system}"[:40])]
            case {"channel": channel}:
                return [Ignored(str(channel)[:40])]
            case {"method": "subscribe" | "unsubscribe"}:
                return self._answer(document)
            case {"error": str(words)}:
                return [Refused(None, words)]
            case _:
                return [Ignored(str(document.get("method", "message without a channel"))[:40])]

    def _answer(self, document: dict[str, Any]) -> Sequence[Control]:
        result = document.get("result")
        result = result if isinstance(result, dict) else {}
        number = document.get("req_id")
        asked = _KINDS[number % len(_KINDS)] if type(number) is int and number > 0 else None
        again = asked == "again"
        name = result.get("channel")
        channel = OURS.get(name) if isinstance(name, str) else "book" if again else asked
        symbol = self._pairs.named(result.get("symbol", document.get("symbol")))
        ending, words = document["method"] == "unsubscribe", document.get("error")
        if channel is None or symbol is None:
            if document.get("success") is True:
                return [Ignored(f"{document['method']} of {name}"[:80])]
            return [Refused(None, words if isinstance(words, str) else "refused without a word")]
        subscription = Subscription(channel, symbol)
        if ending:  # where it is refused, there was nothing to end
            return self._pairs.ended(subscription, again=again)
        if document.get("success") is True:
            return self._pairs.confirmed(subscription, result.get("depth"))
        return self._pairs.refused(subscription, words)
