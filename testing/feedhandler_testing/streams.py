"""A network of memory: two-way byte streams with bounded buffers, which can be broken."""

from __future__ import annotations

import contextlib
import operator
import socket
import struct
from collections.abc import Iterator

import trio

__all__ = ["MemoryStream", "memory_network", "reset_stream"]


class _Pipe:
    """One direction: at most `limit` bytes that were sent and not received."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.buffer = bytearray()
        self.ended = False  # the sender will send no more
        self.abandoned = False  # the receiver will receive no more
        self.broken = False  # reset
        self.held = False  # what is sent stays on the way
        self._changed = trio.Event()

    def notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def changed(self) -> None:
        await self._changed.wait()

    @property
    def room(self) -> int:
        return max(0, self.limit - len(self.buffer))


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection; made by `memory_network()`.

    It behaves as trio's contract for streams says (`trio.testing.check_two_way_stream`). When the
    other side does not receive, `send_all()` blocks at the bound.
    """

    def __init__(self, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._sending = False
        self._receiving = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self._incoming.broken else "open"
        return f"<MemoryStream {state}>"

    @property
    def room(self) -> int:
        """How many bytes can be sent without waiting."""
        return self._outgoing.room

    @property
    def closed(self) -> bool:
        """Whether this end is closed, or the connection is broken."""
        return self._closed

    # --- faults ---

    def reset(self) -> None:
        """Break the connection: what is on the way is lost, and both sides see it at once."""
        for pipe in (self._outgoing, self._incoming):
            pipe.broken = True
            pipe.buffer.clear()
            pipe.notify()
        self._closed = True

    def hold(self, *, held: bool = True) -> None:
        """Keep back what this side sends, or let it go again; its buffer stays bounded."""
        self._outgoing.held = held
        self._outgoing.notify()

    async def wait_received(self) -> None:
        """Wait until the other side has received all that was sent, or will receive no more."""
        pipe = self._outgoing
        while pipe.buffer and not (pipe.broken or pipe.abandoned):
            await pipe.changed()

    # --- trio's stream ---

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._exclusive("_sending", "another task is sending on this stream"):
            self._check_send()
            await trio.lowlevel.checkpoint()
            rest = memoryview(bytes(data))
            pipe = self._outgoing
            while rest:
                self._check_send()
                if not pipe.room:
                    await pipe.changed()
                    continue
                part = rest[: pipe.room]
                pipe.buffer += part
                rest = rest[len(part) :]
                pipe.notify()
            self._check_send()

    def send_nowait(self, data: bytes) -> None:
        """Send what there is `room` for, without a checkpoint. Raises as `send_all()` does."""
        with self._exclusive("_sending", "another task is sending on this stream"):
            self._check_send()
            self._outgoing.buffer += data
            self._outgoing.notify()

    def _check_send(self) -> None:
        if self._closed and not self._outgoing.broken:
            raise trio.ClosedResourceError
        if self._outgoing.ended:
            raise trio.ClosedResourceError("send_eof() was called")
        if self._outgoing.broken or self._outgoing.abandoned:
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        with self._exclusive("_sending", "another task is sending on this stream"):
            self._check_closed()
            await trio.lowlevel.checkpoint()
            pipe = self._outgoing
            while not (pipe.room or pipe.broken or pipe.abandoned):
                self._check_closed()
                await pipe.changed()
            self._check_closed()

    async def send_eof(self) -> None:
        with self._exclusive("_sending", "another task is sending on this stream"):
            self._check_closed()
            await trio.lowlevel.checkpoint()
            self._outgoing.ended = True
            self._outgoing.notify()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._exclusive("_receiving", "another task is receiving from this stream"):
            self._check_closed()
            pipe = self._incoming
            if pipe.broken or (not pipe.held and (pipe.buffer or pipe.ended)):
                await trio.lowlevel.checkpoint()  # else the wait below is one
            while True:
                if pipe.broken:
                    raise trio.BrokenResourceError
                self._check_closed()
                if pipe.buffer and not pipe.held:
                    break
                if pipe.ended and not pipe.held:
                    return b""
                await pipe.changed()
            count = len(pipe.buffer) if max_bytes is None else max_bytes
            data = bytes(pipe.buffer[:count])
            del pipe.buffer[:count]
            pipe.notify()
            return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._outgoing.ended = True
            self._incoming.abandoned = True
            self._outgoing.notify()
            self._incoming.notify()
        await trio.lowlevel.checkpoint()

    def _check_closed(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError

    @contextlib.contextmanager
    def _exclusive(self, flag: str, message: str) -> Iterator[None]:
        if getattr(self, flag):
            raise trio.BusyResourceError(message)
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, False)


def memory_network(limit: int = 1 << 20) -> tuple[MemoryStream, MemoryStream]:
    """A connection's two ends; each direction holds at most `limit` bytes."""
    there, back = _Pipe(limit), _Pipe(limit)
    return MemoryStream(there, back), MemoryStream(back, there)


def reset_stream(stream: trio.abc.Stream) -> None:
    """Reset a connection, of memory or of TCP (also under TLS): what is on its way is lost.

    Raises `TypeError` for a stream that has no such end.
    """
    transport: object = stream
    while not isinstance(transport, trio.SocketStream | MemoryStream):
        transport = getattr(transport, "transport_stream", None)
        if transport is None:
            raise TypeError(f"{stream!r} can't be reset; close it instead")
    if isinstance(transport, MemoryStream):
        transport.reset()
        return
    sock = transport.socket
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
