"""How long to wait before the next attempt, and when to stop trying."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from random import Random

from attrs import define, field, frozen

from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy, judge
from feedhandler.config import BackoffConfig
from feedhandler.errors import ConnectionFailed, FailureKind, FeedError, RetriesExhausted

__all__ = ["GiveUp", "ReconnectionState", "Retry"]

_KEPT_CAUSES = 32  # where retries go on for ever


@frozen
class Retry:
    """Try again after `delay_s` seconds; it will be the retry number `attempt`, from 1."""

    delay_s: float
    attempt: int
    failure: FailureKind


@frozen
class GiveUp:
    """Do not try again; `error` says why."""

    error: FeedError


@define
class ReconnectionState:
    """Counts failed attempts and decides on each what follows.

    The nth failure since the last proof (n = 1, 2, …) is followed by a wait of
    ``min(cap, base * factor**(n - 1))`` seconds, where the failure's policy scales the base and
    may replace the cap; with jitter the wait is drawn uniformly from 0 to that. A wait is never
    shorter than what the policy or the venue's ``Retry-After`` asks for.
    """

    config: BackoffConfig = field(factory=BackoffConfig)
    policies: Mapping[FailureKind, FailurePolicy] = field(default=DEFAULT_POLICIES, repr=False)
    attempt_count: int = field(default=0, init=False)
    current_backoff: float = field(default=0.0, init=False)
    _causes: deque[ConnectionFailed] = field(init=False, repr=False)
    _last_kind: FailureKind | None = field(default=None, init=False, repr=False)
    _in_a_row: int = field(default=0, init=False, repr=False)
    _stable_at: float | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        kept = self.config.max_retries + 1 if self.config.max_retries else _KEPT_CAUSES
        self._causes = deque(maxlen=kept)

    @property
    def base_backoff(self) -> float:
        """The wait after a first failure, in seconds, before scaling and jitter."""
        return self.config.base_s

    @property
    def stable_at(self) -> float | None:
        """When the present connection will have proved itself by living; `None` if it has."""
        return self._stable_at

    def failed(self, error: ConnectionFailed, *, rng: Random) -> Retry | GiveUp:
        """An attempt failed, or a connection was lost: decide what follows."""
        self._stable_at = None
        self.attempt_count += 1
        self._causes.append(error)
        self._in_a_row = self._in_a_row + 1 if error.kind is self._last_kind else 1
        self._last_kind = error.kind
        verdict = judge(error, in_a_row=self._in_a_row, policies=self.policies)
        if not verdict.retry:
            return GiveUp(error)
        if 0 < self.config.max_retries < self.attempt_count:
            return GiveUp(RetriesExhausted(self._causes))
        delay = self._curve(verdict.policy)
        if self.config.jitter:
            delay = rng.uniform(0.0, delay)
        self.current_backoff = max(delay, verdict.minimum_s)
        return Retry(self.current_backoff, self.attempt_count, error.kind)

    def _curve(self, policy: FailurePolicy) -> float:
        cap = self.config.cap_s if policy.cap_s is None else policy.cap_s
        base = self.config.base_s * policy.scale
        exponent = self.attempt_count - 1
        # In logarithms, so that no number of failures overflows.
        if base <= 0 or math.log(base) + exponent * math.log(self.config.factor) >= math.log(cap):
            return cap
        return min(cap, base * self.config.factor**exponent)

    def established(self, *, now: float) -> None:
        """The opening handshake is done. That alone proves nothing."""
        self._stable_at = now + self.config.stable_s

    def check_stable(self, *, now: float) -> bool:
        """Take it as a proof if the connection has lived for `stable_s`; true if it has now."""
        if self._stable_at is None or now < self._stable_at:
            return False
        self.proved()
        return True

    def proved(self) -> None:
        """The connection has proved itself, by valid data for example: start counting anew."""
        self.attempt_count = 0
        self.current_backoff = 0.0
        self._causes.clear()
        self._last_kind = None
        self._in_a_row = 0
        self._stable_at = None
