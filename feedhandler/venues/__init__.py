"""The venues, by name. Each is one module and one value; none knows another."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from feedhandler.abc import Dialer, Venue
from feedhandler.errors import ConfigError
from feedhandler.venues.coinbase import Coinbase
from feedhandler.venues.price import PriceVenue

__all__ = ["VENUES", "venue_by_name"]


def _price(url: str | None, dial: Dialer | None) -> Venue:
    if url is None:
        raise ConfigError(
            "url", None, "the venue 'price' has no address of its own",
            mend="give one, for example 'ws://127.0.0.1:8765/'",
        )  # fmt: skip
    return PriceVenue(url, dial=dial)


def _coinbase(url: str | None, dial: Dialer | None) -> Venue:
    return Coinbase(dial=dial) if url is None else Coinbase(url, dial=dial)


VENUES: Mapping[str, Callable[[str | None, Dialer | None], Venue]] = MappingProxyType(
    {"coinbase": _coinbase, "price": _price}
)


def venue_by_name(name: str, *, url: str | None = None, dial: Dialer | None = None) -> Venue:
    """The venue called `name`, at `url` if it is not to be its own address.

    Raises `ConfigError`, which names the nearest and all known ones.
    """
    try:
        make = VENUES[name.lower()]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), VENUES, n=1)
        mend = f"did you mean {near[0]!r}?" if near else "check the spelling;"
        raise ConfigError(
            "venue", name, "is not known", mend=f"{mend} known are {', '.join(sorted(VENUES))}"
        ) from None
    return make(url, dial)
