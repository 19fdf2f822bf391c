"""What a venue allows and expects of its clients: values, each with the venue's own figure."""

from __future__ import annotations

from attrs import frozen

__all__ = ["KeepAlive", "Limits", "VenueTraits"]


@frozen(kw_only=True)
class Limits:
    """How much a venue allows; `None` where it names no limit.

    `subscriptions` is how many one connection may have, `per_message` how many one request may
    name, `messages_per_s` how many messages a client may send on one connection.
    `connects_per_minute` and `requests_per_minute` (REST; in the unit in which `Venue`s count the
    weight of theirs) are for all connections of one address together.
    """

    subscriptions: int | None = None
    per_message: int | None = None
    messages_per_s: float | None = None
    connects_per_minute: float | None = None
    requests_per_minute: float | None = None


@frozen
class KeepAlive:
    """A message that has to be sent every `every_s` seconds, whatever else is sent."""

    message: str | bytes
    every_s: float


@frozen(kw_only=True)
class VenueTraits:
    """What keeps a connection to a venue alive, and how long it may live.

    A live connection is never without any message for `silence_s` seconds (`None`: it may be, and
    only WebSocket's pings tell). The venue itself ends it after `max_lifetime_s`.
    """

    limits: Limits = Limits()
    keep_alive: KeepAlive | None = None
    silence_s: float | None = None
    max_lifetime_s: float | None = None
