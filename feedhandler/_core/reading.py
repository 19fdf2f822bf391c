"""How far a reader has come in the events that were handed to it."""

from __future__ import annotations

from collections.abc import Sequence

from feedhandler._core.shelf import BookShelf
from feedhandler.model import Event

__all__ = ["BookReading"]


class BookReading:
    """Keeps a reader's books where the reader is, at no cost for each event that it reads.

    A batch is noted when it is handed over, and folded into the `shelf` when somebody looks, or
    when the next one comes. Of a batch that is read one by one, `unread` is what is left of it: a
    container that others empty from the front.
    """

    def __init__(self) -> None:
        self._shelf = BookShelf()
        self._batch: tuple[Event, ...] = ()
        self._folded = 0
        self._unread: Sequence[Event] = ()

    def handed(self, events: Sequence[Event], unread: Sequence[Event]) -> None:
        """`events` are handed over; what came before them was read."""
        self._fold(len(self._batch))
        self._batch, self._folded, self._unread = (*events,), 0, unread

    def moved(self, unread: Sequence[Event]) -> None:
        """What is left of the batch goes another way: it will be in `unread`, if at all."""
        self._fold(self._read())
        self._unread = unread

    def shelf(self) -> BookShelf:
        """The books after the event that was read last."""
        self._fold(self._read())
        return self._shelf

    def _read(self) -> int:
        """How many of the batch were read."""
        unread, batch = self._unread, self._batch
        if batch and unread and unread[-1] is batch[-1]:
            return len(batch) - len(unread)
        return len(batch)  # others may have come into the same container since

    def _fold(self, end: int) -> None:
        if end > self._folded:
            self._shelf.fold(self._batch[self._folded : end])
            self._folded = end
        if self._folded == len(self._batch):
            self._batch, self._folded = (), 0
