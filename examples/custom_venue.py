"""A venue of your own: a value with a name, an address and a language."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import trio
from attrs import frozen

from feedhandler import DecodeError, Quote, open_feed
from feedhandler.abc import Dialer, Ignored, Subscribed, Subscription
from feedhandler_testing import MockWebSocketServer


# --- the venue: this is all there is to it ---
@frozen
class TinyVenue:
    """Sends ``{"s": "BTC-USD", "b": "1.5", "a": "1.6"}``, acknowledges with ``{"ok": [...]}``."""

    url: str
    name: str = "tiny"
    channels: Sequence[str] = ("quotes",)
    dial: Dialer | None = None

    def session(self) -> TinyVenue:
        return self  # it has nothing to remember of a connection

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [json.dumps({"want": [s.symbol for s in subscriptions]})]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [json.dumps({"drop": [s.symbol for s in subscriptions]})]

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Quote | Subscribed | Ignored]:
        try:
            data = json.loads(message, parse_float=Decimal)
            if "ok" in data:
                return [Subscribed([Subscription("quotes", symbol) for symbol in data["ok"]])]
            bid, ask = Decimal(data["b"]), Decimal(data["a"])
            return [Quote(data["s"], bid, None, ask, None, None, None, recv_ns, self.name, epoch)]
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise DecodeError(self.name, message, [("$", repr(error))]) from error


# --- and its use ---
async def exchange(server: MockWebSocketServer) -> None:
    connection = await server.next_connection()
    wanted = json.loads(await connection.receive())["want"]
    await connection.send(json.dumps({"ok": wanted}))
    await connection.send('{"s": "BTC-USD", "b": "65000.10", "a": "65000.20"}')


async def main() -> Quote:
    server = MockWebSocketServer(tcp=True, auto_ack=False)
    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(exchange, server)
        async with open_feed(TinyVenue(server.url), ["BTC-USD"]) as feed:
            async for event in feed:
                if isinstance(event, Quote):
                    return event
    raise RuntimeError("the feed ended without a quote")


if __name__ == "__main__":
    print(trio.run(main))
