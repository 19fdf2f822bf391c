"""A bounded hand-over from one producer to one consumer, in items that have a weight."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

from feedhandler.errors import UsageError

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Items wait here, in order, within a bound on their count and on their bytes.

    An item is *posted* at once and the producer then waits for room, so the bound can be
    exceeded by one item, and a producer that is cancelled while it waits has lost nothing.
    After `close()` the consumer still gets what is here.
    """

    def __init__(self, *, max_count: int, max_bytes: int | None = None) -> None:
        self._items: deque[tuple[T, int, int]] = deque()
        self._max_count = max_count
        self._max_bytes = max_bytes
        self.count = 0
        self.bytes = 0
        self.closed = False
        self._arrival = trio.Event()
        self._room = trio.Event()
        self._waiting = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Mailbox {state} {self.count}/{self._max_count}>"

    @property
    def ready(self) -> bool:
        """True when the consumer need not wait: there is an item, or there will be none."""
        return bool(self._items) or self.closed

    def has_room(self, count: int, size: int) -> bool:
        """Whether an item of that count and size keeps the bounds; the first always does."""
        if not self._items and count <= self._max_count:
            return True
        fits = self._max_bytes is None or self.bytes + size <= self._max_bytes
        return fits and self.count + count <= self._max_count

    @property
    def over(self) -> bool:
        """True when a bound is exceeded by what could be dropped."""
        too_large = self._max_bytes is not None and self.bytes > self._max_bytes
        return self.count > self._max_count or (too_large and len(self._items) > 1)

    @property
    def full(self) -> bool:
        return self.count >= self._max_count or (
            self._max_bytes is not None and self.bytes >= self._max_bytes
        )

    def post(self, item: T, *, count: int = 1, size: int = 0) -> None:
        """Add `item`, which holds `count` things of `size` bytes together."""
        self._items.append((item, count, size))
        self.count += count
        self.bytes += size
        self._arrival.set()

    async def wait_room(self) -> None:
        """Wait until the bound is kept again, or the mailbox is closed.

        Cancel-safe. This is a checkpoint only where it has to wait.
        """
        while self.full and not self.closed:
            await self.room_changed()

    async def room_changed(self) -> None:
        """Wait until there may be room, or another look is worth it. Cancel-safe.

        Several may wait: a feed has two connections while one replaces the other.
        """
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def nudge_producer(self) -> None:
        """Wake the producer so that it looks around; it need not find room."""
        self._room.set()

    def take(self) -> T | None:
        """The oldest item, or `None` if there is none."""
        entry = self.take_entry()
        return None if entry is None else entry[0]

    def take_entry(self) -> tuple[T, int, int] | None:
        """The oldest item with its count and size, or `None` if there is none."""
        if not self._items:
            return None
        entry = self._items.popleft()
        self.count -= entry[1]
        self.bytes -= entry[2]
        if not self.full:
            self._room.set()
        return entry

    def put_front(self, item: T, *, count: int = 1, size: int = 0) -> None:
        """Put back what was taken, or the rest of it."""
        self._items.appendleft((item, count, size))
        self.count += count
        self.bytes += size

    async def wait_arrival(self) -> None:
        """Wait for an item, a nudge or the end. Cancel-safe; a checkpoint.

        Raises `UsageError` if another task waits here already: a mailbox has one consumer.
        """
        if self._waiting:
            raise UsageError(
                "another task is already iterating here; give each consumer a stream of its own"
            )
        self._waiting = True
        try:
            if self._items or self.closed:
                await trio.lowlevel.checkpoint()
                return
            self._arrival = trio.Event()
            await self._arrival.wait()
        finally:
            self._waiting = False

    def nudge(self) -> None:
        """Wake the consumer so that it looks around; it need not find anything."""
        self._arrival.set()

    def close(self) -> None:
        """No more items will come; wakes both sides."""
        self.closed = True
        self._arrival.set()
        self._room.set()
