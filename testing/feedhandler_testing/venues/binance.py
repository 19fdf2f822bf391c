"""Binance spot, as a mock server speaks it: aggTrade, bookTicker, depthUpdate, REST snapshots.

Sources: developers.binance.com, "WebSocket Streams" (requests and their answers by id, combined
streams, server pings every 20 s, *How to manage a local order book correctly*) and "Market Data
endpoints" (`/api/v3/depth`, `/api/v3/exchangeInfo`), and a recording of 2021-10. A depth update has
the numbers of its first (`U`) and last (`u`) change of a level; a snapshot that of the last in it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.instruments import Instrument, InstrumentKind, Instruments
from feedhandler.venues.binance import Binance
from feedhandler_testing.dialect import DialectSession, Listing, Means, UpdateIds, added
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = [
    "JSON",
    "BinanceSpotDialect",
    "BinanceStreams",
    "asked_over_rest",
    "listed",
    "refused",
]

_THEIRS = MappingProxyType({"price": "aggTrade", "book": "depth@100ms", "quote": "bookTicker"})
_OURS = MappingProxyType({"aggTrade": "price", "depth": "book", "bookTicker": "quote"})
_KINDS = MappingProxyType({"SUBSCRIBE": "subscribe", "UNSUBSCRIBE": "unsubscribe"})
JSON = (("Content-Type", "application/json;charset=UTF-8"),)
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "delta", "subscribed", "unsubscribed", "error", "reconnect", "rest",
        }
    ),
    time_unit_ns=1_000_000,
    ping_s=20.0,
)  # fmt: skip


@frozen
class BinanceSpotDialect:
    """Binance spot's market data."""

    name: str = field(default="binance", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return BinanceStreams(listing, quote=_quote, update=_update)

    def venue_symbol(self, symbol: str) -> str:
        return symbol.replace("-", "").upper()

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None if sequence is None else _ids(symbol).message(sequence)

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return asked_over_rest(url, listing, root="/api/v3")

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        if request["type"] == "instruments":
            symbols = [_instrument(symbol, listing.theirs(symbol)) for symbol in listing.symbols]
            info = {"timezone": "UTC", "rateLimits": [], "exchangeFilters": [], "symbols": symbols}
            return HttpResponse(200, JSON, json.dumps(info).encode())
        if message is None:
            return refused()
        limit = request["limit"]
        depth = {
            "lastUpdateId": _last_of(message),
            "bids": message["bids"][:limit],
            "asks": message["asks"][:limit],
        }
        return HttpResponse(200, JSON, encode_message(depth).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return Binance(
            server.url,
            dial=server.dial,
            fetch=server.fetch,
            rest_url=server.rest_url.rstrip("/"),
            instruments=listed(server.listing, InstrumentKind.SPOT, venue=self.name),
        )


def asked_over_rest(url: str, listing: Listing, *, root: str) -> dict[str, Any] | None:
    """What is asked for at `url`, below the path `root`."""
    split = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(split.query).items()}
    if split.path == f"{root}/exchangeInfo":
        return {"type": "instruments"}
    if split.path != f"{root}/depth":
        return None
    limit = query.get("limit", "100")
    return {
        "type": "snapshot",
        "symbol": listing.ours(query.get("symbol", "")),
        "limit": int(limit) if limit.isdecimal() else 100,
    }


def refused() -> HttpResponse:
    """The answer about a symbol that there is not."""
    return HttpResponse(400, JSON, b'{"code":-1121,"msg":"Invalid symbol."}')


def listed(listing: Listing, kind: InstrumentKind, *, venue: str) -> Instruments:
    """The library's list of what the server lists, whatever a scenario calls it."""
    return Instruments(
        [
            Instrument(s, listing.theirs(s), s.split("-")[0], s.partition("-")[2], kind)
            for s in listing.symbols
        ],
        venue=venue,
    )


def _ids(symbol: str) -> UpdateIds:
    # Far from each other, as they are at the venue: a snapshot of another symbol never fits.
    return UpdateIds(base=zlib.crc32(symbol.encode()) * 10_000)


def _last_of(message: Mapping[str, Any]) -> int:
    raw: int | None = message.get("raw")
    return _ids(message["symbol"]).last(message["sequence"]) if raw is None else raw


def _instrument(symbol: str, theirs: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("-")
    return {
        "symbol": theirs,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": quote,
        "isSpotTradingAllowed": True,
        "permissions": ["SPOT"],
    }


Make = Callable[[Mapping[str, Any], str], dict[str, Any]]


class BinanceStreams:
    """One connection, spot or futures; `quote` and `update` write what is not the same on both."""

    def __init__(self, listing: Listing, *, quote: Make, update: Make) -> None:
        self._listing = listing
        self._make = {"price": _trade, "quote": quote, "delta": update}

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, streams = _KINDS[request["method"]], [str(name) for name in request["params"]]
            number = request["id"]
        except (ValueError, KeyError, TypeError):
            return []
        wanted: dict[str, list[str]] = {}
        for stream in streams:
            theirs, _, channel = stream.partition("@")
            ours = _OURS.get(channel.partition("@")[0], channel)
            wanted.setdefault(ours, []).append(self._listing.ours(theirs.upper()))
        # One answer for all: the last says it.
        requests = [
            {"type": kind, "channel": channel, "symbols": symbols, "id": number, "last": False}
            for channel, symbols in wanted.items()
        ]
        if requests:
            requests[-1]["last"] = True
        return requests

    def says(self, message: Mapping[str, Any]) -> bool:
        return message["type"] not in ("subscribed", "unsubscribed") or bool(message["last"])

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        if kind in ("subscribed", "unsubscribed"):
            return [encode_message({"result": None, "id": message["id"]})]
        if kind == "error":
            error = {"code": 2, "msg": message["message"]}
            return [encode_message({"error": error, "id": message.get("id")})]
        if kind == "reconnect":
            return [encode_message({"e": "serverShutdown", "E": message["time"] // 1_000_000})]
        make = self._make.get(kind)
        if make is None:
            return []
        theirs = self._listing.theirs(message["symbol"])
        channel = {"price": "price", "quote": "quote"}.get(kind, "book")
        data = {**make(message, theirs), **added(message)}
        return [encode_message({"stream": f"{theirs.lower()}@{_THEIRS[channel]}", "data": data})]


def _trade(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    time_ms = message["time"] // 1_000_000
    return {
        "e": "aggTrade",
        "E": time_ms,
        "s": theirs,
        "a": message["sequence"],
        "p": message["price"],
        "q": message["size"],
        "f": message["sequence"],
        "l": message["sequence"],
        "T": time_ms,
        "m": message["side"] == "sell",
        "M": True,
    }


def _quote(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    return {
        "u": _ids(message["symbol"]).last(message["sequence"]),
        "s": theirs,
        "b": message["bid"],
        "B": message["bid_size"],
        "a": message["ask"],
        "A": message["ask_size"],
    }


def _update(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    ids = _ids(message["symbol"])
    return {
        "e": "depthUpdate",
        "E": message["time"] // 1_000_000,
        "s": theirs,
        "U": ids.first(message["sequence"]),
        "u": ids.last(message["sequence"]),
        "b": message["bids"],
        "a": message["asks"],
    }
