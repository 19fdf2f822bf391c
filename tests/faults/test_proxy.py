"""The proxy, over real loopback sockets: what passes, and what each fault does to it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import pytest
import trio
from click.testing import CliRunner, Result

from feedhandler import ConfigError, PriceVenue, UsageError, open_feed
from feedhandler.cli.app import cli
from feedhandler.model import PriceUpdate
from feedhandler_testing import MockWebSocketServer
from feedhandler_testing.board import FaultNeverFired
from feedhandler_testing.faults import (
    Bandwidth,
    CorruptBits,
    Crash,
    Down,
    DropBytes,
    DuplicateBytes,
    End,
    Fault,
    HalfOpen,
    HoldThenCut,
    Latency,
    LimitData,
    Mute,
    NoPong,
    Partition,
    Reset,
    Slicer,
    SlowClose,
    Stall,
    WithholdReads,
)
from feedhandler_testing.proxy import FaultProxy, byte_faults
from feedhandler_testing.specs import parse_fault
from feedhandler_testing.streams import reset_stream
from feedhandler_testing.triggers import All, At, Bytes, Messages, OnConnection, OnEvent

LIMIT_S = 10.0  # no test waits longer for anything
HOST = "127.0.0.1"


class Through:
    """A proxy with a server behind it; `connect()` gives both ends of a new connection."""

    def __init__(
        self,
        proxy: FaultProxy,
        accepted: trio.MemoryReceiveChannel[trio.SocketStream],
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.proxy = proxy
        self._accepted = accepted
        self._stack = stack

    async def client(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(HOST, self.proxy.port)
        return await self._stack.enter_async_context(stream)

    async def server(self) -> trio.SocketStream:
        return await self._accepted.receive()

    async def connect(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        client = await self.client()
        return client, await self.server()


@pytest.fixture
async def through() -> AsyncIterator[Through]:
    with trio.fail_after(LIMIT_S * 2):
        async with open_through() as opened:
            yield opened


@contextlib.asynccontextmanager
async def open_through(buffer_bytes: int = 1 << 20) -> AsyncIterator[Through]:
    send, receive = trio.open_memory_channel[trio.SocketStream](8)
    ended = trio.Event()

    async def keep(stream: trio.SocketStream) -> None:
        await send.send(stream)
        await ended.wait()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, keep, [listener])
        port = listener.socket.getsockname()[1]
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(listener)
            async with FaultProxy(to=(HOST, port), seed=7, buffer_bytes=buffer_bytes) as proxy:
                yield Through(proxy, receive, stack)
        nursery.cancel_scope.cancel()


async def exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        assert more, f"the stream ended after {len(data)} of {count} bytes"
        data += more
    return data


async def rest(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    while more := await stream.receive_some(65_536):
        data += more
    return bytes(data)


async def nothing(stream: trio.SocketStream, for_s: float = 0.15) -> None:
    with trio.move_on_after(for_s):
        raise AssertionError(f"received {await stream.receive_some(100)!r}")


@contextlib.contextmanager
def takes(least_s: float, most_s: float) -> Iterator[None]:
    began_at = trio.current_time()
    yield
    assert least_s <= trio.current_time() - began_at <= most_s


# --- without faults ------------------------------------------------------------------------------


async def test_large_data_passes_unchanged_both_ways_at_once(through: Through) -> None:
    client, server = await through.connect()
    there, back = Random(1).randbytes(5_000_000), Random(2).randbytes(5_000_001)
    received = {}

    async def send(stream: trio.SocketStream, data: bytes) -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async def take(name: str, stream: trio.SocketStream) -> None:
        received[name] = await rest(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, client, there)
        nursery.start_soon(send, server, back)
        nursery.start_soon(take, "there", server)
        nursery.start_soon(take, "back", client)
    assert received == {"there": there, "back": back}
    statistics = through.proxy.statistics()
    assert (statistics.bytes_to_client, statistics.bytes_to_server) == (5_000_001, 5_000_000)
    assert (statistics.opened, statistics.refused) == (1, 0)


async def test_the_end_of_one_direction_leaves_the_other_open(through: Through) -> None:
    client, server = await through.connect()
    await client.send_all(b"request")
    await client.send_eof()
    assert await rest(server) == b"request"
    await server.send_all(b"answer")
    await server.send_eof()
    assert await rest(client) == b"answer"


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_reset_passes_on_after_what_was_sent(through: Through, by_client: bool) -> None:
    client, server = await through.connect()
    one, other = (client, server) if by_client else (server, client)
    await one.send_all(b"last words")
    assert await exactly(other, 10) == b"last words"
    reset_stream(one)
    with pytest.raises(trio.BrokenResourceError):
        await other.receive_some(10)


@pytest.mark.parametrize("to_client", [True, False])
async def test_a_side_that_does_not_read_makes_the_other_wait(to_client: bool) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_through(buffer_bytes=10_000) as through:
            client, server = await through.connect()
            sender, receiver = (server, client) if to_client else (client, server)
            async with through.proxy.fault(Latency(0.0, way="both")):
                sent = 0
                with trio.move_on_after(0.5):
                    while True:
                        await sender.send_all(bytes(65_536))
                        sent += 65_536
                held = sent
                assert held < 60_000_000  # what the kernel's buffers hold, and not without end
                assert len(await exactly(receiver, held)) == held


@pytest.mark.parametrize("fault", [Slicer(100), DuplicateBytes()])
async def test_pieces_that_are_more_than_the_buffer_pass_one_by_one(fault: Fault) -> None:
    with trio.fail_after(LIMIT_S):
        async with open_through(buffer_bytes=1_000) as through:
            client, server = await through.connect()
            through.proxy.fault(fault)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.send_all, bytes(50_000))
                await exactly(client, 50_000)


async def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        with trio.fail_after(LIMIT_S):
            async with FaultProxy(to=(HOST, unused.getsockname()[1])) as proxy:
                async with await trio.open_tcp_stream(HOST, proxy.port) as client:
                    with pytest.raises(trio.BrokenResourceError):
                        await client.receive_some(1)
                assert proxy.statistics().refused == 1


async def test_leaving_the_block_closes_what_is_open() -> None:
    with trio.fail_after(LIMIT_S):
        async with open_through() as through:
            async with FaultProxy(to=through.proxy.address) as proxy:
                client = await trio.open_tcp_stream(HOST, proxy.port)
                await through.server()
                port = proxy.port
            async with client:
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await client.receive_some(1) == b""
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(HOST, port)
            with pytest.raises(UsageError, match="enter the proxy"):
                proxy.fault(Reset())
            assert not proxy.connections


# --- each fault ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["to_client", "to_server", "both"])
async def test_latency_delays_the_directions_that_it_is_for(through: Through, way: str) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Latency(0.25, way=way)):  # type: ignore[arg-type]  # one of the ways, from the parameters
        for one, other, name in ((server, client, "to_client"), (client, server, "to_server")):
            slow = way in (name, "both")
            with takes(0.24 if slow else 0, 2 if slow else 0.24):
                await one.send_all(b"x")
                await exactly(other, 1)


async def test_latency_delays_a_reset_as_well(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Latency(0.1)):
        with takes(0.09, 2.0):
            await server.send_all(b"last words")
            await trio.sleep(0.01)
            reset_stream(server)
            assert await exactly(client, 10) == b"last words"
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some(1)


async def test_latency_delays_and_does_not_slow_down(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Latency(0.1, jitter_s=0.02, way="to_server")):
        with takes(0.07, 1.0):
            for number in range(50):
                await client.send_all(bytes([number]))
                await trio.sleep(0.001)
            assert await exactly(server, 50) == bytes(range(50))


@pytest.mark.parametrize("way", ["to_client", "to_server"])
async def test_bandwidth_limits_the_rate(through: Through, way: str) -> None:
    client, server = await through.connect()
    one, other = (server, client) if way == "to_client" else (client, server)
    async with through.proxy.fault(Bandwidth(100_000, way=way)):  # type: ignore[arg-type]  # one of the ways, from the parameters
        with takes(0.19, 2.0):
            await one.send_all(bytes(20_000))
            await exactly(other, 20_000)


@pytest.mark.parametrize("way", ["to_client", "to_server"])
async def test_slicer_sends_pieces(through: Through, way: str) -> None:
    client, server = await through.connect()
    one, other = (server, client) if way == "to_client" else (client, server)
    sliced = Slicer(3, delay_s=0.05, way=way)  # type: ignore[arg-type]  # one of the ways, from the parameters
    async with through.proxy.fault(sliced):
        await one.send_all(b"0123456789")
        pieces = [await other.receive_some(100) for _ in range(4)]
    assert pieces == [b"012", b"345", b"678", b"9"]


@pytest.mark.parametrize("way", ["to_client", "to_server", "both"])
async def test_stall_holds_and_lets_go(through: Through, way: str) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Stall(way=way)):  # type: ignore[arg-type]  # one of the ways, from the parameters
        for one, other, name in ((server, client, "to_client"), (client, server, "to_server")):
            await one.send_all(b"held")
            if way in (name, "both"):
                await nothing(other)
    for other, name in ((client, "to_client"), (server, "to_server")):
        if way in (name, "both"):
            assert await exactly(other, 4) == b"held"


async def test_an_end_is_held_as_well(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Stall()):
        await server.send_all(b"held")
        await server.send_eof()
        await nothing(client)
    assert await rest(client) == b"held"


async def test_mute_loses_what_is_said(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Mute()):
        await server.send_all(b"lost")
        await nothing(client)
    await server.send_all(b"heard")
    assert await exactly(client, 5) == b"heard"


async def test_half_open_passes_nothing_and_says_nothing(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(HalfOpen()):
        await client.send_all(b"anyone there?")
        reset_stream(server)
        await nothing(client)
    await nothing(client)


async def test_partition_cuts_both_ways_and_keeps_new_clients_waiting(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(Partition()):
        await server.send_all(b"a")
        await client.send_all(b"b")
        await nothing(client)
        await nothing(server)
        other = await through.client()
        await other.send_all(b"c")
        await nothing(other)
    assert (await exactly(client, 1), await exactly(server, 1)) == (b"a", b"b")
    later = await through.server()
    assert await exactly(later, 1) == b"c"


async def test_hold_then_cut_ends_without_what_was_held(through: Through) -> None:
    client, server = await through.connect()
    with takes(0.09, 2.0):
        placed = through.proxy.fault(HoldThenCut(0.1))
        await placed.fired.wait()
        await server.send_all(b"never heard")
        assert await rest(client) == b""


async def test_withhold_reads_keeps_the_client_writing(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(WithholdReads()):
        await client.send_all(b"unread")
        await nothing(server)
    assert await exactly(server, 6) == b"unread"


async def test_slow_close_delays_the_end_of_the_stream(through: Through) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(SlowClose(0.2)):
        with takes(0.19, 2.0):
            await server.send_all(b"x")
            await server.send_eof()
            assert await exactly(client, 1) == b"x"
            assert await rest(client) == b""


@pytest.mark.parametrize("way", ["to_client", "to_server"])
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_limit_data_cuts_after_so_many_bytes(through: Through, way: str, how: str) -> None:
    client, server = await through.connect()
    one, other = (server, client) if way == "to_client" else (client, server)
    async with through.proxy.fault(LimitData(1_000, how=how, way=way)):  # type: ignore[arg-type]  # one of the ways, from the parameters
        await one.send_all(bytes(600))
        await one.send_all(bytes(600))
        assert len(await exactly(other, 1_000)) == 1_000
        if how == "end":
            assert await rest(other) == b""
        else:
            with pytest.raises(trio.BrokenResourceError):
                await other.receive_some(1)


async def test_reset_is_a_reset_on_both_sides_after_what_was_sent(through: Through) -> None:
    client, server = await through.connect()
    sending = through.proxy.fault(Reset(), after=Bytes(1_000))
    await server.send_all(bytes(5_000))
    assert len(await exactly(client, 1_000)) == 1_000
    for stream in (client, server):
        with pytest.raises(trio.BrokenResourceError):
            await rest(stream)
    assert sending.count == 1


async def test_end_is_an_end_on_both_sides(through: Through) -> None:
    client, server = await through.connect()
    through.proxy.fault(End(), after=Bytes(10))
    await client.send_all(b"unanswered")
    await server.send_all(b"0123456789 and more")
    assert await rest(client) == b"0123456789"
    assert await rest(server) == b"unanswered"


@pytest.mark.parametrize("fault", [Down(), Crash()])
async def test_down_and_crash_turn_new_clients_away(through: Through, fault: Fault) -> None:
    client, server = await through.connect()
    async with through.proxy.fault(fault):
        other = await through.client()
        with pytest.raises(trio.BrokenResourceError):
            await other.receive_some(1)
        if isinstance(fault, Crash):
            await server.send_all(b"x")
            await nothing(client)
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some(1)
    again, behind = await through.connect()
    await again.send_all(b"back")
    assert await exactly(behind, 4) == b"back"


_SPOILED: list[tuple[Callable[[str], Fault], Callable[[bytes, bytes], bool]]] = [
    (lambda way: CorruptBits(2, way=way), lambda was, now: len(now) == len(was) and now != was),  # type: ignore[arg-type]  # one of the ways, from the parameters
    (lambda way: DuplicateBytes(way=way), lambda was, now: now == was + was),  # type: ignore[arg-type]  # one of the ways, from the parameters
    (lambda way: DropBytes(3, way=way), lambda was, now: 1 <= len(was) - len(now) <= 3),  # type: ignore[arg-type]  # one of the ways, from the parameters
]


@pytest.mark.parametrize("way", ["to_client", "to_server"])
@pytest.mark.parametrize(("make", "spoiled"), _SPOILED)
async def test_bytes_are_spoiled_once(
    through: Through,
    way: str,
    make: Callable[[str], Fault],
    spoiled: Callable[[bytes, bytes], bool],
) -> None:
    client, server = await through.connect()
    one, other = (server, client) if way == "to_client" else (client, server)
    message = bytes(range(64))
    placed = through.proxy.fault(make(way))
    await one.send_all(message)
    await placed.fired.wait()
    await one.send_eof()
    assert spoiled(message, await rest(other))
    assert placed.count == 1


# --- when they act -------------------------------------------------------------------------------


async def test_a_fault_can_be_for_one_connection(through: Through) -> None:
    placed = through.proxy.fault(Reset(), after=OnConnection(2))
    first, first_server = await through.connect()
    second, _ = await through.connect()
    with pytest.raises(trio.BrokenResourceError):
        await second.receive_some(1)
    await first_server.send_all(b"x")
    assert await exactly(first, 1) == b"x"
    assert placed.count == 1


async def test_a_fault_can_come_late(through: Through) -> None:
    client, _ = await through.connect()
    with takes(0.09, 2.0):
        through.proxy.fault(Reset(), after=At(0.1))
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some(1)


async def test_a_fault_that_never_acts_is_an_error_at_the_end_of_its_block(
    through: Through,
) -> None:
    with pytest.raises(FaultNeverFired):
        async with through.proxy.fault(Latency(0.1)):
            pass


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ((NoPong(),), "sees bytes alone"),
        ((Stall(pongs=True),), "sees no frames"),
        ((Reset(), Messages(3)), "sees no messages"),
        ((Reset(), OnConnection(2) & Messages(3)), "sees no messages"),
        ((Reset(), OnEvent("subscribed")), "never happens at a proxy"),
    ],
)
async def test_what_no_proxy_can_do_is_refused(
    through: Through, refused: tuple[object, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        through.proxy.fault(*refused)  # type: ignore[arg-type]  # one of the ways, from the parameters


async def test_the_handler_survives_what_the_proxy_does() -> None:
    with trio.fail_after(LIMIT_S):
        async with MockWebSocketServer(tcp=True) as server:
            port = int(server.url.rsplit(":", 1)[1].strip("/"))
            async with FaultProxy(to=(HOST, port), seed=3) as proxy:
                reset = proxy.fault(Reset(), after=OnConnection(1) & Bytes(400))
                proxy.fault(Slicer(5))
                venue = PriceVenue(f"ws://{HOST}:{proxy.port}/")
                async with trio.open_nursery() as nursery, open_feed(venue, ["A"]) as feed:

                    async def serve() -> None:
                        while True:
                            for connection in list(server.connections.values()):
                                if connection.subscriptions:
                                    await server.send_price_update(server.next_price("A"))
                            await trio.sleep(0.005)

                    nursery.start_soon(serve)
                    epochs = set()
                    async for event in feed:
                        if isinstance(event, PriceUpdate):
                            epochs.add(event.epoch)
                            if len(epochs) == 2:
                                break
                    nursery.cancel_scope.cancel()
                assert reset.count == 1


# --- specifications ------------------------------------------------------------------------------


def test_a_specification_is_read() -> None:
    planned = parse_fault(
        "stall:pongs=false,way=both@at_s=5,after_bytes=9,connection=2,chance=0.5,every=3,times=1,for_s=3"
    )
    injection = planned.injection
    assert injection.fault == Stall(pongs=False, way="both")
    assert injection.after == All([At(5), Bytes(9), OnConnection(2)])
    assert (injection.chance, injection.every, injection.times) == (0.5, 3, 1)
    assert planned.injection.for_s == 3
    assert parse_fault("reset").injection.fault == Reset()
    assert parse_fault("latency:delay_s=0.1,jitter_s=0.02").injection.fault == Latency(
        0.1, jitter_s=0.02
    )


WRONG = {
    "latencyy": "did you mean 'latency'",
    "": "there is no fault ''",
    "latency:delay_s=-1": "not negative",
    "latency:delay_s=nan": "finite",
    "latency:delay_s=1_0": "is not a number",
    "latency:delay_s= 1": "is not a number",
    "latency:delay=1": "did you mean 'delay_s'",
    "latency:delay_s": "is no NAME=VALUE",
    "latency:delay_s=1,delay_s=2": "is given twice",
    "latency:way=up": "no choice",
    "bandwidth": "needs the parameter 'bytes_per_s'",
    "slicer:size=1.5": "is not a whole number",
    "reset:lose=yes": "use true or false",
    "mute:x=1": "leave it out",
    "reset:after_bytes=10": "reset@after_bytes=10",
    "latency@delay_s=1": "latency:delay_s=1",
    "reset@": "is no NAME=VALUE",
    "reset@at=5": "did you mean 'at_s'",
    "reset@at_s=-5": "not negative",
    "reset@connection=0": "connection=0",
    "reset@chance=2": "at most 1",
    "reset@times=-1": "at least 0",
    "stall@for_s=0": "over 0",
    "reset@for_s=3": "for faults that last",
    "no_pong": "sees bytes alone",
    "stall:pongs=true": "sees no frames",
}


@pytest.mark.parametrize(("spec", "said"), WRONG.items())
def test_a_wrong_specification_is_one_sentence_and_exit_code_2(spec: str, said: str) -> None:
    result = run("--listen", f"{HOST}:0", "--to", f"{HOST}:9", "--fault", spec)
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1
    assert "listening" not in result.output


# --- the command line ----------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["proxy", *arguments])


def test_help_names_every_fault_of_the_bytes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(re.search(rf"^ +{name}  ", result.output, re.MULTILINE) for name in byte_faults())


@pytest.mark.parametrize(
    ("listen", "to", "said"),
    [
        ("nowhere", f"{HOST}:9", "listen='nowhere': is no HOST:PORT"),
        (":80", f"{HOST}:9", "is no HOST:PORT"),
        (f"{HOST}:70000", f"{HOST}:9", "is no HOST:PORT"),
        (f"{HOST}:0", f"{HOST}:0", "to=0: is no port"),
        (f"{HOST}:9", f"{HOST}:9", "is the proxy itself"),
        ("192.0.2.1:0", f"{HOST}:9", "can't be listened on"),
    ],
)
def test_a_wrong_address_is_one_sentence_and_exit_code_2(listen: str, to: str, said: str) -> None:
    result = run("--listen", listen, "--to", to)
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert said in result.output


def test_a_port_in_use_is_one_sentence_and_exit_code_2() -> None:
    with socket.socket() as used:
        used.bind((HOST, 0))
        used.listen()
        result = run("--listen", f"{HOST}:{used.getsockname()[1]}", "--to", f"{HOST}:9")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "is in use by another program; use another port, or 0" in result.output


def test_a_fault_that_never_acts_is_exit_code_1() -> None:
    result = run(
        "--listen", f"{HOST}:0", "--to", f"{HOST}:9", "--seconds", "0.1", "--fault", "reset"
    )  # fmt: skip
    assert result.exit_code == 1
    assert re.search(rf"^listening on {HOST}:[1-9]\d* for {HOST}:9$", result.output, re.MULTILINE)
    assert "connections: 0, turned away: 0" in result.output
    assert "reset never acted" in result.output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_tells_what_happens_and_ends_cleanly(how: signal.Signals) -> None:
    with trio.fail_after(LIMIT_S * 2):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host=HOST)

            async def talk(stream: trio.SocketStream) -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(bytes(100))
                        await trio.sleep(0.002)

            nursery.start_soon(trio.serve_listeners, talk, [listener])
            to = f"{HOST}:{listener.socket.getsockname()[1]}"
            command = [
                sys.executable, "-c", "from feedhandler.cli import main; main()",
                "proxy", "--listen", f"{HOST}:0", "--to", to,
                "--fault", "latency:delay_s=0.01@for_s=0.05,connection=2",
                "--fault", "reset@after_bytes=1000,connection=1",
            ]  # fmt: skip
            process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            lines = Lines(process.stdout)
            port = int((await lines.until("listening")).split()[2].rsplit(":", 1)[1])
            async with await trio.open_tcp_stream(HOST, port) as client:
                with pytest.raises(trio.BrokenResourceError):
                    await rest(client)
            await lines.until("connection 1 reset by a fault: 1,000 bytes to the client")
            async with await trio.open_tcp_stream(HOST, port):
                await lines.until("fault latency-1 acts on connection 2")
                await lines.until("fault latency-1 is over")
            process.send_signal(how)
            await lines.until("connections: 2, turned away: 0, bytes to the client")
            assert await process.wait() == 0
            await process.stdout.aclose()
            await listener.aclose()
            said = "\n".join(lines.all)
            assert "connection 1 opened" in said
            assert "fault reset-1 acts on connection 1" in said
            nursery.cancel_scope.cancel()


class Lines:
    """The lines of a process, as they come."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = ""
        self.all: list[str] = []

    async def until(self, beginning: str) -> str:
        while True:
            while "\n" not in self._rest:
                more = await self._stream.receive_some(4096)
                assert more, f"ended before {beginning!r}: {self.all}"
                self._rest += more.decode()
            line, self._rest = self._rest.split("\n", 1)
            self.all.append(line)
            if line.startswith(beginning):
                return line
