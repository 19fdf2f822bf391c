"""Development sessions; `nox -l` lists them, and a plain `nox` lints, checks types and tests."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nox
from nox.logger import logger

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SUPPORTED = ["3.11", "3.12", "3.13"]
PACKAGES = ["feedhandler", "feedhandler_testing"]

nox.needs_version = ">=2026.2.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
# nox's own default is to fail when the CI variable is set.
nox.options.error_on_missing_interpreters = False

# Keeps `import feedhandler` from finding the checkout in the working directory, also in the
# processes that a test starts.
INSTALLED_ONLY = {"PYTHONSAFEPATH": "1"}


# --- interpreters --------------------------------------------------------------------------------


def _runs(executable: Path, version: str) -> bool:
    check = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    try:
        done = subprocess.run(  # noqa: S603  # a Python that was found on this machine
            [executable, "-c", check], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    for directory in [*os.get_exec_path(), str(Path(sys.executable).parent)]:
        if found := shutil.which(name, path=directory):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True)


def _testable() -> list[str]:
    """Return the versions to test with; nox skips those of them that are not installed.

    A version manager's shim is on PATH even where its version is not enabled, and then fails when
    it is run. nox may take it for an interpreter, so a real one is put before it on PATH.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    testable = []
    for version in [*SUPPORTED, *({own} - {*SUPPORTED})]:
        broken = False
        for executable in _candidates(version):
            if _runs(executable, version):
                if broken or not shutil.which(executable.name):
                    path = os.environ.get("PATH", os.defpath)
                    os.environ["PATH"] = f"{executable.parent}{os.pathsep}{path}"
                broken = False
                break
            broken = True
        if broken and version != own:
            logger.warning(f"tests-{version} is skipped: python{version} does not run here.")
        else:
            testable.append(version)
    return testable


# --- what sessions share -------------------------------------------------------------------------


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


@functools.cache
def _wheel_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="feedhandler-wheel-")


def _built_wheel(session: nox.Session) -> Path:
    """Build the wheel, once for all the sessions of a run."""
    directory = Path(_wheel_directory().name)
    if not any(directory.glob("*.whl")):
        session.run_install(
            *("python", "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", str(directory), str(ROOT)),
        )
    (wheel,) = directory.glob("*.whl")
    return wheel


def _install_wheel(session: nox.Session, extras: str, *requirements: str) -> None:
    """Install the wheel, and make sure that it is what will be imported."""
    wheel = _built_wheel(session)
    # The version stays the same between two builds, so pip would keep the old one.
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"{wheel}[{extras}]", *requirements)
    check = (
        f"import {', '.join(PACKAGES)}, pathlib, sysconfig\n"
        "site = pathlib.Path(sysconfig.get_path('purelib')).resolve()\n"
        f"for module in {', '.join(PACKAGES)}:\n"
        "    file = pathlib.Path(module.__file__).resolve()\n"
        "    assert file.is_relative_to(site), f'{file} is not the installed wheel'"
    )
    session.run("python", "-c", check, env=INSTALLED_ONLY, silent=True, log=False)


