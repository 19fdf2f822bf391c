"""The rules that every run is held to: a specification of a feed handler that can be trusted.

Each rule is a class with one sentence of law. It reads the records of a run one by one (`see`) and
at the end (`end`), and yields what breaks the law, in words. A rule knows nothing of how a handler
works: only what the mock saw, and what the handler said.

*Safety, at every step:* `LegalTransitions`, `NothingInvented`, `NothingTwice`, `InOrder`,
`TrueStamps`, `LossAnnounced`, `NoFalseAlarm`, `BooksTrue`, `OneConnection`,
`PacedSubscriptions`, `PatientBackoff`, `PatientBreaker`, `WithinBounds`. *Liveness, after the
faults end,* and *nothing left at the end* need the run itself and are in
`feedhandler_testing.run`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import takewhile
from typing import ClassVar

from attrs import define, field, frozen

from feedhandler import TRANSITIONS, BreakerConfig
from feedhandler.errors import FailureKind
from feedhandler_testing.faults.base import Layer
from feedhandler_testing.subject import Contract
from feedhandler_testing.trace import (
    BookTold,
    Delivered,
    Fired,
    Gauged,
    Happened,
    Lost,
    Made,
    Malformed,
    Moved,
    Record,
    Refused,
    Removed,
    Requested,
    Sent,
)

__all__ = ["RULES", "Rule", "Violation", "rules_for"]

_SLACK_S = 1e-6  # that floats are allowed to differ by


@frozen
class Violation:
    """A rule was broken, `at_s` seconds after the run began."""

    rule: str
    at_s: float
    message: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.at_s:.6f} s: {self.message}"


@define
class Rule:
    """Base of all rules; `reads` names the kinds of records that it sees."""

    reads: ClassVar[tuple[type[Record], ...]] = ()
    contract: Contract = field(factory=Contract)

    def see(self, record: Record) -> Iterable[str]:
        """Take in the next record; yield what is wrong."""
        return ()

    def end(self) -> Iterable[str]:
        """There are no more; yield what is wrong with the whole."""
        return ()


# --- states --------------------------------------------------------------------------------------


@define
class LegalTransitions(Rule):
    """A connection's state changes only along the table of transitions, and from where it is."""

    reads: ClassVar[tuple[type[Record], ...]] = (Moved,)
    _state: str = "disconnected"

    def see(self, record: Record) -> Iterator[str]:
        if not isinstance(record, Moved):
            return
        # Where events are dropped, of several transitions the newest alone may be told.
        if record.old != self._state and not self.contract.drops_events:
            yield f"left {record.old}, and was {self._state}"
        if (record.old, record.new) not in _LEGAL:
            yield f"{record.old} -> {record.new} is not in the table"
        self._state = record.new


_LEGAL = frozenset((old.value, new.value) for (old, _), new in TRANSITIONS.items())


# --- data ----------------------------------------------------------------------------------------


@define
class _Taint:
    """What was received on a connection whose bytes a fault has changed as no receiver can see:
    from then to its end nobody could know."""

    attempts: set[int] = field(factory=set)
    until_s: float = -1.0

    def see(self, record: Record) -> None:
        match record:
            case Fired(taints=True):
                self.attempts.add(record.attempt)
            case Happened(event="closed") if record.attempt in self.attempts:
                self.attempts.discard(record.attempt)
                self.until_s = record.at_s

    def covers(self, record: Delivered, began_ns: int | None) -> bool:
        if self.attempts:
            return True
        known = record.recv_ns is not None and began_ns is not None
        received_s = (record.recv_ns - began_ns) / 1e9 if known else record.at_s  # type: ignore[operator]  # known
        return received_s <= self.until_s + _SLACK_S


