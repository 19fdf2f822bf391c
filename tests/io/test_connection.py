"""Deadlines, bounds and ends of a connection; what trio-websocket leaves open is mended here."""

from __future__ import annotations

import contextlib
import gc
import ssl
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from feedhandler import (
    BackoffConfig,
    ConfigError,
    ConnectionConfig,
    ConnectionFailed,
    ConnectionLost,
    ConnectionState,
    FeedConfig,
    HandshakeError,
    HandshakeRejected,
    HandshakeTimeout,
    NotConnected,
    PeerClosed,
    PongTimeout,
    PriceVenue,
    ProtocolViolation,
    StaleConnection,
    TlsFailed,
    UsageError,
    WebSocketClient,
    open_feed,
)
from feedhandler._core.frames import encode_frame
from feedhandler_testing import (
    BadHandshake,
    Failure,
    FailureMode,
    MockWebSocketServer,
    Rejection,
    Timeout,
    memory_network,
    price_message,
)

QUIET = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)


def client_of(server: MockWebSocketServer, **settings: Any) -> WebSocketClient:
    defaults: dict[str, Any] = {"dial": server.dial, "backoff": BackoffConfig(jitter=False)}
    return WebSocketClient(server.url, **{**defaults, **settings})


async def first_failure(client: WebSocketClient) -> tuple[ConnectionFailed, float]:
    """The first failure, and how long after the connection was established it came."""
    established = 0.0
    async for step in client.transitions():
        if step.new is ConnectionState.CONNECTED:
            established = step.at
        if isinstance(step.error, ConnectionFailed):
            return step.error, step.at - established
    raise AssertionError("it was closed without a failure")


# --- deadlines -----------------------------------------------------------------------------------


