"""``feedhandler watch``: a venue's prices, live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import trio

from feedhandler._core.redaction import redact_url
from feedhandler._io.nursery import open_plain_nursery
from feedhandler.cli.board import Board, Output
from feedhandler.cli.venue import listed, named_venue
from feedhandler.handler import open_feed

__all__ = ["run_watch"]


async def run_watch(
    venue_name: str,
    symbols: Sequence[str],
    channels: Sequence[str],
    url: str | None,
    seconds: float | None,
    output: Output,
    instruments: Path | None = None,
) -> int:
    """Show `symbols` until `seconds` have gone or Ctrl-C. Returns the exit code."""
    venue = await listed(named_venue(venue_name, url), instruments)
    async with (
        open_plain_nursery() as nursery,
        open_feed(venue, symbols, channels=channels or None) as feed,
    ):
        board = Board(feed, f"{venue.name}: {redact_url(venue.url)}")
        with (
            board.shown(output, nursery),
            trio.move_on_after(math.inf if seconds is None else seconds),
        ):
            async for event in feed:
                line = board.take(event)
                if line is not None and not output.live:
                    output.console.print(line, highlight=False, soft_wrap=True)
    return 0
