"""A mock server that says what a recorded venue said, in order, and answers over REST as it did."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

import trio
from attrs import define, field, frozen

from feedhandler._io.nursery import open_plain_nursery
from feedhandler.abc import Dialer, Fetcher, HttpResponse, ListedVenue, Venue
from feedhandler.errors import RecordingError
from feedhandler.recording import Record, read_recording
from feedhandler_testing.connection import MockWebSocketConnection
from feedhandler_testing.dialect import DIALECTS, Dialect, StampedSession, dialect_by_name
from feedhandler_testing.recorded_books import RecordedBooks
from feedhandler_testing.server import MockWebSocketServer

__all__ = ["END", "LoadedRecording", "Mutation", "Planted", "ReplayServer"]

V = TypeVar("V", bound=Venue)

END = "end of the recording"
"""The reason with which each connection is closed once all of the recording was played."""

_MORE = "end of the recording of this connection"
_QUIET_S = 0.05
_SLICE = 256  # messages that are sent at once where nothing asks for a pause

Mutation = Callable[[int, "str | bytes"], "Sequence[str | bytes]"]
"""What is sent in the place of a recorded message, the nth of its connection (from 0)."""


@frozen
class LoadedRecording:
    """A recording, whole in memory: `subscribed` maps channels to canonical symbols."""

    venue: str
    subscribed: Mapping[str, Sequence[str]]
    records: tuple[Record, ...] = field(repr=lambda records: f"<{len(records)} records>")
    torn: bool = False

    @classmethod
    def load(cls, path: str | Path, *, partial: bool = False) -> LoadedRecording:
        """Read one. Raises `RecordingError`, also for a truncated one unless it may be `partial`,
        and `OSError`. This is file I/O: call it through `trio.to_thread.run_sync`."""
        with read_recording(path) as recording:
            records = tuple(recording)
            torn = recording.torn or recording.truncated
            if recording.truncated and not partial:
                raise RecordingError(
                    f"{path} is truncated: its compressed data has no end; get a whole copy of it, "
                    "or replay what there is with --partial"
                )
            header = recording.header
        if not any(record.k == "recv" for record in records):
            raise RecordingError(f"{path} holds no received message, so there is nothing to replay")
        return cls(header.venue, header.subscribed, records, torn)

    @property
    def symbols(self) -> tuple[str, ...]:
        """All canonical symbols."""
        return tuple(dict.fromkeys(s for names in self.subscribed.values() for s in names))

    def lines(
        self, *, merged: bool = False, only: Sequence[int] | None = None
    ) -> list[list[Record]]:
        """What each connection received, with what was fetched over REST meanwhile.

        With `merged`, all of them as if it had been one; with `only`, those of these numbers.
        """
        chosen = [one for one in self.records if only is None or one.c is None or one.c in only]
        numbers = sorted({one.c for one in chosen if one.c is not None})
        groups = [set(numbers)] if merged else [{number} for number in numbers]
        lines = []
        for group in groups:
            own = [one for one in chosen if one.c in group]
            first, last = own[0].t, own[-1].t
            lines.append(
                [
                    one
                    for one in chosen
                    if (one.c in group and one.k == "recv")
                    or (one.k == "http" and first <= one.t <= last)
                ]
            )
        return lines

    def first_requests(self, *, only: Sequence[int] | None = None) -> list[str | bytes | None]:
        """What each connection has sent first, in the order of `lines()`; `None`: nothing."""
        first: dict[int, str | bytes | None] = {}
        for one in self.records:
            if one.c is None or (only is not None and one.c not in only):
                continue
            if first.setdefault(one.c) is None and one.k == "send":
                first[one.c] = one.payload
        return [first[number] for number in sorted(first)]

    def with_instruments(self, venue: V) -> V:
        """`venue` with the list of instruments that was recorded, if one was and it needs one.

        Raises `DecodeError` where what was recorded is no such list.
        """
        if not isinstance(venue, ListedVenue):
            return venue
        bodies = []
        for url in venue.instrument_urls():
            recorded = [one for one in self.records if one.k == "http" and _same(one.url, url)]
            if not recorded:
                return venue
            payload = recorded[-1].payload or b""
            bodies.append(payload.encode() if isinstance(payload, str) else payload)
        if not bodies:
            return venue
        return venue.with_instruments(venue.parse_instruments(bodies))


def _same(recorded: str | None, url: str) -> bool:
    """Whether what was recorded at one URL is what is asked for at another, or on another host."""
    return recorded is not None and _is_for(recorded, url)


@define
class Planted:
    """A `Mutation` that acts once: on the nth message (from 1) of those that `where` is found in.

    ``drop`` leaves it out, ``repeat`` sends it twice, ``swap`` sends it after the next one that
    `where` is found in, and ``flip`` changes the digit that is `where`'s first group. `acted` tells
    whether it has; `index` the number of the message.
    """

    how: Literal["drop", "repeat", "swap", "flip"]
    where: str = "."
    nth: int = 1
    acted: bool = False
    index: int | None = None
    _seen: int = 0
    _kept: str | bytes | None = None

    def __call__(self, index: int, message: str | bytes) -> Sequence[str | bytes]:
        found = re.search(self.where, message if isinstance(message, str) else message.decode())
        if self.acted or found is None:
            return [message]
        if self._kept is not None:
            kept, self._kept, self.acted = self._kept, None, True
            return [message, kept]
        self._seen += 1
        if self._seen < self.nth:
            return [message]
        self.index = index
        if self.how == "swap":
            self._kept = message
            return []
        self.acted = True
        if self.how == "drop":
            return []
        if self.how == "repeat":
            return [message, message]
        return [_flipped(message, found)]


def _flipped(message: str | bytes, found: re.Match[str]) -> str | bytes:
    text = found.string
    at = found.start(1)
    digit = str((int(text[at]) + 1) % 10)
    changed = text[:at] + digit + text[at + 1 :]
    return changed if isinstance(message, str) else changed.encode()


class ReplayServer:
    """A mock server that plays a recording, over memory streams or, with `tcp=True`, over TCP.

    ```python
    recording = await trio.to_thread.run_sync(LoadedRecording.load, path)
    async with ReplayServer(recording) as server:
        async with open_feed(server.venue(), recording.symbols, channels=["book"]) as feed: ...
    ```

    A connection of the client gets what one of the recorded ones received, at `speed` times real
    time, once it has sent its first message, or `patience_s` after it began: the first that has
    begun with the same request and that nobody got yet; where none was recorded so, the first of
    all. Then it is closed with code 1000 if there is more for that client, else after the last,
    when `done` is set; with `stays`, it stays open. One that ended early is played to the next from
    its beginning. `merged` plays all recorded connections as one, `only` these. `mutate` may
    change, add or leave out messages, as `Planted` does.

    Where the recording shows no request (it subscribed in the URL), the `dialect` (by default, that
    of the recording's venue) acknowledges them; otherwise the recorded answers stand.

    Over REST, what is answered is the newest of what was recorded for that path and symbol, up to
    where the play is: a snapshot that is asked for too early comes when its time has come. And the
    play waits for one that is due, for `patience_s`, where the client has subscribed to its book.
    `mutate_rest` may change a body. With `fresh_books`, a book that is asked for once more, in the
    stream or over REST, is answered as it stands there, so that a client can mend its own; without,
    it is not answered in the stream, and over REST as before.

    `mock` is the server beneath, for faults: ``server.mock.fault(Reset(), Messages(100))``.
    """

    def __init__(
        self,
        recording: LoadedRecording,
        *,
        dialect: Dialect | None = None,
        seed: int = 0,
        tcp: bool = False,
        speed: float = math.inf,
        merged: bool = False,
        only: Sequence[int] | None = None,
        mutate: Mutation | None = None,
        mutate_rest: Callable[[str, bytes], bytes] | None = None,
        stays: bool = False,
        fresh_books: bool = False,
        patience_s: float = 2.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if dialect is None and recording.venue in DIALECTS:
            dialect = dialect_by_name(recording.venue)
        self.recording = recording
        self.done = trio.Event()
        self.sent = 0
        self._lines = recording.lines(merged=merged, only=only)
        self.total = sum(one.k == "recv" for line in self._lines for one in line)
        asked = any(one.k == "send" for one in recording.records)
        self.mock = MockWebSocketServer(seed=seed, tcp=tcp, dialect=dialect)
        self.mock.rest_source = self
        self.mock.quiet = True  # what the venue said by itself is recorded
        self.mock.acknowledges = not asked and dialect is not None
        self.mock.list_symbols(recording.symbols)
        self._speed = speed
        self._mutate = mutate
        self._mutate_rest = mutate_rest
        self._stays = stays
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._exit = contextlib.AsyncExitStack()
        # The time in the recording up to which it was played.
        self._at = min(one.t for one in recording.records if one.c is not None)
        self._moved = trio.Event()
        self._fetched: set[int] = set()  # which records were answered with
        self._asked_first = [] if merged else recording.first_requests(only=only)
        self._playing: dict[int, MockWebSocketConnection] = {}  # who gets which line, or got it
        self._played: set[int] = set()
        self._turned = trio.Event()  # a line is over, or free again
        self._fresh = fresh_books
        self._books: RecordedBooks | None = None  # of the line that is played
        self._asked: dict[int, set[tuple[str, str]]] = {}  # of each connection
        self._more: dict[int, int] = {}  # how many messages it has that were not recorded
        if fresh_books:
            self.mock.answerer = self._answer_again

    def __repr__(self) -> str:
        return f"<ReplayServer {self.recording.venue} sent={self.sent}/{self.total}>"

    async def __aenter__(self) -> ReplayServer:
        await self._exit.enter_async_context(self.mock)
        nursery = await self._exit.enter_async_context(open_plain_nursery())
        self._exit.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._serve, nursery)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._exit.__aexit__(kind, error, traceback)

    # --- where it is ---

    @property
    def url(self) -> str:
        return self.mock.url

    @property
    def rest_url(self) -> str:
        return self.mock.rest_url

    @property
    def dial(self) -> Dialer:
        return self.mock.dial

    @property
    def fetch(self) -> Fetcher:
        return self.mock.fetch

    def venue(self, symbols: Sequence[str] | None = None) -> Venue:
        """This library's venue, set up to talk to it (about all recorded symbols).

        It has the list of instruments that was recorded, if one was, else one of the dialect's.
        Raises `DecodeError` where the recorded list is none.
        """
        venue = self.mock.venue(self.recording.symbols if symbols is None else symbols)
        return self.recording.with_instruments(venue)

    # --- the stream ---

    async def _serve(self, nursery: trio.Nursery) -> None:
        while True:
            connection = await self.mock.next_connection()
            nursery.start_soon(self._play, connection)

    async def _play(self, connection: MockWebSocketConnection) -> None:
        with trio.move_on_after(self._patience_s):
            await connection.wait_heard()
            if self._speed == math.inf and any(
                one.k == "http" for ones in self._lines for one in ones
            ):
                await connection.wait_quiet(_QUIET_S)  # snapshots wait for who has asked for them
        number = await self._wait_for_line(connection)
        if number is not None:
            await self._play_to(connection, number)
            if connection.closed or number not in self._played:
                self._turn()  # another connection gets it again
                return
        if self._stays:
            return
        # The client is to come again, if there is more for it; else nobody goes before the end.
        await self._wait_until_of_use(connection)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await connection.close(1000, END if self.done.is_set() else _MORE)

    async def _play_to(self, connection: MockWebSocketConnection, number: int) -> None:
        try:
            await self._play_line(connection, self._lines[number])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        if connection.closed:
            return
        self._played.add(number)
        if len(self._played) == len(self._lines):
            self.done.set()
        self._turn()

    # --- which line ---

    def _free(self, connection: MockWebSocketConnection, *, anyones: bool) -> int | None:
        """The first line that nobody has got, for a client that has asked as it did there.

        Where none of the recorded ones has asked so, or with `anyones`, the first of all.
        """
        free = [
            number
            for number in range(len(self._lines))
            if number not in self._played
            and (number not in self._playing or self._playing[number].closed)
        ]
        asked = connection.first_message
        if not anyones and asked is not None and asked in self._asked_first:
            free = [number for number in free if self._asked_first[number] == asked]
        return free[0] if free else None

    async def _wait_for_line(self, connection: MockWebSocketConnection) -> int | None:
        """The line for this client, once there is one; `None`: there is no more."""
        give_up_at = trio.current_time() + self._patience_s
        while not (self.done.is_set() or connection.closed):
            patient = trio.current_time() < give_up_at
            number = self._free(connection, anyones=not patient)
            if number is not None:
                self._playing[number] = connection
                return number
            turned = self._turned
            with trio.move_on_at(give_up_at if patient else math.inf):
                await turned.wait()
        return None

    async def _wait_until_of_use(self, connection: MockWebSocketConnection) -> None:
        """Wait until the client may get more by coming again, or there is no more."""
        give_up_at = trio.current_time() + self._patience_s
        while not (self.done.is_set() or connection.closed):
            patient = trio.current_time() < give_up_at
            if self._free(connection, anyones=not patient) is not None:
                return
            turned = self._turned
            with trio.move_on_at(give_up_at if patient else math.inf):
                await turned.wait()

    def _turn(self) -> None:
        turned, self._turned = self._turned, trio.Event()
        turned.set()

    async def _play_line(self, connection: MockWebSocketConnection, line: list[Record]) -> None:
        started, first = trio.current_time(), line[0].t if line else 0
        self._move(first, back=True)
        self._fetched.clear()
        if self._fresh:
            self._books = RecordedBooks(self.venue(), self.mock.dialect, self.recording.symbols)
        waiting: list[str | bytes] = []
        recorded: list[Record] = []
        index = 0
        for record in line:
            due = started + (record.t - first) / 1e9 / self._speed
            held = record.k == "http"
            if waiting and (held or len(waiting) >= _SLICE or due > trio.current_time()):
                await self._send(connection, waiting, recorded)
                waiting, recorded = [], []
            if connection.closed:
                return
            if due > trio.current_time():
                await trio.sleep_until(due)
            self._move(record.t)
            if held:
                await self._wait_fetched(connection, record)
            elif record.payload is not None:
                message = record.payload
                waiting += [message] if self._mutate is None else self._mutate(index, message)
                recorded.append(record)
                index += 1
        await self._send(connection, waiting, recorded)

    async def _send(
        self,
        connection: MockWebSocketConnection,
        messages: list[str | bytes],
        recorded: list[Record],
    ) -> None:
        if self._books is not None:
            for record in recorded:
                self._books.take(record)
            messages = self._counted(connection, messages, recorded)
        await connection.send_many(messages)
        self.sent += len(recorded)
        if self._on_progress is not None:
            self._on_progress(self.sent, self.total)

    def _counted(
        self,
        connection: MockWebSocketConnection,
        messages: list[str | bytes],
        recorded: list[Record],
    ) -> list[str | bytes]:
        """The messages with the numbers that they have after what was not recorded."""
        session = connection.session
        if not isinstance(session, StampedSession) or not recorded:
            return messages
        more = self._more.get(connection.id, 0)
        last = max((session.stamp_of(one.payload or "") or 0 for one in recorded), default=0)
        connection.count_from(last + more + 1)
        if not more:
            return messages
        counted = []
        for message in messages:
            stamp = session.stamp_of(message)
            counted.append(message if stamp is None else session.with_stamp(message, stamp + more))
        return counted

    async def _answer_again(
        self, connection: MockWebSocketConnection, request: dict[str, Any]
    ) -> bool:
        """Answer what was asked for before on this connection, which no recording shows."""
        channel = request.get("channel", "price")
        asked = self._asked.setdefault(connection.id, set())
        wanted = {(channel, symbol) for symbol in request["symbols"]}
        again = request["type"] == "unsubscribe" or bool(wanted & asked)
        if request["type"] == "subscribe":
            asked |= wanted
        if not again:
            return False
        before = connection.next_stamp or 0
        kind = f"{request['type']}d"
        answers: list[dict[str, Any]] = [{**request, "type": kind}]
        over_rest = "rest" in self.mock.dialect.means.says
        if kind == "subscribed" and channel == "book" and self._books and not over_rest:
            snapshots = [self._books.snapshot(symbol) for symbol in request["symbols"]]
            answers += [snapshot for snapshot in snapshots if snapshot is not None]
        await connection.answer(answers)
        said = (connection.next_stamp or 0) - before
        self._more[connection.id] = self._more.get(connection.id, 0) + said
        return True

    def _move(self, t: int, *, back: bool = False) -> None:
        self._at = t if back else max(t, self._at)
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    # --- REST ---

    async def _wait_fetched(self, connection: MockWebSocketConnection, record: Record) -> None:
        """A snapshot is due: wait until it was fetched, if it is to be."""
        request = self.mock.dialect.rest_request(record.url or "", self.mock.listing)
        if request is None or request.get("symbol") not in connection.book_subscriptions:
            return
        if self._books is not None:
            self._books.take_snapshot(request["symbol"], record)
        with trio.move_on_after(self._patience_s):
            while id(record) not in self._fetched and not connection.closed:
                await self._moved.wait()

    def _recorded_for(self, url: str, symbol: str | None = None) -> list[Record]:
        found = []
        for one in self.recording.records:
            if one.k != "http" or one.url is None:
                continue
            if symbol is None:
                fits = _is_for(one.url, url)
            else:
                request = self.mock.dialect.rest_request(one.url, self.mock.listing) or {}
                fits = request.get("symbol") == symbol
            if fits:
                found.append(one)
        return found

    async def wait(self, url: str) -> None:
        """Wait until the play is where something was recorded for `url`."""
        wanted = self._recorded_for(url)
        if wanted:
            with trio.move_on_after(self._patience_s):
                while wanted[0].t > self._at:
                    await self._moved.wait()

    def answer(self, url: str, *, symbol: str | None, ago: int) -> HttpResponse | None:
        """What was recorded for `url`, or for another symbol; `ago` answers before the newest."""
        wanted = self._recorded_for(url, symbol)
        if not wanted:
            return None
        past = [one for one in wanted if one.t <= self._at] or wanted[:1]
        if not ago and symbol is None and id(past[-1]) in self._fetched and self._books is not None:
            answer = self._as_it_stands(url, self._books)
            if answer is not None:
                return answer
        self._fetched.add(id(past[-1]))
        self._move(self._at)
        body = past[max(-1 - ago, -len(past))].payload or b""
        body = body.encode() if isinstance(body, str) else body
        if self._mutate_rest is not None:
            body = self._mutate_rest(url, body)
        return HttpResponse(200, (("Content-Type", "application/json"),), body)

    def _as_it_stands(self, url: str, books: RecordedBooks) -> HttpResponse | None:
        dialect, listing = self.mock.dialect, self.mock.listing
        request = dialect.rest_request(url, listing)
        if request is None or request["type"] != "snapshot":
            return None
        message = books.snapshot(request["symbol"])
        return None if message is None else dialect.rest_answer(request, message, listing)


def _is_for(recorded: str, url: str) -> bool:
    """Whether what was recorded at one URL is an answer at another: the same path, and the same
    words in what both ask (numbers, such as a limit, may differ)."""
    one, other = urlsplit(recorded), urlsplit(url)
    if one.path.strip("/") != other.path.strip("/"):
        return False
    asked, wanted = parse_qs(one.query), parse_qs(other.query)
    return all(
        asked[name] == wanted[name]
        for name in asked.keys() & wanted.keys()
        if not all(value.isdecimal() for value in (*asked[name], *wanted[name]))
    )
