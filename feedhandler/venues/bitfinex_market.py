"""What Bitfinex trades, allows and expects: its list of pairs, and what their names stand for.

Sources, on docs.bitfinex.com: *Configs* (``conf/pub:list:pair:exchange`` and
``conf/pub:list:pair:futures``: a list within a list; it has no increments, and only what is
traded), *Public Channels* (25 channels on a connection, 20 connects a minute), *Requirements and
Limitations* (10 to 90 REST requests a minute), *WS General, Info Codes*, *General, Supported Pairs*
(a ``t`` before the pair; capitals). Six letters are two codes of three, all others have a colon.
Perpetual contracts have the suffix ``F0`` on both codes. UST is Tether, which all others call USDT,
and BCHN is BCH; other codes are left as the venue has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feedhandler.abc import Control, Ignored, ReconnectRequested
from feedhandler.codec import read_json
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol
from feedhandler.traits import Limits, VenueTraits

__all__ = ["LIST_URLS", "TRAITS", "check_depth", "instrument_of", "notice_of", "parse_lists"]

_LIST = "https://api-pub.bitfinex.com/v2/conf/pub:list:pair:"
LIST_URLS = (f"{_LIST}exchange", f"{_LIST}futures")
_PERPETUAL = "F0"
_COMMON = {"UST": "USDT", "BCHN": "BCH"}
_RECONNECT = (20051, 20061)  # 20061: after maintenance all is to be subscribed to anew
_DEPTHS = (25, 100, 250)  # 1 would leave nothing for the checksum
TRAITS = VenueTraits(
    limits=Limits(
        subscriptions=25, per_message=1, connects_per_minute=20.0, requests_per_minute=10.0
    ),
    silence_s=20.0,  # a heartbeat on each channel every 15 s
)


def check_depth(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or value not in _DEPTHS:
        raise ConfigError(
            "depth", value, "is none of the depths that the venue has", mend=f"use one of {_DEPTHS}"
        )


def instrument_of(pair: str) -> Instrument | None:
    """The instrument of a pair's name, without the ``t``; `None` where it is no such name."""
    base, colon, quote = pair.partition(":")
    if not colon:
        base, quote = pair[:3], pair[3:]
        if len(pair) != 6:
            return None
    if not (base.isalnum() and quote.isalnum() and pair.isascii() and pair == pair.upper()):
        return None
    kind = InstrumentKind.SPOT
    if base.endswith(_PERPETUAL) and quote.endswith(_PERPETUAL):
        kind = InstrumentKind.PERPETUAL
        base, quote = base.removesuffix(_PERPETUAL), quote.removesuffix(_PERPETUAL)
    base, quote = _COMMON.get(base, base), _COMMON.get(quote, quote)
    if not (base and quote):
        return None
    return Instrument(canonical_symbol(base, quote, kind), f"t{pair}", base, quote, kind)


def parse_lists(bodies: Sequence[bytes], *, venue: str) -> Instruments:
    """The list in the answers of `LIST_URLS`. Raises `DecodeError`, with the venue's own words."""
    if len(bodies) != len(LIST_URLS):
        raise DecodeError(venue, b"", [("$", f"expected 2 answers, got {len(bodies)}")])
    found: list[Instrument] = []
    for body in bodies:
        match read_json(body, venue=venue):
            case [[*pairs]] if all(isinstance(pair, str) for pair in pairs):
                # What is named otherwise (such as a market of another kind) can't be had here.
                named = [instrument_of(pair) for pair in pairs]
                found += [one for one in named if one is not None]
            case ["error", code, words, *_]:
                raise DecodeError(venue, body, [("$", f"error {code}: {words!s:.200}")])
            case _:
                raise DecodeError(venue, body, [("$", "expected a list with a list of names")])
    if not found:
        raise DecodeError(venue, bodies[0], [("$", "a list without a pair")])
    try:
        return Instruments(found, venue=venue)
    except ConfigError as error:
        raise DecodeError(venue, bodies[0], [("$", str(error))]) from error


def notice_of(document: Mapping[str, object]) -> Control:
    """What an `info` event asks for, in the venue's own words."""
    code, words = document.get("code"), document.get("msg")
    told = f"{code}: {words}" if isinstance(words, str) else f"{code}"
    if code in _RECONNECT:
        return ReconnectRequested(told[:200])
    return Ignored(f"info {told if code else document.get('platform')}"[:200])
