"""``feedhandler record``: what a URL sends, into a file, through reconnects."""

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
from feedhandler.cli.board import Output
from feedhandler.client import WebSocketClient
from feedhandler.config import BackoffConfig, check_url
from feedhandler.errors import PeerClosed, RecordingError
from feedhandler.recording import Record, RecordingWriter
from feedhandler.venues import venue_by_name

__all__ = ["Plan", "run_record"]


@frozen(kw_only=True)
class Plan:
    """What to record. With `symbols`, the venue named `venue` says what is sent to subscribe."""

    url: str
    out: Path
    venue: str = "raw"
    symbols: Sequence[str] = ()
    channels: Sequence[str] = ()
    messages: Sequence[str] = ()
    seconds: float | None = None

    def subscriptions(self) -> tuple[dict[str, list[str]], list[str]]:
        """The header's ``subscribed``, and what to send on each connection."""
        if not self.symbols:
            return {}, [*self.messages]
        venue = venue_by_name(self.venue, url=self.url)
        wanted = check_subscriptions(venue, self.symbols, self.channels or None)
        subscribed: dict[str, list[str]] = {}
        for subscription in wanted:
            subscribed.setdefault(subscription.channel, []).append(subscription.symbol)
        requests = [
            message if isinstance(message, str) else message.decode()
            for message in venue.subscribe(wanted)
        ]
        return subscribed, [*requests, *self.messages]


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
    check_url(plan.url)
    subscribed, requests = plan.subscriptions()
    if plan.out.exists():
        raise RecordingError(
            f"{plan.out} exists already; name another file, nothing is overwritten"
        )
    if not plan.out.parent.is_dir():
        raise RecordingError(f"the folder {plan.out.parent} does not exist; make it first")
    async with WebSocketClient(plan.url, backoff=BackoffConfig(max_retries=0)) as client:
        steps = client.transitions()
        # Nothing is written before there is something to write.
        await client.connect()
        with RecordingWriter(plan.out, venue=plan.venue, subscribed=subscribed) as writer:
            log = _Log(writer)

            async def follow() -> None:
                async for step in steps:
                    t, c = _wall_time_ns(step), step.epoch - 1
                    if step.new is ConnectionState.CONNECTED:
                        log.note(Record(t, "open", c, url=plan.url))
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
                    with trio.move_on_after(math.inf if plan.seconds is None else plan.seconds):
                        async for batch in client.batches():
                            log.received(batch.recv_ns, batch.epoch - 1, batch.messages)
            finally:
                log.write_rest()
    output.console.print(f"{log.messages} messages in {plan.out}", highlight=False, soft_wrap=True)
    return 0


def _wall_time_ns(step: Transition) -> int:
    """When `step` was, on the wall clock."""
    return time.time_ns() - round((trio.current_time() - step.at) * 1e9)
