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
        if raised is not None and not isinstance(raised, trio.Cancelled):
            # The user's own exception; `from None` would hide what it was itself raised from.
            context = raised.__context__
            try:
                raise raised
            finally:
                raised.__context__ = context
        others = group.split(trio.Cancelled)[1]
        if others is not None and len(others.exceptions) == 1:
            raise others.exceptions[0] from others.exceptions[0].__cause__
        raise