@define
class _Repeated:
    """What was sent again, or after what follows it: where a venue's trades have no numbers that
    tell, nobody could know."""

    _highest: dict[tuple[str, int], int] = field(factory=dict)
    _numbers: set[tuple[str, int]] = field(factory=set)

    def see(self, record: Sent) -> None:
        line = record.symbol, record.attempt
        if record.number <= self._highest.get(line, -1):
            self._numbers.add((record.symbol, record.number))
        else:
            self._highest[line] = record.number

    def covers(self, record: Delivered) -> bool:
        return (record.symbol, record.number) in self._numbers


@define
class NothingInvented(Rule):
    """What is published was sent, intact, with the same digits, side and time.

    Where a fault has changed bytes in a way that no receiver can see, from that moment to the end
    of the connection, nobody could know.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Fired, Happened, Delivered)
    _sent: dict[tuple[str, int], set[tuple[str, str, str, int]]] = field(factory=dict)
    _newest: dict[str, int] = field(factory=dict)
    _taint: _Taint = field(factory=_Taint)

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Sent(intact=True):
                known = self._sent.setdefault((record.symbol, record.number), set())
                known.add((record.price, record.size, record.side, record.time_ns))
            case Fired() | Happened():
                self._taint.see(record)
            case Delivered() if self._taint.covers(record, self.contract.began_ns):
                pass
            case Delivered() if record.number > self._newest.get(record.symbol, -1):
                # (Others come twice or late: that is against other rules.)
                self._newest[record.symbol] = record.number
                told = (record.price, record.size, record.side, record.time_ns)
                known = self._sent.pop((record.symbol, record.number), set())
                if told not in known:
                    was = f", which was sent as {sorted(known)}" if known else ", never sent intact"
                    yield f"published {record.symbol} #{record.number} as {told}{was}"


@define
class NothingTwice(Rule):
    """No message is published twice (but for what was received on a tainted connection, or came
    twice from a venue that gives nothing to tell it by)."""

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Delivered, Fired, Happened)
    _seen: dict[str, set[int]] = field(factory=dict)
    _repeated: _Repeated = field(factory=lambda: _Repeated())
    _taint: _Taint = field(factory=_Taint)

    def see(self, record: Record) -> Iterator[str]:
        self._taint.see(record)
        if isinstance(record, Sent) and not self.contract.means.numbered_trades:
            self._repeated.see(record)
        if isinstance(record, Delivered) and not self._taint.covers(record, self.contract.began_ns):
            seen = self._seen.setdefault(record.symbol, set())
            if record.number in seen and not self._repeated.covers(record):
                yield f"published {record.symbol} #{record.number} again"
            seen.add(record.number)


@define
class InOrder(Rule):
    """The messages of a symbol are published in the order of their sequence, and a gap stands
    where its messages would have been (but for what was received on a tainted connection, or came
    out of order from a venue that gives nothing to tell it by)."""

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Delivered, Lost, Fired, Happened)
    _last: dict[str, int] = field(factory=dict)
    _lost_to: dict[str, int] = field(factory=dict)
    _taint: _Taint = field(factory=_Taint)
    _ever_tainted: bool = False
    _repeated: _Repeated = field(factory=lambda: _Repeated())

    def see(self, record: Record) -> Iterator[str]:
        self._taint.see(record)
        match record:
            case Sent() if not self.contract.means.numbered_trades:
                self._repeated.see(record)
            case Delivered() if self._repeated.covers(record):
                pass
            case Fired(taints=True):
                self._ever_tainted = True  # a gap may have been told for a number that was changed
                self._lost_to.clear()
            case Lost(symbol=str(lost), last=int(to), of_book=False) if not self._ever_tainted:
                if not self.contract.means.per_connection:
                    self._lost_to[lost] = max(to, self._lost_to.get(lost, 0))
            case Delivered() if not self._taint.covers(record, self.contract.began_ns):
                yield from self._published(record.symbol, record.number)

    def _published(self, symbol: str, number: int) -> Iterator[str]:
        last = self._last.get(symbol)
        if last is not None and number < last:
            yield f"published {symbol} #{number} after #{last}"
        self._last[symbol] = number
        lost_to = self._lost_to.get(symbol)
        if lost_to is not None and number <= lost_to:
            yield f"published {symbol} #{number} after the gap that reaches to #{lost_to}"


@define
class TrueStamps(Rule):
    """A price's receive time lies between its sending and its publishing, unless a fault has set
    the clock."""

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Fired, Removed, Happened, Delivered)
    _sent_s: dict[tuple[str, int], float] = field(factory=dict)
    _shifting: set[str] = field(factory=set)
    _shifted_to_s: float = -1.0
    _taint: _Taint = field(factory=_Taint)

    def see(self, record: Record) -> Iterator[str]:
        self._taint.see(record)
        match record:
            case Sent():
                self._sent_s.setdefault((record.symbol, record.number), record.at_s)
            case Fired() if record.layer == Layer.CLOCK.value:
                self._shifting.add(record.fault)
            case Removed() if record.fault in self._shifting:
                self._shifting.discard(record.fault)
                self._shifted_to_s = record.at_s
            case Delivered(recv_ns=int(recv_ns)):
                began_ns = self.contract.began_ns
                sent_s = self._sent_s.pop((record.symbol, record.number), 0.0)
                if began_ns is None or self._shifting or sent_s <= self._shifted_to_s:
                    return
                received_s = (recv_ns - began_ns) / 1e9
                timely = sent_s - 0.001 <= received_s <= record.at_s + 0.001
                if not timely and not self._taint.covers(record, began_ns):
                    yield (
                        f"{record.symbol} #{record.number} was sent at {sent_s:.6f} s, and says "
                        f"that it was received at {received_s:.6f} s"
                    )


@define
class LossAnnounced(Rule):
    """Every message that was sent and not published lies inside a gap that was announced before
    the next one of its symbol was published.

    Before the first message of a symbol, only what was sent intact counts, because a subscription
    begins where it begins, and it may be announced once it comes, too late. What was kept back or
    spoiled afterwards counts as lost as well.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Lost, Delivered)
    _pending: dict[str, dict[int, bool]] = field(factory=dict)  # intact or not, by number
    _gaps: dict[str, list[tuple[int, float]]] = field(factory=dict)
    _begun: set[str] = field(factory=set)
    _published: dict[str, int] = field(factory=dict)
    _owed: set[tuple[str, int]] = field(factory=set)

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Sent():
                # Where trades have no numbers that tell, what was kept back can't be missed.
                seen = record.intact or self.contract.means.numbered_trades
                if seen and record.number > self._published.get(record.symbol, 0):
                    pending = self._pending.setdefault(record.symbol, {})
                    pending[record.number] = pending.get(record.number, False) or record.intact
            case Lost(of_book=False):
                symbols = [record.symbol] if record.symbol is not None else list(self._pending)
                # The numbers of a connection's messages are not those of a symbol.
                known = not self.contract.means.per_connection
                first = record.first if known and record.first is not None else -1
                last = record.last if known and record.last is not None else float("inf")
                for symbol in symbols:
                    self._gaps.setdefault(symbol, []).append((first, last))
                    owed = [n for s, n in self._owed if s == symbol]
                    for number in owed:
                        if first <= number <= last or record.reason == "reconnect":
                            self._owed.discard((symbol, number))
            case Delivered():
                yield from self._publish(record)

    def _publish(self, record: Delivered) -> Iterator[str]:
        symbol, number = record.symbol, record.number
        pending = self._pending.get(symbol, {})
        gaps = self._gaps.get(symbol, [])
        begun = symbol in self._begun
        if self.contract.means.numbered_trades:
            before = [n for n in pending if n < number]
        else:  # in the order in which they were sent
            before = [*takewhile(lambda n: n != number, pending)] if number in pending else []
        for lost in before:
            intact = pending.pop(lost)
            if any(first <= lost <= last for first, last in gaps):
                continue
            if begun:
                yield self._told(symbol, lost)
            elif intact:
                self._owed.add((symbol, lost))
        pending.pop(number, None)
        # An open end reaches as far as the next message that is published.
        if gaps:
            self._gaps[symbol] = [gap for gap in gaps if number < gap[1] < float("inf")]
        self._begun.add(symbol)
        self._published[symbol] = max(number, self._published.get(symbol, 0))

    def end(self) -> Iterator[str]:
        for symbol, number in sorted(self._owed):
            yield self._told(symbol, number)

    def _told(self, symbol: str, number: int) -> str:
        return f"{symbol} #{number} was sent, not published, and no gap was announced for it"


