"""Scenarios drawn at random: the same generator serves the command line's search and hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import attrs

from feedhandler_testing.dialect import Means, dialect_by_name
from feedhandler_testing.faults import (
    AppPing,
    BadJson,
    Bandwidth,
    Burst,
    ClockDrift,
    ClockJump,
    ClockSkew,
    Close,
    CorruptBits,
    CutHandshake,
    DataBeforeAck,
    DelayHandshake,
    DropBytes,
    DuplicateBytes,
    ExpireToken,
    Fault,
    HangDial,
    HoldThenCut,
    HtmlPage,
    InflationBomb,
    LateAck,
    Latency,
    LateSnapshot,
    Layer,
    LimitData,
    MissingField,
    MuteSymbol,
    Pings,
    RefuseSubscription,
    Reject,
    RestLate,
    RestLimited,
    RestStale,
    RestTooLarge,
    SequenceGap,
    Slicer,
    SlowClose,
    StaleSnapshot,
    Stall,
    TlsFailure,
    WrongType,
    fault_kinds,
)
from feedhandler_testing.faults.base import hooks_of
from feedhandler_testing.scenario import (
    OF_BOOKS,
    Cut,
    Expect,
    Finish,
    Inject,
    Repair,
    Scenario,
    Serve,
    Step,
    Wait,
)
from feedhandler_testing.triggers import (
    AT_ONCE,
    EVENTS,
    At,
    Bytes,
    Messages,
    OnConnection,
    OnEvent,
    Trigger,
)

__all__ = [
    "Chooser",
    "RandomChooser",
    "draw_fault",
    "draw_scenario",
    "is_drawable",
    "random_scenario",
]

T = TypeVar("T")
_PLAIN = Means()


class Chooser(Protocol):
    """Where choices come from. The first of `options`, and the least number, are the simplest."""

    def integer(self, low: int, high: int) -> int: ...

    def number(self, low: float, high: float) -> float: ...

    def one_of(self, options: Sequence[T]) -> T: ...


class RandomChooser:
    """Choices drawn from a generator."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def integer(self, low: int, high: int) -> int:
        return self._rng.randint(low, high)

    def number(self, low: float, high: float) -> float:
        return round(self._rng.uniform(low, high), 3)

    def one_of(self, options: Sequence[T]) -> T:
        return options[self._rng.randrange(len(options))]


_EVENTS = tuple(sorted(EVENTS - {"fetch"}))  # those that happen at every venue
_WAYS = ("to_client", "to_server", "both")

# What parameters are drawn from: a range of ints or floats, or a list of choices. A kind that is
# not here is used as it is by default.
_RANGES: Mapping[type[Fault], Mapping[str, Any]] = MappingProxyType(
    {
        AppPing: {"within_s": (1.0, 10.0)},
        BadJson: {"how": ["any"]},
        Bandwidth: {"bytes_per_s": (200.0, 100_000.0), "way": _WAYS},
        Burst: {"count": (1, 200)},
        ClockDrift: {"rate": (-0.1, 0.1)},
        ClockJump: {"by_s": (-10_000.0, 10_000.0)},
        ClockSkew: {"by_s": (-100.0, 100.0)},
        Close: {"code": [1000, 1001, 1006 - 3, 1011, 1012, 1013, 4000]},
        CorruptBits: {"bits": (1, 8)},
        CutHandshake: {"how": ["end", "reset"], "inside": [False, True]},
        DataBeforeAck: {"count": (1, 5)},
        DelayHandshake: {"each_s": (0.01, 1.0)},
        DropBytes: {"count": (1, 50)},
        DuplicateBytes: {},
        HangDial: {"for_s": [0.0, 1.0, 4.0]},
        HoldThenCut: {"after_s": (0.0, 30.0)},
        HtmlPage: {"status": [200, 502, 503]},
        LateAck: {"delay_s": (0.1, 20.0)},
        LateSnapshot: {"delay_s": (0.1, 20.0)},
        StaleSnapshot: {"by": (1, 8)},
        Latency: {"delay_s": (0.0, 3.0), "jitter_s": (0.0, 1.0), "way": _WAYS},
        LimitData: {"count": (1, 3_000), "how": ["end", "reset"]},
        MissingField: {"name": ["price", "symbol", "sequence", "time", "size", "side", "type"]},
        Pings: {"count": (1, 50)},
        Reject: {
            "status": [429, 503, 500, 502, 302, 418, 404],
            "retry_after_s": [None, 0, 1, 30],
            "body": ["", "busy"],
        },
        RestLate: {"delay_s": (0.1, 60.0)},
        RestLimited: {"retry_after_s": (0, 30)},
        RestStale: {"by": (1, 20)},
        RestTooLarge: {"size": [20 << 20]},
        SequenceGap: {"count": (1, 5)},
        Slicer: {"size": (1, 300), "variation": (0, 20), "delay_s": [0.0, 0.001, 0.05]},
        SlowClose: {"delay_s": (0.1, 10.0)},
        Stall: {"pongs": [False, True], "way": _WAYS},
        WrongType: {"name": ["price", "symbol", "sequence", "time", "size", "side"]},
    }
)

# Those that a subject is right to give up for, or that need more than a scenario has here.
_NOT_DRAWN = frozenset({TlsFailure, RefuseSubscription, ExpireToken, InflationBomb})


def is_drawable(kind: type[Fault]) -> bool:
    """Whether faults of that kind are drawn."""
    return kind not in _NOT_DRAWN and kind.__module__.startswith("feedhandler_testing.")


