"""What books are made of: snapshots and deltas out of the recordings, or made from a seed.

Only the order in which a venue's messages are to be applied is followed here, nothing is checked:
what comes of it is compared between the peers, and with what the recordings say of it.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

from feedhandler.recording import Record, read_recording

__all__ = ["RECORDED", "Pairs", "Step", "made_up", "recorded"]

Pairs = list[tuple[str, str]]  # prices and sizes, with the digits that were sent


@frozen
class Step:
    """One message about the book of `symbol`, which is `whole` in a snapshot."""

    symbol: str
    whole: bool
    bids: Pairs
    asks: Pairs

    @property
    def levels(self) -> int:
        return len(self.bids) + len(self.asks)


def recorded(venue: str, recordings: Path) -> list[Step]:
    """What the recording of `venue` says of its books, in the order received."""
    with read_recording(recordings / f"{venue}.jsonl.zst") as records:
        return [*RECORDED[venue](records)]


def made_up(seed: int = 1, *, depth: int = 500, deltas: int = 4000) -> list[Step]:
    """A book of `depth` levels a side, and changes that come the more often the nearer to the best.

    Nine of ten changes name a price that is there, as on the venues that were recorded.
    """
    rng = random.Random(seed)  # the same on every run
    middle = 6_500_000
    sides: tuple[dict[int, int], dict[int, int]] = (
        {middle - n: rng.randrange(1, 10**9) for n in range(1, depth + 1)},
        {middle + n: rng.randrange(1, 10**9) for n in range(1, depth + 1)},
    )

    def pairs(side: dict[int, int]) -> Pairs:
        return [(f"{Decimal(p).scaleb(-2)}", f"{Decimal(s).scaleb(-8):f}") for p, s in side.items()]

    steps = [Step("BTC-USD", True, *map(pairs, sides))]
    for _ in range(deltas):
        changes: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
            n = rng.randrange(2)
            away = 1 + min(int(rng.expovariate(0.05)), depth - 1)
            price = middle + (away if n else -away)
            size = 0 if price in sides[n] and rng.random() < 0.1 else rng.randrange(1, 10**9)
            sides[n][price] = changes[n][price] = size
            if not size:
                del sides[n][price]
        steps.append(Step("BTC-USD", False, *map(pairs, changes)))
    return steps


# --- the venues ----------------------------------------------------------------------------------


def _messages(records: Iterable[Record]) -> Iterator[Any]:
    for record in records:
        if record.k == "recv" and record.payload is not None:
            yield json.loads(record.payload)


def _pairs(levels: Iterable[list[str]]) -> Pairs:
    return [(level[0], level[1]) for level in levels]


def _coinbase(records: Iterable[Record]) -> Iterator[Step]:
    for message in _messages(records):
        if message.get("channel") != "l2_data":
            continue
        for event in message["events"]:
            sides: dict[str, Pairs] = {"bid": [], "offer": []}
            for one in event["updates"]:
                sides[one["side"]].append((one["price_level"], one["new_quantity"]))
            yield Step(event["product_id"], event["type"] == "snapshot", *sides.values())


def _kraken(records: Iterable[Record]) -> Iterator[Step]:
    for message in _messages(records):
        if not isinstance(message, list) or not str(message[-2]).startswith("book"):
            continue
        bodies = {name: rows for body in message[1:-2] for name, rows in body.items()}
        if "as" in bodies:
            yield Step(message[-1], True, _pairs(bodies["bs"]), _pairs(bodies["as"]))
        else:
            yield Step(message[-1], False, _pairs(bodies.get("b", ())), _pairs(bodies.get("a", ())))


def _bybit(records: Iterable[Record]) -> Iterator[Step]:
    for record in records:
        if record.k != "recv" or record.payload is None:
            continue
        message = json.loads(record.payload)
        if not message.get("topic", "").startswith("orderbook"):
            continue
        data = message["data"]
        whole = message["type"] == "snapshot" or data["u"] == 1
        yield Step(f"{record.c}:{data['s']}", whole, _pairs(data["b"]), _pairs(data["a"]))


def _binance(records: Iterable[Record]) -> Iterator[Step]:
    """A snapshot over REST, then the deltas that end behind it."""
    waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
    newest: dict[str, int] = {}
    for record in records:
        if record.payload is None:
            continue
        if record.k == "http" and "/depth?" in (record.url or ""):
            symbol = str(record.url).partition("symbol=")[2].partition("&")[0]
            document = json.loads(record.payload)
            newest[symbol] = document["lastUpdateId"]
            yield Step(symbol, True, _pairs(document["bids"]), _pairs(document["asks"]))
        elif record.k == "recv":
            data = json.loads(record.payload).get("data", {})
            if data.get("e") != "depthUpdate":
                continue
            waiting[data["s"]].append(data)
        for symbol in [symbol for symbol in waiting if symbol in newest]:
            for data in waiting.pop(symbol):
                # Futures keep the message that ends where the snapshot was taken.
                if data["u"] > newest[symbol] or ("pu" in data and data["u"] == newest[symbol]):
                    yield Step(symbol, False, _pairs(data["b"]), _pairs(data["a"]))


RECORDED: dict[str, Callable[[Iterable[Record]], Iterator[Step]]] = {
    "coinbase": _coinbase,
    "kraken": _kraken,
    "bybit": _bybit,
    "binance": _binance,
    "binance_futures": _binance,
}
