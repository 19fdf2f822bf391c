"""A WebSocket client that keeps its connection alive: raw messages in, raw messages out."""

from __future__ import annotations

import contextlib
import ssl
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random, SystemRandom
from types import TracebackType
from typing import NoReturn

import trio
from attrs import evolve

from feedhandler._core.breaker import CircuitBreaker
from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy
from feedhandler._core.redaction import redact_url
from feedhandler._core.state import ConnectionEvent, ConnectionState, Transition
from feedhandler._io.clock import SystemClock
from feedhandler._io.connection import Batch, Endpoint
from feedhandler._io.dial import dial_tcp
from feedhandler._io.iteration import Iteration, Unbatched
from feedhandler._io.mailbox import Mailbox
from feedhandler._io.nursery import open_plain_nursery
from feedhandler._io.observer import Transitions
from feedhandler._io.outbox import Outbox
from feedhandler._io.supervisor import Supervisor
from feedhandler.abc import Clock, Dialer, TokenProvider
from feedhandler.config import BackoffConfig, ConnectionConfig
from feedhandler.errors import (
    AlreadyConnected,
    ClientClosed,
    ConnectionFailed,
    FailureKind,
    FeedError,
    ForcedDisconnect,
    NotConnected,
    SendQueueFull,
    UsageError,
)

__all__ = ["WebSocketClient"]

_S = ConnectionState


