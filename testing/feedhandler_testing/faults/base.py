"""What a fault is: a frozen value that overrides the hooks at which it acts.

docs/new_fault.md shows, step by step, how to write one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import trio
from attrs import define, field, frozen

from feedhandler.abc import HttpResponse
from feedhandler.errors import ConfigError
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = [
    "Act",
    "ByteConnection",
    "ByteLink",
    "Chunk",
    "Fault",
    "Frame",
    "Later",
    "Layer",
    "Payload",
    "RestCall",
    "Timed",
    "Way",
    "World",
    "fault_kinds",
    "kind_of",
]

Payload = dict[str, Any] | str | bytes
"""A message of the venue: its JSON object, or text or bytes that are to be sent as they are."""


class Layer(enum.Enum):
    """Where a fault acts, from the network's lowest layer upwards."""

    CONNECTING = "connecting"
    BYTES = "bytes"
    WEBSOCKET = "websocket"
    VENUE = "venue"
    REST = "rest"
    CLOCK = "clock"


class Way(enum.Enum):
    """A direction of the bytes."""

    TO_CLIENT = "to_client"
    TO_SERVER = "to_server"


@frozen
class Chunk:
    """Bytes on their way, which arrive `delay_s` after those before them could.

    `control` marks frames that are no data. After it, the stream may be `end`ed or `reset`, or
    this direction alone is over (`eof`), as its sender has said.
    """

    data: bytes
    delay_s: float = 0.0
    control: bool = False
    then: Literal["", "end", "reset", "eof"] = ""


@frozen
class Frame:
    """A data frame that is about to be sent."""

    opcode: int
    payload: bytes


@frozen
class Later:
    """A message that is to be sent `delay_s` from now; others may overtake it."""

    message: Payload
    delay_s: float


@frozen
class RestCall:
    """A client's request to the venue's REST interface: its URL, and what it asks for.

    `symbols` are those that the venue has; `answer` makes the answer as it would be for another
    symbol, or as it was some messages ago.
    """

    url: str
    request: Mapping[str, Any]
    symbols: Sequence[str]
    answer: Callable[..., HttpResponse]


class Timed(Protocol):
    """What faults of the bytes can see of what they act on."""

    def now(self) -> float:
        """Seconds since the server was started."""
        ...


class World(Timed, Protocol):
    """What a fault can see of the server that it acts on."""

    def next_price(self, symbol: str) -> dict[str, Any]:
        """The next valid price message of `symbol`."""
        ...

    def rotate_token(self) -> None:
        """Demand another bearer token from now on."""
        ...

    def next_snapshot(self, symbol: str, *, ago: int = 0) -> dict[str, Any] | None:
        """A snapshot of the symbol's book as it was `ago` messages ago, where there is one."""
        ...


class ByteLink(Protocol):
    """The two directions of a connection, as the faults of the bytes see them.

    `linger_s` is by how many seconds the end of the stream comes late.
    """

    linger_s: float

    def hold(self, way: Way, *, data_only: bool) -> None:
        """Keep bytes back; each call needs its `release()`."""
        ...

    def release(self, way: Way, *, data_only: bool) -> None:
        """Let them go again."""
        ...


