"""A feed's subscriptions: what is wanted, asked for on each connection, and watched for silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import trio
from attrs import frozen

from feedhandler._core.allowance import traits_of
from feedhandler._core.ladder import ResyncLadder
from feedhandler._core.rhythm import Rhythm
from feedhandler._core.subscriptions import Request, SubscriptionBook
from feedhandler._io.connection import Connection
from feedhandler._io.nursery import open_plain_nursery
from feedhandler._io.snapshots import SnapshotDesk
from feedhandler.abc import (
    BookVenue,
    ListedVenue,
    RequestingSession,
    Session,
    Subscribed,
    Subscription,
    Unsubscribed,
    Venue,
)
from feedhandler.config import FeedConfig
from feedhandler.errors import ConfigError, UsageError
from feedhandler.model import BookDelta, BookSnapshot, Event, PriceUpdate, Quote, Trade

_BOOKS = frozenset({BookSnapshot, BookDelta})
_WATCHED = _BOOKS | {PriceUpdate, Trade, Quote}

__all__ = ["FeedSubscriptions", "SubscriptionKeeper", "check_subscriptions"]


@frozen
class FeedSubscriptions:
    """What a feed wants, what it has asked for, and what the venue has confirmed."""

    wanted: frozenset[Subscription]
    pending: frozenset[Subscription]
    confirmed: frozenset[Subscription]

    def merged(self, other: FeedSubscriptions) -> FeedSubscriptions:
        """Those of two connections together."""
        return FeedSubscriptions(
            self.wanted | other.wanted,
            self.pending | other.pending,
            self.confirmed | other.confirmed,
        )


class SubscriptionKeeper:
    """Asks the venue for what its book says is due; `keep()` runs beside each connection.

    An order book that does not become whole is asked for again: its snapshot at the `desk` where
    there is one, else its subscription. When that has not helped, `give_up`
    is called with the reason, and is expected to end the connection. While there is none, because
    another connection serves the feed, the book is asked for on and on.
    """

    def __init__(
        self,
        venue: Venue,
        config: FeedConfig,
        wanted: Sequence[Subscription],
        *,
        session: Session,
        desk: SnapshotDesk | None,
        is_full: Callable[[], bool],
        give_up: Callable[[str], None] | None,
        went_stale: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._went_stale = went_stale
        self._session = session
        self._desk = desk
        self._is_full = is_full
        self._give_up = give_up
        self._book_channels = frozenset(venue.book_channels if isinstance(venue, BookVenue) else ())
        self._ladder = ResyncLadder(config.ack_deadline_s)
        self._venue = venue
        self._config = config
        self._book = SubscriptionBook(config.ack_deadline_s, config.subscribe_pace_s)
        self._book.want(wanted)
        self._per_message = traits_of(venue).limits.per_message
        self._sending = self._all_sent = False
        self._changed = trio.Event()
        # of a symbol's book, or of its other data
        self._rhythm: Rhythm[tuple[str, bool]] = Rhythm(
            config.symbol_stale_s, config.book_stale_intervals
        )
        self._next_message = -math.inf
        self._watches_all = config.symbol_stale_s is not None
        self._watches = self._watches_all or (
            config.book_stale_intervals is not None and bool(self._book_channels)
        )

    def snapshot(self) -> FeedSubscriptions:
        book = self._book
        return FeedSubscriptions(book.wanted, book.pending, book.confirmed)

    @property
    def wanted(self) -> frozenset[Subscription]:
        return self._book.wanted

    def streams(self) -> list[tuple[str, bool]]:
        """The symbols that are wanted, and whether it is their books, each once, in order."""
        return list(dict.fromkeys((s.symbol, self.is_book(s)) for s in self._book.in_order()))

    def wants(self, subscription: Subscription) -> bool:
        return self._book.wants(subscription)

    def wants_book(self, symbol: str) -> bool:
        return any(self._book.wants(Subscription(c, symbol)) for c in self._book_channels)

    @property
    def has_books(self) -> bool:
        return any(self.is_book(s) for s in self._book.in_order())

    def symbols(self) -> list[str]:
        """Those of which other data than books is wanted, each once, in order."""
        return [symbol for symbol, of_book in self.streams() if not of_book]

    @property
    def asking(self) -> bool:
        """Whether not all was asked for once on this connection: the pace may make that long."""
        return self._book.unasked or (self._sending and not self._all_sent)

    def fork(self, session: Session, desk: SnapshotDesk | None) -> SubscriptionKeeper:
        """One for a second connection, which wants the same, has asked for nothing, and gives no
        connection up before `serve()`."""
        return SubscriptionKeeper(
            self._venue,
            self._config,
            self._book.in_order(),
            session=session,
            desk=desk,
            is_full=self._is_full,
            give_up=None,
        )

    def serve(
        self,
        give_up: Callable[[str], None] | None,
        went_stale: Callable[[list[str]], None] | None = None,
    ) -> None:
        """Its connection is the feed's from now on; or is so no longer (`None`)."""
        self._give_up = give_up
        self._went_stale = went_stale

    def reset(self, session: Session) -> None:
        """A new connection: nothing was asked for on it, and nothing is silent yet."""
        self._session = session
        self._all_sent = False
        self._ladder.reset()
        self._book.reset()
        self._rhythm.reset()
        self._next_message = -math.inf

    # --- what the user wants ---

    def want(self, subscriptions: Iterable[Subscription]) -> None:
        self._book.want(subscriptions)
        self._notify()

    def goes_on(self, symbol: str) -> bool:
        """Whether the symbol's book was asked for on this connection, and has not ended since."""
        return any(self._book.goes_on(Subscription(c, symbol)) for c in self._book_channels)

    def book_goes_on(self, symbol: str, *, whole: bool) -> None:
        """The symbol's book was to end, and does not: it is still whole, or has to be had."""
        for subscription in (Subscription(c, symbol) for c in self._book_channels):
            if self._book.goes_on(subscription):
                if whole:
                    self._ladder.whole(subscription)
                else:
                    self.resync(subscription)

    def unwant(self, subscriptions: Iterable[Subscription]) -> None:
        gone = list(subscriptions)
        self._book.unwant(gone)
        for subscription in gone:
            self._forget(subscription)
        self._notify()

    # --- what the venue says ---

    def acknowledge(self, answer: Subscribed | Unsubscribed) -> None:
        if isinstance(answer, Subscribed):
            self._book.confirm(answer.subscriptions, complete=answer.complete)
        else:
            self._book.unsubscribed(answer.subscriptions)
        self._notify()

    def refuse(self, subscription: Subscription) -> None:
        self._book.refuse(subscription)
        self._forget(subscription)
        self._notify()

    def resync(self, subscription: Subscription, *, anew: bool = False) -> None:
        """The book of `subscription` is not whole: it is asked for anew, unless it was just now.

        With `anew`, a snapshot that is on its way already may be from before what is missing.
        """
        if not self._book.wants(subscription):
            return
        if anew and self._desk is not None:
            self._desk.forget(subscription)
        self._ladder.broken(subscription, now=trio.current_time())
        self._notify()

    def synced(self, subscription: Subscription) -> None:
        """The book of `subscription` is whole."""
        self._ladder.whole(subscription)

    def snapshot_came(self, subscription: Subscription) -> None:
        """The snapshot that was fetched is about to be judged."""
        self._ladder.asked([subscription], now=trio.current_time())
        self._notify()

    def snapshot_failed(self, subscription: Subscription) -> None:
        """The snapshot could not be had: it is fetched again, and that is not the book's fault."""
        self._ladder.failed(subscription, now=trio.current_time())
        self._notify()

    def saw(self, events: Iterable[Event]) -> None:
        """Data has come; whose, is noted where silent symbols are watched for."""
        if not (self._watches_all or (self._watches and self._ladder.has_whole)):
            return
        now = trio.current_time()
        watched = _WATCHED if self._watches_all else _BOOKS
        streams = {(e.symbol, type(e) in _BOOKS) for e in events if type(e) in watched}  # type: ignore[union-attr]  # narrowed by the set
        known = [self._rhythm.saw(stream, now) for stream in streams]  # type: ignore[arg-type]  # data has a symbol
        if any(known):
            self._notify()

    # --- the task ---

    async def keep(self, connection: Connection) -> None:
        """Ask for what is wanted and not confirmed, for as long as the connection lives."""
        if self._desk is None:
            await self._ask(connection)
            return
        async with open_plain_nursery() as nursery:
            nursery.start_soon(self._desk.run, connection.epoch)
            await self._ask(connection)

    async def _ask(self, connection: Connection) -> None:
        while True:
            now = trio.current_time()
            wake_at = min(self._ask_stale_again(now), self._ask_broken_again(now))
            request = self._book.due(now, at_most=self._per_message)
            if request is not None:
                await self._send(connection, request, now)
                continue
            changed = self._changed
            with trio.move_on_at(min(self._book.wake_at(), wake_at)):
                await changed.wait()

    async def _send(self, connection: Connection, request: Request, now: float) -> None:
        """Send what asks for `request`, at the connection's pace."""
        self._ladder.asked(filter(self.is_book, request.subscribe), now=now)
        self._sending = True
        try:
            for message in self._messages(request):
                if self._next_message > trio.current_time():
                    await trio.sleep_until(self._next_message)
                await connection.send(message)
                self._next_message = trio.current_time() + self._config.subscribe_pace_s
        finally:
            self._sending = False
        self._all_sent = self._all_sent or not self._book.unasked
        sent_at = trio.current_time()
        if sent_at > now:
            self._book.sent(request, asked_at=now, now=sent_at)
            self._ladder.sent(request.subscribe, asked_at=now, now=sent_at)

    def _messages(self, request: Request) -> Sequence[str | bytes]:
        session = self._session
        if isinstance(session, RequestingSession):
            return session.requests(subscribe=request.subscribe, unsubscribe=request.unsubscribe)
        return [
            *(self._venue.unsubscribe(request.unsubscribe) if request.unsubscribe else ()),
            *(self._venue.subscribe(request.subscribe) if request.subscribe else ()),
        ]

    def _ask_again(self, subscriptions: Iterable[Subscription]) -> None:
        """Ask for these as if for the first time; snapshots are fetched where that is the way."""
        desk = self._desk
        fetched = [s for s in subscriptions if desk is not None and self.is_book(s)]
        if desk is not None:
            desk.ask(fetched)
        self._book.ask_again([s for s in subscriptions if s not in fetched])

    def _ask_stale_again(self, now: float) -> float:
        """Subscribe symbols anew that have gone silent; return when to look again."""
        if not self._watches:
            return math.inf
        rhythm = self._rhythm
        if self._is_full():
            rhythm.postpone(now)  # the consumer is slow: data may have come, and wait
        watched = [
            s
            for s in self._book.in_order()
            if self._watches_all or (self.is_book(s) and self._ladder.is_whole(s))
        ]
        silent = [s for s in watched if now >= rhythm.silent_at(self._stream(s), now)]
        if silent:
            self._ask_again(silent)
            rhythm.wait_anew({self._stream(s) for s in silent}, now)
            books = [s.symbol for s in silent if self.is_book(s) and self._ladder.is_whole(s)]
            if books and self._went_stale is not None:
                self._went_stale(books)
        return min((rhythm.silent_at(self._stream(s), now) for s in watched), default=math.inf)

    def _stream(self, subscription: Subscription) -> tuple[str, bool]:
        return subscription.symbol, self.is_book(subscription)

    def _ask_broken_again(self, now: float) -> float:
        """Subscribe books anew that have not become whole; return when to look again."""
        if self._is_full():
            self._ladder.postpone(now=now)  # the consumer is slow: a snapshot may wait
        for subscription in self._ladder.exhausted(now=now):
            if self._give_up is None:
                self._ladder.broken(subscription, now=now)
                continue
            if not self._ladder.give_up(subscription, now=now):
                continue
            tries = self._ladder.max_tries
            self._give_up(f"no book of {subscription.symbol} became whole in {tries} tries")
        self._ladder.try_overdue(now=now)
        # A late answer to the request before may have confirmed them meanwhile.
        self._ask_again(self._ladder.unasked())
        return self._ladder.wake_at()

    def is_book(self, subscription: Subscription) -> bool:
        return subscription.channel in self._book_channels

    def _forget(self, subscription: Subscription) -> None:
        self._ladder.forget(subscription)
        if self._desk is not None:
            self._desk.forget(subscription)

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def check_subscriptions(
    venue: Venue, symbols: Iterable[str], channels: Sequence[str] | None
) -> list[Subscription]:
    """The subscriptions that are meant; `ConfigError` where that cannot be.

    Where the venue has a list of instruments, it has to have been loaded (else `UsageError`), and
    to have all of `symbols`.
    """
    if isinstance(symbols, str):
        raise ConfigError(
            "symbols", symbols, "must be a collection of symbols", mend=f"use [{symbols!r}]"
        )
    if isinstance(channels, str):
        raise ConfigError(
            "channels", channels, "must be a collection of channels", mend=f"use [{channels!r}]"
        )
    wanted: list[object] = list(dict.fromkeys(symbols))
    if not wanted:
        raise ConfigError(
            "symbols", wanted, "must not be empty", mend="name at least one, such as ['BTC-USD']"
        )
    for symbol in wanted:
        if not (isinstance(symbol, str) and symbol.strip()):
            raise ConfigError(
                "symbols", symbol, "must be a non-empty string", mend="use for example 'BTC-USD'"
            )
    known = list(venue.channels)
    for channel in channels or ():
        if channel not in known:
            raise ConfigError(
                "channels", channel, f"{venue.name} has no such channel",
                mend=f"use some of {known}",
            )  # fmt: skip
    if isinstance(venue, ListedVenue):
        if venue.instruments is None:
            raise UsageError(
                f"{venue.name} needs the list of its instruments first: "
                "`venue = await load_instruments(venue)`"
            )
        for symbol in wanted if len(venue.instruments) else ():
            venue.instruments.by_symbol(str(symbol))
    return [Subscription(c, str(s)) for c in channels or known[:1] for s in wanted]
