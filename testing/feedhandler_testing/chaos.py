"""The search for scenarios that break a rule: seed by seed, on several processes, shrunk."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import attrs
from attrs import define, field, frozen

from feedhandler_testing.faults.base import Fault
from feedhandler_testing.outcome import Outcome
from feedhandler_testing.run import simulate
from feedhandler_testing.sampling import random_scenario
from feedhandler_testing.scenario import Scenario, Step
from feedhandler_testing.scenario_files import scenario_from_dict, scenario_to_dict
from feedhandler_testing.subject import Subject

__all__ = ["Finding", "Summary", "search", "shrink"]

_CHUNK = 20  # seeds for a process at a time
_KEPT = 40  # records, for the message of a failure


@frozen
class Finding:
    """A scenario that broke a rule, as it was drawn from `seed`; `crash` where it ended with an
    error of the kit or the subject that nobody had expected."""

    seed: int
    rule: str
    message: str
    scenario: Scenario


@define
class Summary:
    """What a search has seen: `faults` counts the scenarios in which each kind acted, `coverage`
    holds the pairs of a fault and the state that the subject was in when it did."""

    scenarios: int = 0
    virtual_s: float = 0.0
    messages: int = 0
    records: int = 0
    faults: Counter[str] = field(factory=Counter)
    coverage: set[tuple[str, str]] = field(factory=set)
    findings: list[Finding] = field(factory=list)

    def add(self, other: Summary) -> None:
        self.scenarios += other.scenarios
        self.virtual_s += other.virtual_s
        self.messages += other.messages
        self.records += other.records
        self.faults.update(other.faults)
        self.coverage |= other.coverage
        self.findings += other.findings


def search(
    seeds: Iterable[int],
    *,
    limit_s: float = math.inf,
    jobs: int = 1,
    progress: Callable[[Summary], None] | None = None,
    venue: str = "price",
) -> Summary:
    """Run the scenarios of `seeds`, at `venue`, against this library's feed, for `limit_s` seconds
    at most.

    What is found is not shrunk: see `shrink()`. The findings are a function of the seeds.
    """
    summary = Summary()
    ends_at = time.monotonic() + limit_s
    chunks = _chunks(seeds)
    if jobs == 1:
        for chunk in chunks:
            if time.monotonic() >= ends_at:
                break
            summary.add(_run_chunk(chunk, venue))
            if progress is not None:
                progress(summary)
        return summary
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: set[Future[Summary]] = set()
        while True:
            for chunk in chunks if time.monotonic() < ends_at else ():
                waiting.add(pool.submit(_run_chunk, chunk, venue))
                if len(waiting) > jobs:
                    break
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                summary.add(future.result())
            if progress is not None:
                progress(summary)
    summary.findings.sort(key=lambda finding: finding.seed)
    return summary


def _chunks(seeds: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(seeds)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def _run_chunk(seeds: list[int], venue: str) -> Summary:
    summary = Summary()
    for seed in seeds:
        scenario = random_scenario(seed, venue=venue)
        summary.scenarios += 1
        try:
            outcome = simulate(scenario, keep=_KEPT, hashed=False)
        except Exception as error:  # an error of the kit itself is a finding as well
            summary.findings.append(Finding(seed, "crash", repr(error)[:500], scenario))
            continue
        summary.virtual_s += outcome.virtual_s
        summary.messages += outcome.messages
        summary.records += outcome.trace.count
        summary.faults.update({kind for kind, _ in outcome.coverage})
        summary.coverage |= outcome.coverage
        if outcome.violations:
            first = outcome.violations[0]
            summary.findings.append(Finding(seed, first.rule, str(first), scenario))
    return summary


# --- shrinking -----------------------------------------------------------------------------------


def shrink(scenario: Scenario, subject: Subject | None = None, *, runs: int = 500) -> Scenario:
    """The smallest scenario found, in at most `runs` runs, that breaks the same rule.

    Steps are taken out, numbers made smaller, and settings left out, one by one, for as long as
    the rule is still broken. Returns `scenario` itself where no rule is.
    """
    outcome = simulate(scenario, subject)
    if not outcome.violations:
        return scenario
    rules = {violation.rule for violation in outcome.violations[:1]}
    smaller = True
    while smaller and runs > 0:
        smaller = False
        for candidate in _simpler(scenario):
            runs -= 1
            if runs <= 0:
                break
            if rules & _broken(candidate, subject):
                scenario = candidate
                smaller = True
                break
    return scenario


def _broken(scenario: Scenario, subject: Subject | None) -> set[str]:
    outcome: Outcome = simulate(scenario, subject, keep=1, hashed=False)
    return {violation.rule for violation in outcome.violations}


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little simpler, the boldest first; only possible ones."""
    document = scenario_to_dict(scenario)
    for changed in _simpler_documents(document, scenario):
        try:
            candidate = scenario_from_dict(changed)
        except ValueError:
            continue  # an impossible one
        if candidate != scenario:
            yield candidate


def _simpler_documents(document: dict[str, Any], scenario: Scenario) -> Iterator[dict[str, Any]]:
    steps: list[dict[str, Any]] = document["steps"]
    for number in range(len(steps)):
        yield {**document, "steps": steps[:number] + steps[number + 1 :]}
    for key in ("settings", "consumer_pause_s", "heartbeat_s", "symbols"):
        if key in document:
            yield {name: value for name, value in document.items() if name != key}
    if len(scenario.symbols) > 1:
        yield {**document, "symbols": list(scenario.symbols[:1])}
    settings: dict[str, Any] = document.get("settings", {})
    for key in settings:
        yield {**document, "settings": {k: v for k, v in settings.items() if k != key}}
    for number, (plain, step) in enumerate(zip(steps, scenario.steps, strict=True)):
        for simpler in _simpler_steps(plain, step):
            yield {**document, "steps": [*steps[:number], simpler, *steps[number + 1 :]]}


def _simpler_steps(plain: dict[str, Any], step: Step | Fault) -> Iterator[dict[str, Any]]:
    for one in attrs.fields(type(step)):
        if one.name not in plain:
            continue
        value = plain[one.name]
        if one.default is not attrs.NOTHING:
            yield {key: item for key, item in plain.items() if key != one.name}
        if isinstance(value, int) and not isinstance(value, bool) and value > 1:
            yield {**plain, one.name: value // 2}
            yield {**plain, one.name: value - 1}
        elif isinstance(value, float) and value > 1:
            yield {**plain, one.name: float(round(value / 2))}
        elif one.name == "fault" and isinstance(value, dict):
            for key in value:
                if key != "kind":
                    yield {**plain, "fault": {k: v for k, v in value.items() if k != key}}
