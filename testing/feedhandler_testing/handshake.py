"""Answers to an opening handshake that do not lead to a connection."""

from __future__ import annotations

import trio

from feedhandler_testing.failure import Rejection
from feedhandler_testing.streams import reset_stream

__all__ = ["break_handshake", "http_response"]


async def break_handshake(stream: trio.abc.Stream, kind: str, answer: bytes) -> None:
    """Answer with what is no valid handshake; `answer` is the one that would be."""
    match kind:
        case "garbage":
            await stream.send_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        case "html":
            page = b"<html><body>Service temporarily moved</body></html>"
            await stream.send_all(
                http_response(Rejection(200, (("Content-Type", "text/html"),), page))
            )
        case "wrong_accept":
            head, _, rest = answer.partition(b"Sec-WebSocket-Accept: ")
            if not rest:
                head, _, rest = answer.partition(b"sec-websocket-accept: ")
            await stream.send_all(head + b"Sec-WebSocket-Accept: AAAA" + rest[4:])
        case "oversized":
            line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
            await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n" + line * 200)
        case "end_inside":
            await stream.send_all(answer[: len(answer) // 2])
        case "reset":
            reset_stream(stream)


def http_response(rejection: Rejection) -> bytes:
    """The bytes of an HTTP response."""
    lines = [f"HTTP/1.1 {rejection.status} Mock"]
    lines += [f"{name}: {value}" for name, value in rejection.headers]
    lines += [f"Content-Length: {len(rejection.body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + rejection.body
