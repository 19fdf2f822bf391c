"""Bybit v5, as a mock server speaks it: publicTrade, tickers, orderbook, JSON pings.

Sources, on bybit-exchange.github.io/docs/v5: *Connect* (requests, their answers, one for each
request; pings), *Orderbook* (`u` of a snapshot is that of the delta before it), *Trade*, *Ticker*,
*Get Instruments Info*. A request with a topic that is not known fails as a whole. Symbols that end
in ``-PERP`` are linear contracts, all others spot, whose top of book is `orderbook.1`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.bybit import Bybit
from feedhandler_testing.dialect import DialectSession, Listing, Means, UpdateIds, added, listed
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["BybitDialect"]

_OURS = MappingProxyType({"publicTrade": "price", "orderbook": "book", "tickers": "quote"})
_DEPTH = 200
_TOP = "1"
_JSON = (("Content-Type", "application/json"),)
_MEANS = Means(
    says=frozenset(
        {"price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error"}
    ),
    numbered_trades=False,
    time_unit_ns=1_000_000,
    split_requests=True,
)  # fmt: skip


@frozen
class BybitDialect:
    """Bybit's market data, of contracts or of spot as the symbols are."""

    name: str = field(default="bybit", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return symbol.removesuffix("-PERP").replace("-", "")

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None if sequence is None else _ids(symbol).message(sequence)

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return {"type": "instruments"} if "/v5/market/instruments-info" in url else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        linear = any(symbol.endswith("-PERP") for symbol in listing.symbols)
        lines = [_instrument(symbol, listing.theirs(symbol)) for symbol in listing.symbols]
        result = {"category": "linear" if linear else "spot", "list": lines}
        answer = {"retCode": 0, "retMsg": "OK", "result": result}
        return HttpResponse(200, _JSON, json.dumps(answer).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        linear = any(symbol.endswith("-PERP") for symbol in symbols)
        venue = Bybit(
            server.url,
            category="linear" if linear else "spot",
            dial=server.dial,
            fetch=server.fetch,
            depth=_DEPTH,
        )
        return listed(venue, server)


def _ids(symbol: str) -> UpdateIds:
    # Far above 1, which would mean a restart.
    return UpdateIds(base=zlib.crc32(symbol.encode()) + 1_000, span=1)


def _instrument(symbol: str, theirs: str) -> dict[str, Any]:
    base, quote, *kind = symbol.split("-")
    line: dict[str, Any] = {
        "symbol": theirs,
        "status": "Trading",
        "baseCoin": base,
        "quoteCoin": quote,
        "priceFilter": {"tickSize": "0.01"},
    }
    if kind:
        return {**line, "contractType": "LinearPerpetual", "deliveryTime": "0"}
    return {**line, "lotSizeFilter": {"basePrecision": "0.0001"}}


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, number = request["op"], str(request.get("req_id", ""))
            topics = [str(topic) for topic in request.get("args", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        if kind == "ping":
            return [{"type": "ping", "req_id": number}]
        if kind not in ("subscribe", "unsubscribe"):
            return []
        found: dict[str, list[str]] = {}
        for topic in topics:
            channel, _, name = topic.partition(".")
            depth = ""
            if channel == "orderbook":
                depth, _, name = name.partition(".")
            ours = "quote" if depth == _TOP else _OURS.get(channel, channel)
            symbol = self._listing.ours(name)
            if symbol not in self._listing:  # the whole request fails
                found = {ours: [symbol]}
                break
            found.setdefault(ours, []).append(symbol)
        requests = [
            {"type": kind, "channel": ours, "symbols": symbols, "req_id": number, "last": False}
            for ours, symbols in found.items()
        ]
        if requests:
            requests[-1]["last"] = True
        return requests

    def _topic(self, channel: str, symbol: str) -> str:
        theirs = self._listing.theirs(symbol)
        if channel == "price":
            return f"publicTrade.{theirs}"
        if channel == "book":
            return f"orderbook.{_DEPTH}.{theirs}"
        linear = symbol.endswith("-PERP")
        return f"tickers.{theirs}" if linear else f"orderbook.{_TOP}.{theirs}"

    def says(self, message: Mapping[str, Any]) -> bool:
        # One answer for all topics of a request: the last says it.
        return message["type"] not in ("subscribed", "unsubscribed") or bool(message["last"])

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        answer: dict[str, Any] = {
            "success": True, "ret_msg": "", "conn_id": "mock", "req_id": message.get("req_id", ""),
        }  # fmt: skip
        match kind:
            case "subscribed" | "unsubscribed":
                return [encode_message({**answer, "op": kind.removesuffix("d")})]
            case "error":
                topic = self._topic(message.get("channel", "price"), message.get("symbol", ""))
                words = f"error:handler not found,topic:{topic}"
                return [
                    encode_message(
                        {**answer, "success": False, "ret_msg": words, "op": "subscribe"}
                    )
                ]
            case "pong":
                return [encode_message({**answer, "ret_msg": "pong", "op": "ping"})]
            case "price" | "quote" | "snapshot" | "delta":
                return [encode_message(self._data(message))]
        return []

    def _data(self, message: Mapping[str, Any]) -> dict[str, Any]:
        theirs, time_ms = self._listing.theirs(message["symbol"]), message["time"] // 1_000_000
        kind = message["type"]
        if kind == "price":
            return {
                "topic": f"publicTrade.{theirs}",
                "type": "snapshot",
                "ts": time_ms,
                "data": [{**_trade(message, theirs, time_ms), **added(message)}],
            }
        if kind == "quote" and message["symbol"].endswith("-PERP"):
            data = {
                "symbol": theirs,
                "bid1Price": message["bid"],
                "bid1Size": message["bid_size"],
                "ask1Price": message["ask"],
                "ask1Size": message["ask_size"],
                **added(message),
            }
            return {"topic": f"tickers.{theirs}", "type": "snapshot", "data": data, "ts": time_ms}
        quote = kind == "quote"
        bids = [[message["bid"], message["bid_size"]]] if quote else message["bids"]
        asks = [[message["ask"], message["ask_size"]]] if quote else message["asks"]
        number = _ids(message["symbol"]).last(message["sequence"])
        data = {"s": theirs, "b": bids, "a": asks, "u": number, "seq": number, **added(message)}
        return {
            "topic": f"orderbook.{_TOP if quote else _DEPTH}.{theirs}",
            "type": "delta" if kind == "delta" else "snapshot",
            "ts": time_ms,
            "data": data,
            "cts": time_ms,
        }


def _trade(message: Mapping[str, Any], theirs: str, time_ms: int) -> dict[str, Any]:
    return {
        "T": time_ms,
        "s": theirs,
        "S": {"buy": "Buy", "sell": "Sell"}.get(message["side"], message["side"]),
        "v": message["size"],
        "p": message["price"],
        "L": "PlusTick",
        "i": str(message["sequence"]),
        "BT": False,
    }
