"""Times as venues write them, from integer nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso_time"]


def iso_time(time_ns: int, *, digits: int = 6) -> str:
    """RFC 3339 in UTC with `digits` of the second's fraction: ``2026-08-09T21:05:48.170326Z``."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:09d}"[: 20 + digits].rstrip(".") + "Z"
