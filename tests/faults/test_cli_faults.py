"""`feedhandler faults` and `feedhandler chaos`: what they print, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from feedhandler.cli.app import cli
from feedhandler_testing import (
    Cut,
    Expect,
    Inject,
    Messages,
    Reset,
    Scenario,
    SequenceGap,
    Serve,
    load_scenario,
    save_scenario,
)
from feedhandler_testing.catalogue import CATALOGUE
from feedhandler_testing.faults import fault_kinds

SHORT = Scenario(name="short", seed=3, steps=[Serve(5), Cut(Reset()), Serve(5)])
BROKEN = Scenario(
    steps=[Inject(SequenceGap(), Messages(5)), Serve(20)], expect=Expect(lossless=True)
)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(one) for one in arguments], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_catalogue_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed = run("faults", "list").stdout
    for entry in CATALOGUE:
        assert entry.name in printed


def test_the_kinds_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed = run("faults", "kinds").stdout
    for kind in fault_kinds():
        assert kind in printed


def test_one_of_the_catalogue_runs() -> None:
    result = run("faults", "run", "rate-limited", "--seed", 5)
    assert result.exit_code == 0
    assert result.stdout.split()[0] == "rate-limited"
    assert result.stdout.rstrip().endswith("ok")


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_a_file_runs_and_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"short{suffix}"
    save_scenario(SHORT, path)
    assert load_scenario(path) == SHORT
    report = tmp_path / "run.html"
    result = run("faults", "run", path, "--trace", "--report", report)
    assert result.exit_code == 0
    assert "delivered symbol=BTC-USD number=1" in result.stdout
    assert report.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_broken_rule_is_told_with_all_that_is_needed_to_repeat_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    save_scenario(BROKEN, path)
    result = run("faults", "run", path)
    assert result.exit_code == 1
    assert "BROKEN: Expected" in result.stdout
    assert BROKEN.literal() in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "must be a table"),
        ('{"steps": [{"kind": "serve", "count": 0}]}', "$.steps[0].count=0"),
        ('{"steps": [{"kind": "resett"}]}', "use one of ['reset'"),
        ('{"steps": [{"kind": "serve", "count": 5, "speed": 2}]}', "no such parameter"),
        ('{"steps": [{"kind": "serve", "count": 5}, {"kind": "refuse"}]}', "put Cut(Reset())"),
        ('{"settings": {"bakoff": {}}, "steps": [{"kind": "serve", "count": 5}]}', "bakoff"),
        ('{"heartbeat_s": 0, "steps": [{"kind": "serve", "count": 5}]}', "$.heartbeat_s=0"),
        ('{"symbols": "BTC", "steps": [{"kind": "serve", "count": 5}]}', "BTC"),
        ('{"seed": 1.5, "steps": [{"kind": "serve", "count": 5}]}', "$.seed=1.5"),
    ],
)
def test_an_impossible_file_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, "utf-8")
    result = run("faults", "run", path)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("faults", "run", "resett"), "use one of ['reset"),
        (("faults", "run", "missing.json"), "No such file"),
        (("faults", "run", "all", "--trace"), "go with one scenario"),
        (("chaos", "--seeds", "0"), "--seeds"),
        (("chaos", "--minutes", "0"), "--minutes"),
    ],
)
def test_misuse_is_exit_code_2(arguments: tuple[str, ...], told: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_chaos_sums_up() -> None:
    result = run("chaos", "--seeds", 20, "--first", 7, "--plain")
    assert result.exit_code == 0
    assert result.stdout.startswith("20 scenarios in ")
    assert result.stdout.rstrip().endswith("0 violations")


def test_chaos_ends_when_its_time_is_over() -> None:
    result = run("chaos", "--seeds", 100_000, "--minutes", "0.01", "--plain")
    assert result.exit_code == 0
    assert int(result.stdout.split()[0].replace(",", "")) < 1_000


def test_what_chaos_finds_is_shrunk_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedhandler_testing.chaos.random_scenario", lambda seed, venue: BROKEN)
    result = run("chaos", "--seeds", 1, "--plain", "--save", tmp_path / "found")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith("1 violations")
    (path,) = (tmp_path / "found").iterdir()
    assert "Expected" in result.stderr
    assert len(load_scenario(path).steps) == 2


def test_a_recording_becomes_a_scenario(tmp_path: Path) -> None:
    result = run("faults", "from-recording", tmp_path / "missing.jsonl")
    assert result.exit_code == 1
    assert "No such file" in result.stderr
