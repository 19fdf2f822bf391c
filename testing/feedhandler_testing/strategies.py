"""Scenarios for hypothesis: drawn, and shrunk to a few steps when one breaks a rule.

```python
@given(scenarios())
def test_my_feed_survives(scenario):
    simulate(scenario, MyFeed()).check()
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from feedhandler_testing.faults import Fault, fault_kinds
from feedhandler_testing.sampling import draw_fault, draw_scenario, is_drawable
from feedhandler_testing.scenario import Scenario

__all__ = ["faults", "scenarios"]

T = TypeVar("T")


class _Drawn:
    """Choices that hypothesis makes; simpler ones are those that it shrinks to."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        drawn: int = self._draw(st.integers(low, high))
        return drawn

    def number(self, low: float, high: float) -> float:
        # In thousandths, so that what is found can be read, and written to a file and back.
        drawn: int = self._draw(st.integers(round(low * 1000), round(high * 1000)))
        return drawn / 1000

    def one_of(self, options: Sequence[T]) -> T:
        drawn: T = self._draw(st.sampled_from(options))
        return drawn


@st.composite
def scenarios(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Scenario:
    """Scenarios that a sound feed has to survive."""
    seed: int = draw(st.integers(0, 65_535))
    return draw_scenario(_Drawn(draw), seed=seed)


@st.composite
def faults(
    draw: Callable[[st.SearchStrategy[Any]], Any], symbols: Sequence[str] = ("BTC-USD",)
) -> Fault:
    """Faults of all kinds that can be drawn, with their parameters."""
    chooser = _Drawn(draw)
    kinds = [kind for kind in fault_kinds().values() if is_drawable(kind)]
    return draw_fault(chooser, chooser.one_of(kinds), symbols)
