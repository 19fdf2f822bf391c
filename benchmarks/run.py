"""Measure side by side what a user would pick: ``nox -s bench``, or ``python benchmarks/run.py``.

All peers of a round run in turn, each in a process of its own, against one sender in another
process; what is told are medians over the rounds, and ratios within this one run. The results go
to a table, a JSON file and an SVG plot. A run whose count or sum is wrong is an error, not a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from plot import bar_chart
from scenarios import SCENARIOS

HERE = Path(__file__).parent
BATCHES, SINGLE = "feedhandler batches", "feedhandler one by one"
FEED_BATCHES, FEED_SINGLE = "open_feed batches", "open_feed one by one"
OBVIOUS = "trio-websocket json cattrs"
OTHERS = (OBVIOUS, "websockets trio", "websockets uvloop", "aiohttp uvloop", "picows uvloop")
# What this project holds itself to, on small ticks: the least ratio in batches and one by one.
TARGETS = {
    OBVIOUS: (20.0, 15.0),
    "websockets trio": (5.0, 4.0),
    "websockets uvloop": (2.5, 2.0),
    "aiohttp uvloop": (1.3, 1.0),
    "picows uvloop": (1.1, 0.9),
}
FEED_TARGET = 0.7
PACES = (1_000, 20_000)


@contextlib.contextmanager
def sender(scenario: str, scale: float, recordings: Path) -> Iterator[dict[str, Any]]:
    """Run the sender during the block; gives what it says of itself."""
    process = subprocess.Popen(
        [sys.executable, HERE / "sender.py", scenario, str(scale), str(recordings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def receive(peer: str, mode: str, scenario: str, url: str, count: int) -> dict[str, Any]:
    """Let one peer receive everything, in a process of its own."""
    done = subprocess.run(
        [sys.executable, HERE / "receivers.py", peer, mode, scenario, url, str(count)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["count"] != count:
        raise SystemExit(f"{peer} received {result['count']} of {count} messages")
    return result


def measure_rates(
    scenario: str, mode: str, peers: list[str], options: argparse.Namespace
) -> dict[str, float]:
    """Messages a second of each peer: the median over the rounds."""
    rates: dict[str, list[float]] = {peer: [] for peer in peers}
    with sender(scenario, options.scale, options.recordings) as about:
        expected = str(about["bytes"]) if mode == "raw" else about["expected"]
        url = f"ws://127.0.0.1:{about['port']}/"
        for number in range(options.rounds):
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                result = receive(peer, mode, scenario, url, about["count"])
                if result["total"] != expected:
                    raise SystemExit(f"{peer} got the sum {result['total']}, not {expected}")
                rates[peer].append(result["count"] / result["seconds"])
            print(f"  {scenario} {mode}: round {number + 1} of {options.rounds}", file=sys.stderr)
    return {peer: statistics.median(values) for peer, values in rates.items()}


def measure_latency(
    pace: int, peers: list[str], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Quantiles of each peer, in microseconds, at `pace` messages a second: medians of rounds."""
    seconds = 3.0 * options.scale
    found: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    with sender("ticks", 0.001, options.recordings) as about:
        url = f"ws://127.0.0.1:{about['port']}/pace/{pace}/{seconds}"
        for number in range(options.rounds):
            for peer in peers:
                count = int(pace * seconds)
                found[peer].append(receive(peer, "latency", "ticks", url, count))
            print(f"  latency at {pace}/s: round {number + 1}", file=sys.stderr)
    return {
        peer: {
            q: statistics.median(result[q] for result in results) / 1e3
            for q in ("p50", "p99", "p999")
        }
        for peer, results in found.items()
    }


# --- telling -------------------------------------------------------------------------------------


def tell_rates(title: str, rates: dict[str, float]) -> None:
    print(f"\n{title}\n{'':28} {'messages/s':>12} {'batches are':>12} {'one by one is':>14}")
    for peer, rate in sorted(rates.items(), key=lambda item: -item[1]):
        print(
            f"{peer:28} {rate:12,.0f} {rates[BATCHES] / rate:10.2f} x"
            f" {rates[SINGLE] / rate:12.2f} x"
        )


def tell_targets(rates: dict[str, float]) -> list[dict[str, Any]]:
    """The ratios that this project holds itself to, and whether it does."""
    rows = []
    for peer, targets in TARGETS.items():
        for ours, target in zip((BATCHES, SINGLE), targets, strict=True):
            rows.append((f"{ours} / {peer}", rates[ours] / rates[peer], target))
    rows.append((f"{FEED_BATCHES} / {BATCHES}", rates[FEED_BATCHES] / rates[BATCHES], FEED_TARGET))
    print("\ntargets, small ticks")
    for name, ratio, target in rows:
        print(f"{name:56} {ratio:6.2f}  {'ok' if ratio >= target else 'SHORT'} (at least {target})")
    return [{"name": n, "ratio": round(r, 3), "target": t, "met": r >= t} for n, r, t in rows]


def tell_latency(pace: int, found: dict[str, dict[str, float]]) -> None:
    print(f"\nlatency at {pace:,} messages a second, µs{'':14} {'p50':>8} {'p99':>8} {'p99.9':>8}")
    for peer, row in sorted(found.items(), key=lambda item: item[1]["p99"]):
        print(f"{peer:44} {row['p50']:8,.0f} {row['p99']:8,.0f} {row['p999']:8,.0f}")


def setting() -> dict[str, Any]:
    """What was measured with: versions, and how many cores there are."""
    names = ("trio", "trio-websocket", "msgspec", "websockets", "aiohttp", "picows", "uvloop")
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **{name: metadata.version(name) for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual length")
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE.parent / "bench-results")
    options = parser.parse_args()
    named = os.environ.get("FEEDHANDLER_RECORDINGS")
    options.recordings = Path(named) if named else HERE.parent.parent / "shared" / "recordings"
    options.out.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = {"setting": setting(), "rates": {}, "latency_us": {}}
    charts = []
    for scenario in options.scenarios:
        if scenario == "mixed" and not options.recordings.is_dir():
            print("mixed is skipped: there are no recordings; set FEEDHANDLER_RECORDINGS")
            continue
        feeds = [FEED_BATCHES, FEED_SINGLE] if scenario == "ticks" else []
        for mode, peers in (
            ("typed", [BATCHES, SINGLE, *feeds, *OTHERS]),
            ("raw", [BATCHES, SINGLE, *OTHERS]),
        ):
            rates = measure_rates(scenario, mode, peers, options)
            title = f"{scenario}, {mode}"
            tell_rates(title, rates)
            results["rates"][title] = {peer: round(rate) for peer, rate in rates.items()}
            charts.append((f"{title}: messages a second", rates))
            if (scenario, mode) == ("ticks", "typed"):
                results["targets"] = tell_targets(rates)
    if not options.no_latency:
        for pace in PACES:
            found = measure_latency(pace, [BATCHES, SINGLE, FEED_SINGLE, *OTHERS], options)
            tell_latency(pace, found)
            results["latency_us"][str(pace)] = found
            p99 = {peer: row["p99"] for peer, row in found.items()}
            charts.append((f"p99 latency in µs at {pace:,} messages a second", p99))
    (options.out / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "bench.svg").write_text(bar_chart(charts))
    print(f"\nwritten: {options.out / 'bench.json'} and bench.svg")


if __name__ == "__main__":
    main()
