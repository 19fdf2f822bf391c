"""The faults that are in place on a server, and whose turn it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

import trio
from attrs import field, frozen
from attrs.validators import optional

from feedhandler.abc import HttpResponse
from feedhandler.errors import ConfigError, UsageError
from feedhandler_testing.checks import at_least, not_negative, probability
from feedhandler_testing.faults.base import (
    Act,
    ByteConnection,
    Chunk,
    Fault,
    Frame,
    Later,
    Payload,
    RestCall,
    Timed,
    Way,
    World,
    hooks_of,
    kind_of,
)
from feedhandler_testing.triggers import AT_ONCE, Moment, Trigger

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = ["FaultBoard", "FaultNeverFired", "Injection", "PlacedFault"]


class FaultNeverFired(AssertionError):
    """A fault was put in place and never acted, so whatever was to be shown was not."""

    def __init__(self, injection: Injection) -> None:
        super().__init__(
            f"{injection!r} never fired: nothing came that it could act on while it was in place"
        )
        self.injection = injection


@frozen
class Injection:
    """A fault with when and how often it acts: once `after` is due, with probability `chance`
    on each `every`th occasion, `times` times (0: any number; `None`: once, or any number for
    lasting faults), and for `for_s` seconds from its first act on (`None`: no limit).
    """

    fault: Fault
    after: Trigger = AT_ONCE
    chance: float = field(default=1.0, validator=probability, kw_only=True)
    every: int = field(default=1, validator=at_least(1), kw_only=True)
    times: int | None = field(default=None, kw_only=True, validator=optional(at_least(0)))
    for_s: float | None = field(default=None, kw_only=True, validator=optional(not_negative))

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.fault, Fault):
            raise ConfigError(
                "fault", self.fault, "is no fault", mend="use a value such as Reset()"
            )
        if not isinstance(self.after, Trigger):
            raise ConfigError(
                "after", self.after, "is no trigger", mend="use for example Messages(120)"
            )

    @property
    def limit(self) -> float:
        """How often it may act."""
        times = (0 if self.fault.lasting else 1) if self.times is None else self.times
        return times or math.inf


class PlacedFault:
    """A fault in place on a server; made by `MockWebSocketServer.fault()`.

    `fired` is set when it has acted for the first time, `count` says how often it has. As a
    context manager it is taken away at the end of the block, which raises `FaultNeverFired` if it
    has not acted by then.
    """

    def __init__(self, injection: Injection, board: FaultBoard, name: str) -> None:
        self.injection = injection
        self.name = name
        self.fired = trio.Event()
        self.over = trio.Event()
        self.count = 0
        self.begun: dict[int, ByteConnection] = {}
        self.struck: set[int] = set()
        self._board = board
        self._set_at = board.world.now()
        self._first_at: float | None = None
        self._events = board.events.copy()
        self._occasions = 0
        self._acts: dict[int, Act] = {}
        self._base: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        state = "over" if self.over.is_set() else "in place"
        return f"<PlacedFault {self.name} {state} count={self.count}>"

    @property
    def fault(self) -> Fault:
        return self.injection.fault

    @property
    def spent(self) -> bool:
        """True when it will not act again."""
        return self.over.is_set() or self.count >= self.injection.limit

    @property
    def ends_at(self) -> float:
        """When it is taken away, in seconds since the server was started."""
        limit = self.injection.for_s
        if limit is None or self._first_at is None:
            return math.inf
        return self._first_at + limit

    @property
    def wakes_at(self) -> float:
        """When time makes it due or ends it."""
        due = self.injection.after.at
        at = math.inf if due is None else self._set_at + due
        return min(at if at > self._board.world.now() else math.inf, self.ends_at)

    def remove(self) -> None:
        """Take it away; what it held back goes on. May be called again."""
        self._board.remove(self)

    async def __aenter__(self) -> PlacedFault:
        await self._board.poll()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()
        if error is None and not self.count:
            raise FaultNeverFired(self.injection)

    # --- for the board ---

    def base(self, connection: ByteConnection) -> None:
        """Count what is sent on a connection from now on."""
        self._base[connection.attempt] = connection.sent, connection.bytes_sent

    def base_on_zero(self, connection: ByteConnection) -> None:
        """Count what was sent on a connection from its beginning."""
        self._base.pop(connection.attempt, None)

    def moment(self, attempt: int, connection: ByteConnection | None) -> Moment:
        board = self._board
        messages, size = self._base.get(attempt, (0, 0))
        return Moment(
            board.world.now() - self._set_at,
            attempt,
            connection.sent - messages if connection is not None else 0,
            connection.bytes_sent - size if connection is not None else 0,
            board.events - self._events,
        )

    def due(self, attempt: int, connection: ByteConnection | None) -> bool:
        if self.spent or self._board.world.now() >= self.ends_at:
            return False
        return self.injection.after.due(self.moment(attempt, connection))

    def takes_turn(self, act: Act) -> bool:
        """Whether, being due, it acts on this occasion."""
        if act.more:
            return True
        self._occasions += 1
        injection = self.injection
        if self._occasions % injection.every:
            return False
        return injection.chance >= 1 or act.rng.random() < injection.chance

    def act(self, attempt: int, connection: ByteConnection | None) -> Act:
        act = self._acts.get(attempt)
        if act is None:
            rng = Random(f"{self._board.seed}/{self.name}/{attempt}")
            world = cast("World", self._board.world)
            act = self._acts[attempt] = Act(rng, world, self.over)
        # Only faults of the bytes act elsewhere than on the mock server, and need less.
        act.connection = cast("MockWebSocketConnection | None", connection)
        return act

    def has_fired(self, attempt: int) -> None:
        self.count += 1
        if self._first_at is None:
            self._first_at = self._board.world.now()
            if self.injection.for_s is not None:
                self._board.reschedule()
        self.fired.set()
        self._board.on_fired(self, attempt)

    def forget(self, attempt: int) -> None:
        """The connection is over."""
        self.begun.pop(attempt, None)
        self._base.pop(attempt, None)


class FaultBoard:
    """All faults of one server. Hooks are asked in the order in which faults were put in place.

    `on_fired` is told of each act, with the number of the attempt to connect that it befell.
    """

    def __init__(
        self,
        world: Timed,
        seed: int,
        *,
        connections: Callable[[], Sequence[ByteConnection]],
        on_fired: Callable[[PlacedFault, int], None],
        on_removed: Callable[[PlacedFault], None],
    ) -> None:
        self.world = world
        self.seed = seed
        self.events: Counter[str] = Counter()
        self.on_fired = on_fired
        self._on_removed = on_removed
        self._connections = connections
        self._by_hook: dict[str, list[PlacedFault]] = {}
        self._names: Counter[str] = Counter()
        self._changed = trio.Event()
        self.placed: list[PlacedFault] = []
        self.stopped = False

    def place(self, injection: Injection) -> PlacedFault:
        """Put a fault in place. It is looked at when something happens; `poll()` looks now."""
        if self.stopped:
            raise UsageError("the server has stopped: a fault that is set now can never act")
        kind = kind_of(type(injection.fault))
        self._names[kind] += 1
        placed = PlacedFault(injection, self, f"{kind}-{self._names[kind]}")
        for connection in self._connections():
            placed.base(connection)
        self.placed.append(placed)
        for hook in hooks_of(type(injection.fault)):
            self._by_hook.setdefault(hook, []).append(placed)
        self.reschedule()
        return placed

    def remove(self, placed: PlacedFault) -> None:
        if placed.over.is_set():
            return
        placed.over.set()
        self.placed.remove(placed)
        for hook in hooks_of(type(placed.fault)):
            self._by_hook[hook].remove(placed)
        for attempt, connection in list(placed.begun.items()):
            fault: Any = placed.fault
            fault.end(placed.act(attempt, connection), connection)
        placed.begun.clear()
        self._on_removed(placed)

    def has(self, hook: str) -> bool:
        """Whether any fault could act at a hook."""
        return bool(self._by_hook.get(hook))

    def happened(self, event: str) -> None:
        """Count an event, for those that wait for it."""
        self.events[event] += 1

    def forget(self, connection: ByteConnection) -> None:
        for placed in self.placed:
            placed.forget(connection.attempt)

    # --- time ---

    async def run(self) -> None:
        """Look at the faults whenever time makes one due or ends it."""
        while True:
            changed = self._changed
            wake_at = min((placed.wakes_at for placed in self.placed), default=math.inf)
            now = trio.current_time()
            # Never less than the clock can tell apart, or time would stand still here.
            with trio.move_on_at(
                max(now + wake_at - self.world.now(), math.nextafter(now, math.inf))
            ):
                await changed.wait()
            for placed in [p for p in self.placed if self.world.now() >= p.ends_at]:
                self.remove(placed)
            await self.poll()

    def reschedule(self) -> None:
        """The time at which something is due has changed."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # --- hooks ---

    def _turns(
        self, hook: str, attempt: int, connection: ByteConnection | None
    ) -> Iterator[tuple[PlacedFault, Any, Act]]:
        for placed in tuple(self._by_hook.get(hook, ())):
            act = placed.act(attempt, connection)
            if (act.more or placed.due(attempt, connection)) and placed.takes_turn(act):
                yield placed, placed.fault, act

    async def dial(self, attempt: int) -> None:
        for placed, fault, act in self._turns("dial", attempt, None):
            placed.has_fired(attempt)
            await fault.dial(act)

    def certificate(self, attempt: int) -> str | None:
        for placed, fault, act in self._turns("certificate", attempt, None):
            how: str | None = fault.certificate(act)
            if how is not None:
                placed.has_fired(attempt)
                return how
        return None

    async def handshake(self, attempt: int, stream: trio.abc.Stream, answer: bytes) -> bool:
        """Break the opening handshake if one of the faults does; then it is over."""
        for placed, fault, act in self._turns("handshake", attempt, None):
            placed.has_fired(attempt)
            await fault.handshake(act, stream, answer)
            return True
        return False

    async def poll(self, *connections: ByteConnection) -> None:
        """Let those act that act on connections, now that something has changed."""
        if not (self.has("strike") or self.has("begin")):
            return
        for connection in connections or tuple(self._connections()):
            attempt = connection.attempt
            self.begin(connection)
            for placed in tuple(self._by_hook.get("strike", ())):
                if attempt in placed.struck or not placed.due(attempt, connection):
                    continue
                act = placed.act(attempt, connection)
                fault: Any = placed.fault
                if not fault.waits(act, connection) and placed.takes_turn(act):
                    placed.struck.add(attempt)
                    placed.has_fired(attempt)
                    try:
                        await fault.strike(act, connection)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        break  # the connection is gone already

    def begin(self, connection: ByteConnection) -> None:
        """Let the faults come into place that are due on a connection."""
        attempt = connection.attempt
        for placed in tuple(self._by_hook.get("begin", ())):
            if attempt in placed.begun or not placed.due(attempt, connection):
                continue
            act = placed.act(attempt, connection)
            if placed.takes_turn(act):
                placed.begun[attempt] = connection
                fault: Any = placed.fault
                fault.begin(act, connection)
                placed.has_fired(attempt)

    def messages_left(self, connection: ByteConnection) -> int | None:
        """How many messages may leave before a fault has to be looked at."""
        least: int | None = None
        for hook in ("strike", "begin"):
            for placed in self._by_hook.get(hook, ()):
                attempt = connection.attempt
                if placed.spent or attempt in placed.struck or attempt in placed.begun:
                    continue
                moment = placed.moment(attempt, connection)
                left = placed.injection.after.messages_left(moment)
                if left is not None:
                    least = left if least is None else min(least, left)
        return least

    def bytes_left(self, connection: ByteConnection) -> int | None:
        """How many bytes may leave before a fault that waits for them is due."""
        least: int | None = None
        for placed in self.placed:
            if not placed.spent:
                moment = placed.moment(connection.attempt, connection)
                left = placed.injection.after.bytes_left(moment)
                if left:
                    least = left if least is None else min(least, left)
        return least

    def messages(
        self, connection: ByteConnection, message: dict[str, Any]
    ) -> list[Payload | Later]:
        """What is sent in the place of a message."""
        passing: list[Payload | Later] = [message]
        for placed in tuple(self._by_hook.get("message", ())):
            result: list[Payload | Later] = []
            for item in passing:
                changed = None
                if isinstance(item, dict):
                    changed = self._offer(placed, "message", connection, item)
                result += [item] if changed is None else changed
            passing = result
        return passing

    def frames(self, connection: ByteConnection, frame: Frame) -> tuple[list[bytes] | None, bool]:
        """The bytes that leave in the place of a frame (`None`: it leaves as it is), and whether
        it is spoiled."""
        for placed in tuple(self._by_hook.get("frame", ())):
            changed = self._offer(placed, "frame", connection, frame)
            if changed is not None:
                return list(changed), placed.fault.spoils
        return None, False

    def _offer(
        self, placed: PlacedFault, hook: str, connection: ByteConnection, thing: Any
    ) -> Sequence[Any] | None:
        act = placed.act(connection.attempt, connection)
        if not (act.more or placed.due(connection.attempt, connection)):
            return None
        if not placed.takes_turn(act):
            return None
        began, act.more = act.more, False
        changed: Sequence[Any] | None = getattr(placed.fault, hook)(act, thing)
        if changed is None:
            act.more = began
        elif not began:
            placed.has_fired(connection.attempt)
        return changed

    def answers(self, connection: ByteConnection, what: Literal["pong", "close"]) -> bool:
        """Whether the server answers."""
        for placed, fault, act in self._turns("answer", connection.attempt, connection):
            allowed: bool | None = fault.answer(act, what)
            if allowed is not None:
                placed.has_fired(connection.attempt)
                if not allowed:
                    return False
        return True

    def carry(
        self, attempt: int, connection: ByteConnection | None, chunk: Chunk, way: Way
    ) -> tuple[list[Chunk], bool]:
        """The chunks that pass in the place of one, and whether they are tainted."""
        passing = [chunk]
        tainted = False
        for placed, fault, act in self._turns("carry", attempt, connection):
            result: list[Chunk] = []
            fired = False
            for one in passing:
                changed = fault.carry(act, one, way)
                fired |= changed is not None
                result += [one] if changed is None else changed
            if fired:
                placed.has_fired(attempt)
                tainted |= fault.taints
            passing = result
        return passing, tainted

    async def rest(self, attempt: int, call: RestCall, answer: HttpResponse) -> HttpResponse:
        """What a client gets that has fetched something."""
        for placed, fault, act in self._turns("rest", attempt, None):
            # It counts before it is over: a reset is an exception, and a delay can be cut short.
            placed.has_fired(attempt)
            changed: HttpResponse | None = await fault.rest(act, call, answer)
            answer = answer if changed is None else changed
        return answer

    def shift_s(self) -> float:
        """How far the client's wall clock is off."""
        shift = 0.0
        for placed, fault, act in self._turns("shift_s", 0, None):
            by: float | None = fault.shift_s(act, self.world.now() - placed._set_at)
            if by is not None:
                if not placed.count:
                    placed.has_fired(0)
                shift += by
        return shift