@define
class NoFalseAlarm(Rule):
    """A hole in a sequence is announced only where a connection has left one, and a message is
    called malformed only where one may have been.

    An alarm that cries for nothing costs a resync, and soon nobody listens to it.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Sent, Fired, Moved, Malformed, Lost)
    _on: dict[tuple[str, int], set[int]] = field(factory=dict)  # attempts, for each intact message
    _in_order: dict[tuple[str, int], set[int]] = field(factory=dict)
    _highest: dict[tuple[str, int], int] = field(factory=dict)
    _lowest: dict[tuple[str, int], int] = field(factory=dict)
    _tainted: bool = False
    _spoiled: bool = False
    _rolled_over: bool = False

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Sent():
                self._note(record)
            case Fired():
                self._tainted |= record.taints
                self._spoiled |= record.layer not in _SPARING
            case Moved(old="connected", new="connected"):
                self._rolled_over = True  # a hole can begin on one and end on the other
            case Malformed() if not (self._spoiled or self._tainted):
                yield f"called a message malformed ({record.path}), and all were sent intact"
            case Lost(reason="sequence", of_book=False) if not self._tainted:
                if not self.contract.means.per_connection:
                    yield from self._judge(record)

    def _note(self, record: Sent) -> None:
        if not record.intact:
            self._spoiled = True
            return
        message, line = (record.symbol, record.number), (record.symbol, record.attempt)
        self._on.setdefault(message, set()).add(record.attempt)
        if record.number > self._highest.get(line, -1):
            self._highest[line] = record.number
            self._in_order.setdefault(message, set()).add(record.attempt)
        self._lowest[line] = min(record.number, self._lowest.get(line, record.number))

    def _judge(self, record: Lost) -> Iterator[str]:
        symbol, first, last = record.symbol, record.first, record.last
        if symbol is None or first is None or last is None:
            return
        if record.missing != last - first + 1:
            return  # several, merged into one
        shown_by = self._on.get((symbol, last + 1), set())
        numbers = range(first, last + 1)
        for attempt in shown_by:
            begun = self._rolled_over or self._lowest[symbol, attempt] <= first
            if begun and any(attempt not in self._in_order.get((symbol, n), ()) for n in numbers):
                return
        yield f"announced a hole in {symbol}, #{first} to #{last}, and no connection left one"


_AGING = ("stale_snapshot-", "rest_stale-")
# The layers whose faults make no message malformed.
_SPARING = frozenset({Layer.CONNECTING.value, Layer.BYTES.value, Layer.CLOCK.value})


@define
class BooksTrue(Rule):
    """A book that is told to be verified, or to have nothing to verify, is the venue's own at that
    number, in the ten best levels of each side, and no delta is added across a hole.

    Where the venue gives nothing to check, no book is told to be verified, and what a fault has
    done to one can't be told; nor that a snapshot is too old, where it does not say what it is of.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Made, BookTold, Fired)
    _made: dict[tuple[str, int], int] = field(factory=dict)
    _books: dict[str, tuple[dict[str, str], dict[str, str]]] = field(factory=dict)
    _last: dict[str, int] = field(factory=dict)
    _fresh: set[str] = field(factory=set)  # books of which the last that came was a snapshot
    _tainted: bool = False
    _known: set[str] = field(factory=set)

    def see(self, record: Record) -> Iterator[str]:
        verifiable = self.contract.means.verifiable_books
        match record:
            case Made():
                self._made[record.symbol, record.number] = record.checksum
                self._known.add(record.symbol)
            case Fired(taints=True):
                self._tainted = True
            case Fired(layer=layer) if not verifiable and layer not in _SPARING:
                self._tainted = True
            case Fired(fault=name) if name.startswith(_AGING):
                self._tainted |= not self.contract.means.dated_snapshots
            case BookTold(trust="verified") if not verifiable:
                yield f"{record.symbol} book is told to be verified, and nothing verifies it"
            case BookTold(number=int(number)):
                yield from self._told(record, number)
            case BookTold(trust="verified" | "unverifiable") if record.symbol in self._known:
                if not self._tainted and self.contract.means.exact_snapshots:
                    yield f"{record.symbol} book is told {record.trust}, and never was the venue's"

    def _repeats(self, symbol: str, number: int) -> bool:
        """Whether it is the delta that the snapshot before it has, at a venue that wants it so."""
        repeats = self.contract.means.repeats_last
        return repeats and symbol in self._fresh and number == self._last.get(symbol)

    def _told(self, record: BookTold, number: int) -> Iterator[str]:
        symbol = record.symbol
        trusted = record.trust in ("verified", "unverifiable")
        if record.whole:
            self._books[symbol] = {}, {}
            self._fresh.add(symbol)
        elif (
            trusted
            and (self.contract.means.verifiable_books or not self._tainted)
            and number != self._last.get(symbol, number - 1) + 1
            and not self._repeats(symbol, number)
            and self.contract.means.numbered_books
        ):
            yield f"{symbol} delta #{number} follows #{self._last.get(symbol)}"
        if not record.whole:
            self._fresh.discard(symbol)
        sides = self._books.setdefault(symbol, ({}, {}))
        for side, levels in zip(sides, (record.bids, record.asks), strict=True):
            for price, size in (level.split(":") for level in levels):
                if Decimal(size):
                    side[price] = size
                else:
                    side.pop(price, None)
        if trusted:
            self._last[symbol] = number
            known = self._made.get((symbol, number))
            judged = not self._tainted and self.contract.means.exact_snapshots
            if known is not None and known != _checksum(sides) and judged:
                yield f"{symbol} book at #{number} is told {record.trust}, and is not the venue's"


