"""Recording what a feed sends, receives and fetches, while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import trio
from attrs import frozen

from feedhandler._io.nursery import open_plain_nursery
from feedhandler.errors import ConnectionFailed, PeerClosed, RecordingError
from feedhandler.recording import Record, RecordingWriter, check_writable

__all__ = ["RecordingTap", "open_recording"]

_BUFFER_BYTES = 256 * 2**20  # lists of instruments have some 10 MB


@frozen
class _Read:
    """What connection `c` received in one read."""

    t: int
    c: int
    messages: Sequence[str | bytes]


class RecordingTap:
    """A `feedhandler.abc.Tap` that keeps what it sees until it is written. See `open_recording()`.

    Connections are numbered from 0 in the order in which they open, over all feeds that share it.
    """

    def __init__(self, *, buffer_bytes: int) -> None:
        self.connections = 0
        self.messages = 0
        self.changed = trio.Event()
        self._waiting: list[Record | _Read] = []
        self._bytes = 0
        self._limit = buffer_bytes

    def __repr__(self) -> str:
        return f"<RecordingTap connections={self.connections} messages={self.messages}>"

    def opened(self, url: str, /, *, at_ns: int) -> _ConnectionTap:
        number = self.connections
        self.connections += 1
        self.keep(Record(at_ns, "open", number, url=url))
        return _ConnectionTap(self, number)

    def fetched(self, url: str, body: bytes, /, *, at_ns: int) -> None:
        payload: str | bytes = body
        with contextlib.suppress(UnicodeDecodeError):
            payload = body.decode()
        self.keep(Record(at_ns, "http", url=url, payload=payload), len(body))

    def received(self, c: int, messages: Sequence[str | bytes], t: int) -> None:
        self.messages += len(messages)
        self.keep(_Read(t, c, messages), sum(map(len, messages)))

    def keep(self, item: Record | _Read, size: int = 0) -> None:
        self._bytes += size
        if self._bytes <= self._limit:  # else the recording is over, and its block with it
            self._waiting.append(item)
        self.changed.set()

    def take(self) -> list[Record | _Read]:
        """What is to be written. Raises `RecordingError` where it was more than may wait."""
        if self._bytes > self._limit:
            raise RecordingError(
                f"more than {self._limit:,} bytes wait to be written: the disk is too slow"
            )
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        return waiting


class _ConnectionTap:
    def __init__(self, tap: RecordingTap, number: int) -> None:
        self._tap = tap
        self._number = number

    def sent(self, message: str | bytes, /, *, at_ns: int) -> None:
        self._tap.keep(Record(at_ns, "send", self._number, payload=message), len(message))

    def received(self, messages: Sequence[str | bytes], /, *, recv_ns: int) -> None:
        self._tap.received(self._number, messages, recv_ns)

    def closed(self, error: ConnectionFailed | None, /, *, at_ns: int) -> None:
        code = reason = None
        if isinstance(error, PeerClosed):
            code, reason = error.code, error.reason
        elif error is not None:
            reason = str(error)
        self._tap.keep(Record(at_ns, "close", self._number, code=code, reason=reason))


class _Pen:
    """The file, made once there is something to write. All in a thread."""

    def __init__(self, path: Path, venue: str, subscribed: Mapping[str, Sequence[str]]) -> None:
        self._path = path
        self._venue = venue
        self._subscribed = subscribed
        self._writer: RecordingWriter | None = None

    def write(self, items: Sequence[Record | _Read]) -> None:
        if not items:
            return
        if self._writer is None:
            self._writer = RecordingWriter(
                self._path, venue=self._venue, subscribed=self._subscribed
            )
        write = self._writer.write
        for item in items:
            if isinstance(item, Record):
                write(item)
            else:
                for message in item.messages:
                    write(Record(item.t, "recv", item.c, payload=message))

    def put_down(self) -> None:
        """Write what is buffered, and close the file."""
        if self._writer is not None:
            self._writer.__exit__(None, None, None)


@contextlib.asynccontextmanager
async def open_recording(
    path: str | Path,
    *,
    venue: str,
    subscribed: Mapping[str, Sequence[str]],
    buffer_bytes: int = _BUFFER_BYTES,
) -> AsyncIterator[RecordingTap]:
    """A tap that records what feeds see into a new file, for as long as the block lasts.

    ```python
    async with (
        open_recording("a.jsonl.zst", venue="coinbase", subscribed={"book": ["BTC-USD"]}) as tap,
        open_feed(Coinbase(), ["BTC-USD"], channels=["book"], tap=tap) as feed,
    ):
        async for event in feed:
            ...
    ```

    It holds every message of every connection, both ways, and every whole answer over REST, in the
    order in which they were seen; secrets are left out as `RecordingWriter` does. The file is made
    when the first connection opens. It is written in a thread; leaving the block writes the rest.

    Raises `RecordingError` before the block for a `path` that can't be used, and out of the block,
    which is cancelled, where more than `buffer_bytes` wait to be written; and `OSError`.
    """
    path = Path(path)
    await trio.to_thread.run_sync(check_writable, path)
    tap = RecordingTap(buffer_bytes=buffer_bytes)
    pen = _Pen(path, venue, subscribed)

    whole = True

    async def write() -> None:
        nonlocal whole
        if not (whole and tap.connections):
            return
        whole = False
        # Shielded, or what was taken could be lost; bounded by what may wait.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(pen.write, tap.take())
        whole = True

    async def keep_writing() -> None:
        while True:
            await tap.changed.wait()
            tap.changed = trio.Event()
            await write()

    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(keep_writing)
            yield tap
    finally:
        try:
            await write()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(pen.put_down)
