"""What is done about each kind of failure: retried, slowed down, or fatal.

The decision is one function over one table, and the table is data that a user can replace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

from feedhandler.errors import ConfigError, ConnectionFailed, FailureKind

__all__ = ["DEFAULT_POLICIES", "FailurePolicy", "Verdict", "judge"]


@frozen(kw_only=True)
class FailurePolicy:
    """What a kind of failure asks for.

    `retry` is false where trying again cannot help. `scale` multiplies the back-off's base and
    `cap_s`, if given, replaces its cap: the kind's own curve. `minimum_s` is waited at least,
    jitter or not, where the venue itself names no time. `fatal_after` makes it fatal at the nth
    in a row (0: never).
    """

    retry: bool = True
    scale: float = 1.0
    cap_s: float | None = None
    minimum_s: float = 0.0
    fatal_after: int = 0

    def __attrs_post_init__(self) -> None:
        for name, value, positive in (
            ("scale", self.scale, True),
            ("cap_s", 1.0 if self.cap_s is None else self.cap_s, True),
            ("minimum_s", self.minimum_s, False),
            ("fatal_after", self.fatal_after, False),
        ):
            if not (math.isfinite(value) and (value > 0 or (value == 0 and not positive))):
                raise ConfigError(
                    name, value,
                    f"must be finite and {'over 0' if positive else 'not negative'}",
                    mend="see FailurePolicy's defaults",
                )  # fmt: skip


@frozen
class Verdict:
    """`retry` or not, on the curve of `policy`, and not before `minimum_s` seconds have gone."""

    retry: bool
    policy: FailurePolicy
    minimum_s: float


DEFAULT_POLICIES: Mapping[FailureKind, FailurePolicy] = MappingProxyType(
    {
        FailureKind.NAME_RESOLUTION: FailurePolicy(scale=5),
        FailureKind.REFUSED: FailurePolicy(),
        # A bad certificate does not mend itself within seconds, and is never to be worked around.
        FailureKind.TLS: FailurePolicy(retry=False),
        FailureKind.HANDSHAKE_TIMEOUT: FailurePolicy(scale=2),
        FailureKind.REJECTED: FailurePolicy(scale=10, cap_s=60),
        FailureKind.RATE_LIMITED: FailurePolicy(scale=50, cap_s=300, minimum_s=5),
        FailureKind.AUTHENTICATION: FailurePolicy(retry=False),
        FailureKind.PEER_CLOSED: FailurePolicy(),
        FailureKind.MAINTENANCE: FailurePolicy(scale=20, cap_s=120),
        FailureKind.POLICY_VIOLATION: FailurePolicy(scale=10, cap_s=60, fatal_after=3),
        FailureKind.RESET: FailurePolicy(),
        FailureKind.STALE: FailurePolicy(),
        FailureKind.NO_PONG: FailurePolicy(),
        FailureKind.PROTOCOL_ERROR: FailurePolicy(scale=2),
        FailureKind.MALFORMED_DATA: FailurePolicy(scale=5),
        FailureKind.FORCED: FailurePolicy(),
    }
)
"""One policy for each `FailureKind`; replace entries with ``{**DEFAULT_POLICIES, kind: …}``."""


def judge(
    error: ConnectionFailed,
    *,
    in_a_row: int,
    policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES,
) -> Verdict:
    """Decide whether `error` is retried, and how slowly.

    `in_a_row` counts failures of this kind without another outcome between them, this one
    included. A ``Retry-After`` that the venue sent replaces the policy's minimum.
    """
    policy = policies.get(error.kind) or DEFAULT_POLICIES[error.kind]
    retry = policy.retry and not 0 < policy.fatal_after <= in_a_row
    asked: float | None = getattr(error, "retry_after_s", None)
    return Verdict(retry, policy, policy.minimum_s if asked is None else asked)
