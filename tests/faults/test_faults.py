"""Each kind of fault acts, and does what its docstring says, as the sound feed sees it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import field, frozen
from trio.testing import MockClock, check_two_way_stream

from feedhandler import WebSocketClient
from feedhandler_testing import MockWebSocketServer, memory_network
from feedhandler_testing.board import FaultBoard
from feedhandler_testing.faults import (
    AppPing,
    BackwardSequence,
    BackwardTimestamps,
    BadCloseCode,
    BadJson,
    BadNumber,
    Bandwidth,
    BinaryGarbage,
    Burst,
    ClockDrift,
    ClockJump,
    ClockSkew,
    Close,
    CloseBehind,
    ControlBetween,
    CorruptBits,
    Crash,
    CrossedBook,
    CutHandshake,
    CutMessage,
    DataBeforeAck,
    DelayHandshake,
    Down,
    DropBytes,
    Duplicate,
    DuplicateBytes,
    EmptyMessage,
    End,
    EpochTimestamps,
    ExpireToken,
    ExtraField,
    Fault,
    FragmentedControl,
    Fragments,
    FrameInside,
    GarbageHandshake,
    HalfOpen,
    HangDial,
    HangHandshake,
    HoldThenCut,
    HtmlMessage,
    HtmlPage,
    InflationBomb,
    InvalidUtf8,
    LateAck,
    Latency,
    LateSnapshot,
    Layer,
    LimitData,
    LongControl,
    LostAck,
    Masked,
    MissingField,
    Mute,
    MuteSymbol,
    NameFailure,
    NoCloseReply,
    NonMinimalLength,
    NoPong,
    Notice,
    Oversize,
    OversizedHeaders,
    Partition,
    Pings,
    Refuse,
    RefuseSubscription,
    Reject,
    Reorder,
    ReservedBits,
    Reset,
    SequenceGap,
    Slicer,
    SlowClose,
    SnapshotInStream,
    StaleSnapshot,
    Stall,
    StrayContinuation,
    TextAsBinary,
    TlsFailure,
    Truncated,
    UnfinishedFragments,
    UnknownType,
    WithholdReads,
    WrongAccept,
    WrongChecksum,
    WrongOpcode,
    WrongType,
    fault_kinds,
    kind_of,
)
from feedhandler_testing.link import Link
from feedhandler_testing.outcome import Outcome
from feedhandler_testing.run import simulate
from feedhandler_testing.scenario import Cut, Expect, Finish, Inject, Scenario, Serve, Wait
from feedhandler_testing.trace import Delivered, Fired, Happened, Lost, Malformed, Moved
from feedhandler_testing.triggers import OnConnection

# --- what is seen of each ------------------------------------------------------------------------


def _nothing_more(_: Outcome) -> None:
    pass


@frozen
class Effect:
    """What `fault` does in a run: the steps after it, what is expected, and what else is seen."""

    fault: Fault
    expect: dict[str, Any]
    steps: list[Any] = field(factory=list)
    scenario: dict[str, Any] = field(factory=dict)
    seen: Callable[[Outcome], None] = _nothing_more

    def run(self) -> Outcome:
        steps = self.steps or [Serve(6), self.fault, Serve(20)]
        return simulate(Scenario(steps=steps, expect=Expect(**self.expect), **self.scenario))


def meets(fault: Fault, kind: str) -> Effect:
    """It fails the first attempt to connect in this way."""
    return Effect(fault, {"failures": [kind], "connections": 1}, [fault, Serve(5)])


def ends(fault: Fault, kind: str, **expect: Any) -> Effect:
    """It ends the first connection in this way, and the second one is well."""
    times = None if fault.lasting else 1
    steps = [Serve(6), Inject(fault, OnConnection(1), times=times), Serve(6), Wait(40), Serve(6)]
    return Effect(fault, {"failures": [kind], "connections": 2, **expect}, steps)


def violates(fault: Fault, code: int = 1002) -> Effect:
    """It breaks the protocol, which is answered with a Close frame of that code."""
    return ends(fault, "protocol_error", close_codes=[code])


def harmless(fault: Fault, **expect: Any) -> Effect:
    """Nothing is lost, nor said to be."""
    return Effect(fault, {"lossless": True, "connections": 1, **expect})


def malformed(fault: Fault) -> Effect:
    """The message is malformed, and the stream goes on."""
    return Effect(fault, {"malformed": 1, "gaps": ["malformed"], "connections": 1})


def lags(fault: Fault, by_s: float, **more: Any) -> Effect:
    """The data comes late, or says so, and nothing is lost."""
    steps = [Serve(6), Inject(fault, **more), Serve(40)]
    return Effect(fault, {"lag_s": by_s, "lossless": True, "connections": 1}, steps)


def of_book(fault: Fault, steps: list[Any], **expect: Any) -> Effect:
    return Effect(fault, expect, steps, {"channel": "book", "symbols": ["BTC-USD"]})


def some_harm(outcome: Outcome) -> None:
    harm = [
        record
        for record in outcome.trace
        if isinstance(record, Lost | Malformed) or (isinstance(record, Moved) and record.failure)
    ]
    assert harm


def ends_late(outcome: Outcome) -> None:
    events = {r.event: r.at_s for r in outcome.trace if isinstance(r, Happened) and r.attempt == 1}
    assert events["closed"] == pytest.approx(events["close"] + 3)


def one_symbol_is_mute(outcome: Outcome) -> None:
    times = {
        symbol: [r.at_s for r in outcome.trace if isinstance(r, Delivered) and r.symbol == symbol]
        for symbol in ("BTC-USD", "ETH-USD")
    }
    pauses = {
        symbol: max(later - before for before, later in pairwise(at))
        for symbol, at in times.items()
    }
    assert pauses["ETH-USD"] > 4
    assert pauses["BTC-USD"] < 0.5


def closing_waits(outcome: Outcome) -> None:
    # Six messages, one each 0.1 s; then the feed's time to close, which is 2 s.
    assert outcome.virtual_s == pytest.approx(0.6 + 2)


_UNTIL_40 = {"for_s": 40.0}

EFFECTS = (
    # --- connecting ---
    meets(NameFailure(), "name_resolution"),
    meets(Refuse(), "refused"),
    meets(HangDial(), "handshake_timeout"),
    meets(HangHandshake(), "handshake_timeout"),
    meets(DelayHandshake(0.5), "handshake_timeout"),
    meets(CutHandshake("end"), "reset"),
    meets(CutHandshake("reset", inside=True), "reset"),
    meets(WrongAccept(), "rejected"),
    meets(GarbageHandshake(), "rejected"),
    meets(OversizedHeaders(), "rejected"),
    meets(HtmlPage(), "rejected"),
    meets(Reject(503), "rejected"),
    meets(Reject(429), "rate_limited"),
    Effect(
        TlsFailure("expired"), {"recovers": False, "raises": "TlsFailed", "connections": 0},
        [TlsFailure("expired"), Serve(1)],
    ),
    # --- bytes ---
    lags(Latency(2.0), 2.0),
    lags(Bandwidth(500.0), 2.0),
    lags(Stall(), 3.8, for_s=5),
    lags(Stall(pongs=True), 3.8, for_s=5),
    harmless(Slicer(1)),
    ends(Mute(), "no_pong", gaps=["reconnect"]),
    ends(HalfOpen(), "no_pong", gaps=["reconnect"]),
    Effect(Partition(), {"failures": ["no_pong", "handshake_timeout"]},
           [Serve(6), Inject(Partition(), **_UNTIL_40), Wait(45), Serve(6)]),
    Effect(Down(), {"failures": ["reset", "refused"], "connections": 2},
           [Serve(6), Inject(Down(), **_UNTIL_40), Wait(45), Serve(6)]),
    Effect(Crash(), {"failures": ["no_pong", "refused"], "connections": 2},
           [Serve(6), Inject(Crash(), **_UNTIL_40), Wait(45), Serve(6)]),
    ends(HoldThenCut(5), "reset", gaps=["reconnect"]),
    ends(WithholdReads(), "no_pong"),
    Effect(SlowClose(3), {"connections": 2},
           [Inject(SlowClose(3)), Serve(6), Cut(Close(1001)), Wait(5), Serve(6)], seen=ends_late),
    ends(LimitData(500), "reset", gaps=["reconnect"]),
    ends(Reset(), "reset", gaps=["reconnect"]),
    ends(Reset(lose=True), "reset", gaps=["reconnect"]),
    ends(End(), "reset", gaps=["reconnect"]),
    *(
        Effect(kind, {}, [Serve(6), Inject(kind, times=20), Serve(60)], seen=some_harm)
        for kind in (CorruptBits(4), DropBytes(7))
    ),
    harmless(DuplicateBytes()),  # a piece is a message here
    # --- WebSocket ---
    ends(NoPong(), "no_pong"),
    Effect(NoCloseReply(), {"close_codes": [1000]}, [Serve(6), Inject(NoCloseReply()), Finish()],
           seen=closing_waits),
    ends(Close(1012), "maintenance"),
    ends(Close(4000), "peer_closed"),
    ends(CloseBehind(), "peer_closed"),
    violates(BadCloseCode()),
    violates(BadCloseCode(0)),
    ends(CutMessage("end"), "reset"),
    ends(CutMessage("reset"), "reset"),
    harmless(Fragments(3)),
    harmless(ControlBetween(4), pongs=3),
    violates(UnfinishedFragments()),
    violates(StrayContinuation()),
    violates(WrongOpcode(11)),
    violates(ReservedBits(2)),
    violates(Masked()),
    violates(NonMinimalLength()),
    violates(LongControl()),
    violates(FragmentedControl()),
    violates(Oversize(), 1009),
    violates(InvalidUtf8(), 1007),
    harmless(TextAsBinary()),
    harmless(Pings(100), pongs=100),
    # --- the venue ---
    malformed(BadJson()),
    malformed(Truncated()),
    malformed(MissingField("side")),
    malformed(WrongType("size")),
    malformed(BadNumber("-1")),
    malformed(HtmlMessage()),
    malformed(FrameInside()),
    malformed(EmptyMessage()),
    malformed(BinaryGarbage()),
    harmless(UnknownType()),
    harmless(ExtraField()),
    Effect(SequenceGap(3), {"gaps": ["sequence"], "connections": 1}),
    Effect(Reorder(), {"gaps": ["sequence"], "connections": 1},
           scenario={"symbols": ["BTC-USD"]}),
    harmless(Duplicate(3)),
    harmless(BackwardSequence(4)),
    harmless(Burst(500), messages=526),
    harmless(AppPing(1)),
    Effect(Notice(), {"lossless": True, "connections": 2}, [Serve(6), Cut(Notice()), Serve(20)]),
    Effect(ExpireToken(), {"failures": ["reset"], "connections": 2},
           [Serve(6), Cut(ExpireToken()), Serve(6)], {"token": True}),
    Effect(MuteSymbol("ETH-USD"), {"gaps": ["sequence"], "connections": 1},
           [Serve(6), Inject(MuteSymbol("ETH-USD"), for_s=5), Serve(100)],
           seen=one_symbol_is_mute),
    Effect(LostAck(), {"requests": 2, "lossless": True}, [Inject(LostAck()), Serve(80)]),
    Effect(LateAck(7), {"requests": 2, "lossless": True}, [Inject(LateAck(7)), Serve(80)]),
    Effect(DataBeforeAck(4), {"messages": 12, "lossless": True},
           [Inject(DataBeforeAck(4)), Serve(2)]),
    Effect(RefuseSubscription(), {"recovers": False, "refused": 2},
           [RefuseSubscription(), Wait(2)], {"recover_s": 5.0}),
    of_book(LateSnapshot(2), [Inject(LateSnapshot(2)), Serve(60)], connections=1),
    of_book(StaleSnapshot(3), [Serve(9), Inject(StaleSnapshot(3)), Cut(Reset()), Serve(60)],
            requests=3),
    of_book(SnapshotInStream(), [Serve(9), Inject(SnapshotInStream()), Serve(30)],
            connections=1, lossless=True),
    of_book(WrongChecksum(), [Serve(9), Inject(WrongChecksum()), Serve(30)], gaps=["checksum"]),
    of_book(CrossedBook(), [Serve(9), Inject(CrossedBook()), Serve(30)], gaps=["crossed"]),
    # --- clocks ---
    lags(ClockSkew(30), 29.9),
    lags(ClockJump(3_600), 3_599),
    lags(ClockDrift(0.5), 1.9),
    lags(BackwardTimestamps(60), 59.9),
    lags(EpochTimestamps(), 1e9),
)  # fmt: skip


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: repr(effect.fault))
def test_a_fault_acts_as_it_says(effect: Effect) -> None:
    outcome = effect.run().check()
    kind = kind_of(type(effect.fault))
    assert [r for r in outcome.trace if isinstance(r, Fired) and r.fault.startswith(f"{kind}-")]
    effect.seen(outcome)


def test_a_compressed_message_that_inflates_without_end_is_not_inflated() -> None:
    steps = [Serve(6), InflationBomb(), Serve(20)]
    expect = Expect(malformed=1, connections=1)
    simulate(Scenario(steps=steps, compressed=True, expect=expect)).check()


def test_each_kind_is_shown() -> None:
    shown = {type(effect.fault).__name__ for effect in EFFECTS} | {InflationBomb.__name__}
    ours = [k for k in fault_kinds().values() if k.__module__.startswith("feedhandler_testing.")]
    # (Those of REST need a venue that has it: test_dialects.py.)
    assert shown == {kind.__name__ for kind in ours if kind.layer is not Layer.REST}


async def test_who_does_not_answer_an_application_ping_is_dropped(
    autojump_clock: MockClock,
) -> None:
    async with (
        MockWebSocketServer() as server,
        WebSocketClient(server.url, dial=server.dial) as client,
    ):
        await client.connect()
        connection = await server.next_connection()
        async with server.fault(AppPing(within_s=3)) as ping:
            await ping.fired.wait()
            assert await anext(client) == '{"type":"ping","id":1}'
            began = trio.current_time()
            await connection.wait_closed()
            assert trio.current_time() - began == pytest.approx(3, abs=0.01)


async def test_what_a_fault_starts_before_the_connection_runs_is_not_forgotten(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer() as server:
        stream = await server.simulate_connection()
        fault = server.fault(AppPing(within_s=3))
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        connection = await server.next_connection()
        await server.board.poll(connection)
        assert fault.count == 1
        with trio.fail_after(4):
            await connection.wait_closed()


# --- the link ------------------------------------------------------------------------------------


@frozen
class Stopwatch:
    def now(self) -> float:
        return trio.current_time()


def link_over(stream: Any, board: FaultBoard) -> Link:
    return Link(stream, board, attempt=1)


def empty_board() -> FaultBoard:
    world: Any = Stopwatch()
    return FaultBoard(
        world, 0, connections=list, on_fired=lambda *_: None, on_removed=lambda *_: None
    )


async def make_links() -> tuple[Link, Link]:
    left, right = memory_network()
    return link_over(left, empty_board()), link_over(right, empty_board())


async def make_clogged_links() -> tuple[Link, Link]:
    left, right = memory_network(limit=1)
    for stream in (left, right):
        await stream.send_all(b"x")
    return link_over(left, empty_board()), link_over(right, empty_board())


async def test_a_link_without_faults_keeps_trios_contract() -> None:
    await check_two_way_stream(make_links, make_clogged_links)
