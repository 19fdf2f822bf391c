"""What the messages of a book mean; and, against a naive model, that no wrong book is trusted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Level,
    OrderBook,
    PriceVenue,
    Trust,
)
from feedhandler._core.resync import BookSync, SyncState
from feedhandler._core.validators import BookMessage, ByCount
from feedhandler.abc import Ignored, Malformed, Resync, Subscription, Synced
from feedhandler_testing import MockBook

A = Subscription("book", "A")


def level_count(book: OrderBook) -> int:
    """A checksum that is easy to get right, and wrong."""
    return sum(book.depth)


def fresh(limit: int = 100) -> BookSync:
    return BookSync(A, venue="v", validator=ByCount(), checksum=level_count, limit=limit)


def snapshot(
    sequence: int, *prices: int, check: int | None = None, asks: tuple[int, ...] = ()
) -> BookMessage:
    return BookMessage(
        True, side(prices), side(asks), None, 7, 2, sequence=sequence, checksum=check
    )


def delta(
    sequence: int, *prices: int, check: int | None = None, asks: tuple[int, ...] = ()
) -> BookMessage:
    return BookMessage(
        False, side(prices), side(asks), None, 7, 2, sequence=sequence, checksum=check
    )


def side(prices: tuple[int, ...]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(1)) for price in prices)


def feed(sync: BookSync, *messages: BookMessage) -> list[str]:
    """What follows from `messages`, in short."""
    told: list[str] = []
    for message in messages:
        told += map(short, sync.take(message))
    return told


def short(item: object) -> str:
    match item:
        case BookSnapshot(sequence=n):
            return f"snapshot {n}"
        case BookDelta(sequence=n):
            return f"delta {n}"
        case Gap(reason=reason, from_sequence=first, to_sequence=last, of_book=True):
            return f"gap {reason.value} {first}..{last}"
        case Ignored(what):
            return f"ignored {what}"
        case Resync() | Synced():
            assert item.subscription == A
            return type(item).__name__.lower()
        case _:
            raise AssertionError(item)


@pytest.mark.parametrize(
    ("messages", "expected", "state"),
    [
        pytest.param(
            [snapshot(5, 1), delta(6, 2), delta(7, 3)],
            ["snapshot 5", "synced", "delta 6", "delta 7"],
            SyncState.SYNCED,
            id="in order",
        ),
        pytest.param(
            [snapshot(5, 1), delta(6), delta(9, 2), delta(10, 3)],
            ["snapshot 5", "synced", "delta 6", "gap sequence 7..8", "resync"],
            SyncState.SUSPECT,
            id="46 a hole",
        ),
        pytest.param(
            [snapshot(5, 1), delta(7, 2), delta(8, 3), snapshot(6, 1), delta(9)],
            ["snapshot 5", "synced", "gap sequence 6..6", "resync",
             "snapshot 6", "synced", "delta 7", "delta 8", "delta 9"],
            SyncState.SYNCED,
            id="46 the deltas after the hole follow the snapshot",
        ),
        pytest.param(
            [snapshot(5, 1), delta(7), delta(9), delta(10), snapshot(8, 1)],
            ["snapshot 5", "synced", "gap sequence 6..6", "resync", "gap sequence 8..8",
             "snapshot 8", "synced", "delta 9", "delta 10"],
            SyncState.SYNCED,
            id="46 two holes",
        ),
        pytest.param(
            [snapshot(5, 1), delta(6, 2), delta(6, 3), delta(4, 3), delta(7)],
            ["snapshot 5", "synced", "delta 6", "ignored duplicate", "ignored duplicate",
             "delta 7"],
            SyncState.SYNCED,
            id="47 duplicate and backward",
        ),
        pytest.param(
            [delta(8), delta(9), snapshot(6, 1)],
            ["ignored snapshot that is too old", "resync"],
            SyncState.WAITING,
            id="48 older than the deltas",
        ),
        pytest.param(
            [delta(8), delta(9), snapshot(6, 1), snapshot(8, 1), delta(10)],
            ["ignored snapshot that is too old", "resync",
             "snapshot 8", "synced", "delta 9", "delta 10"],
            SyncState.SYNCED,
            id="48 and then a newer one",
        ),
        pytest.param(
            [delta(8), delta(9), snapshot(20, 1), delta(20), delta(21)],
            ["snapshot 20", "synced", "ignored duplicate", "delta 21"],
            SyncState.SYNCED,
            id="49 newer than the deltas",
        ),
        pytest.param(
            [delta(8), delta(9), delta(10), snapshot(9, 1)],
            ["snapshot 9", "synced", "delta 10"],
            SyncState.SYNCED,
            id="50 deltas around the snapshot",
        ),
        pytest.param(
            [snapshot(5, 1), snapshot(6, 2), delta(7), snapshot(7, 3)],
            ["snapshot 5", "synced", "snapshot 6", "synced", "delta 7", "snapshot 7", "synced"],
            SyncState.SYNCED,
            id="51 in mid-stream, with a number of its own or without",
        ),
        pytest.param(
            [snapshot(5, 1), snapshot(9, 2)],
            ["snapshot 5", "synced", "gap sequence 6..8", "snapshot 9", "synced"],
            SyncState.SYNCED,
            id="51 after a hole",
        ),
        pytest.param(
            [snapshot(5, 1), delta(6), snapshot(5, 2), delta(7)],
            ["snapshot 5", "synced", "delta 6", "ignored snapshot that is older than the book",
             "delta 7"],
            SyncState.SYNCED,
            id="51 older than the book",
        ),
        pytest.param(
            [snapshot(5, 1, check=1), delta(6, 2, check=3), delta(7, 3, check=3)],
            ["snapshot 5", "synced", "gap checksum 6..6", "resync"],
            SyncState.SUSPECT,
            id="52 checksum of a delta",
        ),
        pytest.param(
            [snapshot(5, 1), delta(6, check=3), delta(7, 3), snapshot(6, 2, check=1), delta(8)],
            ["snapshot 5", "synced", "gap checksum 6..6", "resync",
             "snapshot 6", "synced", "delta 7", "delta 8"],
            SyncState.SYNCED,
            id="52 and then it is rebuilt",
        ),
        pytest.param(
            [snapshot(5, 1), delta(6, check=3), snapshot(5, 1)],
            ["snapshot 5", "synced", "gap checksum 6..6", "resync",
             "ignored snapshot that is too old", "resync"],
            SyncState.SUSPECT,
            id="52 a snapshot from before helps nobody",
        ),
        pytest.param(
            [snapshot(5, 1, check=9), snapshot(5, 1, check=1)],
            ["gap checksum 5..5", "resync", "snapshot 5", "synced"],
            SyncState.SYNCED,
            id="52 checksum of a snapshot",
        ),
        pytest.param(
            [snapshot(5, 1), snapshot(6, 1, check=9), delta(7), snapshot(7, 1)],
            ["snapshot 5", "synced", "gap checksum 6..6", "resync", "snapshot 7", "synced"],
            SyncState.SYNCED,
            id="52 checksum of a snapshot in mid-stream",
        ),
        pytest.param(
            [delta(8), delta(9, check=9), delta(10), snapshot(7, 1), snapshot(9, 1)],
            ["snapshot 7", "synced", "delta 8", "gap checksum 9..9", "resync",
             "snapshot 9", "synced", "delta 10"],
            SyncState.SYNCED,
            id="52 checksum of a delta that was kept",
        ),
        pytest.param(
            [snapshot(5, 1, asks=(4,)), delta(6, 4)],
            ["snapshot 5", "synced", "gap crossed 6..6", "resync"],
            SyncState.SUSPECT,
            id="53 crossed by a delta",
        ),
        pytest.param(
            [snapshot(5, 1, asks=(1,))],
            ["gap crossed 5..5", "resync"],
            SyncState.SUSPECT,
            id="53 crossed from the start",
        ),
        pytest.param(
            [snapshot(5, *range(1, 102))],
            ["gap depth 5..5", "resync"],
            SyncState.SUSPECT,
            id="too deep",
        ),
    ],
)  # fmt: skip
def test_messages_are_judged(
    messages: list[BookMessage], expected: list[str], state: SyncState
) -> None:
    sync = fresh()
    assert feed(sync, *messages) == expected
    assert sync.state is state
    assert (sync.image() is None) == (state is not SyncState.SYNCED)


def test_the_gap_says_all_that_is_known() -> None:
    sync = fresh()
    feed(sync, snapshot(5, 1))
    gap = sync.take(delta(9))[0]
    assert gap == Gap("A", GapReason.SEQUENCE, 6, 8, None, 7, 3, 7, "v", 2, of_book=True)


def test_what_is_kept_is_bounded_in_messages_and_levels() -> None:
    sync = fresh(limit=10)
    feed(sync, *(delta(n) for n in range(1, 2000)))
    assert "kept=1024" in repr(sync)
    assert feed(sync, snapshot(900, 1)) == ["ignored snapshot that is too old", "resync"]
    assert feed(sync, snapshot(975, 1))[0] == "snapshot 975"
    sync = fresh(limit=10)
    feed(sync, *(delta(n, 1, 2, 3) for n in range(1, 20)))
    assert "kept=6" in repr(sync)
    feed(sync, delta(20, *range(1, 30)))
    assert "kept=1" in repr(sync)


def test_a_venue_that_counts_from_the_start_again_is_noticed() -> None:
    sync = fresh()
    feed(sync, snapshot(500, 1))
    told = feed(sync, *(delta(n, 2) for n in range(1, 100)))
    assert told[62:66] == ["ignored duplicate"] * 2 + ["gap sequence None..None", "resync"]
    assert sync.state is SyncState.SUSPECT
    sync = fresh()
    feed(sync, snapshot(500, 1))
    for n in range(501, 700):
        assert feed(sync, delta(n - 100), delta(n)) == ["ignored duplicate", f"delta {n}"]


def test_what_cannot_be_decoded_makes_the_book_suspect() -> None:
    sync = fresh()
    malformed = [*map(short, sync.malformed(is_snapshot=False, recv_ns=1, epoch=1))]
    assert malformed == ["gap malformed None..None"], "nothing to spoil yet; the snapshot will come"
    assert [*map(short, sync.malformed(is_snapshot=True, recv_ns=1, epoch=1))][1:] == ["resync"]
    feed(sync, snapshot(5, 1))
    assert [*map(short, sync.malformed(is_snapshot=False, recv_ns=1, epoch=1))][1:] == ["resync"]
    assert sync.image() is None


# --- against a naive model -----------------------------------------------------------------------

PRICES = st.integers(1, 7)  # so few levels that the checksum covers all, and a wrong one more
SIZES = st.integers(0, 3)


class Books(RuleBasedStateMachine):
    """A venue that tells the truth, a network and a venue's bugs that do not, and a reader.

    The reader has the books that the events make. Whatever happens, a book that is trusted is
    exactly that which the venue had after that message. What no check can see, a wrong book with
    the right checksum, is not tried.
    """

    def __init__(self) -> None:
        super().__init__()
        self.session = PriceVenue("ws://host/").session()
        self.shelf = BookShelf()
        self.asked = False  # the session wants a snapshot
        self.sent: list[dict[str, Any]] = []
        self.epoch = 1

    @initialize(checked=st.booleans(), fast=st.booleans())
    def begin(self, checked: bool, fast: bool) -> None:
        self.fast = fast
        self.book = MockBook("A", {"1": "1"}, {"99": "1"}, sequence=3, checked=checked)
        self.history: dict[int, tuple[Any, Any]] = {3: self.state()}

    def state(self) -> tuple[Any, Any]:
        return tuple(self.book.bids), tuple(self.book.asks)

    def change(self, bids: dict[int, int], asks: dict[int, int]) -> dict[str, Any]:
        message = self.book.delta(
            {str(p): str(s) for p, s in bids.items()},
            {str(p + 10): str(s) for p, s in asks.items()},
        )
        self.history[self.book.sequence] = self.state()
        self.sent.append(message)
        return message

    def receive(self, message: dict[str, Any] | str) -> None:
        if isinstance(message, str):
            text = message
        else:  # blanks keep it from the fast way
            text = json.dumps(message, separators=(",", ":") if self.fast else None)
        events: list[Event] = []
        try:
            items = list(self.session.decode(text, recv_ns=1, epoch=self.epoch))
        except Exception:  # as the feed does it
            items = [Gap(None, GapReason.MALFORMED, None, None, 1, 1, 1, 1, "price", self.epoch)]
        for item in items:
            match item:
                case Resync():
                    self.asked = True
                case Synced():
                    self.asked = False
                case Ignored() | Malformed():
                    pass
                case BookSnapshot() | BookDelta() | Gap():
                    events.append(item)
                case _:
                    raise AssertionError(item)
        self.shelf.fold(events)

    # --- the truth ---

    @rule(bids=st.dictionaries(PRICES, SIZES, max_size=4), asks=st.dictionaries(PRICES, SIZES))
    def delta(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.receive(self.change(bids, asks))

    @rule()
    def snapshot(self) -> None:
        message = self.book.snapshot()
        self.sent.append(message)
        self.receive(message)

    @rule(price=PRICES)
    def another_book(self, price: int) -> None:
        message = self.book.replace({str(price): "5"}, {"50": "1"})
        self.history[self.book.sequence] = self.state()
        self.sent.append(message)
        self.receive(message)

    @rule()
    def answer(self) -> None:
        """Once a snapshot is what the session wants and gets, the book is whole again."""
        if self.asked:
            self.receive(self.book.snapshot())
            assert not self.asked
            assert self.shelf.top("A").sequence == self.book.sequence  # type: ignore[union-attr]  # there is a book by now

    # --- and the faults ---

    @rule(bids=st.dictionaries(PRICES, SIZES, max_size=4), again=st.booleans())
    def lost(self, bids: dict[int, int], again: bool) -> None:
        self.change(bids, {})
        if not again:  # nor will it come later
            self.sent.pop()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def old(self, data: st.DataObject) -> None:
        """Duplicates, reordering, snapshots from a cache."""
        self.receive(data.draw(st.sampled_from(self.sent[-12:])))

    @precondition(lambda self: self.book.checked)
    @rule(data=st.data(), price=PRICES, whole=st.booleans())
    def corrupted(self, data: st.DataObject, price: int, whole: bool) -> None:
        message = self.book.snapshot() if whole else self.change({price: 2}, {})
        side = data.draw(st.sampled_from(["bids", "asks"]))
        wrong = [str(data.draw(st.integers(1, 60))), "7"]
        others = [one for one in message[side] if one[0] != wrong[0]]
        self.receive({**message, side: [*others, wrong]})

    @rule(price=PRICES, cut=st.integers(1, 60), whole=st.booleans())
    def garbled(self, price: int, cut: int, whole: bool) -> None:
        message = self.book.snapshot() if whole else self.change({price: 1}, {})
        self.receive(json.dumps(message)[:-cut])
        top = self.shelf.top("A")
        assert top is None or top.trust is Trust.SUSPECT, "it may have been of this book"

    @rule(price=PRICES, whole=st.booleans(), field=st.sampled_from(["sequence", "time", "asks"]))
    def malformed(self, price: int, whole: bool, field: str) -> None:
        message = self.book.snapshot() if whole else self.change({price: 1}, {})
        self.receive({**message, field: "x"})

    @rule()
    def reconnected(self) -> None:
        self.session = PriceVenue("ws://host/").session()
        self.asked = True  # each connection begins with a subscription
        self.epoch += 1
        reason = GapReason.RECONNECT
        gap = Gap("A", reason, None, None, None, None, None, 1, "price", self.epoch, of_book=True)
        self.shelf.fold([gap])

    # --- what has to be true ---

    @invariant()
    def no_wrong_book_is_trusted(self) -> None:
        top = self.shelf.top("A", depth=None)
        if top is None or top.trust is Trust.SUSPECT:
            return
        assert top.sequence is not None
        told = tuple(tuple((str(p), str(s)) for p, s in side) for side in (top.bids, top.asks))
        assert told == self.history[top.sequence]
        assert top.trust is (Trust.VERIFIED if self.book.checked else Trust.UNVERIFIABLE)

    @invariant()
    def a_book_is_trusted_only_while_the_session_has_the_same(self) -> None:
        image, top = self.session.book_image("A"), self.shelf.top("A")
        if top is not None and top.trust is not Trust.SUSPECT:
            assert image is not None
            assert image.sequence == top.sequence
        if image is not None:
            told = [[(str(p), str(s)) for p, s in side] for side in (image.bids, image.asks)]
            bids, asks = self.history[image.sequence or 0]
            assert told == [[*bids], [*asks]]


TestBooks = Books.TestCase
