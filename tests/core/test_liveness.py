"""Deadlines, pauses and bursts."""

from __future__ import annotations

import math

import pytest

from feedhandler import ConnectionConfig, PongTimeout, StaleConnection
from feedhandler._core.liveness import BurstCounter, Liveness

CONFIG = ConnectionConfig(
    heartbeat_interval_s=2, pong_deadline_s=5, frame_stale_s=7, data_stale_s=30
)


def test_pings_go_out_at_their_interval_and_the_first_deadline_wakes() -> None:
    liveness = Liveness(CONFIG, now=100.0)
    assert liveness.poll(100.0).wake_at == 102.0
    check = liveness.poll(102.0)
    assert (check.ping, check.failure, check.wake_at) == (True, None, 104.0)
    assert not liveness.poll(102.0).ping, "a ping that is due is taken as sent"
    assert liveness.poll(104.0).wake_at == 105.0


def test_a_pong_is_missed_at_its_deadline_and_not_before() -> None:
    liveness = Liveness(CONFIG, now=0.0)
    liveness.data(4.9)
    assert liveness.poll(4.999).failure is None
    failure = liveness.poll(5.0).failure
    assert isinstance(failure, PongTimeout)
    liveness.pong(5.0)
    assert liveness.poll(5.0).failure is None
    assert isinstance(liveness.poll(10.0).failure, PongTimeout)


def test_frames_and_data_have_deadlines_of_their_own() -> None:
    liveness = Liveness(CONFIG, now=0.0)
    for second in range(30):
        liveness.pong(float(second))
        assert liveness.poll(float(second)).failure is None
    failure = liveness.poll(30.0).failure
    assert isinstance(failure, StaleConnection)
    assert failure.what == "data"
    liveness.data(30.0)
    liveness.pong(30.0)
    liveness.frame(33.0)
    assert liveness.poll(34.9).failure is None


def test_no_deadline_runs_during_a_pause() -> None:
    liveness = Liveness(CONFIG, now=0.0)
    liveness.paused(1.0)
    liveness.paused(2.0)
    check = liveness.poll(1000.0)
    assert (check.ping, check.failure, check.wake_at) == (False, None, math.inf)
    liveness.resumed(1000.0)
    liveness.resumed(2000.0)
    assert liveness.poll(1003.999).failure is None
    assert isinstance(liveness.poll(1004.0).failure, PongTimeout)


def test_what_is_switched_off_never_acts() -> None:
    config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)
    liveness = Liveness(config, now=0.0)
    check = liveness.poll(1e9)
    assert (check.ping, check.failure, check.wake_at) == (False, None, math.inf)


@pytest.mark.parametrize(("times", "burst"), [([0, 0.5, 1.0], True), ([0, 0.5, 1.1], False)])
def test_a_burst_is_so_many_within_the_window(times: list[float], burst: bool) -> None:
    counter = BurstCounter(3, 1.0)
    assert [counter.record(time) for time in times] == [False, False, burst]


def test_after_a_burst_counting_starts_anew() -> None:
    counter = BurstCounter(2, 1.0)
    assert [counter.record(0.0) for _ in range(5)] == [False, True, False, True, False]


def test_a_silence_that_the_venue_never_keeps_is_the_end() -> None:
    config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)
    liveness = Liveness(config, now=0.0, silence_s=10.0)
    liveness.frame(4.0)
    liveness.message()
    liveness.frame(9.0)  # a ping, say: no message
    assert liveness.poll(9.0).wake_at == 14.0
    assert liveness.poll(13.9).failure is None
    failure = liveness.poll(14.0).failure
    assert isinstance(failure, StaleConnection)
    assert (failure.what, failure.limit_s) == ("messages", 10.0)


def test_a_users_stricter_limit_comes_before_the_venues_silence() -> None:
    config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None, data_stale_s=3.0)
    failure = Liveness(config, now=0.0, silence_s=10.0).poll(3.0).failure
    assert isinstance(failure, StaleConnection)
    assert failure.what == "data"


def test_no_silence_counts_during_a_pause() -> None:
    config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)
    liveness = Liveness(config, now=0.0, silence_s=10.0)
    liveness.paused(6.0)
    assert liveness.poll(50.0).failure is None
    liveness.resumed(100.0)
    assert liveness.poll(103.9).failure is None
    assert liveness.poll(104.0).failure is not None
