"""The levels of one side of a book as a message has them: checked, and put in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import (
    MAX_EMAX,
    MAX_PREC,
    MIN_EMIN,
    Clamped,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
)
from itertools import islice, pairwise, repeat
from operator import gt, itemgetter, lt
from typing import cast

from feedhandler.codec import MAX_AMOUNT, MIN_AMOUNT, check_amount
from feedhandler.model import Level

__all__ = ["amount_of", "are_written_right", "book_side", "in_order", "strict_side", "text_side"]

_price = itemgetter(0)
# A level of a pair, without the call of a Python function: a snapshot has tens of thousands.
_new_tuple = cast("Callable[[type[Level], tuple[Decimal, Decimal]], Level]", tuple.__new__)
# As `Decimal()` of a text, digit for digit, in less time: nothing is rounded without an error.
_exactly = Context(
    prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact, Clamped]
).create_decimal


def in_order(levels: Sequence[Level], *, down: bool, repeats: bool = False) -> tuple[Level, ...]:
    """`levels` best first: from the highest price `down`, or from the lowest up.

    Raises `ValueError` for a price that occurs twice; where the venue `repeats` prices in one
    message, the last one counts.
    """
    if down:
        if all(a[0] > b[0] for a, b in pairwise(levels)):
            return tuple(levels)
    elif all(a[0] < b[0] for a, b in pairwise(levels)):
        return tuple(levels)
    if repeats:
        levels = [*{level.price: level for level in levels}.values()]
    ordered = tuple(sorted(levels, key=_price, reverse=down))
    for a, b in pairwise(ordered):
        if a.price == b.price:
            raise ValueError(f"the price {a.price:.20} occurs twice")
    return ordered


def book_side(
    levels: Sequence[Level], *, down: bool, delta: bool, repeats: bool = False
) -> tuple[Level, ...] | None:
    """`levels` checked and best first, the fast way; `None` where something is wrong with them.

    What it is, `strict_side()` says.
    """
    if not levels:
        return ()
    low, high = MIN_AMOUNT, MAX_AMOUNT
    try:
        if len(levels) == 1:  # as many deltas have
            price, size = levels[0]
            if low <= price <= high and (low <= size <= high or (delta and not size)):
                return tuple(levels)
            return None
        prices = [level[0] for level in levels]
        later = islice(prices, 1, None)
        if all(map(gt if down else lt, prices, later)):
            ordered = tuple(levels)
        elif all(map(lt if down else gt, prices, islice(prices, 1, None))):
            ordered = tuple(levels[::-1])  # some venues send a side from its worst
        else:
            ordered = in_order(levels, down=down, repeats=repeats)
        # All other prices are between these two.
        if not (low <= ordered[0][0] <= high and low <= ordered[-1][0] <= high):
            return None
        for _, size in levels:
            if not (low <= size <= high or (delta and not size)):
                return None
        return ordered
    except (ArithmeticError, ValueError):
        return None


def are_written_right(text: str) -> bool:
    """Whether amounts, joined to `text`, are written in no way that only Python takes for a number.

    Those are underscores, surrounding white space and digits of other scripts. What else is no
    amount, `Decimal` and the comparison with the limits refuse.
    """
    return text.isascii() and "_" not in text and " " not in text and text.isprintable()


def amount_of(text: str) -> Decimal | None:
    """The amount that `text` writes, digit for digit; `None` where that is zero, or not certain.

    What it is then, `parse_amount()` says.
    """
    try:
        amount = _exactly(text)
        right = MIN_AMOUNT <= amount <= MAX_AMOUNT and are_written_right(text)
    except (ArithmeticError, TypeError):
        return None
    return amount if right else None


def text_side(
    prices: Sequence[str], sizes: Sequence[str], *, down: bool, delta: bool, repeats: bool = False
) -> tuple[Level, ...] | None:
    """As `book_side()`, of amounts that are still text: for venues whose keys hold underscores.

    `prices` and `sizes` are equally many.
    """
    if not prices:
        return ()
    if not are_written_right("".join(prices) + "".join(sizes)):
        return None
    low, high = MIN_AMOUNT, MAX_AMOUNT
    try:
        if len(prices) == 1:  # as most deltas of most venues
            price, size = _exactly(prices[0]), _exactly(sizes[0])
            if low <= price <= high and (low <= size <= high or (delta and not size)):
                return (_new_tuple(Level, (price, size)),)
            return None
        exact, waiting = list(map(_exactly, prices)), list(map(_exactly, sizes))
        smallest = min(waiting)
        if max(waiting) > high:
            return None
        if smallest < low and not (delta and low <= min(filter(None, waiting), default=low)):
            return None
        levels = tuple(map(_new_tuple, repeat(Level), zip(exact, waiting, strict=True)))
        if all(map(gt if down else lt, exact, islice(exact, 1, None))):
            # All other prices are between these two.
            return levels if low <= exact[0] <= high and low <= exact[-1] <= high else None
        if not (low <= min(exact) and max(exact) <= high):
            return None
        return in_order(levels, down=down, repeats=repeats)
    except (ArithmeticError, ValueError):
        return None


def strict_side(
    levels: Sequence[Sequence[Decimal]],
    *,
    down: bool,
    delta: bool,
    path: str,
    problems: list[tuple[str, str]],
    repeats: bool = False,
) -> tuple[Level, ...]:
    """As `book_side()`, naming in `problems` all that is wrong, each at its place in `path`."""
    checked: list[Level] = []
    for i, pair in enumerate(levels):
        try:
            checked.append(_level(pair, delta=delta))
        except ValueError as error:
            problems.append((f"{path}[{i}]", str(error)))
    try:
        return in_order(checked, down=down, repeats=repeats)
    except ValueError as error:
        problems.append((path, str(error)))
        return ()


def _level(pair: Sequence[Decimal], *, delta: bool) -> Level:
    if len(pair) < 2:
        raise ValueError(f"expected a price and a size, got {len(pair)} values")
    level = Level(check_amount(pair[0]), check_amount(pair[1]))
    if not level.price:
        raise ValueError("a price of 0")
    if not (level.size or delta):
        raise ValueError("a size of 0 in a snapshot")
    return level
