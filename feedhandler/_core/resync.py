"""What a book's messages mean: whether they follow, whether they fit, and what to do if not.

A book is `WAITING` until its first snapshot. A snapshot that is new enough and passes every check
makes it `SYNCED`, from any state. A message that does not follow, or does not fit, makes it
`SUSPECT`, and then only such a snapshot helps: deltas are never applied across a hole. While the
book is not `SYNCED`, its deltas are kept, so that those after the snapshot can be applied to it.

A snapshot that was fetched beside the stream may be ahead of it, and only where the stream reaches
its number is it known to be of the same book. Until then it is held back, unless the next one says
the same while the stream says nothing.

What follows what is the venue's rule (`feedhandler._core.validators`).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from feedhandler._core.construct import twin_of
from feedhandler._core.sequence import Hole
from feedhandler._core.validators import BookMessage, Link, Validator
from feedhandler.abc import Ignored, Resync, Subscription, Synced
from feedhandler.book import MAX_LEVELS, OrderBook
from feedhandler.errors import BookError, BookTooDeep
from feedhandler.model import BookDelta, BookSnapshot, Gap, GapReason, Level, Trust

__all__ = ["BookSync", "Item", "SyncState"]

Item = BookSnapshot | BookDelta | Gap | Ignored | Resync | Synced

_MAX_KEPT = 1024  # deltas that wait for a snapshot; of more the oldest go
_MAX_BACKWARD = 64  # numbers in a row that go backwards: then it is the venue's count that does

_Delta = twin_of(BookDelta)
_NOTHING = Decimal(0)


class SyncState(enum.Enum):
    """Whether there is a book."""

    WAITING = "waiting for a snapshot"
    SYNCED = "synced"
    SUSPECT = "suspect"


class BookSync:
    """Keeps the book of `subscription` for as long as it can be trusted, and says when not.

    `checksum` computes the venue's checksum of a book. Levels beyond the best `depth` of a side are
    let go of after each message, for venues that send no end of them. With `fetched` a
    snapshot has to be asked for (`Resync`) when the first delta comes.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        venue: str,
        validator: Validator,
        checksum: Callable[[OrderBook], int] | None = None,
        depth: int | None = None,
        limit: int = MAX_LEVELS,
        fetched: bool = False,
    ) -> None:
        self.subscription = subscription
        self.state = SyncState.WAITING
        self.newest: int | None = None  # the number that came last in order, whatever became of it
        self._symbol = subscription.symbol
        self._venue = venue
        self._validator = validator
        self._numbered = validator.numbered
        self._link = validator.link
        self._checksum = checksum
        self._depth = depth
        self._fetched = fetched
        self._book = OrderBook(subscription.symbol, limit=limit)
        self._applied: BookMessage | None = None  # the newest that is in the book
        self._trust = Trust.SUSPECT
        # Deltas that wait for a snapshot: each follows the one before it.
        self._kept: deque[BookMessage] = deque()
        self._kept_weight = 0
        # A snapshot that is ahead of the stream, and how far that was then.
        self._ahead: tuple[BookMessage, int] | None = None
        self._backward = 0

    def __repr__(self) -> str:
        return f"<BookSync {self.state.name} newest={self.newest} kept={len(self._kept)}>"

    @property
    def book(self) -> OrderBook:
        """The book, for a codec that has to look at it; not to be changed."""
        return self._book

    @property
    def number(self) -> int | None:
        """`newest`, where it is the book's own number, the same on each connection."""
        return self.newest if self._numbered else None

    def image(self) -> BookSnapshot | None:
        """The whole book as of its newest message; `None` unless it is synced."""
        last = self._applied
        if self.state is not SyncState.SYNCED or last is None:
            return None
        return BookSnapshot(
            self._symbol,
            *self._book.top(),
            last.sequence if self._numbered else None,
            last.time_ns,
            last.recv_ns,
            self._venue,
            last.epoch,
            self._trust,
        )

    def best(self) -> tuple[Level | None, Level | None]:
        """The best bid and ask as of its newest message; neither unless it is synced."""
        if self.state is not SyncState.SYNCED:
            return None, None
        book = self._book
        return book.best_bid, book.best_ask

    # --- what comes ---

    def take(self, message: BookMessage) -> list[Item]:
        """Take a message in; what follows from it, in order."""
        return self._snapshot(message) if message.is_snapshot else self._delta(message)

    def _delta(self, message: BookMessage) -> list[Item]:
        """A delta is passed on, kept, dropped, or shows that something is wrong."""
        newest, synced = self.newest, self.state is SyncState.SYNCED
        last = self._applied
        link = self._link(
            newest, message, on_snapshot=synced and last is not None and last.is_snapshot
        )
        if link is Link.FOLLOWS:
            self._backward = 0
            self.newest = message.sequence
            if not synced:
                return [*self._wait(message), *self._reached()]
            reason = self._apply(message)
            if reason is not None:
                return [self._gap(reason, message), self._suspect()]
            return [self._told(message, newest)]
        if link is Link.OLD and not (synced and last is not None and _is_inside(message, last)):
            return self._went_backward(message, "duplicate")
        self._backward = 0
        self.newest = message.sequence
        items: list[Item] = [self._gap_before(newest, message)]
        if synced:
            items.append(self._suspect())
        self._kept.clear()  # nothing before a hole can be of use
        self._kept_weight = 0
        self._keep(message)
        return [*items, *self._reached()]

    def _reached(self) -> list[Item]:
        """Judge the snapshot that was ahead of the stream, when that has come as far."""
        if self._ahead is None or self.newest is None:
            return []
        message, _ = self._ahead
        if message.sequence is not None and message.sequence > self.newest:
            return []
        self._ahead = None
        return self._snapshot(message)

    def _snapshot(self, message: BookMessage) -> list[Item]:
        """A snapshot takes the place of the book, if it is new enough and right."""
        number, newest = message.sequence, self.newest
        synced = self.state is SyncState.SYNCED
        numbers = (number, newest) if self._numbered and not message.restarts else (None, None)
        older = numbers[0] is not None and numbers[1] is not None and numbers[0] < numbers[1]
        if synced and older:
            return self._went_backward(message, "snapshot that is older than the book")
        bridged = confirmed = False
        if self._fetched and numbers[0] is not None and numbers[1] is not None:
            ahead, self._ahead = self._ahead, None
            if numbers[0] > numbers[1]:
                confirmed = ahead is not None and (ahead[0].sequence, ahead[1]) == numbers
                if not confirmed:
                    self._ahead = message, numbers[1]
                    return [Ignored("snapshot that is ahead of the stream")]
        if not synced and not message.restarts:
            # Those that it has are of no use any more, whether it turns out to be right or not.
            followers = [d for d in self._kept if not self._is_old(number, d)]
            bridged = bool(followers) and self._follows(number, followers[0])
            if older if not followers else not bridged:
                return [Ignored("snapshot that is too old"), Resync(self.subscription)]
        reason = self._apply(message)
        if reason is not None:
            # Its number is as doubtful as the rest of it, so the deltas that were kept stay.
            if synced and number is not None and newest is not None and number == newest + 1:
                self.newest = number
            return [self._gap(reason, message), self._suspect()]
        items: list[Item] = []
        hole = self._validator.hole(numbers[1], message) if synced else None
        if synced and confirmed and newest is not None and number is not None:
            hole = Hole(newest + 1, number)  # of which the stream has said nothing
        if hole is not None:
            items.append(self._gap_of(hole, message))
        in_order = newest is not None or not self._fetched
        numbered = self._numbered and number is not None
        proven = in_order and not confirmed if numbered else not synced
        self._trust = self._validator.trust(message, proven=proven)
        self.state = SyncState.SYNCED
        self.newest = number
        self._backward = 0
        items += [self._whole(message), Synced(self.subscription)]
        kept, self._kept, self._kept_weight = self._kept, deque(), 0
        on_snapshot = True
        for later in kept if not message.restarts else ():
            if on_snapshot and self._is_old(number, later):
                continue
            on_snapshot = False
            items += self._delta(later)
        return items

    def malformed(self, *, is_snapshot: bool, recv_ns: int, epoch: int) -> list[Item]:
        """A message of this book could not be decoded."""
        return self._lost(GapReason.MALFORMED, recv_ns, epoch, harmless=not is_snapshot)

    def interrupted(self, reason: GapReason, *, recv_ns: int, epoch: int) -> list[Item]:
        """Messages of the connection are missing, which may have been this book's."""
        self._kept.clear()
        self._kept_weight = 0
        self._ahead = None
        self.newest = None
        return self._lost(reason, recv_ns, epoch, harmless=False)

    def _lost(self, reason: GapReason, recv_ns: int, epoch: int, *, harmless: bool) -> list[Item]:
        """Something is missing, it is not known what; a delta is, to a book that is none yet."""
        gap = Gap(
            symbol=self._symbol,
            reason=reason,
            from_sequence=None,
            to_sequence=None,
            from_ns=None,
            to_ns=recv_ns,
            missing=None,
            recv_ns=recv_ns,
            venue=self._venue,
            epoch=epoch,
            of_book=True,
        )
        if self._fetched and not self._validator.detects:
            # No number tells whether a snapshot has it: not one that is on its way, at any rate.
            self._kept.clear()
            self._kept_weight = 0
            self._ahead = None
            return [gap, self._suspect(anew=True)]
        if self.state is SyncState.SYNCED or not harmless:
            return [gap, self._suspect()]
        return [gap]

    # --- inside ---

    def _wait(self, message: BookMessage) -> list[Item]:
        """Keep a delta until there is a snapshot."""
        first = self.state is SyncState.WAITING and not self._kept
        if self._numbered or self._fetched:  # else it is older than the snapshot to come
            self._keep(message)
        return [Resync(self.subscription)] if first and self._fetched else []

    def _is_old(self, number: int | None, kept: BookMessage) -> bool:
        return self._link(number, kept, on_snapshot=True) is Link.OLD

    def _follows(self, number: int | None, kept: BookMessage) -> bool:
        return self._link(number, kept, on_snapshot=True) is Link.FOLLOWS

    def _apply(self, message: BookMessage) -> GapReason | None:
        """Put it into the book and check that; returns what is wrong."""
        book = self._book
        try:
            if message.is_snapshot:
                book.replace(message.bids, message.asks)
            else:
                book.apply(message.bids, message.asks)
        except BookTooDeep:
            return GapReason.DEPTH
        except BookError:
            return GapReason.CROSSED
        if self._depth is not None:
            bids, asks = book.truncate(self._depth)
            if bids or asks:
                message.bids = _without(message.bids, bids, ended=not message.is_snapshot)
                message.asks = _without(message.asks, asks, ended=not message.is_snapshot)
        if (
            message.checksum is not None
            and self._checksum is not None
            and message.checksum != self._checksum(book)
        ):
            return GapReason.CHECKSUM
        self._applied = message
        return None

    def _told(self, message: BookMessage, previous: int | None) -> BookDelta:
        """The event of a delta that was applied."""
        self._trust = trust = self._validator.trust(message, proven=True)
        numbered = self._numbered
        delta: Any = _Delta(
            self._symbol,
            message.bids,
            message.asks,
            message.sequence if numbered else None,
            message.time_ns,
            message.recv_ns,
            self._venue,
            message.epoch,
            trust,
            previous if numbered else None,
        )
        delta.__class__ = BookDelta
        return delta  # type: ignore[no-any-return]  # its class was changed in the line before

    def _whole(self, message: BookMessage) -> BookSnapshot:
        return BookSnapshot(
            self._symbol,
            message.bids,
            message.asks,
            message.sequence if self._numbered else None,
            message.time_ns,
            message.recv_ns,
            self._venue,
            message.epoch,
            self._trust,
        )

    def _suspect(self, *, anew: bool = False) -> Resync:
        self.state = SyncState.SUSPECT
        self._backward = 0
        return Resync(self.subscription, anew)

    def _keep(self, message: BookMessage) -> None:
        self._kept.append(message)
        self._kept_weight += message.weight
        while len(self._kept) > _MAX_KEPT or (
            self._kept_weight > 2 * self._book.limit and len(self._kept) > 1
        ):
            self._kept_weight -= self._kept.popleft().weight

    def _went_backward(self, message: BookMessage, what: str) -> list[Item]:
        """Drop it; but a venue that counts from the start again is not waited for in vain."""
        self._backward += 1
        if self._backward < _MAX_BACKWARD or self.state is not SyncState.SYNCED:
            return [Ignored(what)]
        gap = self._gap(GapReason.SEQUENCE, message, numbered=False)
        return [Ignored(what), gap, self._suspect()]

    def _gap_before(self, last: int | None, message: BookMessage) -> Gap:
        hole = self._validator.hole(last, message)
        if hole is None:
            return self._gap(GapReason.SEQUENCE, message, numbered=False)
        return self._gap_of(hole, message)

    def _gap_of(self, hole: Hole, message: BookMessage) -> Gap:
        return hole.as_gap(
            self._symbol,
            recv_ns=message.recv_ns,
            venue=self._venue,
            epoch=message.epoch,
            of_book=True,
        )

    def _gap(self, reason: GapReason, message: BookMessage, *, numbered: bool = True) -> Gap:
        number = message.sequence if numbered and self._numbered else None
        return Gap(
            symbol=self._symbol,
            reason=reason,
            from_sequence=number,
            to_sequence=number,
            from_ns=None,
            to_ns=message.recv_ns,
            missing=None if number is None else 1,
            recv_ns=message.recv_ns,
            venue=self._venue,
            epoch=message.epoch,
            of_book=True,
        )


def _is_inside(message: BookMessage, last: BookMessage) -> bool:
    """Whether it begins within what `last` claims to hold: no repetition, one number is wrong."""
    begun, first = last.first, message.first
    return begun is not None and first is not None and first > begun


def _without(
    levels: tuple[Level, ...], gone: tuple[Level, ...], *, ended: bool
) -> tuple[Level, ...]:
    """`levels` without those that are `gone`, the worst of their side; their ends where `ended`."""
    prices = {level.price for level in gone}
    left = tuple(level for level in levels if level.price not in prices)
    return left + tuple(Level(level.price, _NOTHING) for level in gone) if ended else left
