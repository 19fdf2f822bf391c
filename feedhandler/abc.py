"""The seams: what a network, a venue and a clock have to be."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from attrs import field, frozen

from feedhandler.errors import ConnectionFailed, DecodeError
from feedhandler.model import BookSnapshot, DataEvent, Event, Level
from feedhandler.traits import VenueTraits

if TYPE_CHECKING:
    from typing import Self

    import trio  # for the stream's type alone: this module stays free of trio when it runs

    from feedhandler.instruments import Instruments

__all__ = [
    "BatchSession",
    "BookSession",
    "BookVenue",
    "Clock",
    "ConnectionTap",
    "Control",
    "DialTarget",
    "Dialer",
    "Fetcher",
    "Heartbeat",
    "HttpResponse",
    "Ignored",
    "ListedVenue",
    "Malformed",
    "ReconnectRequested",
    "Refused",
    "Reply",
    "RequestingSession",
    "ResumableSession",
    "Resync",
    "SequencedSession",
    "Session",
    "SnapshotSession",
    "SnapshotVenue",
    "SplitVenue",
    "Subscribed",
    "Subscription",
    "Synced",
    "Tap",
    "TokenProvider",
    "TopSession",
    "TraitedVenue",
    "Unsubscribed",
    "Venue",
]


@frozen
class DialTarget:
    """Where to connect to: `host` and `port`, and the SSL context for ``wss`` (else `None`)."""

    host: str
    port: int
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False, eq=False)


class Dialer(Protocol):
    """How the network comes in: make a byte stream to a target.

    Raises `DialError` or `OSError`; is cancelled from outside when it takes too long, and then
    leaves nothing open.
    """

    async def __call__(self, target: DialTarget, /) -> trio.abc.Stream: ...


@frozen
class HttpResponse:
    """What a venue's REST interface answered: the body whole, at most as large as was allowed."""

    status: int
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=lambda body: f"<{len(body)} bytes>")


class Fetcher(Protocol):
    """How REST comes in: get `url`, and give whatever was answered, an error page included.

    Raises `FetchFailed` where no whole answer of at most `max_bytes` came; is cancelled from
    outside when it takes too long, and then leaves nothing open.
    """

    async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse: ...


class TokenProvider(Protocol):
    """Give a bearer token; asked anew before each attempt to connect."""

    async def __call__(self) -> str: ...


class Clock(Protocol):
    """The wall clock: integer nanoseconds since the Unix epoch."""

    def time_ns(self) -> int: ...


class ConnectionTap(Protocol):
    """Sees what one connection sends and receives; see `Tap`."""

    def sent(self, message: str | bytes, /, *, at_ns: int) -> None:
        """`message` is about to be sent; it may hold secrets."""
        ...

    def received(self, messages: Sequence[str | bytes], /, *, recv_ns: int) -> None:
        """These messages came in one read, in order; the list is not to be changed."""
        ...

    def closed(self, error: ConnectionFailed | None, /, *, at_ns: int) -> None:
        """The connection is over, because of `error` or because we have closed it; nothing of it
        follows."""
        ...


class Tap(Protocol):
    """Sees what a feed sends and receives, as it is, before anything is made of it.

    It is called at once where things happen, in their order, over all connections: so it must
    neither wait nor raise. Times are the wall clock's, in nanoseconds. The one that writes a
    recording is `feedhandler.recorder.open_recording()`.
    """

    def opened(self, url: str, /, *, at_ns: int) -> ConnectionTap:
        """A connection is open; the `url` may hold secrets. What is returned sees the rest."""
        ...

    def fetched(self, url: str, body: bytes, /, *, at_ns: int) -> None:
        """This was answered at `url` over REST, whole and with status 200."""
        ...


# --- what a venue's session says beside data -----------------------------------------------------


@frozen
class Subscription:
    """One wanted stream: a channel of a symbol."""

    channel: str
    symbol: str


@frozen
class Subscribed:
    """The venue confirmed these subscriptions.

    Where they are `complete`, the venue has listed all that it sends: one that was to end, and is
    not among them, has ended.
    """

    subscriptions: Sequence[Subscription]
    complete: bool = False


