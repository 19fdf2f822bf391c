"""A real session of Coinbase, against what an independent implementation made of it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feedhandler import Coinbase, Event, Gap, Quote, Side, Trade
from feedhandler.cli.replay import replay
from feedhandler.recording import read_recording

NAME = "coinbase"


@pytest.fixture(scope="module")
def recording(recordings: Path) -> Path:
    return recordings / f"{NAME}.jsonl.zst"


@pytest.fixture(scope="module")
def expected(recordings: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((recordings / "expected" / f"{NAME}.json").read_text())
    return document


def exact(number: Decimal | None) -> str:
    """Without exponent and without trailing zeros."""
    assert number is not None
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def microseconds(time_ns: int | None) -> str:
    return "-" if time_ns is None else str(time_ns // 1000)


def lines_of(events: Iterable[Event]) -> dict[str, dict[str, list[str]]]:
    lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if isinstance(event, Trade):
            line = "|".join(
                ("T", event.symbol, event.side.value, exact(event.price), exact(event.size))
            )
            lines["trades"][event.symbol].append(f"{line}|{event.trade_id or '-'}")
            lines["trades_ts"][event.symbol].append(microseconds(event.venue_time_ns))
        elif isinstance(event, Quote):
            line = f"Q|{event.symbol}|{exact(event.bid)}|{exact(event.ask)}"
            lines["ticker"][event.symbol].append(line)
            lines["ticker_ts"][event.symbol].append(microseconds(event.venue_time_ns))
    return lines


def digest_of(by_symbol: dict[str, list[str]]) -> tuple[str, dict[str, str]]:
    """The venue's digest and each symbol's, as the recordings' README defines them."""
    digests = {
        symbol: hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
        for symbol, lines in by_symbol.items()
    }
    whole = "".join(f"{symbol}|{digests[symbol]}\n" for symbol in sorted(digests))
    return hashlib.sha256(whole.encode()).hexdigest(), digests


def check(events: list[Event], expected: dict[str, Any]) -> None:
    trades = [event for event in events if isinstance(event, Trade)]
    quotes = [event for event in events if isinstance(event, Quote)]
    counts = expected["counts"]
    assert len(trades) == counts["trades"]
    assert sum(trade.side is Side.BUY for trade in trades) == counts["trades_buy"]
    assert sum(trade.side is Side.SELL for trade in trades) == counts["trades_sell"]
    assert len(quotes) == counts["ticker"]
    sums = {
        "trade_price": [trade.price for trade in trades],
        "trade_amount": [trade.size for trade in trades],
        "ticker_bid": [quote.bid for quote in quotes],
        "ticker_ask": [quote.ask for quote in quotes],
    }
    assert {
        name: exact(sum((n for n in numbers if n is not None), Decimal(0)))
        for name, numbers in sums.items()
    } == expected["sums"]
    for name, by_symbol in lines_of(events).items():
        whole, digests = digest_of(by_symbol)
        assert {s: expected["per_symbol"][s][name] for s in digests} == digests
        assert whole == expected["sha256"][name]


def test_the_decoder_gives_what_is_expected(recording: Path, expected: dict[str, Any]) -> None:
    session = Coinbase().session()
    events: list[Event] = []
    with read_recording(recording) as records:
        for record in records:
            if record.k == "recv" and record.payload is not None:
                items = session.decode(record.payload, recv_ns=record.t, epoch=1)
                events += [item for item in items if isinstance(item, Trade | Quote | Gap)]
    assert not any(isinstance(event, Gap) for event in events)
    check(events, expected)


async def test_the_replay_over_loopback_gives_what_is_expected(
    recording: Path, expected: dict[str, Any]
) -> None:
    events: list[Event] = []
    result = await replay(recording, on_event=events.append)
    assert result.gaps == result.decode_errors == 0
    assert not result.torn
    assert result.sent == 1030
    check(events, expected)
