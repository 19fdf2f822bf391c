"""The server's side of one WebSocket connection, with every means to break the protocol."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from feedhandler._core.frames import Opcode, encode_frame
from feedhandler_testing.streams import MemoryStream, reset_stream

__all__ = ["MockWebSocketConnection"]

_OnMessage = Callable[["MockWebSocketConnection", "str | bytes"], Awaitable[None]]

_RECEIVED = 1024  # messages of the client that are kept; of more the oldest are dropped


class MockWebSocketConnection:
    """One accepted client; made by the server, and given out by its `next_connection()`.

    Sending raises `trio.BrokenResourceError` or `trio.ClosedResourceError` when the connection is
    gone. Pings and the Close frame are answered unless `answer_pings` or `answer_close` is set to
    false; while `silent`, nothing leaves at all. `sent` counts messages.
    """

    def __init__(
        self,
        number: int,
        stream: trio.abc.Stream,
        *,
        path: str,
        request_headers: Sequence[tuple[str, str]],
        left: Callable[[MockWebSocketConnection], int | None],
        sent: Callable[[MockWebSocketConnection], Awaitable[None]],
    ) -> None:
        self.id = number
        self.path = path
        self.request_headers = tuple(request_headers)
        self.answer_pings = True
        self.answer_close = True
        self.silent = False
        self.sent = 0
        self.pings_received = 0
        self.pongs_received = 0
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.subscriptions: dict[str, None] = {}
        self._left = left  # how many messages may still be sent (`None`: any number)
        self._sent = sent  # to be told when such have been
        self._stream = stream
        self._send_lock = trio.StrictFIFOLock()
        self._received: deque[str | bytes] = deque(maxlen=_RECEIVED)
        self._arrived = trio.Event()
        self._closed = trio.Event()
        self._close_sent = False
        self._may_read = trio.Event()
        self._may_read.set()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "silent" if self.silent else "open"
        return f"<MockWebSocketConnection {self.id} {state} sent={self.sent}>"

    # --- sending ---

    async def send(self, message: str | bytes) -> None:
        """Send one message, in one frame."""
        await self.send_many([message])

    async def send_many(self, messages: Iterable[str | bytes]) -> None:
        """Send messages in one write; fewer where a `Disconnect` is due after fewer."""
        frames = []
        for message in messages:
            if isinstance(message, str):
                frames.append(encode_frame(Opcode.TEXT, message.encode()))
            else:
                frames.append(encode_frame(Opcode.BINARY, message))
        await self.send_frames(frames)

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send frames, each of which counts as a message."""
        left = self._left(self)
        frames = frames[:left]
        await self.send_raw(b"".join(frames))
        self.sent += len(frames)
        if left is not None:
            await self._sent(self)

    async def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
    ) -> None:
        """Send one frame; nothing is checked."""
        await self.send_raw(encode_frame(opcode, payload, fin=fin, rsv=rsv, mask=mask))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self.silent:
            await trio.lowlevel.checkpoint()
            return
        async with self._send_lock:
            await self._stream.send_all(data)

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping; its pong is counted in `pongs_received`."""
        await self.send_frame(Opcode.PING, payload)

    # --- receiving ---

    async def receive(self) -> str | bytes:
        """The client's next message. Raises `trio.EndOfChannel` when there will be none."""
        await trio.lowlevel.checkpoint()
        while not self._received:
            if self.closed:
                raise trio.EndOfChannel
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._received.popleft()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, from whichever side."""
        await self._closed.wait()

    # --- ending ---

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close frame; the stream ends when the client has answered, or is gone."""
        self._close_sent = True
        await self.send_frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())

    def drop(self) -> None:
        """Reset the connection: what is on its way is lost."""
        reset_stream(self._stream)
        self._closed.set()
        self._arrived.set()

    async def end(self) -> None:
        """End the stream without a Close frame; what is on its way arrives."""
        await trio.aclose_forcefully(self._stream)
        self._closed.set()
        self._arrived.set()

    def stop_reading(self, *, stopped: bool = True) -> None:
        """Read nothing from the client from its next bytes on, or go on reading."""
        if stopped and self._may_read.is_set():
            self._may_read = trio.Event()
        elif not stopped:
            self._may_read.set()

    async def wait_received(self) -> None:
        """Wait until the client has read all that was sent (memory streams; TCP: does nothing)."""
        if isinstance(self._stream, MemoryStream):
            await self._stream.wait_received()

    def hold(self, *, held: bool = True) -> None:
        """Keep back all bytes to the client, or let them go again (memory streams only)."""
        if not isinstance(self._stream, MemoryStream):
            raise TypeError("only memory streams can hold bytes back; use `silent` instead")
        self._stream.hold(held=held)

    # --- for the server ---

    async def run(self, received: _OnMessage) -> None:
        """Read what the client sends until the end."""
        protocol = Connection(ConnectionType.SERVER)
        parts: list[str | bytes | bytearray] = []
        try:
            while not self._close_sent or self.close_code is None:
                data = await self._stream.receive_some(65_536)
                await self._may_read.wait()
                if not data:
                    break
                protocol.receive_data(bytes(data))
                for event in protocol.events():
                    match event:
                        case TextMessage() | BytesMessage():
                            parts.append(event.data)
                            if event.message_finished:
                                message = _joined(parts)
                                parts.clear()
                                self._received.append(message)
                                self._arrived.set()
                                await received(self, message)
                        case Ping():
                            self.pings_received += 1
                            if self.answer_pings:
                                await self.send_frame(Opcode.PONG, bytes(event.payload))
                        case Pong():
                            self.pongs_received += 1
                        case CloseConnection():
                            self.close_code = int(event.code)
                            self.close_reason = event.reason or ""
                            if self._close_sent:
                                return
                            if self.answer_close and not self.silent:
                                self._close_sent = True
                                code = 1000 if event.code == 1005 else int(event.code)
                                await self.send_frame(Opcode.CLOSE, code.to_bytes(2, "big"))
                                return
                            while await self._stream.receive_some(65_536):
                                pass  # the client's patience ends it
                            return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client, or a fault, has ended it
        finally:
            self._closed.set()
            self._arrived.set()
            await trio.aclose_forcefully(self._stream)

    async def ping_every(self, interval_s: float) -> None:
        """Ping until the connection is gone."""
        try:
            while True:
                await trio.sleep(interval_s)
                await self.ping()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


def _joined(parts: Sequence[str | bytes | bytearray]) -> str | bytes:
    """A message from its parts, which are all text or all binary."""
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if not isinstance(part, str))
