"""A fault scenario of your own: a pytest test in virtual time, in ten lines.

Run it with pytest. It needs ``feedhandler[testing]``, and ``trio_mode = true`` in the settings.
"""

from __future__ import annotations

from trio.testing import MockClock

from feedhandler import Event, Gap, PriceUpdate, PriceVenue, open_feed
from feedhandler_testing import MockWebSocketServer, price_message


async def test_a_reset_is_announced_and_survived(autojump_clock: MockClock) -> None:
    async with (
        MockWebSocketServer() as server,
        open_feed(PriceVenue(server.url, dial=server.dial), ["BTC-USD"]) as feed,
    ):
        first = await server.next_connection()
        await first.receive()  # the request to subscribe: the connection is live
        first.drop()  # the fault
        await (await server.next_connection()).send(price_message("BTC-USD", "65000.10", 1))
        seen: list[Event] = []
        while not (seen and isinstance(seen[-1], PriceUpdate)):
            seen.append(await anext(feed))
    assert [event.symbol for event in seen if isinstance(event, Gap)] == ["BTC-USD"]
