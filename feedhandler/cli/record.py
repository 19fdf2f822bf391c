"""``feedhandler record``: what a URL sends, into a file, through reconnects."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from feedhandler._core.state import ConnectionState
from feedhandler.cli.board import Output
from feedhandler.client import WebSocketClient
from feedhandler.config import BackoffConfig, check_url
from feedhandler.errors import PeerClosed
from feedhandler.recording import RecordingWriter

__all__ = ["run_record"]


async def run_record(
    url: str,
    out: Path,
    messages: Sequence[str],
    venue: str,
    seconds: float | None,
    output: Output,
) -> int:
    """Record until `seconds` have gone or Ctrl-C. Returns the exit code."""
    check_url(url)
    written = 0
    async with WebSocketClient(url, backoff=BackoffConfig(max_retries=0)) as client:
        # Nothing is written before there is something to write.
        await client.connect()
        with RecordingWriter(out, venue=venue, subscribed={}) as writer:

            async def follow() -> None:
                async for step in client.transitions():
                    now = time.time_ns()
                    if step.new is ConnectionState.CONNECTED:
                        await begin(step.epoch - 1)
                    elif step.old is ConnectionState.CONNECTED:
                        error = step.error
                        code = error.code if isinstance(error, PeerClosed) else None
                        reason = error.reason if isinstance(error, PeerClosed) else str(error or "")
                        writer.close(now, step.epoch - 1, code, reason)
                        output.console.print(f"disconnected: {error}", soft_wrap=True)

            async def begin(number: int) -> None:
                writer.open(time.time_ns(), number, url)
                for message in messages:
                    await client.send(message)
                    writer.send(time.time_ns(), number, message)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await begin(0)
                with trio.move_on_after(math.inf if seconds is None else seconds):
                    async for batch in client.batches():
                        for message in batch.messages:
                            writer.recv(batch.recv_ns, batch.epoch - 1, message)
                        written += len(batch.messages)
                nursery.cancel_scope.cancel()
    output.console.print(f"{written} messages in {out}", highlight=False, soft_wrap=True)
    return 0
