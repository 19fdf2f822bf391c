"""Back-off against a model that is written down differently."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from feedhandler import (
    DEFAULT_POLICIES,
    AuthenticationFailed,
    BackoffConfig,
    ConnectionFailed,
    ConnectionLost,
    ConnectionRefused,
    ForcedDisconnect,
    HandshakeError,
    HandshakeTimeout,
    PeerClosed,
    RateLimited,
    ReconnectionState,
    RetriesExhausted,
    StaleConnection,
    TlsFailed,
)
from feedhandler._core.backoff import GiveUp, Retry

FAILURES: list[ConnectionFailed] = [
    ConnectionLost("reset"),
    ConnectionRefused("refused"),
    HandshakeTimeout(10.0),
    HandshakeError("garbage"),
    RateLimited(429, retry_after_s=7.0),
    RateLimited(429),
    PeerClosed(1001, ""),
    PeerClosed(1008, ""),
    PeerClosed(1012, ""),
    StaleConnection("data", 5.0),
    ForcedDisconnect("asked"),
    TlsFailed("expired"),
    AuthenticationFailed(401),
]


class BackoffMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.config = BackoffConfig(max_retries=4, jitter=False, stable_s=10.0)
        self.state = ReconnectionState(self.config)
        self.model: list[ConnectionFailed] = []  # failures since the last proof
        self.now = 0.0
        self.connected_at: float | None = None

    @rule(error=st.sampled_from(FAILURES))
    def fail(self, error: ConnectionFailed) -> None:
        self.connected_at = None
        self.model.append(error)
        verdict = self.state.failed(error, rng=Random(0))
        policy = DEFAULT_POLICIES[error.kind]
        same = 0
        for earlier in reversed(self.model):
            if earlier.kind is not error.kind:
                break
            same += 1
        if not policy.retry or (policy.fatal_after and same >= policy.fatal_after):
            assert verdict == GiveUp(error)
        elif len(self.model) > 4:
            assert isinstance(verdict, GiveUp)
            assert isinstance(verdict.error, RetriesExhausted)
            assert verdict.error.causes == tuple(self.model[-5:])
        else:
            expected = 0.1 * policy.scale
            for _ in range(len(self.model) - 1):
                expected *= 2
            expected = min(expected, policy.cap_s or 30.0)
            floor = getattr(error, "retry_after_s", None)
            expected = max(expected, policy.minimum_s if floor is None else floor)
            assert isinstance(verdict, Retry)
            assert verdict.delay_s == pytest.approx(expected)
            assert self.state.current_backoff == verdict.delay_s

    @rule()
    def connect(self) -> None:
        self.state.established(now=self.now)
        self.connected_at = self.now

    @rule(seconds=st.floats(0, 12))
    def live(self, seconds: float) -> None:
        self.now += seconds
        stable = self.connected_at is not None and self.now >= self.connected_at + 10.0
        assert self.state.check_stable(now=self.now) == stable
        if stable:
            self.prove_model()

    @rule()
    def prove(self) -> None:
        self.state.proved()
        self.prove_model()

    def prove_model(self) -> None:
        self.model.clear()
        self.connected_at = None

    @invariant()
    def counts_agree(self) -> None:
        assert self.state.attempt_count == len(self.model)
        assert self.state.base_backoff == 0.1
        assert (self.state.stable_at is not None) == (self.connected_at is not None)


TestBackoffMachine = BackoffMachine.TestCase


def test_for_ever_means_for_ever_without_overflow() -> None:
    state = ReconnectionState(BackoffConfig(max_retries=0, jitter=False))
    for _ in range(10_000):
        verdict = state.failed(ConnectionLost("x"), rng=Random(0))
        assert isinstance(verdict, Retry)
    assert verdict.delay_s == 30.0
    assert state.attempt_count == 10_000


def test_jitter_is_a_function_of_the_generator() -> None:
    def delays(seed: int) -> list[float]:
        rng, state = Random(seed), ReconnectionState(BackoffConfig())
        verdicts = [state.failed(ConnectionLost("x"), rng=rng) for _ in range(5)]
        return [verdict.delay_s for verdict in verdicts if isinstance(verdict, Retry)]

    assert delays(1) == delays(1)
    assert delays(1) != delays(2)
    assert all(0 <= delay <= 0.1 * 2**n for n, delay in enumerate(delays(3)))
