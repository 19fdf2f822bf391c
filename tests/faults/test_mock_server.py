"""The mock exchange is a product: what it promises is held to here, over memory and over TCP."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import trio
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from feedhandler import (
    AuthenticationFailed,
    ConfigError,
    ConnectionLost,
    ConnectionRefused,
    HandshakeRejected,
    HandshakeTimeout,
    NameResolutionFailed,
    PeerClosed,
    PriceUpdate,
    ProtocolViolation,
    Side,
    UsageError,
    WebSocketClient,
)
from feedhandler.config import BackoffConfig, ConnectionConfig
from feedhandler.errors import FeedError
from feedhandler_testing import (
    BadHandshake,
    Disconnect,
    Failure,
    FailureMode,
    MalformedData,
    MemoryStream,
    MockBook,
    MockWebSocketConnection,
    MockWebSocketServer,
    Refusal,
    Rejection,
    Timeout,
    price_message,
)

UPDATE = {"symbol": "A", "price": "1.5", "size": "1", "side": "buy", "sequence": 1, "time": 0}
NO_RETRY = BackoffConfig(jitter=False, max_retries=1)


@pytest.fixture(params=["memory", "tcp"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer(tcp=request.param == "tcp") as mock:
        yield mock


def client_of(
    server: MockWebSocketServer, config: ConnectionConfig | None = None, token: str | None = None
) -> WebSocketClient:
    return WebSocketClient(
        server.url, dial=server.dial, config=config, backoff=NO_RETRY, token=token
    )


async def test_a_message_each_way_and_the_request(server: MockWebSocketServer) -> None:
    async with client_of(server, token="t") as client:
        await client.connect()
        connection = await server.next_connection()
        assert connection.id == 1
        assert ("authorization", "Bearer t") in connection.request_headers
        for message in ("text", b"\x00binary", "x" * 100_000):
            await connection.send(message)
            assert await anext(client) == message
            await client.send(message)
            assert await connection.receive() == message
        assert connection.sent == 3


async def test_updates_go_to_every_client(server: MockWebSocketServer) -> None:
    async with client_of(server) as one, client_of(server) as two:
        await one.connect()
        await two.connect()
        ids = {(await server.next_connection()).id, (await server.next_connection()).id}
        assert ids == {1, 2} == {*server.connections}
        await server.send_price_update(UPDATE)
        event = PriceUpdate("B", Decimal("2.50"), Decimal(3), Side.SELL, 7, None, 99, "v")
        await server.send_price_update(event)
        for client in (one, two):
            assert json.loads(await anext(client)) == {"type": "price", **UPDATE}
            assert json.loads(await anext(client)) == {
                "type": "price", "symbol": "B", "price": "2.50", "size": "3", "side": "sell",
                "sequence": 7, "time": 99,
            }  # fmt: skip
        server.simulate_drop(1)
        with pytest.raises(KeyError):
            server.simulate_drop(9)


async def test_each_client_s_messages_wait_in_a_queue_of_their_own(
    server: MockWebSocketServer,
) -> None:
    async with client_of(server) as one, client_of(server) as two:
        await one.connect()
        first = await server.next_connection()
        await two.connect()
        second = await server.next_connection()
        await two.send("from two")
        await one.send("from one")
        assert await first.receive() == "from one"
        assert await second.receive() == "from two"
        await one.disconnect()
        with pytest.raises(trio.EndOfChannel):
            await first.receive()


CUTS: dict[str, tuple[FailureMode | Failure, type[FeedError]]] = {
    "reset": (Disconnect(how="reset"), ConnectionLost),
    "end": (Disconnect(how="end"), ConnectionLost),
    "close": (Disconnect(how="close", code=4001, reason="bye"), PeerClosed),
    "bare": (FailureMode.DISCONNECT, ConnectionLost),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cut", CUTS)
async def test_disconnects_act_before_a_connection_exists_and_while_it_lives(
    server: MockWebSocketServer, cut: str, before: bool
) -> None:
    failure, expected = CUTS[cut]
    async with client_of(server) as client:
        steps = client.transitions()
        if before:
            server.failure_mode = failure
        await client.connect()
        server.failure_mode = failure
        async for step in steps:
            if step.error is not None:
                assert type(step.error) is expected
                if isinstance(step.error, PeerClosed):
                    assert (step.error.code, step.error.reason) == (4001, "bye")
                break


async def test_a_disconnect_can_come_after_n_messages(server: MockWebSocketServer) -> None:
    server.failure_mode = Disconnect(how="end", after=3)
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        for n in range(3):
            assert not connection.closed
            await server.send_price_update({**UPDATE, "sequence": n})
        await connection.wait_closed()
        assert [json.loads(await anext(client))["sequence"] for _ in range(3)] == [0, 1, 2]


MALFORMED = {
    "bad_json": '{"type"="price",',
    "missing_field": '{"type":"price","symbol":"A","size"',
    "wrong_type": '"price":["1.5"]',
    "truncated": '{"type":"price","symbol":"A","price":"1',
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_spoiled_updates(server: MockWebSocketServer, kind: str) -> None:
    server.failure_mode = MalformedData(kind=kind, every=2)  # type: ignore[arg-type]  # one of the literals
    async with client_of(server) as client:
        await client.connect()
        await server.next_connection()
        for _ in range(2):
            await server.send_price_update(UPDATE)
        assert json.loads(await anext(client)) == {"type": "price", **UPDATE}
        spoiled = await anext(client)
        assert isinstance(spoiled, str)
        assert MALFORMED[kind] in spoiled
        assert spoiled != json.dumps({"type": "price", **UPDATE}, separators=(",", ":"))


@pytest.mark.parametrize(("kind", "code"), [("bad_utf8", 1007), ("invalid_frame", 1002)])
async def test_spoiled_frames(server: MockWebSocketServer, kind: str, code: int) -> None:
    server.failure_mode = MalformedData(kind=kind)  # type: ignore[arg-type]  # one of the literals
    async with client_of(server) as client:
        steps = client.transitions()
        await client.connect()
        connection = await server.next_connection()
        await server.send_price_update(UPDATE)
        async for step in steps:
            if step.error is not None:
                assert isinstance(step.error, ProtocolViolation)
                assert step.error.code == code
                break
        await connection.wait_closed()
        assert connection.close_code == code


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Refusal(), ConnectionRefused),
        (Refusal(kind="resolve"), NameResolutionFailed),
        (Rejection(503, (("X-A", "b"),), b"maintenance"), HandshakeRejected),
        (Rejection(401), AuthenticationFailed),
        (BadHandshake(kind="reset"), ConnectionLost),
        (BadHandshake(kind="end"), ConnectionLost),
    ],
)
async def test_refusals(
    server: MockWebSocketServer, failure: Failure, expected: type[FeedError]
) -> None:
    server.failure_mode = failure
    async with client_of(server) as client:
        with pytest.raises(expected) as caught:
            await client.connect()
        if isinstance(caught.value, HandshakeRejected) and caught.value.status == 503:
            assert ("x-a", "b") in caught.value.headers
            assert caught.value.body == b"maintenance"
        if failure == BadHandshake(kind="reset"):
            assert "broke" in str(caught.value)
        server.failure_mode = FailureMode.NONE
        await client.connect()
    assert server.dialled == 2
    assert server.accepted == 1


@pytest.mark.parametrize("where", ["dial", "handshake"])
async def test_silence_while_connecting(autojump_clock: MockClock, where: str) -> None:
    silence = Timeout(where=where)  # type: ignore[arg-type]  # one of the literals
    async with (
        MockWebSocketServer(failure_mode=silence) as server,
        client_of(server, ConnectionConfig(connect_timeout_s=3)) as client,
    ):
        with pytest.raises(HandshakeTimeout):
            await client.connect()
        assert trio.current_time() == 3


async def test_silence_in_the_stream_can_begin_and_end(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer(heartbeat_interval=1.0) as server:
        config = ConnectionConfig(heartbeat_interval_s=None, frame_stale_s=None)
        async with client_of(server, config) as client:
            await client.connect()
            connection = await server.next_connection()
            await trio.sleep(3.5)
            assert connection.pongs_received == 3
            server.failure_mode = FailureMode.TIMEOUT
            assert not connection.silent, "bare, it means the handshake"
            server.failure_mode = Timeout(where="stream")
            assert connection.silent
            await server.send_price_update(UPDATE)
            await trio.sleep(10)
            assert connection.pongs_received == 3
            server.failure_mode = FailureMode.NONE
            await server.send_price_update({**UPDATE, "sequence": 2})
            assert json.loads(await anext(client))["sequence"] == 2


async def test_answers_to_come_can_be_rejected(server: MockWebSocketServer) -> None:
    server.reject_next(429, headers=[("Retry-After", "7")], body=b"slow", times=2)
    async with client_of(server) as client:
        for _ in range(2):
            with pytest.raises(HandshakeRejected) as caught:
                await client.connect()
            assert caught.value.retry_after_s == 7
        await client.connect()


async def test_a_token_is_demanded(server: MockWebSocketServer) -> None:
    server.token = "right"
    async with client_of(server, token="wrong") as client:
        with pytest.raises(AuthenticationFailed):
            await client.connect()
    async with client_of(server, token="right") as client:
        await client.connect()


async def test_subscriptions_are_acknowledged_refused_and_forgotten(
    autojump_clock: MockClock,
) -> None:
    async with (
        MockWebSocketServer(unknown_symbols=["X"], lose_acks=1) as server,
        client_of(server) as client,
    ):
        await client.connect()
        connection = await server.next_connection()
        await client.send('{"type":"subscribe","symbols":["lost"]}')
        await client.send('{"type":"subscribe","symbols":["A","X"]}')
        assert json.loads(await anext(client)) == {
            "type": "error", "symbol": "X", "message": "unknown symbol",
        }  # fmt: skip
        assert json.loads(await anext(client)) == {"type": "subscribed", "symbols": ["A"]}
        assert [*connection.subscriptions] == ["lost", "A"]
        await client.send('{"type":"unsubscribe","symbols":["A"]}')
        assert json.loads(await anext(client)) == {"type": "unsubscribed", "symbols": ["A"]}
        assert [*connection.subscriptions] == ["lost"]
        for ignored in ("hello", '{"type":"x","symbols":[]}', b"\xff"):
            await client.send(ignored)
        await client.send('{"type":"subscribe","symbols":["B"]}')
        assert json.loads(await anext(client)) == {"type": "subscribed", "symbols": ["B"]}


async def test_a_book_subscription_is_followed_by_the_snapshots_that_there_are(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer(unknown_symbols=["X"]) as server, client_of(server) as client:
        book = server.books["A"] = MockBook("A", {"1": "2"}, sequence=4)
        await client.connect()
        named = {"channel": "book", "symbols": ["X", "B", "A"]}
        await client.send(json.dumps({"type": "subscribe", **named}))
        assert [json.loads(await anext(client)) for _ in range(3)] == [
            {"type": "error", "channel": "book", "symbol": "X", "message": "unknown symbol"},
            {"type": "subscribed", "channel": "book", "symbols": ["B", "A"]},
            book.snapshot(),
        ]
        assert not (await server.next_connection()).subscriptions, "those are of prices"


def test_a_mock_book_tells_what_it_holds() -> None:
    book = MockBook("A", {"1": "2", "1.5": "3"}, {"2": "1"}, sequence=4)
    assert book.snapshot() == {
        "type": "snapshot", "symbol": "A", "sequence": 4,
        "bids": [["1.5", "3"], ["1", "2"]], "asks": [["2", "1"]],
        "checksum": zlib.crc32(b"1.5:3|1:2|2:1"), "time": 1_700_000_000_000_000_000,
    }  # fmt: skip
    delta = book.delta({"1.50": "0"}, {"2.0": "7"})
    assert (delta["sequence"], delta["bids"], delta["asks"]) == (5, [["1.50", "0"]], [["2.0", "7"]])
    assert delta["checksum"] == book.checksum == zlib.crc32(b"1:2|2.0:7")
    replaced = book.replace({"7": "1"}, {})
    assert (replaced["type"], replaced["sequence"], book.bids) == ("snapshot", 6, [("7", "1")])
    book.checked = False
    assert book.snapshot()["checksum"] is None
    assert repr(book) == "<MockBook A sequence=6>"


async def test_raw_bytes_and_frames_go_out_as_they_are() -> None:
    async with MockWebSocketServer() as server, client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send_frame(1, b"in ", fin=False)
        await connection.ping(b"between")
        await connection.send_frame(0, b"two", fin=True)
        await connection.send_raw(b"\x81\x03raw")
        assert [await anext(client), await anext(client)] == ["in two", "raw"]
        while not connection.pongs_received:
            await trio.testing.wait_all_tasks_blocked()


async def test_a_raw_client_can_talk_to_it() -> None:
    async with MockWebSocketServer() as server:
        stream = await server.simulate_connection()
        assert isinstance(stream, MemoryStream)
        await stream.send_all(b"nonsense\r\n\r\n")
        assert await stream.receive_some() == b"", "what is no handshake is hung up on"
        assert server.accepted == 0


async def test_stopping_drops_everything_and_is_final(server: MockWebSocketServer) -> None:
    async with client_of(server) as client:
        steps = client.transitions()
        await client.connect()
        await server.stop()
        await server.stop()
        assert not server.connections
        async for step in steps:
            if step.error is not None:
                assert isinstance(step.error, ConnectionLost)
                break
        with pytest.raises(UsageError, match="was stopped; make another"):
            await server.start()
        with pytest.raises(UsageError, match="can never act"):
            server.failure_mode = FailureMode.TIMEOUT
        assert (await server.next_connection()).closed
        with pytest.raises(trio.EndOfChannel):
            await server.next_connection()


async def test_misuse_says_what_to_do() -> None:
    server = MockWebSocketServer()
    with pytest.raises(UsageError, match="enter the server first"):
        await server.start()
    with pytest.raises(UsageError, match="inside its `async with` block"):
        await server.simulate_connection()
    with pytest.raises(ConfigError, match="use a FailureMode"):
        server.failure_mode = "timeout"  # type: ignore[assignment]  # the mistake
    with pytest.raises(UsageError, match="only while it is serving"):
        assert MockWebSocketServer(tcp=True).url


async def test_a_tcp_server_can_not_hold_bytes_and_says_so() -> None:
    async with MockWebSocketServer(tcp=True) as server, client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        with pytest.raises(TypeError, match="use `silent` instead"):
            connection.hold()


async def test_an_exception_of_the_block_leaves_as_it_was(autojump_clock: MockClock) -> None:
    async def program() -> None:
        async with MockWebSocketServer() as server, client_of(server) as client:
            await client.connect()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await program()


async def test_connections_show_their_state() -> None:
    async with MockWebSocketServer() as server, client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send(price_message("A", "1", 1))
        assert repr(connection) == "<MockWebSocketConnection 1 open sent=1>"
        assert repr(server) == "<MockWebSocketServer serving connections=1>"
        connection.silent = True
        assert repr(connection) == "<MockWebSocketConnection 1 silent sent=1>"
        assert isinstance(connection, MockWebSocketConnection)
        connection.drop()
        assert "closed" in repr(connection)


async def test_a_disconnect_after_n_messages_counts_every_way_of_sending(
    server: MockWebSocketServer,
) -> None:
    server.failure_mode = Disconnect(how="end", after=4)
    async with client_of(server) as client:
        await client.connect()
        connection = await server.next_connection()
        await connection.send("one")
        await connection.send_many(["two", "three", "four", "five", "six"])
        await connection.wait_closed()
        assert connection.sent == 4
        assert [await anext(client) for _ in range(4)] == ["one", "two", "three", "four"]


async def test_a_client_that_does_not_read_does_not_starve_the_others(
    autojump_clock: MockClock,
) -> None:
    async with (
        MockWebSocketServer(buffer_bytes=1000) as server,
        client_of(server) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect()
        stream = await server.simulate_connection()
        protocol = WSConnection(ConnectionType.CLIENT)
        await stream.send_all(protocol.send(Request(host="mock", target="/")))
        for _ in range(2):
            await server.next_connection()

        async def send() -> None:
            for n in range(1000):
                await server.send_price_update({**UPDATE, "sequence": n})

        nursery.start_soon(send)
        for n in range(8):
            assert json.loads(await anext(client))["sequence"] == n
        nursery.cancel_scope.cancel()
