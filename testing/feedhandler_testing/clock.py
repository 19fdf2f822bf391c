"""A wall clock that runs on trio's."""

from __future__ import annotations

import trio

__all__ = ["VirtualClock"]


class VirtualClock:
    """A `feedhandler.abc.Clock` that is `epoch_ns` at trio's time 0 and moves with trio's clock.

    Under `autojump_clock`, whose time starts at 0, stamps are therefore a function of the run.
    """

    def __init__(self, epoch_ns: int = 1_700_000_000_000_000_000) -> None:
        self.epoch_ns = epoch_ns

    def time_ns(self) -> int:
        return self.epoch_ns + round(trio.current_time() * 1e9)
