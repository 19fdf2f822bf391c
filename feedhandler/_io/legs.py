"""A feed: symbols of one venue, over as many connections as it takes, and who reads them."""

from __future__ import annotations

import contextlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial, reduce
from random import Random, SystemRandom

import trio
from attrs import evolve, frozen

from feedhandler._core.allowance import traits_of
from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.coverage import Coverage, CoverageLedger
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.reading import BookReading
from feedhandler._core.spread import spread
from feedhandler._core.state import ConnectionState
from feedhandler._io.connection import Endpoint
from feedhandler._io.fanout import Subscriber
from feedhandler._io.leg import Leg
from feedhandler._io.nursery import open_plain_nursery
from feedhandler._io.snapshots import Gate
from feedhandler._io.subscriptions import FeedSubscriptions, check_subscriptions
from feedhandler.abc import Clock, SplitVenue, Subscription, Tap, TokenProvider, Venue
from feedhandler.book import BookTop
from feedhandler.config import FeedConfig, OverflowPolicy
from feedhandler.errors import FailureKind, FeedError, SlowConsumer
from feedhandler.model import BookSnapshot, Event, Trust
from feedhandler.observe import FeedStatistics

__all__ = ["Feed", "FeedLeg", "fork_rng"]

# Of several connections, the one that is worst off says how the feed is.
_WORSE = {
    state: rank
    for rank, state in enumerate(
        (
            ConnectionState.CONNECTED,
            ConnectionState.CONNECTING,
            ConnectionState.RECONNECTING,
            ConnectionState.DISCONNECTED,
            ConnectionState.CLOSED,
            ConnectionState.CLOSING,
        )
    )
}


@frozen
class FeedLeg:
    """One of a feed's connections side by side; its events carry `number` as their `leg`."""

    number: int
    state: ConnectionState
    epoch: int
    subscriptions: FeedSubscriptions


