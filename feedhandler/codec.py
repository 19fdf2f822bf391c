"""From bytes to typed messages, exactly; and naming all that is wrong with those that are not.

The fast way is msgspec, straight into attrs classes with `Decimal`s made from the sent digits.
When it refuses a message, cattrs with detailed validation names every wrong field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, get_origin

import cattrs
import msgspec
from attrs import frozen, has
from cattrs.cols import list_structure_factory
from cattrs.dispatch import StructureHook
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, mapping_structure_factory

from feedhandler.errors import DecodeError
from feedhandler.model import Level, PriceUpdate, Side

__all__ = [
    "MAX_AMOUNT",
    "MIN_AMOUNT",
    "REFUSALS",
    "FastDecoder",
    "PriceMessage",
    "PriceParser",
    "are_plain",
    "check_amount",
    "parse_amount",
    "parse_time_ns",
    "read_json",
]

T = TypeVar("T")

# JSON's numbers, and the forms with a bare point or a plus sign that some venues put in strings.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MAX_MAGNITUDE = 400  # powers of ten: what is beyond is no price, and unsafe to print
# Between these an amount is right; zero is too, but not worth a comparison on the fast way.
MIN_AMOUNT, MAX_AMOUNT = Decimal(f"1e-{_MAX_MAGNITUDE}"), Decimal(f"1e{_MAX_MAGNITUDE}")
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-]\d\d:\d\d))", re.ASCII
)


# What the fast way raises; the last two for what is neither text nor bytes.
REFUSALS = (
    msgspec.MsgspecError, UnicodeError, RecursionError, ArithmeticError, AttributeError, TypeError,
)  # fmt: skip


class FastDecoder(Generic[T]):
    """Decodes JSON into the attrs class `cls`. Fields that `cls` does not have are ignored.

    An amount is a `Decimal` field (a JSON string or number, of which every digit is kept), or a
    `str` field that is given to `parse_amount()`; `amounts_as_text` says that all are of the second
    kind. That is the faster one for a venue whose keys hold underscores.

    `fast` is a `msgspec.Struct` with the same fields, which is made where nothing is wrong, in the
    place of `cls`: it takes less time.
    """

    def __init__(
        self, cls: type[T], *, venue: str, amounts_as_text: bool = False, fast: type | None = None
    ) -> None:
        self._cls = cls
        self._guarded = not amounts_as_text
        self._venue = venue
        self._decode: Callable[[str | bytes], T] = msgspec.json.Decoder(fast or cls).decode

    def decode(self, data: str | bytes) -> T:
        """Decode one message. Raises `DecodeError` with the path of each wrong field."""
        try:
            if not self._guarded or _is_plain(data):
                return self._decode(data)
        except REFUSALS:
            pass
        return self.decode_strictly(data)

    def decode_strictly(self, data: str | bytes) -> T:
        """The slow way: judge every field by the text that was sent, and name all problems."""
        document = read_json(data, venue=self._venue)
        if not isinstance(document, dict):
            raise DecodeError(
                self._venue, data, [("$", f"expected an object, got {_kind(document)}")]
            )
        try:
            return _CONVERTER.structure(document, self._cls)
        except BaseValidationError as group:
            raise DecodeError(self._venue, data, _problems(group)) from group
        except RecursionError as error:
            raise DecodeError(self._venue, data, [("$", "nested too deeply")]) from error


class _NumberText(str):
    """A JSON number with a point or an exponent, as it was written."""

    __slots__ = ()


_read = msgspec.json.Decoder(Any, float_hook=_NumberText).decode


def read_json(data: str | bytes, *, venue: str) -> Any:
    """Any JSON, with every digit of its numbers: those with a point or an exponent stay text.

    Raises `DecodeError` for what is none.
    """
    try:
        given: object = data
        if not isinstance(given, str | bytes):
            kind = type(given).__name__
            raise DecodeError(venue, b"", [("$", f"expected text or bytes, got {kind}")])
        if not data:
            raise DecodeError(venue, data, [("$", "the message is empty")])
        return _read(data)
    except msgspec.DecodeError as error:
        raise DecodeError(venue, data, [("$", f"not JSON: {error}")]) from error
    except UnicodeError as error:
        raise DecodeError(venue, data, [("$", f"not UTF-8: {error}")]) from error
    except RecursionError as error:
        raise DecodeError(venue, data, [("$", "nested too deeply")]) from error


def are_plain(messages: Sequence[str | bytes]) -> bool:
    """Whether all of `messages` are text that the fast way alone judges right (`_is_plain`)."""
    try:
        return _is_plain("".join(messages))  # type: ignore[arg-type]  # bytes raise TypeError
    except TypeError:
        return False


def _is_plain(data: str | bytes) -> bool:
    """Whether no string in `data` can hold a number that only Python would take for one.

    `Decimal` accepts underscores, surrounding white space and digits of other scripts. A message
    of ASCII without underscores, escapes, and blanks next to quotes has none of these.
    """
    if isinstance(data, str):
        return (
            data.isascii()
            and "_" not in data
            and "\\" not in data
            # One letter is found much faster than two.
            and (" " not in data or ('" ' not in data and ' "' not in data))
        )
    return (
        data.isascii()
        and b"_" not in data
        and b"\\" not in data
        and (b" " not in data or (b'" ' not in data and b' "' not in data))
    )


# --- the strict way ------------------------------------------------------------------------------


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _NumberText() | int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def parse_amount(value: object) -> Decimal:
    """A finite `Decimal` that is not negative, from a JSON string or number, digit for digit."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected a number, got {_kind(value)}")
    return check_amount(parse_digits(str(value)))


