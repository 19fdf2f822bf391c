"""Kraken's WebSocket API v1, which is kept alive for its existing clients: trades, ticker, book.

Sources, on docs.kraken.com, "Spot WebSocket v1": *Book* (depths; a snapshot without a checksum,
updates with one or two bodies, the last of which has it; entries are in order, so the last one of a
price counts; ``r`` marks a level that is published again because it came back into the depth;
levels that fall out of the depth are not ended), *Book checksum (v1)*, *Trade* (`side` is the
taker's; no ids), *Ticker* (price, whole lots, lots), *subscriptionStatus*, *systemStatus*,
*Heartbeat*, *Ping*. Channel ids are deprecated there: the channel's name and the pair are what
counts. Books have no time of their own.

Nothing here is numbered. A delta that is missing shows at the first checksum after it that covers
its prices, the ten best of a side; below them it can't be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Control, Dialer, Fetcher, Heartbeat, Ignored, Refused, Subscription
from feedhandler.codec import REFUSALS, are_plain, read_json
from feedhandler.config import valid_url
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Level, Quote, Trade
from feedhandler.traits import VenueTraits
from feedhandler.venues.kraken_market import PAIRS_URL, TRAITS, check_depth, parse_pairs
from feedhandler.venues.kraken_pairs import CHANNELS, OURS, KrakenPairs
from feedhandler.venues.kraken_v1_wire import Body, levels_of, merged, top_of, trades_of

__all__ = ["KrakenV1"]

URL = "wss://ws.kraken.com"
_AGAIN = 1  # the `reqid` of what only ends in order to begin anew


@frozen
class KrakenV1:
    """Kraken's public market data over WebSockets v1, with books of `depth` levels."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="kraken_v1", kw_only=True)
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
        return parse_pairs(bodies, venue=self.name, common=False)

    def with_instruments(self, instruments: Instruments) -> KrakenV1:
        return evolve(self, instruments=instruments)

    def session(self) -> KrakenV1Session:
        return KrakenV1Session(self)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(subscribe=subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return self.session().requests(unsubscribe=subscriptions)


class KrakenV1Session:
    """One connection: the books of its pairs."""

    def __init__(self, venue: KrakenV1) -> None:
        self._venue = venue.name
        self._pairs = KrakenPairs(venue.name, venue.instruments, depth=venue.depth, common=False)
        self._one = msgspec.json.Decoder(tuple[int, Body, str, str]).decode
        self._two = msgspec.json.Decoder(tuple[int, Body, Body, str, str]).decode

    def last_book_sequence(self, symbol: str) -> int | None:
        return None

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._pairs.image(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        again = self._pairs.running(subscribe)
        return [
            *self._written("unsubscribe", unsubscribe),
            *self._written("unsubscribe", again, reqid=_AGAIN),
            *self._written("subscribe", subscribe),
        ]

    def _written(
        self, kind: str, subscriptions: Sequence[Subscription], **more: object
    ) -> Iterable[str]:
        for channel, pairs in self._pairs.by_channel(subscriptions).items():
            wanted: dict[str, object] = {"name": CHANNELS[channel]}
            if channel == "book":
                wanted["depth"] = self._pairs.depth
            request = {"event": kind, **more, "pair": pairs, "subscription": wanted}
            yield msgspec.json.encode(request).decode()

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message: a list is data, an object everything else."""
        items = self._plain_book(message, recv_ns, epoch)
        if items is not None:
            return items
        document = read_json(message, venue=self._venue)
        if isinstance(document, list):
            return self._data(document, message, recv_ns, epoch)
        if not isinstance(document, dict):
            raise DecodeError(self._venue, message, [("$", "expected a list or an object")])
        return self._control(document)

    def _control(self, document: dict[str, Any]) -> Sequence[Control]:
        match document:
            case {"event": "heartbeat" | "pong"}:
                return [Heartbeat()]
            case {"event": "subscriptionStatus", "subscription": {"name": str(name), **more}}:
                ours, symbol = OURS.get(name), self._pairs.named(document.get("pair"))
                status = document.get("status")
                if ours is not None and symbol is not None:
                    subscription = Subscription(ours, symbol)
                    if status == "error":
                        return self._pairs.refused(subscription, document.get("errorMessage"))
                    if status == "subscribed":
                        return self._pairs.confirmed(subscription, more.get("depth"))
                    if status == "unsubscribed":
                        again = document.get("reqid") == _AGAIN
                        return self._pairs.ended(subscription, again=again)
                return [Ignored(f"subscriptionStatus {status} of {name}"[:80])]
            case {"event": "error" | "subscriptionStatus", "errorMessage": str(words)}:
                return [Refused(None, words)]
            case {"event": "systemStatus"}:
                return [Ignored(f"systemStatus: {document.get('status')}"[:80])]
            case _:
                return [Ignored(str(document.get("event", "message without an event"))[:40])]

    def _plain_book(
        self, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control] | None:
        """What follows from a book's message that has nothing out of the ordinary; else `None`."""
        try:
            if isinstance(message, bytes):
                message = message.decode()
            if '"book-' not in message[-60:] or not are_plain((message,)):
                return None
            if "},{" in message:
                _, body, last, name, pair = self._two(message)
            else:
                _, body, name, pair = self._one(message)
                last = body
        except REFUSALS:
            return None
        symbol = self._pairs.known(pair)
        if symbol is None or not name.startswith("book-"):
            return None
        asks, bids, text = body.as_, body.bs, last.c
        is_snapshot = asks is not None and bids is not None
        if asks is None or bids is None:
            asks, bids = body.a or last.a, body.b or last.b
            # Two bodies are asks and then bids, and only the last one has the checksum.
            if (
                not (asks or bids)
                or text is None
                or not (text.isdecimal() and len(text) < 11)
                or (last is not body and (body.b or last.a or body.c is not None))
            ):
                return None
        elif last is not body or text is not None:
            return None
        return self._pairs.take(
            symbol,
            [Level(entry[0], entry[1]) for entry in bids],
            [Level(entry[0], entry[1]) for entry in asks],
            None if text is None else int(text),
            is_snapshot=is_snapshot,
            time_ns=None,
            recv_ns=recv_ns,
            epoch=epoch,
        )

    def _data(
        self, document: list[Any], message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        name, pair = document[-2:] if len(document) > 3 else (None, None)
        if not isinstance(name, str) or not isinstance(pair, str):
            told = "expected a channel id, data, the channel's name and the pair"
            raise DecodeError(self._venue, message, [("$", told)])
        symbol, kind = self._pairs.known(pair), name.partition("-")[0]
        if symbol is None or kind not in OURS:
            return [Ignored(f"{name} of {pair}"[:80])]
        if kind == "book":
            return self._book(symbol, document[1:-2], message, recv_ns, epoch)
        problems: list[tuple[str, str]] = []
        events: list[Event | Control] = []
        venue = self._venue
        if kind == "ticker":
            bid, ask = (top_of(document[1], side, problems) for side in ("b", "a"))
            events.append(
                Quote(symbol, bid[0], bid[1], ask[0], ask[1], None, None, recv_ns, venue, epoch)
            )
        else:
            for price, size, side, time_ns in trades_of(document[1], problems):
                events.append(
                    Trade(symbol, price, size, side, None, None, time_ns, recv_ns, venue, epoch)
                )
        if problems:
            raise DecodeError(self._venue, message, problems)
        return events

    def _book(
        self, symbol: str, bodies: list[Any], message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        problems: list[tuple[str, str]] = []
        whole = merged(bodies, problems)
        is_snapshot = "as" in whole or "bs" in whole
        check = whole.get("c")
        keys = ("bs", "as") if is_snapshot else ("b", "a")
        if is_snapshot:
            problems += [("$[1]", f"missing: {key}") for key in keys if key not in whole]
        elif not (isinstance(check, str) and check.isascii() and check.isdecimal()):
            problems.append(("$[1].c", f"expected a checksum, got {check!r:.40}"))
        elif len(check) > 10 or not ("a" in whole or "b" in whole):
            problems.append(("$[1]", "no levels, or a checksum of more than 32 bits"))
        bids, asks = (levels_of(whole.get(key, []), f"$[1].{key}", problems) for key in keys)
        number = None if is_snapshot or problems else int(str(check))
        return self._pairs.take_strictly(
            symbol, bids, asks, number, problems, message,
            paths=(f"$[1].{keys[0]}", f"$[1].{keys[1]}"), is_snapshot=is_snapshot, time_ns=None,
            recv_ns=recv_ns, epoch=epoch,
        )  # fmt: skip
