"""An order book on the server's side, and the messages that tell of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["MockBook"]

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
        self.time_ns = _TIME_NS
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

    def snapshot(self) -> dict[str, Any]:
        """The whole book, as it answers a subscription: with the number of the last message."""
        return self._message("snapshot", self.bids, self.asks)

    def delta(self, bids: Sizes | None = None, asks: Sizes | None = None) -> dict[str, Any]:
        """Change these levels, and give the message for it, which takes the next number."""
        self.sequence += 1
        self._change(bids or {}, asks or {})
        return self._message("delta", (bids or {}).items(), (asks or {}).items())

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
            "checksum": self.checksum if self.checked else None,
            "time": self.time_ns,
        }
