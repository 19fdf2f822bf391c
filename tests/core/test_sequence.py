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
        if isinstance(order, Hole):
            covered[key] += range(order.first_missing, order.last_missing + 1)
            assert order.missing == order.last_missing - order.first_missing + 1 > 0
        assert (order is Order.FIRST) == (not covered[key])
        covered[key].append(number)
        assert tracker.last(key) == number
    for numbers in covered.values():
        if numbers:
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