@frozen
class Unsubscribed:
    """The venue confirmed the end of these subscriptions."""

    subscriptions: Sequence[Subscription]


@frozen
class Refused:
    """The venue refused a subscription (`None`: it did not say which), in its own words."""

    subscription: Subscription | None
    detail: str


@frozen
class Reply:
    """Send this message back at once (an application-level pong, for example)."""

    message: str | bytes


@frozen
class ReconnectRequested:
    """The venue asks for a new connection (maintenance notice, expired session)."""

    reason: str


@frozen
class Malformed:
    """The message could not be decoded, but what `decode` returned before this is true of it.

    Where the loss is `announced`, the session has said itself whose it is, with a `Gap`.
    """

    error: DecodeError
    announced: bool = False


@frozen
class Resync:
    """The book of this subscription is not whole, or the snapshot that came is of no use.

    It is to be asked for anew; all others flow on. Sent again while an answer is awaited, it means
    that what came was none. With `anew`, an answer that is awaited is of no use either: it may be
    from before what is missing, and nothing in it would tell.
    """

    subscription: Subscription
    anew: bool = False


@frozen
class Synced:
    """The book of this subscription is whole, from a snapshot that was checked."""

    subscription: Subscription


@frozen
class Heartbeat:
    """The venue is alive and has nothing to say."""


@frozen
class Ignored:
    """A valid message of a kind that this feed has no use for; it is counted."""

    what: str


Control = (
    Subscribed
    | Unsubscribed
    | Refused
    | Reply
    | ReconnectRequested
    | Malformed
    | Resync
    | Synced
    | Heartbeat
    | Ignored
)


