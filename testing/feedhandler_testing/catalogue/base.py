"""What an entry of the catalogue is."""

from __future__ import annotations

from attrs import frozen

from feedhandler_testing.scenario import Scenario

__all__ = ["Entry"]


@frozen
class Entry:
    """A failure that users of real feeds have met, as a scenario with what is to come of it.

    `number` is the failure's in the catalogue, which may have several scenarios; `failure` says
    what goes wrong, and `answer` what a handler is to do about it.
    """

    number: int
    failure: str
    answer: str
    scenario: Scenario

    @property
    def name(self) -> str:
        return self.scenario.name
