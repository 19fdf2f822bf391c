"""Losing connections and making them again: in virtual time, to the millisecond."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    DEFAULT_POLICIES,
    BackoffConfig,
    ConnectionConfig,
    ConnectionFailed,
    ConnectionLost,
    ConnectionState,
    FailureKind,
    FailurePolicy,
    FeedConfig,
    FeedStateChanged,
    ForcedDisconnect,
    Gap,
    GapReason,
    PeerClosed,
    PriceUpdate,
    PriceVenue,
    RateLimited,
    ReconnectionState,
    RetriesExhausted,
    SendQueueFull,
    WebSocketClient,
    open_feed,
)
from feedhandler.abc import DialTarget, Subscription
from feedhandler_testing import (
    BadHandshake,
    Disconnect,
    Failure,
    FailureMode,
    MockWebSocketServer,
    Refusal,
    Rejection,
    Timeout,
    VirtualClock,
    price_message,
)

MakeClient = Callable[..., WebSocketClient]
NO_JITTER = BackoffConfig(jitter=False)


class Dials:
    """A dialer that notes when it is called."""

    def __init__(self, server: MockWebSocketServer) -> None:
        self.server = server
        self.times: list[float] = []

    async def __call__(self, target: DialTarget) -> trio.abc.Stream:
        self.times.append(round(trio.current_time(), 9))
        return await self.server.dial(target)

    @property
    def waits(self) -> list[float]:
        return [round(b - a, 9) for a, b in pairwise(self.times)]


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        yield mock


@pytest.fixture
def dials(server: MockWebSocketServer) -> Dials:
    return Dials(server)


@pytest.fixture
def make_client(server: MockWebSocketServer, dials: Dials) -> MakeClient:
    def make(**settings: Any) -> WebSocketClient:
        defaults: dict[str, Any] = {"dial": dials, "backoff": NO_JITTER}
        return WebSocketClient(server.url, **{**defaults, **settings})

    return make


async def test_exponential_backoff_on_disconnect(
    autojump_clock: MockClock, server: MockWebSocketServer, dials: Dials, make_client: MakeClient
) -> None:
    async with make_client() as client:
        await client.connect()
        (await server.next_connection()).drop()
        server.failure_mode = Refusal()
        await trio.sleep(0.1 + 0.2 + 0.4 + 0.8 + 0.01)
        assert dials.waits == [0.1, 0.2, 0.4, 0.8]
        state = ReconnectionState(NO_JITTER)
        assert (state.attempt_count, state.current_backoff, state.base_backoff) == (0, 0.0, 0.1)
        assert client.reconnection == (5, 1.6, 0.1)


async def test_max_retries_enforcement(
    autojump_clock: MockClock, server: MockWebSocketServer, dials: Dials, make_client: MakeClient
) -> None:
    async with make_client() as client:
        await client.connect()
        connection = await server.next_connection()
        server.failure_mode = Refusal()
        connection.drop()
        with pytest.raises(RetriesExhausted) as caught:
            await anext(client)
        assert dials.waits == [0.1, 0.2, 0.4, 0.8, 1.6]
        assert [type(cause).__name__ for cause in caught.value.causes] == [
            "ConnectionLost",
            *["ConnectionRefused"] * 5,
        ]
        assert client.connection_state is ConnectionState.DISCONNECTED

        server.failure_mode = FailureMode.NONE
        await client.connect()
        assert client.is_connected, "giving up is not the end of the client"


async def test_backoff_reset_on_success(
    autojump_clock: MockClock, server: MockWebSocketServer, dials: Dials, make_client: MakeClient
) -> None:
    async with make_client() as client:
        await client.connect()
        # Accepting and dropping proves nothing: the waits go on growing.
        for _ in range(3):
            (await server.next_connection()).drop()
        connection = await server.next_connection()
        assert dials.waits == [0.1, 0.2, 0.4]
        assert client.reconnection[0] == 3

        # Data does, and the next wait is the first one again.
        await connection.send("valid")
        assert await anext(client) == "valid"
        assert client.reconnection == (0, 0.0, 0.1)
        connection.drop()
        connection = await server.next_connection()
        assert dials.waits[3:] == [0.1]

        # So does a life of stable_s, and not a moment less.
        await trio.sleep(NO_JITTER.stable_s - 0.01)
        assert client.reconnection[0] == 1
        await trio.sleep(0.02)
        assert client.reconnection[0] == 0


async def test_concurrent_reconnection_attempts(
    autojump_clock: MockClock, server: MockWebSocketServer, dials: Dials, make_client: MakeClient
) -> None:
    async with make_client() as client:
        await client.connect()
        first = await server.next_connection()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(client.reconnect_with_backoff)
        assert client.is_connected
        assert client.epoch == 2
        assert len(dials.times) == server.accepted == 2
        await first.wait_closed()
        assert len(server.connections) == 1


async def test_connection_state_preservation(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    config = ConnectionConfig(send_queue_messages=3)
    async with make_client(config=config) as client:
        await client.connect()
        first = await server.next_connection()
        await first.send_many(["received 1", "received 2"])
        await trio.testing.wait_all_tasks_blocked()
        first.drop()
        await trio.testing.wait_all_tasks_blocked()
        assert client.connection_state is ConnectionState.RECONNECTING
        for number in (1, 2, 3):
            await client.send(f"queued {number}")
        with pytest.raises(SendQueueFull, match="3 messages"):
            await client.send("one too many")

        second = await server.next_connection()
        assert [await second.receive() for _ in range(3)] == ["queued 1", "queued 2", "queued 3"]
        await second.send("received 3")
        assert [await anext(client) for _ in range(3)] == [
            "received 1",
            "received 2",
            "received 3",
        ]

    venue = PriceVenue(server.url, dial=server.dial)
    async with open_feed(venue, ["BTC-USD", "ETH-USD"]) as feed:
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        feed.subscribe(["SOL-USD"])
        feed.unsubscribe(["ETH-USD"])
        await trio.testing.wait_all_tasks_blocked()
        assert set(connection.subscriptions) == {"BTC-USD", "SOL-USD"}
        connection.drop()
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        assert set(connection.subscriptions) == {"BTC-USD", "SOL-USD"}
        assert feed.subscriptions.confirmed == {
            Subscription("price", "BTC-USD"),
            Subscription("price", "SOL-USD"),
        }


FATAL = "fatal"
# How a failure is made, its kind, and the wait that follows it (base 0.1 s times the scale).
FAILURES: dict[str, tuple[Failure, FailureKind, float | str]] = {
    "name resolution": (Refusal(kind="resolve"), FailureKind.NAME_RESOLUTION, 0.5),
    "refused": (Refusal(), FailureKind.REFUSED, 0.1),
    "handshake time-out": (Timeout(), FailureKind.HANDSHAKE_TIMEOUT, 0.2),
    "dial time-out": (Timeout(where="dial"), FailureKind.HANDSHAKE_TIMEOUT, 0.2),
    "503": (Rejection(503, (), b"down"), FailureKind.REJECTED, 1.0),
    "302": (Rejection(302, (("Location", "/x"),)), FailureKind.REJECTED, 1.0),
    "HTML with 200": (BadHandshake(kind="html"), FailureKind.REJECTED, 1.0),
    "garbage": (BadHandshake(kind="garbage"), FailureKind.REJECTED, 1.0),
    "wrong accept key": (BadHandshake(kind="wrong_accept"), FailureKind.REJECTED, 1.0),
    "oversized headers": (BadHandshake(kind="oversized"), FailureKind.REJECTED, 1.0),
    "429": (Rejection(429), FailureKind.RATE_LIMITED, 5.0),
    "429 with Retry-After": (
        Rejection(429, (("Retry-After", "7"),)),
        FailureKind.RATE_LIMITED,
        7.0,
    ),
    "418": (Rejection(418), FailureKind.RATE_LIMITED, 5.0),
    "401": (Rejection(401), FailureKind.AUTHENTICATION, FATAL),
    "403": (Rejection(403), FailureKind.AUTHENTICATION, FATAL),
    "451": (Rejection(451), FailureKind.AUTHENTICATION, FATAL),
    "end before the 101": (BadHandshake(kind="end"), FailureKind.RESET, 0.1),
    "reset before the 101": (BadHandshake(kind="reset"), FailureKind.RESET, 0.1),
    "end inside the 101": (BadHandshake(kind="end_inside"), FailureKind.RESET, 0.1),
    "close 1000": (Disconnect(how="close", code=1000), FailureKind.PEER_CLOSED, 0.1),
    "close 1001": (Disconnect(how="close", code=1001), FailureKind.PEER_CLOSED, 0.1),
    "close 1003": (Disconnect(how="close", code=1003), FailureKind.PEER_CLOSED, 0.1),
    "close 4008": (Disconnect(how="close", code=4008), FailureKind.PEER_CLOSED, 0.1),
    "close 1012": (Disconnect(how="close", code=1012), FailureKind.MAINTENANCE, 2.0),
    "close 1013": (Disconnect(how="close", code=1013), FailureKind.MAINTENANCE, 2.0),
    "close 1008": (Disconnect(how="close", code=1008), FailureKind.POLICY_VIOLATION, 1.0),
    "reset": (Disconnect(how="reset", after=1), FailureKind.RESET, 0.1),
    "end of stream": (Disconnect(how="end"), FailureKind.RESET, 0.1),
    "silence": (Timeout(where="stream"), FailureKind.NO_PONG, 0.1),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_reconnection_failure_modes(
    autojump_clock: MockClock,
    server: MockWebSocketServer,
    dials: Dials,
    make_client: MakeClient,
    name: str,
) -> None:
    failure, kind, wait = FAILURES[name]
    server.failure_mode = failure
    policies = {**DEFAULT_POLICIES, FailureKind.RATE_LIMITED: FailurePolicy(minimum_s=5)}
    client = make_client(policies=policies)
    seen = client.transitions()
    async with client, trio.open_nursery() as nursery:

        async def reconnect() -> None:
            try:
                await client.reconnect_with_backoff()
                await server.send_price_update({"symbol": "X"})
            except ConnectionFailed:
                pass  # judged by its transition

        nursery.start_soon(reconnect)
        async for step in seen:
            if step.error is not None:
                break
        assert step.failure is kind
        if wait == FATAL:
            assert step.new is ConnectionState.DISCONNECTED
            assert step.next_attempt_at is None
            await trio.sleep(1000)
            assert len(dials.times) == 1, "a fatal failure is not tried again"
        else:
            assert step.new is ConnectionState.RECONNECTING
            assert step.next_attempt_at == pytest.approx(step.at + float(wait))
            server.failure_mode = FailureMode.NONE
            await trio.sleep(float(wait) + 1e-3)
            assert dials.times[1] == pytest.approx(step.next_attempt_at)
            assert client.is_connected, "once the fault is gone, so is its effect"
        nursery.cancel_scope.cancel()


async def test_adaptive_backoff_strategy(
    autojump_clock: MockClock, server: MockWebSocketServer, dials: Dials, make_client: MakeClient
) -> None:
    # Each kind has its own curve on the same count.
    curves: dict[str, list[float]] = {}
    for status, name in ((0, "refused"), (503, "maintenance page"), (429, "rate limit")):
        state = ReconnectionState(NO_JITTER)
        error: ConnectionFailed = ConnectionLost("x")
        if status == 503:
            error = PeerClosed(1012, "")
        elif status == 429:
            error = RateLimited(429)
        delays = []
        for _ in range(4):
            verdict = state.failed(error, rng=Random(0))
            delays.append(getattr(verdict, "delay_s", -1.0))
        curves[name] = [round(delay, 9) for delay in delays]
    assert curves == {
        "refused": [0.1, 0.2, 0.4, 0.8],
        "maintenance page": [2.0, 4.0, 8.0, 16.0],
        "rate limit": [5.0, 10.0, 20.0, 40.0],
    }

    # Full jitter draws from 0 to the curve, and never goes below what the venue asks for.
    state = ReconnectionState(BackoffConfig(max_retries=0))
    rng = Random(1)
    for n in range(50):
        verdict = state.failed(ConnectionLost("x"), rng=rng)
        assert 0 <= getattr(verdict, "delay_s", -1.0) <= min(30.0, 0.1 * 2**n)
    state = ReconnectionState(BackoffConfig(max_retries=0))
    for _ in range(50):
        verdict = state.failed(RateLimited(429, retry_after_s=90.0), rng=rng)
        assert 90.0 <= getattr(verdict, "delay_s", -1.0) <= 300.0

    # On the wire: the date form of Retry-After, by the venue's own clock, with jitter on.
    server.reject_next(
        429,
        headers=[
            ("Date", "Mon, 23 Nov 2026 10:00:00 GMT"),
            ("Retry-After", "Mon, 23 Nov 2026 10:01:30 GMT"),
        ],
    )
    async with make_client(backoff=BackoffConfig(), rng=Random(3)) as client:
        await client.reconnect_with_backoff()
        assert dials.waits[0] >= 90.0


async def test_forced_disconnect(
    autojump_clock: MockClock, server: MockWebSocketServer, make_client: MakeClient
) -> None:
    # By the server: seen at once, with the code and reason of its Close frame.
    client = make_client()
    seen = client.transitions()
    async with client:
        await client.connect()
        connection = await server.next_connection()
        started = trio.current_time()
        await connection.close(4001, "you are too slow")
        async for step in seen:
            if step.error is not None:
                break
        assert isinstance(step.error, PeerClosed)
        assert (step.error.code, step.error.reason) == (4001, "you are too slow")
        assert trio.current_time() == started

        # By this side: at once, although the server never answers; the reason is reported.
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        connection.answer_close = False
        connection.silent = True
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.reconnect_with_backoff)
            await connection.wait_closed()
            assert trio.current_time() == started
        async for step in seen:
            if step.error is not None:
                break
        assert isinstance(step.error, ForcedDisconnect)
        assert "a reconnect was asked for" in step.error.reason
        assert step.failure is FailureKind.FORCED
        await server.next_connection()

    # In a feed the reason is in the stream, and what may be missing is announced.
    venue = PriceVenue(server.url, dial=server.dial)
    async with open_feed(venue, ["BTC-USD"], clock=VirtualClock(), config=FeedConfig()) as feed:
        await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        feed.reconnect("the desk asked for it")
        connection = await server.next_connection()
        await connection.send(price_message("BTC-USD", "1.5", 9))
        events = []
        async for event in feed:
            events.append(event)
            if isinstance(event, PriceUpdate):
                break
    forced = [e for e in events if isinstance(e, FeedStateChanged) and e.failure]
    assert [e.reason for e in forced] == ["forced disconnect: the desk asked for it"]
    gaps = [e for e in events if isinstance(e, Gap)]
    assert [(g.symbol, g.reason) for g in gaps] == [("BTC-USD", GapReason.RECONNECT)]
    assert events.index(gaps[0]) < len(events) - 1