def _checksum(sides: tuple[dict[str, str], dict[str, str]]) -> int:
    bids, asks = (sorted(side, key=Decimal) for side in sides)
    best = [*((p, sides[0][p]) for p in bids[::-1][:10]), *((p, sides[1][p]) for p in asks[:10])]
    return zlib.crc32("|".join(f"{price}:{size}" for price, size in best).encode())


# --- the network ---------------------------------------------------------------------------------


@define
class OneConnection(Rule):
    """One connection is open at a time; in a planned roll-over, as many as the contract allows."""

    reads: ClassVar[tuple[type[Record], ...]] = (Gauged, Fired, Moved)
    _asked_at: float = float("inf")

    def see(self, record: Record) -> Iterator[str]:
        match record:
            case Fired(fault=name) if name.startswith("notice-"):
                self._asked_at = record.at_s
            case Moved(new="reconnecting") | Moved(old="connected", new="connected", failure=None):
                # A slow consumer may be told of an earlier one after the venue has asked again.
                if record.since_s > self._asked_at:
                    self._asked_at = float("inf")
            case Gauged(name="open streams"):
                planned = self._asked_at <= record.at_s or self.contract.rolls_over_by_itself
                if record.value > (self.contract.connections if planned else 1):
                    yield f"{record.value:.0f} connections are open at once"


