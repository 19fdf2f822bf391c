"""A feed's leg: one connection at a time, its subscriptions, and the way from bytes to events."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import trio
from attrs import evolve

from feedhandler._core.allowance import traits_of
from feedhandler._core.announcement import Announcer
from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.coverage import CoverageLedger
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.feed_books import FeedBooks
from feedhandler._core.fetching import refuses_one
from feedhandler._core.liveness import BurstCounter
from feedhandler._core.state import ConnectionEvent, ConnectionState, Transition
from feedhandler._core.tape import Tape
from feedhandler._io.connection import Batch, Connection, Endpoint
from feedhandler._io.fanout import Subscriber
from feedhandler._io.outbox import Outbox
from feedhandler._io.snapshots import Answered, Gate, SnapshotDesk, decode_snapshot
from feedhandler._io.subscriptions import FeedSubscriptions, SubscriptionKeeper
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
    Tap,
    TokenProvider,
    Unsubscribed,
    Venue,
)
from feedhandler.config import FeedConfig
from feedhandler.errors import (
    DecodeError,
    FailureKind,
    FeedError,
    FetchFailed,
    ForcedDisconnect,
    MalformedBurst,
    SendQueueFull,
)
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    PriceUpdate,
    Quote,
    SnapshotFailed,
    SubscriptionFailed,
    Trade,
    Trust,
    TrustChanged,
)
from feedhandler.observe import Counters, FeedStatistics

__all__ = ["Leg"]

_DATA = frozenset({PriceUpdate, Trade, Quote, BookSnapshot, BookDelta})
_BOOKS = frozenset({BookSnapshot, BookDelta})
# All but those that come for each message.
_SIGNED = frozenset(
    {
        BookSnapshot,
        DecodeFailed,
        FeedStateChanged,
        Gap,
        SnapshotFailed,
        SubscriptionFailed,
        TrustChanged,
    }
)


class Leg:
    """One connection at a time to a venue, with the session and the subscriptions on it.

    Its events go to `subscribers`, who may have those of other legs as well. `admit` waits until
    one more connection may be made. `on_emptied` is called where the venue's refusals leave
    nothing that is wanted here.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        number: int,
        endpoint: Endpoint,
        config: FeedConfig,
        policies: Mapping[FailureKind, FailurePolicy],
        token: str | TokenProvider | None,
        headers: Sequence[tuple[str, str]],
        clock: Clock,
        rng: Random,
        wanted: Sequence[Subscription],
        subscribers: Sequence[Subscriber],
        on_emptied: Callable[[Leg], None],
        gate: Gate | None = None,
        admit: Callable[[], Awaitable[None]] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.venue = venue
        self.number = number
        self.error: FeedError | None = None
        self.ended = False
        self._config = config
        self._clock = clock
        self._announcer = Announcer(venue.name)
        self._counters = Counters()
        self._gate = gate
        self._tap = tap
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
        self._successor: Successor | None = None
        # What has numbers is told apart by those.
        self._tape = None if isinstance(self._session, ResumableSession) else Tape()
        self._positions: dict[tuple[str, bool], int] = {}
        self._last_recv_ns: int | None = None
        self._burst = BurstCounter(config.decode_burst, config.decode_burst_window_s)
        self._outbox = Outbox(config.connection.send_queue_messages)
        self._subscribers = subscribers
        self._on_emptied = on_emptied
        self.ledger: CoverageLedger | None = None  # once there are books
        self._was_refused = False
        self._ended_books: set[str] = set()  # of which the end was told, and no snapshot since
        self._stale_books: set[str] = set()  # of which that was told, and no message since
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
            traits=traits_of(venue),
            admit=admit,
            tap=tap,
        )

    def __repr__(self) -> str:
        return f"<Leg {self.number} {self.venue.name} {self.state.name} epoch={self.epoch}>"

    # --- for the feed ---

    @property
    def state(self) -> ConnectionState:
        return self._supervisor.state

    @property
    def epoch(self) -> int:
        return self._supervisor.epoch

    @property
    def attempt_count(self) -> int:
        return self._supervisor.reconnection.attempt_count

    @property
    def current_backoff_s(self) -> float:
        return self._supervisor.reconnection.current_backoff

    @property
    def subscriptions(self) -> FeedSubscriptions:
        return self._subscriptions.snapshot()

    @property
    def wanted(self) -> frozenset[Subscription]:
        return self._subscriptions.wanted

    @property
    def has_books(self) -> bool:
        return self._subscriptions.has_books

    def wants_book(self, symbol: str) -> bool:
        return self._subscriptions.wants_book(symbol)

    def statistics(self) -> FeedStatistics:
        return self._counters.snapshot()

    def want(self, wanted: Sequence[Subscription]) -> None:
        """Want these as well; they are asked for at once, and after each reconnect."""
        self._subscriptions.want(wanted)
        if self._successor is not None:
            self._successor.keeper.want(wanted)
        if self._ended_books:
            self._begin_books(wanted)

    def unwant(self, ended: Sequence[Subscription]) -> None:
        """Want these no longer; of an order book that has come a `Gap` says so."""
        had = {symbol for symbol, of_book in self._subscriptions.streams() if of_book}
        self._subscriptions.unwant(ended)
        if self._successor is not None:
            self._successor.keeper.unwant(ended)
        for symbol in dict.fromkeys(subscription.symbol for subscription in ended):
            if symbol in had and not self._subscriptions.wants_book(symbol):
                self._end_book(symbol)

    def image(self, symbol: str) -> BookSnapshot | None:
        """The symbol's whole book after all that was received, if it is whole."""
        image = self._books.image(symbol)
        if image is not None and symbol in self._stale_books:
            image = evolve(image, trust=Trust.STALE)
        return evolve(image, leg=self.number) if image is not None and self.number else image

    def images(self) -> list[Event]:
        """Every book that is whole and wanted, after all that was received."""
        symbols = [symbol for symbol, of_book in self._subscriptions.streams() if of_book]
        return [image for symbol in symbols if (image := self.image(symbol)) is not None]

    def reconnect(self, reason: str = "asked for by the application") -> None:
        """Drop the live connection and make a new one, through the back-off."""
        self._supervisor.force(ForcedDisconnect(reason))

    def start(self) -> None:
        """Take the first step; `run()` must follow."""
        self._supervisor.start(ConnectionEvent.CONNECT)

    async def run(self) -> None:
        """Keep a connection alive until this is closed or gives up, with an `error`."""
        try:
            self.error = await self._supervisor.run(retry_first=True)
        finally:
            self.ended = True
            if self.error is None or self.state is ConnectionState.CLOSING:
                self._supervisor.closed()

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
        if self._was_refused:
            self._look_if_emptied()
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
            if isinstance(error, FetchFailed) and refuses_one(error):
                refused = Refused(subscription, str(error))
                self._subscriptions.refuse(subscription)
                self._was_refused = True
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
        self._look_if_emptied()

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
                self._subscriptions.resync(item.subscription, anew=item.anew)
            case Synced():
                self._subscriptions.synced(item.subscription)
            case Refused():
                if item.subscription is not None:
                    self._subscriptions.refuse(item.subscription)
                    self._was_refused = True
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
        if self._ended_books:
            events = self._without_ended_books(events)
        if not events:
            return
        if self._stale_books:
            self._stale_books.difference_update(e.symbol for e in events if type(e) in _BOOKS)  # type: ignore[union-attr]  # narrowed by the set
        counters = self._counters
        counters.events += len(events)
        if self.number:
            events = [self._signed(e) if type(e) in _SIGNED else e for e in events]
        if self.ledger is not None:
            self.ledger.fold(events)
        for subscriber in self._subscribers:
            subscriber.post(events, size=size)

    def _signed(self, event: Any) -> Event:
        """A status event or a snapshot, with whose it is."""
        signed: Event = evolve(event, leg=self.number)
        return signed

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
            self._stale_books.clear()
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
        self._stale_books.clear()
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
        self._stale_books.update(symbols)

    def _end_book(self, symbol: str) -> None:
        last = self._books.last_sequence(symbol)
        if not (self.ended or (last is None and self._books.image(symbol) is None)):
            self._counters.gaps += 1
            now_ns, epoch = self._clock.time_ns(), self._supervisor.epoch
            gap = self._announcer.book_ended(symbol, last, self._last_recv_ns, now_ns, epoch)
            self._publish([gap])
        self._ended_books.add(symbol)

    def _begin_books(self, wanted: Sequence[Subscription]) -> None:
        """Books whose end was told, and that have not ended because nobody told the venue."""
        for symbol in dict.fromkeys(subscription.symbol for subscription in wanted):
            if symbol in self._ended_books and self._subscriptions.goes_on(symbol):
                image = self.image(symbol)
                self._subscriptions.book_goes_on(symbol, whole=image is not None)
                if image is not None:
                    self._publish([image])

    def _without_ended_books(self, events: list[Event]) -> list[Event]:
        """`events` without what is still on its way of books that are wanted no longer, and of
        one that is wanted again without the deltas before its next snapshot: they may be those of
        the subscription before."""
        told: list[Event] = []
        for event in events:
            match event:
                case BookSnapshot(symbol=symbol) if symbol in self._ended_books:
                    if self._subscriptions.wants_book(symbol):
                        self._ended_books.discard(symbol)
                        told.append(event)
                case BookDelta(symbol=symbol) if symbol in self._ended_books:
                    pass
                case Gap(symbol=str(symbol), of_book=True) if symbol in self._ended_books:
                    if self._subscriptions.wants_book(symbol):
                        told.append(event)
                case _:
                    told.append(event)
        return told

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
            fetched=self._fetched if self._tap is not None else None,
        )

    def _fetched(self, url: str, answer: HttpResponse) -> None:
        if self._tap is not None:
            self._tap.fetched(url, answer.body, at_ns=self._clock.time_ns())

    def _use_session(self, session: Session, *, behind: Mapping[str, int] | None = None) -> None:
        self._session = session
        # Asked here and not at each read: what a protocol is asked takes longer than a message.
        self._decode_plain = session.decode_plain if isinstance(session, BatchSession) else None
        self._books.use(session, behind=behind)

    def _look_if_emptied(self) -> None:
        """After what the venue has refused was told: is anything left to be here for?"""
        if self._was_refused and not self.wanted:
            self._on_emptied(self)
        self._was_refused = False

    def _new_outbox(self) -> Outbox:
        # Replies belong to the connection that asked for them.
        self._outbox = Outbox(self._config.connection.send_queue_messages)
        return self._outbox
