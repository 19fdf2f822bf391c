"""Scenarios as JSON and TOML: to and from files, with one error that names the path and the mend.

A value is a table; `kind` names its class: ``{"kind": "stall", "pongs": true}``. What is at its
default is left out.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from feedhandler.errors import ConfigError
from feedhandler_testing.faults import Fault, fault_kinds, kind_of
from feedhandler_testing.scenario import (
    Cut,
    Expect,
    Finish,
    Inject,
    Repair,
    Scenario,
    Serve,
    Step,
    Wait,
)
from feedhandler_testing.triggers import (
    All,
    At,
    Bytes,
    Messages,
    Now,
    OnConnection,
    OnEvent,
    Trigger,
)

__all__ = [
    "fault_from_dict",
    "fault_to_dict",
    "load_scenario",
    "save_scenario",
    "scenario_from_dict",
    "scenario_from_json",
    "scenario_from_toml",
    "scenario_to_dict",
    "scenario_to_json",
    "scenario_to_toml",
]

_STEPS: Mapping[str, type] = {kind_of(c): c for c in (Serve, Wait, Cut, Inject, Repair, Finish)}
_TRIGGERS: Mapping[str, type] = {
    kind_of(c): c for c in (Now, At, Messages, Bytes, OnConnection, OnEvent, All)
}


# --- to plain data -------------------------------------------------------------------------------


def scenario_to_dict(scenario: Scenario) -> dict[str, Any]:
    """A scenario as plain dicts, lists, strings and numbers."""
    document: dict[str, Any] = _plain(scenario)
    return document


def scenario_to_json(scenario: Scenario) -> str:
    """A scenario as JSON text."""
    return json.dumps(scenario_to_dict(scenario), indent=2) + "\n"


def scenario_to_toml(scenario: Scenario) -> str:
    """A scenario as TOML text. Needs tomli-w."""
    import tomli_w

    return tomli_w.dumps(scenario_to_dict(scenario))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if not attrs.has(type(value)):
        return value
    told = {} if isinstance(value, Scenario | Expect) else {"kind": kind_of(type(value))}
    for one in attrs.fields(type(value)):
        given = getattr(value, one.name)
        default = one.default.factory() if isinstance(one.default, _FACTORY) else one.default
        if given != default:
            told[one.name] = _plain(given)
    return told


_FACTORY: Any = type(attrs.Factory(list))


# --- from plain data -----------------------------------------------------------------------------


def scenario_from_dict(document: object) -> Scenario:
    """Structure a scenario. Raises `ConfigError` that names the path of what is wrong."""
    scenario: Scenario = _structure(document, Scenario)
    return scenario


def fault_to_dict(fault: Fault) -> dict[str, Any]:
    """A fault as plain dicts, lists, strings and numbers; `kind` names its class."""
    document: dict[str, Any] = _plain(fault)
    return document


def fault_from_dict(document: object) -> Fault:
    """Structure one fault. Raises `ConfigError` that names the path of what is wrong."""
    fault: Fault = _structure(document, Fault)
    return fault


def scenario_from_json(text: str | bytes) -> Scenario:
    """Read a scenario from JSON. Raises `ConfigError`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("scenario", _start(text), f"is no JSON: {error}", mend=_MEND) from error
    return scenario_from_dict(document)


def scenario_from_toml(text: str) -> Scenario:
    """Read a scenario from TOML. Raises `ConfigError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("scenario", _start(text), f"is no TOML: {error}", mend=_MEND) from error
    return scenario_from_dict(document)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario from a file, TOML if it is named ``.toml``, else JSON.

    Raises `ConfigError`, or `OSError` where the file can't be read.
    """
    if path.suffix == ".toml":
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError("scenario", str(path), "is not UTF-8", mend=_MEND) from error
        return scenario_from_toml(text)
    return scenario_from_json(path.read_bytes())


def save_scenario(scenario: Scenario, path: Path) -> None:
    """Write a scenario to a file, TOML if it is named ``.toml``, else JSON."""
    to_text = scenario_to_toml if path.suffix == ".toml" else scenario_to_json
    path.write_text(to_text(scenario), "utf-8")


_MEND = "write one with save_scenario(), or see docs/scenarios.md"


def _start(text: str | bytes) -> str:
    return repr(text[:40])


