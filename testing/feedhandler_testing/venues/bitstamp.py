"""Bitstamp, as a mock server speaks it: trades, the whole best of a book, and its changes.

Sources, on www.bitstamp.net/websocket/v2 and /api, and a recording of 2022-01: one channel a
request, each confirmed by its name; `diff_order_book_` has no numbers, only times; the snapshot
comes over REST; ``bts:heartbeat`` is answered with one; ``bts:request_reconnect`` is the notice; an
error names no channel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.bitstamp import Bitstamp
from feedhandler_testing.dialect import DialectSession, Listing, Means, added, listed
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["BitstampDialect"]

_THEIRS = MappingProxyType(
    {"price": "live_trades_", "book": "diff_order_book_", "quote": "order_book_"}
)
_KINDS = MappingProxyType({"bts:subscribe": "subscribe", "bts:unsubscribe": "unsubscribe"})
_JSON = (("Content-Type", "application/json"),)
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "delta", "subscribed", "unsubscribed", "error", "reconnect", "rest",
        }
    ),
    numbered_trades=False,
    verifiable_books=False,
    exact_snapshots=False,  # its time is a whole second
    numbered_books=False,
    dated_snapshots=False,
    time_unit_ns=1_000,
    split_requests=True,
)  # fmt: skip


@frozen
class BitstampDialect:
    """Bitstamp's public market data."""

    name: str = field(default="bitstamp", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        base, quote, *kind = symbol.lower().split("-")
        return "-".join([base + quote, *kind])

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        match urlsplit(url).path.strip("/").split("/"):
            case ["api", "v2", "markets" | "trading-pairs-info"]:
                return {"type": "instruments"}
            case ["api", "v2", "order_book", market]:
                return {"type": "snapshot", "symbol": listing.ours(market)}
        return None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        if request["type"] == "instruments":
            markets = [_market(symbol, listing.theirs(symbol)) for symbol in listing.symbols]
            return HttpResponse(200, _JSON, json.dumps(markets).encode())
        if message is None:
            return HttpResponse(
                404, _JSON, b'{"code":"404.002","reason":"Currency pair not found."}'
            )
        return HttpResponse(200, _JSON, encode_message(_book(message)).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        rest_url = server.rest_url.rstrip("/")
        return listed(
            Bitstamp(server.url, dial=server.dial, fetch=server.fetch, rest_url=rest_url), server
        )


def _market(symbol: str, theirs: str) -> dict[str, Any]:
    base, quote, *kind = symbol.split("-")
    return {
        "name": f"{base}/{quote}" + ("-PERP" if kind else ""),
        "market_symbol": theirs,
        "base_currency": base,
        "counter_currency": quote,
        "base_decimals": 8,
        "counter_decimals": 2,
        "trading": "Enabled",
        "market_type": "PERPETUAL" if kind else "SPOT",
    }


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            event = request["event"]
            if event == "bts:heartbeat":
                return [{"type": "ping"}]
            kind, channel = _KINDS[event], str(request["data"]["channel"])
        except (ValueError, KeyError, TypeError):
            return []
        for ours, prefix in _THEIRS.items():
            if channel.startswith(prefix):
                symbol = self._listing.ours(channel.removeprefix(prefix))
                return [{"type": kind, "channel": ours, "symbols": [symbol]}]
        return [{"type": kind, "channel": channel, "symbols": [channel]}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return True

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        match message["type"]:
            case "price":
                return [self._said("trade", "price", message, _trade(message))]
            case "quote":
                return [self._said("data", "quote", message, _top(message))]
            case "delta":
                return [self._said("data", "book", message, _book(message))]
            case "subscribed" | "unsubscribed" as kind:
                un = "un" if kind == "unsubscribed" else ""
                event = f"bts:{un}subscription_succeeded"
                return [
                    encode_message({"event": event, "channel": name, "data": {}})
                    for name in self._channels(message)
                ]
            case "pong":
                data = {"status": "success"}
                return [encode_message({"event": "bts:heartbeat", "channel": "", "data": data})]
            case "reconnect":
                event = "bts:request_reconnect"
                return [encode_message({"event": event, "channel": "", "data": None})]
            case "error":
                told = {"code": None, "message": message["message"]}
                return [encode_message({"event": "bts:error", "channel": "", "data": told})]
        return []

    def _channels(self, message: Mapping[str, Any]) -> list[str]:
        prefix = _THEIRS.get(message.get("channel", "price"), "")
        return [prefix + self._listing.theirs(symbol) for symbol in message["symbols"]]

    def _said(
        self, event: str, channel: str, message: Mapping[str, Any], data: Mapping[str, Any]
    ) -> str:
        name = _THEIRS[channel] + self._listing.theirs(message["symbol"])
        return encode_message({"data": {**data, **added(message)}, "channel": name, "event": event})


def _times(message: Mapping[str, Any]) -> dict[str, str]:
    micros = message["time"] // 1_000
    return {"timestamp": str(micros // 1_000_000), "microtimestamp": str(micros)}


def _trade(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": message["sequence"],
        "amount_str": message["size"],
        "price_str": message["price"],
        "type": 0 if message["side"] == "buy" else 1,
        **_times(message),
    }


def _top(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_times(message),
        "bids": [[message["bid"], message["bid_size"]]],
        "asks": [[message["ask"], message["ask_size"]]],
    }


def _book(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**_times(message), "bids": message["bids"], "asks": message["asks"]}
