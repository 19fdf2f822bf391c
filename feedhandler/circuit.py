"""A client behind a circuit breaker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

import trio

from feedhandler._core.breaker import CircuitBreaker, CircuitBreakerMetrics
from feedhandler._core.state import ConnectionState
from feedhandler._io.connection import Batch
from feedhandler._io.observer import Transitions
from feedhandler.client import WebSocketClient
from feedhandler.errors import CircuitOpenError, FeedError, ForcedDisconnect

__all__ = ["CircuitBreakerClient"]


class CircuitBreakerClient:
    """A `WebSocketClient` whose attempts to connect a `CircuitBreaker` allows or refuses.

    ```python
    client = CircuitBreakerClient(WebSocketClient(url), CircuitBreaker())
    async with client:
        await client.connect()
    ```

    `inner` must not have been connected yet. `metrics`, if given, are the ones that
    `circuit_breaker` counts in from now on. An attempt that fails, and a connection that is lost,
    are failures. The first data of a connection is a success, and so is each read while the
    circuit is half-open; unless you judge the messages yourself, with `record_success()` and
    `record_failure()`: from the first of these calls on only they count. While the circuit is open
    `connect()`, `reconnect_with_backoff()` on a client that is not connected, and `send()` without
    a connection fail fast with `CircuitOpenError`, which says until when; the reconnect loop of
    `inner` waits that long.
    """

    def __init__(
        self,
        inner: WebSocketClient,
        circuit_breaker: CircuitBreaker,
        metrics: CircuitBreakerMetrics | None = None,
    ) -> None:
        if metrics is not None:
            circuit_breaker.metrics = metrics
        inner.guard_with(circuit_breaker)
        self.inner = inner
        self.circuit_breaker = circuit_breaker

    def __repr__(self) -> str:
        return f"<CircuitBreakerClient {self.circuit_breaker!r} {self.inner!r}>"

    @property
    def metrics(self) -> CircuitBreakerMetrics:
        return self.circuit_breaker.metrics

    @property
    def connection_state(self) -> ConnectionState:
        return self.inner.connection_state

    @property
    def is_connected(self) -> bool:
        return self.inner.is_connected

    async def __aenter__(self) -> CircuitBreakerClient:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self.inner.__aexit__(kind, error, traceback)

    async def connect(self) -> None:
        """As `WebSocketClient.connect()`; raises `CircuitOpenError` at once while it is open."""
        await self.inner.connect()

    async def reconnect_with_backoff(self) -> None:
        """As `WebSocketClient.reconnect_with_backoff()`; fails fast as the class says."""
        self._fail_fast()
        await self.inner.reconnect_with_backoff()

    async def disconnect(self) -> None:
        """As `WebSocketClient.disconnect()`."""
        await self.inner.disconnect()

    async def send(self, message: str | bytes) -> None:
        """As `WebSocketClient.send()`; fails fast as the class says."""
        self._fail_fast()
        await self.inner.send(message)

    def record_success(self) -> None:
        """Tell the breaker that what came over the connection is good."""
        self.inner.judge_by_hand()
        self.circuit_breaker.record_success(None, now=trio.current_time())

    def record_failure(self, error: FeedError) -> None:
        """Tell the breaker that what came is bad, such as a `DecodeError`.

        Where that opens the circuit, the connection is dropped; the reconnect waits for it.
        """
        self.inner.judge_by_hand()
        breaker = self.circuit_breaker
        breaker.record_failure(None, now=trio.current_time())
        if breaker.open_until is not None:
            self.inner.drop(ForcedDisconnect(f"the circuit opened: {error}"))

    def transitions(self) -> Transitions:
        return self.inner.transitions()

    def batches(self) -> AsyncIterator[Batch]:
        return self.inner.batches()

    def __aiter__(self) -> WebSocketClient:
        return self.inner

    async def __anext__(self) -> str | bytes:
        return await self.inner.__anext__()

    def _fail_fast(self) -> None:
        now = trio.current_time()
        until = self.circuit_breaker.open_until
        if until is not None and now < until and not self.is_connected:
            self.circuit_breaker.metrics.rejections += 1
            raise CircuitOpenError(until, now=now)
