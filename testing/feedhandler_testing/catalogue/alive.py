"""Failures 13 to 34: staying alive."""

from __future__ import annotations

from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.faults import (
    AppPing,
    Burst,
    Close,
    CloseBehind,
    CutMessage,
    End,
    HalfOpen,
    HangDial,
    MuteSymbol,
    NoCloseReply,
    NoPong,
    Notice,
    Refuse,
    ReservedBits,
    Reset,
    Stall,
)
from feedhandler_testing.scenario import Cut, Expect, Finish, Inject, Scenario, Serve, Wait
from feedhandler_testing.triggers import Messages, OnConnection

__all__ = ["ALIVE"]

_ON_FIRST = OnConnection(1)


def _closed(number: int, code: int, reason: str, answer: str, kind: str) -> Entry:
    return Entry(
        number, f"Close {code}, {reason or 'without a reason'}", answer,
        Scenario(
            name=f"close-{code}",
            steps=[Serve(10), Cut(Close(code, reason)), Serve(10)],
            expect=Expect(failures=[kind], connections=2),
        ),
    )  # fmt: skip


ALIVE = (
    Entry(
        13, "silence, with the socket open", "any-frame deadline, reconnect",
        Scenario(
            name="silent-stall", settings={"connection": {"frame_stale_s": 10.0}},
            steps=[Serve(10), Inject(Stall(), _ON_FIRST), Wait(30), Serve(10)],
            expect=Expect(failures=["stale"], connections=2),
        ),
    ),
    Entry(
        14, "data stalls while pings still work", "data-only deadline, reconnect",
        Scenario(
            name="data-stall", settings={"connection": {"data_stale_s": 20.0}},
            steps=[Serve(10), Inject(Stall(pongs=True), _ON_FIRST), Serve(40), Wait(30), Serve(10)],
            expect=Expect(failures=["stale"], connections=2),
        ),
    ),
    Entry(
        15, "one symbol goes silent, others flow", "that one is subscribed anew first",
        Scenario(
            name="mute-symbol", settings={"symbol_stale_s": 10.0},
            steps=[Serve(10), Inject(MuteSymbol("ETH-USD"), for_s=25), Serve(300)],
            expect=Expect(connections=1, requests=2),
        ),
    ),
    Entry(
        16, "a quiet market is not a fault", "heartbeats keep it alive; no reconnect",
        Scenario(
            name="quiet-market",
            steps=[Serve(10), Wait(3_600), Serve(10)],
            expect=Expect(connections=1, lossless=True, close_codes=[1000]),
        ),
    ),
    Entry(
        17, "it accepts, and drops at once", "the back-off grows: an open connection is no proof",
        Scenario(
            name="accept-and-drop", settings={"breaker": False, "backoff": {"jitter": False}},
            steps=[Inject(Close(1001), times=6), Wait(30), Serve(10)],
            expect=Expect(failures=["peer_closed"] * 6, connections=7),
        ),
    ),
    Entry(
        17, "blips, each mended at once", "the count starts anew with the first data",
        Scenario(
            name="blips", settings={"backoff": {"jitter": False}},
            steps=[*[Serve(5), Cut(Reset())] * 7, Serve(10)],
            expect=Expect(failures=["reset"] * 7, connections=8),
        ),
    ),
    Entry(
        17, "after an outage a planned roll-over is cut short, in the middle of a probe",
        "the probe's leave is given back, and the next attempt is a probe as well",
        Scenario(
            name="probe-cut-short",
            steps=[*[Refuse()] * 5, Serve(1), Cut(Notice("not here")), HangDial(), Cut(Reset()),
                   Serve(10)],
            expect=Expect(failures=["refused"] * 5 + ["reset"], connections=2),
        ),
    ),
    Entry(
        18, "messages, and a Close right behind them", "the messages are delivered first",
        Scenario(
            name="data-then-close",
            steps=[Serve(5), Inject(CloseBehind()), Serve(1), Wait(5), Serve(5)],
            # Two more come at the end of each run, one for each symbol.
            expect=Expect(failures=["peer_closed"], messages=13, connections=2),
        ),
    ),
    Entry(
        17, "a forced cut after 24 hours", "the new connection delivers before the old one goes",
        Scenario(
            name="24-hours", symbols=["BTC-USD"],
            settings={"connection": {"max_lifetime_s": 84_600.0, "heartbeat_interval_s": 300.0,
                                     "pong_deadline_s": 700.0, "frame_stale_s": 900.0}},
            steps=[Serve(2_920, interval_s=30.0)],
            expect=Expect(connections=2, lossless=True),
        ),
    ),
    _closed(18, 1001, "going away", "reconnect: a clean close is not an end", "peer_closed"),
    _closed(19, 1000, "", "reconnect", "peer_closed"),
    Entry(
        20, "Close 1012, then minutes of downtime", "a slower curve",
        Scenario(
            name="service-restart", recover_s=600,
            steps=[Serve(10), Inject(Refuse(), times=0, for_s=180), Cut(Close(1012, "restart")),
                   Wait(200), Serve(10)],
            expect=Expect(failures=["maintenance", "refused"], connections=2),
        ),
    ),
    _closed(21, 1013, "try again later", "a slower curve", "maintenance"),
    _closed(22, 1008, "policy", "the breaker counts it", "policy_violation"),
    Entry(
        22, "Close 1008, again and again", "fatal when repeated",
        Scenario(
            name="policy-repeated",
            steps=[Inject(Close(1008, "policy"), times=3), Wait(60)],
            expect=Expect(
                recovers=False, raises="PeerClosed", failures=["policy_violation"] * 3,
                connections=3,
            ),
        ),
    ),
    _closed(23, 4000, "no data received in 30 s", "code and reason told; reconnect", "peer_closed"),
    _closed(24, 1003, "ping check expired", "reconnect", "peer_closed"),
    Entry(
        25, "the stream ends with no Close", "reconnect",
        Scenario(
            name="stream-ends",
            steps=[Serve(10), Cut(End()), Serve(10)],
            expect=Expect(failures=["reset"], gaps=["reconnect"], connections=2),
        ),
    ),
    Entry(
        26, "a reset", "reconnect",
        Scenario(
            name="reset",
            steps=[Serve(10), Cut(Reset()), Serve(10)],
            expect=Expect(failures=["reset"], gaps=["reconnect"], connections=2),
        ),
    ),
    Entry(
        26, "a reset, over TCP", "reconnect",
        Scenario(
            name="reset-tcp", network="tcp", recover_s=20,
            steps=[Serve(10, interval_s=0.01), Cut(Reset()), Serve(10, interval_s=0.01)],
            expect=Expect(failures=["reset"], gaps=["reconnect"], connections=2),
        ),
    ),
    Entry(
        27, "half a frame, then a reset", "the half is never delivered",
        Scenario(
            name="half-a-frame",
            steps=[Inject(CutMessage("reset"), Messages(5)), Serve(20)],
            expect=Expect(failures=["reset"], gaps=["reconnect"], connections=2),
        ),
    ),
    Entry(
        28, "a notice in the stream: maintenance", "planned roll-over, nothing lost, nothing twice",
        Scenario(
            name="maintenance-notice",
            steps=[Inject(Notice("maintenance"), Messages(20)), Serve(100)],
            expect=Expect(connections=2, lossless=True),
        ),
    ),
    Entry(
        29, "half-open: the peer is gone, and no packet says so", "pong deadline",
        Scenario(
            name="half-open",
            steps=[Serve(10), Inject(HalfOpen(), _ON_FIRST), Wait(30), Serve(10)],
            expect=Expect(failures=["no_pong"], connections=2),
        ),
    ),
    Entry(
        30, "pings without pongs", "pong deadline; nothing is left of each ping",
        Scenario(
            name="no-pong",
            steps=[Serve(10), Inject(NoPong(), _ON_FIRST), Serve(200), Serve(10)],
            expect=Expect(failures=["no_pong"], connections=2),
        ),
    ),
    Entry(
        31, "a ping of the application must be answered", "the venue's dialect does it",
        Scenario(
            name="application-ping",
            steps=[Inject(AppPing(within_s=5), Messages(5)), Serve(100)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        32, "the session expires in the stream", "renew, reconnect",
        Scenario(
            name="session-expired", token=True,
            steps=[Serve(10), Cut(Notice("session expired")), Serve(10)],
            expect=Expect(connections=2, lossless=True),
        ),
    ),
    Entry(
        33, "a protocol violation, and the peer never closes TCP", "bounded close",
        Scenario(
            name="violation-and-open-socket",
            steps=[Inject(NoCloseReply()), Inject(ReservedBits(), Messages(5)), Serve(20)],
            expect=Expect(failures=["protocol_error"], close_codes=[1002], within_s=15),
        ),
    ),
    Entry(
        34, "closing with a full receive queue", "bounded close",
        Scenario(
            name="close-when-full", consumer_pause_s=60.0, settings={"buffer_events": 10},
            steps=[Inject(Burst(5_000), Messages(1)), Serve(2), Finish()],
            expect=Expect(connections=1, within_s=5),
        ),
    ),
    Entry(
        34, "the Close frame is not answered", "bounded close",
        Scenario(
            name="close-unanswered",
            steps=[Serve(5), Inject(NoCloseReply()), Finish()],
            expect=Expect(connections=1, close_codes=[1000], within_s=5),
        ),
    ),
)  # fmt: skip
