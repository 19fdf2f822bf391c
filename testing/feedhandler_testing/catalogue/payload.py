"""Failures 35 to 45: the payload."""

from __future__ import annotations

from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.faults import (
    BadJson,
    Burst,
    EmptyMessage,
    ExtraField,
    Fragments,
    FrameInside,
    InflationBomb,
    InvalidUtf8,
    MissingField,
    Oversize,
    ReservedBits,
    Slicer,
    Truncated,
    UnknownType,
)
from feedhandler_testing.scenario import Expect, Inject, Scenario, Serve
from feedhandler_testing.triggers import Messages

__all__ = ["PAYLOAD"]

_FIFTH = Messages(5)

PAYLOAD = (
    Entry(
        35, "truncated or malformed JSON", "a decode error, counted; the stream goes on",
        Scenario(
            name="malformed-json",
            steps=[Inject(BadJson(), _FIFTH), Inject(Truncated(), Messages(10)), Serve(30)],
            expect=Expect(malformed=2, gaps=["malformed"], connections=1),
        ),
    ),
    Entry(
        36, "bytes of a frame inside the JSON", "decode errors; a burst of them reconnects",
        Scenario(
            name="desync", settings={"breaker": False},
            steps=[Inject(FrameInside(), _FIFTH, times=25), Serve(60, interval_s=0.01)],
            expect=Expect(malformed=20, failures=["malformed_data"], connections=2),
        ),
    ),
    Entry(
        37, "invalid UTF-8 in a text frame", "protocol error 1007, reconnect",
        Scenario(
            name="invalid-utf8",
            steps=[Inject(InvalidUtf8(), _FIFTH), Serve(20)],
            expect=Expect(failures=["protocol_error"], close_codes=[1007], connections=2),
        ),
    ),
    Entry(
        38, "an empty message", "a decode error",
        Scenario(
            name="empty-message",
            steps=[Inject(EmptyMessage(), _FIFTH), Serve(20)],
            expect=Expect(malformed=1, connections=1),
        ),
    ),
    Entry(
        39, "an unknown type, a missing key, a new field",
        "passed by and counted; a decode error; ignored",
        Scenario(
            name="changed-format",
            steps=[
                Inject(UnknownType(), _FIFTH), Inject(MissingField("price"), Messages(10)),
                Inject(ExtraField(), Messages(15)), Serve(30),
            ],
            expect=Expect(malformed=1, connections=1),
        ),
    ),
    Entry(
        40, "a compressed frame that can't be read", "protocol error, reconnect",
        Scenario(
            name="corrupt-compression",
            steps=[Inject(ReservedBits(4), _FIFTH), Serve(20)],
            expect=Expect(failures=["protocol_error"], close_codes=[1002], connections=2),
        ),
    ),
    Entry(
        41, "the venue compresses its messages itself", "inflated, with a bound on the size",
        Scenario(
            name="compressed-payload",
            compressed=True, steps=[Inject(InflationBomb(), Messages(20)), Serve(60)],
            expect=Expect(connections=1, malformed=1),
        ),
    ),
    Entry(
        42, "reserved bits are set", "protocol error 1002",
        Scenario(
            name="reserved-bits",
            steps=[Inject(ReservedBits(3), _FIFTH), Serve(20)],
            expect=Expect(failures=["protocol_error"], close_codes=[1002], connections=2),
        ),
    ),
    Entry(
        43, "a message over the size limit", "Close 1009, an error that names the limit",
        Scenario(
            name="oversize",
            steps=[Inject(Oversize(), _FIFTH), Serve(20)],
            expect=Expect(failures=["protocol_error"], close_codes=[1009], connections=2),
        ),
    ),
    Entry(
        44, "65,536 fragments", "delivered whole, memory bounded",
        Scenario(
            name="many-fragments",
            steps=[Inject(Fragments(65_536), _FIFTH), Serve(20)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        44, "messages in fragments among whole ones", "each in its place",
        Scenario(
            name="fragments-in-a-burst",
            steps=[Inject(Fragments(3), every=3, times=0), Inject(Burst(200), Messages(4)),
                   Serve(20)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        44, "bytes that come one at a time", "messages are cut where they end",
        Scenario(
            name="sliced",
            steps=[Inject(Slicer(1)), Inject(Burst(20), Messages(4)), Serve(20)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        45, "a consumer that is slower than the venue, and is to lose nothing",
        "reading waits, no deadline runs meanwhile, and the order is kept",
        Scenario(
            name="standstill", consumer_pause_s=0.5, settings={"buffer_events": 50},
            steps=[Inject(Burst(5_000), Messages(4)), Serve(300)],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        45, "a consumer that falls behind a little, again and again", "the order is kept",
        Scenario(
            name="stop-and-go", consumer_pause_s=0.01, settings={"buffer_events": 5},
            steps=[*[Serve(60, interval_s=0), Serve(20, interval_s=0.02)] * 5],
            expect=Expect(connections=1, lossless=True),
        ),
    ),
    Entry(
        45, "a burst, or a slow consumer", "the overflow policy acts, announced; pings answered",
        Scenario(
            name="slow-consumer", consumer_pause_s=0.5, heartbeat_s=5.0,
            settings={"overflow": "drop_oldest", "buffer_events": 20},
            steps=[Inject(Burst(500), _FIFTH), Serve(100)],
            expect=Expect(gaps=["overflow"], connections=1, pongs=2),
        ),
    ),
)  # fmt: skip
