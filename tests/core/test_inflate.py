"""Inflating: what was deflated comes back; everything else is a `DecodeError`, within the bound."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import DecodeError
from feedhandler._core.inflate import Inflator

Format = Literal["gzip", "zlib", "deflate"]
FORMATS: tuple[Format, ...] = ("gzip", "zlib", "deflate")


def deflated(data: bytes, form: Format) -> bytes:
    bits = {"gzip": 31, "zlib": 15, "deflate": -15}[form]
    stream = zlib.compressobj(wbits=bits)
    return stream.compress(data) + stream.flush()


def inflator(form: Format, limit: int = 1000) -> Inflator:
    return Inflator(form, limit=limit, venue="v")


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.binary(max_size=1000))
def test_what_was_deflated_comes_back(form: Format, data: bytes) -> None:
    assert inflator(form).inflate(deflated(data, form)) == data


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_inflated_or_refused(form: Format, data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert len(inflator(form).inflate(data)) <= 1000


@pytest.mark.parametrize("form", FORMATS)
def test_every_cut_is_refused(form: Format) -> None:
    whole = deflated(b'{"type":"price"}' * 5, form)
    for length in range(len(whole)):
        with pytest.raises(DecodeError):
            inflator(form).inflate(whole[:length])


@pytest.mark.parametrize("form", FORMATS)
def test_what_follows_is_refused(form: Format) -> None:
    with pytest.raises(DecodeError, match="3 bytes follow"):
        inflator(form).inflate(deflated(b"x", form) + b"abc")


@pytest.mark.parametrize("form", FORMATS)
def test_the_bound_is_exact(form: Format) -> None:
    assert len(inflator(form).inflate(deflated(bytes(1000), form))) == 1000
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        inflator(form).inflate(deflated(bytes(1001), form))


def test_a_bomb_costs_no_memory() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="more than 100000 bytes"):
            inflator("gzip", limit=100_000).inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_corrupt_checksum_is_refused() -> None:
    whole = bytearray(gzip.compress(b"65000.10"))
    whole[-6] ^= 1
    with pytest.raises(DecodeError, match="incorrect data check"):
        inflator("gzip").inflate(bytes(whole))
