"""The order books of the plain price JSON: requests, levels, checksums, refusals."""

from __future__ import annotations

import contextlib
import json
import zlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import (
    BookDelta,
    BookSnapshot,
    ConfigError,
    DecodeError,
    Gap,
    GapReason,
    PriceVenue,
    Trust,
)
from feedhandler.abc import (
    BookSession,
    BookVenue,
    Malformed,
    Refused,
    Resync,
    Session,
    Subscribed,
    Subscription,
    Synced,
    Unsubscribed,
)
from feedhandler_testing import MockBook, price_message

PRICE = PriceVenue("ws://host/")
A = Subscription("book", "A")


def fast(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))


def decode(session: Session, message: object) -> list[Any]:
    text = message if isinstance(message, str | bytes) else fast(message)
    return list(session.decode(text, recv_ns=5, epoch=2))


def mock_book() -> MockBook:
    return MockBook("A", {"65000.10": "1.50", "64999": "2"}, {"65000.2": "0.00000001"}, sequence=7)


def test_a_price_venue_has_books() -> None:
    assert isinstance(PRICE, BookVenue)
    assert isinstance(PRICE.session(), BookSession)
    assert (PRICE.channels, PRICE.book_channels) == (("price", "book"), ("book",))


def test_requests_name_the_channel_of_books_alone() -> None:
    wanted = [Subscription("price", "A"), A, Subscription("price", "B"), Subscription("book", "C")]
    assert PRICE.subscribe(wanted) == [
        '{"type":"subscribe","symbols":["A","B"]}',
        '{"type":"subscribe","channel":"book","symbols":["A","C"]}',
    ]
    assert PRICE.unsubscribe(wanted[1:2]) == [
        '{"type":"unsubscribe","channel":"book","symbols":["A"]}'
    ]


def test_answers_name_the_channel() -> None:
    session = PRICE.session()
    named = {"channel": "book", "symbols": ["A"]}
    assert decode(session, {"type": "subscribed", **named}) == [Subscribed([A])]
    refused = {"type": "error", "channel": "book", "symbol": "A", "message": "no"}
    assert decode(session, refused) == [Refused(A, "no")]
    decode(session, mock_book().snapshot())
    assert session.book_image("A") is not None
    assert decode(session, {"type": "unsubscribed", **named}) == [Unsubscribed([A])]
    assert (session.book_image("A"), session.last_book_sequence("A")) == (None, None)


def test_levels_keep_the_digits_that_were_sent() -> None:
    session, book = PRICE.session(), mock_book()
    snapshot, synced = decode(session, book.snapshot())
    assert isinstance(snapshot, BookSnapshot)
    assert [[*map(str, level)] for level in snapshot.bids] == [["65000.10", "1.50"], ["64999", "2"]]
    assert snapshot.asks == ((Decimal("65000.2"), Decimal("0.00000001")),)
    assert (snapshot.sequence, snapshot.recv_ns, snapshot.epoch) == (7, 5, 2)
    assert snapshot.venue_time_ns == 1_700_000_000_000_000_000
    assert (snapshot.venue, snapshot.trust, synced) == ("price", Trust.VERIFIED, Synced(A))
    (delta,) = decode(session, book.delta({"64999": "0", "65000.1": "3"}))
    assert isinstance(delta, BookDelta)
    assert delta.bids == ((Decimal("65000.1"), 3), (Decimal(64999), 0)), "best first"
    image = session.book_image("A")
    assert image is not None
    assert (image.sequence, image.bids) == (8, ((Decimal("65000.1"), 3),))
    assert session.last_book_sequence("A") == 8


def test_the_checksum_covers_the_best_ten_of_each_side() -> None:
    book = MockBook(
        "A", {f"{n}.0": "1" for n in range(1, 16)}, {f"{n}.50": "2.0" for n in range(20, 35)}
    )
    bids = "|".join(f"{n}.0:1" for n in range(15, 5, -1))
    asks = "|".join(f"{n}.50:2.0" for n in range(20, 30))
    assert book.snapshot()["checksum"] == zlib.crc32(f"{bids}|{asks}".encode())
    session = PRICE.session()
    assert decode(session, book.snapshot())[0].trust is Trust.VERIFIED
    (deep,) = decode(session, book.delta({"2.0": "9"}))
    assert deep.trust is Trust.VERIFIED
    gap, resync = decode(session, {**book.delta(), "checksum": 0})
    assert (gap.reason, resync) == (GapReason.CHECKSUM, Resync(A))


def test_a_book_that_is_too_deep_is_not_kept() -> None:
    session = PriceVenue("ws://host/", book_levels=2).session()
    gap, resync = decode(session, MockBook("A", {"1": "1", "2": "1", "3": "1"}).snapshot())
    assert (gap.reason, resync) == (GapReason.DEPTH, Resync(A))
    assert session.book_image("A") is None


@pytest.mark.parametrize("levels", [0, True, 1.5])
def test_a_depth_that_is_none_is_refused(levels: Any) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PriceVenue("ws://host/", book_levels=levels)


