"""Scenarios from recordings: what is taken of one, and that it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import ConfigError
from feedhandler.errors import RecordingError
from feedhandler.recording import Record, RecordingWriter
from feedhandler_testing import price_message
from feedhandler_testing.faults import (
    BadJson,
    Close,
    End,
    HoldThenCut,
    HtmlMessage,
    Refuse,
    Reject,
    Reset,
    SequenceGap,
    Stall,
    Truncated,
)
from feedhandler_testing.from_recording import MOST_SYMBOLS, scenario_from_recording
from feedhandler_testing.run import simulate
from feedhandler_testing.scenario import Cut, Inject, Repair, Scenario, Serve, Wait
from feedhandler_testing.trace import Lost, Malformed

S = 1_000_000_000


class Session:
    """Builds the records of a session, one after the other."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.t = 1_700_000_000 * S
        self.c = -1
        self.sequence = 0

    def open(self, after_s: float = 0.0) -> Session:
        self.c += 1
        return self._add(after_s, "open", url="ws://mock.invalid/")

    def _add(self, after_s: float, kind: str, **fields: object) -> Session:
        self.t += round(after_s * S)
        self.records.append(Record(self.t, kind, self.c, **fields))  # type: ignore[arg-type]  # fields of its kinds, or wrong on purpose
        return self

    def prices(self, count: int, interval_s: float = 0.1) -> Session:
        for _ in range(count):
            self.sequence += 1
            self.say(price_message("A", "1.5", self.sequence), interval_s)
        return self

    def say(self, payload: str | bytes, after_s: float = 0.1) -> Session:
        return self._add(after_s, "recv", payload=payload)

    def lose(self, count: int) -> Session:
        self.sequence += count
        return self

    def quiet(self, for_s: float) -> Session:
        self.t += round(for_s * S)
        return self

    def close(self, code: int | None = None, reason: str | None = None) -> Session:
        return self._add(0.1, "close", code=code, reason=reason)

    def fail(self, reason: str) -> Session:
        self.c += 1
        return self.close(None, reason)

    def scenario(self) -> Scenario:
        return scenario_from_recording(self.records)


def steps(session: Session) -> list[object]:
    """The steps; the scenario is run as well, and has to keep all rules."""
    scenario = session.scenario()
    simulate(scenario).check()
    return list(scenario.steps)


# --- how it flows --------------------------------------------------------------------------------


def test_messages_are_served_at_their_mean_interval() -> None:
    assert steps(Session().open().prices(40, 0.25)) == [Serve(40, interval_s=0.25)]


def test_a_silence_is_a_wait() -> None:
    session = Session().open().prices(20).quiet(12).prices(30)
    assert steps(session) == [Serve(20), Wait(12.1), Serve(30)]


def test_a_silence_before_the_first_message_and_before_the_end_is_a_wait() -> None:
    session = Session().open().quiet(9.9).prices(20).quiet(29.9).close(1001, "bye")
    assert steps(session) == [Wait(10.0), Serve(20), Wait(30.0), Cut(Close(1001, "bye"))]


def test_slow_feeds_have_no_silences() -> None:
    assert steps(Session().open().prices(10, 8.0)) == [Serve(10, interval_s=8.0)]


def test_a_silence_with_a_burst_at_its_end_is_a_stall() -> None:
    session = Session().open().prices(50).quiet(6).prices(61, 0.001).prices(5)
    assert steps(session) == [
        Serve(50),
        Inject(Stall(pongs=True)),
        Serve(61, interval_s=round(6.001 / 61, 6)),
        Repair(),
        Serve(5),
    ]


def test_long_silences_are_shortened() -> None:
    assert steps(Session().open().prices(5).quiet(86_400).prices(5)) == [
        Serve(5), Wait(600.0), Serve(5),
    ]  # fmt: skip


def test_more_messages_than_asked_for_are_thinned_out_between_what_matters() -> None:
    session = Session().open().prices(1_000, 0.01).say("{oops").prices(999, 0.01)
    scenario = scenario_from_recording(session.records, most_messages=200)
    assert list(scenario.steps) == [
        Serve(100, interval_s=0.010045),
        Inject(BadJson(), times=1),
        Serve(101, interval_s=0.010045),
    ]
    simulate(scenario).check()


# --- what was wrong with it ----------------------------------------------------------------------


def test_malformed_messages_are_malformed_again_at_their_place() -> None:
    cut = price_message("A", "1", 1)[:40]
    session = (
        Session().open().prices(10).say("{no json").say(b"\xff\xfe{").prices(10).say(cut)
        .prices(5).say("<html>502</html>").prices(5)
    )  # fmt: skip
    scenario = session.scenario()
    assert list(scenario.steps) == [
        Serve(10), Inject(BadJson(), times=2),
        Serve(12), Inject(Truncated(), times=1),
        Serve(6), Inject(HtmlMessage(), times=1),
        Serve(6),
    ]  # fmt: skip
    outcome = simulate(scenario).check()
    assert sum(isinstance(record, Malformed) for record in outcome.trace) == 4


