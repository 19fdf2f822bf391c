"""A nursery whose groups the caller never sees."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

__all__ = ["open_plain_nursery"]


@contextlib.asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for the tasks behind a user's block; its tasks end with the block.

    What the block raises leaves as it was, not wrapped in a group: the user's exception, or the
    cancellation of one of the user's scopes, always wins. An exception of a task behind the block
    cancels the block and is raised instead, alone.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        own = _without_our_cancellation(raised, group)
        if own is not None:
            # `from None` would hide what the user's exception was itself raised from.
            context = own.__context__
            try:
                raise own
            finally:
                own.__context__ = context
        others = group.split(trio.Cancelled)[1]
        if others is not None and len(others.exceptions) == 1:
            raise others.exceptions[0] from others.exceptions[0].__cause__
        raise


def _without_our_cancellation(
    raised: BaseException | None, group: BaseExceptionGroup[BaseException]
) -> BaseException | None:
    """What the block itself raised, or `None` if it was only cancelled.

    `group` is what the nursery raises. It holds no `Cancelled` where the nursery's own
    cancellation was the only one, and then a group of the user's must lose those as well.
    """
    if not isinstance(raised, BaseExceptionGroup):
        return None if isinstance(raised, trio.Cancelled) else raised
    cancelled, rest = raised.split(trio.Cancelled)
    if rest is None or cancelled is None or group.split(trio.Cancelled)[0] is not None:
        return None if rest is None else raised
    return rest
