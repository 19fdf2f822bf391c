"""Inflating a compressed payload, whole and within a bound."""

from __future__ import annotations

import zlib
from typing import Literal

from feedhandler.errors import ConfigError, DecodeError

__all__ = ["Compression", "Inflator", "check_compression"]

Compression = Literal["none", "gzip", "zlib", "deflate"]

# What zlib is told of the wrapper: RFC 1952, RFC 1950, and the bare RFC 1951.
_WINDOW_BITS = {
    "gzip": 16 + zlib.MAX_WBITS,
    "zlib": zlib.MAX_WBITS,
    "deflate": -zlib.MAX_WBITS,
}


def check_compression(name: object, value: object) -> None:
    """Raise `ConfigError` where `value` is no `Compression`."""
    if value != "none" and value not in _WINDOW_BITS:
        raise ConfigError(
            str(name), value, "is no compression",
            mend=f"use one of {['none', *_WINDOW_BITS]}",
        )  # fmt: skip


class Inflator:
    """Inflates payloads of `compression`, each a whole stream, to at most `limit` bytes.

    The bound holds while a payload is inflated, not after: one that would grow beyond it (a
    "bomb") costs no more memory than `limit`.
    """

    def __init__(
        self, compression: Literal["gzip", "zlib", "deflate"], *, limit: int, venue: str
    ) -> None:
        self._window_bits = _WINDOW_BITS[compression]
        self._compression = compression
        self._limit = limit
        self._venue = venue

    def inflate(self, payload: bytes) -> bytes:
        """Raises `DecodeError` for what is corrupt, cut off, too large, or followed by more."""
        stream = zlib.decompressobj(self._window_bits)
        try:
            inflated = stream.decompress(payload, self._limit + 1)
        except zlib.error as error:
            raise self._refuse(payload, f"not {self._compression}: {error}") from error
        if len(inflated) > self._limit:
            raise self._refuse(payload, f"inflates to more than {self._limit} bytes")
        if not stream.eof:
            raise self._refuse(payload, f"the {self._compression} data is cut off")
        if stream.unused_data:
            extra = len(stream.unused_data)
            raise self._refuse(payload, f"{extra} bytes follow the {self._compression} data")
        return inflated

    def _refuse(self, payload: bytes, problem: str) -> DecodeError:
        return DecodeError(self._venue, payload, [("$", problem)])
