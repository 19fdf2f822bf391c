"""Trades that come again on another connection are not told again."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import Event, Quote, Side, Trade
from feedhandler._core.tape import Tape


def trade(name: str | None, symbol: str = "A", time_ns: int = 0) -> Trade:
    return Trade(symbol, Decimal(1), Decimal(1), Side.BUY, name, None, time_ns, 0, "v", 1)


def quote(bid: int) -> Quote:
    one = Decimal(1)
    return Quote("A", Decimal(bid), one, Decimal(bid + 1), one, None, None, 0, "v", 1)


def ids(events: list[Event]) -> list[str | None]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


@pytest.mark.parametrize("letter", ["", "x"])
def test_what_was_told_before_the_turn_is_not_told_after_it(letter: str) -> None:
    tape = Tape()
    tape.note([trade(f"{letter}{n}") for n in (7, 8, 9)])
    again: list[Event] = [trade(f"{letter}{n}") for n in (8, 9, 10, 11)]
    assert len(tape.without_repetitions(again)) == 4, "on one connection they are the venue's own"
    tape.turn()
    assert ids(tape.without_repetitions(again)) == [f"{letter}10", f"{letter}11"]
    others: list[Event] = [trade(f"{letter}9", "B"), quote(1)]
    assert tape.without_repetitions(others) == others


def test_numbers_are_compared_as_numbers_and_may_come_newest_first() -> None:
    tape = Tape()
    tape.note([trade("99")])
    tape.turn()
    newest_first: list[Event] = [trade("101"), trade("100"), trade("99"), trade("98"), trade("9")]
    assert ids(tape.without_repetitions(newest_first)) == ["101", "100"]


def test_trades_without_ids_are_told_apart_by_all_that_is_known() -> None:
    tape = Tape()
    tape.note([trade(None, time_ns=5)])
    tape.turn()
    assert ids(tape.without_repetitions([trade(None, time_ns=5), trade(None, time_ns=6)])) == [None]


def test_a_quote_that_says_the_same_is_known() -> None:
    tape = Tape()
    assert not tape.knows_quote(quote(5))
    tape.note([quote(4), quote(5)])
    assert tape.knows_quote(quote(5))
    assert not tape.knows_quote(quote(4))


@given(
    told=st.lists(st.integers(0, 40)),
    after=st.lists(st.integers(0, 40)),
    names=st.sampled_from([str, "t{}".format]),
)
def test_each_id_that_was_told_is_told_once(
    told: list[int], after: list[int], names: type[str]
) -> None:
    tape = Tape()
    tape.note([trade(names(n)) for n in told])
    tape.turn()
    fresh = ids(tape.without_repetitions([trade(names(n)) for n in after]))
    assert not {names(n) for n in told} & set(fresh)
    assert set(fresh) >= {names(n) for n in after if n > max(told, default=-1)}


def test_a_venue_that_counts_from_the_start_again_is_not_silenced() -> None:
    tape = Tape()
    tape.note([trade("1000", time_ns=5), trade("1001", time_ns=6)])
    tape.turn()
    events: list[Event] = [trade("1001", time_ns=6), trade("1", time_ns=7), trade("2", time_ns=8)]
    assert ids(tape.without_repetitions(events)) == ["1", "2"]
