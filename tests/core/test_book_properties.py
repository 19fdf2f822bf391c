"""The order book beside a naive one: blocks, digits, counts, and what is left after an error."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, localcontext
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import BookError, BookTooDeep, CountedLevel, CrossedBook, Level, OrderBook, Side
from feedhandler.book import _FULL, _Ladder

LIMIT = 1500
# Pairs that are one float and two prices, and one price with different digits.
PRICES = [
    *("0.1", "0.10", "1E-1", "0.1000000000000000000001", "0.1000000000000000000002"),
    *("9007199254740992", "9007199254740993", "9007199254740993.0", "9.007199254740993E+15"),
    *("1.5", "1.50", "15E-1", "3", "1E+30", "1000000000000000000000000000001", "1E-30"),
]
SIZES = ["0", "0.0", "-0", "0E+5", "1", "1.0", "1.00", "2.50", "1E-30", "123456789.123456789"]
NOT_SIZES = ["NaN", "sNaN", "-NaN", "Infinity", "-Infinity", "-1", "-1E-30"]
NOT_PRICES = [*NOT_SIZES, "0", "-0", "0E+5"]

Row = tuple[Decimal, Decimal, int | None]  # price, size, count of orders


class Naive:
    """Two dictionaries that are sorted when somebody looks."""

    def __init__(self) -> None:
        self.sides: tuple[dict[Decimal, Row], dict[Decimal, Row]] = ({}, {})

    def changed(self, *changes: Iterable[Row], whole: bool = False) -> Naive:
        made = Naive()
        for new, old, side in zip(made.sides, self.sides, changes, strict=True):
            new.update({} if whole else old)
            for price, size, count in side:
                new.pop(price, None)  # a key keeps its first digits
                if size:
                    new[price] = (price, size, count)
        return made

    def rows(self) -> tuple[list[Row], list[Row]]:
        bids, asks = self.sides
        return [bids[p] for p in sorted(bids, reverse=True)], [asks[p] for p in sorted(asks)]

    @property
    def error(self) -> type[BookError] | None:
        bids, asks = self.sides
        if max(len(bids), len(asks)) > LIMIT:
            return BookTooDeep
        return CrossedBook if bids and asks and max(bids) >= min(asks) else None


def seen(book: OrderBook) -> tuple[list[str], list[str]]:
    """All that a book tells of its levels, with their digits."""
    bids, asks = (
        [f"{level.price} {level.size} {book.order_count(side, level.price)}" for level in levels]
        for side, levels in ((Side.BUY, book.bids()), (Side.SELL, book.asks()))
    )
    return bids, asks


def told(naive: Naive) -> tuple[list[str], list[str]]:
    bids, asks = ([f"{p} {s} {count}" for p, s, count in rows] for rows in naive.rows())
    return bids, asks


def check(book: OrderBook, naive: Naive) -> None:
    assert seen(book) == told(naive)
    bids, asks = naive.rows()
    assert book.depth == (len(bids), len(asks))
    assert book.best_bid == (bids[0][:2] if bids else None)
    assert book.best_ask == (asks[0][:2] if asks else None)
    assert book.top() == (tuple(row[:2] for row in bids), tuple(row[:2] for row in asks))
    for ladder in (book._bids, book._asks):
        check_blocks(ladder)


def check_blocks(ladder: _Ladder) -> None:
    """What `_Ladder` says of itself."""
    prices = [*chain.from_iterable(ladder.prices)]
    rows = [*chain.from_iterable(ladder.rows)]
    assert all(row.price is price for row, price in zip(rows, prices, strict=True))
    assert all(low < high for low, high in pairwise(prices))
    assert [*map(len, ladder.rows)] == [*map(len, ladder.prices)]
    assert len(ladder.fences) == len(ladder.prices) - 1
    assert all(map(len, ladder.prices)) or len(ladder.prices) == 1
    assert max(map(len, ladder.prices)) <= _FULL
    assert ladder.count == len(prices)
    for fence, (below, above) in zip(ladder.fences, pairwise(ladder.prices), strict=True):
        assert below[-1] < fence <= above[0]


def plain(rows: Iterable[Row]) -> list[Level]:
    return [Level(price, size) for price, size, _ in rows]


def counted(rows: Iterable[Row]) -> list[CountedLevel]:
    return [CountedLevel(price, count or 0, size) for price, size, count in rows]


# --- small books of odd numbers ------------------------------------------------------------------

_ODD = st.tuples(st.sampled_from(PRICES).map(Decimal), st.sampled_from(SIZES).map(Decimal))
_ODD_SIDE = st.lists(_ODD, max_size=8)


@given(st.lists(st.tuples(st.sampled_from("rac"), _ODD_SIDE, _ODD_SIDE), max_size=20))
def test_numbers_that_look_alike_are_told_apart(
    changes: list[tuple[str, list[Any], list[Any]]],
) -> None:
    book, naive = OrderBook("A", limit=LIMIT), Naive()
    for kind, bids, asks in changes:
        count = 3 if kind == "c" else None
        # Half of the prices are for each side, or nearly every change would cross the book.
        sides = [
            [(p, s, count if s else None) for p, s in side if (p < 2) is below]
            for side, below in ((bids, True), (asks, False))
        ]
        naive = naive.changed(*sides, whole=kind == "r")
        if kind == "r":
            book.replace(*map(plain, sides))
        elif kind == "a":
            book.apply(*map(plain, sides))
        else:
            book.apply_by_count(*map(counted, sides))
        check(book, naive)


# --- deep books, by ranges of prices -------------------------------------------------------------

_RANGE = st.builds(
    lambda start, length, step, size, backwards: [
        (Decimal(start + n * step), Decimal(size), None) for n in range(length)
    ][:: -1 if backwards else 1],
    st.integers(1, 1999),
    st.integers(0, 700),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
)
_DEEP = st.tuples(st.sampled_from("raat"), st.integers(0, LIMIT), _RANGE, _RANGE)


@given(st.lists(_DEEP, min_size=1, max_size=25))
def test_a_deep_book_is_what_a_naive_one_is(
    changes: list[tuple[str, int, list[Row], list[Row]]],
) -> None:
    book, naive = OrderBook("A", limit=LIMIT), Naive()
    for kind, n, bids, far_asks in changes:
        if kind == "t":
            rows = naive.rows()
            gone = book.truncate(n)
            assert gone == tuple(tuple(plain(side[n:])) for side in rows)
            naive = naive.changed(*(side[:n] for side in rows), whole=True)
        else:
            asks = [(price + 4000, size, None) for price, size, _ in far_asks]
            wanted = naive.changed(bids, asks, whole=kind == "r")
            change = book.replace if kind == "r" else book.apply
            if wanted.error is None:
                change(plain(bids), plain(asks))
                naive = wanted
            else:
                with pytest.raises(wanted.error):
                    change(plain(bids), plain(asks))
        check(book, naive)


@pytest.mark.parametrize("seed", range(4))
def test_a_book_that_lives_long_stays_sound(seed: int) -> None:
    rng = random.Random(seed)
    book, naive = OrderBook("A", limit=LIMIT), Naive()
    middle = 100_000
    for number in range(1500):
        middle += rng.randrange(-30, 31)
        ending = 0.2 if (number // 300) % 2 else 0.6  # it grows and shrinks by turns
        sides: list[list[Row]] = []
        for n, old in enumerate(naive.sides):
            # The market has moved through these.
            side: list[Row] = [(p, Decimal(0), None) for p in old if (p > middle) is (n == 0)]
            for _ in range(rng.randrange(12)):
                away = 1 + int(rng.expovariate(0.005))
                price = Decimal(middle + away if n else middle - away)
                size = Decimal(0) if rng.random() < ending else Decimal(rng.randrange(1, 9))
                side.append((price, size, None))
            sides.append(side)
        wanted = naive.changed(*sides)
        if wanted.error is None:
            book.apply(*map(plain, sides))
            naive = wanted
        else:
            with pytest.raises(wanted.error):
                book.apply(*map(plain, sides))
        if number % 10 == 0:
            check(book, naive)
    check(book, naive)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_large_snapshot_is_taken_in_any_order(shuffled: bool) -> None:
    bids = [Level(Decimal(n), Decimal(1)) for n in range(3000, 0, -1)]
    asks = [Level(Decimal(n), Decimal(1)) for n in range(3001, 6001)]
    book = OrderBook("A")
    expected = tuple(bids), tuple(asks)
    if shuffled:
        random.Random(1).shuffle(bids)
        random.Random(2).shuffle(asks)
    book.replace(bids, asks)
    assert book.top() == expected
    book.replace(reversed(bids), iter(asks))
    assert book.top() == expected
    check_blocks(book._bids)
    check_blocks(book._asks)


def test_the_last_word_of_a_snapshot_on_a_price_counts() -> None:
    book = OrderBook("A")
    sizes = [("1", "5"), ("2", "6"), ("2.0", "7"), ("3", "1"), ("3", "0")]
    book.replace([Level(Decimal(p), Decimal(s)) for p, s in sizes], [])
    assert seen(book) == (["2.0 7 None", "1 5 None"], [])


# --- errors --------------------------------------------------------------------------------------


def deep_book() -> tuple[OrderBook, Naive]:
    rows: list[list[Row]] = [
        [(Decimal(f"{n}.0"), Decimal("1.0"), 2 if n % 3 else None) for n in numbers]
        for numbers in (range(1000, 0, -1), range(2001, 3001))
    ]
    book = OrderBook("A", limit=LIMIT)
    book.replace(*map(plain, rows))
    book.apply_by_count(*(counted(row for row in side if row[2]) for side in rows))
    return book, Naive().changed(*rows)


_WRONG_LEVELS = [
    *(Level(Decimal(price), Decimal(1)) for price in NOT_PRICES),
    *(Level(Decimal(price), Decimal(0)) for price in NOT_PRICES),
    # At a price that is there, at one that is not, and at the end.
    *(Level(Decimal(p), Decimal(size)) for size in NOT_SIZES for p in ("500", "500.5", "9000")),
]


@pytest.mark.parametrize("trapped", [True, False])
@pytest.mark.parametrize("wrong", _WRONG_LEVELS, ids=lambda level: f"{level.size}@{level.price}")
@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_what_is_no_level_changes_nothing(wrong: Level, side: Side, trapped: bool) -> None:
    book, naive = deep_book()
    much = [Level(Decimal(n), Decimal(n % 2)) for n in range(1, 1000)]
    more = [Level(Decimal(n), Decimal(n % 2)) for n in range(2002, 3200)]
    sides = ([*much, wrong, *much[:9]], more) if side is Side.BUY else (much, [*more, wrong])
    with localcontext() if trapped else localcontext(Context(traps=[])):
        for change in (book.apply, book.replace):
            with pytest.raises(BookError, match="is no level"):
                change(*sides)
        alone = ([wrong], []) if side is Side.BUY else ([], [wrong])
        for change in (book.apply, book.replace):
            with pytest.raises(BookError, match="is no level"):
                change(*alone)
    check(book, naive)


@pytest.mark.parametrize(
    ("error", "bids", "asks"),
    [
        (CrossedBook, [("500", "7"), ("1000", "0"), ("2001", "1")], [("2500", "0")]),
        (CrossedBook, [("1000", "7")], [("2001", "0"), ("999.5", "1"), ("2001", "1")]),
        (BookTooDeep, [("500", "7")], [(f"{n}.5", "1") for n in range(2001, 2600)]),
        (BookTooDeep, [(f"{n}.5", "1") for n in range(1, 600)], [("2001", "0")]),
        (TypeError, [("500", "0"), (None, "1")], []),
        (TypeError, [], [("2500", "0"), ("2600", None)]),
    ],
)
def test_what_is_refused_is_undone_with_its_digits_and_counts(
    error: type[Exception], bids: list[tuple[Any, Any]], asks: list[tuple[Any, Any]]
) -> None:
    def levels(pairs: list[tuple[Any, Any]], make: Callable[..., Any]) -> list[Any]:
        return [make(p and Decimal(p), s and Decimal(s)) for p, s in pairs]

    book, naive = deep_book()
    with pytest.raises(error):
        book.apply(levels(bids, Level), levels(asks, Level))
    check(book, naive)
    with pytest.raises(error):
        book.replace([*book.bids(), *levels(bids, Level)], [*book.asks(), *levels(asks, Level)])
    check(book, naive)


@given(_RANGE, _RANGE, st.lists(_RANGE, max_size=3))
def test_an_error_at_the_end_undoes_all_before_it(
    bids: list[Row], asks: list[Row], again: list[list[Row]]
) -> None:
    book, naive = deep_book()
    wrong = Level(Decimal(9999), Decimal(-1))
    with pytest.raises(BookError):
        book.apply(plain(chain(bids, *again)), [*plain(asks), wrong])
    check(book, naive)


# --- counts and truncation -----------------------------------------------------------------------


def test_a_count_lasts_until_the_level_is_set_without_one() -> None:
    book = OrderBook("A")
    ten, nine = Decimal(10), Decimal(9)
    book.apply_by_count([CountedLevel(ten, 3, Decimal(5)), CountedLevel(nine, 1, Decimal(2))], [])
    assert book.best_bid == Level(ten, Decimal(5))
    assert book.order_count(Side.BUY, Decimal("10.0")) == 3
    assert book.order_count(Side.BUY, Decimal(11)) is None
    assert book.order_count(Side.SELL, ten) is None
    book.apply([Level(ten, Decimal(6))], [])
    assert (book.order_count(Side.BUY, ten), book.order_count(Side.BUY, nine)) == (None, 1)
    # Bitfinex ends a level with an amount of 1, whatever it was.
    book.apply_by_count([CountedLevel(ten, 0, Decimal(1)), CountedLevel(nine, 0, Decimal(1))], [])
    assert book.depth == (0, 0)


@pytest.mark.parametrize(
    ("count", "size"), [(-1, "1"), (1, "0"), (1, "-1"), (1, "NaN"), (2, "sNaN"), (1, "Infinity")]
)
def test_orders_without_a_size_are_no_level(count: int, size: str) -> None:
    book, naive = deep_book()
    good = CountedLevel(Decimal(900), 9, Decimal(9))
    with pytest.raises(BookError, match="no level"):
        book.apply_by_count([good, CountedLevel(Decimal(901), count, Decimal(size))], [])
    check(book, naive)


def test_truncating_returns_what_goes_and_changes_nothing_else() -> None:
    book, naive = deep_book()
    assert book.truncate(1000) == ((), ())
    check(book, naive)
    bids, asks = book.top()
    assert book.truncate(700) == (bids[700:], asks[700:])
    assert book.top() == (bids[:700], asks[:700])
    assert book.truncate(1) == (bids[1:700], asks[1:700])
    assert book.truncate(0) == (bids[:1], asks[:1])
    assert (book.best_bid, book.best_ask, book.depth) == (None, None, (0, 0))
    check(book, Naive())
    with pytest.raises(ValueError, match="truncate"):
        book.truncate(-1)


@given(_RANGE, st.integers(0, 2000))
def test_cumulative_size_is_the_sum_from_the_best_on(rows: list[Row], price: int) -> None:
    book = OrderBook("A")
    book.replace(plain(rows), [])
    wanted = sum((level.size for level in book.bids() if level.price >= price), Decimal(0))
    assert book.cumulative_size(Side.BUY, Decimal(price)) == wanted
    book.replace([], plain(rows))
    wanted = sum((level.size for level in book.asks() if level.price <= price), Decimal(0))
    assert book.cumulative_size(Side.SELL, Decimal(price)) == wanted
