"""Payloads that the venue compresses by itself, through a session and through a whole feed."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from trio.testing import MockClock

from feedhandler import (
    ConfigError,
    DecodeError,
    DecodeFailed,
    FeedStateChanged,
    Gap,
    GapReason,
    PriceUpdate,
    PriceVenue,
    open_feed,
)
from feedhandler.abc import Heartbeat, ResumableSession
from feedhandler_testing import MockWebSocketServer, VirtualClock, price_message

TEXT = price_message("A", "65000.10", 0)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("compression", "deflate"),
    [("gzip", gzip.compress), ("zlib", zlib.compress), ("deflate", raw_deflate)],
)
def test_binary_messages_are_inflated_and_text_is_taken_as_it_is(
    compression: Any, deflate: Any
) -> None:
    session = PriceVenue("ws://host/", compression=compression).session()
    assert isinstance(session, ResumableSession)
    (update,) = session.decode(deflate(TEXT.encode()), recv_ns=5, epoch=2)
    assert isinstance(update, PriceUpdate)
    assert str(update.price) == "65000.10"
    (update,) = session.decode(price_message("A", "1.0", 1), recv_ns=5, epoch=2)
    assert isinstance(update, PriceUpdate)
    assert session.decode(deflate(b'{"type":"heartbeat"}'), recv_ns=5, epoch=2) == [Heartbeat()]
    assert session.last_sequence("A") == 1
    with pytest.raises(DecodeError):
        session.decode(TEXT.encode(), recv_ns=5, epoch=2)


def test_what_inflates_beyond_the_bound_is_refused() -> None:
    venue = PriceVenue("ws://host/", compression="gzip", max_inflated_bytes=1000)
    bomb = gzip.compress(TEXT.encode() + b" " * 1000)
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        venue.session().decode(bomb, recv_ns=5, epoch=2)


@pytest.mark.parametrize(
    "settings", [{"compression": "brotli"}, {"compression": None}, {"max_inflated_bytes": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PriceVenue("ws://host/", **settings)


async def test_a_feed_of_compressed_prices_survives_a_corrupt_one(
    autojump_clock: MockClock,
) -> None:
    async with MockWebSocketServer() as server:
        venue = PriceVenue(server.url, dial=server.dial, compression="gzip")
        async with open_feed(venue, ["A"], clock=VirtualClock()) as feed:
            connection = await server.next_connection()
            await connection.receive()
            await connection.send_many(
                [
                    gzip.compress(price_message("A", "1.5", 0).encode()),
                    gzip.compress(price_message("A", "1.5", 1).encode())[:-9],
                    gzip.compress(price_message("A", "1.5", 2).encode()),
                ]
            )
            events = [await anext(feed) for _ in range(7)]
    assert [type(event) for event in events if not isinstance(event, FeedStateChanged)] == [
        PriceUpdate, DecodeFailed, Gap, Gap, PriceUpdate
    ]  # fmt: skip
    reasons = [event.reason for event in events if isinstance(event, Gap)]
    assert reasons == [GapReason.MALFORMED, GapReason.SEQUENCE]
