"""The echo client against a fuzzing server of our own: cases as Autobahn's sections have them."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from wsproto.utilities import generate_accept_token

from feedhandler_testing import MockWebSocketConnection, MockWebSocketServer


def _load() -> ModuleType:
    path = Path(__file__).with_name("echo_client.py")
    spec = importlib.util.spec_from_file_location("echo_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["echo_client"] = module
    spec.loader.exec_module(module)
    return module


echo_client = _load()
Case = Callable[[MockWebSocketConnection], Awaitable[None]]


async def run_case(case: Case) -> MockWebSocketConnection:
    """Let a client echo whatever `case` sends; gives the server's side once it is over."""
    connect: Any = echo_client.connect

    async def echo(url: str) -> None:
        async with connect(url) as connection:
            try:
                while True:
                    await connection.send(await connection.recv())
            except connect.closed:
                pass

    with trio.fail_after(10):
        async with (
            MockWebSocketServer(tcp=True, auto_ack=False) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(echo, server.url)
            connection = await server.next_connection()
            await case(connection)
            await connection.wait_closed()
    return connection


async def echoed(connection: MockWebSocketConnection, *expected: str | bytes) -> None:
    for message in expected:
        assert await connection.receive() == message


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("kind", [str, bytes])
async def test_messages_of_all_sizes_are_echoed(size: int, kind: type) -> None:
    message: str | bytes = "x" * size if kind is str else b"\xfe" * size

    async def case(connection: MockWebSocketConnection) -> None:
        await connection.send(message)
        await echoed(connection, message)
        await connection.close()

    connection = await run_case(case)
    assert connection.close_code == 1000


@pytest.mark.parametrize("piece", [1, 3, 1000])
async def test_frames_chopped_into_pieces_are_echoed(piece: int) -> None:
    text = "grüße, €, \U0001f600 " * 20

    async def case(connection: MockWebSocketConnection) -> None:
        raw = bytearray()
        payload = text.encode()
        for at in range(0, len(payload), 50):
            part = payload[at : at + 50]
            final = at + 50 >= len(payload)
            raw += bytes(((0x80 if final else 0) | (0 if at else 1), len(part))) + part
        for at in range(0, len(raw), piece):
            await connection.send_raw(bytes(raw[at : at + piece]))
        await echoed(connection, text)
        await connection.close()

    assert (await run_case(case)).close_code == 1000


async def test_a_message_of_16_mib_and_64_kib_fragments_are_echoed() -> None:
    message = b"y" * (16 * 2**20)

    async def case(connection: MockWebSocketConnection) -> None:
        await connection.send(message)
        await echoed(connection, message)
        await connection.send_frame(2, message[:65_536], fin=False)
        for n in range(1, 16):
            await connection.send_frame(0, message[:65_536], fin=n == 15)
        await echoed(connection, message[: 16 * 65_536])
        await connection.close()

    assert (await run_case(case)).close_code == 1000


async def test_pings_are_answered_also_between_fragments() -> None:
    async def case(connection: MockWebSocketConnection) -> None:
        await connection.ping(b"\x00" * 125)
        await connection.send_frame(10, b"unsolicited pong")
        await connection.send_frame(1, b"a", fin=False)
        await connection.ping(b"between")
        await connection.send_frame(0, b"b")
        await echoed(connection, "ab")
        await connection.close()

    connection = await run_case(case)
    assert connection.pongs_received == 2
    assert connection.close_code == 1000


REFUSED: dict[str, tuple[bytes, int]] = {
    "reserved bit 1": (b"\xc1\x01a", 1002),
    "reserved bits on a ping": (b"\xf9\x00", 1002),
    "opcode 3": (b"\x83\x00", 1002),
    "opcode 11": (b"\x8b\x00", 1002),
    "fragmented ping": (b"\x09\x00", 1002),
    "ping of 126 bytes": (b"\x89\x7e\x00\x7e" + b"x" * 126, 1002),
    "continuation of nothing": (b"\x80\x01a", 1002),
    "a message inside a fragmented one": (b"\x01\x01a\x81\x01b", 1002),
    "masked": (b"\x81\x81abcd\x00", 1002),
    "length not minimal": (b"\x81\x7e\x00\x01a", 1002),
    "length with its top bit": (b"\x82\x7f\xff" + b"\x00" * 7, 1002),
    "bad text": (b"\x81\x02\xc3\x28", 1007),
    "bad text in fragments": (b"\x01\x01\xc3\x80\x01\x28", 1007),
    "a surrogate in text": (b"\x81\x03\xed\xa0\x80", 1007),
    "over the limit": (b"\x82\x7f" + (64 * 2**20 + 1).to_bytes(8, "big"), 1009),
    "over the limit in fragments": (
        b"\x02\x01a\x80\x7f" + (64 * 2**20).to_bytes(8, "big"), 1009,
    ),
    "close of one byte": (b"\x88\x01\x03", 1002),
    "close with code 1005": (b"\x88\x02\x03\xed", 1002),
    "close with code 999": (b"\x88\x02\x03\xe7", 1002),
    "close with a bad reason": (b"\x88\x04\x03\xe8\xc3\x28", 1007),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_breaks_the_protocol_is_refused_and_the_connection_closed(name: str) -> None:
    raw, code = REFUSED[name]

    async def case(connection: MockWebSocketConnection) -> None:
        await connection.send("before")
        await echoed(connection, "before")
        await connection.send_raw(raw + b"\x81\x05after")
        with pytest.raises(trio.EndOfChannel):
            await connection.receive()

    connection = await run_case(case)
    assert connection.close_code == code


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_is_sent_after_our_own_close(name: str) -> None:
    """RFC 6455, section 5.5.1; the peer is in no hurry to answer the Close."""
    raw, code = REFUSED[name]

    async def serve(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
        assert key is not None
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + generate_accept_token(key[1]) + b"\r\n\r\n"
        )
        await stream.send_all(b"\x81\x01a\x81\x01b" + raw)
        received = b""
        with trio.move_on_after(0.3):
            while data := await stream.receive_some():
                received += data
        await stream.aclose()
        frames.extend(_frames(received))

    frames: list[tuple[int, bytes]] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            connect: Any = echo_client.connect
            async with connect(f"ws://127.0.0.1:{port}/") as connection:
                with contextlib.suppress(*connect.closed):
                    while True:
                        await connection.send(await connection.recv())
            nursery.cancel_scope.cancel()
    assert [opcode for opcode, _ in frames].index(8) == len(frames) - 1
    assert int.from_bytes(frames[-1][1][:2], "big") == code


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    """The opcode and the payload of each masked frame; none is larger than 125 bytes."""
    frames = []
    while data:
        length = data[1] & 0x7F
        mask, payload = data[2:6], data[6 : 6 + length]
        frames.append((data[0] & 0xF, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))))
        data = data[6 + length :]
    return frames


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    async def case(connection: MockWebSocketConnection) -> None:
        await connection.close(code, "r" * 123)

    assert (await run_case(case)).close_code == code


async def test_a_close_without_a_code_is_answered() -> None:
    async def case(connection: MockWebSocketConnection) -> None:
        await connection.send_raw(b"\x88\x00")

    assert (await run_case(case)).close_code in (1000, 1005)


async def test_nothing_after_a_close_is_echoed() -> None:
    async def case(connection: MockWebSocketConnection) -> None:
        await connection.send_raw(b"\x81\x01a\x88\x02\x03\xe8\x81\x01b\x89\x00")
        await connection.wait_closed()
        received = []
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                received.append(await connection.receive())
        assert received in ([], ["a"])

    assert (await run_case(case)).close_code == 1000
