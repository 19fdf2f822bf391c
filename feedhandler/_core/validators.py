"""How a book's messages show that none is missing: one rule for each way in which venues number.

A rule looks at numbers alone. It says whether a message follows the one before it, is older than
that, or comes after a hole; and what trust the book deserves once every check has passed. The table
of who uses which is `feedhandler.venues.VALIDATORS`.
"""

from __future__ import annotations

import enum
from typing import Protocol

from attrs import define, field, frozen

from feedhandler._core.sequence import Hole
from feedhandler.model import Level, Trust

__all__ = [
    "BookMessage",
    "ByChecksum",
    "ByConnection",
    "ByCount",
    "ByPrevious",
    "ByPreviousId",
    "ByRange",
    "Link",
    "Unchecked",
    "Validator",
]


class Link(enum.Enum):
    """Where a message stands."""

    FOLLOWS = "follows"
    OLD = "old"  # the book has it already
    BROKEN = "broken"  # something is missing before it


@define
class BookMessage:
    """A snapshot or a delta as a venue's codec has read it.

    `bids` and `asks` are best first, each price once; only a delta has sizes of 0. `sequence` is
    the number of the newest change in it, `first` of the oldest, `previous` that of the message
    that it builds on, each where the venue sends one. `checksum` is the venue's, of the book after
    it. A snapshot that `restarts` begins the venue's numbers anew.
    """

    is_snapshot: bool
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    time_ns: int | None
    recv_ns: int
    epoch: int
    sequence: int | None = None
    first: int | None = None
    previous: int | None = None
    checksum: int | None = None
    restarts: bool = False

    @property
    def weight(self) -> int:
        """How many levels it holds."""
        return len(self.bids) + len(self.asks)


class Validator(Protocol):
    """A venue's rule.

    `numbered` says that `BookMessage.sequence` is the book's own number, the same on each
    connection. `detects` says that a delta that is missing shows at a later message.
    """

    @property
    def numbered(self) -> bool: ...

    @property
    def detects(self) -> bool: ...

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        """Where a delta stands after `last`, the number of a snapshot or of a delta."""
        ...

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        """What the book after `message` deserves, all checks passed.

        Of a snapshot that was not asked for, or that nothing else shows to be new, it is not
        `proven` that it is not an old one.
        """
        ...

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        """The numbers that are missing between `last` and `message`, where that can be told."""
        ...


def _between(last: int | None, first: int | None) -> Hole | None:
    if last is None or first is None or first <= last + 1:
        return None
    return Hole(last + 1, first - 1)


@frozen
class ByCount:
    """Each delta's number is one more than the last. With `checked`, only a checksum verifies."""

    checked: bool = False
    numbered: bool = field(default=True, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        number = message.sequence
        if last is None or number is None or number == last + 1:
            return Link.FOLLOWS
        return Link.OLD if number <= last else Link.BROKEN

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        if self.checked and message.checksum is None:
            return Trust.UNVERIFIABLE
        return Trust.VERIFIED

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        return _between(last, message.sequence)


@frozen
class ByRange:
    """A delta holds the changes from `first` to `sequence`, and begins where the last one ended.

    The first one on a snapshot holds the number after the snapshot's, or ones before and after it.
    """

    numbered: bool = field(default=True, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        first, end = message.first, message.sequence
        if last is None or first is None or end is None:
            return Link.FOLLOWS
        if end <= last:
            return Link.OLD
        return Link.FOLLOWS if first <= last + 1 else Link.BROKEN

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        return Trust.UNVERIFIABLE if message.is_snapshot and not proven else Trust.VERIFIED

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        return _between(last, message.first)


@frozen
class ByPrevious:
    """A delta names the end of the one before it; its own range is of numbers that skip.

    The first one on a snapshot has the snapshot's number in its range, or builds on it.
    """

    numbered: bool = field(default=True, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        first, end, previous = message.first, message.sequence, message.previous
        if last is None or previous == last or end is None or first is None:
            return Link.FOLLOWS
        if on_snapshot:
            if end < last:
                return Link.OLD
            return Link.FOLLOWS if first <= last else Link.BROKEN
        return Link.OLD if end <= last else Link.BROKEN

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        return Trust.UNVERIFIABLE if message.is_snapshot and not proven else Trust.VERIFIED

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        previous = message.previous
        if last is None or previous is None or previous <= last:
            return None
        return Hole(last + 1, previous)


@frozen
class ByPreviousId:
    """A delta names the message before it. Numbers may repeat, skip, and begin anew.

    Where a venue sent none (OKX before 2022-11), the checksum alone tells.
    """

    numbered: bool = field(default=True, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        number, previous = message.sequence, message.previous
        if last is None or previous == last:
            return Link.FOLLOWS
        if number is not None and previous is not None and previous < last and number <= last:
            return Link.OLD
        return Link.BROKEN

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        if message.sequence is not None:
            return Trust.VERIFIED
        return ByChecksum().trust(message, proven=proven)

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        previous = message.previous
        if last is None or previous is None or previous <= last:
            return None
        return Hole(last + 1, previous)


@frozen
class ByChecksum:
    """There are no numbers: each message's checksum says whether the book is right.

    A checksum covers the best levels only, and an old snapshot's own agrees with it; so one that
    was not asked for is verified by the delta after it.
    """

    numbered: bool = field(default=False, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        return Link.FOLLOWS

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        if message.checksum is None or (message.is_snapshot and not proven):
            return Trust.UNVERIFIABLE
        return Trust.VERIFIED

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        return None


@frozen
class ByConnection:
    """The connection's messages are numbered: whoever follows them says when one is missing."""

    numbered: bool = field(default=False, init=False)
    detects: bool = field(default=True, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        return Link.FOLLOWS

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        return Trust.VERIFIED

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        return None


@frozen
class Unchecked:
    """The venue gives nothing to check. At most a time (`sequence`) tells what a snapshot has."""

    numbered: bool = field(default=False, init=False)
    detects: bool = field(default=False, init=False)

    def link(self, last: int | None, message: BookMessage, *, on_snapshot: bool) -> Link:
        time = message.sequence
        if on_snapshot and last is not None and time is not None and time < last:
            return Link.OLD
        return Link.FOLLOWS

    def trust(self, message: BookMessage, *, proven: bool) -> Trust:
        return Trust.UNVERIFIABLE

    def hole(self, last: int | None, message: BookMessage) -> Hole | None:
        return None
