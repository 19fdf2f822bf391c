"""Retryable, slowed down, or fatal: a case for each kind, and for each class of error."""

from __future__ import annotations

import inspect

import pytest

import feedhandler.errors as errors
from feedhandler import (
    DEFAULT_POLICIES,
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    ConnectionRefused,
    DialError,
    FailureKind,
    FailurePolicy,
    ForcedDisconnect,
    HandshakeError,
    HandshakeRejected,
    HandshakeTimeout,
    InvalidToken,
    MalformedBurst,
    MessageTooLarge,
    NameResolutionFailed,
    PeerClosed,
    PongTimeout,
    ProtocolViolation,
    RateLimited,
    StaleConnection,
    TlsFailed,
)
from feedhandler._core.failure import judge
from feedhandler._core.upgrade import rejection_of

K = FailureKind
CASES: list[tuple[ConnectionFailed, FailureKind, bool, float]] = [
    (NameResolutionFailed("x"), K.NAME_RESOLUTION, True, 0),
    (DialError("x"), K.REFUSED, True, 0),
    (ConnectionRefused("x"), K.REFUSED, True, 0),
    (TlsFailed("x"), K.TLS, False, 0),
    (HandshakeTimeout(1.0), K.HANDSHAKE_TIMEOUT, True, 0),
    (HandshakeError("x"), K.REJECTED, True, 0),
    (HandshakeRejected(503), K.REJECTED, True, 0),
    (HandshakeRejected(503, retry_after_s=12.0), K.REJECTED, True, 12.0),
    (RateLimited(429), K.RATE_LIMITED, True, 5.0),
    (RateLimited(418, retry_after_s=60.0), K.RATE_LIMITED, True, 60.0),
    (AuthenticationFailed(401), K.AUTHENTICATION, False, 0),
    (PeerClosed(1000, ""), K.PEER_CLOSED, True, 0),
    (PeerClosed(1005, ""), K.PEER_CLOSED, True, 0),
    (PeerClosed(4001, "x"), K.PEER_CLOSED, True, 0),
    (PeerClosed(1012, ""), K.MAINTENANCE, True, 0),
    (PeerClosed(1013, ""), K.MAINTENANCE, True, 0),
    (PeerClosed(1008, ""), K.POLICY_VIOLATION, True, 0),
    (ConnectionLost("x"), K.RESET, True, 0),
    (StaleConnection("data", 1.0), K.STALE, True, 0),
    (PongTimeout(1.0), K.NO_PONG, True, 0),
    (ProtocolViolation(1002, "x"), K.PROTOCOL_ERROR, True, 0),
    (MessageTooLarge(1), K.PROTOCOL_ERROR, True, 0),
    (MalformedBurst(5, 1.0), K.MALFORMED_DATA, True, 0),
    (ForcedDisconnect("x"), K.FORCED, True, 0),
    (InvalidToken("x"), K.AUTHENTICATION, False, 0),
]


@pytest.mark.parametrize(
    ("error", "kind", "retry", "minimum_s"), CASES, ids=[repr(case[0])[:40] for case in CASES]
)
def test_each_error_has_its_kind_and_its_verdict(
    error: ConnectionFailed, kind: FailureKind, retry: bool, minimum_s: float
) -> None:
    verdict = judge(error, in_a_row=1)
    assert error.kind is kind
    assert (verdict.retry, verdict.minimum_s) == (retry, minimum_s)
    assert verdict.policy is DEFAULT_POLICIES[kind]


def test_no_kind_and_no_class_is_left_out() -> None:
    assert {kind for _, kind, _, _ in CASES} == set(DEFAULT_POLICIES) == set(FailureKind)
    classes = {
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, ConnectionFailed) and cls is not ConnectionFailed
    }
    assert classes == {type(error) for error, *_ in CASES}


def test_a_repeated_policy_violation_becomes_fatal() -> None:
    verdicts = [judge(PeerClosed(1008, ""), in_a_row=n).retry for n in (1, 2, 3, 4)]
    assert verdicts == [True, True, False, False]


def test_the_table_can_be_replaced_in_parts() -> None:
    policies = {K.RESET: FailurePolicy(retry=False)}
    assert not judge(ConnectionLost("x"), in_a_row=1, policies=policies).retry
    assert judge(PongTimeout(1.0), in_a_row=1, policies=policies).retry


def test_retry_after_is_kept_in_each_of_its_forms() -> None:
    at = "Wed, 21 Oct 2026 07:28:00 GMT"
    before = ("date", "Wed, 21 Oct 2026 07:27:30 GMT")
    now_s = 1792567660.0  # 20 s before it
    for headers, seconds in (
        ([("retry-after", "7")], 7.0),
        ([("Retry-After", at), before], 30.0),
        ([("retry-after", at)], 20.0),
        ([("retry-after", "Wed, 21 Oct 2020 07:28:00 GMT")], 0.0),
        ([("retry-after", "soon")], None),
        ([], None),
    ):
        assert rejection_of(429, headers, b"", now_s=now_s).retry_after_s == seconds
