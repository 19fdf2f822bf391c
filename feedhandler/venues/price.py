"""The plain price JSON, which the mock server speaks.

Data is what `feedhandler.codec.PriceParser` documents, with ``"type": "price"``. Beside it::

    -> {"type": "subscribe", "symbols": ["BTC-USD"]}    and "unsubscribe"
    <- {"type": "subscribed", "symbols": ["BTC-USD"]}   and "unsubscribed"
    <- {"type": "error", "symbol": "XX", "message": "unknown symbol"}
    <- {"type": "heartbeat"}
    <- {"type": "ping", "id": 1}      -> {"type": "pong", "id": 1}
    <- {"type": "reconnect", "reason": "maintenance"}

`sequence` counts the messages of a symbol, one more for each, through reconnects.

Order books are a second channel, named in each request, answer and refusal::

    -> {"type": "subscribe", "channel": "book", "symbols": ["BTC-USD"]}
    <- {"type": "subscribed", "channel": "book", "symbols": ["BTC-USD"]}
    <- {"type": "snapshot", "symbol": "BTC-USD", "sequence": 7, "checksum": 2915345128,
        "bids": [["65000.10", "1.5"]], "asks": [["65000.20", "2"]], "time": 1786309548629008000}
    <- {"type": "delta", "symbol": "BTC-USD", "sequence": 8, "checksum": 1264853411,
        "bids": [["65000.10", "0"], ["64999.90", "3"]], "asks": [], "time": 1786309548629008000}

A snapshot is the whole book, and follows each subscription, also of what is subscribed already; it
may come at other times. A delta sets levels to sizes; 0 ends one. `sequence` counts the messages of
the symbol's book, apart from its prices, through reconnects; a snapshot that only repeats the book
has the number of the message before it. `checksum` is `price_book.checksum()` of the book after the
message; where it is missing or null, nothing but the sequence can be checked.

Where the venue compresses its messages by itself (not the WebSocket, RFC 7692), they are binary,
and `PriceVenue(url, compression=...)` says how: ``"gzip"`` (RFC 1952), ``"zlib"`` (RFC 1950) or
``"deflate"`` (RFC 1951 without a wrapper). Each binary message is then one whole compressed JSON
text, of at most `max_inflated_bytes`; what is more, or corrupt, is a `DecodeError`. Text messages
are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from attrs import field, frozen

from feedhandler._core.construct import twin_of
from feedhandler._core.inflate import Compression, Inflator, check_compression
from feedhandler._core.redaction import redact_url
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler.abc import (
    Control,
    Dialer,
    Heartbeat,
    Ignored,
    ReconnectRequested,
    Refused,
    Reply,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.book import MAX_LEVELS
from feedhandler.codec import (
    MAX_AMOUNT,
    MIN_AMOUNT,
    REFUSALS,
    FastDecoder,
    PriceParser,
    are_plain,
)
from feedhandler.config import at_least, valid_url
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.model import BookSnapshot, Event, PriceUpdate, Side
from feedhandler.traits import VenueTraits
from feedhandler.venues.price_book import BOOK_CHANNEL, BOOK_KINDS, PriceBooks

__all__ = ["PriceVenue"]

CHANNEL = "price"


def _check_levels(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            "book_levels", value, "must be a whole number of at least 1", mend="use 65_536"
        )


@frozen
class PriceVenue:
    """A venue at `url` that sends plain price JSON; `dial` makes the stream (default: TCP).

    Its channels are ``"price"`` and ``"book"``. A book of more than `book_levels` levels on one
    side is not kept: it stays `SUSPECT`. `compression` and `max_inflated_bytes` are about its
    binary messages: see this module's text. `traits` are those of whoever speaks it at `url`.

    ```python
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed: ...
    ```
    """

    url: str = field(validator=valid_url, repr=redact_url)
    name: str = field(default="price", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    book_levels: int = field(default=MAX_LEVELS, kw_only=True, validator=_check_levels)
    compression: Compression = field(
        default="none", kw_only=True, validator=lambda _, a, value: check_compression(a.name, value)
    )
    max_inflated_bytes: int = field(default=16 * 2**20, kw_only=True, validator=at_least(1))
    traits: VenueTraits = field(default=VenueTraits(), kw_only=True, repr=False)

    @property
    def channels(self) -> Sequence[str]:
        return CHANNEL, BOOK_CHANNEL

    @property
    def book_channels(self) -> Sequence[str]:
        return (BOOK_CHANNEL,)

    def session(self) -> PriceSession | InflatingSession:
        session = PriceSession(self.name, book_levels=self.book_levels)
        if self.compression == "none":
            return session
        limit = self.max_inflated_bytes
        return InflatingSession(session, Inflator(self.compression, limit=limit, venue=self.name))

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return _requests("subscribe", subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return _requests("unsubscribe", subscriptions)


def _requests(kind: str, subscriptions: Sequence[Subscription]) -> list[str]:
    """One message for each channel; the one for prices names none."""
    by_channel: dict[str, list[str]] = {}
    for subscription in subscriptions:
        by_channel.setdefault(subscription.channel, []).append(subscription.symbol)
    requests = []
    for channel, symbols in by_channel.items():
        request: dict[str, Any] = {"type": kind}
        if channel != CHANNEL:
            request["channel"] = channel
        requests.append(msgspec.json.encode({**request, "symbols": symbols}).decode())
    return requests


class _Plain(msgspec.Struct, gc=False):
    """A price as it is on the wire, where nothing about it is out of the ordinary.

    It is a `Struct`, and not an attrs class as everything else, because it is decoded in three
    quarters of the time, and nobody but `decode_plain()` sees it.
    """

    symbol: str
    price: Decimal
    size: Decimal
    side: Side
    sequence: int
    time: Annotated[int, msgspec.Meta(ge=0)]
    type: Literal["price"]


_Update = twin_of(PriceUpdate)


@frozen
class _Symbols:
    type: str
    symbols: list[str]
    channel: str = CHANNEL


@frozen
class _Error:
    type: str
    message: str
    symbol: str = ""
    channel: str = CHANNEL


class PriceSession:
    """One connection of a `PriceVenue`: it follows each symbol's sequence, and keeps its book."""

    def __init__(self, venue: str, *, book_levels: int = MAX_LEVELS) -> None:
        self._venue = venue
        self._parser = PriceParser(venue)
        self._sequences: SequenceTracker[str] = SequenceTracker()
        self._symbols = FastDecoder(_Symbols, venue=venue)
        self._error = FastDecoder(_Error, venue=venue)
        self._decode = msgspec.json.Decoder(_Plain).decode
        self._plain = False
        self._books = PriceBooks(venue, limit=book_levels)

    def last_sequence(self, symbol: str) -> int | None:
        return self._sequences.last(symbol)

    def resume_after(self, symbol: str, sequence: int) -> None:
        self._sequences.resume_after(symbol, sequence)

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message: data, after the `Gap` before it if there is one, or a control."""
        items = self._books.take_plain(message, recv_ns=recv_ns, epoch=epoch)
        if items is not None:
            return items
        try:
            price = self._parser.decode(message)
        except DecodeError:
            document = _document(message)
            kind = document.get("type")
            if not isinstance(kind, str) or kind == CHANNEL:
                raise
            if kind in BOOK_KINDS:
                return self._books.take(message, document, recv_ns=recv_ns, epoch=epoch)
            return self._control(kind, message)
        if price.type != CHANNEL:
            return [Ignored(price.type)]
        if not isinstance(_document(message).get("type"), str):
            raise DecodeError(self._venue, message, [("$.type", "missing")])
        update = self._parser.to_update(price, message, recv_ns=recv_ns, epoch=epoch)
        order = self._sequences.check(update.symbol, update.sequence)
        if order is Order.IN_ORDER or order is Order.FIRST:
            return [update]
        if isinstance(order, Hole):
            gap = order.as_gap(update.symbol, recv_ns=recv_ns, venue=self._venue, epoch=epoch)
            return [gap, Ignored("late")] if order.late else [gap, update]
        return [Ignored("duplicate")]

    def decode_plain(
        self, messages: Sequence[str | bytes], begin: int, *, recv_ns: int, epoch: int
    ) -> Sequence[PriceUpdate]:
        """Decode prices for as long as each follows the one before it in its symbol's sequence."""
        if begin == 0:
            self._plain = are_plain(messages)
        updates: list[PriceUpdate] = []
        if not self._plain:
            return updates
        append, decode, last = updates.append, self._decode, self._sequences.last_of
        venue, low, high = self._venue, MIN_AMOUNT, MAX_AMOUNT
        new, twin, event = object.__new__, _Update, PriceUpdate
        try:
            for message in messages[begin:] if begin else messages:
                price = decode(message)
                symbol, sequence = price.symbol, price.sequence
                amount, size = price.price, price.size
                if not (
                    last.get(symbol) == sequence - 1
                    and low <= amount <= high
                    and low <= size <= high
                ):
                    break
                last[symbol] = sequence
                update = new(twin)
                update.symbol = symbol
                update.price = amount
                update.size = size
                update.side = price.side
                update.sequence = sequence
                update.venue_time_ns = price.time
                update.recv_ns = recv_ns
                update.venue = venue
                update.epoch = epoch
                update.__class__ = event
                append(update)
        except REFUSALS:
            pass  # `decode()` will say what is wrong with it
        return updates

    def _control(self, kind: str, message: str | bytes) -> Sequence[Control]:
        match kind:
            case "heartbeat":
                return [Heartbeat()]
            case "subscribed":
                return [Subscribed(self._subscriptions(message))]
            case "unsubscribed":
                ended = self._subscriptions(message)
                self._books.forget(ended)
                return [Unsubscribed(ended)]
            case "error":
                refusal = self._error.decode(message)
                refused = Subscription(refusal.channel, refusal.symbol) if refusal.symbol else None
                return [Refused(refused, refusal.message)]
            case "ping":
                identifier = _document(message).get("id")
                pong = msgspec.json.encode({"type": "pong", "id": identifier})
                return [Reply(pong.decode())]
            case "reconnect":
                return [ReconnectRequested(str(_document(message).get("reason", "")))]
            case _:
                return [Ignored(kind[:40])]

    def _subscriptions(self, message: str | bytes) -> list[Subscription]:
        answer = self._symbols.decode(message)
        return [Subscription(answer.channel, symbol) for symbol in answer.symbols]


class InflatingSession:
    """A `PriceSession` whose binary messages are compressed.

    It has no faster way for plain data: inflating costs more than that would save.
    """

    def __init__(self, session: PriceSession, inflator: Inflator) -> None:
        self._session = session
        self._inflate = inflator.inflate

    def last_sequence(self, symbol: str) -> int | None:
        return self._session.last_sequence(symbol)

    def resume_after(self, symbol: str, sequence: int) -> None:
        self._session.resume_after(symbol, sequence)

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._session.last_book_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._session.book_image(symbol)

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        if isinstance(message, bytes):
            message = self._inflate(message)
        return self._session.decode(message, recv_ns=recv_ns, epoch=epoch)


def _document(message: str | bytes) -> dict[str, Any]:
    """The JSON object in `message`, or an empty one."""
    try:
        document = msgspec.json.decode(message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
