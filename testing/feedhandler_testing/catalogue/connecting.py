"""Failures 1 to 12: connecting."""

from __future__ import annotations

from feedhandler_testing.catalogue.base import Entry
from feedhandler_testing.faults import (
    CutHandshake,
    ExpireToken,
    GarbageHandshake,
    HangDial,
    HangHandshake,
    HtmlPage,
    NameFailure,
    OversizedHeaders,
    Refuse,
    Reject,
    Reset,
    TlsFailure,
    WrongAccept,
)
from feedhandler_testing.scenario import Cut, Expect, Inject, Scenario, Serve

__all__ = ["CONNECTING"]


def _gives_up(error: str) -> Expect:
    return Expect(recovers=False, raises=error, connections=0)


CONNECTING = (
    Entry(
        1, "the name does not resolve for a while", "retry with back-off",
        Scenario(
            name="name-resolution",
            steps=[Inject(NameFailure(), times=3), Serve(20)],
            expect=Expect(failures=["name_resolution"] * 3, connections=1),
        ),
    ),
    Entry(
        2, "the connection is refused", "retry with back-off",
        Scenario(
            name="connection-refused",
            steps=[Inject(Refuse(), times=3), Serve(20)],
            expect=Expect(failures=["refused"] * 3, connections=1),
        ),
    ),
    Entry(
        2, "the venue is down, comes back, and has blips and another outage later",
        "a circuit that opens for longer each time, and for the shortest again once it was closed",
        Scenario(
            name="long-outage", recover_s=600,
            steps=[Inject(Refuse(), times=9), Serve(20), Cut(Reset()), Serve(5), Cut(Reset()),
                   *[Refuse()] * 6, Serve(20)],
            expect=Expect(failures=["refused"] * 9 + ["reset"] * 2 + ["refused"] * 6),
        ),
    ),
    Entry(
        2, "the connection is refused for hours", "the curve ends at its cap",
        Scenario(
            name="refused-for-hours", settings={"breaker": False, "backoff": {"jitter": False}},
            steps=[Inject(Refuse(), times=40), Serve(20)], recover_s=3_600,
            expect=Expect(failures=["refused"] * 40, connections=1),
        ),
    ),
    Entry(
        3, "the certificate has expired", "fatal, a clear error; never downgraded",
        Scenario(
            name="certificate-expired", network="tls", recover_s=20,
            steps=[TlsFailure("expired"), Serve(1)], expect=_gives_up("TlsFailed"),
        ),
    ),
    Entry(
        3, "the certificate is for another host", "fatal, a clear error; never downgraded",
        Scenario(
            name="certificate-wrong-host", network="tls", recover_s=20,
            steps=[TlsFailure("wrong_host"), Serve(1)], expect=_gives_up("TlsFailed"),
        ),
    ),
    Entry(
        3, "the certificate is of an unknown authority", "fatal, a clear error; never downgraded",
        Scenario(
            name="certificate-untrusted", network="tls", recover_s=20,
            steps=[TlsFailure("untrusted"), Serve(1)], expect=_gives_up("TlsFailed"),
        ),
    ),
    Entry(
        4, "TLS ends in mid-stream", "reconnect",
        Scenario(
            name="tls-ends", network="tls", recover_s=20,
            steps=[TlsFailure("ends"), Serve(5, interval_s=0.01)],
            expect=Expect(failures=["reset"], connections=1),
        ),
    ),
    Entry(
        5, "a reset or the end of the stream before or inside the 101", "seen at once, retry",
        Scenario(
            name="handshake-cut",
            steps=[
                CutHandshake("end"), CutHandshake("reset"),
                CutHandshake("end", inside=True), CutHandshake("reset", inside=True), Serve(5),
            ],
            expect=Expect(failures=["reset"] * 4, connections=1, within_s=8),
        ),
    ),
    Entry(
        6, "it accepts, and is silent during the handshake", "handshake time-out, retry",
        Scenario(
            name="handshake-silent",
            steps=[HangHandshake(), Serve(20)],
            expect=Expect(failures=["handshake_timeout"], connections=1),
        ),
    ),
    Entry(
        6, "dialling never ends", "handshake time-out, retry",
        Scenario(
            name="dialling-silent",
            steps=[HangDial(), Serve(20)],
            expect=Expect(failures=["handshake_timeout"], connections=1),
        ),
    ),
    Entry(
        7, "429 with Retry-After, in a loop", "wait at least that long; never hammer",
        Scenario(
            name="rate-limited",
            steps=[Inject(Reject(429, retry_after_s=7), times=3), Serve(20)],
            expect=Expect(failures=["rate_limited"] * 3, wait_s=7, connections=1),
        ),
    ),
    Entry(
        8, "418: a ban", "a long rate limit",
        Scenario(
            name="banned",
            steps=[Inject(Reject(418), times=2), Serve(20)],
            expect=Expect(failures=["rate_limited"] * 2, wait_s=5, connections=1),
        ),
    ),
    Entry(
        9, "502 and 503", "retry, on a slower curve",
        Scenario(
            name="bad-gateway",
            steps=[Reject(502), Reject(503, body="maintenance"), Serve(20)],
            expect=Expect(failures=["rejected"] * 2, connections=1),
        ),
    ),
    *(
        Entry(
            10, f"{status}: not allowed", "fatal, with the status and the body's first bytes",
            Scenario(
                name=f"not-allowed-{status}",
                steps=[Reject(status, body="not for you"), Serve(1)],
                expect=_gives_up("AuthenticationFailed"),
            ),
        )
        for status in (401, 403, 451)
    ),
    Entry(
        11, "an HTML page as body, with status 200 or 5xx", "a handshake error that quotes it",
        Scenario(
            name="html-page",
            steps=[HtmlPage(200), HtmlPage(502), Serve(20)],
            expect=Expect(failures=["rejected"] * 2, connections=1),
        ),
    ),
    Entry(
        11, "an answer that is no handshake", "a handshake error that quotes it",
        Scenario(
            name="handshake-garbage",
            steps=[GarbageHandshake(), OversizedHeaders(), WrongAccept(), Serve(20)],
            expect=Expect(failures=["rejected"] * 3, connections=1),
        ),
    ),
    Entry(
        12, "the token has expired at the reconnect", "the token is asked for anew each time",
        Scenario(
            name="token-expired", token=True,
            steps=[Serve(10), Cut(ExpireToken()), Serve(10)],
            expect=Expect(failures=["reset"], connections=2),
        ),
    ),
)  # fmt: skip
