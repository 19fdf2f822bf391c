"""One connection through the proxy: both directions, and the faults of the bytes on them."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Awaitable, Callable
from typing import Literal

import trio
from attrs import define

from feedhandler_testing.board import FaultBoard
from feedhandler_testing.faults.base import Chunk, Way
from feedhandler_testing.link import Link

__all__ = ["ProxiedConnection"]

_READ_BYTES = 65_536
_FLUSH_S = 1.0  # a peer that takes longer to receive what was sent to it does not read
_PART_S = 2.0  # how long a peer has in order to answer the end of the stream with its own


class ProxiedConnection:
    """A client's connection, and the one to the server that was made for it.

    An end of the stream passes on after what was sent before it, and the other direction goes on;
    a reset passes on likewise. Each direction holds at most `limit` bytes and one read more.
    `attempt` is its number, from 1; `bytes_sent` counts bytes to the client, `bytes_received`
    those from it, as they came; `why` says how it ended, once it has.
    """

    def __init__(
        self,
        attempt: int,
        client: trio.SocketStream,
        server: trio.SocketStream,
        board: FaultBoard,
        *,
        limit: int,
    ) -> None:
        self.attempt = attempt
        self.sent = 0  # messages, which no proxy sees
        self.bytes_sent = 0
        self.bytes_received = 0
        self.silent = False
        self.why = ""
        self._client = client
        self._server = server
        self._board = board
        self._to_client = _Direction(client, board, self, limit=limit, way=Way.TO_CLIENT)
        self._to_server = _Direction(server, board, self, limit=limit, way=Way.TO_SERVER)
        self.link = _Link(self._to_client, self._to_server)
        self._nursery: trio.Nursery | None = None
        self._how: Literal["", "end", "reset"] = ""
        self._broken: list[trio.SocketStream] = []  # in the order in which they were seen to be
        self._over = 0  # directions that have passed on the end of the stream
        self._may_read = trio.Event()
        self._may_read.set()

    def __repr__(self) -> str:
        state = self.why or "open"
        return (
            f"<ProxiedConnection {self.attempt} {state} "
            f"sent={self.bytes_sent} received={self.bytes_received}>"
        )

    # --- for faults ---

    def drop(self) -> None:
        """Reset both sides: what is on its way is lost."""
        self.finish("reset", "reset by a fault")
        self._to_client.reset()
        self._to_server.reset()

    async def end(self) -> None:
        """End the stream on both sides; what is still held is lost."""
        await trio.lowlevel.checkpoint()
        self.finish("end", "ended by a fault")

    def start_later(
        self, delay_s: float, act: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Call `act` in `delay_s` seconds, if the connection lives then."""
        if self._nursery is not None:
            self._nursery.start_soon(_later, delay_s, act, args)

    def stop_reading(self, *, stopped: bool = True) -> None:
        """Read nothing from the client from its next bytes on, or go on reading."""
        if stopped and self._may_read.is_set():
            self._may_read = trio.Event()
        elif not stopped:
            self._may_read.set()

    async def wait_received(self) -> None:
        """Wait until the client's host has all that was sent, but not for what a fault holds."""
        await self._to_client.wait_received()
        if not self._to_client.held:
            await _wait_flushed(self._client)

    # --- its life ---

    async def run(self) -> None:
        """Pass bytes on until both directions, or the whole connection, are over.

        Raises nothing for what a peer does. Cancel-safe: both streams are closed.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._pump, self._to_client)
                self._nursery.start_soon(self._pump, self._to_server)
                self._board.begin(self)
                self._nursery.start_soon(self._board.poll, self)
                self._nursery.start_soon(self._relay, self._server, self._to_client)
                self._nursery.start_soon(self._relay, self._client, self._to_server)
            self._nursery = None
            if self._how == "reset":
                self._to_client.reset()
                self._to_server.reset()
            elif self._how == "end":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_part, self._client, self.link.linger_s)
                    nursery.start_soon(_part, self._server, 0.0)
        finally:
            self._nursery = None
            for stream in (self._client, self._server):
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)

    def finish(self, how: Literal["end", "reset"], why: str) -> None:
        """Pass nothing more on; what comes first says how it ends."""
        if not self._how:
            self._how, self.why = how, why
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _relay(self, source: trio.SocketStream, direction: _Direction) -> None:
        pass_on = self._send_to_client if source is self._server else self._send_to_server
        while True:
            try:
                data = bytes(await source.receive_some(_READ_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._broke(source)
                return
            if source in self._broken:
                return  # the task that has seen the reset tells the other side
            try:
                if data:
                    await pass_on(data)
                    continue
                if source is self._server and self.link.linger_s:
                    await trio.sleep(self.link.linger_s)
                await direction.send_eof()
                await direction.wait_sent()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._broke(direction.peer)
                return
            self._over += 1
            if self._over == 2:
                self.finish("end", "ended by both sides")
            return

    async def _send_to_server(self, data: bytes) -> None:
        await self._may_read.wait()
        self.bytes_received += len(data)
        await self._to_server.send_all(data)

    async def _send_to_client(self, data: bytes) -> None:
        while data and not self.silent:
            # In pieces, so that what is to happen after so many bytes does, exactly.
            left = self._board.bytes_left(self) or len(data)
            piece, data = data[:left], data[left:]
            await self._to_client.send_all(piece)
            self.bytes_sent += len(piece)
            await self._board.poll(self)

    async def _pump(self, direction: _Direction) -> None:
        await direction.pump()  # ends when nothing can be sent any more
        await self._broke(direction.peer)

    async def _broke(self, peer: trio.SocketStream) -> None:
        """One side is gone; the other learns of it after what was sent to it before."""
        if self._how or peer in self._broken:
            return
        self._broken.append(peer)
        towards = self._to_server if peer is self._client else self._to_client
        try:
            await towards.send_reset()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.cut("reset")  # the other side is gone as well

    def cut(self, how: Literal["end", "reset"]) -> None:
        """A direction has been cut: by a fault, unless it passes on what one side did."""
        by = "a fault"
        if self._broken:
            by = "the client" if self._broken[0] is self._client else "the server"
        self.finish(how, f"{'reset' if how == 'reset' else 'ended'} by {by}")


class _Direction(Link):
    """What is sent to one side: the client's, or the server's."""

    def __init__(
        self,
        peer: trio.SocketStream,
        board: FaultBoard,
        connection: ProxiedConnection,
        *,
        limit: int,
        way: Way,
    ) -> None:
        super().__init__(peer, board, attempt=connection.attempt, limit=limit, way=way)
        self.peer = peer
        self.connection = connection
        self._owner = connection

    async def wait_sent(self) -> None:
        """Wait until all has left, also what a fault holds; or nothing more will."""
        while (self._waiting or self._pumping) and not self._cut:
            await self._changed.wait()

    async def send_reset(self) -> None:
        """Reset both sides, once all that waits has left."""
        await self._put(Chunk(b"", then="reset"))

    async def _cut_off(self, how: Literal["end", "reset"]) -> None:
        await _wait_flushed(self.peer)
        self._cut = True
        self._owner.cut(how)


@define
class _Link:
    """Both directions, as faults see them."""

    to_client: Link
    to_server: Link
    linger_s: float = 0.0

    def hold(self, way: Way, *, data_only: bool) -> None:
        self._towards(way).hold(way, data_only=data_only)

    def release(self, way: Way, *, data_only: bool) -> None:
        self._towards(way).release(way, data_only=data_only)

    def _towards(self, way: Way) -> Link:
        return self.to_client if way is Way.TO_CLIENT else self.to_server


async def _later(
    delay_s: float, act: Callable[..., Awaitable[None]], args: tuple[object, ...]
) -> None:
    await trio.sleep(delay_s)
    await act(*args)


async def _part(stream: trio.SocketStream, after_s: float) -> None:
    """End a stream politely: a socket that is closed with bytes unread resets its peer."""
    await trio.sleep(after_s)
    try:
        await stream.send_eof()
        with trio.move_on_after(_PART_S):
            while await stream.receive_some(_READ_BYTES):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it is gone already


async def _wait_flushed(stream: trio.SocketStream) -> None:
    """Wait until the peer's host has received what was written: a reset would lose the rest."""
    with trio.move_on_after(_FLUSH_S):
        # The kernel tells of this in no other way than on being asked (tcp(7), SIOCOUTQ).
        while _unsent_bytes(stream):  # noqa: ASYNC110
            await trio.sleep(0.001)


def _unsent_bytes(stream: trio.SocketStream) -> int:
    if stream.socket.fileno() < 0:
        return 0
    try:
        count = fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0  # a system that does not tell
    return int(struct.unpack("i", count)[0])
