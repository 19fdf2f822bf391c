"""``feedhandler replay``: a recording, served over loopback TCP, through the whole handler."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio
from attrs import define, field
from rich.progress import Progress

from feedhandler._core.allowance import traits_of
from feedhandler._core.coverage import Coverage, CoverageLedger
from feedhandler._io.legs import Feed
from feedhandler.abc import ListedVenue, Venue
from feedhandler.book import BookTop
from feedhandler.cli.board import Output, coverage_text, describe
from feedhandler.errors import ConfigError, PeerClosed
from feedhandler.handler import open_feed
from feedhandler.model import Event, FeedStateChanged
from feedhandler.observe import Histogram
from feedhandler.venues import VENUES, venue_by_name

if TYPE_CHECKING:
    from feedhandler_testing.replay import LoadedRecording, ReplayServer

__all__ = ["ReplayResult", "replay", "run_replay"]

_OTHER_NAMES = {"l2_book": "book"}  # of channels, in recordings that others have made
_OLD_NAMES = {"okex": "okx"}  # of venues
_TOLD = frozenset({"DecodeFailed", "Gap", "SnapshotFailed", "SubscriptionFailed", "TrustChanged"})


@define
class ReplayResult:
    """What came of a replay. `kinds` counts events by the name of their class.

    Of the books it tells how far they could be trusted until the recording's end, and the best bid
    and ask of each then; the trust of those is `Trust.STALE`, because the connection has ended.
    """

    sent: int = 0
    kinds: Counter[str] = field(factory=Counter)
    gaps: int = 0
    decode_errors: int = 0
    elapsed_s: float = 0.0
    latency: Histogram = field(factory=Histogram)
    torn: bool = False
    coverage: dict[str, Coverage] = field(factory=dict)
    tops: dict[str, BookTop] = field(factory=dict)


async def replay(
    path: Path,
    *,
    speed: float = math.inf,
    on_event: Callable[[Event], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    partial: bool = False,
    venue: str | None = None,
) -> ReplayResult:
    """Serve the recording at `path` on a free port of 127.0.0.1 and read it through `open_feed()`.

    `speed` is in times real time (`math.inf`: as fast as it goes). Which connection gets what, and
    what is answered over REST, is `feedhandler_testing.ReplayServer`'s. The `venue` is that of the
    recording, or, where its address is that of another interface of the same venue, that one; only
    what was recorded at its address is replayed. Raises `RecordingError`,
    also for a truncated recording unless its `partial` replay is asked for, and `ConfigError` for a
    venue that this library does not know.
    """
    from feedhandler_testing.dialect import DIALECTS, dialect_by_name
    from feedhandler_testing.replay import LoadedRecording, ReplayServer

    result = ReplayResult()
    load = functools.partial(LoadedRecording.load, path, partial=partial)
    recording = await trio.to_thread.run_sync(load)
    result.torn = recording.torn
    name = venue or name_of(recording)
    only = connections_of(recording, name)
    limit = traits_of(venue_by_name(name, url="ws://127.0.0.1/")).limits.subscriptions
    dialect = dialect_by_name(name) if name in DIALECTS else None
    async with ReplayServer(
        recording,
        tcp=True,
        speed=speed,
        on_progress=on_progress,
        dialect=dialect,
        only=only,
        merged=_is_side_by_side(recording, only, limit),
    ) as server:
        spoken = _venue_at(server, name)
        channels = {
            ours: recording.subscribed[theirs]
            for theirs in recording.subscribed
            if (ours := _OTHER_NAMES.get(theirs, theirs)) in spoken.channels
        }
        symbols = dict.fromkeys(s for names in channels.values() for s in names)
        if isinstance(spoken, ListedVenue) and spoken.instruments:
            symbols = {s: None for s in symbols if s in spoken.instruments}
        started = time.perf_counter()
        async with open_feed(
            spoken, symbols or recording.symbols, channels=[*channels] or None, fetch=server.fetch
        ) as feed:
            await _consume(feed, result, on_event)
        result.elapsed_s = time.perf_counter() - started
        result.sent = server.sent
    return result


def name_of(recording: LoadedRecording) -> str:
    """The venue that speaks as it was recorded: one venue may have several interfaces."""
    told = recording.venue.lower()
    told = _OLD_NAMES.get(told, told)
    opened = [_place(one.url) for one in recording.records if one.k == "open" and one.url]
    for name, make in VENUES.items():
        if f"{name}_".startswith(f"{told}_"):
            try:
                place = _place(make(None, None).url)
            except ConfigError:
                continue  # it has no address of its own
            if place in opened[:1]:
                return name
    return told


def connections_of(recording: LoadedRecording, name: str) -> list[int] | None:
    """Those that were recorded at the venue's own address; `None`: all, or none was there."""
    try:
        place = _place(venue_by_name(name).url)
    except ConfigError:
        return None
    opened = [one for one in recording.records if one.k == "open" and one.url and one.c is not None]
    own = [one.c for one in opened if one.c is not None and _place(one.url or "") == place]
    return own if 0 < len(own) < len(opened) else None


