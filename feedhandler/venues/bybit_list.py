"""Bybit's list of instruments (bybit-exchange.github.io/docs/v5, *Get Instruments Info*).

The list of a category comes whole, in a page of at most 1,000; in 2026-08 there were 800 contracts.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from attrs import Factory, frozen

from feedhandler._core.fields import date_of, listed, time_of
from feedhandler.codec import FastDecoder, parse_amount
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["parse_list", "url_of_list"]


@frozen
class _Listed:
    symbol: str
    baseCoin: str  # noqa: N815  # the venue's names, here and below
    quoteCoin: str  # noqa: N815
    status: str
    contractType: str = ""  # noqa: N815
    deliveryTime: str = "0"  # noqa: N815
    priceFilter: dict[str, Any] = Factory(dict)  # noqa: N815
    lotSizeFilter: dict[str, Any] = Factory(dict)  # noqa: N815


_Lines = list[_Listed]  # in `_Result` the word has another meaning


@frozen
class _Result:
    category: str
    list: _Lines


@frozen
class _State:
    retCode: int  # noqa: N815
    retMsg: str = ""  # noqa: N815


@frozen
class _Answer:
    result: _Result


def url_of_list(category: str) -> str:
    return f"https://api.bybit.com/v5/market/instruments-info?category={category}&limit=1000"


def parse_list(venue: str, category: str, bodies: Sequence[bytes]) -> Instruments:
    """Raises `DecodeError`, also for an answer that is the venue's error."""
    found: list[Instrument] = []
    for body in bodies:
        state = FastDecoder(_State, venue=venue, amounts_as_text=True).decode(body)
        if state.retCode != 0:
            raise DecodeError(venue, body, [("$.retMsg", f"{state.retCode} {state.retMsg:.200}")])
        result = FastDecoder(_Answer, venue=venue, amounts_as_text=True).decode(body).result
        if result.category != category:
            told = f"expected {category}, got {result.category:.20}"
            raise DecodeError(venue, body, [("$.result.category", told)])
        found += [one for one in map(_instrument, result.list) if one is not None]
    return listed(venue, bodies, lambda: Instruments(found, venue=venue))


def _instrument(one: _Listed) -> Instrument | None:
    kind, expiry = InstrumentKind.SPOT, None
    if one.contractType.endswith("Perpetual"):
        kind = InstrumentKind.PERPETUAL
    elif one.contractType:
        kind, expiry = InstrumentKind.FUTURE, date_of(time_of(one.deliveryTime))
        if expiry is None:
            return None  # nothing that could be named
    return Instrument(
        canonical_symbol(one.baseCoin, one.quoteCoin, kind, expiry=expiry),
        one.symbol,
        one.baseCoin,
        one.quoteCoin,
        kind,
        one.status == "Trading",
        _step(one.priceFilter.get("tickSize")),
        _step(one.lotSizeFilter.get("qtyStep") or one.lotSizeFilter.get("basePrecision")),
    )


def _step(value: object) -> Decimal | None:
    try:
        return parse_amount(value) or None
    except ValueError:
        return None
