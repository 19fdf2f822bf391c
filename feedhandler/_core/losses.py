"""What was dropped between a feed and its consumer, merged into few events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, evolve, field

from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    SnapshotFailed,
    SubscriptionFailed,
    TrustChanged,
)

__all__ = ["Losses"]

_MAX_GAPS = 4096
_MAX_LEGS = 1024


@define
class Losses:
    """A `Gap` for each symbol or book, and reason; each leg's newest state; what was refused; the
    books that went stale.

    They stand for events that are older than everything that still waits. Memory is bounded: past
    4,096 gaps the rest is merged into gaps without a symbol, and of more legs the oldest states go.
    """

    _gaps: dict[tuple[str | None, GapReason, bool, int | None], Gap] = field(factory=dict)
    _states: dict[int, FeedStateChanged] = field(factory=dict)
    _refused: dict[tuple[str | None, str | None], SubscriptionFailed] = field(factory=dict)
    _stale: dict[str, TrustChanged] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._gaps or self._states or self._refused or self._stale)

    def add(self, events: Sequence[Event], reason: GapReason) -> None:
        """Account for `events`, which were dropped, oldest first, for `reason`."""
        for event in events:
            match event:
                case FeedStateChanged():
                    self._states.pop(event.leg, None)
                    self._states[event.leg] = event
                    if len(self._states) > _MAX_LEGS:
                        del self._states[next(iter(self._states))]
                case SubscriptionFailed():
                    self._refused[event.error.symbol, event.error.channel] = event
                case TrustChanged():
                    self._stale[event.symbol] = event
                case DecodeFailed() | SnapshotFailed():
                    pass  # a Gap stands for what is missing, after the one and before the other
                case Gap():
                    self._merge(event)
                case _:
                    self._merge(
                        Gap(
                            symbol=event.symbol,
                            reason=reason,
                            from_sequence=event.sequence,
                            to_sequence=event.sequence,
                            from_ns=event.recv_ns,
                            to_ns=event.recv_ns,
                            missing=1,
                            recv_ns=event.recv_ns,
                            venue=event.venue,
                            epoch=event.epoch,
                            of_book=isinstance(event, BookSnapshot | BookDelta),
                            leg=None,
                        )
                    )

    def take(self) -> list[Event]:
        """All of it, as events; then it is empty."""
        events: list[Event] = [
            *self._gaps.values(),
            *self._refused.values(),
            *self._stale.values(),
            *self._states.values(),
        ]
        self._gaps = {}
        self._refused = {}
        self._stale = {}
        self._states = {}
        return events

    def _merge(self, gap: Gap) -> None:
        # The numbers of a symbol's book are not those of its other data.
        key = gap.symbol, gap.reason, gap.of_book, gap.leg if gap.symbol is None else None
        if key not in self._gaps and len(self._gaps) >= _MAX_GAPS:
            key = None, gap.reason, gap.of_book, None
            gap = evolve(gap, symbol=None, from_sequence=None, to_sequence=None, leg=None)
        known = self._gaps.get(key)
        if known is None:
            self._gaps[key] = gap
            return
        self._gaps[key] = evolve(
            gap,
            from_sequence=_both(min, known.from_sequence, gap.from_sequence),
            to_sequence=_both(max, known.to_sequence, gap.to_sequence),
            from_ns=_both(min, known.from_ns, gap.from_ns),
            to_ns=_both(max, known.to_ns, gap.to_ns),
            missing=None
            if known.missing is None or gap.missing is None
            else known.missing + gap.missing,
        )


def _both(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    """A bound of two ranges together: unknown if either is."""
    return None if a is None or b is None else choose(a, b)
