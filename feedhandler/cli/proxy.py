"""``feedhandler proxy``: faults of the network between two programs, told line by line."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen

from feedhandler.cli.board import Output
from feedhandler.errors import ConfigError

if TYPE_CHECKING:
    from feedhandler_testing.board import PlacedFault
    from feedhandler_testing.proxy import FaultProxy
    from feedhandler_testing.relay import ProxiedConnection
    from feedhandler_testing.specs import PlannedFault

__all__ = ["ProxyPlan", "address_of", "run_proxy"]

EXIT_NEVER_FIRED = 1


@frozen(kw_only=True)
class ProxyPlan:
    """What to proxy, as it was typed: ``HOST:PORT`` twice, and the faults."""

    listen: str
    to: str
    faults: Sequence[str] = ()
    seed: int = 7
    seconds: float | None = None


def address_of(name: str, text: str) -> tuple[str, int]:
    """The host and the port of ``HOST:PORT``, where an IPv6 host stands in brackets.

    Raises `ConfigError`.
    """
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65_535:
        raise ConfigError(
            name, text, "is no HOST:PORT", mend="write for example 127.0.0.1:9000 or [::1]:9000"
        )
    return match[1] or match[2], int(match[3])


async def run_proxy(plan: ProxyPlan, output: Output) -> int:
    """Proxy until the time is up, or a signal asks for the end (SIGINT, SIGTERM).

    Returns the exit code: 1 if a fault never acted. Raises `ConfigError` before anything listens.
    """
    from feedhandler_testing.proxy import FaultProxy, check_injection
    from feedhandler_testing.specs import parse_fault

    listen, to = address_of("listen", plan.listen), address_of("to", plan.to)
    planned = [parse_fault(text) for text in plan.faults]
    for one in planned:
        try:
            check_injection(one.injection)
        except ConfigError as error:
            raise ConfigError("fault", one.text, error.rule, mend=error.mend) from error
    told = _Told(output)
    proxy = FaultProxy(to=to, listen=listen, seed=plan.seed, observer=told)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with proxy:
            host, port = proxy.address
            told.say(f"listening on {f'[{host}]' if ':' in host else host}:{port} for {plan.to}")
            placed = [proxy.place(one.injection) for one in planned]
            with trio.move_on_after(math.inf if plan.seconds is None else plan.seconds):
                await anext(signals)
            told.stop()
    return _summary(told, proxy, planned, placed)


def _summary(
    told: _Told, proxy: FaultProxy, planned: Sequence[PlannedFault], placed: Sequence[PlacedFault]
) -> int:
    statistics = proxy.statistics()
    told.say(
        f"connections: {statistics.opened}, turned away: {statistics.refused}, "
        f"bytes to the client: {statistics.bytes_to_client:,}, "
        f"to the server: {statistics.bytes_to_server:,}"
    )
    for one, fault in zip(planned, placed, strict=True):
        times = {0: "never acted", 1: "acted once"}.get(fault.count, f"acted {fault.count} times")
        told.say(f"{one.text} {times}")
    return 0 if all(fault.count for fault in placed) else EXIT_NEVER_FIRED


@define
class _Told:
    """Prints what happens at the proxy, a line each, until it stops."""

    output: Output
    _fired: set[tuple[str, int]] = field(factory=set)
    _stopped: bool = False

    def say(self, line: str) -> None:
        self.output.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """What ends now ends because the proxy does."""
        self._stopped = True

    def opened(self, connection: ProxiedConnection) -> None:
        self.say(f"connection {connection.attempt} opened")

    def closed(self, connection: ProxiedConnection) -> None:
        why = connection.why or "closed with the proxy"
        self.say(
            f"connection {connection.attempt} {why}: {connection.bytes_sent:,} bytes to the "
            f"client, {connection.bytes_received:,} to the server"
        )

    def refused(self, attempt: int, why: str) -> None:
        self.say(f"connection {attempt} turned away: {why}")

    def fired(self, placed: PlacedFault, attempt: int) -> None:
        # What may act on each piece of data is told once for each connection.
        if math.isinf(placed.injection.limit):
            if (placed.name, attempt) in self._fired:
                return
            self._fired.add((placed.name, attempt))
        self.say(f"fault {placed.name} acts on connection {attempt}: {placed.fault!r}")

    def removed(self, placed: PlacedFault) -> None:
        if not self._stopped:
            self.say(f"fault {placed.name} is over")
