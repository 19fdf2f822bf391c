"""Bitstamp's list of markets: the part of `feedhandler.venues.bitstamp` that reads it.

Source: www.bitstamp.net/api, *Markets* (``/api/v2/markets/``). What came before it, *Trading pairs
info* (``/api/v2/trading-pairs-info/``), is read too: recordings hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from feedhandler.codec import parse_amount
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["parse_markets"]

_MAX_DECIMALS = 100


class _Market(msgspec.Struct):
    name: str = ""  # BTC/USD, BTC/USD-PERP
    market_symbol: str = ""
    url_symbol: str = ""  # as the older list calls it
    base_currency: str = ""
    counter_currency: str = ""
    base_decimals: int | None = None
    counter_decimals: int | None = None
    tick_size: str | None = None
    trading: str = ""
    market_type: str = "SPOT"


def parse_markets(venue: str, bodies: Sequence[bytes]) -> Instruments:
    """The list in the bodies of the answers. Raises `DecodeError`."""
    items: list[Instrument] = []
    for body in bodies:
        try:
            markets = msgspec.json.decode(body, type=list[_Market])
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise DecodeError(venue, body, [("$", f"no list of markets: {error}")]) from error
        for i, market in enumerate(markets):
            try:
                items.append(_instrument(market))
            except (ValueError, ConfigError) as error:
                raise DecodeError(venue, body, [(f"$[{i}]", str(error))]) from error
    return Instruments(items, venue=venue)


def _instrument(market: _Market) -> Instrument:
    theirs = market.market_symbol or market.url_symbol
    base, _, quote = market.name.partition("/")
    base, quote = market.base_currency or base, market.counter_currency or quote
    if not (theirs and base and quote):
        raise ValueError("a market without a symbol, or without its two currencies")
    perpetual = market.market_type.upper() == "PERPETUAL" or theirs.endswith("-perp")
    kind = InstrumentKind.PERPETUAL if perpetual else InstrumentKind.SPOT
    quote = quote.removesuffix("-PERP")
    tick = None if market.tick_size is None else parse_amount(market.tick_size)
    return Instrument(
        canonical_symbol(base, quote, kind),
        theirs,
        base.upper(),
        quote.upper(),
        kind,
        active=market.trading == "Enabled",
        price_increment=tick or _step(market.counter_decimals),
        size_increment=_step(market.base_decimals),
    )


def _step(decimals: int | None) -> Decimal | None:
    if decimals is None:
        return None
    if not 0 <= decimals <= _MAX_DECIMALS:
        raise ValueError(f"{decimals} decimal places")
    return Decimal(1).scaleb(-decimals)
