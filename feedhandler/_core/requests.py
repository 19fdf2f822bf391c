"""What a session has asked its venue for, for venues whose answers do not say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, field, frozen

from feedhandler.abc import Subscription

__all__ = ["Asked", "RequestLog"]

_MAX_OPEN = 4096  # requests without an answer; of more the oldest are forgotten


@frozen
class Asked:
    """One request: to ``subscribe`` or ``unsubscribe`` these.

    With `again` it only ends what is asked for anew in the next one, to have its book whole again:
    its answer is nobody's business.
    """

    kind: str
    subscriptions: tuple[Subscription, ...]
    again: bool = False


@define
class RequestLog:
    """The requests of one connection by their numbers, and what the venue sends because of them."""

    _next: int = field(default=1, init=False)
    _open: dict[int, Asked] = field(factory=dict, init=False)
    _active: dict[Subscription, None] = field(factory=dict, init=False)

    def number(
        self, kind: str, subscriptions: Iterable[Subscription], *, again: bool = False
    ) -> int:
        """The number for a new request."""
        number, self._next = self._next, self._next + 1
        self._open[number] = Asked(kind, tuple(subscriptions), again)
        if len(self._open) > _MAX_OPEN:
            del self._open[next(iter(self._open))]
        return number

    def answered(self, number: object) -> Asked | None:
        """What was asked for with this number, which may come as text; `None`: it is unknown."""
        found = self.asked(number)
        if found is not None:
            del self._open[int(str(number))]
        return found

    def asked(self, number: object) -> Asked | None:
        """As `answered()`, for a venue that answers each part of a request by itself."""
        if isinstance(number, str) and number.isdecimal() and len(number) < 19:
            number = int(number)
        return self._open.get(number) if isinstance(number, int) else None

    def oldest(self, kind: str) -> Asked | None:
        """What was asked for first and not answered, for an answer that has no number."""
        for number, asked in self._open.items():
            if asked.kind == kind:
                return self._open.pop(number)
        return None

    def confirm(self, subscriptions: Iterable[Subscription]) -> None:
        """The venue sends these."""
        self._active.update(dict.fromkeys(subscriptions))

    def end(self, subscriptions: Iterable[Subscription]) -> None:
        """The venue sends these no longer."""
        for subscription in subscriptions:
            self._active.pop(subscription, None)

    def split(
        self, subscriptions: Sequence[Subscription]
    ) -> tuple[list[Subscription], list[Subscription]]:
        """Those that the venue sends already, which have to end before they begin anew; and all."""
        return [s for s in subscriptions if s in self._active], list(subscriptions)