@define
class PacedSubscriptions(Rule):
    """Nothing is subscribed twice on a connection, nor faster than the pace, nor at all once it
    was refused.

    A subscription may be asked for again once its acknowledgement is overdue, or where silent
    symbols are asked for anew; a book, whenever it is not whole. Where a fault keeps back what the
    client sends, nobody can tell when it asked.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Requested, Fired, Refused)
    _asked: dict[tuple[int, str], float] = field(factory=dict)
    _last: dict[int, float] = field(factory=dict)
    _delayed: set[int] = field(factory=set)
    _refused: set[str] = field(factory=set)

    def see(self, record: Record) -> Iterator[str]:
        if isinstance(record, Fired) and record.delays:
            self._delayed.add(record.attempt)
        if isinstance(record, Refused) and record.symbol is not None:
            self._refused.add(record.symbol)
        if not isinstance(record, Requested) or record.attempt in self._delayed:
            return
        before = self._last.get(record.attempt)
        pace_s = self.contract.pace_s
        if self.contract.means.split_requests and before == record.at_s:
            before = None  # one that takes several messages
        if before is not None and record.at_s - before < pace_s - _SLACK_S:
            yield f"two requests within {record.at_s - before:.3f} s, and the pace is {pace_s:g} s"
        self._last[record.attempt] = record.at_s
        for symbol in record.symbols:
            key = record.attempt, symbol
            if record.kind.startswith("unsubscribe"):
                self._asked.pop(key, None)
            if record.kind != "subscribe":
                continue
            if symbol in self._refused:
                yield f"{symbol} was refused, and is asked for again"
            asked = self._asked.get(key)
            deadline_s = self.contract.ack_deadline_s
            if deadline_s is None:
                deadline_s = float("inf")
            early = asked is not None and record.at_s - asked < deadline_s - _SLACK_S
            if asked is not None and early and not self.contract.asks_silent_again:
                yield f"{symbol} was subscribed again after {record.at_s - asked:.3f} s"
            self._asked[key] = record.at_s


@define
class PatientBackoff(Rule):
    """A wait is within the formula ``min(cap, base * factor**n)`` of its kind of failure, never
    shorter than the venue asked for, and no attempt is made before it is over.

    n counts the failures since a price was published or a connection lived for `stable_s`: what
    the subject says of it has to be so.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Happened, Moved, Delivered, Made)
    _not_before: float = 0.0
    _asked_until: float = 0.0
    _failures: int = 0
    _replacing: int = 0
    _epoch: int = 0
    _connected_at: float = 0.0
    _unsure: bool = False
    _hidden: bool = False

    def _count(self, record: Record) -> Iterator[str]:
        if isinstance(record, Made):
            self._hidden = True  # of a book, not all that proves a connection is told
        if isinstance(record, Delivered):
            self._failures, self._unsure = 0, False
        if not isinstance(record, Moved):
            return
        replaced, self._epoch = record.epoch != self._epoch, record.epoch
        if record.old == record.new == "connected" and not replaced:
            # To replace a connection failed; that has a count of its own while it lives.
            self._replacing += 1
            yield from self._told(record, self._replacing)
            if record.wait_s is None:
                self._replacing = 0
            return
        self._replacing = 0
        if record.new == "connected":
            self._connected_at = record.since_s
            return
        if record.failure is None or self.contract.backoff is None:
            return
        over_s = record.since_s - self._connected_at - self.contract.backoff.stable_s
        if record.old == "connected" and over_s >= -0.001:
            self._failures = 0
            self._unsure = over_s <= 0.001  # both at once
        self._failures += 1
        yield from self._told(record, self._failures)

    def _told(self, record: Moved, count: int) -> Iterator[str]:
        unsure = self._unsure or self._hidden or self.contract.drops_events
        if not unsure and record.attempt != count:
            yield f"says that it is failure {record.attempt} in a row, and it is {count}"

    def see(self, record: Record) -> Iterator[str]:
        backoff = self.contract.backoff
        yield from self._count(record)
        if isinstance(record, Happened) and record.event == "closed" and self._replacing:
            self._not_before = 0.0  # it was to replace what has ended, as is yet to be told
        if isinstance(record, Happened) and record.event == "dialled":
            until = max(self._not_before, self._asked_until)
            if record.at_s < until - 0.001:
                yield f"dialled {until - record.at_s:.3f} s before the wait was over"
        if not isinstance(record, Moved):
            return
        if record.retry_after_s is not None:
            self._asked_until = record.since_s + record.retry_after_s
        if record.new == "connected":
            self._not_before = 0.0
        if record.wait_s is None or record.failure is None or backoff is None:
            return
        # A slow consumer may be told of it after what was to be replaced has ended.
        if not (self._replacing and record.at_s > record.since_s + _SLACK_S):
            self._not_before = record.since_s + record.wait_s
        policy = self.contract.policies[FailureKind(record.failure)]
        cap = backoff.cap_s if policy.cap_s is None else policy.cap_s
        # Beyond the thirtieth, every curve has reached its cap.
        unsure = self._unsure or self._hidden or self.contract.drops_events
        failures = record.attempt if unsure else self._replacing or self._failures
        tries = min(max(failures - 1, 0), 30)
        longest = min(cap, backoff.base_s * policy.scale * backoff.factor**tries)
        least = policy.minimum_s if record.retry_after_s is None else record.retry_after_s
        if record.wait_s < least - 0.001:
            yield f"waits {record.wait_s:.3f} s for {record.failure}, at least {least:.3f} s is due"
        # What the venue has asked for before holds still.
        least = max(least, self._asked_until - record.since_s)
        if record.wait_s > max(longest, least) + 0.001 and not record.breaker_open:
            yield (
                f"waits {record.wait_s:.3f} s after failure {record.attempt} ({record.failure}); "
                f"the formula gives {max(longest, least):.3f} s at most"
            )
        exact = not (backoff.jitter or record.breaker_open)
        if exact and record.wait_s < max(longest, least) - 0.001:
            yield f"waits {record.wait_s:.3f} s without jitter, not {longest:.3f} s"


