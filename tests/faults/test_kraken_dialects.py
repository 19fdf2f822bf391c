"""Feeds of Kraken against the mock server that speaks it, with what may go wrong with books."""

from __future__ import annotations

import pytest

from feedhandler_testing import (
    Cut,
    Duplicate,
    Expect,
    Inject,
    Messages,
    Reset,
    Scenario,
    SequenceGap,
    Serve,
    StaleSnapshot,
    WrongChecksum,
    simulate,
)

VENUES = ("kraken", "kraken_v1")


# Trades of v1 have no id, by which the kit's rules would know them again.
@pytest.mark.parametrize(
    ("venue", "channel"), [("kraken", "price"), ("kraken", "book"), ("kraken_v1", "book")]
)
def test_a_connection_that_is_cut_is_made_again(venue: str, channel: str) -> None:
    steps = [Serve(20), Cut(Reset()), Serve(20)]
    simulate(Scenario(venue=venue, channel=channel, steps=steps)).check()


@pytest.mark.parametrize("venue", VENUES)
def test_a_wrong_checksum_makes_the_book_be_asked_for_again(venue: str) -> None:
    steps = [Inject(WrongChecksum(), Messages(6)), Serve(40)]
    expect = Expect(gaps=["checksum"], connections=1)
    simulate(Scenario(venue=venue, channel="book", steps=steps, expect=expect)).check()


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("fault", [SequenceGap(), Duplicate()])
@pytest.mark.parametrize("seed", range(4))
def test_no_book_that_is_wrong_is_told_as_verified(venue: str, fault: object, seed: int) -> None:
    steps = [Inject(fault, Messages(6)), Serve(40)]  # type: ignore[arg-type]  # any fault
    simulate(Scenario(venue=venue, channel="book", steps=steps, seed=seed)).check()


@pytest.mark.parametrize("venue", VENUES)
def test_a_snapshot_that_is_old_is_found_by_the_next_delta(venue: str) -> None:
    steps = [Inject(WrongChecksum(), Messages(6)), Inject(StaleSnapshot(), Messages(6)), Serve(60)]
    simulate(Scenario(venue=venue, channel="book", steps=steps)).check()
