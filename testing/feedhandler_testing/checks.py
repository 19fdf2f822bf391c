"""Validators for the values that faults, triggers and steps are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from attrs import Attribute

from feedhandler.errors import ConfigError

__all__ = [
    "at_least",
    "between",
    "check_seed",
    "finite",
    "header_pairs",
    "http_status",
    "latin_1",
    "not_negative",
    "one_of",
    "positive",
    "probability",
]

if TYPE_CHECKING:
    _Validator = Callable[[Any, Attribute[Any], Any], None]
else:  # where a tool asks for it: attrs' class takes no parameter when it runs
    _Validator = Callable[..., None]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def not_negative(_: object, attribute: Attribute[Any], value: Any) -> None:
    """A finite number, 0 or over."""
    if not _is_number(value) or value < 0:
        raise ConfigError(
            attribute.name, value, "must be a finite number, not negative", mend="use 0 or more"
        )


def positive(_: object, attribute: Attribute[Any], value: Any) -> None:
    """A finite number over 0."""
    if not _is_number(value) or value <= 0:
        raise ConfigError(
            attribute.name, value, "must be a finite number over 0", mend="use for example 1.0"
        )


def probability(_: object, attribute: Attribute[Any], value: Any) -> None:
    """A number over 0 and at most 1."""
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigError(
            attribute.name, value, "must be over 0 and at most 1", mend="use for example 0.1"
        )


def finite(_: object, attribute: Attribute[Any], value: Any) -> None:
    """A finite number."""
    if not _is_number(value):
        raise ConfigError(
            attribute.name, value, "must be a finite number", mend="use for example 2.0"
        )


def between(low: int, high: int) -> _Validator:
    """A whole number from `low` to `high`."""

    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(
                attribute.name, value, f"must be a whole number from {low} to {high}",
                mend=f"use for example {low}",
            )  # fmt: skip

    return check


def latin_1(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Text that HTTP can carry (RFC 9110, section 5.5)."""
    try:
        value.encode("latin-1")
    except (AttributeError, UnicodeError):
        raise ConfigError(attribute.name, value, "must be Latin-1 text", mend="use ASCII") from None


def header_pairs(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Pairs of a header's name and value."""
    for pair in value:
        if not (len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ConfigError(
                attribute.name, value, "must be pairs of a name and a value",
                mend='use for example (("Retry-After", "7"),)',
            )  # fmt: skip
        for part in pair:
            latin_1(None, attribute, part)


def at_least(minimum: int) -> _Validator:
    """A whole number, `minimum` or over."""

    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ConfigError(
                attribute.name, value, f"must be a whole number, at least {minimum}",
                mend=f"use for example {max(minimum, 1)}",
            )  # fmt: skip

    return check


def one_of(choices: Collection[str]) -> _Validator:
    """One of some words."""

    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if value not in choices:
            raise ConfigError(
                attribute.name, value, "is no choice", mend=f"use one of {sorted(choices)}"
            )

    return check


def http_status(_: object, attribute: Attribute[Any], value: Any) -> None:
    """The status of an HTTP response that does not upgrade the connection."""
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        raise ConfigError(
            attribute.name, value, "is no status that rejects", mend="use one from 200 to 599"
        )


def check_seed(seed: object) -> None:
    """A seed is a whole number."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError("seed", seed, "must be a whole number", mend="use for example 7")
