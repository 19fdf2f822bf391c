"""A circuit breaker: after too many failures no attempts for a while, then one at a time."""

from __future__ import annotations

import enum
from collections import deque

from attrs import define, field, frozen

from feedhandler.config import BreakerConfig
from feedhandler.errors import CircuitOpenError

__all__ = [
    "BreakerSnapshot",
    "CircuitBreaker",
    "CircuitBreakerMetrics",
    "CircuitState",
    "CircuitTransition",
    "Permit",
]

_KEPT_TRANSITIONS = 256


class CircuitState(enum.Enum):
    """`CLOSED` lets everything pass, `OPEN` nothing, `HALF_OPEN` one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@frozen
class CircuitTransition:
    """The circuit went from `old` to `new` at `at` (seconds of the clock that drives it)."""

    old: CircuitState
    new: CircuitState
    at: float
    reason: str


@frozen
class Permit:
    """Leave for one attempt, given in the circuit's `generation`."""

    generation: int
    number: int


@frozen(kw_only=True)
class BreakerSnapshot:
    """`CircuitBreakerMetrics` at one moment; `seconds` is the time spent in each state."""

    state: CircuitState
    failures: int
    successes: int
    rejections: int
    consecutive_failures: int
    consecutive_successes: int
    transitions: tuple[CircuitTransition, ...]
    seconds: dict[CircuitState, float]


@define
class CircuitBreakerMetrics:
    """What a breaker has counted; the last 256 transitions are kept."""

    failures: int = 0
    successes: int = 0
    rejections: int = 0
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    transitions: deque[CircuitTransition] = field(factory=lambda: deque(maxlen=_KEPT_TRANSITIONS))
    _state: CircuitState = field(default=CircuitState.CLOSED, init=False)
    _since: float | None = field(default=None, init=False)
    _seconds: dict[CircuitState, float] = field(factory=dict, init=False)

    def time_in_state(self, state: CircuitState, *, now: float) -> float:
        """Seconds spent in `state` since the breaker was first used, up to `now`."""
        spent = self._seconds.get(state, 0.0)
        if state is self._state and self._since is not None:
            spent += max(0.0, now - self._since)
        return spent

    def snapshot(self, *, now: float) -> BreakerSnapshot:
        return BreakerSnapshot(
            state=self._state,
            failures=self.failures,
            successes=self.successes,
            rejections=self.rejections,
            consecutive_failures=self.consecutive_failures,
            consecutive_successes=self.consecutive_successes,
            transitions=tuple(self.transitions),
            seconds={state: self.time_in_state(state, now=now) for state in CircuitState},
        )

    def _start(self, now: float) -> None:
        if self._since is None:
            self._since = now

    def _enter(self, transition: CircuitTransition) -> None:
        since = transition.at if self._since is None else self._since
        spent = max(0.0, transition.at - since)
        self._seconds[self._state] = self._seconds.get(self._state, 0.0) + spent
        self._since = max(since, transition.at)
        self._state = transition.new
        self.transitions.append(transition)