class ByteConnection(Protocol):
    """What the faults of the bytes act on: a connection of the mock server, or of the proxy.

    `attempt` is the number of the client's attempt to connect, `sent` counts messages and
    `bytes_sent` bytes to the client; while `silent`, nothing leaves for the client.
    """

    attempt: int
    sent: int
    bytes_sent: int
    silent: bool

    @property
    def link(self) -> ByteLink: ...

    def drop(self) -> None:
        """Reset it: what is on its way is lost."""
        ...

    async def end(self) -> None:
        """End the stream; what was sent arrives."""
        ...

    def start_later(
        self, delay_s: float, act: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Call `act` in `delay_s` seconds, if the connection lives then."""
        ...

    def stop_reading(self, *, stopped: bool = True) -> None:
        """Read nothing from the client, or go on reading."""
        ...

    async def wait_received(self) -> None:
        """Wait until what was sent has left for the client; not for what a fault holds."""
        ...


@define
class Act:
    """What a hook gets: chance, memory and the world.

    `rng` and `memory` belong to this fault on this connection, and to nobody else, so adding a
    fault shifts no other. `over` is set when the fault is taken away. A hook sets `more`
    when what it has done is only a part of one act, which goes on with the next that passes.
    """

    rng: Random
    world: World
    over: trio.Event
    connection: MockWebSocketConnection | None = None
    memory: dict[str, Any] = field(factory=dict)
    more: bool = False

    def text_of(self, message: Mapping[str, Any]) -> str | None:
        """A message as the venue writes it, to be spoiled; `None` where that is no single text."""
        connection = self.connection
        return encode_message(message) if connection is None else connection.text_of(message)

    def respelled(
        self, message: Mapping[str, Any], name: str, change: Callable[[Any], Any] | None
    ) -> str | None:
        """A message as the venue writes it, but for one field, which is changed or left out."""
        if self.connection is None or self.connection.plain:
            changed = {**message}
            value = changed.pop(name)
            if change is not None:
                changed = {**message, name: change(value)}
            return encode_message(changed)
        return self.connection.respelled(message, name, change)


@frozen
class Fault:
    """Base of all faults; each hook may be overridden, and those that are not cost nothing.

    A hook that returns `None` has not acted: the thing passes as it is, and nothing has fired.
    `lasting` faults act for as long as they are in place, others once unless told otherwise;
    those that `cuts` is true of end the connection when they strike.
    `spoils` says that what is sent through a hook is no valid message any more, `taints` that
    bytes may be changed in ways that no receiver can see, `delays` that what the client sends may
    arrive late. It `needs` a venue that says these types of messages (see `dialect.Means.says`).
    """

    layer: ClassVar[Layer]
    lasting: ClassVar[bool] = False
    cuts: ClassVar[bool] = False
    spoils: ClassVar[bool] = False
    taints: ClassVar[bool] = False
    delays: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "layer"):
            raise TypeError(
                f"{cls.__name__} has no layer; set `layer: ClassVar[Layer] = Layer....`"
            )
        if not hooks_of(cls):
            raise TypeError(f"{cls.__name__} overrides no hook, so it could never act: {HOOKS}")

    # --- connecting ---

    async def dial(self, act: Act) -> None:
        """A client dials. Raise what its dialer is to raise; or wait."""

    def certificate(self, act: Act) -> str | None:
        """TLS is being set up: ``untrusted``, ``wrong_host``, ``expired`` or ``ends``."""
        return None

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        """A client asks for the upgrade; `answer` would be the right one. The stream ends after."""

    # --- while it lives ---

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        """Act on a connection, once it is live and the trigger is due."""

    def waits(self, act: Act, connection: MockWebSocketConnection) -> bool:
        """Whether it has to wait before it can strike; it is asked again when something happens."""
        return False

    def begin(self, act: Act, connection: MockWebSocketConnection) -> None:
        """The fault comes into place on a connection."""

    def end(self, act: Act, connection: MockWebSocketConnection) -> None:
        """It is taken away again."""

    # --- what passes ---

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        """The venue sends `message`, a JSON object; send these instead."""
        return None

    def frame(self, act: Act, frame: Frame) -> Sequence[bytes] | None:
        """A message leaves as `frame`; send these bytes instead."""
        return None

    def answer(self, act: Act, what: Literal["pong", "close"]) -> bool | None:
        """The server owes an answer; false keeps it back."""
        return None

    def carry(self, act: Act, chunk: Chunk, way: Way) -> Sequence[Chunk] | None:
        """Bytes pass in one direction; pass these instead."""
        return None

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        """A client has fetched something, and `answer` is what it would get; give it this instead.

        Raise `trio.BrokenResourceError` for a connection that is reset.
        """
        return None

    # --- time ---

    def shift_s(self, act: Act, now_s: float) -> float | None:
        """How far the client's wall clock is off, in seconds; `now_s` since the fault was set."""
        return None


HOOKS = (
    "dial", "certificate", "handshake", "strike", "begin", "message", "frame", "answer", "carry",
    "rest", "shift_s",
)  # fmt: skip


def hooks_of(kind: type[Fault]) -> frozenset[str]:
    """The names of the hooks at which a kind of fault acts."""
    return frozenset(name for name in HOOKS if getattr(kind, name) is not getattr(Fault, name))


def kind_of(kind: type) -> str:
    """The name of a class as it stands in scenario files: ``NoPong`` is ``no_pong``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def fault_kinds() -> dict[str, type[Fault]]:
    """All kinds of fault by name, also those that a user has written."""
    found: dict[str, type[Fault]] = {}
    waiting = Fault.__subclasses__()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "__attrs_attrs__" in vars(kind):  # not the class that attrs has replaced
            name = kind_of(kind)
            if name in found:
                raise ConfigError(
                    "kind", name, f"is the name of two classes: {found[name]!r} and {kind!r}",
                    mend="give yours another name",
                )  # fmt: skip
            found[name] = kind
    return dict(sorted(found.items()))
