"""What a venue's traits come to: how long a connection is kept, and how fast one may go."""

from __future__ import annotations

from random import Random

from feedhandler._core.pace import TokenBucket
from feedhandler.abc import TraitedVenue, Venue
from feedhandler.traits import Limits, VenueTraits

__all__ = ["connect_bucket", "message_bucket", "planned_life", "traits_of"]

_LIFE = 0.98  # of what a venue gives a connection; a roll-over has to be done in the rest
_LIFE_JITTER = 0.02  # of it: feeds that began together do not all roll over together


def traits_of(venue: Venue) -> VenueTraits:
    """What `venue` allows and expects; nothing special where it does not say."""
    return venue.traits if isinstance(venue, TraitedVenue) else VenueTraits()


def planned_life(own_s: float | None, venue_s: float | None, rng: Random) -> float | None:
    """How long to keep a connection: what the user says, or what the venue does where that is less.

    Of the venue's, 0.96 to 0.98 are used.
    """
    if venue_s is None:
        return own_s
    life = venue_s * (_LIFE - _LIFE_JITTER * rng.random())
    return life if own_s is None else min(own_s, life)


def message_bucket(limits: Limits) -> TokenBucket | None:
    """The pace of the messages on one connection.

    One a second is left for pings and pongs, which some venues count. A fifth of the rest may go
    at once: little, because the network may push together what was sent apart.
    """
    count = limits.messages_per_s
    if count is None:
        return None
    return _bucket(count - 1.0 if count >= 2.0 else count, per_s=1.0, at_once=0.2)


def connect_bucket(limits: Limits) -> TokenBucket | None:
    """The pace of the attempts to connect to one address: half of a minute's may go at once."""
    count = limits.connects_per_minute
    return None if count is None else _bucket(count, per_s=60.0, at_once=0.5)


def _bucket(count: float, *, per_s: float, at_once: float) -> TokenBucket:
    """No more than `count` within any `per_s` seconds, of which a part may go `at_once`."""
    return TokenBucket(count * (1.0 - at_once) / per_s, max(1.0, count * at_once))