def test_books_and_prices_count_apart_and_mix_in_one_read() -> None:
    session, book = PRICE.session(), mock_book()
    decode(session, book.snapshot())
    decode(session, price_message("A", "1", 1))
    messages = [price_message("A", "1", 2), fast(book.delta()), price_message("A", "1", 3)]
    assert len(session.decode_plain(messages, 0, recv_ns=1, epoch=1)) == 1
    assert [type(item) for item in decode(session, messages[1])] == [BookDelta]
    assert len(session.decode_plain(messages, 2, recv_ns=1, epoch=1)) == 1


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        ({"sequence": -1}, "$.sequence", "negative"),
        ({"sequence": "7"}, "$.sequence", "expected a whole number"),
        ({"time": -1}, "$.time", "negative"),
        ({"time": "soon"}, "$.time", "not an RFC 3339 time"),
        ({"checksum": -1}, "$.checksum", "not an unsigned number of 32 bits"),
        ({"checksum": 2**32}, "$.checksum", "not an unsigned number of 32 bits"),
        ({"bids": [["1"]]}, "$.bids[0]", "expected a price and a size, got 1 values"),
        ({"bids": [["1", "1", "1"]]}, "$.bids[0]", "expected a price and a size, got 3 values"),
        ({"bids": ["12"]}, "$.bids[0]", "expected a list, got a string"),
        ({"bids": [["0", "1"]]}, "$.bids[0]", "a price of 0"),
        ({"bids": [["1", "0"]]}, "$.bids[0]", "a size of 0 in a snapshot"),
        ({"bids": [["1", "-1"]]}, "$.bids[0][1]", "negative"),
        ({"asks": [["99999", "1"], ["NaN", "1"]]}, "$.asks[1][0]", "not a finite"),
        ({"asks": [["1e999", "1"]]}, "$.asks[0][0]", "out of range"),
        ({"asks": [["99999", "1_0"]]}, "$.asks[0][1]", "not a finite"),
        ({"asks": [["99999", "1"], ["99999.0", "2"]]}, "$.asks", "occurs twice"),
        ({"asks": None}, "$.asks", "expected a list, got null"),
    ],
)
def test_what_is_wrong_is_named_and_the_book_is_suspect(
    change: dict[str, Any], path: str, told: str
) -> None:
    message = {**mock_book().snapshot(), **change}
    with pytest.raises(DecodeError) as caught:
        decode(PRICE.session(), message)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert told in str(caught.value)
    session = PRICE.session()
    decode(session, mock_book().snapshot())
    gap, resync, malformed = decode(session, message)
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.reason, gap.of_book) == ("A", GapReason.MALFORMED, True)
    assert resync == Resync(A)
    assert isinstance(malformed, Malformed)
    assert malformed.announced
    assert session.book_image("A") is None


def test_an_empty_symbol_is_refused() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode(PRICE.session(), {**mock_book().snapshot(), "symbol": ""})


_AMOUNT = st.sampled_from(["1", "2.50", "0.00000001", "0", "1e2", "-1", "NaN", " 1", "1_0", "٣"])
_SIDE = st.lists(st.tuples(_AMOUNT | st.integers(0, 9), _AMOUNT | st.integers(0, 3)), max_size=4)
_MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["snapshot", "delta"]),
        "symbol": st.sampled_from(["A", "A", "A", "B", ""]),
        "sequence": st.integers(-1, 12),
        "bids": _SIDE,
        "asks": _SIDE,
        "time": st.sampled_from([1, 1, 1, "2026-08-09T13:59:08Z", "x"]),
    },
    optional={"checksum": st.none() | st.integers(-1, 3), "new": st.text(max_size=3)},
)


def outcome(session: Session, message: str | bytes) -> object:
    try:
        return [
            item for item in session.decode(message, recv_ns=1, epoch=1)
            if not isinstance(item, Malformed)
        ]  # fmt: skip
    except DecodeError as error:
        return [problem.path for problem in error.problems]


@given(messages=st.lists(_MESSAGES, max_size=12))
def test_the_fast_way_and_the_strict_one_agree(messages: list[dict[str, Any]]) -> None:
    one, two, three = PRICE.session(), PRICE.session(), PRICE.session()
    for message in messages:
        expected = outcome(one, json.dumps(message))  # its blanks keep it from the fast way
        assert outcome(two, fast(message)) == expected
        assert outcome(three, fast(message).encode()) == expected


@given(
    message=st.fixed_dictionaries(
        {"type": st.sampled_from(["snapshot", "delta", 5])},
        optional={
            name: st.none() | st.integers() | st.text(max_size=3) | st.lists(st.lists(st.text()))
            for name in ("symbol", "sequence", "bids", "asks", "time", "checksum")
        },
    )
)
def test_any_message_gives_items_or_a_decode_error(message: dict[str, Any]) -> None:
    session = PRICE.session()
    decode(session, mock_book().snapshot())
    for text in (fast(message), json.dumps(message), fast(message)[:-3]):
        with contextlib.suppress(DecodeError):
            decode(session, text)
