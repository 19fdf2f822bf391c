"""Everything that can go wrong, as one tree under `FeedError`.

The names say whose fault it is and in which phase. Errors that end a connection, or keep it from
being made, derive from `ConnectionFailed` and carry a `FailureKind`; what is done about each kind
is decided in one place, `feedhandler._core.failure`. Errors carry data, not only prose, and never
a secret.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

__all__ = [
    "AlreadyConnected",
    "AnswerTooLarge",
    "AuthenticationFailed",
    "BookError",
    "BookTooDeep",
    "CircuitOpenError",
    "ClientClosed",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "ConnectionRefused",
    "CrossedBook",
    "DecodeError",
    "DialError",
    "FailureKind",
    "FeedError",
    "FetchFailed",
    "FieldProblem",
    "ForcedDisconnect",
    "HandshakeError",
    "HandshakeRejected",
    "HandshakeTimeout",
    "IllegalTransition",
    "InvalidToken",
    "MalformedBurst",
    "MessageTooLarge",
    "NameResolutionFailed",
    "NotConnected",
    "PeerClosed",
    "PongTimeout",
    "ProtocolViolation",
    "RateLimited",
    "RecordingError",
    "RetriesExhausted",
    "SendQueueFull",
    "SlowConsumer",
    "StaleConnection",
    "SubscriptionRefused",
    "TlsFailed",
    "UnknownSymbol",
    "UsageError",
]


class FailureKind(enum.Enum):
    """Why a connection ended or could not be made; the key of the failure table."""

    NAME_RESOLUTION = "name_resolution"
    REFUSED = "refused"
    TLS = "tls"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    REJECTED = "rejected"
    RATE_LIMITED = "rate_limited"
    AUTHENTICATION = "authentication"
    PEER_CLOSED = "peer_closed"
    MAINTENANCE = "maintenance"
    POLICY_VIOLATION = "policy_violation"
    RESET = "reset"
    STALE = "stale"
    NO_PONG = "no_pong"
    PROTOCOL_ERROR = "protocol_error"
    MALFORMED_DATA = "malformed_data"
    FORCED = "forced"


class FeedError(Exception):
    """Root of every error that this library raises on purpose."""


# --- the caller's mistakes -----------------------------------------------------------------------


class ConfigError(FeedError, ValueError):
    """A setting, URL, venue or symbol that cannot work; raised before anything is connected.

    `name` is what was set, `value` what it was set to (never a secret), `rule` what it breaks and
    `mend` what to do instead.
    """

    def __init__(self, name: str, value: object, rule: str, *, mend: str) -> None:
        super().__init__(f"{name}={value!r}: {rule}; {mend}")
        self.name = name
        self.value = value
        self.rule = rule
        self.mend = mend


class UnknownSymbol(ConfigError):
    """The venue's list has no instrument of this `symbol` that can be used.

    `nearest` are canonical symbols that it has, the likeliest first.
    """

    def __init__(
        self, venue: str, symbol: str, *, nearest: Sequence[str] = (), rule: str | None = None
    ) -> None:
        super().__init__(
            "symbols",
            symbol,
            rule or f"{venue} has no such instrument",
            mend=f"did you mean {' or '.join(map(repr, nearest))}?"
            if nearest
            else "use canonical names such as 'BTC-USD' or 'BTC-USDT-PERP'",
        )
        self.venue = venue
        self.symbol = symbol
        self.nearest = tuple(nearest)


class UsageError(FeedError, RuntimeError):
    """A call that makes no sense in the present state; the message shows the right one."""


class AlreadyConnected(UsageError):
    """`connect()` on a client that is connecting, connected or reconnecting."""


class NotConnected(UsageError):
    """A call that needs a connection, on a client that has none and is not making one."""


class ClientClosed(UsageError):
    """A call on a client that was closed for good."""


class SendQueueFull(UsageError):
    """Too many messages wait for the reconnect; `limit` is the queue's bound in messages."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} messages already wait for the connection; send less while it is down, "
            "or raise ConnectionConfig.send_queue_messages"
        )
        self.limit = limit


class IllegalTransition(UsageError):
    """An event that its state does not allow; the state is unchanged."""

    def __init__(self, state: enum.Enum, event: enum.Enum) -> None:
        super().__init__(f"{event.name} is not possible in state {state.name}")
        self.state = state
        self.event = event


