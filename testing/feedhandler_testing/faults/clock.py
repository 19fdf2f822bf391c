"""Faults of clocks: the client's, and the venue's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import field, frozen

from feedhandler_testing.checks import finite, positive
from feedhandler_testing.faults.base import Act, Fault, Later, Layer, Payload
from feedhandler_testing.prices import is_data

__all__ = ["BackwardTimestamps", "ClockDrift", "ClockJump", "ClockSkew", "EpochTimestamps"]


@frozen
class ClockSkew(Fault):
    """The client's wall clock is `by_s` seconds ahead (negative: behind)."""

    layer: ClassVar[Layer] = Layer.CLOCK
    lasting: ClassVar[bool] = True

    by_s: float = field(default=2.0, validator=finite)

    def shift_s(self, act: Act, now_s: float) -> float | None:
        return self.by_s


@frozen
class ClockJump(Fault):
    """The client's wall clock is set by `by_s` seconds (negative: back), and stays so."""

    layer: ClassVar[Layer] = Layer.CLOCK
    lasting: ClassVar[bool] = True

    by_s: float = field(default=-3600.0, validator=finite)

    def shift_s(self, act: Act, now_s: float) -> float | None:
        return self.by_s


@frozen
class ClockDrift(Fault):
    """The client's wall clock gains `rate` seconds for each second (negative: loses)."""

    layer: ClassVar[Layer] = Layer.CLOCK
    lasting: ClassVar[bool] = True

    rate: float = field(default=0.01, validator=finite)

    def shift_s(self, act: Act, now_s: float) -> float | None:
        return self.rate * now_s


@frozen
class BackwardTimestamps(Fault):
    """A message's own time is `by_s` seconds before what it should be."""

    layer: ClassVar[Layer] = Layer.CLOCK

    by_s: float = field(default=5.0, validator=positive)

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (is_data(message) and isinstance(message.get("time"), int)):
            return None
        return [{**message, "time": message["time"] - round(self.by_s * 1e9)}]


@frozen
class EpochTimestamps(Fault):
    """A message's own time is 0: the first of January 1970."""

    layer: ClassVar[Layer] = Layer.CLOCK

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        known = is_data(message) and isinstance(message.get("time"), int)
        return [{**message, "time": 0}] if known else None
