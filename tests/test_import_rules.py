"""Who may import whom, and what pure code must not touch; and that this checker sees violations."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

# Every module of `feedhandler`, lowest layer first: a module may import those above its own line
# only. P is pure (no trio, no clock, no global random, no logging), S the trio shell. The root
# package is `feedhandler` itself; a line that ends in `.*` stands for a package and all in it.
LAYERS = """
P  errors
P  _core
P  _core.redaction
P  _core.state
P  model
P  config
P  traits
P  abc
P  _core.announcement
P  _core.failure
P  _core.pace
P  _core.allowance
P  _core.backoff
P  _core.breaker
P  _core.liveness
P  book
P  _core.subscriptions
P  _core.spread
P  _core.ladder
P  _core.rhythm
P  _core.coverage
P  _core.construct
P  _core.sequence
P  _core.validators
P  _core.resync
P  _core.books
P  _core.requests
P  _core.shelf
P  _core.reading
P  _core.feed_books
P  _core.losses
P  _core.overlap
P  _core.tape
P  _core.frames
P  _core.upgrade
P  _core.fetching
P  _core.inflate
P  codec
P  _core.levels
P  instruments
P  _core.fields
P  venues.price_book
P  venues.price
P  venues.coinbase_products
P  venues.coinbase_messages
P  venues.coinbase_data
P  venues.coinbase_book
P  venues.coinbase_session
P  venues.coinbase
P  venues.bitstamp_data
P  venues.bitstamp_markets
P  venues.bitstamp_session
P  venues.bitstamp
P  venues.gemini_data
P  venues.gemini_symbols
P  venues.gemini_session
P  venues.gemini
P  venues.kraken_market
P  venues.kraken_pairs
P  venues.kraken_wire
P  venues.kraken_data
P  venues.kraken
P  venues.kraken_v1_wire
P  venues.kraken_v1
P  venues.bitfinex_market
P  venues.bitfinex_books
P  venues.bitfinex_data
P  venues.bitfinex
P  venues.bybit_data_wire
P  venues.bybit_data
P  venues.bybit_list
P  venues.bybit
P  venues.okx_book
P  venues.okx_data
P  venues.okx_list
P  venues.okx
P  venues.deribit_book
P  venues.deribit_data
P  venues.deribit_list
P  venues.deribit
P  venues.binance_listing
P  venues.binance_requests
P  venues.binance_messages
P  venues.binance_wire
P  venues.binance_session
P  venues.binance
P  venues.binance_futures
P  venues
P  observe
S  _io
S  _io.clock
S  _io.nursery
S  _io.observer
S  _io.outbox
S  _io.iteration
S  _io.mailbox
S  _io.pacer
S  _io.dial
S  _io.http
S  _io.rest
S  _io.wire
S  _io.connection
S  _io.attempt
S  _io.rollover
S  _io.supervisor
S  _io.fanout
S  _io.snapshots
S  _io.subscriptions
S  _io.successor
S  _io.leg
S  _io.legs
S  recording
S  recorder
S  client
S  circuit
S  listing
S  handler
S  feedhandler
S  cli.*
"""

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "feedhandler"
KIT = "feedhandler_testing"

WEBSOCKET_LIBRARIES = {"trio_websocket", "wsproto", "h11"}
WEBSOCKET_MODULE = "feedhandler._io.wire"
HTTP_LIBRARIES = {"httpx", "httpcore"}
HTTP_MODULE = "feedhandler._io.http"

IMPURE_IMPORTS = {"anyio", "asyncio", "logging", "secrets", "threading", "time", "trio"}
IMPURE_NAMES = {
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.urandom",
    "uuid.uuid1",
    "uuid.uuid4",
}


class Layer(NamedTuple):
    rank: int
    pure: bool


def _qualified(row: str) -> str:
    return row if row == LIBRARY else f"{LIBRARY}.{row}"


_ROWS = {
    _qualified(name): Layer(rank, kind == "P")
    for rank, (kind, name) in enumerate(line.split() for line in LAYERS.split("\n") if line)
}


def layer_of(module: str) -> Layer | None:
    """The layer of a module, or `None` where the table does not name it."""
    if module in _ROWS:
        return _ROWS[module]
    for row, layer in _ROWS.items():
        if row.endswith(".*") and (fnmatchcase(module, row) or module == row[:-2]):
            return layer
    return None


# --- what a module imports and uses --------------------------------------------------------------


class Import(NamedTuple):
    """One statement's import of `name`, fully qualified, out of the module `source`."""

    line: int
    source: str
    name: str
    for_types: bool
    in_function: bool

    @property
    def package(self) -> str:
        return self.source.partition(".")[0]

    @property
    def module(self) -> str:
        """The module of ours that is imported: `name` where it is one, else the one it is in."""
        return self.name if layer_of(self.name) else self.source


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


