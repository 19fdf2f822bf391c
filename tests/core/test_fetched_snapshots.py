"""Books whose snapshots are fetched beside the stream: which of these are taken, and how far."""

from __future__ import annotations

from decimal import Decimal

import pytest

from feedhandler import BookDelta, BookSnapshot, Gap, Level
from feedhandler._core.resync import BookSync, SyncState
from feedhandler._core.validators import (
    BookMessage,
    ByPrevious,
    ByRange,
    Unchecked,
    Validator,
)
from feedhandler.abc import Ignored, Resync, Subscription, Synced
from feedhandler.model import GapReason

BOOK = Subscription("book", "A")
AHEAD = "ignored: snapshot that is ahead of the stream"
OLD = "ignored: snapshot that is too old"


def fresh(validator: Validator | None = None) -> BookSync:
    return BookSync(BOOK, venue="v", validator=validator or ByRange(), fetched=True)


def snapshot(number: int) -> BookMessage:
    levels = (Level(Decimal(9), Decimal(number)),)
    return BookMessage(True, levels, (), None, 7, 2, sequence=number)


def delta(first: int, last: int, previous: int | None = None) -> BookMessage:
    levels = (Level(Decimal(8), Decimal(last)),)
    return BookMessage(False, levels, (), None, 7, 2, sequence=last, first=first, previous=previous)


def feed(sync: BookSync, *messages: BookMessage) -> list[str]:
    return [short(item) for message in messages for item in sync.take(message)]


def short(item: object) -> str:
    match item:
        case BookSnapshot():
            return f"snapshot {item.sequence} {item.trust.value}"
        case BookDelta():
            return f"delta {item.previous}-{item.sequence} {item.trust.value}"
        case Gap():
            return f"gap {item.from_sequence}-{item.to_sequence}"
        case Ignored():
            return f"ignored: {item.what}"
        case Resync():
            return "resync"
        case Synced():
            return "synced"
    raise AssertionError(item)


def test_the_first_delta_asks_for_a_snapshot_and_the_deltas_after_it_are_applied() -> None:
    sync = fresh()
    assert feed(sync, delta(5, 7), delta(8, 9), delta(10, 10)) == ["resync"]
    assert feed(sync, snapshot(8)) == [
        "snapshot 8 verified", "synced", "delta 8-9 verified", "delta 9-10 verified",
    ]  # fmt: skip
    assert feed(sync, delta(11, 12)) == ["delta 10-12 verified"]


def test_a_snapshot_of_before_the_first_delta_is_fetched_again() -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(3)) == [OLD, "resync"]
    assert sync.image() is None
    assert feed(sync, delta(8, 9), snapshot(8)) == [
        "snapshot 8 verified", "synced", "delta 8-9 verified",
    ]  # fmt: skip


def test_a_snapshot_that_ends_where_the_stream_is_needs_no_delta() -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(7)) == ["snapshot 7 verified", "synced"]


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (delta(8, 12), ["snapshot 12 verified", "synced"]),
        (delta(8, 13), ["snapshot 12 verified", "synced", "delta 12-13 verified"]),
    ],
)
def test_a_snapshot_that_is_ahead_waits_for_the_stream(later: BookMessage, told: list[str]) -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(12)) == [AHEAD]
    assert (sync.state, sync.image()) == (SyncState.WAITING, None)
    assert feed(sync, later) == told


def test_on_futures_the_link_to_the_snapshot_is_the_previous_id() -> None:
    sync = fresh(ByPrevious())
    feed(sync, delta(50, 70, 40))
    assert feed(sync, snapshot(120)) == [AHEAD]
    assert feed(sync, delta(100, 120, 70)) == [
        "snapshot 120 verified", "synced", "delta 120-120 verified",
    ]  # fmt: skip
    assert feed(sync, delta(150, 170, 120)) == ["delta 120-170 verified"]
    assert feed(sync, delta(190, 200, 180)) == ["gap 171-180", "resync"]


def test_the_snapshot_of_a_busier_symbol_is_never_told() -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(900_000)) == [AHEAD]
    assert feed(sync, *(delta(n, n) for n in range(8, 200))) == []
    assert feed(sync, snapshot(900_444)) == [AHEAD]
    assert sync.image() is None
    # The stream leaps over the number: it is another book's, or something is missing.
    assert feed(sync, delta(900_600, 900_601)) == ["gap 200-900599", OLD, "resync"]
    assert feed(sync, snapshot(900_600)) == [
        "snapshot 900600 verified", "synced", "delta 900600-900601 verified",
    ]  # fmt: skip


