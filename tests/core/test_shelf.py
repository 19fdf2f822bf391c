"""A reader's books: made from its events, where it is in them, and honest about what it misses."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import pytest
from attrs import evolve

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    BookTop,
    ConnectionState,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    Level,
    PriceUpdate,
    Side,
    Trust,
)
from feedhandler._core.reading import BookReading


def level(price: int, size: int = 1) -> Level:
    return Level(Decimal(price), Decimal(size))


def snapshot(sequence: int, symbol: str = "A", trust: Trust = Trust.VERIFIED) -> BookSnapshot:
    bids = (level(sequence),)
    return BookSnapshot(symbol, bids, (level(1000),), sequence, None, sequence, "v", 1, trust)


def delta(sequence: int, symbol: str = "A", trust: Trust = Trust.VERIFIED) -> BookDelta:
    return BookDelta(
        symbol, (level(sequence),), (), sequence, None, sequence, "v", 1, trust, sequence - 1
    )


def gap(symbol: str | None = "A", *, of_book: bool = True) -> Gap:
    return Gap(symbol, GapReason.OVERFLOW, None, None, None, None, None, 0, "v", 1, of_book)


def state(new: ConnectionState) -> FeedStateChanged:
    return FeedStateChanged(ConnectionState.CONNECTING, new, "", None, None, 0, None, 0, "v")


PRICE = PriceUpdate("A", Decimal(1), Decimal(1), Side.BUY, 1, None, 0, "v", 1)


def told(shelf: BookShelf, symbol: str = "A") -> tuple[Trust, int | None, int]:
    top = shelf.top(symbol)
    assert isinstance(top, BookTop)
    return top.trust, top.sequence, len(top.bids)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([snapshot(1)], (Trust.VERIFIED, 1, 1)),
        ([snapshot(1), PRICE, delta(2), delta(3)], (Trust.VERIFIED, 3, 3)),
        ([delta(1), snapshot(2), delta(2), delta(1)], (Trust.VERIFIED, 2, 1)),
        ([snapshot(1), delta(2), snapshot(2)], (Trust.VERIFIED, 2, 1)),
        ([snapshot(1, trust=Trust.UNVERIFIABLE)], (Trust.UNVERIFIABLE, 1, 1)),
        ([snapshot(1), delta(2, trust=Trust.UNVERIFIABLE)], (Trust.UNVERIFIABLE, 2, 2)),
        # what is missing
        ([snapshot(1), delta(3)], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), delta(3), delta(2)], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), gap(), delta(2)], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), gap(), delta(2), snapshot(2), delta(3)], (Trust.VERIFIED, 3, 2)),
        ([snapshot(1), gap(None), delta(2)], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), gap("B"), gap(of_book=False), delta(2)], (Trust.VERIFIED, 2, 2)),
        ([snapshot(1), delta(2, trust=Trust.SUSPECT), delta(3)], (Trust.SUSPECT, 1, 1)),
        # what might be missing
        ([snapshot(1), gap(None, of_book=False)], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), gap(None, of_book=False), delta(2)], (Trust.VERIFIED, 2, 2)),
        ([snapshot(1), gap(None, of_book=False), delta(3)], (Trust.SUSPECT, 1, 1)),
        # what cannot be
        ([snapshot(1), evolve(delta(2), bids=(level(1000),))], (Trust.SUSPECT, 1, 1)),
        ([snapshot(1), evolve(snapshot(2), bids=(level(1000),))], (Trust.SUSPECT, 1, 1)),
        # the connection
        ([snapshot(1), state(ConnectionState.RECONNECTING)], (Trust.STALE, 1, 1)),
        (
            [snapshot(1), state(ConnectionState.RECONNECTING), state(ConnectionState.CONNECTED),
             delta(2)],
            (Trust.SUSPECT, 1, 1),
        ),
    ],
)  # fmt: skip
def test_books_are_folded_from_events(
    events: list[Event], expected: tuple[Trust, int | None, int]
) -> None:
    shelf = BookShelf()
    shelf.fold(events)
    assert told(shelf) == expected


def test_a_book_that_never_came_is_none_and_depth_is_a_choice() -> None:
    shelf = BookShelf()
    shelf.fold([delta(1), gap(), evolve(snapshot(1), bids=(level(1000),))])
    assert shelf.top("A") is None
    shelf.fold([snapshot(1), *map(delta, range(2, 21))])
    assert [len(shelf.top("A", depth=d).bids) for d in (1, None)] == [1, 20]  # type: ignore[union-attr]  # there is a book by now
    assert told(shelf)[2] == 10
    with pytest.raises(ValueError, match="islice"):
        shelf.top("A", depth=-1)


# --- where the reader is -------------------------------------------------------------------------


def test_a_batch_that_is_read_one_by_one_is_folded_one_by_one() -> None:
    reading = BookReading()
    unread: deque[Event] = deque()
    for batch in ([snapshot(1), delta(2)], [PRICE], [delta(3), PRICE, delta(4)]):
        reading.handed(batch, unread)
        unread.extend(batch)
        while unread:
            event = unread.popleft()
            if isinstance(event, BookSnapshot | BookDelta):
                assert told(reading.shelf())[1] == event.sequence


def test_nothing_is_missed_when_nobody_looks() -> None:
    reading = BookReading()
    unread: deque[Event] = deque()
    for batch in ([snapshot(1), delta(2)], [delta(3)], [delta(4), delta(5)]):
        reading.handed(batch, unread)
        unread.extend(batch)
        unread.clear()
    assert told(reading.shelf()) == (Trust.VERIFIED, 5, 5)


def test_a_batch_that_goes_out_whole_is_read() -> None:
    reading = BookReading()
    batch = [snapshot(1), delta(2)]
    reading.handed(batch, ())
    batch.clear()  # it is the reader's
    assert told(reading.shelf()) == (Trust.VERIFIED, 2, 2)


def test_the_rest_of_a_batch_may_go_another_way() -> None:
    reading = BookReading()
    batch = [snapshot(1), delta(2), delta(3)]
    mine: deque[Event] = deque()
    reading.handed(batch, mine)
    mine.extend(batch)
    mine.popleft()
    merged: deque[Event] = deque()
    reading.moved(merged)
    merged.extend(mine)
    mine.clear()
    assert told(reading.shelf())[1] == 1
    merged.popleft()
    assert told(reading.shelf())[1] == 2
    merged.popleft()
    merged.append(PRICE)  # of another feed
    assert told(reading.shelf())[1] == 3


def test_what_happens_to_one_leg_is_of_no_matter_to_the_books_of_another() -> None:
    shelf = BookShelf()
    shelf.fold([snapshot(1), evolve(snapshot(1, "B"), leg=1)])
    shelf.fold([evolve(state(ConnectionState.RECONNECTING), leg=1)])
    assert told(shelf, "A") == (Trust.VERIFIED, 1, 1)
    assert told(shelf, "B")[0] is Trust.STALE
    shelf.fold([evolve(state(ConnectionState.CONNECTED), leg=1)])
    assert told(shelf, "B")[0] is Trust.SUSPECT, "it begins with a snapshot"
    shelf.fold([evolve(snapshot(5, "B"), leg=1), evolve(gap(None), leg=0)])
    assert told(shelf, "A")[0] is Trust.SUSPECT
    assert told(shelf, "B") == (Trust.VERIFIED, 5, 1)
    shelf.fold([evolve(gap(None), leg=None)])
    assert told(shelf, "B")[0] is Trust.SUSPECT, "nobody knows whose it was"


def test_a_book_that_moves_to_another_leg_follows_that_one() -> None:
    shelf = BookShelf()
    shelf.fold([snapshot(1), state(ConnectionState.CLOSED)])
    assert told(shelf)[0] is Trust.STALE
    shelf.fold([evolve(snapshot(2), leg=1)])
    assert told(shelf) == (Trust.VERIFIED, 2, 1)
