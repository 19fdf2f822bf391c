"""Which connection takes which subscriptions, where a venue gives one connection only so many."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from attrs import define, field, frozen

from feedhandler.abc import Subscription

__all__ = ["Part", "spread"]


@frozen
class Part:
    """What goes to connection number `leg`; to a further one, of its own, where that is `None`."""

    leg: int | None
    subscriptions: tuple[Subscription, ...]


@define
class _Leg:
    number: int | None
    room: float
    new: list[Subscription] = field(factory=list)

    def add(self, subscriptions: list[Subscription]) -> None:
        self.new += subscriptions
        self.room -= len(subscriptions)


def spread(
    wanted: Iterable[Subscription],
    legs: Mapping[int, Collection[Subscription]],
    *,
    limit: int | None,
) -> list[Part]:
    """Place what is `wanted` and not on one of `legs` yet; at most `limit` come to be on one.

    All channels of a symbol go to one connection where that is possible, best the one that has the
    symbol already, so that their order among each other is kept. What is on a connection stays.
    """
    all_legs: list[_Leg] = []
    homes: dict[str, _Leg] = {}
    placed: set[Subscription] = set()
    for number, subscriptions in legs.items():
        leg = _Leg(number, float("inf") if limit is None else limit - len(subscriptions))
        all_legs.append(leg)
        placed.update(subscriptions)
        for subscription in subscriptions:
            homes.setdefault(subscription.symbol, leg)
    by_symbol: dict[str, list[Subscription]] = {}
    for subscription in dict.fromkeys(wanted):
        if subscription not in placed:
            by_symbol.setdefault(subscription.symbol, []).append(subscription)
    free = [leg for leg in all_legs if leg.room > 0]
    for symbol, left in by_symbol.items():
        home = homes.get(symbol)
        while left:
            chosen = _choose(home, free, len(left))
            if chosen is None:
                chosen = _Leg(None, float("inf") if limit is None else limit)
                all_legs.append(chosen)
                free.append(chosen)
            count = int(min(chosen.room, len(left)))
            chosen.add(left[:count])
            left = left[count:]
            if chosen.room <= 0:
                free.remove(chosen)
    return [Part(leg.number, tuple(leg.new)) for leg in all_legs if leg.new]


def _choose(home: _Leg | None, free: list[_Leg], count: int) -> _Leg | None:
    """The connection for `count` more of a symbol; `None` for a further one."""
    if home is not None and home.room >= count:
        return home
    return next((leg for leg in free if leg.room >= count), None)
