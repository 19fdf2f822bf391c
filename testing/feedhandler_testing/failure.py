"""What a mock server can do wrong, as values.

`server.failure_mode` takes a bare `FailureMode`, which means its most common form, or a value that
says exactly what, where and when.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from attrs import field, frozen
from attrs.validators import ge, in_

from feedhandler.errors import ConfigError
from feedhandler_testing.board import Injection
from feedhandler_testing.faults.base import Fault
from feedhandler_testing.faults.bytes import End, Mute, Reset
from feedhandler_testing.faults.connecting import (
    CutHandshake,
    GarbageHandshake,
    HangDial,
    HangHandshake,
    HtmlPage,
    NameFailure,
    OversizedHeaders,
    Refuse,
    Reject,
    WrongAccept,
)
from feedhandler_testing.faults.malformed import BadJson, MissingField, Truncated, WrongType
from feedhandler_testing.faults.websocket import Close, InvalidUtf8, ReservedBits
from feedhandler_testing.triggers import Messages

__all__ = [
    "BadHandshake",
    "Disconnect",
    "Failure",
    "FailureMode",
    "MalformedData",
    "Refusal",
    "Rejection",
    "Timeout",
    "injection_of",
]


class FailureMode(enum.Enum):
    """The families of failures; see `Timeout`, `Disconnect` and `MalformedData` for the forms."""

    NONE = "none"
    TIMEOUT = "timeout"
    DISCONNECT = "disconnect"
    MALFORMED_DATA = "malformed_data"


@frozen(kw_only=True)
class Timeout:
    """Silence: while ``dial``-ling, in the opening ``handshake``, or in the ``stream``.

    In the stream the server accepts and then says nothing: no data, no pongs, no Close. Live
    connections fall silent as well.
    """

    mode: ClassVar[FailureMode] = FailureMode.TIMEOUT
    where: Literal["dial", "handshake", "stream"] = field(
        default="handshake", validator=in_(("dial", "handshake", "stream"))
    )


@frozen(kw_only=True)
class Disconnect:
    """The end of each connection, once it has sent `after` messages.

    `how` is a ``close`` with `code` and `reason`, a ``reset``, or the ``end`` of the stream
    without a Close frame. Live connections that have sent as many end at once. What was sent
    before arrives first.
    """

    mode: ClassVar[FailureMode] = FailureMode.DISCONNECT
    how: Literal["close", "reset", "end"] = field(
        default="reset", validator=in_(("close", "reset", "end"))
    )
    after: int = field(default=0, validator=ge(0))
    code: int = 1001
    reason: str = "going away"


@frozen(kw_only=True)
class MalformedData:
    """Every nth price update (`every`) goes out spoiled, in the way that `kind` says."""

    mode: ClassVar[FailureMode] = FailureMode.MALFORMED_DATA
    kind: Literal[
        "bad_json", "missing_field", "wrong_type", "truncated", "bad_utf8", "invalid_frame"
    ] = field(
        default="bad_json",
        validator=in_(
            ("bad_json", "missing_field", "wrong_type", "truncated", "bad_utf8", "invalid_frame")
        ),
    )
    every: int = field(default=1, validator=ge(1))


@frozen(kw_only=True)
class BadHandshake:
    """An answer to the opening handshake that is none.

    ``garbage``, an ``html`` page with status 200, a ``wrong_accept`` key, ``oversized`` headers,
    the ``end`` of the stream or a ``reset`` before the answer, or the ``end_inside`` it.
    """

    mode: ClassVar[FailureMode] = FailureMode.DISCONNECT
    kind: Literal["garbage", "html", "wrong_accept", "oversized", "end", "reset", "end_inside"] = (
        field(
            default="garbage",
            validator=in_(
                ("garbage", "html", "wrong_accept", "oversized", "end", "reset", "end_inside")
            ),
        )
    )


@frozen(kw_only=True)
class Refusal:
    """No stream comes to be: the connection is ``refused``, or the name does not ``resolve``."""

    mode: ClassVar[FailureMode] = FailureMode.DISCONNECT
    kind: Literal["refused", "resolve"] = field(
        default="refused", validator=in_(("refused", "resolve"))
    )


@frozen
class Rejection:
    """An HTTP response other than 101."""

    mode: ClassVar[FailureMode] = FailureMode.DISCONNECT
    status: int = field(validator=in_(range(200, 600)))
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def fault(self) -> Fault:
        return Reject(self.status, headers=tuple(self.headers), body=self.body.decode("latin-1"))


Failure = Timeout | Disconnect | MalformedData | BadHandshake | Refusal | Rejection


def injection_of(failure: FailureMode | Failure) -> Injection | None:
    """The fault that a failure mode stands for; `None` for no failure."""
    match failure:
        case FailureMode.NONE:
            return None
        case FailureMode.TIMEOUT:
            return injection_of(Timeout())
        case FailureMode.DISCONNECT:
            return injection_of(Disconnect())
        case FailureMode.MALFORMED_DATA:
            return injection_of(MalformedData())
        case Timeout():
            return Injection(_SILENCES[failure.where], times=0)
        case Disconnect():
            fault = (
                Close(failure.code, failure.reason)
                if failure.how == "close"
                else _ENDS[failure.how]
            )
            return Injection(fault, Messages(failure.after), times=0)
        case MalformedData():
            return Injection(_SPOILED[failure.kind], every=failure.every, times=0)
        case BadHandshake():
            return Injection(_BROKEN[failure.kind], times=0)
        case Refusal():
            return Injection(_REFUSALS[failure.kind], times=0)
        case Rejection():
            return Injection(failure.fault, times=0)
    raise ConfigError(
        "failure_mode", failure, "is not a failure",
        mend="use a FailureMode, or a value such as Disconnect(how='reset', after=3)",
    )  # fmt: skip


_SILENCES: Mapping[str, Fault] = MappingProxyType(
    {"dial": HangDial(), "handshake": HangHandshake(), "stream": Mute()}
)
_ENDS: Mapping[str, Fault] = MappingProxyType({"reset": Reset(), "end": End()})
_REFUSALS: Mapping[str, Fault] = MappingProxyType({"refused": Refuse(), "resolve": NameFailure()})
_BROKEN: Mapping[str, Fault] = MappingProxyType(
    {
        "garbage": GarbageHandshake(),
        "html": HtmlPage(),
        "wrong_accept": WrongAccept(),
        "oversized": OversizedHeaders(),
        "end": CutHandshake(),
        "reset": CutHandshake("reset"),
        "end_inside": CutHandshake(inside=True),
    }
)
_SPOILED: Mapping[str, Fault] = MappingProxyType(
    {
        "bad_json": BadJson(),
        "missing_field": MissingField(),
        "wrong_type": WrongType(),
        "truncated": Truncated(),
        "bad_utf8": InvalidUtf8(),
        "invalid_frame": ReservedBits(),
    }
)
