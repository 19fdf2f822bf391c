"""Getting a venue's list: fetched, from its file, from an old file, or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Self

import pytest
import trio
from attrs import evolve, field, frozen
from trio.testing import MockClock

from feedhandler import (
    ConfigError,
    DecodeError,
    FeedHandler,
    FetchFailed,
    Instrument,
    InstrumentKind,
    Instruments,
    PriceUpdate,
    PriceVenue,
    UnknownSymbol,
    UsageError,
    canonical_symbol,
    load_instruments,
    open_feed,
)
from feedhandler.abc import (
    Dialer,
    Fetcher,
    HttpResponse,
    ListedVenue,
    Session,
    Subscription,
)
from feedhandler.traits import Limits, VenueTraits
from feedhandler_testing import MockWebSocketServer, VirtualClock, price_message

DAY_S = 86_400
LIST = b'[["BTCUSD", "BTC", "USD", true], ["ETHUSD", "ETH", "USD", true]]'
MORE = b'[["LUNAUSD", "LUNA", "USD", false]]'
TRAITS = VenueTraits(limits=Limits(requests_per_minute=60))
PAGE = b"<html>we are back soon</html>"


@frozen
class Market:
    """A venue like `PriceVenue`, of which the symbols have to be listed first."""

    inner: PriceVenue
    fetch: Fetcher | None = None
    instruments: Instruments | None = field(default=None, repr=False)
    name: str = "market"
    channels: Sequence[str] = ("price",)
    traits: VenueTraits = TRAITS

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def dial(self) -> Dialer | None:
        return self.inner.dial

    def session(self) -> Session:
        return self.inner.session()

    def subscribe(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        return self.inner.subscribe(subscriptions)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        return self.inner.unsubscribe(subscriptions)

    def instrument_urls(self) -> Sequence[str]:
        return ["https://market.example/spot", "https://market.example/old?key=hunter2"]

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        items = []
        for body in bodies:
            try:
                rows = json.loads(body)
            except ValueError as error:
                raise DecodeError(self.name, body, [("$", "not JSON")]) from error
            for name, base, quote, active in rows:
                symbol = canonical_symbol(base, quote)
                items.append(
                    Instrument(symbol, name, base, quote, InstrumentKind.SPOT, active=active)
                )
        return Instruments(items)

    def with_instruments(self, instruments: Instruments) -> Self:
        return evolve(self, instruments=instruments)


class Rest:
    """Answers requests in turn; the last answer stays."""

    def __init__(self, *answers: bytes | int | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.times: list[float] = []

    async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(url)
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return HttpResponse(answer, (), PAGE)
        return HttpResponse(200, (), answer)


OFFLINE = FetchFailed("https://market.example/spot", "no network")
URL = PriceVenue("ws://market.example/")


def market(*answers: bytes | int | Exception) -> tuple[Market, Rest]:
    rest = Rest(*answers)
    return Market(URL, fetch=rest), rest


def listed(venue: Market) -> Instruments:
    assert venue.instruments is not None
    return venue.instruments


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def kept(path: Path, clock: VirtualClock) -> Market:
    """A cache that was just written."""
    venue, _ = market(LIST, MORE)
    return await load_instruments(venue, cache=path, clock=clock)


# --- fetching ------------------------------------------------------------------------------------


async def test_the_list_is_fetched_and_stamped(autojump_clock: MockClock) -> None:
    venue, rest = market(LIST, MORE)
    assert isinstance(venue, ListedVenue)
    clock = VirtualClock()
    loaded = await load_instruments(venue, clock=clock)
    assert rest.asked == list(venue.instrument_urls())
    assert [one.symbol for one in listed(loaded)] == ["BTC-USD", "ETH-USD", "LUNA-USD"]
    assert (listed(loaded).venue, listed(loaded).fetched_ns) == ("market", clock.time_ns())
    assert venue.instruments is None  # a venue is a value


async def test_failures_that_pass_are_tried_again_behind_the_back_off(
    autojump_clock: MockClock,
) -> None:
    venue, rest = market(503, OFFLINE, LIST, 429, MORE)
    loaded = await load_instruments(venue, rng=Random(1), clock=VirtualClock())
    assert len(listed(loaded)) == 3
    assert len(rest.asked) == 5
    assert rest.times[4] - rest.times[3] >= 5  # the least after 429


@pytest.mark.parametrize(
    ("answers", "tries", "told"),
    [
        ((503,), 3, "HTTP 503.*back soon"),
        ((OFFLINE,), 3, "no network"),
        ((404,), 1, "HTTP 404"),
        ((bytes(64 * 2**20 + 1),), 1, "over the limit of 67,108,864 bytes"),
    ],
)
async def test_what_does_not_pass_is_an_error(
    autojump_clock: MockClock, answers: tuple[bytes | int | Exception], tries: int, told: str
) -> None:
    venue, rest = market(*answers)
    with pytest.raises(FetchFailed, match=told):
        await load_instruments(venue, rng=Random(1))
    assert len(rest.asked) == tries


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (PAGE, "not JSON"),
        (b"[]", "no instruments"),
        (b'[["X", "A", "B", true], ["X", "C", "D", true]]', "stands for two instruments"),
    ],
)
async def test_what_is_no_list_is_a_decode_error(
    autojump_clock: MockClock, body: bytes, told: str
) -> None:
    venue, _ = market(body, b"[]")
    with pytest.raises(DecodeError, match=told):
        await load_instruments(venue)


async def test_a_large_list_is_parsed_all_the_same() -> None:
    rows = [[f"N{n}", f"N{n}", "USD", True] for n in range(40_000)]
    venue, _ = market(json.dumps(rows).encode(), b"[]")
    assert len(listed(await load_instruments(venue))) == 40_000


async def test_the_deadline_is_for_all_of_it(autojump_clock: MockClock) -> None:
    class Silent(Rest):
        async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
            self.asked.append(url)
            await trio.sleep_forever()

    rest = Silent()
    began = trio.current_time()
    with pytest.raises(FetchFailed, match="no answer within 30 s"):
        await load_instruments(Market(URL, fetch=rest))
    assert trio.current_time() - began == pytest.approx(30)
    assert len(rest.asked) == 1


async def test_a_ban_beyond_the_deadline_is_not_waited_for(autojump_clock: MockClock) -> None:
    class Banned(Rest):
        async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
            return HttpResponse(418, [("retry-after", "3600")])

    began = trio.current_time()
    with pytest.raises(FetchFailed, match="HTTP 418"):
        await load_instruments(Market(URL, fetch=Banned()))
    assert trio.current_time() == began


async def test_the_venues_own_fetcher_comes_first(autojump_clock: MockClock) -> None:
    venue, rest = market(LIST, MORE)
    other = Rest(LIST, MORE)
    await load_instruments(venue, fetch=other)
    assert (len(rest.asked), len(other.asked)) == (2, 0)
    await load_instruments(Market(URL), fetch=other)
    assert len(other.asked) == 2


# --- the file ------------------------------------------------------------------------------------


async def test_a_young_file_is_taken_and_nothing_is_fetched(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "deep" / "list.json"
    clock = VirtualClock()
    written = await kept(path, clock)
    assert names_in(path.parent) == ["list.json"]
    clock.epoch_ns += (DAY_S - 60) * 10**9
    venue, rest = market(OFFLINE)
    assert listed(await load_instruments(venue, cache=path, clock=clock)) == listed(written)
    assert rest.asked == []


@pytest.mark.parametrize("moved_s", [DAY_S + 1, -60])
async def test_a_file_that_is_old_or_from_the_future_is_replaced(
    autojump_clock: MockClock, tmp_path: Path, moved_s: int
) -> None:
    path = tmp_path / "list.json"
    clock = VirtualClock()
    await kept(path, clock)
    clock.epoch_ns += moved_s * 10**9
    venue, _ = market(LIST, b"[]")
    loaded = await load_instruments(venue, cache=path, clock=clock)
    assert len(listed(loaded)) == 2
    assert Instruments.loads(path.read_text("utf-8")) == listed(loaded)


async def test_a_refresh_is_a_maximum_age_of_zero(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "list.json"
    clock = VirtualClock()
    await kept(path, clock)
    venue, rest = market(LIST, b"[]")
    assert len(listed(await load_instruments(venue, cache=path, max_age_s=0, clock=clock))) == 2
    assert len(rest.asked) == 2


@pytest.mark.parametrize("answer", [OFFLINE, 503, PAGE, b"[]"])
async def test_offline_an_old_file_is_used_and_tells_its_age(
    autojump_clock: MockClock, tmp_path: Path, answer: bytes | int | Exception
) -> None:
    path = tmp_path / "list.json"
    clock = VirtualClock()
    written = await kept(path, clock)
    before = path.read_bytes()
    clock.epoch_ns += 30 * DAY_S * 10**9
    venue, _ = market(answer)
    loaded = await load_instruments(venue, cache=path, clock=clock, rng=Random(1))
    assert listed(loaded).fetched_ns == listed(written).fetched_ns
    assert path.read_bytes() == before
    with pytest.raises((FetchFailed, DecodeError)):
        await load_instruments(venue, cache=path, clock=clock, offline_ok=False, rng=Random(1))


async def test_a_damaged_file_counts_as_none_and_is_replaced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(b'{"format": "feedhandler-instr')
    venue, _ = market(LIST, MORE)
    loaded = await load_instruments(venue, cache=path)
    assert Instruments.loads(path.read_bytes()) == listed(loaded)


async def test_a_damaged_file_is_named_where_nothing_can_be_fetched(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(b"{}")
    venue, _ = market(OFFLINE)
    with pytest.raises(FetchFailed) as caught:
        await load_instruments(venue, cache=path, rng=Random(1))
    (note,) = caught.value.__notes__
    assert str(path) in note
    assert "no file of format" in note


async def test_a_file_of_another_venue_is_an_error_and_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "list.json"
    await kept(path, VirtualClock())
    before = path.read_bytes()
    other = evolve(market(LIST, MORE)[0], name="other")
    with pytest.raises(ConfigError, match="list of 'market', not of 'other'"):
        await load_instruments(other, cache=path)
    assert path.read_bytes() == before


async def test_a_place_that_can_t_be_a_file_is_an_error(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    venue, rest = market(LIST, MORE)
    with pytest.raises(ConfigError, match="can't be read"):
        await load_instruments(venue, cache=tmp_path)
    assert rest.asked == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="can't be"):
        await load_instruments(venue, cache=tmp_path / "file" / "list.json")


async def test_cancelled_the_file_is_as_it_was(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Cancelling(Rest):
        async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
            response = await super().__call__(url, max_bytes=max_bytes)
            if len(self.asked) == 2:
                scope.cancel()
            return response

    path = tmp_path / "list.json"
    path.write_bytes(b"as it was")
    with trio.CancelScope() as scope:
        await load_instruments(Market(URL, fetch=Cancelling(LIST, MORE)), cache=path)
    assert scope.cancelled_caught
    assert path.read_bytes() == b"as it was"
    assert names_in(tmp_path) == ["list.json"]


async def test_a_list_from_a_file_needs_no_network(autojump_clock: MockClock) -> None:
    text = listed(await load_instruments(market(LIST, MORE)[0])).dumps()
    venue = Market(URL).with_instruments(Instruments.loads(text))
    assert listed(venue).by_symbol("BTC-USD").venue_symbol == "BTCUSD"


# --- feeds ---------------------------------------------------------------------------------------


async def test_a_feed_loads_the_list_before_it_connects(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        venue = Market(PriceVenue(server.url, dial=server.dial), fetch=Rest(LIST, MORE))
        async with open_feed(venue, ["BTC-USD"]) as feed:
            connection = await server.next_connection()
            await connection.receive()
            await connection.send(price_message("BTC-USD", "1", 1))
            async for event in feed:
                if isinstance(event, PriceUpdate):
                    break
            with pytest.raises(UnknownSymbol, match="'ETH-USD'"):
                feed.subscribe(["ETHUSD"])
            feed.subscribe(["ETH-USD"])


@pytest.mark.parametrize(
    ("symbol", "told"), [("BTCUSD", "mean 'BTC-USD'"), ("LUNA-USD", "halted or delisted")]
)
async def test_an_unknown_symbol_is_an_error_before_anything_is_connected(
    autojump_clock: MockClock, symbol: str, told: str
) -> None:
    async with MockWebSocketServer() as server:
        venue = Market(PriceVenue(server.url, dial=server.dial), fetch=Rest(LIST, MORE))
        with pytest.raises(UnknownSymbol, match=told):
            async with open_feed(venue, ["BTC-USD", symbol]):
                pytest.fail("it has opened")
        assert not server.connections


async def test_without_a_list_nothing_is_connected(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        venue = Market(PriceVenue(server.url, dial=server.dial), fetch=Rest(404))
        with pytest.raises(FetchFailed, match="HTTP 404"):
            async with open_feed(venue, ["BTC-USD"]):
                pytest.fail("it has opened")
        assert not server.connections


async def test_the_handler_shows_how_to_load_the_list(autojump_clock: MockClock) -> None:
    venue = Market(URL, fetch=Rest(LIST, MORE))
    async with FeedHandler() as handler:
        with pytest.raises(UsageError, match=r"venue = await load_instruments\(venue\)"):
            handler.add(venue, ["BTC-USD"])
        loaded = await load_instruments(venue)
        with pytest.raises(UnknownSymbol):
            handler.add(loaded, ["XRP-USD"])
        assert not handler.feeds


async def test_a_feed_without_a_fetcher_of_the_venue_s_uses_the_one_given(
    autojump_clock: MockClock,
) -> None:
    rest = Rest(LIST, MORE)
    async with MockWebSocketServer() as server:
        venue = Market(PriceVenue(server.url, dial=server.dial))
        async with open_feed(venue, ["BTC-USD"], fetch=rest):
            await server.next_connection()
    assert len(rest.asked) == 2
