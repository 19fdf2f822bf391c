"""A mock exchange that speaks real WebSocket, and can be made to fail."""

from __future__ import annotations

import contextlib
import ssl
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Protocol

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import RemoteProtocolError

from feedhandler._io.dial import dial_tcp
from feedhandler._io.nursery import open_plain_nursery
from feedhandler.abc import Dialer, DialTarget, Fetcher, HttpResponse, Venue
from feedhandler.errors import (
    ConnectionLost,
    ConnectionRefused,
    FetchFailed,
    TlsFailed,
    UsageError,
)
from feedhandler.model import PriceUpdate
from feedhandler_testing.board import FaultBoard, Injection, PlacedFault
from feedhandler_testing.books import MockBook
from feedhandler_testing.certificates import Certificates
from feedhandler_testing.checks import check_seed
from feedhandler_testing.clock import FaultyClock
from feedhandler_testing.connection import MockWebSocketConnection
from feedhandler_testing.dialect import Dialect, Listing, PlainDialect
from feedhandler_testing.failure import Failure, FailureMode, Rejection, injection_of
from feedhandler_testing.faults.base import Fault, RestCall
from feedhandler_testing.handshake import fetched_path, http_response
from feedhandler_testing.link import Link
from feedhandler_testing.prices import PriceSource, as_message
from feedhandler_testing.streams import MemoryStream, memory_network
from feedhandler_testing.triggers import AT_ONCE, Trigger

__all__ = ["Answerer", "MockWebSocketServer", "RestSource", "ServerObserver"]

_NOT_FOUND = HttpResponse(404, (("Content-Type", "text/plain"),), b"Not Found")
_CHANNELS = frozenset({"price", "book", "quote"})
_HEAD_BYTES = 65_536  # of a request, at most
_UNCLAIMED = 1024  # connections that wait for next_connection(); of more the oldest are not queued


class ServerObserver(Protocol):
    """Who is told of everything that happens on a server, at once and in order."""

    def happened(self, attempt: int, event: str) -> None:
        """One of `triggers.EVENTS` has."""

    def sent(self, attempt: int, message: dict[str, Any], *, intact: bool) -> None:
        """A message of the venue was sent; or, if it is not `intact`, kept back or spoiled."""

    def requested(self, attempt: int, kind: str, symbols: Sequence[str]) -> None:
        """The client has asked to ``subscribe`` or ``unsubscribe``, or to ``subscribe book`` …"""

    def fired(self, placed: PlacedFault, attempt: int) -> None: ...

    def removed(self, placed: PlacedFault) -> None: ...


class Answerer(Protocol):
    """Who answers a request for subscriptions, if it returns true."""

    async def __call__(
        self, connection: MockWebSocketConnection, request: dict[str, Any], /
    ) -> bool: ...


class RestSource(Protocol):
    """Who answers over REST in the place of a dialect."""

    async def wait(self, url: str) -> None:
        """Wait until there is an answer at `url`, if there is to be one."""
        ...

    def answer(self, url: str, *, symbol: str | None, ago: int) -> HttpResponse | None:
        """What is answered at `url`: or for another symbol, or as it was some answers ago."""
        ...


