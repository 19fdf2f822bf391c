"""The reconnect loop: connection after connection, with back-off and breaker between them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import trio

from feedhandler._core.backoff import GiveUp, ReconnectionState
from feedhandler._core.breaker import CircuitBreaker, CircuitState, Permit
from feedhandler._core.failure import FailurePolicy
from feedhandler._core.state import ConnectionEvent, ConnectionState, StateMachine, Transition
from feedhandler._io.connection import Connection, Endpoint, Sink
from feedhandler._io.outbox import Outbox
from feedhandler.abc import Clock, TokenProvider
from feedhandler.config import BackoffConfig, ConnectionConfig, check_headers, check_token
from feedhandler.errors import (
    CircuitOpenError,
    ConfigError,
    ConnectionFailed,
    DialError,
    FailureKind,
    FeedError,
    ForcedDisconnect,
    InvalidToken,
    MalformedBurst,
)

__all__ = ["Supervisor"]


class Supervisor:
    """Makes connections, one at a time, from `run()`'s start until it is closed or gives up.

    The state machine is its only state that others see. `on_transition` is called at each step,
    synchronously, so nobody can miss one.
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
    ) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.reconnection = ReconnectionState(backoff, policies)
        self._backoff = backoff
        self._policies = policies
        self.connection: Connection | None = None
        self.epoch = 0
        self.user_judges = False
        self._config = config
        self._token = check_token(token) if isinstance(token, str) else token
        self._headers = check_headers(headers)
        if not any(name.lower() == "authorization" for name, _ in headers):
            self._headers += tuple(endpoint.credentials)
        self._clock = clock
        self._rng = rng
        self._sink = sink
        self._on_transition = on_transition
        self._outbox = outbox
        self._companions = (*companions, self._prove_by_time)
        self._machine = StateMachine()
        self._permit: Permit | None = None
        self._closing = False
        self._advancing = False
        self._close_after = False
        self._not_before = -math.inf
        self._scope = trio.CancelScope()

    @property
    def state(self) -> ConnectionState:
        return self._machine.state

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
        breaker = self.breaker
        if breaker is None:
            return
        now = trio.current_time()
        until = breaker.open_until
        if until is not None and now >= until:
            # The circuit was opened by hand while the connection lives: it is the probe itself.
            self._permit = breaker.acquire(now=now)
        probing = self._permit is not None or breaker.state is CircuitState.HALF_OPEN
        if judged or (probing and not self.user_judges):
            breaker.record_success(self._permit, now=now, weight=count)
            self._permit = None

    def data_is_malformed(self) -> None:
        """A message could not be decoded; the connection ends if that opens the breaker."""
        breaker = self.breaker
        if breaker is None or breaker.state is CircuitState.OPEN:
            return
        breaker.record_failure(self._permit, now=trio.current_time())
        self._permit = None
        if breaker.open_until is not None:
            self.force(MalformedBurst(breaker.metrics.consecutive_failures))

    def force(self, error: ConnectionFailed) -> None:
        """Drop the live connection, if there is one, because of `error`; the loop goes on."""
        if self.connection is not None:
            self.connection.force(error)

    def close(self) -> None:
        """End for good: a live connection politely, everything else at once."""
        if self._advancing:
            self._close_after = True  # the observers of a transition may ask for the end
            return
        if self.allows(ConnectionEvent.CLOSE):
            self._advance(ConnectionEvent.CLOSE)
        self._closing = True
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
        retry = retry_first
        try:
            with self._scope:
                if retry_first and self._not_before > trio.current_time():
                    await trio.sleep_until(self._not_before)  # the venue has asked for it
                while not self._closing:
                    try:
                        await self._attempt()
                    except (ConnectionFailed, CircuitOpenError) as error:
                        retry = retry or self.state is ConnectionState.CONNECTED
                        asked: float | None = getattr(error, "retry_after_s", None)
                        if asked is not None:
                            self._not_before = trio.current_time() + asked
                        until = self._judge(error) if retry else error
                        if isinstance(until, FeedError):
                            self._advance(ConnectionEvent.GAVE_UP, error=error)
                            return until
                        await self._wait(error, until=until)
            return None
        finally:
            if self.allows(ConnectionEvent.GAVE_UP):
                self._advance(ConnectionEvent.GAVE_UP)

    def _judge(self, error: ConnectionFailed | CircuitOpenError) -> float | FeedError:
        """When to try again, in seconds of trio's clock; or why not to."""
        now = trio.current_time()
        if isinstance(error, CircuitOpenError):
            # While another's probe is out, `until` is already past.
            return max(error.until, now + self.reconnection.base_backoff)
        verdict = self.reconnection.failed(error, rng=self._rng)
        return verdict.error if isinstance(verdict, GiveUp) else now + verdict.delay_s

    async def _attempt(self) -> None:
        """One connection, from the breaker's permit to its end."""
        breaker = self.breaker
        if breaker is not None:
            self._permit = breaker.acquire(now=trio.current_time())
        try:
            headers = await self._headers_with_token()
            self.connection = Connection(
                self.endpoint,
                self._config,
                epoch=self.epoch + 1,
                clock=self._clock,
                rng=self._rng,
                outbox=self._outbox(),
                sink=self._sink,
                companions=self._companions,
            )
            await self.connection.run(self._opened, headers=headers)
        except ForcedDisconnect:
            raise  # our own doing says nothing about the venue
        except ConnectionFailed as error:
            if breaker is not None and error.kind is not FailureKind.MALFORMED_DATA:
                breaker.record_failure(self._permit, now=trio.current_time())
                self._permit = None
            raise
        finally:
            self.connection = None
            if breaker is not None and self._permit is not None:
                breaker.release(self._permit, now=trio.current_time())
                self._permit = None

    def _opened(self) -> None:
        self.epoch += 1
        self.reconnection.established(now=trio.current_time())
        self._advance(ConnectionEvent.ESTABLISHED)

    async def _headers_with_token(self) -> list[tuple[str, str]]:
        token = self._token
        if token is None:
            return list(self._headers)
        if not isinstance(token, str):
            try:
                with trio.fail_after(self._config.connect_timeout_s):
                    token = await token()
            except ConnectionFailed:
                raise
            except Exception as error:  # whatever the library behind it raises
                raise DialError(f"the token provider failed: {type(error).__name__}") from error
            try:
                check_token(token)
            except ConfigError as error:
                raise InvalidToken(f"the token provider gave what is no token: {error}") from error
        others = [(n, v) for n, v in self._headers if n.lower() != "authorization"]
        return [*others, ("Authorization", f"Bearer {token}")]

    async def _wait(self, error: FeedError, *, until: float) -> None:
        breaker_open = False
        if self.breaker is not None:
            open_until = self.breaker.open_until
            breaker_open = open_until is not None and open_until >= until
            if breaker_open and open_until is not None:
                until = open_until
        event = (
            ConnectionEvent.LOST
            if self.state is ConnectionState.CONNECTED
            else ConnectionEvent.ATTEMPT_FAILED
        )
        self._advance(event, error=error, next_attempt_at=until, breaker_open=breaker_open)
        await trio.sleep_until(until)

    async def _prove_by_time(self, connection: Connection) -> None:
        stable_at = self.reconnection.stable_at
        if stable_at is not None:
            await trio.sleep_until(stable_at)
            self.data_is_valid(judged=False)

    def _advance(
        self,
        event: ConnectionEvent,
        *,
        error: FeedError | None = None,
        next_attempt_at: float | None = None,
        breaker_open: bool = False,
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
            attempt=self.reconnection.attempt_count,
            next_attempt_at=next_attempt_at,
            breaker_open=breaker_open,
        )
        self._advancing = True
        try:
            self._on_transition(transition)
        finally:
            self._advancing = False
        if self._close_after:
            self._close_after = False
            self.close()
