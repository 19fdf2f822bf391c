"""What the commands show: rows by symbol, and the state of the feed."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from decimal import Decimal

import trio
from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from feedhandler._core.coverage import Coverage
from feedhandler._io.legs import Feed
from feedhandler.errors import DecodeError
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    PriceUpdate,
    Quote,
    SnapshotFailed,
    SubscriptionFailed,
    Trade,
    Trust,
    TrustChanged,
)
from feedhandler.observe import Histogram

__all__ = ["Board", "Output", "coverage_text"]

_REFRESH_S = 0.25
_PLAIN_S = 1.0
_STYLES = {"connected": "bold green", "reconnecting": "bold yellow", "connecting": "yellow"}


@frozen
class Output:
    """Where to: a live table on a terminal, or plain lines."""

    plain: bool
    console: Console = field(factory=Console, repr=False)

    @property
    def live(self) -> bool:
        return not self.plain and self.console.is_terminal


@define
class _Row:
    price: Decimal | None = None
    arrow: str = " "
    events: int = 0
    rate: float = 0.0
    _counted: int = 0

    def show(self, price: Decimal) -> None:
        if self.price is not None and price != self.price:
            self.arrow = "▲" if price > self.price else "▼"
        self.price = price

    def measure(self, elapsed_s: float) -> None:
        self.rate = (self.events - self._counted) / elapsed_s
        self._counted = self.events


@define
class Board:
    """Takes events in, and draws them as a table or as lines."""

    feed: Feed
    title: str
    rows: dict[str, _Row] = field(factory=dict)
    latency: Histogram = field(factory=Histogram)
    caption: str = ""
    log: deque[str] = field(factory=lambda: deque(maxlen=8))
    _measured_at: float = field(factory=time.monotonic)

    def take(self, event: Event) -> str | None:
        """Account for `event`; returns a line of text if it is worth one."""
        match event:
            case PriceUpdate() | Trade():
                self._data(event.symbol, event.price, event.recv_ns)
                return None
            case Quote():
                price = event.bid if event.bid is not None else event.ask
                if price is not None:
                    self._data(event.symbol, price, event.recv_ns)
                return None
            case BookSnapshot() | BookDelta():
                top = self.feed.book(event.symbol, depth=1)
                if top is not None and top.best_bid is not None:
                    self._data(event.symbol, top.best_bid.price, event.recv_ns)
                return None
            case _:
                line = describe(event)
                self.log.append(line)
                return line

    def _data(self, symbol: str, price: Decimal, recv_ns: int) -> None:
        row = self.rows.setdefault(symbol, _Row())
        row.events += 1
        row.show(price)
        self.latency.record(time.time_ns() - recv_ns)

    def measure(self) -> None:
        """Compute the rates since the last call."""
        now = time.monotonic()
        elapsed, self._measured_at = now - self._measured_at, now
        for row in self.rows.values():
            row.measure(max(elapsed, 1e-9))

    def state_line(self) -> str:
        feed = self.feed
        breaker = feed.breaker.state.name.lower() if feed.breaker is not None else "none"
        backoff = f"{feed.current_backoff_s:.2f} s (attempt {feed.attempt_count})"
        return f"{feed.state.value}, back-off {backoff}, breaker {breaker}"

    def latency_text(self) -> str:
        p50, p99 = (self.latency.quantile(q) / 1e3 for q in (0.5, 0.99))
        return f"{p50:.0f} µs / {p99:.0f} µs"

    def table(self) -> Group:
        """The board as something that rich can draw."""
        table = Table(title=self.title, expand=True)
        for name, justify in (("symbol", "left"), ("price", "right"), ("rate", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]  # three literals
        feed = self.feed
        coverage = feed.coverage()
        books = ["book verified / unverifiable / suspect / stale"] if coverage else []
        for name in (*books, "latency p50 / p99", "state", "back-off", "breaker"):
            table.add_column(name)
        state = Text(feed.state.value, style=_STYLES.get(feed.state.value, "red"))
        breaker = feed.breaker.state.name.lower() if feed.breaker is not None else "-"
        for symbol, row in sorted(self.rows.items()):
            table.add_row(
                symbol,
                f"{row.arrow} {row.price}",
                f"{row.rate:,.0f}/s",
                *([coverage_text(coverage.get(symbol))] if coverage else []),
                self.latency_text(),
                state,
                f"{feed.current_backoff_s:.2f} s, attempt {feed.attempt_count}",
                breaker,
            )
        parts: list[RenderableType] = [
            table,
            Text(self.caption, style="bold cyan"),
            *(Text(line) for line in self.log),
        ]
        return Group(*parts)

    @contextlib.contextmanager
    def shown(self, output: Output, nursery: trio.Nursery) -> Iterator[None]:
        """Keep the board on the screen during the block, drawn by a task in `nursery`."""
        if not output.live:
            nursery.start_soon(self._print_lines, output)
            yield
            return
        with Live(console=output.console, auto_refresh=False, transient=False) as live:
            nursery.start_soon(self._redraw, live)
            try:
                yield
            finally:
                live.update(self.table(), refresh=True)

    async def _redraw(self, live: Live) -> None:
        while True:
            self.measure()
            live.update(self.table(), refresh=True)
            await trio.sleep(_REFRESH_S)

    async def _print_lines(self, output: Output) -> None:
        while True:
            await trio.sleep(_PLAIN_S)
            self.measure()
            prices = "  ".join(
                f"{symbol} {row.price} ({row.rate:,.0f}/s)"
                for symbol, row in sorted(self.rows.items())
            )
            output.console.print(
                f"{prices or 'no prices yet'} | {self.latency_text()} | {self.state_line()}",
                highlight=False,
                soft_wrap=True,
            )


def describe(event: Event) -> str:
    """One line about an event that is not data."""
    match event:
        case FeedStateChanged():
            line = f"state: {event.old.value} -> {event.new.value}: {event.reason}"
            if event.next_attempt_ns is not None:
                wait_s = (event.next_attempt_ns - event.recv_ns) / 1e9
                breaker = " (the circuit is open)" if event.breaker_open else ""
                line += f"; next attempt in {wait_s:.2f} s{breaker}"
            return line
        case Gap():
            bounds = f"{event.from_sequence or '?'}..{event.to_sequence or '?'}"
            whose = f"{event.symbol or 'all symbols'}{' book' if event.of_book else ''}"
            return f"gap: {whose} {event.reason.value}, sequence {bounds}"
        case DecodeFailed():
            return f"malformed: {_short(event.error)}"
        case SubscriptionFailed():
            return f"refused: {event.error}"
        case SnapshotFailed():
            return f"no snapshot of {event.symbol}: {event.error}"
        case TrustChanged():
            return f"{event.symbol} book is {event.trust.value}: {event.reason}"
        case _:
            return repr(event)


def coverage_text(
    coverage: Coverage | None, *, named: bool = False, by_messages: bool = False
) -> str:
    """For which shares of the time, or of the messages, a book had each trust."""
    if coverage is None:
        return "-"
    share = coverage.message_share if by_messages else coverage.time_share
    order = (Trust.VERIFIED, Trust.UNVERIFIABLE, Trust.SUSPECT, Trust.STALE)
    return (", " if named else " / ").join(
        f"{trust.value} {share(trust):.1%}" if named else f"{share(trust):.1%}" for trust in order
    )


def _short(error: DecodeError) -> str:
    text = "; ".join(f"{path}: {message}" for path, message in error.problems[:2])
    return f"{text} in {error.raw[:40]!r}"
