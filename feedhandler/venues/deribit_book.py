"""The order books of Deribit v2; `feedhandler.venues.deribit` has the rules and their sources."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from attrs import frozen

from feedhandler._core.books import SessionBooks
from feedhandler._core.fields import NumberReader, Problems
from feedhandler._core.levels import book_side, strict_side
from feedhandler._core.validators import BookMessage, ByPreviousId
from feedhandler.codec import check_amount, parse_digits
from feedhandler.model import Level

__all__ = ["VALIDATOR", "BookReader"]

VALIDATOR = ByPreviousId()
_NOTHING = Decimal(0)
_new = tuple.__new__


@frozen
class _Book:
    timestamp: int
    instrument_name: str
    change_id: int
    bids: list[list[Any]]
    asks: list[list[Any]]
    prev_change_id: int | None = None
    type: Literal["snapshot", "change"] | None = None


@frozen
class _BookParams:
    data: _Book


@frozen
class _Books:
    params: _BookParams


class BookReader:
    """Reads the messages of books, checks what can be checked of each, and keeps the `books`."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._read = NumberReader(_Books, venue)
        self.books = SessionBooks(venue, validator=VALIDATOR)

    def __call__(
        self, name: str, message: str | bytes, recv_ns: int, epoch: int, *, grouped: bool = False
    ) -> BookMessage:
        """A message of that instrument's book, checked. Raises `DecodeError`.

        A `grouped` one is the whole of so many levels, which have no action.
        """
        book = self._read(message).params.data
        previous = None if grouped else book.prev_change_id
        # The type was not sent before 2020; then the missing number tells.
        whole = grouped or book.type == "snapshot" or (book.type is None and previous is None)
        problems = Problems()
        if book.instrument_name != name:
            problems.add("$.params.data.instrument_name", "another one than the channel's")
        if not whole and previous is None:
            problems.add("$.params.data.prev_change_id", "missing: prev_change_id")
        if previous is not None:
            problems.count(previous, "$.params.data.prev_change_id")
        number = problems.count(book.change_id, "$.params.data.change_id")
        time_ns = problems.time_ns(book.timestamp, "$.params.data.timestamp")
        bids = _side(book.bids, "bids", problems, whole=whole, grouped=grouped)
        asks = _side(book.asks, "asks", problems, whole=whole, grouped=grouped)
        problems.check(self._venue, message)
        return BookMessage(
            whole, bids, asks, time_ns, recv_ns, epoch, sequence=number, previous=previous
        )


def _side(
    given: list[list[Any]], side: str, problems: Problems, *, whole: bool, grouped: bool
) -> tuple[Level, ...]:
    levels = []
    for i, entry in enumerate(given):
        try:
            action, price, amount = ("new", *entry) if grouped else entry
            level = _new(Level, (_exact(price), _exact(amount)))
            if action == "delete" and not whole:
                level = Level(level[0], _NOTHING)
            elif action not in ("new", "change"):
                raise ValueError(f"no such action here: {action!r:.20}")
            elif not level[1]:
                raise ValueError("a size of 0 that does not delete the level")
        except ValueError as error:
            problems.add(f"$.params.data.{side}[{i}]", str(error))
            continue
        levels.append(level)
    down, delta = side == "bids", not whole
    found = book_side(levels, down=down, delta=delta, repeats=delta)
    if found is not None:
        return found
    path = f"$.params.data.{side}"
    return strict_side(
        levels, down=down, delta=delta, path=path, problems=problems.found, repeats=delta
    )


def _exact(value: Any) -> Decimal:
    kind = type(value)
    if kind is Decimal:
        return value  # type: ignore[no-any-return]  # its type was asked for
    if kind is int:
        return Decimal(value)
    if kind is str or not isinstance(value, str):
        raise ValueError(f"expected a number, got {value!r:.40}")
    return check_amount(parse_digits(value))
