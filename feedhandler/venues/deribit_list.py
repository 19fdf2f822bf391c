"""Deribit's lists of instruments (docs.deribit.com, `public/get_instruments`).

One list for each kind. The quote in a canonical symbol is what the venue calls the counter
currency: an option on BTC is priced in BTC, and is named ``BTC-USD-…``. Combinations are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from attrs import frozen

from feedhandler._core.fields import Problems, date_of, listed
from feedhandler.codec import FastDecoder, parse_amount
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["URLS_OF_LISTS", "parse_lists"]

_URL = "https://www.deribit.com/api/v2/public/get_instruments?currency=any&kind="
URLS_OF_LISTS = (f"{_URL}future", f"{_URL}option", f"{_URL}spot")
_RIGHTS: dict[str, Literal["C", "P"]] = {"call": "C", "put": "P"}


@frozen
class _Listed:
    instrument_name: str
    kind: str
    base_currency: str
    counter_currency: str = ""
    quote_currency: str = ""
    settlement_period: str = ""
    expiration_timestamp: int = 0
    option_type: str = ""
    strike: Any = None
    is_active: Any = True
    tick_size: Any = None
    min_trade_amount: Any = None


@frozen
class _State:
    error: Any = None


@frozen
class _Answer:
    result: list[_Listed]


def parse_lists(venue: str, bodies: Sequence[bytes]) -> Instruments:
    """Raises `DecodeError`, also for an answer that is the venue's error."""
    decode = msgspec.json.Decoder(_Answer, float_hook=Decimal).decode
    strict = FastDecoder(_Answer, venue=venue)
    found: list[Instrument] = []
    for body in bodies:
        state = FastDecoder(_State, venue=venue, amounts_as_text=True).decode(body)
        if state.error is not None:
            raise DecodeError(venue, body, [("$.error", str(state.error)[:200])])
        try:
            lines = decode(body).result
        except msgspec.MsgspecError:
            lines = strict.decode_strictly(body).result
        problems = Problems()
        for i, line in enumerate(lines):
            one = _instrument(line, f"$.result[{i}]", problems)
            if one is not None:
                found.append(one)
        problems.check(venue, body)
    return listed(venue, bodies, lambda: Instruments(found, venue=venue))


def _instrument(one: _Listed, path: str, problems: Problems) -> Instrument | None:
    """`None` for one that can't be named: of a kind that is not followed, or without an expiry."""
    kind = {
        "spot": InstrumentKind.SPOT,
        "future": InstrumentKind.FUTURE,
        "option": InstrumentKind.OPTION,
    }.get(one.kind)
    if kind is InstrumentKind.FUTURE and one.settlement_period == "perpetual":
        kind = InstrumentKind.PERPETUAL
    quote = one.counter_currency or one.quote_currency
    if kind is None or not (one.base_currency and quote):
        return None
    dated = kind in (InstrumentKind.FUTURE, InstrumentKind.OPTION)
    expiry = date_of(one.expiration_timestamp) if dated else None
    strike = right = None
    if kind is InstrumentKind.OPTION:
        strike, right = _step(one.strike), _RIGHTS.get(one.option_type)
        if strike is None or right is None:
            problems.add(path, "an option without a strike, or neither call nor put")
            return None
    if dated and expiry is None:
        problems.add(f"{path}.expiration_timestamp", "no time")
        return None
    return Instrument(
        canonical_symbol(one.base_currency, quote, kind, expiry=expiry, strike=strike, right=right),
        one.instrument_name,
        one.base_currency,
        quote,
        kind,
        one.is_active is True,
        _step(one.tick_size),
        _step(one.min_trade_amount),
    )


def _step(value: Any) -> Decimal | None:
    try:
        return (value if isinstance(value, Decimal) else parse_amount(value)) or None
    except ValueError:
        return None
