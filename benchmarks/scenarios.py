"""What is sent: the same bytes to everyone, and what must come of them."""

from __future__ import annotations

import json
import random
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

__all__ = ["SCENARIOS", "TICK_BYTES", "Book", "Tick", "decoder_of", "frame", "messages_of", "tick"]

SCENARIOS = ("ticks", "mixed", "books")
TICK_BYTES = 170


@frozen
class Tick:
    """A small tick: what every peer makes of it."""

    symbol: str
    price: Decimal
    size: Decimal
    side: str
    sequence: int
    time: int


@frozen
class Book:
    """A snapshot of a book; a level is a price and a size."""

    symbol: str
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


def decoder_of(scenario: str) -> msgspec.json.Decoder[Any]:
    """The decoder that every peer uses, but for the obvious one."""
    kinds: dict[str, Any] = {"ticks": Tick, "books": Book, "mixed": Any}
    return msgspec.json.Decoder(kinds[scenario])


def value_of(scenario: str, item: Any) -> Decimal | int:
    """What of a decoded message is summed up, so that nobody can skip the work."""
    if scenario == "ticks":
        return item.price
    if scenario == "books":
        return item.bids[0][0] + item.asks[-1][1]
    return len(item)


def expected(scenario: str, messages: list[bytes]) -> str:
    """The sum over all messages, made with `json` alone."""
    total = Decimal(0)
    for message in messages:
        document = json.loads(message)
        if scenario == "ticks":
            total += Decimal(document["price"])
        elif scenario == "books":
            total += Decimal(document["bids"][0][0]) + Decimal(document["asks"][-1][1])
        else:
            total += len(document)
    return str(total)


# --- the messages --------------------------------------------------------------------------------


def messages_of(scenario: str, scale: float, recordings: Path) -> list[bytes]:
    """The messages of a scenario, `scale` times as many as usual; the same on every call."""
    if scenario == "ticks":
        return _ticks(int(200_000 * scale))
    if scenario == "books":
        return _books(int(500 * scale))
    return _mixed(recordings, int(40_000 * scale))


def tick(*, sequence: int, cents: int, size: int, side: str, time_ns: int) -> bytes:
    """A tick of `TICK_BYTES` bytes, in the plain price JSON."""
    start = (
        f'{{"type":"price","symbol":"BTC-USD","price":"{cents // 100}.{cents % 100:02}",'
        f'"size":"{size // 10**8}.{size % 10**8:08}","side":"{side}","sequence":{sequence},'
        f'"time":{time_ns:019},"note":"'
    ).encode()
    return start + b"-" * (TICK_BYTES - len(start) - 2) + b'"}'


def _ticks(count: int) -> list[bytes]:
    rng = random.Random(1)
    cents = 6_508_367
    messages = []
    for sequence in range(count):
        cents += rng.randint(-50, 50)
        messages.append(
            tick(
                sequence=sequence,
                cents=cents,
                size=rng.randint(1, 10**9),
                side=rng.choice(("buy", "sell")),
                time_ns=1_786_309_548_228_568_804 + sequence * 1_000_003,
            )
        )
    return messages


def _books(count: int) -> list[bytes]:
    rng = random.Random(2)
    levels = [f"{rng.randint(1, 10**9) / 1e8:.8f}" for _ in range(2700)]
    messages = []
    for number in range(count):
        middle = 6_508_367 + number
        bids = [[f"{(middle - i) / 100:.2f}", levels[i]] for i in range(1, 1220)]
        asks = [[f"{(middle + i) / 100:.2f}", levels[-i]] for i in range(1, 1220)]
        book = {"symbol": "BTC-USD", "bids": bids, "asks": asks}
        messages.append(json.dumps(book, separators=(",", ":")).encode())
    return messages


def _mixed(folder: Path, count: int) -> list[bytes]:
    from feedhandler.recording import read_recording

    seen: list[bytes] = []
    for path in sorted(folder.glob("*.jsonl.zst")):
        with read_recording(path) as recording:
            for record in recording:
                if record.k == "recv" and isinstance(record.payload, str):
                    message = record.payload.encode()
                    if len(message) < 1_000_000:  # the one of 5 MB would be most of the bytes
                        seen.append(message)
    random.Random(3).shuffle(seen)
    return (seen * (count // len(seen) + 1))[:count]


def frame(payload: bytes) -> bytes:
    """One unmasked text frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload
