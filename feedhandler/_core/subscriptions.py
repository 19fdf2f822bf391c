"""Which subscriptions are wanted, which were asked for, and which the venue has confirmed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from attrs import define, field, frozen

from feedhandler.abc import Subscription

__all__ = ["Request", "SubscriptionBook"]


@frozen
class Request:
    """What to ask the venue for now; one of the two is not empty."""

    subscribe: tuple[Subscription, ...]
    unsubscribe: tuple[Subscription, ...]


@define
class SubscriptionBook:
    """Decides what to ask for and when; a lost acknowledgement is asked for again.

    A request whose confirmation does not come within `ack_deadline_s` is made again, the next time
    after twice as long, and so on up to sixteen times as long. Two requests are at least `pace_s`
    apart. Orders are kept, so that a run can be repeated.
    """

    ack_deadline_s: float
    pace_s: float = 0.0
    # wanted: when it was asked for on this connection (`None`: not yet), and whether confirmed
    _wanted: dict[Subscription, float | None] = field(factory=dict, init=False)
    _confirmed: dict[Subscription, None] = field(factory=dict, init=False)
    _unwanted: dict[Subscription, float | None] = field(factory=dict, init=False)
    # unwanted, which the venue was not told yet: when it was asked for, and whether confirmed
    _untold: dict[Subscription, tuple[float | None, bool]] = field(factory=dict, init=False)
    # what the venue may be sending: asked for on this connection, and not known to have ended
    _asked: set[Subscription] = field(factory=set, init=False)
    _tries: Counter[Subscription] = field(factory=Counter, init=False)
    _next_request: float = field(default=-math.inf, init=False)

    @property
    def wanted(self) -> frozenset[Subscription]:
        return frozenset(self._wanted)

    def wants(self, subscription: Subscription) -> bool:
        return subscription in self._wanted

    @property
    def pending(self) -> frozenset[Subscription]:
        """Asked for on this connection, and not confirmed."""
        return frozenset(
            s for s, asked in self._wanted.items() if asked is not None and s not in self._confirmed
        )

    @property
    def confirmed(self) -> frozenset[Subscription]:
        return frozenset(self._confirmed)

    def in_order(self) -> tuple[Subscription, ...]:
        """What is wanted, in the order in which it was first wanted."""
        return tuple(self._wanted)

    def want(self, subscriptions: Iterable[Subscription]) -> None:
        """Want these; one that was to end, of which the venue was not told, goes on as it was."""
        for subscription in subscriptions:
            if subscription in self._unwanted:
                del self._unwanted[subscription]
                self._tries.pop(subscription, None)
            asked, confirmed = self._untold.pop(subscription, (None, False))
            self._wanted.setdefault(subscription, asked)
            if confirmed:
                self._confirmed[subscription] = None

    def unwant(self, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            asked = self._wanted.pop(subscription, None)
            confirmed = subscription in self._confirmed
            self._confirmed.pop(subscription, None)
            self._tries.pop(subscription, None)
            if subscription in self._asked and subscription not in self._unwanted:
                self._unwanted[subscription] = None
                self._untold[subscription] = asked, confirmed

    def goes_on(self, subscription: Subscription) -> bool:
        """Whether it is wanted and was asked for on this connection."""
        return self._wanted.get(subscription) is not None

    def reset(self) -> None:
        """A new connection: nothing was asked for on it."""
        self._wanted = dict.fromkeys(self._wanted)
        self._confirmed.clear()
        self._unwanted.clear()
        self._untold.clear()
        self._asked.clear()
        self._tries.clear()
        self._next_request = -math.inf

    @property
    def unasked(self) -> bool:
        """Whether something that is wanted was not asked for yet on this connection."""
        return None in self._wanted.values()

    def due(self, now: float, *, at_most: int | None = None) -> Request | None:
        """What to ask for at `now`, or `None`; it is then taken as asked.

        With `at_most`, a request names no more, and what has to end goes before what is new, so
        that a venue that counts never has too many.
        """
        if now < self._next_request:
            return None
        subscribe = tuple(
            s
            for s, asked in self._wanted.items()
            if s not in self._confirmed and now >= self._due_at(s, asked)
        )
        unsubscribe = tuple(
            s for s, asked in self._unwanted.items() if now >= self._due_at(s, asked)
        )
        if not (subscribe or unsubscribe):
            return None
        if at_most is not None:
            subscribe = subscribe[:at_most] if len(unsubscribe) <= at_most else ()
            unsubscribe = unsubscribe[:at_most]
        self._wanted.update(dict.fromkeys(subscribe, now))
        self._unwanted.update(dict.fromkeys(unsubscribe, now))
        for subscription in unsubscribe:
            self._untold.pop(subscription, None)
        self._asked.update(subscribe)
        self._tries.update((*subscribe, *unsubscribe))
        self._next_request = now + self.pace_s
        return Request(subscribe, unsubscribe)

    def sent(self, request: Request, *, asked_at: float, now: float) -> None:
        """All of `request`, due at `asked_at`, has gone out: its answers are awaited from now."""
        for waiting, those in (
            (self._wanted, request.subscribe),
            (self._unwanted, request.unsubscribe),
        ):
            waiting.update((s, now) for s in those if waiting.get(s) == asked_at)

    def wake_at(self) -> float:
        """When something will be due; `math.inf` if nothing will."""
        due = [self._due_at(s, t) for s, t in self._wanted.items() if s not in self._confirmed]
        due += [self._due_at(s, t) for s, t in self._unwanted.items()]
        return max(min(due), self._next_request) if due else math.inf

    def confirm(self, subscriptions: Iterable[Subscription], *, complete: bool = False) -> None:
        """The venue confirmed them; what is not wanted is passed over.

        If they are `complete`, what was to end and is not among them has ended.
        """
        listed = dict.fromkeys(subscriptions)
        for subscription in listed:
            if subscription in self._wanted:
                self._confirmed[subscription] = None
                self._asked.add(subscription)
                self._tries.pop(subscription, None)
        if complete:
            asked = [s for s, at in self._unwanted.items() if at is not None]
            self.unsubscribed([s for s in asked if s not in listed])

    def unsubscribed(self, subscriptions: Iterable[Subscription]) -> None:
        """The venue confirmed that they have ended."""
        for subscription in subscriptions:
            self._unwanted.pop(subscription, None)
            self._untold.pop(subscription, None)
            self._tries.pop(subscription, None)
            if subscription not in self._wanted:
                self._asked.discard(subscription)

    def refuse(self, subscription: Subscription) -> None:
        """The venue refused it; it is not asked for again."""
        self._wanted.pop(subscription, None)
        self._unwanted.pop(subscription, None)
        self._untold.pop(subscription, None)
        self._confirmed.pop(subscription, None)
        self._tries.pop(subscription, None)
        self._asked.discard(subscription)

    def ask_again(self, subscriptions: Iterable[Subscription]) -> None:
        """Ask for them anew, although they were confirmed: they have gone silent."""
        for subscription in subscriptions:
            if subscription in self._wanted:
                self._wanted[subscription] = None
                self._confirmed.pop(subscription, None)
                self._tries.pop(subscription, None)

    def _due_at(self, subscription: Subscription, asked: float | None) -> float:
        if asked is None:
            return -math.inf
        return asked + self.ack_deadline_s * 2.0 ** min(self._tries[subscription] - 1, 4)
