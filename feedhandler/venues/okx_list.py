"""OKX's lists of instruments (okx.com/docs-v5, *Public Data*, "Get instruments").

One list for each type. Contracts are named by their family, such as ``BTC-USD``, because two
families can share an underlying. Options are left out: their lists come by family only.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from attrs import frozen

from feedhandler._core.fields import date_of, listed, time_of
from feedhandler.codec import FastDecoder, parse_amount
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["URLS_OF_LISTS", "parse_lists"]

_URL = "https://www.okx.com/api/v5/public/instruments?instType="
URLS_OF_LISTS = (f"{_URL}SPOT", f"{_URL}SWAP", f"{_URL}FUTURES")
_KINDS = {
    "SPOT": InstrumentKind.SPOT,
    "SWAP": InstrumentKind.PERPETUAL,
    "FUTURES": InstrumentKind.FUTURE,
}


@frozen
class _Listed:
    instType: str  # noqa: N815  # the venue's names, here and below
    instId: str  # noqa: N815
    state: str
    baseCcy: str = ""  # noqa: N815
    quoteCcy: str = ""  # noqa: N815
    instFamily: str = ""  # noqa: N815
    uly: str = ""
    expTime: str = ""  # noqa: N815
    tickSz: str = ""  # noqa: N815
    lotSz: str = ""  # noqa: N815


@frozen
class _State:
    code: str
    msg: str = ""


@frozen
class _Answer:
    data: list[_Listed]


def parse_lists(venue: str, bodies: Sequence[bytes]) -> Instruments:
    """Raises `DecodeError`, also for an answer that is the venue's error."""
    found: list[Instrument] = []
    for body in bodies:
        state = FastDecoder(_State, venue=venue, amounts_as_text=True).decode(body)
        if state.code != "0":
            raise DecodeError(venue, body, [("$.msg", f"{state.code} {state.msg:.200}")])
        lines = FastDecoder(_Answer, venue=venue, amounts_as_text=True).decode(body).data
        found += [one for one in map(_instrument, lines) if one is not None]
    return listed(venue, bodies, lambda: Instruments(found, venue=venue))


def _instrument(one: _Listed) -> Instrument | None:
    """`None` for one that can't be named: of a kind that is not followed, or without an expiry."""
    kind = _KINDS.get(one.instType)
    expiry = date_of(time_of(one.expTime)) if kind is InstrumentKind.FUTURE else None
    base, quote = one.baseCcy, one.quoteCcy
    if kind is not InstrumentKind.SPOT:
        base, _, quote = (one.instFamily or one.uly).partition("-")
    if kind is None or not (base and quote) or (kind is InstrumentKind.FUTURE and expiry is None):
        return None
    return Instrument(
        canonical_symbol(base, quote, kind, expiry=expiry),
        one.instId,
        base,
        quote,
        kind,
        one.state == "live",
        _step(one.tickSz),
        _step(one.lotSz),
    )


def _step(text: str) -> Decimal | None:
    try:
        return parse_amount(text) or None
    except ValueError:
        return None
