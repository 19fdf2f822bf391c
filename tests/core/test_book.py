"""The order book: exact, sorted, never crossed, bounded, and unchanged by what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import BookError, BookTooDeep, BookTop, CrossedBook, Level, OrderBook, Side, Trust


def levels(*pairs: tuple[str, str]) -> list[Level]:
    return [Level(Decimal(price), Decimal(size)) for price, size in pairs]


def book(limit: int = 10) -> OrderBook:
    made = OrderBook("A", limit=limit)
    made.replace(levels(("9", "1"), ("10", "2"), ("8", "4")), levels(("12", "3"), ("11", "5")))
    return made


def test_a_snapshot_in_any_order_is_read_from_the_best() -> None:
    one = book()
    assert [*one.bids()] == levels(("10", "2"), ("9", "1"), ("8", "4"))
    assert [*one.asks()] == levels(("11", "5"), ("12", "3"))
    assert (one.best_bid, one.best_ask) == (Level(Decimal(10), Decimal(2)), (11, 5))
    assert one.depth == (3, 2)
    assert one.top(1) == ((Level(Decimal(10), Decimal(2)),), (Level(Decimal(11), Decimal(5)),))
    assert (one.spread, one.mid) == (1, Decimal("10.5"))
    assert repr(one) == "<OrderBook A bid=10 ask=11 levels=3+2>"


def test_a_delta_sets_sizes_and_ends_levels() -> None:
    one = book()
    one.apply(levels(("10", "0"), ("9", "7"), ("7", "0")), levels(("10.5", "1")))
    assert [*one.bids()] == levels(("9", "7"), ("8", "4"))
    assert [*one.asks()] == levels(("10.5", "1"), ("11", "5"), ("12", "3"))


def test_a_snapshot_leaves_no_ghost_levels() -> None:
    one = book()
    one.replace(levels(("3", "1")), [])
    assert one.top() == ((Level(Decimal(3), Decimal(1)),), ())
    assert (one.best_ask, one.spread, one.mid) == (None, None, None)


def test_the_digits_are_those_that_were_sent_last() -> None:
    one = book()
    one.apply(levels(("10.00", "2.50")), [])
    assert [*map(str, one.best_bid or ())] == ["10.00", "2.50"]
    one.apply(levels(("10.0", "0")), [])
    assert one.depth == (2, 2)


def test_sums_and_differences_keep_every_digit() -> None:
    one = OrderBook("A")
    small, large = "1e-30", "123456789012345678901234567890"
    one.replace(levels((small, small), ("1", "1")), levels((large, "1")))
    assert one.spread == Decimal(123456789012345678901234567889)
    assert one.mid == Decimal("61728394506172839450617283945.5")
    assert one.cumulative_size(Side.BUY, Decimal(0)) == Decimal("1." + "0" * 29 + "1")


def test_cumulative_size_counts_the_price_and_better() -> None:
    one = book()
    assert one.cumulative_size(Side.BUY, Decimal(9)) == 3
    assert one.cumulative_size(Side.BUY, Decimal("9.5")) == 2
    assert one.cumulative_size(Side.BUY, Decimal(11)) == 0
    assert one.cumulative_size(Side.SELL, Decimal(11)) == 5
    assert one.cumulative_size(Side.SELL, Decimal(20)) == 8


@pytest.mark.parametrize(
    ("bids", "asks", "error"),
    [
        ([("11", "1")], [], CrossedBook),
        ([("9", "0"), ("10", "7"), ("12.5", "1")], [("11", "0")], CrossedBook),
        ([(str(n), "1") for n in range(1, 8)], [("13", "1")], None),
        ([("9", "5"), *((f"1.{n}", "1") for n in range(8))], [], BookTooDeep),
        ([("10", "0"), ("9", "-1")], [], BookError),
        ([("10", "0"), ("0", "1")], [], BookError),
        ([("10", "0"), ("9", "NaN")], [], BookError),
        ([], [("11", "0"), ("sNaN", "1")], BookError),
        ([], [("11", "0"), ("Infinity", "1")], BookError),
    ],
)
def test_what_would_make_it_wrong_raises_and_changes_nothing(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]], error: type[BookError] | None
) -> None:
    one = book()
    before = one.top()
    if error is None:
        one.apply(levels(*bids), levels(*asks))
        return
    with pytest.raises(error):
        one.apply(levels(*bids), levels(*asks))
    assert one.top() == before
    assert [str(level) for level in one.bids()] == [str(level) for level in book().bids()]
    with pytest.raises(error):
        one.replace([*before[0], *levels(*bids)], [*before[1], *levels(*asks)])
    assert one.top() == before


def test_a_frozen_top_knows_what_the_book_knows() -> None:
    bids, asks = book().top(1)
    top = BookTop("A", bids, asks, Trust.VERIFIED, 1, None, 0, "v", 1)
    assert (top.best_bid, top.best_ask, top.spread, top.mid) == (
        bids[0], asks[0], 1, Decimal("10.5"),
    )  # fmt: skip
    empty = BookTop("A", (), asks, Trust.VERIFIED, 1, None, 0, "v", 1)
    assert (empty.best_bid, empty.spread, empty.mid) == (None, None, None)


_SIDE = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=6)


@given(st.lists(st.tuples(st.booleans(), _SIDE, _SIDE), max_size=30))
def test_it_is_what_a_naive_book_is(
    changes: list[tuple[bool, list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    one = OrderBook("A", limit=8)
    naive: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for whole, *sides in changes:
        bids, asks = ([Level(Decimal(p), Decimal(s)) for p, s in side] for side in sides)
        wanted: tuple[dict[int, int], dict[int, int]] = ({}, {}) if whole else (
            {**naive[0]}, {**naive[1]},
        )  # fmt: skip
        for target, side in zip(wanted, sides, strict=True):
            for price, size in side:
                target[price] = size
                if not size:
                    del target[price]
        crossed = bool(wanted[0] and wanted[1]) and max(wanted[0]) >= min(wanted[1])
        if crossed or max(map(len, wanted)) > 8:
            with pytest.raises(BookError):
                (one.replace if whole else one.apply)(bids, asks)
        else:
            (one.replace if whole else one.apply)(bids, asks)
            naive = wanted
        assert one.top() == (
            tuple(sorted(naive[0].items(), reverse=True)),
            tuple(sorted(naive[1].items())),
        )
