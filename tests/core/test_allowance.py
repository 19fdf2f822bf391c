"""What a venue's figures come to: never more than they say, and most of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import Coinbase, PriceVenue
from feedhandler._core.allowance import connect_bucket, message_bucket, planned_life, traits_of
from feedhandler._core.pace import TokenBucket
from feedhandler.errors import ConfigError
from feedhandler.traits import KeepAlive, Limits, VenueTraits


def turns(bucket: TokenBucket, count: int, gaps: list[float]) -> list[float]:
    """When `count` turns are due, where whoever takes them sometimes waits of itself."""
    now, times = 0.0, []
    for number in range(count):
        now += gaps[number % len(gaps)] if gaps else 0.0
        now = bucket.take(1.0, now)
        times.append(now)
    return times


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= t < start + seconds for t in times) for start in times)


GAPS = st.lists(st.floats(0, 3), max_size=7)


@given(st.integers(1, 60), GAPS)
def test_no_second_sees_more_messages_than_the_venue_takes(limit: int, gaps: list[float]) -> None:
    bucket = message_bucket(Limits(messages_per_s=limit))
    assert bucket is not None
    assert most_within(turns(bucket, 150, gaps), 1.0 - 1e-9) <= limit


@pytest.mark.parametrize("limit", [2, 3, 5, 10, 50])
def test_one_a_second_is_left_for_pings_and_pongs_and_most_of_the_rest_is_used(limit: int) -> None:
    bucket = message_bucket(Limits(messages_per_s=limit))
    assert bucket is not None
    times = turns(bucket, 40 * limit, [])
    assert most_within(times, 1.0 - 1e-9) <= limit - 1
    assert len(times) / times[-1] > 0.75 * (limit - 1)


@given(st.integers(1, 300), st.lists(st.floats(0, 90), max_size=7))
def test_no_minute_sees_more_connects_than_the_venue_takes(limit: int, gaps: list[float]) -> None:
    bucket = connect_bucket(Limits(connects_per_minute=limit))
    assert bucket is not None
    assert most_within(turns(bucket, 300, gaps), 60.0 - 1e-6) <= limit


def test_half_of_a_minutes_connects_may_go_at_once() -> None:
    bucket = connect_bucket(Limits(connects_per_minute=10))
    assert bucket is not None
    assert turns(bucket, 6, [])[:5] == [0.0] * 5
    assert turns(bucket, 1, []) != [0.0]


def test_where_a_venue_names_no_limit_nothing_waits() -> None:
    assert message_bucket(Limits()) is None
    assert connect_bucket(Limits()) is None
    assert planned_life(None, None, Random(1)) is None
    assert planned_life(50.0, None, Random(1)) == 50.0


def test_a_venues_life_is_used_up_to_a_little_before_its_end_and_never_all_alike() -> None:
    rng = Random(7)
    lives = [planned_life(None, 86_400.0, rng) for _ in range(200)]
    told = [life for life in lives if life is not None]
    assert len(told) == 200
    assert 0.96 * 86_400 <= min(told) < 0.963 * 86_400
    assert 0.977 * 86_400 < max(told) <= 0.98 * 86_400


def test_the_users_own_limit_of_a_life_counts_where_it_is_shorter() -> None:
    assert planned_life(100.0, 86_400.0, Random(1)) == 100.0
    life = planned_life(86_399.0, 86_400.0, Random(1))
    assert life is not None
    assert life < 0.98 * 86_400 + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(subscriptions=0),
        lambda: Limits(per_message=-1),
        lambda: Limits(subscriptions=1.5),  # type: ignore[arg-type]  # the mistake itself
        lambda: Limits(per_message=True),
        lambda: Limits(messages_per_s=0.0),
        lambda: Limits(connects_per_minute=float("nan")),
        lambda: Limits(requests_per_minute=float("inf")),
        lambda: KeepAlive("ping", 0.0),
        lambda: VenueTraits(silence_s=-1.0),
        lambda: VenueTraits(max_lifetime_s=0.0),
    ],
)
def test_impossible_traits_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make()


def test_a_venue_that_says_nothing_of_itself_has_plain_traits() -> None:
    class Silent:
        name = "silent"

    traits = VenueTraits(keep_alive=KeepAlive("ping", 20.0))
    venue = PriceVenue("ws://mock.invalid/", traits=traits)
    assert traits_of(venue) is traits
    assert traits_of(PriceVenue("ws://mock.invalid/")) == VenueTraits()
    assert traits_of(Silent()) == VenueTraits()  # type: ignore[arg-type]  # no Venue: only the lookup is meant
    assert traits_of(Coinbase()).limits is not None
