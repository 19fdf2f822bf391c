"""The messages of Kraken's WebSocket API v1, as they are on the wire (sources: see `kraken_v1`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from feedhandler.model import Side
from feedhandler.venues.kraken_pairs import amount

__all__ = ["Body", "Entry", "levels_of", "merged", "top_of", "trades_of"]

_SIDES = {"b": Side.BUY, "s": Side.SELL}
_TIME = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)


class Entry(NamedTuple):
    price: Decimal
    size: Decimal
    time: str
    kind: str = ""


class Body(msgspec.Struct, gc=False):
    """A snapshot has `as` and `bs`; an update has `a` or `b`, and in its last body `c`."""

    as_: list[Entry] | None = msgspec.field(default=None, name="as")
    bs: list[Entry] | None = None
    a: list[Entry] = []
    b: list[Entry] = []
    c: str | None = None


def _rows(
    value: object, path: str, least: int, problems: list[tuple[str, str]]
) -> Iterator[list[Any]]:
    """The rows of a list, each of at `least` so many values."""
    if not isinstance(value, list):
        problems.append((path, "expected a list"))
        return
    for i, row in enumerate(value):
        if isinstance(row, list) and len(row) >= least:
            yield row
        else:
            problems.append((f"{path}[{i}]", f"expected a list of {least} values or more"))


def top_of(body: object, side: str, problems: list[tuple[str, str]]) -> tuple[Decimal, Decimal]:
    """Price and size (in lots) of a ticker's side."""
    row = body.get(side) if isinstance(body, dict) else None
    path = f"$[1].{side}"
    if not isinstance(row, list) or len(row) < 3:
        problems.append((path, "expected price, whole lots and lots"))
        return Decimal(0), Decimal(0)
    return amount(row[0], f"{path}[0]", problems), amount(row[2], f"{path}[2]", problems)


def _time_ns(value: object, path: str, problems: list[tuple[str, str]]) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        problems.append((path, f"expected seconds since the epoch, got {value!r:.40}"))
        return 0
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def levels_of(value: object, path: str, problems: list[tuple[str, str]]) -> list[list[Decimal]]:
    """Price and size of each row of a book's side."""
    return [
        [amount(row[k], f"{path}[{i}][{k}]", problems) for k in (0, 1)]
        for i, row in enumerate(_rows(value, path, 3, problems))
    ]


def merged(bodies: Sequence[object], problems: list[tuple[str, str]]) -> dict[str, Any]:
    """The one or two bodies of a book's message as one."""
    whole: dict[str, Any] = {}
    for i, body in enumerate(bodies, start=1):
        if not isinstance(body, dict):
            problems.append((f"$[{i}]", "expected an object"))
            continue
        problems += [(f"$[{i}].{key:.20}", "is there twice") for key in body if key in whole]
        whole.update(body)
    return whole


def trades_of(
    value: object, problems: list[tuple[str, str]]
) -> Iterator[tuple[Decimal, Decimal, Side, int]]:
    """Price, size, the taker's side and time of each trade."""
    for i, row in enumerate(_rows(value, "$[1]", 4, problems)):
        path = f"$[1][{i}]"
        price, size = (amount(row[k], f"{path}[{k}]", problems) for k in (0, 1))
        if not (price and size):
            problems.append((path, "a price or a size of 0"))
        time_ns = _time_ns(row[2], f"{path}[2]", problems)
        side = _SIDES.get(row[3]) if isinstance(row[3], str) else None
        if side is None:
            problems.append((f"{path}[3]", f"expected 'b' or 's', got {row[3]!r:.40}"))
        else:
            yield price, size, side, time_ns