def test_a_venue_that_speaks_no_json_is_not_malformed() -> None:
    session = Session().open()
    for _ in range(20):
        session.say(b"\x1f\x8b binary")
    assert steps(session) == [Serve(20)]


def test_holes_in_a_sequence_are_holes_again() -> None:
    session = Session().open().prices(10).lose(3).prices(10).lose(1).prices(10)
    scenario = session.scenario()
    assert list(scenario.steps) == [
        Serve(10), Inject(SequenceGap(3)), Serve(13), Inject(SequenceGap(1)), Serve(11),
    ]  # fmt: skip
    assert any(isinstance(record, Lost) for record in simulate(scenario).check().trace)


def test_numbers_that_count_other_things_too_are_no_holes() -> None:
    session = Session().open()
    for _ in range(20):
        session.lose(5).prices(1)
    assert steps(session) == [Serve(20)]


def test_a_sequence_of_the_connection_is_seen_and_begins_anew_on_the_next() -> None:
    session = Session()
    for _ in range(2):
        session.open()
        for number in (0, 1, 2, 3, 4, 5, 6, 9, 10, 11):
            session.say(f'{{"channel":"ticker","sequence_num":{number}}}')
        session.close(1000, "")
    half = [Serve(7), Inject(SequenceGap(2)), Serve(5), Cut(Close(1000, ""))]
    assert steps(session) == [*half, Wait(0.1), *half]


# --- how it ended --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "cut"),
    [
        (1012, "restart", Close(1012, "restart")),
        (4001, "x" * 200, Close(4001, "x" * 123)),
        (1008, "policy", Close(1008, "policy")),
        (1005, "", Close(1000, "")),
        (1006, "", End()),
        (None, None, End()),
        (None, "the stream ended without a Close frame (1006)", End()),
        (None, "the stream broke: [Errno 104] Connection reset by peer", Reset()),
        (70_000, "impossible", End()),
    ],
)
def test_each_end_is_cut_as_it_was(code: int | None, reason: str | None, cut: object) -> None:
    session = Session()
    for _ in range(4):
        session.open().prices(10).close(code, reason)
    session.open().prices(10)
    assert steps(session) == [Serve(10), Cut(cut), Wait(0.1)] * 4 + [Serve(10)]  # type: ignore[arg-type]  # fields of its kinds, or wrong on purpose


def test_the_recorders_own_end_is_none() -> None:
    assert steps(Session().open().prices(10).close(None, "close")) == [Serve(10)]


@pytest.mark.parametrize("reason", ["no pong for 20 s", "no frames for 30 s"])
def test_a_connection_that_was_given_up_goes_silent_again(reason: str) -> None:
    session = Session().open().prices(10).quiet(29.9).close(None, reason).open().prices(10)
    assert steps(session) == [
        Serve(10), Cut(HoldThenCut(30.0)), Wait(30.0), Serve(10),
    ]  # fmt: skip
    outcome = simulate(session.scenario())
    assert any("stale" in line or "no_pong" in line for line in outcome.trace.lines())


def test_connections_on_which_nothing_came_live_as_long_as_they_did() -> None:
    session = Session().open().prices(5).close(1001, "")
    for _ in range(3):
        session.open().quiet(2.9).close(1001, "")
    session.open().prices(5)
    scenario = session.scenario()
    assert list(scenario.steps) == [
        Serve(5), Cut(Close(1001, "")),
        *[Wait(0.1), Wait(3.0), Cut(Close(1001, ""))] * 3, Wait(0.1), Serve(5),
    ]  # fmt: skip
    outcome = simulate(scenario).check()
    assert sum("failure=peer_closed" in line for line in outcome.trace.lines()) == 4


def test_an_outage_is_a_refusal() -> None:
    session = Session().open().prices(5).close(1012, "").open(30).prices(5).close(1001, "")
    session.open(1).prices(5)
    assert steps(session) == [
        Serve(5), Cut(Close(1012, "")), Refuse(),
        Serve(5), Cut(Close(1001, "")), Wait(1.0), Serve(5),
    ]  # fmt: skip


def test_failed_attempts_fail_again() -> None:
    session = Session().fail("connection refused").open().prices(5).close(1012, "")
    session.fail("the venue answered HTTP 503").fail("the venue answered HTTP 429: 'slow down'")
    session.fail("the venue answered HTTP 429").open().prices(5)
    assert steps(session) == [
        Refuse(), Serve(5), Cut(Close(1012, "")), Reject(503), Reject(429), Reject(429), Serve(5),
    ]  # fmt: skip
    assert session.scenario().recover_s == 900.0


