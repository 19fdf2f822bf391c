"""What Binance is asked for: the names of its streams, and the requests for them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attrs import frozen

from feedhandler.abc import Subscription
from feedhandler.instruments import Instruments

__all__ = ["CHANNELS", "Naming", "requests_of"]

# Our channels, and the venue's streams.
CHANNELS = {"trades": "aggTrade", "ticker": "bookTicker", "book": "depth@100ms"}


@frozen
class Naming:
    """What symbols are called, by the venue's list of instruments."""

    instruments: Instruments | None

    def theirs(self, symbol: str) -> str:
        listed = self.instruments
        if listed is not None and symbol in listed:
            return listed.by_symbol(symbol).venue_symbol
        return symbol.replace("-", "")  # one that is not listed, the venue refuses in its own words

    def ours(self, theirs: str) -> str | None:
        return None if self.instruments is None else self.instruments.symbols.get(theirs)

    def stream(self, subscription: Subscription) -> str:
        return f"{self.theirs(subscription.symbol).lower()}@{CHANNELS[subscription.channel]}"


def requests_of(
    method: str, subscriptions: Sequence[Subscription], naming: Naming, number: int
) -> str:
    streams = [naming.stream(subscription) for subscription in subscriptions]
    request = {"method": method, "params": streams, "id": number}
    return msgspec.json.encode(request).decode()
