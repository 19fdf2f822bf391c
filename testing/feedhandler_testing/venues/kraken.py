"""Kraken, WebSocket API v2, as a mock server speaks it: trades, ticker, books with checksums.

Sources, on docs.kraken.com: "Spot WebSocket v2" (*Book*, *Trade*, *Ticker*, *Heartbeat*; one
acknowledgement or refusal for each symbol, which repeats `req_id`), the guide *Book checksum (v2)*,
and *Get Tradable Asset Pairs*, which has the names of v1.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.kraken import Kraken
from feedhandler_testing.dialect import DialectSession, Listing, Means, added, listed
from feedhandler_testing.venues.kraken_v1 import asset_pairs
from feedhandler_testing.wire_numbers import as_number, encode_digits
from feedhandler_testing.wire_time import iso_time

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["KrakenDialect"]

_THEIRS = MappingProxyType({"price": "trade", "book": "book", "quote": "ticker"})
_OURS = MappingProxyType({theirs: ours for ours, theirs in _THEIRS.items()})
# Decimals that the list names. The kit's rules know a book by the digits that were sent, so none are
# added; with more here, the library would.
_PRICE, _SIZE = 0, 0
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error",
            "heartbeat", "checksum",
        }
    ),
    numbered_books=False,
    dated_snapshots=False,
    time_unit_ns=1_000,
    heartbeat_s=1.0,
)  # fmt: skip


@frozen
class KrakenDialect:
    """Kraken's public market data, in version 2."""

    name: str = field(default="kraken", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return symbol.replace("-", "/")

    def checksum(self, book: MockBook) -> int | None:
        text = ""
        for price, size in (*book.asks[:10], *book.bids[:10]):
            for number in (as_number(price, decimals=_PRICE), as_number(size, decimals=_SIZE)):
                text += str(number).replace(".", "").lstrip("0")
        return zlib.crc32(text.encode())

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return {"type": "instruments"} if "/0/public/AssetPairs" in url else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        return asset_pairs(listing, decimals=(_PRICE, _SIZE))

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return listed(Kraken(server.url, dial=server.dial, fetch=server.fetch), server)


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._subscribed: set[tuple[str, str]] = set()

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, params = request["method"], request["params"]
            channel = str(params["channel"])
            names = [str(name) for name in params["symbol"]]
        except (ValueError, KeyError, TypeError):
            return []
        if kind not in ("subscribe", "unsubscribe"):
            return []
        named = {"req_id": request["req_id"]} if "req_id" in request else {}
        told = {"params": {**params, "symbol": None}, **named}
        for name in names:
            if kind == "unsubscribe":
                self._subscribed.discard((channel, name))
            elif self._listing.ours(name) in self._listing:
                self._subscribed.add((channel, name))
        symbols = [self._listing.ours(name) for name in names]
        return [{"type": kind, "channel": _OURS.get(channel, channel), "symbols": symbols, **told}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return message["type"] != "heartbeat" or bool(self._subscribed)

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        named = {"req_id": message["req_id"]} if "req_id" in message else {}
        times = {"time_in": iso_time(message["time"]), "time_out": iso_time(message["time"])}
        match kind:
            case "heartbeat":
                return ['{"channel":"heartbeat"}']
            case "subscribed" | "unsubscribed":
                method = kind.removesuffix("d")
                return [
                    encode_digits(
                        {
                            "method": method,
                            "result": {**message["params"], "symbol": self._listing.theirs(symbol)},
                            "success": True,
                            **times,
                            **named,
                        }
                    )
                    for symbol in message["symbols"]
                ]
            case "error":
                name = self._listing.theirs(message["symbol"])
                refusal = {
                    "error": f"Currency pair not supported {name}",
                    "method": "subscribe",
                    "success": False,
                    "symbol": name,
                }
                return [encode_digits({**refusal, **times, **named})]
            case "price" | "quote" | "snapshot" | "delta":
                channel = _THEIRS.get(kind, "book")
                how = "snapshot" if kind == "snapshot" else "update"
                row = {"price": _trade, "quote": _top}.get(kind, _book)(message)
                theirs = self._listing.theirs(message["symbol"])
                data = {"symbol": theirs, **row, "timestamp": iso_time(message["time"])}
                whole = {"channel": channel, "type": how, "data": [{**data, **added(message)}]}
                return [encode_digits(whole)]
        return []


def _trade(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "side": message["side"],
        "price": as_number(message["price"]),
        "qty": as_number(message["size"]),
        "ord_type": "limit",
        "trade_id": message["sequence"],
    }


def _top(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bid": as_number(message["bid"]),
        "bid_qty": as_number(message["bid_size"]),
        "ask": as_number(message["ask"]),
        "ask_qty": as_number(message["ask_size"]),
    }


def _book(message: Mapping[str, Any]) -> dict[str, Any]:
    sides = {
        side: [
            {
                "price": as_number(price, decimals=_PRICE),
                "qty": as_number(size, decimals=_SIZE),
            }
            for price, size in message[side]
        ]
        for side in ("bids", "asks")
    }
    return {**sides, "checksum": message["checksum"]}
