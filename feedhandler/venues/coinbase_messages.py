"""Coinbase's messages, as they are on the wire; of the strict ones every field is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from attrs import Factory, frozen

from feedhandler.abc import Subscription
from feedhandler.venues.coinbase_products import OURS

__all__ = [
    "Beats",
    "Envelope",
    "Message",
    "StrictTickers",
    "StrictTrades",
    "Subscriptions",
    "Tickers",
    "Trades",
]


class Message(msgspec.Struct, gc=False, tag_field="channel"):
    """What each has: its number on the connection."""

    sequence_num: Annotated[int, msgspec.Meta(ge=0)]


@frozen
class _Trade:
    product_id: str
    trade_id: str
    price: str
    size: str
    time: str
    side: Literal["BUY", "SELL"]


@frozen
class _TradesEvent:
    trades: list[_Trade]


class Trades(Message, gc=False, tag="market_trades"):
    events: list[_TradesEvent]


@frozen
class StrictTrades:
    events: list[_TradesEvent]


@frozen
class _Ticker:
    product_id: str
    best_bid: str
    best_ask: str
    best_bid_quantity: str
    best_ask_quantity: str


@frozen
class _TickerEvent:
    tickers: list[_Ticker]


class Tickers(Message, gc=False, tag="ticker"):
    timestamp: str
    events: list[_TickerEvent]


@frozen
class StrictTickers:
    timestamp: str
    events: list[_TickerEvent]


@frozen
class _Beat:
    heartbeat_counter: int | str | None = None  # text, in the prose of the documentation


class Beats(Message, gc=False, tag="heartbeats"):
    events: list[_Beat] = []


@frozen
class Envelope:
    channel: str = ""
    sequence_num: int | None = None
    type: str = ""
    message: str = ""
    reason: str = ""


@frozen
class _SubscriptionsEvent:
    subscriptions: dict[str, list[str]] = Factory(dict)


@frozen
class Subscriptions:
    sequence_num: int
    events: list[_SubscriptionsEvent]

    def listed(self, symbol_of: Callable[[str], str | None]) -> list[Subscription]:
        """All that the venue says is subscribed, of what we know."""
        return [
            Subscription(OURS[channel], symbol)
            for event in self.events
            for channel, products in event.subscriptions.items()
            if channel in OURS
            for symbol in map(symbol_of, products)
            if symbol is not None
        ]