async def test_a_missed_pong_ends_the_connection_at_its_deadline(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(heartbeat_interval_s=2, pong_deadline_s=5, frame_stale_s=None)
    async with client_of(server, config=config) as client:
        await client.connect()
        connection = await server.next_connection()
        connection.answer_pings = False
        error, after = await first_failure(client)
    assert isinstance(error, PongTimeout)
    assert after == 5
    assert connection.pings_received == 2


async def test_a_quiet_market_is_not_a_fault(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        await trio.sleep(3600)
        assert client.epoch == 1
        assert connection.pings_received == pytest.approx(180, abs=2)


async def test_silence_ends_the_connection_at_the_frame_deadline(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=7)
    async with client_of(server, config=config) as client:
        await client.connect()
        connection = await server.next_connection()
        await trio.sleep(6)
        await connection.ping()
        await trio.sleep(6)
        assert client.epoch == 1, "any frame is a sign of life"
        error, after = await first_failure(client)
    assert isinstance(error, StaleConnection)
    assert (error.what, error.limit_s) == ("frames", 7)
    assert after == pytest.approx(1.0) or after == pytest.approx(13.0)


async def test_pings_without_data_are_stale_at_the_data_deadline(
    autojump_clock: MockClock,
) -> None:
    config = ConnectionConfig(data_stale_s=30)
    async with (
        MockWebSocketServer(heartbeat_interval=1) as server,
        client_of(server, config=config) as client,
    ):
        await client.connect()
        connection = await server.next_connection()
        error, after = await first_failure(client)
        assert isinstance(error, StaleConnection)
        assert (error.what, after) == ("data", 30)
        assert connection.pongs_received == pytest.approx(30, abs=1)


# --- ends ----------------------------------------------------------------------------------------


async def test_closing_with_a_full_queue_does_not_hang(autojump_clock: MockClock) -> None:
    config = ConnectionConfig(buffer_messages=10, close_timeout_s=1.0)
    async with (
        MockWebSocketServer(buffer_bytes=4096) as server,
        client_of(server, config=config) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect()
        connection = await server.next_connection()

        async def flood() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await connection.send_many(["x" * 100] * 50)

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        await client.disconnect()
        assert trio.current_time() - started <= 1.0
        received = [message async for message in client]
        assert len(received) >= 10, "what was received can still be read"


async def test_a_violating_peer_that_stays_does_not_delay_the_end(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(close_timeout_s=1.5, heartbeat_interval_s=None, frame_stale_s=None)
    async with client_of(server, config=config) as client:
        await client.connect()
        connection = await server.next_connection()
        connection.answer_close = False
        await connection.send_frame(1, b"x", rsv=4)
        error, after = await first_failure(client)
        assert isinstance(error, ProtocolViolation)
        assert after == pytest.approx(1.5)
        await connection.wait_closed()
        assert connection.close_code == 1002


async def test_half_a_message_is_never_delivered(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send_raw(b"\x81\x05hel")
        await connection.end()
        await (await server.next_connection()).send("whole")
        assert await anext(client) == "whole"


async def test_the_close_code_is_reported_although_we_were_sending(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for _ in range(20):
        async with client_of(server) as client, trio.open_nursery() as nursery:
            await client.connect()
            connection = await server.next_connection()
            await trio.testing.wait_all_tasks_blocked()

            async def send(client: WebSocketClient = client) -> None:
                for n in range(5):
                    await client.send(f"{n}")

            nursery.start_soon(send)
            nursery.start_soon(connection.close, 4003, "enough")
            error, _ = await first_failure(client)
            assert isinstance(error, PeerClosed)
            assert (error.code, error.reason) == (4003, "enough")
            nursery.cancel_scope.cancel()


HANDSHAKES: dict[str, tuple[Failure, type[ConnectionFailed], bytes]] = {
    "garbage": (BadHandshake(kind="garbage"), HandshakeError, b"\x16\x03\x01 this is not HTTP"),
    "html": (BadHandshake(kind="html"), HandshakeRejected, b"<html><body>"),
    "wrong accept": (BadHandshake(kind="wrong_accept"), HandshakeError, b"HTTP/1.1 101"),
    "oversized": (BadHandshake(kind="oversized"), HandshakeError, b"HTTP/1.1 101"),
    "end": (BadHandshake(kind="end"), ConnectionLost, b""),
    "reset": (BadHandshake(kind="reset"), ConnectionLost, b""),
    "end inside": (BadHandshake(kind="end_inside"), ConnectionLost, b""),
    "503": (Rejection(503, (), b"we are down"), HandshakeRejected, b"we are down"),
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_a_broken_handshake_is_reported_at_once_with_what_came(
    autojump_clock: MockClock, server: MockWebSocketServer, name: str
) -> None:
    failure, expected, received = HANDSHAKES[name]
    server.failure_mode = failure
    async with client_of(server) as client:
        with pytest.raises(expected) as caught:
            await client.connect()
        assert trio.current_time() == 0
        assert type(caught.value) is expected
        if isinstance(caught.value, HandshakeError):
            assert caught.value.received.startswith(received)
        server.failure_mode = FailureMode.NONE
        await client.connect()


async def test_a_rejection_whose_body_never_ends_is_not_waited_for(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = Rejection(429, (("Retry-After", "3"), ("Transfer-Encoding", "chunked")))
    async with client_of(server) as client:
        with pytest.raises(HandshakeRejected) as caught:
            await client.connect()
        assert caught.value.status == 429
        assert caught.value.retry_after_s == 3
        assert trio.current_time() <= 1.0


async def test_pings_leave_nothing_behind(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(heartbeat_interval_s=1, pong_deadline_s=100, frame_stale_s=None)
    async with client_of(server, config=config) as client:
        await client.connect()
        connection = await server.next_connection()
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        await trio.sleep(1000.5)
        assert connection.pings_received == 1000
        assert trio.lowlevel.current_statistics().tasks_living <= tasks
        connection.answer_pings = False
        await (await server.next_connection()).send("made again")
        assert await anext(client) == "made again"
        assert connection.pings_received == 1099
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living <= tasks


# --- bounds --------------------------------------------------------------------------------------


async def test_a_thousand_reconnects_leave_nothing(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    venue = PriceVenue(server.url, dial=server.dial)
    objects = tasks = 0
    async with open_feed(venue, ["A"]) as feed:
        for number in range(1000):
            connection = await server.next_connection()
            await connection.send(price_message("A", "1.5", number))
            async for event in feed:
                if getattr(event, "sequence", None) == number:
                    break
            connection.drop()
            await connection.wait_closed()
            if number == 100:
                await trio.testing.wait_all_tasks_blocked()
                gc.collect()
                objects = len(gc.get_objects())
                tasks = trio.lowlevel.current_statistics().tasks_living
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert feed.statistics().connections >= 1000
        assert trio.lowlevel.current_statistics().tasks_living <= tasks + 6
        assert len(gc.get_objects()) < objects * 1.05 + 500


async def test_a_message_in_65536_fragments_arrives_whole(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    """Autobahn's case 9.3.1, with a ping between any two thousand."""
    count = 65_536
    async with client_of(server, config=QUIET) as client, trio.open_nursery() as nursery:
        await client.connect()
        connection = await server.next_connection()

        async def send() -> None:
            await connection.send("before")
            for first in range(0, count, 2000):
                numbers = range(first, min(first + 2000, count))
                frames = [
                    encode_frame(2 if n == 0 else 0, b"x" * 8, fin=n == count - 1) for n in numbers
                ]
                await connection.send_raw(b"".join(frames))
                await connection.ping()
            await connection.send("after")

        nursery.start_soon(send)
        assert [await anext(client) for _ in range(3)] == ["before", b"x" * 8 * count, "after"]
        while connection.pongs_received < 33:
            await trio.testing.wait_all_tasks_blocked()


async def test_memory_is_bounded_for_a_peer_that_floods(
    autojump_clock: MockClock,
) -> None:
    config = ConnectionConfig(buffer_messages=1000, buffer_bytes=100_000)
    async with (
        MockWebSocketServer(buffer_bytes=65_536) as server,
        client_of(server, config=config) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect()
        connection = await server.next_connection()

        async def flood() -> None:
            for _ in range(10_000):
                await connection.send_many(["y" * 1000] * 10)

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.sent * 1000 < 100_000 + 3 * 65_536 + 262_144 + 150_000
        nursery.cancel_scope.cancel()


# --- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com", "the scheme must be ws or wss"),
        ("example.com", "the scheme must be ws or wss"),
        ("", "the scheme must be ws or wss"),
        ("ws://", "the host is missing"),
        ("ws://host:99999/", "ort"),
        ("ws://host:0/", "the port must be from 1"),
        ("ws://[::1/", "url="),
        ("wss://user:hunter2@host/#x?token=hunter2", "a fragment has no meaning"),
    ],
)
async def test_an_impossible_url_is_refused_without_showing_secrets(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        WebSocketClient(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError):
        PriceVenue(url)


async def test_secrets_are_in_no_repr(server: MockWebSocketServer) -> None:
    url = "wss://user:hunter2@host/path?token=hunter2"
    client = WebSocketClient(
        url, token="hunter2", headers=[("X-Api-Key", "hunter2")]
    )  # a test's token
    assert "hunter2" not in repr(client)
    assert "hunter2" not in repr(PriceVenue(url))
    with pytest.raises(NotConnected, match=r"async with WebSocketClient\(url\)"):
        await client.connect()
    with pytest.raises(NotConnected, match=r"await client\.connect\(\)"):
        await client.send("x")


async def test_two_consumers_of_one_stream_are_refused(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        await client.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.__anext__)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(UsageError, match="another task is already iterating"):
                await anext(client)
            nursery.cancel_scope.cancel()


async def test_a_closed_connect_timeout_covers_tls_and_handshake_together(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async def slow_dial(target: Any) -> trio.abc.Stream:
        await trio.sleep(3)
        return await server.dial(target)

    server.failure_mode = Timeout(where="handshake")
    config = ConnectionConfig(connect_timeout_s=4)
    async with client_of(server, dial=slow_dial, config=config) as client:
        with pytest.raises(HandshakeTimeout):
            await client.connect()
        assert trio.current_time() == 4


# --- real sockets: here the subject is the socket ------------------------------------------------


async def test_tls_over_loopback() -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    with trio.fail_after(10):
        async with MockWebSocketServer(tcp=True, ssl_context=server_context) as server:
            assert server.url.startswith("wss://")
            async with WebSocketClient(server.url, ssl_context=client_context) as client:
                await client.connect()
                connection = await server.next_connection()
                await connection.send("over TLS")
                assert await anext(client) == "over TLS"
                connection.drop()
                await (await server.next_connection()).send("again")
                assert await anext(client) == "again"

            # A certificate that is not trusted is fatal, named, and never tried again.
            async with WebSocketClient(server.url) as client:
                with pytest.raises(TlsFailed, match="certificate"):
                    await client.reconnect_with_backoff()


async def test_tls_that_ends_midway_is_made_again_and_a_wrong_host_is_not() -> None:
    authority = trustme.CA()
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    contexts = {}
    for host in ("127.0.0.1", "other.example"):
        contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(contexts[host])
    backoff = BackoffConfig(base_s=0.001)
    with trio.fail_after(10):
        async with (
            MockWebSocketServer(tcp=True, ssl_context=contexts["127.0.0.1"]) as server,
            WebSocketClient(server.url, ssl_context=client_context, backoff=backoff) as client,
        ):
            steps = client.transitions()
            await client.connect()
            connection = await server.next_connection()
            await connection.end()  # the TCP connection, without TLS's own goodbye
            async for step in steps:
                if step.error is not None:
                    assert isinstance(step.error, ConnectionLost)
                    break
            await (await server.next_connection()).send("again")
            assert await anext(client) == "again"
        async with (
            MockWebSocketServer(tcp=True, ssl_context=contexts["other.example"]) as server,
            WebSocketClient(server.url, ssl_context=client_context, backoff=backoff) as client,
        ):
            with pytest.raises(TlsFailed, match=r"certificate .* not valid for '127"):
                await client.reconnect_with_backoff()
            assert client.epoch == 0


async def test_tcp_refused_and_reset() -> None:
    with trio.fail_after(10):
        async with MockWebSocketServer(tcp=True) as server:
            url = server.url
            backoff = BackoffConfig(base_s=0.001)
            async with WebSocketClient(url, backoff=backoff) as client:
                await client.connect()
                (await server.next_connection()).drop()
                await (await server.next_connection()).send("after a real reset")
                assert await anext(client) == "after a real reset"
        async with WebSocketClient(url) as client:
            with pytest.raises(ConnectionFailed, match="refused"):
                await client.connect()


@pytest.mark.parametrize("steps", range(40))
async def test_disconnecting_at_any_moment_closes_for_good(
    autojump_clock: MockClock, server: MockWebSocketServer, steps: int
) -> None:
    """Also in the very moment in which the handshake gets done."""
    async with client_of(server) as client, trio.open_nursery() as nursery:

        async def connect() -> None:
            with contextlib.suppress(UsageError):
                await client.connect()

        nursery.start_soon(connect)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await client.disconnect()
        assert client.connection_state is ConnectionState.CLOSED
    await trio.testing.wait_all_tasks_blocked()
    assert server.connections == {}


# --- a consumer that is full ---------------------------------------------------------------------


@pytest.mark.parametrize("pings", [0, 1, 5])
async def test_a_pong_that_nobody_gets_loses_nothing_that_came(
    autojump_clock: MockClock, pings: int
) -> None:
    """The server sends everything, a Close with it, and is gone before the pong is written."""
    frames = [encode_frame(1, b"%d" % n) for n in range(200)]
    frames[100:100] = [encode_frame(9, b"ping")] * pings
    frames.append(encode_frame(8, b"\x03\xe9bye"))

    async def serve(stream: trio.abc.Stream) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        while not any(isinstance(event, Request) for event in protocol.events()):
            protocol.receive_data(bytes(await stream.receive_some()))
        await stream.send_all(protocol.send(AcceptConnection()) + b"".join(frames))
        await stream.aclose()

    async with trio.open_nursery() as nursery:

        async def dial(target: object) -> trio.abc.Stream:
            client, server = memory_network()
            nursery.start_soon(serve, server)
            return client

        backoff = BackoffConfig(base_s=1000, cap_s=1000, jitter=False)
        async with WebSocketClient("ws://mock/", dial=dial, backoff=backoff) as client:
            steps = client.transitions()
            await client.connect()
            assert [await anext(client) for _ in range(200)] == [str(n) for n in range(200)]
            async for step in steps:
                if step.error is not None:
                    assert isinstance(step.error, PeerClosed)
                    assert (step.error.code, step.error.reason) == (1001, "bye")
                    break


async def test_what_waits_is_bounded_through_many_reconnects(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(buffer_messages=10, buffer_bytes=10_000)
    backoff = BackoffConfig(base_s=0.01, jitter=False, max_retries=0)
    async with client_of(server, config=config, backoff=backoff) as client:
        await client.connect()
        sizes = []
        for _ in range(40):
            connection = await server.next_connection()
            with trio.move_on_after(1):
                await connection.send_many(["x" * 1000] * 250)
            await connection.end()
            await trio.sleep(1)
            sizes.append(client._mailbox.bytes)
        assert sizes[-1] <= 600_000, "one look-ahead, and the start of each connection"
        assert sizes[-1] == sizes[10], "it does not grow"


async def test_a_violation_is_answered_although_the_consumer_is_full(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(buffer_messages=1, close_timeout_s=2)
    async with client_of(server, config=config) as client:
        await client.connect()
        connection = await server.next_connection()
        connection.answer_close = False
        frames = [encode_frame(1, b"x" * 996)] * 260 + [encode_frame(3, b"")]
        await connection.send_raw(b"".join(frames))
        with trio.fail_after(5):
            await connection.wait_closed()
        assert connection.close_code == 1002


async def test_a_slow_consumer_does_not_make_the_data_stale(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = FeedConfig(
        buffer_events=3, symbol_stale_s=10, connection=ConnectionConfig(data_stale_s=10)
    )
    async with (
        open_feed(PriceVenue(server.url, dial=server.dial), ["A"], config=config) as feed,
        trio.open_nursery() as nursery,
    ):
        connection = await server.next_connection()
        assert "subscribe" in str(await connection.receive())

        async def tick() -> None:
            for number in range(1000):
                await connection.send(price_message("A", "1", number))
                await trio.sleep(1)

        nursery.start_soon(tick)
        for _ in range(20):
            await anext(feed)
            await trio.sleep(39)
        assert feed.statistics().connections == 1
        with trio.move_on_after(1) as nothing_more:
            await connection.receive()
        assert nothing_more.cancelled_caught, "and it is not subscribed anew"
        nursery.cancel_scope.cancel()
