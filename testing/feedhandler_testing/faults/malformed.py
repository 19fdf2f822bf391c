"""Faults of the venue's messages themselves: what can't be decoded, or is not what it was."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, ClassVar

from attrs import field, frozen

from feedhandler.errors import ConfigError
from feedhandler_testing.checks import at_least, one_of
from feedhandler_testing.faults.base import Act, Fault, Later, Layer, Payload
from feedhandler_testing.prices import encode_message, is_data

__all__ = [
    "BadJson",
    "BadNumber",
    "BinaryGarbage",
    "EmptyMessage",
    "ExtraField",
    "FrameInside",
    "HtmlMessage",
    "InflationBomb",
    "MissingField",
    "Truncated",
    "UnknownType",
    "WrongType",
]


_BAD_JSON: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "colon": lambda text: text.replace('":', '"=', 1),
        "trailing_comma": lambda text: f"{text[:-1]},}}",
        "single_quotes": lambda text: text.replace('"', "'"),
        "bare_key": lambda text: text.replace('"', "", 2),
        "garbage_after": lambda text: f"{text}]",
        "two_documents": lambda text: text + text,
        "control_character": lambda text: text.replace('":"', '":"\x00', 1),
        "lone_surrogate": lambda text: text.replace('":"', '":"\\ud800', 1),
        "nesting": lambda text: "[" * 10_000 + text,
        "not_an_object": lambda text: f"[{text}]",
    }
)


@frozen
class BadJson(Fault):
    """A message is no JSON, or none that a message can be: a missing ``colon``, a
    ``trailing_comma``, and so on, or `how` drawn at random (``any``)."""

    layer: ClassVar[Layer] = Layer.VENUE

    how: str = field(default="colon", validator=one_of(("any", *_BAD_JSON)))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not is_data(message):
            return None
        how = act.rng.choice(sorted(_BAD_JSON)) if self.how == "any" else self.how
        text = act.text_of(message)
        if text is None:
            return None
        spoiled = _BAD_JSON[how](text)
        # What a venue's own text does not have can't be spoiled in it.
        return [spoiled if spoiled != text else _BAD_JSON["trailing_comma"](text)]


@frozen
class Truncated(Fault):
    """A message is JSON that ends in its middle."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        text = act.text_of(message) if is_data(message) else None
        return None if text is None else [text[: len(text) // 2]]


@frozen
class MissingField(Fault):
    """A message lacks a field that it must have."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (is_data(message) and self.name in message):
            return None
        text = act.respelled(message, self.name, None)
        return None if text is None else [text]


@frozen
class WrongType(Fault):
    """A field is of another type: a list in the place of a value."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (is_data(message) and self.name in message):
            return None
        text = act.respelled(message, self.name, lambda value: [value])
        return None if text is None else [text]


def _no_amount(_: object, __: object, text: object) -> None:
    try:
        amount = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return
    if amount is None or (amount.is_finite() and amount > 0):
        raise ConfigError(
            "text", text, "must be text that is no possible price", mend='use "NaN" or "-1"'
        )


@frozen
class BadNumber(Fault):
    """A price is no possible number: ``NaN``, an infinity, negative, words."""

    layer: ClassVar[Layer] = Layer.VENUE

    text: str = field(default="NaN", validator=_no_amount)
    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (is_data(message) and self.name in message):
            return None
        text = act.respelled(message, self.name, lambda _: self.text)
        return None if text is None else [text]


@frozen
class HtmlMessage(Fault):
    """A web page comes in the place of a message."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return ["<html><body>502 Bad Gateway</body></html>"] if is_data(message) else None


@frozen
class EmptyMessage(Fault):
    """An empty message comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return ["", message] if is_data(message) else None


@frozen
class BinaryGarbage(Fault):
    """A binary message of `size` random bytes comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    size: int = field(default=64, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [act.rng.randbytes(self.size), message] if is_data(message) else None


@frozen
class FrameInside(Fault):
    """The bytes of a frame's header stand in the middle of the JSON (a desync)."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        text = act.text_of(message) if is_data(message) else None
        if text is None:
            return None
        half = len(text) // 2
        return [text[:half] + "\x01~\x00\x7f" + text[half:]]


@frozen
class UnknownType(Fault):
    """A message of a kind that nobody knows comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    type: str = "announcement"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return (
            [encode_message({"type": self.type, "text": "new!"}), message]
            if is_data(message)
            else None
        )


@frozen
class ExtraField(Fault):
    """A message has a field that was not there before."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "venue_flags"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [{**message, self.name: {"new": [1, 2]}}] if is_data(message) else None


@frozen
class InflationBomb(Fault):
    """A compressed message (gzip, RFC 1952) inflates to `size` bytes."""

    layer: ClassVar[Layer] = Layer.VENUE

    size: int = field(default=64 << 20, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not is_data(message):
            return None
        text = act.text_of(message)
        if text is None:
            return None
        # A fixed time in its header: the same bytes in each run.
        return [gzip.compress(text.encode() + b" " * self.size, mtime=0)]
