"""Waiting for one's turn: the tasks that share a pace go one after the other."""

from __future__ import annotations

import trio

from feedhandler._core.pace import TokenBucket

__all__ = ["Pacer"]


class Pacer:
    """Turns in the order in which they were asked for, as fast as the bucket allows.

    Whoever is cancelled while waiting has taken no turn.
    """

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        self._lock = trio.Lock()

    async def turn(self) -> None:
        """Wait for one turn, and take it. Cancel-safe; a checkpoint."""
        async with self._lock:
            await trio.sleep_until(self._bucket.ready_at(1.0, trio.current_time()))
            self._bucket.take(1.0, trio.current_time())
