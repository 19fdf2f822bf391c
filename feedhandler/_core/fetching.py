"""What an answer over REST is: its body within a bound, and what a failure asks of the next one."""

from __future__ import annotations

import zlib
from urllib.parse import urlsplit

from feedhandler._core.redaction import REDACTED, redact_url
from feedhandler._core.upgrade import rejection_of, retry_after_s
from feedhandler.abc import HttpResponse
from feedhandler.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    FetchFailed,
    HandshakeRejected,
    RateLimited,
)

__all__ = ["Body", "failure_of", "is_final", "refusal_of", "refuses_one", "shown_url"]

# RFC 9110, 15.5, and RFC 8470 (425): these ask for another try, or a slower one. 418 is Binance's
# word for a ban (its REST API, "IP Limits").
_WORTH_ANOTHER_TRY = frozenset({408, 418, 425, 429})
_GZIP = 16 + zlib.MAX_WBITS
# A compressed body may be longer than what is in it, by this and a thousandth (RFC 1951, 3.2.4).
_SLACK = 4096


def is_final(error: FetchFailed) -> bool:
    """Whether the venue has refused for good: asking for the same again won't help."""
    status = error.status
    return status is not None and 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY


def refuses_one(error: FetchFailed) -> bool:
    """Whether it is what was asked for that the venue refuses for good, and not who asks.

    HTTP 401 and 403 are about who asks: venues answer 403 where too much was asked for as well
    (Binance's REST API, "IP Limits": its firewall).
    """
    return (
        error.status is not None
        and is_final(error)
        and error.retry_after_s is None
        and not isinstance(rejection_of(error.status, (), b"", now_s=0.0), AuthenticationFailed)
    )


def shown_url(url: str) -> str:
    """`url` as errors name it: without credentials; nothing of it where it is none of HTTP."""
    try:
        parts = urlsplit(url)
        # Reading the port checks it: a password may stand in its place.
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return redact_url(url, only_secrets=True)
    except ValueError:
        pass
    return REDACTED


class Body:
    """Collects a body of at most `limit` bytes, piece by piece, inflated where it is gzip.

    The bound holds while it is inflated: a "bomb" costs no more memory than `limit`.
    """

    def __init__(self, *, encoding: str, limit: int) -> None:
        """Raises `ValueError` for an encoding that was not asked for."""
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise ValueError(f"its Content-Encoding {encoding!r} was not asked for")
        self._limit = limit
        self._room = limit
        self._raw_room = limit + limit // 1000 + _SLACK
        self._pieces: list[bytes] = []
        self._gzip = zlib.decompressobj(_GZIP) if encoding.endswith("gzip") else None
        self._begun = False

    def feed(self, piece: bytes) -> bool:
        """Add a piece; false where it is too much. Raises `ValueError` for what is not gzip."""
        self._raw_room -= len(piece)
        if self._gzip is None:
            return self._add(piece)
        while piece:
            if self._gzip.eof:
                self._gzip = zlib.decompressobj(_GZIP)  # members may follow (RFC 1952, 2.2)
            self._begun = True
            try:
                inflated = self._gzip.decompress(piece, self._room + 1)
            except zlib.error as error:
                raise ValueError(f"the body is not gzip: {error}") from error
            if not self._add(inflated):
                return False
            piece = self._gzip.unused_data
        return self._raw_room >= 0

    def _add(self, piece: bytes) -> bool:
        self._room -= len(piece)
        if self._room >= 0:
            self._pieces.append(piece)
        return self._room >= 0

    def whole(self) -> bytes:
        """The body. Raises `ValueError` where the gzip data is cut off."""
        if self._begun and self._gzip is not None and not self._gzip.eof:
            raise ValueError("the body's gzip data is cut off")
        return b"".join(self._pieces)


def refusal_of(url: str, response: HttpResponse, *, now_s: float) -> FetchFailed | None:
    """The error for an answer that is not 200; `now_s` is the time since the epoch, in seconds."""
    if response.status == 200:
        return None
    return FetchFailed(
        url,
        f"the venue answered HTTP {response.status}",
        status=response.status,
        body=response.body,
        retry_after_s=retry_after_s(response.headers, now_s=now_s),
    )


def failure_of(error: FetchFailed) -> ConnectionFailed | None:
    """What `error` means for those who ask next, in the terms of the failure table.

    `None`: nothing. The venue works, and has refused this one request.
    """
    if error.status is None:
        cause = error.__cause__
        return cause if isinstance(cause, ConnectionFailed) else ConnectionLost(error.detail)
    if error.status == 200 or refuses_one(error):
        return None
    kind = RateLimited if error.status in (418, 429) else HandshakeRejected
    return kind(error.status, body=error.body, retry_after_s=error.retry_after_s)
