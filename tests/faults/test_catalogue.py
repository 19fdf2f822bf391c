"""The catalogue, and every fault in every state: what is expected comes of each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from feedhandler_testing.catalogue import CATALOGUE, Entry, find_entry
from feedhandler_testing.dialect import PLAIN_SAYS
from feedhandler_testing.faults import Layer, fault_kinds
from feedhandler_testing.matrix import STATES, Cell, matrix
from feedhandler_testing.outcome import ScenarioFailed
from feedhandler_testing.run import simulate
from feedhandler_testing.sampling import typical_fault
from feedhandler_testing.scenario_files import load_scenario

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))
TOXIPROXY = (
    "latency", "down", "bandwidth", "slow_close", "hold_then_cut", "reset", "slicer", "limit_data",
)  # fmt: skip
TURMOIL = ("partition", "stall", "crash")  # repair, release and bounce are their ends


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_each_failure_has_the_outcome_that_is_expected(entry: Entry) -> None:
    simulate(entry.scenario, check_memory=True).check()


def test_the_catalogue_is_whole() -> None:
    assert {entry.number for entry in CATALOGUE} == set(range(1, 62))
    names = Counter(entry.name for entry in CATALOGUE)
    assert max(names.values()) == 1
    for entry in CATALOGUE:
        assert find_entry(entry.name) is entry
        assert entry.failure
        assert entry.answer


def test_a_scenario_of_the_catalogue_is_short() -> None:
    """Ten lines at most, in half of them, in the form that the formatter gives them."""
    assert median(len(entry.scenario.literal()) / 88 + 1 for entry in CATALOGUE) <= 10


def test_the_kinds_of_faults() -> None:
    kinds = fault_kinds()
    assert len(kinds) >= 45
    assert {*TOXIPROXY, *TURMOIL} <= set(kinds)
    assert {kind.layer for kind in kinds.values()} == set(Layer)
    for kind in kinds.values():
        assert kind.__doc__
        assert isinstance(typical_fault(kind), kind)


@pytest.mark.parametrize("cell", list(matrix()), ids=lambda cell: cell.name)
def test_every_fault_in_every_state(cell: Cell) -> None:
    outcome = simulate(cell.scenario, keep=40)
    print(f"seed {cell.scenario.seed}")
    if outcome.violations:
        raise ScenarioFailed(outcome)


def test_the_matrix_is_whole() -> None:
    cells = list(matrix())
    of_prices = [kind for kind in fault_kinds().values() if kind.needs <= PLAIN_SAYS]
    assert len(of_prices) == len(fault_kinds()) - sum(
        kind.layer is Layer.REST for kind in fault_kinds().values()
    )
    assert len(cells) == len(of_prices) * len(STATES)
    assert len({cell.name for cell in cells}) == len(cells)


# How many kinds act in a state itself, at least; in the others they are in place, and act once they
# can: nothing but a clock passes while the subject waits, and a refusal needs a connection to come.
ACTING = {
    "connecting": 7, "handshaking": 14, "subscribing": 30, "live": 60, "closing": 10,
    "backing-off": 0, "half-open": 60, "rolling-over": 70,
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_faults_act_in_the_states_that_they_are_put_into(state: str) -> None:
    acted = set()
    for cell in matrix():
        if cell.state == state:
            coverage = simulate(cell.scenario, keep=1).coverage
            acted |= {kind for kind, phase in coverage if (kind, phase) == (cell.kind, state)}
    assert len(acted) >= ACTING[state], sorted(set(fault_kinds()) - acted)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path: Path) -> None:
    simulate(load_scenario(path)).check()
