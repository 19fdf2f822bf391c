"""The books of a recording, as they stand where its play is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from feedhandler.abc import (
    BookSession,
    BookVenue,
    HttpResponse,
    RequestingSession,
    SnapshotSession,
    Subscription,
    Venue,
)
from feedhandler.errors import DecodeError
from feedhandler.model import Level
from feedhandler.recording import Record
from feedhandler_testing.books import MockBook
from feedhandler_testing.dialect import Dialect, PlainDialect

__all__ = ["RecordedBooks"]


class RecordedBooks:
    """What one connection's recorded messages, unspoiled, have made of the books so far.

    A venue that is asked for a snapshot later than it was recorded has to make one that fits what
    follows. It is read by this library, which is held to the recording's digests elsewhere; its
    checksum, like all that is written, is the dialect's own.
    """

    def __init__(self, venue: Venue, dialect: Dialect, symbols: Sequence[str]) -> None:
        self._dialect = dialect
        self._session = venue.session()
        self._channel = venue.book_channels[0] if isinstance(venue, BookVenue) else ""
        if isinstance(self._session, RequestingSession) and self._channel:
            self._session.requests(subscribe=[Subscription(self._channel, s) for s in symbols])

    def take(self, record: Record) -> None:
        """A recorded message is sent now."""
        if record.payload is None:
            return
        # What can't be decoded says nothing of a book that could be known.
        with contextlib.suppress(DecodeError):
            self._session.decode(record.payload, recv_ns=record.t, epoch=1)

    def take_snapshot(self, symbol: str, record: Record) -> None:
        """What was recorded over REST is due now."""
        body = record.payload or b""
        answer = HttpResponse(200, (), body.encode() if isinstance(body, str) else body)
        if isinstance(self._session, SnapshotSession):
            subscription = Subscription(self._channel, symbol)
            with contextlib.suppress(DecodeError):
                self._session.decode_snapshot(subscription, answer, recv_ns=record.t, epoch=1)

    def snapshot(self, symbol: str) -> dict[str, Any] | None:
        """The symbol's book as a plain message, with the venue's own number as ``raw``."""
        session = self._session
        image = session.book_image(symbol) if isinstance(session, BookSession) else None
        if image is None:
            return None
        book = MockBook(symbol, _sizes(image.bids), _sizes(image.asks))
        # Said after all that it holds, as exactly as the dialect can say it.
        unit = self._dialect.means.time_unit_ns
        book.time_ns = -(-(image.venue_time_ns or image.recv_ns) // unit) * unit
        book.checksum_of = self._dialect.checksum
        if isinstance(self._dialect, PlainDialect):
            return {**book.snapshot(), "sequence": image.sequence}
        return {**book.snapshot(), "raw": image.sequence}


def _sizes(levels: Sequence[Level]) -> dict[str, str]:
    return {_text(level.price): _text(level.size) for level in levels}


def _text(number: Decimal) -> str:
    return f"{number:f}"
