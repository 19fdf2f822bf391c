"""One connection to Binance, spot or futures: what both have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from feedhandler._core.books import SessionBooks
from feedhandler._core.construct import twin_of
from feedhandler._core.requests import RequestLog
from feedhandler._core.resync import Item
from feedhandler._core.sequence import Hole, Order, SequenceTracker
from feedhandler._core.validators import BookMessage, ByPrevious, ByRange
from feedhandler.abc import (
    Control,
    HttpResponse,
    Ignored,
    Malformed,
    ReconnectRequested,
    Refused,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from feedhandler.codec import FastDecoder, are_plain
from feedhandler.errors import DecodeError
from feedhandler.model import BookSnapshot, Event, Level, Quote, Side, Trade
from feedhandler.venues.binance_messages import AggTrade, BookTicker, Depth, Envelope
from feedhandler.venues.binance_requests import CHANNELS, Naming, requests_of
from feedhandler.venues.binance_wire import Wire

__all__ = ["BinanceSession"]

_OURS = {theirs: ours for ours, theirs in CHANNELS.items()}
_FRAME = '{"stream":"'
_BEGIN = len(_FRAME)
_SHUTDOWN = "serverShutdown"
_MAX_ROUTES = 8192  # streams that are remembered, of other channels

_Trade = twin_of(Trade)
_Quote = twin_of(Quote)


@frozen
class _Route:
    """What a stream's data is: of which symbol, and channel, if it is one of ours."""

    channel: str
    symbol: str
    theirs: str
    is_plain: bool
    stream: str


