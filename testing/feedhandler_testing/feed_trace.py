"""What a mock server saw and what a feed said, in a test of your own, held to the rules."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Generic, Self, TypeVar

import trio
from attrs import evolve

from feedhandler.errors import UsageError
from feedhandler_testing.board import PlacedFault
from feedhandler_testing.clock import EPOCH_NS
from feedhandler_testing.rules import (
    RULES,
    NoFalseAlarm,
    NothingInvented,
    Rule,
    Violation,
    rules_for,
)
from feedhandler_testing.server import MockWebSocketServer
from feedhandler_testing.subject import Contract, observe
from feedhandler_testing.trace import (
    Failed,
    Fired,
    Gauged,
    Happened,
    Moved,
    Record,
    Removed,
    Requested,
    Sent,
    Stepped,
    Trace,
)

__all__ = ["FeedTrace", "RulesBroken", "Watched"]

T = TypeVar("T")

_SHOWN = 10


class RulesBroken(AssertionError):
    """A feed that was watched broke rules: `violations`."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = violations
        lines = "\n".join(f"  {violation}" for violation in violations[:_SHOWN])
        more = len(violations) - _SHOWN
        super().__init__(
            f"{len(violations)} violation(s) of the rules of a feed:\n{lines}"
            + (f"\n  … and {more} more" if more > 0 else "")
        )


class FeedTrace:
    """Records what a mock server sees and what one feed says.

    ```python
    async def test_a_reset(virtual_clock, mock_server, feed_trace):
        venue = PriceVenue(mock_server.url, dial=mock_server.dial)
        async with open_feed(venue, ["BTC-USD"], clock=mock_server.clock) as feed:
            async for event in feed_trace.watch(feed):
                ...
    ```

    The pytest plugin checks all safety rules on it after the test, unless `check` is false.
    `contract` is what the feed promises beyond what every feed does (by default one connection at
    a time, and nothing else); it can be set until the end. `trace` holds the records; with `keep`,
    only as many. Times count from when the server was started.
    """

    def __init__(self, *, keep: int | None = None) -> None:
        self.check = True
        self.contract = Contract(ack_deadline_s=0.0)
        self.trace = Trace(keep=keep)
        self._server: MockWebSocketServer | None = None
        self._watched = False
        self._inexact = False

    def __repr__(self) -> str:
        return f"<FeedTrace records={self.trace.count} watched={self._watched}>"

    # --- what a test does with it ---

    def attach(self, server: MockWebSocketServer) -> None:
        """Record what `server` sees from now on; best before anything connects.

        Raises `UsageError` where another server is attached, or the server has another observer.
        """
        if self._server is server:
            return
        if self._server is not None:
            raise UsageError("one trace records one server; make another FeedTrace()")
        if server.observer is not None:
            raise UsageError("the server has an observer already: set server.observer = None")
        self._server = server
        server.observer = self

    def watch(
        self,
        events: AsyncIterable[T],
        *,
        observe: Callable[[object, float], Record | None] = observe,
        contract: Contract | None = None,
    ) -> Watched[T]:
        """Pass the events of a feed on, one by one or in batches, and record what they say.

        `observe` turns an event into a record, or `None` (default: this library's events). One feed
        for each trace: rules about order and loss mean one. Raises `UsageError` at a second.
        """
        if self._watched:
            raise UsageError(
                "one trace watches one feed, whose order and losses it judges; use another test, "
                "or FeedTrace().watch(...) for the second"
            )
        self._watched = True
        if contract is not None:
            self.contract = contract
        return Watched(events, lambda event: self._hear(event, observe), self._hear_error)

    def note(self, text: str) -> None:
        """Put a line of your own into the timeline."""
        self._add(Stepped(self._now(), text))

    def violations(self) -> list[Violation]:
        """What breaks the safety rules so far; empty where all are kept."""
        # A test can send by hand what no observer is told of, garbage for example.
        left_out: set[type[Rule]] = (
            {NoFalseAlarm, NothingInvented} if self._inexact else {NoFalseAlarm}
        )
        kinds = [kind for kind in RULES if kind not in left_out]
        judge = rules_for(self.contract, kinds)
        for record in self.trace:
            judge.see(record)
        judge.end()
        return judge.violations

    def lines(self, last: int | None = None) -> list[str]:
        """The timeline, a line for each record; or its last lines."""
        lines = self.trace.lines()
        return lines if last is None else lines[-last:]

    # --- the feed's side ---

    def _now(self) -> float:
        return trio.current_time() if self._server is None else self._server.now()

    def _add(self, record: Record) -> None:
        self.trace.add(record)

    def _hear(self, event: object, observe: Callable[[object, float], Record | None]) -> None:
        for one in event if isinstance(event, list | tuple) else (event,):
            record = observe(one, self._now())
            if isinstance(record, Moved) and self._server is not None:
                since_ns = self._server.clock.true_of(record.recv_ns) - EPOCH_NS
                record = evolve(record, since_s=min(since_ns / 1e9, record.at_s))
            if record is not None:
                self._add(record)

    def _hear_error(self, error: Exception) -> None:
        self._add(Failed(self._now(), type(error).__name__, str(error)[:200]))

    # --- the server's side: a `ServerObserver` ---

    def happened(self, attempt: int, event: str) -> None:
        """For the server."""
        if event == "message":
            return
        self._add(Happened(self._now(), attempt, event))
        if self._server is not None and event in ("dialled", "accepted"):
            open_streams, limit = self._server.open_streams, self.contract.connections
            self._add(Gauged(self._now(), "open streams", open_streams, limit))

    def sent(self, attempt: int, message: dict[str, Any], *, intact: bool) -> None:
        """For the server."""
        record = Sent.of(self._now(), attempt, message, intact=intact)
        if record is None:
            return
        if record.intact and not all(isinstance(message[n], str) for n in ("price", "size")):
            self._inexact = True  # it was sent as a number: its digits are not known any more
        self._add(record)

    def requested(self, attempt: int, kind: str, symbols: Sequence[str]) -> None:
        """For the server."""
        self._add(Requested(self._now(), attempt, kind, tuple(symbols)))

    def fired(self, placed: PlacedFault, attempt: int) -> None:
        """For the server."""
        fault = placed.fault
        self._add(
            Fired(
                self._now(), placed.name, attempt, fault.taints, fault.delays, fault.layer.value
            )
        )  # fmt: skip

    def removed(self, placed: PlacedFault) -> None:
        """For the server."""
        self._add(Removed(self._now(), placed.name))


class Watched(Generic[T]):
    """The events of a feed, passed on as they are; made by `FeedTrace.watch()`.

    Cancelling `anext()` loses nothing that the feed's own would not lose.
    """

    def __init__(
        self,
        events: AsyncIterable[T],
        heard: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._events = events
        self._iterator: AsyncIterator[T] | None = None
        self._heard = heard
        self._failed = failed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._iterator is None:
            self._iterator = aiter(self._events)
        try:
            event = await anext(self._iterator)
        except StopAsyncIteration:
            raise
        except Exception as error:  # whatever a feed raises is what it says
            self._failed(error)
            raise
        self._heard(event)
        return event

    async def aclose(self) -> None:
        """Close what is iterated over, where it is an async generator."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
