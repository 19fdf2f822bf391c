"""Plants each mutant in a copy of the handler, and sees whether the kit notices.

    python tests/faults/mutants/run.py [--seeds 300] [NAME ...]

Each copy runs the catalogue's scenarios of the memory network, and then random ones by seed, until
a rule is broken; the handler as it is has to keep them all first. Fails when fewer than 28 of each
30 mutants are caught.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[3]
WANTED = 28 / 30
HANG_S = 20  # for one scenario, in real time: they take milliseconds
RUN_S = 240  # for all scenarios of one mutant


# --- in the copy ---------------------------------------------------------------------------------


def work(seeds: int) -> None:
    """Run the scenarios against the handler that is imported, and print the first violation."""
    import feedhandler
    from feedhandler_testing.catalogue import CATALOGUE
    from feedhandler_testing.run import simulate
    from feedhandler_testing.sampling import random_scenario

    began, done, name = time.monotonic(), 0, ""

    def tell(rule: str, message: str) -> None:
        found = {"rule": rule, "message": message, "scenario": name}
        report(found)

    def report(found: dict[str, Any]) -> None:
        seconds = time.monotonic() - began
        print(json.dumps({**found, "scenarios": done, "seconds": round(seconds, 1)}), flush=True)

    def hung(*_: object) -> None:
        tell("Hang", f"no end within {HANG_S} s")
        os._exit(0)  # whatever keeps it busy is not to be asked

    home = Path(feedhandler.__file__).resolve()
    if not home.is_relative_to(Path(os.environ["MUTANT_HOME"]).resolve()):
        sys.exit(f"{home} is not the copy")
    signal.signal(signal.SIGALRM, hung)
    memory = [entry for entry in CATALOGUE if entry.scenario.network == "memory"]
    for number in range(len(memory) + seeds):
        if number < len(memory):
            name, scenario = memory[number].name, memory[number].scenario
        else:
            seed = number - len(memory)
            name, scenario = f"seed {seed}", random_scenario(seed)
        done += 1
        signal.alarm(HANG_S)
        try:
            violations = simulate(scenario, keep=100).violations
        except BaseException as error:  # the run itself broke: that is noticed as well
            tell("Crash", repr(error)[:200])
            os._exit(0)
        if violations:
            tell(violations[0].rule, violations[0].message)
            return
    signal.alarm(0)
    report({"rule": None})


# --- outside -------------------------------------------------------------------------------------


def plant(mutant: Mutant, home: Path) -> None:
    """Put the mutant into the copy; `SystemExit` where its text is not there exactly once."""
    file = home / "feedhandler" / mutant.file
    text = file.read_text("utf-8")
    found = text.count(mutant.old)
    if found != 1:
        sys.exit(f"{mutant.name}: its text occurs {found} times in feedhandler/{mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def judge(mutant: Mutant | None, seeds: int) -> dict[str, Any]:
    """What the kit says of a copy with the mutant in it."""
    with tempfile.TemporaryDirectory(prefix="feedhandler-mutant-") as folder:
        home = Path(folder)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "feedhandler", home / "feedhandler", ignore=leave)
        kit = home / "testing" / "feedhandler_testing"
        shutil.copytree(ROOT / "testing" / "feedhandler_testing", kit, ignore=leave)
        if mutant is not None:
            plant(mutant, home)
        paths = os.pathsep.join([str(home), str(home / "testing")])
        environment = {
            **os.environ, "PYTHONPATH": paths, "MUTANT_HOME": str(home), "PYTHONSAFEPATH": "1",
        }  # fmt: skip
        command = [sys.executable, "-W", "ignore", __file__, "--work", "--seeds", str(seeds)]
        try:
            done = subprocess.run(  # noqa: S603  # this file
                command, env=environment, cwd=home, capture_output=True, text=True, timeout=RUN_S,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return _found("Hang", f"no end within {RUN_S} s")
        lines = done.stdout.strip().splitlines()
        if lines:
            found: dict[str, Any] = json.loads(lines[-1])
            return found
        return _found("Crash", "\n".join(done.stderr.strip().splitlines()[-3:]))


def _found(rule: str, message: str) -> dict[str, Any]:
    return {"rule": rule, "message": message, "scenario": "?", "scenarios": 0, "seconds": 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutants (default: all)")
    parser.add_argument("--seeds", type=int, default=300, help="how many random scenarios")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.seeds)
        return 0
    unknown = set(given.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutants: {', '.join(sorted(unknown))}")
    sound = judge(None, given.seeds)
    if sound["rule"] is not None:
        print(f"The handler as it is breaks a rule: {sound}")
        return 1
    print(f"The handler as it is keeps all rules: {sound['scenarios']} scenarios, "
          f"{sound['seconds']} s.\n", flush=True)  # fmt: skip
    chosen = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    missed = []
    for mutant in chosen:
        found = judge(mutant, given.seeds)
        if found["rule"] is None:
            missed.append(mutant)
            told = f"MISSED    {mutant.cost}"
        else:
            told = f"{found['rule']:18} {found['scenario']}: {found['message'][:90]}"
        cost = f"{found['scenarios']:4} {found['seconds']:5.1f} s"
        print(f"{mutant.name:35} {cost}  {told}", flush=True)
    caught = len(chosen) - len(missed)
    print(f"\n{caught} of {len(chosen)} mutants were caught; {WANTED:.0%} are wanted.")
    return 0 if caught >= WANTED * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
