"""A scenario, as it can be run at another venue."""

from __future__ import annotations

from attrs import evolve

from feedhandler_testing.dialect import Means, dialect_by_name
from feedhandler_testing.scenario import Expect, Scenario

__all__ = ["at_venue"]

# Gaps that are told because numbers or checksums tell.
_TOLD_BY_CHECKS = frozenset({"sequence", "checksum"})


def at_venue(scenario: Scenario, venue: str) -> Scenario:
    """The scenario at `venue`, whose means may be less than those that it was made for: then less
    is expected of it.

    Raises `ConfigError` where it has a fault that can't act there.
    """
    if venue == scenario.venue:
        return scenario
    means = dialect_by_name(venue).means
    expect = _expected(scenario.expect, means, books=scenario.channel == "book")
    return evolve(scenario, venue=venue, expect=expect)


def _expected(expect: Expect, means: Means, *, books: bool) -> Expect:
    can_tell = means.verifiable_books if books else means.numbered_trades
    gaps = [reason for reason in expect.gaps if can_tell or reason not in _TOLD_BY_CHECKS]
    if "checksum" not in means.says:
        gaps = [reason for reason in gaps if reason != "checksum"]
    if books and not means.numbered_books and not means.per_connection and "checksum" in means.says:
        # What is missing shows at the next checksum.
        gaps = [*dict.fromkeys("checksum" if reason == "sequence" else reason for reason in gaps)]
    return evolve(
        expect,
        gaps=gaps,
        # An acknowledgement that is lost leaves a hole where it has a number as well.
        lossless=expect.lossless and not means.per_connection,
        requests=0,  # how many it takes is the venue's own
    )
