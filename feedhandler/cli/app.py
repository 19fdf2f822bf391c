"""Commands and options; every expected error ends as one sentence and an exit code."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import click
import trio

from feedhandler.cli.board import Output
from feedhandler.cli.faults import chaos, faults
from feedhandler.cli.venue import split_names
from feedhandler.errors import ConfigError, FeedError

__all__ = ["cli", "run"]

EXIT_USAGE = 2
EXIT_SOFTWARE = 70
EXIT_INTERRUPTED = 130


class _Positive(click.ParamType[float]):
    """A finite number over 0; or the word `unbounded`, if there is one, for infinity."""

    def __init__(self, name: str, unbounded: str | None = None) -> None:
        self.name = name
        self._unbounded = unbounded

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if self._unbounded is not None and value == self._unbounded:
            return math.inf
        try:
            number = float(str(value))
        except ValueError:
            number = 0.0
        if not (number > 0 and math.isfinite(number)):
            also = f"{self._unbounded!r} or " if self._unbounded else ""
            self.fail(
                f"{value!r} is not possible; use {also}a number over 0, such as 10", param, ctx
            )
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="feedhandler")
def cli() -> None:
    """A market-data feed handler for trio that never lies about its data."""


@cli.command()
@click.option("--seconds", type=_Positive("seconds"), default=30.0, show_default=True)
@click.option("--plain", is_flag=True, help="Lines of text instead of a live table (pipes, CI).")
@click.option("--seed", type=int, default=7, show_default=True, help="Prices and faults follow it.")
def demo(*, seconds: float, plain: bool, seed: int) -> None:
    """Watch prices flow through injected faults: a mock exchange on loopback TCP."""
    from feedhandler.cli.demo import run_demo

    _run(run_demo, seconds, seed, Output(plain=plain))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=_Positive("max|N", "max"),
    default="max",
    show_default=True,
    help="Times real time.",
)
@click.option("--partial", is_flag=True, help="Replay what there is of a truncated recording.")
@click.option("--venue", default=None, help="Another interface than the recorded address tells.")
@click.option("--plain", is_flag=True, help="No progress bar.")
def replay(*, file: Path, speed: float, partial: bool, venue: str | None, plain: bool) -> None:
    """Serve the recording FILE over loopback TCP and run the handler against it."""
    from feedhandler.cli.replay import run_replay

    _run(run_replay, file, speed, partial, Output(plain=plain), venue)


_INSTRUMENTS = click.option(
    "--instruments",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Keep the venue's list of instruments here; used offline, too.",
)
_SYMBOLS = click.option(
    "--symbols", "--symbol", "symbols", multiple=True, help="BTC-USD,ETH-USD; may be repeated."
)
_CHANNELS = click.option(
    "--channels", "--channel", "channels", multiple=True, help="trades,book; may be repeated."
)


@cli.command()
@click.argument("url", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File to write; must not exist."
)
@click.option(
    "--venue",
    default="raw",
    show_default=True,
    help="The venue, with --symbols; without, a name to put into the header.",
)
@_SYMBOLS
@_CHANNELS
@_INSTRUMENTS
@click.option("--send", "messages", multiple=True, help="Message to send to URL; may be repeated.")
@click.option(
    "--seconds",
    type=_Positive("seconds"),
    default=None,
    help="Stop after this long.",
)
def record(
    *,
    url: str | None,
    out: Path,
    venue: str,
    symbols: tuple[str, ...],
    channels: tuple[str, ...],
    instruments: Path | None,
    messages: tuple[str, ...],
    seconds: float | None,
) -> None:
    """Record symbols of a venue, or what URL sends, until Ctrl-C or --seconds.

    \b
      feedhandler record --venue binance --symbols BTC-USDT --channels trades,book --out a.zst
      feedhandler record wss://example.com/feed --send '{"op":"subscribe"}' --out b.zst

    A venue's symbols are recorded through the whole handler: every connection, both ways, through
    reconnects, and what is fetched over REST. With a URL it is asked there, and not at its own.
    """
    from feedhandler.cli.record import Plan, run_record

    plan = Plan(
        url=url, out=out, venue=venue, symbols=split_names(symbols),
        channels=split_names(channels), messages=messages, instruments=instruments,
        seconds=seconds,
    )  # fmt: skip
    _run(run_record, plan, Output(plain=True))


@cli.command()
@click.argument("names", nargs=-1, metavar="[VENUE] SYMBOLS...")
@click.option("--venue", default=None, help="The venue, if it is not the first of the names.")
@_CHANNELS
@_INSTRUMENTS
@click.option("--url", default=None, help="Another address than the venue's own.")
@click.option(
    "--seconds",
    type=_Positive("seconds"),
    default=None,
    help="Stop after this long.",
)
@click.option("--plain", is_flag=True, help="Lines of text instead of a live table.")
def watch(
    *,
    names: tuple[str, ...],
    venue: str | None,
    channels: tuple[str, ...],
    instruments: Path | None,
    url: str | None,
    seconds: float | None,
    plain: bool,
) -> None:
    """Show the SYMBOLS of VENUE, live."""
    from feedhandler.cli.watch import run_watch

    if venue is None:
        venue, names = (names[0], names[1:]) if names else (None, ())
    if venue is None or not names:
        missing = "[VENUE]" if venue is None else "SYMBOLS..."
        raise click.UsageError(f"Missing argument '{missing}'.")
    _run(
        run_watch, venue, split_names(names), split_names(channels), url, seconds,
        Output(plain=plain), instruments,
    )  # fmt: skip


@cli.command()
@click.argument("pattern", required=False)
@click.option("--venue", required=True, help="Whose.")
@_INSTRUMENTS
@click.option("--active", is_flag=True, help="Only those that can be traded now.")
def symbols(*, pattern: str | None, venue: str, instruments: Path | None, active: bool) -> None:
    """List the instruments of a venue: canonical name, the venue's, kind, and whether it is active.

    PATTERN is a part of a name, such as BTC, or fits a whole one, such as 'BTC-*-PERP'.
    """
    from feedhandler.cli.symbols import run_symbols

    _run(run_symbols, venue, pattern, instruments, active, Output(plain=True))


@cli.command()
@click.option("--listen", required=True, metavar="HOST:PORT", help="Port 0: a free one, printed.")
@click.option("--to", required=True, metavar="HOST:PORT", help="The server that is meant.")
@click.option(
    "--fault", "faults", multiple=True, metavar="SPEC", help="May be repeated; see below."
)
@click.option("--seed", type=int, default=7, show_default=True, help="What faults draw follows it.")
@click.option(
    "--seconds",
    type=_Positive("seconds"),
    default=None,
    help="Stop after this long.",
)
def proxy(
    *, listen: str, to: str, faults: tuple[str, ...], seed: int, seconds: float | None
) -> None:
    """Put faults of the network between a client and a server, over TCP, until Ctrl-C.

    SPEC is NAME[:PARAMETER=VALUE,...][@WHEN=VALUE,...], for example:

    \b
      latency:delay_s=0.1,jitter_s=0.02,way=both
      bandwidth:bytes_per_s=20000
      reset@after_bytes=10000,connection=1
      stall:way=both@at_s=5,for_s=3
      corrupt_bits:bits=2@chance=0.01,times=0

    \b
    NAME, with its parameters and their defaults (D is way=to_client,
    to_server or both; to_client unless you say):
      latency           delay_s=0.1 jitter_s=0 D
      bandwidth         bytes_per_s (needed) D
      slicer            size=16 variation=0 delay_s=0 D
      stall             D; what is held arrives when it is over
      mute              what the server says is lost
      half_open         nothing passes, ever again
      partition         nothing passes, and new connections wait
      hold_then_cut     after_s=5
      withhold_reads    what the client sends is not read
      slow_close        delay_s=5
      limit_data        count=1000 how=end|reset D
      reset             lose=false|true
      end               the stream ends on both sides
      down              connections are reset, and new ones too
      crash             silence, and a reset once it is over
      corrupt_bits      bits=1 D
      duplicate_bytes   D
      drop_bytes        count=1 D

    \b
    WHEN; several hold together:
      at_s=5            so many seconds after the proxy has begun
      after_bytes=1000  once so many were sent to the client
      connection=2      on the second connection only
      chance=0.5        with this probability, on each occasion
      every=3           on each third occasion
      times=4           so often (0: any number; not given: once, or
                        any number for faults that last)
      for_s=3           it is over 3 s after it has first acted

    Exit codes: 0; 1 if a fault never acted; 2 for what can't be done.
    """
    from feedhandler.cli.proxy import ProxyPlan, run_proxy

    plan = ProxyPlan(listen=listen, to=to, faults=faults, seed=seed, seconds=seconds)
    _run(run_proxy, plan, Output(plain=True))


cli.add_command(faults)
cli.add_command(chaos)


def _run(main: Callable[..., Awaitable[int | None]], *args: object) -> None:
    """Run `main` under trio; exit with what it returns, or with its error in one sentence."""
    if hasattr(signal, "SIGPIPE"):
        # By default it ends the program at a write to a socket whose peer has gone, too.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        code = trio.run(main, *args)
    except ConfigError as error:
        raise _UsageFailure(str(error)) from error
    except FeedError as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        _reader_gone()
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or 'the system'}: {error.strerror or error}"
        ) from error
    except KeyboardInterrupt:
        _interrupted()
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            _interrupted()
        if group.split(BrokenPipeError)[1] is None:
            _reader_gone()
        raise _Unexpected(f"unexpected: {group!r:.300}") from group
    except Exception as error:
        raise _Unexpected(f"unexpected: {error!r:.300}") from error
    sys.exit(code or 0)


def _reader_gone() -> NoReturn:
    """Whoever read what is printed has gone (``| head``): that is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _interrupted() -> NoReturn:
    click.echo("interrupted", err=True)
    sys.exit(EXIT_INTERRUPTED)


class _Unexpected(click.ClickException):
    """A mistake of this program: no user can mend it, but a traceback would not help them."""

    exit_code = EXIT_SOFTWARE


class _UsageFailure(click.ClickException):
    exit_code = EXIT_USAGE


def run() -> None:
    """Run the command line; a reader that went away (``| head``) is not an error."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    cli()