# --- sessions ------------------------------------------------------------------------------------


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of both packages and of tests/typing: mypy (strict), then basedpyright."""
    session.install("--editable", ".[cli,recording,rest,testing]", *_group("types"))
    session.run("mypy", "feedhandler", "testing/feedhandler_testing", "tests/typing")
    session.run("basedpyright")


@nox.session(python=_testable())
def tests(session: nox.Session) -> None:
    """Run the tests against the built and installed wheel; arguments after -- go to pytest."""
    _install_wheel(session, "cli,recording,rest,testing", *_group("test"))
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs, env=INSTALLED_ONLY)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure the tests' branch coverage; fails under the limit set in pyproject.toml."""
    _install_wheel(session, "cli,recording,rest,testing", *_group("test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env=INSTALLED_ONLY)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the demo as plain lines for 10 s; arguments after -- go to `feedhandler demo`."""
    _install_wheel(session, "cli,testing")
    arguments = ("--plain", "--seconds", "10", *session.posargs)
    session.run("feedhandler", "demo", *arguments, env=INSTALLED_ONLY)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the catalogue of faults; arguments after -- go to `feedhandler faults run`."""
    _install_wheel(session, "cli,testing")
    arguments = session.posargs or ["all"]
    session.run("feedhandler", "faults", "run", *arguments, env=INSTALLED_ONLY)


@nox.session
def chaos(session: nox.Session) -> None:
    """Search 10,000 random scenarios for a broken rule, and run one virtual day."""
    _install_wheel(session, "cli,testing")
    arguments = session.posargs or ["--seeds", "10000", "--minutes", "15", "--jobs", "2", "--plain"]
    session.run("feedhandler", "chaos", *arguments, env=INSTALLED_ONLY)
    if not session.posargs:
        session.run("feedhandler", "faults", "run", "virtual-day", env=INSTALLED_ONLY)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Spoil a million messages of each venue; recordings are spoiled too, where there are some."""
    _install_wheel(session, "recording,rest,testing", *_group("test"))
    session.run(
        "python", "-m", "pytest", "-n", "2", "tests/venues/test_fuzz.py", *session.posargs,
        env={**INSTALLED_ONLY, "FEEDHANDLER_FUZZ_RUNS": "1000000"},
    )  # fmt: skip


@nox.session(python=_testable())
def determinism(session: nox.Session) -> None:
    """Run 200 seeds twice on each version: all must give the same traces, byte for byte."""
    _install_wheel(session, "cli,testing")
    first = _digests(session, "1")
    second = _digests(session, "2")
    known = Path(_wheel_directory().name) / "digests.txt"
    if not known.exists():
        known.write_text(first)
    if not first == second == known.read_text():
        session.error("two runs of one seed differ")
    session.log(f"{len(first.splitlines())} seeds gave the same traces, twice")


def _digests(session: nox.Session, hash_seed: str) -> str:
    script = str(ROOT / "tests" / "faults" / "digests.py")
    env = {**INSTALLED_ONLY, "PYTHONHASHSEED": hash_seed}
    printed = session.run("python", script, *(session.posargs or ["200"]), env=env, silent=True)
    assert isinstance(printed, str)
    return printed


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant bugs in copies of the handler, and see that the kit catches them."""
    _install_wheel(session, "testing")
    session.run("python", "tests/faults/mutants/run.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed beside that of peers; arguments after -- go to benchmarks/run.py."""
    _install_wheel(session, "cli,recording,rest,testing", *_group("bench"))
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/scale.py")
    session.run("python", "benchmarks/books.py")
    wheel = str(_built_wheel(session))
    session.run("python", "benchmarks/cryptofeed_peer.py", "--wheel", wheel)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the API reference to site/, and check the links of README.md and docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if broken := [problem for page in pages for problem in _broken_links(page)]:
        session.error("\n".join(["broken links:", *broken]))
    _install_wheel(session, "cli,recording,rest,testing", *_group("docs"))
    modules = [f"feedhandler.{path.stem}" for path in (ROOT / "feedhandler").glob("[!_]*.py")]
    # pdoc warns where it cannot import a module or resolve an annotation, and also where the
    # working directory holds a package of the same name.
    strict = ("-W", "error::UserWarning", "-W", "error::RuntimeWarning")
    session.chdir(session.create_tmp())
    session.run(
        *("python", *strict, "-m", "pdoc", *PACKAGES, *sorted(modules)),
        *("--output-directory", str(ROOT / "site")),
        env=INSTALLED_ONLY,
    )


# --- links ---------------------------------------------------------------------------------------

_FENCED = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken_links(page: Path) -> Iterator[str]:
    """Yield the relative links of a page that lead nowhere."""
    text = _CODE.sub("", _FENCED.sub("", page.read_text("utf-8")))
    for match in _LINK.finditer(text):
        link = match[1] or match[2]
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_page = target.suffix == ".md" and target.is_file()
        if not target.exists() or (anchor and is_page and anchor not in _anchors(target)):
            yield f"{page.relative_to(ROOT)}: {link}"
