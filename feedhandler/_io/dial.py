"""Dialling over TCP and TLS: the default way in which the network comes in."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import trio

from feedhandler.abc import DialTarget
from feedhandler.errors import (
    ConnectionLost,
    ConnectionRefused,
    NameResolutionFailed,
    TlsFailed,
)

__all__ = ["dial_errors", "dial_tcp", "start_tls"]


async def dial_tcp(target: DialTarget) -> trio.abc.Stream:
    """Open a TCP stream to `target`, with TLS where it has an SSL context.

    Addresses are tried in parallel (RFC 8305, by trio). Raises `NameResolutionFailed`,
    `ConnectionRefused`, `TlsFailed` or `ConnectionLost`. When cancelled it leaves nothing open.
    """
    with dial_errors(target):
        stream = await trio.open_tcp_stream(target.host, target.port)
        if target.ssl_context is None:
            return stream
        return await start_tls(stream, target.ssl_context, target.host)


async def start_tls(
    stream: trio.abc.Stream, ssl_context: ssl.SSLContext, host: str
) -> trio.abc.Stream:
    """Speak TLS with `host` over `stream`, which is closed where that fails or is cancelled."""
    tls = trio.SSLStream(stream, ssl_context, server_hostname=host, https_compatible=True)
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return tls


@contextlib.contextmanager
def dial_errors(target: DialTarget) -> Iterator[None]:
    """Turn what the operating system and TLS raise into our errors: one table for all dialers."""
    where = f"{target.host}:{target.port}"
    try:
        yield
    except socket.gaierror as error:
        raise NameResolutionFailed(f"{target.host} does not resolve: {error}") from error
    except ssl.SSLError as error:
        raise TlsFailed(f"TLS with {where} failed: {error}") from error
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            detail = error.__cause__.verify_message
            raise TlsFailed(f"the certificate of {where} is not valid: {detail}") from error
        if isinstance(error.__cause__, ssl.SSLError) and not isinstance(
            error.__cause__, ssl.SSLEOFError
        ):
            raise TlsFailed(f"TLS with {where} failed: {error.__cause__}") from error
        raise ConnectionLost(f"{where} went away while TLS was being set up") from error
    except OSError as error:
        reasons = list(_reasons(error))
        if all(isinstance(reason, ConnectionRefusedError) for reason in reasons):
            raise ConnectionRefused(f"{where} refused the connection") from error
        told = "; ".join(dict.fromkeys(str(reason) for reason in reasons))
        raise ConnectionRefused(f"{where} cannot be reached: {told}") from error


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Why dialling failed: trio wraps the errors of the addresses that it has tried."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        for one in cause.exceptions:
            yield from _reasons(one)
    elif cause is not None:
        yield from _reasons(cause)
    else:
        yield error
