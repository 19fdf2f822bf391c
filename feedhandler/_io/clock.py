"""The machine's wall clock."""

from __future__ import annotations

import time

__all__ = ["SystemClock"]


class SystemClock:
    """`time.time_ns()` behind the `Clock` seam; it can jump when the machine's clock is set."""

    def time_ns(self) -> int:
        return time.time_ns()
