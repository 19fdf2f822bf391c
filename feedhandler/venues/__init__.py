"""The venues, by name. Each is one value; none knows another."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from feedhandler._core.validators import (
    ByChecksum,
    ByConnection,
    ByCount,
    ByPrevious,
    ByPreviousId,
    ByRange,
    Unchecked,
    Validator,
)
from feedhandler.abc import Dialer, Venue
from feedhandler.errors import ConfigError
from feedhandler.venues.binance import Binance
from feedhandler.venues.binance_futures import BinanceFutures
from feedhandler.venues.bitfinex import Bitfinex
from feedhandler.venues.bitstamp import Bitstamp
from feedhandler.venues.bybit import Bybit
from feedhandler.venues.coinbase import Coinbase
from feedhandler.venues.deribit import Deribit
from feedhandler.venues.gemini import Gemini
from feedhandler.venues.kraken import Kraken
from feedhandler.venues.kraken_v1 import KrakenV1
from feedhandler.venues.okx import OKX
from feedhandler.venues.price import PriceVenue

__all__ = ["VALIDATORS", "VENUES", "venue_by_name"]


def _price(url: str | None, dial: Dialer | None) -> Venue:
    if url is None:
        raise ConfigError(
            "url", None, "the venue 'price' has no address of its own",
            mend="give one, for example 'ws://127.0.0.1:8765/'",
        )  # fmt: skip
    return PriceVenue(url, dial=dial)


def _of(make: Callable[..., Any], **settings: Any) -> Callable[[str | None, Dialer | None], Venue]:
    """Makes the venue, at its own address unless another is given."""

    def venue(url: str | None, dial: Dialer | None) -> Venue:
        given = settings if url is None else {**settings, "url": url}
        made: Venue = make(dial=dial, **given)
        return made

    return venue


VENUES: Mapping[str, Callable[[str | None, Dialer | None], Venue]] = MappingProxyType(
    {
        "binance": _of(Binance),
        "binance_futures": _of(BinanceFutures),
        "bitfinex": _of(Bitfinex),
        "bitstamp": _of(Bitstamp),
        "bybit": _of(Bybit),
        "bybit_spot": _of(Bybit, category="spot"),
        "coinbase": _of(Coinbase),
        "deribit": _of(Deribit),
        "gemini": _of(Gemini),
        "kraken": _of(Kraken),
        "kraken_v1": _of(KrakenV1),
        "okx": _of(OKX),
        "price": _price,
    }
)


# How each venue lets its books be checked; docs/venues.md says what that detects.
VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "binance": ByRange(),
        "binance_futures": ByPrevious(),
        "bitfinex": ByConnection(),
        "bitstamp": Unchecked(),
        "bybit": ByCount(),
        "bybit_spot": ByCount(),
        "coinbase": ByConnection(),
        "deribit": ByPreviousId(),
        "gemini": Unchecked(),
        "kraken": ByChecksum(),
        "kraken_v1": ByChecksum(),
        "okx": ByPreviousId(),
        "price": ByCount(checked=True),
    }
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
