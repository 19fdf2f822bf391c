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


@define
class Losses:
    """A `Gap` for each symbol or book, and reason, the newest state, the refused subscriptions,
    the books that went stale.

    They stand for events that are older than everything that still waits. Memory is bounded: past
    4,096 gaps the rest is merged into gaps without a symbol.
    """

    _gaps: dict[tuple[str | None, GapReason, bool], Gap] = field(factory=dict)
    _state: FeedStateChanged | None = None
    _refused: dict[tuple[str | None, str | None], SubscriptionFailed] = field(factory=dict)
    _stale: dict[str, TrustChanged] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._gaps or self._state or self._refused or self._stale)

    def add(self, events: Sequence[Event], reason: GapReason) -> None:
        """Account for `events`, which were dropped, oldest first, for `reason`."""
        for event in events:
            match event:
                case FeedStateChanged():
                    self._state = event
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
                        )
                    )

    def take(self) -> list[Event]:
        """All of it, as events; then it is empty."""
        events: list[Event] = [
            *self._gaps.values(), *self._refused.values(), *self._stale.values()
        ]  # fmt: skip
        if self._state is not None:
            events.append(self._state)
        self._gaps = {}
        self._refused = {}
        self._stale = {}
        self._state = None
        return events

    def _merge(self, gap: Gap) -> None:
        # The numbers of a symbol's book are not those of its other data.
        key = gap.symbol, gap.reason, gap.of_book
        if key not in self._gaps and len(self._gaps) >= _MAX_GAPS:
            key = None, gap.reason, gap.of_book
            gap = evolve(gap, symbol=None, from_sequence=None, to_sequence=None)
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