class _Wrong(ValueError):
    """A value that can't be structured: what it is, and what to do instead."""

    def __init__(self, value: object, rule: str, mend: str) -> None:
        super().__init__(rule)
        self.value = value
        self.rule = rule
        self.mend = mend


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    structure_of: dict[type, Callable[[Any, Any], Any]] = {}

    def structure_class(value: Any, kind: type) -> Any:
        if not isinstance(value, Mapping):
            raise _Wrong(value, "must be a table", f"give the fields of {kind.__name__}")
        if kind not in structure_of:
            structure_of[kind] = make_dict_structure_fn(
                kind, converter, _cattrs_forbid_extra_keys=True
            )
        needed = [
            one.name
            for one in attrs.fields(kind)
            if one.default is attrs.NOTHING and one.name not in value
        ]
        if needed:
            names = [one.name for one in attrs.fields(kind)]
            raise _Wrong(dict(value), f"{needed[0]} is missing", f"{kind_of(kind)} takes {names}")
        for name, hint in typing.get_type_hints(kind).items():
            if isinstance(value.get(name), str) and _origin(hint) is tuple:
                raise _Wrong(value[name], f"{name} must be a list", f"use [{value[name]!r}]")
        return structure_of[kind](value, kind)

    def one_of(kinds: Callable[[], Mapping[str, type]], what: str) -> Callable[[Any, Any], Any]:
        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, Mapping) or "kind" not in value:
                raise _Wrong(value, f"is no {what}: it has no kind", f'use {{"kind": "{example}"}}')
            known = kinds()
            name = value["kind"]
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 3) or sorted(known)
                raise _Wrong(name, f"is no {what}", f"use one of {near}")
            rest = {key: item for key, item in value.items() if key != "kind"}
            return structure_class(rest, known[name])

        example = next(iter(kinds()))
        return structure

    def exactly(*kinds: type) -> Callable[[Any, Any], Any]:
        names = " or ".join(kind.__name__ for kind in kinds)

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise _Wrong(value, f"must be {names}", f"use a value of type {names}")
            return value

        return structure

    def is_union(kind: Any) -> bool:
        return _origin(kind) in (typing.Union, types.UnionType)

    def union(value: Any, kind: Any) -> Any:
        members = typing.get_args(kind)
        if Step in members:
            return one_of(lambda: {**_STEPS, **fault_kinds()}, "step")(value, kind)
        if value is None and types.NoneType in members:
            return None
        (rest,) = [member for member in members if member is not types.NoneType]
        return converter.structure(value, rest)

    def literal(value: Any, kind: Any) -> Any:
        choices = typing.get_args(kind)
        if value not in choices:
            raise _Wrong(value, "is no choice", f"use one of {list(choices)}")
        return value

    converter.register_structure_hook_func(is_union, union)
    converter.register_structure_hook_func(lambda kind: _origin(kind) is typing.Literal, literal)
    converter.register_structure_hook(bool, exactly(bool))
    converter.register_structure_hook(int, exactly(int))
    converter.register_structure_hook(float, exactly(int, float))
    converter.register_structure_hook(str, exactly(str))
    converter.register_structure_hook_func(
        lambda kind: _origin(kind) is Mapping,
        exactly(dict),
    )
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and kind in (Scenario, Expect), structure_class
    )
    converter.register_structure_hook_func(lambda kind: kind is Fault, one_of(fault_kinds, "fault"))
    converter.register_structure_hook_func(
        lambda kind: kind is Trigger, one_of(lambda: _TRIGGERS, "trigger")
    )
    return converter


def _structure(document: object, kind: type) -> Any:
    try:
        return _converter().structure(document, kind)
    except (BaseValidationError, ForbiddenExtraKeysError, _Wrong, ConfigError) as error:
        path, cause = next(_causes(error, "$"))
        raise _as_config_error(path, cause) from error


def _causes(error: BaseException, path: str) -> Iterator[tuple[str, BaseException]]:
    """The errors behind a group, each with the path that cattrs has noted."""
    if not isinstance(error, BaseExceptionGroup):
        yield path, error
        return
    for one in error.exceptions:
        here = path
        for note in getattr(one, "__notes__", []):
            name = getattr(note, "name", None)
            index = getattr(note, "index", None)
            if name is not None:
                here = f"{path}.{name}"
            elif index is not None:
                here = f"{path}[{index}]"
        yield from _causes(one, here)


def _as_config_error(path: str, cause: BaseException) -> ConfigError:
    if isinstance(cause, _Wrong):
        return ConfigError(path, cause.value, cause.rule, mend=cause.mend)
    if isinstance(cause, ConfigError):
        return ConfigError(f"{path}.{cause.name}", cause.value, cause.rule, mend=cause.mend)
    if isinstance(cause, ForbiddenExtraKeysError):
        known = [one.name for one in attrs.fields(cause.cl)]
        extra = sorted(cause.extra_fields)
        near = difflib.get_close_matches(extra[0], known, 1)
        return ConfigError(
            f"{path}.{extra[0]}", extra[0], f"{kind_of(cause.cl)} has no such parameter",
            mend=f"use {near[0]!r}" if near else f"use some of {known}",
        )  # fmt: skip
    return ConfigError(path, str(cause), "cannot be used", mend=_MEND)
