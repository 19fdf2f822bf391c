"""The plain price JSON, which the mock server speaks.

Data is what `feedhandler.codec.PriceParser` documents, with ``"type": "price"``. Beside it::

    -> {"type": "subscribe", "symbols": ["BTC-USD"]}    and "unsubscribe"
    <- {"type": "subscribed", "symbols": ["BTC-USD"]}   and "unsubscribed"
    <- {"type": "error", "symbol": "XX", "message": "unknown symbol"}
    <- {"type": "heartbeat"}
    <- {"type": "ping", "id": 1}      -> {"type": "pong", "id": 1}
    <- {"type": "reconnect", "reason": "maintenance"}

`sequence` counts the messages of a symbol, one more for each, through reconnects.

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
from feedhandler.codec import (
    MAX_AMOUNT,
    MIN_AMOUNT,
    REFUSALS,
    FastDecoder,
    PriceParser,
    are_plain,
)
from feedhandler.config import at_least, valid_url
from feedhandler.errors import DecodeError
from feedhandler.model import Event, PriceUpdate, Side

__all__ = ["PriceVenue"]

CHANNEL = "price"


@frozen
class PriceVenue:
    """A venue at `url` that sends plain price JSON; `dial` makes the stream (default: TCP).

    `compression` and `max_inflated_bytes` are about its binary messages: see this module's text.

    ```python
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed: ...
    ```
    """

    url: str = field(validator=valid_url, repr=redact_url)
    name: str = field(default="price", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    compression: Compression = field(
        default="none", kw_only=True, validator=lambda _, a, value: check_compression(a.name, value)
    )
    max_inflated_bytes: int = field(default=16 * 2**20, kw_only=True, validator=at_least(1))

    @property
    def channels(self) -> Sequence[str]:
        return (CHANNEL,)

    def session(self) -> PriceSession | InflatingSession:
        session = PriceSession(self.name)
        if self.compression == "none":
            return session
        limit = self.max_inflated_bytes
        return InflatingSession(session, Inflator(self.compression, limit=limit, venue=self.name))

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [_request("subscribe", subscriptions)]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [_request("unsubscribe", subscriptions)]


def _request(kind: str, subscriptions: Sequence[Subscription]) -> str:
    symbols = [subscription.symbol for subscription in subscriptions]
    return msgspec.json.encode({"type": kind, "symbols": symbols}).decode()


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


@frozen
class _Error:
    type: str
    message: str
    symbol: str = ""


class PriceSession:
    """One connection of a `PriceVenue`: it follows each symbol's sequence."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._parser = PriceParser(venue)
        self._sequences: SequenceTracker[str] = SequenceTracker()
        self._symbols = FastDecoder(_Symbols, venue=venue)
        self._error = FastDecoder(_Error, venue=venue)
        self._decode = msgspec.json.Decoder(_Plain).decode
        self._plain = False

    def last_sequence(self, symbol: str) -> int | None:
        return self._sequences.last(symbol)

    def resume_after(self, symbol: str, sequence: int) -> None:
        self._sequences.resume_after(symbol, sequence)

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message: a price, after the `Gap` before it if there is one, or a control."""
        try:
            price = self._parser.decode(message)
        except DecodeError as error:
            kind = _type_of(message)
            if kind is None or kind == CHANNEL:
                raise
            return self._control(kind, message, error)
        if price.type != CHANNEL:
            return [Ignored(price.type)]
        if _type_of(message) is None:
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

    def _control(self, kind: str, message: str | bytes, error: DecodeError) -> Sequence[Control]:
        match kind:
            case "heartbeat":
                return [Heartbeat()]
            case "subscribed":
                return [Subscribed(self._subscriptions(message))]
            case "unsubscribed":
                return [Unsubscribed(self._subscriptions(message))]
            case "error":
                refusal = self._error.decode(message)
                subscription = Subscription(CHANNEL, refusal.symbol) if refusal.symbol else None
                return [Refused(subscription, refusal.message)]
            case "ping":
                identifier = _document(message).get("id")
                pong = msgspec.json.encode({"type": "pong", "id": identifier})
                return [Reply(pong.decode())]
            case "reconnect":
                return [ReconnectRequested(str(_document(message).get("reason", "")))]
            case _:
                return [Ignored(kind[:40])]

    def _subscriptions(self, message: str | bytes) -> list[Subscription]:
        return [Subscription(CHANNEL, symbol) for symbol in self._symbols.decode(message).symbols]


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


def _type_of(message: str | bytes) -> str | None:
    kind = _document(message).get("type")
    return kind if isinstance(kind, str) else None
