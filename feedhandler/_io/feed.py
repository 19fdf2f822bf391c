"""One feed: a venue's connection, its subscriptions, decoding, and the way to the consumers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

import trio
from attrs import evolve

from feedhandler._core.announcement import Announcer
from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.coverage import Coverage, CoverageLedger
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.feed_books import FeedBooks
from feedhandler._core.fetching import is_final
from feedhandler._core.liveness import BurstCounter
from feedhandler._core.reading import BookReading
from feedhandler._core.state import ConnectionEvent, ConnectionState, Transition
from feedhandler._core.tape import Tape
from feedhandler._io.connection import Batch, Connection, Endpoint
from feedhandler._io.fanout import Subscriber
from feedhandler._io.outbox import Outbox
from feedhandler._io.snapshots import Answered, Gate, SnapshotDesk, decode_snapshot
from feedhandler._io.subscriptions import (
    FeedSubscriptions,
    SubscriptionKeeper,
    check_subscriptions,
)
from feedhandler._io.successor import Successor
from feedhandler._io.supervisor import Supervisor
from feedhandler.abc import (
    BatchSession,
    Clock,
    Control,
    Heartbeat,
    HttpResponse,
    Ignored,
    Malformed,
    ReconnectRequested,
    Refused,
    Reply,
    ResumableSession,
    Resync,
    SequencedSession,
    Session,
    SnapshotVenue,
    Subscribed,
    Subscription,
    Synced,
    TokenProvider,
    Unsubscribed,
    Venue,
)
from feedhandler.book import BookTop
from feedhandler.config import FeedConfig, OverflowPolicy
from feedhandler.errors import (
    DecodeError,
    FailureKind,
    FeedError,
    FetchFailed,
    ForcedDisconnect,
    MalformedBurst,
    SendQueueFull,
    SlowConsumer,
)
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    PriceUpdate,
    Quote,
    Trade,
    Trust,
)
from feedhandler.observe import Counters, FeedStatistics

__all__ = ["Feed"]

_DATA = frozenset({PriceUpdate, Trade, Quote, BookSnapshot, BookDelta})


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
        gate: Gate | None = None,
    ) -> None:
        self.venue = venue
        self._config = config
        self._clock = clock
        self._announcer = Announcer(venue.name)
        self._counters = Counters()
        self._gate = gate
        self._books = FeedBooks()
        self._use_session(venue.session())
        self._subscriptions = SubscriptionKeeper(
            venue,
            config,
            wanted,
            session=self._session,
            desk=self._new_desk(self.snapshot_answered),
            is_full=lambda: self.full,
            give_up=self.reconnect,
            went_stale=self._went_stale,
        )
        self._coverage = CoverageLedger()
        self._successor: Successor | None = None
        # What has numbers is told apart by those.
        self._tape = None if isinstance(self._session, ResumableSession) else Tape()
        self._positions: dict[tuple[str, bool], int] = {}
        self._last_recv_ns: int | None = None
        self._burst = BurstCounter(config.decode_burst, config.decode_burst_window_s)
        self._outbox = Outbox(config.connection.send_queue_messages)
        self._main = Subscriber(
            limit=config.buffer_events,
            policy=config.overflow,
            max_bytes=config.connection.buffer_bytes,
            on_change=on_change,
            on_cut=self._cut_off,
            image=self._books.image,
        )
        if self._subscriptions.has_books:
            self._main.reading = BookReading()
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
            companions=(self._keep_subscriptions,),
            overlap=self._overlap if config.rollover else None,
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

        It begins with a `BookSnapshot` of each order book that is whole.

        While there is one, the feed's own iteration holds nobody up if it has not begun, or takes
        nothing for 10 s: then its oldest events go, announced.
        """
        extra = Subscriber(
            limit=buffer_events,
            policy=overflow,
            max_bytes=self._config.connection.buffer_bytes,
            image=self._books.image,
        )
        if self.state is ConnectionState.CONNECTED and (images := self._book_images()):
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
        if silent or not self._subscriptions.wants_book(symbol):
            return evolve(top, trust=Trust.STALE)
        return top

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

    def coverage(self) -> dict[str, Coverage]:
        """For each order book that has come: how long, and for how many messages, it could be
        trusted; of what was received, whatever the reader has read."""
        return self._coverage.coverage(self._clock.time_ns())

    def subscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols as well; they are asked for at once, and after each reconnect.

        Raises `ConfigError` for an unknown channel or an empty symbol, and then changes nothing.
        """
        wanted = check_subscriptions(self.venue, symbols, channels)
        self._subscriptions.want(wanted)
        if self._successor is not None:
            self._successor.keeper.want(wanted)
        if self._main.reading is None and self._subscriptions.has_books:
            self._main.reading = BookReading()

    def unsubscribe(self, symbols: Iterable[str], *, channels: Sequence[str] | None = None) -> None:
        """Want these symbols no longer. Data that is on its way may still arrive.

        Of an order book that has come a `Gap` says that it ends here. Raises `ConfigError` as
        `subscribe()` does.
        """
        ended = check_subscriptions(self.venue, symbols, channels)
        had = {symbol for symbol, of_book in self._subscriptions.streams() if of_book}
        self._subscriptions.unwant(ended)
        if self._successor is not None:
            self._successor.keeper.unwant(ended)
        for symbol in dict.fromkeys(subscription.symbol for subscription in ended):
            if symbol in had and not self._subscriptions.wants_book(symbol):
                self._end_book(symbol)

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
        try_plain = plain is not None
        while position < count:
            if plain is not None and try_plain:
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
                items = [Malformed(self._announcer.as_decode_error(error, message))]
            try_plain = True
            for item in items:
                kind = type(item)
                if kind is BookDelta:
                    try_plain = False  # another is likely to follow, which is not plain
                if kind in _DATA:
                    append(item)  # type: ignore[arg-type]  # narrowed by the set
                    data = True
                    valid += 1
                elif isinstance(item, Malformed):
                    valid = self._mark(valid)
                    self._decode_failed(item, batch, events)
                else:
                    self._take(item, events, recv_ns, epoch)
        self._mark(valid)
        if data and type(events[-1]) in _DATA and events[-1].venue_time_ns is not None:  # type: ignore[union-attr]  # narrowed by the set
            counters.time_told(events[-1].venue_time_ns, recv_ns)  # type: ignore[union-attr]  # likewise
        self._subscriptions.saw(events)
        if self._tape is not None:
            told, events = len(events), self._tape.without_repetitions(events)
            counters.ignored += told - len(events)
        self._publish(self._books.without_steps_back(events), size=batch.size)
        if self._tape is not None:
            self._tape.note(events)
        if self._successor is not None:
            self._successor.nudge()
        return data

    def snapshot_answered(
        self, subscription: Subscription, answer: HttpResponse | FetchFailed, epoch: int
    ) -> None:
        """A snapshot has come over REST, or could not be had; called beside the reader."""
        if not self._subscriptions.wants(subscription):
            return
        recv_ns = self._clock.time_ns()
        events: list[Event] = []
        self._subscriptions.snapshot_came(subscription)
        try:
            items = decode_snapshot(
                self._session, subscription, answer, recv_ns=recv_ns, epoch=epoch
            )
        except (FetchFailed, DecodeError) as error:
            self._counters.decode_errors += isinstance(error, DecodeError)
            if isinstance(error, FetchFailed) and is_final(error):
                refused = Refused(subscription, str(error))
                self._subscriptions.refuse(subscription)
                events.append(self._announcer.refused(refused, recv_ns, epoch))
            else:
                self._subscriptions.snapshot_failed(subscription)
                events.append(self._announcer.snapshot_failed(subscription, error, recv_ns, epoch))
            items = ()
        valid = 0
        for item in items:
            if type(item) in _DATA:
                events.append(item)  # type: ignore[arg-type]  # narrowed by the set
                valid += 1
            else:
                self._take(item, events, recv_ns, epoch)
        self._mark(valid)
        self._subscriptions.saw(events)
        self._publish(self._books.without_steps_back(events))

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
            case Resync():
                self._subscriptions.resync(item.subscription)
            case Synced():
                self._subscriptions.synced(item.subscription)
            case Refused():
                if item.subscription is not None:
                    self._subscriptions.refuse(item.subscription)
                events.append(self._announcer.refused(item, recv_ns, epoch))
            case Reply():
                try:
                    self._outbox.post(item.message)
                except SendQueueFull:
                    self.reconnect("the venue asks for replies and does not read them")
            case ReconnectRequested():
                self._supervisor.renew(f"the venue asks for it: {item.reason}")
            case _:
                counters.gaps += isinstance(item, Gap)
                events.append(item)

    def _decode_failed(self, item: Malformed, batch: Batch, events: list[Event]) -> None:
        self._counters.decode_errors += 1
        told = self._announcer.malformed(item, batch.recv_ns, batch.epoch)
        self._counters.gaps += sum(isinstance(event, Gap) for event in told)
        events += told
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
        if self._main.reading is not None:  # it has books
            self._coverage.fold(events)
        for subscriber in self._subscribers:
            subscriber.post(events, size=size)

    # --- transitions ---

    def _on_transition(self, transition: Transition) -> None:
        now_ns = self._clock.time_ns()
        events: list[Event] = [self._announcer.state_changed(transition, now_ns)]
        if transition.event is ConnectionEvent.ROLLED_OVER:
            events += self._succeed(transition, now_ns)
        elif transition.event is ConnectionEvent.ESTABLISHED:
            if transition.epoch > 1:
                gaps = list(self._reconnect_gaps(now_ns, transition.epoch))
                self._counters.gaps += len(gaps)
                events += gaps
            self._counters.connections += 1
            self._use_session(self.venue.session())
            self._subscriptions.reset(self._session)
            if self._tape is not None and transition.epoch > 1:
                self._tape.turn()
        self._publish(events)

    def _reconnect_gaps(self, now_ns: int, epoch: int) -> Iterator[Gap]:
        """What was sent between the last read and now is lost, for every symbol that is wanted."""
        for symbol, of_book in self._subscriptions.streams():
            last = self._last_sequence(symbol, of_book=of_book)
            if last is None:
                last = self._positions.get((symbol, of_book))  # nothing since the gap before
            else:
                self._positions[symbol, of_book] = last
            yield self._announcer.not_received(
                symbol,
                from_sequence=None if last is None else last + 1,
                from_ns=self._last_recv_ns,
                now_ns=now_ns,
                epoch=epoch,
                of_book=of_book,
            )

    @contextlib.contextmanager
    def _overlap(self) -> Iterator[Successor]:
        """Where a second connection delivers, beside the present one, until it takes over."""
        successor = self._successor = Successor(
            self.venue,
            self._config,
            feed=self,
            old=self._subscriptions,
            old_session=self._session,
            counters=self._counters,
            announcer=self._announcer,
            desk=self._new_desk,
        )
        try:
            yield successor
        finally:
            if self._successor is successor:
                self._successor = None

    def _succeed(self, transition: Transition, now_ns: int) -> Iterator[Event]:
        """Go on with the second connection: what is missing between the two, and what it holds."""
        successor, self._successor = self._successor, None
        if successor is None:
            return
        self._counters.connections += 1
        breaks, events = successor.take_over(lost=transition.error is not None)
        self._counters.gaps += len(breaks) + sum(isinstance(event, Gap) for event in events)
        for one in breaks:
            if one.from_sequence is not None:  # the new session may never come to know a number
                self._positions[one.symbol, one.of_book] = one.from_sequence - 1
            yield self._announcer.not_received(
                one.symbol,
                from_sequence=one.from_sequence,
                to_sequence=one.to_sequence,
                missing=one.missing,
                from_ns=self._last_recv_ns,
                now_ns=now_ns,
                epoch=transition.epoch,
                of_book=one.of_book,
            )
        self._last_recv_ns = successor.last_recv_ns or self._last_recv_ns
        self._use_session(successor.session, behind=successor.behind)
        self._subscriptions.serve(None)  # what asks on the old connection ends with it
        self._subscriptions = successor.keeper
        self._subscriptions.serve(self.reconnect, self._went_stale)
        self._outbox = successor.outbox
        self._mark(sum(type(event) in _DATA for event in events))
        if (tape := self._tape) is not None:
            tape.turn()
            told, events = len(events), tape.without_repetitions(events)
            events = [e for e in events if not (isinstance(e, Quote) and tape.knows_quote(e))]
            self._counters.ignored += told - len(events)
            tape.note(events)
        yield from events

    def _last_sequence(self, symbol: str, *, of_book: bool) -> int | None:
        session = self._session
        if of_book:
            return self._books.last_sequence(symbol)
        return session.last_sequence(symbol) if isinstance(session, SequencedSession) else None

    # --- books ---

    def _went_stale(self, symbols: list[str]) -> None:
        now_ns, epoch = self._clock.time_ns(), self._supervisor.epoch
        self._publish([self._announcer.went_stale(s, now_ns, epoch) for s in symbols])

    def _end_book(self, symbol: str) -> None:
        last = self._books.last_sequence(symbol)
        if self._ended or (last is None and self._books.image(symbol) is None):
            return
        self._counters.gaps += 1
        now_ns, epoch = self._clock.time_ns(), self._supervisor.epoch
        gap = self._announcer.book_ended(symbol, last, self._last_recv_ns, now_ns, epoch)
        self._publish([gap])

    def _book_images(self) -> list[Event]:
        """Every book that is whole and wanted, after all that was received."""
        streams = self._subscriptions.streams()
        return [*self._books.images(symbol for symbol, of_book in streams if of_book)]

    # --- inside ---

    async def _keep_subscriptions(self, connection: Connection) -> None:
        await self._subscriptions.keep(connection)

    def _new_desk(self, answered: Answered) -> SnapshotDesk | None:
        if not isinstance(self.venue, SnapshotVenue) or self._gate is None:
            return None
        return SnapshotDesk(
            self.venue,
            self._gate,
            deadline_s=self._config.snapshot_deadline_s,
            max_bytes=self._config.connection.max_message_bytes,
            answered=answered,
        )

    def _use_session(self, session: Session, *, behind: Mapping[str, int] | None = None) -> None:
        self._session = session
        # Asked here and not at each read: what a protocol is asked takes longer than a message.
        self._decode_plain = session.decode_plain if isinstance(session, BatchSession) else None
        self._books.use(session, behind=behind)

    def _cut_off(self) -> None:
        """The consumer was too slow, and the policy is to disconnect."""
        if self._subscribers == [self._main] and not self._ended:
            self.close()

    def _new_outbox(self) -> Outbox:
        # Replies belong to the connection that asked for them.
        self._outbox = Outbox(self._config.connection.send_queue_messages)
        return self._outbox
