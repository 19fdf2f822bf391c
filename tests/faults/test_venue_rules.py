"""What the rules ask of a feed at a venue: no more than its means allow, and no less."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve, field, frozen

from feedhandler import Gap, Trade
from feedhandler.errors import ConfigError
from feedhandler_testing import (
    Cut,
    Duplicate,
    Expect,
    Inject,
    Messages,
    MockBook,
    Reorder,
    Reset,
    Scenario,
    SequenceGap,
    Serve,
    WrongChecksum,
    at_venue,
    simulate,
)
from feedhandler_testing.catalogue import CATALOGUE
from feedhandler_testing.dialect import DIALECTS, Means
from feedhandler_testing.matrix import Cell, matrix
from feedhandler_testing.numbering import BookSides, Numbering
from feedhandler_testing.rules import RULES, Rule, rules_for
from feedhandler_testing.subject import Contract, FeedSubject, MockVenue
from feedhandler_testing.trace import BookTold, Delivered, Fired, Lost, Made, Record, Sent
from feedhandler_testing.venues.coinbase import CoinbaseDialect

UNNUMBERED = Means(numbered_trades=False)
UNVERIFIABLE = Means(verifiable_books=False, numbered_books=False)
BY_CONNECTION = Means(per_connection=True, first_stamp=0)


def broken(records: Iterable[Record], means: Means) -> set[str]:
    judge = rules_for(Contract(means=means), RULES)
    for record in records:
        judge.see(record)
    judge.end()
    return {violation.rule for violation in judge.violations}


def sent(number: int, *, intact: bool = True, symbol: str = "A") -> Sent:
    return Sent(float(number), 1, symbol, number, "1", "2", "buy", 0, intact)


def delivered(number: int, *, symbol: str = "A") -> Delivered:
    return Delivered(float(number), symbol, number, "1", "2", "buy", 0, None, 1)


def fired(layer: str = "venue") -> Fired:
    return Fired(0.0, "x-1", 1, taints=False, delays=False, layer=layer)


# --- trades --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "rule"),
    [
        # dropped on the way, and nobody said so
        ([sent(1), delivered(1), sent(2, intact=False), sent(3), delivered(3)], "LossAnnounced"),
        # sent twice, and told twice
        ([sent(1), sent(1), delivered(1), delivered(1)], "NothingTwice"),
        # overtaken on the way
        ([sent(1), sent(3), sent(2), *map(delivered, (1, 3, 2))], "InOrder"),
    ],
)
def test_without_numbers_nobody_can_tell(records: list[Record], rule: str) -> None:
    assert rule in broken(records, Means())
    assert broken(records, UNNUMBERED) == set()


@pytest.mark.parametrize(
    ("records", "rule"),
    [
        ([sent(1), delivered(1), sent(2), sent(3), delivered(3)], "LossAnnounced"),
        ([sent(1), delivered(1), delivered(1)], "NothingTwice"),
        ([sent(1), sent(2), delivered(2), delivered(1)], "InOrder"),
        ([delivered(1)], "NothingInvented"),
    ],
)
def test_what_came_whole_has_to_be_told_in_order_and_once(records: list[Record], rule: str) -> None:
    assert rule in broken(records, UNNUMBERED)


def test_a_hole_in_a_connection_may_be_of_any_symbol() -> None:
    # The number is that of a message of the connection, and not of the symbol.
    gap = Lost(2.0, None, "sequence", 907, 907, 1)
    records = [sent(1), delivered(1), sent(2, intact=False), gap, sent(3), delivered(3)]
    assert broken(records, BY_CONNECTION) == set()
    assert broken([one for one in records if one is not gap], BY_CONNECTION) == {"LossAnnounced"}
    assert "LossAnnounced" in broken(records, Means())


# --- books ---------------------------------------------------------------------------------------


def told(trust: str, *, number: int | None = None, size: str = "1") -> BookTold:
    return BookTold(1.0, "A", number, True, trust, (f"10:{size}",), ("11:1",))


def made(number: int = 1) -> Made:
    return Made(0.0, "A", number, MockBook("A", {"10": "1"}, {"11": "1"}).checksum)


def test_what_nothing_verifies_is_not_told_to_be_verified() -> None:
    assert broken([made(), told("verified", number=1)], UNVERIFIABLE) == {"BooksTrue"}
    assert broken([made(), told("unverifiable", number=1)], UNVERIFIABLE) == set()


def test_a_book_that_never_was_the_venues_is_seen_until_a_fault_has_acted() -> None:
    wrong = told("unverifiable", size="7")
    assert broken([made(), wrong], UNVERIFIABLE) == {"BooksTrue"}
    assert broken([made(), fired(), wrong], UNVERIFIABLE) == set()
    assert broken([made(), fired("connecting"), wrong], UNVERIFIABLE) == {"BooksTrue"}
    # Where there are means, a fault is no excuse.
    assert broken([made(), fired(), wrong], evolve(UNVERIFIABLE, verifiable_books=True))


def test_an_old_snapshot_can_be_told_only_where_it_says_what_it_is_of() -> None:
    aging = Fired(0.0, "stale_snapshot-1", 1, taints=False, delays=False, layer="venue")
    wrong = told("verified", size="7")
    undated = Means(numbered_books=False, dated_snapshots=False)
    assert broken([made(), aging, wrong], undated) == set()
    assert broken([made(), fired(), wrong], undated) == {"BooksTrue"}
    assert broken([made(), aging, wrong], Means(numbered_books=False)) == {"BooksTrue"}


def test_a_book_without_numbers_is_known_by_its_levels() -> None:
    numbering = Numbering(CoinbaseDialect())
    book = MockBook("A", {"10": "1"}, {"11": "1"})
    numbering.made(Made(0.0, "A", 0, book.checksum))
    first = numbering.told(BookTold(0.0, "A", 4711, True, "verified", ("10:1",), ("11:1",)))
    book.delta({"10.5": "3"})
    numbering.made(Made(0.0, "A", 1, book.checksum))
    next_ = numbering.told(BookTold(0.0, "A", 4712, False, "verified", ("10.5:3",), ()))
    wrong = numbering.told(BookTold(0.0, "A", 4713, False, "verified", ("10.6:3",), ()))
    numbers = [one.number for one in (first, next_, wrong) if isinstance(one, BookTold)]
    assert numbers == [0, 1, None]


def test_sides_follow_what_is_told() -> None:
    sides = BookSides()
    sides.take(BookTold(0.0, "A", 1, True, "verified", ("10:1", "9:2"), ("11:1",)))
    sides.take(BookTold(0.0, "A", 2, False, "verified", ("9:0",), ("12:3",)))
    same = MockBook("A", {"10": "1"}, {"11": "1", "12": "3"})
    assert sides.checksum == same.checksum


# --- a whole run ---------------------------------------------------------------------------------

Bend = Callable[[Any], Iterable[Any]]


@frozen
class Bent:
    """The sound feed, whose events pass through a function."""

    bend: Bend
    means: Means = field(factory=Means)

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with FeedSubject()(mock) as feed:
            yield self._events(feed)

    async def _events(self, feed: Any) -> AsyncIterator[Any]:
        async for event in feed:
            for passed in self.bend(event):
                yield passed

    def contract(self, settings: Any) -> Contract:
        return FeedSubject().contract(settings)


_HOLE = Scenario(venue="coinbase", steps=[Inject(SequenceGap(), Messages(4)), Serve(20)])


@pytest.mark.parametrize(
    ("bend", "rule"),
    [
        (lambda e: [] if isinstance(e, Gap) else [e], "LossAnnounced"),
        (lambda e: [e, e] if isinstance(e, Trade) else [e], "NothingTwice"),
        (lambda e: [evolve(e, side=e.side.__class__("buy"))] if isinstance(e, Trade) else [e],
         "NothingInvented"),
        (lambda e: [evolve(e, price=e.price + Decimal("0.01"))] if isinstance(e, Trade) else [e],
         "NothingInvented"),
        (lambda e: [evolve(e, venue_time_ns=e.venue_time_ns + 1)] if isinstance(e, Trade) else [e],
         "NothingInvented"),
        (lambda e: [evolve(e, trade_id=None)] if isinstance(e, Trade) else [e], "NothingTwice"),
    ],
)  # fmt: skip
def test_a_broken_feed_is_caught_at_a_venue(bend: Bend, rule: str) -> None:
    assert simulate(_HOLE).violations == []
    outcome = simulate(_HOLE, Bent(bend))
    assert rule in {violation.rule for violation in outcome.violations}


# --- scenarios at other venues -------------------------------------------------------------------


def test_less_is_expected_where_there_are_less_means() -> None:
    steps = [Inject(Duplicate(), Messages(3)), Serve(10), Cut(Reset()), Serve(3)]
    expect = Expect(gaps=["reconnect"], lossless=False, requests=2, connections=2)
    scenario = Scenario(steps=steps, expect=expect)
    assert at_venue(scenario, "price") is scenario
    moved = at_venue(scenario, "coinbase")
    assert moved.venue == "coinbase"
    assert moved.expect == evolve(expect, requests=0)
    simulate(moved).check()


def test_a_scenario_that_cannot_be_at_a_venue_is_refused() -> None:
    scenario = Scenario(channel="book", steps=[Inject(WrongChecksum()), Serve(5)])
    with pytest.raises(ConfigError, match="coinbase has no checksum"):
        at_venue(scenario, "coinbase")


@pytest.mark.parametrize("venue", sorted(DIALECTS))
def test_most_of_the_catalogue_can_be_at_every_venue(venue: str) -> None:
    moved = []
    for entry in CATALOGUE:
        with contextlib.suppress(ConfigError):
            moved.append(at_venue(entry.scenario, venue))
    assert len(moved) >= len(CATALOGUE) * 0.7


@pytest.mark.parametrize(
    "cell",
    [cell for cell in matrix(venue="coinbase") if cell.scenario.channel == "price"],
    ids=lambda cell: cell.name,
)
def test_every_fault_in_every_state_at_coinbase(cell: Cell) -> None:
    simulate(cell.scenario, keep=40).check()


def test_rules_name_what_they_read() -> None:
    assert all(issubclass(rule, Rule) and rule.reads for rule in RULES)


def test_two_messages_change_places_where_the_connection_is_numbered() -> None:
    steps = [Inject(Reorder(), Messages(4)), Serve(12)]
    outcome = simulate(Scenario(venue="coinbase", steps=steps, expect=Expect(gaps=["sequence"])))
    assert outcome.violations == []
