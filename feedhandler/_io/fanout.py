"""Subscribers of a feed, each with a bound and a policy for when it is reached.

Whatever a policy drops is announced: the subscriber gets a `Gap` in the place of the loss.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from feedhandler._core.losses import Losses
from feedhandler._io.iteration import Iteration, Unbatched
from feedhandler._io.mailbox import Mailbox
from feedhandler.config import OverflowPolicy
from feedhandler.errors import FeedError, SlowConsumer
from feedhandler.model import (
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    SubscriptionFailed,
)

__all__ = ["Subscriber"]


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
        on_change: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._limit = limit
        self._policy = policy
        self._on_change = on_change
        self._mailbox: Mailbox[list[Event]] = Mailbox(max_count=limit)
        self._losses = Losses()
        self._error: FeedError | None = None

    def __repr__(self) -> str:
        return f"<Subscriber {self._policy.value} waiting={self._mailbox.count}/{self._limit}>"

    # --- the feed's side ---

    def post(self, events: list[Event]) -> None:
        """Add events; what is over the bound is dealt with by the policy."""
        mailbox = self._mailbox
        if mailbox.closed:
            return
        mailbox.post(events, count=len(events))
        if mailbox.count > self._limit and self._policy is not OverflowPolicy.BLOCK:
            self._overflow()
        if self._on_change is not None:
            self._on_change()

    @property
    def full(self) -> bool:
        """True where the policy is to stop reading, and the bound is reached."""
        return self._policy is OverflowPolicy.BLOCK and self._mailbox.full

    async def wait_room(self) -> None:
        await self._mailbox.wait_room()

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
        return self._mailbox.closed and not (self._mailbox.count or self._losses or self._current)

    @property
    def error(self) -> FeedError | None:
        return self._error

    def take(self) -> list[Event] | None:
        """The events at the front, or `None`."""
        if self._current:
            return self._rest()
        if self._losses:
            return self._losses.take()
        return self._mailbox.take()

    def batches(self) -> AsyncIterator[list[Event]]:
        """Iterate over lists of events as they were received, a list for each read."""
        return Iteration(self._take_batch)

    async def _take_batch(self) -> list[Event] | None:
        await trio.lowlevel.checkpoint()
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

    # --- overflow ---

    def _overflow(self) -> None:
        if self._policy is OverflowPolicy.DISCONNECT:
            self.close(SlowConsumer(self._limit))
            return
        waiting = self._drain()
        if self._policy is OverflowPolicy.CONFLATE:
            waiting = self._conflated(waiting)
        excess = len(waiting) - self._limit
        if excess > 0:
            self._losses.add(waiting[:excess], GapReason.OVERFLOW)
            del waiting[:excess]
        self._mailbox.post(waiting, count=len(waiting))

    def _drain(self) -> list[Event]:
        waiting: list[Event] = []
        while (events := self._mailbox.take()) is not None:
            waiting += events
        return waiting

    def _conflated(self, waiting: list[Event]) -> list[Event]:
        """The newest of each kind and symbol, and all that is not data, in order."""
        kept: list[Event] = []
        dropped: list[Event] = []
        seen: set[tuple[type, str]] = set()
        for event in reversed(waiting):
            if isinstance(event, _STATUS):
                kept.append(event)
                continue
            key = type(event), event.symbol
            (dropped if key in seen else kept).append(event)
            seen.add(key)
        dropped.reverse()
        self._losses.add(dropped, GapReason.CONFLATED)
        kept.reverse()
        return kept


_STATUS = (Gap, FeedStateChanged, DecodeFailed, SubscriptionFailed)
