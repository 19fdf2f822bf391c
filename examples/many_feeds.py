"""Many feeds in one nursery: merged in one stream, or each in a task of its own."""

from __future__ import annotations

from collections import Counter

import trio

from feedhandler import Feed, FeedHandler, PriceUpdate, PriceVenue
from feedhandler_testing import MockWebSocketServer, price_message

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


async def exchange(server: MockWebSocketServer) -> None:
    """The mock venue: whoever connects gets ten prices of each symbol."""
    while True:
        connection = await server.next_connection()
        prices = [price_message(symbol, f"{n}.5", n) for n in range(10) for symbol in SYMBOLS]
        await connection.send_many(prices)


async def merged(server: MockWebSocketServer) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with FeedHandler() as handler:
        for name in ("left", "right"):
            handler.add(PriceVenue(server.url, name=name), SYMBOLS)
        async for event in handler:
            if isinstance(event, PriceUpdate):
                counts[event.venue] += 1
                if counts["left"] == counts["right"] == 30:
                    break
    return counts


async def one_by_one(server: MockWebSocketServer) -> Counter[str]:
    counts: Counter[str] = Counter()

    async def follow(feed: Feed) -> None:
        async for events in feed.batches():
            prices = [event for event in events if isinstance(event, PriceUpdate)]
            counts[feed.venue.name] += len(prices)
            if counts[feed.venue.name] == 30:
                return

    async with FeedHandler() as handler, trio.open_nursery() as nursery:
        for name in ("left", "right"):
            feed = handler.add(PriceVenue(server.url, name=name), SYMBOLS)
            nursery.start_soon(follow, feed)
    return counts


async def main() -> list[Counter[str]]:
    async with MockWebSocketServer(tcp=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(exchange, server)
        results = [await merged(server), await one_by_one(server)]
        nursery.cancel_scope.cancel()
    return results


if __name__ == "__main__":
    for result in trio.run(main):
        print(dict(result))
