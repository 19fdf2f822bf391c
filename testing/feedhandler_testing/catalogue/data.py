"""Failures 46 to 61: sequences, books, subscriptions and time."""

from __future__ import annotations

from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.faults import (
    BackwardSequence,
    BackwardTimestamps,
    ClockJump,
    ClockSkew,
    CrossedBook,
    DataBeforeAck,
    Duplicate,
    EpochTimestamps,
    Latency,
    LateSnapshot,
    LostAck,
    RefuseSubscription,
    Reorder,
    Reset,
    SequenceGap,
    SnapshotInStream,
    StaleSnapshot,
    WrongChecksum,
)
from feedhandler_testing.scenario import Cut, Expect, Inject, Scenario, Serve, Wait
from feedhandler_testing.triggers import At, Messages

__all__ = ["DATA"]

_MANY = tuple(f"S{number:02d}-USD" for number in range(40))

DATA = (
    Entry(
        46, "a sequence gap", "announced, for that instrument only",
        Scenario(
            name="sequence-gap",
            steps=[Inject(SequenceGap(3), Messages(10)), Serve(40)],
            expect=Expect(gaps=["sequence"], connections=1),
        ),
    ),
    Entry(
        47, "duplicate and backward sequences", "dropped, counted",
        Scenario(
            name="duplicates",
            steps=[
                Inject(Duplicate(2), Messages(5)), Inject(BackwardSequence(4), Messages(10)),
                Serve(40),
            ],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        47, "messages in the wrong order", "the late one is announced as lost",
        Scenario(
            name="reordered", symbols=["BTC-USD"],
            steps=[Inject(Reorder(), Messages(10)), Serve(40)],
            expect=Expect(gaps=["sequence"], connections=1),
        ),
    ),
    Entry(
        48, "a snapshot older than the deltas", "wait for a newer one",
        Scenario(
            name="stale-snapshot", channel="book",
            steps=[Serve(10), Inject(StaleSnapshot(3)), Cut(Reset()), Serve(60)],
            expect=Expect(connections=2, requests=3),
        ),
    ),
    Entry(
        49, "a snapshot newer than deltas that wait", "the old deltas are discarded",
        Scenario(
            name="newer-snapshot", channel="book",
            steps=[Inject(SequenceGap(2), Messages(10)), Inject(Latency(1.5), for_s=10), Serve(60)],
            expect=Expect(connections=1, gaps=["sequence"]),
        ),
    ),
    Entry(
        50, "a race between the snapshot and the stream", "deltas are buffered around it",
        Scenario(
            name="snapshot-race", channel="book",
            steps=[Inject(LateSnapshot(2.0)), Serve(60)],
            expect=Expect(connections=1),
        ),
    ),
    Entry(
        51, "a snapshot in mid-stream", "it replaces the book; no ghost levels",
        Scenario(
            name="snapshot-in-stream", channel="book",
            steps=[Inject(SnapshotInStream(), Messages(10), times=3, every=4), Serve(60)],
            expect=Expect(connections=1),
        ),
    ),
    Entry(
        52, "a checksum that does not fit, in one market", "that market only is asked for anew",
        Scenario(
            name="wrong-checksum", channel="book",
            steps=[Inject(WrongChecksum(), Messages(10)), Serve(60)],
            expect=Expect(connections=1, gaps=["checksum"], requests=2),
        ),
    ),
    Entry(
        53, "a crossed book", "suspect, asked for anew",
        Scenario(
            name="crossed-book", channel="book",
            steps=[Inject(CrossedBook(), Messages(10)), Serve(60)],
            expect=Expect(connections=1, gaps=["crossed"], requests=2),
        ),
    ),
    Entry(
        53, "a subscription is refused", "told; not asked for again",
        Scenario(
            name="subscription-refused", recover_s=30,
            steps=[RefuseSubscription(), Wait(20), Cut(Reset()), Wait(20)],
            expect=Expect(recovers=False, refused=2, connections=2),
        ),
    ),
    Entry(
        54, "an acknowledgement is lost", "asked for again after a deadline",
        Scenario(
            name="lost-ack",
            steps=[Inject(LostAck(), times=2), Serve(200)],
            expect=Expect(connections=1, requests=3, lossless=True),
        ),
    ),
    Entry(
        55, "data before the acknowledgement", "accepted",
        Scenario(
            name="data-before-ack",
            steps=[Inject(DataBeforeAck(3)), Serve(20)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        56, "no backfill after a reconnect", "a gap with its bounds",
        Scenario(
            name="no-backfill",
            steps=[Serve(10), Cut(Reset(lose=True)), Serve(10)],
            expect=Expect(gaps=["reconnect"], connections=2),
        ),
    ),
    Entry(
        57, "a reconnect without resubscribing", "every wanted subscription is made again",
        Scenario(
            name="resubscribe", symbols=_MANY[:5],
            steps=[Serve(10), Cut(Reset()), Serve(10), Cut(Reset()), Serve(10)],
            expect=Expect(connections=3, requests=3),
        ),
    ),
    Entry(
        58, "a storm of subscriptions over the venue's limit", "paced",
        Scenario(
            name="subscription-pace", symbols=_MANY, settings={"subscribe_pace_s": 0.5},
            steps=[Inject(LostAck(), times=3), Serve(400), Cut(Reset()), Serve(80)],
            expect=Expect(connections=2, requests=4),
        ),
    ),
    Entry(
        58, "many symbols go silent, one soon after the other", "asked for anew at the same pace",
        Scenario(
            name="silence-pace", symbols=_MANY[:10],
            settings={"subscribe_pace_s": 2.0, "symbol_stale_s": 10.0},
            steps=[Serve(40, interval_s=0.3), Wait(25), Serve(40)],
            expect=Expect(connections=1, requests=5, lossless=True),
        ),
    ),
    Entry(
        59, "timestamps of 1970, and backward ones", "kept as sent; never used for ordering",
        Scenario(
            name="bad-timestamps",
            steps=[
                Inject(EpochTimestamps(), Messages(5)),
                Inject(BackwardTimestamps(60), Messages(10), times=3), Serve(40),
            ],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        60, "clock skew", "measured, reported",
        Scenario(
            name="clock-skew",
            steps=[Inject(ClockSkew(30)), Serve(20), Inject(ClockJump(-3_600), At(1)),
                   Serve(20)],
            expect=Expect(connections=1, lossless=True, lag_s=29),
        ),
    ),
    Entry(
        61, "growing lag", "measured, reported; the overflow policy acts",
        Scenario(
            name="growing-lag", consumer_pause_s=1.0,
            settings={
                "overflow": "conflate", "buffer_events": 20,
                "connection": {"pong_deadline_s": 40.0, "frame_stale_s": 60.0},
            },
            steps=[Inject(Latency(8.0), Messages(5)), Serve(300)],
            expect=Expect(gaps=["conflated"], connections=1, lag_s=7),
        ),
    ),
)  # fmt: skip
