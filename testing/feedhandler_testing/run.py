"""Running a scenario against a subject, and holding it to the rules."""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from random import Random
from types import MappingProxyType
from typing import Any

import trio
import trio.testing
from attrs import evolve

from feedhandler_testing.board import PlacedFault
from feedhandler_testing.clock import EPOCH_NS
from feedhandler_testing.connection import MockWebSocketConnection
from feedhandler_testing.dialect import dialect_by_name
from feedhandler_testing.expectations import Seen, unmet
from feedhandler_testing.faults.base import Fault, Layer
from feedhandler_testing.numbering import Numbering
from feedhandler_testing.outcome import Outcome, ScenarioFailed
from feedhandler_testing.rules import Judge, Violation, rules_for
from feedhandler_testing.scenario import Cut, Finish, Inject, Repair, Scenario, Serve, Wait, is_met
from feedhandler_testing.scheduling import repeatable
from feedhandler_testing.server import MockWebSocketServer
from feedhandler_testing.subject import Contract, FeedSubject, MockVenue, Subject, observe
from feedhandler_testing.trace import (
    BookTold,
    Delivered,
    Failed,
    Fired,
    Gauged,
    Happened,
    Lost,
    Made,
    Malformed,
    Moved,
    Placed,
    Record,
    Refused,
    Removed,
    Requested,
    Sent,
    Stepped,
    Trace,
)

__all__ = ["PHASES", "Outcome", "ScenarioFailed", "run_scenario", "simulate"]

PHASES = (
    "connecting", "handshaking", "subscribing", "live", "closing", "backing-off", "half-open",
    "rolling-over",
)  # fmt: skip
"""The states of a subject that are told apart when a fault acts."""

_TRUSTED = frozenset({"verified", "unverifiable"})
_MOST_AT_ONCE = 200_000  # records without time passing: a subject that never waits
# How far the newest attempt has come, once this has happened.
_REACHED = MappingProxyType(
    {
        "dialled": "connecting",
        "handshake": "handshaking",
        "accepted": "subscribing",
        "subscribed": "live",
        "closed": "backing-off",
    }
)
_SOCKETS_S = 2.0  # for the end of a socket to be seen by the other side
_GONE_S = 30.0  # for a connection that was cut to be over
_STATES = frozenset({"connecting", "connected", "reconnecting", "closing"})


def simulate(
    scenario: Scenario,
    subject: Subject | None = None,
    *,
    keep: int | None = None,
    listener: Callable[[Record], None] | None = None,
    check_memory: bool = False,
    hashed: bool = True,
) -> Outcome:
    """Run a scenario in a trio run of its own, in virtual time, and return its outcome.

    Nothing is raised for a broken rule: see `Outcome.check()`. `keep` bounds how many records are
    kept (default: all); `listener` is given each. `check_memory` looks afterwards whether streams,
    connections or the subject are still referred to, which takes a collection of garbage. Where
    not all records are kept, `Outcome.digest` can be had if they are `hashed`.
    """
    clock = None
    if scenario.network == "memory":
        clock = trio.testing.MockClock(autojump_threshold=0)
    remembered: list[weakref.ref[Any]] = []
    with repeatable(scenario.seed):
        outcome = trio.run(
            _simulate, scenario, subject, keep, listener, remembered, hashed, clock=clock
        )
    if check_memory:
        if not outcome.violations:
            outcome.error = None  # what was expected is not worth its frames, and all they refer to
        gc.collect()
        left = Counter(type(one).__name__ for ref in remembered if (one := ref()) is not None)
        for kind, count in sorted(left.items()):
            message = f"{count} {kind} still referred to"
            outcome.violations.append(Violation("NothingLeft", outcome.virtual_s, message))
    return outcome


async def _simulate(
    scenario: Scenario,
    subject: Subject | None,
    keep: int | None,
    listener: Callable[[Record], None] | None,
    remembered: list[weakref.ref[Any]],
    hashed: bool,
) -> Outcome:
    run = _Run(scenario, subject or FeedSubject(), keep, listener)
    run.remembered = remembered
    run.trace.hashed = hashed
    return await run.run()


async def run_scenario(
    scenario: Scenario, subject: Subject | None = None, *, check: bool = True
) -> Outcome:
    """Run a scenario against `subject` (default: this library's feed) and return its outcome.

    Use it under pytest-trio's `autojump_clock`, or waits take real time. Raises `ScenarioFailed`
    where a rule was broken, unless `check` is false. Cancel-safe: nothing is left running.
    """
    with repeatable(scenario.seed):
        outcome = await _Run(scenario, subject or FeedSubject(), None, None).run()
    return outcome.check() if check else outcome


