"""The circuit breaker, alone and around clients and feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    BackoffConfig,
    BreakerConfig,
    CircuitBreaker,
    CircuitBreakerClient,
    CircuitBreakerMetrics,
    CircuitOpenError,
    CircuitState,
    ConnectionConfig,
    ConnectionRefused,
    DecodeFailed,
    FeedConfig,
    FeedStateChanged,
    Gap,
    MalformedBurst,
    PriceUpdate,
    PriceVenue,
    WebSocketClient,
    open_feed,
)
from feedhandler_testing import (
    FailureMode,
    MockWebSocketServer,
    Refusal,
    VirtualClock,
    price_message,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        yield mock


def fail(breaker: CircuitBreaker, *, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure(breaker.acquire(now=now), now=now)


def succeed(breaker: CircuitBreaker, *, now: float) -> None:
    breaker.record_success(breaker.acquire(now=now), now=now)


async def test_circuit_opens_after_threshold() -> None:
    breaker = CircuitBreaker()
    fail(breaker, now=0.0, times=4)
    assert breaker.state is CLOSED
    succeed(breaker, now=0.0)
    fail(breaker, now=0.0, times=4)
    assert breaker.state is CLOSED, "a success between starts the count anew"
    fail(breaker, now=1.0)
    assert breaker.state is OPEN
    with pytest.raises(CircuitOpenError, match=r"another 9\.5 s") as caught:
        breaker.acquire(now=1.5)
    assert caught.value.until == 11.0
    assert caught.value.remaining_s == 9.5

    rate = CircuitBreaker(BreakerConfig(failure_rate=0.5, window_s=10.0, window_minimum=6))
    for n in range(6):
        assert rate.state is CLOSED
        (succeed if n % 2 else fail)(rate, now=float(n))
    assert rate.state is CLOSED, "half were failures, and the last was not one"
    fail(rate, now=6.0)
    assert rate.state is OPEN
    calm = CircuitBreaker(BreakerConfig(failure_rate=0.5, window_s=2.0, window_minimum=6))
    for n in range(20):
        (succeed if n % 2 else fail)(calm, now=float(n))
    assert calm.state is CLOSED, "what is older than the window does not count"


async def test_circuit_half_open_after_timeout() -> None:
    breaker = CircuitBreaker()
    fail(breaker, now=0.0, times=5)
    with pytest.raises(CircuitOpenError):
        breaker.acquire(now=9.999)
    probe = breaker.acquire(now=10.0)
    assert breaker.state is HALF_OPEN
    with pytest.raises(CircuitOpenError):
        breaker.acquire(now=10.0)

    breaker.release(probe, now=10.5)
    breaker.release(probe, now=10.5)
    second = breaker.acquire(now=10.5)
    with pytest.raises(CircuitOpenError):
        breaker.acquire(now=10.5)
    breaker.record_success(second, now=11.0)
    assert breaker.metrics.consecutive_successes == 1
    breaker.acquire(now=11.0)

    late = CircuitBreaker()
    stale = late.acquire(now=0.0)
    fail(late, now=0.0, times=5)
    late.acquire(now=10.0)
    late.record_failure(stale, now=10.0)
    assert late.state is HALF_OPEN, "a result from before the last transition is ignored"


async def test_circuit_closes_on_success() -> None:
    breaker = CircuitBreaker()
    fail(breaker, now=0.0, times=5)
    succeed(breaker, now=10.0)
    succeed(breaker, now=10.0)
    assert breaker.state is HALF_OPEN
    succeed(breaker, now=10.0)
    assert breaker.state is CLOSED
    fail(breaker, now=11.0, times=4)
    assert breaker.state is CLOSED, "it counts from zero again"
    fail(breaker, now=11.0)
    assert breaker.open_until == 21.0, "and its open time is the first one again"

    breaker.reset(now=12.0)
    assert breaker.state is CLOSED
    breaker.open(now=12.0, for_s=60.0)
    assert breaker.open_until == 72.0


async def test_exponential_backoff_during_open() -> None:
    breaker = CircuitBreaker()
    fail(breaker, now=0.0, times=5)
    now, waits = 0.0, []
    for _ in range(5):
        assert breaker.open_until is not None
        waits.append(breaker.open_until - now)
        with pytest.raises(CircuitOpenError):
            breaker.acquire(now=breaker.open_until - 1e-6)
        now = breaker.open_until
        fail(breaker, now=now)
    assert waits == [10.0, 20.0, 40.0, 80.0, 80.0]


async def test_circuit_metrics_collection() -> None:
    metrics = CircuitBreakerMetrics()
    breaker = CircuitBreaker(metrics=metrics)
    succeed(breaker, now=100.0)
    fail(breaker, now=103.0, times=5)
    for _ in range(2):
        with pytest.raises(CircuitOpenError):
            breaker.acquire(now=105.0)
    for now in (113.0, 114.0, 117.0):
        succeed(breaker, now=now)

    told = metrics.snapshot(now=120.0)
    assert (told.failures, told.successes, told.rejections) == (5, 4, 2)
    assert (told.consecutive_failures, told.consecutive_successes) == (0, 3)
    assert [(t.old, t.new, t.at) for t in told.transitions] == [
        (CLOSED, OPEN, 103.0),
        (OPEN, HALF_OPEN, 113.0),
        (HALF_OPEN, CLOSED, 117.0),
    ]
    assert told.seconds == {CLOSED: 3.0 + 3.0, OPEN: 10.0, HALF_OPEN: 4.0}
    assert told.state is CLOSED
    assert metrics.time_in_state(CLOSED, now=130.0) == 16.0
    assert "5 failures in a row" in told.transitions[0].reason


async def test_mixed_valid_invalid_messages(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    venue = PriceVenue(server.url, dial=server.dial)
    config = FeedConfig(
        backoff=BackoffConfig(jitter=False), connection=ConnectionConfig(heartbeat_interval_s=None)
    )
    async with open_feed(venue, ["A"], config=config, clock=VirtualClock()) as feed:
        breaker = feed.breaker
        assert breaker is not None
        connection = await server.next_connection()
        bad = "{"
        # Four bad ones, then a good one, over and over: counted, and the circuit stays closed.
        for n in range(10):
            await connection.send_many([bad] * 4 + [price_message("A", "1.5", n)])
            await trio.sleep(1)
        assert feed.statistics().decode_errors == 40
        assert breaker.state is CLOSED
        assert breaker.metrics.failures == 40
        good = [e async for e in _until(feed, 10)]
        assert [e.sequence for e in good if isinstance(e, PriceUpdate)] == list(range(10))

        # Five in a row: the circuit opens, the connection is dropped, and nobody knocks for 10 s.
        opened = trio.current_time()
        await connection.send_many([bad] * 5)
        await connection.wait_closed()
        assert breaker.state is OPEN
        connection = await server.next_connection()
        assert trio.current_time() == opened + 10.0
        events = []
        await connection.send_many([price_message("A", "1.5", n) for n in (10, 11, 12)])
        async for event in feed:
            events.append(event)
            if isinstance(event, PriceUpdate) and event.sequence == 12:
                break
        assert sum(isinstance(event, DecodeFailed) for event in events) == 5
        (lost,) = [e for e in events if isinstance(e, FeedStateChanged) and e.failure]
        assert isinstance(lost.error, MalformedBurst)
        assert lost.breaker_open
        assert breaker.state is HALF_OPEN, "one batch of good data is one success"
        for n in (13, 14):
            await connection.send(price_message("A", "1.5", n))
            await trio.sleep(1)
        assert breaker.state is CLOSED


async def _until(feed: AsyncIterator[object], prices: int) -> AsyncIterator[object]:
    seen = 0
    async for event in feed:
        yield event
        seen += isinstance(event, PriceUpdate)
        if seen == prices:
            return


async def test_message_ordering_preservation(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    total = 10_000
    rng = Random(11)
    venue = PriceVenue(server.url, dial=server.dial)
    sent: set[int] = set()

    async def exchange() -> None:
        connection = await server.next_connection()
        number = 0
        while number < total:
            part = list(range(number, min(number + rng.randint(1, 400), total)))
            try:
                await connection.send_many([price_message("A", f"{n}.5", n) for n in part])
                sent.update(part)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                connection = await server.next_connection()
                continue
            number += len(part)
            if rng.random() < 0.2:
                if rng.random() < 0.5:
                    await trio.testing.wait_all_tasks_blocked()
                if number < total:
                    connection.drop()
                    connection = await server.next_connection()
        # One more, so that a loss at the very end is bounded too.
        await connection.send(price_message("A", "1", total))

    received: list[int] = []
    gaps: list[tuple[int, int]] = []
    begin: int | None = None
    async with open_feed(venue, ["A"], clock=VirtualClock(), rng=rng) as feed:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange)
            async for event in feed:
                if isinstance(event, Gap) and event.symbol == "A":
                    begin = event.from_sequence if begin is None else begin
                    if begin is None:
                        begin = 0
                    if event.to_sequence is not None:
                        gaps.append((begin, event.to_sequence))
                        begin = None
                elif isinstance(event, PriceUpdate):
                    if begin is not None:
                        gaps.append((begin, event.sequence - 1))
                        begin = None
                    received.append(event.sequence)
                    if event.sequence == total:
                        break
        connections = feed.statistics().connections
    assert connections > 4
    assert received == sorted(set(received)), "in order, and none twice"
    missing = sent - set(received)
    assert missing, "the resets lost something, or this proves nothing"
    announced = {n for low, high in gaps for n in range(low, high + 1)}
    assert missing <= announced, "every loss lies inside an announced gap"


async def test_connection_failure_handling(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    metrics = CircuitBreakerMetrics()
    inner = WebSocketClient(server.url, dial=server.dial, backoff=BackoffConfig(jitter=False))
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with CircuitBreakerClient(inner, CircuitBreaker(), metrics) as client:
        server.failure_mode = Refusal()
        for _ in range(5):
            with pytest.raises(ConnectionRefused):
                await client.connect()
        dialled = server.dialled
        started = trio.current_time()
        for attempt in (client.connect, client.reconnect_with_backoff):
            with pytest.raises(CircuitOpenError) as caught:
                await attempt()
            assert caught.value.until == started + 10.0
        with pytest.raises(CircuitOpenError) as caught:
            await client.send("x")
        assert trio.current_time() == started, "fails fast"
        assert server.dialled == dialled, "and knocks at nobody's door"
        assert caught.value.until == started + 10.0
        assert metrics.rejections == 3

        server.failure_mode = FailureMode.NONE
        await trio.sleep_until(caught.value.until)
        await client.connect()
        assert client.circuit_breaker.state is HALF_OPEN
        connection = await server.next_connection()
        for n in range(3):
            await connection.send(f"message {n}")
            assert await anext(client) == f"message {n}"
        assert client.circuit_breaker.state is CLOSED
        assert metrics.failures == 5
        assert metrics.successes == 3

        # A loss while it lives is a failure too; the reconnect goes through the breaker.
        connection.drop()
        await server.next_connection()
        assert metrics.failures == 6
    assert trio.lowlevel.current_statistics().tasks_living <= tasks + 1
    await trio.testing.wait_all_tasks_blocked()
    assert not server.connections
