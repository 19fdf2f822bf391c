"""The server's end of a connection, on which the faults of the network act."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal

import trio

from feedhandler_testing.faults.base import ByteConnection, Chunk, Way
from feedhandler_testing.streams import MemoryStream, reset_stream

if TYPE_CHECKING:
    from feedhandler_testing.board import FaultBoard

__all__ = ["Link"]


_MESSAGE_BYTES = 65_536  # that no message of a test is likely to exceed


class Link(trio.abc.Stream):
    """A byte stream through the faults of a board; `way` is where what is sent goes.

    With no fault in place bytes go straight through (`trio.testing.check_two_way_stream`). Else
    those that are sent wait here, at most `limit` of them, until `pump()`, which runs beside the
    connection, may let them go. `attempt` is the number of the client's attempt to connect.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        board: FaultBoard,
        *,
        attempt: int,
        limit: int = 1 << 20,
        way: Way = Way.TO_CLIENT,
    ) -> None:
        self.transport_stream = transport
        self.attempt = attempt
        self.way = way
        self.connection: ByteConnection | None = None
        self.linger_s = 0.0
        self.cut_next: Literal["", "end", "reset"] = ""
        self.tainted = False
        self._board = board
        self._limit = limit
        self._waiting: deque[tuple[Chunk, float]] = deque()
        self._waiting_bytes = 0
        self._pumping = False
        self._held: Counter[tuple[Way, bool]] = Counter()
        self._changed = trio.Event()
        self._cut = False
        self._closed = False
        self._not_before = -math.inf  # bytes keep their order, so nothing arrives before this

    def __repr__(self) -> str:
        return (
            f"<Link {self.attempt} waiting={self._waiting_bytes} held={sum(self._held.values())}>"
        )

    # --- for faults ---

    def hold(self, way: Way, *, data_only: bool) -> None:
        """Keep bytes back; each call needs its `release()`."""
        self._held[way, data_only] += 1
        self._notify()

    def release(self, way: Way, *, data_only: bool) -> None:
        """Let them go again."""
        self._held[way, data_only] -= 1
        self._notify()

    @property
    def held(self) -> bool:
        """Whether anything is kept back."""
        return any(count > 0 for count in self._held.values())

    def _holds(self, way: Way, *, control: bool) -> bool:
        return self._held[way, False] > 0 or (not control and self._held[way, True] > 0)

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def roomy(self) -> bool:
        """Whether a message can be sent without waiting."""
        transport = self.transport_stream
        if self._waiting or self.held or not isinstance(transport, MemoryStream):
            return False
        return transport.room >= _MESSAGE_BYTES

    def send_nowait(self, data: bytes) -> bool:
        """Send without a checkpoint, if it is `roomy` and nothing could act on it; else false."""
        transport = self.transport_stream
        if self._cut or self._pumping or self.cut_next or not isinstance(transport, MemoryStream):
            return False
        if self._board.has("carry") or not self.roomy or len(data) > _MESSAGE_BYTES:
            return False
        transport.send_nowait(data)
        return True

    # --- sending ---

    async def send_all(
        self, data: bytes | bytearray | memoryview, *, control: bool = False
    ) -> None:
        """Send bytes; `control` frames pass where only data is held."""
        direct = not (self._waiting or self._pumping or self.cut_next or self._board.has("carry"))
        if direct and not self._holds(self.way, control=control):
            if self._cut:
                await trio.lowlevel.checkpoint()
                raise self._gone()
            await self.transport_stream.send_all(data)
            return
        await trio.lowlevel.checkpoint()
        cut, self.cut_next = self.cut_next, ""
        await self._put(Chunk(bytes(data), control=control, then=cut))

    async def send_eof(self) -> None:
        """Say that nothing more is sent, once all that waits has left; the stream goes on."""
        await trio.lowlevel.checkpoint()
        await self._put(Chunk(b"", then="eof"))

    async def _put(self, chunk: Chunk) -> None:
        chunks, tainted = self._board.carry(self.attempt, self.connection, chunk, self.way)
        self.tainted |= tainted
        for one in chunks:
            while self._waiting_bytes >= self._limit and not self._cut:
                await self._changed.wait()
            if self._cut:
                raise self._gone()
            due = trio.current_time() + one.delay_s
            self._waiting.append((one, due))
            self._waiting_bytes += len(one.data)
            self._notify()  # at once: the next may have to wait until this one has left

    async def pump(self) -> None:
        """Let go of what waits, when it is due and not held; ends when the stream does."""
        try:
            while not self._cut:
                changed = self._changed
                position = self._next_to_go()
                if position is None:
                    await changed.wait()
                    continue
                chunk, due = self._waiting[position]
                due = max(due, self._not_before)
                if due > trio.current_time():
                    with trio.move_on_at(due):
                        await changed.wait()
                    continue
                self._not_before = due
                del self._waiting[position]
                self._pumping = True
                try:
                    if chunk.data:
                        await self.transport_stream.send_all(chunk.data)
                finally:
                    self._pumping = False
                self._waiting_bytes -= len(chunk.data)
                self._notify()
                if chunk.then == "eof":
                    await self._end_sending()
                elif chunk.then:
                    await self._cut_off(chunk.then)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._cut = True  # the client, or a fault, has ended it
            self._notify()

    def _next_to_go(self) -> int | None:
        """Where the first chunk is that is not held."""
        if self._held[self.way, False] > 0:
            return None
        if self._held[self.way, True] <= 0:
            return 0 if self._waiting else None
        controls = (at for at, (chunk, _) in enumerate(self._waiting) if chunk.control)
        return next(controls, None)

    async def _end_sending(self) -> None:
        transport = self.transport_stream
        if isinstance(transport, trio.abc.HalfCloseableStream):
            await transport.send_eof()

    async def _cut_off(self, how: Literal["end", "reset"]) -> None:
        transport = self.transport_stream
        if isinstance(transport, MemoryStream):
            await transport.wait_received()
        self._cut = True
        self._notify()
        if how == "reset":
            reset_stream(transport)
        else:
            await trio.aclose_forcefully(transport)

    async def wait_received(self) -> None:
        """Wait until the client has read all that was sent (TCP: until it was written).

        Does not wait for what a fault holds.
        """
        while (self._waiting or self._pumping) and not (self.held or self._cut):
            await self._changed.wait()
        transport = self.transport_stream
        if isinstance(transport, MemoryStream) and not self.held:
            await transport.wait_received()

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport_stream.wait_send_all_might_not_block()

    # --- receiving ---

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self.transport_stream.receive_some(max_bytes))
        while self._holds(Way.TO_SERVER, control=False) and not self._cut:
            await self._changed.wait()
        if not data or not self._board.has("carry"):
            return data
        chunks, _ = self._board.carry(self.attempt, self.connection, Chunk(data), Way.TO_SERVER)
        for number, chunk in enumerate(chunks):
            if chunk.delay_s > 0:
                await trio.sleep(chunk.delay_s)
            if chunk.then == "end" or chunk.then == "reset":
                await self._cut_off(chunk.then)
                chunks = chunks[: number + 1]
                break
        return b"".join(chunk.data for chunk in chunks)

    # --- the end ---

    def _gone(self) -> Exception:
        """What sending raises once it is over: whether that was this side's doing or not."""
        return trio.ClosedResourceError() if self._closed else trio.BrokenResourceError()

    async def aclose(self) -> None:
        self._cut = self._closed = True
        self._notify()
        await self.transport_stream.aclose()

    def reset(self) -> None:
        """Break the connection: what is on its way is lost. Raises `TypeError` where none can."""
        self._cut = True
        self._notify()
        reset_stream(self.transport_stream)