class Session(Protocol):
    """What a venue knows of one connection; made anew for each."""

    def decode(
        self, message: str | bytes, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Turn one message into events, in order.

        Raises `DecodeError` for a message that is not what the venue documents, and nothing
        else, whatever the bytes.
        """
        ...


@runtime_checkable
class BatchSession(Session, Protocol):
    """A session that has a faster way for runs of plain data; it is used where there is one."""

    def decode_plain(
        self, messages: Sequence[str | bytes], begin: int, *, recv_ns: int, epoch: int
    ) -> Sequence[DataEvent]:
        """Decode the messages from number `begin` on, for as long as each is plain data.

        Each message that is taken gives exactly one event. It stops, and remembers nothing of it,
        at the first that is anything else: malformed, a control, a duplicate, after a gap. That
        one is given to `decode()`, and this is called again for those after it. `begin` is 0 on
        the first call for a batch.
        """
        ...


@runtime_checkable
class SequencedSession(Protocol):
    """A session that knows how far it has come in each symbol's sequence."""

    def last_sequence(self, symbol: str) -> int | None: ...


@runtime_checkable
class ResumableSession(SequencedSession, Protocol):
    """One that can go on where that of another connection has come to.

    It delivers `PriceUpdate`s, whose numbers are the same on every connection and rise by one for
    each message of the symbol. Then a connection can be replaced without a loss and without
    duplicates. (Trades are told apart by their ids, and need no such session.)
    """

    def resume_after(self, symbol: str, sequence: int) -> None:
        """Take the symbol's data up to `sequence` as seen: what comes again is a duplicate."""
        ...


@runtime_checkable
class BookSession(Session, Protocol):
    """A session that keeps the order books of its symbols."""

    def last_book_sequence(self, symbol: str) -> int | None:
        """The highest number that came of the symbol's book, if any."""
        ...

    def book_image(self, symbol: str) -> BookSnapshot | None:
        """The symbol's whole book as of the last message decoded; `None` while it is not whole."""
        ...


@runtime_checkable
class TopSession(BookSession, Protocol):
    """One that tells the best of a book without a copy of it."""

    def best(self, symbol: str) -> tuple[Level | None, Level | None]:
        """The best bid and ask as of the last message decoded; neither while it is not whole."""
        ...


@runtime_checkable
class RequestingSession(Session, Protocol):
    """A session that has to know what was asked for on its connection, so it writes the requests.

    It is used in the place of `Venue.subscribe()` and `unsubscribe()`: for venues that answer with
    a number only, that want something said before the first request, or that name a subscription
    otherwise when it ends.
    """

    def requests(
        self, *, subscribe: Sequence[Subscription] = (), unsubscribe: Sequence[Subscription] = ()
    ) -> Sequence[str | bytes]:
        """The messages that ask for `subscribe` and end `unsubscribe`.

        What is asked for again, because it was not confirmed or a book is not whole, is named in
        `subscribe` alone.
        """
        ...


@runtime_checkable
class SnapshotSession(BookSession, Protocol):
    """One whose books begin with snapshots that are fetched over REST."""

    def decode_snapshot(
        self, subscription: Subscription, response: HttpResponse, *, recv_ns: int, epoch: int
    ) -> Sequence[Event | Control]:
        """Take in what `SnapshotVenue.snapshot_url()` was answered with: status 200, any body.

        Raises `DecodeError` for what is not the subscription's snapshot; a snapshot that is
        too old for the book says `Resync`, as one in the stream does.
        """
        ...


@runtime_checkable
class Venue(Protocol):
    """A trading venue: a value that knows its address and its language."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def dial(self) -> Dialer | None:
        """The way to reach it, or `None` for TCP and TLS."""
        ...

    @property
    def channels(self) -> Sequence[str]:
        """The channels that it has; the first is the default."""
        ...

    def session(self) -> Session: ...

    def subscribe(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """The messages that ask for `subscriptions`."""
        ...

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> Sequence[str | bytes]:
        """The messages that end `subscriptions`."""
        ...


@runtime_checkable
class BookVenue(Venue, Protocol):
    """A venue that has order books, each of which begins with a snapshot.

    Its sessions are `BookSession`s, and say `Synced` and `Resync`: a book that is asked for and
    does not become whole is asked for again.
    """

    @property
    def book_channels(self) -> Sequence[str]:
        """Those of `channels` that are order books."""
        ...


@runtime_checkable
class SnapshotVenue(BookVenue, Protocol):
    """A venue whose books' snapshots are fetched over REST; its sessions are `SnapshotSession`s.

    A snapshot is fetched when the book is confirmed or brings its first delta, and again after each
    `Resync`.
    """

    @property
    def fetch(self) -> Fetcher | None:
        """The way to its REST interface, or `None` for httpx."""
        ...

    def snapshot_url(self, subscription: Subscription) -> str: ...

    @property
    def snapshot_weight(self) -> float:
        """What one costs, in the unit of `Limits.requests_per_minute`."""
        ...


@runtime_checkable
class ListedVenue(Venue, Protocol):
    """A venue whose symbols are mapped by the list of its instruments, fetched over REST.

    Without a list it can't be subscribed to: `feedhandler.load_instruments()` gets one.
    """

    @property
    def instruments(self) -> Instruments | None:
        """The list, or `None` while it was not loaded.

        An empty one is that of a venue that needs none: it takes symbols as they are.
        """
        ...

    @property
    def fetch(self) -> Fetcher | None:
        """The way to its REST interface, or `None` for httpx."""
        ...

    def instrument_urls(self) -> Sequence[str]:
        """What to fetch, in order; the answers together are the list."""
        ...

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        """The list in the bodies of the answers, one for each URL. Raises `DecodeError`."""
        ...

    def with_instruments(self, instruments: Instruments) -> Self:
        """The same venue with this list."""
        ...


@runtime_checkable
class SplitVenue(Venue, Protocol):
    """A venue whose channels are at several addresses: a feed has a connection to each it needs."""

    def entry(self, channel: str) -> Venue:
        """The same venue at the address of `channel`; equal for channels that share one."""
        ...


@runtime_checkable
class TraitedVenue(Venue, Protocol):
    """A venue that says what it allows and expects."""

    @property
    def traits(self) -> VenueTraits: ...
