"""Faults of the network: what happens to bytes, whatever they mean.

The parameters are those of toxiproxy's toxics and of turmoil's links; docs/faults.md says which is
which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from attrs import evolve, field, frozen

from feedhandler.errors import ConnectionRefused
from feedhandler_testing.checks import at_least, not_negative, one_of, positive
from feedhandler_testing.faults.base import Act, ByteConnection, Chunk, Fault, Layer, Way

__all__ = [
    "Bandwidth",
    "CorruptBits",
    "Crash",
    "Down",
    "DropBytes",
    "DuplicateBytes",
    "End",
    "HalfOpen",
    "HoldThenCut",
    "Latency",
    "LimitData",
    "Mute",
    "Partition",
    "Reset",
    "Slicer",
    "SlowClose",
    "Stall",
    "WithholdReads",
]

_WAYS = ("to_client", "to_server", "both")
_Ways = Literal["to_client", "to_server", "both"]


@frozen
class Latency(Fault):
    """Bytes arrive `delay_s` later, plus or minus up to `jitter_s`; their order is kept."""

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    delay_s: float = field(default=0.1, validator=not_negative)
    jitter_s: float = field(default=0.0, validator=not_negative, kw_only=True)
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both"):
            return None
        jitter = act.rng.uniform(-self.jitter_s, self.jitter_s)
        return [evolve(chunk, delay_s=max(chunk.delay_s + self.delay_s + jitter, 0.0))]


@frozen
class Bandwidth(Fault):
    """At most `bytes_per_s` get through."""

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    bytes_per_s: float = field(validator=positive)
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both"):
            return None
        now = act.world.now()
        begin = max(now, act.memory.get(way.value, now))
        act.memory[way.value] = done = begin + len(chunk.data) / self.bytes_per_s
        return [evolve(chunk, delay_s=chunk.delay_s + done - now)]


@frozen
class Slicer(Fault):
    """Bytes arrive in pieces of `size`, plus or minus up to `variation`, `delay_s` apart."""

    layer: ClassVar[Layer] = Layer.BYTES
    lasting: ClassVar[bool] = True
    delays: ClassVar[bool] = True

    size: int = field(default=16, validator=at_least(1))
    variation: int = field(default=0, validator=at_least(0), kw_only=True)
    delay_s: float = field(default=0.0, validator=not_negative, kw_only=True)
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both") or len(chunk.data) <= 1:
            return None
        pieces: list[Chunk] = []
        begin = 0
        while begin < len(chunk.data):
            size = max(self.size + act.rng.randint(-self.variation, self.variation), 1)
            piece = evolve(
                chunk,
                data=chunk.data[begin : begin + size],
                delay_s=chunk.delay_s + len(pieces) * self.delay_s,
                then="",
            )
            pieces.append(piece)
            begin += size
        pieces[-1] = evolve(pieces[-1], then=chunk.then)
        return pieces


@frozen
class Stall(Fault):
    """Silence with the socket open: bytes are held, and arrive when it is over.

    With `pongs`, data alone is held and control frames pass; else both are, in the directions
    that `way` says.
    """

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    pongs: bool = False
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def _ways(self) -> list[Way]:
        return [way for way in Way if self.way in (way.value, "both")]

    def begin(self, act: Act, connection: ByteConnection) -> None:
        for way in self._ways():
            connection.link.hold(way, data_only=self.pongs)

    def end(self, act: Act, connection: ByteConnection) -> None:
        for way in self._ways():
            connection.link.release(way, data_only=self.pongs)


@frozen
class Mute(Fault):
    """The venue says nothing more: no data, no pongs, no Close. What it would say is not said."""

    layer: ClassVar[Layer] = Layer.BYTES
    lasting: ClassVar[bool] = True

    def begin(self, act: Act, connection: ByteConnection) -> None:
        connection.silent = True

    def end(self, act: Act, connection: ByteConnection) -> None:
        connection.silent = False


@frozen
class HalfOpen(Fault):
    """The peer is gone and no packet says so: nothing passes, in either direction, ever again."""

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    def begin(self, act: Act, connection: ByteConnection) -> None:
        for way in Way:
            connection.link.hold(way, data_only=False)


@frozen
class Partition(Fault):
    """The network is cut: nothing passes, and dialling hangs, until it is repaired."""

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    async def dial(self, act: Act) -> None:
        await act.over.wait()

    def begin(self, act: Act, connection: ByteConnection) -> None:
        for way in Way:
            connection.link.hold(way, data_only=False)

    def end(self, act: Act, connection: ByteConnection) -> None:
        for way in Way:
            connection.link.release(way, data_only=False)


@frozen
class HoldThenCut(Fault):
    """Data stops, and after `after_s` seconds the stream ends (toxiproxy's ``timeout``)."""

    layer: ClassVar[Layer] = Layer.BYTES
    cuts: ClassVar[bool] = True
    delays: ClassVar[bool] = True

    after_s: float = field(default=5.0, validator=not_negative)

    async def strike(self, act: Act, connection: ByteConnection) -> None:
        connection.link.hold(Way.TO_CLIENT, data_only=False)
        connection.start_later(self.after_s, connection.end)


@frozen
class WithholdReads(Fault):
    """The venue reads nothing of what the client sends: its writing blocks."""

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    def begin(self, act: Act, connection: ByteConnection) -> None:
        connection.stop_reading()

    def end(self, act: Act, connection: ByteConnection) -> None:
        connection.stop_reading(stopped=False)


@frozen
class SlowClose(Fault):
    """The end of the stream arrives `delay_s` late."""

    layer: ClassVar[Layer] = Layer.BYTES
    lasting: ClassVar[bool] = True

    delay_s: float = field(default=5.0, validator=not_negative)

    def begin(self, act: Act, connection: ByteConnection) -> None:
        connection.link.linger_s = self.delay_s

    def end(self, act: Act, connection: ByteConnection) -> None:
        connection.link.linger_s = 0.0


@frozen
class LimitData(Fault):
    """The stream ends after `count` more bytes in one direction, wherever that is."""

    layer: ClassVar[Layer] = Layer.BYTES
    lasting: ClassVar[bool] = True

    count: int = field(default=1000, validator=at_least(1))
    how: Literal["end", "reset"] = field(
        default="end", validator=one_of(("end", "reset")), kw_only=True
    )
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both"):
            return None
        left = act.memory.setdefault(way.value, self.count)
        act.memory[way.value] = left - len(chunk.data)
        if left > len(chunk.data):
            return None
        return [evolve(chunk, data=chunk.data[: max(left, 0)], then=self.how)]


@frozen
class Reset(Fault):
    """A reset; what was sent before arrives first, unless it is to `lose` it."""

    layer: ClassVar[Layer] = Layer.BYTES
    cuts: ClassVar[bool] = True

    lose: bool = False

    async def strike(self, act: Act, connection: ByteConnection) -> None:
        if not self.lose:
            # A reset loses what is on its way, and that could be the answer to the handshake.
            await connection.wait_received()
        connection.drop()


@frozen
class End(Fault):
    """The end of the stream without a Close frame."""

    layer: ClassVar[Layer] = Layer.BYTES
    cuts: ClassVar[bool] = True

    async def strike(self, act: Act, connection: ByteConnection) -> None:
        await connection.wait_received()
        await connection.end()


@frozen
class Down(Fault):
    """The venue is down: connections are reset, and dialling is refused (toxiproxy's ``down``)."""

    layer: ClassVar[Layer] = Layer.BYTES
    lasting: ClassVar[bool] = True

    async def dial(self, act: Act) -> None:
        raise ConnectionRefused("the venue is down")

    async def strike(self, act: Act, connection: ByteConnection) -> None:
        connection.drop()


@frozen
class Crash(Fault):
    """The venue's host crashes: connections go silent, dialling is refused until it is back.

    Once it is back, the old connections are reset (turmoil's ``crash`` and ``bounce``).
    """

    layer: ClassVar[Layer] = Layer.BYTES
    delays: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    async def dial(self, act: Act) -> None:
        raise ConnectionRefused("the venue has crashed")

    def begin(self, act: Act, connection: ByteConnection) -> None:
        for way in Way:
            connection.link.hold(way, data_only=False)

    def end(self, act: Act, connection: ByteConnection) -> None:
        connection.drop()


@frozen
class CorruptBits(Fault):
    """In each piece of data, `bits` bits are flipped, as no checksum has noticed."""

    layer: ClassVar[Layer] = Layer.BYTES
    taints: ClassVar[bool] = True

    bits: int = field(default=1, validator=at_least(1))
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both") or not chunk.data:
            return None
        data = bytearray(chunk.data)
        for _ in range(self.bits):
            data[act.rng.randrange(len(data))] ^= 1 << act.rng.randrange(8)
        return [evolve(chunk, data=bytes(data))]


@frozen
class DuplicateBytes(Fault):
    """A piece of data arrives twice."""

    layer: ClassVar[Layer] = Layer.BYTES
    taints: ClassVar[bool] = True

    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both") or not chunk.data:
            return None
        return [evolve(chunk, then=""), chunk]


@frozen
class DropBytes(Fault):
    """`count` bytes out of the middle of a piece of data are lost."""

    layer: ClassVar[Layer] = Layer.BYTES
    taints: ClassVar[bool] = True

    count: int = field(default=1, validator=at_least(1))
    way: _Ways = field(default="to_client", validator=one_of(_WAYS), kw_only=True)

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        if self.way not in (way.value, "both") or not chunk.data:
            return None
        begin = act.rng.randrange(len(chunk.data))
        return [evolve(chunk, data=chunk.data[:begin] + chunk.data[begin + self.count :])]