class FetchFailed(FeedError):
    """A venue's REST interface gave no answer that is of use: `detail` says which and why.

    `url` has no credentials and `body` is how the answer began, where one came; `status` its HTTP
    status. `retry_after_s` is how long the venue wants to be left alone, where it says so.
    """

    def __init__(
        self,
        url: str,
        detail: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(url, detail)
        self.url = url
        self.detail = detail
        self.status = status
        self.body = body[:200]
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        begins = f": {self.body.decode(errors='replace')!r}" if self.body else ""
        return f"{self.detail} ({self.url}){begins}"


class AnswerTooLarge(FetchFailed):
    """The answer is larger than `limit` bytes, inflated where it was compressed."""

    def __init__(
        self,
        url: str,
        limit: int,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            url,
            f"the answer is over the limit of {limit:,} bytes",
            status=status,
            retry_after_s=retry_after_s,
        )
        self.limit = limit


class SlowConsumer(FeedError):
    """A subscriber with the overflow policy `disconnect` fell behind and was cut off."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the consumer fell more than {limit} events behind and was cut off; read faster, "
            "raise FeedConfig.buffer_events, or choose another overflow policy"
        )
        self.limit = limit


# --- connections ---------------------------------------------------------------------------------


class ConnectionFailed(FeedError):
    """A connection ended, or could not be made. Its cause, if any, is chained."""

    kind: FailureKind


class DialError(ConnectionFailed):
    """The network could not be reached: no stream came to be."""

    kind = FailureKind.REFUSED


class NameResolutionFailed(DialError):
    """The host's name did not resolve."""

    kind = FailureKind.NAME_RESOLUTION


class ConnectionRefused(DialError):
    """Nobody listens at the address, or it cannot be reached."""

    kind = FailureKind.REFUSED


class TlsFailed(DialError):
    """The TLS handshake failed: the certificate is expired, for another host, or not trusted."""

    kind = FailureKind.TLS


class HandshakeError(ConnectionFailed):
    """What came back was not a valid WebSocket opening handshake.

    `received` is the start of what the peer sent (at most 256 bytes).
    """

    kind = FailureKind.REJECTED

    def __init__(self, message: str, *, received: bytes = b"") -> None:
        super().__init__(message)
        self.received = received


class HandshakeTimeout(HandshakeError):
    """Dialling and the opening handshake took longer than `timeout_s` seconds."""

    kind = FailureKind.HANDSHAKE_TIMEOUT

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no WebSocket connection within {timeout_s:g} s")
        self.timeout_s = timeout_s


class HandshakeRejected(HandshakeError):
    """The peer answered the opening handshake with an HTTP status other than 101.

    `status` is that status, `headers` the response's (name in lower case, value) pairs, `body`
    the start of its body (at most 1,024 bytes), and `retry_after_s` the seconds that its
    ``Retry-After`` header asks for (RFC 9110, section 10.2.3), or `None`.
    """

    def __init__(
        self,
        status: int,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        retry_after_s: float | None = None,
    ) -> None:
        quoted = f": {body[:120].decode('utf-8', 'replace')!r}" if body else ""
        super().__init__(f"the venue answered HTTP {status}{quoted}", received=body[:256])
        self.status = status
        self.headers = tuple(headers)
        self.body = body
        self.retry_after_s = retry_after_s


class RateLimited(HandshakeRejected):
    """HTTP 429, or 418 (a ban): wait for `retry_after_s` or longer."""

    kind = FailureKind.RATE_LIMITED


class AuthenticationFailed(HandshakeRejected):
    """HTTP 401, 403, 407 or 451: this caller may not connect, and asking again will not help."""

    kind = FailureKind.AUTHENTICATION


class InvalidToken(ConnectionFailed):
    """The token provider gave what can't be sent as a bearer token; trying again will not help."""

    kind = FailureKind.AUTHENTICATION


class PeerClosed(ConnectionFailed):
    """The peer sent a Close frame; `code` and `reason` are the frame's (1005: it had no code)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the peer closed with code {code}" + (f" ({reason})" if reason else ""))
        self.code = code
        self.reason = reason
        if code in (1012, 1013):  # service restart, try again later (IANA registry of close codes)
            kind = FailureKind.MAINTENANCE
        elif code == 1008:
            kind = FailureKind.POLICY_VIOLATION
        else:
            kind = FailureKind.PEER_CLOSED
        self.kind = kind


class ConnectionLost(ConnectionFailed):
    """The stream was reset, or ended without a Close frame (close code 1006)."""

    kind = FailureKind.RESET


class StaleConnection(ConnectionFailed):
    """Nothing arrived for `limit_s` seconds; `what` is ``"frames"``, ``"messages"`` or
    ``"data"``.
    """

    kind = FailureKind.STALE

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(f"no {what} for {limit_s:g} s")
        self.what = what
        self.limit_s = limit_s


class PongTimeout(ConnectionFailed):
    """Pings went out, and no pong came for `limit_s` seconds."""

    kind = FailureKind.NO_PONG

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no pong for {limit_s:g} s")
        self.limit_s = limit_s


class ProtocolViolation(ConnectionFailed):
    """The peer broke RFC 6455; `code` is the Close code that it was sent (1002 or 1007)."""

    kind = FailureKind.PROTOCOL_ERROR

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"protocol error {code}: {detail}")
        self.code = code
        self.detail = detail


class MessageTooLarge(ProtocolViolation):
    """A message is larger than `limit` bytes; the peer was sent Close 1009."""

    def __init__(self, limit: int) -> None:
        super().__init__(1009, f"a message is over the limit of {limit} bytes (max_message_bytes)")
        self.limit = limit


class MalformedBurst(ConnectionFailed):
    """Too many messages could not be decoded: `count` of them.

    They came within `window_s` seconds or, if that is `None`, without a good one between them and
    opened the circuit breaker.
    """

    kind = FailureKind.MALFORMED_DATA

    def __init__(self, count: int, window_s: float | None = None) -> None:
        how = "opened the circuit" if window_s is None else f"within {window_s:g} s"
        super().__init__(f"{count} malformed messages {how}")
        self.count = count
        self.window_s = window_s


class ForcedDisconnect(ConnectionFailed):
    """This side dropped the connection on purpose, to make it anew; `reason` says why."""

    kind = FailureKind.FORCED

    def __init__(self, reason: str) -> None:
        super().__init__(f"forced disconnect: {reason}")
        self.reason = reason


class RetriesExhausted(FeedError):
    """The last allowed attempt failed; `causes` holds every attempt's error, oldest first."""

    def __init__(self, causes: Sequence[FeedError]) -> None:
        last = f", the last with: {causes[-1]}" if causes else ""
        super().__init__(f"gave up after {len(causes)} failed attempts{last}")
        self.causes = tuple(causes)


class CircuitOpenError(FeedError):
    """The circuit breaker is open: no attempt is made before `until` (seconds, the clock's)."""

    def __init__(self, until: float, *, now: float) -> None:
        super().__init__(f"the circuit is open for another {max(0.0, until - now):.3g} s")
        self.until = until
        self.remaining_s = max(0.0, until - now)


# --- data ----------------------------------------------------------------------------------------


class FieldProblem(NamedTuple):
    """One wrong field: `path` is a JSONPath such as ``$.price``, `message` says what is wrong."""

    path: str
    message: str


class DecodeError(FeedError):
    """A message is not what its venue documents.

    `venue` names the venue, `raw` is the start of the message (at most 256 bytes), `problems`
    says for each wrong field where and what, and `path` is the first problem's.
    """

    RAW_BYTES: ClassVar[int] = 256

    def __init__(self, venue: str, raw: bytes | str, problems: Sequence[tuple[str, str]]) -> None:
        start = raw[: self.RAW_BYTES]
        if isinstance(start, str):
            start = start.encode("utf-8", "surrogatepass")[: self.RAW_BYTES]
        self.venue = venue
        self.raw = bytes(start)
        self.problems = tuple(FieldProblem(path, message) for path, message in problems)
        told = "; ".join(f"{p.path}: {p.message}" for p in self.problems[:8])
        super().__init__(f"{venue}: {told} in {self.raw[:80]!r}")

    @property
    def path(self) -> str:
        return self.problems[0].path if self.problems else "$"


class BookError(FeedError):
    """What is to be done to an order book would make it wrong; it was not done."""


class CrossedBook(BookError):
    """The best `bid` would not be below the best `ask`."""

    def __init__(self, symbol: str, bid: object, ask: object) -> None:
        super().__init__(f"{symbol}: the bid {bid} is not below the ask {ask}")
        self.symbol = symbol
        self.bid = bid
        self.ask = ask


class BookTooDeep(BookError):
    """One side would have more than `limit` levels."""

    def __init__(self, symbol: str, limit: int) -> None:
        super().__init__(f"{symbol}: more than {limit:,} levels on one side")
        self.symbol = symbol
        self.limit = limit


class SubscriptionRefused(FeedError):
    """The venue refused a subscription; `detail` is in the venue's own words."""

    def __init__(self, venue: str, symbol: str | None, channel: str | None, detail: str) -> None:
        what = " ".join(part for part in (channel, symbol) if part) or "a subscription"
        super().__init__(f"{venue} refused {what}: {detail}")
        self.venue = venue
        self.symbol = symbol
        self.channel = channel
        self.detail = detail


class RecordingError(FeedError):
    """A recording is truncated, of another format, of a newer version, or cannot be written.

    `line` is the number of the line it was found in, from 1, or `None`.
    """

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line
