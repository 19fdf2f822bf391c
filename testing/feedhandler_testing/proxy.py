"""A TCP proxy that puts the faults of the bytes between any two programs."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

import trio
from attrs import frozen

from feedhandler._io.nursery import open_plain_nursery
from feedhandler.errors import ConfigError, ConnectionFailed, ConnectionRefused, UsageError
from feedhandler_testing.board import FaultBoard, Injection, PlacedFault
from feedhandler_testing.checks import check_seed
from feedhandler_testing.faults.base import Fault, Layer, fault_kinds, kind_of
from feedhandler_testing.faults.bytes import Stall
from feedhandler_testing.relay import ProxiedConnection
from feedhandler_testing.streams import reset_stream
from feedhandler_testing.triggers import AT_ONCE, All, Messages, OnEvent, Trigger

__all__ = ["FaultProxy", "ProxyObserver", "ProxyStatistics", "byte_faults", "check_injection"]

_EVENTS = frozenset({"dialled", "accepted", "closed"})


class ProxyObserver(Protocol):
    """Who is told of everything that happens at a proxy, at once and in order."""

    def opened(self, connection: ProxiedConnection) -> None:
        """A client is connected through to the server."""

    def closed(self, connection: ProxiedConnection) -> None:
        """It no longer is; `connection.why` says how it ended (empty: the proxy has stopped)."""

    def refused(self, attempt: int, why: str) -> None:
        """A client was turned away: by a fault, or because the server could not be reached."""

    def fired(self, placed: PlacedFault, attempt: int) -> None: ...

    def removed(self, placed: PlacedFault) -> None: ...


@frozen
class ProxyStatistics:
    """Counters of a proxy: clients, those turned away, and the bytes from each side."""

    opened: int
    refused: int
    bytes_to_client: int
    bytes_to_server: int


class FaultProxy:
    """Listens on `listen` (port 0: a free one), and connects each client through to `to`.

    ```python
    async with FaultProxy(to=("127.0.0.1", port), seed=7) as proxy:
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with proxy.fault(Latency(0.1, way="both")):
            ...
    ```

    Without faults, bytes, ends and resets pass unchanged, and a side that does not read makes the
    other one wait: each direction of a connection holds at most `buffer_bytes` and one read more.
    What faults draw follows `seed`; what they draw it for depends on how TCP cuts the stream.

    Faults of the bytes alone can act, for a proxy sees no frames and no messages. A client that
    `Down` and `Crash` refuse is reset as soon as it has connected, and `Partition` keeps it
    waiting with its connection open: the port itself stays open. `bytes` of triggers are those
    sent to the client.

    Entering raises `ConfigError` where nobody can listen on `listen`. All its tasks live in the
    block; leaving it closes what is open. Connections are made within `connect_timeout_s`.
    """

    def __init__(
        self,
        *,
        to: tuple[str, int],
        listen: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
        buffer_bytes: int = 1 << 20,
        connect_timeout_s: float = 10.0,
        observer: ProxyObserver | None = None,
    ) -> None:
        check_seed(seed)
        for name, (_, port), least in (("to", to, 1), ("listen", listen, 0)):
            if not least <= port <= 65_535:
                raise ConfigError(
                    name, port, "is no port", mend=f"use one from {least} to 65535"
                )  # fmt: skip
        if tuple(to) == tuple(listen):
            raise ConfigError(
                "to", to, "is the proxy itself, which would connect to itself for ever",
                mend="listen on another port, such as 0",
            )  # fmt: skip
        self.to = to
        self.seed = seed
        self.connections: dict[int, ProxiedConnection] = {}
        self.board = FaultBoard(
            self,
            seed,
            connections=lambda: list(self.connections.values()),
            on_fired=self._tell_fired,
            on_removed=self._tell_removed,
        )
        self._listen = listen
        self._buffer_bytes = buffer_bytes
        self._connect_timeout_s = connect_timeout_s
        self._observer = observer
        self._exit = contextlib.AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._listener: trio.SocketListener | None = None
        self._began_at = 0.0
        self._opened = 0
        self._refused = 0
        self._over_to_client = 0  # bytes, on connections that are over
        self._over_to_server = 0

    def __repr__(self) -> str:
        where = f"port {self.port}" if self._listener is not None else "not listening"
        return f"<FaultProxy {where} to={self.to} connections={len(self.connections)}>"

    # --- life ---

    async def __aenter__(self) -> FaultProxy:
        self._listener = await _listen_on(*self._listen)
        self._nursery = await self._exit.enter_async_context(open_plain_nursery())
        self._began_at = trio.current_time()
        self._nursery.start_soon(self.board.run)
        self._nursery.start_soon(self._serve, self._listener)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.board.stopped = True
        try:
            return await self._exit.__aexit__(kind, error, traceback)
        finally:
            if self._listener is not None:
                with trio.CancelScope(shield=True):
                    await self._listener.aclose()
            self._nursery = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, with the real port."""
        if self._listener is None:
            raise UsageError("enter the proxy first: `async with FaultProxy(to=...) as proxy:`")
        host, port = self._listener.socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.address[1]

    def statistics(self) -> ProxyStatistics:
        """Counters up to now; bytes as they came from each side, before any fault."""
        live = self.connections.values()
        return ProxyStatistics(
            self._opened,
            self._refused,
            self._over_to_client + sum(one.bytes_sent for one in live),
            self._over_to_server + sum(one.bytes_received for one in live),
        )

    # --- faults ---

    def fault(
        self,
        fault: Fault,
        after: Trigger = AT_ONCE,
        *,
        chance: float = 1.0,
        every: int = 1,
        times: int | None = None,
        for_s: float | None = None,
    ) -> PlacedFault:
        """Put a fault in place, from now on; see `Injection` for the parameters.

        As a context manager it is taken away at the end of the block, which raises
        `FaultNeverFired` if it never acted. Raises `ConfigError` for what no proxy can do.
        """
        return self.place(
            Injection(fault, after, chance=chance, every=every, times=times, for_s=for_s)
        )

    def place(self, injection: Injection) -> PlacedFault:
        """Put a fault in place, as `fault()` does."""
        check_injection(injection)
        if self._nursery is None:
            raise UsageError("enter the proxy first: `async with FaultProxy(to=...) as proxy:`")
        placed = self.board.place(injection)
        self._nursery.start_soon(self.board.poll)
        return placed

    def now(self) -> float:
        """Seconds since the proxy began to listen."""
        return trio.current_time() - self._began_at

    def _tell_fired(self, placed: PlacedFault, attempt: int) -> None:
        if self._observer is not None:
            self._observer.fired(placed, attempt)

    def _tell_removed(self, placed: PlacedFault) -> None:
        if self._observer is not None:
            self._observer.removed(placed)

    # --- clients ---

    async def _serve(self, listener: trio.SocketListener) -> None:
        async with trio.open_nursery() as clients:
            await trio.serve_listeners(self._serve_client, [listener], handler_nursery=clients)

    async def _serve_client(self, client: trio.SocketStream) -> None:
        self._opened += 1
        attempt = self._opened
        self.board.happened("dialled")
        try:
            await self.board.dial(attempt)
            server = await self._connect()
        except ConnectionFailed as error:
            self._refused += 1
            reset_stream(client)
            if self._observer is not None:
                self._observer.refused(attempt, str(error))
            return
        connection = ProxiedConnection(
            attempt, client, server, self.board, limit=self._buffer_bytes
        )
        self.connections[attempt] = connection
        self.board.happened("accepted")
        if self._observer is not None:
            self._observer.opened(connection)
        try:
            await connection.run()
        finally:
            del self.connections[attempt]
            self._over_to_client += connection.bytes_sent
            self._over_to_server += connection.bytes_received
            self.board.forget(connection)
            self.board.happened("closed")
            if self._observer is not None:
                self._observer.closed(connection)

    async def _connect(self) -> trio.SocketStream:
        host, port = self.to
        try:
            with trio.fail_after(self._connect_timeout_s):
                return await trio.open_tcp_stream(host, port)
        except trio.TooSlowError:
            raise ConnectionRefused(
                f"{host}:{port} did not answer within {self._connect_timeout_s:g} s"
            ) from None
        except OSError as error:
            raise ConnectionRefused(f"{host}:{port} can't be reached: {_plain(error)}") from error


