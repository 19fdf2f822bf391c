"""Async iterators that need no clean-up when the loop over them is left early."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

import trio

__all__ = ["Iteration", "Unbatched"]

T = TypeVar("T")

_SLICE_S = 0.001  # of work between two checkpoints


class Iteration(AsyncIterator[T]):
    """Yields what `take` gives, until that is `None`.

    An async generator would do the same, but one that is left by `break` or `return` is finished
    by the garbage collector, at any time and with a warning from trio.
    """

    def __init__(self, take: Callable[[], Awaitable[T | None]]) -> None:
        self._take = take

    async def __anext__(self) -> T:
        item = await self._take()
        if item is None:
            raise StopAsyncIteration
        return item


class Unbatched(ABC, Generic[T]):
    """Items one by one, from batches.

    There is a checkpoint for each batch, and at least one for each millisecond that the loop body
    works, so other tasks and cancellation get their turn; between those, an item costs none.
    """

    def __init__(self) -> None:
        self._current: deque[T] = deque()
        self._checkpoint_due = 0.0
        # without the way through trio's global state that `trio.current_time()` takes
        self._now: Callable[[], float] = _never

    @abstractmethod
    async def _take_batch(self) -> Sequence[T] | None:
        """The next batch, with a checkpoint; `None` at the end."""

    def _rest(self) -> list[T]:
        """Take back what is left of a batch that was begun one by one."""
        rest = [*self._current]
        self._current.clear()
        return rest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        current = self._current
        if current and self._now() < self._checkpoint_due:
            return current.popleft()
        return await self._next()

    async def _next(self) -> T:
        """The next item, with a checkpoint before it."""
        current = self._current
        if current:
            await trio.lowlevel.checkpoint()
            self._checkpoint_due = self._now() + _SLICE_S
        if not current:  # or another way of reading has taken the rest meanwhile
            while not current:
                batch = await self._take_batch()
                if batch is None:
                    raise StopAsyncIteration
                current.extend(batch)
            self._now = _stopwatch()
            self._checkpoint_due = self._now() + _SLICE_S
        return current.popleft()


def _stopwatch() -> Callable[[], float]:
    """What tells the seconds of this run: its clock, or what that reads if it is the machine's."""
    clock = trio.lowlevel.current_clock()
    # trio's own is not exported; it adds an offset to this, in Python, which takes twice the time.
    return time.perf_counter if type(clock).__name__ == "SystemClock" else clock.current_time


def _never() -> float:
    return 0.0
