"""Settings: frozen, checked when they are made, and structured from TOML by cattrs.

Durations are seconds as `float`, sizes are bytes. An impossible setting is one `ConfigError` that
names the value, the rule and the mend.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import cattrs
from attrs import Attribute, field, frozen
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn

from feedhandler._core.redaction import redact_url
from feedhandler.errors import ConfigError

__all__ = [
    "BackoffConfig",
    "BreakerConfig",
    "ConnectionConfig",
    "FeedConfig",
    "OverflowPolicy",
    "at_least",
    "check_headers",
    "check_token",
    "check_url",
    "feed_config_from_mapping",
    "valid_url",
]

_Validator = Callable[[Any, Any, Any], None]


class OverflowPolicy(enum.Enum):
    """What happens when a consumer falls behind its bound."""

    BLOCK = "block"  # stop reading; the venue's TCP connection feels it
    DROP_OLDEST = "drop_oldest"  # the oldest events go, and a Gap says so
    CONFLATE = "conflate"  # per symbol and kind only the newest stays, and a Gap says so
    DISCONNECT = "disconnect"  # the consumer is cut off with SlowConsumer


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(*, positive: bool = True, optional: bool = False) -> _Validator:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            off = " or None to switch it off" if optional else ""
            raise ConfigError(
                attribute.name, value, "must be a finite number of seconds, not negative",
                mend=f"use for example {attribute.default!r}{off}",
            )  # fmt: skip
        if positive and value == 0:
            raise ConfigError(
                attribute.name, value, "must be longer than 0 s",
                mend="use None to switch it off" if optional
                else f"use for example {attribute.default!r}",
            )  # fmt: skip

    return check


def _count(minimum: int) -> _Validator:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ConfigError(
                attribute.name, value, f"must be a whole number, at least {minimum}",
                mend=f"use for example {attribute.default!r}",
            )  # fmt: skip

    return check


def at_least(minimum: int) -> _Validator:
    """A validator of whole numbers, for venues."""
    return _count(minimum)


def _of(*kinds: type) -> _Validator:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, kinds):
            told = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ConfigError(
                attribute.name,
                value,
                f"must be {told}",
                mend=f"use for example {kinds[0].__name__}",
            )

    return check


@frozen(kw_only=True)
class BackoffConfig:
    """Exponential back-off: ``delay(n) = min(cap_s, base_s * factor**n)`` for n = 0, 1, 2, …

    With `jitter`, a delay is drawn uniformly from 0 to ``delay(n)`` ("full jitter"). `max_retries`
    is how many attempts follow a failure (0: for ever). The count starts again once the
    connection has proved itself: by its first valid data, or by living for `stable_s`.
    """

    base_s: float = field(default=0.1, validator=_seconds())
    factor: float = 2.0
    cap_s: float = field(default=30.0, validator=_seconds())
    max_retries: int = field(default=5, validator=_count(0))
    jitter: bool = field(default=True, validator=_of(bool))
    stable_s: float = field(default=10.0, validator=_seconds())

    def __attrs_post_init__(self) -> None:
        factor = self.factor
        if not (_is_number(factor) and math.isfinite(factor) and factor >= 1):
            raise ConfigError(
                "factor", factor, "must be a finite number, at least 1", mend="use for example 2.0"
            )
        if self.cap_s < self.base_s:
            raise ConfigError(
                "cap_s", self.cap_s, f"must not be shorter than base_s={self.base_s:g}",
                mend="raise cap_s or lower base_s",
            )  # fmt: skip


@frozen(kw_only=True)
class BreakerConfig:
    """A circuit breaker's thresholds.

    It opens after `failure_threshold` consecutive failures, or when at least `failure_rate` of
    the outcomes within the last `window_s` seconds were failures, once there are
    `window_minimum` of them (`failure_rate` = `None`: no such rule). It is half-open after
    `open_s`; each failed probe doubles that, up to `open_cap_s`; `success_threshold` successes
    close it.
    """

    failure_threshold: int = field(default=5, validator=_count(1))
    success_threshold: int = field(default=3, validator=_count(1))
    open_s: float = field(default=10.0, validator=_seconds())
    open_cap_s: float = field(default=80.0, validator=_seconds())
    failure_rate: float | None = None
    window_s: float = field(default=60.0, validator=_seconds())
    window_minimum: int = field(default=10, validator=_count(1))

    def __attrs_post_init__(self) -> None:
        rate = self.failure_rate
        if rate is not None and not (_is_number(rate) and 0 < rate <= 1):
            raise ConfigError(
                "failure_rate", rate, "must be over 0 and at most 1", mend="use for example 0.5"
            )
        if self.open_cap_s < self.open_s:
            raise ConfigError(
                "open_cap_s", self.open_cap_s, f"must not be shorter than open_s={self.open_s:g}",
                mend="raise open_cap_s or lower open_s",
            )  # fmt: skip


@frozen(kw_only=True)
class ConnectionConfig:
    """How one connection is made, watched and closed.

    `connect_timeout_s` covers dialling, TLS and the opening handshake together. Every
    `heartbeat_interval_s` a ping goes out; a connection without any pong for `pong_deadline_s`
    is dead. `frame_stale_s` bounds the time without any frame, `data_stale_s` the time without a
    data message (`None`: not watched). While the consumer is full, 256 KiB are read ahead, so that
    pings are answered; then reading stands still, and none of these deadlines runs. At most
    `buffer_messages` messages and `buffer_bytes` bytes wait for the consumer (one read more can be
    held, and what is read ahead); at most `send_queue_messages` sent messages wait
    for a reconnect. A connection that has lived for `max_lifetime_s` is replaced (`None`: never),
    which is best done a little before the venue cuts it: 84,600 (23.5 h) where it does so at 24 h.
    """

    connect_timeout_s: float = field(default=10.0, validator=_seconds())
    close_timeout_s: float = field(default=2.0, validator=_seconds())
    heartbeat_interval_s: float | None = field(default=20.0, validator=_seconds(optional=True))
    pong_deadline_s: float = field(default=45.0, validator=_seconds())
    frame_stale_s: float | None = field(default=60.0, validator=_seconds(optional=True))
    data_stale_s: float | None = field(default=None, validator=_seconds(optional=True))
    max_message_bytes: int = field(default=16 * 2**20, validator=_count(1))
    buffer_messages: int = field(default=65_536, validator=_count(1))
    buffer_bytes: int = field(default=32 * 2**20, validator=_count(1))
    send_queue_messages: int = field(default=256, validator=_count(1))
    max_lifetime_s: float | None = field(default=None, validator=_seconds(optional=True))

    def __attrs_post_init__(self) -> None:
        interval = self.heartbeat_interval_s
        if interval is not None and self.pong_deadline_s <= interval:
            raise ConfigError(
                "pong_deadline_s", self.pong_deadline_s,
                f"must be longer than heartbeat_interval_s={interval:g}, "
                "or no pong could ever come in time",
                mend=f"use for example {interval * 2.25:g}",
            )  # fmt: skip
        stale = self.frame_stale_s
        if interval is not None and stale is not None and stale <= interval:
            raise ConfigError(
                "frame_stale_s", stale,
                f"must be longer than heartbeat_interval_s={interval:g}, whose pongs are the only "
                "frames in a quiet market",
                mend=f"use for example {interval * 3:g}",
            )  # fmt: skip


@frozen(kw_only=True)
class FeedConfig:
    """Everything about a feed but its venue and symbols.

    At most `buffer_events` events wait for the consumer; `overflow` says what happens then. With
    `block` the connection's `buffer_bytes` is a bound as well.
    `decode_burst` malformed messages within `decode_burst_window_s` fail the connection.
    A subscription that is not confirmed within `ack_deadline_s` is asked for again, and one
    request goes out at most every `subscribe_pace_s`. A snapshot that comes over REST has to be
    there within `snapshot_deadline_s` of its request. A symbol without data for `symbol_stale_s`,
    while the connection lives, is subscribed anew (`None`: not watched). Without it a whole order
    book that is silent for `book_stale_intervals` times its usual interval, at least 30 s, is
    `Trust.STALE` and asked for anew (`None`: books have no rhythm).

    With `rollover`, a connection that the venue wants replaced, or that reaches `max_lifetime_s`,
    goes only when a new one delivers: when that is subscribed, and data of each symbol has come on
    both, or `rollover_overlap_s` has passed. Switch it off for a venue that allows one connection
    only: then the old one is dropped first. Where a session cannot tell what came on both
    (`feedhandler.abc.ResumableSession`), each symbol gets a `Gap` at the switch.
    """

    connection: ConnectionConfig = field(
        default=ConnectionConfig(), validator=_of(ConnectionConfig)
    )
    backoff: BackoffConfig = field(default=BackoffConfig(), validator=_of(BackoffConfig))
    breaker: BreakerConfig | None = field(
        default=BreakerConfig(), validator=_of(BreakerConfig, type(None))
    )
    overflow: OverflowPolicy = field(default=OverflowPolicy.BLOCK, validator=_of(OverflowPolicy))
    buffer_events: int = field(default=65_536, validator=_count(1))
    decode_burst: int = field(default=20, validator=_count(1))
    decode_burst_window_s: float = field(default=1.0, validator=_seconds())
    ack_deadline_s: float = field(default=5.0, validator=_seconds())
    subscribe_pace_s: float = field(default=0.0, validator=_seconds(positive=False))
    snapshot_deadline_s: float = field(default=10.0, validator=_seconds())
    symbol_stale_s: float | None = field(default=None, validator=_seconds(optional=True))
    book_stale_intervals: float | None = field(default=30.0, validator=_seconds(optional=True))
    rollover: bool = field(default=True, validator=_of(bool))
    rollover_overlap_s: float = field(default=5.0, validator=_seconds())


def check_url(url: str) -> str:
    """Return `url` if it is an absolute ``ws://`` or ``wss://`` URL; else raise `ConfigError`."""
    mend = "use for example 'wss://host/path'"
    if not isinstance(url, str):
        raise ConfigError("url", type(url).__name__, "must be text", mend=mend)
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise ConfigError(
            "url", redact_url_safely(url), "must be ASCII without blanks and control characters",
            mend="percent-encode the path and query, and write the host in its xn-- form",
        )  # fmt: skip
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ConfigError("url", redact_url_safely(url), str(error), mend=mend) from None
    if parts.scheme not in ("ws", "wss"):
        raise ConfigError("url", redact_url(url), "the scheme must be ws or wss", mend=mend)
    if not parts.hostname:
        raise ConfigError("url", redact_url(url), "the host is missing", mend=mend)
    if port == 0:
        raise ConfigError("url", redact_url(url), "the port must be from 1 to 65535", mend=mend)
    if parts.fragment:
        raise ConfigError(
            "url", redact_url(url), "a fragment has no meaning here (RFC 6455, section 3)",
            mend="remove the part after '#'",
        )  # fmt: skip
    return url


