"""Bitfinex v2, as a mock server speaks it: numbered channels and frames, trades, ticker, books.

Sources, on docs.bitfinex.com: *WS General* (events, error and info codes, `conf` flags, heartbeats
of channels every 15 s), *Public Channels*, *Trades*, *Ticker*, *Books*, *WebSocket Checksum*,
*Configs*. Frames are numbered, events are not. Whatever flags are asked for, it turns on those for
the sequence, the time, checksums and bulk updates too, and says so: then each change of a book is
one frame, which a frame with the checksum follows.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from feedhandler.abc import HttpResponse, Venue
from feedhandler.venues.bitfinex import Bitfinex
from feedhandler_testing.dialect import DialectSession, Listing, Means, added, listed
from feedhandler_testing.wire_numbers import as_number, encode_digits

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = ["BitfinexDialect"]

_THEIRS = MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})
_OURS = MappingProxyType({theirs: ours for ours, theirs in _THEIRS.items()})
_CODES = MappingProxyType({"USDT": "UST", "BCH": "BCHN"})
_FLAGS = 32768 + 65536 + 131072 + 536870912
_FIRST_CHANNEL = 9_000_001  # above those of recordings
_STAMP = re.compile(r",\s*(\d+)((?:,\s*\d{13})?\s*\]\s*)$")
_MEANS = Means(
    says=frozenset(
        {
            "price", "quote", "snapshot", "delta", "subscribed", "unsubscribed", "error",
            "heartbeat", "checksum", "reconnect", "hello",
        }
    ),
    numbered_books=False,
    dated_snapshots=False,
    per_connection=True,
    first_stamp=1,
    stamps=MappingProxyType(
        {
            "snapshot": 2, "delta": 2,  # the checksum's frame has the second
            "hello": 0, "subscribed": 0, "unsubscribed": 0, "error": 0, "result": 0, "pong": 0,
            "reconnect": 0,
        }
    ),
    time_unit_ns=1_000_000,
    heartbeat_s=15.0,
    split_requests=True,
)  # fmt: skip


@frozen
class BitfinexDialect:
    """Bitfinex's public market data, of pairs and of perpetual contracts."""

    name: str = field(default="bitfinex", init=False)
    means: Means = field(default=_MEANS, init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "trades", "book": "book", "quote": "ticker"})

    def session(self, listing: Listing) -> DialectSession:
        return _Session(listing)

    def venue_symbol(self, symbol: str) -> str:
        codes = [_CODES.get(code, code) for code in symbol.split("-")[:2]]
        if symbol.endswith("-PERP"):
            codes = [f"{code}F0" for code in codes]
        between = "" if all(len(code) == 3 for code in codes) else ":"
        return f"t{between.join(codes)}"

    def checksum(self, book: MockBook) -> int | None:
        texts: list[str] = []
        for bid, ask in zip_longest(book.bids[:25], book.asks[:25]):
            if bid is not None:
                texts += bid
            if ask is not None:
                texts += (ask[0], f"-{ask[1]}")
        check = zlib.crc32(":".join(texts).encode())
        return check - (1 << 32 if check >> 31 else 0)

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return None  # its numbers are the connection's

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        _, found, kind = url.partition("/v2/conf/pub:list:pair:")
        return {"type": "instruments", "kind": kind} if found else None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        futures = request["kind"] == "futures"
        pairs = [
            listing.theirs(symbol)[1:]
            for symbol in listing.symbols
            if symbol.endswith("-PERP") is futures
        ]
        body = json.dumps([pairs]).encode()
        return HttpResponse(200, (("Content-Type", "application/json"),), body)

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return listed(Bitfinex(server.url, dial=server.dial, fetch=server.fetch), server)


