"""What the response to an opening handshake says: a valid upgrade, or which error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from feedhandler.errors import AuthenticationFailed, HandshakeRejected, RateLimited

__all__ = ["rejection_of", "retry_after_s", "upgrade_problem"]

Headers = Sequence[tuple[str, str]]


def _header(headers: Headers, name: str) -> str:
    return ", ".join(value for key, value in headers if key.lower() == name)


def upgrade_problem(headers: Headers, *, accept: str) -> str | None:
    """What is wrong with the headers of a 101 response; `accept` is what belongs to our key.

    RFC 6455, section 4.1, says what a client has to check. Nothing was offered here that the
    server could choose: no extension, no subprotocol.
    """
    if _header(headers, "upgrade").lower() != "websocket":
        return "it has no 'Upgrade: websocket'"
    if "upgrade" not in [t.strip() for t in _header(headers, "connection").lower().split(",")]:
        return "it has no 'Connection: Upgrade'"
    if _header(headers, "sec-websocket-accept") != accept:
        return "its Sec-WebSocket-Accept does not belong to our key"
    if _header(headers, "sec-websocket-extensions"):
        return "it chose an extension that was not offered"
    if _header(headers, "sec-websocket-protocol"):
        return "it chose a subprotocol that was not offered"
    return None


def rejection_of(status: int, headers: Headers, body: bytes, *, now_s: float) -> HandshakeRejected:
    """The error for a response other than 101; `now_s` is the time since the epoch, in seconds."""
    kind = HandshakeRejected
    if status in (418, 429):
        kind = RateLimited
    elif status in (401, 403, 407, 451):
        kind = AuthenticationFailed
    return kind(
        status, headers=headers, body=body, retry_after_s=retry_after_s(headers, now_s=now_s)
    )


def retry_after_s(headers: Headers, *, now_s: float) -> float | None:
    """Seconds to wait (RFC 9110, 10.2.3), or `None`; a date is measured by the response's clock."""
    value = _header(headers, "retry-after")
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    asked, sent = _http_date(value), _http_date(_header(headers, "date"))
    if asked is None:
        return None
    return max(0.0, asked - (now_s if sent is None else sent))


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
