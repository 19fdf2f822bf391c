"""A venue's instruments: canonical symbols and the venue's own names, mapped both ways.

Canonical symbols are the same on every venue::

    BTC-USD                     spot
    BTC-USDT-PERP               perpetual swap
    BTC-USD-20260327            future, with the date of its expiry
    BTC-USD-20260327-60000-C    option: expiry, strike, call or put
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import cattrs
import msgspec
from attrs import evolve, field, frozen
from cattrs.errors import BaseValidationError

from feedhandler.codec import parse_amount
from feedhandler.errors import ConfigError, DecodeError, UnknownSymbol

__all__ = ["Instrument", "InstrumentKind", "Instruments", "canonical_symbol"]

FORMAT = "feedhandler-instruments"
VERSION = 1
_NEAREST = 3


class InstrumentKind(enum.Enum):
    """What is traded."""

    SPOT = "spot"
    PERPETUAL = "perpetual"
    FUTURE = "future"
    OPTION = "option"


@frozen
class Instrument:
    """One line of a venue's list: the canonical `symbol`, and what the venue calls it.

    It is not `active` where it can't be traded now: halted, not yet open, delisted. Increments are
    the smallest steps of price and size, `None` where the venue names none.
    """

    symbol: str
    venue_symbol: str
    base: str
    quote: str
    kind: InstrumentKind
    active: bool = True
    price_increment: Decimal | None = None
    size_increment: Decimal | None = None


def canonical_symbol(
    base: str,
    quote: str,
    kind: InstrumentKind = InstrumentKind.SPOT,
    *,
    expiry: date | None = None,
    strike: Decimal | None = None,
    right: Literal["C", "P"] | None = None,
) -> str:
    """The canonical name: in capitals, and of the parts that its `kind` has.

    Futures have an `expiry`; options have that, a `strike` and a `right` (call or put). Raises
    `ConfigError` where one is missing.
    """
    parts = [base.upper(), quote.upper()]
    if kind is InstrumentKind.PERPETUAL:
        parts.append("PERP")
    elif kind is not InstrumentKind.SPOT:
        parts.append(f"{_needed('expiry', expiry, kind):%Y%m%d}")
    if kind is InstrumentKind.OPTION:
        # Without an exponent, and without the zeros that venues append.
        digits = f"{_needed('strike', strike, kind):f}"
        parts.append(digits.rstrip("0").rstrip(".") if "." in digits else digits)
        parts.append(_needed("right", right, kind))
    return "-".join(parts)


def _needed(name: str, value: Any, kind: InstrumentKind) -> Any:
    if value is None:
        raise ConfigError(name, value, f"a symbol of kind {kind.value} needs it", mend="name it")
    return value


def _each_once(items: Iterable[Instrument]) -> tuple[Instrument, ...]:
    return tuple(dict.fromkeys(items))


@frozen(cache_hash=True, repr=False)
class Instruments:
    """A venue's list, as of `fetched_ns` (nanoseconds since the epoch; `None`: not fetched).

    `in` asks for a canonical symbol that can be used. Raises `ConfigError` where one of the venue's
    names stands for two different instruments. A canonical symbol that stands for two active ones
    can't be used; all others can.
    """

    _items: tuple[Instrument, ...] = field(converter=_each_once)
    venue: str = field(default="", kw_only=True)
    fetched_ns: int | None = field(default=None, kw_only=True)
    _named: Mapping[str, tuple[Instrument, ...]] = field(init=False, eq=False)
    _usable: Mapping[str, Instrument] = field(init=False, eq=False)
    _venue_named: Mapping[str, Instrument] = field(init=False, eq=False)
    _symbols: dict[str, str] = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        named: dict[str, tuple[Instrument, ...]] = {}
        venue_named: dict[str, Instrument] = {}
        for one in self._items:
            named[one.symbol] = (*named.get(one.symbol, ()), one)
            if venue_named.setdefault(one.venue_symbol, one) is not one:
                raise ConfigError(
                    "instruments", one.venue_symbol, "the venue's name stands for two instruments",
                    mend="list each once, and those of another market in a list of their own",
                )  # fmt: skip
        usable = {}
        for symbol, those in named.items():
            active = [one for one in those if one.active]
            if len(active) == 1:
                usable[symbol] = active[0]
        symbols = {one.venue_symbol: one.symbol for one in usable.values()}
        for name, value in (
            ("_named", named),
            ("_usable", usable),
            ("_venue_named", venue_named),
            ("_symbols", symbols),
        ):
            object.__setattr__(self, name, value)  # this class is frozen

    def __repr__(self) -> str:
        return f"<Instruments {self.venue or '?'} {len(self)} fetched_ns={self.fetched_ns}>"

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._usable

    @property
    def symbols(self) -> Mapping[str, str]:
        """The venue's names and their canonical symbols, of all that can be used."""
        return MappingProxyType(self._symbols)

    def by_symbol(self, symbol: str) -> Instrument:
        """The instrument of a canonical symbol. Raises `UnknownSymbol`, which names the nearest."""
        found = self._usable.get(symbol)
        if found is not None:
            return found
        rule = None
        listed = self._named.get(symbol, ())
        if any(one.active for one in listed):
            both = " and ".join(one.venue_symbol for one in listed if one.active)
            rule = f"{self.venue or 'the venue'} has more than one such instrument: {both}"
        elif listed:
            rule = f"{self.venue or 'the venue'} lists it as not active: halted or delisted"
        raise UnknownSymbol(
            self.venue or "the venue", symbol, nearest=self.nearest(symbol), rule=rule
        )

    def by_venue_symbol(self, name: str) -> Instrument | None:
        """The instrument that the venue calls so, active or not."""
        return self._venue_named.get(name)

    def nearest(self, symbol: str) -> list[str]:
        """Up to three canonical symbols that may have been meant, the likeliest first."""
        plain = _plain(symbol)
        same = [
            one.symbol
            for one in self._usable.values()
            if plain and plain in (_plain(one.venue_symbol), _plain(one.symbol))
        ]
        if same:
            return same[:_NEAREST]
        return difflib.get_close_matches(symbol.upper(), self._usable, n=_NEAREST, cutoff=0.6)

    def stamped(self, *, venue: str, fetched_ns: int) -> Instruments:
        """The same list, with whose it is and when it was fetched."""
        return evolve(self, venue=venue, fetched_ns=fetched_ns)

    # --- as a file ---

    def dumps(self) -> str:
        """The list as JSON text, one instrument a line, which `loads()` reads."""
        head = {"format": FORMAT, "version": VERSION, "venue": self.venue}
        head_text = msgspec.json.encode({**head, "fetched_ns": self.fetched_ns}).decode()
        lines = ",\n".join(
            msgspec.json.encode(_CONVERTER.unstructure(one)).decode() for one in self._items
        )
        return f'{head_text[:-1]},"instruments":[\n{lines}\n]}}\n'

    @classmethod
    def loads(cls, text: str | bytes) -> Instruments:
        """Read what `dumps()` wrote. Raises `DecodeError` that says what is wrong and where."""
        problem = None
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise DecodeError(FORMAT, text, [("$", f"not JSON: {error}")]) from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            problem = ("$.format", f"this is no file of format {FORMAT!r}")
        elif document.get("version") != VERSION:
            told = document.get("version")
            problem = ("$.version", f"version {told!r} can't be read, only {VERSION}")
        if problem is not None:
            raise DecodeError(FORMAT, text, [problem])
        try:
            read = _CONVERTER.structure(document, _File)
            return cls(read.instruments, venue=read.venue, fetched_ns=read.fetched_ns)
        except BaseValidationError as group:
            raise DecodeError(FORMAT, text, _problems(group)) from group
        except ConfigError as error:
            raise DecodeError(FORMAT, text, [("$.instruments", str(error))]) from error