class _Session:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._numbers: dict[tuple[str, str], int] = {}  # of channels
        self._next = _FIRST_CHANNEL

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            event = request["event"]
            match event:
                case "conf":
                    return [{"type": "call", "flags": int(request["flags"]) | _FLAGS}]
                case "ping":
                    return [{"type": "ping", "cid": request.get("cid")}]
                case "unsubscribe":
                    return self._end(int(request["chanId"]))
                case "subscribe":
                    channel, theirs = str(request["channel"]), str(request["symbol"])
                case _:
                    return []
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        ours, symbol = _OURS.get(channel, channel), self._listing.ours(theirs)
        if symbol in self._listing:
            self._numbers[ours, symbol] = self._next
            self._next += 1
        told = {"len": str(request.get("len", 25))} if channel == "book" else {}
        return [{"type": "subscribe", "channel": ours, "symbols": [symbol], "told": told}]

    def _end(self, number: int) -> Sequence[dict[str, Any]]:
        found = next((key for key, known in self._numbers.items() if known == number), None)
        if found is None:
            return []
        del self._numbers[found]
        channel, symbol = found
        return [{"type": "unsubscribe", "channel": channel, "symbols": [symbol], "chan": number}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return message["type"] != "heartbeat" or bool(self._numbers)

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        if message["type"] in ("price", "quote", "snapshot", "delta"):
            return self._data(message)
        if message["type"] == "heartbeat":
            return [_frame([next(iter(self._numbers.values()), 0), "hb"], message)]
        return [encode_digits(event) for event in self._events(message)]

    def _events(self, message: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        match message["type"]:
            case "hello":
                status = {"platform": {"status": 1}}
                return [{"event": "info", "version": 2, "serverId": "mock", **status}]
            case "result":
                return [{"event": "conf", "status": "OK", "flags": message["flags"]}]
            case "pong":
                ms = message["time"] // 1_000_000
                return [{"event": "pong", "ts": ms, "cid": message["cid"]}]
            case "reconnect":
                words = "Stopping. Please try to reconnect"
                return [{"event": "info", "code": 20051, "msg": words}]
            case "subscribed":
                return [self._subscribed(message, symbol) for symbol in message["symbols"]]
            case "unsubscribed":
                return [{"event": "unsubscribed", "status": "OK", "chanId": message["chan"]}]
            case "error":
                theirs = self._listing.theirs(message.get("symbol", ""))
                channel = message.get("channel", "price")
                named = {"channel": _THEIRS.get(channel, channel), "symbol": theirs}
                refusal = {"event": "error", "msg": "symbol: invalid", "code": 10300}
                return [{**named, **refusal, "pair": theirs[1:]}]
        return []

    def _subscribed(self, message: Mapping[str, Any], symbol: str) -> dict[str, Any]:
        channel, theirs = message["channel"], self._listing.theirs(symbol)
        told = {"prec": "P0", "freq": "F0", **message["told"]} if message.get("told") else {}
        named = {"channel": _THEIRS.get(channel, channel), "symbol": theirs, "pair": theirs[1:]}
        number = self._numbers.get((channel, symbol), 0)
        return {"event": "subscribed", **named, "chanId": number, **told}

    def _data(self, message: Mapping[str, Any]) -> Sequence[str]:
        kind = message["type"]
        of = kind if kind in _THEIRS else "book"
        number = self._numbers.get((of, message["symbol"]), 0)
        if kind == "price":
            return [_frame([number, "te", _trade(message)], message)]
        if kind == "quote":
            return [_frame([number, _top(message)], message)]
        rows = [_row(level, bid=True) for level in message["bids"]]
        rows += [_row(level, bid=False) for level in message["asks"]]
        return [
            _frame([number, [*rows, *added(message).values()]], message),
            _frame([number, "cs", message.get("checksum")], message, after=1),
        ]

    # --- of recordings ---

    def stamp_of(self, message: str | bytes) -> int | None:
        text = message if isinstance(message, str) else message.decode()
        found = _STAMP.search(text) if text.startswith("[") else None
        return int(found[1]) if found else None

    def with_stamp(self, message: str | bytes, stamp: int) -> str | bytes:
        text = message if isinstance(message, str) else message.decode()
        return _STAMP.sub(rf",{stamp}\2", text, count=1) if text.startswith("[") else message


def _frame(frame: list[Any], message: Mapping[str, Any], *, after: int = 0) -> str:
    stamp, time = message.get("stamp"), message.get("time")
    number = stamp + after if isinstance(stamp, int) else stamp
    ms = time // 1_000_000 if isinstance(time, int) else time
    return encode_digits([*frame, number, ms])


def _trade(message: Mapping[str, Any]) -> list[Any]:
    ms = message["time"] // 1_000_000
    size = message["size"]
    amount = f"-{size}" if message["side"] == "sell" else size
    return [message["sequence"], ms, as_number(amount), as_number(message["price"])]


def _top(message: Mapping[str, Any]) -> list[Any]:
    best = [as_number(message[name]) for name in ("bid", "bid_size", "ask", "ask_size")]
    return [*best, 0, 0, best[0], 1, best[2], best[0]]


def _row(level: Sequence[str], *, bid: bool) -> list[Any]:
    """Price, count, amount: its sign is the side, and a count of 0 ends the level."""
    price, size = level
    if size == "0":
        return [as_number(price), 0, 1 if bid else -1]
    # With the digits that the kit knows, zeros at the end too, which the venue does not write.
    return [as_number(price), 1, as_number(size if bid else f"-{size}")]
