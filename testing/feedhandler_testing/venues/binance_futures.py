"""Binance USD-M futures, as a mock server speaks it: aggTrade, bookTicker, depthUpdate with `pu`.

Sources: developers.binance.com, "USDS-Margined Futures": *Websocket Market Streams*, *Diff. Book
Depth Streams*, *How to manage a local order book correctly*, *Order Book* and *Exchange
Information*, and a recording of 2021-07. Update ids are shared by all symbols, so those of one
skip, and each depth update names the last id (`pu`) of the one before it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.instruments import InstrumentKind
from feedhandler.venues.binance_futures import BinanceFutures
from feedhandler_testing.dialect import DialectSession, Listing, Means, UpdateIds
from feedhandler_testing.prices import encode_message
from feedhandler_testing.venues.binance import (
    JSON,
    BinanceStreams,
    asked_over_rest,
    listed,
    refused,
)

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["BinanceFuturesDialect"]

_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "delta", "subscribed", "unsubscribed", "error", "reconnect", "rest",
        }
    ),
    repeats_last=True,
    time_unit_ns=1_000_000,
    ping_s=180.0,
)  # fmt: skip
_OTHERS = 4  # ids that are other symbols', between two updates of one


@frozen
class BinanceFuturesDialect:
    """The market data of Binance's USD-M futures; both entries are one here."""

    name: str = field(default="binance_futures", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return BinanceStreams(listing, quote=_quote, update=_update)

    def venue_symbol(self, symbol: str) -> str:
        base, _, rest = symbol.upper().partition("-")
        quote, _, contract = rest.partition("-")
        return f"{base}{quote}" + (f"_{contract[2:]}" if contract.isdecimal() else "")

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None if sequence is None else _ids(symbol).message(sequence)

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return asked_over_rest(url, listing, root="/fapi/v1")

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        if request["type"] == "instruments":
            symbols = [_contract(symbol, listing.theirs(symbol)) for symbol in listing.symbols]
            info = {"timezone": "UTC", "rateLimits": [], "assets": [], "symbols": symbols}
            return HttpResponse(200, JSON, json.dumps(info).encode())
        if message is None:
            return refused()
        limit, time_ms = request["limit"], message["time"] // 1_000_000
        depth = {
            "lastUpdateId": _last_of(message),
            "E": time_ms,
            "T": time_ms,
            "bids": message["bids"][:limit],
            "asks": message["asks"][:limit],
        }
        return HttpResponse(200, JSON, encode_message(depth).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return BinanceFutures(
            server.url,
            dial=server.dial,
            fetch=server.fetch,
            rest_url=server.rest_url.rstrip("/"),
            instruments=listed(server.listing, InstrumentKind.PERPETUAL, venue=self.name),
        )


def _ids(symbol: str) -> UpdateIds:
    # Far from each other, so that a snapshot of another symbol never fits.
    return UpdateIds(base=zlib.crc32(symbol.encode()) * 10_000, span=3 + _OTHERS)


def _last_of(message: Mapping[str, Any]) -> int:
    raw: int | None = message.get("raw")  # the venue's own number, where a recording is played
    return _ids(message["symbol"]).last(message["sequence"]) if raw is None else raw


def _contract(symbol: str, theirs: str) -> dict[str, Any]:
    base, _, rest = symbol.partition("-")
    dated = "_" in theirs
    return {
        "symbol": theirs,
        "pair": theirs.partition("_")[0],
        "contractType": "CURRENT_QUARTER" if dated else "PERPETUAL",
        "deliveryDate": 1_774_598_400_000 if dated else 4_133_404_800_000,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": rest.partition("-")[0],
        "marginAsset": rest.partition("-")[0],
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001"},
        ],
    }


def _quote(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    time_ms = message["time"] // 1_000_000
    return {
        "e": "bookTicker",
        "u": _ids(message["symbol"]).last(message["sequence"]),
        "s": theirs,
        "b": message["bid"],
        "B": message["bid_size"],
        "a": message["ask"],
        "A": message["ask_size"],
        "T": time_ms,
        "E": time_ms,
    }


def _update(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    ids, number = _ids(message["symbol"]), message["sequence"]
    time_ms = message["time"] // 1_000_000
    return {
        "e": "depthUpdate",
        "E": time_ms,
        "T": time_ms,
        "s": theirs,
        "U": ids.first(number) + _OTHERS,
        "u": ids.last(number),
        "pu": ids.last(number - 1),
        "b": message["bids"],
        "a": message["asks"],
    }
