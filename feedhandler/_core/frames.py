"""WebSocket frames as bytes (RFC 6455, section 5): writing them, and finding plain ones fast."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

from attrs import frozen

from feedhandler.errors import MessageTooLarge, ProtocolViolation

__all__ = ["FrameSplitter", "Opcode", "Passed", "encode_frame", "remask"]


class Opcode(IntEnum):
    """Frame types (RFC 6455, section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


def encode_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = None
) -> bytes:
    """Return one frame; `rsv` holds the three reserved bits, `mask` four bytes or `None`.

    Nothing is checked, so that frames which break the protocol can be made as well.
    """
    length = len(payload)
    first = (0x80 if fin else 0) | (rsv & 7) << 4 | opcode & 0xF
    masked = 0x80 if mask is not None else 0
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 65_536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    return head + mask + _masked(payload, mask)


def remask(data: bytes, masks: Callable[[], bytes]) -> bytes:
    """Whole masked frames, with other masks: `masks` gives four bytes for each frame."""
    remasked: list[bytes] = []
    position = 0
    while position < len(data):
        length = data[position + 1] & 0x7F
        head = position + 2
        if length == 126:
            (length,) = struct.unpack_from("!H", data, head)
            head += 2
        elif length == 127:
            (length,) = struct.unpack_from("!Q", data, head)
            head += 8
        old, new = data[head : head + 4], masks()
        payload = data[head + 4 : head + 4 + length]
        # What both masks have in common cancels out.
        both = bytes(a ^ b for a, b in zip(old, new, strict=True))
        remasked += (data[position:head], new, _masked(payload, both))
        position = head + 4 + length
    return b"".join(remasked)


def _masked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return body.to_bytes(length, "big")


@frozen
class Passed:
    """Frames that are out of the ordinary, to be handled elsewhere, in order.

    `data` is one or more whole frames. `completes` tells that they end a fragmented message, and
    `close` is the code and reason of the Close frame that they end with, if any.
    """

    data: bytes
    completes: bool = False
    close: tuple[int, str] | None = None


