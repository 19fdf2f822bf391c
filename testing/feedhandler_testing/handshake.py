"""HTTP responses to an opening handshake."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["http_response"]


def http_response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of an HTTP response."""
    lines = [f"HTTP/1.1 {status} Mock"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
