"""What a scenario is run against: any async context manager that yields events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from feedhandler import (
    DEFAULT_POLICIES,
    BackoffConfig,
    BookDelta,
    BookSnapshot,
    BreakerConfig,
    DecodeFailed,
    FailureKind,
    FailurePolicy,
    FeedConfig,
    FeedStateChanged,
    Gap,
    Level,
    OverflowPolicy,
    PriceUpdate,
    PriceVenue,
    SubscriptionFailed,
    Trade,
    feed_config_from_mapping,
    open_feed,
)
from feedhandler.abc import Clock, Dialer, Fetcher, TokenProvider, Venue
from feedhandler_testing.dialect import Means
from feedhandler_testing.trace import (
    BookTold,
    Delivered,
    Lost,
    Malformed,
    Moved,
    Record,
    Refused,
)

if TYPE_CHECKING:
    import ssl

__all__ = ["Contract", "FeedSubject", "MockVenue", "Subject", "contract_of", "observe"]


@frozen
class MockVenue:
    """What a subject is to connect to.

    `dial` makes the streams (`url` names no real host on a memory network); `clock` is the wall
    clock to stamp with, and all chance (jitter, masks, keys) is to be drawn from `rng`, if runs
    are to be repeatable. `settings` are the scenario's. `token` gives the bearer token that is
    valid now, where one is demanded. `channel` is what to subscribe: ``price`` or ``book``;
    where the venue is `compressed`, data comes as binary messages in gzip.

    `venue` is the name of the venue whose language is spoken, ``price`` for the plain price JSON,
    and `fetch` the way to its REST interface. `preset` is this library's venue for it, and
    `feed_channel` what `channel` is called there.
    """

    url: str
    dial: Dialer
    symbols: tuple[str, ...]
    clock: Clock
    rng: Random
    settings: Mapping[str, Any] = field(factory=dict)
    ssl_context: ssl.SSLContext | None = None
    token: TokenProvider | None = None
    channel: str = "price"
    compressed: bool = False
    venue: str = "price"
    fetch: Fetcher | None = None
    preset: Venue | None = None
    feed_channel: str = "price"


@frozen(kw_only=True)
class Contract:
    """What a subject promises, and is held to; `None` where it promises nothing.

    `connections` is how many it may have open at once in a roll-over that the venue has asked for,
    or at any time where it `rolls_over_by_itself`. One that `drops_events` for a slow consumer may
    tell only the newest of several transitions. `began_ns` is what the clock that it was given
    said when the run began; the run sets it. `pace_s` is the least time between two
    requests, `ack_deadline_s` between two for the same subscription. `close_s` bounds its closing.
    `means` is what the venue gives to check by; the run sets it.
    """

    connections: int = 1
    rolls_over_by_itself: bool = False
    drops_events: bool = False
    began_ns: int | None = None
    backoff: BackoffConfig | None = None
    breaker: BreakerConfig | None = None
    policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES
    pace_s: float = 0.0
    ack_deadline_s: float | None = None
    asks_silent_again: bool = False
    close_s: float = 10.0
    means: Means = field(factory=Means)


class Subject(Protocol):
    """Something that connects to a venue and yields events.

    A subject may also have `observe(event, at_s)`, which turns an event into a `trace.Record` or
    `None` (default: `observe`, for this library's events); `contract(settings)`; and
    `gauges(events)`, which gives `trace.Gauged` values' name, value and bound.
    """

    def __call__(self, mock: MockVenue, /) -> AbstractAsyncContextManager[AsyncIterable[Any]]: ...


def observe(event: object, at_s: float) -> Record | None:
    """What an event of this library says; `None` if nothing that a rule is about."""
    match event:
        case PriceUpdate():
            return Delivered(
                at_s, event.symbol, event.sequence, str(event.price), str(event.size),
                event.side.value, event.venue_time_ns, event.recv_ns, event.epoch,
            )  # fmt: skip
        case Trade():
            # A dialect gives a trade the number of its plain message as id.
            trade_id = event.trade_id or ""
            number = int(trade_id) if trade_id.isdecimal() else -1
            return Delivered(
                at_s, event.symbol, number, str(event.price), str(event.size),
                event.side.value, event.venue_time_ns, event.recv_ns, event.epoch,
            )  # fmt: skip
        case BookSnapshot() | BookDelta():
            return BookTold(
                at_s, event.symbol, event.sequence, isinstance(event, BookSnapshot),
                event.trust.value, _levels(event.bids), _levels(event.asks),
            )  # fmt: skip
        case Gap():
            return Lost(
                at_s, event.symbol, event.reason.value, event.from_sequence, event.to_sequence,
                event.missing, event.of_book,
            )  # fmt: skip
        case FeedStateChanged():
            wait_ns = event.next_attempt_ns
            return Moved(
                at_s, event.old.value, event.new.value,
                event.failure.value if event.failure else None,
                type(event.error).__name__ if event.error else None,
                getattr(event.error, "retry_after_s", None),
                event.attempt,
                None if wait_ns is None else (wait_ns - event.recv_ns) / 1e9,
                event.breaker_open, event.epoch, event.recv_ns,
            )  # fmt: skip
        case DecodeFailed():
            return Malformed(at_s, event.error.path)
        case SubscriptionFailed():
            return Refused(at_s, event.error.symbol)
    return None


def _levels(levels: Iterable[Level]) -> tuple[str, ...]:
    return tuple(f"{level.price}:{level.size}" for level in levels)


_MERGED_EVENTS = 64  # that stand for what was dropped: gaps by symbol and reason, and a state
_READ_EVENTS = 131_072 // 50  # of one read: two for each message, and a price takes 100 bytes

_SETTINGS: Mapping[str, Any] = {
    "connection": {
        "connect_timeout_s": 5.0,
        "heartbeat_interval_s": 5.0,
        "pong_deadline_s": 12.0,
        "frame_stale_s": 15.0,
    },
    "backoff": {"max_retries": 0},
}


def settings_with(settings: Mapping[str, Any]) -> FeedConfig:
    """A quick feed's configuration, with a scenario's settings."""
    merged: dict[str, Any] = {key: dict(value) for key, value in _SETTINGS.items()}
    for key, value in settings.items():
        if isinstance(value, Mapping) and key in merged:
            merged[key].update(value)
        else:
            merged[key] = value
    return feed_config_from_mapping(merged)


def contract_of(
    config: FeedConfig, policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES
) -> Contract:
    """What this library's feed promises with that configuration."""
    return Contract(
        connections=2 if config.rollover else 1,
        drops_events=config.overflow is not OverflowPolicy.BLOCK,
        rolls_over_by_itself=config.rollover and config.connection.max_lifetime_s is not None,
        backoff=config.backoff,
        breaker=config.breaker,
        policies=policies,
        pace_s=config.subscribe_pace_s,
        ack_deadline_s=config.ack_deadline_s,
        asks_silent_again=config.symbol_stale_s is not None,
        close_s=config.connection.close_timeout_s,
    )


@frozen
class FeedSubject:
    """This library's own feed, with its venue for the mock's, and the scenario's settings."""

    policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[AsyncIterable[Any]]:
        async with open_feed(
            mock.preset
            or PriceVenue(
                mock.url, dial=mock.dial, compression="gzip" if mock.compressed else "none"
            ),
            mock.symbols,
            config=settings_with(mock.settings),
            policies=self.policies,
            clock=mock.clock,
            rng=mock.rng,
            ssl_context=mock.ssl_context,
            token=mock.token,
            channels=[mock.feed_channel if mock.preset is not None else mock.channel],
        ) as feed:
            yield feed

    def contract(self, settings: Mapping[str, Any]) -> Contract:
        return contract_of(settings_with(settings), self.policies)

    def lag_s(self, feed: Any) -> float:
        """How far behind the venue's clock the feed says that it is, at most so far, in seconds."""
        lag_ns: int | None = feed.statistics().lag_max_ns
        return (lag_ns or 0) / 1e9

    def gauges(self, feed: Any) -> Iterable[tuple[str, float, float]]:
        # Where reading waits, one read more can be held (see `ConnectionConfig`); where events are
        # dropped, a batch is being read besides, or what stands for those that were.
        blocks = feed.overflow is OverflowPolicy.BLOCK
        more = _READ_EVENTS if blocks else max(feed.buffer_events, _MERGED_EVENTS)
        yield "waiting events", feed.waiting, feed.buffer_events + more
