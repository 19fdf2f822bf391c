"""One connection: its nursery, with the reader, the writer, the heartbeat and the watchdog."""

from __future__ import annotations

import base64
import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes, urlsplit

import trio
from attrs import field, frozen

from feedhandler._core.allowance import message_bucket
from feedhandler._core.liveness import Liveness
from feedhandler._core.redaction import redact_url
from feedhandler._io.outbox import Outbox
from feedhandler._io.pacer import Pacer
from feedhandler._io.wire import Wire
from feedhandler.abc import Clock, ConnectionTap, Dialer, DialTarget, Tap
from feedhandler.config import ConnectionConfig, check_url
from feedhandler.errors import (
    ConnectionFailed,
    ConnectionLost,
    DialError,
    FeedError,
    HandshakeTimeout,
)
from feedhandler.traits import KeepAlive, VenueTraits

__all__ = ["Batch", "Connection", "Endpoint", "Sink"]

_AHEAD_BYTES = 262_144  # that are read while the consumer is full
_NO_TRAITS = VenueTraits()

Headers = Sequence[tuple[str, str]]


@frozen
class Batch:
    """The messages of one read, in order: `str` for text, `bytes` for binary.

    `size` is what they took on the wire, in bytes. `recv_ns` was taken at the read.
    """

    messages: Sequence[str | bytes] = field(repr=lambda messages: f"<{len(messages)}>")
    size: int
    recv_ns: int
    epoch: int


class Sink(Protocol):
    """Where batches go. `post()` takes each at once; reading waits while it is `full`.

    It tells whether there was data in the batch: a heartbeat of the venue's is none.
    """

    def post(self, batch: Batch, /) -> bool: ...

    @property
    def full(self) -> bool: ...

    async def wait_room(self) -> None: ...


class _Drain:
    """Drops what it is given."""

    full = False

    def post(self, batch: Batch) -> bool:
        return False

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()


