"""JSON in which numbers have the digits that they are given, as venues write them."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["Digits", "as_number", "encode_digits"]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Digits(str):
    """A JSON number as it is to be written."""

    __slots__ = ()


def as_number(value: Any, *, decimals: int = 0) -> Any:
    """The text of a number as that number, with at least so many `decimals`; all else as it is."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    whole, _, fraction = value.partition(".")
    if decimals > len(fraction) and "e" not in value.lower():
        return Digits(f"{whole}.{fraction:0<{decimals}}")
    return Digits(value)


def encode_digits(node: Any) -> str:
    """Compact JSON of `node`, in which `Digits` are numbers."""
    if isinstance(node, Digits):
        return str(node)
    if isinstance(node, dict):
        members = (f"{json.dumps(str(key))}:{encode_digits(item)}" for key, item in node.items())
        return f"{{{','.join(members)}}}"
    if isinstance(node, list | tuple):
        return f"[{','.join(map(encode_digits, node))}]"
    return json.dumps(node)
