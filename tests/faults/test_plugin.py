"""The pytest plugin, in small projects of its own: what it gives, and what it says of misuse."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import feedhandler_testing
import feedhandler_testing.feed_trace
import feedhandler_testing.leaks
import feedhandler_testing.run
import feedhandler_testing.scenario  # all this, so that projects that run here import nothing anew

SETTINGS = """
[pytest]
trio_mode = true
addopts = --strict-markers --strict-config -p no:cacheprovider
filterwarnings = error
"""

FEED = """
import pytest
import trio
from feedhandler import PriceUpdate, PriceVenue, open_feed
from feedhandler_testing import price_message


def feed_of(server):
    return open_feed(
        PriceVenue(server.url, dial=server.dial), ["BTC-USD"], clock=server.clock
    )


async def two_prices(server, feed, events):
    first = await server.next_connection()
    await first.receive()
    first.drop()
    second = await server.next_connection()
    await second.receive()
    for number in (1, 2):
        await second.send(price_message("BTC-USD", f"{number}.10", number))
    async for event in events:
        if isinstance(event, PriceUpdate) and event.sequence == 2:
            return
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makefile(".ini", pytest=SETTINGS)
    return pytester


def run(project: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(test_user=source)
    return project.runpytest_inprocess(*arguments)


# --- time, the server, the timeline --------------------------------------------------------------


def test_a_feed_is_tested_in_virtual_time(project: pytest.Pytester) -> None:
    result = run(
        project,
        FEED
        + """
async def test_feed(virtual_clock, mock_server, feed_trace, no_leaks):
    async with feed_of(mock_server) as feed:
        await two_prices(mock_server, feed, feed_trace.watch(feed))
    feed_trace.note("an hour of nothing")
    await trio.sleep(3600)
    kinds = [type(record).__name__ for record in feed_trace.trace]
    assert {"Happened", "Requested", "Sent", "Moved", "Lost", "Delivered"} <= {*kinds}
    assert trio.current_time() > 3600


async def test_batches(virtual_clock, mock_server, feed_trace):
    async with feed_of(mock_server) as feed:
        connection = await mock_server.next_connection()
        await connection.receive()
        await connection.send(price_message("BTC-USD", "1.10", 1))
        async for events in feed_trace.watch(feed.batches()):
            if any(isinstance(event, PriceUpdate) for event in events):
                break
    assert feed_trace.lines()[-3].split()[1] == "delivered"
""",
    )
    result.assert_outcomes(passed=2)
    assert result.duration < 20


def test_the_server_is_seeded_by_the_test_s_id_or_by_its_marker(project: pytest.Pytester) -> None:
    source = """
import pytest
pytestmark = pytest.mark.mock_server(token="t", seed=1)

async def test_outer(mock_server):
    print("SEED", mock_server.seed, mock_server.token)

@pytest.mark.mock_server(seed=7, heartbeat_interval=2.5)
async def test_marked(mock_server):
    print("SEED", mock_server.seed, mock_server.token, mock_server.heartbeat_interval)
"""
    result = run(project, source, "-s")
    result.stdout.fnmatch_lines(["*SEED 1 t", "*SEED 7 t 2.5"])
    source = """
import pytest
@pytest.mark.parametrize("number", [1, 2])
async def test_own(mock_server, number):
    print("SEED", mock_server.seed)
"""
    seeds = [re.findall(r"SEED (\d+)", run(project, source, "-s").stdout.str()) for _ in (1, 2)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2


def test_a_run_is_a_function_of_the_seed(project: pytest.Pytester) -> None:
    source = (
        FEED
        + """
from random import Random

@pytest.mark.mock_server(seed=SEED)
async def test_feed(virtual_clock, mock_server, feed_trace):
    order = []
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(lambda n=number: (order.append(n), trio.sleep(0))[1])
    venue = PriceVenue(mock_server.url, dial=mock_server.dial)
    rng = Random(mock_server.seed)
    async with open_feed(venue, ["BTC-USD"], clock=mock_server.clock, rng=rng) as feed:
        await two_prices(mock_server, feed, feed_trace.watch(feed))
    print("DIGEST", order, feed_trace.trace.digest)
"""
    )
    outputs = [
        re.findall("DIGEST (.*)", run(project, source.replace("SEED", seed), "-s").stdout.str())
        for seed in ("7", "7", "8")
    ]
    assert outputs[0] == outputs[1] != outputs[2]
    assert len(outputs[0]) == 1


def test_a_failure_shows_the_seed_and_the_timeline(project: pytest.Pytester) -> None:
    result = run(
        project,
        FEED
        + """
async def test_it_fails(virtual_clock, mock_server, feed_trace):
    async with feed_of(mock_server) as feed:
        await two_prices(mock_server, feed, feed_trace.watch(feed))
    assert 1 == 2

async def test_it_fails_without_a_trace(mock_server):
    await mock_server.simulate_connection()
    assert 1 == 2
""",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*assert 1 == 2*",
            "*Captured feed call*",
            "seed *, made from the test's id; to keep it: @pytest.mark.mock_server(seed=*)",
            "the last * of * records:",
            "*happened  attempt=1 event=dialled*",
            "*delivered symbol=BTC-USD number=2*",
            "*test_it_fails_without_a_trace*",
            "*Captured feed call*",
            "*happened  attempt=1 event=closed*",
        ]
    )


LIAR = (
    FEED
    + """
class Liar:  # says the last price twice
    def __init__(self, feed):
        self.feed, self.said = feed, []

    def __aiter__(self):
        return self

    async def __anext__(self):
        if len(self.said) == 2:
            raise StopAsyncIteration
        if not self.said:
            event = await anext(self.feed)
            while not isinstance(event, PriceUpdate):
                event = await anext(self.feed)
            self.said.append(event)
        else:
            self.said.append(self.said[0])
        return self.said[-1]


async def listen(server, trace):
    async with feed_of(server) as feed:
        connection = await server.next_connection()
        await connection.receive()
        await connection.send(price_message("BTC-USD", "1.10", 1))
        async for _ in trace.watch(Liar(feed)):
            pass
"""
)


def test_a_feed_that_breaks_a_rule_fails_the_test(project: pytest.Pytester) -> None:
    result = run(
        project,
        LIAR
        + """
async def test_it_lies(virtual_clock, mock_server, feed_trace):
    await listen(mock_server, feed_trace)

async def test_it_lies_and_fails(virtual_clock, mock_server, feed_trace):
    await listen(mock_server, feed_trace)
    assert 1 == 2

async def test_it_may_lie(virtual_clock, mock_server, feed_trace):
    feed_trace.check = False
    await listen(mock_server, feed_trace)
    (violation,) = feed_trace.violations()
    assert violation.rule == "NothingTwice"
""",
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_it_lies _*",
            "1 violation(s) of the rules of a feed:",
            "  NothingTwice at * s: published BTC-USD #1 again",
            "*Captured feed call*",
            "*_ test_it_lies_and_fails _*",
            "*assert 1 == 2*",
            "broken: NothingTwice at * s: published BTC-USD #1 again",
        ]
    )
    first = result.stdout.str().partition("test_it_lies_and_fails _")[0]
    assert "Traceback" not in first


