"""In order, first, duplicate, hole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedhandler._core.sequence import Hole, Order, SequenceTracker


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 8)), max_size=40))
def test_what_passes_and_the_holes_cover_each_number_once(sent: list[tuple[str, int]]) -> None:
    tracker: SequenceTracker[str] = SequenceTracker()
    covered: dict[str, list[int]] = {"A": [], "B": []}
    for key, number in sent:
        order = tracker.check(key, number)
        if order is Order.DUPLICATE:
            assert number <= covered[key][-1]
            continue
        if isinstance(order, Hole) and order.late:
            missing = list(range(order.first_missing, order.last_missing + 1))
            assert number == missing[0]
            covered[key] = missing + covered[key]
            continue
        if isinstance(order, Hole):
            covered[key] += range(order.first_missing, order.last_missing + 1)
            assert order.missing == order.last_missing - order.first_missing + 1 > 0
        assert (order is Order.FIRST) == (not covered[key])
        covered[key].append(number)
        assert tracker.last(key) == number
    for numbers in covered.values():
        if numbers:
            assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_what_comes_after_a_later_beginning_is_a_hole_once() -> None:
    tracker: SequenceTracker[str] = SequenceTracker()
    assert tracker.check("A", 5) is Order.FIRST
    assert tracker.check("A", 3) == Hole(3, 4, late=True)
    assert tracker.check("A", 4) is Order.DUPLICATE
    assert tracker.check("A", 3) is Order.DUPLICATE
    assert tracker.check("A", 6) is Order.IN_ORDER
