"""Embed a feed in a trio program, beside tasks of your own.

Runs against a mock exchange, so that it works anywhere; with a real venue, replace the two marked
lines by `venue = Coinbase()`.
"""

from __future__ import annotations

import trio

from feedhandler import FeedStateChanged, Gap, PriceUpdate, PriceVenue, WebSocketClient, open_feed
from feedhandler_testing import MockWebSocketServer, price_message


async def exchange(server: MockWebSocketServer) -> None:
    """The mock venue: some prices, a reset, and more prices."""
    connection = await server.next_connection()
    await connection.send_many([price_message("BTC-USD", f"6500{n}.10", n) for n in range(5)])
    connection.drop()
    connection = await server.next_connection()
    await connection.send_many([price_message("BTC-USD", f"6500{n}.10", n) for n in range(8, 10)])


async def print_prices(url: str) -> int:
    venue = PriceVenue(url)  # replace by a real venue, such as Coinbase()
    count = 0
    async with open_feed(venue, ["BTC-USD"]) as feed:
        async for event in feed:
            match event:
                case PriceUpdate():
                    print(f"{event.symbol} {event.price} x {event.size} #{event.sequence}")
                    count += 1
                    if event.sequence == 9:
                        return count
                case Gap():
                    print(f"missing: {event.symbol} from #{event.from_sequence}")
                case FeedStateChanged():
                    print(f"the feed is {event.new.value}: {event.reason}")
    return count


async def raw_messages(url: str) -> str | bytes:
    """The layer below: messages as they are, over a connection that is kept alive."""
    async with WebSocketClient(url) as client:
        await client.connect()
        await client.send('{"type":"subscribe","symbols":["BTC-USD"]}')
        return await anext(client)


async def main() -> int:
    async with MockWebSocketServer(tcp=True) as server:  # not needed with a real venue
        print(await raw_messages(server.url))
        await server.next_connection()
        async with trio.open_nursery() as nursery:  # a task of your own, in your own nursery
            nursery.start_soon(exchange, server)
            return await print_prices(server.url)


if __name__ == "__main__":
    print(trio.run(main), "prices")
