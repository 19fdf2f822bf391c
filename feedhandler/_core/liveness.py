"""Is the peer still there? Deadlines for pongs, frames and data, and a counter for bursts."""

from __future__ import annotations

import math
from collections import deque

from attrs import define, field, frozen

from feedhandler.config import ConnectionConfig
from feedhandler.errors import ConnectionFailed, PongTimeout, StaleConnection

__all__ = ["BurstCounter", "Check", "Liveness"]


@frozen
class Check:
    """What is due now: a `ping`, or the end because of `failure`; and when to look again."""

    ping: bool
    failure: ConnectionFailed | None
    wake_at: float


class Liveness:
    """The deadlines of one connection, from its opening at `now` on.

    A connection of a venue that is never without a message for `silence_s` is dead after that.

    All times are in seconds of one clock. While the connection is paused, because its consumer is
    full and nothing is read, no deadline runs.
    """

    __slots__ = (
        "_config",
        "_data",
        "_frame",
        "_message",
        "_next_ping",
        "_paused_at",
        "_pong",
        "_silence_s",
    )

    def __init__(
        self, config: ConnectionConfig, *, now: float, silence_s: float | None = None
    ) -> None:
        self._config = config
        self._silence_s = silence_s
        self._frame = self._message = self._data = self._pong = now
        interval = config.heartbeat_interval_s
        self._next_ping = math.inf if interval is None else now + interval
        self._paused_at: float | None = None

    def frame(self, now: float) -> None:
        """Bytes have arrived."""
        self._frame = now

    def message(self) -> None:
        """A message has arrived, market data or not, in the bytes that came last."""
        self._message = self._frame

    def data(self, now: float) -> None:
        """Market data has arrived."""
        self._frame = self._data = now

    def pong(self, now: float) -> None:
        """The pong for one of our pings has arrived."""
        self._frame = self._pong = now

    def paused(self, now: float) -> None:
        """Reading stands still."""
        if self._paused_at is None:
            self._paused_at = now

    def resumed(self, now: float) -> None:
        """Reading goes on; every deadline moves by the length of the pause."""
        if self._paused_at is None:
            return
        pause = now - self._paused_at
        self._paused_at = None
        self._message += pause
        self._frame += pause
        self._data += pause
        self._pong += pause

    def poll(self, now: float) -> Check:
        """What is due at `now`. A ping that is due is taken as sent."""
        if self._paused_at is not None:
            return Check(False, None, math.inf)
        config = self._config
        deadlines: list[tuple[float, ConnectionFailed]] = []
        if config.heartbeat_interval_s is not None:
            limit = config.pong_deadline_s
            deadlines.append((self._pong + limit, PongTimeout(limit)))
        if config.frame_stale_s is not None:
            limit = config.frame_stale_s
            deadlines.append((self._frame + limit, StaleConnection("frames", limit)))
        if self._silence_s is not None:
            limit = self._silence_s
            deadlines.append((self._message + limit, StaleConnection("messages", limit)))
        if config.data_stale_s is not None:
            limit = config.data_stale_s
            deadlines.append((self._data + limit, StaleConnection("data", limit)))
        first = min(deadlines, key=lambda deadline: deadline[0], default=None)
        if first is not None and first[0] <= now:
            return Check(False, first[1], math.inf)
        ping = False
        if config.heartbeat_interval_s is not None and self._next_ping <= now:
            ping = True
            self._next_ping = now + config.heartbeat_interval_s
        return Check(ping, None, min(self._next_ping, first[0] if first else math.inf))


@define
class BurstCounter:
    """Tells when `limit` things have happened within `window_s` seconds."""

    limit: int
    window_s: float
    _times: deque[float] = field(factory=deque, init=False, repr=False)

    def record(self, now: float) -> bool:
        """One more; true if that makes a burst, and then counting starts anew."""
        times = self._times
        times.append(now)
        while times[0] < now - self.window_s:
            times.popleft()
        if len(times) < self.limit:
            return False
        times.clear()
        return True
