"""The command line: ``feedhandler demo``, ``replay``, ``record``, ``watch``, ``symbols``, …"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``feedhandler`` command."""
    try:
        from feedhandler.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich", "zstandard"}:
            raise
        sys.exit(
            f"feedhandler: the command line needs {error.name}; "
            "install it with: pip install 'feedhandler[cli]'"
        )
    run()