class BinanceSession:
    """One connection, with its books and its requests by their numbers."""

    def __init__(self, venue: str, naming: Naming, *, linked: bool, unit_ns: int) -> None:
        self._venue = venue
        self._naming = naming
        self._unit_ns = unit_ns
        self._wire = Wire(venue, linked=linked)
        self._envelope = FastDecoder(Envelope, venue=venue, amounts_as_text=True)
        self._log = RequestLog()
        self._asked: dict[str, str] = {}  # the venue's names of what was asked for, and ours
        self._routes: dict[str, _Route] = {}
        self._ids: SequenceTracker[str] = SequenceTracker()
        self._books = SessionBooks(
            venue, validator=ByPrevious() if linked else ByRange(), fetched=True
        )

    def last_sequence(self, symbol: str) -> int | None:
        return self._ids.last(symbol)

    def last_book_sequence(self, symbol: str) -> int | None:
        return self._books.last_sequence(symbol)

    def book_image(self, symbol: str) -> BookSnapshot | None:
        return self._books.image(symbol)

    def best(self, symbol: str) -> tuple[Level | None, Level | None]:
        return self._books.best(symbol)

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> list[str]:
        """See `feedhandler.abc.RequestingSession`; one message for each of the two."""
        messages = []
        for method, those in (("UNSUBSCRIBE", unsubscribe), ("SUBSCRIBE", subscribe)):
            if those:
                self._asked.update((self._naming.theirs(s.symbol), s.symbol) for s in those)
                number = self._log.number(method, those)
                messages.append(requests_of(method, those, self._naming, number))
        return messages

    # --- what comes ---

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Decode one message; the `Gap` before it comes first where something is missing."""
        try:
            text = message if type(message) is str else message.decode()  # type: ignore[union-attr]  # what is neither raises
            end = text.index('"', _BEGIN) if text.startswith(_FRAME) else 0
        except (ValueError, AttributeError):
            return self._other(message, recv_ns, epoch)
        if not end:
            return self._other(message, recv_ns, epoch)
        name = text[_BEGIN:end]
        route = self._routes.get(name) or self._route(name)
        if route is None:
            return self._other(message, recv_ns, epoch)
        plain = text if route.is_plain else text[end:].replace(route.theirs, "")
        return self._data(route, text, are_plain((plain,)), recv_ns, epoch)

    def _route(self, name: str) -> _Route | None:
        """What the stream `name` is, if its channel and its symbol are known."""
        symbol, _, stream = name.partition("@")
        theirs = symbol.upper()
        ours = self._asked.get(theirs) or self._naming.ours(theirs)
        if ours is None:
            return None
        route = _Route(_OURS.get(stream, ""), ours, theirs, are_plain((theirs,)), stream)
        if route.channel or len(self._routes) < _MAX_ROUTES:  # of our channels there are not more
            self._routes[name] = route
        return route

    def _data(
        self, route: _Route, text: str | bytes, plain: bool, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        if not route.channel:
            return [Ignored(route.stream[:40])]
        wire, theirs = self._wire, route.theirs
        if route.channel == "book":
            depth = wire.depth.fast(text) if plain else None
            if depth is None or depth.s != theirs:
                try:
                    depth = wire.depth.strictly(text, theirs)
                except DecodeError as error:
                    return self._books.malformed(
                        error, route.symbol, is_snapshot=False, recv_ns=recv_ns, epoch=epoch
                    )
            return self._delta(route.symbol, depth, recv_ns, epoch)
        if route.channel == "ticker":
            ticker = wire.ticker.fast(text) if plain else None
            if ticker is None or ticker.s != theirs:
                ticker = wire.ticker.strictly(text, theirs)
            return [self._quote(route.symbol, ticker, recv_ns, epoch)]
        trade = wire.trade.fast(text) if plain else None
        if trade is None or trade.s != theirs:
            trade = wire.trade.strictly(text, theirs)
        return self._trade(route.symbol, trade, recv_ns, epoch)

    def _delta(self, symbol: str, data: Depth, recv_ns: int, epoch: int) -> list[Item]:
        message = BookMessage(
            False, data.b, data.a, data.E * self._unit_ns, recv_ns, epoch,
            data.u, data.U, data.pu,
        )  # fmt: skip
        return self._books.take(symbol, message)

    def _quote(self, symbol: str, data: BookTicker, recv_ns: int, epoch: int) -> Quote:
        bid, ask, time = data.b or None, data.a or None, data.E
        quote: Any = _Quote(
            symbol, bid, data.B if bid else None, ask, data.A if ask else None,
            None, None if time is None else time * self._unit_ns, recv_ns, self._venue, epoch,
        )  # fmt: skip
        quote.__class__ = Quote
        return quote  # type: ignore[no-any-return]  # its class was changed in the line before

    def _trade(
        self, symbol: str, data: AggTrade, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        number = data.a
        order = self._ids.check(symbol, number)
        if order is Order.DUPLICATE:
            return [Ignored("duplicate")]
        trade: Any = _Trade(
            symbol, data.p, data.q, Side.SELL if data.m else Side.BUY, str(number), number,
            data.T * self._unit_ns, recv_ns, self._venue, epoch,
        )  # fmt: skip
        trade.__class__ = Trade
        if isinstance(order, Hole):
            gap = order.as_gap(symbol, recv_ns=recv_ns, venue=self._venue, epoch=epoch)
            return [gap, Ignored("late")] if order.late else [gap, trade]
        return [trade]

    def decode_snapshot(
        self, subscription: Subscription, response: HttpResponse, *, recv_ns: int, epoch: int
    ) -> list[Item]:
        """See `feedhandler.abc.SnapshotSession`."""
        body = response.body
        read = self._wire.snapshot.fast(body) if _is_plain_body(body) else None
        data = read or self._wire.snapshot.strictly(body)
        time_ns = None if data.E is None else data.E * 1_000_000  # REST has milliseconds
        message = BookMessage(
            True, data.bids, data.asks, time_ns, recv_ns, epoch, data.lastUpdateId
        )
        return self._books.take(subscription.symbol, message)

    # --- all else ---

    def _other(
        self, message: str | bytes, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control | Malformed]:
        envelope = self._envelope.decode(message)
        name = envelope.stream
        if envelope.e == _SHUTDOWN or name == f"!{_SHUTDOWN}":
            return [ReconnectRequested(_SHUTDOWN)]
        if name:
            route = self._routes.get(name) or self._route(name)
            if route is not None:
                return self._data(route, message, False, recv_ns, epoch)
            symbol, _, stream = name.partition("@")
            return [Ignored(f"{stream or symbol}"[:40])]
        if envelope.e:
            return [Ignored(envelope.e[:40])]
        return self._answer(envelope)

    def _answer(self, envelope: Envelope) -> Sequence[Control]:
        asked = self._log.answered(envelope.id)
        code = envelope.code if envelope.code is not None else envelope.error.code
        words = envelope.msg or envelope.error.msg
        if code is not None or words:
            told = f"{code}: {words}"[:200]
            refused = asked.subscriptions if asked and asked.kind == "SUBSCRIBE" else (None,)
            return [Refused(subscription, told) for subscription in refused]
        if asked is None:
            return [Ignored("answer that nobody waits for")]
        if asked.kind == "SUBSCRIBE":
            return [Subscribed(asked.subscriptions)]
        self._books.forget(asked.subscriptions)
        for subscription in asked.subscriptions:
            if subscription.channel == "trades":
                self._ids.last_of.pop(subscription.symbol, None)
        return [Unsubscribed(asked.subscriptions)]


def _is_plain_body(body: bytes) -> bool:
    try:
        return are_plain((body.decode(),))
    except UnicodeError:
        return False
