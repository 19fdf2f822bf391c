"""What leaves a block behind which tasks run: the user's error, or ours, never a group of ours."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from feedhandler._io.nursery import open_plain_nursery


class OursError(Exception):
    pass


async def fail() -> None:
    raise OursError


async def test_an_error_behind_the_block_ends_it_and_leaves_alone() -> None:
    with pytest.raises(OursError):
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_an_error_behind_the_block_is_not_lost_in_the_users_nursery() -> None:
    """The user's nursery raises a group of nothing but cancellations."""
    with pytest.raises(OursError):
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail)
            async with trio.open_nursery() as users:
                users.start_soon(trio.sleep_forever)
                await trio.sleep_forever()


async def test_the_users_group_wins_and_loses_only_our_cancellation() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail)
            async with trio.open_nursery() as users:
                users.start_soon(trio.sleep_forever)
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("mine")
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_the_users_group_is_the_same_object() -> None:
    mine = ExceptionGroup("mine", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise mine
    assert caught.value is mine


async def test_the_users_cancellation_passes(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            async with trio.open_nursery() as users:
                users.start_soon(trio.sleep_forever)
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_the_chain_of_causes_is_kept() -> None:
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("mine") from error
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value.__context__, KeyError)
