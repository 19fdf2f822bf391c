"""What was dropped is merged into few events, whose bounds cover all of it."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from feedhandler import (
    BookDelta,
    ConnectionState,
    FeedStateChanged,
    Gap,
    GapReason,
    PriceUpdate,
    Side,
    SubscriptionFailed,
    SubscriptionRefused,
)
from feedhandler._core.losses import Losses


def price(symbol: str, sequence: int, at: int) -> PriceUpdate:
    return PriceUpdate(symbol, Decimal(1), Decimal(1), Side.BUY, sequence, None, at, "v", 1)


def state(new: ConnectionState) -> FeedStateChanged:
    return FeedStateChanged(ConnectionState.CONNECTING, new, "", None, None, 0, None, 0, "v")


def test_losses_of_a_symbol_become_one_gap() -> None:
    losses = Losses()
    assert not losses
    losses.add([price("A", 3, 30), price("B", 9, 35), price("A", 4, 40)], GapReason.OVERFLOW)
    losses.add([price("A", 5, 50)], GapReason.CONFLATED)
    told = [
        (g.symbol, g.reason, g.from_sequence, g.to_sequence, g.from_ns, g.to_ns, g.missing)
        for g in losses.take()
        if isinstance(g, Gap)
    ]
    assert told == [
        ("A", GapReason.OVERFLOW, 3, 4, 30, 40, 2),
        ("B", GapReason.OVERFLOW, 9, 9, 35, 35, 1),
        ("A", GapReason.CONFLATED, 5, 5, 50, 50, 1),
    ]
    assert not losses
    assert losses.take() == []


def test_the_losses_of_a_book_are_told_apart() -> None:
    losses = Losses()
    deltas = [BookDelta("A", (), (), n, None, n, "v", 1) for n in (901, 902)]
    losses.add([price("A", 3, 30), *deltas, price("A", 4, 40)], GapReason.OVERFLOW)
    told = [
        (g.of_book, g.from_sequence, g.to_sequence, g.missing)
        for g in losses.take()
        if isinstance(g, Gap)
    ]
    assert told == [(False, 3, 4, 2), (True, 901, 902, 2)]


def test_a_dropped_gap_is_not_forgotten_and_unknown_bounds_stay_unknown() -> None:
    losses = Losses()
    gap = Gap("A", GapReason.RECONNECT, 7, None, 1, 2, None, 2, "v", 1)
    losses.add([gap, gap], GapReason.OVERFLOW)
    assert losses.take() == [gap]


def test_the_newest_state_and_every_refusal_survive() -> None:
    refused = SubscriptionFailed(SubscriptionRefused("v", "X", "price", "no"), 1, "v")
    newest = state(ConnectionState.CONNECTED)
    losses = Losses()
    losses.add([state(ConnectionState.RECONNECTING), refused, refused, newest], GapReason.OVERFLOW)
    assert losses.take() == [refused, newest]


def test_memory_is_bounded_for_any_number_of_symbols() -> None:
    losses = Losses()
    losses.add([price(f"S{n}", n, n) for n in range(10_000)], GapReason.OVERFLOW)
    gaps = [event for event in losses.take() if isinstance(event, Gap)]
    assert len(gaps) == 4097
    assert sum(gap.missing or 0 for gap in gaps) == 10_000
    assert gaps[-1].symbol is None


def test_each_legs_newest_state_is_kept() -> None:
    losses = Losses()
    connected = state(ConnectionState.CONNECTED)
    lost = state(ConnectionState.RECONNECTING)
    losses.add([connected, evolve(connected, leg=1), evolve(lost, leg=1)], GapReason.OVERFLOW)
    assert losses.take() == [connected, evolve(lost, leg=1)]


def test_a_gap_of_all_symbols_of_one_leg_is_not_made_one_of_another() -> None:
    losses = Losses()
    gap = Gap(None, GapReason.MALFORMED, None, None, 1, 1, 1, 1, "v")
    losses.add([gap, evolve(gap, leg=1), evolve(gap, leg=1)], GapReason.OVERFLOW)
    told = [(e.leg, e.missing) for e in losses.take() if isinstance(e, Gap)]
    assert told == [(0, 1), (1, 2)]


def test_past_the_bound_a_gap_is_about_every_leg() -> None:
    losses = Losses()
    losses.add([price(f"S{n}", n, n) for n in range(5000)], GapReason.OVERFLOW)
    (rest,) = [e for e in losses.take() if isinstance(e, Gap) and e.symbol is None]
    assert (rest.leg, rest.missing) == (None, 5000 - 4096)
