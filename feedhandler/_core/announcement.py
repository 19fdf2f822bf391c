"""The events that a feed makes itself: what its connection does, what of its data is missing."""

from __future__ import annotations

from attrs import frozen

from feedhandler._core.state import Transition
from feedhandler.abc import Malformed, Refused, Subscription
from feedhandler.errors import DecodeError, FetchFailed, SubscriptionRefused
from feedhandler.model import (
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    SnapshotFailed,
    SubscriptionFailed,
    Trust,
    TrustChanged,
)

__all__ = ["Announcer"]


@frozen
class Announcer:
    """Makes events in the name of `venue`."""

    venue: str

    def state_changed(self, transition: Transition, now_ns: int) -> FeedStateChanged:
        next_attempt_ns = None
        if transition.next_attempt_at is not None:
            next_attempt_ns = now_ns + round((transition.next_attempt_at - transition.at) * 1e9)
        error = transition.error
        told = transition.reason or transition.event.value
        return FeedStateChanged(
            old=transition.old,
            new=transition.new,
            reason=str(error) if error is not None else told,
            failure=transition.failure,
            error=error,
            attempt=transition.attempt,
            next_attempt_ns=next_attempt_ns,
            recv_ns=now_ns,
            venue=self.venue,
            epoch=transition.epoch,
            breaker_open=transition.breaker_open,
        )

    def not_received(
        self,
        symbol: str,
        *,
        from_sequence: int | None,
        to_sequence: int | None = None,
        missing: int | None = None,
        from_ns: int | None,
        now_ns: int,
        epoch: int,
        of_book: bool = False,
    ) -> Gap:
        """What was sent between two connections is lost, or may be where `missing` is `None`."""
        return Gap(
            symbol=symbol,
            reason=GapReason.RECONNECT,
            from_sequence=from_sequence,
            to_sequence=to_sequence,
            from_ns=from_ns,
            to_ns=now_ns,
            missing=missing,
            recv_ns=now_ns,
            venue=self.venue,
            epoch=epoch,
            of_book=of_book,
        )

    def book_ended(
        self, symbol: str, last: int | None, from_ns: int | None, now_ns: int, epoch: int
    ) -> Gap:
        """The symbol's book is wanted no longer; it ends after number `last`, if it has one."""
        return Gap(
            symbol=symbol,
            reason=GapReason.UNSUBSCRIBED,
            from_sequence=None if last is None else last + 1,
            to_sequence=None,
            from_ns=from_ns,
            to_ns=None,
            missing=None,
            recv_ns=now_ns,
            venue=self.venue,
            epoch=epoch,
            of_book=True,
        )

    def malformed(self, item: Malformed, recv_ns: int, epoch: int) -> list[Event]:
        """A message could not be decoded, so its data is missing, and was not announced yet."""
        told: list[Event] = [DecodeFailed(item.error, recv_ns, self.venue, epoch)]
        if not item.announced:
            told.append(self._unread(recv_ns, epoch))
        return told

    def _unread(self, recv_ns: int, epoch: int) -> Gap:
        return Gap(
            symbol=None,
            reason=GapReason.MALFORMED,
            from_sequence=None,
            to_sequence=None,
            from_ns=recv_ns,
            to_ns=recv_ns,
            missing=1,
            recv_ns=recv_ns,
            venue=self.venue,
            epoch=epoch,
        )

    def refused(self, item: Refused, recv_ns: int, epoch: int) -> SubscriptionFailed:
        subscription = item.subscription
        error = SubscriptionRefused(
            self.venue,
            subscription.symbol if subscription else None,
            subscription.channel if subscription else None,
            item.detail,
        )
        return SubscriptionFailed(error, recv_ns, self.venue, epoch)

    def went_stale(self, symbol: str, now_ns: int, epoch: int) -> TrustChanged:
        reason = "no word of the book for too long"
        return TrustChanged(symbol, Trust.STALE, reason, now_ns, self.venue, epoch)

    def snapshot_failed(
        self,
        subscription: Subscription,
        error: FetchFailed | DecodeError,
        recv_ns: int,
        epoch: int,
    ) -> SnapshotFailed:
        return SnapshotFailed(subscription.symbol, error, recv_ns, self.venue, epoch)

    def as_decode_error(self, error: Exception, message: str | bytes) -> DecodeError:
        """Whatever a venue's code raised, as what it should have raised."""
        if isinstance(error, DecodeError):
            return error
        wrapped = DecodeError(self.venue, message, [("$", repr(error))])
        wrapped.__cause__ = error
        return wrapped
