"""The client as a WebSocket library, for conformance suites such as Autobahn's fuzzing server.

    async with connect(url) as connection:
        try:
            while True:
                await connection.send(await connection.recv())
        except connect.closed:
            pass

A connection is made once and never again; a message may have up to 64 MiB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import trio

from feedhandler import BackoffConfig, ConnectionConfig, FeedError, WebSocketClient
from feedhandler._core.failure import FailurePolicy
from feedhandler.errors import FailureKind

__all__ = ["EchoConnection", "connect"]

LIMIT = 64 * 2**20
_CONFIG = ConnectionConfig(
    max_message_bytes=LIMIT,
    buffer_bytes=2 * LIMIT,
    heartbeat_interval_s=None,
    frame_stale_s=None,
    close_timeout_s=2.0,
)
_NEVER_AGAIN = {kind: FailurePolicy(retry=False) for kind in FailureKind}


class EchoConnection:
    """One connection: `recv()` and `send()` raise one of `connect.closed` when it is over."""

    def __init__(self, client: WebSocketClient) -> None:
        self._client = client

    async def recv(self) -> str | bytes:
        """The next message. Cancel-safe."""
        return await anext(self._client)

    async def send(self, message: str | bytes) -> None:
        """Send a message, in one frame."""
        await self._client.send(message)


class _Connect:
    closed: ClassVar[tuple[type[BaseException], ...]] = (
        FeedError,
        StopAsyncIteration,
        trio.ClosedResourceError,
    )

    @asynccontextmanager
    async def __call__(self, url: str) -> AsyncIterator[EchoConnection]:
        """Connect for as long as the block lasts, and close politely at its end."""
        client = WebSocketClient(
            url, config=_CONFIG, policies=_NEVER_AGAIN, backoff=BackoffConfig(max_retries=1)
        )
        async with client:
            await client.connect()
            yield EchoConnection(client)


connect = _Connect()
