"""The memory network keeps trio's contract for streams, and breaks as networks break."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream

from feedhandler_testing import MemoryStream, memory_network


async def make_network() -> tuple[MemoryStream, MemoryStream]:
    return memory_network()


async def make_clogged_network() -> tuple[MemoryStream, MemoryStream]:
    left, right = memory_network(limit=1)
    for stream in (left, right):
        await stream.send_all(b"x")
    return left, right


async def test_it_keeps_trios_contract() -> None:
    await check_half_closeable_stream(make_network, make_clogged_network)


async def test_sending_blocks_at_the_bound(autojump_clock: MockClock) -> None:
    left, right = memory_network(limit=10)
    with trio.move_on_after(1) as scope:
        await left.send_all(b"x" * 11)
    assert scope.cancelled_caught
    assert await right.receive_some() == b"x" * 10


async def test_a_reset_loses_what_is_on_the_way_and_wakes_both_sides() -> None:
    left, right = memory_network()
    await left.send_all(b"lost")
    left.reset()
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")


async def test_held_bytes_arrive_when_they_are_let_go(autojump_clock: MockClock) -> None:
    left, right = memory_network()
    left.hold()
    await left.send_all(b"late")
    with trio.move_on_after(5) as scope:
        await right.receive_some()
    assert scope.cancelled_caught
    left.hold(held=False)
    assert await right.receive_some() == b"late"


async def test_the_end_of_the_stream_comes_after_the_data() -> None:
    left, right = memory_network()
    await left.send_all(b"last")
    await left.aclose()
    assert await right.receive_some(2) == b"la"
    assert await right.receive_some() == b"st"
    assert await right.receive_some() == b""
