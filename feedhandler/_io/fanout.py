"""Subscribers of a feed, each with a bound and a policy for when it is reached.

Whatever a policy drops is announced: the subscriber gets a `Gap` in the place of the loss.

Of an order book a delta cannot be dropped without all that builds on it. So the deltas that come
after such a gap are marked `SUSPECT`, and as soon as there is room the subscriber gets an image of
the whole book as it is then, in the form of a `BookSnapshot`; conflating a book is to replace its
messages by that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import trio
from attrs import evolve

from feedhandler._core.losses import Losses
from feedhandler._core.reading import BookReading
from feedhandler._io.iteration import Iteration, Unbatched
from feedhandler._io.mailbox import Mailbox
from feedhandler.config import OverflowPolicy
from feedhandler.errors import FeedError, SlowConsumer
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    SubscriptionFailed,
    Trust,
)

__all__ = ["Subscriber"]

_ABANDONED_S = 10.0  # without a look at its events, a consumer that has company blocks no more


def _no_image(_: str) -> None:
    """There are no books."""


class Subscriber(Unbatched[Event]):
    """One consumer's stream of events, in order.

    Iterate over it event by event, or over `batches()`. Ends when the feed is closed; raises the
    feed's error when it gave up, and `SlowConsumer` when it was cut off, after what was received
    before. There is a checkpoint for each batch, and at least one for each millisecond that the
    loop body works, so other tasks and cancellation get their turn; between those, the next
    event costs none. One task may iterate at a time. Cancel-safe: an event is taken or it stays.
    """

    def __init__(
        self,
        *,
        limit: int,
        policy: OverflowPolicy,
        max_bytes: int | None = None,
        on_change: Callable[[], None] | None = None,
        on_cut: Callable[[], None] | None = None,
        image: Callable[[str], BookSnapshot | None] = _no_image,
    ) -> None:
        super().__init__()
        self.reading: BookReading | None = None  # where somebody asks for this reader's books
        self._image = image  # a symbol's whole book after all that was posted, if it is whole
        self._lost_books: set[str] = set()  # that need an image, after all that waits
        self._torn_next: set[str] = set()  # the same, for as long as that was not handed over
        self._torn_books: set[str] = set()  # of which this was handed over, and no snapshot since
        self._limit = limit
        self._policy = policy
        self._on_change = on_change
        self._on_cut = on_cut
        self._taken_at = -math.inf
        self._optional = False
        self._conflation: _Conflation | None = None
        self._mailbox: Mailbox[list[Event]] = Mailbox(max_count=limit, max_bytes=max_bytes)
        self._losses = Losses()
        self._error: FeedError | None = None

    def __repr__(self) -> str:
        return f"<Subscriber {self._policy.value} waiting={self._mailbox.count}/{self._limit}>"

    # --- the feed's side ---

    def post(self, events: list[Event], *, size: int = 0) -> None:
        """Add events, made from `size` bytes; what is over the bound the policy deals with."""
        mailbox = self._mailbox
        if mailbox.closed:
            return
        if self._conflation is not None:
            self._conflation.add(events, self._lose)
            mailbox.nudge()
        elif self._blocking or mailbox.has_room(len(events), size):
            if self._lost_books and mailbox.has_room(len(events) + len(self._lost_books), size):
                events = self._with_images(events)
            mailbox.post(events, count=len(events), size=size)
        else:
            self._overflow(events, size)
        if self._on_change is not None:
            self._on_change()

    @property
    def full(self) -> bool:
        """True where the policy is to stop reading, and the bound is reached."""
        return self._mailbox.full and self._blocking

    @property
    def _blocking(self) -> bool:
        if self._policy is not OverflowPolicy.BLOCK:
            return False
        return not self._optional or trio.current_time() < self._taken_at + _ABANDONED_S

    async def wait_room(self) -> None:
        while self.full and not self._mailbox.closed:
            abandoned_at = self._taken_at + _ABANDONED_S if self._optional else math.inf
            with trio.move_on_at(abandoned_at):
                await self._mailbox.room_changed()

    def set_optional(self, optional: bool) -> None:
        """There are others who read, or no more; nobody need read here until somebody does."""
        self._optional = optional
        if not self._blocking and self._conflation is None:
            self._trim()
        self._mailbox.nudge_producer()

    def close(self, error: FeedError | None = None) -> None:
        """No more events; `error` is raised after the last one."""
        if not self._mailbox.closed:
            self._error = error
            self._mailbox.close()
            if self._on_change is not None:
                self._on_change()

    # --- the consumer's side ---

    @property
    def finished(self) -> bool:
        """True when every event was taken and no more will come."""
        waiting = self._mailbox.count or self._losses or self._current
        return self._mailbox.closed and not waiting and self._conflation is None

    @property
    def ready(self) -> bool:
        """True when the consumer need not wait: there are events, or there will be none."""
        waiting = self._current or self._losses or self._conflation is not None
        return bool(waiting) or self._mailbox.ready

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        conflated = len(self._conflation) if self._conflation is not None else 0
        return self._mailbox.count + len(self._current) + conflated

    @property
    def error(self) -> FeedError | None:
        return self._error

    def take(self, unread: Sequence[Event] | None = None) -> list[Event] | None:
        """The events at the front, or `None`.

        Where they will be read one by one, `unread` is the container that will hold those that
        were not read yet (default: this subscriber's own).
        """
        self._taken_at = trio.current_time()
        reading = self.reading
        if unread is None:
            unread = self._current
        if self._current:
            if reading is not None:
                reading.moved(unread)
            return self._rest()
        events = self._take_waiting()
        if events is not None:
            if self._torn_books:
                events = self._with_torn_marked(events)
            if reading is not None:
                reading.handed(events, unread)
        return events

    def _take_waiting(self) -> list[Event] | None:
        events: list[Event] | None
        if self._losses and self._policy is not OverflowPolicy.DISCONNECT:
            events = self._losses.take()
            self._torn_books |= self._torn_next
            self._torn_next.clear()
        elif self._conflation is not None:
            events, self._conflation = self._conflation.take(), None
        else:
            events = self._mailbox.take()
            if events is None and self._losses:
                return self._losses.take()  # what was cut off is the newest
        if self._lost_books and not self._mailbox.count and self._conflation is None:
            events = self._with_images(events or [])
        return events or None

    def batches(self) -> AsyncIterator[list[Event]]:
        """Iterate over lists of events as they were received, a list for each read."""
        return Iteration(self._take_batch)

    async def _take_batch(self) -> list[Event] | None:
        if self.ready:
            await trio.lowlevel.checkpoint()  # else the wait below is one
        while True:
            events = self.take()
            if events is not None:
                return events
            if self._mailbox.closed:
                # It may have been closed because everything is being cancelled.
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._error is not None:
                    raise self._error
                return None
            await self._mailbox.wait_arrival()

    # --- books ---

    def _with_images(self, events: list[Event]) -> list[Event]:
        """`events`, which are the newest, and then the books that were lost and are whole now."""
        lost = self._lost_books
        lost.difference_update([e.symbol for e in events if isinstance(e, BookSnapshot)])
        images = [image for symbol in sorted(lost) if (image := self._image(symbol)) is not None]
        # One that is not whole stays lost; its snapshot will come of itself once it is.
        lost.difference_update([image.symbol for image in images])
        return [*events, *images]

    def _with_torn_marked(self, events: list[Event]) -> list[Event]:
        """`events`, with each delta marked that builds on what this reader has not got."""
        marked: list[Event] = []
        for event in events:
            if isinstance(event, BookDelta) and event.symbol in self._torn_books:
                marked.append(evolve(event, trust=Trust.SUSPECT))
                continue
            if isinstance(event, BookSnapshot):
                self._torn_books.discard(event.symbol)
            marked.append(event)
        return marked

    # --- overflow ---

    def _lose(self, events: Sequence[Event], reason: GapReason) -> None:
        """Account for `events`, which are older than all that waits, and are dropped."""
        self._losses.add(events, reason)
        books = {e.symbol for e in events if isinstance(e, BookSnapshot | BookDelta)}
        self._lost_books |= books
        self._torn_next |= books

    def _overflow(self, events: list[Event], size: int) -> None:
        """Take in `events`, for which there is no room."""
        mailbox = self._mailbox
        if self._policy is OverflowPolicy.CONFLATE:
            self._conflation = _Conflation(self._limit)
            while (waiting := mailbox.take()) is not None:
                self._conflation.add(waiting, self._lose)
            self._conflation.add(events, self._lose)
            mailbox.nudge()
        elif self._policy is OverflowPolicy.DISCONNECT:
            room = min(self._limit - mailbox.count, len(events) - 1)
            if room > 0:
                mailbox.post(events[:room], count=room)
            self._losses.add(events[max(room, 0) :], GapReason.OVERFLOW)
            self.close(SlowConsumer(self._limit))
            if self._on_cut is not None:
                self._on_cut()
        else:
            mailbox.post(events, count=len(events), size=size)
            self._trim()

    def _trim(self) -> None:
        """Drop the oldest, down to the bound."""
        mailbox = self._mailbox
        while mailbox.over and (entry := mailbox.take_entry()) is not None:
            oldest, count, size = entry
            excess = mailbox.count + count - self._limit
            kept = count - excess if excess > 0 else 0
            if kept > 0:
                mailbox.put_front(oldest[-kept:], count=kept, size=size * kept // count)
            # The list is not ours alone: other subscribers have the same.
            self._lose(oldest[: count - max(kept, 0)], GapReason.OVERFLOW)


class _Conflation:
    """The newest event of each kind and symbol, and what is not data: at most `limit` in all.

    Of books nothing is kept: whoever takes this asks for an image of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._data: dict[tuple[type, str], tuple[int, Event]] = {}
        self._status: deque[tuple[int, Event]] = deque()

    def add(self, events: list[Event], lose: Callable[[Sequence[Event], GapReason], None]) -> None:
        """Take in events; `lose` those that newer ones replace or that have no room."""
        replaced: list[Event] = []
        for event in events:
            self._number += 1
            if isinstance(event, _STATUS):
                self._status.append((self._number, event))
                continue
            if isinstance(event, BookSnapshot | BookDelta):
                replaced.append(event)
                continue
            key = type(event), event.symbol
            old = self._data.pop(key, None)  # put at the end again: the order is that of the newest
            if old is not None:
                replaced.append(old[1])
            self._data[key] = self._number, event
        if replaced:
            lose(replaced, GapReason.CONFLATED)
        while len(self._data) + len(self._status) > self._limit:
            # What is not data is merged with what was lost before, so that goes first.
            oldest = (
                self._status.popleft() if self._status else self._data.pop(next(iter(self._data)))
            )
            lose([oldest[1]], GapReason.OVERFLOW)

    def __len__(self) -> int:
        return len(self._data) + len(self._status)

    def take(self) -> list[Event]:
        return [event for _, event in sorted([*self._data.values(), *self._status], key=_number)]


def _number(item: tuple[int, Event]) -> int:
    return item[0]


_STATUS = (Gap, FeedStateChanged, DecodeFailed, SubscriptionFailed)
