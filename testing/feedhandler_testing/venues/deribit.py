"""Deribit v2, as a mock server speaks it: JSON-RPC, trades, quotes, books with ids, heartbeats.

Sources, on docs.deribit.com: `public/subscribe` (one answer for each request, with the channels
that are subscribed; what is not known is left out without a word), `public/set_heartbeat`;
*Subscriptions* `book.(instrument_name).(interval)` (a change names the `change_id` before it),
`trades.(instrument_name).(interval)`, `quote.(instrument_name)`; `public/get_instruments`. Amounts
are JSON numbers, with all their digits.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.deribit import Deribit
from feedhandler_testing.dialect import DialectSession, Listing, Means, UpdateIds, added, listed

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["DeribitDialect"]

_OURS = MappingProxyType({"trades": "price", "book": "book", "quote": "quote"})
_JSON = (("Content-Type", "application/json"),)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error",
            "heartbeat",
        }
    ),
    time_unit_ns=1_000_000,
    split_requests=True,
    heartbeat_s=10.0,
)  # fmt: skip


@frozen
class DeribitDialect:
    """Deribit's market data, of spot pairs and of perpetuals."""

    name: str = field(default="deribit", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        base, quote, *kind = symbol.split("-")
        pair = base if kind and quote == "USD" else f"{base}_{quote}"
        return f"{pair}-PERPETUAL" if kind else pair

    def checksum(self, book: MockBook) -> int | None:
        return None

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None if sequence is None else _ids(symbol).message(sequence)

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        if "/api/v2/public/get_instruments" not in url:
            return None
        return {"type": "instruments", "kind": url.rpartition("kind=")[2]}

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        lines = [
            line
            for line in (_instrument(one, listing.theirs(one)) for one in listing.symbols)
            if line["kind"] == request["kind"]
        ]
        answer = {"jsonrpc": "2.0", "result": lines, "testnet": False}
        return HttpResponse(200, _JSON, json.dumps(answer).encode())

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return listed(Deribit(server.url, dial=server.dial, fetch=server.fetch), server)


def _ids(symbol: str) -> UpdateIds:
    return UpdateIds(base=zlib.crc32(symbol.encode()), span=4)


def _instrument(symbol: str, theirs: str) -> dict[str, Any]:
    base, quote, *kind = symbol.split("-")
    return {
        "instrument_name": theirs,
        "kind": "future" if kind else "spot",
        "base_currency": base,
        "quote_currency": quote,
        "counter_currency": quote,
        "settlement_period": "perpetual" if kind else "",
        "is_active": True,
        "tick_size": 0.01,
        "min_trade_amount": 0.0001,
    }


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._beats = False

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            method, number = request["method"], request["id"]
            channels = [str(channel) for channel in request["params"].get("channels", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        kind = str(method).removeprefix("public/")
        if kind == "set_heartbeat":
            self._beats = True
            return [{"type": "call", "id": number, "answer": "ok"}]
        if kind == "test":
            return [{"type": "call", "id": number, "answer": {"version": "1.2.26"}}]
        if kind not in ("subscribe", "unsubscribe"):
            return []
        found: dict[str, dict[str, str]] = {}
        for channel in channels:
            kind_of, symbol = channel.partition(".")[0], self._listing.ours(_instrument_of(channel))
            found.setdefault(_OURS.get(kind_of, kind_of), {})[symbol] = channel
        known = [
            channel
            for named in found.values()
            for symbol, channel in named.items()
            if symbol in self._listing
        ]
        requests: list[dict[str, Any]] = [
            {
                "type": kind, "channel": ours, "symbols": [*named], "id": number, "named": named,
                "result": known, "last": False,
            }
            for ours, named in found.items()
        ]  # fmt: skip
        if requests:
            requests[-1]["last"] = True
        return requests

    def says(self, message: Mapping[str, Any]) -> bool:
        match message["type"]:
            case "subscribed" | "unsubscribed" | "error":
                return bool(message.get("last", True))  # one answer for all channels of a request
            case "heartbeat":
                return self._beats
        return True

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        match message["type"]:
            case "subscribed" | "unsubscribed":
                return [_text(_answer(message["id"], message["result"]))]
            case "error" if "result" in message:
                return self._left_out(message)
            case "error":
                error = {"code": -32602, "message": "Invalid params", "data": message["message"]}
                return [_text({"jsonrpc": "2.0", "error": error})]
            case "result":
                return [_text(_answer(message["id"], message["answer"]))]
            case "heartbeat":
                beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}}
                return [_text(beat)]
            case "price" | "quote" | "snapshot" | "delta":
                return [_text(self._note(message))]
        return []

    def _left_out(self, message: Mapping[str, Any]) -> Sequence[str]:
        """A refusal is a channel that is not in the answer to its request, of which there is one.

        Where the server acknowledges others of the request, that is the answer.
        """
        named, symbol = message["named"], message["symbol"]
        refused = [one for one in named if (one in self._listing) == (symbol in self._listing)]
        if symbol != refused[0] or (len(refused) < len(named) and symbol not in self._listing):
            return []
        told = [channel for channel in message["result"] if channel not in named.values()]
        return [_text(_answer(message["id"], told))]

    def _note(self, message: Mapping[str, Any]) -> dict[str, Any]:
        kind, theirs = message["type"], self._listing.theirs(message["symbol"])
        stamp = {"timestamp": message["time"] // 1_000_000, "instrument_name": theirs}
        data: Any
        if kind == "price":
            channel = f"trades.{theirs}.100ms"
            data = [{**stamp, **_trade(message), **added(message)}]
        elif kind == "quote":
            channel = f"quote.{theirs}"
            data = {**stamp, **_quote(message), **added(message)}
        else:
            channel = f"book.{theirs}.100ms"
            data = {**stamp, **_book(message), **added(message)}
        params = {"channel": channel, "data": data}
        return {"jsonrpc": "2.0", "method": "subscription", "params": params}


def _instrument_of(channel: str) -> str:
    return [*channel.split("."), ""][1]


def _answer(number: object, result: object) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0", "id": number, "result": result, "usIn": 1, "usOut": 2, "usDiff": 1,
        "testnet": False,
    }  # fmt: skip


def _text(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


def _number(amount: object) -> Any:
    """The text of an amount as a JSON number, digit for digit; what is none, as it is."""
    if isinstance(amount, str) and _NUMBER.fullmatch(amount):
        return msgspec.Raw(amount.encode())
    return amount


def _trade(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trade_seq": message["sequence"],
        "trade_id": str(message["sequence"]),
        "tick_direction": 0,
        "price": _number(message["price"]),
        "amount": _number(message["size"]),
        "direction": message["side"],
        "mark_price": _number(message["price"]),
        "index_price": _number(message["price"]),
    }


def _quote(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "best_bid_price": _number(message["bid"]),
        "best_bid_amount": _number(message["bid_size"]),
        "best_ask_price": _number(message["ask"]),
        "best_ask_amount": _number(message["ask_size"]),
    }


def _book(message: Mapping[str, Any]) -> dict[str, Any]:
    ids, whole = _ids(message["symbol"]), message["type"] == "snapshot"
    before = {} if whole else {"prev_change_id": ids.last(message["sequence"] - 1)}
    return {
        "type": "snapshot" if whole else "change",
        "change_id": ids.last(message["sequence"]),
        **before,
        "bids": [_level(level, whole=whole) for level in message["bids"]],
        "asks": [_level(level, whole=whole) for level in message["asks"]],
    }


def _level(level: Sequence[str], *, whole: bool) -> list[Any]:
    price, size = level
    action = "delete" if size == "0" and not whole else "new" if whole else "change"
    return [action, _number(price), _number(size)]
