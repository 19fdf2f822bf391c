"""Recordings, played by a mock server: in order, with REST answers, and with planted faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    BookDelta,
    BookSnapshot,
    FeedStateChanged,
    Gap,
    PriceVenue,
    Quote,
    RecordingError,
    Trade,
    WebSocketClient,
    open_feed,
)
from feedhandler.errors import FeedError
from feedhandler.recording import Record
from feedhandler_testing import (
    LoadedRecording,
    Messages,
    MockBook,
    Planted,
    ReplayServer,
    Reset,
    RestError,
    RestOtherSymbol,
    RestStale,
    price_message,
)

DEPTH = "https://api.binance.com/api/v3/depth?symbol={}&limit=1000"


def received(t: int, text: str, c: int = 0) -> Record:
    return Record(t, "recv", c, None, text)


def fetched(t: int, symbol: str, number: int) -> Record:
    return Record(t, "http", None, DEPTH.format(symbol), json.dumps({"lastUpdateId": number}))


def binance(*records: Record, sends: bool = False) -> LoadedRecording:
    opened = [Record(1, "open", 0, "wss://stream.binance.com:9443/stream")]
    asked = [Record(2, "send", 0, None, "{}")] if sends else []
    everything = sorted([*opened, *asked, *records], key=lambda one: one.t)
    return LoadedRecording("binance", {"book": ["BTC-USDT", "ETH-USDT"]}, tuple(everything))


def prices(count: int, *, connections: int = 1) -> LoadedRecording:
    records = []
    for c in range(connections):
        records.append(Record(c * 10**10, "open", c, "ws://there/"))
        records += [
            received(c * 10**10 + n * 10**7, price_message("A", "1.5", c * count + n), c)
            for n in range(1, count + 1)
        ]
    return LoadedRecording("price", {"price": ["A"]}, tuple(records))


async def read(server: ReplayServer, *, request: str | None, count: int) -> list[str]:
    """The next messages that a client gets, which asks first."""
    got: list[str] = []
    async with WebSocketClient(server.url, dial=server.dial) as client:
        await client.connect()
        if request is not None:
            await client.send(request)
        try:
            async for message in client:
                got.append(str(message))
                if len(got) == count:
                    break
        except FeedError:
            pass  # the end of the recording
    return got


# --- the stream ----------------------------------------------------------------------------------


async def sequences(
    server: ReplayServer, until: int
) -> tuple[list[int], list[Gap], list[FeedStateChanged]]:
    numbers, gaps, states = [], [], []
    async with open_feed(PriceVenue(server.url, dial=server.dial), ["A"]) as feed:
        with trio.fail_after(600):
            async for event in feed:
                if isinstance(event, Gap):
                    gaps.append(event)
                elif isinstance(event, FeedStateChanged):
                    states.append(event)
                else:
                    numbers.append(event.sequence)  # type: ignore[union-attr]  # a price
                    if event.sequence == until:  # type: ignore[union-attr]  # likewise
                        break
    return numbers, gaps, states


async def test_each_connection_gets_what_one_recorded_one_received(
    autojump_clock: MockClock,
) -> None:
    async with ReplayServer(prices(5, connections=2)) as server:
        numbers, gaps, states = await sequences(server, 10)
        await server.done.wait()
    assert numbers == [*range(1, 11)]
    assert [gap.reason.value for gap in gaps] == ["reconnect"]
    assert server.sent == server.total == 10
    assert "end of the recording" in str(states)


async def test_what_is_recorded_on_several_can_be_played_as_one(autojump_clock: MockClock) -> None:
    async with ReplayServer(prices(5, connections=2), merged=True) as server:
        numbers, gaps, _ = await sequences(server, 10)
    assert numbers == [*range(1, 11)]
    assert not gaps
    async with ReplayServer(prices(5, connections=2), only=[1]) as server:
        assert (await sequences(server, 10))[0] == [*range(6, 11)]


async def test_the_recorded_pace_is_kept(autojump_clock: MockClock) -> None:
    async with ReplayServer(prices(21), speed=2.0) as server:
        began = trio.current_time()
        await sequences(server, 21)
        assert trio.current_time() - began == pytest.approx(20 * 0.01 / 2)


async def test_one_that_was_cut_is_played_again_from_its_beginning(
    autojump_clock: MockClock,
) -> None:
    async with (
        ReplayServer(prices(9)) as server,
        server.mock.fault(Reset(), Messages(4)) as cut,
    ):
        numbers, gaps, states = await sequences(server, 9)
        assert cut.count == 1
    assert numbers == [*range(1, 5), *range(1, 10)]
    assert [gap.reason.value for gap in gaps] == ["reconnect"]
    assert [state.failure.value for state in states if state.failure] == ["reset"]


async def test_it_stays_where_it_is_to(autojump_clock: MockClock) -> None:
    async with (
        ReplayServer(prices(3), stays=True) as server,
        open_feed(PriceVenue(server.url, dial=server.dial), ["A"]) as feed,
    ):
        await server.done.wait()
        await trio.sleep(100)
        assert feed.state.value == "connected"


@pytest.mark.parametrize(
    ("planted", "expected", "holes"),
    [
        (Planted("drop", nth=3), [1, 2, 4, 5], [(3, 3)]),
        (Planted("repeat", nth=3), [1, 2, 3, 4, 5], []),
        (Planted("swap", nth=3), [1, 2, 4, 5], [(3, 3)]),
        (Planted("flip", where=r'"sequence":(3)', nth=1), [1, 2, 4, 5], [(3, 3)]),
    ],
    ids=lambda value: value.how if isinstance(value, Planted) else "",
)
async def test_a_planted_fault_acts_once(
    planted: Planted,
    expected: list[int],
    holes: list[tuple[int, int]],
    autojump_clock: MockClock,
) -> None:
    async with ReplayServer(prices(5), mutate=planted) as server:
        numbers, gaps, _ = await sequences(server, 5)
    assert numbers == expected
    assert [(gap.from_sequence, gap.to_sequence) for gap in gaps] == holes
    assert planted.acted
    assert planted.index == 2


# --- books ---------------------------------------------------------------------------------------


def plain_books() -> tuple[LoadedRecording, MockBook]:
    """Two books, a delta each 0.1 s for 20 s, as they are in the end."""
    books = [MockBook.drawn(symbol, Random(symbol)) for symbol in ("A", "B")]
    tenth = 10**8
    records = [Record(0, "open", 0, "ws://there/"), Record(1, "send", 0, None, "{}")]
    acked = {"type": "subscribed", "channel": "book", "symbols": ["A", "B"]}
    records += [received(2, json.dumps(acked))]
    records += [received(3, json.dumps(book.snapshot())) for book in books]
    rng = Random(7)
    for n in range(1, 201):
        records.append(received(n * tenth, json.dumps(books[n % 2].step(rng))))
    return LoadedRecording("price", {"book": ["A", "B"]}, tuple(records)), books[0]


A_SIZE = r'"delta", "symbol": "A".*?"\d+\.\d+", "\d+\.(\d)'


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        (Planted("drop", where='"delta", "symbol": "A"', nth=9), "sequence"),
        (Planted("swap", where='"delta", "symbol": "A"', nth=9), "sequence"),
        (Planted("repeat", where='"delta", "symbol": "A"', nth=9), None),
        (Planted("flip", where=A_SIZE, nth=9), "checksum"),
        (Planted("flip", where=r'"delta", "symbol": "A".*"checksum": (\d)', nth=9), "checksum"),
    ],
    ids=["drop", "swap", "repeat", "flip a size", "flip a checksum"],
)
async def test_a_book_is_mended_from_what_was_recorded_up_to_there(
    planted: Planted, reason: str | None, autojump_clock: MockClock
) -> None:
    recording, final = plain_books()
    gaps: list[Gap] = []
    async with (
        ReplayServer(recording, mutate=planted, speed=1.0, stays=True, fresh_books=True) as server,
        open_feed(server.venue(), ["A", "B"], channels=["book"]) as feed,
    ):
        told: dict[str, list[tuple[Any, str]]] = {"A": [], "B": []}
        with trio.move_on_after(21):
            async for event in feed:
                if isinstance(event, Gap):
                    gaps.append(event)
                elif isinstance(event, BookSnapshot | BookDelta):
                    told[event.symbol].append((event.sequence, event.trust.value))
        top = feed.book("A")
    assert planted.acted
    assert [(gap.symbol, gap.reason.value) for gap in gaps] == ([("A", reason)] if reason else [])
    assert top is not None
    assert [(str(p), str(s)) for p, s in top.bids[:10]] == final.bids[:10]
    assert [(str(p), str(s)) for p, s in top.asks[:10]] == final.asks[:10]
    assert {trust for _, trust in told["A"] + told["B"]} == {"verified"}
    # Of the other book nothing is missing; of this one no more than what was lost.
    assert [number for number, _ in told["B"]] == [*range(101)]
    assert len(told["A"]) >= 95


# --- REST ----------------------------------------------------------------------------------------


def subscribe(*streams: str) -> str:
    return json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1})


async def test_rest_answers_with_the_newest_up_to_where_the_play_is(
    autojump_clock: MockClock,
) -> None:
    second = 10**9
    recording = binance(
        received(second, "one"),
        fetched(2 * second, "BTCUSDT", 20),
        received(3 * second, "two"),
        fetched(4 * second, "BTCUSDT", 40),
        fetched(4 * second, "ETHUSDT", 41),
        received(5 * second, "three"),
    )
    numbers = []
    async with ReplayServer(recording, speed=1.0, stays=True) as server:

        async def ask(at_s: float, symbol: str = "BTCUSDT") -> None:
            await trio.sleep(at_s)
            url = f"{server.rest_url}api/v3/depth?symbol={symbol}&limit=5000"
            answer = await server.fetch(url, max_bytes=1000)
            numbers.append((trio.current_time() - began, json.loads(answer.body)["lastUpdateId"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: read(server, request=subscribe(), count=3))
            await wait_all_tasks_blocked()
            began = trio.current_time()
            nursery.start_soon(ask, 0.5)  # too early: it comes when it was recorded
            nursery.start_soon(ask, 2.5)
            nursery.start_soon(ask, 3.5)
            nursery.start_soon(ask, 3.6, "ETHUSDT")
        nowhere = await server.fetch(server.rest_url + "api/v3/ticker", max_bytes=1000)
        other = await server.fetch(server.rest_url + "api/v3/depth?symbol=NO", max_bytes=1000)
    assert [number for _, number in numbers] == [20, 20, 40, 41]
    assert [at_s for at_s, _ in numbers] == pytest.approx([1.0, 2.5, 3.5, 3.6])
    assert nowhere.status == other.status == 404


async def test_the_play_waits_for_a_snapshot_that_is_due(autojump_clock: MockClock) -> None:
    recording = binance(received(2, "one"), fetched(3, "BTCUSDT", 9), received(4, "two"))
    async with ReplayServer(recording, stays=True, patience_s=50.0) as server:
        got: list[str] = []

        async def follow() -> None:
            got.extend(await read(server, request=subscribe("btcusdt@depth@100ms"), count=3))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(20)
            assert not server.done.is_set()
            await server.fetch(server.rest_url + "api/v3/depth?symbol=BTCUSDT", max_bytes=1000)
            await wait_all_tasks_blocked()
            assert server.done.is_set()
    assert got == ['{"result":null,"id":1}', "one", "two"]  # it recorded no request of its own


async def test_recorded_answers_stand_where_the_recording_shows_the_requests(
    autojump_clock: MockClock,
) -> None:
    recording = binance(received(3, '{"result":null,"id":7}'), received(4, "one"), sends=True)
    async with ReplayServer(recording, stays=True) as server:
        got = await read(server, request=subscribe("btcusdt@depth@100ms"), count=2)
    assert got == ['{"result":null,"id":7}', "one"]


async def test_faults_of_rest_act_on_what_was_recorded(autojump_clock: MockClock) -> None:
    recording = binance(
        fetched(2, "BTCUSDT", 2), fetched(3, "BTCUSDT", 3), fetched(4, "ETHUSDT", 9),
        received(5, "x"),
    )  # fmt: skip
    async with ReplayServer(recording, stays=True) as server:
        await read(server, request=subscribe(), count=1)
        url = server.rest_url + "api/v3/depth?symbol=BTCUSDT"

        async def number() -> int:
            answer = await server.fetch(url, max_bytes=1000)
            last: int = json.loads(answer.body)["lastUpdateId"]
            return last

        assert await number() == 3
        async with server.mock.fault(RestStale(1)):
            assert await number() == 2
        async with server.mock.fault(RestStale(8)):
            assert await number() == 2  # no older one was recorded
        async with server.mock.fault(RestOtherSymbol()):
            assert await number() == 9
        async with server.mock.fault(RestError(503)):
            assert (await server.fetch(url, max_bytes=1000)).status == 503
    changed = ReplayServer(recording, mutate_rest=lambda _, body: body.replace(b"3", b"1"))
    async with changed as server:
        await read(server, request=subscribe(), count=1)
        assert await number() == 1


async def test_httpx_gets_the_recorded_answers_over_loopback() -> None:
    recording = binance(fetched(2, "BTCUSDT", 20), received(3, "one"))
    with trio.fail_after(20):
        async with (
            ReplayServer(recording, tcp=True, patience_s=0.2) as server,
            httpx.AsyncClient(trust_env=False) as web,
        ):
            got = await read(server, request=subscribe(), count=1)
            answer = await web.get(server.rest_url + "api/v3/depth?symbol=BTCUSDT&limit=7")
    assert got == ['{"result":null,"id":1}'] or got == ["one"]
    assert answer.json() == {"lastUpdateId": 20}


# --- real data -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def coinbase(recordings: Path) -> LoadedRecording:
    return LoadedRecording.load(recordings / "coinbase.jsonl.zst")


async def follow(server: ReplayServer) -> list[Any]:
    """The events of trades and ticker, to the end of the recording."""
    events: list[Any] = []
    async with open_feed(
        server.venue(), server.recording.symbols, channels=["trades", "ticker"]
    ) as feed:
        async for batch in feed.batches():
            events += batch
            last = [one for one in batch if isinstance(one, FeedStateChanged)]
            if server.done.is_set() and last and last[-1].error is not None:
                return events
    return events


async def test_all_of_a_real_recording_is_told(
    coinbase: LoadedRecording, recordings: Path, autojump_clock: MockClock
) -> None:
    async with ReplayServer(coinbase) as server:
        events = await follow(server)
    expected = json.loads((recordings / "expected" / "coinbase.json").read_text())["counts"]
    assert sum(isinstance(event, Trade) for event in events) == expected["trades"]
    assert sum(isinstance(event, Quote) for event in events) == expected["ticker"]
    before_the_end = [event for event in events if isinstance(event, Gap)]
    assert [gap.reason.value for gap in before_the_end] in ([], ["reconnect"])


@pytest.mark.parametrize("nth", [1, 40, 700])
async def test_a_delta_that_is_dropped_from_real_data_is_announced(
    nth: int, coinbase: LoadedRecording, autojump_clock: MockClock
) -> None:
    drop = Planted("drop", where='^{"channel":"l2_data".*"type":"update"', nth=nth)
    async with ReplayServer(coinbase, mutate=drop) as server:
        events = await follow(server)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert drop.index is not None
    numbers = _numbers(coinbase)
    lost = numbers[drop.index]
    assert (gaps[0].from_sequence, gaps[0].to_sequence) == (lost, lost)
    assert gaps[0].symbol is None


def _numbers(recording: LoadedRecording) -> Sequence[int]:
    payloads = [one.payload for one in recording.records if one.k == "recv"]
    return [json.loads(payload)["sequence_num"] for payload in payloads if payload]


def test_a_recording_without_messages_is_refused(tmp_path: Path) -> None:
    from feedhandler.recording import RecordingWriter

    with RecordingWriter(tmp_path / "a.zst", venue="price", subscribed={}):
        pass
    with pytest.raises(RecordingError, match="no received message"):
        LoadedRecording.load(tmp_path / "a.zst")
