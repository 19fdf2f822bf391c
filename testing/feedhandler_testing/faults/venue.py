"""Faults of the venue: its sequences, books, subscriptions, notices and load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from feedhandler_testing.checks import at_least, positive
from feedhandler_testing.faults.base import Act, Fault, Later, Layer, Payload
from feedhandler_testing.prices import is_data

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = [
    "AppPing",
    "BackwardSequence",
    "Burst",
    "CrossedBook",
    "DataBeforeAck",
    "Duplicate",
    "LateAck",
    "LateSnapshot",
    "LostAck",
    "MuteSymbol",
    "Notice",
    "RefuseSubscription",
    "Reorder",
    "SequenceGap",
    "SnapshotInStream",
    "StaleSnapshot",
    "WrongChecksum",
]

_ACKS = frozenset({"subscribed", "unsubscribed"})


# --- the sequence ---


@frozen
class SequenceGap(Fault):
    """`count` messages are not sent."""

    layer: ClassVar[Layer] = Layer.VENUE

    count: int = field(default=1, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not is_data(message):
            return None
        withheld = act.memory["withheld"] = act.memory.get("withheld", 0) + 1
        act.more = withheld % self.count != 0
        return []


@frozen
class Duplicate(Fault):
    """A message is sent `copies` times more."""

    layer: ClassVar[Layer] = Layer.VENUE

    copies: int = field(default=1, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [message] * (1 + self.copies) if is_data(message) else None


@frozen
class Reorder(Fault):
    """A message is overtaken by the one after it."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not is_data(message):
            return None
        kept = act.memory.pop("kept", None)
        if kept is None:
            act.memory["kept"] = message
            act.more = True
            return []
        return [message, kept]


@frozen
class BackwardSequence(Fault):
    """A message that was sent `by` messages ago is sent again, before the next one."""

    layer: ClassVar[Layer] = Layer.VENUE

    by: int = field(default=3, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not is_data(message):
            return None
        kept: list[dict[str, Any]] = act.memory.setdefault("kept", [])
        kept.append(message)
        if len(kept) <= self.by:
            act.more = True
            return [message]
        old = kept[0]
        kept.clear()
        return [old, message]


# --- books ---


@frozen
class StaleSnapshot(Fault):
    """A snapshot is sent as it was `by` deltas earlier: older than the deltas that follow it."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"snapshot"})

    by: int = field(default=3, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "snapshot":
            return None
        old = act.world.next_snapshot(message["symbol"], ago=self.by)
        return None if old is None else [old]


@frozen
class LateSnapshot(Fault):
    """A snapshot comes `delay_s` late, and deltas that follow it come before it."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"snapshot"})

    delay_s: float = field(default=1.0, validator=positive)

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [Later(message, self.delay_s)] if message.get("type") == "snapshot" else None


@frozen
class SnapshotInStream(Fault):
    """A snapshot comes in the middle of the deltas, after one of them."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"snapshot"})

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "delta":
            return None
        snapshot = act.world.next_snapshot(message["symbol"])
        return None if snapshot is None else [message, snapshot]


@frozen
class WrongChecksum(Fault):
    """The checksum of a book does not fit it."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"checksum"})

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("checksum") is None:
            return None
        return [{**message, "checksum": message["checksum"] ^ 1}]


@frozen
class CrossedBook(Fault):
    """A delta brings a bid over the best ask, and has no checksum that would tell."""

    layer: ClassVar[Layer] = Layer.VENUE

    price: str = "999999999"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "delta":
            return None
        return [{**message, "bids": [*message["bids"], [self.price, "1"]], "checksum": None}]


# --- subscriptions ---


@frozen
class MuteSymbol(Fault):
    """One symbol goes silent; the others flow on."""

    layer: ClassVar[Layer] = Layer.VENUE
    lasting: ClassVar[bool] = True

    symbol: str = field()

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (is_data(message) and message.get("symbol") == self.symbol):
            return None
        if act.connection is not None:
            act.connection.unsay(message)
        return []


@frozen
class LostAck(Fault):
    """An acknowledgement is lost."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"subscribed"})

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [] if message.get("type") in _ACKS else None


@frozen
class LateAck(Fault):
    """An acknowledgement comes `delay_s` late."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"subscribed"})

    delay_s: float = field(default=3.0, validator=positive)

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [Later(message, self.delay_s)] if message.get("type") in _ACKS else None


@frozen
class DataBeforeAck(Fault):
    """`count` messages of each symbol come before the acknowledgement: of what was asked for."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"subscribed"})

    count: int = field(default=2, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "subscribed":
            return None
        symbols = [*message.get("symbols", ())] * self.count
        early: list[dict[str, Any] | None] = []
        channel, connection = message.get("channel", "price"), act.connection
        if channel == "price":
            early += map(act.world.next_price, symbols)
        elif channel == "book" and (
            connection is None or connection.plain or "snapshot" in connection.dialect.means.says
        ):
            early += map(act.world.next_snapshot, symbols)
        come = [one for one in early if one is not None]
        return [*come, message] if come else None


@frozen
class RefuseSubscription(Fault):
    """A subscription is refused in the place of being acknowledged."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"error"})

    detail: str = "unknown symbol"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "subscribed":
            return None
        plain = act.connection is None or act.connection.plain
        known = ("type", "symbols", "time", "stamp")
        asked = {} if plain else {k: item for k, item in message.items() if k not in known}
        return [
            {"type": "error", **asked, "symbol": symbol, "message": self.detail}
            for symbol in message.get("symbols", ())
        ]


# --- notices and load ---


@frozen
class Notice(Fault):
    """The venue asks for a new connection, in its stream (maintenance, an expired session)."""

    layer: ClassVar[Layer] = Layer.VENUE
    cuts: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"reconnect"})

    reason: str = "maintenance"

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.say({"type": "reconnect", "reason": self.reason})


@frozen
class AppPing(Fault):
    """The venue sends its own ping, as JSON, and drops who has not answered `within_s` later."""

    layer: ClassVar[Layer] = Layer.VENUE
    needs: ClassVar[frozenset[str]] = frozenset({"ping"})

    within_s: float = field(default=10.0, validator=positive)

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.say({"type": "ping", "id": 1})
        connection.start_later(self.within_s, self._judge, connection)

    async def _judge(self, connection: MockWebSocketConnection) -> None:
        plain = connection.has_received('{"type":"pong","id":1}')
        if not (plain or 1 in connection.app_pongs):
            connection.drop()


@frozen
class Burst(Fault):
    """`count` messages come at once."""

    layer: ClassVar[Layer] = Layer.VENUE

    count: int = field(default=1000, validator=at_least(1))

    def waits(self, act: Act, connection: MockWebSocketConnection) -> bool:
        return not connection.subscriptions  # there is nothing yet to send

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        symbols = sorted(connection.subscriptions)
        if symbols:
            await connection.send_messages(
                [act.world.next_price(symbols[n % len(symbols)]) for n in range(self.count)]
            )