def test_the_snapshot_of_a_quieter_symbol_is_too_old() -> None:
    sync = fresh()
    feed(sync, delta(5_000, 7_000))
    assert feed(sync, snapshot(3)) == [OLD, "resync"]


def test_two_snapshots_that_say_the_same_are_taken_while_the_stream_is_silent() -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(12), snapshot(13)) == [AHEAD, AHEAD]
    assert feed(sync, snapshot(13)) == ["snapshot 13 unverifiable", "synced"]
    assert feed(sync, delta(8, 14)) == ["delta 13-14 verified"]


def test_the_stream_has_to_be_silent_between_the_two() -> None:
    sync = fresh()
    feed(sync, delta(5, 7))
    assert feed(sync, snapshot(12), delta(8, 9), snapshot(12)) == [AHEAD, AHEAD]


def test_a_snapshot_without_any_delta_is_not_verified_before_one_has_come() -> None:
    sync = fresh()
    assert feed(sync, snapshot(7)) == ["snapshot 7 unverifiable", "synced"]
    assert feed(sync, delta(6, 7)) == ["ignored: duplicate"]
    assert feed(sync, delta(7, 9)) == ["delta 7-9 verified"]


def test_a_whole_book_is_not_put_ahead_of_its_stream() -> None:
    sync = fresh()
    feed(sync, delta(5, 7), snapshot(7))
    assert feed(sync, snapshot(12)) == [AHEAD]
    assert feed(sync, delta(8, 9)) == ["delta 7-9 verified"]
    assert feed(sync, snapshot(9)) == ["snapshot 9 verified", "synced"]
    assert feed(sync, snapshot(12), snapshot(12)) == [
        AHEAD, "gap 10-12", "snapshot 12 unverifiable", "synced",
    ]  # fmt: skip


def test_a_hole_while_a_snapshot_is_awaited_is_told_and_bridged_by_it() -> None:
    sync = fresh()
    assert feed(sync, delta(5, 7), delta(10, 11)) == ["resync", "gap 8-9"]
    assert feed(sync, snapshot(10)) == ["snapshot 10 verified", "synced", "delta 10-11 verified"]


def test_what_is_interrupted_forgets_the_snapshot_that_was_ahead() -> None:
    sync = fresh()
    feed(sync, delta(5, 7), snapshot(12))
    sync.interrupted(GapReason.MALFORMED, recv_ns=7, epoch=2)
    assert feed(sync, delta(8, 12)) == []
    assert feed(sync, snapshot(12)) == ["snapshot 12 verified", "synced"]


@pytest.mark.parametrize("validator", [ByRange(), ByPrevious()])
def test_a_delta_within_the_one_before_it_shows_that_a_number_is_wrong(
    validator: Validator,
) -> None:
    """The end of the one before was too high, so what follows it seems to be old."""
    sync = fresh(validator)
    feed(sync, delta(5, 7, 4), snapshot(7))
    feed(sync, delta(8, 9, 7), delta(10, 900, 9))
    assert feed(sync, delta(10, 900, 9), delta(8, 9, 7)) == ["ignored: duplicate"] * 2
    assert feed(sync, delta(12, 15, 11)) == ["gap None-None", "resync"]
    assert feed(sync, delta(16, 17, 15), snapshot(16))[-1].endswith("-17 verified")


def test_where_nothing_is_numbered_a_loss_asks_for_a_snapshot_from_after_it() -> None:
    sync = fresh(Unchecked())
    assert feed(sync, delta(1, 1)) == ["resync"]
    items = sync.malformed(is_snapshot=False, recv_ns=8, epoch=2)
    assert items[1:] == [Resync(BOOK, anew=True)], "one that is on its way may be from before it"
    assert feed(sync, delta(3, 3)) == []
    assert feed(sync, snapshot(3))[:2] == ["snapshot None unverifiable", "synced"]
    assert sync.malformed(is_snapshot=False, recv_ns=9, epoch=2)[1:] == [Resync(BOOK, anew=True)]


def test_where_numbers_tell_a_snapshot_on_its_way_is_as_good() -> None:
    sync = fresh()
    feed(sync, delta(1, 1), snapshot(1))
    assert sync.malformed(is_snapshot=False, recv_ns=8, epoch=2)[1:] == [Resync(BOOK)]
