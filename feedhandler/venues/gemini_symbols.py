"""Gemini's list of symbols: the part of `feedhandler.venues.gemini` that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from attrs import frozen

from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["parse_symbols"]


@frozen
class _Details:
    symbol: str
    base_currency: str
    quote_currency: str
    tick_size: Decimal | None = None  # the step of sizes, whatever it is called
    quote_increment: Decimal | None = None  # the step of prices
    status: str = "open"
    product_type: str = "spot"


def parse_symbols(venue: str, bodies: Sequence[bytes]) -> Instruments:
    """The list in the bodies of the answers. Raises `DecodeError`.

    A body is the list of all, the details of one symbol, or the bare names, which say nothing more.
    """
    decoder = msgspec.json.Decoder(list[_Details | str] | _Details)
    items: list[Instrument] = []
    for body in bodies:
        try:
            found = decoder.decode(body)
            listed = found if isinstance(found, list) else [found]
            items += [_instrument(one) for one in listed if isinstance(one, _Details)]
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise DecodeError(venue, body, [("$", f"no list of symbols: {error}")]) from error
        except ConfigError as error:
            raise DecodeError(venue, body, [("$", str(error))]) from error
    if not items:
        raise DecodeError(venue, b"".join(bodies), [("$", "a list without a symbol")])
    try:
        return Instruments(items, venue=venue)
    except ConfigError as error:
        raise DecodeError(venue, b"".join(bodies), [("$", str(error))]) from error


def _instrument(details: _Details) -> Instrument:
    # In earlier years there was no `product_type`; the names of swaps end as they do now.
    swap = details.product_type == "swap" or details.symbol.upper().endswith("PERP")
    kind = InstrumentKind.PERPETUAL if swap else InstrumentKind.SPOT
    base, quote = details.base_currency, details.quote_currency
    return Instrument(
        canonical_symbol(base, quote, kind),
        details.symbol.upper(),
        base.upper(),
        quote.upper(),
        kind,
        active=details.status not in ("closed", "cancel_only"),
        price_increment=details.quote_increment,
        size_increment=details.tick_size,
    )
