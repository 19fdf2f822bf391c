"""Faults of the venue: what is wrong with its messages, and with what it answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from feedhandler_testing.checks import at_least, positive
from feedhandler_testing.faults.base import Act, Fault, Later, Layer, Payload

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = [
    "AppPing",
    "BackwardSequence",
    "BadJson",
    "BadNumber",
    "BinaryGarbage",
    "Burst",
    "CrossedBook",
    "DataBeforeAck",
    "Duplicate",
    "EmptyMessage",
    "ExtraField",
    "FrameInside",
    "HtmlMessage",
    "InflationBomb",
    "LateAck",
    "LateSnapshot",
    "LostAck",
    "MissingField",
    "MuteSymbol",
    "Notice",
    "RefuseSubscription",
    "Reorder",
    "SequenceGap",
    "SnapshotInStream",
    "StaleSnapshot",
    "Truncated",
    "UnknownType",
    "WrongChecksum",
    "WrongType",
]

_DATA = frozenset({"price", "snapshot", "delta"})
_ACKS = frozenset({"subscribed", "unsubscribed"})


def _is_data(message: dict[str, Any]) -> bool:
    return message.get("type") in _DATA


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


# --- malformed ---


@frozen
class BadJson(Fault):
    """A message is no JSON: a colon is missing."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [_text(message).replace('":', '"=', 1)] if _is_data(message) else None


@frozen
class Truncated(Fault):
    """A message is JSON that ends in its middle."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        text = _text(message)
        return [text[: len(text) // 2]] if _is_data(message) else None


@frozen
class MissingField(Fault):
    """A message lacks a field that it must have."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (_is_data(message) and self.name in message):
            return None
        return [_text({key: value for key, value in message.items() if key != self.name})]


@frozen
class WrongType(Fault):
    """A field is of another type: a list in the place of a value."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (_is_data(message) and self.name in message):
            return None
        return [_text({**message, self.name: [message[self.name]]})]


@frozen
class BadNumber(Fault):
    """A price is no possible number: ``NaN``, an infinity, negative, words."""

    layer: ClassVar[Layer] = Layer.VENUE

    text: str = "NaN"
    name: str = "price"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not (_is_data(message) and self.name in message):
            return None
        return [_text({**message, self.name: self.text})]


@frozen
class HtmlMessage(Fault):
    """A web page comes in the place of a message."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return ["<html><body>502 Bad Gateway</body></html>"] if _is_data(message) else None


@frozen
class EmptyMessage(Fault):
    """An empty message comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return ["", message] if _is_data(message) else None


@frozen
class BinaryGarbage(Fault):
    """A binary message of `size` random bytes comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    size: int = field(default=64, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [act.rng.randbytes(self.size), message] if _is_data(message) else None


@frozen
class FrameInside(Fault):
    """The bytes of a frame's header stand in the middle of the JSON (a desync)."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        text = _text(message)
        half = len(text) // 2
        return [text[:half] + "\x01~\x00\x7f" + text[half:]] if _is_data(message) else None


@frozen
class UnknownType(Fault):
    """A message of a kind that nobody knows comes before one."""

    layer: ClassVar[Layer] = Layer.VENUE

    type: str = "announcement"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [_text({"type": self.type, "text": "new!"}), message] if _is_data(message) else None


@frozen
class ExtraField(Fault):
    """A message has a field that was not there before."""

    layer: ClassVar[Layer] = Layer.VENUE

    name: str = "venue_flags"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [{**message, self.name: {"new": [1, 2]}}] if _is_data(message) else None


@frozen
class InflationBomb(Fault):
    """A compressed message (gzip, RFC 1952) inflates to `size` bytes."""

    layer: ClassVar[Layer] = Layer.VENUE

    size: int = field(default=64 << 20, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not _is_data(message):
            return None
        # A fixed time in its header: the same bytes in each run.
        return [gzip.compress(_text(message).encode() + b" " * self.size, mtime=0)]


# --- the sequence ---


@frozen
class SequenceGap(Fault):
    """`count` messages are not sent."""

    layer: ClassVar[Layer] = Layer.VENUE

    count: int = field(default=1, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not _is_data(message):
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
        return [message] * (1 + self.copies) if _is_data(message) else None


@frozen
class Reorder(Fault):
    """A message is overtaken by the one after it."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if not _is_data(message):
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
        if not _is_data(message):
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

    delay_s: float = field(default=1.0, validator=positive)

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [Later(message, self.delay_s)] if message.get("type") == "snapshot" else None


@frozen
class SnapshotInStream(Fault):
    """A snapshot comes in the middle of the deltas, after one of them."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "delta":
            return None
        snapshot = act.world.next_snapshot(message["symbol"])
        return None if snapshot is None else [message, snapshot]


@frozen
class WrongChecksum(Fault):
    """The checksum of a book does not fit it."""

    layer: ClassVar[Layer] = Layer.VENUE

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
        return [] if _is_data(message) and message.get("symbol") == self.symbol else None


@frozen
class LostAck(Fault):
    """An acknowledgement is lost."""

    layer: ClassVar[Layer] = Layer.VENUE

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [] if message.get("type") in _ACKS else None


@frozen
class LateAck(Fault):
    """An acknowledgement comes `delay_s` late."""

    layer: ClassVar[Layer] = Layer.VENUE

    delay_s: float = field(default=3.0, validator=positive)

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        return [Later(message, self.delay_s)] if message.get("type") in _ACKS else None


@frozen
class DataBeforeAck(Fault):
    """`count` messages of each symbol come before the acknowledgement."""

    layer: ClassVar[Layer] = Layer.VENUE

    count: int = field(default=2, validator=at_least(1))

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "subscribed":
            return None
        early = [
            act.world.next_price(symbol)
            for _ in range(self.count)
            for symbol in message.get("symbols", ())
        ]
        return [*early, message]


@frozen
class RefuseSubscription(Fault):
    """A subscription is refused in the place of being acknowledged."""

    layer: ClassVar[Layer] = Layer.VENUE

    detail: str = "unknown symbol"

    def message(self, act: Act, message: dict[str, Any]) -> Sequence[Payload | Later] | None:
        if message.get("type") != "subscribed":
            return None
        return [
            {"type": "error", "symbol": symbol, "message": self.detail}
            for symbol in message.get("symbols", ())
        ]


# --- notices and load ---


@frozen
class Notice(Fault):
    """The venue asks for a new connection, in its stream (maintenance, an expired session)."""

    layer: ClassVar[Layer] = Layer.VENUE
    cuts: ClassVar[bool] = True

    reason: str = "maintenance"

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.send_frame(1, _text({"type": "reconnect", "reason": self.reason}).encode())


@frozen
class AppPing(Fault):
    """The venue sends its own ping, as JSON, and drops who has not answered `within_s` later."""

    layer: ClassVar[Layer] = Layer.VENUE

    within_s: float = field(default=10.0, validator=positive)

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        await connection.send_frame(1, b'{"type":"ping","id":1}')
        connection.start_later(self.within_s, self._judge, connection)

    async def _judge(self, connection: MockWebSocketConnection) -> None:
        if not connection.has_received('{"type":"pong","id":1}'):
            connection.drop()


@frozen
class Burst(Fault):
    """`count` messages come at once."""

    layer: ClassVar[Layer] = Layer.VENUE

    count: int = field(default=1000, validator=at_least(1))

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        symbols = sorted(connection.subscriptions)
        if symbols:
            await connection.send_messages(
                [act.world.next_price(symbols[n % len(symbols)]) for n in range(self.count)]
            )
