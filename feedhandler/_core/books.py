"""The order books of one connection, as a venue's session keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from feedhandler._core.resync import BookSync, Item
from feedhandler._core.validators import BookMessage, Validator
from feedhandler.abc import Malformed, Subscription
from feedhandler.book import MAX_LEVELS, OrderBook
from feedhandler.errors import DecodeError
from feedhandler.model import BookSnapshot, GapReason, Level

__all__ = ["SessionBooks"]


class SessionBooks:
    """Each symbol's `BookSync`, made when its first message comes; the parameters are theirs."""

    def __init__(
        self,
        venue: str,
        *,
        validator: Validator,
        channel: str = "book",
        checksum: Callable[[OrderBook], int] | None = None,
        depth: int | None = None,
        limit: int = MAX_LEVELS,
        fetched: bool = False,
    ) -> None:
        self._venue = venue
        self._validator = validator
        self._channel = channel
        self._checksum = checksum
        self._depth = depth
        self._limit = limit
        self._fetched = fetched
        self._syncs: dict[str, BookSync] = {}

    def __repr__(self) -> str:
        return f"<SessionBooks {self._venue} {len(self._syncs)} books>"

    def get(self, symbol: str) -> BookSync | None:
        return self._syncs.get(symbol)

    def of(self, symbol: str) -> BookSync:
        """The symbol's, made anew if there is none."""
        sync = self._syncs.get(symbol)
        if sync is None:
            sync = self._syncs[symbol] = BookSync(
                Subscription(self._channel, symbol),
                venue=self._venue,
                validator=self._validator,
                checksum=self._checksum,
                depth=self._depth,
                limit=self._limit,
                fetched=self._fetched,
            )
        return sync

    def forget(self, subscriptions: Iterable[Subscription]) -> None:
        """They have ended, as far as they are books: what may come later is another one's."""
        for subscription in subscriptions:
            if subscription.channel == self._channel:
                self._syncs.pop(subscription.symbol, None)

    def take(self, symbol: str, message: BookMessage) -> list[Item]:
        """Take the symbol's next message in; what follows from it, in order."""
        sync = self._syncs.get(symbol)
        return (sync or self.of(symbol)).take(message)

    def last_sequence(self, symbol: str) -> int | None:
        """See `feedhandler.abc.BookSession.last_book_sequence`."""
        sync = self._syncs.get(symbol)
        return None if sync is None else sync.number

    def image(self, symbol: str) -> BookSnapshot | None:
        sync = self._syncs.get(symbol)
        return None if sync is None else sync.image()

    def best(self, symbol: str) -> tuple[Level | None, Level | None]:
        """See `feedhandler.abc.TopSession.best`."""
        sync = self._syncs.get(symbol)
        return (None, None) if sync is None else sync.best()

    def interrupted(self, reason: GapReason, *, recv_ns: int, epoch: int) -> list[Item]:
        """Messages of the connection are missing: every book of it has to be had anew."""
        items: list[Item] = []
        for sync in self._syncs.values():
            items += sync.interrupted(reason, recv_ns=recv_ns, epoch=epoch)
        return items

    def malformed(
        self,
        error: DecodeError,
        symbol: str | None,
        *,
        is_snapshot: bool,
        recv_ns: int,
        epoch: int,
    ) -> list[Item | Malformed]:
        """A message could not be decoded, which was of the symbol's book (`None`: maybe of any).

        Raises `error` where it can't be said whose it was, and a loss shows at a later message.
        """
        sync = None if symbol is None else self._syncs.get(symbol)
        if sync is not None:
            items = sync.malformed(is_snapshot=is_snapshot, recv_ns=recv_ns, epoch=epoch)
            return [*items, Malformed(error, announced=True)]
        if symbol is not None or self._validator.detects or not self._syncs:
            raise error
        reason = GapReason.MALFORMED
        return [*self.interrupted(reason, recv_ns=recv_ns, epoch=epoch), Malformed(error)]
