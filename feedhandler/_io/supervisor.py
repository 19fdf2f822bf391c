"""The reconnect loop: connection after connection, with back-off and breaker between them.

A connection may be replaced while it lives (`renew()`); those that follow one another without a
break are one attempt for the loop. At most two are open at once.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import trio
from attrs import evolve

from feedhandler._core.allowance import planned_life
from feedhandler._core.backoff import GiveUp, ReconnectionState
from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.state import ConnectionEvent, ConnectionState, StateMachine, Transition
from feedhandler._io.attempt import Attempt, Credentials
from feedhandler._io.connection import Connection, Endpoint, Sink
from feedhandler._io.outbox import Outbox
from feedhandler._io.rollover import Overlapping, Rollover
from feedhandler.abc import Clock, Tap, TokenProvider
from feedhandler.config import BackoffConfig, ConnectionConfig
from feedhandler.errors import (
    CircuitOpenError,
    ConnectionFailed,
    FailureKind,
    FeedError,
    ForcedDisconnect,
    MalformedBurst,
)
from feedhandler.traits import VenueTraits

__all__ = ["Supervisor"]

_NO_TRAITS = VenueTraits()


class Supervisor:
    """Makes connections, one at a time, from `run()`'s start until it is closed or gives up.

    The state machine is its only state that others see. `on_transition` is called at each step,
    synchronously, so nobody can miss one. With `overlap`, which gives where a second connection
    delivers until it takes over, a planned change makes the new connection before the old one goes.
    `traits` are the venue's; `admit` waits until one more connection may be made to it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        config: ConnectionConfig,
        backoff: BackoffConfig,
        policies: Mapping[FailureKind, FailurePolicy],
        breaker: CircuitBreaker | None,
        token: str | TokenProvider | None,
        headers: Sequence[tuple[str, str]],
        clock: Clock,
        rng: Random,
        sink: Sink,
        on_transition: Callable[[Transition], None],
        outbox: Callable[[], Outbox],
        companions: Sequence[Callable[[Connection], Awaitable[None]]] = (),
        overlap: Overlapping | None = None,
        traits: VenueTraits = _NO_TRAITS,
        admit: Callable[[], Awaitable[None]] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.reconnection = ReconnectionState(backoff, policies)
        self._backoff = backoff
        self._policies = policies
        self.epoch = 0
        self.user_judges = False
        self._config = config
        self._credentials = Credentials(
            token, headers, of_url=endpoint.credentials, timeout_s=config.connect_timeout_s
        )
        self._clock = clock
        self._rng = rng
        self._sink = sink
        self._on_transition = on_transition
        self._outbox = outbox
        self._companions = (*companions, self._age)
        self._overlap = overlap
        self._traits = traits
        self._admit = admit
        self._tap = tap
        self._machine = StateMachine()
        self._live: Attempt | None = None
        self._retired: Attempt | None = None
        self._rollover: Rollover | None = None
        self._ended: FeedError | None = None
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._advancing = False
        self._close_after = False
        self._not_before = -math.inf
        self._scope = trio.CancelScope()

    @property
    def state(self) -> ConnectionState:
        return self._machine.state

    @property
    def connection(self) -> Connection | None:
        return None if self._live is None else self._live.connection

    def allows(self, event: ConnectionEvent) -> bool:
        return self._machine.allows(event)

    # --- what others tell it ---

    def data_is_valid(self, *, count: int = 1, judged: bool = True) -> None:
        """Valid data, `count` messages of it, has arrived: the connection has proved itself.

        Where the data is not `judged`, it is a success for the breaker only as the first of a
        connection and while the circuit is half-open; and if `user_judges`, it is none.
        """
        if self.reconnection.attempt_count:
            self.reconnection.proved()
        if self.breaker is not None and self._live is not None:
            self._live.data_is_valid(count=count, judged=judged, user_judges=self.user_judges)

    def data_is_malformed(self) -> None:
        """A message could not be decoded; the connection ends if that opens the breaker."""
        breaker = self.breaker
        if breaker is not None and self._live is not None and self._live.data_is_malformed():
            self.force(MalformedBurst(breaker.metrics.consecutive_failures))

    def force(self, error: ConnectionFailed) -> None:
        """Drop the live connection, if there is one, because of `error`; the loop goes on.

        A successor that is being made goes as well where this is a `ForcedDisconnect`.
        """
        if isinstance(error, ForcedDisconnect) and self._rollover is not None:
            self._rollover.abandon()
        if self.connection is not None:
            self.connection.force(error)

    def renew(self, reason: str) -> None:
        """Replace the live connection, because of `reason`: as if forced, where two may not be."""
        if self._overlap is None:
            self.force(ForcedDisconnect(reason))
        elif (
            self._nursery is not None
            and self._rollover is None
            and self.allows(ConnectionEvent.ROLLED_OVER)
        ):
            # A notice goes to many clients at once; they should not all come at once.
            jitter = self._rng.uniform(0.0, self._backoff.base_s) if self._backoff.jitter else 0.0
            # For ever: while the old connection lives, nothing is given up.
            failures = ReconnectionState(evolve(self._backoff, max_retries=0), self._policies)
            self._rollover = Rollover(
                reason,
                not_before=max(self._not_before, trio.current_time() + jitter),
                predecessor=self._retired,
                overlap=self._overlap,
                attempt=self._new_attempt,
                take_over=self._take_over,
                afterwards=self._age,
                judge=lambda error: self._rollover_failed(error, failures),
            )
            self._nursery.start_soon(self._roll_over, self._rollover)

    def close(self) -> None:
        """End for good: a live connection politely, everything else at once."""
        if self._advancing:
            self._close_after = True  # the observers of a transition may ask for the end
            return
        if self.allows(ConnectionEvent.CLOSE):
            self._advance(ConnectionEvent.CLOSE)
        self._closing = True
        if self._rollover is not None:
            self._rollover.close()
        if self.connection is not None:
            self.connection.close()
        else:
            self._scope.cancel()

    def closed(self) -> None:
        """Nothing is open any more: the last transition."""
        if self.state is not ConnectionState.CLOSED:
            if self.allows(ConnectionEvent.CLOSE):
                self._advance(ConnectionEvent.CLOSE)
            self._advance(ConnectionEvent.CLOSED)

    # --- the loop ---

    def start(self, event: ConnectionEvent) -> None:
        """Take the first step, `CONNECT` or `RECONNECT`; `run()` must follow."""
        self._scope = trio.CancelScope()
        self.reconnection = ReconnectionState(self._backoff, self._policies)
        self._advance(event)

    def abandon(self) -> None:
        """Drop everything at once; `run()` returns, and the state is `DISCONNECTED`."""
        self._scope.cancel()

    async def run(self, *, retry_first: bool) -> FeedError | None:
        """Connect again and again. Returns why it gave up, or `None` after `close()`.

        Without `retry_first`, a first attempt that fails is the end. When cancelled, the live
        connection is dropped at once and the state is `DISCONNECTED`.
        """
        why: FeedError | None = None
        try:
            with self._scope:
                if retry_first and self._not_before > trio.current_time():
                    await trio.sleep_until(self._not_before)  # the venue has asked for it
                if self._overlap is None:
                    why = await self._run(retry=retry_first)
                else:
                    async with trio.open_nursery() as self._nursery:
                        why = await self._run(retry=retry_first)
            return why
        finally:
            if self.allows(ConnectionEvent.GAVE_UP):
                self._advance(ConnectionEvent.GAVE_UP)

    async def _run(self, *, retry: bool) -> FeedError | None:
        while not self._closing:
            try:
                await self._attempt()
            except (ConnectionFailed, CircuitOpenError) as error:
                if not self.allows(ConnectionEvent.CLOSE):
                    break  # it was asked for in the meantime
                retry = retry or self.state is ConnectionState.CONNECTED
                self._heed(error)
                until = self._judge(error, self.reconnection) if retry else error
                if isinstance(until, FeedError):
                    self._advance(ConnectionEvent.GAVE_UP, error=error)
                    return until
                await self._wait(error, until=until)
        return None

    def _heed(self, error: ConnectionFailed | CircuitOpenError) -> None:
        """Remember until when the venue wants to be left alone."""
        asked: float | None = getattr(error, "retry_after_s", None)
        if asked is not None:
            self._not_before = trio.current_time() + asked

    def _judge(
        self, error: ConnectionFailed | CircuitOpenError, failures: ReconnectionState
    ) -> float | FeedError:
        """When to try again, in seconds of trio's clock; or why not to."""
        now = trio.current_time()
        if isinstance(error, CircuitOpenError):
            # While another's probe is out, `until` is already past.
            return max(error.until, now + failures.base_backoff)
        verdict = failures.failed(error, rng=self._rng)
        if isinstance(verdict, GiveUp):
            return verdict.error
        return max(now + verdict.delay_s, self._not_before)

    async def _attempt(self) -> None:
        """One connection, and those that replace it without a break, to the end of the last."""
        self._ended = None
        self._live = self._new_attempt(self._sink, self._companions, self._outbox())
        try:
            await self._live_on(self._live)
            error = await self._end()
        finally:
            self._live = self._rollover = self._retired = None
        if error is not None:
            raise error

    async def _end(self) -> FeedError | None:
        """Wait for the end of the last connection, and of those that were dropped with it."""
        while self._live is not None:
            await self._live.over.wait()
        if self._ended is not None:
            beside = None if self._rollover is None else self._rollover.attempt
            for other in (self._retired, beside):
                if other is not None and not other.over.is_set():
                    await other.over.wait()
        return self._ended

    def _new_attempt(
        self,
        sink: Sink,
        companions: Sequence[Callable[[Connection], Awaitable[None]]],
        outbox: Outbox,
    ) -> Attempt:
        def connection() -> Connection:
            return Connection(
                self.endpoint,
                self._config,
                epoch=self.epoch + 1,
                clock=self._clock,
                rng=self._rng,
                outbox=outbox,
                sink=sink,
                companions=companions,
                traits=self._traits,
                tap=self._tap,
            )

        return Attempt(
            connection,
            breaker=self.breaker,
            headers=self._credentials.headers,
            admit=self._admit,
        )

    async def _live_on(self, attempt: Attempt) -> None:
        error: FeedError | None = None
        try:
            await attempt.run(self._opened)
        except (ConnectionFailed, CircuitOpenError) as failure:
            error = failure
        self._has_ended(attempt, error)

    async def _roll_over(self, rollover: Rollover) -> None:
        error = await rollover.run()
        if self._rollover is rollover:
            self._rollover = None
        if rollover.adopted and rollover.attempt is not None:
            self._has_ended(rollover.attempt, error)

    def _has_ended(self, attempt: Attempt, error: FeedError | None) -> None:
        """Let an open successor take over; without one, this is the end of the attempt."""
        if attempt is not self._live:
            return  # its successor has taken over before
        rollover = self._rollover
        if error is not None and rollover is not None and rollover.is_open:
            self._take_over(lost=error)
            return
        self._live, self._ended = None, error
        if error is not None:
            if rollover is not None:
                rollover.abandon()
            if self._retired is not None:
                self._retired.drop()

    def _take_over(self, *, lost: FeedError | None = None) -> None:
        """Make the successor the live connection; the old one closes politely, if it still lives.

        What either of the two has brought until now is dealt with in the transition.
        """
        old, rollover = self._live, self._rollover
        if rollover is None or not (rollover.is_open and self.allows(ConnectionEvent.ROLLED_OVER)):
            return
        rollover.adopted = True
        self._live, self._retired, self._rollover = rollover.attempt, old, None
        if old is not None and old.connection is not None:
            old.connection.retire()
        if self.connection is not None:
            self.connection.deliver_to(self._sink)
        self.epoch += 1
        self.reconnection.established(now=trio.current_time())
        self._advance(ConnectionEvent.ROLLED_OVER, error=lost, reason=rollover.reason)

    def _rollover_failed(
        self, error: ConnectionFailed | CircuitOpenError, failures: ReconnectionState
    ) -> float | FeedError:
        self._heed(error)
        until = self._judge(error, failures)
        breaker_open = False
        if not isinstance(until, FeedError):
            until, breaker_open = self._not_before_breaker(until)
        if self.allows(ConnectionEvent.ROLLOVER_FAILED):
            self._advance(
                ConnectionEvent.ROLLOVER_FAILED,
                error=error,
                attempt=failures.attempt_count,
                next_attempt_at=None if isinstance(until, FeedError) else until,
                breaker_open=breaker_open,
            )
        return until

    def _opened(self) -> None:
        self.epoch += 1
        self.reconnection.established(now=trio.current_time())
        self._advance(ConnectionEvent.ESTABLISHED)

    def _not_before_breaker(self, until: float) -> tuple[float, bool]:
        """When to try again, and whether it is the open circuit that sets it."""
        open_until = self.breaker.open_until if self.breaker is not None else None
        if open_until is not None and open_until >= until:
            return open_until, True
        return until, False

    async def _wait(self, error: FeedError, *, until: float) -> None:
        until, breaker_open = self._not_before_breaker(until)
        event = (
            ConnectionEvent.LOST
            if self.state is ConnectionState.CONNECTED
            else ConnectionEvent.ATTEMPT_FAILED
        )
        self._advance(event, error=error, next_attempt_at=until, breaker_open=breaker_open)
        await trio.sleep_until(until)

    async def _age(self, connection: Connection) -> None:
        """A connection proves itself by living, and has a planned end where one is set."""
        stable_at = self.reconnection.stable_at
        lifetime = planned_life(self._config.max_lifetime_s, self._traits.max_lifetime_s, self._rng)
        expires_at = math.inf if lifetime is None else connection.opened_at + lifetime
        if stable_at is not None and stable_at <= expires_at:
            await trio.sleep_until(stable_at)
            if connection is self.connection:
                self.data_is_valid(judged=False)
        if lifetime is not None:
            await trio.sleep_until(expires_at)
            if connection is self.connection:  # and not replaced, and about to close
                self.renew(f"its planned life of {lifetime:g} s is over")

    def _advance(
        self,
        event: ConnectionEvent,
        *,
        error: FeedError | None = None,
        next_attempt_at: float | None = None,
        breaker_open: bool = False,
        attempt: int | None = None,
        reason: str | None = None,
    ) -> None:
        old, new = self._machine.advance(event)
        transition = Transition(
            old,
            new,
            event,
            at=trio.current_time(),
            epoch=self.epoch,
            error=error,
            failure=error.kind if isinstance(error, ConnectionFailed) else None,
            attempt=self.reconnection.attempt_count if attempt is None else attempt,
            next_attempt_at=next_attempt_at,
            breaker_open=breaker_open,
            reason=reason,
        )
        self._advancing = True
        try:
            self._on_transition(transition)
        finally:
            self._advancing = False
        if self._close_after:
            self._close_after = False
            self.close()
