"""HTTP beside WebSocket: responses to an opening handshake, and requests that are none."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["fetched_path", "http_response"]


def http_response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of an HTTP response."""
    lines = [f"HTTP/1.1 {status} Mock"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def fetched_path(head: bytes) -> str | None:
    """The path of a request that does not ask for WebSocket; `None` where it does, or is none."""
    line, _, headers = head.partition(b"\r\n")
    parts = line.split(b" ")
    names = [header.partition(b":")[0].strip().lower() for header in headers.split(b"\r\n")]
    if len(parts) != 3 or parts[0] != b"GET" or b"upgrade" in names:
        return None
    return parts[1].decode("latin-1")
