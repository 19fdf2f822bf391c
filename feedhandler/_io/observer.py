"""The observable stream of a connection's transitions."""

from __future__ import annotations

from collections import deque

import trio

from feedhandler._core.state import ConnectionState, Transition

__all__ = ["Transitions"]

_LIMIT = 256


class Transitions:
    """An async iterator over the transitions from now on, each once and in order.

    It ends after the one to `CLOSED`. Of an observer that falls more than 256 transitions behind,
    the oldest are dropped; `missed` counts them. Cancel-safe: a transition is taken or it stays.
    """

    def __init__(self, *, over: bool = False) -> None:
        self._waiting: deque[Transition] = deque()
        self._arrival = trio.Event()
        self._over = over
        self.missed = 0

    def post(self, transition: Transition) -> None:
        if len(self._waiting) >= _LIMIT:
            self._waiting.popleft()
            self.missed += 1
        self._waiting.append(transition)
        self._over = transition.new is ConnectionState.CLOSED
        self._arrival.set()

    def __aiter__(self) -> Transitions:
        return self

    async def __anext__(self) -> Transition:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            if self._over:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            self._arrival = trio.Event()
            await self._arrival.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self._waiting.popleft()
