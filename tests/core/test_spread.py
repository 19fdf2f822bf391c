"""Where subscriptions go: within the limit, a symbol's together, and what is placed stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedhandler._core.spread import Part, spread
from feedhandler.abc import Subscription


def of(*names: str) -> list[Subscription]:
    return [Subscription(channel, symbol) for name in names for channel, symbol in [name.split()]]


def test_without_a_limit_all_go_to_one() -> None:
    wanted = of("t A", "t B", "b A")
    (part,) = spread(wanted, {}, limit=None)
    assert part.leg is None
    assert set(part.subscriptions) == set(wanted)


def test_as_many_as_fit_go_to_one_and_the_rest_to_further_ones() -> None:
    parts = spread(of("t A", "t B", "t C", "t D", "t E"), {}, limit=2)
    assert [part.subscriptions for part in parts] == [
        tuple(of("t A", "t B")), tuple(of("t C", "t D")), tuple(of("t E")),
    ]  # fmt: skip
    assert all(part.leg is None for part in parts)


def test_all_channels_of_a_symbol_go_together() -> None:
    wanted = [*of("t A", "t B", "t C"), *of("b A", "b B", "b C")]
    parts = spread(wanted, {}, limit=3)
    assert [part.subscriptions for part in parts] == [
        tuple(of("t A", "b A")), tuple(of("t B", "b B")), tuple(of("t C", "b C")),
    ]  # fmt: skip


def test_a_further_channel_goes_where_the_symbol_is() -> None:
    legs = {0: of("t A"), 4: of("t B"), 7: of("t C")}
    assert spread(of("b B"), legs, limit=2) == [Part(4, tuple(of("b B")))]


def test_a_symbol_goes_to_the_first_that_has_room() -> None:
    legs = {0: of("t A", "t B"), 3: of("t C")}
    assert spread(of("t D"), legs, limit=2) == [Part(3, tuple(of("t D")))]
    assert spread(of("t D", "t E"), legs, limit=2) == [
        Part(3, tuple(of("t D"))), Part(None, tuple(of("t E"))),
    ]  # fmt: skip


def test_what_is_there_already_is_not_placed_again() -> None:
    assert spread(of("t A"), {0: of("t A")}, limit=2) == []


def test_a_symbol_of_more_channels_than_fit_is_split() -> None:
    parts = spread(of("t A", "b A", "q A"), {}, limit=2)
    assert [len(part.subscriptions) for part in parts] == [2, 1]


SUBSCRIPTIONS = st.builds(Subscription, st.sampled_from("tbq"), st.sampled_from("ABCDEFGHIJ"))


@given(st.lists(st.lists(SUBSCRIPTIONS, max_size=8), max_size=6), st.integers(1, 7))
def test_each_is_placed_once_and_no_limit_is_passed(
    steps: list[list[Subscription]], limit: int
) -> None:
    legs: dict[int, list[Subscription]] = {}
    wanted: set[Subscription] = set()
    for step in steps:
        before = {number: list(has) for number, has in legs.items()}
        for part in spread(step, legs, limit=limit):
            number = len(legs) if part.leg is None else part.leg
            legs.setdefault(number, []).extend(part.subscriptions)
            assert len(part.subscriptions) == len(set(part.subscriptions)) > 0
        wanted |= set(step)
        placed = [s for has in legs.values() for s in has]
        assert len(placed) == len(set(placed))
        assert set(placed) == wanted
        assert all(len(has) <= limit for has in legs.values())
        assert all(legs[number][: len(has)] == has for number, has in before.items())
        fresh = {s.symbol for s in step} - {s.symbol for has in before.values() for s in has}
        for symbol in fresh:
            channels = {s for s in step if s.symbol == symbol}
            if len(channels) <= limit:
                assert sum(any(s.symbol == symbol for s in has) for has in legs.values()) == 1
