"""Each rule catches a feed that breaks it, and lets the sound one pass in the same scenario."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import trio
from attrs import evolve, field, frozen
from trio.testing import MockClock

import feedhandler_testing.faults
import feedhandler_testing.scenario
import feedhandler_testing.triggers
from feedhandler import (
    BookDelta,
    BookSnapshot,
    ConnectionState,
    DecodeError,
    DecodeFailed,
    FeedStateChanged,
    Gap,
    GapReason,
    Level,
    PriceUpdate,
    SubscriptionFailed,
)
from feedhandler.abc import DialTarget
from feedhandler.errors import ConfigError
from feedhandler_testing import MockWebSocketServer
from feedhandler_testing.board import FaultNeverFired
from feedhandler_testing.faults import (
    BadJson,
    ClockSkew,
    Close,
    CutMessage,
    InvalidUtf8,
    Latency,
    LostAck,
    NoPong,
    Refuse,
    RefuseSubscription,
    Reject,
    Reset,
    SequenceGap,
)
from feedhandler_testing.outcome import Outcome, ScenarioFailed
from feedhandler_testing.rules import RULES
from feedhandler_testing.run import run_scenario, simulate
from feedhandler_testing.scenario import (
    Cut,
    Expect,
    Finish,
    Inject,
    Repair,
    Scenario,
    Serve,
    Wait,
)
from feedhandler_testing.subject import Contract, FeedSubject, MockVenue
from feedhandler_testing.trace import Delivered
from feedhandler_testing.triggers import At, Bytes, Messages, OnConnection, OnEvent

Bend = Callable[[Any], Iterable[Any]]

# --- feeds that are broken on purpose ------------------------------------------------------------


@frozen
class Bent:
    """The sound feed, whose events pass through a function that `bending` makes for each run.

    `settings` are put over the scenario's without the contract's knowledge.
    """

    bending: Callable[[], Bend] | None = None
    settings: Mapping[str, Any] = field(factory=dict)

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        mock = evolve(mock, settings={**mock.settings, **self.settings})
        async with FeedSubject()(mock) as feed:
            yield feed if self.bending is None else _bent(feed, self.bending())

    def contract(self, settings: Mapping[str, Any]) -> Contract:
        return FeedSubject().contract(settings)


async def _bent(feed: Any, bend: Bend) -> AsyncIterator[Any]:
    async for event in feed:
        for passed in bend(event):
            yield passed


def each(change: Callable[[Any], Any], *, kind: type = PriceUpdate) -> Callable[[], Bend]:
    """Change every event of a kind."""

    def make() -> Bend:
        return lambda event: [change(event)] if isinstance(event, kind) else [event]

    return make


def without(unwanted: Callable[[Any], bool]) -> Callable[[], Bend]:
    def make() -> Bend:
        return lambda event: [] if unwanted(event) else [event]

    return make


def repeating() -> Bend:
    return lambda event: [event, event] if isinstance(event, PriceUpdate) else [event]


def swapping() -> Bend:
    """Every two prices of a symbol change places."""
    kept: dict[str, PriceUpdate] = {}

    def bend(event: Any) -> list[Any]:
        if not isinstance(event, PriceUpdate):
            return [event]
        before = kept.pop(event.symbol, None)
        if before is not None:
            return [event, before]
        kept[event.symbol] = event
        return []

    return bend


def hole(update: PriceUpdate, number: int) -> Gap:
    return Gap(
        update.symbol, GapReason.SEQUENCE, number, number, None, update.recv_ns, 1,
        update.recv_ns, update.venue, update.epoch,
    )  # fmt: skip


def losing() -> Bend:
    """A price is dropped, and the venue is blamed for it."""

    def bend(event: Any) -> list[Any]:
        if isinstance(event, PriceUpdate) and event.sequence == 4:
            return [hole(event, 4)]
        return [event]

    return bend


def announcing_too_early() -> Bend:
    """A gap is announced before what came ahead of it."""

    def bend(event: Any) -> list[Any]:
        if isinstance(event, PriceUpdate) and event.sequence == 3:
            return [hole(event, 4), event]
        return [] if isinstance(event, PriceUpdate) and event.sequence == 4 else [event]

    return bend


def complaining() -> Bend:
    """A price that was right is called malformed."""

    def bend(event: Any) -> list[Any]:
        if not (isinstance(event, PriceUpdate) and event.sequence == 4):
            return [event]
        error = DecodeError("price", b"{}", [("$.price", "ugly")])
        return [DecodeFailed(error, event.recv_ns, event.venue, event.epoch), event]

    return bend


def silent_after_five() -> Bend:
    count = 0

    def bend(event: Any) -> list[Any]:
        nonlocal count
        count += isinstance(event, PriceUpdate)
        return [event] if count <= 5 else []

    return bend


def ten_more_seconds(event: FeedStateChanged) -> FeedStateChanged:
    wait_ns = event.next_attempt_ns
    return event if wait_ns is None else evolve(event, next_attempt_ns=wait_ns + 10 * 10**9)


@frozen
class SecondConnection(Bent):
    """It opens a connection that nobody asked for, and closes it in the end unless `left`."""

    left: bool = False

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with FeedSubject()(mock) as feed:
            stream = await mock.dial(DialTarget("mock.invalid", 80, None))
            yield feed
        if not self.left:
            await stream.aclose()


@frozen
class TaskLeft(Bent):
    """It leaves a task behind, which sleeps."""

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with FeedSubject()(mock) as feed:
            trio.lowlevel.spawn_system_task(trio.sleep, 10_000)
            yield feed


@frozen
class SlowToClose(Bent):
    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with FeedSubject()(mock) as feed:
            yield feed
        await trio.sleep(30)


@frozen
class Stubborn(Bent):
    """It asks again for what was refused."""

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with FeedSubject()(mock) as feed:

            async def insist() -> AsyncIterator[Any]:
                async for event in feed:  # type: ignore[attr-defined]  # a Feed
                    if isinstance(event, SubscriptionFailed) and event.error.symbol:
                        feed.subscribe([event.error.symbol])  # type: ignore[attr-defined]  # a Feed
                    yield event

            yield insist()


@frozen
class Overfull(Bent):
    """It says that more waits than may."""

    def gauges(self, _: Any) -> Iterator[tuple[str, float, float]]:
        yield "waiting events", 11, 10


# --- one case for each way of breaking a rule ----------------------------------------------------

_PLAIN = Scenario(steps=[Serve(20)])
_LOSING = [Serve(4), Inject(Latency(0.5)), Inject(Reset(lose=True), Messages(6)), Serve(30)]
_CUT = Scenario(steps=[Serve(10), Cut(Reset(lose=True)), Serve(10)])
_REFUSED = Scenario(steps=[Inject(Refuse(), times=7), Serve(10)])
_EXACT = evolve(_REFUSED, settings={"backoff": {"jitter": False}})
_SYMBOLS = ["S0-USD", "S1-USD", "S2-USD"]
_PACED = Scenario(
    symbols=_SYMBOLS, steps=[Serve(9, interval_s=0.3), Wait(25)],
    settings={"subscribe_pace_s": 2.0, "symbol_stale_s": 10.0},
)  # fmt: skip
_NOT_TAKEN = Scenario(
    steps=[RefuseSubscription(), Wait(10)], recover_s=10, expect=Expect(recovers=False)
)


_BOOK = Scenario(channel="book", symbols=["BTC-USD"], steps=[Serve(20)])


@frozen
class Case:
    name: str
    rule: str
    subject: Any
    scenario: Scenario = _PLAIN


def is_gap(event: Any) -> bool:
    return isinstance(event, Gap)


def is_sixth_delta(event: Any) -> bool:
    return isinstance(event, BookDelta) and event.sequence == 6


def is_retreat(event: Any) -> bool:
    return isinstance(event, FeedStateChanged) and event.new is ConnectionState.RECONNECTING


CASES = (
    Case("a state is left out", "LegalTransitions", Bent(without(is_retreat)), _CUT),
    Case(
        "a state that cannot follow", "LegalTransitions",
        Bent(each(lambda e: evolve(e, new=ConnectionState.CLOSED), kind=FeedStateChanged)),
    ),
    Case(
        "a price has another digit", "NothingInvented",
        Bent(each(lambda e: evolve(e, price=e.price + Decimal("0.01")))),
    ),
    Case(
        "a price loses its trailing zero", "NothingInvented",
        Bent(each(lambda e: evolve(e, price=e.price.normalize()))),
    ),
    Case(
        "price and size are swapped", "NothingInvented",
        Bent(each(lambda e: evolve(e, price=e.size, size=e.price))),
    ),
    Case(
        "the venue's time is rounded", "NothingInvented",
        Bent(each(lambda e: evolve(e, venue_time_ns=e.venue_time_ns // 10**6 * 10**6 + 1))),
    ),
    Case("each price comes twice", "NothingTwice", Bent(lambda: repeating())),
    Case("two prices are swapped", "InOrder", Bent(swapping)),
    Case("a gap stands too early", "InOrder", Bent(announcing_too_early)),
    Case(
        "stamped before it was sent", "TrueStamps",
        Bent(each(lambda e: evolve(e, recv_ns=e.recv_ns - 10**9))),
    ),
    Case(
        "stamped after it was published", "TrueStamps",
        Bent(each(lambda e: evolve(e, recv_ns=e.recv_ns + 10**9))),
    ),
    Case(
        "gaps are swallowed", "LossAnnounced", Bent(without(is_gap)), Scenario(steps=_LOSING)
    ),
    Case(
        "prices are swallowed", "LossAnnounced",
        Bent(without(lambda e: isinstance(e, PriceUpdate) and e.sequence % 5 == 0)),
    ),
    Case("the venue is blamed for a loss", "NoFalseAlarm", Bent(losing)),
    Case("a sound message is called malformed", "NoFalseAlarm", Bent(complaining)),
    Case(
        "a level has another size", "BooksTrue",
        Bent(each(
            lambda e: evolve(e, bids=tuple(Level(bid.price, bid.size * 2) for bid in e.bids)),
            kind=BookSnapshot,
        )), _BOOK,
    ),
    Case("a delta is left out", "BooksTrue", Bent(without(is_sixth_delta)), _BOOK),
    Case(
        "deltas go on without their snapshot", "BooksTrue",
        Bent(without(lambda e: isinstance(e, BookSnapshot) and e.sequence > 3)),
        evolve(_BOOK, steps=_LOSING),
    ),
    Case("a second connection", "OneConnection", SecondConnection()),
    Case(
        "subscribes twice", "PacedSubscriptions", Bent(settings={"ack_deadline_s": 0.5}),
        Scenario(steps=[Inject(LostAck()), Serve(80)]),
    ),
    Case("asks too fast", "PacedSubscriptions", Bent(settings={"subscribe_pace_s": 0.0}), _PACED),
    Case("asks for what was refused", "PacedSubscriptions", Stubborn(), _NOT_TAKEN),
    Case(
        "waits longer than the formula", "PatientBackoff",
        Bent(each(ten_more_seconds, kind=FeedStateChanged)), _CUT,
    ),
    Case(
        "waits less than the formula", "PatientBackoff",
        Bent(settings={"backoff": {"base_s": 0.001, "jitter": False}}), _EXACT,
    ),
    Case(
        "dials before the wait is over", "PatientBackoff",
        Bent(each(
            lambda e: e if e.next_attempt_ns is None
            else evolve(e, next_attempt_ns=e.next_attempt_ns + 50 * 10**6),
            kind=FeedStateChanged,
        )), _CUT,
    ),
    Case(
        "counts its failures wrong", "PatientBackoff",
        Bent(each(lambda e: evolve(e, attempt=1), kind=FeedStateChanged)), _REFUSED,
    ),
    Case(
        "opens its circuit late", "PatientBreaker",
        Bent(settings={"breaker": {"failure_threshold": 6}}), _REFUSED,
    ),
    Case(
        "opens its circuit early", "PatientBreaker",
        Bent(settings={"breaker": {"failure_threshold": 2}}), _REFUSED,
    ),
    Case(
        "keeps its circuit open for too long", "PatientBreaker",
        Bent(settings={"breaker": {"open_s": 20.0}}), _REFUSED,
    ),
    Case(
        "probes too early", "PatientBreaker", Bent(settings={"breaker": {"open_s": 5.0}}), _REFUSED
    ),
    Case(
        "more waits than may", "WithinBounds", Overfull(),
        evolve(_PLAIN, settings={"buffer_events": 10}),
    ),
    Case("goes silent", "Liveness", Bent(lambda: silent_after_five())),
    Case(
        "gives up", "Liveness", Bent(settings={"backoff": {"max_retries": 1}}),
        Scenario(steps=[Inject(Refuse(), times=3), Serve(10)]),
    ),
    Case("closes slowly", "BoundedClose", SlowToClose()),
    Case("leaves a stream open", "NothingLeft", SecondConnection(left=True)),
    Case("leaves a task", "NothingLeft", TaskLeft()),
    Case(
        "is not met by its fault", "FaultsFire",
        Bent(settings={"connection": {"heartbeat_interval_s": None}}),
        Scenario(steps=[Inject(NoPong(), for_s=30), Serve(10), Wait(10)]),
    ),
    Case(
        "another failure than was to come", "Expected",
        Bent(settings={"connection": {"pong_deadline_s": 60.0, "frame_stale_s": 10.0}}),
        Scenario(
            steps=[Serve(5), Inject(feedhandler_testing.faults.HalfOpen(), OnConnection(1)),
                   Wait(30), Serve(5)],
            expect=Expect(failures=["no_pong"]),
        ),
    ),
)  # fmt: skip


def broken_rules(outcome: Outcome) -> set[str]:
    return {violation.rule for violation in outcome.violations}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_broken_feed_is_caught(case: Case) -> None:
    outcome = simulate(case.scenario, case.subject)
    assert case.rule in broken_rules(outcome), outcome.violations
    with pytest.raises(ScenarioFailed, match=case.rule):
        outcome.check()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_sound_feed_passes(case: Case) -> None:
    assert simulate(case.scenario).violations == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_wrapper_that_bends_nothing_passes(case: Case) -> None:
    assert simulate(case.scenario, Bent(without(lambda _: False))).violations == []


def test_there_is_a_case_for_each_rule() -> None:
    judged = {"Liveness", "BoundedClose", "NothingLeft", "FaultsFire", "Expected"}
    assert {case.rule for case in CASES} == {rule.__name__ for rule in RULES} | judged


async def test_run_scenario_raises_for_a_broken_feed(autojump_clock: MockClock) -> None:
    with pytest.raises(ScenarioFailed, match="NothingTwice"):
        await run_scenario(_PLAIN, Bent(lambda: repeating()))
    outcome = await run_scenario(_PLAIN, Bent(lambda: repeating()), check=False)
    assert broken_rules(outcome) == {"NothingTwice"}
    assert (await run_scenario(_PLAIN)).violations == []


# --- what a scenario expects ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "right", "wrong"),
    [
        ([Serve(9), Cut(Reset())], {"failures": ["reset"]}, {"failures": ["reset", "stale"]}),
        ([Serve(9), Cut(Reset())], {"gaps": ["reconnect"]}, {"gaps": ["sequence"]}),
        ([Serve(9)], {"lossless": True}, {"gaps": ["overflow"]}),
        ([Serve(4), Inject(SequenceGap()), Serve(9)], {"gaps": ["sequence"]}, {"lossless": True}),
        ([Inject(BadJson()), Serve(9)], {"malformed": 1}, {"malformed": 2}),
        ([Serve(9)], {"messages": 11}, {"messages": 12}),
        ([Serve(9), Cut(Reset())], {"connections": 2}, {"connections": 1}),
        ([Inject(InvalidUtf8()), Serve(9)], {"close_codes": [1007]}, {"close_codes": [1002]}),
        ([Reject(429, retry_after_s=7), Serve(9)], {"wait_s": 7}, {"wait_s": 8}),
        ([Inject(LostAck()), Serve(80)], {"requests": 2}, {"requests": 3}),
        ([Serve(9), Wait(60)], {"within_s": 70}, {"within_s": 60}),
        ([Inject(ClockSkew(30)), Serve(9)], {"lag_s": 29}, {"lag_s": 31}),
        ([Serve(9), Wait(20)], {"pongs": 2}, {"pongs": 3}),
        (
            [Reject(401), Serve(1)],
            {"recovers": False, "raises": "AuthenticationFailed"},
            {"recovers": False, "raises": "TlsFailed"},
        ),
        (
            [RefuseSubscription(), Wait(1)],
            {"recovers": False, "refused": 2},
            {"recovers": False, "refused": 3},
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_expectations(steps: list[Any], right: dict[str, Any], wrong: dict[str, Any]) -> None:
    scenario = Scenario(steps=steps, heartbeat_s=8.0, recover_s=30, expect=Expect(**right))
    assert simulate(scenario).violations == []
    outcome = simulate(evolve(scenario, expect=Expect(**wrong)))
    assert broken_rules(outcome) == {"Expected"}


# --- faults that never act -----------------------------------------------------------------------


async def test_a_fault_that_never_acted_fails_its_block(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        with pytest.raises(FaultNeverFired, match=r"Reset\(.*never fired") as caught:
            async with server.fault(Reset()):
                await trio.sleep(1)
        assert caught.value.injection.fault == Reset()


async def test_an_error_of_the_block_is_not_hidden_by_it(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        with pytest.raises(ZeroDivisionError):
            async with server.fault(Reset()):
                raise ZeroDivisionError


def test_a_fault_that_never_acts_breaks_the_run() -> None:
    # At(100) can come, so the scenario is possible, and does not before the end.
    scenario = Scenario(steps=[Inject(Reset(), At(100)), Serve(5)])
    outcome = simulate(scenario)
    assert broken_rules(outcome) == {"FaultsFire"}
    assert "Reset(" in outcome.violations[0].message
    assert simulate(evolve(scenario, expect=Expect(all_fire=False))).violations == []


# --- scenarios that cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Scenario(steps=[]), "steps"),
        (lambda: Scenario(steps=[Serve(1)], symbols=[]), "symbols"),
        (lambda: Scenario(steps=[Serve(1)], seed="7"), "seed"),
        (lambda: Scenario(steps=[Serve(1)], network="carrier pigeon"), "network"),
        (lambda: Scenario(steps=[Serve(1)], recover_s=0), "recover_s"),
        (lambda: Scenario(steps=[Serve(1)], consumer_pause_s=-1), "consumer_pause_s"),
        (lambda: Scenario(steps=[Serve(1), "Serve(1)"]), "steps[1]"),
        (lambda: Scenario(steps=[Finish(), Serve(1)]), "steps[0]"),
        (lambda: Scenario(steps=[Serve(1), Refuse()]), "steps[1]"),
        (lambda: Scenario(steps=[Inject(Close(), Messages(9)), Serve(8)]), "steps[0].after"),
        (
            lambda: Scenario(steps=[Inject(Close(), At(1) & Messages(9)), Serve(8)]),
            "steps[0].after",
        ),
        (lambda: Scenario(steps=[Inject(ClockSkew(), Bytes(9)), Serve(8)]), "steps[0].after"),
        (lambda: Scenario(steps=[Serve(8), CutMessage()]), "steps[1]"),
        (lambda: Cut(Latency()), "fault"),
        (lambda: Cut("Reset()"), "fault"),
        (lambda: Inject("Reset()"), "fault"),
        (lambda: Inject(Reset(), 5), "after"),
        (lambda: Inject(Reset(), chance=2), "chance"),
        (lambda: Inject(Reset(), every=0), "every"),
        (lambda: Inject(Reset(), times=-1), "times"),
        (lambda: Inject(Reset(), for_s=-1), "for_s"),
        (lambda: Serve(0), "count"),
        (lambda: Serve(1, interval_s=-1), "interval_s"),
        (lambda: Wait(0), "for_s"),
        (lambda: OnEvent("full moon"), "event"),
        (lambda: OnConnection(0), "number"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_with_its_path(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.name == told
    assert str(caught.value)


def test_a_trigger_on_a_second_connection_needs_an_end_of_the_first() -> None:
    with pytest.raises(ConfigError, match="nothing ends the first"):
        Scenario(steps=[Inject(SequenceGap(), OnConnection(2)), Serve(8)])


@pytest.mark.parametrize(
    "steps",
    [
        [Inject(Close(), Messages(8)), Serve(4), Serve(4)],
        [Refuse(), Serve(1)],
        [Serve(1), Cut(Reset()), Refuse(), Serve(1)],
        [Serve(1), Inject(Close()), Refuse(), Serve(1)],
        [Inject(SequenceGap(), OnConnection(2)), Serve(1), Cut(Reset()), Serve(4)],
        [Inject(Latency(0.1)), Serve(1), Repair(), Serve(1)],
        [Serve(1), Finish()],
    ],
)  # fmt: skip
def test_what_is_possible_is_taken(steps: list[Any]) -> None:
    assert Scenario(steps=steps).steps == tuple(steps)


# --- what a failure says -------------------------------------------------------------------------


def test_a_failure_is_all_that_is_needed_to_repeat_it() -> None:
    scenario = Scenario(
        seed=7, symbols=["BTC-USD"], settings={"buffer_events": 100},
        steps=[Serve(6, interval_s=0.5), Cut(Close(1012, "restart")), Reject(429, retry_after_s=2),
               Inject(SequenceGap(2), Messages(3) & At(1), times=1), Serve(20)],
        expect=Expect(gaps=["overflow"]),
    )  # fmt: skip
    outcome = simulate(scenario)
    with pytest.raises(ScenarioFailed) as caught:
        outcome.check()
    told = str(caught.value)
    assert caught.value.outcome is outcome
    assert told.startswith("1 violation(s):\n  Expected at ")
    (literal,) = [line for line in told.splitlines() if line.startswith("Scenario(")]
    modules = (
        feedhandler_testing.scenario, feedhandler_testing.faults, feedhandler_testing.triggers,
    )  # fmt: skip
    names = {name: getattr(module, name) for module in modules for name in module.__all__}
    again = eval(literal, names)  # noqa: S307  # what a reader of the message would do
    assert again == scenario
    assert simulate(again).digest == outcome.digest
    assert f"seed 7; Python {platform.python_version()}" in told
    assert f"trio {trio.__version__}" in told
    assert told.endswith("\n".join(outcome.trace.lines()[-20:]))


def test_a_rule_that_breaks_often_is_told_briefly() -> None:
    outcome = simulate(evolve(_PLAIN, steps=[Serve(300)]), Bent(lambda: repeating()))
    assert len(outcome.violations) == 100
    assert "… and 90 more" in str(ScenarioFailed(outcome))


def test_kept_records_are_bounded_and_the_listener_gets_all() -> None:
    heard: list[Any] = []
    outcome = simulate(_PLAIN, keep=5, listener=heard.append)
    assert len(outcome.trace.lines()) == 5
    assert len(heard) == outcome.trace.count
    assert sum(isinstance(record, Delivered) for record in heard) == outcome.messages == 22
