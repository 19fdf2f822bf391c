"""``feedhandler replay``: a recording, served over loopback TCP, through the whole handler."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import trio
from attrs import define, field
from rich.progress import Progress

from feedhandler._io.legs import Feed
from feedhandler._io.nursery import open_plain_nursery
from feedhandler.cli.board import Output, describe
from feedhandler.config import FeedConfig
from feedhandler.errors import RecordingError
from feedhandler.handler import open_feed
from feedhandler.model import Event, FeedStateChanged
from feedhandler.observe import Histogram
from feedhandler.recording import Record, read_recording
from feedhandler.venues import venue_by_name

__all__ = ["ReplayResult", "replay", "run_replay"]

_END = "end of the recording"
_SLICE = 256  # messages that are sent at once where nothing asks for a pause


@define
class ReplayResult:
    """What came of a replay. `kinds` counts events by the name of their class."""

    sent: int = 0
    kinds: Counter[str] = field(factory=Counter)
    gaps: int = 0
    decode_errors: int = 0
    elapsed_s: float = 0.0
    latency: Histogram = field(factory=Histogram)
    torn: bool = False


async def replay(
    path: Path,
    *,
    speed: float = math.inf,
    on_event: Callable[[Event], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    partial: bool = False,
) -> ReplayResult:
    """Serve the recording at `path` on a free port of 127.0.0.1 and read it through `open_feed()`.

    `speed` is in times real time (`math.inf`: as fast as it goes). The nth connection of the
    handler gets what the nth connection of the recording received, and is then closed with code
    1000. Raises `RecordingError`, also for a truncated recording unless its `partial` replay is
    asked for, and `ConfigError` for a venue that this library does not know.
    """
    from feedhandler_testing import MockWebSocketServer

    result = ReplayResult()
    connections, header, result.torn = await trio.to_thread.run_sync(_load, path, partial)
    total = sum(len(records) for records in connections)
    channels, symbols = _subscribed(header.subscribed)
    config = FeedConfig()
    done = trio.Event()

    async def serve(server: MockWebSocketServer) -> None:
        for number, records in enumerate(connections):
            connection = await server.next_connection()
            started, first = trio.current_time(), records[0].t if records else 0
            waiting: list[str | bytes] = []
            for record in records:
                due = started + (record.t - first) / 1e9 / speed
                if len(waiting) >= _SLICE or (waiting and due > trio.current_time()):
                    await connection.send_many(waiting)
                    result.sent += len(waiting)
                    waiting = []
                    if on_progress is not None:
                        on_progress(result.sent, total)
                if due > trio.current_time():
                    await trio.sleep_until(due)
                if record.payload is not None:
                    waiting.append(record.payload)
            await connection.send_many(waiting)
            result.sent += len(waiting)
            if on_progress is not None:
                on_progress(result.sent, total)
            if number == len(connections) - 1:
                done.set()
            await connection.close(1000, _END)

    async with MockWebSocketServer(tcp=True, auto_ack=False) as server:
        venue = venue_by_name(header.venue, url=server.url)
        channels = [channel for channel in channels if channel in venue.channels]
        async with open_plain_nursery() as nursery:
            nursery.start_soon(serve, server)
            started = time.perf_counter()
            async with open_feed(venue, symbols, channels=channels or None, config=config) as feed:
                await _consume(feed, result, done, on_event)
            result.elapsed_s = time.perf_counter() - started
    return result


async def _consume(
    feed: Feed,
    result: ReplayResult,
    done: trio.Event,
    on_event: Callable[[Event], None] | None,
) -> None:
    async for events in feed.batches():
        now_ns = time.time_ns()
        for event in events:
            if isinstance(event, FeedStateChanged):
                if done.is_set() and event.error is not None:
                    statistics = feed.statistics()
                    result.gaps = statistics.gaps
                    result.decode_errors = statistics.decode_errors
                    return
            else:
                result.latency.record(now_ns - event.recv_ns)
            result.kinds[type(event).__name__] += 1
            if on_event is not None:
                on_event(event)


async def run_replay(path: Path, speed: float, partial: bool, output: Output) -> int:
    """The command: replay with progress, then a summary. Returns the exit code."""
    console = output.console
    console.print(f"replaying {path}", highlight=False, soft_wrap=True)
    with Progress(console=console, disable=not output.live) as progress:
        task = progress.add_task("messages", total=None)

        def show(sent: int, total: int) -> None:
            progress.update(task, completed=sent, total=total)

        def tell(event: Event) -> None:
            if type(event).__name__ in ("Gap", "DecodeFailed", "SubscriptionFailed"):
                console.print(describe(event), highlight=False, soft_wrap=True)

        result = await replay(path, speed=speed, on_event=tell, on_progress=show, partial=partial)
    events = sum(result.kinds.values())
    lines = [
        f"messages      {result.sent:,}",
        *(f"{kind:<13} {count:,}" for kind, count in sorted(result.kinds.items())),
        f"gaps          {result.gaps}",
        f"decode errors {result.decode_errors}",
        f"rate          {result.sent / result.elapsed_s:,.0f} messages/s, "
        f"{events / result.elapsed_s:,.0f} events/s",
        f"latency       p50 {result.latency.quantile(0.5) / 1e3:,.0f} µs, "
        f"p99 {result.latency.quantile(0.99) / 1e3:,.0f} µs (from the read to the loop body)",
    ]
    if result.torn:
        lines.append("the recording's end is torn: what followed is not in it")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    return 0


@define
class _Header:
    venue: str
    subscribed: dict[str, list[str]]


def _load(path: Path, partial: bool) -> tuple[list[list[Record]], _Header, bool]:
    connections: dict[int, list[Record]] = {}
    with read_recording(path) as recording:
        header = _Header(
            recording.header.venue, {c: [*s] for c, s in recording.header.subscribed.items()}
        )
        for record in recording:
            if record.c is None:
                continue
            received = connections.setdefault(record.c, [])
            if record.k == "recv":
                received.append(record)
        torn = recording.torn or recording.truncated
        if recording.truncated and not partial:
            raise RecordingError(
                f"{path} is truncated: its compressed data has no end; get a whole copy of it, or "
                "replay what there is with --partial"
            )
    if not any(connections.values()):
        raise RecordingError(f"{path} holds no received message, so there is nothing to replay")
    return [connections[c] for c in sorted(connections)], header, torn


def _subscribed(subscribed: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    symbols = dict.fromkeys(s for names in subscribed.values() for s in names)
    return list(subscribed), list(symbols)
