"""Wall clocks that run on trio's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from feedhandler_testing.board import FaultBoard

__all__ = ["EPOCH_NS", "FaultyClock", "VirtualClock"]

_KEPT = 65_536  # of the times that were told wrong

EPOCH_NS = 1_700_000_000_000_000_000
"""Where virtual wall clocks begin: the 14th of November 2023."""


class VirtualClock:
    """A `feedhandler.abc.Clock` that is `epoch_ns` at trio's time 0 and moves with trio's clock.

    Under `autojump_clock`, whose time starts at 0, stamps are therefore a function of the run.
    """

    def __init__(self, epoch_ns: int = EPOCH_NS) -> None:
        self.epoch_ns = epoch_ns

    def time_ns(self) -> int:
        return self.epoch_ns + round(trio.current_time() * 1e9)


class FaultyClock:
    """A wall clock for a server's clients, which begins with the server, and which faults shift."""

    def __init__(self, board: FaultBoard) -> None:
        self._board = board
        self._shifted: dict[int, int] = {}

    def time_ns(self) -> int:
        true = self.true_time_ns()
        shift = round(self._board.shift_s() * 1e9) if self._board.has("shift_s") else 0
        if shift and len(self._shifted) < _KEPT:
            self._shifted[true + shift] = true
        return true + shift

    def true_of(self, told_ns: int) -> int:
        """What the time was when `time_ns()` told this one."""
        return self._shifted.get(told_ns, told_ns)

    def true_time_ns(self) -> int:
        """What it would be without faults; the venue's own clock."""
        return EPOCH_NS + round(self._board.world.now() * 1e9)