def parse_digits(text: str) -> Decimal:
    """The number that `text` writes, digit for digit. Raises `ValueError`."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a finite decimal number: {text[:40]!r}")
    try:
        return Decimal(text)
    except ArithmeticError as error:
        raise ValueError(f"out of range: {text[:40]!r}") from error


def check_amount(value: Decimal) -> Decimal:
    """Return `value` if it is finite, not negative, and of a sane magnitude; else `ValueError`."""
    if not value.is_finite():
        raise ValueError(f"not finite: {value}")
    if value.is_signed() and value:
        raise ValueError(f"negative: {_told(value)}")
    if value and not MIN_AMOUNT <= value <= MAX_AMOUNT:
        raise ValueError(f"out of range: {_told(value)}")
    if not value and not -_MAX_MAGNITUDE <= value.as_tuple().exponent <= _MAX_MAGNITUDE:  # type: ignore[operator]  # an int, as it is finite
        raise ValueError("out of range: a zero with an absurd exponent")
    return value


def _told(value: Decimal) -> str:
    return str(value)[:40]


def parse_time_ns(value: object) -> int:
    """Nanoseconds since the epoch, from an integer of them or from RFC 3339 text, exactly."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"negative: {value}")
        return value
    if isinstance(value, _NumberText) or not isinstance(value, str):
        raise ValueError(f"expected a time, got {_kind(value)}")
    match = _TIME.fullmatch(value)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {value[:40]!r}")
    date, clock, fraction, offset = match.groups()
    moment = datetime.fromisoformat(f"{date}T{clock}{offset or '+00:00'}")
    if moment < _EPOCH:
        raise ValueError(f"before 1970: {value[:40]!r}")
    seconds = (moment - _EPOCH).days * 86_400 + (moment - _EPOCH).seconds
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  # reads as what it is


def _text(value: object, _: type) -> str:
    if isinstance(value, _NumberText) or not isinstance(value, str):
        raise ValueError(f"expected a string, got {_kind(value)}")
    return value


