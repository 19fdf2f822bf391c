"""A day in the life of a feed: 24 hours, half a million messages, forced cuts and maintenance."""

from __future__ import annotations

from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.faults import (
    BadJson,
    Close,
    End,
    Fault,
    Notice,
    Refuse,
    Reject,
    Reset,
    SequenceGap,
    Stall,
)
from feedhandler_testing.scenario import Cut, Expect, Inject, Scenario, Serve, Step
from feedhandler_testing.triggers import Messages

__all__ = ["VIRTUAL_DAY"]

_HOURLY = 20_834  # messages; one each 0.1728 s makes a day of 500,000


def _hours() -> list[Step | Fault]:
    steps: list[Step | Fault] = []
    for hour in range(24):
        match hour % 6:
            case 0:
                steps.append(Inject(SequenceGap(3), Messages(1_000), times=3))
            case 1:
                steps.append(Inject(BadJson(), Messages(5_000), times=5))
            case 2:
                steps.append(Inject(Stall(), Messages(9_000), for_s=60.0))
        steps.append(Serve(_HOURLY, interval_s=0.1728))
        match hour % 6:
            case 0:
                steps.append(Cut(Reset()))
            case 1:
                steps += [Cut(Close(1012, "maintenance")), Refuse(), Reject(503)]
            case 2:
                steps.append(Cut(End()))
            case 3:
                steps += [Cut(Close(1001, "24 hours")), Reject(429, retry_after_s=30)]
            case 4:
                steps.append(Cut(Notice("maintenance")))
    return steps


VIRTUAL_DAY = Entry(
    0,
    "a whole day: forced cuts, maintenance, half a million messages",
    "all rules kept, all day",
    Scenario(
        name="virtual-day", steps=_hours(), recover_s=900.0,
        expect=Expect(
            failures=["reset", "maintenance", "refused", "rejected", "peer_closed", "rate_limited"],
            gaps=["reconnect", "sequence", "malformed"],
        ),
    ),
)  # fmt: skip
"""Not in the catalogue: it takes a minute or two."""
