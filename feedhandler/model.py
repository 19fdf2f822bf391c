"""The events that a feed delivers: frozen, exact, and with what is needed to judge them.

Prices and sizes are `Decimal`s made from the digits that the venue sent. Times are integer
nanoseconds since the Unix epoch: `venue_time_ns` is the venue's own (`None` where it sends none),
`recv_ns` was taken when the bytes were read. `epoch` counts the feed's connections from 1, so that
two events with different epochs have a change of the connection between them.
"""

from __future__ import annotations

import enum
from decimal import Decimal

from attrs import field, frozen

from feedhandler._core.state import ConnectionState
from feedhandler.errors import DecodeError, FailureKind, SubscriptionRefused

__all__ = [
    "DataEvent",
    "DecodeFailed",
    "Event",
    "FeedStateChanged",
    "Gap",
    "GapReason",
    "PriceUpdate",
    "Quote",
    "Side",
    "StatusEvent",
    "SubscriptionFailed",
    "Trade",
]


class Side(enum.Enum):
    """The taker's side of a trade, or the side of the book that a price belongs to."""

    BUY = "buy"
    SELL = "sell"


class GapReason(enum.Enum):
    """Why data is missing."""

    RECONNECT = "reconnect"
    SEQUENCE = "sequence"
    OVERFLOW = "overflow"
    CONFLATED = "conflated"
    MALFORMED = "malformed"


@frozen(weakref_slot=False)
class PriceUpdate:
    """A price of `symbol`, with the size and side that it is good for.

    `sequence` is the venue's number for this message, one more for each message of the symbol.
    """

    symbol: str
    price: Decimal
    size: Decimal
    side: Side
    sequence: int
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0


@frozen(weakref_slot=False)
class Trade:
    """A trade; `side` is the taker's. `trade_id` and `sequence` are `None` where not sent."""

    symbol: str
    price: Decimal
    size: Decimal
    side: Side
    trade_id: str | None
    sequence: int | None
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0


@frozen(weakref_slot=False)
class Quote:
    """The top of the book; a side that is empty has `None` for its price and size."""

    symbol: str
    bid: Decimal | None
    bid_size: Decimal | None
    ask: Decimal | None
    ask_size: Decimal | None
    sequence: int | None
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0


@frozen
class Gap:
    """Data of `symbol` (`None`: of every symbol of the feed) that will not come.

    `from_sequence` and `to_sequence` are the first and last missing numbers, both inclusive;
    `from_ns` and `to_ns` are receive times around the hole; each is `None` where it cannot be
    known. `missing` is the count of lost events where it is known.
    """

    symbol: str | None
    reason: GapReason
    from_sequence: int | None
    to_sequence: int | None
    from_ns: int | None
    to_ns: int | None
    missing: int | None
    recv_ns: int
    venue: str
    epoch: int = 0


@frozen
class FeedStateChanged:
    """The feed's connection went from `old` to `new`.

    `failure` and `error` say why, where it was a failure. `attempt` counts the failed attempts
    since the connection last proved itself; `next_attempt_ns` is the wall-clock time of the next
    one, or `None` when there is none to come. `breaker_open` tells that it waits for the breaker.

    From connected to connected means a roll-over: with a higher `epoch`, one connection has
    replaced another, before that went (or, with a `failure`, when that died in the middle of it);
    with the same `epoch`, the new one could not be had, and the old one goes on.
    """

    old: ConnectionState
    new: ConnectionState
    reason: str
    failure: FailureKind | None
    error: Exception | None = field(eq=False)
    attempt: int
    next_attempt_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0
    breaker_open: bool = False


@frozen
class DecodeFailed:
    """One message could not be decoded; the stream goes on without it."""

    error: DecodeError = field(eq=False)
    recv_ns: int
    venue: str
    epoch: int = 0


@frozen
class SubscriptionFailed:
    """The venue refused a subscription; the others flow on."""

    error: SubscriptionRefused = field(eq=False)
    recv_ns: int
    venue: str
    epoch: int = 0


DataEvent = PriceUpdate | Trade | Quote
StatusEvent = Gap | FeedStateChanged | DecodeFailed | SubscriptionFailed
Event = DataEvent | StatusEvent
