"""One feed: a venue's connection, its subscriptions, decoding, and the way to the consumers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Protocol, runtime_checkable

import trio

from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.liveness import BurstCounter
from feedhandler._core.state import ConnectionEvent, ConnectionState, Transition
from feedhandler._io.connection import Batch, Endpoint
from feedhandler._io.fanout import Subscriber
from feedhandler._io.outbox import Outbox
from feedhandler._io.subscriptions import (
    FeedSubscriptions,
    SubscriptionKeeper,
    check_subscriptions,
)
from feedhandler._io.supervisor import Supervisor
from feedhandler.abc import (
    BatchSession,
    Clock,
    Control,
    Heartbeat,
    Ignored,
    Malformed,
    ReconnectRequested,
    Refused,
    Reply,
    Session,
    Subscribed,
    Subscription,
    TokenProvider,
    Unsubscribed,
    Venue,
)
from feedhandler.config import FeedConfig, OverflowPolicy
from feedhandler.errors import (
    DecodeError,
    FailureKind,
    FeedError,
    ForcedDisconnect,
    MalformedBurst,
    SendQueueFull,
    SlowConsumer,
    SubscriptionRefused,
)
from feedhandler.model import (
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    PriceUpdate,
    Quote,
    SubscriptionFailed,
    Trade,
)
from feedhandler.observe import Counters, FeedStatistics

__all__ = ["Feed"]

_DATA = frozenset({PriceUpdate, Trade, Quote})


@runtime_checkable
class SequencedSession(Protocol):
    """A session that knows how far it has come in each symbol's sequence."""

    def last_sequence(self, symbol: str) -> int | None: ...


