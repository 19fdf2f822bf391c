"""Scenarios as data: the steps of a run, its faults, and what is to come of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from attrs import field, frozen
from attrs.validators import optional

from feedhandler.errors import ConfigError
from feedhandler_testing.board import Injection
from feedhandler_testing.checks import at_least, check_seed, not_negative, one_of, positive
from feedhandler_testing.dialect import DIALECTS, dialect_by_name
from feedhandler_testing.faults.base import Fault, Layer, hooks_of
from feedhandler_testing.faults.rest import (
    RestError,
    RestLate,
    RestLimited,
    RestOtherSymbol,
    RestReset,
    RestStale,
    RestTooLarge,
)
from feedhandler_testing.faults.venue import (
    Burst,
    CrossedBook,
    LateSnapshot,
    MuteSymbol,
    SnapshotInStream,
    StaleSnapshot,
    WrongChecksum,
)
from feedhandler_testing.triggers import AT_ONCE, At, Bytes, Messages, OnConnection, Trigger

__all__ = ["Cut", "Expect", "Finish", "Inject", "Repair", "Scenario", "Serve", "Step", "Wait"]


@frozen
class Step:
    """Base of all steps."""


@frozen
class Serve(Step):
    """Wait until the subject is connected and subscribed; then send `count` prices.

    They go to the symbols in turn, one each `interval_s` seconds, connected or not.
    """

    count: int = field(validator=at_least(1))
    interval_s: float = field(default=0.1, validator=not_negative, kw_only=True)


@frozen
class Wait(Step):
    """The venue has nothing to say for `for_s` seconds."""

    for_s: float = field(validator=positive)


def _ends_it(_: object, __: object, value: Any) -> None:
    if not (isinstance(value, Fault) and value.cuts):
        mend = "use Reset(), End() or Close(1012)"
        if isinstance(value, Fault):
            mend += f", or Inject({type(value).__name__}(...))"
        raise ConfigError("fault", value, "does not end a connection", mend=mend)


@frozen
class Cut(Step):
    """A fault that ends the connection, once there is one: wait until it has acted, and is over."""

    fault: Fault = field(validator=_ends_it)


@frozen
class Inject(Step):
    """Put a fault in place and go on; the fields are those of `Injection`."""

    fault: Fault
    after: Trigger = AT_ONCE
    chance: float = field(default=1.0, kw_only=True)
    every: int = field(default=1, kw_only=True)
    times: int | None = field(default=None, kw_only=True)
    for_s: float | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.injection()

    def injection(self) -> Injection:
        return Injection(
            self.fault, self.after, chance=self.chance, every=self.every, times=self.times,
            for_s=self.for_s,
        )  # fmt: skip


@frozen
class Repair(Step):
    """Take all faults away."""


@frozen
class Finish(Step):
    """The subject is closed here, with the faults in place; only the last step can be this."""


def _strings(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(
            "strings", value, "must be a collection of strings", mend=f"use [{value!r}]"
        )
    return tuple(value)


def _codes(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


@frozen(kw_only=True)
class Expect:
    """What is to come of a run, beside the rules that every run is held to.

    `recovers`: connected, subscribed and fresh within `Scenario.recover_s` after the last step.
    `raises`: the class of the error with which the subject gives up. `failures`: the kinds of
    failure that it reports, in this order, with others between them. `gaps`: reasons of gaps that
    it announces. `malformed`, `refused`: how many of these it reports, at least. `connections`:
    how many are accepted in all. `close_codes`: what it sends in its Close frames, in this order.
    `wait_s`: how long it waits, at least, between its first failure and its next attempt.
    `requests`: how often it asks for subscriptions, at least. `within_s`: how long the whole run
    takes, at most. `lag_s`: how far behind the venue's clock it says that it is, at least.
    `messages`: how many prices it publishes, at least. `pongs`: how many of the venue's pings it
    answers, at least. `lossless`: it announces no gap. `all_fire`: every fault that was put in
    place has acted.
    """

    recovers: bool = True
    raises: str | None = None
    failures: tuple[str, ...] = field(default=(), converter=_strings)
    gaps: tuple[str, ...] = field(default=(), converter=_strings)
    malformed: int = field(default=0, validator=at_least(0))
    refused: int = field(default=0, validator=at_least(0))
    messages: int = field(default=0, validator=at_least(0))
    pongs: int = field(default=0, validator=at_least(0))
    connections: int | None = field(default=None, validator=optional(at_least(0)))
    close_codes: tuple[int, ...] = field(default=(), converter=_codes)
    wait_s: float = field(default=0.0, validator=not_negative)
    requests: int = field(default=0, validator=at_least(0))
    within_s: float | None = field(default=None, validator=optional(positive))
    lag_s: float | None = field(default=None, validator=optional(not_negative))
    lossless: bool = False
    all_fire: bool = True


def _steps(value: Iterable[Step | Fault]) -> tuple[Step | Fault, ...]:
    if not isinstance(value, Iterable):
        raise ConfigError("steps", value, "must be a list of steps", mend=f"use [{value!r}]")
    return tuple(value)


def _is_expect(_: object, __: object, value: object) -> None:
    if not isinstance(value, Expect):
        raise ConfigError("expect", value, "is no Expect", mend="use Expect(connections=2)")


@frozen(kw_only=True)
class Scenario:
    """A run, as a value.

    ```python
    Scenario(seed=7, steps=[Serve(500), Cut(Reset()), Reject(429, retry_after_s=7), Serve(500)])
    ```

    A step is a `Step`, or a fault: one that acts before there is a connection is met by the next
    attempt, and the run waits until it was; any other is put in place. After the last step all
    faults end, and within `recover_s` virtual seconds the subject has to be well again.

    `channel` is what the subject subscribes: prices, or order books. `venue` is whose language the
    mock server speaks, one of `dialect.DIALECTS`. A `compressed` venue sends
    its messages in gzip. With `token` the venue demands a bearer token, which `ExpireToken()`
    replaces. `heartbeat_s` is how often the venue pings. `settings` are those of
    `feedhandler.FeedConfig`, as in TOML, for this handler's tests; `consumer_pause_s` is how long
    the consumer takes for each event, for as long as the faults last. `network` is ``memory``, or
    ``tcp`` or ``tls`` for what only real sockets can show (in real time, not repeatable).

    Raises `ConfigError` with the path of the first thing that is impossible.
    """

    seed: int = 0
    steps: tuple[Step | Fault, ...] = field(converter=_steps)
    name: str = ""
    symbols: tuple[str, ...] = field(default=("BTC-USD", "ETH-USD"), converter=_strings)
    settings: Mapping[str, Any] = field(factory=dict)
    consumer_pause_s: float = field(default=0.0, validator=not_negative)
    heartbeat_s: float | None = field(default=None, validator=optional(positive))
    token: bool = False
    channel: str = field(default="price", validator=one_of(("price", "book")))
    venue: str = field(default="price", validator=one_of(DIALECTS))
    compressed: bool = False
    recover_s: float = field(default=120.0, validator=positive)
    network: str = field(default="memory", validator=one_of(("memory", "tcp", "tls")))
    expect: Expect = field(default=Expect(), validator=_is_expect)

    def __attrs_post_init__(self) -> None:
        check_seed(self.seed)
        if not self.steps:
            raise ConfigError("steps", (), "is empty", mend="begin with Serve(10)")
        if not self.symbols:
            raise ConfigError("symbols", (), "is empty", mend="use for example ('BTC-USD',)")
        for number, step in enumerate(self.steps):
            self._check_step(number, step)

    def _check_step(self, number: int, step: object) -> None:
        path = f"steps[{number}]"
        if not isinstance(step, Step | Fault):
            raise ConfigError(path, step, "is no step", mend="use Serve, Wait, Cut, a fault, …")
        if isinstance(step, Finish) and number != len(self.steps) - 1:
            raise ConfigError(path, step, "nothing can follow the end", mend="put Finish() last")
        before, after = self.steps[:number], self.steps[number + 1 :]
        fault, trigger = _what_is_injected(step)
        if not self.expect.all_fire and not isinstance(step, Fault):
            return
        if isinstance(step, Fault) and _is_met(step) and _is_live(before):
            raise ConfigError(
                path, step, "meets an attempt to connect, and nothing ends the connection before",
                mend="put Cut(Reset()) before it",
            )  # fmt: skip
        if fault is None:
            return
        if isinstance(fault, MuteSymbol) and fault.symbol not in self.symbols:
            raise ConfigError(
                f"{path}.symbol", fault.symbol, "is none of the scenario's",
                mend=f"use one of {list(self.symbols)}",
            )  # fmt: skip
        if lacking := sorted(fault.needs - dialect_by_name(self.venue).means.says):
            raise ConfigError(
                path, fault, f"can never act: {self.venue} has no {', '.join(lacking)}",
                mend="leave it out, or use another venue",
            )  # fmt: skip
        if type(fault) in OF_BOOKS and self.channel != "book":
            raise ConfigError(path, fault, "acts on order books alone", mend='set channel="book"')
        bursts = (one[0] for one in map(_what_is_injected, self.steps))
        served = sum(later.count for later in after if isinstance(later, Serve))
        served += sum(one.count for one in bursts if isinstance(one, Burst))
        for one in _parts(trigger):
            if isinstance(one, Messages) and one.count > served:
                raise ConfigError(
                    f"{path}.after", one, f"can never happen: {served} messages follow it",
                    mend=f"use Messages({served // 2}), or serve more after it",
                )  # fmt: skip
            if isinstance(one, At) and one.after_s > self.longest_s:
                raise ConfigError(
                    f"{path}.after", one, f"can never happen: it is over by {self.longest_s:g} s",
                    mend="use a shorter time, or put Wait(...) after it",
                )  # fmt: skip
            counts = isinstance(one, Messages | Bytes | OnConnection)
            if counts and hooks_of(type(fault)) <= {"shift_s", "rest"}:
                raise ConfigError(
                    f"{path}.after", one,
                    "can never happen: a clock, or REST, belongs to no connection",
                    mend="use At(5), or OnEvent(...)",
                )  # fmt: skip
            if isinstance(one, OnConnection) and one.number > 1 and not _may_end((*before, *after)):
                raise ConfigError(
                    f"{path}.after", one, "can never happen: nothing ends the first connection",
                    mend="add Cut(Reset()), or use OnConnection(1)",
                )  # fmt: skip
        if fault.layer is not Layer.CLOCK and served == 0 and _needs_messages(fault):
            raise ConfigError(
                path, fault, "can never act: no message is sent after it",
                mend="put Serve(...) after it",
            )  # fmt: skip

    @property
    def longest_s(self) -> float:
        """What no run of it can take longer than."""
        return self.duration_s + self.recover_s * (len(self.steps) + 2)

    @property
    def duration_s(self) -> float:
        """How long the steps take by themselves, in virtual seconds."""
        return sum(
            step.count * step.interval_s if isinstance(step, Serve) else step.for_s
            for step in self.steps
            if isinstance(step, Serve | Wait)
        )

    def literal(self) -> str:
        """The scenario as Python source, without what is at its default."""
        return literal_of(self)


OF_BOOKS = frozenset(
    {
        CrossedBook, LateSnapshot, RestError, RestLate, RestLimited, RestOtherSymbol, RestReset,
        RestStale, RestTooLarge, SnapshotInStream, StaleSnapshot, WrongChecksum,
    }
)  # fmt: skip
"""The kinds of faults that act on order books alone."""


def is_met(fault: Fault) -> bool:
    """Whether a fault meets an attempt to connect."""
    return fault.layer is Layer.CONNECTING


_is_met = is_met


def _what_is_injected(step: object) -> tuple[Fault | None, Trigger | None]:
    match step:
        case Inject():
            return step.fault, step.after
        case Cut():
            return step.fault, None
        case Fault():
            return step, None
    return None, None


def _parts(trigger: Trigger | None) -> list[Trigger]:
    if trigger is None:
        return []
    return list(getattr(trigger, "triggers", [trigger]))


def _is_live(before: Iterable[Step | Fault]) -> bool:
    """Whether, after these steps, the subject is connected and nothing is to change that."""
    live = False
    for step in before:
        if isinstance(step, Serve | Wait):
            live = True
        elif isinstance(step, Cut) or (isinstance(step, Inject) and _ends(step.fault)):
            live = False
    return live


def _may_end(steps: Iterable[Step | Fault]) -> bool:
    return any(_what_is_injected(step)[0] is not None for step in steps)


_HARMLESS = frozenset({"message", "rest", "shift_s"})


def _ends(fault: Fault) -> bool:
    """Whether a fault may end the connection."""
    return not hooks_of(type(fault)) <= _HARMLESS


def _needs_messages(fault: Fault) -> bool:
    """Whether a fault acts on messages of the venue alone."""
    return hooks_of(type(fault)) == {"frame"}


def literal_of(value: Any, *, as_list: bool = False) -> str:
    """An attrs value as Python source, without what is at its default."""
    if isinstance(value, tuple | list):
        inner = ", ".join(literal_of(item) for item in value)
        if as_list or isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if not attrs.has(type(value)) or isinstance(value, type):
        return repr(value)
    told = []
    for one in attrs.fields(type(value)):
        if not one.init:
            continue
        given = getattr(value, one.name)
        default = one.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class to attrs
            default = default.factory()
        if given != default or default is attrs.NOTHING:
            text = literal_of(given, as_list=one.converter is not None)
            told.append(f"{one.name}={text}" if one.kw_only else text)
            continue
        if not one.kw_only:
            rest = [f for f in attrs.fields(type(value)) if f.init and not f.kw_only]
            later = rest[rest.index(one) + 1 :]
            if any(getattr(value, f.name) != f.default for f in later):
                told.append(literal_of(given))
    return f"{type(value).__name__}({', '.join(told)})"