class Feed:
    """A stream of typed events from one venue. Made by `open_feed()` or `FeedHandler.add()`.

    ```python
    async for event in feed: ...          # one by one
    async for events in feed.batches(): ...  # a list for each read: the fast way
    ```

    Iterating ends when the feed is closed. It raises `RetriesExhausted`, or the `ConnectionFailed`
    that cannot be retried, when the feed has given up, and `SlowConsumer` where the overflow
    policy says so, after what was received before. See `Subscriber` for the rule of checkpoints.

    Where the venue takes only so many subscriptions on one connection, there are several: `legs`.
    The events of each keep their order, all channels of a symbol are on one where they fit, and
    the bound on what waits is for all together. So it is where its channels are at several
    addresses. A leg that gives up says so in the stream
    (`FeedStateChanged`) and the others go on; the first such error is raised when none is left.
    Subscribing again what was on it puts that on another connection.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        endpoint: Callable[[Venue], Endpoint],
        config: FeedConfig,
        policies: Mapping[FailureKind, FailurePolicy],
        token: str | TokenProvider | None,
        headers: Sequence[tuple[str, str]],
        clock: Clock,
        rng: Random,
        on_change: Callable[[], None],
        wanted: Sequence[Subscription],
        gate: Gate | None = None,
        admit: Callable[[], Awaitable[None]] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.venue = venue
        self._config = config
        self._clock = clock
        self._rng = rng
        self._endpoint = endpoint
        self._limit = traits_of(venue).limits.subscriptions
        self._is_one = self._limit is None and not isinstance(venue, SplitVenue)
        self._main = Subscriber(
            limit=config.buffer_events,
            policy=config.overflow,
            max_bytes=config.connection.buffer_bytes,
            on_change=on_change,
            on_cut=self._cut_off,
            image=self._book_image,
        )
        self._subscribers = [self._main]
        self._make_leg = partial(
            Leg,
            config=config,
            policies=policies,
            token=token,
            headers=headers,
            clock=clock,
            subscribers=self._subscribers,
            on_emptied=self._emptied,
            gate=gate,
            admit=admit,
            tap=tap,
        )
        self._coverage = CoverageLedger()
        self._legs: list[Leg] = []
        self._leaving: list[Leg] = []  # that nothing is wanted of, until they have closed
        self._not_running: list[Leg] = []
        self._numbers = 0
        self._past = FeedStatistics()  # of the legs that are gone
        self._nursery: trio.Nursery | None = None
        self._leg_ended = trio.Event()
        self._started = False
        self._closing = False
        self._ended = False
        self._error: FeedError | None = None
        for entry, subscriptions in self._by_entry(wanted):
            for part in spread(subscriptions, {}, limit=self._limit):
                self._add_leg(entry, part.subscriptions)
        self._note_books()

    def __repr__(self) -> str:
        counters = self.statistics()
        legs = self._legs
        where = f"epoch={legs[0].epoch}" if len(legs) == 1 else f"legs={len(legs)}"
        return (
            f"<Feed {self.venue.name} {self.state.name} {where} "
            f"events={counters.events} gaps={counters.gaps} errors={counters.decode_errors}>"
        )

    # --- for the consumer ---

    def __aiter__(self) -> Subscriber:
        return self._main

    async def __anext__(self) -> Event:
        return await self._main.__anext__()

    def batches(self) -> AsyncIterator[list[Event]]:
        return self._main.batches()

    @contextlib.contextmanager
    def subscriber(
        self, *, overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST, buffer_events: int = 65_536
    ) -> Iterator[Subscriber]:
        """One more consumer, with a bound and a policy of its own, from now to the block's end.

        It begins with a `BookSnapshot` of each order book that is whole.

        While there is one, the feed's own iteration holds nobody up if it has not begun, or takes
        nothing for 10 s: then its oldest events go, announced.
        """
        extra = Subscriber(
            limit=buffer_events,
            policy=overflow,
            max_bytes=self._config.connection.buffer_bytes,
            image=self._book_image,
        )
        for leg in self._legs:
            if leg.state is ConnectionState.CONNECTED and (images := leg.images()):
                extra.post(images)
        if self._ended:
            extra.close(self._error)
        self._subscribers.append(extra)
        self._main.set_optional(True)
        try:
            yield extra
        finally:
            self._subscribers.remove(extra)
            self._main.set_optional(len(self._subscribers) > 1)
            extra.close()
            if isinstance(self._main.error, SlowConsumer):
                self._cut_off()

    def book(self, symbol: str, *, depth: int | None = 10) -> BookTop | None:
        """The order book of `symbol` where this feed's reader is, and how far to trust it.

        It is a frozen copy of the best `depth` levels of each side (`None`: all of them). `None`
        means that no snapshot was read yet.

        In `async for event in feed`, also where a `FeedHandler` merges feeds one by one, the book
        is exactly that of the events up to and including the one that is being looked at, whatever
        has been received since, and whatever the overflow policy has dropped. With `batches()` it
        is that after the whole batch. The books of a `subscriber()` are its own: see `BookShelf`.

        Its trust is `STALE` while the reader sees no connection, when the book is not subscribed
        any more, and if its newest message is older than `symbol_stale_s`, where that is set.
        Raises `ValueError` for a negative depth.
        """
        reading = self._main.reading
        top = reading.shelf().top(symbol, depth=depth) if reading is not None else None
        if top is None:
            return None
        limit = self._config.symbol_stale_s
        silent = limit is not None and self._clock.time_ns() - top.recv_ns >= limit * 1e9
        if silent or not any(leg.wants_book(symbol) for leg in self._legs):
            return evolve(top, trust=Trust.STALE)
        return top

    @property
    def legs(self) -> tuple[FeedLeg, ...]:
        """The connections side by side, also those that have given up with what is wanted there."""
        return tuple(
            FeedLeg(leg.number, leg.state, leg.epoch, leg.subscriptions) for leg in self._legs
        )

    @property
    def state(self) -> ConnectionState:
        """The connection's state; of several, that of the one that is worst off."""
        return self._worst.state

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The connection's circuit breaker; of several, that of the one that is worst off."""
        return self._worst.breaker

    @property
    def subscriptions(self) -> FeedSubscriptions:
        return reduce(FeedSubscriptions.merged, [leg.subscriptions for leg in self._legs])

    @property
    def attempt_count(self) -> int:
        """Failed attempts since the connection last proved itself; of several, the most."""
        return max(leg.attempt_count for leg in self._legs)

    @property
    def current_backoff_s(self) -> float:
        """The delay that was decided last, in seconds; 0 when none is due. Of several, the most."""
        return max(leg.current_backoff_s for leg in self._legs)

    @property
    def buffer_events(self) -> int:
        """How many events may wait, as configured."""
        return self._config.buffer_events

    @property
    def overflow(self) -> OverflowPolicy:
        """What happens when so many wait, as configured."""
        return self._config.overflow

    @property
    def waiting(self) -> int:
        """How many events wait for this feed's own iteration; see `FeedConfig.buffer_events`."""
        return self._main.waiting

    def statistics(self) -> FeedStatistics:
        """What all connections have seen, also those that are gone."""
        legs = [leg.statistics() for leg in (*self._legs, *self._leaving)]
        return reduce(FeedStatistics.merged, legs, self._past)

    def coverage(self) -> dict[str, Coverage]:
        """For each order book that has come: how long, and for how many messages, it could be
        trusted; of what was received, whatever the reader has read."""
        return self._coverage.coverage(self._clock.time_ns())

    def subscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols as well; they are asked for at once, and after each reconnect.

        They go to a connection that has room; where none has, another one is opened. Raises
        `ConfigError` for an unknown channel or an empty symbol, and then changes nothing.
        """
        wanted = check_subscriptions(self.venue, symbols, channels)
        running = {leg.number: leg for leg in self._legs if not leg.ended}
        if self._closing or not running:
            self._legs[0].want(wanted)
        else:
            for leg in [leg for leg in self._legs if leg.ended]:
                leg.unwant(wanted)  # it has given up; another takes them
            for entry, subscriptions in self._by_entry(wanted):
                placed = {n: leg.wanted for n, leg in running.items() if leg.venue == entry}
                for part in spread(subscriptions, placed, limit=self._limit):
                    if part.leg is None:
                        self._add_leg(entry, part.subscriptions)
                    else:
                        running[part.leg].want(part.subscriptions)
            self._let_go()
        self._note_books()

    def unsubscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols no longer. Data that is on its way may still arrive.

        Of an order book that has come a `Gap` says that it ends here. Of several connections, one
        that is left without any subscription is closed. Raises `ConfigError` as `subscribe()` does.
        """
        ended = check_subscriptions(self.venue, symbols, channels)
        for leg in tuple(self._legs):
            leg.unwant(ended)
        self._let_go()

    def reconnect(self, reason: str = "asked for by the application") -> None:
        """Drop the live connection and make a new one, through the back-off; of several, all."""
        for leg in tuple(self._legs):
            leg.reconnect(reason)

    # --- for the handler ---

    @property
    def main_subscriber(self) -> Subscriber:
        return self._main

    def start(self) -> None:
        """Take the first step; `run()` must follow."""
        self._started = True
        for leg in tuple(self._legs):
            leg.start()

    async def run(self) -> None:
        """Keep the feed alive until it is closed or gives up; then close its subscribers."""
        try:
            if self._is_one:
                await self._run_leg(self._legs[0])
            else:
                async with open_plain_nursery() as self._nursery:
                    for leg in self._not_running:
                        self._nursery.start_soon(self._run_leg, leg)
                    self._not_running.clear()
                    while self._leaving or not all(leg.ended for leg in self._legs):
                        self._leg_ended = trio.Event()
                        await self._leg_ended.wait()
        finally:
            self._ended = True
            errors = [leg.error for leg in self._legs]
            self._error = next((error for error in errors if error is not None), None)
            if isinstance(self._main.error, SlowConsumer):
                self._main.error.__cause__ = self._error
            for subscriber in self._subscribers:
                subscriber.close(self._error)

    def close(self) -> None:
        """Ask for the end: politely, within `close_timeout_s`. `run()` then returns."""
        self._closing = True
        for leg in [leg for leg in self._legs if not leg.ended]:
            leg.close()

    # --- legs ---

    @property
    def _worst(self) -> Leg:
        return max(self._legs, key=lambda leg: _WORSE[leg.state])

    def _by_entry(
        self, wanted: Iterable[Subscription]
    ) -> Iterable[tuple[Venue, list[Subscription]]]:
        """What is wanted at each of the venue's addresses."""
        venue = self.venue
        if not isinstance(venue, SplitVenue):
            return [(venue, [*wanted])]
        entries: list[tuple[Venue, list[Subscription]]] = []
        for subscription in wanted:
            entry = venue.entry(subscription.channel)
            own = next((subscriptions for known, subscriptions in entries if known == entry), None)
            if own is None:
                entries.append((entry, own := []))
            own.append(subscription)
        return entries

    def _add_leg(self, entry: Venue, wanted: Sequence[Subscription]) -> None:
        number = self._numbers
        self._numbers += 1
        rng = self._rng if number == 0 else fork_rng(self._rng)
        leg = self._make_leg(
            entry, endpoint=self._endpoint(entry), number=number, wanted=wanted, rng=rng
        )
        self._legs.append(leg)
        if self._started:
            leg.start()
        if self._nursery is None:
            self._not_running.append(leg)
        else:
            self._nursery.start_soon(self._run_leg, leg)

    async def _run_leg(self, leg: Leg) -> None:
        try:
            await leg.run()
        finally:
            if leg in self._leaving:
                self._leaving.remove(leg)
                self._past = self._past.merged(leg.statistics())
            self._leg_ended.set()

    def _emptied(self, leg: Leg) -> None:
        """All that `leg` was for was refused."""
        if not self._closing:
            self._let_go()

    def _let_go(self) -> None:
        """Close the legs that nothing is wanted of, but for the last."""
        for leg in [leg for leg in self._legs if not leg.wanted]:
            if len(self._legs) == 1:
                return
            self._legs.remove(leg)
            if leg.ended:
                self._past = self._past.merged(leg.statistics())
            else:
                self._leaving.append(leg)
                leg.close()

    # --- books ---

    def _note_books(self) -> None:
        if self._main.reading is None and any(leg.has_books for leg in self._legs):
            self._main.reading = BookReading()
        if self._main.reading is not None:
            for leg in self._legs:
                leg.ledger = self._coverage

    def _book_image(self, symbol: str) -> BookSnapshot | None:
        if len(self._legs) == 1:
            return self._legs[0].image(symbol)
        leg = next((leg for leg in self._legs if leg.wants_book(symbol)), None)
        return None if leg is None else leg.image(symbol)

    # --- inside ---

    def _cut_off(self) -> None:
        """The consumer was too slow, and the policy is to disconnect."""
        if self._subscribers == [self._main] and not self._ended:
            self.close()


def fork_rng(rng: Random) -> Random:
    """A generator for one part, so that another part does not change what it draws."""
    if isinstance(rng, SystemRandom):
        return rng  # masks have to be unpredictable (RFC 6455, section 5.3)
    return Random(rng.getrandbits(64))  # noqa: S311  # the caller wants runs that repeat
