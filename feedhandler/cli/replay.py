"""``feedhandler replay``: a recording, served over loopback TCP, through the whole handler."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import trio
from attrs import define, field
from rich.progress import Progress

from feedhandler._io.legs import Feed
from feedhandler.abc import ListedVenue
from feedhandler.cli.board import Output, describe
from feedhandler.config import FeedConfig
from feedhandler.handler import open_feed
from feedhandler.model import Event, FeedStateChanged
from feedhandler.observe import Histogram
from feedhandler.venues import venue_by_name

__all__ = ["ReplayResult", "replay", "run_replay"]


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
    from feedhandler_testing.replay import LoadedRecording, ReplayServer

    result = ReplayResult()
    load = functools.partial(LoadedRecording.load, path, partial=partial)
    recording = await trio.to_thread.run_sync(load)
    result.torn = recording.torn
    config = FeedConfig()
    async with ReplayServer(recording, tcp=True, speed=speed, on_progress=on_progress) as server:
        # One that the mock has no language for is told of by name, where it is known at all.
        known = server.mock.dialect.name == recording.venue
        venue = server.venue() if known else venue_by_name(recording.venue, url=server.url)
        if not known and isinstance(venue, ListedVenue):
            # Nothing of a replay goes out to the venue itself.
            venue = attrs.evolve(cast(Any, venue), fetch=server.fetch)
        channels = [channel for channel in recording.subscribed if channel in venue.channels]
        started = time.perf_counter()
        async with open_feed(
            venue, recording.symbols, channels=channels or None, config=config
        ) as feed:
            await _consume(feed, result, server.done, on_event)
        result.elapsed_s = time.perf_counter() - started
        result.sent = server.sent
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
