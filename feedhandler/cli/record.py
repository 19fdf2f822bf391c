"""``feedhandler record``: what a venue or a URL sends, into a file, through reconnects.

A venue's symbols are recorded through the whole handler, with what it fetches over REST; a URL that
is given alone, or with messages to send, through a bare client.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import trio
from attrs import define, field, frozen

from feedhandler._core.state import ConnectionState, Transition
from feedhandler._io.nursery import open_plain_nursery
from feedhandler._io.subscriptions import check_subscriptions
from feedhandler.abc import ListedVenue, RequestingSession, Venue
from feedhandler.cli.board import Output, describe
from feedhandler.cli.venue import listed, named_venue
from feedhandler.client import WebSocketClient
from feedhandler.config import BackoffConfig, FeedConfig, check_url
from feedhandler.errors import ConfigError, PeerClosed
from feedhandler.handler import open_feed
from feedhandler.model import (
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    SnapshotFailed,
    SubscriptionFailed,
    TrustChanged,
)
from feedhandler.recorder import open_recording
from feedhandler.recording import Record, RecordingWriter, check_writable

__all__ = ["Plan", "record_venue", "run_record"]


@frozen(kw_only=True)
class Plan:
    """What to record: `symbols` of the venue named `venue`, at `url` if that is not its own; or,
    without symbols, whatever comes from `url`. `messages` are sent there once connected.
    `instruments` is the file for the venue's list of those.
    """

    out: Path
    url: str | None = None
    venue: str = "raw"
    symbols: Sequence[str] = ()
    channels: Sequence[str] = ()
    messages: Sequence[str] = ()
    instruments: Path | None = None
    seconds: float | None = None

    @property
    def limit_s(self) -> float:
        return math.inf if self.seconds is None else self.seconds

    def requests(self) -> tuple[str, dict[str, list[str]], list[str]]:
        """For a bare client: the URL, the header's ``subscribed``, and what to send there."""
        if self.url is None:
            raise ConfigError(
                "url", None, "there is nothing to record",
                mend="name a URL, or a venue and symbols: --venue coinbase --symbols BTC-USD",
            )  # fmt: skip
        check_url(self.url)
        if not self.symbols:
            return self.url, {}, [*self.messages]
        venue = named_venue(self.venue, self.url)
        if isinstance(venue, ListedVenue) or isinstance(venue.session(), RequestingSession):
            raise ConfigError(
                "send", self.messages[0], f"requests to {venue.name} are the handler's",
                mend="leave --send out, or --symbols",
            )  # fmt: skip
        wanted = check_subscriptions(venue, self.symbols, self.channels or None)
        subscribed: dict[str, list[str]] = {}
        for subscription in wanted:
            subscribed.setdefault(subscription.channel, []).append(subscription.symbol)
        requests = [
            message if isinstance(message, str) else message.decode()
            for message in venue.subscribe(wanted)
        ]
        return self.url, subscribed, [*requests, *self.messages]


@define
class _Log:
    """Brings what two tasks see, messages and transitions, into the order of time.

    What is received waits in the client's queue, so the end of a connection can be known before
    the messages that came ahead of it: what is `note`d is written once those are.
    """

    writer: RecordingWriter
    messages: int = 0
    _noted: deque[Record] = field(factory=deque)

    def note(self, record: Record) -> None:
        self._noted.append(record)

    def received(self, t: int, c: int, messages: Sequence[str | bytes]) -> None:
        self._write_noted(before=t, c=c)
        for message in messages:
            self.writer.write(Record(t, "recv", c, payload=message))
        self.messages += len(messages)

    def _write_noted(self, *, before: int, c: int) -> None:
        while self._noted:
            record = self._noted[0]
            number = -1 if record.c is None else record.c
            # A connection was opened before its first message, whatever the clock says.
            if not (number < c or (number == c and (record.k == "open" or record.t <= before))):
                return
            self.writer.write(self._noted.popleft())

    def write_rest(self) -> None:
        while self._noted:
            self.writer.write(self._noted.popleft())


async def run_record(plan: Plan, output: Output) -> int:
    """Record until the time is up or Ctrl-C. Returns the exit code."""
    if plan.symbols and not plan.messages:
        messages = await record_venue(named_venue(plan.venue, plan.url), plan, output)
    else:
        messages = await _record_url(plan, output)
    output.console.print(f"{messages} messages in {plan.out}", highlight=False, soft_wrap=True)
    return 0


async def record_venue(venue: Venue, plan: Plan, output: Output) -> int:
    """Record what the handler gets from `venue`, and tell what it loses; returns how many messages.

    The first attempt that fails is the end; later ones are repeated for ever.
    """
    channels = [*plan.channels] or [*venue.channels[:1]]
    subscribed = {channel: [*plan.symbols] for channel in channels}
    config = FeedConfig(backoff=BackoffConfig(max_retries=0))
    async with open_recording(plan.out, venue=venue.name, subscribed=subscribed) as tap:
        # Fetched anew, because a recording has to have it.
        venue = await listed(venue, plan.instruments, anew=True, tap=tap)
        async with open_feed(
            venue, plan.symbols, channels=channels, config=config, tap=tap
        ) as feed:
            with trio.move_on_after(plan.limit_s):
                async for events in feed.batches():
                    for event in events:
                        line = _line(event, connected=tap.connections > 0)
                        if line is not None:
                            output.console.print(line, highlight=False, soft_wrap=True)
    return tap.messages


def _line(event: Event, *, connected: bool) -> str | None:
    """What is to be told of an event. Raises the error of an attempt where none was connected."""
    match event:
        case FeedStateChanged():
            if event.error is not None and not connected:
                raise event.error
            lost = event.old is ConnectionState.CONNECTED
            return f"disconnected: {event.error or event.reason}" if lost else None
        case Gap() | DecodeFailed() | SubscriptionFailed() | SnapshotFailed() | TrustChanged():
            return describe(event)
        case _:
            return None


async def _record_url(plan: Plan, output: Output) -> int:
    url, subscribed, requests = plan.requests()
    check_writable(plan.out)
    async with WebSocketClient(url, backoff=BackoffConfig(max_retries=0)) as client:
        steps = client.transitions()
        # Nothing is written before there is something to write.
        await client.connect()
        with RecordingWriter(plan.out, venue=plan.venue, subscribed=subscribed) as writer:
            log = _Log(writer)

            async def follow() -> None:
                async for step in steps:
                    t, c = _wall_time_ns(step), step.epoch - 1
                    if step.new is ConnectionState.CONNECTED:
                        log.note(Record(t, "open", c, url=url))
                        for message in requests:
                            await client.send(message)
                            log.note(Record(time.time_ns(), "send", c, payload=message))
                    elif step.old is ConnectionState.CONNECTED:
                        closed = step.error if isinstance(step.error, PeerClosed) else None
                        code = closed.code if closed else None
                        why = str(step.error or step.event.value)
                        reason = closed.reason if closed else why
                        log.note(Record(t, "close", c, code=code, reason=reason))
                        output.console.print(
                            f"disconnected: {why}", highlight=False, soft_wrap=True
                        )

            try:
                async with open_plain_nursery() as nursery:
                    nursery.start_soon(follow)
                    with trio.move_on_after(plan.limit_s):
                        async for batch in client.batches():
                            log.received(batch.recv_ns, batch.epoch - 1, batch.messages)
            finally:
                log.write_rest()
    return log.messages


def _wall_time_ns(step: Transition) -> int:
    """When `step` was, on the wall clock."""
    return time.time_ns() - round((trio.current_time() - step.at) * 1e9)
