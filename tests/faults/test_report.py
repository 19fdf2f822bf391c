import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen

from feedhandler_testing.faults import BadJson, SequenceGap
from feedhandler_testing.faults.bytes import Latency, Reset, Stall
from feedhandler_testing.faults.connecting import Reject
from feedhandler_testing.outcome import Outcome
from feedhandler_testing.report import render_report, write_report
from feedhandler_testing.rules import Violation
from feedhandler_testing.run import simulate
from feedhandler_testing.scenario import Cut, Inject, Scenario, Serve, Wait
from feedhandler_testing.subject import FeedSubject, MockVenue
from feedhandler_testing.trace import (
    Delivered,
    Failed,
    Fired,
    Gauged,
    Happened,
    Lost,
    Moved,
    Placed,
    Record,
    Sent,
    Stepped,
    Trace,
)
from feedhandler_testing.triggers import Messages

SCENARIO = Scenario(
    seed=7,
    name="several faults",
    steps=[
        Inject(SequenceGap(), Messages(30)), Serve(60), Inject(BadJson(), every=10, times=3),
        Serve(80), Cut(Reset()), Reject(429, retry_after_s=7), Serve(60),
        Inject(Stall(), for_s=20), Wait(25), Inject(Latency(0.2), for_s=8), Serve(120),
    ],
)  # fmt: skip

VOID = {"meta", "link", "input", "br", "img", "rect", "path", "circle"}


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.scripts[0])
        return data


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return simulate(SCENARIO)


@pytest.fixture(scope="module")
def page(outcome: Outcome) -> Page:
    return Page(render_report(outcome))


def made(
    *records: Record, violations: list[Violation] | None = None, name: str = "made"
) -> Outcome:
    trace = Trace()
    for record in records:
        trace.add(record)
    scenario = Scenario(steps=[Serve(1)], name=name)
    return Outcome(scenario, trace, violations or [], virtual_s=records[-1].at_s if records else 0)


def sent(at_s: float, number: int, *, intact: bool = True) -> Sent:
    return Sent(at_s, 1, "BTC-USD", number, "1.00", "2.0", "buy", 10**18 + number, intact)


def delivered(at_s: float, number: int) -> Delivered:
    return Delivered(at_s, "BTC-USD", number, "1.00", "2.0", "buy", 10**18 + number, 10**18, 1)


def acted(at_s: float, fault: str) -> Fired:
    return Fired(at_s, fault, attempt=1, taints=False, delays=False)


def moved_to(
    state: str, at_s: float, *, wait_s: float | None = None, breaker_open: bool = False,
    since_s: float = 0.0,
) -> Moved:  # fmt: skip
    old = "reconnecting" if state == "connected" else "connected"
    return Moved(
        at_s, old, state, failure="reset", error="ConnectionLost", retry_after_s=None, attempt=1,
        wait_s=wait_s, breaker_open=breaker_open, epoch=1, recv_ns=1, since_s=since_s,
    )  # fmt: skip


# --- the page ---


