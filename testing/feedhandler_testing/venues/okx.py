"""OKX v5, as a mock server speaks it: trades, bbo-tbt, books with ids and checksums, notices.

Sources, on okx.com/docs-v5: *Overview*, "WebSocket" (one answer for each argument, with the
request's `id`; `ping` and `pong` as text, at least each 30 s; notice 64008) and *Order Book
Trading*, "WS / Order book channel" (`seqId`, `prevSeqId`, which is -1 of a snapshot; the checksum),
"WS / Trades channel". The checksum is sent, as it was before 2026-06-23.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.okx import OKX
from feedhandler_testing.dialect import DialectSession, Listing, Means, UpdateIds, added, listed
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["OKXDialect"]

_THEIRS = MappingProxyType({"price": "trades", "book": "books", "quote": "bbo-tbt"})
_OURS = MappingProxyType({theirs: ours for ours, theirs in _THEIRS.items()})
_JSON = (("Content-Type", "application/json"),)
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error",
            "reconnect", "checksum",
        }
    ),
    numbered_trades=False,
    time_unit_ns=1_000_000,
    idle_s=30.0,
    split_requests=True,
)  # fmt: skip


@frozen
class OKXDialect:
    """OKX's market data, of spot and of perpetual swaps."""

    name: str = field(default="okx", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        return f"{symbol.removesuffix('-PERP')}-SWAP" if symbol.endswith("-PERP") else symbol

    def checksum(self, book: MockBook) -> int | None:
        bids, asks = book.bids[:25], book.asks[:25]
        texts = []
        for i in range(max(len(bids), len(asks))):
            texts += [":".join(side[i]) for side in (bids, asks) if i < len(side)]
        number = zlib.crc32(":".join(texts).encode())
        return number - (1 << 32) if number >> 31 else number

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None if sequence is None else _ids(symbol).message(sequence)

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        if "/api/v5/public/instruments" not in url:
            return None
        return {"type": "instruments", "instType": url.rpartition("instType=")[2]}

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        lines = [
            line
            for line in (_instrument(one, listing.theirs(one)) for one in listing.symbols)
            if line["instType"] == request["instType"]
        ]
        answer = {"code": "0", "msg": "", "data": lines}
        return HttpResponse(200, _JSON, json.dumps(answer).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return listed(OKX(server.url, dial=server.dial, fetch=server.fetch), server)


def _ids(symbol: str) -> UpdateIds:
    return UpdateIds(base=zlib.crc32(symbol.encode()), span=5)


def _instrument(symbol: str, theirs: str) -> dict[str, Any]:
    base, quote, *kind = symbol.split("-")
    line = {"instId": theirs, "state": "live", "tickSz": "0.01", "lotSz": "0.0001"}
    if kind:
        return {**line, "instType": "SWAP", "instFamily": f"{base}-{quote}", "baseCcy": ""}
    return {**line, "instType": "SPOT", "baseCcy": base, "quoteCcy": quote}


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        if message in ("ping", b"ping"):
            return [{"type": "ping"}]
        try:
            request = json.loads(message)
            kind = request["op"]
            wanted = [(str(one["channel"]), str(one["instId"])) for one in request["args"]]
        except (ValueError, KeyError, TypeError):
            return []
        if kind not in ("subscribe", "unsubscribe"):
            return []
        named = {"id": request["id"]} if "id" in request else {}
        found: dict[str, list[str]] = {}
        for channel, name in wanted:
            found.setdefault(channel, []).append(self._listing.ours(name))
        return [
            {"type": kind, "channel": _OURS.get(channel, channel), "symbols": symbols, **named}
            for channel, symbols in found.items()
        ]

    def _argument(self, message: Mapping[str, Any], symbol: str) -> dict[str, str]:
        channel = message.get("channel", "price")
        return {"channel": _THEIRS.get(channel, channel), "instId": self._listing.theirs(symbol)}

    def says(self, message: Mapping[str, Any]) -> bool:
        return True

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        named = {"id": message["id"]} if "id" in message else {}
        match kind:
            case "pong":
                return ["pong"]
            case "subscribed" | "unsubscribed":
                event = kind.removesuffix("d")
                arguments = [self._argument(message, symbol) for symbol in message["symbols"]]
                return [
                    encode_message({**named, "event": event, "arg": one, "connId": "mock"})
                    for one in arguments
                ]
            case "error":
                arg = self._argument(message, message.get("symbol", ""))
                words = (
                    f"Wrong URL or channel:{arg['channel']},instId:{arg['instId']} doesn't exist. "
                    "Please use the correct URL, channel and parameters referring to API document."
                )
                event = {"event": "error", "code": "60018", "msg": words, "connId": "mock"}
                return [encode_message({**named, **event})]
            case "reconnect":
                words = (
                    "The connection will soon be closed for a service upgrade. Please reconnect."
                )
                event = {"event": "notice", "code": "64008", "msg": words, "connId": "mock"}
                return [encode_message(event)]
            case "price" | "quote" | "snapshot" | "delta":
                return [encode_message(self._data(message))]
        return []

    def _data(self, message: Mapping[str, Any]) -> dict[str, Any]:
        kind, theirs = message["type"], self._listing.theirs(message["symbol"])
        channel = _THEIRS.get(kind, _THEIRS["book"])
        text: dict[str, Any] = {"arg": {"channel": channel, "instId": theirs}}
        if kind in ("snapshot", "delta"):
            text["action"] = "snapshot" if kind == "snapshot" else "update"
        stamp = str(message["time"] // 1_000_000)
        make = {"price": _trade, "quote": _top}.get(kind, _book)
        return {**text, "data": [{**make(message, theirs), "ts": stamp, **added(message)}]}


def _trade(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    return {
        "instId": theirs,
        "tradeId": str(message["sequence"]),
        "px": message["price"],
        "sz": message["size"],
        "side": message["side"],
        "count": "1",
        "source": "0",
    }


def _top(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    return {
        "asks": [[message["ask"], message["ask_size"], "0", "1"]],
        "bids": [[message["bid"], message["bid_size"], "0", "1"]],
        "seqId": _ids(message["symbol"]).last(message["sequence"]),
    }


def _book(message: Mapping[str, Any], theirs: str) -> dict[str, Any]:
    ids = _ids(message["symbol"])
    before = -1 if message["type"] == "snapshot" else ids.last(message["sequence"] - 1)
    return {
        "asks": [[*level, "0", "1"] for level in message["asks"]],
        "bids": [[*level, "0", "1"] for level in message["bids"]],
        "checksum": message["checksum"] or 0,  # as it is sent where there is none
        "seqId": ids.last(message["sequence"]),
        "prevSeqId": before,
    }
