"""Messages of a venue, made wrong in every way: a session gives events or `DecodeError`, no more.

```python
report = fuzz_session(venue.session, corpus, runs=1_000_000, seed=7)
```
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from attrs import frozen

from feedhandler.abc import Control, Session
from feedhandler.errors import DecodeError
from feedhandler.model import BookDelta, BookSnapshot, Event

__all__ = ["FuzzReport", "fuzz_session", "mutant_of"]

_VALUES = (
    "null", "true", "false", "0", "-1", "-0.0", "1e400", "1e-400", "-1e999", "1E+999999999999",
    "9" * 40, "0." + "1" * 60, '""', '"NaN"', '"Infinity"', '"1_000"', '" 1"', '"١٢"', '"-5"',
    "[]", "[[]]", "{}", '{"a":1}', "[" * 2000, '"\\ud800"', "1e1000000", '"\\u0000"',
)  # fmt: skip
_BYTES = (b"\x00", b"\xff", b'"', b"[", b"]", b"{", b"}", b",", b"-", b".", b"e", b"9", b"\\")


@frozen
class FuzzReport:
    """How many mutants there were, and what became of them."""

    runs: int
    refused: int
    events: int


def mutant_of(message: str, rng: random.Random) -> str | bytes:
    """`message`, changed in one to three places."""
    data = message.encode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _CHANGES[rng.randrange(len(_CHANGES))](data, rng)
    try:
        return data.decode() if rng.random() < 0.8 else data
    except UnicodeDecodeError:
        return data


def fuzz_session(
    make: Callable[[], Session], corpus: Sequence[str], *, runs: int, seed: int
) -> FuzzReport:
    """Feed sessions with whole messages of `corpus` and mutants of them, `runs` in all.

    Every session gets the corpus in order, each message followed by mutants, so that there is a
    state to be damaged. Raises `AssertionError` for whatever is no event, control or `DecodeError`.
    """
    rng = random.Random(seed)
    done = refused = events = 0
    while done < runs:
        session = make()
        for message in corpus:
            for data in (message, *(mutant_of(message, rng) for _ in range(4))):
                done += 1
                try:
                    items = session.decode(data, recv_ns=done, epoch=1)
                except DecodeError:
                    refused += 1
                    continue
                except Exception as error:
                    raise AssertionError(f"{error!r} from {data!r:.2000}, seed {seed}") from error
                events += len(items)
                for item in items:
                    _check(item, data)
    return FuzzReport(done, refused, events)


def _check(item: object, data: str | bytes) -> None:
    if not isinstance(item, Event | Control):
        raise AssertionError(f"{item!r} from {data!r:.2000}")
    if isinstance(item, BookSnapshot | BookDelta):
        least = 0 if isinstance(item, BookDelta) else Decimal("1e-999")
        for price, size in (*item.bids, *item.asks):
            if not (price.is_finite() and size.is_finite() and price > 0 and size >= least):
                raise AssertionError(f"{size} at {price} from {data!r:.2000}")


# --- ways to be wrong ----------------------------------------------------------------------------


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_BYTES) + data[at:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 1, 2, 8)) :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _double(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data) + 1)
    end = min(len(data), begin + rng.randrange(1, 40))
    return data[:end] + data[begin:end] + data[end:]


def _digit(data: bytes, rng: random.Random) -> bytes:
    places = [i for i, byte in enumerate(data[:4000]) if 48 <= byte <= 57]
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + str(rng.randrange(10)).encode() + data[at + 1 :]


def _restructure(data: bytes, rng: random.Random) -> bytes:
    """Change the JSON itself: a value for another one, a member away, twice, or renamed."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, rng)
    places: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        _collect(document, places)
    if not places:
        return rng.choice(_VALUES).encode()
    node, key = rng.choice(places)
    what = rng.randrange(5)
    marked = None
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, list):
        node.insert(key, node[key])
    elif what == 2 and isinstance(node, dict):
        node[f"{key}x"] = node.pop(key)
    elif what == 3:
        other, name = rng.choice(places)
        if other is not node:
            node[key] = f"{other!r:.20}{name!r:.10}"
    else:
        marked = rng.choice(_VALUES)
        node[key] = "@@"
    text = json.dumps(document, separators=(",", ":"))
    return (text if marked is None else text.replace('"@@"', marked)).encode("utf-8", "replace")


def _collect(node: Any, places: list[tuple[Any, Any]]) -> None:
    keys = [*node] if isinstance(node, dict) else range(min(len(node), 30))
    for key in keys:
        places.append((node, key))
        if isinstance(node[key], dict | list):
            _collect(node[key], places)


_CHANGES = (_flip, _insert, _delete, _cut, _double, _digit, _restructure, _restructure)
