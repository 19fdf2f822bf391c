"""Feeds for a trio program: `open_feed()` for one, `FeedHandler` for many in one nursery."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random, SystemRandom
from types import TracebackType
from urllib.parse import urlsplit

import trio

from feedhandler._core.allowance import connect_bucket, traits_of
from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy
from feedhandler._io.clock import SystemClock
from feedhandler._io.connection import Endpoint
from feedhandler._io.dial import dial_tcp
from feedhandler._io.iteration import Iteration, Unbatched
from feedhandler._io.legs import Feed, fork_rng
from feedhandler._io.nursery import open_plain_nursery
from feedhandler._io.pacer import Pacer
from feedhandler._io.rest import HttpxFetcher, RestGate, check_httpx
from feedhandler._io.subscriptions import check_subscriptions
from feedhandler.abc import (
    Clock,
    Fetcher,
    ListedVenue,
    SnapshotVenue,
    Subscription,
    Tap,
    TokenProvider,
    Venue,
)
from feedhandler.config import FeedConfig
from feedhandler.errors import ConfigError, FailureKind, FeedError, SlowConsumer, UsageError
from feedhandler.listing import load_instruments
from feedhandler.model import Event

__all__ = ["FeedHandler", "open_feed"]


class FeedHandler(Unbatched[Event]):
    """Many feeds in one nursery, read merged or one by one.

    ```python
    async with FeedHandler() as handler:
        btc = handler.add(venue, ["BTC-USD"])
        eth = handler.add(venue, ["ETH-USD"])
        async for event in handler:   # merged; or `async for event in btc`
            ...
    ```

    Each event goes to one of the two ways of reading, whichever asks first. A feed that gives up
    says so in its stream (`FeedStateChanged`); the merged stream goes on with the others, and
    raises the first such error when no feed is left. `SlowConsumer` it raises at once, because its
    reader is the one who is slow. The order within each feed is kept. Feeds that have ended and
    were read to the end are forgotten. All connects to one address go at the pace that its venue
    allows, whichever feeds they are for.

    `clock` stamps events; `rng` draws jitter, masks and keys (default: the operating system's), and
    each feed gets a generator of its own, forked from it. `fetch` is the way to REST for venues
    that have none of their own (default: httpx). Leaving the block closes the connections
    politely; leaving it with an exception or a cancellation drops them at once, and the exception
    leaves as it was. Either way nothing runs afterwards.
    """

    def __init__(
        self,
        *,
        config: FeedConfig | None = None,
        policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES,
        clock: Clock | None = None,
        rng: Random | None = None,
        fetch: Fetcher | None = None,
    ) -> None:
        super().__init__()
        self._config = config or FeedConfig()
        self._policies = policies
        self._clock = clock or SystemClock()
        self._rng = rng or SystemRandom()
        self._fetch = fetch
        self._gates: dict[str, RestGate] = {}
        self._feeds: list[Feed] = []
        self._running: set[Feed] = set()
        self._paces: dict[tuple[str, int], Pacer] = {}  # of connects, by address
        self._exit = contextlib.AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._change = trio.Event()
        self._turn = -1
        self._closed = False
        self._begun = False
        self._error: FeedError | None = None
        self._slow: SlowConsumer | None = None

    def __repr__(self) -> str:
        return f"<FeedHandler feeds={len(self._feeds)} running={len(self._running)}>"

    async def __aenter__(self) -> FeedHandler:
        if self._nursery is not None:
            raise UsageError("this handler was used already; make a new FeedHandler()")
        if self._fetch is None:
            # Entered before the nursery, so that it is open as long as any feed runs.
            self._fetch = await self._exit.enter_async_context(HttpxFetcher(clock=self._clock))
        self._nursery = await self._exit.enter_async_context(open_plain_nursery())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._closed = True
        if error is None:
            self._exit.push_async_callback(self.aclose)
        return await self._exit.__aexit__(kind, error, traceback)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        return tuple(self._feeds)

    def add(
        self,
        venue: Venue,
        symbols: Iterable[str],
        *,
        channels: Sequence[str] | None = None,
        config: FeedConfig | None = None,
        token: str | TokenProvider | None = None,
        headers: Sequence[tuple[str, str]] = (),
        ssl_context: ssl.SSLContext | None = None,
        tap: Tap | None = None,
    ) -> Feed:
        """Start a feed of `symbols` (the venue's canonical names, ``BTC-USD``) and return it.

        `channels` are some of `venue.channels` (default: its first). `tap` sees what is sent and
        received. Raises `ConfigError` before anything is connected.
        """
        if self._nursery is None:
            raise UsageError("enter the handler first: `async with FeedHandler() as handler:`")
        if self._closed:
            raise UsageError("this handler is closed; make a new FeedHandler()")
        if not isinstance(venue, Venue):
            raise ConfigError(
                "venue", venue, "is not a venue",
                mend="use a value that fits feedhandler.abc.Venue, such as Coinbase()",
            )  # fmt: skip
        subscriptions = check_subscriptions(venue, symbols, channels)
        endpoint = _endpoint(ssl_context, venue)
        feed = Feed(
            venue,
            endpoint=partial(_endpoint, ssl_context),
            config=config or self._config,
            policies=self._policies,
            token=token,
            headers=headers,
            clock=self._clock,
            rng=fork_rng(self._rng),
            on_change=self._notify,
            wanted=subscriptions,
            gate=self._gate(venue, subscriptions[0]),
            admit=self._admission(venue, endpoint),
            tap=tap,
        )
        self._forget_finished()
        self._begun = True
        self._feeds.append(feed)
        self._running.add(feed)
        feed.start()
        self._nursery.start_soon(self._run, feed)
        return feed

    async def aclose(self) -> None:
        """Close all feeds politely and wait until they are. When cancelled, drops them at once."""
        self._closed = True
        for feed in tuple(self._running):
            feed.close()
        while self._running:
            await self._change.wait()
        await trio.lowlevel.checkpoint()

    # --- the merged stream ---

    def batches(self) -> AsyncIterator[list[Event]]:
        """Iterate over lists of events, each of one feed's read: the fast way."""
        return Iteration(self._take_batch)

    async def _take_batch(self) -> list[Event] | None:
        if self._current or not self._feeds or any(f.main_subscriber.ready for f in self._feeds):
            await trio.lowlevel.checkpoint()  # else the wait below is one
        if self._current:
            return self._rest()
        if not (self._feeds or self._closed or self._begun):
            raise UsageError("there is nothing to read yet: `handler.add(venue, symbols)` first")
        while True:
            change = self._change
            if any(feed.main_subscriber.finished for feed in self._feeds):
                self._forget_finished()
            for _ in self._feeds if self._slow is None else ():
                # Each look begins one feed later, so that none is starved.
                self._turn = (self._turn + 1) % len(self._feeds)
                events = self._feeds[self._turn].main_subscriber.take(self._current)
                if events is not None:
                    return events
            if self._slow is not None or not self._feeds:
                # They may have ended because everything is being cancelled.
                await trio.lowlevel.checkpoint_if_cancelled()
                error: FeedError | None
                if self._slow is not None:
                    error, self._slow = self._slow, None
                else:
                    error, self._error = self._error, None
                if error is not None:
                    raise error
                return None
            await change.wait()

    def _forget_finished(self) -> None:
        """Let go of the feeds that have ended and were read to the end; keep the first error."""
        for feed in self._feeds:
            if feed.main_subscriber.finished:
                error = feed.main_subscriber.error
                if isinstance(error, SlowConsumer):
                    self._slow = self._slow or error
                else:
                    self._error = self._error or error
        self._feeds = [feed for feed in self._feeds if not feed.main_subscriber.finished]

    # --- inside ---

    def _admission(self, venue: Venue, endpoint: Endpoint) -> Callable[[], Awaitable[None]] | None:
        """What waits until one more connection may be made to that address."""
        bucket = connect_bucket(traits_of(venue).limits)
        if bucket is None:
            return None
        target = endpoint.target
        return self._paces.setdefault((target.host, target.port), Pacer(bucket)).turn

    def _gate(self, venue: Venue, subscription: Subscription) -> RestGate | None:
        """The way to the venue's REST interface, which all its feeds share."""
        if not isinstance(venue, SnapshotVenue):
            return None
        fetch = venue.fetch or self._fetch
        if fetch is None:
            raise UsageError("enter the handler first: `async with FeedHandler() as handler:`")
        if isinstance(fetch, HttpxFetcher):
            check_httpx()
        host = urlsplit(venue.snapshot_url(subscription)).netloc
        if host not in self._gates:
            self._gates[host] = RestGate(
                fetch,
                traits_of(venue).limits,
                backoff=self._config.backoff,
                rng=fork_rng(self._rng),
                policies=self._policies,
                clock=self._clock,
            )
        return self._gates[host]

    async def _run(self, feed: Feed) -> None:
        try:
            await feed.run()
        finally:
            self._running.discard(feed)
            self._notify()

    def _notify(self) -> None:
        change, self._change = self._change, trio.Event()
        change.set()


def _endpoint(ssl_context: ssl.SSLContext | None, venue: Venue) -> Endpoint:
    return Endpoint.of(venue.url, venue.dial or dial_tcp, ssl_context)


@contextlib.asynccontextmanager
async def open_feed(
    venue: Venue,
    symbols: Iterable[str],
    *,
    channels: Sequence[str] | None = None,
    config: FeedConfig | None = None,
    policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES,
    token: str | TokenProvider | None = None,
    headers: Sequence[tuple[str, str]] = (),
    ssl_context: ssl.SSLContext | None = None,
    clock: Clock | None = None,
    rng: Random | None = None,
    fetch: Fetcher | None = None,
    tap: Tap | None = None,
) -> AsyncIterator[Feed]:
    """A feed of `symbols` from `venue`, for as long as the block lasts.

    ```python
    async with open_feed(Coinbase(), ["BTC-USD"], channels=["trades"]) as feed:
        async for event in feed:
            ...
    ```

    It connects in the background, and connects again when the connection is lost. `channels` are
    some of `venue.channels` (default: its first); `config` holds every setting. `token` is a
    bearer token, or an async function that gives one and is asked anew before each attempt. A venue
    that needs the list of its instruments, and has none yet, gets it first (`load_instruments()`,
    which also keeps it in a file); REST goes through the venue's own `fetch`, or `fetch`, or httpx.
    `tap` sees what is sent, received and fetched, as it is; see `feedhandler.recorder`.

    Raises `ConfigError` before anything is connected. An exception of the block leaves it as it
    was and never causes a reconnect; cancelling it drops the connection at once.
    """
    if isinstance(venue, ListedVenue) and venue.instruments is None:
        venue = await load_instruments(venue, fetch=fetch, clock=clock, rng=rng, tap=tap)
    async with FeedHandler(
        config=config, policies=policies, clock=clock, rng=rng, fetch=fetch
    ) as handler:
        yield handler.add(
            venue, symbols, channels=channels, token=token, headers=headers,
            ssl_context=ssl_context, tap=tap,
        )  # fmt: skip