# --- one run -------------------------------------------------------------------------------------


class _Run:
    """One run of a scenario: the venue's side, the subject's side, and who watches both."""

    def __init__(
        self,
        scenario: Scenario,
        subject: Subject,
        keep: int | None,
        listener: Callable[[Record], None] | None,
    ) -> None:
        self._scenario = scenario
        self._subject = subject
        self._observe = getattr(subject, "observe", observe)
        self._gauges = getattr(subject, "gauges", None)
        make_contract = getattr(subject, "contract", None)
        self._contract: Contract = make_contract(scenario.settings) if make_contract else Contract()
        self._dialect = dialect_by_name(scenario.venue)
        self._contract = evolve(self._contract, means=self._dialect.means)
        self._numbering = None if scenario.venue == "price" else Numbering(self._dialect)
        self._judge: Judge = rules_for(self._contract)
        self.trace = Trace(keep=keep)
        self.trace.listen(self._judge.see)
        if listener is not None:
            self.trace.listen(listener)
        self._server: MockWebSocketServer
        self._began_at = 0.0
        self._begin_subject = trio.Event()
        self._finish = trio.Event()
        self._subject_over = trio.Event()
        self._closed = trio.Event()
        self.remembered: list[weakref.ref[Any]] = []
        self._error: Exception | None = None
        self._at_once = (0.0, 0)
        self._reached = "connecting"
        self._newest_attempt = 0
        self._waits_for_breaker = False
        self._probing = False
        self._proofs = 0
        self._scope = trio.CancelScope()
        self._requests = 0
        self._lag_s: float | None = None
        self._pause_s = scenario.consumer_pause_s
        self._hurry = trio.Event()
        self._armed: dict[int, PlacedFault] = {}
        self._events: Any = None
        self._changed = trio.Event()
        self._placed: list[tuple[str, PlacedFault]] = []
        self._next: dict[str, int] = {}
        self._state = "disconnected"
        self._coverage: set[tuple[str, str]] = set()
        self._seen: list[Record] = []
        self._messages = 0
        self._fresh: dict[str, int] = {}
        self._turn = 0
        self._gauged: tuple[float, ...] = ()

    async def run(self) -> Outcome:
        scenario = self._scenario
        before = trio.lowlevel.current_statistics()
        self._began_at = trio.current_time()
        limit_s = scenario.longest_s
        network = scenario.network
        with self._scope, trio.move_on_after(limit_s) as limit:
            async with MockWebSocketServer(
                seed=scenario.seed,
                tcp=network != "memory",
                tls=network == "tls",
                heartbeat_interval=scenario.heartbeat_s,
                compressed=scenario.compressed,
                token="token-1" if scenario.token else None,
                dialect=self._dialect,
            ) as self._server:
                self._server.observer = self
                self._server.list_symbols(scenario.symbols)
                began_ns = self._server.clock.true_time_ns() - round(self._now() * 1e9)
                self._contract = evolve(self._contract, began_ns=began_ns)
                for rule in self._judge.rules:
                    rule.contract = self._contract
                if scenario.channel == "book":
                    for symbol in scenario.symbols:
                        self._next_message(symbol)  # so that there is a book to subscribe
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._live)
                    await self._play()
        if limit.cancelled_caught:
            self._judge.break_rule("Liveness", f"the run was not over after {limit_s:g} s")
        self._step("end")
        self._check_nothing_left(before)
        self._check_expectations()
        self._judge.end()
        return Outcome(
            scenario,
            self.trace,
            self._judge.violations,
            virtual_s=trio.current_time() - self._began_at,
            messages=self._messages,
            coverage=self._coverage,
            error=self._error,
        )

    def _now(self) -> float:
        return trio.current_time() - self._began_at

    def _add(self, record: Record) -> None:
        self.trace.add(record)
        at_s, count = self._at_once
        self._at_once = record.at_s, count + 1 if record.at_s == at_s else 1
        if count == _MOST_AT_ONCE and record.at_s == at_s:
            self._judge.break_rule(
                "Liveness", f"{count:,} things happened and no time went by, such as: {record!r}"
            )
            self._scope.cancel()
        if type(record) is not Delivered and type(record) is not Sent:
            changed, self._changed = self._changed, trio.Event()
            changed.set()

    def _step(self, text: str) -> None:
        self._add(Stepped(self._now(), text))

    async def _token(self) -> str:
        await trio.lowlevel.checkpoint()
        return self._server.token or ""

    # --- the subject's side ---

    async def _live(self) -> None:
        await self._begin_subject.wait()
        scenario, server = self._scenario, self._server
        mock = MockVenue(
            server.url,
            server.dial,
            scenario.symbols,
            server.clock,
            Random(f"{scenario.seed}/subject"),
            scenario.settings,
            server.client_ssl_context,
            self._token if scenario.token else None,
            scenario.channel,
            scenario.compressed,
            scenario.venue,
            server.fetch,
            None if self._numbering is None else server.venue(scenario.symbols),
            self._dialect.channels[scenario.channel],
        )
        try:
            async with self._subject(mock) as events:
                with contextlib.suppress(TypeError):  # not all objects can be watched
                    self.remembered.append(weakref.ref(events))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._consume, events)
                    await self._finish.wait()
                    nursery.cancel_scope.cancel()
                self._events = None
                closing_at = trio.current_time()
            took_s = trio.current_time() - closing_at
            if took_s > self._contract.close_s + 0.001:
                self._judge.break_rule("BoundedClose", f"closing took {took_s:.3f} s")
        except Exception as error:  # whatever a subject raises is an outcome, and is judged
            self._failed(error)
        self._subject_over.set()
        self._closed.set()
        self._step("the subject is closed")
        self._gauge_streams()
        if self._scenario.network != "memory":
            await self._check_sockets()

    async def _check_sockets(self) -> None:
        """Over a real network the end of a connection is seen on this side, a little later."""
        with trio.move_on_after(_SOCKETS_S):
            while self._server.serving:
                await self._changed.wait()
        if self._server.serving:
            told = f"{self._server.serving} connection(s) still open"
            self._judge.break_rule("NothingLeft", told)

    async def _consume(self, events: Any) -> None:
        self._events = events
        try:
            async for event in events:
                record = self._observe(event, self._now())
                if record is not None:
                    if self._numbering is not None:
                        record = self._numbering.told(record)
                    self._take(record)
                if self._pause_s:
                    with trio.move_on_after(self._pause_s):
                        await self._hurry.wait()
        except Exception as error:  # likewise
            self._failed(error)
        self._subject_over.set()
        self._step("the subject gave up" if not self._finish.is_set() else "the subject ended")

    def _failed(self, error: Exception) -> None:
        self._error = error
        leaf: BaseException = error
        while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
            leaf = leaf.exceptions[0]
        record = Failed(self._now(), type(leaf).__name__, str(leaf)[:200])
        self._seen.append(record)
        self._add(record)

    def _take(self, record: Record) -> None:
        if isinstance(record, Moved):
            since_ns = self._server.clock.true_of(record.recv_ns) - EPOCH_NS
            record = evolve(record, since_s=min(since_ns / 1e9, record.at_s))
        if isinstance(record, Delivered):
            self._messages += 1
            self._fresh[record.symbol] = record.number
            if self._probing:
                self._proofs += 1
                breaker = self._contract.breaker
                self._probing = breaker is not None and self._proofs < breaker.success_threshold
        elif isinstance(record, BookTold):
            self._messages += 1
            if record.number is not None and record.trust in _TRUSTED:
                self._fresh[record.symbol] = record.number
        elif isinstance(record, Moved):
            self._state = record.new
            self._seen.append(record)
            if record.new in _STATES:
                self._server.board.happened(record.new)
            self._waits_for_breaker = record.breaker_open
            self._probing &= record.failure is None
            if record.breaker_open:
                self._server.board.happened("breaker_open")
        elif isinstance(record, Lost | Malformed | Refused):
            self._seen.append(record)
        self._add(record)
        self._measure()

    def _measure(self) -> None:
        measure_lag = getattr(self._subject, "lag_s", None)
        if self._scenario.expect.lag_s is not None and measure_lag is not None:
            self._lag_s = max(self._lag_s or 0.0, measure_lag(self._events))
        if self._gauges is not None and self._events is not None:
            for name, value, bound in self._gauges(self._events):
                if value > bound:
                    self._add(Gauged(self._now(), name, value, bound))

    # --- the venue's side ---

    async def _play(self) -> None:
        steps = self._scenario.steps
        finished = False
        for number, step in enumerate(steps):
            if self._subject_over.is_set():
                break
            self._step(f"step {number}: {step!r}")
            match step:
                case Serve():
                    await self._serve(step)
                case Wait():
                    self._begin_subject.set()
                    await self._unless_over(trio.sleep, step.for_s)
                case Cut():
                    await self._wait_live()
                    self._arm_next_meeting(steps, number)
                    placed = self._place(step)
                    await self._wait_fired(placed)
                    await self._wait_gone(placed)
                case Inject():
                    self._place(step)
                case Repair():
                    self._repair()
                case Finish():
                    finished = True
                case Fault():
                    armed = self._armed.pop(number) if number in self._armed else self._place(step)
                    if is_met(step):
                        await self._wait_fired(armed)
        self._begin_subject.set()
        if not finished:
            self._repair()
            if self._scenario.expect.recovers:
                await self._recover()
            elif not self._subject_over.is_set():
                with trio.move_on_after(self._scenario.recover_s):
                    await self._subject_over.wait()
        self._step("the subject is to close")
        self._finish.set()
        if self._begin_subject.is_set():
            with trio.move_on_after(self._scenario.recover_s):
                await self._closed.wait()
        self._repair()

    def _arm_next_meeting(self, steps: Sequence[Any], number: int) -> None:
        """The fault that the next attempt is to meet is in place before the connection ends."""
        following = steps[number + 1] if number + 1 < len(steps) else None
        if isinstance(following, Fault) and is_met(following):
            self._armed = {number + 1: self._place(following)}

    def _place(self, step: Inject | Cut | Fault) -> PlacedFault:
        if isinstance(step, Inject):
            placed = self._server.place(step.injection())
        else:
            placed = self._server.fault(step.fault if isinstance(step, Cut) else step)
        self._placed.append((repr(step), placed))
        self._add(Placed(self._now(), placed.name))
        return placed

    def _repair(self) -> None:
        for told, placed in self._placed:
            placed.remove()
            if not placed.count and self._scenario.expect.all_fire:
                self._judge.break_rule("FaultsFire", f"{told} never fired")
        self._placed.clear()

    async def _wait_fired(self, placed: PlacedFault) -> None:
        self._begin_subject.set()
        with trio.move_on_after(self._scenario.recover_s) as limit:
            await self._unless_over(placed.fired.wait)
        if limit.cancelled_caught and self._scenario.expect.all_fire:
            self._judge.break_rule("FaultsFire", f"{placed!r} did not fire in time")

    async def _wait_gone(self, placed: PlacedFault) -> None:
        """Wait until what was cut is over, so that the next step does not act on it."""
        if placed.fault.layer is Layer.VENUE:
            return  # it ends when the subject thinks fit
        with trio.move_on_after(_GONE_S):
            while any(c.attempt in placed.struck for c in self._server.connections.values()):
                await self._changed.wait()

    async def _unless_over(self, act: Callable[..., Any], *args: Any) -> None:
        """Await something, but no longer than the subject lives."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._subject_over.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await act(*args)
            nursery.cancel_scope.cancel()

    def _is_live(self) -> bool:
        wanted = set(self._scenario.symbols)
        return any(
            wanted <= set(self._subscribed(connection))
            for connection in self._server.connections.values()
        )

    def _subscribed(self, connection: MockWebSocketConnection) -> Collection[str]:
        of_books = self._scenario.channel == "book"
        return connection.book_subscriptions if of_books else connection.subscriptions

    def _next_message(self, symbol: str) -> dict[str, Any]:
        if self._scenario.channel == "price":
            return self._server.prices.next(symbol)
        message = self._server.next_delta(symbol)
        if self._numbering is None:
            checksum = message["checksum"]
        else:
            checksum = self._server.books[symbol].checksum
        made = Made(self._now(), symbol, message["sequence"], checksum)
        if self._numbering is not None:
            self._numbering.made(made)
        self._add(made)
        return message

    def _marks(self) -> dict[str, int]:
        """How far each symbol has come at the venue."""
        if self._scenario.channel == "price":
            return dict(self._server.prices.sequences)
        return {symbol: book.sequence for symbol, book in self._server.books.items()}

    async def _wait_live(self) -> bool:
        """Wait until the subject is connected and has subscribed, for a bounded time."""
        self._begin_subject.set()
        with trio.move_on_after(self._scenario.recover_s):
            while not self._is_live() and not self._subject_over.is_set():
                await self._changed.wait()
        return self._is_live()

    async def _serve(self, step: Serve) -> None:
        await self._wait_live()
        for _ in range(step.count):
            if self._subject_over.is_set():
                return
            await self._send_next()
            await trio.sleep(step.interval_s)

    async def _send_next(self) -> None:
        symbols = self._scenario.symbols
        symbol = symbols[self._turn % len(symbols)]
        self._turn += 1
        message = self._next_message(symbol)
        for connection in list(self._server.connections.values()):
            if symbol in self._subscribed(connection):
                try:
                    if connection.send_nowait(message):
                        continue
                    if connection.link.roomy:
                        await connection.send_messages([message])
                    else:
                        # A peer that does not read is no reason for the venue to stand still.
                        with trio.move_on_after(1.0):
                            await connection.send_messages([message])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # it is over

    async def _recover(self) -> None:
        """The faults are over: within a bound the subject has to deliver what is sent now."""
        self._step("the faults are over")
        self._pause_s = 0.0
        self._hurry.set()
        with trio.move_on_after(self._scenario.recover_s) as limit:
            await self._wait_live()
            marks = self._marks()
            while not self._subject_over.is_set() and not self._is_fresh(marks):
                await self._send_next()
                await trio.sleep(0.1)
        if self._subject_over.is_set():
            self._judge.break_rule("Liveness", "the subject gave up")
        elif limit.cancelled_caught:
            self._judge.break_rule(
                "Liveness", f"no fresh data within {self._scenario.recover_s:g} s of the last fault"
            )

    def _is_fresh(self, marks: dict[str, int]) -> bool:
        return all(
            self._fresh.get(symbol, 0) > marks.get(symbol, 0) for symbol in self._scenario.symbols
        )

    # --- what the server tells ---

    def happened(self, attempt: int, event: str) -> None:
        if event == "message":
            return
        self._add(Happened(self._now(), attempt, event))
        if event == "dialled" and self._waits_for_breaker:
            self._probing, self._waits_for_breaker = True, False
            self._proofs = 0
            self._server.board.happened("half_open")
        self._newest_attempt = max(self._newest_attempt, attempt)
        if event in _REACHED and attempt == self._newest_attempt:
            self._reached = _REACHED[event]
        if event in ("dialled", "accepted"):
            self._gauge_streams()
        if event == "accepted":
            self.remembered += map(weakref.ref, self._server.client_streams[-1:])

    def _gauge_streams(self) -> None:
        open_streams = self._server.open_streams
        self._add(Gauged(self._now(), "open streams", open_streams, self._contract.connections))

    def sent(self, attempt: int, message: dict[str, Any], *, intact: bool) -> None:
        record = Sent.of(self._now(), attempt, message, intact=intact)
        if record is not None:
            self._add(record)

    def requested(self, attempt: int, kind: str, symbols: Sequence[str]) -> None:
        self._requests += kind.startswith("subscribe")
        self._add(Requested(self._now(), attempt, kind, tuple(symbols)))

    def fired(self, placed: PlacedFault, attempt: int) -> None:
        self._coverage.add((placed.name.rpartition("-")[0], self._phase()))
        fault = placed.fault
        self._add(
            Fired(self._now(), placed.name, attempt, fault.taints, fault.delays, fault.layer.value)
        )

    def _phase(self) -> str:
        """The state that the subject is in, as the network shows it."""
        if self._finish.is_set():
            return "closing"
        if self._server.open_streams > 1 or len(self._server.connections) > 1:
            return "rolling-over"
        if self._probing and self._reached != "backing-off":
            return "half-open"
        return self._reached

    def removed(self, placed: PlacedFault) -> None:
        self._add(Removed(self._now(), placed.name))

    # --- the end ---

    def _check_nothing_left(self, before: Any) -> None:
        after = trio.lowlevel.current_statistics()
        if after.tasks_living > before.tasks_living:
            left = after.tasks_living - before.tasks_living
            self._judge.break_rule("NothingLeft", f"{left} task(s) still live")
        if self._server.open_streams:
            self._judge.break_rule(
                "NothingLeft", f"{self._server.open_streams} stream(s) are still open"
            )
        deadline = trio.current_time() + after.seconds_to_next_deadline
        if math.isinf(before.seconds_to_next_deadline) and not math.isinf(deadline):
            self._judge.break_rule("NothingLeft", "a timer is still set")

    def _check_expectations(self) -> None:
        server = self._server
        seen = Seen(
            records=self._seen,
            messages=self._messages,
            pongs=server.pongs_received,
            connections=server.accepted,
            close_codes=server.close_codes,
            requests=self._requests,
            took_s=self._now(),
            lag_s=self._lag_s,
        )
        for message in unmet(self._scenario.expect, seen):
            self._judge.break_rule("Expected", message)
