"""Levels that are still text: the fast way takes what the strict one takes, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler._core.levels import amount_of, book_side, in_order, strict_side, text_side
from feedhandler.codec import parse_amount
from feedhandler.model import Level

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


@given(text=TEXT)
def test_an_amount_is_that_of_the_strict_way_or_left_to_it(text: str) -> None:
    try:
        strict = parse_amount(text)
    except ValueError:
        strict = None
    amount = amount_of(text)
    if strict:
        assert amount is not None
        assert amount.as_tuple() == strict.as_tuple()
    else:  # wrong, or a zero
        assert amount is None


@pytest.mark.parametrize(
    "text", ["9" * 400, "0." + "1" * 390, "1e-999999999999999999999", "1e999999999999999999999"]
)
def test_long_digits_are_kept_and_absurd_exponents_refused(text: str) -> None:
    expected = None if "e" in text else Decimal(text).as_tuple()
    amount = amount_of(text)
    assert (amount and amount.as_tuple()) == expected
    side = text_side([text], ["1"], down=True, delta=False)
    assert (side and side[0].price.as_tuple()) == expected


@given(
    pairs=st.lists(
        st.tuples(
            st.decimals(-2, 9, places=1) | st.sampled_from([Decimal("NaN"), Decimal("Infinity")]),
            st.decimals(-2, 9, places=1) | st.sampled_from([Decimal("NaN"), Decimal("Infinity")]),
        ),
        max_size=4,
    ),
    down=st.booleans(),
    delta=st.booleans(),
)
def test_numbers_are_judged_as_the_strict_way_judges_them(
    pairs: list[tuple[Decimal, Decimal]], down: bool, delta: bool
) -> None:
    problems: list[tuple[str, str]] = []
    strict = strict_side(pairs, down=down, delta=delta, path="$", problems=problems)
    found = book_side([Level(*pair) for pair in pairs], down=down, delta=delta)
    assert found == (None if problems else strict)
