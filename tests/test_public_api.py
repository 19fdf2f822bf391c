"""The public names: listed, sorted, documented, typed; and the version that the changelog tells."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = ["feedhandler", "feedhandler_testing"]
CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def _public_modules() -> list[str]:
    names = []

    def walk(package: ModuleType) -> None:
        names.append(package.__name__)
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if info.name.rpartition(".")[2].startswith("_"):
                continue
            if info.ispkg:
                walk(importlib.import_module(info.name))
            else:
                names.append(info.name)

    for package in PACKAGES:
        walk(importlib.import_module(package))
    return names


PUBLIC_MODULES = _public_modules()


def _order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Constants, classes, then the rest, each with numbers by value (the linter's order)."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    pieces = re.findall(r"\d+|\D+", name)
    return kind, [(int(p), "") if p.isdigit() else (10**9, p) for p in pieces]


def _is_documented(value: object) -> bool:
    # Type aliases and constants have no docstring of their own.
    needs_one = inspect.isclass(value) or inspect.isroutine(value)
    return not needs_one or bool((value.__doc__ or "").strip())


def test_public_modules_are_found() -> None:
    assert {*PACKAGES, "feedhandler.errors", "feedhandler.model"} <= {*PUBLIC_MODULES}


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_module_lists_its_names_sorted(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    assert listed is not None, f"{name} has no __all__"
    assert [*listed] == sorted(set(listed), key=_order)
    missing = [one for one in listed if not hasattr(module, one)]
    assert not missing, f"{name}.__all__ names what does not exist: {missing}"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert (module.__doc__ or "").strip()
    assert module.__all__, f"{package} exports nothing"
    undocumented = [name for name in module.__all__ if not _is_documented(getattr(module, name))]
    assert not undocumented, f"{package} exports names without a docstring: {undocumented}"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_that_it_is_typed(package: str) -> None:
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_version_is_the_changelog_s_newest() -> None:
    headings = re.findall(r"^## \[(\d[^\]]*)\]", CHANGELOG.read_text("utf-8"), re.MULTILINE)
    assert headings[:1] == [importlib.metadata.version("feedhandler")]
