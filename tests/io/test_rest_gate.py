"""The gate before a venue's REST interface, in virtual time: its pace, its silences, its errors."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from random import Random

import pytest
import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock

from feedhandler import AnswerTooLarge, BackoffConfig, ConfigError, FetchFailed
from feedhandler._core.fetching import is_final
from feedhandler._io.rest import RestGate
from feedhandler.abc import HttpResponse
from feedhandler.errors import NameResolutionFailed
from feedhandler.traits import Limits
from feedhandler_testing import VirtualClock

URL = "https://api.example/depth?symbol=BTCUSD&apikey=hunter2"
STEADY = BackoffConfig(base_s=1.0, cap_s=60.0, jitter=False)
OK = HttpResponse(200, (), b"{}")
Answer = HttpResponse | Exception | Callable[[], Awaitable[HttpResponse]]


@define
class FakeFetch:
    """Answers by a script, whose last entry stays; notes when each request came."""

    answers: Sequence[Answer]
    asked: list[tuple[float, str]] = field(factory=list)
    under_way: int = 0
    most: int = 0

    @property
    def times(self) -> list[float]:
        return [when for when, _ in self.asked]

    async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append((round(trio.current_time(), 6), url))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await trio.lowlevel.checkpoint()
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, HttpResponse) else await answer()
        finally:
            self.under_way -= 1


def gate_for(fetch: FakeFetch, *, backoff: BackoffConfig = STEADY, **limits: float) -> RestGate:
    return RestGate(fetch, Limits(**limits), backoff=backoff, rng=Random(1), clock=VirtualClock())


async def get(gate: RestGate, url: str = URL, *, deadline_s: float = 1000.0) -> HttpResponse:
    return await gate.get(url, max_bytes=100, deadline_s=deadline_s)


async def outcome(gate: RestGate, *, deadline_s: float = 1000.0) -> FetchFailed | HttpResponse:
    try:
        return await get(gate, deadline_s=deadline_s)
    except FetchFailed as error:
        return error


async def slow(seconds: float) -> HttpResponse:
    await trio.sleep(seconds)
    return OK


# --- pace ----------------------------------------------------------------------------------------


async def test_an_answer_with_200_is_given_as_it_is(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([OK])
    assert await get(gate_for(fetch)) is OK
    assert [url for _, url in fetch.asked] == [URL]  # with its credentials: they are redacted later


async def test_half_a_minute_s_allowance_goes_at_once_and_the_rest_is_spread(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=8)
    began = trio.current_time()
    for _ in range(7):
        await get(gate)
    assert [when - began for when in fetch.times] == pytest.approx([0, 0, 0, 0, 15, 30, 45])


async def test_no_minute_has_more_than_is_allowed(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=30)
    async with trio.open_nursery() as nursery:
        for _ in range(90):
            nursery.start_soon(get, gate)
    for begin in fetch.times:
        assert sum(begin <= when < begin + 60 for when in fetch.times) <= 30


async def test_heavy_requests_cost_their_weight(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=120)
    began = trio.current_time()
    for weight in (50, 10, 20, 1):
        await gate.get(URL, weight=weight, max_bytes=100, deadline_s=1000)
    assert [when - began for when in fetch.times] == pytest.approx([0, 0, 20, 21])


async def test_turns_are_in_the_order_of_asking(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=2)
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(get, gate, f"https://api.example/{number}")
            await trio.testing.wait_all_tasks_blocked()
    assert [url[-1] for _, url in fetch.asked] == list("012345")


async def test_without_a_limit_only_the_number_under_way_is_bounded(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([lambda: slow(1.0)])
    gate = gate_for(fetch)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(get, gate)
    assert fetch.most == 4
    assert trio.current_time() - began == pytest.approx(3.0)


async def test_one_who_leaves_while_waiting_takes_no_turn(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=2)
    began = trio.current_time()
    await get(gate)
    for _ in range(5):
        with trio.move_on_after(1):
            await get(gate)
    await get(gate)
    assert [when - began for when in fetch.times] == pytest.approx([0, 60])


# --- the venue's silences ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 418])
@pytest.mark.parametrize("form", ["seconds", "date", "date without the venue's clock"])
async def test_everybody_waits_as_long_as_the_venue_asks(
    autojump_clock: MockClock, status: int, form: str
) -> None:
    clock = VirtualClock()
    now_s = clock.time_ns() // 10**9
    headers = {
        "seconds": [("Retry-After", "30")],
        "date": [("retry-after", formatdate(1030)), ("date", formatdate(1000))],
        "date without the venue's clock": [("retry-after", formatdate(now_s + 30))],
    }[form]
    fetch = FakeFetch([HttpResponse(status, headers, b"slow down"), OK])
    gate = gate_for(fetch, backoff=BackoffConfig(jitter=False))
    began = trio.current_time()
    error = await outcome(gate)
    assert isinstance(error, FetchFailed)
    assert (error.status, error.body) == (status, b"slow down")
    assert error.retry_after_s == pytest.approx(30, abs=1)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(get, gate)
    assert all(when - began >= 29 for when in fetch.times[1:])
    assert fetch.times[1] - began == pytest.approx(30, abs=1)


async def test_a_rate_limit_without_a_time_waits_as_the_failure_table_says(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([HttpResponse(429), OK])
    gate = gate_for(fetch)
    began = trio.current_time()
    assert isinstance(await outcome(gate), FetchFailed)
    await get(gate)
    assert fetch.times[1] - began == pytest.approx(50)  # base_s times the kind's scale


async def test_maintenance_with_a_time_is_waited_for(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([HttpResponse(503, [("retry-after", "200")], b"<html>"), OK])
    gate = gate_for(fetch)
    began = trio.current_time()
    error = await outcome(gate)
    assert isinstance(error, FetchFailed)
    assert "HTTP 503" in str(error)
    assert "<html>" in str(error)
    await get(gate)
    assert fetch.times[1] - began == pytest.approx(200)


@pytest.mark.parametrize(
    ("failing", "waits"),
    [
        (HttpResponse(500), [10, 20, 40]),
        (HttpResponse(502, (), b"<html>bad gateway</html>"), [10, 20, 40]),
        (HttpResponse(302), [10, 20, 40]),
        (HttpResponse(403), [10, 20, 40]),
        (HttpResponse(204), [10, 20, 40]),
        (FetchFailed(URL, "reset"), [1, 2, 4]),
    ],
)
async def test_failures_make_the_next_wait_by_the_back_off_until_one_is_answered(
    autojump_clock: MockClock, failing: Answer, waits: list[float]
) -> None:
    fetch = FakeFetch([failing, failing, failing, OK, OK, failing, OK])
    gate = gate_for(fetch)
    for _ in range(7):
        await outcome(gate)
    pauses = [b - a for a, b in zip(fetch.times, fetch.times[1:], strict=False)]
    assert pauses == pytest.approx([*waits, 0, 0, waits[0]])


async def test_an_error_of_the_dialer_keeps_its_own_curve(autojump_clock: MockClock) -> None:
    lost = FetchFailed(URL, "api.example does not resolve")
    lost.__cause__ = NameResolutionFailed("api.example does not resolve")
    fetch = FakeFetch([lost, OK])
    gate = gate_for(fetch)
    await outcome(gate)
    await get(gate)
    assert fetch.times[1] - fetch.times[0] == pytest.approx(5)


async def test_what_fails_together_counts_once(autojump_clock: MockClock) -> None:
    async def fail() -> HttpResponse:
        await trio.sleep(1)
        return HttpResponse(500)

    fetch = FakeFetch([fail] * 4 + [OK])
    gate = gate_for(fetch)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(outcome, gate)
    await get(gate)
    assert fetch.times[-1] - fetch.times[0] == pytest.approx(11)


async def test_after_a_failure_one_goes_alone(autojump_clock: MockClock) -> None:
    fetch = FakeFetch([HttpResponse(500), lambda: slow(5)])
    gate = gate_for(fetch)
    await outcome(gate)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(get, gate)
    assert [when - fetch.times[1] for when in fetch.times[1:]] == pytest.approx([0, 5, 5, 5, 5])


async def test_an_answer_to_what_was_asked_before_a_failure_proves_nothing(
    autojump_clock: MockClock,
) -> None:
    async def fail() -> HttpResponse:
        await trio.sleep(1)
        return HttpResponse(500)

    fetch = FakeFetch([lambda: slow(2), fail, HttpResponse(500), OK])
    gate = gate_for(fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, gate)
        nursery.start_soon(outcome, gate)
    await outcome(gate)  # 10 s after the failure
    await outcome(gate)  # and 20 s after this one: the second in a row
    assert fetch.times[3] - fetch.times[2] == pytest.approx(20)


async def test_jitter_comes_from_the_generator_that_is_passed_in(autojump_clock: MockClock) -> None:
    async def run(seed: int) -> list[float]:
        fetch = FakeFetch([HttpResponse(500), HttpResponse(500), OK])
        gate = RestGate(fetch, Limits(), backoff=BackoffConfig(), rng=Random(seed))
        for _ in range(3):
            await outcome(gate)
        return [when - fetch.times[0] for when in fetch.times]

    assert await run(1) == pytest.approx(await run(1))
    assert await run(1) != pytest.approx(await run(2))


# --- refusals that concern one request only ------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_a_refusal_for_good_leaves_the_others_their_turns(
    autojump_clock: MockClock, status: int
) -> None:
    said = HttpResponse(status, (), b'{"code":-1121,"msg":"Invalid symbol."}')
    fetch = FakeFetch([said, OK])
    gate = gate_for(fetch)
    error = await outcome(gate)
    assert isinstance(error, FetchFailed)
    assert is_final(error)
    assert "Invalid symbol" in str(error)
    await get(gate)
    assert fetch.times[1] == fetch.times[0]


async def test_an_answer_that_is_too_large_names_the_limit_and_stops_nobody(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([HttpResponse(200, (), b"x" * 101), OK])
    gate = gate_for(fetch)
    error = await outcome(gate)
    assert isinstance(error, AnswerTooLarge)
    assert "limit of 100 bytes" in str(error)
    assert not is_final(error)
    await get(gate)
    assert fetch.times[1] == fetch.times[0]


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (None, False), (200, False), (302, False), (400, True), (401, True), (403, True),
        (404, True), (408, False), (418, False), (425, False), (429, False), (451, True),
        (500, False), (503, False),
    ],
)  # fmt: skip
def test_which_refusals_are_for_good(status: int | None, final: bool) -> None:
    assert is_final(FetchFailed(URL, "x", status=status)) is final


async def test_errors_show_the_symbol_and_no_credentials(autojump_clock: MockClock) -> None:
    for answer in (HttpResponse(500), HttpResponse(200, (), b"x" * 101), lambda: slow(math.inf)):
        error = await outcome(gate_for(FakeFetch([answer])), deadline_s=1)
        assert isinstance(error, FetchFailed)
        assert "symbol=BTCUSD" in str(error)
        assert "hunter2" not in f"{error} {error!r} {error.url}"


# --- too late ------------------------------------------------------------------------------------


async def test_an_answer_that_comes_too_late_is_an_error_and_slows_the_next(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([lambda: slow(50), OK])
    gate = gate_for(fetch)
    error = await outcome(gate, deadline_s=10)
    assert isinstance(error, FetchFailed)
    assert error.detail == "no answer within 10 s"
    assert fetch.under_way == 0
    await get(gate)
    assert fetch.times[1] - fetch.times[0] == pytest.approx(12)  # HANDSHAKE_TIMEOUT: twice the base


async def test_a_deadline_that_ends_while_the_venue_wants_silence_says_so(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([HttpResponse(429, [("retry-after", "60")]), OK])
    gate = gate_for(fetch)
    await outcome(gate)
    error = await outcome(gate, deadline_s=10)
    assert isinstance(error, FetchFailed)
    assert "nothing may be asked for another 50 s" in error.detail
    assert error.retry_after_s == pytest.approx(50)
    assert len(fetch.asked) == 1


async def test_a_deadline_that_ends_in_the_queue_says_so_and_slows_nobody(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([OK])
    gate = gate_for(fetch, requests_per_minute=2)
    await get(gate)
    error = await outcome(gate, deadline_s=10)
    assert isinstance(error, FetchFailed)
    assert "others were before it" in error.detail
    await get(gate)
    assert fetch.times[1] - fetch.times[0] == pytest.approx(60)


async def test_the_callers_cancellation_leaves_as_it_is_and_slows_nobody(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([lambda: slow(50), OK])
    gate = gate_for(fetch)
    with trio.move_on_after(3) as scope:
        await get(gate)
    assert scope.cancelled_caught
    assert fetch.under_way == 0
    await get(gate)
    assert fetch.times[1] - fetch.times[0] == pytest.approx(3)


async def test_a_bug_in_a_fetcher_is_not_hidden_and_gives_its_place_back(
    autojump_clock: MockClock,
) -> None:
    fetch = FakeFetch([*[ZeroDivisionError()] * 5, OK])
    gate = gate_for(fetch)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await get(gate)
    assert await get(gate) is OK


async def test_a_weight_that_is_none_is_refused(autojump_clock: MockClock) -> None:
    gate = gate_for(FakeFetch([OK]), requests_per_minute=2)
    with pytest.raises(ConfigError, match="weight"):
        await gate.get(URL, weight=-1, max_bytes=1, deadline_s=1)
    assert await get(gate) is OK