def test_page_is_well_formed_with_landmarks_and_unique_ids(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert {"header", "main", "section", "table", "svg"} <= set(tags)
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {"aria-labelledby", "aria-describedby", "aria-controls"}
    for _, attributes in page.tags:
        for name in named & set(attributes):
            assert attributes[name] in ids
    assert dict(page.tags)["html"] == {"lang": "en"}


def test_page_loads_nothing(page: Page, outcome: Outcome) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "href", "srcset", "style", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    text = render_report(outcome)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy
    assert str(policy[0]).startswith("default-src 'none'; ")
    assert "unsafe" not in str(policy[0])


def test_policy_names_the_script_and_the_style_by_their_hash(outcome: Outcome) -> None:
    import base64
    import hashlib

    text = render_report(outcome)
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text


def test_same_outcome_gives_the_same_bytes(outcome: Outcome, tmp_path: Path) -> None:
    write_report(outcome, tmp_path / "one.html")
    write_report(simulate(SCENARIO), str(tmp_path / "two.html"))
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.html").read_text("utf-8") == render_report(outcome)


# --- what it tells ---


def test_page_tells_what_is_needed_to_repeat_the_run(page: Page, outcome: Outcome) -> None:
    assert "several faults" in page.text
    assert outcome.scenario.literal() in page.text
    assert outcome.digest in page.text
    assert "Python 3" in page.text
    assert "All rules were kept" in page.text
    assert f"{outcome.virtual_s:,.3f} s" in page.text


def test_each_fault_is_named_and_drawn_from_placed_to_removed(page: Page) -> None:
    kinds = {"sequence_gap", "bad_json", "reset", "reject", "stall", "latency"}
    faults = {fault["kind"]: fault for fault in page.data["faults"]}
    assert set(faults) == kinds
    for kind in kinds:
        assert f"{kind}-1" in page.text
        assert faults[kind]["marks"]
    ((began, ended, _, name),) = faults["stall"]["spans"]
    assert name == "stall-1"
    assert ended - began == pytest.approx(20)


def test_states_cover_the_run_without_a_hole(page: Page, outcome: Outcome) -> None:
    states = page.data["states"]
    assert states[0][0] == 0
    assert states[-1][1] == pytest.approx(outcome.virtual_s)
    for one, after in itertools.pairwise(states):
        assert one[1] == after[0]
    assert {"connected", "reconnecting"} <= {state for _, _, state, _ in states}


def test_wait_that_the_venue_asked_for_is_drawn(page: Page) -> None:
    (asked,) = [wait for wait in page.data["waits"] if "the venue asked for 7 s" in wait[3]]
    assert asked[1] - asked[0] == pytest.approx(7)


def test_every_record_of_a_short_run_is_in_the_table(page: Page, outcome: Outcome) -> None:
    data = page.data
    told = []
    for at, kind, *values in data["rows"]:
        name, fields = data["kinds"][kind]
        pairs = " ".join(f"{f}={v}" for f, v in zip(fields, values, strict=True))
        told.append(f"{at:14.6f} {name:9} {pairs}")
    assert told == outcome.trace.lines()


def test_every_message_is_counted_once() -> None:
    records = [sent(1, 1), delivered(1, 1), sent(2, 2), sent(3, 3, intact=False), sent(3, 4),
               delivered(4, 4), delivered(4, 4)]  # fmt: skip
    messages = Page(render_report(made(*records))).data["messages"]
    assert messages["totals"] == {"delivered": 3, "lost": 1, "spoilt": 1}


def test_open_circuit_is_drawn_as_long_as_it_is_meant_to_be_open() -> None:
    moved = moved_to("reconnecting", 1, wait_s=4.0, breaker_open=True)
    data = Page(render_report(made(moved, Stepped(10, "end")))).data
    assert [span[:3] for span in data["breaker"]] == [[1, 5, "open"]]
    assert [span[:3] for span in data["waits"]] == [[1, 5, "wait"]]


def test_change_that_was_told_late_is_drawn_where_it_was() -> None:
    moved = moved_to("reconnecting", 8, wait_s=2.0, since_s=3.0)
    data = Page(render_report(made(moved, Stepped(10, "end")))).data
    assert [span[:3] for span in data["states"]] == [[0, 3, "connected"], [3, 10, "reconnecting"]]
    assert [span[:3] for span in data["waits"]] == [[3, 5, "wait"]]


@frozen
class Dropping:
    """Publishes all but every tenth event."""

    inner: FeedSubject = field(factory=FeedSubject)

    @contextlib.asynccontextmanager
    async def __call__(self, mock: MockVenue) -> AsyncIterator[Any]:
        async with self.inner(mock) as feed:

            async def some() -> AsyncIterator[Any]:
                count = 0
                async for event in feed:
                    count += 1
                    if count < 10 or count % 10:
                        yield event

            async with contextlib.aclosing(some()) as events:
                yield events


def test_violations_are_listed_drawn_and_in_the_table() -> None:
    outcome = simulate(Scenario(steps=[Serve(100)]), Dropping())
    assert outcome.violations
    page = Page(render_report(outcome))
    assert f"{len(outcome.violations)} violation" in page.text
    data = page.data
    broken = [row for row in data["rows"] if data["kinds"][row[1]][0] == "violation"]
    assert len(broken) == len(data["violations"]) == len(outcome.violations)
    for violation in outcome.violations:
        assert violation.message in page.text
        assert any(row[3] == violation.message for row in broken)
    assert data["messages"]["totals"]["lost"] > 0


# --- what could go wrong ---

EVIL = "</script><script>alert(1)</script><!-- ]]> & \" ' \u2028 \x00 <img src=x onerror=y>"


def test_nothing_that_a_run_says_becomes_markup() -> None:
    outcome = made(
        Stepped(0, EVIL), Placed(0, EVIL), acted(0.5, EVIL),
        Lost(1, EVIL, EVIL, 1, None, None), Failed(2, "Error", EVIL),
        violations=[Violation(EVIL, 1.0, f"{EVIL} \ud800")], name=f"{EVIL} \ud800",
    )  # fmt: skip
    evolved = evolve(outcome, coverage={(EVIL, EVIL)})
    text = render_report(evolved)
    text.encode()
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert EVIL in [row[-1] for row in page.data["rows"]]


def test_numbers_that_json_or_javascript_cannot_hold_are_told_as_text() -> None:
    page = Page(
        render_report(
            made(
                Gauged(1, "queue", float("inf"), float("nan")),
                Happened(1, 2**70, "ping"),
                sent(2, 2**60),
            )
        )
    )
    values = [value for row in page.data["rows"] for value in row]
    assert {"inf", "nan", str(2**70)} <= set(values)
    assert str(2**60) in values


@frozen
class Halted(Record):
    """A kind of record that a subject has of its own."""

    reason: str


def test_record_of_a_kind_of_its_own_is_in_the_table() -> None:
    data = Page(render_report(made(Halted(1, "auction")))).data
    ((at, kind, reason),) = data["rows"]
    assert (at, data["kinds"][kind], reason) == (1, ["halted", ["reason"]], "auction")


def test_run_without_any_record_has_a_page() -> None:
    assert Page(render_report(made())).data["rows"] == []


def many(count: int) -> Outcome:
    """A day with that many messages, a gap each thousand and a reconnect each ten thousand."""
    trace = Trace()
    for number in range(count):
        at_s = number * 86400 / count
        trace.add(sent(at_s, number, intact=number % 1000 != 0))
        if number % 1000:
            trace.add(delivered(at_s, number))
        else:
            trace.add(Lost(at_s, "BTC-USD", "sequence", number, number, 1))
            trace.add(acted(at_s, "sequence_gap-1"))
        if number % 10_000 == 5_000:
            trace.add(moved_to("reconnecting", at_s, wait_s=0.5))
            trace.add(moved_to("connected", at_s + 0.5))
    broken = [Violation("InOrder", 43200.0, "the one that matters")]
    scenario = Scenario(steps=[Serve(count)], name="a day")
    return Outcome(scenario, trace, broken, virtual_s=86400.0, messages=count)


def test_long_run_stays_small_and_keeps_what_is_of_interest() -> None:
    outcome = many(100_000)
    text = render_report(outcome)
    assert len(text.encode()) < 3_000_000
    data = Page(text).data
    kinds = [kind for kind, _ in data["kinds"]]
    names = [kinds[row[1]] for row in data["rows"]]
    assert names.count("moved") == 20
    assert names.count("lost") == 100
    assert names.count("violation") == 1
    accused = names.index("violation")
    assert names[accused - 3 : accused] == ["sent", "lost", "fired"]
    assert data["rows"][accused - 1][0] == data["rows"][accused][0] == 43200
    shown = len([name for name in names if name not in ("left out", "violation")])
    told = [int(n.replace(",", "")) for row, name in zip(data["rows"], names, strict=True)
            if name == "left out" for n in re.findall(r"\d[\d,]*(?= )", row[3])]  # fmt: skip
    assert shown + sum(told) == outcome.trace.count
    assert data["messages"]["totals"] == {"delivered": 99_900, "lost": 0, "spoilt": 100}
    times = [row[0] for row in data["rows"]]
    assert times == sorted(times)


def test_table_holds_no_more_records_than_it_is_allowed() -> None:
    outcome = many(20_000)
    for most in (0, 1, 50, 1000):
        data = Page(render_report(outcome, records=most)).data
        extra = {"left out", "violation"}
        names = [data["kinds"][row[1]][0] for row in data["rows"]]
        assert len([name for name in names if name not in extra]) <= most
        assert "violation" in names


def test_more_changes_than_can_be_drawn_are_drawn_as_one() -> None:
    trace = Trace()
    for number in range(20_000):
        state = ("connected", "reconnecting")[number % 2]
        trace.add(moved_to(state, number / 10, wait_s=0.1, breaker_open=True))
        trace.add(Lost(number / 10, None, "reconnect", None, None, None))
    outcome = Outcome(Scenario(steps=[Serve(1)]), trace, [], virtual_s=2000.0)
    data = Page(render_report(outcome)).data
    for lane in ("states", "breaker", "waits", "gaps"):
        assert 1000 < len(data[lane]) < 9000
    assert sum(mark[1] for mark in data["gaps"]) == 20_000
    assert data["states"][-1][1] == 2000


def test_trace_that_kept_its_end_only_says_so() -> None:
    outcome = simulate(SCENARIO, keep=100)
    page = Page(render_report(outcome))
    assert "kept the last 100" in page.text
