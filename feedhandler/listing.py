"""Getting a venue's list of instruments: from its REST interface, or from a file kept before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeVar

import trio
from attrs import frozen

from feedhandler._core.fetching import is_final
from feedhandler._io.clock import SystemClock
from feedhandler._io.rest import HttpxFetcher, RestGate
from feedhandler.abc import Clock, Fetcher, ListedVenue, Tap, TraitedVenue
from feedhandler.config import BackoffConfig
from feedhandler.errors import AnswerTooLarge, ConfigError, DecodeError, FetchFailed
from feedhandler.instruments import Instruments
from feedhandler.traits import Limits

__all__ = ["load_instruments"]

V = TypeVar("V", bound=ListedVenue)

_MAX_BYTES = 64 * 2**20  # of one answer, inflated: lists have some megabytes
_MAX_FILE_BYTES = 256 * 2**20
_TRIES = 3
# Parsing more than this would hold up everything else for longer than a few milliseconds.
_IN_A_THREAD_BYTES = 2**20


async def load_instruments(
    venue: V,
    *,
    cache: str | Path | None = None,
    max_age_s: float = 86_400.0,
    offline_ok: bool = True,
    deadline_s: float = 30.0,
    fetch: Fetcher | None = None,
    clock: Clock | None = None,
    rng: Random | None = None,
    tap: Tap | None = None,
) -> V:
    """Return `venue` with the list of its instruments.

    ```python
    venue = await load_instruments(venue, cache=Path("instruments.json"))
    ```

    The file `cache` is taken while it is younger than `max_age_s` (0: never). Else the list is
    fetched, at the venue's pace and with up to three tries, within `deadline_s` seconds, and the
    file is replaced as a whole. Where it can't be fetched, or what came is no list, an older file
    is used all the same, unless `offline_ok` is false; `venue.instruments.fetched_ns` tells how old
    it is. A file that is damaged counts as none, and one of another venue is an error. The venue's
    own `fetch` is used, or `fetch`, or httpx. `tap` sees what is fetched.

    Raises `FetchFailed` or `DecodeError` where no list can be had, and `ConfigError` for a `cache`
    that can't be used. When cancelled, the file is as it was or whole.
    """
    clock = clock or SystemClock()
    found = _Cached()
    if cache is not None:
        found = await trio.to_thread.run_sync(_read, Path(cache), venue.name)
        age_ns = clock.time_ns() - (found.fetched_ns or 0)
        # A file from the future says that some clock was wrong.
        if found.instruments is not None and 0 <= age_ns < max_age_s * 10**9:
            return venue.with_instruments(found.instruments)
    try:
        gate_rng = rng or SystemRandom()
        async with contextlib.AsyncExitStack() as stack:
            way = venue.fetch or fetch
            if way is None:
                way = await stack.enter_async_context(HttpxFetcher(clock=clock))
            bodies = await _fetch(
                venue, way, deadline_s=deadline_s, clock=clock, rng=gate_rng, tap=tap
            )
        listed = await _parse(venue, bodies)
    except (FetchFailed, DecodeError, ConfigError) as error:  # the last: httpx is not there
        if found.instruments is not None and offline_ok:
            return venue.with_instruments(found.instruments)
        if found.problem is not None:
            error.add_note(f"the cache {cache} could not be used either: {found.problem}")
        raise
    listed = listed.stamped(venue=venue.name, fetched_ns=clock.time_ns())
    if cache is not None:
        await trio.to_thread.run_sync(_write, Path(cache), listed)
    return venue.with_instruments(listed)


async def _fetch(
    venue: ListedVenue,
    fetch: Fetcher,
    *,
    deadline_s: float,
    clock: Clock,
    rng: Random,
    tap: Tap | None,
) -> list[bytes]:
    limits = venue.traits.limits if isinstance(venue, TraitedVenue) else Limits()
    gate = RestGate(fetch, limits, backoff=BackoffConfig(), rng=rng, clock=clock)
    until = trio.current_time() + deadline_s
    bodies = []
    for url in venue.instrument_urls():
        body = await _get(gate, url, until)
        if tap is not None:
            tap.fetched(url, body, at_ns=clock.time_ns())
        bodies.append(body)
    return bodies


async def _get(gate: RestGate, url: str, until: float) -> bytes:
    tries = 0
    while True:
        tries += 1
        left_s = until - trio.current_time()
        try:
            return (await gate.get(url, max_bytes=_MAX_BYTES, deadline_s=left_s)).body
        except FetchFailed as error:
            too_late = max(gate.closed_until, trio.current_time()) >= until
            hopeless = is_final(error) or isinstance(error, AnswerTooLarge)
            if tries == _TRIES or too_late or hopeless:
                raise


async def _parse(venue: ListedVenue, bodies: Sequence[bytes]) -> Instruments:
    begins = bodies[0] if bodies else b""
    try:
        if sum(map(len, bodies)) > _IN_A_THREAD_BYTES:
            listed = await trio.to_thread.run_sync(venue.parse_instruments, bodies)
        else:
            listed = venue.parse_instruments(bodies)
    except ConfigError as error:  # of the list: the venue's names are not what they have to be
        raise DecodeError(venue.name, begins, [("$", str(error))]) from error
    if not len(listed):
        raise DecodeError(venue.name, begins, [("$", "the list has no instruments")])
    return listed


# --- the file, in a thread -----------------------------------------------------------------------


@frozen
class _Cached:
    """What a file holds, or why it can't be used; neither where there is none."""

    instruments: Instruments | None = None
    problem: str | None = None

    @property
    def fetched_ns(self) -> int | None:
        return None if self.instruments is None else self.instruments.fetched_ns


def _read(path: Path, venue: str) -> _Cached:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return _Cached()
    except OSError as error:
        raise _unusable(path, f"can't be read: {error.strerror or error}") from error
    if len(text) > _MAX_FILE_BYTES:
        return _Cached(problem=f"it has more than {_MAX_FILE_BYTES:,} bytes")
    try:
        instruments = Instruments.loads(text)
    except DecodeError as error:
        return _Cached(problem=str(error))
    if instruments.venue != venue:
        raise _unusable(path, f"it is the list of {instruments.venue!r}, not of {venue!r}")
    return _Cached(instruments)


def _write(path: Path, instruments: Instruments) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(instruments.dumps())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unusable(path, f"can't be written: {error.strerror or error}") from error


def _unusable(path: Path, rule: str) -> ConfigError:
    return ConfigError("cache", str(path), rule, mend="name a file of its own for each venue")
