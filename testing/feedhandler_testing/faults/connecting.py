"""Faults before there is a connection: dialling, TLS and the opening handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import trio
from attrs import field, frozen
from attrs.validators import optional

from feedhandler.errors import ConnectionRefused, NameResolutionFailed
from feedhandler_testing.checks import (
    at_least,
    header_pairs,
    http_status,
    latin_1,
    not_negative,
    one_of,
    positive,
)
from feedhandler_testing.faults.base import Act, Fault, Layer
from feedhandler_testing.handshake import http_response
from feedhandler_testing.streams import reset_stream

if TYPE_CHECKING:
    from feedhandler_testing.connection import MockWebSocketConnection

__all__ = [
    "CutHandshake",
    "DelayHandshake",
    "ExpireToken",
    "GarbageHandshake",
    "HangDial",
    "HangHandshake",
    "HtmlPage",
    "NameFailure",
    "OversizedHeaders",
    "Refuse",
    "Reject",
    "TlsFailure",
    "WrongAccept",
]

_PAGE = b"<html><body>Service temporarily moved</body></html>"


@frozen
class NameFailure(Fault):
    """The name does not resolve."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    async def dial(self, act: Act) -> None:
        raise NameResolutionFailed("the mock's name does not resolve")


@frozen
class Refuse(Fault):
    """The connection is refused."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    async def dial(self, act: Act) -> None:
        raise ConnectionRefused("the mock refused the connection")


@frozen
class HangDial(Fault):
    """Dialling takes `for_s` seconds (0: never ends), and then goes on."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    for_s: float = field(default=0.0, validator=not_negative)

    async def dial(self, act: Act) -> None:
        await trio.sleep(self.for_s or float("inf"))


@frozen
class TlsFailure(Fault):
    """TLS fails: an ``untrusted`` or ``expired`` certificate, one for the ``wrong_host``, or it
    ``ends`` in mid-stream.

    On a server with TLS the certificate is a real one; elsewhere the dialer fails as it would.
    """

    layer: ClassVar[Layer] = Layer.CONNECTING

    how: Literal["untrusted", "expired", "wrong_host", "ends"] = field(
        default="untrusted", validator=one_of(("untrusted", "expired", "wrong_host", "ends"))
    )

    def certificate(self, act: Act) -> str | None:
        return self.how


@frozen
class HangHandshake(Fault):
    """The stream opens, and the opening handshake is never answered."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        while await stream.receive_some(65_536):
            pass  # the client's patience ends it


@frozen
class DelayHandshake(Fault):
    """The 101 comes a byte at a time, one each `each_s` seconds, and stops before its end."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    each_s: float = field(default=0.5, validator=positive)

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        for byte in answer[:-1]:
            await stream.send_all(bytes([byte]))
            await trio.sleep(self.each_s)


@frozen
class CutHandshake(Fault):
    """The stream `how`: ``end``s or is ``reset``, before the 101 or `inside` it."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    how: Literal["end", "reset"] = field(default="end", validator=one_of(("end", "reset")))
    inside: bool = False

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        if self.inside:
            await stream.send_all(answer[: len(answer) // 2])
        if self.how == "reset":
            reset_stream(stream)


@frozen
class WrongAccept(Fault):
    """The 101 has a Sec-WebSocket-Accept that does not fit the key."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        mark = b"sec-websocket-accept: "
        at = answer.lower().index(mark) + len(mark)
        await stream.send_all(answer[:at] + b"AAAA" + answer[at + 4 :])


@frozen
class GarbageHandshake(Fault):
    """The answer is not HTTP."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        await stream.send_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")


@frozen
class OversizedHeaders(Fault):
    """The head of the response has `size` bytes of headers, and no end."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    size: int = field(default=200_000, validator=positive)

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n" + line * (self.size // 1000))


@frozen
class Reject(Fault):
    """An HTTP response other than 101.

    `retry_after_s`, in seconds, becomes the header ``Retry-After`` (RFC 9110, section 10.2.3).
    """

    layer: ClassVar[Layer] = Layer.CONNECTING

    status: int = field(validator=http_status)
    retry_after_s: int | None = field(default=None, kw_only=True, validator=optional(at_least(0)))
    headers: tuple[tuple[str, str], ...] = field(default=(), kw_only=True, validator=header_pairs)
    body: str = field(default="", kw_only=True, validator=latin_1)

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        headers = list(self.headers)
        if self.retry_after_s is not None:
            headers.append(("Retry-After", str(self.retry_after_s)))
        await stream.send_all(http_response(self.status, headers, self.body.encode("latin-1")))


@frozen
class ExpireToken(Fault):
    """The bearer token expires: the connection is reset, and from now on another is demanded."""

    layer: ClassVar[Layer] = Layer.VENUE
    cuts: ClassVar[bool] = True

    async def strike(self, act: Act, connection: MockWebSocketConnection) -> None:
        act.world.rotate_token()
        await connection.wait_received()
        connection.drop()


@frozen
class HtmlPage(Fault):
    """An HTML page, as a proxy or a firewall sends it, with this status."""

    layer: ClassVar[Layer] = Layer.CONNECTING

    status: int = field(default=200, validator=http_status)

    async def handshake(self, act: Act, stream: trio.abc.Stream, answer: bytes) -> None:
        headers = [("Content-Type", "text/html")]
        await stream.send_all(http_response(self.status, headers, _PAGE))
