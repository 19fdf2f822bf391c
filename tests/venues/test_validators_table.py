"""How books are checked: the table is true of every session, and told in the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedhandler import venue_by_name
from feedhandler._core.books import SessionBooks
from feedhandler._core.validators import Unchecked, Validator
from feedhandler.instruments import Instruments
from feedhandler.venues import VALIDATORS, VENUES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "venues.md"


def validators_in(thing: object, seen: set[int], depth: int = 0) -> list[Validator]:
    """Those of all books that a session keeps, wherever it keeps them."""
    if id(thing) in seen or depth > 4:
        return []
    seen.add(id(thing))
    if isinstance(thing, SessionBooks):
        return [thing._validator]
    if not type(thing).__module__.startswith("feedhandler"):
        return []
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    own = [*getattr(thing, "__dict__", {}).values()]
    own += [getattr(thing, name) for name in names if hasattr(thing, name)]
    return [found for item in own for found in validators_in(item, seen, depth + 1)]


@pytest.mark.parametrize("name", VENUES)
def test_each_venue_checks_its_books_as_the_table_says(name: str) -> None:
    url = "ws://host/" if name == "price" else None
    venue: Any = venue_by_name(name, url=url)
    if hasattr(venue, "with_instruments"):
        venue = venue.with_instruments(Instruments(()))
    found = validators_in(venue.session(), set())
    if name == "bitfinex":  # it counts only once the venue has confirmed that it will
        assert found in ([VALIDATORS[name]], [Unchecked()])
    else:
        assert found == [VALIDATORS[name]]


def test_every_venue_has_a_validator_and_a_row_on_the_page() -> None:
    assert VALIDATORS.keys() == VENUES.keys()
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {name for line in rows for name in line.split("|")[1].replace("`", "").split(", ")}
    assert {name.strip() for name in told} == {*VENUES}
    for name, validator in VALIDATORS.items():
        (row,) = [line for line in rows if f"`{name}`" in line.split("|")[1]]
        assert ("UNVERIFIABLE" in row) == isinstance(validator, Unchecked)