@define(repr=False)
class CircuitBreaker:
    """Decides whether an attempt may be made, from the outcomes of those before.

    `now` is in seconds of any one clock that does not go backwards. `acquire()` gives a permit,
    and each permit's outcome is told once, with `record_success()`, `record_failure()` or
    `release()`. What is told of a permit from before the last transition is ignored. A permit of
    `None` stands for an outcome that needed none, such as that of a message.
    """

    config: BreakerConfig = field(factory=BreakerConfig)
    metrics: CircuitBreakerMetrics = field(factory=CircuitBreakerMetrics)
    _state: CircuitState = field(default=CircuitState.CLOSED, init=False)
    _generation: int = field(default=0, init=False)
    _permits: int = field(default=0, init=False)
    _outstanding: set[int] = field(factory=set, init=False)
    _open_until: float = field(default=0.0, init=False)
    _opened_in_a_row: int = field(default=0, init=False)
    _window: deque[tuple[float, int, int]] = field(factory=deque, init=False)

    def __repr__(self) -> str:
        until = f" until {self._open_until:g}" if self._state is CircuitState.OPEN else ""
        return (
            f"<CircuitBreaker {self._state.name}{until} "
            f"failures={self.metrics.consecutive_failures}>"
        )

    @property
    def state(self) -> CircuitState:
        """As of the last call: an open circuit turns half-open at the next `acquire()`."""
        return self._state

    @property
    def open_until(self) -> float | None:
        """When an open circuit lets the first probe pass; `None` if it is not open."""
        return self._open_until if self._state is CircuitState.OPEN else None

    # --- attempts ---

    def acquire(self, *, now: float) -> Permit:
        """Ask for leave to make an attempt.

        Raises `CircuitOpenError`, counted as a rejection, while the circuit is open, and while it
        is half-open and a probe is out: its end is not known, so `until` is then `now`.
        """
        self.metrics._start(now)
        if self._state is CircuitState.OPEN:
            if now < self._open_until:
                self.metrics.rejections += 1
                raise CircuitOpenError(self._open_until, now=now)
            self._enter(CircuitState.HALF_OPEN, now, "the open time is over")
        if self._state is CircuitState.HALF_OPEN and self._outstanding:
            self.metrics.rejections += 1
            raise CircuitOpenError(now, now=now)
        self._permits += 1
        self._outstanding.add(self._permits)
        return Permit(self._generation, self._permits)

    def release(self, permit: Permit, *, now: float) -> None:
        """The attempt was cancelled: give the permit back; nothing is counted."""
        self.metrics._start(now)
        self._outstanding.discard(permit.number)

    def record_success(self, permit: Permit | None, *, now: float, weight: int = 1) -> None:
        """The attempt was good, or so were `weight` messages, which are one success.

        In the window of the failure rate they count for as many as they are.
        """
        if not self._counts(permit, now):
            return
        metrics = self.metrics
        metrics.successes += 1
        metrics.consecutive_successes += 1
        metrics.consecutive_failures = 0
        self._remember(now, good=weight)
        if (
            self._state is CircuitState.HALF_OPEN
            and metrics.consecutive_successes >= self.config.success_threshold
        ):
            self._opened_in_a_row = 0
            self._enter(
                CircuitState.CLOSED, now, f"{metrics.consecutive_successes} successes in a row"
            )

    def record_failure(self, permit: Permit | None, *, now: float) -> None:
        """The attempt, or the message, was bad."""
        if not self._counts(permit, now):
            return
        metrics = self.metrics
        metrics.failures += 1
        metrics.consecutive_failures += 1
        metrics.consecutive_successes = 0
        self._remember(now, bad=1)
        if self._state is CircuitState.HALF_OPEN:
            self._open(now, "a probe failed")
        elif self._state is CircuitState.CLOSED:
            if metrics.consecutive_failures >= self.config.failure_threshold:
                self._open(now, f"{metrics.consecutive_failures} failures in a row")
            elif self._rate_exceeded():
                self._open(now, f"failure rate over {self.config.failure_rate:g}")

    # --- by hand ---

    def open(self, *, now: float, for_s: float | None = None) -> None:
        """Open the circuit by hand, for `for_s` seconds (default: `open_s`)."""
        self.metrics._start(now)
        self._opened_in_a_row = 0
        self._open(now, "opened by hand", for_s)

    def reset(self, *, now: float) -> None:
        """Close the circuit by hand, and forget what came before."""
        self.metrics._start(now)
        self.metrics.consecutive_failures = 0
        self.metrics.consecutive_successes = 0
        self._opened_in_a_row = 0
        self._window.clear()
        if self._state is not CircuitState.CLOSED:
            self._enter(CircuitState.CLOSED, now, "reset by hand")

    # --- inside ---

    def _counts(self, permit: Permit | None, now: float) -> bool:
        """Whether an outcome belongs to the present; it is told only once."""
        self.metrics._start(now)
        if permit is None:
            return self._state is not CircuitState.OPEN
        if permit.generation != self._generation or permit.number not in self._outstanding:
            return False
        self._outstanding.discard(permit.number)
        return True

    def _remember(self, now: float, *, good: int = 0, bad: int = 0) -> None:
        if self.config.failure_rate is None:
            return
        window = self._window
        window.append((now, good, bad))
        while window and window[0][0] <= now - self.config.window_s:
            window.popleft()

    def _rate_exceeded(self) -> bool:
        rate = self.config.failure_rate
        if rate is None:
            return False
        outcomes = sum(good + bad for _, good, bad in self._window)
        failures = sum(bad for _, _, bad in self._window)
        return outcomes >= self.config.window_minimum and failures >= rate * outcomes

    def _open(self, now: float, reason: str, for_s: float | None = None) -> None:
        if for_s is None:
            # The exponent is bounded, so that no number of openings overflows.
            doubled = self.config.open_s * 2.0 ** min(self._opened_in_a_row, 64)
            for_s = min(self.config.open_cap_s, doubled)
        self._opened_in_a_row += 1
        self._open_until = now + for_s
        self._enter(CircuitState.OPEN, now, reason)

    def _enter(self, new: CircuitState, now: float, reason: str) -> None:
        self.metrics._enter(CircuitTransition(self._state, new, now, reason))
        self._state = new
        self._generation += 1
        self._outstanding.clear()
        self._window.clear()
        if new is CircuitState.HALF_OPEN:
            self.metrics.consecutive_successes = 0
        elif new is CircuitState.CLOSED:
            self.metrics.consecutive_failures = 0
