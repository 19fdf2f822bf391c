"""Make before break: a live connection's successor, tried until one is ready to take over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from feedhandler._io.attempt import Attempt
from feedhandler._io.connection import Connection, Sink
from feedhandler._io.outbox import Outbox
from feedhandler.errors import CircuitOpenError, ConnectionFailed, FeedError

__all__ = ["Heir", "Overlapping", "Rollover"]

Companion = Callable[[Connection], Awaitable[None]]


class Heir(Sink, Protocol):
    """Where the batches of a new connection go until it takes over."""

    @property
    def outbox(self) -> Outbox: ...

    async def keep(self, connection: Connection, /) -> None:
        """Ask for what the new connection is to deliver; runs beside it for as long as it lives."""
        ...

    async def ready(self) -> None:
        """Wait until the old connection may go.

        Raises the `ConnectionFailed` for which the new one must be dropped instead.
        """
        ...


Overlapping = Callable[[], AbstractContextManager[Heir]]


class Rollover:
    """The attempts to replace one live connection, one at a time, with a wait after each failure.

    The old connection knows nothing of it. `take_over` is called once, when a new connection is
    ready; from then on `run()` lasts as long as that one. `judge` says until when to wait after a
    failure, or with an error that trying again is of no use.
    """

    def __init__(
        self,
        reason: str,
        *,
        not_before: float,
        predecessor: Attempt | None,
        overlap: Overlapping,
        attempt: Callable[[Sink, Sequence[Companion], Outbox], Attempt],
        take_over: Callable[[], None],
        afterwards: Companion,
        judge: Callable[[ConnectionFailed | CircuitOpenError], float | FeedError],
    ) -> None:
        self.reason = reason
        self.attempt: Attempt | None = None
        self.adopted = False
        self._not_before = not_before
        self._predecessor = predecessor
        self._overlap = overlap
        self._make_attempt = attempt
        self._take_over = take_over
        self._afterwards = afterwards
        self._judge = judge
        self._open = False
        self._heir: Heir | None = None
        self._scope = trio.CancelScope()

    @property
    def is_open(self) -> bool:
        """Whether the new connection's handshake is done, so that it can take over at need."""
        return self._open and not self._scope.cancel_called

    def abandon(self) -> None:
        """Drop the new connection at once, and try no more."""
        self._scope.cancel()

    def close(self) -> None:
        """End without taking over: an open connection politely, everything else at once."""
        connection = self.attempt.connection if self.attempt is not None else None
        if self._open and connection is not None:
            connection.close()
        else:
            self._scope.cancel()

    async def run(self) -> FeedError | None:
        """Try until a new connection has taken over and has ended; return what ended it.

        Returns early, and `adopted` is false, where trying again is of no use or not wanted.
        """
        with self._scope:
            if self._predecessor is not None:
                await self._predecessor.over.wait()  # never more than two at once
                self._predecessor = None
            await trio.sleep_until(self._not_before)
            while True:
                try:
                    with self._overlap() as self._heir:
                        self.attempt = self._make_attempt(
                            self._heir, (self._heir.keep, self._hand_over), self._heir.outbox
                        )
                        try:
                            await self.attempt.run(self._opened)
                        finally:
                            self._open = False
                    return None
                except (ConnectionFailed, CircuitOpenError) as error:
                    if self.adopted:
                        return error
                    until = self._judge(error)
                    if isinstance(until, FeedError):
                        return None
                    await trio.sleep_until(until)
        return None

    def _opened(self) -> None:
        self._open = True

    async def _hand_over(self, connection: Connection) -> None:
        if self._heir is not None:
            await self._heir.ready()
        if not self.adopted:
            self._take_over()
        await self._afterwards(connection)
