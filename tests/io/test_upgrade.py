"""Answers to the opening handshake that are written unusually, and mean what they should."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from feedhandler import HandshakeError, WebSocketClient

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
ACCEPT = "Sec-WebSocket-Accept: {accept}\r\n"

VALID = {
    "plain": f"HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}{ACCEPT}\r\n",
    "other case, more spaces": (
        "HTTP/1.1 101 x\r\nsec-websocket-ACCEPT:   {accept}  \r\n"
        "CONNECTION: keep-alive, upgrade\r\nupgrade: WebSocket\r\n\r\n"
    ),
    "bare line feeds": f"HTTP/1.1 101 x\r\n{UPGRADE}{ACCEPT}\r\n".replace("\r\n", "\n"),
    "tabs": f"HTTP/1.1 101 x\r\n{UPGRADE}Sec-WebSocket-Accept:\t{{accept}}\t\r\n\r\n",
    "folded": f"HTTP/1.1 101 x\r\n{UPGRADE}Sec-WebSocket-Accept:\r\n {{accept}}\r\n\r\n",
    "echoed before": f"HTTP/1.1 101 x\r\nX-Debug: {{accept}}\r\n{UPGRADE}{ACCEPT}\r\n",
    "echoed after": f"HTTP/1.1 101 x\r\n{UPGRADE}{ACCEPT}X-Debug: {{accept}}\r\n\r\n",
    "echoed as the reason": f"HTTP/1.1 101 {{accept}}\r\n{UPGRADE}{ACCEPT}\r\n",
}
TWICE = f"HTTP/1.1 101 x\r\n{UPGRADE}{ACCEPT}{ACCEPT}\r\n"


async def answer(stream: trio.abc.Stream, response: str) -> None:
    """Read the request; send the response to its key, and a message in the same write."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await stream.receive_some()
    found = re.search(rb"(?im)^sec-websocket-key: *(\S+)", request)
    assert found is not None
    digest = hashlib.sha1(found[1] + GUID, usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    await stream.send_all(response.format(accept=accept).encode() + b"\x81\x02hi")


async def first_message(nursery: trio.Nursery, response: str) -> str | bytes:
    ours, theirs = memory_stream_pair()

    async def dial(_: object) -> trio.abc.Stream:
        return ours

    nursery.start_soon(answer, theirs, response)
    async with WebSocketClient("ws://x/", dial=dial) as client:
        await client.connect()
        return await anext(aiter(client))


@pytest.mark.parametrize("name", VALID)
async def test_a_valid_answer_is_taken_however_it_is_written(
    autojump_clock: MockClock, nursery: trio.Nursery, name: str
) -> None:
    with trio.fail_after(30):
        assert await first_message(nursery, VALID[name]) == "hi"


async def test_an_answer_that_accepts_twice_is_refused(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    with trio.fail_after(30), pytest.raises(HandshakeError) as caught:
        await first_message(nursery, TWICE)
    assert "Sec-WebSocket-Accept" in str(caught.value)
    assert caught.value.received.startswith(b"HTTP/1.1 101")
