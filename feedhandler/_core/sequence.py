"""Sequence numbers: in order, first, seen before, or after a hole."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import frozen

from feedhandler.model import Gap, GapReason

__all__ = ["Hole", "Order", "SequenceTracker"]

K = TypeVar("K", bound=Hashable)


class Order(enum.Enum):
    """Where a number stands in its sequence."""

    IN_ORDER = "in order"
    FIRST = "first"
    DUPLICATE = "duplicate"  # or backwards: to be dropped


@frozen
class Hole:
    """The numbers from `first_missing` to `last_missing`, both inclusive, were skipped.

    They are told `late` where the number that shows it is the first of them: it comes after a
    higher one was taken for the beginning, and can't take its place any more.
    """

    first_missing: int
    last_missing: int
    late: bool = False

    @property
    def missing(self) -> int:
        return self.last_missing - self.first_missing + 1

    def as_gap(
        self, symbol: str | None, *, recv_ns: int, venue: str, epoch: int, of_book: bool = False
    ) -> Gap:
        """The event that announces the hole; `symbol` is `None` for that of a connection."""
        return Gap(
            symbol=symbol,
            reason=GapReason.SEQUENCE,
            from_sequence=self.first_missing,
            to_sequence=self.last_missing,
            from_ns=None,
            to_ns=recv_ns,
            missing=self.missing,
            recv_ns=recv_ns,
            venue=venue,
            epoch=epoch,
            of_book=of_book,
        )


class SequenceTracker(Generic[K]):
    """The last number seen of each key (a symbol, or a connection), each one more than the last."""

    __slots__ = ("_first_of", "last_of")

    def __init__(self) -> None:
        self.last_of: dict[K, int] = {}
        self._first_of: dict[K, int] = {}

    def check(self, key: K, sequence: int) -> Order | Hole:
        """Take in the next number of `key`; a duplicate changes nothing."""
        last = self.last_of.get(key)
        if last is None:
            self.last_of[key] = self._first_of[key] = sequence
            return Order.FIRST
        if sequence == last + 1:
            self.last_of[key] = sequence
            return Order.IN_ORDER
        if sequence <= last:
            first = self._first_of.get(key)
            if first is None or sequence >= first:
                return Order.DUPLICATE
            self._first_of[key] = sequence
            return Hole(sequence, first - 1, late=True)
        self.last_of[key] = sequence
        return Hole(last + 1, sequence - 1)

    def last(self, key: K) -> int | None:
        """The highest number seen of `key`, if any."""
        return self.last_of.get(key)

    def resume_after(self, key: K, sequence: int) -> None:
        """Take the numbers of `key` up to `sequence` as seen, if it has not come further.

        What is missing before its first number is accounted for then, and none is late.
        """
        self._first_of.pop(key, None)
        last = self.last_of.get(key)
        if last is None or last < sequence:
            self.last_of[key] = sequence
