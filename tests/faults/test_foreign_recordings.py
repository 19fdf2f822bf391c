"""Recordings as others make them: other channels of the venue, older messages, no list or an old
one. The messages have the forms in which the venues have sent them since 2021."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from feedhandler import Trust
from feedhandler.cli.replay import ReplayResult, replay
from feedhandler.recording import Record, RecordingWriter

OKX_URL = "wss://ws.okex.com:8443/ws/v5/public"
DERIBIT_URL = "wss://www.deribit.com/ws/api/v2"
PERP = "BTC-USDT-PERP"
INVERSE = "BTC-USD-PERP"
CHANNELS = ("trades", "ticker", "l2_book")


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def recording(
    path: Path, venue: str, symbol: str, url: str, *, asked: Any, messages: list[str],
    lists: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    subscribed = {channel: [symbol] for channel in CHANNELS}
    with RecordingWriter(path, venue=venue, subscribed=subscribed) as writer:
        t = 1_650_000_000_000_000_000
        for place, answer in (lists or {}).items():
            writer.write(Record(t, "http", url=place, payload=compact(answer)))
        writer.write(Record(t + 1, "open", 0, url=url))
        writer.write(Record(t + 2, "send", 0, payload=compact(asked)))
        for n, message in enumerate(messages):
            writer.write(Record(t + 3 + n, "recv", 0, payload=message))
    return path


# --- OKX -----------------------------------------------------------------------------------------


def okx_book(action: str, bids: list[list[str]], asks: list[list[str]], text: str) -> str:
    """As it was before 2022-11: without numbers, and with a signed checksum."""
    number = zlib.crc32(text.encode())
    data = {
        "asks": [[*level, "0", "1"] for level in asks],
        "bids": [[*level, "0", "1"] for level in bids],
        "ts": "1650000000100",
        "checksum": number - (1 << 32) if number >> 31 else number,
    }
    arg = {"channel": "books-l2-tbt", "instId": "BTC-USDT-SWAP"}
    return compact({"arg": arg, "action": action, "data": [data]})


def okx_messages() -> list[str]:
    channels = ("trades", "tickers", "books-l2-tbt")
    args = [{"channel": channel, "instId": "BTC-USDT-SWAP"} for channel in channels]
    ticker = {
        "instType": "SWAP", "instId": "BTC-USDT-SWAP", "last": "40000", "lastSz": "1",
        "askPx": "40000.1", "askSz": "11", "bidPx": "40000", "bidSz": "5", "open24h": "1",
        "high24h": "1", "low24h": "1", "sodUtc0": "1", "sodUtc8": "1", "volCcy24h": "1",
        "vol24h": "1", "ts": "1650000000100",
    }  # fmt: skip
    trade = {
        "instId": "BTC-USDT-SWAP", "tradeId": "219066264", "px": "40000.1", "sz": "7",
        "side": "buy", "ts": "1650000000101",
    }  # fmt: skip
    return [
        *(compact({"event": "subscribe", "arg": arg}) for arg in args),
        compact({"arg": args[0], "data": [trade]}),
        compact({"arg": args[1], "data": [ticker]}),
        okx_book(
            "snapshot", [["40000", "5"], ["39999.9", "1"]], [["40000.1", "11"]],
            "40000:5:40000.1:11:39999.9:1",
        ),
        okx_book("update", [["40000", "0"]], [["40000.0", "3"]], "39999.9:1:40000.0:3:40000.1:11"),
    ]  # fmt: skip


OKX_LISTS = "https://www.okex.com/api/v5/public/instruments?instType="
OLD_SWAP = {
    "alias": "", "baseCcy": "", "category": "1", "ctMult": "1", "ctType": "linear",
    "ctVal": "0.01", "ctValCcy": "BTC", "expTime": "", "instId": "BTC-USDT-SWAP",
    "instType": "SWAP", "lever": "125", "listTime": "1611916828000", "lotSz": "1", "minSz": "1",
    "optType": "", "quoteCcy": "", "settleCcy": "USDT", "state": "live", "stk": "",
    "tickSz": "0.1", "uly": "BTC-USDT",
}  # fmt: skip
OLD_SPOT = {
    **OLD_SWAP, "instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT",
    "uly": "",
}  # fmt: skip
ONLY_SOME = {
    f"{OKX_LISTS}{kind}": {"code": "0", "data": [line], "msg": ""}
    for kind, line in (("SPOT", OLD_SPOT), ("SWAP", OLD_SWAP))
}


def judged(result: ReplayResult, symbol: str, top: list[str]) -> None:
    assert (result.gaps, result.decode_errors) == (0, 0)
    for kind in ("Trade", "Quote", "BookSnapshot", "BookDelta"):
        assert result.kinds[kind] == 1, (kind, result.kinds)
    assert not result.kinds["SubscriptionFailed"]
    assert result.coverage[symbol].messages[Trust.VERIFIED] == 2
    last = result.tops[symbol]
    assert [f"{level.price:f} {level.size:f}" for level in (*last.bids, *last.asks)] == top


@pytest.mark.parametrize("lists", [None, ONLY_SOME])
@pytest.mark.parametrize("venue", ["okx", "okex", "OKX"])
async def test_okx_as_it_was_recorded_before_its_books_had_numbers(
    tmp_path: Path, venue: str, lists: dict[str, Any] | None
) -> None:
    asked = {"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT-SWAP"}]}
    path = recording(
        tmp_path / "a.zst", venue, PERP, OKX_URL, asked=asked, messages=okx_messages(), lists=lists
    )
    judged(await replay(path), PERP, ["39999.9 1", "40000.0 3"])


# --- Deribit -------------------------------------------------------------------------------------


def note(channel: str, data: Any) -> str:
    params = {"channel": channel, "data": data}
    return compact({"jsonrpc": "2.0", "method": "subscription", "params": params})


def deribit_messages(trades: str, top: str) -> list[str]:
    channels = [trades, top, "book.BTC-PERPETUAL.raw"]
    named = {"instrument_name": "BTC-PERPETUAL", "timestamp": 1650000000100}
    best = {
        "best_bid_price": 40000.0, "best_bid_amount": 20.0, "best_ask_price": 40000.5,
        "best_ask_amount": 14240.0,
    }  # fmt: skip
    fill = {
        **named, "trade_seq": 92836831, "trade_id": "137487241", "tick_direction": 1,
        "price": 40000.5, "mark_price": 40000.08, "index_price": 40001.74, "direction": "buy",
        "amount": 5580.0,
    }  # fmt: skip
    book = {**named, "change_id": 31479598064}
    return [
        compact({"jsonrpc": "2.0", "id": "1", "result": channels, "usIn": 1, "usOut": 2}),
        note(trades, [fill]),
        note(top, {**named, **best}),
        note(
            "book.BTC-PERPETUAL.raw",
            {**book, "type": "snapshot", "bids": [["new", 40000.0, 20.0]],
             "asks": [["new", 40000.5, 14240.0]]},
        ),
        compact({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}),
        note(
            "book.BTC-PERPETUAL.raw",
            {**book, "type": "change", "prev_change_id": 31479598064, "change_id": 31479598217,
             "bids": [["change", 40000.0, 1.5]], "asks": []},
        ).replace("1.5", "1.0002e6"),
    ]  # fmt: skip


OF_CURRENCIES = {
    f"https://www.deribit.com/api/v2/public/get_instruments?currency={currency}&expired=false": {
        "jsonrpc": "2.0",
        "result": [
            {
                "tick_size": 0.5, "taker_commission": 0.0005, "settlement_period": "perpetual",
                "quote_currency": "USD", "min_trade_amount": 10.0, "kind": "future",
                "is_active": True, "instrument_name": f"{currency}-PERPETUAL",
                "expiration_timestamp": 32503708800000, "creation_timestamp": 1534242287000,
                "contract_size": 10.0, "base_currency": currency,
            }
        ],
        "usIn": 1,
    }
    for currency in ("BTC", "ETH")
}  # fmt: skip


@pytest.mark.parametrize("lists", [None, OF_CURRENCIES])
@pytest.mark.parametrize(
    ("trades", "top"),
    [
        ("trades.BTC-PERPETUAL.raw", "ticker.BTC-PERPETUAL.raw"),
        ("trades.future.BTC.100ms", "quote.BTC-PERPETUAL"),
    ],
)
async def test_deribit_with_channels_that_an_account_has(
    tmp_path: Path, trades: str, top: str, lists: dict[str, Any] | None
) -> None:
    asked = {"jsonrpc": "2.0", "id": "1", "method": "public/subscribe", "params": {"channels": []}}
    messages = deribit_messages(trades, top)
    path = recording(
        tmp_path / "a.zst", "deribit", INVERSE, DERIBIT_URL, asked=asked, messages=messages,
        lists=lists,
    )  # fmt: skip
    judged(await replay(path), INVERSE, ["40000.0 1000200", "40000.5 14240.0"])