def valid_url(_: Any, __: Any, value: str) -> None:
    """`check_url` as a validator of attrs, for venues."""
    check_url(value)


def redact_url_safely(url: str) -> str:
    """`redact_url` for text that may not be a URL at all: then only its scheme is kept."""
    try:
        return redact_url(url)
    except ValueError:
        return f"{url.partition(':')[0]}:…"


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")
_TOKEN = re.compile(r"[!-~]+")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def check_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return `headers` if each can be sent (RFC 9110, section 5); else raise `ConfigError`."""
    for name, value in headers:
        if not _matches(_HEADER_NAME, name):
            raise ConfigError(
                "headers", name, "is not a header's name", mend="use for example 'X-Api-Key'"
            )
        if not _matches(_HEADER_VALUE, value):
            raise ConfigError(
                "headers", f"{name}: ***",
                "the value must be Latin-1 text without line breaks and outer blanks",
                mend="strip it",
            )  # fmt: skip
    return tuple(headers)


def check_token(token: str) -> str:
    """Return `token` if it can be sent as a bearer token; else raise `ConfigError`."""
    if not _matches(_TOKEN, token):
        raise ConfigError(
            "token", "***", "must be printable ASCII without blanks and line breaks",
            mend="strip it; what is read from a file often ends with a line break",
        )  # fmt: skip
    return token


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)

    def exact(value: Any, kind: type) -> Any:
        # The classes' own validators judge; cattrs' float("x") would lose the value's type.
        return value

    def policy(value: Any, _: type) -> OverflowPolicy:
        try:
            return OverflowPolicy(value)
        except ValueError:
            raise ConfigError(
                "overflow", value, "is no overflow policy",
                mend=f"use one of {[one.value for one in OverflowPolicy]}",
            ) from None  # fmt: skip

    converter.register_structure_hook(OverflowPolicy, policy)
    for kind in (int, float, bool):
        converter.register_structure_hook(kind, exact)
    converter.register_structure_hook_func(lambda t: t == float | None, lambda value, _: value)

    def table(kind: type) -> Any:
        structure: Any = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

        def hook(value: Any, _: Any) -> Any:
            if not isinstance(value, Mapping):
                raise ConfigError(
                    kind.__name__, value, "must be a table", mend="write [table] in TOML"
                )
            return structure(value, kind)

        return hook

    for config in (BackoffConfig, BreakerConfig, ConnectionConfig):
        converter.register_structure_hook(config, table(config))
    breaker = table(BreakerConfig)
    converter.register_structure_hook_func(
        lambda t: t == BreakerConfig | None,
        lambda value, _: None if value is None or value is False else breaker(value, _),
    )
    return converter


_CONVERTER = _converter()


def feed_config_from_mapping(settings: Mapping[str, Any]) -> FeedConfig:
    """Structure a `FeedConfig` from a mapping such as `tomllib` makes of a TOML table.

    Raises `ConfigError` that names the first wrong or unknown setting with its path.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(
            "settings", type(settings).__name__, "must be a table", mend="use tomllib.loads(text)"
        )
    try:
        return _CONVERTER.structure(settings, FeedConfig)
    except BaseValidationError as group:
        raise _first_problem(group) from group


def _first_problem(group: BaseValidationError) -> ConfigError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ConfigError):
        return error
    told = cattrs.transform_error(group)
    return ConfigError("settings", told[0], "cannot be used", mend="see feedhandler.FeedConfig")
