"""A token bucket: never faster than it says, never slower than it has to be, in order."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedhandler._core.pace import TokenBucket
from feedhandler.errors import ConfigError

RATES = st.floats(0.01, 1000)
BURSTS = st.floats(0.5, 500)
WEIGHTS = st.floats(0, 600)
CALLS = st.lists(st.tuples(st.floats(0, 50), WEIGHTS), min_size=1, max_size=25)


def test_a_full_bucket_gives_its_burst_at_once_and_then_keeps_its_rate() -> None:
    bucket = TokenBucket(2.0, 3.0)
    assert [bucket.take(1, 10.0) for _ in range(5)] == [10.0, 10.0, 10.0, 10.5, 11.0]


def test_what_was_not_used_is_regained_up_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(2.0, 3.0)
    bucket.take(3, 0.0)
    assert bucket.tokens(0.0) == 0.0
    assert bucket.tokens(1.0) == 2.0
    assert bucket.tokens(1e9) == 3.0
    assert [bucket.take(1, 1e9) for _ in range(4)] == [1e9, 1e9, 1e9, 1e9 + 0.5]


def test_what_is_heavier_than_the_bucket_waits_until_it_is_full_and_is_paid_for_after() -> None:
    bucket = TokenBucket(1.0, 2.0)
    assert bucket.take(1, 0.0) == 0.0
    assert bucket.take(10, 0.0) == 1.0  # full again
    assert bucket.tokens(1.0) == -8.0
    assert bucket.take(1, 1.0) == 10.0


def test_a_light_turn_never_overtakes_a_heavy_one() -> None:
    bucket = TokenBucket(1.0, 10.0)
    bucket.take(10, 0.0)
    heavy = bucket.take(8, 0.0)
    assert bucket.take(0, 0.0) == heavy
    assert bucket.take(1, 0.0) > heavy


def test_looking_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 1.0)
    bucket.take(1, 0.0)
    assert [bucket.ready_at(1, 0.0) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert bucket.take(1, 0.0) == 1.0


@given(RATES, BURSTS, CALLS)
@example(0.01, 0.5, [(0.0, 600.0), (0.0, 0.5), (0.0, 600.0)])
def test_no_window_holds_more_than_was_allowed(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, turns = 0.0, []
    for pause, weight in calls:
        now += pause
        turns.append((bucket.take(weight, now), weight))
    heaviest = max(weight for _, weight in turns)
    for first, (begin, _) in enumerate(turns):
        for end, _ in turns[first:]:
            taken = math.fsum(weight for due, weight in turns if begin <= due <= end)
            allowed = max(burst, heaviest) + rate * (end - begin)
            assert taken <= allowed * (1 + 1e-9) + 1e-9 * rate * end


@given(RATES, BURSTS, CALLS)
def test_nobody_waits_longer_than_for_what_was_taken(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, before = 0.0, 0.0
    for pause, weight in calls:
        now += pause
        due = bucket.take(weight, now)
        assert now <= due <= now + (before + weight) / rate * (1 + 1e-9) + 1e-9 * now
        before += weight


@given(RATES, BURSTS, st.lists(WEIGHTS, min_size=1, max_size=25), st.floats(0, 1e9))
def test_one_who_waits_until_the_moment_named_can_go_then(
    rate: float, burst: float, weights: list[float], now: float
) -> None:
    bucket = TokenBucket(rate, burst)
    for weight in weights:
        ready = bucket.ready_at(weight, now)
        assert ready >= now
        assert bucket.ready_at(weight, ready) == ready
        now = ready
        assert bucket.take(weight, now) == now


@given(RATES, BURSTS, CALLS)
def test_turns_come_in_the_order_of_the_calls(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, last = 0.0, 0.0
    for pause, weight in calls:
        now += pause
        due = bucket.take(weight, now)
        assert due >= last * (1 - 1e-12)
        last = due


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_what_can_be_no_pace_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="rate_per_s"):
        TokenBucket(wrong, 1.0)
    with pytest.raises(ConfigError, match="burst"):
        TokenBucket(1.0, wrong)


@pytest.mark.parametrize("wrong", [-1.0, math.inf, math.nan])
def test_what_can_be_no_weight_is_refused_and_takes_nothing(wrong: float) -> None:
    bucket = TokenBucket(1.0, 2.0)
    with pytest.raises(ConfigError, match="weight"):
        bucket.take(wrong, 0.0)
    assert bucket.tokens(0.0) == 2.0