def _place(url: str) -> tuple[str | None, str]:
    parts = urlsplit(url)
    return parts.hostname, parts.path.rstrip("/")


def _is_side_by_side(
    recording: LoadedRecording, only: Sequence[int] | None, limit: int | None
) -> bool:
    """Whether each connection had a channel of its own, as other recorders do it: all of them at
    once, each with another request. The handler asks for all on one, where no more than `limit`
    subscriptions on one keep it from that."""
    spans: dict[int, list[int]] = {}
    for one in recording.records:
        if one.c is not None and (only is None or one.c in only):
            spans.setdefault(one.c, []).append(one.t)
    asked = [one for one in recording.first_requests(only=only) if one is not None]
    return (
        len(asked) == len(set(asked)) == len(spans) > 1
        and max(times[0] for times in spans.values()) < min(times[-1] for times in spans.values())
        and (limit is None or len(recording.symbols) <= limit)
    )


def _venue_at(server: ReplayServer, name: str) -> Venue:
    """The venue, at the server's address, with its list of instruments."""
    venue = server.recording.with_instruments(venue_by_name(name, url=server.url))
    needs_list = isinstance(venue, ListedVenue) and venue.instruments is None
    # A list that was not recorded can be made up by a mock that knows the venue's language.
    return server.venue() if needs_list and server.mock.dialect.name == name else venue


async def _consume(
    feed: Feed, result: ReplayResult, on_event: Callable[[Event], None] | None
) -> None:
    from feedhandler_testing.replay import END

    # The feed's own ledger and books go on to the end of the connections, when all are stale.
    ledger = CoverageLedger()
    over: set[int] = set()
    now_ns = 0
    async for events in feed.batches():
        now_ns = time.time_ns()
        for event in events:
            if isinstance(event, FeedStateChanged):
                if isinstance(event.error, PeerClosed) and event.error.reason == END:
                    over.add(event.leg)
                    continue
            else:
                result.latency.record(now_ns - event.recv_ns)
            result.kinds[type(event).__name__] += 1
            if on_event is not None:
                on_event(event)
        ledger.fold(event for event in events if not _is_over(event, over))
        if over.issuperset(leg.number for leg in feed.legs):
            break
    statistics = feed.statistics()
    result.gaps = statistics.gaps
    result.decode_errors = statistics.decode_errors
    result.coverage = ledger.coverage(now_ns)
    for symbol in result.coverage:
        top = feed.book(symbol, depth=1)
        if top is not None:
            result.tops[symbol] = top


def _is_over(event: Event, over: Container[int]) -> bool:
    """Whether it tells of a connection whose recording is over."""
    return isinstance(event, FeedStateChanged) and event.leg in over


def _book_lines(result: ReplayResult) -> Iterator[str]:
    """For each book, how far it could be trusted, and its top at the end."""
    for symbol, coverage in sorted(result.coverage.items()):
        yield f"book          {symbol}"
        yield f"  by time     {coverage_text(coverage, named=True)}"
        yield f"  by messages {coverage_text(coverage, named=True, by_messages=True)}"
        top = result.tops.get(symbol)
        if top is not None:
            bid, ask = (
                "-" if level is None else f"{level.price:f} ({level.size:f})"
                for level in (top.best_bid, top.best_ask)
            )
            yield f"  final top   {bid} / {ask}"


async def run_replay(
    path: Path, speed: float, partial: bool, output: Output, venue: str | None = None
) -> int:
    """The command: replay with progress, then a summary. Returns the exit code."""
    console = output.console
    console.print(f"replaying {path}", highlight=False, soft_wrap=True)
    with Progress(console=console, disable=not output.live) as progress:
        task = progress.add_task("messages", total=None)

        def show(sent: int, total: int) -> None:
            progress.update(task, completed=sent, total=total)

        def tell(event: Event) -> None:
            if type(event).__name__ in _TOLD:
                console.print(describe(event), highlight=False, soft_wrap=True)

        result = await replay(
            path, speed=speed, on_event=tell, on_progress=show, partial=partial, venue=venue
        )
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
    lines += _book_lines(result)
    if result.torn:
        lines.append("the recording's end is torn: what followed is not in it")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    return 0