@frozen
class Endpoint:
    """A venue's address, and how to get there. Its `repr` shows no credentials."""

    url: str = field(repr=redact_url)
    dial: Dialer = field(repr=False)
    ssl_context: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def of(cls, url: str, dial: Dialer, ssl_context: ssl.SSLContext | None) -> Endpoint:
        """Check the URL; make a context that trusts what the system trusts where none is given."""
        check_url(url)
        if ssl_context is None and urlsplit(url).scheme == "wss":
            ssl_context = ssl.create_default_context()
        return cls(url, dial, ssl_context)

    @property
    def target(self) -> DialTarget:
        parts = urlsplit(self.url)
        secure = parts.scheme == "wss"
        return DialTarget(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            self.ssl_context if secure else None,
        )

    @property
    def credentials(self) -> list[tuple[str, str]]:
        """The header for the URL's user part, if it has one (RFC 7617)."""
        user, at, _ = urlsplit(self.url).netloc.rpartition("@")
        if not at:
            return []
        basic = base64.b64encode(unquote_to_bytes(user if ":" in user else f"{user}:")).decode()
        return [("Authorization", f"Basic {basic}")]

    @property
    def host_header(self) -> str:
        """Host and port, without the user part (RFC 9110, section 7.2)."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def resource(self) -> str:
        """Path and query (RFC 6455, section 3)."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Connection:
    """One attempt to connect, and what comes of it.

    `run()` ends when the connection does. Whatever ends it, a failure, a deadline or a call of
    `force()`, records its reason and cancels one scope; nothing is raised through the nursery.

    What the venue's `traits` ask for is done here: no more messages a second than it takes,
    whoever sends them, its keep-alive, and an end to a silence that it never keeps.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: ConnectionConfig,
        *,
        epoch: int,
        clock: Clock,
        rng: Random,
        outbox: Outbox,
        sink: Sink,
        companions: Sequence[Callable[[Connection], Awaitable[None]]] = (),
        traits: VenueTraits = _NO_TRAITS,
        tap: Tap | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self._config = config
        self._clock = clock
        self._rng = rng
        self._outbox = outbox
        self._sink = sink
        self._companions = companions
        self._scope = trio.CancelScope()
        self._error: ConnectionFailed | None = None
        self._close_requested = trio.Event()
        self._wire: Wire | None = None
        self._traits = traits
        self._tap = tap
        self._tapped: ConnectionTap | None = None
        bucket = message_bucket(traits.limits)
        self._pacer = None if bucket is None else Pacer(bucket)
        self._liveness = Liveness(config, now=trio.current_time())
        self._announced = trio.Event()
        self._ahead: deque[Batch] = deque()
        self._ahead_bytes = 0
        # Where the consumer was full before, nothing is read until it is not, or each connection
        # would add to what waits.
        self._ahead_limit = 0 if sink.full else _AHEAD_BYTES
        self._ahead_changed = trio.Event()
        self._resumed = trio.Event()
        self._pings = 0
        self.opened_at = math.inf

    def __repr__(self) -> str:
        state = "live" if self._wire and self._wire.opened.is_set() else "opening"
        return f"<Connection {state} epoch={self.epoch} {redact_url(self.endpoint.url)}>"

    def force(self, error: ConnectionFailed) -> None:
        """Drop the connection at once, without a closing handshake; `run()` raises `error`."""
        if self._error is None:
            self._error = error
        self._scope.cancel()

    def close(self) -> None:
        """Close politely, within `close_timeout_s`; `run()` then returns."""
        self._close_requested.set()
        if self._wire is None or not self._wire.opened.is_set():
            self._scope.cancel()

    def deliver_to(self, sink: Sink) -> None:
        """Hand over to `sink` from now on, also what was read ahead."""
        self._sink = sink

    def retire(self) -> None:
        """Close politely; what still comes is dropped, because another connection delivers it."""
        self._sink = _Drain()
        self.close()

    async def send(self, message: str | bytes) -> None:
        """Write one message, when it is its turn by the venue's limit.

        To be called by companions only: being cancelled breaks the stream. Raises `ConnectionLost`.
        """
        if self._wire is None:
            raise ConnectionLost("the connection is not open")
        if self._pacer is not None:
            await self._pacer.turn()
        if self._tapped is not None:
            self._tapped.sent(message, at_ns=self._clock.time_ns())
        await self._wire.send(message)

    async def run(self, opened: Callable[[], None], *, headers: Headers = ()) -> None:
        """Connect, call `opened`, and live until the end.

        Returns after `close()`; raises the one `ConnectionFailed` that ended it otherwise.
        Cancel-safe: the stream is closed, at once, and nothing is left.
        """
        stream: trio.abc.Stream | None = None
        try:
            with self._scope:
                with trio.move_on_after(self._config.connect_timeout_s) as deadline:
                    stream = await self._dial()
                if stream is None:
                    raise HandshakeTimeout(self._config.connect_timeout_s)
                await self._live(stream, deadline.deadline, opened, headers)
        finally:
            while self._ahead:  # what was received is not lost with the connection
                self._post_ahead()
            if self._tapped is not None:
                self._tapped.closed(self._error, at_ns=self._clock.time_ns())
            if stream is not None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
        if self._error is not None and not self._close_requested.is_set():
            raise self._error

    async def _dial(self) -> trio.abc.Stream:
        try:
            return await self.endpoint.dial(self.endpoint.target)
        except FeedError:
            raise
        except OSError as error:
            raise DialError(f"dialling failed: {error.strerror or type(error).__name__}") from error
        except Exception as error:  # whatever a proxy's library raises, and quotes
            raise DialError(f"dialling failed: {type(error).__name__}") from error

    async def _live(
        self,
        stream: trio.abc.Stream,
        connect_by: float,
        opened: Callable[[], None],
        headers: Headers,
    ) -> None:
        wire = self._wire = Wire(
            stream,
            max_message_bytes=self._config.max_message_bytes,
            clock=self._clock,
            close_timeout_s=self._config.close_timeout_s,
            rng=self._rng,
            deliver=self._deliver,
            room=self._room,
            heard=lambda: self._liveness.frame(trio.current_time()),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, wire, headers)
            with trio.move_on_at(connect_by) as deadline:
                await wire.opened.wait()
            if deadline.cancelled_caught:
                self.force(HandshakeTimeout(self._config.connect_timeout_s))
                await trio.sleep_forever()
            self.opened_at = trio.current_time()
            if self._tap is not None:
                self._tap_opened(self._tap)
            self._liveness = Liveness(
                self._config, now=self.opened_at, silence_s=self._traits.silence_s
            )
            if not self._close_requested.is_set():
                opened()
                self._announced.set()
                nursery.start_soon(self._guard, self._outbox.write_all, self.send)
                nursery.start_soon(self._watch, wire, nursery)
                nursery.start_soon(self._hand_over)
                if self._traits.keep_alive is not None:
                    nursery.start_soon(self._guard, self._keep_alive, self._traits.keep_alive)
                for companion in self._companions:
                    nursery.start_soon(self._guard, companion, self)
            await self._close_requested.wait()
            with trio.move_on_after(self._config.close_timeout_s):
                if self._announced.is_set():
                    await self._outbox.wait_empty()
                await wire.close()
            self._scope.cancel()

    async def _read(self, wire: Wire, headers: Headers) -> None:
        await wire.run(
            host=self.endpoint.host_header, resource=self.endpoint.resource, headers=headers
        )
        if wire.error is not None and not wire.closing:
            self.force(wire.error)

    async def _guard(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a task whose `ConnectionFailed` is the end of this connection."""
        try:
            await task(*args)
        except ConnectionFailed as error:
            # What broke the wire is known to the reader, and better.
            self.force((self._wire and self._wire.error) or error)

    async def _keep_alive(self, dialect: KeepAlive) -> None:
        """Say what the venue wants to hear, at its interval, also while nobody reads."""
        due = self.opened_at
        while True:
            # Its turn may come late; the next one is not late for that, nor are many sent at once.
            due = max(due + dialect.every_s, trio.current_time())
            await trio.sleep_until(due)
            await self.send(dialect.message)

    def _deliver(self, messages: list[str | bytes], size: int, recv_ns: int) -> None:
        self._liveness.message()
        if self._tap is not None:
            self._tap_opened(self._tap).received(messages, recv_ns=recv_ns)
        batch = Batch(messages, size, recv_ns, self.epoch)
        if self._announced.is_set() and not self._ahead and not self._sink.full:
            self._post(batch)
            return
        # The consumer is full. A little is read ahead, so that pings are answered meanwhile. (Or
        # the first data came in the same read as the 101, before that was announced.)
        self._ahead.append(batch)
        self._ahead_bytes += size
        self._ahead_changed.set()
        self._liveness.data(trio.current_time())

    def _tap_opened(self, tap: Tap) -> ConnectionTap:
        """What taps this connection; the first data may come before we know that it is open."""
        if self._tapped is None:
            self._tapped = tap.opened(self.endpoint.url, at_ns=self._clock.time_ns())
        return self._tapped

    def _room(self) -> Awaitable[None] | None:
        """What to wait for before more is read, if anything."""
        return None if self._ahead_bytes < self._ahead_limit else self._wait_room()

    async def _wait_room(self) -> None:
        """Nothing is read until there is room, so no deadline may run."""
        self._liveness.paused(trio.current_time())
        try:
            while self._ahead_bytes >= self._ahead_limit:
                if self._ahead_limit == 0 and not self._ahead:
                    await self._sink.wait_room()
                    self._ahead_limit = _AHEAD_BYTES
                    continue
                self._ahead_changed = trio.Event()
                await self._ahead_changed.wait()
        finally:
            self._liveness.resumed(trio.current_time())
            self._resumed.set()

    def _post(self, batch: Batch) -> None:
        if self._sink.post(batch):
            self._liveness.data(trio.current_time())

    async def _hand_over(self) -> None:
        """Hand over what was read ahead, as there is room for it."""
        while True:
            while self._ahead:
                if self._sink.full:
                    await self._sink.wait_room()
                self._post_ahead()
            self._ahead_changed = trio.Event()
            await self._ahead_changed.wait()

    def _post_ahead(self) -> None:
        batch = self._ahead.popleft()
        self._ahead_bytes -= batch.size
        self._post(batch)
        self._ahead_changed.set()

    async def _watch(self, wire: Wire, nursery: trio.Nursery) -> None:
        while True:
            check = self._liveness.poll(trio.current_time())
            if check.failure is not None:
                self.force(check.failure)
            if check.ping:
                nursery.start_soon(self._ping, wire)
            self._resumed = trio.Event()
            with trio.move_on_at(check.wake_at):
                await self._resumed.wait()

    async def _ping(self, wire: Wire) -> None:
        self._pings += 1
        if await wire.ping(self._pings.to_bytes(4, "big")):
            self._liveness.pong(trio.current_time())
