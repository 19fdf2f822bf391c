"""``feedhandler symbols``: a venue's instruments."""

from __future__ import annotations

import re
from fnmatch import translate
from pathlib import Path

from feedhandler.abc import ListedVenue
from feedhandler.cli.board import Output
from feedhandler.cli.venue import named_venue
from feedhandler.errors import ConfigError
from feedhandler.instruments import Instrument
from feedhandler.listing import load_instruments

__all__ = ["run_symbols"]


async def run_symbols(
    venue_name: str, pattern: str | None, file: Path | None, active: bool, output: Output
) -> int:
    """List the instruments that fit `pattern`: the canonical name, the venue's, kind, and state.

    Returns the exit code: 1 where none fits.
    """
    venue = named_venue(venue_name)
    if not isinstance(venue, ListedVenue):
        raise ConfigError(
            "venue", venue_name, "has no list of instruments",
            mend="use its symbols as they are",
        )  # fmt: skip
    venue = await load_instruments(venue, cache=file)
    everything = [] if venue.instruments is None else [*venue.instruments]
    found = [one for one in everything if fits(one, pattern) and (one.active or not active)]
    found.sort(key=lambda one: (one.symbol, one.venue_symbol))
    rows = [
        (one.symbol, one.venue_symbol, one.kind.value, "active" if one.active else "not active")
        for one in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        output.console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
    if not found:
        raise ConfigError(
            "pattern", pattern, f"none of the {len(everything):,} instruments fits",
            mend="use a part of a name, or * and ? as in 'BTC-*'",
        )  # fmt: skip
    return 0


def fits(one: Instrument, pattern: str | None) -> bool:
    """Whether a name of it has `pattern` in it; one with ``*`` or ``?`` has to fit as a whole."""
    if pattern is None:
        return True
    whole = any(sign in pattern for sign in "*?[")
    expression = re.compile(translate(pattern) if whole else re.escape(pattern), re.IGNORECASE)
    find = expression.match if whole else expression.search
    return any(find(name) for name in (one.symbol, one.venue_symbol))
