"""The events that a feed delivers: frozen, exact, and with what is needed to judge them.

Prices and sizes are `Decimal`s made from the digits that the venue sent. Times are integer
nanoseconds since the Unix epoch: `venue_time_ns` is the venue's own (`None` where it sends none),
`recv_ns` was taken when the bytes were read. `epoch` counts the feed's connections from 1, so that
two events with different epochs have a change of the connection between them.

A venue that takes only so many subscriptions on one connection is read over several side by side:
the feed's legs, numbered from 0. Each has epochs of its own. `leg` is 0 where there is one.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import NamedTuple

from attrs import field, frozen

from feedhandler._core.state import ConnectionState
from feedhandler.errors import DecodeError, FailureKind, FetchFailed, SubscriptionRefused

__all__ = [
    "BookDelta",
    "BookSnapshot",
    "CountedLevel",
    "DataEvent",
    "DecodeFailed",
    "Event",
    "FeedStateChanged",
    "Gap",
    "GapReason",
    "Level",
    "PriceUpdate",
    "Quote",
    "Side",
    "SnapshotFailed",
    "StatusEvent",
    "SubscriptionFailed",
    "Trade",
    "Trust",
    "TrustChanged",
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
    CHECKSUM = "checksum"
    CROSSED = "crossed"
    DEPTH = "depth"
    UNSUBSCRIBED = "unsubscribed"


class Trust(enum.Enum):
    """How far an order book can be trusted.

    `VERIFIED`: it was rebuilt whole from a snapshot, and the venue's check (of numbers, of previous
    ids, of a checksum, of the connection's count) has passed for every message since.
    `UNVERIFIABLE`: it was rebuilt whole, and the venue gave nothing to check it by.
    `SUSPECT`: a check has failed, or a gap is open. `STALE`: no word of it has come for too long,
    or none can come, because the connection is down or the subscription has ended.
    """

    VERIFIED = "verified"
    UNVERIFIABLE = "unverifiable"
    SUSPECT = "suspect"
    STALE = "stale"


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


class Level(NamedTuple("_Level", [("price", Decimal), ("size", Decimal)])):
    """A price of the order book, and the size that waits there; in a delta, 0 ends the level."""

    # Made by the function, so that tools can resolve the fields' types in this module.
    __slots__ = ()


class CountedLevel(
    NamedTuple("_CountedLevel", [("price", Decimal), ("count", int), ("size", Decimal)])
):
    """A level of the order book with its `count` of orders; in a delta, a count of 0 ends it."""

    __slots__ = ()


@frozen(weakref_slot=False)
class BookSnapshot:
    """The whole order book of `symbol`, which takes the place of whatever was known of it.

    `bids` and `asks` are its levels, best first, each price once, no size 0. It stands for the book
    after message number `sequence` of the symbol's book.
    """

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sequence: int | None
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0
    trust: Trust = Trust.UNVERIFIABLE
    leg: int = 0


@frozen(weakref_slot=False)
class BookDelta:
    """Levels of the order book of `symbol` that have changed: to these sizes, not by them.

    `bids` and `asks` are best first, each price once; a size of 0 ends the level. It may be applied
    to the book of number `previous` and to no other; both numbers are `None` where the venue does
    not number its books, and then it may be applied to the one before it, if no `Gap` is between
    the two. `trust` is that of the book after it; `SUSPECT` means that this reader has missed what
    it builds on, so there is no such book until the next `BookSnapshot` of the symbol.
    """

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sequence: int | None
    venue_time_ns: int | None
    recv_ns: int
    venue: str
    epoch: int = 0
    trust: Trust = Trust.UNVERIFIABLE
    previous: int | None = None


@frozen
class Gap:
    """Data of `symbol` (`None`: of every symbol of `leg`) that will not come.

    `from_sequence` and `to_sequence` are the first and last missing numbers, both inclusive;
    `from_ns` and `to_ns` are receive times around the hole; each is `None` where it cannot be
    known. `missing` is the count of lost events where it is known.

    `of_book` tells that it is the symbol's order book that has the hole, and then the numbers are
    those of the book: it is whole again with the next `BookSnapshot`, which makes up for all before
    it. `CHECKSUM`, `CROSSED` and `DEPTH` name the message after which the book was found wrong, or
    too deep; `UNSUBSCRIBED` the first that is not followed any more.

    `leg` is `None` where the connection is not known: without a symbol, it is then about all.
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
    of_book: bool = False
    leg: int | None = 0


@frozen
class FeedStateChanged:
    """The feed's connection number `leg` went from `old` to `new`.

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
    leg: int = 0


@frozen
class DecodeFailed:
    """One message could not be decoded; the stream goes on without it."""

    error: DecodeError = field(eq=False)
    recv_ns: int
    venue: str
    epoch: int = 0
    leg: int = 0


@frozen
class SubscriptionFailed:
    """The venue refused a subscription; the others flow on."""

    error: SubscriptionRefused = field(eq=False)
    recv_ns: int
    venue: str
    epoch: int = 0
    leg: int = 0


@frozen
class SnapshotFailed:
    """The snapshot of a symbol's order book could not be fetched, or is none; it is tried again.

    The `error` has the venue's own words: its HTTP status and the beginning of its answer, or what
    is wrong with the fields. The book stays `SUSPECT` meanwhile.
    """

    symbol: str
    error: FetchFailed | DecodeError = field(eq=False)
    recv_ns: int
    venue: str
    epoch: int = 0
    leg: int = 0


@frozen
class TrustChanged:
    """The trust in a symbol's order book has changed without a message of it.

    It is `STALE` now, because no word of it has come for too long by its own rhythm, or by
    `FeedConfig.symbol_stale_s`, while the connection lives. The next message of the book says what
    it deserves from then on; it is asked for.
    """

    symbol: str
    trust: Trust
    reason: str
    recv_ns: int
    venue: str
    epoch: int = 0
    leg: int = 0


DataEvent = PriceUpdate | Trade | Quote | BookSnapshot | BookDelta
StatusEvent = (
    Gap | FeedStateChanged | DecodeFailed | SubscriptionFailed | SnapshotFailed | TrustChanged
)
Event = DataEvent | StatusEvent