@define
class PatientBreaker(Rule):
    """After as many failures in a row as its threshold says the circuit opens, not before, and
    for as long as its formula says; data that is published ends the row, and so does a
    connection that has lived for the back-off's `stable_s`.

    The open time doubles with each failed probe, until enough reads of prices in a row have
    closed the circuit.
    """

    reads: ClassVar[tuple[type[Record], ...]] = (Moved, Lost, Delivered, BookTold, Made)
    _row: int = 0
    _since_price: int = 0
    _opened: int = 0  # since it was closed for certain: at least as often as counts
    _reopened: int = 0  # since a price was published: at most as often as counts
    _reads: set[int] = field(factory=set)
    _connected_at: float = 0.0
    _unsure: bool = False

    def see(self, record: Record) -> Iterator[str]:
        breaker = self.contract.breaker
        if breaker is None:
            return
        self._unsure |= self.contract.drops_events  # prices between two failures, for example
        match record:
            case Lost(reason="malformed"):
                self._since_price += record.missing or 1
                self._reads.clear()
            case Made():
                self._unsure = True  # of a book, not all that is a success is told
            case BookTold():
                self._row = 0
            case Delivered():
                self._row = self._since_price = self._reopened = 0
                if len(self._reads) < breaker.success_threshold:
                    self._reads.add(record.recv_ns or 0)
                else:
                    self._opened = 0
            case Moved():
                if record.old == record.new == "connected":
                    self._unsure = True  # of two connections, not every failure is told
                if record.new == "connected":
                    self._connected_at = record.since_s
                if record.failure is not None:
                    yield from self._judge(record, breaker)

    def _judge(self, record: Moved, breaker: BreakerConfig) -> Iterator[str]:
        stable_s = self.contract.backoff.stable_s if self.contract.backoff else float("inf")
        lived_s = record.since_s - self._connected_at
        if record.old == "connected" and lived_s >= stable_s - _SLACK_S:
            self._row = self._reopened = 0  # it has proved itself by living
        counts = record.failure not in ("forced", "malformed_data")
        self._row += counts
        self._since_price += counts
        self._reads.clear()
        # It may have opened unseen before, behind back-offs that were longer.
        unseen = max(self._opened, self._since_price - breaker.failure_threshold)
        if record.breaker_open:
            yield from self._judge_open(record, breaker, unseen)
        elif self._since_price >= breaker.failure_threshold:
            self._opened = unseen + 1
        # A back-off that is longer than the circuit's time goes before it.
        early = record.wait_s is not None and record.wait_s < breaker.open_s - 0.001
        due = counts and self._row >= breaker.failure_threshold and not record.breaker_open
        if due and early and not self._unsure:
            yield f"{self._row} failures in a row, and it waits {record.wait_s} s"

    def _judge_open(self, record: Moved, breaker: BreakerConfig, before: int) -> Iterator[str]:
        sure = not self._unsure and breaker.failure_rate is None
        if sure and not self._opened and self._since_price < breaker.failure_threshold:
            yield f"the circuit opened after {self._since_price} failures in a row"
        self._opened = before + 1
        self._reopened += 1
        if record.wait_s is None:
            return
        exponent = 64 if self._unsure else self._opened - 1
        longest = min(breaker.open_cap_s, breaker.open_s * 2.0 ** min(exponent, 64))
        least = min(breaker.open_cap_s, breaker.open_s * 2.0 ** min(self._reopened - 1, 64))
        asked = record.retry_after_s or 0.0
        if record.wait_s > max(longest, asked) + 0.001:
            yield f"the circuit stays open for {record.wait_s:.3f} s, and not {longest:.3f} s"
        if record.wait_s < least - 0.001 and sure and record.failure != "malformed_data":
            yield f"the circuit stays open for {record.wait_s:.3f} s, and {least:.3f} s are due"


