"""The table of transitions: everything that is not in it raises, and changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import TRANSITIONS, ConnectionEvent, ConnectionState, IllegalTransition
from feedhandler._core.state import StateMachine


@given(st.lists(st.sampled_from(ConnectionEvent), max_size=30))
def test_only_what_the_table_lists_happens(events: list[ConnectionEvent]) -> None:
    machine = StateMachine()
    for event in events:
        before = machine.state
        if (before, event) in TRANSITIONS:
            assert machine.allows(event)
            assert machine.advance(event) == (before, TRANSITIONS[before, event])
            assert machine.state is TRANSITIONS[before, event]
        else:
            assert not machine.allows(event)
            with pytest.raises(IllegalTransition) as caught:
                machine.advance(event)
            assert (caught.value.state, caught.value.event) == (before, event)
            assert machine.state is before


def test_every_state_can_be_reached_and_can_be_closed() -> None:
    reached = {ConnectionState.DISCONNECTED}
    while more := {new for (old, _), new in TRANSITIONS.items() if old in reached} - reached:
        reached |= more
    assert reached == set(ConnectionState)
    for state in set(ConnectionState) - {ConnectionState.CLOSING, ConnectionState.CLOSED}:
        assert TRANSITIONS[state, ConnectionEvent.CLOSE] is ConnectionState.CLOSING


def test_closed_is_terminal() -> None:
    assert not [old for old, _ in TRANSITIONS if old is ConnectionState.CLOSED]


def test_the_readme_draws_this_table(readme: str) -> None:
    for (old, _), new in TRANSITIONS.items():
        assert f"    {old.name} --> {new.name}: " in readme
    drawn = [line for line in readme.splitlines() if " --> " in line and "[*]" not in line]
    assert len(drawn) == len(TRANSITIONS)
