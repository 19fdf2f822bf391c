"""What came of a run, and how a run that broke a rule is told."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata

from attrs import define, field

from feedhandler_testing.rules import Violation
from feedhandler_testing.scenario import Scenario
from feedhandler_testing.trace import Trace

__all__ = ["Outcome", "ScenarioFailed", "versions"]


@define
class Outcome:
    """What came of a run: `violations` is empty where all rules were kept.

    `virtual_s` is how long it took in virtual time; `coverage` holds each fault that acted, with
    the state that the subject was in. `error` is what the subject raised, if it did.
    """

    scenario: Scenario
    trace: Trace
    violations: list[Violation]
    virtual_s: float = 0.0
    messages: int = 0
    coverage: set[tuple[str, str]] = field(factory=set)
    error: Exception | None = field(default=None, eq=False)

    @property
    def digest(self) -> str:
        """Stands for the whole trace: the same run gives the same one."""
        return self.trace.digest

    def check(self) -> Outcome:
        """Return itself; raise `ScenarioFailed` where a rule was broken."""
        if self.violations:
            raise ScenarioFailed(self) from self.error
        return self


class ScenarioFailed(AssertionError):
    """A run broke rules. The message is all that is needed to repeat it."""

    def __init__(self, outcome: Outcome, *, last: int = 20) -> None:
        self.outcome = outcome
        broken = "\n".join(f"  {violation}" for violation in outcome.violations[:10])
        more = len(outcome.violations) - 10
        lines = "\n".join(outcome.trace.lines()[-last:])
        super().__init__(
            f"{len(outcome.violations)} violation(s):\n{broken}\n"
            + (f"  … and {more} more\n" if more > 0 else "")
            + f"\n{outcome.scenario.literal()}\n"
            f"seed {outcome.scenario.seed}; {versions()}\n\n"
            f"the last {last} of {outcome.trace.count} records:\n{lines}"
        )


def versions() -> str:
    names = ("feedhandler", "trio", "trio-websocket", "attrs", "cattrs", "msgspec")
    told = [f"Python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            told.append(f"{name} {metadata.version(name)}")
    return ", ".join(told)
