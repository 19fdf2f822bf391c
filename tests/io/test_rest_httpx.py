"""REST over real sockets on loopback: what servers do, and that nothing is left open."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import ssl
import struct
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest
import trio
import trio.testing
import trustme
from attrs import define, field

from feedhandler import (
    AnswerTooLarge,
    BackoffConfig,
    ConfigError,
    ConnectionRefused,
    FetchFailed,
    HttpxFetcher,
    NameResolutionFailed,
    TlsFailed,
    UsageError,
)
from feedhandler._io.rest import RestGate
from feedhandler.abc import DialTarget, HttpResponse
from feedhandler.traits import Limits

BODY = json.dumps({"lastUpdateId": 1, "bids": [["1.10", "2"]] * 50}).encode()
Answer = Callable[[trio.abc.Stream], Awaitable[None]]


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def head(status: str = "200 OK", **headers: object) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@define
class Loopback:
    """A server that answers each request by what stands for its path."""

    answers: dict[str, bytes | Answer]
    url: str = ""
    requests: list[bytes] = field(factory=list)
    open_streams: int = 0
    accepted: int = 0
    most_open: int = 0
    left: trio.Event = field(factory=trio.Event)
    asked: trio.Event = field(factory=trio.Event)

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.open_streams += 1
        self.accepted += 1
        self.most_open = max(self.most_open, self.open_streams)
        try:
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._answer_all(stream)
        finally:
            self.open_streams -= 1
            self.left.set()

    async def _answer_all(self, stream: trio.abc.Stream) -> None:
        received = b""
        async for data in stream:
            received += data
            while b"\r\n\r\n" in received:
                request, _, received = received.partition(b"\r\n\r\n")
                self.requests.append(request)
                self.asked.set()
                answer = self.answers[request.split()[1].decode().partition("?")[0]]
                if isinstance(answer, bytes):
                    await stream.send_all(answer)
                else:
                    await answer(stream)

    async def all_left(self) -> None:
        """Wait until every connection was closed from the other side."""
        with trio.fail_after(5):
            while self.open_streams:
                self.left = trio.Event()
                await self.left.wait()


@contextlib.asynccontextmanager
async def loopback(
    server_ssl: ssl.SSLContext | None = None, **answers: bytes | Answer
) -> AsyncIterator[Loopback]:
    server = Loopback({f"/{name}": answer for name, answer in answers.items()})

    async def handle(stream: trio.SocketStream) -> None:
        if server_ssl is None:
            return await server.serve(stream)
        tls = trio.SSLStream(stream, server_ssl, server_side=True, https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError):
            await tls.do_handshake()
            return await server.serve(tls)
        await trio.aclose_forcefully(tls)
        return None

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            server.url = f"{'http' if server_ssl is None else 'https'}://127.0.0.1:{port}"
            nursery.start_soon(trio.serve_listeners, handle, listeners)
            yield server
            nursery.cancel_scope.cancel()
    gc.collect()  # what was left open is a ResourceWarning, which is an error here


async def failure(server: Loopback, path: str = "/x", *, max_bytes: int = 10**6) -> FetchFailed:
    async with HttpxFetcher() as fetch:
        with pytest.raises(FetchFailed) as caught:
            await fetch(f"{server.url}{path}", max_bytes=max_bytes)
        if isinstance(caught.value, AnswerTooLarge):
            await server.all_left()  # already now: what is still to come is not wanted
    await server.all_left()
    return caught.value


async def forever(stream: trio.abc.Stream) -> None:
    async for _ in stream:
        pass  # until the other side leaves


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        head(Content_Length=len(BODY)) + BODY,
        head(Transfer_Encoding="chunked") + chunked(BODY[:7], BODY[7:8], BODY[8:]),
        head(Content_Length=len(gzipped(BODY)), Content_Encoding="gzip") + gzipped(BODY),
        head(Transfer_Encoding="chunked", Content_Encoding="GZIP")
        + chunked(*(bytes([byte]) for byte in gzipped(BODY))),
        # two members, one after the other, are one body (RFC 1952, 2.2)
        head(Transfer_Encoding="chunked", Content_Encoding="gzip")
        + chunked(gzipped(BODY[:9]) + gzipped(BODY[9:])),
    ],
    ids=["length", "chunked", "gzip", "gzip byte by byte", "gzip in two members"],
)
async def test_a_body_comes_whole_however_it_is_sent(answer: bytes) -> None:
    async with loopback(x=answer) as server, HttpxFetcher() as fetch:
        for limit in (10**6, len(BODY)):  # as large as is allowed is not too large
            response = await fetch(f"{server.url}/x?a=1", max_bytes=limit)
            assert (response.status, response.body) == (200, BODY)
    assert server.requests[0].startswith(b"GET /x?a=1 HTTP/1.1")
    assert b"accept-encoding: gzip\r\n" in server.requests[0].lower() + b"\r\n"


async def test_a_body_that_ends_with_the_connection_comes_whole() -> None:
    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(head(Connection="close") + BODY)
        await stream.aclose()

    async with loopback(x=answer) as server, HttpxFetcher() as fetch:
        assert (await fetch(f"{server.url}/x", max_bytes=10**6)).body == BODY


async def test_an_error_page_is_given_as_it_came() -> None:
    page = b"<html>busy</html>"
    said = head("503 Busy", Content_Length=len(page), Retry_After=7) + page
    async with loopback(x=said) as server, HttpxFetcher() as fetch:
        response = await fetch(f"{server.url}/x", max_bytes=1000)
        assert (response.status, response.body) == (503, page)
        assert ("retry-after", "7") in response.headers


async def test_the_gate_makes_an_error_page_an_error_with_the_venue_s_words() -> None:
    page = b"<html>busy</html>"
    said = head("503 Busy", Content_Length=len(page), Retry_After=7) + page
    async with loopback(x=said) as server, HttpxFetcher() as fetch:
        gate = RestGate(fetch, Limits(), backoff=BackoffConfig(), rng=Random(1))
        with pytest.raises(FetchFailed, match=r"HTTP 503.*busy") as caught:
            await gate.get(f"{server.url}/x", max_bytes=1000, deadline_s=5)
        assert caught.value.retry_after_s == 7


# --- too large -----------------------------------------------------------------------------------


async def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    answer = head(Content_Length=len(bomb), Content_Encoding="gzip") + bomb
    async with loopback(x=answer) as server:
        tracemalloc.start()
        try:
            error = await failure(server, max_bytes=2**20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(error, AnswerTooLarge)
    assert "over the limit of 1,048,576 bytes" in str(error)
    assert error.status == 200
    assert peak < 16 * 2**20


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_body_without_an_end_is_cut_off_at_the_limit(encoding: str) -> None:
    # Empty members never grow when they are inflated; what comes is bounded as well.
    piece = gzipped(b"") * 500 if encoding == "gzip" else bytes(10_000)
    sent = 0

    async def answer(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.send_all(
            head("429 Slow", Transfer_Encoding="chunked", Content_Encoding=encoding, Retry_After=9)
        )
        while True:
            await stream.send_all(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent += len(piece)

    async with loopback(x=answer) as server:
        error = await failure(server, max_bytes=50_000)
    assert isinstance(error, AnswerTooLarge)
    assert error.limit == 50_000
    assert (error.status, error.retry_after_s) == (429, 9)
    assert sent < 20 * 2**20  # what fits into the kernel's buffers, and no more


# --- no whole answer -----------------------------------------------------------------------------


def reset(*, after: bytes) -> Answer:
    async def answer(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        await stream.send_all(after)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    return answer


def end(*, after: bytes) -> Answer:
    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(after)
        await stream.aclose()

    return answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (reset(after=head(Content_Length=5) + b"12"), "no whole answer"),
        (reset(after=b""), "no whole answer"),
        (end(after=b""), "no whole answer: Server disconnected"),
        (end(after=b"HTTP/1.1 200 O"), "no whole answer"),
        (end(after=head(Content_Length=5) + b"12"), "no whole answer: peer closed"),
        (end(after=head(Transfer_Encoding="chunked") + b"5\r\n12"), "no whole answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no whole answer"),
        (head(X="y" * 200_000), "no whole answer"),
        (head(Transfer_Encoding="chunked") + b"zz\r\n", "no whole answer"),
        (head(Content_Length=4, Content_Encoding="gzip") + b"text", "the body is not gzip"),
        (
            head(Content_Length=30, Content_Encoding="gzip") + gzipped(BODY)[:30],
            "the body's gzip data is cut off",
        ),
        (head(Content_Length=1, Content_Encoding="br") + b"x", "'br' was not asked for"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(answer: bytes | Answer, told: str) -> None:
    async with loopback(x=answer) as server:
        error = await failure(server)
    assert told in error.detail


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with HttpxFetcher() as fetch:
            with pytest.raises(FetchFailed) as caught:
                await fetch(f"http://127.0.0.1:{port}/", max_bytes=1)
    assert isinstance(caught.value.__cause__, ConnectionRefused)


async def test_errors_of_a_dialer_are_kept_as_the_cause() -> None:
    async def dial(target: DialTarget) -> trio.abc.Stream:
        raise NameResolutionFailed(f"{target.host} does not resolve")

    async with HttpxFetcher(dial=dial) as fetch:
        with pytest.raises(FetchFailed, match=r"a\.example does not resolve") as caught:
            await fetch("http://a.example/", max_bytes=1)
    assert isinstance(caught.value.__cause__, NameResolutionFailed)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://u:hunter2@h/", "http://", "http://[", "http://h:hunter2/", "http://h\n/",
     "http://user:hunter2", "http:///x?token=hunter2"],
)  # fmt: skip
async def test_what_is_no_url_is_an_error_without_its_credentials(url: str) -> None:
    async with HttpxFetcher() as fetch:
        with pytest.raises(FetchFailed) as caught, trio.fail_after(5):
            await fetch(url, max_bytes=1)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


async def test_credentials_are_sent_and_never_shown() -> None:
    async with loopback(x=reset(after=b"")) as server:
        url = server.url.replace("//", "//user:hunter2@") + "/x?symbol=A&apikey=hunter2"
        async with HttpxFetcher() as fetch:
            with pytest.raises(FetchFailed) as caught:
                await fetch(url, max_bytes=1)
    assert b"apikey=hunter2" in server.requests[0]
    assert "symbol=A&apikey=***" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


# --- redirects -----------------------------------------------------------------------------------


def redirect(location: str, status: str = "302 Found") -> bytes:
    return head(status, Location=location, Content_Length=0)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_on_the_same_host_is_followed(status: str) -> None:
    to = head(Content_Length=2) + b"ok"
    async with loopback(x=redirect("/y?z=1", status), y=to) as server, HttpxFetcher() as fetch:
        assert (await fetch(f"{server.url}/x", max_bytes=10)).body == b"ok"


async def test_a_redirect_elsewhere_is_not_followed() -> None:
    async with loopback(y=head(Content_Length=2) + b"ok") as elsewhere:
        for location in (
            f"{elsewhere.url}/y",  # another port
            elsewhere.url.replace("127.0.0.1", "127.0.0.2") + "/y",
            "//localhost/y",
            "https://127.0.0.1/y",
            "file:///etc/passwd",
        ):
            async with loopback(x=redirect(location)) as server:
                error = await failure(server)
            assert "redirects to another host" in error.detail
            assert error.status == 302
    assert elsewhere.accepted == 0


async def test_a_redirect_in_a_circle_ends() -> None:
    async with loopback(x=redirect("/x")) as server, HttpxFetcher() as fetch:
        with pytest.raises(FetchFailed, match="redirects more than 3 times"):
            await fetch(f"{server.url}/x", max_bytes=10)
    assert len(server.requests) == 4


async def test_a_redirect_to_nonsense_is_an_error() -> None:
    async with loopback(x=redirect("http://[")) as server, HttpxFetcher() as fetch:
        with pytest.raises(FetchFailed):
            await fetch(f"{server.url}/x", max_bytes=10)


# --- connections ---------------------------------------------------------------------------------


async def test_a_connection_is_used_again_and_closed_with_the_block() -> None:
    async with loopback(x=head(Content_Length=2) + b"ok") as server:
        async with HttpxFetcher() as fetch:
            for _ in range(3):
                await fetch(f"{server.url}/x", max_bytes=10)
            assert (server.accepted, server.open_streams) == (1, 1)
        await server.all_left()


async def test_a_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    answer = end(after=head(Content_Length=2) + b"ok")
    async with loopback(x=answer) as server, HttpxFetcher() as fetch:
        for _ in range(3):
            assert (await fetch(f"{server.url}/x", max_bytes=10)).body == b"ok"
            await server.all_left()
    assert server.accepted == 3


@pytest.mark.parametrize(
    "answer",
    [
        forever,
        head(Content_Length=100) + b"1",
        head(Transfer_Encoding="chunked") + chunked(b"12")[:7],
        b"HTTP/1.1 200",
    ],
    ids=["before the answer", "in the body", "in a chunk", "in the head"],
)
async def test_cancelling_leaves_nothing_open(answer: bytes | Answer) -> None:
    async with loopback(x=answer) as server, HttpxFetcher() as fetch:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    await fetch(f"{server.url}/x", max_bytes=1000)

                nursery.start_soon(ask)
                await server.asked.wait()
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        await server.all_left()


async def test_the_block_can_be_left_by_cancellation() -> None:
    async with loopback(x=head(Content_Length=2) + b"ok", y=forever) as server:
        with trio.move_on_after(0.2):
            async with HttpxFetcher() as fetch:
                await fetch(f"{server.url}/x", max_bytes=10)
                await fetch(f"{server.url}/y", max_bytes=10)
        await server.all_left()


async def test_a_slow_answer_is_cut_by_the_deadline_of_the_gate() -> None:
    async with loopback(x=forever) as server, HttpxFetcher() as fetch:
        gate = RestGate(fetch, Limits(), backoff=BackoffConfig(), rng=Random(1))
        with pytest.raises(FetchFailed, match=r"no answer within 0\.1 s"):
            await gate.get(f"{server.url}/x", max_bytes=10, deadline_s=0.1)
        await server.all_left()


async def test_many_at_once_are_answered_each_with_its_own() -> None:
    answers = {f"p{n}": head(Content_Length=2) + b"%02d" % n for n in range(20)}
    got: dict[int, bytes] = {}
    async with loopback(**answers) as server, HttpxFetcher() as fetch:

        async def ask(number: int) -> None:
            got[number] = (await fetch(f"{server.url}/p{number}", max_bytes=10)).body

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
    assert got == {n: b"%02d" % n for n in range(20)}
    assert server.most_open <= 8


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_https_with_a_certificate_that_is_trusted(authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    answer = head(Content_Length=2) + b"ok"
    async with (
        loopback(server_context(authority), x=answer) as server,
        HttpxFetcher(ssl_context=trusting) as fetch,
    ):
        for _ in range(2):
            assert (await fetch(f"{server.url}/x", max_bytes=10)).body == b"ok"
    assert server.accepted == 1


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_with_a_certificate_that_is_wrong(authority: trustme.CA, trusted: bool) -> None:
    context = ssl.create_default_context()
    if trusted:
        authority.configure_trust(context)
    name = "other.example" if trusted else "127.0.0.1"
    async with (
        loopback(server_context(authority, name), x=head(Content_Length=0)) as server,
        HttpxFetcher(ssl_context=context) as fetch,
    ):
        with pytest.raises(FetchFailed, match="certificate") as caught:
            await fetch(f"{server.url}/x", max_bytes=10)
    assert isinstance(caught.value.__cause__, TlsFailed)
    assert not server.requests


async def test_certificates_are_verified_unless_told_otherwise(authority: trustme.CA) -> None:
    answer = head(Content_Length=0)
    async with loopback(server_context(authority), x=answer) as server, HttpxFetcher() as fetch:
        with pytest.raises(FetchFailed, match="certificate"):
            await fetch(f"{server.url}/x", max_bytes=10)


async def test_cancelling_in_the_tls_handshake_leaves_nothing_open() -> None:
    ended = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            greeted.set()
            async for _ in stream:
                pass
            ended.set()

    greeted = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, silent, listeners)
            async with HttpxFetcher() as fetch, trio.open_nursery() as asking:

                async def ask() -> None:
                    await fetch(f"https://127.0.0.1:{port}/", max_bytes=1)

                asking.start_soon(ask)
                await greeted.wait()
                await trio.testing.wait_all_tasks_blocked()
                asking.cancel_scope.cancel()
            await ended.wait()
            nursery.cancel_scope.cancel()
    gc.collect()


# --- what is not taken from elsewhere ------------------------------------------------------------


async def test_nothing_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with loopback(x=head(Content_Length=2) + b"ok") as server, HttpxFetcher() as fetch:
        assert (await fetch(f"{server.url}/x", max_bytes=10)).body == b"ok"


async def test_no_cookies_are_kept() -> None:
    answer = head(Content_Length=2, Set_Cookie="a=b; Path=/") + b"ok"
    async with loopback(x=answer) as server, HttpxFetcher() as fetch:
        for _ in range(2):
            await fetch(f"{server.url}/x", max_bytes=10)
    assert b"cookie" not in server.requests[1].lower()


async def test_streams_come_from_the_dialer() -> None:
    async with trio.open_nursery() as nursery:
        server = Loopback({"/x": head(Content_Length=2) + b"ok"})
        targets = []

        async def dial(target: DialTarget) -> trio.abc.Stream:
            targets.append(target)
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve, theirs)
            return ours

        async with HttpxFetcher(dial=dial) as fetch:
            response = await fetch("http://venue.example/x", max_bytes=10)
            assert response == HttpResponse(200, response.headers, b"ok")
        await server.all_left()
    assert targets == [DialTarget("venue.example", 80)]


# --- use -----------------------------------------------------------------------------------------


async def test_a_fetcher_works_inside_its_block_only() -> None:
    fetch = HttpxFetcher()
    with pytest.raises(UsageError, match="async with HttpxFetcher"):
        await fetch("http://127.0.0.1/", max_bytes=1)
    async with fetch:
        assert repr(fetch) == "<HttpxFetcher idle>"
    with pytest.raises(UsageError, match="async with HttpxFetcher"):
        await fetch("http://127.0.0.1/", max_bytes=1)
    with pytest.raises(UsageError, match="new HttpxFetcher"):
        await fetch.__aenter__()
    assert repr(fetch) == "<HttpxFetcher closed>"


async def test_without_httpx_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "feedhandler._io.http", raising=False)
    monkeypatch.delattr("feedhandler._io.http", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    async with HttpxFetcher() as fetch:
        with pytest.raises(ConfigError, match=r"install feedhandler\[rest\]"):
            await fetch("http://127.0.0.1/", max_bytes=1)
