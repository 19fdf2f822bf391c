"""What a book's messages mean: whether they follow, whether they fit, and what to do if not.

A book is `WAITING` until its first snapshot. A snapshot that is new enough and passes every check
makes it `SYNCED`, from any state. A message that does not follow, or does not fit, makes it
`SUSPECT`, and then only such a snapshot helps: deltas are never applied across a hole. While the
book is not `SYNCED`, its deltas are kept, so that those after the snapshot can be applied to it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable

from attrs import frozen

from feedhandler._core.sequence import Hole
from feedhandler.abc import Ignored, Resync, Subscription, Synced
from feedhandler.book import MAX_LEVELS, OrderBook
from feedhandler.errors import BookError, BookTooDeep
from feedhandler.model import BookDelta, BookSnapshot, Gap, GapReason

__all__ = ["BookMessage", "BookSync", "Item", "SyncState"]

Item = BookSnapshot | BookDelta | Gap | Ignored | Resync | Synced

_MAX_KEPT = 1024  # deltas that wait for a snapshot; of more the oldest go
_MAX_BACKWARD = 64  # numbers in a row that go backwards: then it is the venue's count that does


class SyncState(enum.Enum):
    """Whether there is a book."""

    WAITING = "waiting for a snapshot"
    SYNCED = "synced"
    SUSPECT = "suspect"


@frozen
class BookMessage:
    """A snapshot or a delta, numbered `sequence`, and the venue's `checksum` of the book after it.

    The `event` says what trust the book deserves once every check has passed: `VERIFIED` or, where
    there is no checksum, `UNVERIFIABLE`.
    """

    event: BookSnapshot | BookDelta
    sequence: int
    checksum: int | None

    @property
    def weight(self) -> int:
        """How many levels it holds."""
        return len(self.event.bids) + len(self.event.asks)


class BookSync:
    """Keeps the book of `subscription` for as long as it can be trusted, and says when not.

    `checksum` computes the venue's checksum of a book.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        venue: str,
        checksum: Callable[[OrderBook], int],
        limit: int = MAX_LEVELS,
    ) -> None:
        self.subscription = subscription
        self.state = SyncState.WAITING
        self.newest: int | None = None  # the highest number that came, whatever became of it
        self._venue = venue
        self._checksum = checksum
        self._book = OrderBook(subscription.symbol, limit=limit)
        self._applied: BookSnapshot | BookDelta | None = None  # the newest that is in the book
        # Deltas that wait for a snapshot: their numbers are without a hole.
        self._kept: deque[BookMessage] = deque()
        self._kept_weight = 0
        self._backward = 0

    def __repr__(self) -> str:
        return f"<BookSync {self.state.name} newest={self.newest} kept={len(self._kept)}>"

    def image(self) -> BookSnapshot | None:
        """The whole book as of its newest message; `None` unless it is synced."""
        last = self._applied
        if self.state is not SyncState.SYNCED or last is None:
            return None
        return BookSnapshot(
            last.symbol,
            *self._book.top(),
            last.sequence,
            last.venue_time_ns,
            last.recv_ns,
            last.venue,
            last.epoch,
            last.trust,
        )

    # --- what comes ---

    def delta(self, message: BookMessage) -> list[Item]:
        """Take a delta in: it is passed on, kept, dropped, or shows that something is wrong."""
        number, newest = message.sequence, self.newest
        if newest is not None and number <= newest:
            return self._went_backward(message, "duplicate")
        self._backward = 0
        self.newest = number
        if newest is not None and number > newest + 1:
            items: list[Item] = [self._gap_of(Hole(newest + 1, number - 1), message.event)]
            if self.state is SyncState.SYNCED:
                items.append(self._suspect())
            self._kept.clear()  # nothing before a hole can be of use
            self._kept_weight = 0
            self._keep(message)
            return items
        if self.state is not SyncState.SYNCED:
            self._keep(message)
            return []
        reason = self._apply(message)
        if reason is not None:
            return [self._gap(reason, message.event, number), self._suspect()]
        return [message.event]

    def snapshot(self, message: BookMessage) -> list[Item]:
        """Take a snapshot in: it takes the place of the book, if it is new enough and right."""
        number = message.sequence
        was_synced, newest = self.state is SyncState.SYNCED, self.newest
        if newest is not None and number < newest:
            if was_synced:
                return self._went_backward(message, "snapshot that is older than the book")
            if not self._kept or number < self._kept[0].sequence - 1:
                return [Ignored("snapshot that is too old"), Resync(self.subscription)]
        reason = self._apply(message)
        if reason is not None:
            # Its number is as doubtful as the rest of it, so the deltas that were kept stay.
            if was_synced and newest is not None and number == newest + 1:
                self.newest = number
            return [self._gap(reason, message.event, number), self._suspect()]
        items: list[Item] = []
        if was_synced and newest is not None and number > newest + 1:
            items.append(self._gap_of(Hole(newest + 1, number - 1), message.event))
        self.state = SyncState.SYNCED
        self.newest = number
        self._backward = 0
        items += [message.event, Synced(self.subscription)]
        kept, self._kept, self._kept_weight = self._kept, deque(), 0
        for later in kept:
            if later.sequence > number:
                items += self.delta(later)
        return items

    def malformed(self, *, is_snapshot: bool, recv_ns: int, epoch: int) -> list[Item]:
        """A message of this book could not be decoded."""
        gap = Gap(
            symbol=self.subscription.symbol,
            reason=GapReason.MALFORMED,
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
        if is_snapshot or self.state is SyncState.SYNCED:
            return [gap, self._suspect()]
        return [gap]

    # --- inside ---

    def _apply(self, message: BookMessage) -> GapReason | None:
        """Put it into the book and check that; returns what is wrong."""
        event = message.event
        try:
            if isinstance(event, BookSnapshot):
                self._book.replace(event.bids, event.asks)
            else:
                self._book.apply(event.bids, event.asks)
        except BookTooDeep:
            return GapReason.DEPTH
        except BookError:
            return GapReason.CROSSED
        if message.checksum is not None and message.checksum != self._checksum(self._book):
            return GapReason.CHECKSUM
        self._applied = event
        return None

    def _suspect(self) -> Resync:
        self.state = SyncState.SUSPECT
        self._backward = 0
        return Resync(self.subscription)

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
        return [Ignored(what), self._gap(GapReason.SEQUENCE, message.event, None), self._suspect()]

    def _gap_of(self, hole: Hole, event: BookSnapshot | BookDelta) -> Gap:
        return hole.as_gap(
            event.symbol, recv_ns=event.recv_ns, venue=event.venue, epoch=event.epoch, of_book=True
        )

    def _gap(self, reason: GapReason, event: BookSnapshot | BookDelta, number: int | None) -> Gap:
        return Gap(
            symbol=event.symbol,
            reason=reason,
            from_sequence=number,
            to_sequence=number,
            from_ns=None,
            to_ns=event.recv_ns,
            missing=None if number is None else 1,
            recv_ns=event.recv_ns,
            venue=event.venue,
            epoch=event.epoch,
            of_book=True,
        )
