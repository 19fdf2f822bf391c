"""A recording of what a feed sees: whole, in order, without secrets; and its replay is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve, fields
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BackoffConfig,
    BookDelta,
    BookSnapshot,
    BookTop,
    Event,
    Feed,
    FeedConfig,
    FeedError,
    FeedStateChanged,
    Gap,
    PriceUpdate,
    PriceVenue,
    Trade,
    load_instruments,
    open_feed,
)
from feedhandler.abc import BookVenue, Fetcher, HttpResponse, ListedVenue, SnapshotVenue, Venue
from feedhandler.errors import PeerClosed, RecordingError
from feedhandler.recorder import open_recording
from feedhandler.recording import Record, read_recording
from feedhandler.traits import Limits, VenueTraits
from feedhandler_testing import MockWebSocketServer, VirtualClock, price_message
from feedhandler_testing.dialect import DIALECTS, dialect_by_name
from feedhandler_testing.replay import END, LoadedRecording, ReplayServer

SYMBOLS = ("BTC-USDT", "ETH-USDT")
PERPETUALS = ("BTC-USDT-PERP", "ETH-USDT-PERP")
ONE_EACH = VenueTraits(limits=Limits(subscriptions=1))
AT_ONCE = FeedConfig(backoff=BackoffConfig(jitter=False))


def records_of(path: Path) -> list[Record]:
    with read_recording(path) as recording:
        return list(recording)


def plain(event: Event) -> Any:
    """An event without the times at which it was received."""
    names = {one.name for one in fields(type(event))} & {"recv_ns", "from_ns", "to_ns"}
    return evolve(event, **dict.fromkeys(names, 0))


def keep(events: Sequence[Event], kept: list[Any]) -> bool:
    """Keep what is not a state; true where the recording is over."""
    for event in events:
        if not isinstance(event, FeedStateChanged):
            kept.append(plain(event))
        elif isinstance(event.error, PeerClosed) and event.error.reason == END:
            return True
    return False


def tops(feed: Feed, symbols: Sequence[str]) -> list[Any]:
    seen: list[BookTop | None] = [feed.book(symbol, depth=None) for symbol in symbols]
    return [(top.bids, top.asks, top.sequence) for top in seen if top is not None]


async def replayed(path: Path, channels: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """The events that come of the recording, and the books at its end."""
    recording = await trio.to_thread.run_sync(LoadedRecording.load, path)
    kept: list[Any] = []
    async with (
        ReplayServer(recording) as server,
        open_feed(server.venue(), recording.symbols, channels=channels) as feed,
    ):
        with trio.fail_after(60):
            async for events in feed.batches():
                if keep(events, kept):
                    break
        return kept, tops(feed, recording.symbols)


def anew(venue: Venue, fetch: Fetcher) -> Venue:
    """The venue as one has it that was just made: without a list of instruments."""
    if not isinstance(venue, ListedVenue) or venue.instruments is None:
        return venue
    return evolve(venue, instruments=None, fetch=fetch)  # type: ignore[type-var]  # all are attrs'


def by_stream(events: list[Any]) -> list[Any]:
    """Those of each kind and symbol together, each in their order."""
    return sorted(events, key=lambda event: (isinstance(event, Trade), str(event.symbol)))


# --- the round trip ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DIALECTS))
async def test_the_replay_of_what_is_recorded_gives_the_same_events(
    autojump_clock: MockClock, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "a.zst"
    symbols = PERPETUALS if name.endswith("_futures") else SYMBOLS
    dialect = dialect_by_name(name)
    kept: list[Any] = []
    async with MockWebSocketServer(dialect=dialect, seed=3) as server:
        full = server.venue(symbols)
        venue = anew(full, server.fetch)
        ours = ("price", "book")
        channels = [c for o in ours if (c := dialect.channels.get(o)) in full.channels and c]
        for symbol in symbols:
            server.next_delta(symbol)
        async with (
            open_recording(path, venue=name, subscribed=dict.fromkeys(channels, symbols)) as tap,
            open_feed(
                venue, symbols, channels=channels, tap=tap, clock=VirtualClock(), fetch=server.fetch
            ) as feed,
        ):
            connection = await server.next_connection()
            await trio.sleep(3)
            for n in range(12):
                symbol = symbols[n % 2]
                messages = [server.next_price(symbol)]
                if len(channels) > 1:
                    if n == 6:
                        server.next_delta(symbol)  # is lost: the book has to be mended
                    messages.append(server.next_delta(symbol))
                await connection.send_messages(messages)
                await trio.sleep(0.5)
            with trio.move_on_after(1):
                async for events in feed.batches():
                    keep(events, kept)
            books = tops(feed, symbols)
            assert feed.statistics().messages == tap.messages
    kinds = {type(event) for event in kept}
    assert kinds & {Trade, PriceUpdate}
    records = records_of(path)
    assert [record.t for record in records] == sorted(record.t for record in records)
    urls = [record.url or "" for record in records if record.k == "http"]
    if isinstance(full, ListedVenue) and full.instruments is not None and len(full.instruments):
        assert len(urls) >= 1, "the list of instruments is recorded"
    if isinstance(full, SnapshotVenue):
        seen = [symbols[0]] if dialect.means.verifiable_books else []  # who sees the hole
        assert len(urls) == 1 + len(symbols) + len(seen), "the list, each book, what was mended"
        assert [event.symbol for event in kept if isinstance(event, Gap)] == seen
    if len(channels) > 1:
        assert isinstance(full, BookVenue)
        assert {BookSnapshot, BookDelta} <= kinds
        assert len(books) == 2

    again, books_again = await replayed(path, channels)
    if dialect.means.split_requests:  # the play may begin before all of them have come
        again, kept = by_stream(again), by_stream(kept)
    assert again == kept
    assert books_again == books


async def test_each_leg_gets_what_was_recorded_on_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Also after a reconnect, and whichever of them is first to connect again."""
    path = tmp_path / "a.zst"
    symbols = ["A", "B", "C"]
    async with MockWebSocketServer() as server:
        venue = PriceVenue(server.url, dial=server.dial, traits=ONE_EACH)
        async with (
            open_recording(path, venue="price", subscribed={"price": symbols}) as tap,
            open_feed(venue, symbols, config=AT_ONCE, tap=tap, clock=VirtualClock()) as feed,
        ):
            connections = {}
            for _ in symbols:
                connection = await server.next_connection()
                await connection.wait_heard()
                connections[str(connection.first_message)] = connection
            by_symbol = {
                s: one for s in symbols for text, one in connections.items() if f'"{s}"' in text
            }
            for n in range(1, 4):
                for symbol, connection in by_symbol.items():
                    await connection.send(price_message(symbol, "1.5", n))
                    await trio.sleep(0.1)
            await by_symbol["B"].close(1001, "later")
            second = await server.next_connection()
            await second.wait_heard()
            for n in range(4, 6):
                await second.send(price_message("B", "2.5", n))
                await by_symbol["A"].send(price_message("A", "2.5", n))
                await trio.sleep(0.1)
            with trio.move_on_after(1):
                async for _ in feed:
                    pass
            assert len(feed.legs) == 3
    records = records_of(path)
    assert [r.c for r in records if r.k == "open"] == [0, 1, 2, 3]
    closes = [(r.c, r.code, r.reason) for r in records if r.k == "close"]
    assert len(closes) == 4, "those that were open at the end are closed, too"
    assert [(code, reason) for _, code, reason in closes if code] == [(1001, "later")]

    recording = await trio.to_thread.run_sync(LoadedRecording.load, path)
    got: dict[str, list[int | None]] = {symbol: [] for symbol in symbols}
    gaps: list[str | None] = []
    over: set[int] = set()
    async with ReplayServer(recording) as replay:
        venue = PriceVenue(replay.url, dial=replay.dial, traits=ONE_EACH)
        async with open_feed(venue, recording.symbols, config=AT_ONCE) as feed:
            with trio.fail_after(60):
                async for event in feed:
                    if isinstance(event, PriceUpdate):
                        got[event.symbol].append(event.sequence)
                    elif isinstance(event, Gap):
                        gaps.append(event.symbol)
                    elif isinstance(event, FeedStateChanged):
                        end = isinstance(event.error, PeerClosed) and event.error.reason == END
                        over |= {event.leg} if end else set()
                    if len(over) == 3:
                        break
        assert replay.sent == replay.total
    assert got == {"A": [1, 2, 3, 4, 5], "B": [1, 2, 3, 4, 5], "C": [1, 2, 3]}
    assert gaps == ["B"]