class Feed:
    """A stream of typed events from one venue. Made by `open_feed()` or `FeedHandler.add()`.

    ```python
    async for event in feed: ...          # one by one
    async for events in feed.batches(): ...  # a list for each read: the fast way
    ```

    Iterating ends when the feed is closed. It raises `RetriesExhausted`, or the `ConnectionFailed`
    that cannot be retried, when the feed has given up, and `SlowConsumer` where the overflow
    policy says so, after what was received before. See `Subscriber` for the rule of checkpoints.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        endpoint: Endpoint,
        config: FeedConfig,
        policies: Mapping[FailureKind, FailurePolicy],
        token: str | TokenProvider | None,
        headers: Sequence[tuple[str, str]],
        clock: Clock,
        rng: Random,
        on_change: Callable[[], None],
        wanted: Sequence[Subscription],
    ) -> None:
        self.venue = venue
        self._config = config
        self._clock = clock
        self._counters = Counters()
        self._subscriptions = SubscriptionKeeper(venue, config, wanted, is_full=lambda: self.full)
        self._use_session(venue.session())
        self._positions: dict[str, int] = {}
        self._last_recv_ns: int | None = None
        self._burst = BurstCounter(config.decode_burst, config.decode_burst_window_s)
        self._outbox = Outbox(config.connection.send_queue_messages)
        self._main = Subscriber(
            limit=config.buffer_events,
            policy=config.overflow,
            max_bytes=config.connection.buffer_bytes,
            on_change=on_change,
            on_cut=self._cut_off,
        )
        self._subscribers = [self._main]
        self._ended = False
        self._error: FeedError | None = None
        self.breaker = CircuitBreaker(config.breaker) if config.breaker is not None else None
        self._supervisor = Supervisor(
            endpoint,
            config=config.connection,
            backoff=config.backoff,
            policies=policies,
            breaker=self.breaker,
            token=token,
            headers=headers,
            clock=clock,
            rng=rng,
            sink=self,
            on_transition=self._on_transition,
            outbox=self._new_outbox,
            companions=(self._subscriptions.keep,),
        )

    def __repr__(self) -> str:
        counters = self._counters
        return (
            f"<Feed {self.venue.name} {self.state.name} epoch={self._supervisor.epoch} "
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

        While there is one, the feed's own iteration holds nobody up if it has not begun, or takes
        nothing for 10 s: then its oldest events go, announced.
        """
        extra = Subscriber(
            limit=buffer_events,
            policy=overflow,
            max_bytes=self._config.connection.buffer_bytes,
        )
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

    @property
    def state(self) -> ConnectionState:
        return self._supervisor.state

    @property
    def subscriptions(self) -> FeedSubscriptions:
        return self._subscriptions.snapshot()

    @property
    def attempt_count(self) -> int:
        """Failed attempts since the connection last proved itself."""
        return self._supervisor.reconnection.attempt_count

    @property
    def current_backoff_s(self) -> float:
        """The delay that was decided last, in seconds; 0 when none is due."""
        return self._supervisor.reconnection.current_backoff

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
        return self._counters.snapshot()

    def subscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols as well; they are asked for at once, and after each reconnect.

        Raises `ConfigError` for an unknown channel or an empty symbol, and then changes nothing.
        """
        self._subscriptions.want(check_subscriptions(self.venue, symbols, channels))

    def unsubscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols no longer. Data that is on its way may still arrive.

        Raises `ConfigError` as `subscribe()` does.
        """
        self._subscriptions.unwant(check_subscriptions(self.venue, symbols, channels))

    def reconnect(self, reason: str = "asked for by the application") -> None:
        """Drop the live connection and make a new one, through the back-off."""
        self._supervisor.force(ForcedDisconnect(reason))

    # --- for the handler ---

    @property
    def main_subscriber(self) -> Subscriber:
        return self._main

    def start(self) -> None:
        """Take the first step; `run()` must follow."""
        self._supervisor.start(ConnectionEvent.CONNECT)

    async def run(self) -> None:
        """Keep the feed alive until it is closed or gives up; then close its subscribers."""
        try:
            self._error = await self._supervisor.run(retry_first=True)
        finally:
            self._ended = True
            if self._error is None or self.state is ConnectionState.CLOSING:
                self._supervisor.closed()
            if isinstance(self._main.error, SlowConsumer):
                self._main.error.__cause__ = self._error
            for subscriber in self._subscribers:
                subscriber.close(self._error)

    def close(self) -> None:
        """Ask for the end: politely, within `close_timeout_s`. `run()` then returns."""
        self._supervisor.close()

    # --- the sink of its supervisor: from bytes to events ---

    def post(self, batch: Batch) -> bool:
        """Decode a batch and hand its events over; called by the connection, at each read.

        Tells whether there was market data in it.
        """
        counters = self._counters
        counters.batches += 1
        counters.messages += len(batch.messages)
        counters.bytes += batch.size
        recv_ns = self._last_recv_ns = batch.recv_ns
        epoch = batch.epoch
        events: list[Event] = []
        append = events.append
        decode = self._session.decode
        plain = self._decode_plain
        data = False
        valid = 0
        messages = batch.messages
        position, count = 0, len(messages)
        while position < count:
            if plain is not None:
                run = plain(messages, position, recv_ns=recv_ns, epoch=epoch)
                if run:
                    data = True
                    valid += len(run)
                    events += run
                    position += len(run)
                    if position == count:
                        break
            message = messages[position]
            position += 1
            try:
                items = [*decode(message, recv_ns=recv_ns, epoch=epoch)]
            except Exception as error:  # a venue's bug is no reason to stop either
                items = [Malformed(self._as_decode_error(error, message))]
            for item in items:
                kind = type(item)
                if kind in _DATA:
                    append(item)  # type: ignore[arg-type]  # narrowed by the set
                    data = True
                    valid += 1
                elif isinstance(item, Malformed):
                    valid = self._mark(valid)
                    self._decode_failed(item.error, batch, events)
                else:
                    self._take(item, events, recv_ns, epoch)
        self._mark(valid)
        self._subscriptions.saw(events)
        self._publish(events, size=batch.size)
        return data

    @property
    def full(self) -> bool:
        return any(subscriber.full for subscriber in self._subscribers)

    async def wait_room(self) -> None:
        while self.full:
            for subscriber in tuple(self._subscribers):
                if subscriber.full:
                    await subscriber.wait_room()

    def _mark(self, valid: int) -> int:
        """Tell the breaker and the back-off of valid data before what comes next; then forget."""
        if valid:
            self._supervisor.data_is_valid(count=valid)
        return 0

    def _take(self, item: Event | Control, events: list[Event], recv_ns: int, epoch: int) -> None:
        """Deal with what is not data."""
        counters = self._counters
        match item:
            case Malformed():
                pass  # `post()` has dealt with it
            case Heartbeat():
                counters.heartbeats += 1
            case Ignored():
                counters.ignored += 1
            case Subscribed() | Unsubscribed():
                self._subscriptions.acknowledge(item)
            case Refused():
                self._refused(item, events, recv_ns, epoch)
            case Reply():
                try:
                    self._outbox.post(item.message)
                except SendQueueFull:
                    self.reconnect("the venue asks for replies and does not read them")
            case ReconnectRequested():
                self.reconnect(f"the venue asks for it: {item.reason}")
            case _:
                counters.gaps += isinstance(item, Gap)
                events.append(item)

    def _refused(self, item: Refused, events: list[Event], recv_ns: int, epoch: int) -> None:
        subscription = item.subscription
        if subscription is not None:
            self._subscriptions.refuse(subscription)
        error = SubscriptionRefused(
            self.venue.name,
            subscription.symbol if subscription else None,
            subscription.channel if subscription else None,
            item.detail,
        )
        events.append(SubscriptionFailed(error, recv_ns, self.venue.name, epoch))

    def _as_decode_error(self, error: Exception, message: str | bytes) -> DecodeError:
        if isinstance(error, DecodeError):
            return error
        wrapped = DecodeError(self.venue.name, message, [("$", repr(error))])
        wrapped.__cause__ = error
        return wrapped

    def _decode_failed(self, error: DecodeError, batch: Batch, events: list[Event]) -> None:
        self._counters.decode_errors += 1
        self._counters.gaps += 1
        recv_ns, epoch, venue = batch.recv_ns, batch.epoch, self.venue.name
        events.append(DecodeFailed(error, recv_ns, venue, epoch))
        events.append(
            Gap(None, GapReason.MALFORMED, None, None, recv_ns, recv_ns, 1, recv_ns, venue, epoch)
        )
        self._supervisor.data_is_malformed()
        if self._burst.record(trio.current_time()):
            config = self._config
            self._supervisor.force(
                MalformedBurst(config.decode_burst, config.decode_burst_window_s)
            )

    def _publish(self, events: list[Event], *, size: int = 0) -> None:
        if not events:
            return
        counters = self._counters
        counters.events += len(events)
        for subscriber in self._subscribers:
            subscriber.post(events, size=size)

    # --- transitions ---

    def _on_transition(self, transition: Transition) -> None:
        now_ns = self._clock.time_ns()
        events: list[Event] = [self._state_event(transition, now_ns)]
        if transition.new is ConnectionState.CONNECTED:
            if transition.epoch > 1:
                gaps = list(self._reconnect_gaps(now_ns, transition.epoch))
                self._counters.gaps += len(gaps)
                events += gaps
            self._counters.connections += 1
            self._use_session(self.venue.session())
            self._subscriptions.reset()
        self._publish(events)

    def _state_event(self, transition: Transition, now_ns: int) -> FeedStateChanged:
        next_attempt_ns = None
        if transition.next_attempt_at is not None:
            next_attempt_ns = now_ns + round((transition.next_attempt_at - transition.at) * 1e9)
        error = transition.error
        return FeedStateChanged(
            old=transition.old,
            new=transition.new,
            reason=str(error) if error is not None else transition.event.value,
            failure=transition.failure,
            error=error,
            attempt=transition.attempt,
            next_attempt_ns=next_attempt_ns,
            recv_ns=now_ns,
            venue=self.venue.name,
            epoch=transition.epoch,
            breaker_open=transition.breaker_open,
        )

    def _reconnect_gaps(self, now_ns: int, epoch: int) -> Iterator[Gap]:
        """What was sent between the last read and now is lost, for every symbol that is wanted."""
        session = self._session
        for symbol in self._subscriptions.symbols():
            last = session.last_sequence(symbol) if isinstance(session, SequencedSession) else None
            if last is None:
                last = self._positions.get(symbol)  # nothing came since the gap before
            else:
                self._positions[symbol] = last
            yield Gap(
                symbol=symbol,
                reason=GapReason.RECONNECT,
                from_sequence=None if last is None else last + 1,
                to_sequence=None,
                from_ns=self._last_recv_ns,
                to_ns=now_ns,
                missing=None,
                recv_ns=now_ns,
                venue=self.venue.name,
                epoch=epoch,
            )

    # --- inside ---

    def _use_session(self, session: Session) -> None:
        self._session = session
        # Asked here and not at each read: what a protocol is asked takes longer than a message.
        self._decode_plain = session.decode_plain if isinstance(session, BatchSession) else None

    def _cut_off(self) -> None:
        """The consumer was too slow, and the policy is to disconnect."""
        if self._subscribers == [self._main] and not self._ended:
            self.close()

    def _new_outbox(self) -> Outbox:
        # Replies belong to the connection that asked for them.
        self._outbox = Outbox(self._config.connection.send_queue_messages)
        return self._outbox
