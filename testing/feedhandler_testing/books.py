"""An order book on the server's side, and the messages that tell of it."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

__all__ = ["MockBook"]

_FEW = 12  # levels of a side, below which none is taken away at random
_TIME_NS = 1_700_000_000_000_000_000

Sizes = Mapping[str, str]


class MockBook:
    """The levels and the sequence of one symbol's book, and its messages in the plain price JSON.

    ```python
    book = server.books["BTC-USD"] = MockBook("BTC-USD", {"65000.10": "1.5"}, {"65000.20": "2"})
    await connection.send(json.dumps(book.delta({"65000.10": "0"})))
    ```

    Prices and sizes are text, as it is to be sent; a size of ``"0"`` ends a level. The messages are
    dicts, right in all they say: a fault is what a test does to one of them, or does not send. The
    checksum is computed here once more, apart from the one of the library that is under test.
    """

    def __init__(
        self,
        symbol: str,
        bids: Sizes | None = None,
        asks: Sizes | None = None,
        *,
        sequence: int = 0,
        checked: bool = True,
    ) -> None:
        self.symbol = symbol
        self.sequence = sequence
        self.checked = checked  # whether messages have a checksum
        self.checksum_of: Callable[[MockBook], int | None] | None = None  # a venue's own
        self.time_ns = _TIME_NS
        self._past: deque[dict[str, Any]] = deque(maxlen=32)
        self._bids: dict[Decimal, tuple[str, str]] = {}
        self._asks: dict[Decimal, tuple[str, str]] = {}
        self._change(bids or {}, asks or {})

    def __repr__(self) -> str:
        return f"<MockBook {self.symbol} sequence={self.sequence}>"

    @property
    def bids(self) -> list[tuple[str, str]]:
        """Price and size of each bid, best first."""
        return [self._bids[price] for price in sorted(self._bids, reverse=True)]

    @property
    def asks(self) -> list[tuple[str, str]]:
        """Price and size of each ask, best first."""
        return [self._asks[price] for price in sorted(self._asks)]

    @property
    def checksum(self) -> int:
        """CRC-32 over ``price:size`` of the best 10 bids and then asks, joined with ``|``."""
        levels = [*self.bids[:10], *self.asks[:10]]
        return zlib.crc32("|".join(f"{price}:{size}" for price, size in levels).encode())

    def snapshot(self, *, ago: int = 0) -> dict[str, Any]:
        """The whole book, as it answers a subscription: with the number of the last message.

        With `ago`, as it was that many messages earlier; at most 32, or as far as it goes back.
        """
        if ago and self._past:
            return self._past[-min(ago, len(self._past))]
        return self._message("snapshot", self.bids, self.asks)

    def delta(self, bids: Sizes | None = None, asks: Sizes | None = None) -> dict[str, Any]:
        """Change these levels, and give the message for it, which takes the next number."""
        self._past.append(self.snapshot())
        self.sequence += 1
        self._change(bids or {}, asks or {})
        return self._message("delta", (bids or {}).items(), (asks or {}).items())

    def step(self, rng: Random) -> dict[str, Any]:
        """Change up to three levels around the middle, at random, and give the delta for it.

        The best prices move, levels come and go, and the book stays uncrossed.
        """
        changes: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        for _ in range(rng.randint(1, 3)):
            side = rng.choice(("bids", "asks"))
            own, other = (self._bids, self._asks) if side == "bids" else (self._asks, self._bids)
            gone = [price for price in sorted(own) if own[price][0] not in changes[side]]
            if len(gone) > _FEW and rng.random() < 0.4:
                changes[side][own[rng.choice(gone)][0]] = "0"
                continue
            edge = (min if side == "bids" else max)(other)
            away = Decimal(rng.randint(1, 40)) / 100
            price = f"{edge - away if side == 'bids' else edge + away:.2f}"
            size = f"{rng.randint(1, 999) / 100:.2f}"
            changes[side][price] = size
        return self.delta(changes["bids"], changes["asks"])

    @classmethod
    def drawn(cls, symbol: str, rng: Random) -> MockBook:
        """A book of twenty levels on each side, around a price drawn at random."""
        middle = Decimal(rng.randint(1_000, 10_000_000)) / 100
        step = Decimal("0.10")
        return cls(
            symbol,
            {f"{middle - step * n:.2f}": f"{n}.5" for n in range(1, 21)},
            {f"{middle + step * n:.2f}": f"{n}.25" for n in range(1, 21)},
        )

    def replace(self, bids: Sizes, asks: Sizes) -> dict[str, Any]:
        """Make it another book, and give the snapshot for it, which takes the next number."""
        self.sequence += 1
        self._bids.clear()
        self._asks.clear()
        self._change(bids, asks)
        return self.snapshot()

    def _change(self, bids: Sizes, asks: Sizes) -> None:
        for side, changes in ((self._bids, bids), (self._asks, asks)):
            for price, size in changes.items():
                if Decimal(size):
                    side[Decimal(price)] = price, size
                else:
                    side.pop(Decimal(price), None)

    def _message(
        self, kind: str, bids: Iterable[tuple[str, str]], asks: Iterable[tuple[str, str]]
    ) -> dict[str, Any]:
        return {
            "type": kind,
            "symbol": self.symbol,
            "sequence": self.sequence,
            "bids": [[*level] for level in bids],
            "asks": [[*level] for level in asks],
            "checksum": self._told_checksum() if self.checked else None,
            "time": self.time_ns,
        }

    def _told_checksum(self) -> int | None:
        return self.checksum if self.checksum_of is None else self.checksum_of(self)
