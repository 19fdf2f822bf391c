"""A run as one HTML file: what happened, drawn over virtual time, and its records as a table.

The file needs nothing else: no network, no fonts, no library; its policy forbids it to load any.
The same outcome gives the same bytes. Its size is bounded: beyond `RECORDS` records, those are
left out that are far from anything of interest, and the table says where and how many; the lanes
are drawn from all of them, in bins that are fine enough for the eye.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import attrs

from feedhandler_testing.outcome import Outcome, versions
from feedhandler_testing.report_data import (
    RECORDS,
    chart_of,
    choose,
    fault_rows,
    kinds_of,
    number,
    schema,
    told,
)
from feedhandler_testing.trace import Record

__all__ = ["RECORDS", "render_report", "write_report"]


def write_report(outcome: Outcome, path: str | os.PathLike[str]) -> None:
    """Write `render_report(outcome)` to a file, as UTF-8. Raises `OSError` as `open` does."""
    Path(path).write_bytes(render_report(outcome).encode())


def render_report(outcome: Outcome, *, records: int = RECORDS) -> str:
    """One HTML page that draws a run; at most `records` of its records are in the table."""
    page = resources.files("feedhandler_testing") / "report_page"
    style = (page / "style.css").read_text("utf-8")
    script = (page / "chart.js").read_text("utf-8")
    scenario, trace = outcome.scenario, outcome.trace
    kept = list(trace)
    chart = chart_of(outcome, kept)
    kinds = kinds_of(kept)
    chart["rows"], shown = _rows(outcome, kept, kinds, records)
    chart["kinds"] = schema(kinds)
    name = scenario.name or "A run without a name"
    return Template((page / "page.html").read_text("utf-8")).substitute(
        name=_text(name),
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'",
        style=style,
        script=script,
        data=_embedded(chart),
        verdict=_verdict(outcome),
        facts=_facts(outcome, kept),
        violations=_violations(outcome),
        literal=_text(scenario.literal()),
        faults=_faults(kept),
        coverage=_coverage(outcome),
        shown=_shown(shown, len(kept), trace.count),
    )


# --- escaping ------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Text for HTML. What UTF-8 or HTML cannot hold is shown as an escape, as in Python."""
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in str(value)
    )
    return html.escape(shown)


def _embedded(value: object) -> str:
    """JSON that cannot end the element that it is in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


# --- the words -----------------------------------------------------------------------------------


def _verdict(outcome: Outcome) -> str:
    count = len(outcome.violations)
    if not count:
        return '<p class="verdict kept"><span aria-hidden="true">✔</span> All rules were kept</p>'
    words = f"{count} violation{'s' if count > 1 else ''}"
    return f'<p class="verdict broken"><span aria-hidden="true">✖</span> {words}</p>'


def _facts(outcome: Outcome, kept: Sequence[Any]) -> str:
    scenario = outcome.scenario
    kinds = Counter(type(record).__name__ for record in kept)
    time = "virtual time" if scenario.network == "memory" else f"real time, {scenario.network}"
    facts = {
        "Seed": str(scenario.seed),
        f"Duration ({time})": f"{outcome.virtual_s:,.3f} s",
        "Messages delivered": f"{outcome.messages:,}",
        "Messages sent": f"{kinds['Sent']:,}",
        "Gaps announced": f"{kinds['Lost']:,}",
        "Decode errors": f"{kinds['Malformed']:,}",
        "Changes of state": f"{kinds['Moved']:,}",
        "Faults placed": f"{kinds['Placed']:,}",
        "Times they acted": f"{kinds['Fired']:,}",
        "Records": f"{outcome.trace.count:,}",
    }
    if scenario.expect.raises or kinds["Failed"]:
        facts["Errors raised"] = f"{kinds['Failed']:,}"
    short = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts.items())
    long = {"Versions": versions(), "Digest of the trace": outcome.digest}
    return short + "".join(
        f'<div class="wide"><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>' for k, v in long.items()
    )


def _violations(outcome: Outcome) -> str:
    if not outcome.violations:
        return ""
    items = "".join(
        f'<li><button type="button" class="goto" data-at="{number(one.at_s)}">'
        f"{one.at_s:,.6f} s</button> <strong>{_text(one.rule)}</strong>: {_text(one.message)}</li>"
        for one in outcome.violations
    )
    return (
        '<section aria-labelledby="broken"><h2 id="broken">Violations</h2>'
        f'<ol class="violations" tabindex="0" aria-labelledby="broken">{items}</ol></section>'
    )


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(caption)}">'
        f"<table><caption>{_text(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _faults(kept: Sequence[Any], most: int = 500) -> str:
    rows = fault_rows(kept)
    if not rows:
        return "<p>No fault was put in place.</p>"
    more = f"; the first {most} of {len(rows)}" if len(rows) > most else ""
    heads = ("Fault", "From (s)", "To (s)", "Acted", "First (s)", "Last (s)")
    return _table(f"Each fault that was put in place{more}", heads, rows[:most])


def _coverage(outcome: Outcome) -> str:
    if not outcome.coverage:
        return ""
    states = sorted({state for _, state in outcome.coverage})
    faults = sorted({fault for fault, _ in outcome.coverage})
    rows = [
        [fault, *("yes" if (fault, s) in outcome.coverage else "-" for s in states)]
        for fault in faults
    ]
    return _table("The state that the subject was in when a fault acted", ["Fault", *states], rows)


def _shown(shown: int, kept: int, count: int) -> str:
    words = [f"All {kept:,} records."]
    if shown < kept:
        words = [
            f"{shown:,} of {kept:,} records: those near a violation, a fault or a change. "
            "The rest is counted where it is left out, and drawn above."
        ]
    if kept < count:
        words.append(f"The run kept the last {kept:,} of its {count:,} records only.")
    return _text(" ".join(words))


# --- the records ---------------------------------------------------------------------------------


def _rows(
    outcome: Outcome, kept: Sequence[Any], kinds: Sequence[type[Record]], most: int
) -> tuple[list[list[Any]], int]:
    """The table's rows, as `[at, kind, values…]`, with the violations among them.

    A stretch that is left out is a row of the kind before the last, a violation of the last.
    """
    known = {kind: index for index, kind in enumerate(kinds)}
    left_out, violation = len(kinds), len(kinds) + 1
    chosen = choose(outcome, kept, most)
    rows: list[list[Any]] = []
    out: Counter[str] = Counter()
    began = 0.0
    due = sorted(outcome.violations, key=lambda one: one.at_s)
    position = 0

    def flush(until: float) -> None:
        if out:
            words = ", ".join(f"{count:,} {name}" for name, count in sorted(out.items()))
            rows.append([number(began), left_out, number(until), words])
            out.clear()

    def accuse(before: float) -> None:
        nonlocal position
        while position < len(due) and due[position].at_s < before:
            one = due[position]
            rows.append([number(one.at_s), violation, one.rule, one.message])
            position += 1

    for index, record in enumerate(kept):
        if index not in chosen:
            began = began if out else record.at_s
            out[type(record).__name__.lower()] += 1
            continue
        flush(record.at_s)
        accuse(record.at_s)
        fields = attrs.fields(type(record))[1:]
        values = [told(getattr(record, one.name)) for one in fields]
        rows.append([number(record.at_s), known[type(record)], *values])
    flush(kept[-1].at_s if kept else 0.0)
    accuse(float("inf"))
    return rows, len(chosen)
