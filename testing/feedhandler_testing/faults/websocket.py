"""Faults of the WebSocket protocol (RFC 6455), which no network proxy knows."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from feedhandler._core.frames import Opcode, encode_frame
from feedhandler.errors import ConfigError
from feedhandler_testing.checks import at_least, between, one_of
from feedhandler_testing.faults.base import Act, Fault, Frame, Layer

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = [
    "BadCloseCode",
    "Close",
    "CloseBehind",
    "ControlBetween",
    "CutMessage",
    "FragmentedControl",
    "Fragments",
    "InvalidUtf8",
    "LongControl",
    "Masked",
    "NoCloseReply",
    "NoPong",
    "NonMinimalLength",
    "Oversize",
    "Pings",
    "ReservedBits",
    "StrayContinuation",
    "TextAsBinary",
    "UnfinishedFragments",
    "WrongOpcode",
]


@frozen
class NoPong(Fault):
    """Pings are not answered."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    lasting: ClassVar[bool] = True

    def answer(self, act: Act, what: Literal["pong", "close"]) -> bool | None:
        return False if what == "pong" else None


@frozen
class NoCloseReply(Fault):
    """The client's Close frame is not answered."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    lasting: ClassVar[bool] = True

    def answer(self, act: Act, what: Literal["pong", "close"]) -> bool | None:
        return False if what == "close" else None


@frozen
class Close(Fault):
    """A Close frame with a code and a reason (RFC 6455, section 7.4)."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    cuts: ClassVar[bool] = True

    code: int = field(default=1001, validator=between(0, 65_535))
    reason: str = "going away"

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.close(self.code, self.reason)


@frozen
class CloseBehind(Fault):
    """A message and a Close frame leave in the same bytes, so that one read finds both."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET

    code: int = field(default=1001, validator=between(0, 65_535))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        if act.connection is None:
            return None
        act.connection.has_sent_close()
        close = encode_frame(Opcode.CLOSE, struct.pack("!H", self.code))
        return [encode_frame(frame.opcode, frame.payload), close]


@frozen
class BadCloseCode(Fault):
    """A Close frame whose payload breaks the protocol: a code that none may send; 0: one byte."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    cuts: ClassVar[bool] = True

    code: int = field(default=1005, validator=between(0, 65_535))

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        payload = struct.pack("!H", self.code) if self.code else b"\x03"
        await connection.send_frame(Opcode.CLOSE, payload)


@frozen
class CutMessage(Fault):
    """A message is cut in the middle of its frame; the stream `how`: ``end``s or is ``reset``."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    how: Literal["end", "reset"] = field(default="reset", validator=one_of(("end", "reset")))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        if act.connection is None:
            return None
        whole = encode_frame(frame.opcode, frame.payload)
        act.connection.link.cut_next = self.how
        return [whole[: len(whole) // 2]]


@frozen
class Fragments(Fault):
    """A message comes in `pieces` fragments."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET

    pieces: int = field(default=3, validator=at_least(2))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return _fragments(frame, self.pieces)


@frozen
class ControlBetween(Fault):
    """A message comes in fragments, with pings between them (RFC 6455, section 5.4)."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET

    pieces: int = field(default=3, validator=at_least(2))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        ping = encode_frame(Opcode.PING, b"between")
        first, *rest = _fragments(frame, self.pieces)
        return [first, *(piece for fragment in rest for piece in (ping, fragment))]


@frozen
class UnfinishedFragments(Fault):
    """A fragmented message is never finished: the next one begins in its middle."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        begun = encode_frame(frame.opcode, frame.payload[:10], fin=False)
        return [begun, encode_frame(frame.opcode, frame.payload)]


@frozen
class StrayContinuation(Fault):
    """A continuation frame comes where nothing was begun."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [encode_frame(Opcode.CONTINUATION, frame.payload)]


def _reserved(_: object, __: object, opcode: object) -> None:
    if opcode not in (*range(3, 8), *range(11, 16)):
        raise ConfigError(
            "opcode", opcode, "is none of the reserved ones", mend="use 3 to 7, or 11 to 15"
        )


@frozen
class WrongOpcode(Fault):
    """A frame has an opcode that is reserved (3 to 7, 11 to 15)."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    opcode: int = field(default=3, validator=_reserved)

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [encode_frame(self.opcode, frame.payload)]


@frozen
class ReservedBits(Fault):
    """A frame has reserved bits set, though nothing was negotiated."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    bits: int = field(default=4, validator=between(1, 7))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [encode_frame(frame.opcode, frame.payload, rsv=self.bits)]


@frozen
class Masked(Fault):
    """A server's frame is masked, which only a client's may be."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        mask = act.rng.getrandbits(32).to_bytes(4, "big")
        return [encode_frame(frame.opcode, frame.payload, mask=mask)]


@frozen
class NonMinimalLength(Fault):
    """A length is written in eight bytes where fewer would do."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        head = struct.pack("!BBQ", 0x80 | frame.opcode, 127, len(frame.payload))
        return [head + frame.payload]


@frozen
class Oversize(Fault):
    """A frame announces `size` bytes, and some of them follow."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    size: int = field(default=1 << 40, validator=between(65_536, 2**63 - 1))

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [struct.pack("!BBQ", 0x80 | frame.opcode, 127, self.size) + frame.payload]


@frozen
class InvalidUtf8(Fault):
    """A text frame is not UTF-8."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    spoils: ClassVar[bool] = True

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [encode_frame(Opcode.TEXT, frame.payload[:-1] + b"\xff}")]


@frozen
class TextAsBinary(Fault):
    """A text message comes in a binary frame."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        return [encode_frame(Opcode.BINARY, frame.payload)]


@frozen
class LongControl(Fault):
    """A ping has a payload over 125 bytes."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    cuts: ClassVar[bool] = True

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.send_frame(Opcode.PING, b"x" * 126)


@frozen
class FragmentedControl(Fault):
    """A ping comes in fragments."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET
    cuts: ClassVar[bool] = True

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.send_frame(Opcode.PING, b"x", fin=False)


@frozen
class Pings(Fault):
    """`count` pings at once; each is owed a pong."""

    layer: ClassVar[Layer] = Layer.WEBSOCKET

    count: int = field(default=100, validator=at_least(1))

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        ping = encode_frame(Opcode.PING, b"are you there")
        await connection.send_raw(ping * self.count)


def _fragments(frame: Frame, pieces: int) -> list[bytes]:
    size = max(-(-len(frame.payload) // pieces), 1)
    # Where there are more pieces than bytes, the last ones are empty.
    parts = [frame.payload[number * size : (number + 1) * size] for number in range(pieces)]
    return [
        encode_frame(
            frame.opcode if number == 0 else Opcode.CONTINUATION,
            part,
            fin=number == len(parts) - 1,
        )
        for number, part in enumerate(parts)
    ]