def _whole(value: object, _: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {_kind(value)}")
    return value


def _truth(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_kind(value)}")
    return value


def _literal(value: object, kind: Any) -> Any:
    if value not in kind.__args__ or isinstance(value, bool):
        allowed = ", ".join(map(repr, kind.__args__))
        raise ValueError(f"expected one of {allowed}, got {value!r:.40}")
    return value


def _member(value: object, kind: Any) -> Any:
    values = [member.value for member in kind]
    if value not in values or isinstance(value, _NumberText):
        raise ValueError(f"expected one of {', '.join(map(repr, values))}, got {value!r:.40}")
    return kind(value)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


def _is_run(kind: Any) -> bool:
    """A tuple of any length, of one kind."""
    return get_origin(kind) is tuple and kind.__args__[1:] == (Ellipsis,)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is dict


def _list_hook(kind: Any, converter: cattrs.Converter) -> StructureHook:
    # cattrs by itself takes any iterable, and so the letters of a string, for a list.
    return _only(list, "a list", list_structure_factory(kind, converter))


def _run_hook(kind: Any, converter: cattrs.Converter) -> StructureHook:
    items = _list_hook(list[kind.__args__[0]], converter)
    return lambda value, _: tuple(items(value, list))


def _level(value: object, _: type) -> Level:
    """Price and size, and whatever the venue puts after them."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {_kind(value)}")
    if len(value) < 2:
        raise ValueError(f"expected a price and a size, got {len(value)} values")
    amounts = []
    for name, amount in zip(("price", "size"), value, strict=False):
        try:
            amounts.append(parse_amount(amount))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Level(*amounts)


def _mapping_hook(kind: Any, converter: cattrs.Converter) -> StructureHook:
    return _only(dict, "an object", mapping_structure_factory(kind, converter))


def _class_hook(kind: Any, converter: cattrs.Converter) -> StructureHook:
    structure = make_dict_structure_fn(kind, converter)
    return _only(dict, "an object", structure)


def _only(needed: type, told: str, structure: StructureHook) -> StructureHook:
    def hook(value: Any, kind: Any) -> Any:
        if not isinstance(value, needed):
            raise ValueError(f"expected {told}, got {_kind(value)}")
        return structure(value, kind)

    return hook


def _build_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook_factory(_is_list, _list_hook)
    converter.register_structure_hook_factory(_is_run, _run_hook)
    converter.register_structure_hook_factory(_is_mapping, _mapping_hook)
    converter.register_structure_hook(Level, _level)
    converter.register_structure_hook_factory(has, _class_hook)
    converter.register_structure_hook(Decimal, lambda value, _: parse_amount(value))
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(bool, _truth)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_func(_is_enum, _member)
    converter.register_structure_hook_func(
        lambda t: t == int | str,
        lambda value, _: value if isinstance(value, str) else _whole(value, int),
    )
    return converter


_CONVERTER = _build_converter()


def _problems(group: BaseValidationError) -> list[tuple[str, str]]:
    """Each leaf of cattrs' tree of errors, with its path."""
    told = cattrs.transform_error(group, format_exception=_format)
    problems = []
    for line in told:
        message, _, path = line.rpartition(" @ ")
        problems.append((path, message))
    return problems


def _format(error: BaseException, _: type | None) -> str:
    if isinstance(error, KeyError):
        return f"missing: {error.args[0]}"
    return str(error) or type(error).__name__


# --- prices --------------------------------------------------------------------------------------


@frozen
class PriceMessage:
    """The plain price JSON, as it is on the wire."""

    symbol: str
    price: Decimal
    size: Decimal
    side: Side
    sequence: int
    time: int | str
    type: str = "price"


class PriceParser:
    """Parses the plain price JSON::

        {"symbol": "BTC-USD", "price": "65000.10", "size": "0.5", "side": "buy",
         "sequence": 17, "time": 1786309548629008000}

    `price` and `size` are strings or numbers, of which every digit is kept; they are finite and
    not negative. `time` is integer nanoseconds since the epoch, or RFC 3339 text. All these fields
    are required, and others are ignored.
    """

    def __init__(self, venue: str = "price") -> None:
        self._venue = venue
        self._decoder = FastDecoder(PriceMessage, venue=venue)

    def parse_json(self, data: str | bytes, *, recv_ns: int = 0, epoch: int = 0) -> PriceUpdate:
        """Parse one message; `recv_ns` and `epoch` are put into the result.

        Raises `DecodeError`, with the path of each wrong field and the start of `data`, and
        nothing else, whatever `data` is.
        """
        return self.to_update(self.decode(data), data, recv_ns=recv_ns, epoch=epoch)

    def decode(self, data: str | bytes) -> PriceMessage:
        """Parse one message as it is on the wire; what it says is not yet checked."""
        return self._decoder.decode(data)

    def to_update(
        self, message: PriceMessage, data: str | bytes, *, recv_ns: int, epoch: int
    ) -> PriceUpdate:
        """Check what `message`, decoded from `data`, says, and make it an event."""
        price, size, time, sequence = message.price, message.size, message.time, message.sequence
        if not (
            price.is_finite()
            and size.is_finite()
            and not price.is_signed()
            and not size.is_signed()
            and -_MAX_MAGNITUDE <= price.adjusted() <= _MAX_MAGNITUDE
            and -_MAX_MAGNITUDE <= size.adjusted() <= _MAX_MAGNITUDE
            and type(time) is int
            and time >= 0
            and sequence >= 0
            and message.symbol
        ):
            time = self._check(message, data)
        return PriceUpdate(
            message.symbol,
            price,
            size,
            message.side,
            sequence,
            time,
            recv_ns,
            self._venue,
            epoch,
        )

    def _check(self, message: PriceMessage, data: str | bytes) -> int:
        """Name all that is wrong; returns the time where nothing is."""
        problems: list[tuple[str, str]] = []
        time_ns = 0
        if not message.symbol:
            problems.append(("$.symbol", "empty"))
        for name, value in (("price", message.price), ("size", message.size)):
            try:
                check_amount(value)
            except ValueError as error:
                problems.append((f"$.{name}", str(error)))
        if message.sequence < 0:
            problems.append(("$.sequence", f"negative: {message.sequence}"))
        try:
            time_ns = parse_time_ns(message.time)
        except ValueError as error:
            problems.append(("$.time", str(error)))
        if problems:
            raise DecodeError(self._venue, data, problems)
        return time_ns

    def validate_price(self, price: Decimal) -> Decimal:
        """Return `price` if it is finite and not negative; else raise `DecodeError`."""
        try:
            if not isinstance(price, Decimal):
                raise ValueError(f"expected a Decimal, got {type(price).__name__}")
            return check_amount(price)
        except ValueError as error:
            raise DecodeError(self._venue, str(price), [("$.price", str(error))]) from error

    def preserve_precision(self, text: str) -> Decimal:
        """Return the number that `text` writes, digit for digit; else raise `DecodeError`.

        An exponent is kept as it is: ``1.50e3`` is ``Decimal("1.50E+3")``.
        """
        try:
            if not isinstance(text, str):
                raise ValueError(
                    f"expected text, got {type(text).__name__}: a float has lost digits"
                )
            return parse_digits(text)
        except ValueError as error:
            raise DecodeError(self._venue, str(text), [("$", str(error))]) from error
