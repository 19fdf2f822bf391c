"""The failures that users of real feeds have met, as named scenarios."""

from __future__ import annotations

import difflib

from feedhandler.errors import ConfigError
from feedhandler_testing.catalogue.alive import ALIVE
from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.catalogue.connecting import CONNECTING
from feedhandler_testing.catalogue.data import DATA
from feedhandler_testing.catalogue.day import VIRTUAL_DAY
from feedhandler_testing.catalogue.payload import PAYLOAD

__all__ = ["CATALOGUE", "VIRTUAL_DAY", "Entry", "find_entry"]

CATALOGUE: tuple[Entry, ...] = tuple(
    sorted((*CONNECTING, *ALIVE, *PAYLOAD, *DATA), key=lambda entry: entry.number)
)
"""All entries, by number."""


def find_entry(name: str) -> Entry:
    """The entry of that name. Raises `ConfigError` that suggests the nearest ones."""
    entries = {entry.name: entry for entry in (*CATALOGUE, VIRTUAL_DAY)}
    if name not in entries:
        near = difflib.get_close_matches(name, entries, 3) or ["all"]
        raise ConfigError(
            "name", name, "is not in the catalogue",
            mend=f"use one of {near}; `feedhandler faults list` shows all",
        )  # fmt: skip
    return entries[name]
