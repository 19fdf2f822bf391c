"""What a report draws: the records of a run as spans, marks and bins, bounded in number."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from feedhandler_testing import trace
from feedhandler_testing.outcome import Outcome
from feedhandler_testing.trace import (
    Delivered,
    Failed,
    Fired,
    Happened,
    Lost,
    Malformed,
    Moved,
    Placed,
    Record,
    Refused,
    Removed,
    Sent,
    Stepped,
)

__all__ = ["RECORDS", "chart_of", "choose", "fault_rows", "kinds_of", "number", "schema", "told"]

RECORDS = 20_000
"""How many records a report holds at most, one by one."""

_BINS = 12_000  # 7 s each in a day: a screen has some 1,400 columns
_SPANS = 4_000
_MARKS = 4_000
_EXACT = 2**53  # beyond it, JavaScript's numbers are not exact

Span = tuple[float, float, str, str]  # from, to, class, text
Mark = tuple[float, int, str]  # at, how many, text


def number(value: float) -> float | int:
    """A time as JSON: microseconds, and no needless digits."""
    rounded = round(float(value), 6)
    return int(rounded) if rounded.is_integer() else rounded


def told(value: object) -> str | int:
    """A field's value as JSON, reading as it does in the trace's lines."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _EXACT:
        return value
    return str(trace._told(value))


def kinds_of(kept: Iterable[Record]) -> list[type[Record]]:
    """The kinds of record: those of the trace, and then those that a subject has of its own."""
    names = [name for name in trace.__all__ if name not in ("Record", "Trace")]
    known = [getattr(trace, name) for name in names if isinstance(getattr(trace, name), type)]
    own = {type(record) for record in kept} - set(known)
    return [*known, *sorted(own, key=lambda kind: (kind.__module__, kind.__qualname__))]


def schema(kinds: Iterable[type[Record]]) -> list[tuple[str, list[str]]]:
    """Each kind of row with the names of its fields."""
    rows = [(kind.__name__.lower(), [one.name for one in attrs.fields(kind)[1:]]) for kind in kinds]
    return [*rows, ("left out", ["until", "records"]), ("violation", ["rule", "message"])]


def chart_of(outcome: Outcome, kept: Sequence[Record]) -> dict[str, Any]:
    """Everything that is drawn, from all records."""
    ends = max([outcome.virtual_s, *(r.at_s for r in kept[-1:])])
    ends = max([ends, *(one.at_s for one in outcome.violations)]) or 1.0
    moves = [r for r in kept if isinstance(r, Moved)]
    return {
        "end": number(ends),
        "steps": _json(_bounded(_steps(kept, ends), ends)),
        "states": _json(_bounded(_states(kept, ends), ends)),
        "breaker": _json(_bounded(_waits(moves, ends, breaker=True), ends)),
        "waits": _json(_bounded(_waits(moves, ends, breaker=False), ends)),
        "faults": _faults(kept, ends),
        "messages": _messages(kept, ends),
        "gaps": _json(_thin(((r.at_s, _gap(r)) for r in kept if isinstance(r, Lost)), ends)),
        "errors": _json(_thin(_errors(kept), ends)),
        "violations": _json(
            _thin(((v.at_s, f"{v.rule}: {v.message}") for v in outcome.violations), ends)
        ),
    }