class MockWebSocketServer:
    """A WebSocket server over trio memory streams or, with `tcp=True`, over TCP on a free port.

    ```python
    async with MockWebSocketServer() as server:
        async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed:
            connection = await server.next_connection()
            await server.send_price_update({...})
            server.simulate_drop(connection.id)
    ```

    Faults are set with `fault()` or `failure_mode`, before a connection exists and while it lives;
    what they draw follows `seed`. `clock` is a wall clock for the client, which faults can shift;
    `prices` makes valid messages. `token` is the bearer token that is demanded; others are
    answered with 401. With `auto_ack` the server acknowledges subscriptions in the plain price
    JSON, refuses `unknown_symbols`, and loses the first `lose_acks` acknowledgements; one of the
    channel ``"book"`` is followed by the snapshots of those symbols that have a `MockBook` in
    `books`. It pings each connection every `heartbeat_interval` s. `buffer_bytes` bounds what is
    on its way over a memory stream. A `compressed` one sends its messages in gzip, as binary ones.
    With another `dialect` it speaks a venue's own language, with what is listed for sale there
    (`venue()` and `list_symbols()` list symbols), and answers over REST as the venue does, by
    `fetch` and, over TCP, on the same port.
    `tls` serves over TCP with certificates of its own (needs trustme).

    All its tasks live in the block; leaving it drops what is open.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        tcp: bool = False,
        tls: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        failure_mode: FailureMode | Failure = FailureMode.NONE,
        heartbeat_interval: float | None = None,
        token: str | None = None,
        compressed: bool = False,
        auto_ack: bool = True,
        unknown_symbols: Collection[str] = (),
        lose_acks: int = 0,
        buffer_bytes: int = 1 << 20,
        dialect: Dialect | None = None,
    ) -> None:
        check_seed(seed)
        self.dialect: Dialect = PlainDialect() if dialect is None else dialect
        self._plain = isinstance(self.dialect, PlainDialect)
        self.listing = Listing(self.dialect.venue_symbol)
        self.seed = seed
        self.token = token
        self.compressed = compressed
        if heartbeat_interval is None:
            heartbeat_interval = self.dialect.means.ping_s
        self.heartbeat_interval = heartbeat_interval
        self.auto_ack = auto_ack
        self.acknowledges = True  # with `auto_ack`: or it only takes note of what is asked for
        self.rest_source: RestSource | None = None  # who answers over REST before the dialect
        self.quiet = False  # with it, heartbeats and the like are not said
        self.answerer: Answerer | None = None  # who answers requests for subscriptions before it
        self.unknown_symbols = frozenset(unknown_symbols)
        self.lose_acks = lose_acks
        self.dialled = 0
        self.accepted = 0
        self.serving = 0  # streams that are open on this side, the handshake done or not
        self.books: dict[str, MockBook] = {}
        self._book_rngs: dict[str, Random] = {}
        self.connections: dict[int, MockWebSocketConnection] = {}
        self._tcp = tcp or tls
        self._certificates = Certificates() if tls else None
        if self._certificates is not None and ssl_context is None:
            ssl_context = self._certificates.server_context()
        self._ssl_context = ssl_context
        self.close_codes: list[int] = []
        self.pongs_received = 0
        self._buffer_bytes = buffer_bytes
        self._ready_failure = injection_of(failure_mode)
        self._failure_mode = failure_mode
        self._failure: PlacedFault | None = None
        self._rejections: deque[Rejection] = deque()
        self._began_at = 0.0
        self._open: list[MemoryStream] = []
        self.board = FaultBoard(
            self,
            seed,
            connections=lambda: list(self.connections.values()),
            on_fired=self._tell_fired,
            on_removed=self._tell_removed,
        )
        self.clock = FaultyClock(self.board)
        self.prices = PriceSource(seed, self.clock.true_time_ns)
        self.observer: ServerObserver | None = None
        self._queue, self._queued = trio.open_memory_channel[MockWebSocketConnection](_UNCLAIMED)
        self._of_rest: set[Link] = set()  # streams that came to fetch something
        self._exit = contextlib.AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._listeners: Sequence[trio.SocketListener] = ()
        self._serving: trio.CancelScope | None = None
        self._stopped = False

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
        self._stopped = self.board.stopped = True
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
        self._began_at = trio.current_time()
        if self._ready_failure is not None:
            self._failure = self.board.place(self._ready_failure)
        serving = trio.Event()
        self._nursery.start_soon(self._serve, self._serving, serving)
        await serving.wait()

    async def stop(self) -> None:
        """Drop every connection and stop serving, before the block ends. May be called again."""
        self._stopped = self.board.stopped = True
        if self._serving is not None:
            self._serving.cancel()
        for connection in list(self.connections.values()):
            await connection.wait_closed()
        await self._close_listeners()
        await self._queue.aclose()

    async def _serve(self, scope: trio.CancelScope, serving: trio.Event) -> None:
        with scope:
            async with trio.open_nursery() as self._clients:
                self._clients.start_soon(self.board.run)
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
    def client_ssl_context(self) -> ssl.SSLContext | None:
        """What a client needs in order to trust a server made with `tls=True`."""
        return None if self._certificates is None else self._certificates.client_context()

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

    @property
    def rest_url(self) -> str:
        """The URL at which its REST interface begins."""
        return "http" + self.url.removeprefix("ws")

    @property
    def fetch(self) -> Fetcher:
        """The way to its REST interface, for a client, in virtual time: no socket is used."""
        return self._fetch

    def venue(self, symbols: Sequence[str]) -> Venue:
        """This library's venue, set up to talk to this server about `symbols`, which are listed.

        ```python
        async with MockWebSocketServer(dialect=CoinbaseDialect()) as server:
            async with open_feed(server.venue(["BTC-USD"]), ["BTC-USD"]) as feed: ...
        ```
        """
        self.list_symbols(symbols)
        return self.dialect.venue(self, symbols)

    def list_symbols(self, symbols: Iterable[str]) -> None:
        """Have these symbols, besides others: a venue refuses what is not listed."""
        self.listing.add(symbols)

    async def _dial_tcp(self, target: DialTarget) -> trio.abc.Stream:
        await self._begin_dialling()
        return await dial_tcp(target)

    async def _dial_memory(self, target: DialTarget) -> trio.abc.Stream:
        attempt = await self._begin_dialling()
        how = self.board.certificate(attempt)
        if how is not None:
            raise _tls_failure(how)
        return await self._connect(attempt)

    async def _begin_dialling(self) -> int:
        self.dialled += 1
        attempt = self.dialled
        self._tell(attempt, "dialled")
        await trio.lowlevel.checkpoint()
        await self.board.dial(attempt)
        if self._stopped:
            raise ConnectionRefused("the mock server was stopped")
        return attempt

    async def simulate_connection(self) -> MemoryStream:
        """Connect as a client would, and return the client's end of the stream.

        What follows, beginning with the opening handshake, is the caller's.
        """
        self.dialled += 1
        return await self._connect(self.dialled)

    async def _connect(self, attempt: int) -> MemoryStream:
        if self._serving is None or self._stopped:
            raise UsageError("the server is not serving; use it inside its `async with` block")
        await trio.lowlevel.checkpoint()  # the only one: what is made here is handed over
        client, server = memory_network(self._buffer_bytes)
        self._open = [stream for stream in self._open if not stream.closed]
        self._open.append(client)
        self._clients.start_soon(self._serve_stream, server, attempt)
        return client

    @property
    def client_streams(self) -> list[MemoryStream]:
        """The ends that clients have (over memory), the newest last; closed ones are forgotten."""
        return list(self._open)

    @property
    def open_streams(self) -> int:
        """How many streams clients have open (over memory; of TCP only they know)."""
        return sum(not stream.closed for stream in self._open)

    # --- what a test does with it ---

    async def next_connection(self) -> MockWebSocketConnection:
        """The next connection whose handshake is done, in order; each is given out once."""
        return await self._queued.receive()

    async def send_price_update(self, update: PriceUpdate | Mapping[str, Any]) -> None:
        """Send an update, an event or the fields of its JSON, to every client.

        Waits for those that do not read, when their buffers are full; the others have it by then.
        """
        message = as_message(update)
        async with trio.open_nursery() as nursery:
            for connection in list(self.connections.values()):
                nursery.start_soon(self._send_update, connection, message)

    async def _send_update(
        self, connection: MockWebSocketConnection, message: dict[str, Any]
    ) -> None:
        # One that has just gone is no reason not to send to the others.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await connection.send_messages([message])

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
        injection = injection_of(failure)
        if self._stopped:
            raise UsageError("the server has stopped: a fault that is set now can never act")
        self._failure_mode = failure
        if self._failure is not None:
            self._failure.remove()
            self._failure = None
        if self._serving is None:
            self._ready_failure = injection
        elif injection is not None:
            self._failure = self.board.place(injection)
            for connection in list(self.connections.values()):
                # A count of messages means that of the connection's whole life here.
                self._failure.base_on_zero(connection)
                self.board.begin(connection)
            self._clients.start_soon(self.board.poll)

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

        ```python
        async with server.fault(Stall(pongs=True), after=Messages(120)) as stall:
            await stall.fired.wait()
        ```

        At the end of the block it is taken away, and `FaultNeverFired` is raised if it never
        acted. Without a block it stays until it is spent, or `remove()`d. Raises `UsageError` on a
        server that has stopped.
        """
        return self.place(
            Injection(fault, after, chance=chance, every=every, times=times, for_s=for_s)
        )

    def place(self, injection: Injection) -> PlacedFault:
        """Put a fault in place, as `fault()` does."""
        if self._serving is None:
            raise UsageError(
                "enter the server first: `async with MockWebSocketServer() as server:`"
            )
        placed = self.board.place(injection)
        if self.connections:
            self._clients.start_soon(self.board.poll)
        return placed

    # --- what faults see, and what is told of them ---

    def now(self) -> float:
        """Seconds since the server was started."""
        return trio.current_time() - self._began_at

    def next_price(self, symbol: str) -> dict[str, Any]:
        return self.prices.next(symbol)

    def rotate_token(self) -> None:
        """Demand another bearer token from now on."""
        number = int((self.token or "token-0").rpartition("-")[2]) + 1
        self.token = f"token-{number}"

    def next_snapshot(self, symbol: str, *, ago: int = 0) -> dict[str, Any] | None:
        book = self._book(symbol)
        return None if book is None else book.snapshot(ago=ago)

    def _book(self, symbol: str) -> MockBook | None:
        book = self.books.get(symbol)
        if book is not None and not self._plain:
            book.checksum_of = self.dialect.checksum
        return book

    def next_delta(self, symbol: str) -> dict[str, Any]:
        """The next change of the symbol's book, drawn at random; makes a book if it has none."""
        rng = self._book_rngs.get(symbol)
        if rng is None:
            rng = self._book_rngs[symbol] = Random(f"{self.seed}/book/{symbol}")
        if symbol not in self.books:
            self.books[symbol] = MockBook.drawn(symbol, rng)
        book = self.books[symbol]
        if not self._plain:
            book.checksum_of = self.dialect.checksum
        book.time_ns = self.clock.true_time_ns()
        return book.step(rng)

    def next_quote(self, symbol: str) -> dict[str, Any]:
        """The top of the symbol's book, as it is now; makes a book if it has none."""
        if symbol not in self.books:
            self.next_delta(symbol)
        book = self.books[symbol]
        (bid, bid_size), (ask, ask_size) = book.bids[0], book.asks[0]
        return {
            "type": "quote", "symbol": symbol, "bid": bid, "bid_size": bid_size, "ask": ask,
            "ask_size": ask_size, "sequence": book.sequence, "time": self.clock.true_time_ns(),
        }  # fmt: skip

    def _tell(self, attempt: int, event: str) -> None:
        self.board.happened(event)
        if self.observer is not None:
            self.observer.happened(attempt, event)

    def _tell_sent(
        self, connection: MockWebSocketConnection, message: dict[str, Any], intact: bool
    ) -> None:
        if self.observer is not None:
            self.observer.sent(connection.attempt, message, intact=intact)

    def _tell_fired(self, placed: PlacedFault, attempt: int) -> None:
        if self.observer is not None:
            self.observer.fired(placed, attempt)

    def _tell_removed(self, placed: PlacedFault) -> None:
        if self.observer is not None:
            self.observer.removed(placed)

    # --- one client ---

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        attempt = max(self.dialled, 1)
        if self._ssl_context is None:
            await self._serve_stream(stream, attempt)
            return
        how = self.board.certificate(attempt)
        if how == "ends":
            await stream.receive_some(1024)
            await trio.aclose_forcefully(stream)
            return
        context = self._ssl_context
        if how is not None:
            context = (self._certificates or Certificates()).server_context(how)
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError):
            await trio.aclose_forcefully(tls)
            return
        await self._serve_stream(tls, attempt)

    async def _serve_stream(self, stream: trio.abc.Stream, attempt: int) -> None:
        self.serving += 1
        link = Link(stream, self.board, attempt=attempt, limit=self._buffer_bytes)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.pump)
                connection = await self._shake_hands(link)
                if connection is not None:
                    await self._live(connection)
                else:
                    await link.wait_received()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            pass  # the client went away, or speaks something else
        finally:
            self.serving -= 1
            if link not in self._of_rest:
                self._tell(attempt, "closed")
            self._of_rest.discard(link)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(link)

    async def _live(self, connection: MockWebSocketConnection) -> None:
        self.connections[connection.id] = connection
        try:
            try:
                self._queue.send_nowait(connection)
            except trio.WouldBlock:
                self._queued.receive_nowait()
                self._queue.send_nowait(connection)
            await connection.run(self._on_message, ping_every_s=self.heartbeat_interval)
        finally:
            self.connections.pop(connection.id, None)
            self.board.forget(connection)
            self.pongs_received += connection.pongs_received
            if connection.close_code is not None:
                self.close_codes.append(connection.close_code)

    async def _shake_hands(self, link: Link) -> MockWebSocketConnection | None:
        """Answer the opening handshake; `None` where it does not lead to a connection."""
        protocol = WSConnection(ConnectionType.SERVER)
        request = None
        head = b""
        while request is None:
            data = await link.receive_some(65_536)
            if not data:
                return None
            if not self._plain:
                head += data
                if b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
                    continue
                path, data, head = fetched_path(head), head, b""
                if path is not None:
                    await self._answer_over_http(link, path)
                    return None
            protocol.receive_data(bytes(data))
            request = next((e for e in protocol.events() if isinstance(e, Request)), None)
        self._tell(link.attempt, "handshake")
        headers = [
            (n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in request.extra_headers
        ]
        answer = protocol.send(AcceptConnection())
        if await self.board.handshake(link.attempt, link, answer):
            return None
        rejection = self._rejection(headers)
        if rejection is not None:
            await link.send_all(http_response(rejection.status, rejection.headers, rejection.body))
            return None
        self.accepted += 1
        connection = MockWebSocketConnection(
            self.accepted,
            link,
            path=request.target,
            request_headers=headers,
            board=self.board,
            dialect=self.dialect,
            session=self.dialect.session(self.listing),
            time_ns=self.clock.true_time_ns,
            compressed=self.compressed,
            on_sent=None if self.observer is None else self._tell_sent,
            on_event=lambda connection, event: self._tell(connection.attempt, event),
        )
        connection.quiet = self.quiet
        link.connection = connection
        await link.send_all(answer)
        self._tell(link.attempt, "accepted")
        if "hello" in self.dialect.means.says and not self.quiet:
            await connection.answer([{"type": "hello"}])
        return connection

    def _rejection(self, headers: Sequence[tuple[str, str]]) -> Rejection | None:
        if self._rejections:
            return self._rejections.popleft()
        if self.token is not None and ("authorization", f"Bearer {self.token}") not in headers:
            return Rejection(401, (), b'{"error":"invalid token"}')
        return None

    # --- subscriptions ---

    async def _on_message(self, connection: MockWebSocketConnection, message: str | bytes) -> None:
        if not self.auto_ack:
            return
        for request in connection.session.requests(message):
            match request["type"]:
                case "subscribe" | "unsubscribe":
                    await self._on_subscribe(connection, request)
                case "ping" | "call" if not self.acknowledges:
                    pass
                case "ping":
                    await connection.answer([{**request, "type": "pong"}])
                case "call":
                    await connection.answer([{**request, "type": "result"}])
                case "pong":
                    connection.app_pongs.add(request.get("id"))

    def _is_unknown(self, symbol: str) -> bool:
        unlisted = not self._plain and symbol not in self.listing
        return unlisted or symbol in self.unknown_symbols

    async def _on_subscribe(
        self, connection: MockWebSocketConnection, request: dict[str, Any]
    ) -> None:
        kind, symbols = request["type"], request["symbols"]
        named = {key: item for key, item in request.items() if key not in ("type", "symbols")}
        channel = named.get("channel", "price")
        if channel not in _CHANNELS and not self.acknowledges:
            return
        if channel not in _CHANNELS:
            await connection.answer([{**request, "type": f"{kind}d"}])
            return
        if self.observer is not None:
            what = kind if channel == "price" else f"{kind} {channel}"
            self.observer.requested(connection.attempt, what, symbols)
        self._tell(connection.attempt, "subscribe")
        known = [symbol for symbol in symbols if not self._is_unknown(symbol)]
        subscribed = {
            "price": connection.subscriptions,
            "book": connection.book_subscriptions,
            "quote": connection.quote_subscriptions,
        }[channel]
        if kind == "subscribe":
            subscribed.update(dict.fromkeys(known))
        else:
            for symbol in known:
                subscribed.pop(symbol, None)
        if self.lose_acks > 0:
            self.lose_acks -= 1
            return
        if self.answerer is not None and await self.answerer(connection, request):
            self._tell(connection.attempt, "subscribed")
            return
        if not self.acknowledges:
            return
        answers: list[dict[str, Any]] = [
            {"type": "error", **named, "symbol": symbol, "message": "unknown symbol"}
            for symbol in symbols
            if self._is_unknown(symbol)
        ]
        if known:
            answers.append({"type": f"{kind}d", **named, "symbols": known})
        if kind == "subscribe" and channel == "book" and "snapshot" in self.dialect.means.says:
            snapshots = [self.next_snapshot(symbol) for symbol in known]
            answers += [snapshot for snapshot in snapshots if snapshot is not None]
        await connection.answer(answers)
        self._tell(connection.attempt, "subscribed")

    # --- REST ---

    async def _fetch(self, url: str, *, max_bytes: int) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        if self._serving is None or self._stopped:
            raise FetchFailed(url, "the mock server is not serving")
        try:
            answer = await self._rest(url)
        except trio.BrokenResourceError as error:
            raise FetchFailed(url, "the connection was reset") from error
        if len(answer.body) > max_bytes:
            raise FetchFailed(
                url, f"the answer has more than {max_bytes:,} bytes", status=answer.status
            )
        return answer

    async def _rest(self, url: str) -> HttpResponse:
        """What is answered at `url`; raises `trio.BrokenResourceError` where a fault resets it."""
        listing = self.listing
        request = self.dialect.rest_request(url, listing)
        self._tell(self.dialled, "fetch")
        source = self.rest_source
        if source is not None:
            await source.wait(url)
        elif request is None:
            return _NOT_FOUND

        def answer(*, symbol: str | None = None, ago: int = 0) -> HttpResponse:
            if source is not None:
                return source.answer(url, symbol=symbol, ago=ago) or _NOT_FOUND
            asked = {**(request or {})}
            if symbol is not None:
                asked["symbol"] = symbol
            message = None
            if asked["type"] == "snapshot":
                message = self.next_snapshot(asked.get("symbol", ""), ago=ago)
            return self.dialect.rest_answer(asked, message, listing)

        call = RestCall(url, request or {"type": "other"}, listing.symbols, answer)
        return await self.board.rest(self.dialled, call, answer())

    async def _answer_over_http(self, link: Link, path: str) -> None:
        self._of_rest.add(link)
        try:
            answer = await self._rest(self.rest_url.removesuffix("/") + path)
        except trio.BrokenResourceError:
            link.reset()
            return
        await link.send_all(http_response(answer.status, answer.headers, answer.body))


def _tls_failure(how: str) -> Exception:
    """What a dialer would raise for it."""
    if how == "ends":
        return ConnectionLost("the mock went away while TLS was being set up")
    return TlsFailed(f"the mock's certificate is not valid: {how}")
