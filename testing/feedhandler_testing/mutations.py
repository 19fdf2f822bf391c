"""Messages of a venue, spoiled at random: for holding its decoder to `DecodeError` and no other.

```python
spoiled = Mutator(Random(7), corpus)
for _ in range(10_000):
    message = spoiled.next()
```
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

__all__ = ["Mutator"]

_ODD: tuple[object, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**400, 0.1, -0.0, 1e308, "", " ", "0", "-1",
    "NaN", "Infinity", "1e999", "1_0", "٣", "\x00", "é", [], {}, [[]], [[[]]], {"a": 1}, "snapshot",
)  # fmt: skip


class Mutator:
    """Draws messages of `corpus`, and spoils each in one to three ways.

    Bytes are flipped, put in, taken out; the end is cut off; fields are swapped, doubled, left out,
    or given values that can't be; nesting gets deep and numbers huge.
    """

    def __init__(self, rng: Random, corpus: Sequence[str]) -> None:
        self._rng = rng
        self._corpus = corpus
        self._of_bytes: Sequence[Callable[[bytes], bytes]] = (
            self._flip, self._insert, self._delete, self._truncate, self._double, self._deepen,
            self._join,
        )  # fmt: skip

    def next(self) -> str | bytes:
        """The next one; as text, where it still is some, or as bytes."""
        rng = self._rng
        text = rng.choice(self._corpus)
        for _ in range(rng.choice((0, 1, 1, 2))):
            text = self._reshape(text)
        data = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.5:
            data = rng.choice(self._of_bytes)(data)
        if rng.random() < 0.1:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    # --- of the document ---

    def _reshape(self, text: str) -> str:
        """Change one field, wherever it is."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return text
        places: list[tuple[Any, Any]] = []
        _collect(document, places)
        if not places:
            return text
        rng = self._rng
        node, key = rng.choice(places)
        what = rng.random()
        if what < 0.2:
            del node[key]
        elif what < 0.4:
            other, its = rng.choice(places)
            node[key], other[its] = other[its], node[key]
        elif what < 0.5 and isinstance(node, list):
            node.append(node[key])
        elif what < 0.6:
            node[key] = self._nudged(node[key])
        else:
            node[key] = rng.choice(_ODD)
        try:
            return json.dumps(document, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
        except (ValueError, RecursionError):
            return text  # the swap has put it into itself

    def _nudged(self, value: Any) -> Any:
        """Nearly what it was."""
        rng = self._rng
        if isinstance(value, bool) or value is None:
            return not value
        if isinstance(value, int):
            return value + rng.choice((-2, -1, 1, 2, 10**6))
        if isinstance(value, float):
            return -value
        if isinstance(value, str) and value:
            position = rng.randrange(len(value))
            return value[:position] + rng.choice("0123456789.-e_ x") + value[position + 1 :]
        return value

    # --- of the bytes ---

    def _flip(self, data: bytes) -> bytes:
        position = self._rng.randrange(len(data) + 1)
        spoiled = bytearray(data or b"x")
        spoiled[min(position, len(spoiled) - 1)] ^= 1 << self._rng.randrange(8)
        return bytes(spoiled)

    def _insert(self, data: bytes) -> bytes:
        position = self._rng.randrange(len(data) + 1)
        return data[:position] + self._rng.randbytes(self._rng.randint(1, 4)) + data[position:]

    def _delete(self, data: bytes) -> bytes:
        position = self._rng.randrange(len(data) + 1)
        return data[:position] + data[position + self._rng.randint(1, 8) :]

    def _truncate(self, data: bytes) -> bytes:
        return data[: self._rng.randrange(len(data) + 1)]

    def _double(self, data: bytes) -> bytes:
        """A piece of it occurs twice: often a key."""
        begin = self._rng.randrange(len(data) + 1)
        end = data.find(b",", begin) + 1 or len(data)
        return data[:end] + data[begin:end] + data[end:]

    def _deepen(self, data: bytes) -> bytes:
        depth = self._rng.choice((10, 600, 5_000))
        position = data.find(b":", self._rng.randrange(len(data) + 1)) + 1
        return data[:position] + b"[" * depth + b"]" * depth + data[position:]

    def _join(self, data: bytes) -> bytes:
        return data + self._rng.choice(self._corpus).encode()


def _collect(node: Any, places: list[tuple[Any, Any]]) -> None:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        places.append((node, key))
        if isinstance(node[key], dict | list):
            _collect(node[key], places)
