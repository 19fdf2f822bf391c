"""Gemini's Market Data v2, as a mock server speaks it: the book and the trades of a symbol in one.

Source: developer.gemini.com, *Market Data v2*: a subscription to `l2` is answered with the whole
book and the last trades, and its end with nothing. No message of a book has a number or a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.gemini import Gemini
from feedhandler_testing.dialect import DialectSession, Listing, Means, added, listed
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["GeminiDialect"]

_MEANS = Means(
    says=frozenset({"price", "snapshot", "delta", "error", "heartbeat"}),
    numbered_trades=False,
    verifiable_books=False,
    split_requests=True,
    numbered_books=False,
    dated_snapshots=False,
    time_unit_ns=1_000_000,
    heartbeat_s=5.0,
)


@frozen
class GeminiDialect:
    """Gemini's public market data."""

    name: str = field(default="gemini", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return symbol.replace("-", "").upper()

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        known = urlsplit(url).path == "/v1/symbols/details/all"
        return {"type": "instruments"} if known else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        details = [_details(symbol, listing.theirs(symbol)) for symbol in listing.symbols]
        return HttpResponse(
            200, (("Content-Type", "application/json"),), json.dumps(details).encode()
        )

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        rest_url = server.rest_url.rstrip("/")
        return listed(
            Gemini(server.url, dial=server.dial, fetch=server.fetch, rest_url=rest_url), server
        )


def _details(symbol: str, theirs: str) -> dict[str, Any]:
    base, quote, *kind = symbol.split("-")
    return {
        "symbol": theirs,
        "base_currency": base,
        "quote_currency": quote,
        "tick_size": 1e-8,
        "quote_increment": 0.01,
        "status": "open",
        "product_type": "swap" if kind else "spot",
    }


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind = request["type"]
            wanted = [
                str(name)
                for one in request["subscriptions"]
                if one["name"] == "l2"
                for name in one["symbols"]
            ]
        except (ValueError, KeyError, TypeError):
            return []
        if kind not in ("subscribe", "unsubscribe") or not wanted:
            return []
        symbols = [self._listing.ours(name.upper()) for name in wanted]
        return [
            {"type": kind, "channel": channel, "symbols": symbols} for channel in ("price", "book")
        ]

    def says(self, message: Mapping[str, Any]) -> bool:
        # One error for both of what one request is here.
        second = message["type"] == "error" and message.get("channel") == "book"
        return message["type"] not in ("subscribed", "unsubscribed") and not second

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        if kind == "heartbeat":
            beat = {"type": "heartbeat", "timestamp": message["time"] // 1_000_000}
            return [encode_message(beat)]
        if kind == "error":
            name = self._listing.theirs(message["symbol"])
            told = f"{message['message']}: '{name}'"
            return [encode_message({"result": "error", "reason": "InvalidSymbol", "message": told})]
        if kind not in ("price", "snapshot", "delta"):
            return []
        symbol = self._listing.theirs(message["symbol"])
        if kind == "price":
            return [encode_message({**_trade(message, symbol), **added(message)})]
        sides = (("buy", message["bids"]), ("sell", message["asks"]))
        changes = [[side, *level] for side, levels in sides for level in levels]
        recent: dict[str, Any] = {"trades": []} if kind == "snapshot" else {}
        updates = {"type": "l2_updates", "symbol": symbol, "changes": changes, **recent}
        return [encode_message({**updates, **added(message)})]


def _trade(message: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    return {
        "type": "trade",
        "symbol": symbol,
        "event_id": message["sequence"],
        "timestamp": message["time"] // 1_000_000,
        "price": message["price"],
        "quantity": message["size"],
        "side": message["side"],
        "tid": message["sequence"],
    }
