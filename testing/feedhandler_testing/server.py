"""A mock exchange that speaks real WebSocket, and can be made to fail."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import RemoteProtocolError

from feedhandler._io.dial import dial_tcp
from feedhandler._io.nursery import open_plain_nursery
from feedhandler.abc import Dialer, DialTarget
from feedhandler.errors import ConnectionRefused, NameResolutionFailed, UsageError
from feedhandler.model import PriceUpdate
from feedhandler_testing.books import MockBook
from feedhandler_testing.connection import MockWebSocketConnection
from feedhandler_testing.failure import (
    BadHandshake,
    Disconnect,
    Failure,
    FailureMode,
    MalformedData,
    Refusal,
    Rejection,
    Timeout,
    refine,
)
from feedhandler_testing.handshake import break_handshake, http_response
from feedhandler_testing.prices import as_message, frame_of
from feedhandler_testing.streams import MemoryStream, memory_network

__all__ = ["MockWebSocketServer"]

_UNCLAIMED = 1024  # connections that wait for next_connection(); of more the oldest are not queued


class MockWebSocketServer:
    """A WebSocket server over trio memory streams or, with `tcp=True`, over TCP on a free port.

    ```python
    async with MockWebSocketServer() as server:
        async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed:
            connection = await server.next_connection()
            await server.send_price_update({...})
            server.simulate_drop(connection.id)
    ```

    `failure_mode` can be set at any time, before a connection exists and while it lives. `token`
    is the bearer token that is demanded; others are answered with 401. With `auto_ack` the server
    acknowledges subscriptions in the plain price JSON, refuses `unknown_symbols`, and loses the
    first `lose_acks` acknowledgements; one of the channel ``"book"`` is followed by the snapshots
    of those symbols that have a `MockBook` in `books`. It pings each connection every
    `heartbeat_interval` s. `buffer_bytes` bounds what is on its way over a memory stream.

    All its tasks live in the block; leaving it drops what is open.
    """

    def __init__(
        self,
        *,
        tcp: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        failure_mode: FailureMode | Failure = FailureMode.NONE,
        heartbeat_interval: float | None = None,
        token: str | None = None,
        auto_ack: bool = True,
        unknown_symbols: Collection[str] = (),
        lose_acks: int = 0,
        buffer_bytes: int = 1 << 20,
    ) -> None:
        self.token = token
        self.heartbeat_interval = heartbeat_interval
        self.auto_ack = auto_ack
        self.unknown_symbols = frozenset(unknown_symbols)
        self.lose_acks = lose_acks
        self.dialled = 0
        self.accepted = 0
        self.books: dict[str, MockBook] = {}
        self.connections: dict[int, MockWebSocketConnection] = {}
        self._tcp = tcp
        self._ssl_context = ssl_context
        self._buffer_bytes = buffer_bytes
        self._failure = refine(failure_mode)
        self._failure_mode = failure_mode
        self._rejections: deque[Rejection] = deque()
        self._queue, self._queued = trio.open_memory_channel[MockWebSocketConnection](_UNCLAIMED)
        self._exit = contextlib.AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._listeners: Sequence[trio.SocketListener] = ()
        self._serving: trio.CancelScope | None = None
        self._stopped = False
        self._updates = 0

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "serving" if self._serving else "new"
        return f"<MockWebSocketServer {state} connections={len(self.connections)}>"

    # --- life ---

    async def __aenter__(self) -> MockWebSocketServer:
        self._nursery = await self._exit.enter_async_context(open_plain_nursery())
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._stopped = True
        try:
            return await self._exit.__aexit__(kind, error, traceback)
        finally:
            await self._close_listeners()

    async def start(self) -> None:
        """Start serving; entering the block does it. Does nothing if it is serving already."""
        if self._nursery is None:
            raise UsageError(
                "enter the server first: `async with MockWebSocketServer() as server:`"
            )
        if self._stopped:
            raise UsageError("this server was stopped; make another one")
        if self._serving is not None:
            return
        if self._tcp:
            self._listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._serving = trio.CancelScope()
        serving = trio.Event()
        self._nursery.start_soon(self._serve, self._serving, serving)
        await serving.wait()

    async def stop(self) -> None:
        """Drop every connection and stop serving, before the block ends. May be called again."""
        self._stopped = True
        if self._serving is not None:
            self._serving.cancel()
        for connection in list(self.connections.values()):
            await connection.wait_closed()
        await self._close_listeners()
        await self._queue.aclose()

    async def _serve(self, scope: trio.CancelScope, serving: trio.Event) -> None:
        with scope:
            async with trio.open_nursery() as self._clients:
                serving.set()
                if self._listeners:
                    await trio.serve_listeners(
                        self._serve_tcp, [*self._listeners], handler_nursery=self._clients
                    )
                await trio.sleep_forever()

    async def _close_listeners(self) -> None:
        for listener in self._listeners:
            await listener.aclose()

    # --- where it is ---

    @property
    def url(self) -> str:
        """The URL for a client, with the real port of a TCP server."""
        if not self._tcp:
            return "ws://mock.invalid/"
        if not self._listeners:
            raise UsageError("a TCP server has an address only while it is serving")
        port = self._listeners[0].socket.getsockname()[1]
        return f"{'wss' if self._ssl_context else 'ws'}://127.0.0.1:{port}/"

    @property
    def dial(self) -> Dialer:
        """The way to it, for a client."""
        return self._dial_tcp if self._tcp else self._dial_memory

    async def _dial_tcp(self, target: DialTarget) -> trio.abc.Stream:
        await self._refuse_dialling()
        return await dial_tcp(target)

    async def _dial_memory(self, target: DialTarget) -> trio.abc.Stream:
        await self._refuse_dialling()
        return await self.simulate_connection()

    async def _refuse_dialling(self) -> None:
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        match self._failure:
            case Timeout(where="dial"):
                await trio.sleep_forever()
            case Refusal(kind="resolve"):
                raise NameResolutionFailed("the mock's name does not resolve")
            case Refusal():
                raise ConnectionRefused("the mock refused the connection")
        if self._stopped:
            raise ConnectionRefused("the mock server was stopped")

    async def simulate_connection(self) -> MemoryStream:
        """Connect as a client would, and return the client's end of the stream.

        What follows, beginning with the opening handshake, is the caller's.
        """
        if self._serving is None or self._stopped:
            raise UsageError("the server is not serving; use it inside its `async with` block")
        await trio.lowlevel.checkpoint()  # the only one: what is made here is handed over
        client, server = memory_network(self._buffer_bytes)
        self._clients.start_soon(self._serve_stream, server)
        return client

    # --- what a test does with it ---

    async def next_connection(self) -> MockWebSocketConnection:
        """The next connection whose handshake is done, in order; each is given out once."""
        return await self._queued.receive()

    async def send_price_update(self, update: PriceUpdate | Mapping[str, Any]) -> None:
        """Send an update, an event or the fields of its JSON, to every client.

        Waits for those that do not read, when their buffers are full; the others have it by then.
        """
        self._updates += 1
        message = as_message(update)
        failure = self._failure
        spoiled = None
        if isinstance(failure, MalformedData) and self._updates % failure.every == 0:
            spoiled = failure
        frame = frame_of(message, spoiled)
        async with trio.open_nursery() as nursery:
            for connection in list(self.connections.values()):
                nursery.start_soon(self._send_update, connection, frame)

    async def _send_update(self, connection: MockWebSocketConnection, frame: bytes) -> None:
        # One that has just gone is no reason not to send to the others.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await connection.send_frames([frame])

    def simulate_drop(self, connection_id: int) -> None:
        """Reset one connection. Raises `KeyError` if there is no such connection."""
        self.connections[connection_id].drop()

    def reject_next(
        self,
        status: int,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        times: int = 1,
    ) -> None:
        """Answer the next `times` opening handshakes with this HTTP response."""
        self._rejections.extend([Rejection(status, tuple(headers), body)] * times)

    @property
    def failure_mode(self) -> FailureMode | Failure:
        return self._failure_mode

    @failure_mode.setter
    def failure_mode(self, failure: FailureMode | Failure) -> None:
        exact = refine(failure)
        if self._stopped:
            raise UsageError("the server has stopped: a fault that is set now can never act")
        self._failure_mode = failure
        self._failure = exact
        for connection in list(self.connections.values()):
            connection.silent = isinstance(exact, Timeout) and exact.where == "stream"
            if isinstance(exact, Disconnect) and self._nursery is not None:
                self._clients.start_soon(self._disconnect_if_due, connection)

    # --- one client ---

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        if self._ssl_context is None:
            await self._serve_stream(stream)
            return
        tls = trio.SSLStream(stream, self._ssl_context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError):
            await trio.aclose_forcefully(tls)
            return
        await self._serve_stream(tls)

    async def _serve_stream(self, stream: trio.abc.Stream) -> None:
        try:
            accepted = await self._shake_hands(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            accepted = None
        except trio.Cancelled:
            await trio.aclose_forcefully(stream)
            raise
        if accepted is None:
            await trio.aclose_forcefully(stream)
            return
        await self._live(accepted)

    async def _live(self, connection: MockWebSocketConnection) -> None:
        self.connections[connection.id] = connection
        connection.silent = isinstance(self._failure, Timeout) and self._failure.where == "stream"
        try:
            async with trio.open_nursery() as nursery:
                if self.heartbeat_interval is not None:
                    nursery.start_soon(connection.ping_every, self.heartbeat_interval)
                try:
                    self._queue.send_nowait(connection)
                except trio.WouldBlock:
                    self._queued.receive_nowait()
                    self._queue.send_nowait(connection)
                nursery.start_soon(self._disconnect_if_due, connection)
                await connection.run(self._on_message)
                nursery.cancel_scope.cancel()
        finally:
            self.connections.pop(connection.id, None)

    def _left(self, connection: MockWebSocketConnection) -> int | None:
        """How many messages `connection` may still send before it is cut."""
        failure = self._failure
        if not isinstance(failure, Disconnect):
            return None
        return max(failure.after - connection.sent, 0)

    async def _disconnect_if_due(self, connection: MockWebSocketConnection) -> None:
        failure = self._failure
        if not isinstance(failure, Disconnect) or connection.sent < failure.after:
            return
        # A reset loses what is on its way, and that could be the answer to the handshake.
        await connection.wait_received()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            match failure.how:
                case "close":
                    await connection.close(failure.code, failure.reason)
                case "reset":
                    connection.drop()
                case "end":
                    await connection.end()

    async def _shake_hands(self, stream: trio.abc.Stream) -> MockWebSocketConnection | None:
        """Answer the opening handshake; `None` where it does not lead to a connection."""
        protocol = WSConnection(ConnectionType.SERVER)
        request = None
        while request is None:
            data = await stream.receive_some(65_536)
            if not data:
                return None
            protocol.receive_data(bytes(data))
            request = next((e for e in protocol.events() if isinstance(e, Request)), None)
        headers = [
            (n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in request.extra_headers
        ]
        failure = self._failure
        if isinstance(failure, Timeout) and failure.where == "handshake":
            await trio.sleep_forever()
        answer = protocol.send(AcceptConnection())
        if isinstance(failure, BadHandshake):
            await break_handshake(stream, failure.kind, answer)
            return None
        rejection = self._rejection(headers)
        if rejection is not None:
            await stream.send_all(http_response(rejection))
            return None
        await stream.send_all(answer)
        self.accepted += 1
        return MockWebSocketConnection(
            self.accepted,
            stream,
            path=request.target,
            request_headers=headers,
            left=self._left,
            sent=self._disconnect_if_due,
        )

    def _rejection(self, headers: Sequence[tuple[str, str]]) -> Rejection | None:
        if isinstance(self._failure, Rejection):
            return self._failure
        if self._rejections:
            return self._rejections.popleft()
        if self.token is not None and ("authorization", f"Bearer {self.token}") not in headers:
            return Rejection(401, (), b'{"error":"invalid token"}')
        return None

    # --- subscriptions ---

    async def _on_message(self, connection: MockWebSocketConnection, message: str | bytes) -> None:
        if not self.auto_ack:
            return
        try:
            request = json.loads(message)
            kind, symbols = request["type"], [str(symbol) for symbol in request["symbols"]]
            named = {"channel": request["channel"]} if "channel" in request else {}
        except (ValueError, KeyError, TypeError):
            return  # not a request; it waits in the connection's queue
        known = [symbol for symbol in symbols if symbol not in self.unknown_symbols]
        prices = [] if named else known
        if kind == "subscribe":
            connection.subscriptions.update(dict.fromkeys(prices))
        elif kind == "unsubscribe":
            for symbol in prices:
                connection.subscriptions.pop(symbol, None)
        else:
            return
        if self.lose_acks > 0:
            self.lose_acks -= 1
            return
        answers: list[dict[str, Any]] = [
            {"type": "error", **named, "symbol": symbol, "message": "unknown symbol"}
            for symbol in symbols
            if symbol in self.unknown_symbols
        ]
        if known:
            answers.append({"type": f"{kind}d", **named, "symbols": known})
        if kind == "subscribe" and named.get("channel") == "book":
            answers += [self.books[symbol].snapshot() for symbol in known if symbol in self.books]
        for answer in answers:
            await connection.send_frame(1, json.dumps(answer, separators=(",", ":")).encode())
