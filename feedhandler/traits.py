"""What a venue allows and expects of its clients: values, each with the venue's own figure."""

from __future__ import annotations

import math
from typing import Any

from attrs import Attribute, field, frozen

from feedhandler.errors import ConfigError

__all__ = ["KeepAlive", "Limits", "VenueTraits"]


def _over_zero(_: Any, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(
            attribute.name, value, "must be finite and over 0", mend="use None where there is none"
        )


def _at_least_one(_: Any, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(
            attribute.name, value, "must be a whole number, at least 1",
            mend="use None where there is no limit",
        )  # fmt: skip


@frozen(kw_only=True)
class Limits:
    """How much a venue allows; `None` where it names no limit.

    `subscriptions` is how many one connection may have, `per_message` how many one request may
    name, `messages_per_s` how many messages a client may send on one connection: the venue's own
    figure, of which the handler leaves one a second for pings and pongs.
    `connects_per_minute` and `requests_per_minute` (REST; in the unit in which `Venue`s count the
    weight of theirs) are for all connections of one address together.
    """

    subscriptions: int | None = field(default=None, validator=_at_least_one)
    per_message: int | None = field(default=None, validator=_at_least_one)
    messages_per_s: float | None = field(default=None, validator=_over_zero)
    connects_per_minute: float | None = field(default=None, validator=_over_zero)
    requests_per_minute: float | None = field(default=None, validator=_over_zero)


@frozen
class KeepAlive:
    """A message that has to be sent every `every_s` seconds, whatever else is sent."""

    message: str | bytes
    every_s: float = field(validator=_over_zero)


@frozen(kw_only=True)
class VenueTraits:
    """What keeps a connection to a venue alive, and how long it may live.

    A live connection is never without any message for `silence_s` seconds (`None`: it may be, and
    only WebSocket's pings tell). The venue itself ends it after `max_lifetime_s`.
    """

    limits: Limits = Limits()
    keep_alive: KeepAlive | None = None
    silence_s: float | None = field(default=None, validator=_over_zero)
    max_lifetime_s: float | None = field(default=None, validator=_over_zero)
