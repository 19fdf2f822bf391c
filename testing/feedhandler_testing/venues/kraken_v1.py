"""Kraken, WebSocket API v1, as a mock server speaks it: trades, ticker, books with checksums.

Sources, on docs.kraken.com: "Spot WebSocket v1" (*Book*: asks and bids are two bodies, the last has
the checksum; *Trade*, *Ticker*, *subscriptionStatus*, one for each pair, *Heartbeat*), the guide
*Book checksum (v1)*, *Get Tradable Asset Pairs*, and a recording of 2021.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.kraken_v1 import KrakenV1
from feedhandler_testing.dialect import DialectSession, Listing, Means, added, listed
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["KrakenV1Dialect", "asset_pairs"]

_THEIRS = MappingProxyType({"price": "trade", "book": "book", "quote": "ticker"})
_OURS = MappingProxyType({theirs: ours for ours, theirs in _THEIRS.items()})
_OLD = MappingProxyType({"BTC": "XBT", "DOGE": "XDG"})
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error",
            "heartbeat", "checksum",
        }
    ),
    numbered_trades=False,
    numbered_books=False,
    dated_snapshots=False,
    time_unit_ns=1_000,
    heartbeat_s=1.0,
)  # fmt: skip


@frozen
class KrakenV1Dialect:
    """Kraken's public market data, in version 1."""

    name: str = field(default="kraken_v1", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return _old_name(symbol)

    def checksum(self, book: MockBook) -> int | None:
        numbers = [number for level in (*book.asks[:10], *book.bids[:10]) for number in level]
        text = "".join(number.replace(".", "").lstrip("0") for number in numbers)
        return zlib.crc32(text.encode())

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return {"type": "instruments"} if "/0/public/AssetPairs" in url else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        return asset_pairs(listing, decimals=(2, 8))

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return listed(KrakenV1(server.url, dial=server.dial, fetch=server.fetch), server)


def _old_name(symbol: str) -> str:
    return "/".join(_OLD.get(part, part) for part in symbol.split("-"))


def asset_pairs(listing: Listing, *, decimals: tuple[int, int]) -> HttpResponse:
    """The list of pairs over REST, with v1's names and the decimals of price and size."""
    pairs = {
        symbol: {
            "altname": _old_name(symbol).replace("/", ""),
            "wsname": _old_name(symbol),
            "pair_decimals": decimals[0],
            "lot_decimals": decimals[1],
            "status": "online",
        }
        for symbol in listing.symbols
    }
    body = json.dumps({"error": [], "result": pairs}).encode()
    return HttpResponse(200, (("Content-Type", "application/json"),), body)


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._subscribed: set[tuple[str, str]] = set()

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, subscription = request["event"], request["subscription"]
            name = str(subscription["name"])
            pairs = [str(pair) for pair in request["pair"]]
        except (ValueError, KeyError, TypeError):
            return []
        if kind not in ("subscribe", "unsubscribe"):
            return []
        named = {"reqid": request["reqid"]} if "reqid" in request else {}
        for pair in pairs:
            if kind == "unsubscribe":
                self._subscribed.discard((name, pair))
            elif self._listing.ours(pair) in self._listing:
                self._subscribed.add((name, pair))
        symbols = [self._listing.ours(pair) for pair in pairs]
        told = {"subscription": subscription, **named}
        return [{"type": kind, "channel": _OURS.get(name, name), "symbols": symbols, **told}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return message["type"] != "heartbeat" or bool(self._subscribed)

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        match kind:
            case "heartbeat":
                return ['{"event":"heartbeat"}']
            case "subscribed" | "unsubscribed":
                return [
                    encode_message(self._status(message, symbol, kind))
                    for symbol in message["symbols"]
                ]
            case "error":
                status = self._status(message, message["symbol"], "error")
                words = f"Currency pair not supported {status['pair']}"
                return [encode_message({**status, "errorMessage": words})]
            case "price":
                return [self._data([_trade(message)], message, "trade")]
            case "quote":
                return [self._data(_top(message), message, "ticker")]
            case "snapshot" | "delta":
                names = ("as", "bs") if kind == "snapshot" else ("a", "b")
                bodies: list[dict[str, Any]] = [
                    {name: _levels(message[side], message["time"])}
                    for name, side in zip(names, ("asks", "bids"), strict=True)
                    if message[side] or kind == "snapshot"
                ] or [{"a": []}]
                if kind == "snapshot":
                    bodies = [{**bodies[0], **bodies[1]}]
                else:
                    bodies[-1]["c"] = str(message["checksum"])
                return [self._data(bodies, message, "book-1000", several=True)]
        return []

    def _status(self, message: Mapping[str, Any], symbol: str, status: str) -> dict[str, Any]:
        subscription = message.get("subscription", {})
        return {
            "channelID": 1,
            "channelName": subscription.get("name"),
            "event": "subscriptionStatus",
            "pair": self._listing.theirs(symbol),
            "status": status,
            "subscription": subscription,
            **({"reqid": message["reqid"]} if "reqid" in message else {}),
        }

    def _data(
        self, body: Any, message: Mapping[str, Any], channel: str, *, several: bool = False
    ) -> str:
        bodies = body if several else [body]
        more = added(message)
        if more and isinstance(bodies[0], dict):
            bodies = [{**bodies[0], **more}, *bodies[1:]]
        pair = self._listing.theirs(message["symbol"])
        return json.dumps([1, *bodies, channel, pair], separators=(",", ":"))


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 1_000_000_000}.{time_ns % 1_000_000_000 // 1000:06d}"


def _trade(message: Mapping[str, Any]) -> list[Any]:
    side = str(message["side"])[:1]
    return [message["price"], message["size"], _seconds(message["time"]), side, "l", ""]


def _top(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "a": [message["ask"], 1, message["ask_size"]],
        "b": [message["bid"], 1, message["bid_size"]],
    }


def _levels(levels: Sequence[Sequence[Any]], time_ns: int) -> list[list[Any]]:
    return [[price, size, _seconds(time_ns)] for price, size in levels]
