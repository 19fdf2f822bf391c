"""A book that does not become whole is asked for again, three times, and then given up."""

from __future__ import annotations

import math
from itertools import pairwise

from feedhandler._core.ladder import ResyncLadder
from feedhandler.abc import Subscription

A, B = Subscription("book", "A"), Subscription("book", "B")


def overdue(ladder: ResyncLadder, *, now: float) -> list[Subscription]:
    ladder.try_overdue(now=now)
    return ladder.unasked()


def test_no_snapshot_is_asked_about_at_each_deadline_and_then_given_up() -> None:
    ladder = ResyncLadder(5.0)
    ladder.asked([A, B], now=0.0)
    ladder.whole(B)
    assert ladder.wake_at() == 5.0
    assert overdue(ladder, now=4.9) == []
    for n in range(3):
        at = 5.0 + 5.0 * n
        assert overdue(ladder, now=at) == [A]
        assert ladder.wake_at() == math.inf
        ladder.asked([A], now=at)
    assert ladder.exhausted(now=19.9) == []
    assert ladder.exhausted(now=20.0) == [A]
    assert ladder.wake_at() == math.inf


def test_a_book_that_breaks_is_asked_for_at_once_but_only_once() -> None:
    ladder = ResyncLadder(5.0)
    assert ladder.broken(A, now=0.0)
    assert not ladder.broken(A, now=0.0), "the request has not even gone out"
    ladder.asked([A], now=1.0)
    assert ladder.broken(A, now=0.0), "the first useless answer"
    ladder.asked([A], now=1.1)
    assert not ladder.broken(A, now=0.0), "the second has to wait for the deadline"
    assert overdue(ladder, now=6.0) == []
    assert overdue(ladder, now=6.1) == [A]


def test_a_whole_book_has_all_its_tries_again() -> None:
    ladder = ResyncLadder(5.0, max_tries=1)
    for _ in range(3):
        assert ladder.broken(A, now=0.0)
        ladder.asked([A], now=0.0)
        ladder.whole(A)
    assert ladder.exhausted(now=100.0) == []


def test_a_pause_and_a_new_connection_begin_anew() -> None:
    ladder = ResyncLadder(5.0, max_tries=0)
    ladder.asked([A], now=0.0)
    ladder.postpone(now=4.0)
    assert ladder.exhausted(now=8.9) == []
    assert ladder.exhausted(now=9.0) == [A]
    ladder.asked([A], now=0.0)
    ladder.reset()
    assert ladder.wake_at() == math.inf


def test_a_whole_book_that_is_asked_for_is_not_waited_for() -> None:
    ladder = ResyncLadder(5.0)
    ladder.whole(A)
    ladder.asked([A, B], now=0.0)
    assert overdue(ladder, now=5.0) == [B]
    assert ladder.broken(A, now=0.0)
    assert ladder.unasked() == [B, A]
    ladder.forget(B)
    assert ladder.unasked() == [A]


def test_a_request_that_went_out_slowly_is_waited_for_from_its_end() -> None:
    ladder = ResyncLadder(5.0)
    ladder.asked([A, B], now=0.0)
    ladder.whole(B)
    ladder.sent([A, B], asked_at=0.0, now=60.0)
    assert ladder.wake_at() == 65.0


def test_what_broke_while_the_request_went_out_is_asked_for_all_the_same() -> None:
    ladder = ResyncLadder(5.0)
    ladder.asked([A], now=0.0)
    ladder.broken(A, now=0.0)
    ladder.sent([A], asked_at=0.0, now=60.0)
    assert ladder.unasked() == [A]


def test_a_book_that_breaks_again_and_again_is_asked_for_at_a_pace() -> None:
    ladder = ResyncLadder(5.0)
    asked: list[float] = []
    now = 0.0
    for _ in range(12):
        ladder.asked([A], now=now)
        ladder.whole(A)
        now += 0.1
        at_once = ladder.broken(A, now=now)
        if not at_once:
            assert not ladder.broken(A, now=now), "what follows changes nothing"
            now = ladder.wake_at()
            ladder.try_overdue(now=now)
        assert ladder.unasked() == [A]
        asked.append(now)
    pauses = [round(b - a - 0.1, 6) for a, b in pairwise(asked)]
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    ladder.asked([A], now=now)
    ladder.whole(A)
    assert ladder.broken(A, now=now + 61), "it was whole for long enough"


def test_a_pause_does_not_outlast_its_connection() -> None:
    ladder = ResyncLadder(5.0)
    for _ in range(5):
        ladder.whole(A)
        ladder.broken(A, now=0.0)
    assert ladder.wake_at() == 4.0
    ladder.reset()
    assert ladder.broken(A, now=0.1)


def test_the_connection_of_other_books_is_not_given_up_for_ever_for_one() -> None:
    ladder = ResyncLadder(5.0, pace_s=30.0)
    ladder.whole(B)
    now, given_up = 0.0, 0
    while now < 100_000:
        given_up += ladder.give_up(A, now=now)
        now += 100
    assert given_up == 5
    assert ladder.wake_at() <= now, "it is still asked for"
    ladder.broken(B, now=now)
    assert ladder.give_up(A, now=now), "now it may be the connection"
