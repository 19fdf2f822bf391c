"""WebSocket frames as bytes (RFC 6455, section 5): writing them, and finding plain ones fast."""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["Opcode", "encode_frame"]


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
    repeated = mask * (length // 4 + 1)
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
    return head + mask + body.to_bytes(length, "big")