def test_an_own_server_is_traced_and_a_second_feed_is_refused(project: pytest.Pytester) -> None:
    result = run(
        project,
        FEED
        + """
from feedhandler import UsageError
from feedhandler_testing import MockWebSocketServer

@pytest.fixture
async def mock_server():
    async with MockWebSocketServer(seed=99) as server:
        yield server

async def test_own(virtual_clock, mock_server, feed_trace):
    async with feed_of(mock_server) as feed:
        await two_prices(mock_server, feed, feed_trace.watch(feed))
        with pytest.raises(UsageError, match="one feed"):
            feed_trace.watch(feed)
    assert mock_server.seed == 99
    assert feed_trace.trace.count > 10
""",
    )
    result.assert_outcomes(passed=1)


# --- scenarios -----------------------------------------------------------------------------------


def test_scenarios_become_tests_and_a_failed_one_tells_all(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
import pytest
from feedhandler_testing.faults.bytes import Reset
from feedhandler_testing.run import run_scenario
from feedhandler_testing.scenario import Cut, Expect, Scenario, Serve
from feedhandler_testing.subject import FeedSubject

STEPS = [Serve(4), Cut(Reset()), Serve(4)]
BAD = Scenario(seed=3, steps=STEPS, expect=Expect(lossless=True))
used = []

class Mine(FeedSubject):
    def __call__(self, mock):
        used.append(mock)
        return super().__call__(mock)

@pytest.mark.feed_scenarios(Scenario(name="reset", steps=STEPS), BAD, subject=Mine())
def test_mine(simulate_scenario, scenario):
    outcome = simulate_scenario(check=scenario is not BAD)
    assert used
    assert outcome.scenario is scenario
    simulate_scenario()

async def test_awaited(virtual_clock):
    await run_scenario(BAD)

@pytest.mark.feed_scenarios(BAD)
async def test_in_trio(virtual_clock, simulate_scenario):
    simulate_scenario()

def test_unnamed(simulate_scenario):
    pass
""",
        "-rA",
    )
    result.assert_outcomes(passed=1, failed=2, errors=2)
    text = result.stdout.str()
    assert "PASSED test_user.py::test_mine[reset]" in text
    literal = "Scenario(seed=3, steps=[Serve(4), Cut(Reset()), Serve(4)], expect=Expect("
    for name in ("test_mine[[]1-seed3]", "test_awaited"):
        result.stdout.fnmatch_lines(
            [
                f"*_ {name} _*",
                "1 violation(s):",
                "  Expected at * no loss, and there were gaps*",
                literal.replace("[", "[[]") + "*",
                "seed 3; Python *, feedhandler *, trio *",
                "the last 20 of * records:",
                "*stepped   step=end",
            ]
        )
    assert "Traceback" not in text
    result.stdout.fnmatch_lines(["*starts a trio run of its own: write `def`*"])
    result.stdout.fnmatch_lines(["*@pytest.mark.feed_scenarios(Scenario(...), ...)*"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("[1, 2]", "[1, 2] is no Scenario"),
        ("subjects=1", "subjects= is no Scenario"),
        ("", "there is no Scenario"),
    ],
)
def test_what_is_no_scenario_is_refused(
    project: pytest.Pytester, arguments: str, told: str
) -> None:
    result = run(
        project,
        f"""
import pytest
@pytest.mark.feed_scenarios({arguments})
def test_list(simulate_scenario): pass
""",
    )
    result.assert_outcomes(errors=1)
    assert f"{told}: write @pytest.mark.feed_scenarios(Scenario(...)" in result.stdout.str()


# --- leaks ---------------------------------------------------------------------------------------


def test_what_a_test_leaves_behind_fails_it(project: pytest.Pytester) -> None:
    result = run(
        project,
        FEED
        + """
from hypothesis import HealthCheck, given, settings, strategies

async def endless():
    while True:
        yield 1

async def test_task(virtual_clock, no_leaks):
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

kept = []

async def test_stream(virtual_clock, mock_server, no_leaks):
    kept.append(await mock_server.simulate_connection())

async def test_generator(virtual_clock, no_leaks):
    kept.append(endless())
    await anext(kept[-1])

async def test_error(virtual_clock, no_leaks):
    kept.append(endless())
    await anext(kept[-1])
    raise OSError("mine")

async def test_clean(virtual_clock, mock_server, nursery, no_leaks):
    nursery.start_soon(trio.sleep_forever)
    async with feed_of(mock_server) as feed:
        await two_prices(mock_server, feed, feed)

@given(number=strategies.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@pytest.mark.parametrize("letter", "ab")
@pytest.mark.usefixtures("no_leaks")
async def test_property(virtual_clock, letter, number):
    await trio.sleep(number)
""",
    )
    result.assert_outcomes(failed=4, passed=3)
    result.stdout.fnmatch_lines(
        [
            "*_ test_task _*",
            "1 thing(s) left behind:",
            "  task trio.sleep_forever*",
            "*_ test_stream _*",
            "  1 stream(s) to <MockWebSocketServer serving *>",
            "*_ test_generator _*",
            "1 thing(s) left behind:",
            "  async generator endless: neither ended nor closed",
            "*OSError: mine",
        ]
    )


# --- misuse --------------------------------------------------------------------------------------


def test_a_fixture_out_of_place_says_what_to_do(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
import pytest

def test_sync(mock_server): pass

@pytest.mark.usefixtures("virtual_clock")
async def test_used(): pass

@pytest.mark.mock_server(tcp=True)
async def test_tcp(virtual_clock, mock_server): pass

@pytest.mark.mock_server(7)
async def test_positional(mock_server): pass
""",
    )
    result.assert_outcomes(errors=3, failed=1)
    text = result.stdout.str()
    assert "this fixture is for tests that trio runs: write `async def`" in text
    assert "virtual_clock has to be among the test's own arguments" in text
    assert "virtual_clock would run ahead of real sockets" in text
    assert "@pytest.mark.mock_server(seed=7)" in text


def test_without_trio_mode_a_marked_test_has_the_fixtures(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest, trio

@pytest.mark.trio
async def test_marked(virtual_clock, mock_server, feed_trace, no_leaks):
    await trio.sleep(100)
""",
        *("-p", "no:cacheprovider", "--strict-markers", "-W", "error"),
    )
    result.assert_outcomes(passed=1)


# --- those who do not ask ------------------------------------------------------------------------


def test_the_plugin_itself_imports_no_more_than_pytest() -> None:
    program = """
import json, sys
import pytest
before = set(sys.modules)
import feedhandler_testing.plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(  # noqa: S603  # this Python
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    packages = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert packages <= {"feedhandler_testing", *sys.stdlib_module_names}


def test_the_package_s_names_have_one_home_for_types_and_for_the_import() -> None:
    tree = ast.parse(Path(feedhandler_testing.__file__).read_text("utf-8"))
    homes = {
        alias.name: (node.module or "").rpartition(".")[2]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("feedhandler_testing")
        for alias in node.names
    }
    assert homes == feedhandler_testing._HOMES
    assert sorted(homes) == sorted(feedhandler_testing.__all__)
    assert {*feedhandler_testing.__all__} <= {*dir(feedhandler_testing)}
    with pytest.raises(AttributeError, match="no attribute 'Typo'"):
        feedhandler_testing.Typo  # noqa: B018


def test_the_page_about_the_plugin_shows_what_works(project: pytest.Pytester) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "pytest.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    result = run(project, "\n\n".join(blocks))
    result.assert_outcomes(passed=4)