def _json(items: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [[number(x) if isinstance(x, float) else x for x in item] for item in items]


# --- spans ---------------------------------------------------------------------------------------


def _steps(kept: Sequence[Record], ends: float) -> Iterator[Span]:
    steps = [r for r in kept if isinstance(r, Stepped)]
    for number_, (one, after) in enumerate(zip(steps, [*steps[1:], None], strict=False)):
        until = ends if after is None else after.at_s
        yield one.at_s, until, "odd" if number_ % 2 else "even", one.step


def _states(kept: Sequence[Record], ends: float) -> Iterator[Span]:
    """What the subject says of its state, until the run sees that it is closed."""
    first = next((r.old for r in kept if isinstance(r, Moved)), "disconnected")
    at, state, why = 0.0, first, ""
    for record in kept:
        match record:
            case Moved():
                since, new, reason = max(_since(record), at), record.new, _why(record)
            case Stepped(step="the subject is closed"):
                since, new, reason = record.at_s, "closed", ""
            case _:
                continue
        yield at, since, state, f"{state}{why}"
        at, state, why = since, new, reason
    yield at, ends, state, f"{state}{why}"


def _since(move: Moved) -> float:
    """When it was, which is before it was told where the consumer is slow."""
    return move.since_s or move.at_s


def _why(move: Moved) -> str:
    words = f": {move.failure}" if move.failure else ""
    words += f" ({move.error})" if move.error else ""
    words += f", failure {move.attempt}" if move.failure and move.attempt else ""
    return words + (f", epoch {move.epoch}" if move.new == "connected" else "")


def _waits(moves: Sequence[Moved], ends: float, *, breaker: bool) -> Iterator[Span]:
    """The waits before the next attempt; those for which the circuit is open have their own."""
    for move, after in zip(moves, [*moves[1:], None], strict=False):
        if (not move.breaker_open) if breaker else (move.wait_s is None):
            continue
        since = _since(move)
        until = ends if after is None else _since(after)
        if move.wait_s is not None:
            until = min(since + move.wait_s, ends)
        words = "open" if breaker else "waits"
        words += "" if move.wait_s is None else f" {move.wait_s:.3f} s"
        words += f" after {move.failure}, failure {move.attempt}" if move.failure else ""
        if move.retry_after_s is not None:
            words += f"; the venue asked for {move.retry_after_s:g} s"
        if not breaker and move.breaker_open:
            words += "; the circuit is open"
        yield since, until, "open" if breaker else "wait", words


def _bounded(spans: Iterable[Span], ends: float, most: int = _SPANS) -> list[Span]:
    """At most about `most` spans: where there are more, short ones next to each other are one."""
    given = [span for span in spans if span[1] > span[0] or span[2] == "open"]
    if len(given) <= most:
        return given
    result: list[Span] = []
    pool: list[Span] = []

    def flush() -> None:
        if len(pool) > 1:
            counts = Counter(span[2] for span in pool)
            words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            longest = max(counts, key=lambda kind: sum(s[1] - s[0] for s in pool if s[2] == kind))
            text = f"{len(pool)} in quick turn: {words}"
            result.append((pool[0][0], pool[-1][1], f"many {longest}", text))
        else:
            result.extend(pool)
        pool.clear()

    for span in given:
        if pool and span[1] - pool[0][0] > ends / most:
            flush()
        pool.append(span)
    flush()
    return result


# --- faults --------------------------------------------------------------------------------------


def _faults(kept: Sequence[Record], ends: float) -> list[dict[str, Any]]:
    """A row for each kind of fault: when one was in place, and when it acted."""
    spans: dict[str, list[Span]] = defaultdict(list)
    acts: dict[str, list[tuple[float, str]]] = defaultdict(list)
    placed: dict[str, float] = {}
    for record in kept:
        match record:
            case Placed():
                placed[record.fault] = record.at_s
                spans[_kind(record.fault)] += ()
            case Fired():
                acts[_kind(record.fault)].append(
                    (record.at_s, f"{record.fault} acts on attempt {record.attempt}")
                )
            case Removed():
                at = placed.pop(record.fault, 0.0)
                spans[_kind(record.fault)].append((at, record.at_s, "in-place", record.fault))
    for fault, at in placed.items():
        spans[_kind(fault)].append((at, ends, "in-place", fault))
    most = max(_MARKS * 4 // max(len(spans), 1), 50)
    return [
        {
            "kind": kind,
            "spans": _json(_bounded(sorted(spans[kind]), ends, most)),
            "marks": _json(_thin(acts[kind], ends, most)),
        }
        for kind in dict.fromkeys([*spans, *acts])
    ]


def _kind(fault: str) -> str:
    return fault.rpartition("-")[0] or fault


def fault_rows(kept: Sequence[Record]) -> list[list[str]]:
    """Each fault: its name, from, to, how often it acted, first and last."""
    rows: dict[str, list[str]] = {}
    acts: Counter[str] = Counter()
    for record in kept:
        match record:
            case Placed():
                rows[record.fault] = [record.fault, f"{record.at_s:,.3f}", "-", "0", "-", "-"]
            case Fired():
                row = rows.setdefault(record.fault, [record.fault, "-", "-", "0", "-", "-"])
                acts[record.fault] += 1
                row[3] = f"{acts[record.fault]:,}"
                row[5] = f"{record.at_s:,.3f}"
                if acts[record.fault] == 1:
                    row[4] = row[5]
            case Removed(fault=fault) if fault in rows:
                rows[fault][2] = f"{record.at_s:,.3f}"
    return list(rows.values())


# --- marks ---------------------------------------------------------------------------------------


def _gap(record: Lost) -> str:
    words = f"gap in {record.symbol or 'all symbols'}: {record.reason}"
    if record.first is not None:
        last = "?" if record.last is None else record.last
        words += f", #{record.first}" + ("" if last == record.first else f" to #{last}")
    return words + ("" if record.missing is None else f", {record.missing} missing")


def _errors(kept: Iterable[Record]) -> Iterator[tuple[float, str]]:
    for record in kept:
        match record:
            case Malformed():
                yield record.at_s, f"decode error at {record.path}"
            case Refused():
                yield record.at_s, f"subscription refused: {record.symbol or 'all symbols'}"
            case Failed():
                yield record.at_s, f"gave up: {record.kind}: {record.message}"


def _thin(events: Iterable[tuple[float, str]], ends: float, most: int = _MARKS) -> list[Mark]:
    """A mark for each event, or, where there are more than `most`, for each bin that has any."""
    given = list(events)
    if len(given) <= most:
        return [(at, 1, text) for at, text in given]
    bins: dict[int, tuple[float, int, str]] = {}
    for at, text in given:
        index = int(at / ends * most)
        first, count, words = bins.get(index, (at, 0, text))
        bins[index] = first, count + 1, words
    return [bins[index] for index in sorted(bins)]


# --- messages ------------------------------------------------------------------------------------


def _messages(kept: Sequence[Record], ends: float) -> dict[str, Any]:
    """How many were delivered, and sent in vain (intact, or kept back or spoiled), in each bin.

    Each series is flat pairs: how many bins further on, and the count.
    """
    arrived = {(r.symbol, r.number) for r in kept if isinstance(r, Delivered)}
    series: dict[str, Counter[int]] = {n: Counter() for n in ("delivered", "lost", "spoilt")}
    width = ends / _BINS
    for record in kept:
        match record:
            case Delivered():
                name = "delivered"
            case Sent() if (record.symbol, record.number) not in arrived:
                name = "lost" if record.intact else "spoilt"
            case _:
                continue
        series[name][min(int(record.at_s / width), _BINS - 1)] += 1
    totals = {name: counts.total() for name, counts in series.items()}
    return {"bins": _BINS, "totals": totals, **{n: _flat(counts) for n, counts in series.items()}}


def _flat(counts: Counter[int]) -> list[int]:
    flat: list[int] = []
    before = 0
    for index in sorted(counts):
        flat += [index - before, counts[index]]
        before = index
    return flat


# --- the choice of records -----------------------------------------------------------------------


def choose(outcome: Outcome, kept: Sequence[Record], most: int) -> set[int]:
    """The indices of the records that a report holds: all, or those of the most interest."""
    if len(kept) <= most:
        return set(range(len(kept)))
    chosen: set[int] = set()
    for tier in _tiers(outcome, kept):
        fresh = sorted(set(tier) - chosen)
        room = most - len(chosen)
        if len(fresh) > room:  # evenly, so that no part of the run is without any
            fresh = [fresh[math.floor(i * len(fresh) / room)] for i in range(room)]
        chosen.update(fresh)
        if len(chosen) >= most:
            return chosen
    for reach in (64, 32, 16):  # what room there is goes to whole stretches around those
        turns = [i for i, r in enumerate(kept) if isinstance(r, _TURNS | _TOLD)]
        wider = chosen.union(_around(turns, reach, reach, len(kept)))
        if len(wider) <= most:
            return wider
    return chosen


_TURNS = Moved | Failed | Stepped | Placed | Removed
_TOLD = Lost | Malformed | Refused


def _tiers(outcome: Outcome, kept: Sequence[Record]) -> Iterator[Iterable[int]]:
    times = {violation.at_s for violation in outcome.violations}
    last = {record.at_s: index for index, record in enumerate(kept) if record.at_s in times}
    yield _around(last.values(), 20, 6, len(kept))
    turns = [i for i, r in enumerate(kept) if isinstance(r, _TURNS)]
    yield turns
    told_of = [i for i, r in enumerate(kept) if isinstance(r, _TOLD)]
    acts: dict[tuple[str, int], int] = {}
    for index, record in enumerate(kept):
        if isinstance(record, Fired):
            acts.setdefault((record.fault, record.attempt), index)
    yield [*told_of, *acts.values()]
    yield _around([*turns, *told_of, *acts.values()], 8, 8, len(kept))
    dull = Sent | Delivered
    yield [
        i for i, r in enumerate(kept)
        if not isinstance(r, dull) and not (isinstance(r, Happened) and r.event == "ping")
    ]  # fmt: skip


def _around(indices: Iterable[int], before: int, after: int, count: int) -> Iterator[int]:
    for index in indices:
        yield from range(max(index - before, 0), min(index + after + 1, count))
