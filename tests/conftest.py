from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]  # for the tests of the kit's own plugin

# A run is a function of the code; `--hypothesis-profile=explore` looks for what is new.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded traffic, which is not part of the repository."""
    named = os.environ.get("FEEDHANDLER_RECORDINGS")
    folder = Path(named) if named else ROOT.parent / "shared" / "recordings"
    if not folder.is_dir():
        pytest.skip(
            f"no recordings: FEEDHANDLER_RECORDINGS={named!r} is no folder"
            if named
            else "no recordings: set FEEDHANDLER_RECORDINGS to their folder"
        )
    return folder
