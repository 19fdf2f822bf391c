"""The plugin from the built wheel, in an environment of its own, as a user's project meets it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.network, pytest.mark.timeout(170)]

PLAIN = {
    "pytest.ini": "[pytest]\naddopts = --strict-markers -W error\n",
    "conftest.py": """
import sys

def pytest_sessionfinish():
    heavy = {"trio", "attrs", "attr", "feedhandler", "msgspec", "wsproto"} & {*sys.modules}
    assert not heavy, heavy
""",
    "test_plain.py": """
import asyncio
import pytest

@pytest.fixture
def scenario():
    return "mine"

@pytest.fixture
def mock_server():
    return "mine"

async def answer():
    return 42

@pytest.mark.parametrize("virtual_clock", [1, 2])
def test_own_names(scenario, mock_server, virtual_clock):
    assert (scenario, mock_server) == ("mine", "mine")
    assert virtual_clock in (1, 2)

def test_asyncio():
    assert asyncio.run(answer()) == 42

@pytest.mark.xfail(strict=True)
def test_failing():
    assert [1] == [2]
""",
}

ASYNC = {
    "pytest.ini": "[pytest]\nasyncio_mode = auto\n"
    "asyncio_default_fixture_loop_scope = function\naddopts = --strict-markers -W error\n",
    "test_asyncio.py": """
import asyncio
import pytest

@pytest.fixture
async def mock_server():
    await asyncio.sleep(0)
    yield "mine"

async def test_it(mock_server):
    await asyncio.sleep(0)
    assert mock_server == "mine"
""",
}

ANYIO = {
    "pytest.ini": "[pytest]\naddopts = --strict-markers -W error\n",
    "test_anyio.py": """
import anyio
import pytest

@pytest.fixture
async def feed_trace():
    await anyio.sleep(0)
    yield "mine"

@pytest.mark.anyio
async def test_it(feed_trace):
    await anyio.sleep(0)
    assert feed_trace == "mine"
""",
}

WANTS = {
    "test_wants.py": """
def test_it(mock_server):
    pass
"""
}

USER = {
    "pytest.ini": "[pytest]\ntrio_mode = true\naddopts = --strict-markers -W error\n",
    "test_user.py": """
import pytest
import trio
from trio.testing import MockClock

from feedhandler import Gap, PriceUpdate, PriceVenue, open_feed
from feedhandler_testing import FeedTrace, MockWebSocketServer, price_message
from feedhandler_testing.faults.bytes import Reset
from feedhandler_testing.scenario import Cut, Scenario, Serve

async def test_feed(
    virtual_clock: MockClock, mock_server: MockWebSocketServer, feed_trace: FeedTrace, no_leaks
):
    venue = PriceVenue(mock_server.url, dial=mock_server.dial)
    async with open_feed(venue, ["BTC-USD"], clock=mock_server.clock) as feed:
        first = await mock_server.next_connection()
        await first.receive()
        first.drop()
        second = await mock_server.next_connection()
        await second.receive()
        await second.send(price_message("BTC-USD", "65000.10", 1))
        async for event in feed_trace.watch(feed):
            if isinstance(event, PriceUpdate):
                break
    await trio.sleep(3600)

@pytest.mark.feed_scenarios(Scenario(name="reset", steps=[Serve(5), Cut(Reset()), Serve(5)]))
def test_scenario(simulate_scenario):
    assert simulate_scenario().messages

@pytest.mark.mock_server(seed=7)
async def test_failing(virtual_clock, mock_server):
    await mock_server.simulate_connection()
    assert 1 == 2
""",
}


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Nothing of this environment may be found by the other one.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "COV"))}
    return subprocess.run(  # noqa: S603  # this Python, or that of the environment made here
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False
    )


def _pip(*arguments: str | Path, cwd: Path) -> str | None:
    """Run pip; return what it said if it failed."""
    done = _run(sys.executable, "-m", "pip", "-q", *arguments, cwd=cwd)
    return None if done.returncode == 0 else done.stdout + done.stderr


def _project(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_the_wheel_serves_those_who_ask_and_leaves_others_alone(tmp_path: Path) -> None:
    quick = ("--retries", "1", "--timeout", "15")
    problem = _pip("download", *quick, "--no-deps", "--dest", tmp_path, "hatchling", cwd=tmp_path)
    if problem is not None:
        pytest.skip(f"pip can't install here: {problem.strip().splitlines()[-1]}")

    wheels = tmp_path / "wheels"
    problem = _pip("wheel", "--no-deps", "--wheel-dir", wheels, ROOT, cwd=tmp_path)
    assert problem is None, problem
    (wheel,) = wheels.glob("*.whl")
    # `--python` installs from outside: an environment without a pip of its own is made in no time.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

    def install(*requirements: str) -> None:
        problem = _pip("--python", python, "install", "--no-compile", *requirements, cwd=tmp_path)
        assert problem is None, problem

    def run_tests(folder: Path, *arguments: str) -> tuple[int, str]:
        options = ("-p", "no:cacheprovider", *arguments)
        done = _run(python, "-m", "pytest", *options, cwd=folder)
        return done.returncode, done.stdout + done.stderr

    # The wheel and pytest, and nobody asked for the extra.
    install(str(wheel), "pytest")
    plain = _project(tmp_path / "plain", PLAIN)
    status, text = run_tests(plain)
    assert status == 0, text
    assert "3 passed, 1 xfailed" in text
    _, without = run_tests(plain, "-p", "no:feedhandler", "--runxfail")
    _, having = run_tests(plain, "--runxfail")
    assert _told(having) == _told(without), "a failure looks as it does without the plugin"
    status, text = run_tests(_project(tmp_path / "wants", WANTS))
    assert status == 1, text
    assert "pip install 'feedhandler[testing]'" in text

    # Other people's ways to run async tests, without pytest-trio.
    install("pytest-asyncio", "anyio")
    status, text = run_tests(_project(tmp_path / "asyncio", ASYNC))
    assert status == 0, text
    assert "1 passed" in text
    status, text = run_tests(_project(tmp_path / "anyio", ANYIO), "-p", "no:asyncio")
    assert status == 0, text
    assert "2 passed" in text, "on asyncio and, because the wheel brings it, on trio"

    # The extra: the same project is left alone still, and one that asks is served.
    install(f"{wheel}[testing]")
    status, text = run_tests(plain, "-p", "no:trio", "-p", "no:asyncio", "-p", "no:anyio")
    assert status == 0, text
    status, text = run_tests(_project(tmp_path / "user", USER), "-p", "no:asyncio")
    assert status == 1, text
    assert "1 failed, 2 passed" in text
    assert "assert 1 == 2" in text
    assert "seed 7" in text
    assert "happened  attempt=1 event=closed" in text


def _told(text: str) -> list[str]:
    """The report, without the list of plugins and the time that it took."""
    return [line for line in text.splitlines() if "plugins:" not in line and " in 0." not in line]
