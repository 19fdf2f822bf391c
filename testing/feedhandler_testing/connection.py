"""The server's side of one WebSocket connection, with every means to break the protocol."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import trio
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from feedhandler._core.frames import Opcode, encode_frame
from feedhandler_testing.board import FaultBoard
from feedhandler_testing.dialect import Dialect, DialectSession, PlainDialect, respelled
from feedhandler_testing.faults.base import Frame, Later, Payload
from feedhandler_testing.link import Link
from feedhandler_testing.prices import encode_message
from feedhandler_testing.streams import MemoryStream

__all__ = ["MockWebSocketConnection"]

_OnMessage = Callable[["MockWebSocketConnection", "str | bytes"], Awaitable[None]]
_OnSent = Callable[["MockWebSocketConnection", dict[str, Any], bool], None]
_Outgoing = tuple[Payload, str | None]  # a message, and its text where that is not to be changed
_OnEvent = Callable[["MockWebSocketConnection", str], None]

_RECEIVED = 1024  # messages of the client that are kept; of more the oldest are dropped


class MockWebSocketConnection:
    """One accepted client; made by the server, and given out by its `next_connection()`.

    Sending raises `trio.BrokenResourceError` or `trio.ClosedResourceError` when the connection is
    gone. Pings and the Close frame are answered unless `answer_pings` or `answer_close` is set to
    false; while `silent`, nothing leaves at all. `sent` counts messages, `bytes_sent` bytes,
    `attempt` is the number of the client's attempt to connect. `link` is what faults act on.
    `session` is what the venue's dialect knows of it; `app_pongs` are the ids of the venue's own
    pings that the client has answered.
    """

    def __init__(
        self,
        number: int,
        link: Link,
        *,
        path: str,
        request_headers: Sequence[tuple[str, str]],
        board: FaultBoard,
        dialect: Dialect,
        session: DialectSession,
        time_ns: Callable[[], int],
        compressed: bool,
        on_sent: _OnSent | None,
        on_event: _OnEvent,
    ) -> None:
        self.id = number
        self.attempt = link.attempt
        self.link = link
        self.path = path
        self.request_headers = tuple(request_headers)
        self.answer_pings = True
        self.answer_close = True
        self.silent = False
        self.sent = 0
        self.bytes_sent = 0
        self.pings_received = 0
        self.pongs_received = 0
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.subscriptions: dict[str, None] = {}
        self.book_subscriptions: dict[str, None] = {}
        self.quote_subscriptions: dict[str, None] = {}
        self.dialect = dialect
        self.session = session
        self.plain = isinstance(dialect, PlainDialect)
        self.app_pongs: set[object] = set()
        self.quiet = False  # with it, the venue says nothing by itself, and ends nothing
        self._stamp = dialect.means.first_stamp
        self._time_ns = time_ns
        self._unsaid = False
        self._idle = trio.CancelScope()
        self._heard = trio.Event()
        self._heard_count = 0
        self.first_message: str | bytes | None = None  # that the client has sent
        self._board = board
        self._compressed = compressed
        self._on_sent = on_sent
        self._on_event = on_event
        self._nursery: trio.Nursery | None = None
        self._to_start: deque[tuple[float, Callable[..., Awaitable[None]], tuple[object, ...]]]
        self._to_start = deque()
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
        """Send one message, in one frame; faults of all layers act on it."""
        await self.send_many([message])

    async def send_many(self, messages: Iterable[str | bytes]) -> None:
        """Send messages in one write; fewer where a fault that ends the connection is due."""
        await self._send_all([item for message in messages for item in self._passed(message)])

    async def send_messages(self, messages: Iterable[dict[str, Any]]) -> None:
        """Send the venue's messages, given as JSON objects, as `send_many()` does."""
        await self._send_all([item for message in messages for item in self._faulted(message)])

    async def answer(self, messages: Iterable[dict[str, Any]]) -> None:
        """Send what the venue owes, in one write; of this only data counts as messages."""
        data, count = b"", 0
        for message in messages:
            for item, text in self._faulted(message):
                if isinstance(item, dict) and "sequence" in item:
                    count += 1
                    data += self._framed(item, text)
                else:
                    data += b"".join(map(_frame_of, self._written(item)))
        await self._write(data, control=False)
        self.sent += count
        self._board.events["message"] += count
        await self._board.poll(self)

    def send_nowait(self, message: dict[str, Any]) -> bool:
        """Send a message of the venue without a checkpoint; false where that can't be: a fault may
        act on it, or it would have to wait. Raises as `send()` does."""
        board = self._board
        if self.silent or self._send_lock.locked() or not (self.link.roomy and self.plain):
            return False
        if any(board.has(hook) for hook in ("message", "frame", "strike", "begin", "carry")):
            return False
        data = self._framed(message, None)
        if not self.link.send_nowait(data):
            return False
        self.bytes_sent += len(data)
        self.sent += 1
        board.events["message"] += 1
        return True

    def _passed(self, message: str | bytes) -> list[_Outgoing]:
        """Text that is a JSON object is open to the faults of the venue; it is sent as it is."""
        looked_at = self.plain and (self._board.has("message") or self._on_sent is not None)
        if looked_at and isinstance(message, str):
            document = _document(message)
            if document is not None:
                return [
                    (said, message) if said is document else (said, None)
                    for said, _ in self._faulted(document)
                ]
        return [(message, None)]

    def _faulted(self, message: dict[str, Any]) -> list[_Outgoing]:
        """What is sent now in the place of a message."""
        if not self.plain:
            if not self.session.says(message):
                return []
            message = self._stamped(message)
        if not self._board.has("message"):
            return [(message, None)]
        outgoing: list[_Outgoing] = []
        sent = self._unsaid = False
        passing = self._board.messages(self, message)
        for item in passing if self.plain else self._restamped(message, passing):
            if isinstance(item, Later):
                self.start_later(item.delay_s, self._send_all, [(item.message, None)])
                sent = True
            else:
                outgoing.append((item, None))
                sent |= isinstance(item, dict) and item.get("sequence") == message.get("sequence")
        if not (sent or self._unsaid) and self._on_sent is not None:
            self._on_sent(self, message, False)
        return outgoing

    async def _send_all(self, outgoing: Sequence[_Outgoing]) -> None:
        """Send up to where a fault has to be looked at, look, and so on."""
        position, board = 0, self._board
        while position < len(outgoing):
            left = board.messages_left(self)
            if left == 0:
                await board.poll(self)
                if self.closed or self._close_sent:
                    return
            end = len(outgoing) if left is None else min(position + max(left, 1), len(outgoing))
            data = b"".join([self._framed(*item) for item in outgoing[position:end]])
            await self._write(data, control=False)
            self.sent += end - position
            board.events["message"] += end - position
            position = end
            await board.poll(self)
            if self.closed or self._close_sent:
                return

    def _framed(self, message: Payload, text: str | None) -> bytes:
        if not self.plain and isinstance(message, dict):
            return self._framed_as_venue(message)
        if isinstance(message, bytes):
            frame = Frame(Opcode.BINARY, message)
        else:
            said = encode_message(message) if isinstance(message, dict) else message
            payload = (text or said).encode("utf-8", "surrogatepass")
            frame = Frame(Opcode.TEXT, payload)
            if self._compressed:
                frame = Frame(Opcode.BINARY, gzip.compress(payload, mtime=0))
        pieces, spoiled = self._board.frames(self, frame)
        if isinstance(message, dict) and self._on_sent is not None:
            self._on_sent(self, message, not (spoiled or self.silent))
        return encode_frame(frame.opcode, frame.payload) if pieces is None else b"".join(pieces)

    # --- as the venue writes it ---

    async def say(self, message: dict[str, Any]) -> None:
        """Send one of the venue's messages, as a control: no fault of messages acts on it."""
        if not self.plain:
            if not self.session.says(message):
                await trio.lowlevel.checkpoint()
                return
            message = self._stamped(message)
        for said in self._written(message):
            opcode = Opcode.BINARY if isinstance(said, bytes) else Opcode.TEXT
            await self.send_frame(opcode, said if isinstance(said, bytes) else said.encode())

    def text_of(self, message: Mapping[str, Any]) -> str | None:
        """A message as the venue writes it; `None` where that is not one single text."""
        said = self._written(dict(message))
        return said[0] if len(said) == 1 and isinstance(said[0], str) else None

    def respelled(
        self, message: Mapping[str, Any], name: str, change: Callable[[Any], Any] | None
    ) -> str | None:
        """See `dialect.respelled()`."""
        return respelled(self.session.encode, message, name, change)

    def _written(self, message: Payload) -> Sequence[str | bytes]:
        if not isinstance(message, dict):
            return [message]
        return [encode_message(message)] if self.plain else self.session.encode(message)

    def _framed_as_venue(self, message: dict[str, Any]) -> bytes:
        data, intact = [], not self.silent
        for said in self.session.encode(message):
            opcode = Opcode.BINARY if isinstance(said, bytes) else Opcode.TEXT
            payload = said if isinstance(said, bytes) else said.encode("utf-8", "surrogatepass")
            pieces, spoiled = self._board.frames(self, Frame(opcode, payload))
            data += [encode_frame(opcode, payload)] if pieces is None else pieces
            intact &= not spoiled
        if self._on_sent is not None:
            self._on_sent(self, message, intact)
        return b"".join(data)

    def _timed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        unit = self.dialect.means.time_unit_ns
        time_ns = message.get("time", self._time_ns())
        return {**message, "time": time_ns - time_ns % unit}

    def _stamped(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message with its time, as exact as the venue's, and with the number that it has among
        all messages of this connection, where the venue counts them."""
        stamped = self._timed(message)
        if self._stamp is not None:
            stamped["stamp"] = self._stamp
            self._stamp += 1
        return stamped

    def count_from(self, stamp: int) -> None:
        """Where the venue counts a connection's messages: the next one has this number."""
        self._stamp = stamp

    @property
    def next_stamp(self) -> int | None:
        return self._stamp

    def unsay(self, message: Mapping[str, Any]) -> None:
        """The venue has never said this: what it says next has its number."""
        if self._stamp is not None and message.get("stamp") == self._stamp - 1:
            self._stamp -= 1
            self._unsaid = True

    def _restamped(
        self, message: Mapping[str, Any], items: Sequence[Payload | Later]
    ) -> list[Payload | Later]:
        """What faults have put in the place of `message`, with what `_stamped()` gives.

        A message that they have made is one of the venue's own, and counts from where it stands.
        """
        if self._stamp is None:
            return [self._timed(item) if isinstance(item, dict) else item for item in items]
        if all("stamp" in item for item in items if isinstance(item, dict)):
            return list(items)
        number = own = message["stamp"]
        restamped: list[Payload | Later] = []
        moved: int | None = None
        for item in items:
            if isinstance(item, dict) and "stamp" not in item:
                restamped.append({**self._timed(item), "stamp": number})
                number += 1
            elif isinstance(item, dict) and item["stamp"] == own:
                if moved is None:
                    moved, number = number, number + 1
                restamped.append({**item, "stamp": moved})
            else:
                restamped.append(item)
        self._stamp = max(self._stamp, number)
        return restamped

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
        frame = encode_frame(opcode, payload, fin=fin, rsv=rsv, mask=mask)
        await self._write(frame, control=opcode >= Opcode.CLOSE)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._write(data, control=False)

    async def _write(self, data: bytes, *, control: bool) -> None:
        if self.silent:
            await trio.lowlevel.checkpoint()
            return
        try:
            self._send_lock.acquire_nowait()  # sending is a checkpoint: one is enough
        except trio.WouldBlock:
            await self._send_lock.acquire()
        try:
            await self.link.send_all(data, control=control)
        finally:
            self._send_lock.release()
        self.bytes_sent += len(data)

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

    def has_received(self, message: str | bytes) -> bool:
        """Whether this message of the client is among those not yet taken."""
        return message in self._received

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

    def has_sent_close(self) -> None:
        """A Close frame is on its way, sent in some other way than by `close()`."""
        self._close_sent = True

    def drop(self) -> None:
        """Reset the connection: what is on its way is lost."""
        self.link.reset()
        self._closed.set()
        self._arrived.set()

    async def end(self) -> None:
        """End the stream without a Close frame; what is on its way arrives."""
        await trio.aclose_forcefully(self.link)
        self._closed.set()
        self._arrived.set()

    def start_later(
        self, delay_s: float, act: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Call `act` in `delay_s` seconds, if the connection lives then."""
        if self._nursery is not None:
            self._nursery.start_soon(self._later, delay_s, act, args)
        elif not self.closed:
            self._to_start.append((delay_s, act, args))

    async def _later(
        self, delay_s: float, act: Callable[..., Awaitable[None]], args: Sequence[object]
    ) -> None:
        await trio.sleep(delay_s)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await act(*args)

    def stop_reading(self, *, stopped: bool = True) -> None:
        """Read nothing from the client from its next bytes on, or go on reading."""
        if stopped and self._may_read.is_set():
            self._may_read = trio.Event()
        elif not stopped:
            self._may_read.set()

    async def wait_received(self) -> None:
        """Wait until the client has read all that was sent (memory streams; TCP: does nothing)."""
        await self.link.wait_received()

    def hold(self, *, held: bool = True) -> None:
        """Keep back all bytes to the client, or let them go again (memory streams only)."""
        transport = self.link.transport_stream
        if not isinstance(transport, MemoryStream):
            raise TypeError("only memory streams can hold bytes back; use `silent` instead")
        transport.hold(held=held)

    # --- for the server ---

    async def run(self, received: _OnMessage, *, ping_every_s: float | None) -> None:
        """Serve the client until the end: read what it sends, and ping it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while self._to_start:  # a fault may have acted before
                nursery.start_soon(self._later, *self._to_start.popleft())
            if ping_every_s is not None:
                nursery.start_soon(self.ping_every, ping_every_s)
            means = self.dialect.means
            if means.heartbeat_s is not None and not self.quiet:
                nursery.start_soon(self._say_every, means.heartbeat_s)
            if means.idle_s is not None and not self.quiet:
                nursery.start_soon(self._end_idle, means.idle_s)
            self._board.begin(self)
            nursery.start_soon(self._board.poll, self)
            try:
                await self._read(received)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client, or a fault, has ended it
            else:
                await self._linger()
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()
                self._closed.set()
                self._arrived.set()
                await trio.aclose_forcefully(self.link)

    async def _read(self, received: _OnMessage) -> None:
        protocol = Connection(ConnectionType.SERVER)
        parts: list[str | bytes | bytearray] = []
        while not self._close_sent or self.close_code is None:
            data = await self.link.receive_some(65_536)
            await self._may_read.wait()
            if not data:
                return
            protocol.receive_data(bytes(data))
            for event in protocol.events():
                match event:
                    case TextMessage() | BytesMessage():
                        parts.append(event.data)
                        if event.message_finished:
                            self._has_heard()
                            message = _joined(parts)
                            parts.clear()
                            if self.first_message is None:
                                self.first_message = message
                            self._received.append(message)
                            self._arrived.set()
                            await received(self, message)
                    case Ping():
                        self.pings_received += 1
                        self._on_event(self, "ping")
                        if self.answer_pings and self._board.answers(self, "pong"):
                            await self.send_frame(Opcode.PONG, bytes(event.payload))
                    case Pong():
                        self.pongs_received += 1
                    case CloseConnection():
                        await self._closed_by_client(int(event.code), event.reason or "")
                        return

    async def _closed_by_client(self, code: int, reason: str) -> None:
        self.close_code = code
        self.close_reason = reason
        self._on_event(self, "close")
        if self._close_sent:
            return
        if self.answer_close and not self.silent and self._board.answers(self, "close"):
            self._close_sent = True
            answer = 1000 if code == 1005 else code
            await self.send_frame(Opcode.CLOSE, answer.to_bytes(2, "big"))
            await self.link.wait_received()
            return
        while await self.link.receive_some(65_536):
            pass  # the client's patience ends it

    async def _linger(self) -> None:
        """Keep the stream open for as long as a fault wants it; nothing more is sent."""
        if self.link.linger_s:
            self.subscriptions.clear()
            self.book_subscriptions.clear()
            self.quote_subscriptions.clear()
            await trio.sleep(self.link.linger_s)

    async def ping_every(self, interval_s: float) -> None:
        """Ping until the connection is gone."""
        try:
            while True:
                await trio.sleep(interval_s)
                await self.ping()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _say_every(self, interval_s: float) -> None:
        """Say that the venue is alive, until the connection is gone."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await trio.sleep(interval_s)
                await self.answer([{"type": "heartbeat"}])

    async def wait_heard(self) -> None:
        """Wait until the client has sent a message."""
        await self._heard.wait()

    async def wait_quiet(self, seconds: float) -> None:
        """Wait until the client has sent no message for so long."""
        count = -1
        while count != self._heard_count:
            count = self._heard_count
            await trio.sleep(seconds)

    def _has_heard(self) -> None:
        self._heard.set()
        self._heard_count += 1
        idle_s = self.dialect.means.idle_s
        if idle_s is not None:
            self._idle.deadline = trio.current_time() + idle_s

    async def _end_idle(self, idle_s: float) -> None:
        """Close the connection once the client has sent no message for too long."""
        self._idle.deadline = trio.current_time() + idle_s
        with self._idle:
            await trio.sleep_forever()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.close(1000, "idle")


def _frame_of(said: str | bytes) -> bytes:
    if isinstance(said, bytes):
        return encode_frame(Opcode.BINARY, said)
    return encode_frame(Opcode.TEXT, said.encode())


def _document(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, if it is one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _joined(parts: Sequence[str | bytes | bytearray]) -> str | bytes:
    """A message from its parts, which are all text or all binary."""
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if not isinstance(part, str))