def _plain(name: str) -> str:
    """A name without what venues put between its parts."""
    return "".join(letter for letter in name.upper() if letter.isalnum())


# --- the file ------------------------------------------------------------------------------------


@frozen
class _File:
    venue: str
    fetched_ns: int | None
    instruments: list[Instrument]


def _exactly(needed: type, told: str) -> Any:
    def hook(value: Any, _: Any) -> Any:
        # True is an int for Python, and is none here.
        if type(value) is not needed:
            raise ValueError(f"expected {told}, got {value!r:.40}")
        return value

    return hook


def _text(value: Any, _: Any) -> str:
    if not (isinstance(value, str) and value):
        raise ValueError(f"expected text that is not empty, got {value!r:.40}")
    return value


def _kind(value: Any, _: Any) -> InstrumentKind:
    try:
        return InstrumentKind(value)
    except ValueError:
        known = ", ".join(kind.value for kind in InstrumentKind)
        raise ValueError(f"expected one of {known}, got {value!r:.40}") from None


def _build_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _exactly(int, "a whole number"))
    converter.register_structure_hook(Decimal, lambda value, _: parse_amount(value))
    converter.register_structure_hook(InstrumentKind, _kind)
    one = converter.get_structure_hook(Instrument)

    def instrument(value: Any, kind: Any) -> Any:
        return one(_exactly(dict, "an object")(value, kind), kind)

    converter.register_structure_hook(Instrument, instrument)
    items = converter.get_structure_hook(list[Instrument])

    def instruments(value: Any, kind: Any) -> Any:
        return items(_exactly(list, "a list")(value, kind), kind)

    converter.register_structure_hook_func(lambda t: t == list[Instrument], instruments)
    converter.register_unstructure_hook(Decimal, str)
    return converter


_CONVERTER = _build_converter()


def _problems(group: BaseValidationError) -> list[tuple[str, str]]:
    problems = []
    for line in cattrs.transform_error(group, format_exception=_format):
        message, _, path = line.rpartition(" @ ")
        problems.append((path, message))
    return problems


def _format(error: BaseException, _: type | None) -> str:
    return f"missing: {error.args[0]}" if isinstance(error, KeyError) else str(error)
