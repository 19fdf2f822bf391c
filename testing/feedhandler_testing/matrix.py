"""Every fault in every state: one scenario for each pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import evolve, frozen

from feedhandler_testing.dialect import dialect_by_name
from feedhandler_testing.faults import (
    ExpireToken,
    Fault,
    MuteSymbol,
    Notice,
    Refuse,
    RefuseSubscription,
    Reset,
    TlsFailure,
    fault_kinds,
    kind_of,
)
from feedhandler_testing.sampling import typical_fault
from feedhandler_testing.scenario import (
    OF_BOOKS,
    Cut,
    Expect,
    Finish,
    Inject,
    Scenario,
    Serve,
    Step,
)
from feedhandler_testing.triggers import OnEvent

__all__ = ["STATES", "Cell", "matrix"]


@frozen
class Cell:
    """A fault that acts while the subject is in a state, or as soon after as it can."""

    kind: str
    state: str
    scenario: Scenario

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.state}"


def _begins(event: str) -> tuple[tuple[Step, ...], OnEvent, tuple[Step, ...]]:
    return (), OnEvent(event), (Serve(14, interval_s=0.5), Cut(Reset()), Serve(6))


# What comes before the fault is put in place, when it acts, and what comes after.
_SHAPES: Mapping[str, tuple[tuple[Step, ...], OnEvent, tuple[Step, ...]]] = MappingProxyType(
    {
        "connecting": _begins("dialled"),
        "handshaking": _begins("handshake"),
        "subscribing": _begins("subscribe"),
        "live": _begins("message"),
        "closing": ((), OnEvent("close"), (Serve(6), Finish())),
        "backing-off": (
            (Serve(6),),
            OnEvent("reconnecting"),
            (Cut(Reset()), Serve(6), Cut(Reset()), Serve(6)),
        ),
        "half-open": (
            (Inject(Refuse(), times=5),),
            OnEvent("half_open"),
            (Serve(6), Cut(Reset()), Serve(6)),
        ),
        "rolling-over": (
            (Serve(6),),
            OnEvent("dialled"),
            (Cut(Notice()), Serve(12), Cut(Reset()), Serve(6)),
        ),
    }
)

STATES = tuple(_SHAPES)
"""The states that faults are put into."""


def matrix(
    kinds: Mapping[str, type[Fault]] | None = None, *, venue: str = "price", books: bool = False
) -> Iterator[Cell]:
    """A scenario for each kind of fault (default: all) that can act at `venue`, and each state.

    What is subscribed are prices, or `books`; for faults that act on books alone always these.
    """
    says = dialect_by_name(venue).means.says
    for kind in (kinds or fault_kinds()).values():
        if not kind.needs <= says:
            continue
        for state in STATES:
            yield Cell(kind_of(kind), state, _scenario(typical_fault(kind), state, venue, books))


def _scenario(fault: Fault, state: str, venue: str, books: bool) -> Scenario:
    before, trigger, after = _SHAPES[state]
    inject = Inject(fault, trigger, for_s=20.0 if fault.lasting else None)
    scenario = Scenario(
        name=f"{kind_of(type(fault))} while {state}",
        seed=1,
        venue=venue,
        steps=[*before, inject, *after],
        settings={"connection": {"data_stale_s": 30.0}},
        recover_s=300.0,
        channel="book" if books or type(fault) in OF_BOOKS else "price",
        expect=Expect(all_fire=False),
    )
    if isinstance(fault, ExpireToken):
        return evolve(scenario, token=True)
    if isinstance(fault, MuteSymbol):
        scenario = evolve(scenario, settings={"symbol_stale_s": 10.0})
    if state == "rolling-over" and isinstance(fault, TlsFailure):
        # A successor that can't be made is no reason against the connection that delivers.
        scenario = evolve(scenario, steps=scenario.steps[:4])
    elif state != "closing" and isinstance(fault, TlsFailure):
        return evolve(scenario, expect=Expect(recovers=False, raises="TlsFailed", all_fire=False))
    # (What is refused on the successor alone is a reason against that one, and not to give it up.)
    given_up = state not in ("closing", "rolling-over")
    if given_up and isinstance(fault, RefuseSubscription):
        return evolve(scenario, expect=Expect(recovers=False, refused=1, all_fire=False))
    return scenario
