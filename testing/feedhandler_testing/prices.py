"""The plain price JSON, as the mock server sends it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from feedhandler.model import PriceUpdate

__all__ = ["PriceSource", "as_message", "encode_message", "is_data", "price_message"]

_DATA = frozenset({"price", "snapshot", "delta"})
_TIME_NS = 1_700_000_000_000_000_000


def price_message(
    symbol: str,
    price: str,
    sequence: int,
    *,
    size: str = "1",
    side: str = "buy",
    time_ns: int = _TIME_NS,
) -> str:
    """A price update as JSON text; `price` and `size` keep their digits, as strings."""
    return encode_message(
        {
            "type": "price",
            "symbol": symbol,
            "price": price,
            "size": size,
            "side": side,
            "sequence": sequence,
            "time": time_ns,
        }
    )


class PriceSource:
    """Valid price messages without end: a random walk for each symbol, drawn from one seed.

    The sequence of a symbol goes up by one, whoever asks. `time_ns` stamps them.
    """

    def __init__(self, seed: int, time_ns: Callable[[], int]) -> None:
        self._seed = seed
        self._time_ns = time_ns
        self._rngs: dict[str, Random] = {}
        self._cents: dict[str, int] = {}
        self.sequences: Counter[str] = Counter()

    def next(self, symbol: str) -> dict[str, Any]:
        """The next message of `symbol`."""
        rng = self._rngs.get(symbol)
        if rng is None:
            # The symbols have generators of their own: one more shifts no other's prices.
            rng = self._rngs[symbol] = Random(f"{self._seed}/prices/{symbol}")
            self._cents[symbol] = rng.randint(1_000, 10_000_000)
        cents = self._cents[symbol] = max(1, self._cents[symbol] + rng.randint(-50, 50))
        self.sequences[symbol] += 1
        return {
            "type": "price",
            "symbol": symbol,
            "price": f"{cents // 100}.{cents % 100:02d}",
            "size": f"0.{rng.randint(1, 9_999):04d}",
            "side": rng.choice(("buy", "sell")),
            "sequence": self.sequences[symbol],
            "time": self._time_ns(),
        }


def as_message(update: PriceUpdate | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object for an update, which may be given as one already."""
    if not isinstance(update, PriceUpdate):
        return {"type": "price", **update}
    return {
        "type": "price",
        "symbol": update.symbol,
        "price": str(update.price),
        "size": str(update.size),
        "side": update.side.value,
        "sequence": update.sequence,
        "time": update.recv_ns if update.venue_time_ns is None else update.venue_time_ns,
    }


def is_data(message: Mapping[str, Any]) -> bool:
    """Whether a message of the venue is market data, and not about subscriptions or the like."""
    return message.get("type") in _DATA


def encode_message(message: Mapping[str, Any]) -> str:
    """A message as JSON text."""
    return json.dumps(message, separators=(",", ":"))
