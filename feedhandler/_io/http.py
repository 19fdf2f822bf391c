"""HTTP through httpx, on trio: the only module that imports httpx and httpcore.

httpx speaks the protocol; what it speaks over is what a `Dialer` gives, as everywhere here. Its own
way to dial leaves a socket open where it is cancelled in the middle of the TLS handshake.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx
import trio

from feedhandler._core.fetching import Body
from feedhandler._core.upgrade import retry_after_s
from feedhandler._io.dial import dial_errors, start_tls
from feedhandler.abc import Clock, Dialer, DialTarget, HttpResponse
from feedhandler.errors import AnswerTooLarge, ConnectionFailed, FetchFailed

__all__ = ["HttpClient"]

_MAX_REDIRECTS = 3
_MAX_CONNECTIONS = 8
_KEPT_CONNECTIONS = 4
_KEPT_S = 5.0
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip", "User-Agent": "feedhandler"}


class HttpClient:
    """Gets URLs with httpx, over streams from `dial`.

    No time-out is its own, nothing comes from the environment (proxies, certificates, `.netrc`),
    and no cookies are kept.
    """

    def __init__(self, dial: Dialer, ssl_context: ssl.SSLContext, clock: Clock) -> None:
        self._clock = clock
        self._client = httpx.AsyncClient(
            transport=_Transport(dial, ssl_context),
            timeout=None,  # noqa: S113  # time-outs wrap from outside
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers=_HEADERS,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def get(self, url: str, *, shown: str, max_bytes: int) -> HttpResponse:
        """What `url` was answered with; errors name it as `shown`. Raises `FetchFailed`."""
        with _fetch_errors(shown):
            request = self._client.build_request("GET", url)
            for _ in range(_MAX_REDIRECTS + 1):
                response = await self._client.send(request, stream=True)
                async with contextlib.aclosing(response):
                    following = response.next_request
                    if following is None:
                        return await self._read(response, shown=shown, max_bytes=max_bytes)
                if _origin(following.url) != _origin(request.url):
                    raise FetchFailed(
                        shown,
                        f"it redirects to another host, {following.url.scheme}://"
                        f"{following.url.host}, which is not followed",
                        status=response.status_code,
                    )
                request = following
            raise FetchFailed(shown, f"it redirects more than {_MAX_REDIRECTS} times")

    async def _read(self, response: httpx.Response, *, shown: str, max_bytes: int) -> HttpResponse:
        headers = tuple(response.headers.multi_items())
        try:
            encoding = response.headers.get("content-encoding", "").strip().lower()
            body = Body(encoding=encoding, limit=max_bytes)
            if not await _feed(body, response):
                now_s = self._clock.time_ns() / 10**9
                raise AnswerTooLarge(
                    shown,
                    max_bytes,
                    status=response.status_code,
                    retry_after_s=retry_after_s(headers, now_s=now_s),
                )
            return HttpResponse(response.status_code, headers, body.whole())
        except ValueError as error:
            raise FetchFailed(shown, str(error)) from error


async def _feed(body: Body, response: httpx.Response) -> bool:
    """Give the whole of what comes to `body`; false where that is too much for it.

    Below are several async generators, one in the other, of which only the outermost could be
    closed; trio warns of each that is left. So they are run to their ends, which come at once when
    the stream is cut.
    """
    whole, problem = True, None
    try:
        async for piece in response.aiter_raw():
            if not whole or problem is not None:
                continue
            try:
                whole = body.feed(piece)
            except ValueError as error:
                problem = error
            if not whole or problem is not None:
                response.extensions["network_stream"].cut()
    except httpcore.ReadError:
        if whole and problem is None:
            raise
    if problem is not None:
        raise problem
    return whole


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@contextlib.contextmanager
def _fetch_errors(shown: str) -> Iterator[None]:
    """Turn what dialling, httpx and httpcore raise into `FetchFailed`: one table for all."""
    try:
        yield
    except FetchFailed:
        raise
    except ConnectionFailed as error:  # of the dialer
        raise FetchFailed(shown, str(error)) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpcore.UnsupportedProtocol):
        # Their texts quote parts of the URL, which may be secret.
        raise FetchFailed(shown, "this is not the URL of a REST interface") from None
    except (
        httpx.HTTPError,
        httpx.StreamError,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        OSError,
        trio.BrokenResourceError,
    ) as error:
        what = str(error) or type(error).__name__
        raise FetchFailed(shown, f"no whole answer: {what[:200]}") from error


# --- below httpx ---------------------------------------------------------------------------------


class _Transport(httpx.AsyncBaseTransport):
    """Gives httpx' requests to a pool of connections that come from `dial`."""

    def __init__(self, dial: Dialer, ssl_context: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_KEPT_S,
            network_backend=_Network(dial),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Answer(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Answer(httpx.AsyncByteStream):
    """The body of httpcore's answer, as httpx wants to read it."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._answer.stream
        if isinstance(stream, AsyncIterable):  # the synchronous kind is not for this pool
            async for piece in stream:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    """Where httpcore's streams come from."""

    def __init__(self, dial: Dialer) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._dial(DialTarget(host, port)), host, port)


class _Stream(httpcore.AsyncNetworkStream):
    """A stream of trio's for httpcore, which needs its own errors in order to clean up."""

    def __init__(self, stream: trio.abc.Stream, host: str, port: int) -> None:
        self._stream = stream
        self._host = host
        self._port = port
        self._is_cut = False

    def cut(self) -> None:
        """Read nothing more: what comes is not wanted."""
        self._is_cut = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._is_cut:
            raise httpcore.ReadError("the rest is not wanted")
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError("the connection was lost") from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError("the connection was lost") from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        host = server_hostname or self._host
        with dial_errors(DialTarget(self._host, self._port)):
            tls = await start_tls(self._stream, ssl_context, host)
        return _Stream(tls, self._host, self._port)

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        stream = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        # An idle connection with something to read was closed by the venue.
        return isinstance(stream, trio.SocketStream) and stream.socket.is_readable()
