"""The languages of venues: what a mock server's plain messages look like on a venue's wire.

Inside the kit every message is a dict in the plain price JSON (`feedhandler.venues.price` documents
it), and that is what faults, triggers and rules know. A dialect stands between these and the wire:
it reads a client's requests, and writes the venue's messages and REST answers. docs/new_venue.md
shows, step by step, how to write one.

Beside price, snapshot, delta, subscribed, unsubscribed and error, the plain messages are:

- ``{"type": "quote", "symbol", "bid", "bid_size", "ask", "ask_size", "sequence", "time"}``: the top
  of the book;
- ``{"type": "hello"}``, said when a connection begins; ``{"type": "heartbeat"}``, every
  `Means.heartbeat_s`; ``{"type": "reconnect", "reason"}``, the notice; ``{"type": "ping", "id"}``;
- a snapshot that is made out of a recording has ``"raw"``: the venue's own number of the book's
  last message (or `None`), which then is to be written, and not one made of ``"sequence"``;
- ``{"type": "pong", …}`` and ``{"type": "result", …}``, the answers to a client's ``ping`` and
  ``call``, with all that the request had.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import field, frozen

from feedhandler.abc import HttpResponse, ListedVenue, Venue
from feedhandler.errors import ConfigError, UsageError
from feedhandler.venues.price import PriceVenue
from feedhandler_testing.prices import encode_message

if TYPE_CHECKING:
    from feedhandler_testing.books import MockBook
    from feedhandler_testing.server import MockWebSocketServer

__all__ = [
    "DIALECTS",
    "Dialect",
    "DialectSession",
    "Listing",
    "Means",
    "PlainDialect",
    "StampedSession",
    "UpdateIds",
    "added",
    "dialect_by_name",
    "listed",
    "respelled",
]

PLAIN_SAYS = frozenset(
    {
        "price", "snapshot", "delta", "subscribed", "unsubscribed", "error", "heartbeat", "ping",
        "reconnect", "checksum",
    }
)  # fmt: skip


@frozen(kw_only=True)
class Means:
    """What a venue gives its clients to check by, and how it lives: rules ask no more than that.

    `says` holds the types of plain messages that it has a message for, with ``checksum`` where its
    books have one and ``rest`` where their snapshots come over REST; a fault that needs another one
    can't act. `numbered_trades`: a trade that is missing, late or there twice can be told by its
    number (or that of its message). `verifiable_books`: the same of its books. `numbered_books`: an
    event of a book has the venue's own number, which `Dialect.book_number()` understands; other
    books are known by their levels. `dated_snapshots`: a snapshot says which message of the book
    it stands for, so that one that is too old can be told. `exact_snapshots`: it says so to the
    message; else deltas that it has may be applied to it again. `per_connection`: its numbers are
    those of a connection's messages, so what is missing may be of any symbol. `first_stamp` is
    the first such number, which each message then has as ``stamp``; `stamps` tells how many
    numbers one of that type takes, where it is not one. `time_unit_ns` is how exact its times are.

    With `repeats_last` the delta that a snapshot ends with is applied to it once more.

    It says ``heartbeat`` every `heartbeat_s`, pings (in WebSocket) every `ping_s`, and ends a
    connection on which the client has sent no message for `idle_s` (`None`: never). Of clients
    that name one symbol in each request, `split_requests` tells that many may come at once.
    """

    says: frozenset[str] = PLAIN_SAYS
    numbered_trades: bool = True
    verifiable_books: bool = True
    numbered_books: bool = True
    dated_snapshots: bool = True
    exact_snapshots: bool = True
    repeats_last: bool = False
    per_connection: bool = False
    first_stamp: int | None = None
    stamps: Mapping[str, int] = field(factory=dict, hash=False)
    time_unit_ns: int = 1
    heartbeat_s: float | None = None
    ping_s: float | None = None
    idle_s: float | None = None
    split_requests: bool = False


class Listing:
    """The symbols of a mock venue, by their canonical names and by the venue's own."""

    def __init__(self, venue_symbol: Callable[[str], str]) -> None:
        self._venue_symbol = venue_symbol
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Listing of {len(self._theirs)} symbols>"

    def add(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            if symbol not in self._theirs:
                self._theirs[symbol] = theirs = self._venue_symbol(symbol)
                self._ours[theirs] = symbol

    @property
    def symbols(self) -> tuple[str, ...]:
        """The canonical names, in the order in which they were listed."""
        return tuple(self._theirs)

    def theirs(self, symbol: str) -> str:
        """The venue's name of a canonical symbol, listed or not."""
        return self._theirs.get(symbol) or self._venue_symbol(symbol)

    def ours(self, theirs: str) -> str:
        """The canonical symbol of the venue's name; one that is not listed is given back as it is,
        and the server refuses it."""
        return self._ours.get(theirs, theirs)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._theirs


class DialectSession(Protocol):
    """What a dialect knows of one connection; made anew for each."""

    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        """What a client asks for with `message`; empty where that is nothing that is known.

        ``{"type": "subscribe"`` or ``"unsubscribe", "channel": "price"``, ``"book"``, ``"quote"``
        or another, ``"symbols": [...]}`` with canonical symbols; ``ping`` and ``call``, which are
        answered; ``pong``, with the ``id`` of a ping. What else is in it, such as an id, is in the
        answer too: subscribed, unsubscribed, or an error for each symbol that is not listed.
        """
        ...

    def says(self, message: Mapping[str, Any]) -> bool:
        """Whether the venue says this here, such as heartbeats only to those who asked for them."""
        ...

    def encode(self, message: Mapping[str, Any]) -> Sequence[str | bytes]:
        """The venue's own messages for a plain one, after the faults have acted on it.

        It changes nothing: it may be called more than once for a message, or not at all. A dialect
        with stamps gives as many as `Means.stamps` tells. Raises nothing for a
        field with a value that can't be.
        """
        ...


@runtime_checkable
class StampedSession(DialectSession, Protocol):
    """One whose messages are counted on each connection, and that can read the count: for the play
    of recordings, where something is said that was not recorded."""

    def stamp_of(self, message: str | bytes) -> int | None: ...

    def with_stamp(self, message: str | bytes, stamp: int) -> str | bytes: ...


class Dialect(Protocol):
    """A venue's language: a value, without state."""

    @property
    def name(self) -> str:
        """As in `DIALECTS`, and as the library's venue is called."""
        ...

    @property
    def means(self) -> Means: ...

    @property
    def channels(self) -> Mapping[str, str]:
        """The library's names of the channels, by ours: ``{"price": "trades", …}``."""
        ...

    def session(self, listing: Listing) -> DialectSession: ...

    def venue_symbol(self, symbol: str) -> str:
        """The venue's name for a canonical symbol."""
        ...

    def checksum(self, book: MockBook) -> int | None:
        """What the venue sends as checksum of that book, after its newest message."""
        ...

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        """Which message of the plain sequence a book's event with that number is of.

        `None` where it can't be said; then the book is known by its levels.
        """
        ...

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        """What is asked for at `url`: ``{"type": "snapshot", "symbol": …}`` or
        ``{"type": "instruments"}``, and what else the answer needs. `None`: nothing is there."""
        ...

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        """The answer: of a snapshot, with the plain one in `message` (`None`: no such book)."""
        ...

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        """This library's venue, set up to talk to `server` about `symbols`."""
        ...


# --- the plain one -------------------------------------------------------------------------------


class _PlainSession:
    def requests(self, message: str | bytes) -> Sequence[dict[str, Any]]:
        try:
            request = json.loads(message)
            kind, symbols = request["type"], [str(symbol) for symbol in request["symbols"]]
            named = {"channel": request["channel"]} if "channel" in request else {}
        except (ValueError, KeyError, TypeError):
            return []  # not a request; it waits in the connection's queue
        if kind not in ("subscribe", "unsubscribe"):
            return []
        return [{"type": kind, **named, "symbols": symbols}]

    def says(self, message: Mapping[str, Any]) -> bool:
        return True

    def encode(self, message: Mapping[str, Any]) -> Sequence[str]:
        return [encode_message(message)]


@frozen
class PlainDialect:
    """The plain price JSON, as it is."""

    name: str = field(default="price", init=False)
    means: Means = field(default=Means(), init=False)

    @property
    def channels(self) -> Mapping[str, str]:
        return MappingProxyType({"price": "price", "book": "book"})

    def session(self, listing: Listing) -> DialectSession:
        return _PlainSession()

    def venue_symbol(self, symbol: str) -> str:
        return symbol

    def checksum(self, book: MockBook) -> int | None:
        return book.checksum

    def book_number(self, symbol: str, sequence: int | None) -> int | None:
        return sequence

    def rest_request(self, url: str, listing: Listing) -> dict[str, Any] | None:
        return None

    def rest_answer(
        self, request: Mapping[str, Any], message: Mapping[str, Any] | None, listing: Listing
    ) -> HttpResponse:
        raise UsageError("the plain price JSON has nothing over REST")

    def venue(self, server: MockWebSocketServer, symbols: Sequence[str]) -> Venue:
        return PriceVenue(
            server.url, dial=server.dial, compression="gzip" if server.compressed else "none"
        )


# --- the venues' ---------------------------------------------------------------------------------

_VENUES = "feedhandler_testing.venues"
DIALECTS: Mapping[str, str] = MappingProxyType(
    {
        "binance": f"{_VENUES}.binance:BinanceSpotDialect",
        "bitfinex": f"{_VENUES}.bitfinex:BitfinexDialect",
        "bitstamp": f"{_VENUES}.bitstamp:BitstampDialect",
        "bybit": f"{_VENUES}.bybit:BybitDialect",
        "binance_futures": f"{_VENUES}.binance_futures:BinanceFuturesDialect",
        "coinbase": f"{_VENUES}.coinbase:CoinbaseDialect",
        "deribit": f"{_VENUES}.deribit:DeribitDialect",
        "gemini": f"{_VENUES}.gemini:GeminiDialect",
        "kraken": f"{_VENUES}.kraken:KrakenDialect",
        "kraken_v1": f"{_VENUES}.kraken_v1:KrakenV1Dialect",
        "okx": f"{_VENUES}.okx:OKXDialect",
        "price": "feedhandler_testing.dialect:PlainDialect",
    }
)
"""The dialects that scenarios can name: module and class, imported when they are asked for."""


def dialect_by_name(name: str) -> Dialect:
    """The dialect called `name`. Raises `ConfigError` that names all known ones."""
    if name not in DIALECTS:
        raise ConfigError("venue", name, "is not known", mend=f"use one of {sorted(DIALECTS)}")
    module, _, kind = DIALECTS[name].partition(":")
    dialect: Dialect = getattr(importlib.import_module(module), kind)()
    return dialect


# --- what dialects are made with -----------------------------------------------------------------


@frozen
class UpdateIds:
    """The numbers of a venue that counts single updates of a book, `span` of them in a message.

    Message `n` brings those from `first(n)` to `last(n)`; `base` keeps the symbols apart.
    """

    base: int = 0
    span: int = 3

    def first(self, n: int) -> int:
        return self.last(n - 1) + 1

    def last(self, n: int) -> int:
        return self.base + n * self.span

    def message(self, last: int) -> int | None:
        """The message whose newest update has that number; `None` where none has."""
        n, rest = divmod(last - self.base, self.span)
        return n if rest == 0 and n >= 0 else None


_FIELDS = frozenset(
    {
        "type", "symbol", "price", "size", "side", "sequence", "time", "stamp", "bids", "asks",
        "checksum", "bid", "bid_size", "ask", "ask_size", "channel", "symbols", "message", "reason",
        "id", "raw",
    }
)  # fmt: skip


def added(message: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a fault has put into a price, a quote or a book's message."""
    return {name: value for name, value in message.items() if name not in _FIELDS}


# Amounts that no price source makes, and that a float holds exactly.
_MARKS: Mapping[str, str | int] = MappingProxyType(
    {"price": "987654321.125", "size": "876543219.125", "sequence": 765432198}
)


def listed(venue: Venue, server: MockWebSocketServer) -> Venue:
    """`venue`, with the list of instruments as `server` gives it over REST, where it needs one."""
    if not isinstance(venue, ListedVenue):
        return venue
    bodies = []
    for url in venue.instrument_urls():
        request = server.dialect.rest_request(url, server.listing)
        if request is None:
            raise UsageError(f"the dialect {server.dialect.name!r} has nothing at {url}")
        bodies.append(server.dialect.rest_answer(request, None, server.listing).body)
    return venue.with_instruments(venue.parse_instruments(bodies))


def respelled(
    encode: Callable[[Mapping[str, Any]], Sequence[str | bytes]],
    message: Mapping[str, Any],
    name: str,
    change: Callable[[Any], Any] | None,
) -> str | None:
    """A venue's text of `message`, with what it writes for the field `name` changed, or left out.

    The field is found by writing a mark in its place. `None` where that can't be: the venue does
    not write the field as it is, or it is no JSON.
    """
    mark = _MARKS.get(name)
    written = encode(message if mark is None else {**message, name: mark})
    if mark is None or len(written) != 1:
        return None
    try:
        document = json.loads(written[0])
    except ValueError:
        return None
    found = _respell(document, Decimal(mark), message[name], change)
    return json.dumps(document, separators=(",", ":")) if found else None


def _respell(node: Any, mark: Decimal, value: Any, change: Callable[[Any], Any] | None) -> bool:
    found = False
    keys = list(node) if isinstance(node, dict) else range(len(node) - 1, -1, -1)
    for key in keys:
        item = node[key]
        if isinstance(item, dict | list):
            found |= _respell(item, mark, value, change)
        elif _is(item, mark):
            found = True
            if change is None:
                del node[key]
            else:
                node[key] = change(value if isinstance(item, str) else float(value))
    return found


def _is(item: object, mark: Decimal) -> bool:
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        return False
    try:
        return abs(Decimal(item)) == mark
    except ArithmeticError:
        return False
