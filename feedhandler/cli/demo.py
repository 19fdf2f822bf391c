"""``feedhandler demo``: a mock exchange on loopback TCP, and faults one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy
from feedhandler._io.nursery import open_plain_nursery
from feedhandler.cli.board import Board, Output
from feedhandler.config import BackoffConfig, BreakerConfig, ConnectionConfig, FeedConfig
from feedhandler.errors import FailureKind
from feedhandler.handler import open_feed
from feedhandler.model import FeedStateChanged
from feedhandler.venues.price import PriceVenue

if TYPE_CHECKING:
    from feedhandler_testing import Disconnect, MalformedData, MockWebSocketServer, Timeout

__all__ = ["run_demo"]

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
_START = {"BTC-USD": "65083.67", "ETH-USD": "1919.41", "SOL-USD": "142.10"}
_TICK_S = 0.01

_SECONDS = 30.0  # what the settings below are made for


def _config(scale: float) -> FeedConfig:
    """Settings that are quick enough to be watched; the defaults are ten times slower."""
    return FeedConfig(
        connection=ConnectionConfig(
            connect_timeout_s=1.0,
            heartbeat_interval_s=0.4 * scale,
            pong_deadline_s=1.0 * scale,
            frame_stale_s=0.8 * scale,
        ),
        backoff=BackoffConfig(base_s=0.05 * scale, cap_s=1.0 * scale, max_retries=0),
        breaker=BreakerConfig(
            failure_threshold=5,
            success_threshold=3,
            open_s=1.0 * scale,
            open_cap_s=2.0 * scale,
        ),
    )


def _policies(scale: float) -> dict[FailureKind, FailurePolicy]:
    return {
        **DEFAULT_POLICIES,
        FailureKind.MAINTENANCE: FailurePolicy(scale=6, cap_s=1.0 * scale),
        FailureKind.RATE_LIMITED: FailurePolicy(scale=4, cap_s=1.0 * scale),
    }


@define
class _Exchange:
    """Prices that walk at random, and a sequence that a fault can put a hole into."""

    server: MockWebSocketServer
    rng: Random
    prices: dict[str, Decimal] = field(
        factory=lambda: {symbol: Decimal(price) for symbol, price in _START.items()}
    )
    sequences: Counter[str] = field(factory=Counter)
    paused: bool = False

    async def run(self) -> None:
        while True:
            await trio.sleep(_TICK_S)
            if self.paused:
                continue
            symbol = self.rng.choice(SYMBOLS)
            step = Decimal(self.rng.randint(-9, 9)).scaleb(-2)
            self.prices[symbol] = max(self.prices[symbol] + step, Decimal("0.01"))
            self.sequences[symbol] += 1
            await self.server.send_price_update(
                {
                    "symbol": symbol,
                    "price": str(self.prices[symbol]),
                    "size": str(Decimal(self.rng.randint(1, 500)).scaleb(-3)),
                    "side": self.rng.choice(["buy", "sell"]),
                    "sequence": self.sequences[symbol],
                    "time": 1_700_000_000_000_000_000 + round(trio.current_time() * 1e9),
                }
            )


@define
class _Script:
    """The faults, each with a caption, in shares of the whole time."""

    exchange: _Exchange
    show: Callable[[str], None]
    seconds: float
    shown: int = 0

    async def run(self) -> None:
        from feedhandler_testing import Disconnect, MalformedData, Timeout

        server, exchange = self.exchange.server, self.exchange
        await self._act("all is well: prices flow", 2)
        self._drop_all()
        await self._act("the connection is reset: reconnect, and a gap for each symbol", 2)
        async with self._failure(MalformedData(kind="truncated", every=40)):
            await self._act("some messages are cut off: each is reported, the stream goes on", 2)
        exchange.sequences.update(dict.fromkeys(SYMBOLS, 7))
        await self._act("7 messages of each symbol are lost: the gap has exact bounds", 1.5)
        async with self._failure(Timeout(where="stream")):
            await self._act("the venue falls silent with its socket open: the deadline acts", 2)
        await self._act("it speaks again", 1)
        for connection in list(server.connections.values()):
            await connection.close(1012, "restart")
        await self._act("the venue restarts (Close 1012): the curve is slower", 1.5)
        server.reject_next(429, headers=[("Retry-After", "1")], body=b"slow down")
        self._drop_all()
        await self._act("HTTP 429 with Retry-After: 1 is kept", 2)
        async with self._failure(Disconnect(how="end")):
            await self._act("every connection ends at once: the breaker opens", 3)
        await self._act("the venue is back: one probe at a time, then all is well", 3)

    async def _act(self, caption: str, share: float) -> None:
        self.shown += 1
        self.show(f"{self.shown:2}. {caption}")
        await trio.sleep(self.seconds * share / 20)

    def _drop_all(self) -> None:
        for number in list(self.exchange.server.connections):
            self.exchange.server.simulate_drop(number)

    @asynccontextmanager
    async def _failure(self, failure: Disconnect | MalformedData | Timeout) -> AsyncIterator[None]:
        from feedhandler_testing import FailureMode

        self.exchange.server.failure_mode = failure
        try:
            yield
        finally:
            self.exchange.server.failure_mode = FailureMode.NONE


async def run_demo(seconds: float, seed: int, output: Output, *, tcp: bool = True) -> int:
    """Run the demo for `seconds`, over TCP or in memory, then print a summary.

    Returns the exit code.
    """
    from feedhandler_testing import MockWebSocketServer

    rng = Random(seed)  # noqa: S311  # prices, not secrets
    kinds: Counter[str] = Counter()
    reconnects = 0
    scale = min(max(seconds / _SECONDS, 0.2), 1.0)
    async with MockWebSocketServer(tcp=tcp) as server, open_plain_nursery() as nursery:
        exchange = _Exchange(server, rng)
        venue = PriceVenue(server.url, name="mock exchange", dial=server.dial)
        async with open_feed(
            venue, SYMBOLS, config=_config(scale), policies=_policies(scale), rng=rng
        ) as feed:
            board = Board(feed, f"feedhandler demo: {server.url}")

            def show(caption: str) -> None:
                board.caption = caption
                if not output.live:
                    output.console.print(caption, style="bold", highlight=False, soft_wrap=True)

            nursery.start_soon(exchange.run)
            nursery.start_soon(_Script(exchange, show, seconds).run)
            with board.shown(output, nursery), trio.move_on_after(seconds):
                async for event in feed:
                    kinds[type(event).__name__] += 1
                    if isinstance(event, FeedStateChanged):
                        reconnects = max(reconnects, event.epoch - 1)
                    line = board.take(event)
                    if line is not None and not output.live:
                        output.console.print(f"    {line}", highlight=False, soft_wrap=True)
            summary = [
                f"{kinds['PriceUpdate']:,} prices of {len(board.rows)} symbols, "
                f"{reconnects} reconnects, {kinds['Gap']} gaps announced, "
                f"{kinds['DecodeFailed']} malformed messages reported",
                f"latency from the read to the loop body: p50 / p99 {board.latency_text()}",
                f"at the end: {board.state_line()}",
            ]
    for line in summary:
        output.console.print(line, highlight=False, soft_wrap=True)
    return 0
