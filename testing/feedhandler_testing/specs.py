"""Faults as compact text, for command lines: ``latency:delay_s=0.1,jitter_s=0.02@at_s=5``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

import attrs
from attrs import frozen

from feedhandler.errors import ConfigError
from feedhandler_testing.board import Injection
from feedhandler_testing.checks import positive
from feedhandler_testing.faults.base import Fault, fault_kinds, kind_of
from feedhandler_testing.triggers import AT_ONCE, All, At, Bytes, OnConnection, Trigger

__all__ = ["PlannedFault", "parse_fault"]

_WHEN: Mapping[str, type] = {
    "at_s": float,
    "after_bytes": int,
    "connection": int,
    "chance": float,
    "every": int,
    "times": int,
    "for_s": float,
}

_FIELDS = {"number": "connection"}  # what a trigger's own errors call a condition


@frozen
class PlannedFault:
    """A fault as it was asked for in `text`."""

    text: str
    injection: Injection


def parse_fault(text: str) -> PlannedFault:
    """Read ``NAME[:PARAMETER=VALUE,…][@WHEN=VALUE,…]``.

    NAME and the parameters are those of the fault's class: ``half_open`` is `HalfOpen`. WHEN is
    `at_s` (seconds from when it is put in place), `after_bytes` (sent to the client), `connection`
    (the nth alone), `chance`, `every`, `times` (0: any number), and `for_s` (taken away so many
    seconds after it has first acted). Conditions hold together. No blanks, and no word twice.

    Raises `ConfigError`, with the whole text and what is wrong with it, for all else.
    """
    head, at, when_text = text.partition("@")
    name, colon, parameters = head.partition(":")
    kinds = fault_kinds()
    kind = kinds.get(name)
    if kind is None:
        raise _wrong(text, f"there is no fault {name!r}", _nearest(name, kinds))
    given = _pairs(text, parameters) if colon else {}
    when = _pairs(text, when_text) if at else {}
    fields = {one.name: one for one in attrs.fields(kind) if one.init}
    hints = get_type_hints(kind)
    for word in given:
        if word not in fields:
            mend = _nearest(word, fields)
            if word in _WHEN:
                mend = f"conditions stand behind an @: {name}@{word}={given[word]}"
            raise _wrong(text, f"{name} has no parameter {word!r}", mend)
    for word, one in fields.items():
        if one.default is attrs.NOTHING and word not in given:
            raise _wrong(
                text,
                f"{name} needs the parameter {word!r}",
                f"write for example {name}:{word}=1000",
            )
    for word in when:
        if word not in _WHEN:
            mend = _nearest(word, _WHEN)
            if word in fields:
                mend = f"parameters stand before the @: {name}:{word}={when[word]}"
            raise _wrong(text, f"there is no condition {word!r}", mend)
    try:
        fault = kind(**{word: _value(word, said, hints[word]) for word, said in given.items()})
        return _planned(text, fault, {w: _value(w, said, _WHEN[w]) for w, said in when.items()})
    except ConfigError as error:
        named = _FIELDS.get(error.name, error.name)
        raise _wrong(text, f"{named}={error.value!r} {error.rule}", error.mend) from error


def _planned(text: str, fault: Fault, when: Mapping[str, Any]) -> PlannedFault:
    triggers: list[Trigger] = []
    if "at_s" in when:
        triggers.append(At(when["at_s"]))
    if "after_bytes" in when:
        triggers.append(Bytes(when["after_bytes"]))
    if "connection" in when:
        triggers.append(OnConnection(when["connection"]))
    for_s = when.get("for_s")
    if for_s is not None:
        positive(None, attrs.fields_dict(Injection)["for_s"], for_s)
        if not fault.lasting:
            raise ConfigError(
                "for_s", for_s, f"is for faults that last, and {kind_of(type(fault))} acts at once",
                mend="leave it out, or say how often it is to act with times=N",
            )  # fmt: skip
    injection = Injection(
        fault,
        All(triggers) if len(triggers) > 1 else triggers[0] if triggers else AT_ONCE,
        chance=when.get("chance", 1.0),
        every=when.get("every", 1),
        times=when.get("times"),
        for_s=for_s,
    )
    return PlannedFault(text, injection)


def _pairs(text: str, part: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in part.split(","):
        word, equals, value = pair.partition("=")
        if not (word and equals and value):
            raise _wrong(text, f"{pair!r} is no NAME=VALUE", "write for example delay_s=0.1")
        if word in pairs:
            raise _wrong(text, f"{word!r} is given twice", "give it once")
        pairs[word] = value
    return pairs


def _value(name: str, said: str, kind: Any) -> Any:
    if kind is bool:
        if said not in ("true", "false"):
            raise ConfigError(name, said, "is neither true nor false", mend="use true or false")
        return said == "true"
    if kind is int or kind is float:
        try:
            # Python's own numbers may hold blanks and underscores: slips of the hand here.
            return kind(said) if said.isascii() and not set(said) & set(" _") else kind("")
        except ValueError:
            rule, example = ("a whole number", "3") if kind is int else ("a number", "0.1")
            raise ConfigError(
                name, said, f"is not {rule}", mend=f"use for example {example}"
            ) from None
    return said


def _nearest(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if not known:
        return "leave it out"
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"


def _wrong(text: str, rule: str, mend: str) -> ConfigError:
    return ConfigError("fault", text, rule, mend=mend)
