"""How long, and for how many messages, a book could be trusted."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import (
    BookDelta,
    BookSnapshot,
    ConnectionState,
    Coverage,
    CoverageLedger,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    Trust,
    TrustChanged,
)

SECOND = 1_000_000_000


def snapshot(at: int, trust: Trust = Trust.VERIFIED, symbol: str = "A") -> BookSnapshot:
    return BookSnapshot(symbol, (), (), None, None, at * SECOND, "v", 1, trust)


def delta(at: int, trust: Trust = Trust.VERIFIED, symbol: str = "A") -> BookDelta:
    return BookDelta(symbol, (), (), None, None, at * SECOND, "v", 1, trust)


def gap(
    at: int,
    missing: int | None = None,
    symbol: str | None = "A",
    reason: GapReason = GapReason.SEQUENCE,
) -> Gap:
    return Gap(symbol, reason, None, None, None, None, missing, at * SECOND, "v", 1, of_book=True)


def state(at: int, new: ConnectionState) -> FeedStateChanged:
    old = ConnectionState.CONNECTED
    return FeedStateChanged(old, new, "", None, None, 0, None, at * SECOND, "v")


def covered(*events: Event, until: int) -> Coverage:
    ledger = CoverageLedger()
    ledger.fold(events)
    return ledger.coverage(until * SECOND)["A"]


def test_each_trust_gets_its_time_and_its_messages() -> None:
    told = covered(
        snapshot(0),
        delta(2),
        gap(3, missing=4),
        snapshot(5, Trust.UNVERIFIABLE),
        delta(6),
        TrustChanged("A", Trust.STALE, "", 8 * SECOND, "v"),
        delta(9),
        state(10, ConnectionState.RECONNECTING),
        state(11, ConnectionState.CONNECTED),
        snapshot(13),
        until=20,
    )
    assert told.seconds == {
        Trust.VERIFIED: 3 + 2 + 1 + 7,
        Trust.SUSPECT: 2,
        Trust.UNVERIFIABLE: 1,
        Trust.STALE: 1 + 3,
    }
    assert told.messages == {
        Trust.VERIFIED: 5, Trust.SUSPECT: 4, Trust.UNVERIFIABLE: 1, Trust.STALE: 0
    }  # fmt: skip
    assert told.time_share(Trust.VERIFIED) == 13 / 20
    assert told.message_share(Trust.SUSPECT) == 0.4


def test_a_gap_of_all_symbols_is_one_of_each_book() -> None:
    told = covered(snapshot(0), snapshot(0, symbol="B"), gap(4, symbol=None), until=5)
    assert told.time_share(Trust.VERIFIED) == 0.8
    assert told.time_share(Trust.SUSPECT) == 0.2


def test_a_book_that_is_wanted_no_longer_costs_no_time() -> None:
    ended = gap(2, reason=GapReason.UNSUBSCRIBED)
    told = covered(snapshot(0), ended, state(5, ConnectionState.CLOSING), until=50)
    assert told.seconds[Trust.VERIFIED] == 2
    assert sum(told.seconds.values()) == 2
    told = covered(snapshot(0), ended, snapshot(10), until=11)
    assert told.seconds[Trust.VERIFIED] == 3, "and wanted again"


def test_nothing_is_no_share_of_nothing() -> None:
    assert CoverageLedger().coverage(5) == {}
    told = covered(snapshot(5), until=5)
    assert told.time_share(Trust.VERIFIED) == 0


events = st.lists(
    st.builds(
        lambda kind, trust, at: evolve(kind, trust=trust, recv_ns=at * SECOND),
        st.sampled_from([snapshot(0), delta(0)]),
        st.sampled_from(Trust),
        st.integers(0, 100),
    ),
    min_size=1,
)


@given(events)
def test_times_add_up_and_are_never_negative(told: list[Event]) -> None:
    ledger = CoverageLedger()
    ledger.fold(told)
    coverage = ledger.coverage(200 * SECOND)["A"]
    assert all(seconds >= 0 for seconds in coverage.seconds.values())
    first = told[0]
    assert isinstance(first, BookSnapshot | BookDelta)
    assert sum(coverage.seconds.values()) == 200 - first.recv_ns // SECOND
    assert sum(coverage.messages.values()) == len(told)


def test_what_happens_to_one_leg_costs_the_books_of_another_nothing() -> None:
    ledger = CoverageLedger()
    lost = evolve(state(1, ConnectionState.RECONNECTING), leg=1)
    ledger.fold([snapshot(0), evolve(snapshot(0, symbol="B"), leg=1), lost])

    def seconds(symbol: str, trust: Trust, until: int) -> float:
        return ledger.coverage(until * SECOND)[symbol].seconds[trust]

    assert (seconds("A", Trust.STALE, 3), seconds("B", Trust.STALE, 3)) == (0, 2)
    ledger.fold([gap(3, symbol=None)])
    assert (seconds("A", Trust.SUSPECT, 4), seconds("B", Trust.SUSPECT, 4)) == (1, 0)
    ledger.fold([evolve(gap(4, symbol=None), leg=None)])
    assert seconds("B", Trust.SUSPECT, 5) == 1, "nobody knows whose it was"
