"""What happened in a run, in order: values that rules read, and lines that people do."""

from __future__ import annotations

import hashlib
import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

import attrs
from attrs import field, frozen

__all__ = [
    "BookTold",
    "Delivered",
    "Failed",
    "Fired",
    "Gauged",
    "Happened",
    "Lost",
    "Made",
    "Malformed",
    "Moved",
    "Placed",
    "Record",
    "Refused",
    "Removed",
    "Requested",
    "Sent",
    "Stepped",
    "Trace",
    "line_of",
]


@frozen
class Record:
    """Base: something that happened `at_s` seconds after the run began."""

    at_s: float


# --- what the mock saw ---


@frozen
class Happened(Record):
    """One of `triggers.EVENTS`, on the client's nth attempt to connect."""

    attempt: int
    event: str


@frozen
class Sent(Record):
    """A message of the venue went out; not `intact`: it was kept back or spoiled by a fault.

    `number` is the symbol's sequence; the other fields are as in the message, digit for digit, and
    amounts in the form that `str(Decimal(...))` gives them.
    """

    attempt: int
    symbol: str
    number: int
    price: str
    size: str
    side: str
    time_ns: int
    intact: bool

    @classmethod
    def of(
        cls, at_s: float, attempt: int, message: Mapping[str, Any], *, intact: bool
    ) -> Sent | None:
        """What is to be told of a message; `None` if it is no price."""
        symbol, number = message.get("symbol"), message.get("sequence")
        if message.get("type") != "price" or not isinstance(symbol, str):
            return None
        if not isinstance(number, int):
            return None
        price, size, side = (message.get(name) for name in ("price", "size", "side"))
        time_ns = message.get("time")
        whole = None not in (price, size, side, time_ns)
        return cls(
            at_s, attempt, symbol, number, _amount(price), _amount(size), str(side),
            time_ns if isinstance(time_ns, int) else 0, intact and whole,
        )  # fmt: skip


def _amount(told: object) -> str:
    try:
        return str(Decimal(str(told)))
    except InvalidOperation:
        return str(told)


@frozen
class Made(Record):
    """The venue's book of `symbol` changed: its checksum after message `number`."""

    symbol: str
    number: int
    checksum: int


@frozen
class Requested(Record):
    """The client asked to ``subscribe`` or ``unsubscribe``; of books to ``subscribe book`` …"""

    attempt: int
    kind: str
    symbols: tuple[str, ...]


@frozen
class Placed(Record):
    """A fault was put in place."""

    fault: str


@frozen
class Fired(Record):
    """A fault of `layer` acted, on the client's nth attempt to connect."""

    fault: str
    attempt: int
    taints: bool
    delays: bool
    layer: str = ""


@frozen
class Removed(Record):
    """A fault was taken away."""

    fault: str


# --- what the subject said ---


@frozen
class Delivered(Record):
    """A price reached the subject's consumer; `recv_ns` is when it says that it was received, by
    the clock that it was given (`None`: it does not say)."""

    symbol: str
    number: int
    price: str
    size: str
    side: str
    time_ns: int | None
    recv_ns: int | None
    epoch: int


@frozen
class BookTold(Record):
    """A snapshot or a delta of a book reached the subject's consumer, with how far to trust it.

    Levels are ``price:size``, as the venue writes them, best first.
    """

    symbol: str
    number: int | None
    whole: bool
    trust: str
    bids: tuple[str, ...]
    asks: tuple[str, ...]


@frozen
class Lost(Record):
    """The subject announced that data of `symbol` (`None`: of any) is missing.

    `first` and `last` bound the missing sequence numbers, both inclusive (`None`: not known).
    """

    symbol: str | None
    reason: str
    first: int | None
    last: int | None
    missing: int | None
    of_book: bool = False


@frozen
class Moved(Record):
    """The subject's connection changed its state.

    `failure` is why, where it was a failure; `retry_after_s` is what the venue asked for, and
    `wait_s` how long the subject means to wait before the next attempt (`None`: there is none).
    `since_s` is when that was: before `at_s`, where the consumer is slow.
    """

    old: str
    new: str
    failure: str | None
    error: str | None
    retry_after_s: float | None
    attempt: int
    wait_s: float | None
    breaker_open: bool
    epoch: int
    recv_ns: int
    since_s: float = 0.0


@frozen
class Malformed(Record):
    """The subject could not decode a message."""

    path: str


@frozen
class Refused(Record):
    """The subject reported a subscription that was refused."""

    symbol: str | None


@frozen
class Failed(Record):
    """Iterating over the subject raised an error: it has given up. `kind` is its class."""

    kind: str
    message: str


@frozen
class Gauged(Record):
    """Something that has a bound was measured."""

    name: str
    value: float
    bound: float


# --- what the run did ---


@frozen
class Stepped(Record):
    """A step of the scenario began, or a phase of the run."""

    step: str


def line_of(record: Record) -> str:
    """One line of text; the same record gives the same line, byte for byte."""
    kind = type(record)
    template, values_of = _FORMATS.get(kind) or _format_of(kind)
    return template % tuple([_told(value) for value in values_of(record)])


def _format_of(kind: type[Record]) -> tuple[str, Callable[[Record], tuple[object, ...]]]:
    names = [one.name for one in attrs.fields(kind)]
    told = " ".join(f"{name}=%s" for name in names[1:])
    values_of: Callable[[Record], tuple[object, ...]] = operator.attrgetter(*names)
    return f"%14s {kind.__name__.lower():9} {told}", values_of


def _told(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "-" if value is None else value


_FORMATS = MappingProxyType({kind: _format_of(kind) for kind in Record.__subclasses__()})
_HASHED_AT_ONCE = 1_000


@attrs.define
class Trace:
    """The records of a run: each is given to the listeners at once; the last `keep` are kept.

    `digest` stands for all of them: two runs with the same digest had the same lines. It can be had
    where all are kept, or where they are `hashed` as they come, which takes time.
    """

    keep: int | None = None
    hashed: bool = True
    count: int = 0
    _listeners: list[Callable[[Record], None]] = field(factory=list, repr=False)
    _records: deque[Record] = field(init=False, repr=False)
    _unhashed: list[Record] = field(factory=list, init=False, repr=False)
    _hash: hashlib._Hash = field(factory=hashlib.sha256, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._records = deque(maxlen=self.keep)

    def listen(self, listener: Callable[[Record], None]) -> None:
        self._listeners.append(listener)

    def add(self, record: Record) -> None:
        self.count += 1
        self._records.append(record)
        # Where all are kept they are hashed when it is asked for, which it seldom is.
        if self.hashed and self.keep is not None:
            self._unhashed.append(record)
            if len(self._unhashed) >= _HASHED_AT_ONCE:
                self._update_hash()
        for listener in self._listeners:
            listener(record)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def _update_hash(self) -> None:
        lines = [line_of(record) for record in self._unhashed]
        self._unhashed.clear()
        self._hash.update("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))

    @property
    def digest(self) -> str:
        if self.keep is None:
            self._unhashed = list(self._records)
            self._hash = hashlib.sha256()
        elif not self.hashed:
            raise ValueError("the records that are not kept were not hashed; use hashed=True")
        self._update_hash()
        return self._hash.hexdigest()

    def lines(self) -> list[str]:
        """The records that were kept, a line each."""
        return [line_of(record) for record in self._records]
