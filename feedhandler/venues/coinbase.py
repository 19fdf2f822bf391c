"""Coinbase Advanced Trade: trades and ticker.

Sources, all on docs.cdp.coinbase.com, "Advanced Trade WebSocket": *Channels* (`market_trades`,
`ticker`, `heartbeats`; `side` of a trade is the maker's), *Overview* (`sequence_num` counts the
messages of a connection, from 0; a number that skips means lost messages), and *Subscribe* (a
connection without a subscription is closed after 5 s; `heartbeats` keeps a quiet one open).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from attrs import Factory, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler.abc import (
    Control,
    Dialer,
    Heartbeat,
    Ignored,
    Malformed,
    Refused,
    Subscribed,
    Subscription,
)
from feedhandler.codec import FastDecoder, parse_amount, parse_time_ns
from feedhandler.config import valid_url
from feedhandler.errors import DecodeError
from feedhandler.model import Event, Quote, Side, Trade

__all__ = ["Coinbase"]

URL = "wss://advanced-trade-ws.coinbase.com"
# Our channels, and the venue's names for them.
_CHANNELS = {"trades": "market_trades", "ticker": "ticker"}
_OURS = {theirs: ours for ours, theirs in _CHANNELS.items()}
# What a maker's side means for the taker, who is on the other one.
_TAKER = {"BUY": Side.SELL, "SELL": Side.BUY}


@frozen
class Coinbase:
    """Coinbase Advanced Trade's public market data; symbols are its product ids, ``BTC-USD``."""

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="coinbase", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)

    @property
    def channels(self) -> Sequence[str]:
        return tuple(_CHANNELS)

    def session(self) -> CoinbaseSession:
        return CoinbaseSession(self.name)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        products = dict.fromkeys(subscription.symbol for subscription in subscriptions)
        heartbeats = {"type": "subscribe", "product_ids": [*products], "channel": "heartbeats"}
        return [*_requests("subscribe", subscriptions), _encode(heartbeats)]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return _requests("unsubscribe", subscriptions)


def _requests(kind: str, subscriptions: Sequence[Subscription]) -> list[str]:
    """One message for each channel: the venue takes one channel at a time."""
    by_channel: dict[str, list[str]] = {}
    for subscription in subscriptions:
        by_channel.setdefault(_CHANNELS[subscription.channel], []).append(subscription.symbol)
    return [
        _encode({"type": kind, "product_ids": symbols, "channel": channel})
        for channel, symbols in by_channel.items()
    ]