# --- memory --------------------------------------------------------------------------------------


@define
class WithinBounds(Rule):
    """Every queue stays within its bound."""

    reads: ClassVar[tuple[type[Record], ...]] = (Gauged,)

    def see(self, record: Record) -> Iterator[str]:
        if isinstance(record, Gauged) and record.value > record.bound:
            yield f"{record.name}: {record.value:g} is over the bound of {record.bound:g}"


RULES: tuple[type[Rule], ...] = (
    LegalTransitions,
    NothingInvented,
    NothingTwice,
    InOrder,
    TrueStamps,
    LossAnnounced,
    NoFalseAlarm,
    BooksTrue,
    OneConnection,
    PacedSubscriptions,
    PatientBackoff,
    PatientBreaker,
    WithinBounds,
)


@define
class Judge:
    """All rules together, reading one run."""

    rules: list[Rule]
    violations: list[Violation] = field(factory=list)
    at_s: float = 0.0
    _by_kind: dict[type[Record], list[Rule]] = field(factory=dict)

    def see(self, record: Record) -> None:
        self.at_s = record.at_s
        kind = type(record)
        readers = self._by_kind.get(kind)
        if readers is None:
            readers = self._by_kind[kind] = [rule for rule in self.rules if kind in rule.reads]
        for rule in readers:
            for message in rule.see(record):
                self.break_rule(type(rule).__name__, message)

    def end(self) -> None:
        for rule in self.rules:
            for message in rule.end():
                self.break_rule(type(rule).__name__, message)

    def break_rule(self, rule: str, message: str) -> None:
        if len(self.violations) < 100:  # one broken rule can break for each message
            self.violations.append(Violation(rule, self.at_s, message))


def rules_for(contract: Contract, kinds: Iterable[type[Rule]] = RULES) -> Judge:
    """All rules, for a subject with that contract."""
    return Judge([kind(contract) for kind in kinds])