def _drawable(
    *,
    cutting: bool = False,
    connecting: bool | None = None,
    books: bool = False,
    means: Means = _PLAIN,
) -> list[type[Fault]]:
    return [
        kind
        for kind in fault_kinds().values()
        if is_drawable(kind)
        and kind.needs <= means.says
        and (connecting is None or connecting == (kind.layer is Layer.CONNECTING))
        and (kind.cuts or not cutting)
        and (books or kind not in OF_BOOKS)
    ]


def draw_fault(choose: Chooser, kind: type[Fault], symbols: Sequence[str]) -> Fault:
    """A fault of that kind, with parameters drawn."""
    if kind is MuteSymbol:
        return MuteSymbol(choose.one_of(symbols))
    ranges = _RANGES.get(kind, {})
    if not ranges:
        needed = [one.name for one in attrs.fields(kind) if one.default is attrs.NOTHING]
        if needed:
            raise TypeError(f"{kind.__name__} needs {needed}, and has no ranges to draw from")
    drawn: dict[str, Any] = {}
    for name, bounds in ranges.items():
        if isinstance(bounds, list) or isinstance(bounds[0], str):
            drawn[name] = choose.one_of(bounds)
        elif isinstance(bounds[0], int):
            drawn[name] = choose.integer(*bounds)
        else:
            drawn[name] = choose.number(*bounds)
    return kind(**drawn)


_TYPICAL: Mapping[type[Fault], Mapping[str, Any]] = MappingProxyType(
    {
        Bandwidth: {"bytes_per_s": 2_000.0},
        MuteSymbol: {"symbol": "ETH-USD"},
        Reject: {"status": 503},
    }
)


def typical_fault(kind: type[Fault]) -> Fault:
    """A fault of that kind, as it is by default, or with a typical value where there is none.

    Raises `TypeError` for a kind with a parameter that has neither.
    """
    return kind(**_TYPICAL.get(kind, {}))


def _draw_trigger(choose: Chooser, kind: type[Fault], served: int) -> Trigger:
    makers: list[Callable[[], Trigger]] = [
        lambda: AT_ONCE,
        lambda: At(choose.number(0.0, 10.0)),
        lambda: OnEvent(choose.one_of(_EVENTS), choose.integer(1, 2)),
        lambda: Messages(choose.integer(0, served)),
        lambda: Bytes(choose.integer(0, 2_000)),
        lambda: OnConnection(choose.integer(1, 2)),
    ]
    if hooks_of(kind) <= {"shift_s", "rest"}:
        makers = makers[:3]  # a clock, or REST, belongs to no connection
    return choose.one_of(makers)()


def _draw_settings(choose: Chooser) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    overflow = choose.one_of(["block", "drop_oldest", "conflate"])
    if overflow != "block":
        settings |= {"overflow": overflow, "buffer_events": choose.integer(5, 200)}
    elif choose.integer(0, 3) == 3:
        settings |= {"buffer_events": choose.integer(5, 50)}
    if choose.integer(0, 3) == 3:
        settings["symbol_stale_s"] = 10.0
    if choose.integer(0, 3) == 3:
        settings["subscribe_pace_s"] = 0.5
    if choose.integer(0, 3) == 3:
        settings["connection"] = {"data_stale_s": 20.0}
    if choose.integer(0, 7) == 7:
        settings["breaker"] = False
    return settings


def draw_scenario(choose: Chooser, *, seed: int, venue: str = "price") -> Scenario:
    """A scenario at `venue` that a sound feed has to survive."""
    means = dialect_by_name(venue).means
    symbols = ["BTC-USD", "ETH-USD", "SOL-USD"][: choose.integer(1, 3)]
    channel = choose.one_of(["price", "price", "price", "book"])
    steps: list[Step | Fault] = []
    for _ in range(choose.integer(1, 5)):
        shape = choose.integer(0, 9)
        served = choose.integer(2, 25)
        serve = Serve(served, interval_s=choose.one_of([0.1, 0.0, 0.01, 1.0]))
        if shape <= 4:
            kind = choose.one_of(_drawable(books=channel == "book", means=means))
            every = choose.integer(1, 3)
            inject = Inject(
                draw_fault(choose, kind, symbols),
                _draw_trigger(choose, kind, served),
                chance=choose.one_of([1.0, 0.5]),
                every=every,
                times=choose.one_of([None, 1, 3]),
                for_s=choose.one_of([None, 5.0, 40.0]),
            )
            steps += [inject, serve]
        elif shape <= 7:
            cutting = choose.one_of(_drawable(cutting=True, means=means))
            steps += [serve, Cut(draw_fault(choose, cutting, symbols))]
            for _ in range(choose.integer(0, 2)):
                meeting = choose.one_of(_drawable(connecting=True))
                steps.append(draw_fault(choose, meeting, symbols))
            steps.append(Serve(choose.integer(1, 5)))
        elif shape == 8:
            steps += [serve, Wait(choose.number(0.5, 40.0))]
        else:
            steps += [Repair(), serve]
    if choose.integer(0, 7) == 7:
        steps.append(Finish())
    return Scenario(
        seed=seed,
        steps=steps,
        symbols=symbols,
        channel=channel,
        venue=venue,
        settings=_draw_settings(choose),
        consumer_pause_s=choose.one_of([0.0, 0.0, 0.0, 0.05, 0.5]),
        heartbeat_s=choose.one_of([None, None, 7.0]),
        recover_s=600.0,
        expect=Expect(all_fire=False),
    )


def random_scenario(seed: int, *, venue: str = "price") -> Scenario:
    """The scenario of a seed: the same one in every process and version."""
    return draw_scenario(RandomChooser(Random(f"scenario/{seed}")), seed=seed, venue=venue)
