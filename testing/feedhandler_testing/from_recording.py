"""A scenario from a recording: the shape of what went wrong in production, to run again.

What is taken, for each connection in the order in which they were opened:

- how many messages came, and how fast: `Serve`, with the mean interval between two silences;
- a silence of `SILENCE_S` seconds or more that is also 20 times as long as the median interval:
  `Wait`, or, where at its end at least half of what was due in it comes at once, `Stall`; a
  connection on which nothing came is a `Wait` as well;
- messages that are no JSON, where at least half of the connection's are: `BadJson`, `Truncated` or
  `HtmlMessage`;
- holes in a sequence that can be seen: `sequence`, counted for each `symbol` or `product_id`, and
  `sequence_num`. A sequence with holes in more than a fifth of its steps counts other things too,
  and is left alone; so are repeated and late numbers;
- how it ended: `Close(code, reason)`; `Reset()` where the reason says so, or that the stream broke;
  `HoldThenCut` where the recorder gave it up (no pong, no frames); `End()` for every other end,
  but nothing for the recorder's own;
- how long it took until the next connection: `Wait`, or from `SILENCE_S` seconds on one `Refuse()`,
  which stands for all the attempts that failed;
- an end without a beginning is an attempt that failed: `Reject(status)` where its reason names
  ``HTTP status``, else `Refuse()`. ``feedhandler record`` writes none of these.

What is not taken: what the messages say (the mock sends prices of its own, in turn for the symbols
of the recording's header, the first `MOST_SYMBOLS` of them), what was sent to the venue, REST
answers, the sizes of messages, pings and pongs and broken frames, which no recording holds.
Connections that were open at the same time follow one another.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from attrs import define, field, frozen

from feedhandler._core.state import ConnectionEvent
from feedhandler.errors import RecordingError
from feedhandler.recording import Record, read_recording
from feedhandler_testing.checks import at_least
from feedhandler_testing.faults import (
    BadJson,
    Close,
    End,
    Fault,
    HoldThenCut,
    HtmlMessage,
    Refuse,
    Reject,
    Reset,
    SequenceGap,
    Stall,
    Truncated,
)
from feedhandler_testing.scenario import Cut, Expect, Inject, Repair, Scenario, Serve, Step, Wait

__all__ = ["scenario_from_recording"]

SILENCE_S = 5.0  # no shorter pause is a silence, and no reconnect waits longer by itself
LONGEST_S = 600.0  # longer silences say nothing more
MOST_SYMBOLS = 10
_HOLE = 1_000  # of a larger hole no more is kept back
_AT_ONCE = 100_000_000  # ns in which what was held arrives
_GIVE_UP_S = 20.0  # after which the kit's own subject has given a silent connection up
_PATIENCE_S = 900.0  # over what any back-off waits between attempts that keep failing
_OWN_ENDS = frozenset({ConnectionEvent.CLOSE.value, ConnectionEvent.CLOSED.value})
_NEVER_AGAIN = frozenset({401, 403, 407, 451})  # see AuthenticationFailed


def scenario_from_recording(
    recording: str | Path | Iterable[Record], *, seed: int = 0, most_messages: int = 5_000
) -> Scenario:
    """The shape of a recording, as a scenario: see this module for what is taken and what is not.

    `recording` is the path of one, or its records in order; of a truncated one, what there is.
    Of more than `most_messages` messages, all but those that matter are thinned out evenly, at
    their interval, so that the run is shorter by as much.

    Raises `RecordingError`, also where there is nothing to make a scenario of; `OSError` where the
    file can't be read; `ConfigError` for a wrong number. This is file I/O: in a trio program, call
    it through `trio.to_thread.run_sync`.
    """
    _check_most(most_messages)
    if not isinstance(recording, str | Path):
        return _scenario(_seen(recording), (), "recording", seed, most_messages)
    with read_recording(recording) as opened:
        subscribed = opened.header.subscribed.values()
        symbols = tuple(dict.fromkeys(symbol for symbols in subscribed for symbol in symbols))
        name = Path(recording).name
        return _scenario(_seen(opened), symbols, name, seed, most_messages)


@frozen
class _Most:
    most_messages: int = field(validator=at_least(1))


def _check_most(most_messages: int) -> None:
    _Most(most_messages)


# --- what is seen --------------------------------------------------------------------------------


@define
class _Connection:
    """What a recording shows of one connection: times in ns, and what befell which message."""

    opened_at: int | None = None
    closed: Record | None = None
    times: array[int] = field(factory=lambda: array("q"))
    malformed: dict[int, Fault] = field(factory=dict)
    sequences: dict[tuple[str, str], _Sequence] = field(factory=dict)

    def take(self, record: Record) -> None:
        match record.k:
            case "open":
                self.opened_at = record.t
            case "close":
                self.closed = record
            case "recv" if record.payload is not None:
                self._receive(len(self.times), record.payload)
                self.times.append(record.t)
            case _:
                pass

    def _receive(self, number: int, payload: str | bytes) -> None:
        try:
            document = msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            self.malformed[number] = _malformed(payload, str(error))
            return
        except (UnicodeError, RecursionError):
            self.malformed[number] = BadJson()
            return
        if isinstance(document, dict):
            for key, value in _numbers(document):
                self.sequences.setdefault(key, _Sequence()).take(number, value)

    @cached_property
    def spoiled(self) -> dict[int, Fault]:
        """The malformed messages; none where JSON is not what the venue speaks."""
        return self.malformed if len(self.malformed) * 2 <= len(self.times) else {}

    @cached_property
    def holes(self) -> dict[int, int]:
        """How many messages are missing before which."""
        found: dict[int, int] = {}
        for sequence in self.sequences.values():
            if len(sequence.holes) * 5 <= sequence.steps:
                for number, missing in sequence.holes.items():
                    found[number] = found.get(number, 0) + missing
        return {number: min(missing, _HOLE) for number, missing in found.items()}


@define
class _Sequence:
    last: int | None = None
    steps: int = 0
    holes: dict[int, int] = field(factory=dict)

    def take(self, number: int, value: int) -> None:
        if self.last is not None and value > self.last:
            self.steps += 1
            if value > self.last + 1:
                self.holes[number] = value - self.last - 1
        if self.last is None or value > self.last or value <= 1:  # 0 and 1 begin anew
            self.last = value


def _malformed(payload: str | bytes, error: str) -> Fault:
    head = payload[:64].lstrip()
    if head[:1] in ("<", b"<"):
        return HtmlMessage()
    return Truncated() if head and "truncated" in error else BadJson()


def _numbers(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    """The sequence numbers of a message, each with what it counts."""
    for name in ("sequence", "sequence_num"):
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            symbol = document.get("symbol", document.get("product_id"))
            counts = symbol if name == "sequence" and isinstance(symbol, str) else ""
            yield (name, counts), value


def _seen(records: Iterable[Record]) -> list[_Connection]:
    connections: dict[int, _Connection] = {}
    for record in records:
        if record.c is not None:
            connections.setdefault(record.c, _Connection()).take(record)
    return list(connections.values())


# --- what is made of it --------------------------------------------------------------------------


def _scenario(
    connections: list[_Connection], symbols: tuple[str, ...], name: str, seed: int, most: int
) -> Scenario:
    total = sum(len(connection.times) for connection in connections)
    share = min(1.0, most / total) if total else 1.0
    steps: list[Step | Fault] = []
    raises = None
    before: _Connection | None = None
    for connection in connections:
        attempt = _failed_attempt(connection)
        if attempt is not None:
            if _may_meet_attempt(steps):
                steps.append(attempt)
            if isinstance(attempt, Reject) and attempt.status in _NEVER_AGAIN:
                raises = "AuthenticationFailed"  # whatever followed was another's doing
                break
        else:
            away_s = _away_s(before, connection)
            if away_s >= SILENCE_S and _may_meet_attempt(steps):
                steps.append(Refuse())
            elif steps and isinstance(steps[-1], Cut):
                # What follows is for the next connection, not for the one that is ending.
                steps.append(Wait(max(away_s, 0.1)))
            steps += _life(connection, share)
            steps += _end(connection)
        before = connection
    if not steps:
        raise RecordingError(
            f"{name} holds no message and no end of a connection, so there is no scenario in it"
        )
    known: dict[str, Any] = {"symbols": symbols[:MOST_SYMBOLS]} if symbols else {}
    if sum(isinstance(step, Refuse | Reject) for step in steps) > 3:
        known["recover_s"] = _PATIENCE_S
    expect = Expect() if raises is None else Expect(recovers=False, raises=raises)
    return Scenario(seed=seed, steps=steps, name=f"from {name}", expect=expect, **known)


def _failed_attempt(connection: _Connection) -> Fault | None:
    """What a connection met that ended and never began."""
    if connection.closed is None or connection.opened_at is not None or connection.times:
        return None
    status = re.search(r"\bHTTP ([2-5]\d\d)\b", connection.closed.reason or "")
    return Refuse() if status is None else Reject(int(status[1]))


def _may_meet_attempt(steps: list[Step | Fault]) -> bool:
    """Whether, after these steps, the next thing is an attempt to connect."""
    return not steps or isinstance(steps[-1], Cut | Refuse | Reject)


def _away_s(before: _Connection | None, connection: _Connection) -> float:
    if before is None or before.closed is None or connection.opened_at is None:
        return 0.0
    return _length_s(max(connection.opened_at - before.closed.t, 0))


def _life(connection: _Connection, share: float) -> Iterator[Step | Fault]:
    """What came over a connection, up to its end."""
    times = connection.times
    gaps = sorted(after - before for before, after in pairwise(times))
    usual = median(gaps) if gaps else 0.0
    least = max(SILENCE_S * 1e9, 20 * usual)
    mean = sum(gaps) / len(gaps) if gaps else 1e8
    if not times:
        if connection.opened_at is not None and connection.closed is not None:
            # It lived for that long; two ends in a row would meet the same connection.
            yield Wait(max(_length_s(connection.closed.t - connection.opened_at), 0.1))
        return
    if connection.opened_at is not None and times[0] - connection.opened_at >= least:
        yield Wait(_length_s(times[0] - connection.opened_at))
    begin = 0
    for end in range(1, len(times) + 1):
        if end < len(times) and times[end] - times[end - 1] < least:
            continue
        yield from _served(connection, begin, end, share, mean)
        begin = end
        if end == len(times):
            break
        silence = times[end] - times[end - 1]
        held = end
        while held < len(times) and times[held] - times[end] <= _AT_ONCE:
            held += 1
        if held - end < max(10, silence / mean / 2):
            yield Wait(_length_s(silence))
            continue
        # What was held back is sent in the silence, and arrives at its end.
        yield Inject(Stall(pongs=True))
        interval_ns = min(silence, LONGEST_S * 1e9) / _thinned(held - end, share)
        yield from _served(connection, end, held, share, interval_ns, fixed=True)
        yield Repair()
        begin = held
    closed = connection.closed
    if closed is not None and closed.t - times[-1] >= least and not _gave_up(closed):
        yield Wait(_length_s(closed.t - times[-1]))


def _served(
    connection: _Connection, begin: int, end: int, share: float, mean: float, *, fixed: bool = False
) -> Iterator[Step | Fault]:
    """Messages `begin` to `end`, without a silence between them."""
    if begin >= end:
        return
    times = connection.times
    if not fixed and end - begin > 1:
        mean = (times[end - 1] - times[begin]) / (end - begin - 1)
    interval_s = round(mean / 1e9, 6)
    spoiled, holes = connection.spoiled, connection.holes
    plain = special = 0  # messages to serve next: those to thin out, and those that matter
    number = begin
    while number < end:
        missing, fault = holes.get(number), spoiled.get(number)
        if missing is None and fault is None:
            plain += 1
            number += 1
            continue
        # A fault comes right before its message: each Serve waits for a connection, so that the
        # fault finds one even where the subject has reconnected in the meantime.
        yield from _serve(special + _thinned(plain, share), interval_s)
        plain = special = 0
        if missing is not None:
            yield Inject(SequenceGap(missing))
            special += missing
        run = 1
        if fault is not None:
            while number + run < end and spoiled.get(number + run) == fault:
                run += 1
            yield Inject(fault, times=run)
        special += run
        number += run
    yield from _serve(special + _thinned(plain, share), interval_s)


def _serve(count: int, interval_s: float) -> list[Step | Fault]:
    return [Serve(count, interval_s=interval_s)] if count else []


def _thinned(count: int, share: float) -> int:
    return math.ceil(count * share)


def _end(connection: _Connection) -> list[Step | Fault]:
    """How a connection ended, if that was not the recorder's own doing."""
    closed = connection.closed
    if closed is None or (closed.code is None and closed.reason in _OWN_ENDS):
        return []
    reason = closed.reason or ""
    if closed.code == 1005:  # the frame had no code, and 1005 itself may not be sent
        return [Cut(Close(1000, ""))]
    if closed.code is not None and _may_be_sent(closed.code):
        # A control frame has room for 123 bytes beside the code (RFC 6455, section 5.5).
        return [Cut(Close(closed.code, reason.encode()[:123].decode(errors="ignore")))]
    if _gave_up(closed):
        silence = closed.t - (connection.times[-1] if connection.times else closed.t)
        wait_s = max(_length_s(silence), _GIVE_UP_S)
        return [Cut(HoldThenCut(wait_s)), Wait(wait_s)]
    reset = re.search(r"\breset\b|\bthe stream broke\b", reason, re.IGNORECASE)
    return [Cut(Reset() if reset else End())]


def _gave_up(closed: Record) -> bool:
    """Whether the recorder itself gave up a connection on which nothing came."""
    return (
        closed.code is None and re.match(r"no (pong|frames) for ", closed.reason or "") is not None
    )


def _may_be_sent(code: int) -> bool:
    """Whether a Close frame may have this code (RFC 6455, section 7.4, and the registry)."""
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code <= 4999


def _length_s(nanoseconds: int) -> float:
    return round(min(nanoseconds / 1e9, LONGEST_S), 3)
