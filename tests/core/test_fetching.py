"""Answers over REST: bodies within their bound, and what each failure asks of the next request."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import ConnectionLost, FailureKind, FetchFailed, NameResolutionFailed
from feedhandler._core.fetching import Body, failure_of, refusal_of, refuses_one, shown_url
from feedhandler.abc import HttpResponse

URL = "https://api.example/x"


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, begin = [], 0
    for size in sizes:
        pieces.append(data[begin : begin + size])
        begin += size
    return [*pieces, data[begin:]]


@given(
    st.lists(st.binary(max_size=3000), max_size=4),
    st.lists(st.integers(0, 200), max_size=30),
    st.booleans(),
    st.integers(-5, 5),
)
def test_a_body_is_whole_up_to_its_limit_however_it_is_cut(
    parts: list[bytes], sizes: list[int], packed: bool, more: int
) -> None:
    content = b"".join(parts)
    limit = max(0, len(content) + more)
    sent = b"".join(map(gzipped, parts)) if packed else content
    body = Body(encoding="gzip" if packed else "", limit=limit)
    fits = all(body.feed(piece) for piece in pieces_of(sent, sizes))
    assert fits is (len(content) <= limit)
    if fits:
        assert body.whole() == content


@given(st.binary(max_size=500), st.integers(0, 500), st.integers(0, 50))
def test_any_bytes_are_a_body_or_a_problem_and_never_more_than_the_limit(
    noise: bytes, cut: int, limit: int
) -> None:
    body = Body(encoding="gzip", limit=limit)
    with contextlib.suppress(ValueError):
        fits = body.feed(gzipped(noise)[:cut] + noise)
        assert not fits or len(body.whole()) <= limit


@given(st.binary(min_size=1, max_size=300), st.data())
def test_gzip_that_is_cut_off_is_a_problem(content: bytes, data: st.DataObject) -> None:
    packed = gzipped(content)
    end = data.draw(st.integers(1, len(packed) - 1))
    body = Body(encoding="gzip", limit=1000)
    assert body.feed(packed[:end])
    with pytest.raises(ValueError, match="cut off"):
        body.whole()


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_an_encoding_that_was_not_asked_for_is_a_problem(encoding: str) -> None:
    with pytest.raises(ValueError, match="not asked for"):
        Body(encoding=encoding, limit=10)


def test_an_empty_body_needs_no_gzip() -> None:
    assert Body(encoding="gzip", limit=10).whole() == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (None, FailureKind.RESET),
        (200, None), (204, FailureKind.REJECTED), (302, FailureKind.REJECTED),
        (400, None), (401, FailureKind.REJECTED), (403, FailureKind.REJECTED), (404, None),
        (408, FailureKind.REJECTED), (418, FailureKind.RATE_LIMITED), (422, None),
        (425, FailureKind.REJECTED), (429, FailureKind.RATE_LIMITED),
        (451, FailureKind.REJECTED), (500, FailureKind.REJECTED), (503, FailureKind.REJECTED),
    ],
)  # fmt: skip
def test_what_a_status_means_for_those_who_ask_next(
    status: int | None, kind: FailureKind | None
) -> None:
    failure = failure_of(FetchFailed(URL, "x", status=status))
    assert (None if failure is None else failure.kind) is kind


@pytest.mark.parametrize(
    ("status", "one"),
    [
        (400, True),
        (404, True),
        (401, False),
        (403, False),
        (418, False),
        (429, False),
        (500, False),
    ],
)
def test_a_refusal_of_who_asks_is_none_of_what_was_asked_for(status: int, one: bool) -> None:
    assert refuses_one(FetchFailed(URL, "x", status=status)) is one


def test_a_wish_to_be_left_alone_is_kept_whatever_the_status() -> None:
    for status in (404, 429, 503):
        failure = failure_of(FetchFailed(URL, "x", status=status, retry_after_s=9.0))
        assert getattr(failure, "retry_after_s", None) == 9.0


def test_a_cause_that_the_table_knows_is_kept() -> None:
    error = FetchFailed(URL, "x")
    error.__cause__ = cause = NameResolutionFailed("x")
    assert failure_of(error) is cause
    error.__cause__ = ValueError("x")
    assert isinstance(failure_of(error), ConnectionLost)


def test_a_refusal_has_the_status_the_words_and_the_wait() -> None:
    said = HttpResponse(503, [("Retry-After", "7")], b"<html>" + b"x" * 1000)
    error = refusal_of(URL, said, now_s=0.0)
    assert error is not None
    assert (error.status, error.retry_after_s, error.url) == (503, 7.0, URL)
    assert error.body == said.body[:200]
    assert refusal_of(URL, HttpResponse(200), now_s=0.0) is None


@pytest.mark.parametrize(
    "url",
    ["", "x", "http://", "http://[", "http://h:hunter2/", "ftp://h/hunter2", "http://h:0/hunter2"],
)
def test_nothing_is_shown_of_what_is_no_url_of_rest(url: str) -> None:
    assert shown_url(url) == "***"


@given(st.text(max_size=30))
def test_any_text_can_be_shown(text: str) -> None:
    assert isinstance(shown_url(f"http://{text}"), str)
