"""Snapshots of order books that come over REST: fetched beside the reader, at the venue's pace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from feedhandler.abc import (
    Control,
    HttpResponse,
    Session,
    SnapshotSession,
    SnapshotVenue,
    Subscription,
)
from feedhandler.errors import DecodeError, FetchFailed
from feedhandler.model import Event

__all__ = ["Answered", "Gate", "SnapshotDesk", "decode_snapshot"]

Answered = Callable[[Subscription, HttpResponse | FetchFailed, int], None]

_AT_ONCE = 4  # requests; the gate paces them, this bounds what waits for answers


class Gate(Protocol):
    """The way to a venue's REST interface, at the pace that the venue allows."""

    async def get(
        self, url: str, *, weight: float, max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """Wait for the turn, and get `url` within `deadline_s`. Raises `FetchFailed`."""
        ...


class SnapshotDesk:
    """Fetches the snapshots that are asked for, each once at a time, for one connection's books.

    `answered` is called with each answer, or with why there is none; `fetched`, before that, with
    each answer and where it is from, whether it is still wanted or not.
    """

    def __init__(
        self,
        venue: SnapshotVenue,
        gate: Gate,
        *,
        deadline_s: float,
        max_bytes: int,
        answered: Answered,
        fetched: Callable[[str, HttpResponse], None] | None = None,
    ) -> None:
        self._venue = venue
        self._gate = gate
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        self._answered = answered
        self._fetched = fetched
        self._wanted: dict[Subscription, None] = {}
        # Which of the requests for it counts: an answer to an earlier one is dropped.
        self._busy: dict[Subscription, int] = {}
        self._requests = 0
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<SnapshotDesk wanted={len(self._wanted)} busy={len(self._busy)}>"

    def ask(self, subscriptions: Iterable[Subscription]) -> None:
        """Fetch these, unless that is being done."""
        new = [s for s in subscriptions if s not in self._busy and s not in self._wanted]
        if new:
            self._wanted.update(dict.fromkeys(new))
            self._notify()

    def forget(self, subscription: Subscription) -> None:
        """It is wanted no longer; an answer that is on its way is dropped."""
        self._wanted.pop(subscription, None)
        self._busy.pop(subscription, None)

    async def run(self, epoch: int) -> None:
        """Fetch what is asked for until cancelled: for as long as connection `epoch` lives.

        What was asked for just before is fetched too; what is open at the end is forgotten.
        """
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    while self._wanted and len(nursery.child_tasks) < _AT_ONCE:
                        subscription = next(iter(self._wanted))
                        del self._wanted[subscription]
                        self._requests += 1
                        self._busy[subscription] = self._requests
                        nursery.start_soon(self._fetch, subscription, epoch, self._requests)
                    changed = self._changed
                    await changed.wait()
        finally:
            self._wanted.clear()
            self._busy.clear()

    async def _fetch(self, subscription: Subscription, epoch: int, request: int) -> None:
        answer: HttpResponse | FetchFailed
        url = self._venue.snapshot_url(subscription)
        try:
            answer = await self._gate.get(
                url,
                weight=self._venue.snapshot_weight,
                max_bytes=self._max_bytes,
                deadline_s=self._deadline_s,
            )
        except FetchFailed as error:
            answer = error
        else:
            if self._fetched is not None:
                self._fetched(url, answer)
        if self._busy.get(subscription) == request:
            del self._busy[subscription]
            self._answered(subscription, answer, epoch)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def decode_snapshot(
    session: Session,
    subscription: Subscription,
    answer: HttpResponse | FetchFailed,
    *,
    recv_ns: int,
    epoch: int,
) -> Sequence[Event | Control]:
    """What follows from an answer. Raises the `FetchFailed` that it is, or `DecodeError`."""
    if isinstance(answer, FetchFailed):
        raise answer
    if not isinstance(session, SnapshotSession):
        return ()
    try:
        return [*session.decode_snapshot(subscription, answer, recv_ns=recv_ns, epoch=epoch)]
    except DecodeError:
        raise
    except Exception as error:  # a venue's bug is no reason to stop
        raise DecodeError(subscription.symbol, answer.body, [("$", repr(error))]) from error
