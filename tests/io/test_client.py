"""The client at its edges: what it refuses, what it still delivers, and how it ends."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from feedhandler import (
    AuthenticationFailed,
    BackoffConfig,
    CircuitBreaker,
    CircuitBreakerClient,
    CircuitState,
    ClientClosed,
    ConfigError,
    ConnectionConfig,
    ConnectionRefused,
    ConnectionState,
    DecodeError,
    DialError,
    InvalidToken,
    NotConnected,
    PriceVenue,
    RateLimited,
    RetriesExhausted,
    SendQueueFull,
    UsageError,
    WebSocketClient,
    open_feed,
)
from feedhandler.abc import DialTarget
from feedhandler_testing import MockWebSocketServer, Refusal

QUIET = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)


def client_of(server: MockWebSocketServer, **settings: Any) -> WebSocketClient:
    defaults: dict[str, Any] = {"dial": server.dial, "backoff": BackoffConfig(jitter=False)}
    return WebSocketClient(server.url, **{**defaults, **settings})


# --- sending -------------------------------------------------------------------------------------


async def test_what_was_sent_goes_out_before_the_close(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        for n in range(50):
            await client.send(f"bye {n}")
    assert [await connection.receive() for _ in range(50)] == [f"bye {n}" for n in range(50)]
    assert connection.close_code == 1000
    assert client.unsent == 0


async def test_closing_does_not_wait_longer_than_it_may_for_a_peer_that_does_not_read(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer(buffer_bytes=1000) as server:
        client = client_of(server, config=ConnectionConfig(close_timeout_s=3.0))
        async with client:
            await client.connect()
            connection = await server.next_connection()
            connection.stop_reading()
            for _ in range(10):
                await client.send("x" * 100_000)
        assert trio.current_time() <= 3.0


@pytest.mark.parametrize("end", ["disconnect", "gave up"])
async def test_a_sender_that_waits_for_room_learns_of_the_end(
    autojump_clock: MockClock, end: str
) -> None:
    config = ConnectionConfig(send_queue_messages=1, close_timeout_s=1.0)
    errors: list[Exception] = []
    async with (
        MockWebSocketServer(buffer_bytes=500) as server,
        client_of(server, config=config) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect()
        connection = await server.next_connection()

        async def send() -> None:
            try:
                while True:
                    await client.send("x" * 100_000)
            except (NotConnected, SendQueueFull) as error:
                errors.append(error)

        connection.stop_reading()
        nursery.start_soon(send)
        await trio.sleep(0.5)
        assert not errors
        if end == "disconnect":
            await client.disconnect()
        else:
            server.failure_mode = Refusal()
            connection.drop()
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert [type(error) for error in errors] == [
        NotConnected if end == "disconnect" else SendQueueFull
    ]


@pytest.mark.parametrize("message", [{"a": 1}, None, 5, bytearray(b"x"), "\ud800"])
async def test_what_is_no_message_is_refused_at_the_call(
    autojump_clock: MockClock, server: MockWebSocketServer, message: Any
) -> None:
    async with client_of(server) as client:
        await client.connect()
        with pytest.raises(UsageError, match="text"):
            await client.send(message)
        await client.send("grüße")
        connection = await server.next_connection()
        assert await connection.receive() == "grüße"


# --- ends ----------------------------------------------------------------------------------------


async def test_a_cancelled_disconnect_closes_all_the_same(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        connection.answer_close = False
        await connection.send("kept")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.1) as scope:
            await client.disconnect()
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert client.connection_state is ConnectionState.CLOSED
        assert [message async for message in client] == ["kept"]
        assert connection.closed


async def test_connecting_while_another_task_closes_is_an_error(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for steps in range(1, 30):
        async with client_of(server) as client, trio.open_nursery() as nursery:

            async def close(client: WebSocketClient = client, steps: int = steps) -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                await client.disconnect()

            nursery.start_soon(close)
            try:
                await client.connect()
            except ClientClosed:
                pass
            else:
                assert client.is_connected
            await trio.sleep(1)
            with pytest.raises(ClientClosed):
                await client.reconnect_with_backoff()


async def test_each_reconnect_has_its_own_retries(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.failure_mode = Refusal()
    async with client_of(server) as client:
        for number in range(1, 4):
            with pytest.raises(RetriesExhausted) as caught:
                await client.reconnect_with_backoff()
            assert len(caught.value.causes) == 6
            assert server.dialled == 6 * number


async def test_observers_end_and_are_forgotten(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with client_of(server) as client:
        early = client.transitions()
        for _ in range(100):
            client.transitions()
        gc.collect()
        assert len(client._observers) == 1
        await client.connect()
    assert [step.new.name async for step in early] == [
        "CONNECTING", "CONNECTED", "CLOSING", "CLOSED",
    ]  # fmt: skip
    assert [step async for step in client.transitions()] == []


# --- credentials, headers, addresses -------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET} x", "", "grün", f"{SECRET}\r\nX: y"])
def test_a_token_that_can_not_be_sent_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ConfigError, match=r"token=.*strip it") as caught:
        WebSocketClient("ws://host/", token=token)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "header", [("X bad", SECRET), ("X", f"{SECRET}\n"), ("X", f"{SECRET}\u20ac"), ("", SECRET)]
)
def test_a_header_that_can_not_be_sent_is_refused_without_showing_it(
    header: tuple[str, str],
) -> None:
    with pytest.raises(ConfigError, match="headers=") as caught:
        WebSocketClient("ws://host/", headers=[header])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("result", [KeyError(SECRET), OSError(SECRET)])
async def test_a_token_provider_that_fails_is_a_failed_attempt(
    autojump_clock: MockClock, server: MockWebSocketServer, result: Any
) -> None:
    async def provide() -> str:
        raise result

    venue = PriceVenue(server.url, dial=server.dial)
    told = []
    async with open_feed(venue, ["A"], token=provide) as feed:
        with pytest.raises(RetriesExhausted) as caught:
            while True:
                told.append(repr(await anext(feed)))
    assert {type(cause) for cause in caught.value.causes} == {DialError}
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(told)
    assert server.dialled == 0


@pytest.mark.parametrize("result", [f"{SECRET}\n", None])
async def test_what_is_no_token_and_a_refusal_by_the_provider_are_fatal(
    autojump_clock: MockClock, server: MockWebSocketServer, result: Any
) -> None:
    async def provide() -> str:
        text: str = result
        return text

    async def refuse() -> str:
        raise AuthenticationFailed(403)

    for provider, expected in ((provide, InvalidToken), (refuse, AuthenticationFailed)):
        async with client_of(server, token=provider) as client:
            with pytest.raises(expected) as caught:
                await client.reconnect_with_backoff()
        assert SECRET not in str(caught.value)
    assert server.dialled == 0


@pytest.mark.parametrize(
    "error", [trio.BrokenResourceError(), ValueError("proxy"), OSError(5, "x")]
)
async def test_whatever_a_dialer_raises_is_a_failed_attempt(
    autojump_clock: MockClock, error: Exception
) -> None:
    async def dial(target: object) -> trio.abc.Stream:
        raise error

    async with WebSocketClient("ws://host/", dial=dial) as client:
        with pytest.raises(DialError) as caught:
            await client.connect()
    assert caught.value.__cause__ is error


async def test_the_user_part_of_a_url_is_sent_as_basic_credentials(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    url = "ws://me:p%40ss@mock.invalid/path"
    async with client_of(server, token=None) as client:
        assert client
    async with WebSocketClient(url, dial=server.dial) as client:
        await client.connect()
        headers = (await server.next_connection()).request_headers
        assert ("authorization", "Basic bWU6cEBzcw==") in headers
    async with WebSocketClient(url, dial=server.dial, token="t") as client:
        await client.connect()
        headers = (await server.next_connection()).request_headers
        assert [v for n, v in headers if n == "authorization"] == ["Bearer t"]


@pytest.mark.parametrize(
    "url",
    [None, b"ws://h/", 5, "ws://a..b/", f"ws://{'a' * 70}/", "ws://h/ü", "ws://h/a b", "ws://h/\0"],
)
def test_an_address_that_can_not_work_is_one_error(url: Any) -> None:
    with pytest.raises(ConfigError, match="url="):
        WebSocketClient(url)
    with pytest.raises(ConfigError, match="url="):
        PriceVenue(url)


# --- the guarded client --------------------------------------------------------------------------


async def test_messages_that_the_user_finds_bad_open_the_circuit(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with CircuitBreakerClient(client_of(server), CircuitBreaker()) as client:
        await client.connect()
        connection = await server.next_connection()
        for n in range(5):
            assert client.circuit_breaker.state is CircuitState.CLOSED
            await connection.send(f"bad {n}")
            await anext(client)
            client.record_failure(DecodeError("x", b"", [("$", "bad")]))
        assert client.circuit_breaker.state is CircuitState.OPEN
        await connection.wait_closed()
        opened = trio.current_time()
        await server.next_connection()
        assert trio.current_time() == opened + 10.0


async def test_a_good_message_between_starts_the_count_again(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with CircuitBreakerClient(client_of(server), CircuitBreaker()) as client:
        await client.connect()
        for n in range(20):
            if n % 4 == 3:
                client.record_success()
            else:
                client.record_failure(ConnectionRefused("x"))
        assert client.circuit_breaker.state is CircuitState.CLOSED


async def test_a_circuit_opened_by_hand_closes_over_good_data(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with CircuitBreakerClient(client_of(server), CircuitBreaker()) as client:
        await client.connect()
        connection = await server.next_connection()
        client.circuit_breaker.open(now=trio.current_time())
        for _ in range(14):
            await connection.send("data")
            await trio.sleep(1)
        assert client.circuit_breaker.state is CircuitState.CLOSED
        assert client.inner.epoch == 1


async def test_retry_after_is_kept_from_one_call_to_the_next(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    server.reject_next(429, headers=[("Retry-After", "60")])
    async with client_of(server) as client:
        with pytest.raises(RateLimited):
            await client.connect()
        await client.reconnect_with_backoff()
        assert trio.current_time() == 60


async def test_bad_messages_keep_a_half_open_circuit_from_closing(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with CircuitBreakerClient(client_of(server), CircuitBreaker()) as client:
        await client.connect()
        opened = []
        while len(opened) < 4:
            connection = await server.next_connection()
            while not connection.closed:
                await connection.send("bad")
                await anext(client)
                client.record_failure(DecodeError("x", b"", [("$", "bad")]))
                await trio.testing.wait_all_tasks_blocked()
            opened.append(trio.current_time())
        assert opened == [0.0, 10.0, 30.0, 70.0]


async def test_masks_and_keys_come_from_the_generator(autojump_clock: MockClock) -> None:
    """The same generator, the same bytes on the wire: a run is a function of its seed."""

    async def sent_by(seed: int) -> bytes:
        sent = bytearray()

        async def dial(target: DialTarget) -> trio.abc.Stream:
            stream = await server.dial(target)
            send_all = stream.send_all

            class Tapped(trio.abc.Stream):
                async def send_all(self, data: bytes | bytearray | memoryview) -> None:
                    sent.extend(data)
                    await send_all(data)

                async def wait_send_all_might_not_block(self) -> None:
                    await stream.wait_send_all_might_not_block()

                async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
                    return await stream.receive_some(max_bytes)

                async def aclose(self) -> None:
                    await stream.aclose()

            return Tapped()

        async with MockWebSocketServer() as server:
            client = WebSocketClient(server.url, dial=dial, rng=Random(seed))
            async with client:
                await client.connect()
                await client.send("one")
                await client.send(b"two" * 50)
                connection = await server.next_connection()
                assert [await connection.receive() for _ in range(2)] == ["one", b"two" * 50]
        return bytes(sent)

    assert await sent_by(1) == await sent_by(1)
    assert await sent_by(1) != await sent_by(2)


async def test_what_is_sent_after_a_violation_goes_out_on_the_next_connection(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    """After our Close frame, while the peer takes its time: it may not follow, nor be lost."""
    client = WebSocketClient(server.url, dial=server.dial, rng=Random(1))
    async with client:
        await client.connect()
        first = await server.next_connection()
        first.answer_close = False
        await first.send_frame(1, b"{}", rsv=4)
        await wait_all_tasks_blocked()
        await client.send("order-1")
        second = await server.next_connection()
        assert await second.receive() == "order-1"
        assert not first.has_received("order-1")
    assert first.close_code == 1002
