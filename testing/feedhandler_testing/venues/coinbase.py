"""Coinbase Advanced Trade, as a mock server speaks it: trades, ticker, level2, heartbeats.

Sources, on docs.cdp.coinbase.com, "Advanced Trade WebSocket", and a recording of 2026-08: each
message of a connection has the next `sequence_num`, from 0, whatever it is; every change of the
subscriptions is answered with the list of all; `level2` answers as `l2_data`, whose asks are called
``offer``; the `side` of a trade is the maker's; `heartbeats` come each second to those who asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.coinbase import Coinbase
from feedhandler_testing.dialect import DialectSession, Listing, Means, added
from feedhandler_testing.prices import encode_message
from feedhandler_testing.wire_time import iso_time

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["CoinbaseDialect"]

_THEIRS = MappingProxyType({"price": "market_trades", "book": "level2", "quote": "ticker"})
_OURS = MappingProxyType({theirs: ours for ours, theirs in _THEIRS.items()})
_MAKER = MappingProxyType({"buy": "SELL", "sell": "BUY"})
_STAMP = re.compile(r'"sequence_num":(\d+)')
_MEANS = Means(
    says=frozenset(
        {"price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error", "heartbeat"}
    ),
    numbered_books=False,
    dated_snapshots=False,
    per_connection=True,
    first_stamp=0,
    time_unit_ns=1_000,
    heartbeat_s=1.0,
    split_requests=True,
)


@frozen
class CoinbaseDialect:
    """Coinbase Advanced Trade's public market data."""

    name: str = field(default="coinbase", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return symbol

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None  # its numbers are the connection's

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        path = url.partition("?")[0]
        return {"type": "instruments"} if path.endswith("/brokerage/market/products") else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        products = [
            {
                "product_id": symbol,
                "base_currency_id": symbol.partition("-")[0],
                "quote_currency_id": symbol.partition("-")[2],
                "base_increment": "0.00000001",
                "price_increment": "0.01",
                "product_type": "SPOT",
                "status": "online",
                "trading_disabled": False,
            }
            for symbol in listing.symbols
        ]
        body = json.dumps({"products": products, "num_products": len(products)})
        return HttpResponse(200, (("Content-Type", "application/json"),), body.encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return Coinbase(server.url, dial=server.dial)


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._subscribed: dict[str, dict[str, None]] = {}

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, theirs = request["type"], request["channel"]
            products = [str(product) for product in request.get("product_ids", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        if kind not in ("subscribe", "unsubscribe") or not isinstance(theirs, str):
            return []
        symbols = [self._listing.ours(product) for product in products]
        known = [product for product in products if self._listing.ours(product) in self._listing]
        if theirs == "heartbeats":
            known = ["heartbeats"]  # as the venue lists it, whatever products were named
        listed = self._subscribed.setdefault(theirs, {})
        if kind == "subscribe":
            listed.update(dict.fromkeys(known))
        for product in known if kind == "unsubscribe" else ():
            listed.pop(product, None)
        if not listed:
            del self._subscribed[theirs]
        return [{"type": kind, "channel": _OURS.get(theirs, theirs), "symbols": symbols}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return message["type"] != "heartbeat" or "heartbeats" in self._subscribed

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        match message["type"]:
            case "price":
                return [self._said("market_trades", message, _trades(message))]
            case "quote":
                return [self._said("ticker", message, _tickers(message))]
            case "snapshot" | "delta":
                return [self._said("l2_data", message, _levels(message))]
            case "subscribed" | "unsubscribed":
                listed = {channel: [*names] for channel, names in self._subscribed.items()}
                return [self._said("subscriptions", message, {"subscriptions": listed})]
            case "heartbeat":
                seconds = message["time"] // 1_000_000_000
                beat = {"current_time": iso_time(message["time"]), "heartbeat_counter": seconds}
                return [self._said("heartbeats", message, beat)]
            case "error":
                return [encode_message({"type": "error", "message": message["message"]})]
        return []

    def stamp_of(self, message: str | bytes) -> int | None:
        found = _STAMP.search(message if isinstance(message, str) else message.decode())
        return int(found[1]) if found else None

    def with_stamp(self, message: str | bytes, stamp: int) -> str | bytes:
        text = message if isinstance(message, str) else message.decode()
        return _STAMP.sub(f'"sequence_num":{stamp}', text, count=1)

    def _said(self, channel: str, message: Mapping[str, Any], event: Mapping[str, Any]) -> str:
        envelope = {
            "channel": channel,
            "timestamp": iso_time(message["time"]),
            "sequence_num": message["stamp"],
            "events": [event],
        }
        return encode_message({**envelope, **added(message)})


def _trades(message: Mapping[str, Any]) -> dict[str, Any]:
    trade = {
        "product_id": message["symbol"],
        "trade_id": str(message["sequence"]),
        "price": message["price"],
        "size": message["size"],
        "time": iso_time(message["time"]),
        "side": _MAKER[message["side"]],
    }
    return {"type": "update", "trades": [trade]}


def _tickers(message: Mapping[str, Any]) -> dict[str, Any]:
    ticker = {
        "type": "ticker",
        "product_id": message["symbol"],
        "price": message["bid"],
        "best_bid": message["bid"],
        "best_ask": message["ask"],
        "best_bid_quantity": message["bid_size"],
        "best_ask_quantity": message["ask_size"],
    }
    return {"type": "update", "tickers": [ticker]}


def _levels(message: Mapping[str, Any]) -> dict[str, Any]:
    updates = [
        {
            "side": side,
            "event_time": iso_time(message["time"]),
            "price_level": price,
            "new_quantity": size,
        }
        for side, levels in (("bid", message["bids"]), ("offer", message["asks"]))
        for price, size in levels
    ]
    kind = "snapshot" if message["type"] == "snapshot" else "update"
    return {"type": kind, "product_id": message["symbol"], "updates": updates}
