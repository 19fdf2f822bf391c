"""The circuit breaker against a simple model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from feedhandler import (
    BreakerConfig,
    CircuitBreaker,
    CircuitBreakerMetrics,
    CircuitOpenError,
    CircuitState,
)
from feedhandler._core.breaker import Permit

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class BreakerMachine(RuleBasedStateMachine):
    """The model: a state, a run of outcomes, and which permits still mean something."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        config = BreakerConfig(
            failure_threshold=3, success_threshold=2, open_s=10.0, open_cap_s=40.0
        )
        self.breaker = CircuitBreaker(config)
        self.now = 0.0
        self.state = CLOSED
        self.run = 0  # of failures where it is closed, of successes where it is half-open
        self.wait = 10.0
        self.until = 0.0
        self.valid: set[int] = set()
        self.probe: int | None = None
        self.rejections = 0

    def enter(self, state: CircuitState) -> None:
        self.state, self.run, self.probe = state, 0, None
        self.valid.clear()
        if state is OPEN:
            self.until = self.now + self.wait
            self.wait = min(self.wait * 2, 40.0)
        elif state is CLOSED:
            self.wait = 10.0

    @rule(seconds=st.sampled_from([0.0, 0.5, 9.5, 10.0, 25.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def acquire(self) -> Permit | None:
        if self.state is OPEN and self.now >= self.until:
            self.enter(HALF_OPEN)
        refused = self.state is OPEN or (self.state is HALF_OPEN and self.probe is not None)
        if refused:
            self.rejections += 1
            with pytest.raises(CircuitOpenError) as caught:
                self.breaker.acquire(now=self.now)
            assert caught.value.until == (self.until if self.state is OPEN else self.now)
            return None
        permit = self.breaker.acquire(now=self.now)
        self.valid.add(permit.number)
        if self.state is HALF_OPEN:
            self.probe = permit.number
        return permit

    @rule(permit=consumes(permits))
    def succeed(self, permit: Permit | None) -> None:
        if permit is None:
            return
        self.breaker.record_success(permit, now=self.now)
        if permit.number not in self.valid:
            return
        if self.state is CLOSED:
            self.run = 0
        elif self.state is HALF_OPEN:
            self.probe = None
            self.run += 1
            if self.run == 2:
                self.enter(CLOSED)

    @rule(permit=consumes(permits))
    def fail(self, permit: Permit | None) -> None:
        if permit is None:
            return
        self.breaker.record_failure(permit, now=self.now)
        if permit.number not in self.valid:
            return
        if self.state is HALF_OPEN:
            self.enter(OPEN)
        elif self.state is CLOSED:
            self.run += 1
            if self.run == 3:
                self.enter(OPEN)

    @rule(permit=consumes(permits))
    def cancel(self, permit: Permit | None) -> None:
        if permit is None:
            return
        self.breaker.release(permit, now=self.now)
        if self.probe == permit.number:
            self.probe = None

    @rule()
    def reset(self) -> None:
        self.breaker.reset(now=self.now)
        if self.state is not CLOSED:
            self.enter(CLOSED)
        self.run, self.wait = 0, 10.0

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state is self.state
        assert self.breaker.open_until == (self.until if self.state is OPEN else None)
        assert self.breaker.metrics.rejections == self.rejections
        spent = [self.breaker.metrics.time_in_state(s, now=self.now) for s in CircuitState]
        assert all(seconds >= 0 for seconds in spent)


TestBreakerMachine = BreakerMachine.TestCase


def test_outcomes_of_messages_count_without_a_permit() -> None:
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.record_failure(None, now=0.0)
    assert breaker.state is OPEN
    breaker.record_success(None, now=1.0)
    assert breaker.metrics.successes == 0, "while it is open, nothing comes in"
    breaker.record_success(breaker.acquire(now=10.0), now=10.0)
    breaker.record_success(None, now=10.0)
    breaker.record_success(None, now=10.0)
    assert breaker.state is CLOSED


def test_a_permit_counts_once() -> None:
    breaker = CircuitBreaker(BreakerConfig(failure_threshold=2))
    permit = breaker.acquire(now=0.0)
    breaker.record_failure(permit, now=0.0)
    breaker.record_failure(permit, now=0.0)
    assert breaker.metrics.failures == 1
    assert breaker.state is CLOSED


def test_metrics_never_run_backwards() -> None:
    metrics = CircuitBreakerMetrics()
    breaker = CircuitBreaker(BreakerConfig(failure_threshold=1), metrics)
    breaker.record_failure(breaker.acquire(now=100.0), now=100.0)
    breaker.reset(now=50.0)
    assert metrics.time_in_state(OPEN, now=200.0) == 0.0
    assert metrics.time_in_state(CLOSED, now=200.0) == 100.0


def test_a_failure_rate_opens_it_although_no_three_are_in_a_row() -> None:
    config = BreakerConfig(failure_threshold=100, failure_rate=0.6, window_s=60.0, window_minimum=5)
    breaker = CircuitBreaker(config)
    for n, good in enumerate([False, True, False, True, False]):
        assert breaker.state is CLOSED
        record = breaker.record_success if good else breaker.record_failure
        record(breaker.acquire(now=float(n)), now=float(n))
    assert breaker.state is OPEN
    assert "0.6" in breaker.metrics.transitions[-1].reason
    assert "OPEN until 14" in repr(breaker)
