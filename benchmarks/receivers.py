"""Everybody who receives, one in a process: ``python receivers.py PEER MODE SCENARIO URL COUNT``.

MODE is ``typed`` (every message decoded into typed values), ``raw`` (counted) or ``latency``. The
result is one line of JSON: messages, seconds from the request to the last message, the sum that
proves the work, and for ``latency`` the quantiles in nanoseconds.

What is done with a message is the same for all: `Sink.take`, or `Sink.take_many` where a library
hands over many at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any

import trio
from scenarios import Book, Tick, decoder_of

LIMIT = 64 * 2**20


class Enough(Exception):  # not an error: the last message has come
    """Everything was received."""


class Sink:
    """Takes what is received, sums up what proves the work, and stops the clock at the last."""

    def __init__(self, mode: str, scenario: str, count: int) -> None:
        self.mode = mode
        self.scenario = scenario
        self.count = self.left = count
        self.total: Any = Decimal(0)
        self.began = self.ended = 0.0
        self.latencies: list[int] = []
        self.decode: Callable[[Any], Any] = decoder_of(scenario).decode

    def begin(self) -> None:
        gc.collect()
        gc.freeze()
        self.began = time.perf_counter()

    @property
    def take_many(self) -> Callable[[Iterable[Any]], None]:
        """What to call with messages."""
        if self.mode == "raw":
            return self._raw
        if self.mode == "latency":
            return self._stamps
        return {"ticks": self._ticks, "books": self._books, "mixed": self._mixed}[self.scenario]

    @property
    def take(self) -> Callable[[Any], None]:
        """What to call with one message."""
        if self.mode != "typed" or self.scenario != "ticks":
            take_many = self.take_many
            return lambda message: take_many((message,))
        decode, total, left = self.decode, self.total, self.left

        def take(message: Any) -> None:
            nonlocal total, left
            total += decode(message).price
            left -= 1
            if not left:
                self.total = total
                self._count(self.left)

        return take

    @property
    def take_event(self) -> Callable[[Any], None]:
        """What to call with one typed event."""
        from feedhandler import PriceUpdate

        if self.mode != "typed":
            return lambda event: self.take_events((event,))
        total, left = self.total, self.left

        def take(event: Any) -> None:
            nonlocal total, left
            if type(event) is PriceUpdate:
                total += event.price
                left -= 1
                if not left:
                    self.total = total
                    self._count(self.left)

        return take

    def _count(self, received: int) -> None:
        self.left -= received
        if self.left <= 0:
            self.ended = time.perf_counter()
            raise Enough

    def _raw(self, messages: Iterable[Any]) -> None:
        total = received = 0
        for message in messages:
            total += len(message)
            received += 1
        self.total += total
        self._count(received)

    def _ticks(self, messages: Iterable[Any]) -> None:
        decode, total, received = self.decode, self.total, 0
        for message in messages:
            total += decode(message).price
            received += 1
        self.total = total
        self._count(received)

    def _books(self, messages: Iterable[Any]) -> None:
        for message in messages:
            book = self.decode(message)
            self.total += book.bids[0][0] + book.asks[-1][1]
            self._count(1)

    def _mixed(self, messages: Iterable[Any]) -> None:
        for message in messages:
            self.total += len(self.decode(message))
            self._count(1)

    def _stamps(self, messages: Iterable[Any]) -> None:
        for message in messages:
            self.latencies.append(time.time_ns() - self.decode(message).time)
            self._count(1)

    def take_events(self, events: Iterable[Any]) -> None:
        """Take typed events, which need no decoding."""
        from feedhandler import PriceUpdate

        total, received = self.total, 0
        for event in events:
            if type(event) is PriceUpdate:
                if self.mode == "latency":
                    self.latencies.append(time.time_ns() - event.venue_time_ns)
                total += event.price
                received += 1
        self.total = total
        self._count(received)

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "count": self.count - self.left,
            "seconds": self.ended - self.began,
            "total": str(self.total),
        }
        if self.latencies:
            steady = sorted(self.latencies[len(self.latencies) // 10 :])  # the first warm up
            for name, q in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
                result[name] = steady[min(int(len(steady) * q), len(steady) - 1)]
        return result


Peer = Callable[[str, Sink], Awaitable[None]]


# --- feedhandler ---------------------------------------------------------------------------------


def _config() -> Any:
    from feedhandler import ConnectionConfig

    return ConnectionConfig(max_message_bytes=LIMIT)


async def feedhandler_batches(url: str, sink: Sink) -> None:
    from feedhandler import WebSocketClient

    take_many = sink.take_many
    async with WebSocketClient(url, config=_config()) as client:
        await client.connect()
        sink.begin()
        await client.send("go")
        async for batch in client.batches():
            take_many(batch.messages)


async def feedhandler_single(url: str, sink: Sink) -> None:
    from feedhandler import WebSocketClient

    take = sink.take
    async with WebSocketClient(url, config=_config()) as client:
        await client.connect()
        sink.begin()
        await client.send("go")
        async for message in client:
            take(message)


async def _feed(url: str, sink: Sink, *, batches: bool) -> None:
    from feedhandler import FeedConfig, PriceVenue, open_feed

    venue = PriceVenue(url)
    sink.begin()  # the subscription is what says go
    async with open_feed(venue, ["BTC-USD"], config=FeedConfig(connection=_config())) as feed:
        if batches:
            async for events in feed.batches():
                sink.take_events(events)
        else:
            take = sink.take_event
            async for event in feed:
                take(event)


async def open_feed_batches(url: str, sink: Sink) -> None:
    await _feed(url, sink, batches=True)


async def open_feed_single(url: str, sink: Sink) -> None:
    await _feed(url, sink, batches=False)


# --- peers on trio -------------------------------------------------------------------------------


async def trio_websocket_obvious(url: str, sink: Sink) -> None:
    """The obvious way on trio: trio-websocket, `json` and cattrs."""
    import cattrs
    from trio_websocket import open_websocket_url

    converter = cattrs.Converter()
    converter.register_structure_hook(Decimal, lambda value, _: Decimal(value))
    kinds: dict[str, Any] = {"ticks": Tick, "books": Book}
    kind = kinds.get(sink.scenario)

    def decode(message: str | bytes) -> Any:
        document = json.loads(message, parse_float=Decimal)
        return document if kind is None else converter.structure(document, kind)

    sink.decode = decode
    take = sink.take
    async with open_websocket_url(url, max_message_size=LIMIT) as socket:
        sink.begin()
        await socket.send_message("go")
        while True:
            take(await socket.get_message())


async def websockets_trio(url: str, sink: Sink) -> None:
    from websockets.trio.client import connect

    take = sink.take
    async with connect(url, max_size=LIMIT, compression=None, proxy=None) as socket:
        sink.begin()
        await socket.send("go")
        while True:
            take(await socket.recv())


# --- peers on asyncio with uvloop ----------------------------------------------------------------


async def websockets_uvloop(url: str, sink: Sink) -> None:
    from websockets.asyncio.client import connect

    take = sink.take
    async with connect(url, max_size=LIMIT, compression=None, proxy=None) as socket:
        sink.begin()
        await socket.send("go")
        async for message in socket:
            take(message)


async def aiohttp_uvloop(url: str, sink: Sink) -> None:
    import aiohttp

    take = sink.take
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, max_msg_size=LIMIT) as socket,
    ):
        sink.begin()
        await socket.send_str("go")
        async for message in socket:
            take(message.data)


async def picows_uvloop(url: str, sink: Sink) -> None:
    import picows

    take = sink.take
    done = asyncio.Event()
    # A frame's payload can be decoded in place, for as long as the callback runs: no copy is made.
    in_place = sink.mode != "raw"

    class Listener(picows.WSListener):  # type: ignore[misc]  # picows has no types
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            try:
                if in_place:
                    take(frame.get_payload_as_memoryview())
                else:
                    take(frame.get_payload_as_bytes())
            except Enough:
                transport.disconnect()
                done.set()

    transport, _ = await picows.ws_connect(Listener, url, max_frame_size=LIMIT)
    sink.begin()
    transport.send(picows.WSMsgType.TEXT, b"go")
    await done.wait()
    raise Enough


ON_TRIO: dict[str, Peer] = {
    "feedhandler batches": feedhandler_batches,
    "feedhandler one by one": feedhandler_single,
    "open_feed batches": open_feed_batches,
    "open_feed one by one": open_feed_single,
    "trio-websocket json cattrs": trio_websocket_obvious,
    "websockets trio": websockets_trio,
}
ON_UVLOOP: dict[str, Peer] = {
    "websockets uvloop": websockets_uvloop,
    "aiohttp uvloop": aiohttp_uvloop,
    "picows uvloop": picows_uvloop,
}


async def _until_enough(peer: Peer, url: str, sink: Sink) -> None:
    try:
        await peer(url, sink)
    except Enough:
        return
    except BaseExceptionGroup as group:
        rest = group.split(Enough)[1]
        if rest is not None:
            raise rest from None
        return
    raise RuntimeError("the stream ended early")


def main() -> None:
    name, mode, scenario, url, count = sys.argv[1:6]
    sink = Sink(mode, scenario, int(count))
    if name in ON_TRIO:
        trio.run(_until_enough, ON_TRIO[name], url, sink)
    else:
        import uvloop

        uvloop.run(_until_enough(ON_UVLOOP[name], url, sink))
    print(json.dumps(sink.result()))


if __name__ == "__main__":
    main()
