"""Counting what passes: counters, and a histogram with bounded memory and a stated error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import Attribute, asdict, define, field, frozen

__all__ = ["Counters", "FeedStatistics", "Histogram"]


@frozen(kw_only=True)
class FeedStatistics:
    """What a feed has seen since it was opened. `bytes` is on the wire, after TLS.

    `lag_ns` is how long after the venue's own time the newest data was received, measured once for
    each read; `lag_min_ns` and `lag_max_ns` are the least and the greatest so far (`None`: the
    venue has sent no time yet). The least is the network's delay and how far the two clocks are
    apart; what goes beyond it is delay. `backward_times` counts reads whose newest time is before
    that of the read before: such times are kept as they were sent, and never used for ordering.
    """

    batches: int = 0
    messages: int = 0
    bytes: int = 0
    events: int = 0
    gaps: int = 0
    decode_errors: int = 0
    ignored: int = 0
    heartbeats: int = 0
    connections: int = 0
    lag_ns: int | None = None
    lag_min_ns: int | None = None
    lag_max_ns: int | None = None
    backward_times: int = 0

    def merged(self, other: FeedStatistics) -> FeedStatistics:
        """The two together, as of connections side by side; `lag_ns` is the greater."""
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in asdict(self)
            if not name.startswith("lag")
        }
        return FeedStatistics(
            **counts,
            lag_ns=_of_both(max, self.lag_ns, other.lag_ns),
            lag_min_ns=_of_both(min, self.lag_min_ns, other.lag_min_ns),
            lag_max_ns=_of_both(max, self.lag_max_ns, other.lag_max_ns),
        )


def _of_both(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    """Of what is known."""
    return b if a is None else a if b is None else choose(a, b)


@define
class Counters:
    """The running counts behind `FeedStatistics`."""

    batches: int = 0
    messages: int = 0
    bytes: int = 0
    events: int = 0
    gaps: int = 0
    decode_errors: int = 0
    ignored: int = 0
    heartbeats: int = 0
    connections: int = 0
    lag_ns: int | None = None
    lag_min_ns: int | None = None
    lag_max_ns: int | None = None
    backward_times: int = 0
    _venue_time_ns: int = field(default=0, repr=False)

    def time_told(self, venue_time_ns: int, recv_ns: int) -> None:
        """The newest data of a read carries the venue's time."""
        self.lag_ns = lag = recv_ns - venue_time_ns
        if self.lag_min_ns is None or lag < self.lag_min_ns:
            self.lag_min_ns = lag
        if self.lag_max_ns is None or lag > self.lag_max_ns:
            self.lag_max_ns = lag
        if venue_time_ns < self._venue_time_ns:
            self.backward_times += 1
        self._venue_time_ns = venue_time_ns

    def snapshot(self) -> FeedStatistics:
        return FeedStatistics(**asdict(self, filter=_is_public))


def _is_public(attribute: Attribute[Any], _: object) -> bool:
    return not attribute.name.startswith("_")


@define
class Histogram:
    """Counts of non-negative integers, such as latencies in nanoseconds.

    Values share a bucket when they agree in their length in bits and in the four bits after the
    first, so a quantile is at most 1/16 too high; there are at most about a thousand buckets.
    """

    count: int = 0
    total: int = 0
    maximum: int = 0
    _buckets: dict[int, int] = field(factory=dict, repr=False)

    def record(self, value: int) -> None:
        """Count `value`; a negative one (the clock was set back) counts as 0."""
        value = max(value, 0)
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)
        shift = max(value.bit_length() - 5, 0)
        bucket = shift << 5 | value >> shift
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def quantile(self, q: float) -> int:
        """The largest value of the bucket that the `q`-quantile falls into; 0 if empty."""
        wanted = q * self.count
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                shift = bucket >> 5
                return min(((bucket & 31) + 1 << shift) - 1, self.maximum)
        return self.maximum
