"""The WebSocket protocol on a byte stream: the only module that knows trio-websocket.

trio-websocket does the opening handshake, pings, pongs, fragments and the closing handshake. It
works on our wrapper around the stream, which takes whole plain messages out of each read before
trio-websocket sees them (`feedhandler._core.frames`), and mends what trio-websocket leaves open:

- the end of the stream, a rejection or garbage before the 101 ends the handshake at once;
- a broken rule of RFC 6455 is answered with a Close frame, and is one `ProtocolViolation`;
- the code and reason of the peer's Close frame are always reported;
- closing does not wait for a consumer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError, generate_accept_token

from feedhandler._core.frames import FrameSplitter, Opcode, Passed, encode_frame, remask
from feedhandler._core.upgrade import rejection_of, upgrade_problem
from feedhandler.abc import Clock
from feedhandler.errors import (
    ConnectionFailed,
    ConnectionLost,
    HandshakeError,
    PeerClosed,
    ProtocolViolation,
)

__all__ = ["Wire"]

READ_BYTES = 131_072
_HEAD_BYTES = 65_536  # of a response to the opening handshake
_HEAD_READ_BYTES = 4_096  # at once: what follows the head is read when there is room for it
_BODY_BYTES = 1_024  # of a rejection: enough to quote
_BODY_WAIT_S = 1.0  # a body that is slower is not waited for: the status is what matters
_KEY = re.compile(rb"(?im)^sec-websocket-key:[ \t]*([^\r\n ]+)")
_ACCEPT = re.compile(rb"(?im)^(sec-websocket-accept:\s*)[A-Za-z0-9+/=]+")
_HEAD_END = re.compile(rb"\r?\n\r?\n")

Deliver = Callable[[list[str | bytes], int, int], None]
"""Called with the messages of one read, in order, their size in bytes, and when it was (ns)."""


class Wire:
    """A WebSocket connection, as a client, over `stream`.

    `deliver` gets each batch of messages, from the task that reads. `room` is called before each
    read, and what it returns, if anything, is awaited first. `heard` is called whenever bytes have
    arrived. Use `run()` in a nursery; when the connection is over, `error` says why, and `ended`
    is set.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        max_message_bytes: int,
        close_timeout_s: float,
        clock: Clock,
        rng: Random,
        deliver: Deliver,
        room: Callable[[], Awaitable[None] | None],
        heard: Callable[[], None],
    ) -> None:
        self._stream = _SplitStream(
            stream, self, FrameSplitter(max_message_bytes=max_message_bytes)
        )
        self._max_message_bytes = max_message_bytes
        self._close_timeout_s = close_timeout_s
        self._rng = rng
        self.clock = clock
        self._deliver = deliver
        self._room = room
        self._heard = heard
        self._handshake_scope = trio.CancelScope()
        self._room_scope: trio.CancelScope | None = None
        self.ended = trio.Event()
        self.error: ConnectionFailed | None = None
        self.closing = False
        self.send_failed = False
        self.write_failed = False
        self.opened = trio.Event()
        self._connection: trio_websocket.WebSocketConnection | None = None

    async def run(
        self,
        *,
        host: str,
        resource: str,
        headers: Sequence[tuple[str, str]],
    ) -> None:
        """Do the opening handshake, set `opened`, and read until the end; then set `ended`.

        Never raises for what the peer or the network does: that is in `error`. Cancel-safe; the
        stream is the caller's to close.
        """
        try:
            async with trio.open_nursery() as nursery:
                with self._handshake_scope:
                    self._connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        self._stream,  # type: ignore[arg-type]  # declared narrower than it is used
                        host,
                        resource,
                        extra_headers=[(n.encode(), v.encode("latin-1")) for n, v in headers],
                        max_message_size=self._max_message_bytes,
                        message_queue_size=1,
                        receive_buffer_size=READ_BYTES,
                    )
                    self.opened.set()
                    await self.ended.wait()
                nursery.cancel_scope.cancel()
        except* (ProtocolError, h11.ProtocolError, trio_websocket.HandshakeError) as group:
            # trio-websocket lets its parsers' exceptions through in a few races. What they say of
            # our own request may quote a header, and so a secret.
            local = group.split(h11.LocalProtocolError)[0] is not None
            self.end(
                HandshakeError("the request can't be sent")
                if local
                else ProtocolViolation(1002, _first_message(group))
            )

    def end(self, error: ConnectionFailed) -> None:
        """The connection is over; the first error given is the one that counts."""
        if self.error is None:
            self.error = error
        self.ended.set()
        if self._connection is None:
            self._handshake_scope.cancel()

    async def send(self, message: str | bytes) -> None:
        """Send one message. If it is cancelled half-way the connection is unusable.

        Raises `ConnectionLost` when the connection is over.
        """
        try:
            await self._open_connection().send_message(message)
            if not self.write_failed:
                return
            raise ProtocolError("the stream broke")
        except (trio_websocket.ConnectionClosed, ProtocolError):
            # Why it is over stands in what the peer has sent: a Close frame, or the end.
            self.send_failed = True
            with trio.move_on_after(self._close_timeout_s):
                await self.ended.wait()
            self.end(ConnectionLost("the stream broke while sending"))
            raise ConnectionLost("the connection is over") from self.error

    async def ping(self, payload: bytes) -> bool:
        """Send a ping and wait for its pong; false if the connection ended first. Cancel-safe."""
        try:
            await self._open_connection().ping(payload)
        except (trio_websocket.ConnectionClosed, ProtocolError):
            return False
        return True

    def _open_connection(self) -> trio_websocket.WebSocketConnection:
        if self._connection is None:
            raise RuntimeError("the opening handshake is not done")
        return self._connection

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake and close the stream; bound the time from outside."""
        self.closing = True
        if self._room_scope is not None:
            self._room_scope.cancel()
        if self._connection is not None:
            await self._connection.aclose(code, reason or None)

    # --- for the stream wrapper, in trio-websocket's reading task ---

    def deliver(self, messages: list[str | bytes], size: int, recv_ns: int) -> None:
        if not self.closing:
            self._deliver(messages, size, recv_ns)

    async def wait_room(self) -> None:
        """Wait until more may be read; not while closing, which must not depend on a consumer."""
        room = None if self.closing else self._room()
        if room is not None:
            with trio.CancelScope() as self._room_scope:
                await room
            self._room_scope = None

    async def settle(self, passed: Passed) -> str | bytes | None:
        """trio-websocket has dealt with `passed`: the message that it completed, if any.

        Raises `ProtocolViolation` where it refused what it was given.
        """
        await self.opened.wait()
        connection = self._open_connection()
        refused = connection.closed
        if refused is not None and passed.close is None and not self.closing:
            # Text in fragments that is not UTF-8; trio-websocket stops but tells nobody.
            raise ProtocolViolation(refused.code, refused.reason or "a bad message")
        if not passed.completes or self.closing:
            return None
        return await connection.get_message()

    async def violated(self, error: ProtocolViolation) -> None:
        """Tell the peer which rule it broke, and wait for it to go, for a bounded time."""
        mask = self.mask()
        reason = error.detail.encode()[:123].decode("utf-8", "ignore").encode()
        frame = encode_frame(Opcode.CLOSE, error.code.to_bytes(2, "big") + reason, mask=mask)
        with trio.move_on_after(self._close_timeout_s):
            try:
                await self._stream.send_last(frame)
                # Closing at once would reset the connection under our Close frame if the peer
                # has sent more than was read (RFC 9293, section 3.10.4).
                await self._stream.drain()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it is gone already
        self.end(error)

    def heard(self) -> None:
        self._heard()

    def mask(self) -> bytes:
        """A mask for the next frame (RFC 6455, section 5.3)."""
        return self._rng.getrandbits(32).to_bytes(4, "big")

    def key(self) -> bytes:
        """A key for the opening handshake: 16 bytes, in base64 (RFC 6455, section 4.1)."""
        return base64.b64encode(self._rng.getrandbits(128).to_bytes(16, "big"))


class _SplitStream(trio.abc.Stream):
    """What trio-websocket reads from: the stream without the plain messages."""

    def __init__(self, transport: trio.abc.Stream, wire: Wire, splitter: FrameSplitter) -> None:
        self._transport = transport
        self._wire = wire
        self._splitter = splitter
        self._send_lock = trio.StrictFIFOLock()
        self._request = b""
        self._key = self._key_of_library = b""
        self._upgraded = False
        self._finished = False
        self._passed: Passed | None = None
        self._messages: list[str | bytes] = []
        self._size = 0
        self._recv_ns = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # wsproto draws keys and masks from the operating system; ours come from the generator that
        # the caller has given, so that a run can be repeated.
        if not self._request:
            self._request = data = self._with_own_key(bytes(data))
        else:
            data = remask(bytes(data), self._wire.mask)
        async with self._send_lock:
            if self._finished:
                # Nothing follows our Close frame (RFC 6455, section 5.5.1): it was not sent.
                self._wire.write_failed = True
                return
            try:
                await self._transport.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                if not self._upgraded or self._wire.closing:
                    raise
                # A pong that nobody gets any more is no reason not to read what came before it.
                self._wire.write_failed = True

    async def send_last(self, data: bytes) -> None:
        """Send our Close frame, after which nothing more is sent."""
        async with self._send_lock:
            self._finished = True
            await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def drain(self) -> None:
        """Read and forget until the end of the stream."""
        while await self._transport.receive_some(READ_BYTES):
            pass

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes that trio-websocket is to see; plain messages are delivered meanwhile.

        Raises `BrokenResourceError` once the connection is over, which makes its reader stop.
        """
        try:
            if not self._upgraded:
                return await self._receive_handshake()
            return await self._receive_frames()
        except ConnectionFailed as error:
            self._wire.end(error)
            raise trio.BrokenResourceError from error

    def _with_own_key(self, request: bytes) -> bytes:
        given = _KEY.search(request)
        if given is None:
            return request
        self._key_of_library, self._key = given[1], self._wire.key()
        return request[: given.start(1)] + self._key + request[given.end(1) :]

    # --- frames ---

    async def _receive_frames(self) -> bytes:
        wire = self._wire
        try:
            await self._settle_passed()
            while True:
                passed = self._splitter.take(self._messages)
                if passed is None:
                    self._flush()
                    await wire.wait_room()
                    await self._fill()
                elif wire.send_failed:
                    # trio-websocket has given up; what is left to learn is the Close frame.
                    if passed.close is not None:
                        self._flush()
                        raise PeerClosed(*passed.close)
                elif passed.close is not None or not wire.closing:
                    self._passed = passed
                    return passed.data
        except ProtocolViolation as error:
            self._flush()
            if not wire.closing:
                await wire.violated(error)
            raise

    async def _fill(self) -> None:
        data = await self._read()
        if not data:
            raise ConnectionLost("the stream ended without a Close frame (1006)")
        self._wire.heard()
        self._size += len(data)
        self._splitter.feed(data)

    async def _settle_passed(self) -> None:
        passed, self._passed = self._passed, None
        if passed is None:
            return
        message = await self._wire.settle(passed)
        if message is not None:
            self._messages.append(message)
        if passed.close is not None:
            self._flush()
            raise PeerClosed(*passed.close)

    def _flush(self) -> None:
        if self._messages:
            messages, size = self._messages, self._size
            self._messages, self._size = [], 0
            self._wire.deliver(messages, size, self._recv_ns)

    async def _read(self, size: int = READ_BYTES) -> bytes:
        try:
            data = await self._transport.receive_some(size)
            self._recv_ns = self._wire.clock.time_ns()
            return bytes(data)
        except trio.ClosedResourceError as error:
            raise ConnectionLost("the stream was closed") from error
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"the stream broke: {error.__cause__ or 'reset'}") from error

    # --- the opening handshake ---

    async def _receive_handshake(self) -> bytes:
        """The head of a valid 101 response; whatever else comes is an error."""
        received = b""
        while (end := _HEAD_END.search(received)) is None:
            if len(received) > _HEAD_BYTES:
                raise HandshakeError(
                    f"no end of the response's head within {_HEAD_BYTES} bytes",
                    received=received[:256],
                )
            if len(received) >= 5 and not received.startswith(b"HTTP/"):
                raise HandshakeError("the answer is not HTTP", received=received[:256])
            data = await self._read(_HEAD_READ_BYTES)
            if not data:
                raise ConnectionLost(
                    "the stream ended before the opening handshake was done"
                    + (f", after {received[:80]!r}" if received else "")
                )
            received += data
        head, rest = received[: end.end()], received[end.end() :]
        response = _parse_head(head)
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.headers]
        if response.status_code != 101:
            body = await self._read_body(head, rest)
            now_s = self._wire.clock.time_ns() / 1e9
            raise rejection_of(response.status_code, headers, body, now_s=now_s)
        accept = generate_accept_token(self._key).decode()
        if problem := upgrade_problem(headers, accept=accept):
            raise HandshakeError(
                f"the 101 response is not valid: {problem}", received=received[:256]
            )
        self._upgraded = True
        self._wire.heard()
        self._size = len(rest)
        self._splitter.feed(rest)
        # The library is to see the answer to the key that it has drawn.
        return _ACCEPT.sub(
            lambda name: name[1] + generate_accept_token(self._key_of_library), head, count=1
        )

    async def _read_body(self, head: bytes, rest: bytes) -> bytes:
        """The start of a rejection's body; whatever of it comes within the time there is."""
        connection = _http_client()
        connection.receive_data(head + rest)
        body = b""
        with trio.move_on_after(_BODY_WAIT_S):
            try:
                while len(body) < _BODY_BYTES:
                    event = connection.next_event()
                    if event is h11.NEED_DATA:
                        connection.receive_data(await self._read())
                    elif isinstance(event, h11.Data):
                        body += event.data
                    elif not isinstance(event, h11.Response | h11.InformationalResponse):
                        break
            except (h11.RemoteProtocolError, ConnectionLost):
                pass  # the status is what matters; the body ended early
        return bytes(body[:_BODY_BYTES])


def _http_client() -> h11.Connection:
    """An HTTP client that has asked for an upgrade and awaits the response."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES * 2)
    upgrade = [("Host", "-"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    connection.send(h11.Request(method="GET", target="/", headers=upgrade))
    connection.send(h11.EndOfMessage())
    return connection


def _parse_head(head: bytes) -> h11.Response | h11.InformationalResponse:
    connection = _http_client()
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HandshakeError(f"the answer is not HTTP: {error}", received=head[:256]) from error
    if isinstance(event, h11.Response | h11.InformationalResponse):
        return event
    raise HandshakeError("the answer is not an HTTP response", received=head[:256])


def _first_message(group: BaseExceptionGroup[Exception]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
