"""When a fault acts: values that look at where a connection stands.

A trigger counts from the moment at which its fault was set, or from the connection's beginning,
whichever is later. `At(2) & Messages(10)` holds when both hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from feedhandler.errors import ConfigError
from feedhandler_testing.checks import at_least, not_negative

__all__ = [
    "AT_ONCE",
    "EVENTS",
    "All",
    "At",
    "Bytes",
    "Messages",
    "Moment",
    "Now",
    "OnConnection",
    "OnEvent",
    "Trigger",
]

EVENTS = frozenset(
    {
        "dialled",  # a client dials
        "handshake",  # its request has arrived
        "accepted",  # it was answered with 101
        "subscribe",  # it asks for a subscription
        "subscribed",  # that was acknowledged
        "message",  # a message was sent to it
        "fetch",  # it has asked the venue's REST interface for something
        "ping",  # it has pinged
        "close",  # it has sent a Close frame
        "closed",  # its connection is over
        "connecting",  # the subject says so of itself, as the four below
        "connected",
        "reconnecting",
        "breaker_open",
        "half_open",  # an attempt begins that is the open circuit's probe
        "closing",
    }
)
"""What `OnEvent` can wait for."""


_SLACK_S = 1e-9  # that differences of floats may be off by


@frozen
class Moment:
    """Where a connection stands: what triggers look at.

    `at_s` is in seconds since the fault was set; `attempt` is the connection's number, counted
    from the server's first attempt; `messages` and `bytes` were sent on it; `events` counts what
    has happened on the whole server.
    """

    at_s: float
    attempt: int
    messages: int
    bytes: int
    events: Mapping[str, int]


@frozen
class Trigger:
    """Base of all triggers."""

    def due(self, moment: Moment) -> bool:
        """Whether the fault may act."""
        raise NotImplementedError

    def messages_left(self, moment: Moment) -> int | None:
        """How many messages may still be sent before it is due; `None`: messages don't matter."""
        return None

    def bytes_left(self, moment: Moment) -> int | None:
        """How many bytes may still be sent before it is due; `None`: bytes don't matter."""
        return None

    @property
    def at(self) -> float | None:
        """When time alone makes it due, in seconds since the fault was set."""
        return None

    def __and__(self, other: Trigger) -> Trigger:
        return All([self, other])


@frozen
class Now(Trigger):
    """At once."""

    def due(self, moment: Moment) -> bool:
        return True


AT_ONCE = Now()


@frozen
class At(Trigger):
    """`after_s` seconds after it was set."""

    after_s: float = field(validator=not_negative)

    def due(self, moment: Moment) -> bool:
        return moment.at_s >= self.after_s - _SLACK_S

    @property
    def at(self) -> float | None:
        return self.after_s


@frozen
class Messages(Trigger):
    """Once `count` messages were sent on the connection."""

    count: int = field(validator=at_least(0))

    def due(self, moment: Moment) -> bool:
        return moment.messages >= self.count

    def messages_left(self, moment: Moment) -> int | None:
        return max(self.count - moment.messages, 0)


@frozen
class Bytes(Trigger):
    """Once `count` bytes were sent on the connection."""

    count: int = field(validator=at_least(0))

    def due(self, moment: Moment) -> bool:
        return moment.bytes >= self.count

    def bytes_left(self, moment: Moment) -> int | None:
        return max(self.count - moment.bytes, 0)


@frozen
class OnConnection(Trigger):
    """On the nth attempt to connect only, counted from 1 over the server's life."""

    number: int = field(validator=at_least(1))

    def due(self, moment: Moment) -> bool:
        return moment.attempt == self.number


def _known(_: object, __: object, event: str) -> None:
    if event not in EVENTS:
        raise ConfigError("event", event, "never happens", mend=f"use one of {sorted(EVENTS)}")


@frozen
class OnEvent(Trigger):
    """Once `event` (one of `EVENTS`) has happened `count` times since it was set."""

    event: str = field(validator=_known)
    count: int = field(default=1, validator=at_least(1))

    def due(self, moment: Moment) -> bool:
        return moment.events.get(self.event, 0) >= self.count


def _not_empty(_: object, __: object, triggers: tuple[Trigger, ...]) -> None:
    if not triggers:
        raise ConfigError("triggers", triggers, "is empty", mend="use Now() for at once")


def _as_tuple(triggers: Iterable[Trigger]) -> tuple[Trigger, ...]:
    return tuple(triggers)


@frozen
class All(Trigger):
    """When each of several triggers is due."""

    triggers: tuple[Trigger, ...] = field(converter=_as_tuple, validator=_not_empty)

    def due(self, moment: Moment) -> bool:
        return all(trigger.due(moment) for trigger in self.triggers)

    def messages_left(self, moment: Moment) -> int | None:
        return self._left(moment, [trigger.messages_left(moment) for trigger in self.triggers])

    def bytes_left(self, moment: Moment) -> int | None:
        return self._left(moment, [trigger.bytes_left(moment) for trigger in self.triggers])

    def _left(self, moment: Moment, left: Sequence[int | None]) -> int | None:
        others = all(
            trigger.due(moment)
            for trigger, count in zip(self.triggers, left, strict=True)
            if count is None
        )
        known = [count for count in left if count is not None]
        return max(known) if known and others else None

    @property
    def at(self) -> float | None:
        times = [trigger.at for trigger in self.triggers if trigger.at is not None]
        return max(times, default=-math.inf) if times else None
