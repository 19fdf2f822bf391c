"""What both of Kraken's WebSocket APIs have in common: its list of pairs, and the books' checksum.

Sources, on docs.kraken.com: *Get Tradable Asset Pairs* (``/0/public/AssetPairs``; `wsname` is the
pair's name in WebSockets v1, where BTC is XBT and DOGE is XDG; those without one are not streamed),
*Book checksum (v1)* and *(v2)* (CRC-32 of the ten best asks and then bids, each price and size by
the digits on the wire, without the point and without leading zeros), *WebSocket introduction*
(about 150 connects in 10 minutes from one address) and *Heartbeat* (each second where there is
nothing else to say).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

from feedhandler.book import OrderBook
from feedhandler.codec import parse_amount, read_json
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol
from feedhandler.model import Level
from feedhandler.traits import Limits, VenueTraits

__all__ = [
    "DEPTHS",
    "MAX_CHECKSUM",
    "PAIRS_URL",
    "TRAITS",
    "BookChecksum",
    "check_depth",
    "common_name",
    "parse_pairs",
]

PAIRS_URL = "https://api.kraken.com/0/public/AssetPairs"
DEPTHS = (10, 25, 100, 500, 1000)
MAX_CHECKSUM = 2**32 - 1
TRAITS = VenueTraits(
    limits=Limits(connects_per_minute=15.0, requests_per_minute=60.0),
    silence_s=10.0,  # ten heartbeats
)
_CHECKED = 10  # levels of each side that the checksum covers
_REMEMBERED = 8192  # levels whose digits are kept
# Kraken's names of currencies, and those that all others use.
_COMMON = {"XBT": "BTC", "XDG": "DOGE"}
# Of a pair without a status (the list did not have it before 2022) it is not said that it is shut.
_ACTIVE = ("online", "post_only", "limit_only", "reduce_only")


def common_name(pair: str) -> str:
    """``XBT/USD`` as ``BTC/USD``; what is no pair comes back as it is."""
    return "/".join(_COMMON.get(part, part) for part in pair.split("/"))


def check_depth(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or value not in DEPTHS:
        raise ConfigError(
            "depth", value, "is none of the depths that the venue has", mend=f"use one of {DEPTHS}"
        )


class BookChecksum:
    """The checksum of a book, from the digits that were sent.

    Where a number came with fewer decimals than its pair has (`decimals`: of price and of size, by
    symbol), the zeros that a JSON writer may have dropped are put back.
    """

    def __init__(self, decimals: Mapping[str, tuple[int, int]] | None = None) -> None:
        self._decimals = decimals or {}
        # By identity: the best levels are mostly those of the message before. A level that is kept
        # here lives, so no other one can have its identity.
        self._digits: dict[int, tuple[Level, str]] = {}

    def __repr__(self) -> str:
        return f"<BookChecksum {len(self._digits)} levels known>"

    def __call__(self, book: OrderBook) -> int:
        known = self._digits
        if len(known) > _REMEMBERED:
            known.clear()
        texts = []
        for levels in (book.asks(), book.bids()):
            for level in islice(levels, _CHECKED):
                found = known.get(id(level))
                if found is None:
                    found = known[id(level)] = level, self._text(book.symbol, level)
                texts.append(found[1])
        return zlib.crc32("".join(texts).encode())

    def _text(self, symbol: str, level: Level) -> str:
        price, size = self._decimals.get(symbol, (0, 0))
        return _digits(level.price, price) + _digits(level.size, size)


def _digits(amount: Decimal, decimals: int) -> str:
    """Without the point and without leading zeros; with at least so many `decimals`."""
    text = f"{amount:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}{fraction:0<{decimals}}".lstrip("0")


# --- the list of pairs ---------------------------------------------------------------------------


def parse_pairs(bodies: Sequence[bytes], *, venue: str, common: bool) -> Instruments:
    """The list in the answer of `PAIRS_URL`; v2 calls the currencies by their `common` names.

    An increment has as many decimals as the venue sends of such a number.
    """
    if len(bodies) != 1:
        raise DecodeError(venue, b"", [("$", f"expected one answer, got {len(bodies)}")])
    document = read_json(bodies[0], venue=venue)
    problems: list[tuple[str, str]] = []
    found: list[Instrument] = []
    result = document.get("result") if isinstance(document, dict) else None
    errors = document.get("error") if isinstance(document, dict) else None
    if errors:
        problems.append(("$.error", str(errors)[:200]))
    elif not isinstance(result, dict) or not result:
        problems.append(("$.result", "expected an object with the pairs"))
    else:
        for name, pair in result.items():
            try:
                if isinstance(pair, dict) and "wsname" not in pair:
                    continue  # not to be had over WebSockets
                found.append(_instrument(pair, common=common))
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                problems.append((f"$.result.{name[:40]}", f"{type(error).__name__}: {error}"))
    if problems:
        raise DecodeError(venue, bodies[0], problems[:20])
    try:
        return Instruments(found, venue=venue)
    except ConfigError as error:
        raise DecodeError(venue, bodies[0], [("$.result", str(error))]) from error


def _instrument(pair: Any, *, common: bool) -> Instrument:
    name = pair["wsname"]
    parts = name.split("/") if isinstance(name, str) else ()
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"wsname: expected BASE/QUOTE, got {name!r:.40}")
    base, quote = common_name(name).split("/")
    step = _step(pair["pair_decimals"])
    tick = parse_amount(pair["tick_size"]) if "tick_size" in pair else step
    return Instrument(
        canonical_symbol(base, quote),
        f"{base}/{quote}" if common else name,
        base,
        quote,
        InstrumentKind.SPOT,
        active=pair.get("status", "online") in _ACTIVE,
        price_increment=tick.quantize(step) if tick % step == 0 else tick,
        size_increment=_step(pair["lot_decimals"]),
    )


def _step(decimals: object) -> Decimal:
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= 20:
        raise ValueError(f"expected a number of decimals, got {decimals!r:.40}")
    return Decimal(1).scaleb(-decimals)