class _Reader(ast.NodeVisitor):
    """Collects what a module imports, and the names that this binds."""

    def __init__(self, module: str, *, is_package: bool) -> None:
        self._package = module if is_package else module.rpartition(".")[0]
        self._for_types = False
        self._functions = 0
        self.imports: list[Import] = []
        self.bound: dict[str, str] = {}

    def _add(self, line: int, source: str, name: str) -> None:
        self.imports.append(Import(line, source, name, self._for_types, self._functions > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node.lineno, alias.name, alias.name)
            first = alias.name.partition(".")[0]
            self.bound[alias.asname or first] = alias.name if alias.asname else first

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = node.module or ""
        if node.level:
            parts = self._package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            source = f"{base}.{source}" if source else base
        for alias in node.names:
            self._add(node.lineno, source, f"{source}.{alias.name}")
            self.bound[alias.asname or alias.name] = f"{source}.{alias.name}"

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called in {"__import__", "import_module", "importlib.import_module"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(node.lineno, name.value, name.value)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if not _is_type_checking(node.test):
            self.generic_visit(node)
            return
        before, self._for_types = self._for_types, True
        for statement in node.body:
            self.visit(statement)
        self._for_types = before
        for statement in node.orelse:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.AST) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1


class _Names:
    """Resolves an expression such as `dt.now` to the qualified name that it stands for."""

    def __init__(self, bound: dict[str, str]) -> None:
        self._bound = bound

    def __call__(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return self._bound.get(name, name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return f"{self._bound.get(name, '?')}.{attribute}"
            case ast.Attribute(value=value, attr=attribute):
                return f"{self(value)}.{attribute}"
            case ast.Subscript(value=value):
                return self(value)
            case _:
                return "?"


# --- the rules -----------------------------------------------------------------------------------


def check(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what is wrong with a module, as `line: problem`."""
    tree = ast.parse(source)
    reader = _Reader(module, is_package=is_package)
    reader.visit(tree)
    names = _Names(reader.bound)
    problems = [*_unbounded_channels(tree, names), *_swallowed(tree, names)]
    if module.partition(".")[0] == LIBRARY:
        layer = layer_of(module)
        if layer is None:
            return [f"1: {module} is not in LAYERS in {Path(__file__).name}: add its line"]
        problems += _layering(module, layer, reader.imports)
        problems += _foreign_imports(module, reader.imports)
        if layer.pure:
            problems += _impurities(tree, reader.imports, names)
    return [f"{line}: {text}" for line, text in sorted(set(problems))]


def _is_venue(module: str) -> bool:
    return module.startswith(f"{LIBRARY}.venues.")


def _is_of_another(module: str, imported: str) -> bool:
    """Whether it is a venue's, but not `module`'s own: the parts of a venue begin with its name."""
    name = module.removeprefix(f"{LIBRARY}.venues.").partition("_")[0]
    is_part = imported.startswith(f"{LIBRARY}.venues.{name}_")
    return f"{imported}.".startswith(f"{LIBRARY}.venues.") and not is_part


def _layering(module: str, layer: Layer, imports: list[Import]) -> Iterator[tuple[int, str]]:
    for found in imports:
        if found.package != LIBRARY or found.for_types:
            continue
        target = layer_of(found.module)
        if target is None:
            yield found.line, f"imports {found.module}, which is not in LAYERS"
        elif _is_venue(module) and _is_of_another(module, found.module):
            yield found.line, f"a venue imports {found.module}: venues know nothing of each other"
        elif target.rank > layer.rank:
            yield found.line, f"imports {found.module}, which is in a higher layer"


def _foreign_imports(module: str, imports: list[Import]) -> Iterator[tuple[int, str]]:
    in_cli = f"{module}.".startswith(f"{LIBRARY}.cli.")
    for found in imports:
        if found.package in WEBSOCKET_LIBRARIES and module != WEBSOCKET_MODULE:
            yield found.line, f"imports {found.package}: only {WEBSOCKET_MODULE} may"
        if found.package in HTTP_LIBRARIES and module != HTTP_MODULE:
            yield found.line, f"imports {found.package}: only {HTTP_MODULE} may"
        if found.module == HTTP_MODULE and not (found.in_function or found.for_types):
            yield found.line, f"imports {HTTP_MODULE}, which needs an extra, outside a function"
        if found.package == KIT and not (in_cli and (found.in_function or found.for_types)):
            yield found.line, f"imports {KIT}: only functions of {LIBRARY}.cli may"


def _impurities(
    tree: ast.Module, imports: list[Import], names: _Names
) -> Iterator[tuple[int, str]]:
    for found in imports:
        if found.for_types:
            continue
        if found.package in IMPURE_IMPORTS:
            yield found.line, f"pure code imports {found.package}"
        if found.name in IMPURE_NAMES or _is_chance(found.name):
            yield found.line, f"pure code imports {found.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = names(node)
            if name in IMPURE_NAMES or _is_chance(name):
                yield node.lineno, f"pure code uses {name}"
        elif isinstance(node, ast.Call):
            seeded = node.args or node.keywords
            if names(node.func) == "random.Random" and not seeded:
                yield node.lineno, "pure code makes an unseeded random.Random()"


def _is_chance(name: str) -> bool:
    """Whether a name is anything of the module `random` but the class `Random` as such."""
    return name.startswith("random.") and name.split(".")[1] != "Random"


def _unbounded_channels(tree: ast.Module, names: _Names) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if names(node.func).rpartition(".")[2] != "open_memory_channel":
            continue
        for size in [*node.args, *(keyword.value for keyword in node.keywords)]:
            called = names(size.func) if isinstance(size, ast.Call) else names(size)
            if called in {"math.inf", "float"}:
                yield node.lineno, "opens an unbounded channel"


def _swallowed(tree: ast.Module, names: _Names) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if _catches_all(node.type, names) and not _reraises(node):
                caught = "a bare except" if node.type is None else "except BaseException"
                yield node.lineno, f"{caught} that does not re-raise swallows cancellation"
        elif isinstance(node, ast.Call):
            all_of_it = any(_catches_all(argument, names) for argument in node.args)
            if names(node.func) == "contextlib.suppress" and all_of_it:
                yield node.lineno, "suppress(BaseException) swallows cancellation"


def _catches_all(caught: ast.expr | None, names: _Names) -> bool:
    if caught is None:
        return True
    each = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(names(one) in {"BaseException", "builtins.BaseException"} for one in each)


def _reraises(handler: ast.ExceptHandler) -> bool:
    for statement in handler.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Raise):
                raised = node.exc
                if raised is None or (isinstance(raised, ast.Name) and raised.id == handler.name):
                    return True
    return False


# --- the tree keeps them -------------------------------------------------------------------------


def _modules() -> dict[str, Path]:
    sources = {LIBRARY: ROOT / LIBRARY, KIT: ROOT / "testing" / KIT}
    found = {}
    for package, directory in sources.items():
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join([package, *parts])] = path
    return found


MODULES = _modules()


def test_the_sources_are_found() -> None:
    assert {"feedhandler.errors", WEBSOCKET_MODULE, LIBRARY, KIT} <= MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_the_rules(module: str) -> None:
    path = MODULES[module]
    problems = check(module, path.read_text("utf-8"), is_package=path.name == "__init__.py")
    assert not problems, "\n".join(f"{path.relative_to(ROOT)}:{problem}" for problem in problems)


def test_tests_of_pure_code_do_not_import_trio() -> None:
    problems = []
    for path in sorted((ROOT / "tests/core").rglob("*.py")):
        reader = _Reader(path.stem, is_package=False)
        reader.visit(ast.parse(path.read_text("utf-8")))
        problems += [
            f"{path.relative_to(ROOT)}:{found.line}: imports trio"
            for found in reader.imports
            if found.package in {"trio", "pytest_trio"}
        ]
    assert not problems, "\n".join(problems)


# --- the checker sees violations -----------------------------------------------------------------

_CORE = "feedhandler._core.breaker"
_SHELL = "feedhandler._io.connection"


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        # layers
        (_CORE, "import feedhandler.client", "feedhandler.client, which is in a higher layer"),
        (_CORE, "import feedhandler.client as c", "feedhandler.client, which is in a higher"),
        (_CORE, "from feedhandler.client import WebSocketClient", "feedhandler.client, which"),
        (_CORE, "from feedhandler import client", "feedhandler.client, which is in a higher"),
        (_CORE, "from feedhandler import open_feed", "feedhandler, which is in a higher layer"),
        (_CORE, "from feedhandler._core import frames", "feedhandler._core.frames, which"),
        (_CORE, "from . import frames", "feedhandler._core.frames, which is in a higher layer"),
        (_CORE, "from .frames import Opcode", "feedhandler._core.frames, which is in a higher"),
        (_CORE, "from ..client import WebSocketClient", "feedhandler.client, which is in a"),
        (_CORE, "def f():\n    import feedhandler.client", "feedhandler.client, which is in a"),
        (_CORE, "import importlib\nimportlib.import_module('feedhandler.client')", "higher layer"),
        ("feedhandler.model", "import feedhandler.config", "feedhandler.config, which"),
        ("feedhandler", "import feedhandler.cli", "feedhandler.cli, which is in a higher layer"),
        (_SHELL, "from feedhandler.utils import x", "1: imports feedhandler.utils, which is not"),
        (_SHELL, "from feedhandler.venues.nowhere import X", "nowhere, which is not in LAYERS"),
        ("feedhandler.utils", "", "feedhandler.utils is not in LAYERS"),
        ("feedhandler._core.utils", "", "feedhandler._core.utils is not in LAYERS"),
        # venues
        ("feedhandler.venues.coinbase", "from feedhandler.venues.price import x", "a venue"),
        ("feedhandler.venues.coinbase", "from feedhandler.venues import price", "a venue imports"),
        ("feedhandler.venues.coinbase", "from .price import x", "a venue imports"),
        ("feedhandler.venues.coinbase", "from .price_book import x", "a venue imports"),
        ("feedhandler.venues.price_book", "from .price import x", "a venue imports"),
        # the WebSocket library, and the kit
        (_SHELL, "import trio_websocket", "imports trio_websocket: only"),
        (_SHELL, "from wsproto.events import Ping", "imports wsproto: only"),
        (_SHELL, "def f():\n    import h11", "2: imports h11: only"),
        (_SHELL, "if TYPE_CHECKING:\n    import h11", "2: imports h11: only"),
        ("feedhandler.cli.demo", "import wsproto", "imports wsproto: only"),
        (_SHELL, "def f():\n    import feedhandler_testing", "2: imports feedhandler_testing"),
        ("feedhandler.cli.demo", "import feedhandler_testing", "1: imports feedhandler_testing"),
        ("feedhandler.cli", "from feedhandler_testing import x", "imports feedhandler_testing"),
        # HTTP, and what needs it
        (_SHELL, "def f():\n    import httpx", "2: imports httpx: only"),
        (_SHELL, "if TYPE_CHECKING:\n    import httpcore", "2: imports httpcore: only"),
        (_SHELL, "from feedhandler._io.http import HttpClient", "1: imports feedhandler._io.http,"),
        # purity
        (_CORE, "import trio", "pure code imports trio"),
        (_CORE, "from trio.abc import Stream", "pure code imports trio"),
        (_CORE, "try:\n    import trio\nexcept ImportError:\n    trio = None", "imports trio"),
        (_CORE, "if TYPE_CHECKING:\n    pass\nelse:\n    import trio", "4: pure code imports trio"),
        (_CORE, "import logging", "pure code imports logging"),
        (_CORE, "import time\ntime.monotonic()", "pure code imports time"),
        (_CORE, "def f():\n    from time import perf_counter", "2: pure code imports time"),
        (_CORE, "import random\nrandom.random()", "2: pure code uses random.random"),
        (_CORE, "import random as r\nr.uniform(0, 1)", "2: pure code uses random.uniform"),
        (_CORE, "from random import choice", "pure code imports random.choice"),
        (_CORE, "import random\npick = random.choice", "2: pure code uses random.choice"),
        (_CORE, "import random\nrng = random.Random()", "2: pure code makes an unseeded"),
        (_CORE, "from random import Random\nrng = Random()", "2: pure code makes an unseeded"),
        (_CORE, "from datetime import datetime\ndatetime.now()", "uses datetime.datetime.now"),
        (_CORE, "import datetime as dt\ndt.datetime.utcnow()", "uses datetime.datetime.utcnow"),
        (_CORE, "from datetime import date as d\nd.today()", "2: pure code uses datetime.date.t"),
        (_CORE, "import os\nos.urandom(4)", "2: pure code uses os.urandom"),
        (_CORE, "from os import urandom", "pure code imports os.urandom"),
        # channels
        (_SHELL, "import math, trio\ntrio.open_memory_channel(math.inf)", "2: opens an unbounded"),
        (_SHELL, "from math import inf\ntrio.open_memory_channel[int](inf)", "unbounded channel"),
        (_SHELL, "trio.open_memory_channel(float('inf'))", "opens an unbounded channel"),
        (_SHELL, "from trio import open_memory_channel as o\no(float('inf'))", "unbounded"),
        (_SHELL, "import math\ntrio.open_memory_channel(max_buffer_size=math.inf)", "unbounded"),
        (f"{KIT}.server", "import math\ntrio.open_memory_channel(math.inf)", "unbounded channel"),
        # cancellation
        (_SHELL, "try:\n    f()\nexcept:\n    pass", "3: a bare except"),
        (_SHELL, "try:\n    f()\nexcept BaseException:\n    g()", "3: except BaseException"),
        (_SHELL, "try:\n    f()\nexcept (OSError, BaseException):\n    g()", "3: except Base"),
        (_SHELL, "try:\n    f()\nexcept BaseException as e:\n    raise X from e", "3: except Base"),
        (_SHELL, "try:\n    f()\nexcept* BaseException:\n    g()", "3: except BaseException"),
        (_SHELL, "import contextlib\nwith contextlib.suppress(BaseException): f()", "2: suppress"),
        (f"{KIT}.server", "try:\n    f()\nexcept BaseException:\n    g()", "3: except Base"),
    ],
)
def test_checker_reports_a_planted_violation(module: str, source: str, problem: str) -> None:
    assert any(problem in found for found in check(module, source)), check(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (_CORE, "from feedhandler.errors import FeedError"),
        (_CORE, "from feedhandler import errors"),
        (_CORE, "from . import failure\nfrom ..errors import FeedError"),
        (_CORE, "if TYPE_CHECKING:\n    import trio\n    from feedhandler.client import X"),
        (_CORE, "import typing\nif typing.TYPE_CHECKING:\n    import trio"),
        (_CORE, "import random\ndef f(rng: random.Random) -> float:\n    return rng.random()"),
        (_CORE, "from random import Random\ndef f(rng: Random, seed: int): Random(seed)"),
        (_CORE, "from datetime import datetime\ndef f(now): datetime.fromisoformat(now)"),
        (_CORE, "def f(random, uuid): return random.choice(uuid.uuid4)"),
        ("feedhandler.model", "from feedhandler._core.state import ConnectionState"),
        ("feedhandler.config", "from feedhandler._core.redaction import redact_url"),
        ("feedhandler.venues.price", "from feedhandler.codec import PriceParser"),
        ("feedhandler.venues.price", "from feedhandler.venues.price_book import PriceBooks"),
        (HTTP_MODULE, "import httpx, httpcore"),
        (_SHELL, "def f():\n    from feedhandler._io.http import HttpClient"),
        (_SHELL, "if TYPE_CHECKING:\n    from feedhandler._io.http import HttpClient"),
        (WEBSOCKET_MODULE, "import h11, trio_websocket\nfrom wsproto.events import Ping"),
        ("feedhandler.cli.demo", "def f():\n    from feedhandler_testing import x"),
        ("feedhandler.cli.demo", "import feedhandler\nimport feedhandler.cli.board"),
        (f"{KIT}.server", "import wsproto, trio, time\nimport feedhandler.client"),
        (_SHELL, "import trio\ntrio.open_memory_channel[int](16)\ntrio.open_memory_channel(0)"),
        (_SHELL, "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        (_SHELL, "try:\n    f()\nexcept BaseException as e:\n    raise e"),
        (_SHELL, "try:\n    f()\nexcept Exception:\n    g()"),
    ],
)
def test_checker_lets_clean_code_pass(module: str, source: str) -> None:
    assert check(module, source) == []


def test_relative_imports_of_a_package_start_at_the_package() -> None:
    assert check("feedhandler.venues", "from .price import PriceVenue", is_package=True) == []
    (problem,) = check("feedhandler.venues", "from ..client import X", is_package=True)
    assert "feedhandler.client" in problem
