"""A feed's second connection until it takes over: what it brings is decoded and held back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from feedhandler._core.announcement import Announcer
from feedhandler._core.fetching import refuses_one
from feedhandler._core.liveness import BurstCounter
from feedhandler._core.overlap import Break, Overlap
from feedhandler._io.connection import Batch, Connection, Sink
from feedhandler._io.outbox import Outbox
from feedhandler._io.snapshots import Answered, SnapshotDesk, decode_snapshot
from feedhandler._io.subscriptions import SubscriptionKeeper
from feedhandler.abc import (
    BookSession,
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
    Session,
    Subscribed,
    Subscription,
    Synced,
    Unsubscribed,
    Venue,
)
from feedhandler.config import FeedConfig
from feedhandler.errors import (
    ConnectionFailed,
    DecodeError,
    FetchFailed,
    ForcedDisconnect,
    MalformedBurst,
    SendQueueFull,
    StaleConnection,
)
from feedhandler.model import BookDelta, BookSnapshot, Event, PriceUpdate, Quote, Trade
from feedhandler.observe import Counters

__all__ = ["Successor"]

_DATA = (PriceUpdate, Trade, Quote, BookSnapshot, BookDelta)
_ACK_DEADLINES = 3  # within which the subscriptions must be confirmed: asked for twice


class Predecessor(Sink, Protocol):
    """The feed that a successor is for."""

    def snapshot_answered(
        self, subscription: Subscription, answer: HttpResponse | FetchFailed, epoch: int, /
    ) -> None: ...


class Successor:
    """What a feed needs for its new connection, with a session and subscriptions of its own.

    `old` and `old_session` are what serves the feed's present connection. While the feed's consumer
    is full, that connection may be far behind, so no time counts.
    """

    def __init__(
        self,
        venue: Venue,
        config: FeedConfig,
        *,
        feed: Predecessor,
        old: SubscriptionKeeper,
        old_session: Session,
        counters: Counters,
        announcer: Announcer,
        desk: Callable[[Answered], SnapshotDesk | None],
    ) -> None:
        self.session = venue.session()
        # A book that can't be had here is no reason against the connection that delivers.
        self.keeper = old.fork(self.session, desk(self._snapshot_answered))
        self._books = self.session if isinstance(self.session, BookSession) else None
        self._old_books = old_session if isinstance(old_session, BookSession) else None
        self.outbox = Outbox(config.connection.send_queue_messages)
        self.taken = False
        self.behind: dict[str, int] = {}  # whole books that had not come so far, and how far
        self._whole: dict[str, int | None] = {}  # books found whole, and at which number
        self.last_recv_ns: int | None = None
        self._config = config
        self._feed = feed
        self._old = old
        self._counters = counters
        self._announcer = announcer
        self._reached: Callable[[str], int | None] | None = None
        if isinstance(old_session, ResumableSession) and isinstance(self.session, ResumableSession):
            self._reached = old_session.last_sequence
        self._overlap = Overlap(self._reached, limit=config.buffer_events)
        self._burst = BurstCounter(config.decode_burst, config.decode_burst_window_s)
        self._error: ConnectionFailed | None = None
        self._changed = trio.Event()

    # --- the sink of the new connection ---

    def post(self, batch: Batch) -> bool:
        counters = self._counters
        counters.batches += 1
        counters.messages += len(batch.messages)
        counters.bytes += batch.size
        self.last_recv_ns = batch.recv_ns
        events: list[Event] = []
        data = False
        decode = self.session.decode
        for message in batch.messages:
            try:
                items = [*decode(message, recv_ns=batch.recv_ns, epoch=batch.epoch)]
            except Exception:  # a venue's bug is no reason to stop either
                self._decode_failed()
                continue
            for item in items:
                data = data or isinstance(
                    item, PriceUpdate | Trade | Quote | BookSnapshot | BookDelta
                )
                self._take(item, events, batch.recv_ns, batch.epoch)
        self.keeper.saw(events)
        self._overlap.add(events)
        self._notify()
        return data

    def _snapshot_answered(
        self, subscription: Subscription, answer: HttpResponse | FetchFailed, epoch: int
    ) -> None:
        if self.taken:
            self._feed.snapshot_answered(subscription, answer, epoch)
            return
        recv_ns = self.last_recv_ns or 0  # what it brings is told as an image, at the switch
        events: list[Event] = []
        self.keeper.snapshot_came(subscription)
        try:
            items = decode_snapshot(
                self.session, subscription, answer, recv_ns=recv_ns, epoch=epoch
            )
        except FetchFailed as error:
            if refuses_one(error):
                self.keeper.refuse(subscription)
                refused = Refused(subscription, str(error))
                events.append(self._announcer.refused(refused, recv_ns, epoch))
            else:
                self.keeper.snapshot_failed(subscription)
        except DecodeError:
            self._counters.decode_errors += 1
            self.keeper.snapshot_failed(subscription)
        else:
            for item in items:
                self._take(item, events, recv_ns, epoch)
        self._overlap.add(events)
        self._notify()

    @property
    def full(self) -> bool:
        return self._feed.full or (self._overlap.full and not self.taken)

    async def wait_room(self) -> None:
        while self.full:
            if self._feed.full:
                await self._feed.wait_room()
            else:
                await self._changed.wait()

    async def keep(self, connection: Connection) -> None:
        await self.keeper.keep(connection)

    # --- until it takes over ---

    def nudge(self) -> None:
        """The old connection has brought something."""
        self._overlap.prune()
        self._notify()

    async def ready(self) -> None:
        """Wait until the old connection may go: subscribed, and level or for long enough beside it.

        Raises the `ConnectionFailed` for which the new connection is of no use.
        """
        while not await self._within(
            _ACK_DEADLINES * self._config.ack_deadline_s, self._is_subscribed
        ):
            if self.keeper.asking:
                continue
            if not self._feed.full:
                limit = _ACK_DEADLINES * self._config.ack_deadline_s
                raise StaleConnection("confirmations of the subscriptions", limit)
            await self._feed.wait_room()
        while not await self._within(self._config.rollover_overlap_s, self._is_level):
            if not self._feed.full:
                return
            await self._feed.wait_room()

    def take_over(self, *, lost: bool) -> tuple[list[Break], list[Event]]:
        """What is missing at the switch, and the events that follow it; to be called once."""
        overlap = self._overlap
        streams = dict.fromkeys((*self._old.streams(), *self.keeper.streams()))
        symbols = [symbol for symbol, of_book in streams if not of_book]
        breaks = list(overlap.breaks(symbols, lost=lost))
        book_breaks, images = self._switch_books([s for s, of_book in streams if of_book])
        breaks += book_breaks
        events = [*images, *overlap.release()]
        self._counters.ignored += overlap.duplicates
        session = self.session
        if self._reached is not None and isinstance(session, ResumableSession):
            for symbol in dict.fromkeys((*symbols, *overlap.symbols)):
                last = self._reached(symbol)
                if last is not None:
                    session.resume_after(symbol, last)
        self.taken = True
        # This lives as long as its connection; what came before need not.
        self._old_books = self._reached = None
        self._old = self.keeper
        self._overlap = Overlap(None, limit=self._config.buffer_events)
        self._notify()
        return breaks, events

    def _switch_books(self, symbols: Iterable[str]) -> tuple[list[Break], list[Event]]:
        """Each book as it is on the new connection; a break where it is not there (yet)."""
        breaks: list[Break] = []
        images: list[Event] = []
        for symbol in symbols:
            image = self._books.book_image(symbol) if self._books is not None else None
            last = self._last_of_old_book(symbol)
            behind = image is None or (last or 0) > (image.sequence or 0)
            if behind and last is not None:
                breaks.append(Break(symbol, last + 1, None, of_book=True))
            if image is not None and behind and self._reached is not None:
                self.behind[symbol] = last or 0  # told once it is no step back
            elif image is not None:
                images.append(image)
        return breaks, images

    def _last_of_old_book(self, symbol: str) -> int | None:
        books = self._old_books
        return None if books is None else books.last_book_sequence(symbol)

    def _has_book(self, symbol: str) -> bool:
        """Whether the new connection's book is whole, and as far as the old one's."""
        books = self._books
        if books is None:
            return False
        newest = books.last_book_sequence(symbol)  # `None`: not yet, or never
        if (newest or 0) < (self._last_of_old_book(symbol) or 0):
            return False
        if symbol not in self._whole or self._whole[symbol] != newest:
            if books.book_image(symbol) is None:  # it is made of the whole book
                return False
            self._whole[symbol] = newest
        return True

    async def _within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Whether `condition` came true in that time; also when another has made the switch."""
        with trio.move_on_after(seconds):
            while not self.taken:
                if self._error is not None:
                    raise self._error
                if condition():
                    break
                await self._changed.wait()
            return True
        return False

    def _is_subscribed(self) -> bool:
        """Whether what was confirmed on the old connection is on the new; data is as good."""
        confirmed = self.keeper.snapshot().confirmed
        return all(
            s in confirmed or (s.symbol in self._overlap.symbols and not self.keeper.is_book(s))
            for s in self._wanted(self._old.snapshot().confirmed)
        )

    def _is_level(self) -> bool:
        return all(
            self._has_book(symbol) if of_book else self._overlap.is_level(symbol)
            for symbol, of_book in self.keeper.streams()
        )

    def _wanted(self, subscriptions: Iterable[Subscription]) -> set[Subscription]:
        return set(subscriptions) & self.keeper.snapshot().wanted

    def _take(self, item: Event | Control, events: list[Event], recv_ns: int, epoch: int) -> None:
        match item:
            case Malformed():
                self._decode_failed()
            case Heartbeat():
                self._counters.heartbeats += 1
            case Ignored():
                self._counters.ignored += 1
            case Subscribed() | Unsubscribed():
                self.keeper.acknowledge(item)
            case Resync():
                self._whole.pop(item.subscription.symbol, None)
                self.keeper.resync(item.subscription, anew=item.anew)
            case Synced():
                self.keeper.synced(item.subscription)
            case Refused():
                if item.subscription is not None:
                    if item.subscription in self._wanted(self._old.snapshot().confirmed):
                        # It may be that one connection of ours at a time can have it.
                        self._fail(
                            ForcedDisconnect(
                                f"the venue refuses what the old connection has: {item.detail}"
                            )
                        )
                    self.keeper.refuse(item.subscription)
                events.append(self._announcer.refused(item, recv_ns, epoch))
            case Reply():
                try:
                    self.outbox.post(item.message)
                except SendQueueFull:
                    self._fail(ForcedDisconnect("the venue does not read the replies it asks for"))
            case ReconnectRequested():
                self._fail(ForcedDisconnect(f"the venue asks for yet another: {item.reason}"))
            case _:
                events.append(item)

    def _decode_failed(self) -> None:
        self._counters.decode_errors += 1
        if self._burst.record(trio.current_time()):
            config = self._config
            self._fail(MalformedBurst(config.decode_burst, config.decode_burst_window_s))

    def _fail(self, error: ConnectionFailed) -> None:
        self._error = self._error or error

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