class WebSocketClient(Unbatched[str | bytes]):
    """A WebSocket connection that is made again when it is lost.

    ```python
    async with WebSocketClient("wss://example.com/feed") as client:
        await client.connect()
        async for message in client:
            ...
    ```

    `url` is ``ws://`` or ``wss://``. `token` is a bearer token, or an async function that gives
    one and is asked anew before each attempt. `headers` are sent with each opening handshake.
    `dial` makes the byte stream (default: TCP, and TLS for ``wss``, with `ssl_context`). `clock`
    stamps what is received and `rng` draws jitter, masks and keys.

    Raises `ConfigError` for a URL that cannot work, before anything is connected.

    Leaving the block closes politely within `close_timeout_s`; leaving it with an exception or a
    cancellation drops the connection at once. Either way nothing of it runs afterwards.
    """

    def __init__(
        self,
        url: str,
        *,
        config: ConnectionConfig | None = None,
        backoff: BackoffConfig | None = None,
        policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES,
        token: str | TokenProvider | None = None,
        headers: Sequence[tuple[str, str]] = (),
        ssl_context: ssl.SSLContext | None = None,
        dial: Dialer = dial_tcp,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        super().__init__()
        self._config = config or ConnectionConfig()
        endpoint = Endpoint.of(url, dial, ssl_context)
        self._mailbox: Mailbox[Batch] = Mailbox(
            max_count=self._config.buffer_messages, max_bytes=self._config.buffer_bytes
        )
        self._outbox = Outbox(self._config.send_queue_messages)
        self._observers: weakref.WeakSet[Transitions] = weakref.WeakSet()
        self._step = trio.Event()
        self._result: FeedError | None = None
        self._running = False
        self._nursery: trio.Nursery | None = None
        self._exit = contextlib.AsyncExitStack()
        self._batch: Batch | None = None
        self._supervisor = Supervisor(
            endpoint,
            config=self._config,
            backoff=backoff or BackoffConfig(),
            policies=policies,
            breaker=None,
            token=token,
            headers=headers,
            clock=clock or SystemClock(),
            rng=rng or SystemRandom(),
            sink=self,
            on_transition=self._on_transition,
            outbox=lambda: self._outbox,
        )

    def __repr__(self) -> str:
        state = self.connection_state.name
        return (
            f"<WebSocketClient {state} {redact_url(self._supervisor.endpoint.url)} "
            f"epoch={self._supervisor.epoch} waiting={self._mailbox.count}>"
        )

    # --- life ---

    async def __aenter__(self) -> WebSocketClient:
        if self._nursery is not None or self.connection_state is _S.CLOSED:
            raise ClientClosed("this client was used already; make a new WebSocketClient(url)")
        self._nursery = await self._exit.enter_async_context(open_plain_nursery())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            if error is None:
                self._exit.push_async_callback(self.disconnect)
            return await self._exit.__aexit__(kind, error, traceback)
        finally:
            self._supervisor.closed()
            self._mailbox.close()

    async def connect(self) -> None:
        """Make the connection: one attempt.

        Raises the `ConnectionFailed` that it met (the state is then `DISCONNECTED`, and
        `connect()` may be called again), `AlreadyConnected`, or `ClientClosed`. When cancelled it
        leaves nothing open.
        """
        self._check_not_closed()
        if self.connection_state is not _S.DISCONNECTED or self._running:
            raise AlreadyConnected(
                f"this client is {self.connection_state.value}; to make a new connection call "
                "`await client.reconnect_with_backoff()`, for a second one make another client"
            )
        await self._start(ConnectionEvent.CONNECT)

    async def reconnect_with_backoff(self) -> None:
        """Make a new connection, with retries; a live one is dropped first.

        Any number of concurrent calls make one reconnect. Returns when it is connected; raises
        `RetriesExhausted` or the fatal `ConnectionFailed` when that will not be, and
        `ClientClosed`. When cancelled, the reconnect that others wait for goes on.
        """
        self._check_not_closed()
        state = self.connection_state
        epoch = self._supervisor.epoch
        if not self._running:
            self._launch(ConnectionEvent.RECONNECT)
        elif state is _S.CONNECTED:
            self._supervisor.force(ForcedDisconnect("a reconnect was asked for"))
        while self._supervisor.epoch == epoch:
            if not self._running:
                await self._raise_result()
            self._check_not_closed()
            await self._step.wait()
        await trio.lowlevel.checkpoint()

    async def disconnect(self) -> None:
        """Close for good: politely within `close_timeout_s`, and at once if not connected.

        Messages that have been received can still be read. May be called again, and by several
        tasks. When cancelled, the connection is dropped at once.
        """
        try:
            if self.connection_state is not _S.CLOSED:
                self._supervisor.close()
            while self._running:
                await self._step.wait()
        except trio.Cancelled:
            self._supervisor.force(ForcedDisconnect("closing was cancelled"))
            raise
        self._supervisor.closed()
        self._mailbox.close()
        await trio.lowlevel.checkpoint()

    # --- state ---

    @property
    def connection_state(self) -> ConnectionState:
        return self._supervisor.state

    @property
    def is_connected(self) -> bool:
        return self.connection_state is _S.CONNECTED

    @property
    def epoch(self) -> int:
        """How many connections were established."""
        return self._supervisor.epoch

    @property
    def last_error(self) -> FeedError | None:
        """Why there is no connection, when it gave up."""
        return self._result

    @property
    def reconnection(self) -> tuple[int, float, float]:
        """`attempt_count`, `current_backoff` and `base_backoff`, the last two in seconds."""
        state = self._supervisor.reconnection
        return state.attempt_count, state.current_backoff, state.base_backoff

    @property
    def unsent(self) -> int:
        """How many messages are queued and not written yet."""
        return len(self._outbox)

    def transitions(self) -> Transitions:
        """An async iterator over all transitions from now on."""
        observer = Transitions(over=self.connection_state is _S.CLOSED)
        self._observers.add(observer)
        return observer

    def drop(self, error: ConnectionFailed) -> None:
        """Drop the live connection at once because of `error`; it is then made again."""
        self._supervisor.force(error)

    def guard_with(self, breaker: CircuitBreaker) -> None:
        """Let `breaker` decide on each attempt to connect; to be called before the first."""
        if self._running:
            raise AlreadyConnected("attach the circuit breaker before `await client.connect()`")
        self._supervisor.breaker = breaker

    def judge_by_hand(self) -> None:
        """What is received is no success for the circuit breaker by itself any more."""
        self._supervisor.user_judges = True

    # --- messages ---

    async def send(self, message: str | bytes) -> None:
        """Queue `message`; it is written in order, now or after the reconnect.

        While connected, waits for room in the queue. While reconnecting, a full queue is
        `SendQueueFull`. Raises `NotConnected` when there is no connection and none is being
        made, and `UsageError` for what is no message. If cancelled before it returns, nothing was
        queued. A message whose writing is interrupted by a disconnect is sent again. What is
        queued when the client is closed goes out first, as far as `close_timeout_s` allows;
        `unsent` counts the rest.
        """
        await trio.lowlevel.checkpoint()
        _check_message(message)
        while True:
            if not self._running or self.connection_state in (_S.CLOSING, _S.CLOSED):
                raise NotConnected("nothing is connected; call `await client.connect()` first")
            try:
                self._outbox.post(message)
                return
            except SendQueueFull:
                if not self.is_connected:
                    raise
            await self._outbox.wait_change()

    def batches(self) -> AsyncIterator[Batch]:
        """Iterate over what was received, a batch for each read: the fast way.

        Ends when the client was closed. Raises `RetriesExhausted`, or the fatal
        `ConnectionFailed`, when the connection is gone for good, after what was received before.
        There is a checkpoint for each batch.
        """
        return Iteration(self._next_batch)

    async def _take_batch(self) -> Sequence[str | bytes] | None:
        batch = self._batch = await self._next_batch()
        return None if batch is None else batch.messages

    async def _next_batch(self) -> Batch | None:
        if self._current or self._mailbox.ready or not self._running:
            await trio.lowlevel.checkpoint()  # else the wait below is one
        if self._current and self._batch is not None:
            return evolve(self._batch, messages=self._rest())
        while True:
            batch = self._mailbox.take()
            if batch is not None:
                return batch
            if self._mailbox.closed:
                # It may have been closed because everything is being cancelled.
                await trio.lowlevel.checkpoint_if_cancelled()
                return None
            if not self._running:
                await self._raise_result()
            await self._mailbox.wait_arrival()

    # --- the sink of its supervisor ---

    def post(self, batch: Batch) -> bool:
        """A batch has been read; called by the connection."""
        self._supervisor.data_is_valid(judged=False)
        self._mailbox.post(batch, count=len(batch.messages), size=batch.size)
        return True

    @property
    def full(self) -> bool:
        return self._mailbox.full

    async def wait_room(self) -> None:
        await self._mailbox.wait_room()

    # --- inside ---

    def _launch(self, event: ConnectionEvent) -> None:
        if self._nursery is None:
            raise NotConnected(
                "enter the client first: `async with WebSocketClient(url) as client:`"
            )
        self._running = True
        self._result = None
        self._supervisor.start(event)
        self._nursery.start_soon(self._run, event)

    async def _run(self, event: ConnectionEvent) -> None:
        try:
            self._result = await self._supervisor.run(
                retry_first=event is ConnectionEvent.RECONNECT
            )
        finally:
            self._running = False
            if self.connection_state is _S.CLOSING:
                # Also where whoever asked for the end no longer waits for it.
                self._supervisor.closed()
                self._mailbox.close()
            self._mailbox.nudge()
            self._notify()

    async def _start(self, event: ConnectionEvent) -> None:
        self._launch(event)
        try:
            while self.connection_state is _S.CONNECTING:
                await self._step.wait()
        except trio.Cancelled:
            self._supervisor.abandon()
            with trio.CancelScope(shield=True):  # bounded: it only closes a stream
                while self._running:
                    await self._step.wait()
            raise
        if not self._running:
            await self._raise_result()
        self._check_not_closed()

    def _check_not_closed(self) -> None:
        if self.connection_state in (_S.CLOSING, _S.CLOSED):
            raise ClientClosed("this client is closed; make a new WebSocketClient(url)")

    async def _raise_result(self) -> NoReturn:
        # The connection may have ended because everything is being cancelled.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._result is not None:
            raise self._result
        self._check_not_closed()
        raise NotConnected("nothing is connected; call `await client.connect()` first")

    def _on_transition(self, transition: Transition) -> None:
        for observer in self._observers:
            observer.post(transition)
        self._notify()

    def _notify(self) -> None:
        step, self._step = self._step, trio.Event()
        step.set()
        self._outbox.wake()


def _check_message(message: str | bytes) -> None:
    if isinstance(message, str):
        if not message.isascii():
            try:
                message.encode()
            except UnicodeEncodeError as error:
                raise UsageError(f"text must be valid Unicode to be sent: {error.reason}") from None
    elif not isinstance(message, bytes):
        raise UsageError(
            f"a message is text (str) or bytes, not {type(message).__name__}; "
            "encode it first, for example with json.dumps(message)"
        )
