"""How often each stream of data comes, and when its silence says something."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from attrs import define, field

__all__ = ["Rhythm"]

K = TypeVar("K", bound=Hashable)

_WEIGHT = 0.05  # of the newest interval in the usual one: about the last 20 count
_SAMPLES = 20  # intervals, before which no rhythm is known
_LEAST_S, _MOST_S = 30.0, 3600.0


@define
class _Beat:
    last: float
    usual_s: float = 0.0
    samples: int = 0


@define
class Rhythm(Generic[K]):
    """Streams, each with its usual interval; all times are in seconds of one clock.

    A stream is silent after `limit_s`, where that is set. Else, where `intervals` are set, it is
    after so many of its usual interval (a moving average), at least 30 s and at most an hour, once
    20 of them have passed. So a stream that is always quiet is not silent, and one that has become
    quiet is so a few times only, because its interval grows with each.
    """

    limit_s: float | None = None
    intervals: float | None = None
    _beats: dict[K, _Beat] = field(factory=dict, init=False)

    def saw(self, stream: K, now: float) -> bool:
        """Data of `stream` has come; several in one read are one. Whether its rhythm is known now,
        and was not before."""
        beat = self._beats.get(stream)
        if beat is None:
            self._beats[stream] = _Beat(now)
            return False
        interval = now - beat.last
        if interval <= 0:
            if beat.last == math.inf:
                beat.last = now
            return False
        beat.last = now
        beat.samples += 1
        weight = max(_WEIGHT, 1 / beat.samples)
        beat.usual_s += weight * (interval - beat.usual_s)
        return beat.samples == _SAMPLES

    def limit_of(self, stream: K) -> float:
        """The time after which `stream` is silent; `math.inf` while that cannot be said."""
        if self.limit_s is not None:
            return self.limit_s
        beat = self._beats.get(stream)
        if self.intervals is None or beat is None or beat.samples < _SAMPLES:
            return math.inf
        return min(max(self.intervals * beat.usual_s, _LEAST_S), _MOST_S)

    def silent_at(self, stream: K, now: float) -> float:
        """When `stream` will be silent, if nothing comes; one that is new begins `now`."""
        beat = self._beats.get(stream)
        if beat is None:
            beat = self._beats[stream] = _Beat(now)
        elif beat.last == math.inf:
            beat.last = now
        return beat.last + self.limit_of(stream)

    def wait_anew(self, streams: Iterable[K], now: float) -> None:
        """Something was done about these: each is silent again after as long."""
        for stream in streams:
            self.saw(stream, now)

    def postpone(self, now: float) -> None:
        """Nothing could be seen until now, so no silence counts; what is usual is kept."""
        for beat in self._beats.values():
            beat.last = now

    def reset(self) -> None:
        """A new connection: nothing is silent yet; what is usual is kept."""
        self._beats = {
            stream: _Beat(math.inf, beat.usual_s, beat.samples)
            for stream, beat in self._beats.items()
        }
