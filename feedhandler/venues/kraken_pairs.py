"""What a connection to Kraken knows of its pairs, in either version of the API.

Their names, which of them the venue sends, and their books. A pair that is asked for again, because
its book is not whole, has to end first: a second subscription to the same is refused ("Already
subscribed"), and brings no snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from feedhandler._core.books import SessionBooks
from feedhandler._core.levels import book_side, strict_side
from feedhandler._core.requests import RequestLog
from feedhandler._core.validators import BookMessage, ByChecksum
from feedhandler.abc import Control, Ignored, Refused, Subscribed, Subscription, Unsubscribed
from feedhandler.codec import parse_amount
from feedhandler.errors import DecodeError
from feedhandler.instruments import Instruments
from feedhandler.model import BookSnapshot, Event, Level
from feedhandler.venues.kraken_market import DEPTHS, BookChecksum, common_name

__all__ = ["CHANNELS", "OURS", "KrakenPairs", "amount"]

# Our channels, and the venue's names for them.
CHANNELS = {"trades": "trade", "ticker": "ticker", "book": "book"}
OURS = {theirs: ours for ours, theirs in CHANNELS.items()}
VALIDATOR = ByChecksum()


class KrakenPairs:
    """One connection's pairs. Without a list of instruments, any name of a pair is taken for one.

    `common` tells that the names are those of v2, in which BTC is not XBT.
    """

    def __init__(
        self, venue: str, instruments: Instruments | None, *, depth: int, common: bool
    ) -> None:
        self.venue = venue
        self.depth = depth
        self._instruments = instruments
        self._ours: Mapping[str, str] = {} if instruments is None else instruments.symbols
        self._common = common
        self._log = RequestLog()
        decimals = {
            one.symbol: (_decimals(one.price_increment), _decimals(one.size_increment))
            for one in (instruments or ())
        }
        # v1 quotes its numbers, so no digit of them is ever lost; they may be more than listed.
        self._checksum = BookChecksum(decimals if common else None)
        self._books = self._new_books()
        self._begun = False

    def __repr__(self) -> str:
        return f"<KrakenPairs {self.venue} depth={self.depth}>"

    # --- names ---

    def theirs(self, symbol: str) -> str:
        """Raises `UnknownSymbol`."""
        if self._instruments is not None:
            return self._instruments.by_symbol(symbol).venue_symbol
        pair = symbol.replace("-", "/")
        return pair if self._common else "/".join(_V1.get(part, part) for part in pair.split("/"))

    def known(self, pair: str) -> str | None:
        """The symbol of a pair of which data comes; `None` where it is not in the list."""
        symbol = self._ours.get(pair)
        return symbol if symbol or self._instruments is not None else self.named(pair)

    def named(self, pair: object) -> str | None:
        """The symbol of a pair that may be in no list, so that a refusal can name it."""
        if not isinstance(pair, str) or not 0 < len(pair) < 40:
            return None
        return self._ours.get(pair) or common_name(pair).replace("/", "-")

    def by_channel(self, subscriptions: Sequence[Subscription]) -> dict[str, list[str]]:
        """The venue's names of the pairs, by our channel: each request is for one."""
        pairs: dict[str, list[str]] = {}
        for subscription in subscriptions:
            pairs.setdefault(subscription.channel, []).append(self.theirs(subscription.symbol))
        return pairs

    # --- subscriptions ---

    def running(self, subscriptions: Sequence[Subscription]) -> list[Subscription]:
        """Those of `subscriptions` that have to end before they can begin anew; they do now."""
        again, _ = self._log.split(subscriptions)
        self._log.end(again)
        return again

    def confirmed(self, subscription: Subscription, depth: object = None) -> list[Control]:
        """The venue sends it, a book with so many levels."""
        self._log.confirm([subscription])
        if subscription.channel == "book" and depth in DEPTHS and not self._begun:
            self.depth = int(str(depth))  # what it says counts, whatever was asked for
            self._books = self._new_books()
        return [Subscribed([subscription])]

    def refused(self, subscription: Subscription, words: object) -> list[Control]:
        told = words if isinstance(words, str) and words else "refused without a word"
        if told.lower().startswith("already subscribed"):
            return self.confirmed(subscription)
        return [Refused(subscription, told)]

    def ended(self, subscription: Subscription, *, again: bool) -> list[Control]:
        if again:
            return [Ignored("end of what begins anew")]
        self._log.end([subscription])
        self._books.forget([subscription])
        return [Unsubscribed([subscription])]

    # --- books ---

    def _new_books(self) -> SessionBooks:
        return SessionBooks(
            self.venue, validator=VALIDATOR, checksum=self._checksum, depth=self.depth
        )

    def image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def take(
        self,
        symbol: str,
        bids: Sequence[Level],
        asks: Sequence[Level],
        check: int | None,
        *,
        is_snapshot: bool,
        time_ns: int | None,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control] | None:
        """A book's message, the fast way; `None`, and nothing changed, where it is not right."""
        delta = not is_snapshot
        right_bids = book_side(bids, down=True, delta=delta, repeats=delta)
        right_asks = book_side(asks, down=False, delta=delta, repeats=delta)
        if right_bids is None or right_asks is None:
            return None
        message = BookMessage(
            is_snapshot, right_bids, right_asks, time_ns, recv_ns, epoch, checksum=check
        )
        self._begun = True
        return self._books.take(symbol, message)

    def take_strictly(
        self,
        symbol: str,
        bids: list[list[Decimal]],
        asks: list[list[Decimal]],
        check: int | None,
        problems: list[tuple[str, str]],
        message: str | bytes,
        *,
        paths: tuple[str, str],
        is_snapshot: bool,
        time_ns: int | None,
        recv_ns: int,
        epoch: int,
    ) -> Sequence[Event | Control]:
        """As `take()`, naming all that is wrong after what is in `problems` already."""
        delta = not is_snapshot
        whole_bids = strict_side(
            bids, down=True, delta=delta, path=paths[0], problems=problems, repeats=delta
        )
        whole_asks = strict_side(
            asks, down=False, delta=delta, path=paths[1], problems=problems, repeats=delta
        )
        if problems:
            error = DecodeError(self.venue, message, problems)
            return self._books.malformed(
                error, symbol, is_snapshot=is_snapshot, recv_ns=recv_ns, epoch=epoch
            )
        self._begun = True
        book = BookMessage(
            is_snapshot, whole_bids, whole_asks, time_ns, recv_ns, epoch, checksum=check
        )
        return self._books.take(symbol, book)

    def malformed(
        self, error: DecodeError, pair: str, *, is_snapshot: bool, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """A message of the pair's book could not be read. Raises `error` where there is none."""
        symbol = self.known(pair)
        if symbol is None:
            raise error
        return self._books.malformed(
            error, symbol, is_snapshot=is_snapshot, recv_ns=recv_ns, epoch=epoch
        )


_V1 = {"BTC": "XBT", "DOGE": "XDG"}


def _decimals(increment: Decimal | None) -> int:
    exponent = 0 if increment is None else increment.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def amount(value: object, path: str, problems: list[tuple[str, str]]) -> Decimal:
    """A price or size, or what is wrong with it."""
    try:
        return parse_amount(value)
    except ValueError as error:
        problems.append((path, str(error)))
        return Decimal(0)  # never seen: a message with problems is refused whole
