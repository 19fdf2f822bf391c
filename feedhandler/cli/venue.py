"""The venue that a command is about: by its name, with its list of instruments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feedhandler.abc import ListedVenue, Tap, Venue
from feedhandler.errors import ConfigError
from feedhandler.listing import load_instruments
from feedhandler.venues import venue_by_name

__all__ = ["listed", "named_venue", "split_names"]


def named_venue(name: str, url: str | None = None) -> Venue:
    """The venue called `name`, at another address than its own where one is given."""
    return venue_by_name(name, url=url) if url else venue_by_name(name)


async def listed(
    venue: Venue, file: Path | None, *, anew: bool = False, tap: Tap | None = None
) -> Venue:
    """`venue`, with its list of instruments where that is to be kept in a `file`.

    The file is used while it is younger than a day, unless the list is to be fetched `anew`; an
    older one is used where it can't be. Raises `ConfigError` for a venue that has no list.
    """
    if file is None:
        return venue  # where it needs a list, whoever opens the feed fetches it
    if not isinstance(venue, ListedVenue):
        raise ConfigError(
            "instruments", str(file), f"{venue.name} has no list of instruments",
            mend="leave the file out: its symbols are taken as they are",
        )  # fmt: skip
    if anew:
        return await load_instruments(venue, cache=file, max_age_s=0, tap=tap)
    return await load_instruments(venue, cache=file, tap=tap)


def split_names(values: Sequence[str]) -> list[str]:
    """Names that were given one by one, or several with commas between them."""
    return [name.strip() for value in values for name in value.split(",")]
