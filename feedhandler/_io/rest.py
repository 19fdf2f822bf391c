"""REST: one way to fetch, and a gate before it that keeps the venue's pace and its silences."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from attrs import evolve

from feedhandler._core.backoff import ReconnectionState, Retry
from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy
from feedhandler._core.fetching import failure_of, refusal_of, shown_url
from feedhandler._core.pace import TokenBucket
from feedhandler._io.clock import SystemClock
from feedhandler._io.dial import dial_tcp
from feedhandler.abc import Clock, Dialer, Fetcher, HttpResponse
from feedhandler.config import BackoffConfig
from feedhandler.errors import (
    AnswerTooLarge,
    ConfigError,
    ConnectionFailed,
    FailureKind,
    FetchFailed,
    HandshakeTimeout,
    UsageError,
)
from feedhandler.traits import Limits

if TYPE_CHECKING:
    from feedhandler._io.http import HttpClient

__all__ = ["HttpxFetcher", "RestGate", "check_httpx"]

_AT_ONCE = 4  # requests of one gate that are under way together


def check_httpx() -> None:
    """Raises `ConfigError` where httpx is not installed; says how to install it."""
    try:
        import feedhandler._io.http  # noqa: F401  # whether it can be imported is the question
    except ModuleNotFoundError as error:
        if error.name not in {"httpx", "httpcore"}:
            raise
        raise ConfigError(
            "fetch", None, "REST needs the package httpx, which is not installed",
            mend="install feedhandler[rest], or give the venue a `fetch` of its own",
        ) from error  # fmt: skip


class HttpxFetcher:
    """Fetches over HTTP with httpx: a `Fetcher`, and an async context manager that owns the client.

    ```python
    async with HttpxFetcher() as fetch:
        with trio.fail_after(10):
            response = await fetch("https://api.exchange.example/products", max_bytes=2**20)
    ```

    Answers may be compressed (gzip): the limit is on the inflated size, and holds while inflating.
    Certificates are verified, by `ssl_context` or what the system trusts. Up to 3 redirects are
    followed on the same host, port and scheme; one to another is an error, and so is an answer that
    breaks off. Nothing is read from the environment: no proxies, no credentials.

    httpx is imported by the first call, which raises `ConfigError` where it is missing. Cancelling
    a call drops its connection; leaving the block closes those that are kept for 5 s.
    """

    def __init__(
        self,
        *,
        dial: Dialer = dial_tcp,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._dial = dial
        self._ssl_context = ssl_context
        self._clock = clock or SystemClock()
        self._client: HttpClient | None = None
        self._entered = self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._client else "idle"
        return f"<HttpxFetcher {state}>"

    async def __aenter__(self) -> HttpxFetcher:
        if self._entered:
            raise UsageError("this fetcher was used already; make a new HttpxFetcher()")
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __call__(self, url: str, /, *, max_bytes: int) -> HttpResponse:
        shown = shown_url(url)
        return await self._opened().get(url, shown=shown, max_bytes=max_bytes)

    def _opened(self) -> HttpClient:
        if not self._entered or self._closed:
            raise UsageError("enter the fetcher first: `async with HttpxFetcher() as fetch:`")
        if self._client is None:
            check_httpx()
            from feedhandler._io.http import HttpClient

            ssl_context = self._ssl_context or ssl.create_default_context()
            self._client = HttpClient(self._dial, ssl_context, self._clock)
        return self._client


class RestGate:
    """Lets requests to one venue through at its pace, in the order of asking.

    Half of what `limits` allow in a minute may go at once, and the rest is spread over the minute,
    so that no minute has more, where no request weighs more than that half. Four are under way
    together at most.

    HTTP 429 and 418, and any answer with ``Retry-After``, close the gate for everybody for as long
    as the venue asks, or as the failure table says; so do other answers that aren't, errors of the
    server and of the network, by `backoff`. After a failure one request goes alone, until one was
    answered. What the venue refuses for good (`is_final()`) or sends too large closes nothing.
    """

    def __init__(
        self,
        fetch: Fetcher,
        limits: Limits,
        *,
        backoff: BackoffConfig,
        rng: Random,
        policies: Mapping[FailureKind, FailurePolicy] = DEFAULT_POLICIES,
        clock: Clock | None = None,
    ) -> None:
        self._fetch = fetch
        allowed = limits.requests_per_minute
        self._bucket = None if allowed is None else TokenBucket(allowed / 120, allowed / 2)
        self._cap_s = backoff.cap_s
        # For ever: whoever asks decides when it is enough.
        self._failures = ReconnectionState(evolve(backoff, max_retries=0), policies)
        self._rng = rng
        self._clock = clock or SystemClock()
        self._turn = trio.StrictFIFOLock()
        self._under_way = 0
        self._landed = trio.Event()
        self._round = 0
        self._closed_until = 0.0

    def __repr__(self) -> str:
        failures = self._failures.attempt_count
        return f"<RestGate under_way={self._under_way} failures={failures}>"

    @property
    def closed_until(self) -> float:
        """Nothing goes before this moment of trio's clock, which may be past."""
        return self._closed_until

    async def get(
        self, url: str, *, weight: float = 1.0, max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """Wait for a turn and ask once; return what was answered with 200.

        Raises `FetchFailed` for any other answer, for none within `deadline_s` seconds (the wait
        included), and for one of more than `max_bytes`. It asks once: another try is another call,
        and waits as long as the gate wants. When cancelled it has taken no turn, or drops it.
        """
        shown = shown_url(url)
        begun: int | None = None
        with trio.move_on_after(deadline_s):
            await self._take_turn(weight)
            begun = self._round
            try:
                response = await self._ask(url, shown, max_bytes)
            except FetchFailed as error:
                failure = failure_of(error)
                if failure is not None:
                    self._failed(failure, begun)
                raise
            finally:
                self._land()
            if begun == self._round:
                self._failures.proved()
            return response
        late = f"no answer within {deadline_s:g} s"
        if begun is not None:
            self._failed(HandshakeTimeout(deadline_s), begun)
            raise FetchFailed(shown, late)
        closed_s = self._closed_until - trio.current_time()
        if closed_s > 0:
            raise FetchFailed(
                shown, f"{late}: nothing may be asked for another {closed_s:.3g} s",
                retry_after_s=closed_s,
            )  # fmt: skip
        raise FetchFailed(shown, f"{late}: others were before it, at the pace the venue allows")

    async def _take_turn(self, weight: float) -> None:
        await self._turn.acquire()
        try:
            while True:
                now = trio.current_time()
                if self._under_way >= (1 if self._failures.attempt_count else _AT_ONCE):
                    await self._landed.wait()
                    continue
                ready = self._bucket.ready_at(weight, now) if self._bucket else now
                if max(ready, self._closed_until) <= now:
                    break
                await trio.sleep_until(max(ready, self._closed_until))
            if self._bucket is not None:
                self._bucket.take(weight, now)
            self._under_way += 1
        finally:
            self._turn.release()

    async def _ask(self, url: str, shown: str, max_bytes: int) -> HttpResponse:
        response = await self._fetch(url, max_bytes=max_bytes)
        now_s = self._clock.time_ns() / 10**9
        refusal = refusal_of(shown, response, now_s=now_s)
        if refusal is not None:
            raise refusal
        if len(response.body) > max_bytes:
            raise AnswerTooLarge(shown, max_bytes, status=response.status)
        return response

    def _land(self) -> None:
        self._under_way -= 1
        landed, self._landed = self._landed, trio.Event()
        landed.set()

    def _failed(self, failure: ConnectionFailed, begun: int) -> None:
        """Close the gate for as long as `failure` asks; count what fails together as one."""
        wait_s: float = getattr(failure, "retry_after_s", None) or 0.0
        if begun == self._round:
            self._round += 1
            verdict = self._failures.failed(failure, rng=self._rng)
            wait_s = verdict.delay_s if isinstance(verdict, Retry) else max(self._cap_s, wait_s)
        self._closed_until = max(self._closed_until, trio.current_time() + wait_s)
