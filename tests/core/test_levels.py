"""Levels that are still text: the fast way takes what the strict one takes, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler._core.levels import in_order, strict_side, text_side
from feedhandler.codec import parse_amount

TEXT = st.one_of(
    st.decimals(min_value=0, max_value=10**6, places=3).map(str),
    st.sampled_from(
        ["0", "-0", "-1", "1e5", "+1", ".5", "5.", "NaN", "sNaN", "-Infinity", "", " 1", "1 ",
         "1_0", "٣", "1e401", "1e-401", "0e9", "\t1", "1\n", "x", "1.2.3"]
    ),
)  # fmt: skip


def strictly(
    pairs: list[tuple[str, str]], *, down: bool, delta: bool, repeats: bool
) -> tuple[tuple[Decimal, Decimal], ...] | None:
    problems: list[tuple[str, str]] = []
    try:
        levels = [[parse_amount(price), parse_amount(size)] for price, size in pairs]
    except ValueError:
        return None
    side = strict_side(levels, down=down, delta=delta, path="$", problems=problems, repeats=repeats)
    return None if problems else side


@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    down=st.booleans(),
    delta=st.booleans(),
    repeats=st.booleans(),
)
def test_the_fast_way_and_the_strict_one_agree(
    pairs: list[tuple[str, str]], down: bool, delta: bool, repeats: bool
) -> None:
    prices, sizes = [price for price, _ in pairs], [size for _, size in pairs]
    found = text_side(prices, sizes, down=down, delta=delta, repeats=repeats)
    expected = strictly(pairs, down=down, delta=delta, repeats=repeats)
    if found is not None:
        assert found == expected
        assert [str(number) for level in found for number in level] == [
            str(number) for level in expected or () for number in level
        ]
    elif expected is not None:  # only a zero that is far out may be left to the strict way
        assert any("e" in text for pair in pairs for text in pair)


@pytest.mark.parametrize("down", [True, False])
def test_a_side_is_best_first_with_its_digits(down: bool) -> None:
    side = text_side(["1.50", "3", "2"], ["1", "2.0", "3"], down=down, delta=False)
    assert side is not None
    assert [str(level.price) for level in side] == (
        ["3", "2", "1.50"] if down else ["1.50", "2", "3"]
    )


def test_a_price_that_repeats_is_wrong_unless_the_venue_does_so() -> None:
    assert text_side(["1", "1.0"], ["1", "2"], down=True, delta=True) is None
    side = text_side(["1", "1.0"], ["1", "2"], down=True, delta=True, repeats=True)
    assert side == in_order([(side or ())[0]], down=True)
    assert (side or ())[0].size == 2