def _encode(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


# --- messages, as they are on the wire -----------------------------------------------------------


@frozen
class _Envelope:
    channel: str = ""
    sequence_num: int | None = None
    timestamp: str = ""
    type: str = ""
    message: str = ""


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


@frozen
class _Trades:
    sequence_num: int
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


@frozen
class _Tickers:
    sequence_num: int
    timestamp: str
    events: list[_TickerEvent]


@frozen
class _SubscriptionsEvent:
    subscriptions: dict[str, list[str]] = Factory(dict)


@frozen
class _Subscriptions:
    sequence_num: int
    events: list[_SubscriptionsEvent]


class CoinbaseSession:
    """One connection: its sequence runs over all messages, those of control included."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._sequence: SequenceTracker[None] = SequenceTracker()
        self._envelope = FastDecoder(_Envelope, venue=venue, amounts_as_text=True)
        self._trades = FastDecoder(_Trades, venue=venue, amounts_as_text=True)
        self._tickers = FastDecoder(_Tickers, venue=venue, amounts_as_text=True)
        self._subscriptions = FastDecoder(_Subscriptions, venue=venue, amounts_as_text=True)

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message; a `Gap` for all symbols comes first where messages were lost."""
        envelope = self._envelope.decode(message)
        if not envelope.channel:
            if envelope.type == "error":
                return [Refused(None, envelope.message or "an error without a message")]
            return [Ignored(envelope.type[:40] or "message without a channel")]
        items: list[Event | Control] = []
        if envelope.sequence_num is not None:
            order = self._order(envelope.sequence_num)
            if order is Order.DUPLICATE:
                return [Ignored("duplicate")]
            if isinstance(order, Hole) and order.late:
                return [Ignored("late")]  # announced already: a connection counts from 0
            if isinstance(order, Hole):
                items.append(order.as_gap(None, recv_ns=recv_ns, venue=self._venue, epoch=epoch))
        elif envelope.channel in _OURS:
            raise DecodeError(self._venue, message, [("$.sequence_num", "missing: sequence_num")])
        try:
            items += self._decode_channel(envelope.channel, message, recv_ns, epoch)
        except DecodeError as error:
            if not items:
                raise
            items.append(Malformed(error))  # the gap before it is true all the same
        return items

    def _order(self, sequence: int) -> Order | Hole:
        """A connection counts from 0."""
        if self._sequence.last(None) is None and sequence > 0:
            self._sequence.check(None, sequence)
            return Hole(0, sequence - 1)
        return self._sequence.check(None, sequence)

    def _decode_channel(
        self, channel: str, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        items: list[Event | Control] = []
        match channel:
            case "market_trades":
                self._add_trades(message, items, recv_ns, epoch)
            case "ticker":
                self._add_quotes(message, items, recv_ns, epoch)
            case "heartbeats":
                items.append(Heartbeat())
            case "subscriptions":
                items.append(self._subscribed(message))
            case other:
                items.append(Ignored(other[:40]))
        return items

    def _add_trades(
        self, message: str | bytes, items: list[Event | Control], recv_ns: int, epoch: int
    ) -> None:
        decoded = self._trades.decode(message)
        problems: list[tuple[str, str]] = []
        for i, event in enumerate(decoded.events):
            for j, trade in enumerate(event.trades):
                path = f"$.events[{i}].trades[{j}]"
                items.append(
                    Trade(
                        trade.product_id,
                        _amount(trade.price, f"{path}.price", problems),
                        _amount(trade.size, f"{path}.size", problems),
                        _TAKER[trade.side],
                        trade.trade_id,
                        decoded.sequence_num,
                        _time_ns(trade.time, f"{path}.time", problems),
                        recv_ns,
                        self._venue,
                        epoch,
                    )
                )
        if problems:
            raise DecodeError(self._venue, message, problems)

    def _add_quotes(
        self, message: str | bytes, items: list[Event | Control], recv_ns: int, epoch: int
    ) -> None:
        decoded = self._tickers.decode(message)
        problems: list[tuple[str, str]] = []
        time_ns = _time_ns(decoded.timestamp, "$.timestamp", problems)
        for i, event in enumerate(decoded.events):
            for j, ticker in enumerate(event.tickers):
                path = f"$.events[{i}].tickers[{j}]"
                items.append(
                    Quote(
                        ticker.product_id,
                        _amount(ticker.best_bid, f"{path}.best_bid", problems),
                        _amount(ticker.best_bid_quantity, f"{path}.best_bid_quantity", problems),
                        _amount(ticker.best_ask, f"{path}.best_ask", problems),
                        _amount(ticker.best_ask_quantity, f"{path}.best_ask_quantity", problems),
                        decoded.sequence_num,
                        time_ns,
                        recv_ns,
                        self._venue,
                        epoch,
                    )
                )
        if problems:
            raise DecodeError(self._venue, message, problems)

    def _subscribed(self, message: str | bytes) -> Subscribed:
        """The venue lists all that is subscribed, on each change."""
        events = self._subscriptions.decode(message).events
        return Subscribed(
            [
                Subscription(_OURS[channel], symbol)
                for event in events
                for channel, symbols in event.subscriptions.items()
                if channel in _OURS
                for symbol in symbols
            ],
            complete=True,
        )


def _amount(text: str, path: str, problems: list[tuple[str, str]]) -> Decimal:
    try:
        return parse_amount(text)
    except ValueError as error:
        problems.append((path, str(error)))
        return Decimal(0)  # never seen: a message with problems is refused whole


def _time_ns(text: str, path: str, problems: list[tuple[str, str]]) -> int:
    try:
        return parse_time_ns(text)
    except ValueError as error:
        problems.append((path, str(error)))
        return 0