def byte_faults() -> dict[str, type[Fault]]:
    """The kinds of fault that a proxy can put in place, by name."""
    return {name: kind for name, kind in fault_kinds().items() if kind.layer is Layer.BYTES}


def check_injection(injection: Injection) -> None:
    """Raise `ConfigError` for what no proxy can do, for it sees bytes alone."""
    fault = injection.fault
    if fault.layer is not Layer.BYTES:
        raise ConfigError(
            "fault", kind_of(type(fault)),
            f"acts on the layer {fault.layer.value!r}, and a proxy sees bytes alone",
            mend=f"use one of {', '.join(byte_faults())}, or MockWebSocketServer",
        )  # fmt: skip
    if isinstance(fault, Stall) and fault.pongs:
        raise ConfigError(
            "pongs", True, "a proxy sees no frames, so it can't let pongs pass",
            mend="leave it at false",
        )  # fmt: skip
    after = injection.after
    for one in after.triggers if isinstance(after, All) else (after,):
        if isinstance(one, Messages):
            raise ConfigError("after", one, "a proxy sees no messages", mend="use Bytes(...)")
        if isinstance(one, OnEvent) and one.event not in _EVENTS:
            raise ConfigError(
                "after", one, "never happens at a proxy", mend=f"use one of {sorted(_EVENTS)}"
            )


async def _listen_on(host: str, port: int) -> trio.SocketListener:
    try:
        listeners: Sequence[trio.SocketListener]
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            rule, mend = "is in use by another program", "use another port, or 0 for a free one"
        else:
            rule, mend = f"can't be listened on: {_plain(error)}", "use for example 127.0.0.1:0"
        raise ConfigError("listen", f"{host}:{port}", rule, mend=mend) from error
    # A name can stand for several addresses; with port 0 each would have a port of its own.
    for other in listeners[1:]:
        await other.aclose()
    return listeners[0]


def _plain(error: OSError) -> str:
    """What the system says, without the repetitions that an attempt by address adds."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    causes = getattr(error.__cause__, "exceptions", None) or [error.__cause__]
    if isinstance(causes[0], OSError):
        return _plain(causes[0])
    return error.strerror or str(error)
