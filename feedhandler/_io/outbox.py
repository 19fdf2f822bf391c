"""Messages on their way out: bounded, in order, and kept while there is no connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from feedhandler.errors import SendQueueFull

__all__ = ["Outbox"]


class Outbox:
    """A queue of at most `limit` messages, written by one task at a time.

    A message leaves the queue only when it has been written whole, so one whose writing was
    interrupted is sent again on the next connection: at least once, and in order.
    """

    def __init__(self, limit: int) -> None:
        self._messages: deque[str | bytes] = deque()
        self._limit = limit
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def full(self) -> bool:
        return len(self._messages) >= self._limit

    def post(self, message: str | bytes) -> None:
        """Add a message at the end. Raises `SendQueueFull` at the bound, and then adds nothing."""
        if self.full:
            raise SendQueueFull(self._limit)
        self._messages.append(message)
        self._notify()

    async def wait_change(self) -> None:
        """Wait until a message was added or has gone. Cancel-safe."""
        await self._changed.wait()

    def wake(self) -> None:
        """Let those who wait look around: the connection's state has changed."""
        self._notify()

    async def wait_empty(self) -> None:
        """Wait until everything was written. Cancel-safe; bound the time from outside."""
        while self._messages:
            await self._changed.wait()

    async def write_all(self, write: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Write messages as they come, until cancelled or `write` raises."""
        while True:
            while self._messages:
                await write(self._messages[0])
                self._messages.popleft()
                self._notify()
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
