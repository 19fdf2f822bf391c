"""Making trio's choices repeatable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["repeatable"]


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Make trio's choice among runnable tasks a function of `seed`, in the block.

    Trio shuffles each batch of runnable tasks with a generator of its own. This is the switch that
    it has for hypothesis; there is no public one (python-trio/trio#890).
    """
    from trio._core import _run

    module: Any = _run
    before, state = module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate()
    module._ALLOW_DETERMINISTIC_SCHEDULING = True
    module._r.seed(seed)
    try:
        yield
    finally:
        module._ALLOW_DETERMINISTIC_SCHEDULING = before
        module._r.setstate(state)
