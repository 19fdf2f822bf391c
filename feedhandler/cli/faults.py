"""The catalogue of faults, single runs, and the search for what breaks a rule."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from feedhandler.errors import ConfigError

if TYPE_CHECKING:
    from feedhandler_testing.chaos import Summary
    from feedhandler_testing.outcome import Outcome
    from feedhandler_testing.scenario import Scenario

__all__ = ["chaos", "faults"]

EXIT_BROKEN = 1
_KEPT = 1_000  # records, where nobody asks for all: a long run has millions


@click.group()
def faults() -> None:
    """Failures of real feeds as named scenarios: list them, run them, make new ones."""


@faults.command(name="list")
def list_() -> None:
    """List the failures of the catalogue, with their scenarios and what a handler is to do."""
    from feedhandler_testing.catalogue import CATALOGUE

    table = Table(box=None, pad_edge=False)
    for heading in ("#", "name", "failure", "what a handler does"):
        table.add_column(heading, justify="right" if heading == "#" else "left")
    for entry in CATALOGUE:
        table.add_row(str(entry.number), entry.name, entry.failure, entry.answer)
    Console().print(table)


@faults.command()
def kinds() -> None:
    """List the kinds of faults that scenarios are made of, by layer."""
    from feedhandler_testing.faults import Layer, fault_kinds

    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "kind", "what it does"):
        table.add_column(heading)
    for layer in Layer:
        for kind, fault in fault_kinds().items():
            if fault.layer is layer:
                table.add_row(layer.value, kind, (fault.__doc__ or "").partition("\n\n")[0])
    Console().print(table)


@faults.command()
@click.argument("name")
@click.option("--seed", type=int, default=None, help="Another seed than the scenario's own.")
@click.option("--venue", default=None, help="Whose language the mock server speaks.")
@click.option("--trace", is_flag=True, help="Print every record of the run.")
@click.option(
    "--report", type=click.Path(path_type=Path), default=None, help="Draw the run: an HTML file."
)
def run(
    *, name: str, seed: int | None, venue: str | None, trace: bool, report: Path | None
) -> None:
    """Run the scenario NAME of the catalogue, `all` of them, or that of a .json or .toml file."""
    if name == "all":
        if trace or report is not None:
            raise click.UsageError("--trace and --report go with one scenario; name it")
        sys.exit(_run_all(seed, venue))
    scenario = _at(_with_seed(_scenario_of(name), seed), venue)
    if report is not None and not report.absolute().parent.is_dir():
        raise _Impossible(f"--report: {report.parent} is no directory; make it first")
    if report is not None and report.is_dir():
        raise _Impossible(f"--report: {report} is a directory; name a file in it")
    outcome = _simulate(scenario, keep=None if trace or report is not None else _KEPT)
    if trace:
        click.echo("\n".join(outcome.trace.lines()))
    if report is not None:
        from feedhandler_testing.report import write_report

        write_report(outcome, report)
        click.echo(f"drawn: {report}")
    _tell(scenario.name or name, outcome)
    if outcome.violations:
        from feedhandler_testing.outcome import ScenarioFailed

        click.echo(str(ScenarioFailed(outcome)), err=True)
        sys.exit(EXIT_BROKEN)


@faults.command()
@click.option("--venue", default="price", show_default=True, help="Where: the mock speaks it.")
@click.option("--books", is_flag=True, help="Follow order books, and not prices.")
def matrix(*, venue: str, books: bool) -> None:
    """Run every kind of fault in every state."""
    from feedhandler_testing.matrix import STATES
    from feedhandler_testing.matrix import matrix as cells

    table = Table(box=None, pad_edge=False)
    for heading in ("kind", *STATES):
        table.add_column(heading, no_wrap=True)
    rows: dict[str, list[str]] = {}
    broken = 0
    try:
        every = list(cells(venue=venue, books=books))
    except ConfigError as error:
        raise _Impossible(str(error)) from error
    for cell in every:
        outcome = _simulate(cell.scenario)
        states = {state for kind, state in outcome.coverage if kind == cell.kind}
        broken += bool(outcome.violations)
        acted = "ok" if cell.state in states else "after" if states else "-"
        verdict = "BROKEN" if outcome.violations else acted
        rows.setdefault(cell.kind, []).append(verdict)
    for kind, verdicts in rows.items():
        table.add_row(kind, *verdicts)
    # The names are what one looks for: where the window is narrow, lines are longer than it.
    console = Console(width=max(Console().width, 110))
    console.print(table)
    console.print("ok: it acted in that state; after: it was in place then, and acted later;")
    console.print("-: nothing came that it could act on. All rules were kept but where it says so.")
    console.print(f"{broken} broken")
    if broken:
        sys.exit(EXIT_BROKEN)


@faults.command(name="from-recording")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="File to write: .json or .toml."
)
@click.option("--seed", type=int, default=0, show_default=True)
def from_recording(*, file: Path, out: Path | None, seed: int) -> None:
    """Turn the recording FILE, with its ends and silences, into a scenario."""
    from feedhandler.errors import FeedError
    from feedhandler_testing.from_recording import scenario_from_recording
    from feedhandler_testing.scenario_files import save_scenario, scenario_to_json

    try:
        scenario = scenario_from_recording(file, seed=seed)
        if out is None:
            click.echo(scenario_to_json(scenario), nl=False)
        else:
            save_scenario(scenario, out)
    except FeedError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
    help="Stop after this long.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--venue", default="price", show_default=True, help="Where: the mock speaks it.")
@click.option(
    "--save", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Directory for what is found, shrunk, as .json files.",
)  # fmt: skip
@click.option("--plain", is_flag=True, help="No progress bar.")
def chaos(
    *, seeds: int, first: int, minutes: float, jobs: int, venue: str, save: Path | None, plain: bool
) -> None:
    """Search for scenarios that break a rule: random ones, seed by seed."""
    from feedhandler_testing.chaos import search, shrink
    from feedhandler_testing.dialect import dialect_by_name
    from feedhandler_testing.scenario_files import save_scenario

    try:
        dialect_by_name(venue)
    except ConfigError as error:
        raise _Impossible(str(error)) from error
    console = Console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=plain or not console.is_terminal) as progress:
        task = progress.add_task("scenarios", total=seeds)
        begun = progress.get_time()

        def advance(summary: Summary) -> None:
            progress.update(task, completed=summary.scenarios)

        summary = search(
            itertools.islice(itertools.count(first), seeds),
            limit_s=minutes * 60,
            jobs=jobs,
            progress=advance,
            venue=venue,
        )
        took_s = max(progress.get_time() - begun, 1e-9)
    _summarise(summary, took_s)
    for finding in summary.findings[:5]:
        small = finding.scenario
        if finding.rule != "crash":
            small = shrink(finding.scenario)
        click.echo(f"\nseed {finding.seed}: {finding.message}\n{small.literal()}", err=True)
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            path = save / f"{finding.rule.lower()}-{finding.seed}.json"
            save_scenario(small, path)
            click.echo(f"saved: {path}", err=True)
    if summary.findings:
        sys.exit(EXIT_BROKEN)


def _summarise(summary: Summary, took_s: float) -> None:
    from feedhandler_testing.faults import fault_kinds
    from feedhandler_testing.run import PHASES

    hours = summary.virtual_s / 3600
    pairs = len(fault_kinds()) * len(PHASES)
    click.echo(
        f"{summary.scenarios:,} scenarios in {took_s:.1f} s ({summary.scenarios / took_s:.0f} a "
        f"second), {hours:,.1f} h of virtual time ({summary.virtual_s / took_s:,.0f} times real "
        f"time), {summary.messages:,} messages delivered"
    )
    click.echo(
        f"{len(summary.faults)} of {len(fault_kinds())} kinds of faults acted, in "
        f"{len(summary.coverage)} of {pairs} pairs of a fault and a state"
    )
    for kind, count in summary.faults.most_common():
        states = sorted(state for name, state in summary.coverage if name == kind)
        click.echo(f"  {kind:22} {count:6,}  {', '.join(states)}")
    click.echo(f"{len(summary.findings)} violations")


def _scenario_of(name: str) -> Scenario:
    from feedhandler_testing.catalogue import find_entry
    from feedhandler_testing.scenario_files import load_scenario

    try:
        if name.endswith((".json", ".toml")):
            return load_scenario(Path(name))
        return find_entry(name).scenario
    except ConfigError as error:
        raise _Impossible(str(error)) from error
    except OSError as error:
        raise _Impossible(f"{name}: {error.strerror}") from error


def _at(scenario: Scenario, venue: str | None) -> Scenario:
    from feedhandler_testing.at_venue import at_venue

    try:
        return scenario if venue is None else at_venue(scenario, venue)
    except ConfigError as error:
        raise _Impossible(str(error)) from error


def _with_seed(scenario: Scenario, seed: int | None) -> Scenario:
    import attrs

    return scenario if seed is None else attrs.evolve(scenario, seed=seed)


def _simulate(scenario: Scenario, *, keep: int | None = _KEPT) -> Outcome:
    from feedhandler_testing.run import simulate

    try:
        return simulate(scenario, keep=keep, check_memory=True, hashed=False)
    except ConfigError as error:
        raise _Impossible(str(error)) from error


def _run_all(seed: int | None, venue: str | None) -> int:
    from feedhandler_testing.at_venue import at_venue
    from feedhandler_testing.catalogue import CATALOGUE
    from feedhandler_testing.dialect import dialect_by_name

    broken = ran = 0
    try:
        dialect_by_name(venue or "price")
    except ConfigError as error:
        raise _Impossible(str(error)) from error
    for entry in CATALOGUE:
        scenario = _with_seed(entry.scenario, seed)
        try:
            scenario = at_venue(scenario, venue or scenario.venue)
        except ConfigError as error:
            click.echo(f"{entry.number:3}  {entry.name}: left out: {error.rule}")
            continue
        outcome = _simulate(scenario)
        _tell(f"{entry.number:3}  {entry.name}", outcome)
        broken += bool(outcome.violations)
        ran += 1
    click.echo(f"{ran} scenarios, {broken} broken")
    return EXIT_BROKEN if broken else 0


def _tell(name: str, outcome: Outcome) -> None:
    verdict = "ok" if not outcome.violations else f"BROKEN: {outcome.violations[0]}"
    click.echo(f"{name:32} {outcome.virtual_s:10.1f} virtual s  {verdict}")


class _Impossible(click.ClickException):
    exit_code = 2
