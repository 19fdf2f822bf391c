"""The plain price JSON, as the mock server sends it, whole or spoiled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from feedhandler._core.frames import Opcode, encode_frame
from feedhandler.model import PriceUpdate
from feedhandler_testing.failure import MalformedData

__all__ = ["price_message"]

_TIME_NS = 1_700_000_000_000_000_000


def price_message(
    symbol: str,
    price: str,
    sequence: int,
    *,
    size: str = "1",
    side: str = "buy",
    time_ns: int = _TIME_NS,
) -> str:
    """A price update as JSON text; `price` and `size` keep their digits, as strings."""
    return _encode(
        {
            "type": "price",
            "symbol": symbol,
            "price": price,
            "size": size,
            "side": side,
            "sequence": sequence,
            "time": time_ns,
        }
    )


def as_message(update: PriceUpdate | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object for an update, which may be given as one already."""
    if not isinstance(update, PriceUpdate):
        return {"type": "price", **update}
    return {
        "type": "price",
        "symbol": update.symbol,
        "price": str(update.price),
        "size": str(update.size),
        "side": update.side.value,
        "sequence": update.sequence,
        "time": update.recv_ns if update.venue_time_ns is None else update.venue_time_ns,
    }


def frame_of(message: Mapping[str, Any], spoiled: MalformedData | None) -> bytes:
    """The frame for `message`, spoiled in the way that is asked for."""
    text = _encode(message)
    if spoiled is None:
        return encode_frame(Opcode.TEXT, text.encode())
    match spoiled.kind:
        case "bad_json":
            text = text.replace('":', '"=', 1)
        case "missing_field":
            text = _encode({key: value for key, value in message.items() if key != "price"})
        case "wrong_type":
            text = _encode({**message, "price": [message.get("price")]})
        case "truncated":
            text = text[: len(text) // 2]
        case "bad_utf8":
            return encode_frame(Opcode.TEXT, text.encode()[:-1] + b"\xff}")
        case "invalid_frame":
            return encode_frame(Opcode.TEXT, text.encode(), rsv=4)
    return encode_frame(Opcode.TEXT, text.encode())


def _encode(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
