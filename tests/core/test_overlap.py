"""Two connections that deliver the same: each number once, in order, and every hole told."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from feedhandler import Event, Gap, GapReason, PriceUpdate, Quote, Side, Trade
from feedhandler._core.overlap import Break, Overlap
from feedhandler._core.sequence import Hole, Order, SequenceTracker


def price(symbol: str, sequence: int) -> PriceUpdate:
    return PriceUpdate(symbol, Decimal(1), Decimal(1), Side.BUY, sequence, None, 0, "v", 2)


def trade(symbol: str, name: str) -> Trade:
    return Trade(symbol, Decimal(1), Decimal(1), Side.BUY, name, None, None, 0, "v", 2)


def quote(symbol: str, bid: int) -> Quote:
    one = Decimal(1)
    return Quote(symbol, Decimal(bid), one, Decimal(bid + 1), one, None, None, 0, "v", 2)


def decoded(tracker: SequenceTracker[str], symbol: str, sequence: int) -> list[Event]:
    """What a session makes of a message."""
    order = tracker.check(symbol, sequence)
    if order is Order.DUPLICATE:
        return []
    if isinstance(order, Hole):
        gap = order.as_gap(symbol, recv_ns=0, venue="v", epoch=2)
        return [gap] if order.late else [gap, price(symbol, sequence)]
    return [price(symbol, sequence)]


messages = st.tuples(st.sampled_from("AB"), st.integers(0, 12))


@given(
    script=st.lists(st.tuples(st.booleans(), messages), max_size=40),
    after=st.lists(messages, max_size=30),
    lost=st.booleans(),
    limit=st.sampled_from([1, 3, 1000]),
)
def test_what_is_delivered_and_what_is_told_cover_each_number_once(
    script: list[tuple[bool, tuple[str, int]]], after: list[tuple[str, int]], lost: bool, limit: int
) -> None:
    """Whatever each of the two brings, and whenever the switch is."""
    old: SequenceTracker[str] = SequenceTracker()
    new: SequenceTracker[str] = SequenceTracker()
    overlap = Overlap(old.last, limit=limit)
    delivered: list[Event] = []
    for on_new, (symbol, sequence) in script:
        if on_new:
            overlap.add(decoded(new, symbol, sequence))
        else:
            delivered += decoded(old, symbol, sequence)
            overlap.prune()
    level = [symbol for symbol in "AB" if overlap.is_level(symbol)]
    breaks = list(overlap.breaks("AB", lost=lost))
    delivered += [
        Gap(b.symbol, GapReason.RECONNECT, b.from_sequence, b.to_sequence, 0, 0, b.missing, 0, "v")
        for b in breaks
    ]
    delivered += overlap.release()
    for symbol in "AB":
        last = old.last(symbol)
        if last is not None:
            new.resume_after(symbol, last)
    for symbol, sequence in after:
        delivered += decoded(new, symbol, sequence)
    assert not [b for b in breaks if b.symbol in level], "level means that nothing is missing"
    for symbol in "AB":
        covered: list[int] = []
        for event in delivered:
            if isinstance(event, PriceUpdate) and event.symbol == symbol:
                covered.append(event.sequence)
            elif isinstance(event, Gap) and event.symbol == symbol and event.missing is not None:
                assert event.from_sequence is not None
                assert event.to_sequence is not None
                assert event.missing == event.to_sequence - event.from_sequence + 1 > 0
                covered += range(event.from_sequence, event.to_sequence + 1)
        if covered:
            # What came before the very first is told when it comes.
            assert sorted(covered) == list(range(min(covered), max(covered) + 1))
        numbers = [
            e.sequence for e in delivered if isinstance(e, PriceUpdate) and e.symbol == symbol
        ]
        assert numbers == sorted(numbers)
    assert len(overlap) == 0


def test_without_numbers_every_symbol_is_told_and_nothing_comes_twice() -> None:
    overlap = Overlap(None, limit=10)
    assert not overlap.is_level("A")
    overlap.add([price("A", 5)])
    assert overlap.is_level("A")
    assert list(overlap.breaks("AB", lost=False)) == [
        Break("A", None, None), Break("B", None, None)
    ]  # fmt: skip
    assert overlap.release() == []
    assert overlap.duplicates == 1


def test_trades_are_held_and_of_quotes_the_newest_and_neither_is_a_break() -> None:
    overlap = Overlap(None, limit=10)
    overlap.add([trade("A", "1"), quote("A", 5), trade("A", "2"), quote("A", 6)])
    assert overlap.is_level("A")
    assert not overlap.is_level("B")
    assert list(overlap.breaks("AB", lost=False)) == []
    assert {b.symbol for b in overlap.breaks("AB", lost=True)} == {"A", "B"}
    assert overlap.release() == [quote("A", 6), trade("A", "1"), trade("A", "2")]


def test_a_symbol_that_the_old_connection_never_had_is_whole_where_that_lived() -> None:
    overlap = Overlap({}.get, limit=10)
    overlap.add([price("A", 5)])
    assert not overlap.is_level("A"), "it could still come on the old one"
    assert list(overlap.breaks("A", lost=False)) == []
    assert list(overlap.breaks("A", lost=True)) == [Break("A", None, 4)]
    assert overlap.release() == [price("A", 5)]