def test_a_refusal_for_good_is_the_end_and_expected() -> None:
    session = Session().open().prices(5).close(1001, "").fail("the venue answered HTTP 401")
    session.open().prices(5)
    assert steps(session) == [Serve(5), Cut(Close(1001, "")), Reject(401)]
    assert session.scenario().expect.raises == "AuthenticationFailed"


def test_connections_that_were_open_at_once_follow_one_another() -> None:
    session = Session()
    one = Session().open().prices(10)
    session.records = [
        *(Record(r.t, r.k, 0, r.url, r.payload) for r in one.records),
        *(Record(r.t + 1, r.k, 1, r.url, r.payload) for r in one.records),
    ]
    session.records.sort(key=lambda record: record.t)
    assert steps(session) == [Serve(10), Serve(10)]


# --- files ---------------------------------------------------------------------------------------


def write(path: Path, records: Iterable[Record], symbols: Iterable[str] = ("X", "Y")) -> Path:
    with RecordingWriter(path, venue="price", subscribed={"price": [*symbols]}) as writer:
        for record in records:
            writer.write(record)
    return path


def test_a_file_gives_its_symbols_and_its_name_and_the_seed_is_the_callers(tmp_path: Path) -> None:
    records = Session().open().prices(10).close(1001, "bye").records
    scenario = scenario_from_recording(write(tmp_path / "a.jsonl.zst", records), seed=9)
    assert (scenario.symbols, scenario.name, scenario.seed) == (("X", "Y"), "from a.jsonl.zst", 9)
    assert scenario_from_recording(str(tmp_path / "a.jsonl.zst"), seed=9) == scenario
    assert simulate(scenario).check().digest == simulate(scenario).check().digest


def test_only_so_many_symbols_are_taken(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.zst", Session().open().prices(10).records, [f"S{n}" for n in range(99)]
    )
    assert len(scenario_from_recording(path).symbols) == MOST_SYMBOLS


def test_of_a_truncated_file_what_there_is_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    with RecordingWriter(path, venue="price", subscribed={}) as writer:
        for record in Session().open().prices(30).records:
            writer.write(record)
        writer.flush()
        data = path.read_bytes()
    torn = tmp_path / "torn.zst"
    torn.write_bytes(data)
    assert scenario_from_recording(torn).steps == (Serve(30),)


@pytest.mark.parametrize("records", [[], [Record(1, "open", 0)], [Record(1, "http", url="x")]])
def test_nothing_to_make_a_scenario_of_is_an_error(records: list[Record]) -> None:
    with pytest.raises(RecordingError, match="no scenario in it"):
        scenario_from_recording(records)


def test_wrong_numbers_and_wrong_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="most_messages"):
        scenario_from_recording([], most_messages=0)
    with pytest.raises(ConfigError, match="seed"):
        scenario_from_recording(Session().open().prices(1).records, seed="7")  # type: ignore[arg-type]  # fields of its kinds, or wrong on purpose
    (tmp_path / "a").write_text("no recording")
    with pytest.raises(RecordingError, match="not a recording"):
        scenario_from_recording(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        scenario_from_recording(tmp_path / "b")


@pytest.mark.parametrize(
    "venue", ["binance", "binance_futures", "bitstamp", "bybit", "coinbase", "kraken"]
)
def test_real_recordings_run_and_had_nothing_wrong(recordings: Path, venue: str) -> None:
    scenario = scenario_from_recording(recordings / f"{venue}.jsonl.zst", most_messages=500)
    assert {type(step) for step in scenario.steps[1:]} <= {Serve}
    assert isinstance(scenario.steps[0], Serve | Wait)  # for its REST answers, Bitstamp's waits
    outcome = simulate(scenario).check()
    assert outcome.messages >= 200


# --- anything at all -----------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["price", "price", "price", "lost", "bad", "html", "quiet", "burst", "close", "reset", "stale",
     "open", "fail", "late"]
)  # fmt: skip


def _sessions(words: list[str]) -> Iterator[Record]:
    session = Session().open()
    for word in words:
        match word:
            case "price":
                session.prices(7)
            case "lost":
                session.lose(2).prices(1)
            case "bad":
                session.say("{")
            case "html":
                session.say("<p>")
            case "quiet":
                session.quiet(11)
            case "burst":
                session.quiet(6).prices(80, 0.0)
            case "close":
                session.close(1012, "restart").open()
            case "reset":
                session.close(None, "the stream broke: reset").open(6)
            case "stale":
                session.close(None, "no pong for 10 s").open()
            case "open":
                session.open()
            case "fail":
                session.fail("the venue answered HTTP 503").open()
            case "late":
                session.prices(1).lose(-1)
    yield from session.prices(1).records


@settings(max_examples=60, deadline=None)
@given(st.lists(_WORDS, max_size=12))
def test_whatever_was_recorded_makes_a_scenario_that_runs(words: list[str]) -> None:
    simulate(scenario_from_recording(list(_sessions(words)))).check()
