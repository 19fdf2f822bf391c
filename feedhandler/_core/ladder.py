"""How a book is got back: it is asked for again, and again, and then over a new connection."""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import define, field

from feedhandler.abc import Subscription

__all__ = ["ResyncLadder"]

_IN_VAIN = 5  # connections given up for a book, after which it is not the connection's fault
_AT_ONCE = 2  # times in a row that a book breaks and is asked for at once


@define
class ResyncLadder:
    """Books that were asked for, or have to be, and are not whole yet.

    A book that is not whole within `deadline_s` of the request for it is asked for again, at most
    `max_tries` times; then the connection is given up. After an answer that is of no use the second
    try comes at once, and later ones at the deadline, so a venue that gives nothing better is not
    hammered. A connection that was given up for a book in vain is not given up for it again before
    `pace_s` have passed, then twice as long, and so on up to 32 times: meanwhile it is asked for at
    that pace. After five in vain it is given up no more, while another book on it is whole.

    A book that becomes whole and breaks again and again, each time within twice `pace_s` of the
    time before, is asked for at once twice, then after 1 s, 2 s, and so on up to `pace_s`. All
    times are in seconds of one clock.
    """

    deadline_s: float
    max_tries: int = 3
    pace_s: float = 30.0
    # when its time is up; `math.inf` while the request has not gone out
    _due: dict[Subscription, float] = field(factory=dict, init=False)
    _tries: dict[Subscription, int] = field(factory=dict, init=False)
    _whole: set[Subscription] = field(factory=set, init=False)
    # kept through connections: how often one was given up for it, and not again before
    _given_up: dict[Subscription, tuple[int, float]] = field(factory=dict, init=False)
    # likewise: how often in a row it broke after it had been whole, when it last did, and the end
    # of the pause before it is asked for
    _breaks: dict[Subscription, tuple[int, float, float]] = field(factory=dict, init=False)

    def asked(self, subscriptions: Iterable[Subscription], *, now: float) -> None:
        """A request for them has gone out: each that is not whole is waited for."""
        for subscription in subscriptions:
            if subscription not in self._whole:
                self._due[subscription] = now + self.deadline_s

    def sent(self, subscriptions: Iterable[Subscription], *, asked_at: float, now: float) -> None:
        """The request of `asked_at` was on its way out until now: they are waited for from now."""
        for subscription in subscriptions:
            if self._due.get(subscription) == asked_at + self.deadline_s:
                self._due[subscription] = now + self.deadline_s

    def broken(self, subscription: Subscription, *, now: float) -> bool:
        """It is not whole, or the answer was of no use; tells whether to ask for it now."""
        times, before, paused_until = self._breaks.get(subscription, (0, -math.inf, -math.inf))
        if subscription in self._whole:
            self._whole.discard(subscription)
            times = times + 1 if now < before + 2 * self.pace_s else 1
            paused_until = now
            if times > _AT_ONCE:
                paused_until += min(self.pace_s, 2.0 ** min(times - _AT_ONCE - 1, 9))
                self._tries[subscription], self._due[subscription] = 1, paused_until
            self._breaks[subscription] = times, now, paused_until
        if now < paused_until and subscription in self._due:
            return False
        if self._due.get(subscription) == math.inf or self._tries.get(subscription, 0) > 1:
            return False
        self._try(subscription)
        return True

    def whole(self, subscription: Subscription) -> None:
        """It is whole."""
        self.forget(subscription)
        self._given_up.pop(subscription, None)
        self._whole.add(subscription)

    @property
    def has_whole(self) -> bool:
        """Whether any is."""
        return bool(self._whole)

    def is_whole(self, subscription: Subscription) -> bool:
        return subscription in self._whole

    def forget(self, subscription: Subscription) -> None:
        """It is wanted no longer."""
        self._due.pop(subscription, None)
        self._tries.pop(subscription, None)
        self._whole.discard(subscription)

    def unasked(self) -> list[Subscription]:
        """Those to ask for whose request has not gone out."""
        return [subscription for subscription, at in self._due.items() if at == math.inf]

    def try_overdue(self, *, now: float) -> None:
        """Those whose time is up are to be asked for, where tries are left."""
        for subscription, at in [*self._due.items()]:
            if now >= at and self._tries.get(subscription, 0) < self.max_tries:
                self._try(subscription)

    def failed(self, subscription: Subscription, *, now: float) -> None:
        """The request got no answer that says anything of the book; the next is at the deadline."""
        if subscription in self._due:
            self._tries[subscription] = 1
            self._due[subscription] = now + self.deadline_s

    def give_up(self, subscription: Subscription, *, now: float) -> bool:
        """Whether to give the connection up for one whose last try has failed.

        If not, it is tried again later.
        """
        times, not_before = self._given_up.get(subscription, (0, now))
        in_vain = times >= _IN_VAIN and bool(self._whole)
        if now >= not_before and not in_vain:
            pause = self.pace_s * 2 ** min(times, 5)
            self._given_up[subscription] = times + 1, now + pause
            return True
        self._tries[subscription] = 1
        self._due[subscription] = (
            now + self.pace_s if in_vain else min(not_before, now + self.pace_s)
        )
        return False

    def exhausted(self, *, now: float) -> list[Subscription]:
        """Those whose last try has failed; they are forgotten."""
        lost = [
            s
            for s, at in self._due.items()
            if now >= at and self._tries.get(s, 0) >= self.max_tries
        ]
        for subscription in lost:
            self.forget(subscription)
        return lost

    def postpone(self, *, now: float) -> None:
        """Nothing is read at the moment, so every deadline begins anew."""
        for subscription, at in self._due.items():
            if at != math.inf:
                self._due[subscription] = now + self.deadline_s

    def reset(self) -> None:
        """A new connection: nothing was asked for on it."""
        self._due.clear()
        self._tries.clear()
        self._whole.clear()

    def wake_at(self) -> float:
        """When the next deadline is; `math.inf` if there is none."""
        return min(self._due.values(), default=math.inf)

    def _try(self, subscription: Subscription) -> None:
        self._tries[subscription] = self._tries.get(subscription, 0) + 1
        self._due[subscription] = math.inf
