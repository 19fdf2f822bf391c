"""Whether what came of a run is what was expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from feedhandler_testing.scenario import Expect
from feedhandler_testing.trace import Failed, Lost, Malformed, Moved, Record, Refused

__all__ = ["Seen", "unmet"]


@frozen(kw_only=True)
class Seen:
    """What a run has seen: the subject's records but for its data, and counts of the rest."""

    records: Sequence[Record]
    messages: int
    pongs: int
    connections: int
    close_codes: Sequence[int]
    requests: int
    took_s: float
    lag_s: float | None


def unmet(expect: Expect, seen: Seen) -> Iterator[str]:
    """What was expected and did not come, in words."""
    records = seen.records
    failures = [r.failure for r in records if isinstance(r, Moved) and r.failure]
    if not _contains(failures, expect.failures):
        yield f"failures {list(expect.failures)}, and there were {failures}"
    reasons = {r.reason for r in records if isinstance(r, Lost)}
    if not set(expect.gaps) <= reasons:
        yield f"gaps {list(expect.gaps)}, and there were {sorted(reasons)}"
    if expect.lossless and reasons:
        yield f"no loss, and there were gaps: {sorted(reasons)}"
    for wanted, told, what in (
        (expect.malformed, sum(isinstance(r, Malformed) for r in records), "malformed messages"),
        (expect.refused, sum(isinstance(r, Refused) for r in records), "refusals"),
        (expect.messages, seen.messages, "prices"),
        (expect.pongs, seen.pongs, "pongs"),
        (expect.requests, seen.requests, "requests"),
    ):
        if told < wanted:
            yield f"{wanted} {what}, and there were {told}"
    if expect.connections not in (None, seen.connections):
        yield f"{expect.connections} connections, and there were {seen.connections}"
    if not _contains(seen.close_codes, expect.close_codes):
        yield f"Close {list(expect.close_codes)}, and it sent {list(seen.close_codes)}"
    raised = [r.kind for r in records if isinstance(r, Failed)]
    if (raised[-1] if raised else None) != expect.raises:
        yield f"{expect.raises or 'no error'}, and it raised {raised}"
    if expect.within_s is not None and seen.took_s > expect.within_s:
        yield f"an end within {expect.within_s:g} s, and it took {seen.took_s:.1f} s"
    if expect.lag_s is not None and not (seen.lag_s or 0.0) >= expect.lag_s:
        yield f"a lag of {expect.lag_s:g} s, and it told {seen.lag_s} s"
    waits = [r.wait_s for r in records if isinstance(r, Moved) and r.wait_s is not None]
    if expect.wait_s and (waits or [0.0])[0] < expect.wait_s - 0.001:
        yield f"a wait of {expect.wait_s:g} s, and it waits {waits[:1]}"


def _contains(told: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether `wanted` are among `told`, in order."""
    remaining = iter(told)
    return all(any(one == item for item in remaining) for one in wanted)
