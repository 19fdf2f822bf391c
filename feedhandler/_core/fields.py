"""Single fields of a venue's message: judged one by one, with all that is wrong with them named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Generic, TypeVar

import msgspec

from feedhandler.codec import (
    MAX_AMOUNT,
    MIN_AMOUNT,
    REFUSALS,
    FastDecoder,
    are_plain,
    check_amount,
    parse_amount,
)
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instruments

__all__ = [
    "MS",
    "NumberReader",
    "Problems",
    "SymbolNames",
    "are_amounts",
    "date_of",
    "encode",
    "listed",
    "plain",
    "time_of",
]

T = TypeVar("T")

MS = 1_000_000  # nanoseconds
_LAST_MS = 253_402_300_799_999  # of the year 9999
_SHOWN = 40  # characters of what a venue sent, in what is told of it


def encode(message: Mapping[str, object]) -> str:
    return msgspec.json.encode(message).decode()


def are_amounts(*values: Decimal) -> bool:
    """Whether each is a price or a size that can be, and not zero."""
    try:
        return all(MIN_AMOUNT <= value <= MAX_AMOUNT for value in values)
    except ArithmeticError:  # a NaN
        return False


def plain(decode: Callable[[str], T], message: str | bytes, *, guarded: bool = True) -> T | None:
    """`message` decoded the fast way, or `None`: then it has to be judged the slow way.

    `guarded` says that a string in it may be taken for a number (`feedhandler.codec.are_plain`).
    """
    try:
        text = message.decode() if isinstance(message, bytes) else message
        return decode(text) if not guarded or are_plain((text,)) else None
    except REFUSALS:
        return None


def date_of(time_ms: int | None) -> date | None:
    """The day (UTC) of a time in milliseconds; `None` where there can't be one."""
    if time_ms is None or not 0 < time_ms <= _LAST_MS:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()


def time_of(text: str) -> int | None:
    """A venue's text for a time in milliseconds; `None` where it names none."""
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_MS))
    return int(text) if digits else None


class Problems:
    """What is wrong with a message, each with its path; a `DecodeError` once all was looked at."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        self.found.append((path, message))

    def amount(self, value: object, path: str, *, zero: bool = False) -> Decimal:
        """A price or a size, digit for digit, from a JSON string or number."""
        try:
            amount = check_amount(value) if isinstance(value, Decimal) else parse_amount(value)
        except ValueError as error:
            self.add(path, str(error))
            return Decimal(1)  # never seen: a message with problems is refused whole
        if not (amount or zero):
            self.add(path, "zero")
        return amount

    def time_ns(self, value: object, path: str) -> int:
        """Nanoseconds, from milliseconds as a number or as text of digits."""
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
            value = int(value)
        return self.count(value, path) * MS

    def count(self, value: object, path: str) -> int:
        """A whole number that is not negative and has 64 bits."""
        if isinstance(value, bool) or not isinstance(value, int):
            self.add(path, f"expected a whole number, got {value!r:.{_SHOWN}}")
            return 0
        if not 0 <= value < 2**63:
            self.add(path, f"out of range: {value:.3g}" if abs(value) < 1e300 else "out of range")
            return 0
        return value

    def check(self, venue: str, raw: str | bytes) -> None:
        """Raises `DecodeError` where something was found."""
        if self.found:
            raise DecodeError(venue, raw, self.found)


class NumberReader(Generic[T]):
    """Decodes messages whose amounts are JSON numbers into the attrs class `kind`.

    There they are fields of type `Any`, so that a string is seen to be none: those with a point or
    an exponent come as `Decimal`s of their digits (or, the slow way, as their text, which is a
    `str` of another type), whole ones as `int`s.
    """

    def __init__(self, kind: type[T], venue: str) -> None:
        self._fast = msgspec.json.Decoder(kind, float_hook=Decimal).decode
        self._strict = FastDecoder(kind, venue=venue)

    def __call__(self, message: str | bytes) -> T:
        """Raises `DecodeError`."""
        found = plain(self._fast, message, guarded=False)
        return self._strict.decode_strictly(message) if found is None else found


class SymbolNames:
    """A venue's names and canonical symbols; without a list of instruments each is its own."""

    def __init__(self, instruments: Instruments | None) -> None:
        self._instruments = instruments
        self._ours: Mapping[str, str] = {} if instruments is None else instruments.symbols

    def theirs(self, symbol: str) -> str:
        """Raises `UnknownSymbol`."""
        known = self._instruments
        return symbol if known is None else known.by_symbol(symbol).venue_symbol

    def ours(self, name: str) -> str | None:
        """The symbol of the venue's `name`; `None` where it is not in the list."""
        return (name or None) if self._instruments is None else self._ours.get(name)


def listed(venue: str, bodies: Sequence[bytes], make: Callable[[], Instruments]) -> Instruments:
    """The list that `make` makes; what can't be one list is a `DecodeError`, too."""
    try:
        return make()
    except ConfigError as error:
        raise DecodeError(venue, bodies[0] if bodies else b"", [("$", str(error))]) from error