# --- what is in it -------------------------------------------------------------------------------


async def test_no_secret_is_recorded(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer() as server:
        url = server.url.replace("://", "://user:hunter2@") + "?apikey=hunter3"
        async with (
            open_recording(path, venue="price", subscribed={"price": ["A"]}) as tap,
            open_feed(
                PriceVenue(url, dial=server.dial), ["A"], token="hunter4",
                headers=[("X-Key", "hunter5")], tap=tap,
            ) as feed,
        ):  # fmt: skip
            connection = await server.next_connection()
            await connection.send(price_message("A", "1.5", 1))
            while not isinstance(await anext(feed), PriceUpdate):
                pass
            tap.fetched("https://user:hunter6@x/list?signature=hunter7", b"{}", at_ns=1)
            tap.opened(url, at_ns=1).sent('{"op":"login","args":["hunter8"]}', at_ns=1)
    records = records_of(path)
    assert [record.k for record in records].count("send") == 2
    assert "hunter" not in repr([(record.url, record.payload, record.reason) for record in records])


async def test_what_comes_with_the_handshake_s_answer_follows_the_opening(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer(dialect=dialect_by_name("price")) as server:
        venue = PriceVenue(server.url, dial=server.dial)
        async with (
            open_recording(path, venue="price", subscribed={}) as tap,
            open_feed(venue, ["A"], tap=tap) as feed,
        ):
            connection = await server.next_connection()
            await connection.send_many([price_message("A", "1.5", n) for n in range(1, 4)])
            await connection.send(b"\x00\xff")
            await trio.sleep(1)
            assert feed.statistics().messages == tap.messages
    records = records_of(path)
    assert records[0].k == "open"
    assert records[-1].k == "close"
    assert [r.payload for r in records if isinstance(r.payload, bytes)] == [b"\x00\xff"]


async def test_a_list_that_is_fetched_beforehand_can_be_recorded(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer(dialect=dialect_by_name("binance")) as server:
        venue = anew(server.venue(SYMBOLS), server.fetch)
        assert isinstance(venue, ListedVenue)
        async with open_recording(path, venue="binance", subscribed={"trades": SYMBOLS}) as tap:
            venue = await load_instruments(venue, tap=tap)
            assert not path.exists(), "nothing is written before a connection is open"
            async with open_feed(venue, SYMBOLS, tap=tap):
                connection = await server.next_connection()
                await connection.send_messages([server.next_price("BTC-USDT")])
                await trio.sleep(1)
    recording = LoadedRecording.load(path)
    assert [r.k for r in recording.records][:2] == ["http", "open"]
    bare = recording.with_instruments(anew(venue, server.fetch))
    assert isinstance(bare, ListedVenue)
    assert bare.instruments is not None
    assert [one.symbol for one in bare.instruments] == [*SYMBOLS]


# --- the file ------------------------------------------------------------------------------------


async def feed_some(server: MockWebSocketServer, tap: Any, count: int = 3) -> None:
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["A"], tap=tap):
        connection = await server.next_connection()
        await connection.send_many([price_message("A", "1.5", n) for n in range(count)])
        await trio.sleep(1)


async def test_nothing_is_written_where_nothing_connects(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer() as server:
        server.reject_next(401)
        venue = PriceVenue(server.url, dial=server.dial)

        async def record() -> None:
            async with (
                open_recording(path, venue="price", subscribed={}) as tap,
                open_feed(venue, ["A"], tap=tap) as feed,
            ):
                async for _ in feed:
                    pass

        with pytest.raises(FeedError):
            await record()
    assert not path.exists()


async def test_a_path_that_can_not_be_used_is_refused_before_the_block(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for path, message in (("there", "exists already"), ("no/where", "does not exist; make it")):
        with pytest.raises(RecordingError, match=message):
            async with open_recording(tmp_path / path, venue="price", subscribed={}):
                pytest.fail("the block is not entered")


async def test_a_file_that_can_not_be_written_ends_the_block(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer() as server:

        async def record() -> None:
            async with open_recording(path, venue="price", subscribed={}) as tap:
                path.write_text("another's")
                await feed_some(server, tap)
                await trio.sleep_forever()

        with pytest.raises(RecordingError, match="exists already"):
            await record()
    assert path.read_text() == "another's"


async def test_more_than_may_wait_ends_the_block(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer() as server:

        async def record() -> None:
            async with open_recording(path, venue="price", subscribed={}, buffer_bytes=100) as tap:
                await feed_some(server, tap, count=50)
                await trio.sleep_forever()

        with pytest.raises(RecordingError, match="more than 100 bytes wait to be written"):
            await record()


@pytest.mark.parametrize("how", ["raises", "is cancelled", "ends"])
async def test_however_the_block_ends_the_file_is_whole(
    autojump_clock: MockClock, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "a.zst"
    expected = (
        pytest.raises(KeyError, match="mine") if how == "raises" else contextlib.nullcontext()
    )
    async with MockWebSocketServer() as server:
        with expected, trio.CancelScope() as scope:
            async with open_recording(path, venue="price", subscribed={"price": ["A"]}) as tap:
                await feed_some(server, tap)
                if how == "raises":
                    raise KeyError("mine")
                if how == "is cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
    with read_recording(path) as recording:
        kinds = [record.k for record in recording]
        assert not recording.torn
        assert not recording.truncated
    assert kinds.count("recv") == 3 + 1, "the acknowledgement, too"
    assert kinds[-1] == "close"


async def test_two_feeds_can_share_a_recording(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    async with (
        MockWebSocketServer() as server,
        open_recording(path, venue="price", subscribed={"price": ["A"]}) as tap,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(feed_some, server, tap)
        await wait_all_tasks_blocked()
        nursery.start_soon(feed_some, server, tap)
    assert repr(tap) == "<RecordingTap connections=2 messages=8>"
    assert {record.c for record in records_of(path)} == {0, 1}


async def test_a_record_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="none may be longer"):
        async with open_recording(tmp_path / "a.zst", venue="price", subscribed={}) as tap:
            tap.opened("ws://x/", at_ns=1).received(["x" * (64 * 2**20)], recv_ns=2)


async def test_only_whole_answers_are_told_to_a_tap(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "a.zst"
    async with MockWebSocketServer(dialect=dialect_by_name("binance")) as server:
        failures = 2

        async def fetch(url: str, /, *, max_bytes: int) -> HttpResponse:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                return HttpResponse(503, (), b"<html>later</html>")
            return await server.fetch(url, max_bytes=max_bytes)

        venue = anew(server.venue(SYMBOLS), fetch)
        async with (
            open_recording(path, venue="binance", subscribed={}) as tap,
            open_feed(venue, SYMBOLS, tap=tap),
        ):
            await server.next_connection()
            await trio.sleep(1)
    answers = [record.payload for record in records_of(path) if record.k == "http"]
    assert len(answers) == 1
    assert "html" not in str(answers)
