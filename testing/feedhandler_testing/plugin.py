"""The kit's pytest plugin: fixtures, two markers, and reports that show the timeline.

pytest imports this module wherever the wheel is installed. So it imports nothing but pytest, and it
changes nothing about a test that does not ask: the kit is imported by the fixtures. How they are
used is told in docs/pytest.md; `-p no:feedhandler` leaves the plugin out.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from trio.testing import MockClock

    from feedhandler_testing.feed_trace import FeedTrace
    from feedhandler_testing.outcome import Outcome
    from feedhandler_testing.rules import Violation
    from feedhandler_testing.scenario import Scenario
    from feedhandler_testing.server import MockWebSocketServer

__all__ = [
    "feed_trace",
    "mock_server",
    "no_leaks",
    "scenario",
    "simulate_scenario",
    "virtual_clock",
]

_LAST = 30  # records of the timeline in a report
_KEPT = 200  # records, where no rule has to see them all
_INSTALL = "pip install 'feedhandler[testing]'"


class _Asked:
    """What one test has asked for."""

    def __init__(self, item: pytest.Item) -> None:
        self.options: dict[str, Any] = {}
        for marker in item.iter_markers("mock_server"):
            if marker.args:
                _refuse("write its options by name: @pytest.mark.mock_server(seed=7)")
            self.options = {**marker.kwargs, **self.options}  # the closest marker comes first
        self.seed_is_given = "seed" in self.options
        # From the test's id: the same on every machine, and another one for each parameter.
        digest = hashlib.sha256(item.nodeid.encode()).digest()
        self.options.setdefault("seed", int.from_bytes(digest[:4], "big"))
        self.clock: MockClock | None = None
        self.trace: FeedTrace | None = None
        self.is_judged = False
        self.no_leaks = False

    @property
    def seed(self) -> int:
        seed: int = self.options["seed"]
        return seed

    def violations(self) -> Sequence[Violation]:
        """The rules that the feed broke, if the test has asked for them."""
        if self.trace is None or not (self.is_judged and self.trace.check):
            return ()
        return self.trace.violations()

    def report(self, violations: Sequence[Violation]) -> str:
        """What helps to repeat and to understand a failure."""
        if self.clock is None and self.trace is None:
            return ""
        lines = [f"seed {self.seed}"]
        if not self.seed_is_given:
            mark = f"@pytest.mark.mock_server(seed={self.seed})"
            lines[0] += f", made from the test's id; to keep it: {mark}"
        lines += [f"broken: {violation}" for violation in violations]
        if self.trace is not None:
            count = self.trace.trace.count
            shown = self.trace.lines(_LAST)
            lines.append(f"the last {len(shown)} of {count} records:")
            lines += shown
        return "\n".join(lines)


_ASKED = pytest.StashKey[_Asked]()


def _refuse(text: str) -> NoReturn:
    pytest.fail(text, pytrace=False)


# --- markers and parameters ----------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, for --strict-markers."""
    config.addinivalue_line(
        "markers",
        "mock_server(**options): the options of the fixture mock_server's server, such as seed=7.",
    )
    config.addinivalue_line(
        "markers",
        "feed_scenarios(*scenarios, subject=None): run the test once for each scenario, which the "
        "fixtures scenario and simulate_scenario give it.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each scenario of the marker `feed_scenarios`."""
    marker = metafunc.definition.get_closest_marker("feed_scenarios")
    if marker is None:
        return
    from feedhandler_testing.scenario import Scenario

    wrong = [repr(one) for one in marker.args if not isinstance(one, Scenario)]
    wrong += [f"{name}=" for name in marker.kwargs if name != "subject"]
    if wrong or not marker.args:
        told = f"{', '.join(wrong)} is no Scenario" if wrong else "there is no Scenario"
        _refuse(
            f"{metafunc.definition.nodeid}: {told}: write "
            "@pytest.mark.feed_scenarios(Scenario(...), Scenario(...), subject=...)"
        )
    ids = [one.name or f"{number}-seed{one.seed}" for number, one in enumerate(marker.args)]
    metafunc.parametrize("scenario", marker.args, ids=ids, indirect=True)


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture
def _feedhandler_asked(request: pytest.FixtureRequest) -> _Asked:
    """What this test asks for; fails if it can't have it, because no trio is running it."""
    plugins = request.config.pluginmanager
    if not any(plugins.hasplugin(name) for name in ("trio", "pytest_trio", "pytest_trio.plugin")):
        _refuse(f"this fixture needs pytest-trio, which comes with the extra: {_INSTALL}")
    if request.node.get_closest_marker("trio") is None:
        _refuse(
            "this fixture is for tests that trio runs: write `async def`, and mark the test with "
            "@pytest.mark.trio or set `trio_mode = true` in pytest's settings"
        )
    asked: _Asked = request.node.stash.setdefault(_ASKED, _Asked(request.node))
    return asked


@pytest.fixture
def virtual_clock(_feedhandler_asked: _Asked) -> MockClock:
    """Virtual time: trio's clock for this test, which jumps over every wait."""
    if _feedhandler_asked.options.get("tcp") or _feedhandler_asked.options.get("tls"):
        _refuse("virtual_clock would run ahead of real sockets: use one or the other")
    from trio.testing import MockClock

    _feedhandler_asked.clock = MockClock(autojump_threshold=0)
    return _feedhandler_asked.clock


@pytest.fixture
async def mock_server(_feedhandler_asked: _Asked) -> AsyncIterator[MockWebSocketServer]:
    """A mock exchange that is serving, with the options of @pytest.mark.mock_server(...)."""
    from feedhandler_testing.feed_trace import FeedTrace
    from feedhandler_testing.server import MockWebSocketServer

    asked = _feedhandler_asked
    async with MockWebSocketServer(**asked.options) as server:
        asked.trace = FeedTrace(keep=None if asked.is_judged else _KEPT)
        asked.trace.attach(server)
        yield server


@pytest.fixture
def _feedhandler_judged(_feedhandler_asked: _Asked) -> None:
    _feedhandler_asked.is_judged = True


@pytest.fixture
def feed_trace(
    _feedhandler_judged: None, mock_server: MockWebSocketServer, _feedhandler_asked: _Asked
) -> FeedTrace:
    """The timeline of mock_server and of the feed that is watched; held to the rules at the end."""
    from feedhandler_testing.feed_trace import FeedTrace

    asked = _feedhandler_asked
    if asked.trace is None:  # the project has a mock_server of its own
        asked.trace = FeedTrace()
        asked.trace.attach(mock_server)
    return asked.trace


@pytest.fixture
def no_leaks(_feedhandler_asked: _Asked) -> None:
    """Fail the test if a task, stream, timer or generator that it began is not over at its end."""
    _feedhandler_asked.no_leaks = True


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Scenario:
    """The scenario of @pytest.mark.feed_scenarios(...) that this test is for."""
    if not hasattr(request, "param"):
        _refuse("name the scenarios: @pytest.mark.feed_scenarios(Scenario(...), ...)")
    chosen: Scenario = request.param
    return chosen


@pytest.fixture
def simulate_scenario(request: pytest.FixtureRequest, scenario: Scenario) -> Callable[..., Outcome]:
    """Runs the scenario in virtual time, in a trio run of its own; check=False breaks no test."""
    marker = request.node.get_closest_marker("feed_scenarios")
    subject = marker.kwargs.get("subject") if marker is not None else None

    if inspect.iscoroutinefunction(request.function):
        _refuse(
            "simulate_scenario() starts a trio run of its own: write `def`, not `async def`; or "
            "ask for virtual_clock, and await feedhandler_testing.run.run_scenario(scenario)"
        )

    def simulate_scenario(*, check: bool = True) -> Outcome:
        __tracebackhide__ = True
        from feedhandler_testing.run import simulate

        outcome = simulate(scenario, subject)
        return outcome.check() if check else outcome

    return simulate_scenario


# --- the run of a test, and its report -----------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test that has asked for something; leave others as they are."""
    __tracebackhide__ = True
    asked = item.stash.get(_ASKED, None)
    if asked is None or not isinstance(item, pytest.Function):
        return (yield)
    return (yield from _run(item, asked))


def _run(item: pytest.Function, asked: _Asked) -> Generator[None, object, object]:
    __tracebackhide__ = True
    if asked.clock is not None:
        _check_clock(item, asked.clock)
    if asked.no_leaks:
        _guard(item)
    from feedhandler_testing.scheduling import repeatable

    try:
        with repeatable(asked.seed):
            result = yield
    except BaseException:
        _report(item, asked.report(asked.violations()))
        raise
    violations = asked.violations()
    if violations:
        from feedhandler_testing.feed_trace import RulesBroken

        _report(item, asked.report(()))
        raise RulesBroken(violations)
    return result


def _report(item: pytest.Item, text: str) -> None:
    if text:
        item.add_report_section("call", "feed", text)


def _check_clock(item: pytest.Function, clock: MockClock) -> None:
    names = inspect.signature(item.function).parameters
    if not any(item.funcargs.get(name) is clock for name in names):
        _refuse(
            "virtual_clock has to be among the test's own arguments: pytest-trio takes the clock "
            "from there, and not from usefixtures or from another fixture's arguments"
        )


def _guard(item: pytest.Function) -> None:
    """Hold the test's body, without its fixtures, to leave nothing behind."""
    inner = getattr(item.obj, "hypothesis", None)
    test = item.obj if inner is None else inner.inner_test
    if not inspect.iscoroutinefunction(test):
        return  # wrapped already, for another parameter of the same test

    @functools.wraps(test)
    async def guarded(**arguments: Any) -> None:
        __tracebackhide__ = True
        from feedhandler_testing.leaks import no_leaks

        async with no_leaks(*arguments.values()):
            await test(**arguments)

    if inner is None:
        item.obj = guarded
    else:
        inner.inner_test = guarded


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was broken or left as the error's message, unless a style was asked for."""
    report = yield
    if call.excinfo is None or not report.failed:
        return report
    error = call.excinfo.value
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # trio's nurseries wrap an error
    if isinstance(error, _self_explaining()) and item.config.getoption("tbstyle") == "auto":
        info = pytest.ExceptionInfo.from_exception(error)
        report.longrepr = info.getrepr(style="value", chain=False)
    return report


_SELF_EXPLAINING = (("run", "ScenarioFailed"), ("feed_trace", "RulesBroken"), ("leaks", "Leaked"))


def _self_explaining() -> tuple[type[BaseException], ...]:
    """The errors whose message says it all, of those whose modules are in use."""
    found = []
    for module, name in _SELF_EXPLAINING:
        with contextlib.suppress(KeyError):
            found.append(getattr(sys.modules[f"feedhandler_testing.{module}"], name))
    return tuple(found)
