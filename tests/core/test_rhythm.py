"""Silence is judged by a stream's own rhythm."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from feedhandler._core.rhythm import Rhythm


def beaten(every: list[float], **settings: float) -> tuple[Rhythm[str], float]:
    """A rhythm in which "A" came at these intervals, and the time of the last."""
    rhythm: Rhythm[str] = Rhythm(**settings)
    now = 100.0
    rhythm.saw("A", now)
    for interval in every:
        now += interval
        rhythm.saw("A", now)
    return rhythm, now


def test_nothing_is_silent_before_its_rhythm_is_known() -> None:
    rhythm, now = beaten([1.0] * 19, intervals=30)
    assert rhythm.silent_at("A", now) == math.inf
    assert rhythm.silent_at("B", now) == math.inf, "one that never came"
    rhythm, now = beaten([2.0] * 20, intervals=30)
    assert rhythm.silent_at("A", now) == now + 60


def test_the_limit_is_neither_hasty_nor_endless() -> None:
    rhythm, _ = beaten([0.01] * 50, intervals=30)
    assert rhythm.limit_of("A") == 30
    rhythm, _ = beaten([1000.0] * 50, intervals=30)
    assert rhythm.limit_of("A") == 3600


def test_a_stream_that_became_quiet_is_silent_ever_more_rarely() -> None:
    rhythm, now = beaten([1.0] * 100, intervals=30)
    waits = []
    for _ in range(6):
        silent_at = rhythm.silent_at("A", now)
        waits.append(silent_at - now)
        now = silent_at
        rhythm.wait_anew(["A"], now)
    assert waits == sorted(waits)
    assert waits[-1] > 10 * waits[0]


def test_a_fixed_limit_needs_no_rhythm_and_begins_with_the_first_look() -> None:
    rhythm: Rhythm[str] = Rhythm(limit_s=5, intervals=30)
    assert rhythm.silent_at("A", 100) == 105
    assert rhythm.silent_at("A", 104) == 105
    rhythm.saw("A", 104)
    assert rhythm.silent_at("A", 104) == 109


def test_neither_a_slow_consumer_nor_a_new_connection_is_silence() -> None:
    rhythm, now = beaten([1.0] * 20, intervals=30)
    rhythm.postpone(now + 29)
    assert rhythm.silent_at("A", now + 29) == now + 59
    rhythm.reset()
    assert rhythm.silent_at("A", now + 500) == now + 530, "what is usual is kept"
    rhythm.reset()
    rhythm.saw("A", now + 600)
    assert rhythm.silent_at("A", now + 610) == now + 630


@given(st.lists(st.floats(0, 1e4), max_size=80))
def test_a_stream_that_has_just_come_is_never_silent(intervals: list[float]) -> None:
    rhythm, now = beaten(intervals, intervals=30)
    assert rhythm.silent_at("A", now) >= now + 30