class FrameSplitter:
    """Cuts a server's bytes into plain messages and everything else.

    A plain message is one whole, final, unmasked text or binary frame. Fragments and control
    frames are returned as `Passed`, whole and in order. Each rule of RFC 6455 that a frame's
    header can break is checked here, so what is passed on has valid headers; and the size of a
    message is checked before its bytes are kept. Bytes in, values out: there is no I/O.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_fragment_bytes",
        "_fragmented",
        "_have",
        "_last_text_7",
        "_limit",
        "_need",
        "_position",
        "_small",
    )

    def __init__(self, *, max_message_bytes: int) -> None:
        self._limit = max_message_bytes
        self._small = min(max_message_bytes, _SMALL_BYTES)
        self._last_text_7 = _TEXT_7 + min(max_message_bytes, 125)
        self._buffer = b""
        self._position = 0
        # A frame that is larger than one read is collected in chunks and joined once.
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self._fragmented = False
        self._fragment_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer) - self._position + self._have

    def feed(self, data: bytes) -> None:
        """Add bytes as they were received, cut anywhere."""
        if self._need:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            self._buffer = b"".join(self._chunks)
            self._chunks.clear()
            self._have = self._need = 0
        elif self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def take(self, messages: list[str | bytes]) -> Passed | None:
        """Append the plain messages at the front to `messages`, up to anything that is not plain.

        Returns that, or `None` when more bytes are needed. Call it again after either. Raises
        `ProtocolViolation` (1002, 1007) or `MessageTooLarge` (1009) at the first frame that is
        wrong; the messages before it are in `messages`, and nothing after it ever is.
        """
        if self._need:
            return None
        while True:
            self._take_plain(messages)
            if self._position == len(self._buffer):
                return None
            if not self._take_one_plain(messages):
                return self._take_unusual()

    def _take_plain(self, messages: list[str | bytes]) -> None:
        """The hot loop: plain frames of at least four bytes and at most 64 KiB, until another."""
        if self._fragmented:
            return
        buffer = self._buffer
        position = self._position
        last = len(buffer) - 4
        limit = self._limit
        small = self._small
        append = messages.append
        unpack = _HEAD.unpack_from
        payload_and_head = _PAYLOAD_AND_HEAD
        text_16 = _TEXT_16
        text_7, last_text_7 = _TEXT_7, self._last_text_7
        try:
            while position <= last:
                head, length = unpack(buffer, position)
                while True:  # small text: one call gives it and the head of what follows
                    if head == text_16:
                        if not 125 < length <= small:
                            break
                        start = position + 4
                    elif text_7 <= head <= last_text_7:
                        length = head - text_7
                        start = position + 2
                    else:
                        break
                    stop = start + length
                    if stop > last:
                        break
                    payload, head, length = payload_and_head[length](buffer, start)
                    append(payload.decode())
                    position = stop
                kind, second = head >> 8, head & 0xFF
                start = position + 4
                if second < 126:
                    length = second
                    start = position + 2
                elif second != 126 or length < 126:
                    break
                stop = start + length
                if kind not in _PLAIN or length > limit or stop > last + 4:
                    break
                payload = buffer[start:stop]
                append(payload.decode() if kind == _FINAL_TEXT else payload)
                position = stop
        except UnicodeDecodeError:
            pass  # it is at the front now, and judged there
        self._position = position

    def _take_one_plain(self, messages: list[str | bytes]) -> bool:
        """Take a plain frame of any size, if one is at the front; judge what is wrong with it."""
        buffer = self._buffer
        position = self._position
        if self._fragmented or len(buffer) - position < 2 or buffer[position] not in _PLAIN:
            return False
        header = self._long_header()
        if header is None:
            return False
        start, length = header
        if length > self._limit:
            raise MessageTooLarge(self._limit)
        stop = start + length
        if stop > len(buffer):
            return False
        payload = buffer[start:stop]
        if buffer[position] == _FINAL_TEXT:
            try:
                messages.append(payload.decode())
            except UnicodeDecodeError as error:
                raise ProtocolViolation(1007, f"text that is not UTF-8: {error}") from None
        else:
            messages.append(payload)
        self._position = stop
        return True

    def _expect(self, position: int) -> None:
        """Where the frame at `position` is large and unfinished, collect it in chunks."""
        buffer = self._buffer
        have = len(buffer) - position
        if have < 2 or buffer[position + 1] & 0x7F != 127 or have < 10:
            return
        need = 10 + int.from_bytes(buffer[position + 2 : position + 10], "big")
        if need > have:
            self._chunks.append(buffer[position:])
            self._have = have
            self._need = need
            self._buffer = b""
            self._position = 0

    def _long_header(self) -> tuple[int, int] | None:
        """Where the payload of the frame at the front starts, and how long it is."""
        buffer = self._buffer
        position = self._position
        second = buffer[position + 1]
        if second & 0x80:
            raise ProtocolViolation(1002, "a masked frame from the server")
        if second < 126:
            return position + 2, second
        if second == 126:
            if len(buffer) - position < 4:
                return None
            length = buffer[position + 2] << 8 | buffer[position + 3]
            if length < 126:
                raise ProtocolViolation(1002, "a payload length that is not minimal")
            return position + 4, length
        if len(buffer) - position < 10:
            return None
        length = int.from_bytes(buffer[position + 2 : position + 10], "big")
        if length >> 63:
            raise ProtocolViolation(1002, "a payload length with its top bit set")
        if length < 65_536:
            raise ProtocolViolation(1002, "a payload length that is not minimal")
        return position + 10, length

    def _take_unusual(self) -> Passed | None:
        """Take whole unusual frames up to a plain one, the end of a message, or a Close."""
        begin = self._position
        completes = False
        close: tuple[int, str] | None = None
        while not completes and close is None:
            position = self._position
            buffer = self._buffer
            if len(buffer) - position < 2:
                break
            first = buffer[position]
            if first in _PLAIN and not self._fragmented:
                break
            try:
                stop = self._check_unusual(first)
                if stop is None:
                    break
                opcode = first & 0xF
                if opcode == Opcode.CLOSE and position != begin:
                    break  # a fragment before it may turn out to be wrong
                if opcode == Opcode.CLOSE:
                    close = _parse_close(buffer[position + 2 : stop])
            except ProtocolViolation:
                if position == begin:
                    raise
                break  # what was before it is dealt with first
            if opcode < Opcode.CLOSE:
                completes = bool(first & 0x80)
                self._fragmented = not completes
                if completes:
                    self._fragment_bytes = 0
            self._position = stop
        if self._position == begin:
            self._expect(begin)
            return None
        return Passed(self._buffer[begin : self._position], completes, close)

    def _check_unusual(self, first: int) -> int | None:
        """Check the header at the front; return where its frame stops, if it is here whole."""
        opcode = first & 0xF
        if first & 0x70:
            raise ProtocolViolation(1002, "a reserved bit is set")
        if opcode not in _OPCODES:
            raise ProtocolViolation(1002, f"unknown opcode {opcode:#x}")
        second = self._buffer[self._position + 1]
        if opcode >= Opcode.CLOSE:
            if not first & 0x80:
                raise ProtocolViolation(1002, "a fragmented control frame")
            if second & 0x7F > 125:
                raise ProtocolViolation(1002, "a control frame of more than 125 bytes")
        elif (opcode == Opcode.CONTINUATION) != self._fragmented:
            raise ProtocolViolation(
                1002,
                "a new message inside a fragmented one"
                if self._fragmented
                else "a continuation of nothing",
            )
        header = self._long_header()
        if header is None:
            return None
        start, length = header
        if opcode < Opcode.CLOSE and self._fragment_bytes + length > self._limit:
            raise MessageTooLarge(self._limit)
        stop = start + length
        if stop > len(self._buffer):
            return None
        if opcode < Opcode.CLOSE:
            self._fragment_bytes += length
        return stop


def _parse_close(payload: bytes) -> tuple[int, str]:
    """The code and reason of a Close frame (RFC 6455, sections 5.5.1 and 7.4)."""
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise ProtocolViolation(1002, "a Close frame with a payload of one byte")
    code = payload[0] << 8 | payload[1]
    if not (code in _CLOSE_CODES or 3000 <= code <= 4999):
        raise ProtocolViolation(1002, f"a Close frame with the invalid code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(1007, "a Close reason that is not UTF-8") from None


_HEAD = struct.Struct("!HH")
_FINAL_TEXT = 0x81
# The heads of most: whole, unmasked text with a length of 7 bits, which is to be added, or of 16.
_TEXT_7, _TEXT_16 = 0x8100, 0x817E
_SMALL_BYTES = 1_023
# For each length, what reads that many bytes and the four after them.
_PAYLOAD_AND_HEAD = tuple(
    struct.Struct(f"!{length}sHH").unpack_from for length in range(_SMALL_BYTES + 1)
)
_PLAIN = frozenset({_FINAL_TEXT, 0x82})
_OPCODES = frozenset(Opcode)
# Those that may be sent (RFC 6455, section 7.4.1, and the IANA registry: 1012 and 1013).
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1014)})
