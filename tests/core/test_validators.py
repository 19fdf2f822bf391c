"""Each venue's way of numbering: what follows, what is old, what is missing; against a model."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from feedhandler import BookDelta, BookShelf, BookSnapshot, Gap, GapReason, Level, Trust
from feedhandler._core.books import SessionBooks
from feedhandler._core.requests import RequestLog
from feedhandler._core.resync import BookSync
from feedhandler._core.sequence import Hole
from feedhandler._core.validators import (
    BookMessage,
    ByChecksum,
    ByConnection,
    ByCount,
    ByPrevious,
    ByPreviousId,
    ByRange,
    Link,
    Unchecked,
    Validator,
)
from feedhandler.abc import Ignored, Malformed, Resync, Subscription, Synced
from feedhandler.errors import DecodeError

FOLLOWS, OLD, BROKEN = Link.FOLLOWS, Link.OLD, Link.BROKEN
A = Subscription("book", "A")


def delta(
    sequence: int | None = None,
    first: int | None = None,
    previous: int | None = None,
    *,
    bids: tuple[Level, ...] = (),
    checksum: int | None = None,
) -> BookMessage:
    return BookMessage(
        False, bids, (), None, 7, 2,
        sequence=sequence, first=first, previous=previous, checksum=checksum,
    )  # fmt: skip


def snapshot(
    sequence: int | None = None, *prices: int, checksum: int | None = None, restarts: bool = False
) -> BookMessage:
    return BookMessage(
        True, levels(*prices), (), None, 7, 2,
        sequence=sequence, checksum=checksum, restarts=restarts,
    )  # fmt: skip


def levels(*prices: int) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(1)) for price in sorted(prices, reverse=True))


@pytest.mark.parametrize(
    ("validator", "last", "on_snapshot", "message", "link"),
    [
        (ByCount(), 5, False, delta(6), FOLLOWS),
        (ByCount(), 5, False, delta(5), OLD),
        (ByCount(), 5, False, delta(7), BROKEN),
        # Binance: the first has U <= last + 1 <= u, then each U is last u + 1
        (ByRange(), 5, True, delta(8, 3), FOLLOWS),
        (ByRange(), 5, True, delta(5, 3), OLD),
        (ByRange(), 5, True, delta(9, 6), FOLLOWS),
        (ByRange(), 5, True, delta(9, 7), BROKEN),
        (ByRange(), 5, False, delta(9, 6), FOLLOWS),
        (ByRange(), 5, False, delta(9, 7), BROKEN),
        (ByRange(), 5, False, delta(5, 2), OLD),
        # Binance futures: the first has U <= last <= u, then each pu is the last u
        (ByPrevious(), 50, True, delta(60, 40, 35), FOLLOWS),
        (ByPrevious(), 50, True, delta(50, 40, 35), FOLLOWS),
        (ByPrevious(), 50, True, delta(49, 40, 35), OLD),
        (ByPrevious(), 50, True, delta(60, 51, 48), BROKEN),
        (ByPrevious(), 50, True, delta(60, 55, 50), FOLLOWS),
        (ByPrevious(), 50, False, delta(60, 55, 50), FOLLOWS),
        (ByPrevious(), 50, False, delta(60, 40, 45), BROKEN),
        (ByPrevious(), 50, False, delta(50, 40, 35), OLD),
        # OKX: it may repeat, and begin anew
        (ByPreviousId(), 9, False, delta(12, previous=9), FOLLOWS),
        (ByPreviousId(), 9, False, delta(9, previous=9), FOLLOWS),
        (ByPreviousId(), 9, False, delta(3, previous=9), FOLLOWS),
        (ByPreviousId(), 9, False, delta(9, previous=7), OLD),
        (ByPreviousId(), 9, False, delta(15, previous=12), BROKEN),
        (ByChecksum(), None, False, delta(), FOLLOWS),
        (ByConnection(), None, True, delta(), FOLLOWS),
        (Unchecked(), 100, True, delta(99), OLD),
        (Unchecked(), 100, True, delta(100), FOLLOWS),
        (Unchecked(), 100, False, delta(99), FOLLOWS),
    ],
)
def test_each_rule_says_where_a_delta_stands(
    validator: Validator, last: int | None, on_snapshot: bool, message: BookMessage, link: Link
) -> None:
    assert validator.link(last, message, on_snapshot=on_snapshot) is link
    if last is not None:
        assert validator.link(None, message, on_snapshot=on_snapshot) is FOLLOWS


@pytest.mark.parametrize(
    ("validator", "message", "hole"),
    [
        (ByCount(), delta(9), Hole(6, 8)),
        (ByRange(), delta(12, 9), Hole(6, 8)),
        (ByPrevious(), delta(12, 11, 8), Hole(6, 8)),
        (ByPreviousId(), delta(12, previous=8), Hole(6, 8)),
        (ByPreviousId(), delta(12, previous=3), None),
        (ByChecksum(), delta(), None),
        (ByConnection(), delta(), None),
        (Unchecked(), delta(), None),
    ],
)
def test_the_missing_numbers_are_told_where_they_are_known(
    validator: Validator, message: BookMessage, hole: Hole | None
) -> None:
    assert validator.hole(5, message) == hole


V, U = Trust.VERIFIED, Trust.UNVERIFIABLE


@pytest.mark.parametrize(
    ("validator", "message", "proven", "trust"),
    [
        (ByCount(), snapshot(1), False, V),
        (ByCount(checked=True), delta(1), True, U),
        (ByCount(checked=True), delta(1, checksum=3), True, V),
        (ByRange(), snapshot(1), False, U),
        (ByRange(), snapshot(1), True, V),
        (ByPrevious(), snapshot(1), False, U),
        (ByPrevious(), delta(1), True, V),
        (ByPreviousId(), snapshot(1), True, V),
        (ByChecksum(), snapshot(checksum=1), True, V),
        (ByChecksum(), snapshot(checksum=1), False, U),
        (ByChecksum(), delta(), True, U),
        (ByConnection(), snapshot(), True, V),
        (Unchecked(), delta(), True, U),
    ],
)
def test_trust_is_what_the_check_gives(
    validator: Validator, message: BookMessage, proven: bool, trust: Trust
) -> None:
    assert validator.trust(message, proven=proven) is trust


# --- in a book -----------------------------------------------------------------------------------


def sync(validator: Validator, **options: Any) -> BookSync:
    return BookSync(A, venue="v", validator=validator, **options)


def test_a_fetched_snapshot_is_asked_for_once_and_verified_by_the_delta_that_bridges_it() -> None:
    book = sync(ByRange(), fetched=True)
    assert book.take(delta(12, 10)) == [Resync(A)]
    assert book.take(delta(14, 13)) == []
    told = book.take(snapshot(13, 1))
    assert [type(item) for item in told] == [BookSnapshot, Synced, BookDelta]
    assert told[0].trust is told[2].trust is V  # type: ignore[union-attr]  # told above
    assert (told[2].sequence, told[2].previous) == (14, 13)  # type: ignore[union-attr]  # likewise
    book = sync(ByRange(), fetched=True)
    assert book.take(snapshot(13, 1))[0].trust is U, "nothing shows that it is not an old one"  # type: ignore[union-attr]  # a snapshot
    assert book.take(delta(14, 12))[0].trust is V  # type: ignore[union-attr]  # a delta


def test_a_fetched_snapshot_from_before_the_stream_is_not_taken() -> None:
    book = sync(ByPrevious(), fetched=True)
    book.take(delta(60, 55, 50))
    told = book.take(snapshot(40, 1))
    assert told[1:] == [Resync(A)]
    assert book.image() is None
    assert isinstance(book.take(snapshot(57, 1))[2], BookDelta)


def test_what_was_kept_before_a_snapshot_of_the_stream_is_older_than_it() -> None:
    for validator in (ByChecksum(), ByConnection(), Unchecked()):
        book = sync(validator)
        book.take(delta(bids=levels(5)))
        told = book.take(snapshot(None, 1))
        assert [type(item) for item in told] == [BookSnapshot, Synced]


def test_a_snapshot_that_restarts_the_count_is_taken_whatever_its_number() -> None:
    book = sync(ByCount())
    book.take(snapshot(500, 1))
    assert book.take(snapshot(1, 2)) == [Ignored("snapshot that is older than the book")]
    told = book.take(snapshot(1, 2, restarts=True))
    assert [type(item) for item in told] == [BookSnapshot, Synced]
    assert isinstance(book.take(delta(2))[0], BookDelta)


def test_levels_beyond_the_depth_end_in_the_event_too() -> None:
    book = sync(ByChecksum(), depth=2)
    (whole, _) = book.take(snapshot(None, 1, 2, 3))
    assert isinstance(whole, BookSnapshot)
    assert whole.bids == levels(2, 3)
    (told,) = book.take(delta(bids=levels(4)))
    assert isinstance(told, BookDelta)
    assert told.bids == (Level(Decimal(4), Decimal(1)), Level(Decimal(2), Decimal(0)))
    (told,) = book.take(delta(bids=levels(1)))
    assert isinstance(told, BookDelta)
    assert told.bids == (Level(Decimal(1), Decimal(0)),), "it was never in the book"


def test_an_unasked_snapshot_is_verified_by_the_next_checksum_only() -> None:
    book = sync(ByChecksum(), checksum=lambda book: book.depth[0])
    assert book.take(snapshot(None, 1, checksum=1))[0].trust is V  # type: ignore[union-attr]  # a snapshot
    assert book.take(snapshot(None, 2, checksum=1))[0].trust is U  # type: ignore[union-attr]  # likewise
    assert book.take(delta(bids=levels(3), checksum=2))[0].trust is V  # type: ignore[union-attr]  # a delta


def test_a_break_of_the_connection_is_one_of_each_of_its_books() -> None:
    books = SessionBooks("v", validator=ByConnection())
    for symbol in "AB":
        books.take(symbol, snapshot(None, 1))
    told = books.interrupted(GapReason.SEQUENCE, recv_ns=1, epoch=1)
    assert [item.symbol for item in told if isinstance(item, Gap)] == ["A", "B"]
    assert sum(isinstance(item, Resync) for item in told) == 2
    assert books.image("A") is None


@pytest.mark.parametrize("validator", [ByCount(), Unchecked()])
def test_a_malformed_message_that_may_be_any_books_is_one_of_all_where_nothing_will_show(
    validator: Validator,
) -> None:
    books = SessionBooks("v", validator=validator)
    error = DecodeError("v", b"", [("$", "x")])
    with pytest.raises(DecodeError):
        books.malformed(error, None, is_snapshot=False, recv_ns=1, epoch=1)
    books.take("A", snapshot(1, 1))
    if validator.detects:
        with pytest.raises(DecodeError):
            books.malformed(error, None, is_snapshot=False, recv_ns=1, epoch=1)
        return
    told = books.malformed(error, None, is_snapshot=False, recv_ns=1, epoch=1)
    assert [type(item) for item in told] == [Gap, Resync, Malformed]
    assert books.image("A") is None


def test_requests_are_known_by_their_numbers_and_forgotten_when_there_are_too_many() -> None:
    log = RequestLog()
    first = log.number("subscribe", [A])
    asked = log.answered(str(first))
    assert asked is not None
    assert (asked.kind, asked.subscriptions) == ("subscribe", (A,))
    assert log.answered(first) is None, "it was answered"
    assert log.answered("x") is log.answered(None) is log.answered(99) is None
    kept = [log.number("subscribe", [A]) for _ in range(5000)]
    assert log.answered(kept[0]) is None
    assert log.answered(kept[-1]) is not None
    log.confirm([A])
    assert log.split([A, Subscription("book", "B")])[0] == [A]
    log.end([A])
    assert log.split([A])[0] == []


# --- against a model: whatever the network and REST do, a verified book is the venue's -----------


class FetchedBooks(RuleBasedStateMachine):
    """A venue with ranges of numbers, a network that loses, repeats and reorders, and snapshots
    over REST that may be old. The reader has the book that the events make."""

    @initialize(futures=st.booleans())
    def begin(self, futures: bool) -> None:
        self.futures = futures
        self.sync = BookSync(
            A, venue="v", validator=ByPrevious() if futures else ByRange(), fetched=True
        )
        self.shelf = BookShelf()
        self.book = {1: 1}
        self.number = 10
        self.history = {10: dict(self.book)}
        self.sent: list[BookMessage] = []
        self.wanted = False

    def take(self, message: BookMessage) -> None:
        for item in self.sync.take(message):
            if isinstance(item, Resync):
                self.wanted = True
            elif isinstance(item, Synced):
                self.wanted = False
            elif isinstance(item, BookSnapshot | BookDelta | Gap):
                self.shelf.fold([item])
                self.check()

    def check(self) -> None:
        top = self.shelf.top("A", depth=None)
        if top is not None and top.trust is V:
            assert top.sequence is not None
            told = {int(price): int(size) for price, size in top.bids}
            assert told == self.history[top.sequence], top.sequence

    @rule(
        changes=st.dictionaries(st.integers(1, 6), st.integers(0, 3), max_size=3),
        span=st.integers(1, 4),
        skip=st.integers(0, 3),
        lost=st.booleans(),
        late=st.booleans(),
    )
    def change(self, changes: dict[int, int], span: int, skip: int, lost: bool, late: bool) -> None:
        previous = self.number
        if self.futures:
            self.number += skip  # numbers of other books
        first, self.number = self.number + 1, self.number + span
        for price, size in changes.items():
            self.book.pop(price, None)
            if size:
                self.book[price] = size
        # A snapshot has any number; between two messages the book is as after the first.
        for number in range(previous + 1, self.number):
            self.history.setdefault(number, {})
        self.history[self.number] = dict(self.book)
        bids = [Level(Decimal(p), Decimal(s)) for p, s in sorted(changes.items(), reverse=True)]
        message = delta(self.number, first, previous, bids=tuple(bids))
        self.sent.append(message)
        if late:
            return
        if not lost:
            self.take(message)

    @precondition(lambda self: self.sent)
    @rule(ago=st.integers(1, 6))
    def deliver_again_or_late(self, ago: int) -> None:
        self.take(self.sent[-min(ago, len(self.sent))])

    @rule(ago=st.integers(0, 6))
    def fetch(self, ago: int) -> None:
        """An answer may be old, and may come unasked: the request was made before."""
        numbers = [self.sent[-1 - n].sequence for n in range(min(ago + 1, len(self.sent)))]
        number = (numbers[-1] if numbers else None) or 10
        book = self.history[number]
        bids = tuple(Level(Decimal(p), Decimal(s)) for p, s in sorted(book.items(), reverse=True))
        self.take(BookMessage(True, bids, (), None, 7, 2, sequence=number))


FetchedBooks.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestFetchedBooks = FetchedBooks.TestCase
