"""How fast one may go: a token bucket that says when, and leaves the waiting to its caller."""

from __future__ import annotations

import math

from attrs import define, field

from feedhandler.errors import ConfigError

__all__ = ["TokenBucket"]


@define
class TokenBucket:
    """Holds up to `burst` tokens, is full at first, and regains `rate_per_s` a second.

    In any window of T seconds, what was taken and due weighs no more than
    ``max(burst, heaviest) + rate_per_s * T``. What weighs more than the bucket holds is due when
    the bucket is full, and all others wait until it is paid for. Turns are in the order of the
    calls: a light one never overtakes a heavy one that came before.

    The state is one moment, that at which the bucket is full again (as in the generic cell rate
    algorithm, ITU-T I.371), so waiting exactly until a turn is always enough, floats or not.
    """

    rate_per_s: float
    burst: float
    _full_at: float = field(default=-math.inf, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name, value in (("rate_per_s", self.rate_per_s), ("burst", self.burst)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    name, value, "must be finite and over 0", mend="use for example 1.0"
                )

    def take(self, weight: float, now: float) -> float:
        """Take the next turn, of `weight` tokens; return when it is due (`now`: at once).

        The turn is taken even if the caller does not wait for it. One who may leave before, waits
        until `ready_at()` first, keeps the order by a lock, and takes then.
        """
        due = self.ready_at(weight, now)
        self._full_at = max(self._full_at, now) + weight / self.rate_per_s
        return due

    def ready_at(self, weight: float, now: float) -> float:
        """When `weight` tokens can be taken, if nobody takes others before; nothing is taken."""
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError("weight", weight, "must be finite and not negative", mend="use 1")
        if self._full_at <= now:
            return now
        return max(now, self._full_at - max(0.0, self.burst - weight) / self.rate_per_s)

    def tokens(self, now: float) -> float:
        """How many tokens are there; below 0, others have taken turns ahead."""
        return self.burst - max(0.0, self._full_at - now) * self.rate_per_s
