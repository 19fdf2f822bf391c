"""For how long, and for how many messages, each book could be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import define, field, frozen

from feedhandler._core.state import ConnectionState
from feedhandler.model import (
    BookDelta,
    BookSnapshot,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    Trust,
    TrustChanged,
)

__all__ = ["Coverage", "CoverageLedger"]


@frozen
class Coverage:
    """How far one book could be trusted, from its first message on.

    `seconds` is how long its trust was each `Trust`. `messages` counts the snapshots and deltas by
    the trust of the book after them; those that are known to be missing count as `SUSPECT`.
    """

    symbol: str
    seconds: Mapping[Trust, float]
    messages: Mapping[Trust, int]

    def time_share(self, trust: Trust) -> float:
        """The share of the time with this `trust`, from 0 to 1; 0 where no time has passed."""
        return _share(self.seconds, trust)

    def message_share(self, trust: Trust) -> float:
        """The share of the messages with this `trust`, from 0 to 1; 0 where there were none."""
        return _share(self.messages, trust)


def _share(amounts: Mapping[Trust, float], trust: Trust) -> float:
    whole = sum(amounts.values())
    return amounts[trust] / whole if whole else 0.0


def _nothing() -> dict[Trust, int]:
    return dict.fromkeys(Trust, 0)


@define
class _Account:
    trust: Trust
    since_ns: int
    ended: bool = False
    leg: int = 0  # the connection on which it comes
    nanoseconds: dict[Trust, int] = field(factory=_nothing)
    messages: dict[Trust, int] = field(factory=_nothing)

    def turn(self, trust: Trust, now_ns: int) -> None:
        """The book has this trust from now on."""
        if now_ns > self.since_ns:  # a clock that goes backwards adds nothing
            if not self.ended:
                self.nanoseconds[self.trust] += now_ns - self.since_ns
            self.since_ns = now_ns
        self.trust, self.ended = trust, False


class CoverageLedger:
    """Keeps the books' `Coverage`, folded from a feed's events in their order.

    Times are those of the events' `recv_ns`. A book that is subscribed no more costs no time.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def __repr__(self) -> str:
        return f"<CoverageLedger {len(self._accounts)} books>"

    def fold(self, events: Iterable[Event]) -> None:
        """Take in the next events; those that say nothing of books are passed over."""
        for event in events:
            match event:
                case BookDelta() | BookSnapshot():
                    account = self._of(event.symbol, event.trust, event.recv_ns)
                    account.messages[event.trust] += 1
                    if isinstance(event, BookSnapshot):
                        account.leg = event.leg
                    if account.trust is not event.trust or account.ended:
                        account.turn(event.trust, event.recv_ns)
                case Gap():
                    self._gap(event)
                case TrustChanged():
                    self._turn(event.symbol, event.trust, event.recv_ns)
                case FeedStateChanged(new=new) if new is not ConnectionState.CONNECTED:
                    for symbol in self._of_leg(event.leg):
                        self._turn(symbol, Trust.STALE, event.recv_ns)
                case _:
                    pass

    def coverage(self, now_ns: int) -> dict[str, Coverage]:
        """Each book's, until `now_ns`."""
        return {
            symbol: self._told(symbol, account, now_ns)
            for symbol, account in self._accounts.items()
        }

    def _told(self, symbol: str, account: _Account, now_ns: int) -> Coverage:
        nanoseconds = dict(account.nanoseconds)
        if not account.ended:
            nanoseconds[account.trust] += max(now_ns - account.since_ns, 0)
        return Coverage(
            symbol,
            MappingProxyType({trust: time / 1e9 for trust, time in nanoseconds.items()}),
            MappingProxyType(dict(account.messages)),
        )

    def _of(self, symbol: str, trust: Trust, now_ns: int) -> _Account:
        account = self._accounts.get(symbol)
        if account is None:
            account = self._accounts[symbol] = _Account(trust, now_ns)
        return account

    def _gap(self, gap: Gap) -> None:
        if gap.symbol is None:
            for symbol in self._of_leg(gap.leg):
                self._turn(symbol, Trust.SUSPECT, gap.recv_ns)
        elif gap.of_book:
            account = self._of(gap.symbol, Trust.SUSPECT, gap.recv_ns)
            account.leg = account.leg if gap.leg is None else gap.leg
            account.messages[Trust.SUSPECT] += gap.missing or 0
            account.turn(Trust.SUSPECT, gap.recv_ns)
            account.ended = gap.reason is GapReason.UNSUBSCRIBED

    def _of_leg(self, leg: int | None) -> list[str]:
        """The books that come on that connection; all, where it is not known."""
        return [s for s, account in self._accounts.items() if leg is None or account.leg == leg]

    def _turn(self, symbol: str, trust: Trust, now_ns: int) -> None:
        account = self._accounts.get(symbol)
        if account is not None and not account.ended:
            account.turn(trust, now_ns)
