"""What a block leaves behind: tasks, streams, sockets, timers and async generators."""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any

import trio
import trio.testing

from feedhandler_testing.server import MockWebSocketServer

__all__ = ["Leaked", "no_leaks"]

_STEPS = 20  # how often, in its time of grace, one looks whether all is over
_SHOWN = 10
_DESCRIPTORS = Path("/dev/fd")  # Linux and macOS; elsewhere sockets are not looked at


class Leaked(AssertionError):
    """A block ended, and what it had begun was not over: a line each in `left`."""

    def __init__(self, left: list[str]) -> None:
        self.left = left
        more = f"\n  … and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        lines = "\n".join(f"  {line}" for line in left[:_SHOWN])
        super().__init__(f"{len(left)} thing(s) left behind:\n{lines}{more}")


@contextlib.asynccontextmanager
async def no_leaks(*around: object, grace_s: float = 1.0) -> AsyncIterator[None]:
    """Raise `Leaked` at the end of the block if something that it began is not over.

    ```python
    async with no_leaks(server):
        async with open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed:
            ...
    ```

    Looked at are all tasks of the trio run, system tasks too; sockets of the process; async
    generators that were begun and neither ended nor closed; and whether a timer is set where none
    was. Of the objects in `around`, a server's memory streams are looked at too, and tasks in a
    nursery are let be: somebody else ends them. What is over within `grace_s` seconds (of trio's
    clock) is no leak; only where there is one this takes time. An exception in the block goes on
    unchanged, and nothing is looked at. Cancel-safe.
    """
    watch = _Watch(around)
    with watch.generators():
        yield
    for _ in range(_STEPS):
        await trio.testing.wait_all_tasks_blocked()
        if not watch.left():
            return
        await trio.sleep(grace_s / _STEPS)
    left = watch.left()
    if left:
        raise Leaked(left)


class _Watch:
    """What there was at the beginning, to compare with."""

    def __init__(self, around: tuple[object, ...]) -> None:
        self._servers = [one for one in around if isinstance(one, MockWebSocketServer)]
        self._spared = {one for one in around if isinstance(one, trio.Nursery)}
        self._own = trio.lowlevel.current_task()
        # Weakly: a task that is over must not be kept, with all that it refers to.
        self._tasks = weakref.WeakSet(self._living())
        self._streams = [server.open_streams for server in self._servers]
        self._sockets = _sockets()
        self._had_timer = not math.isinf(_next_deadline_s())
        self._begun: weakref.WeakSet[AsyncGeneratorType[Any, Any]] = weakref.WeakSet()
        self._dropped: list[str] = []

    def _living(self) -> Iterator[trio.lowlevel.Task]:
        root = trio.lowlevel.current_root_task()
        waiting = [root] if root is not None else []
        while waiting:
            task = waiting.pop()
            yield task
            for nursery in task.child_nurseries:
                if nursery not in self._spared:
                    waiting.extend(nursery.child_tasks)

    @contextlib.contextmanager
    def generators(self) -> Iterator[None]:
        """Note the async generators that this block's tasks begin, and those that they drop."""
        before = sys.get_asyncgen_hooks()
        # Where one is finalized, weak references to it are gone already.
        ids: set[int] = set()

        def begin(generator: AsyncGenerator[Any, Any]) -> None:
            task = trio.lowlevel.current_task()
            ours = task is self._own or task not in self._tasks
            if ours and isinstance(generator, AsyncGeneratorType):
                self._begun.add(generator)
                ids.add(id(generator))
            else:
                ids.discard(id(generator))  # it was that of one which is over
            if before.firstiter is not None:
                before.firstiter(generator)

        def drop(generator: AsyncGenerator[Any, Any]) -> None:
            if isinstance(generator, AsyncGeneratorType) and id(generator) in ids:
                self._dropped.append(f"{_generator(generator)}: dropped without aclose()")
            if before.finalizer is not None:
                before.finalizer(generator)

        sys.set_asyncgen_hooks(firstiter=begin, finalizer=drop)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*before)

    def left(self) -> list[str]:
        """A line for each thing that is left."""
        tasks = sorted(_task(task) for task in self._living() if task not in self._tasks)
        found = [*tasks, *self._dropped]
        for server, before in zip(self._servers, self._streams, strict=True):
            if server.open_streams > before:
                found.append(f"{server.open_streams - before} stream(s) to {server!r}")
        found += [f"socket with descriptor {fd}" for fd, _ in sorted(_sockets() - self._sockets)]
        found += sorted(
            f"{_generator(generator)}: neither ended nor closed"
            for generator in self._begun
            if generator.ag_frame is not None  # it is where it waits; none is over
        )
        due_s = _next_deadline_s()
        if not self._had_timer and not math.isinf(due_s):
            found.append(f"timer, due in {due_s:.3f} s")
        return found


def _next_deadline_s() -> float:
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


def _sockets() -> set[tuple[int, int]]:
    """The sockets of this process: descriptor and inode, because descriptors are used again."""
    found = set()
    try:
        names = [entry.name for entry in _DESCRIPTORS.iterdir()]
    except OSError:
        return set()
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # it was that of the listing itself
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found.add((int(name), status.st_ino))
    return found


def _task(task: trio.lowlevel.Task) -> str:
    """A task, and the line of its own code at which it waits."""
    where = ""
    for frame, line in task.iter_await_frames():
        if "trio" not in Path(frame.f_code.co_filename).parts:
            where = f", at {frame.f_code.co_filename}:{line}"
    return f"task {task.name}{where}"


def _generator(generator: AsyncGeneratorType[Any, Any]) -> str:
    return f"async generator {generator.__qualname__}"
