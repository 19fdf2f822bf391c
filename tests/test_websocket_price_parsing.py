"""From frames to exact prices, and what becomes of everything that is not one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from feedhandler import (
    BackoffConfig,
    ConnectionConfig,
    DecodeError,
    DecodeFailed,
    Feed,
    FeedConfig,
    FeedStateChanged,
    MessageTooLarge,
    PriceParser,
    PriceUpdate,
    PriceVenue,
    ProtocolViolation,
    Side,
    WebSocketClient,
    open_feed,
)
from feedhandler._core.frames import Opcode, encode_frame
from feedhandler_testing import MockWebSocketServer, VirtualClock, price_message

GOOD: dict[str, Any] = {
    "type": "price",
    "symbol": "BTC-USD",
    "price": "65083.67",
    "size": "0.00102",
    "side": "sell",
    "sequence": 17,
    "time": 1_786_309_548_228_568_804,
}
# No burst of bad messages ends a connection here, and no breaker acts.
PATIENT = FeedConfig(breaker=None, decode_burst=1000)


def with_(**fields: object) -> str:
    return json.dumps({**GOOD, **fields})


@pytest.fixture
async def server() -> AsyncIterator[MockWebSocketServer]:
    async with MockWebSocketServer() as mock:
        yield mock


def open_prices(server: MockWebSocketServer, **settings: Any) -> Any:
    venue = PriceVenue(server.url, dial=server.dial)
    return open_feed(venue, ["BTC-USD"], **{"config": PATIENT, "clock": VirtualClock(), **settings})


async def read(feed: Feed, count: int) -> list[PriceUpdate | DecodeFailed]:
    events: list[PriceUpdate | DecodeFailed] = []
    async for event in feed:
        if isinstance(event, PriceUpdate | DecodeFailed):
            events.append(event)
            if len(events) == count:
                break
    return events


async def test_valid_price_message_parsing(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    async with open_prices(server) as feed:
        connection = await server.next_connection()
        await trio.sleep(2.5)
        await connection.send(json.dumps(GOOD))
        (update,) = await read(feed, 1)
    assert update == PriceUpdate(
        symbol="BTC-USD",
        price=Decimal("65083.67"),
        size=Decimal("0.00102"),
        side=Side.SELL,
        sequence=17,
        venue_time_ns=1_786_309_548_228_568_804,
        recv_ns=VirtualClock().epoch_ns + 2_500_000_000,
        venue="price",
        epoch=1,
    )
    parser = PriceParser()
    for text in (json.dumps(GOOD), json.dumps(GOOD, indent=2), with_(unheard_of=[1, {"x": None}])):
        assert parser.parse_json(text).price == Decimal("65083.67")
        assert parser.parse_json(text.encode()).side is Side.SELL
    rfc3339 = parser.parse_json(with_(time="2026-08-09T21:05:48.228568804Z"))
    assert rfc3339.venue_time_ns == 1_786_309_548_228_568_804
    with_offset = parser.parse_json(with_(time="2026-08-09T23:05:48.5+02:00"))
    assert with_offset.venue_time_ns == 1_786_309_548_500_000_000


BROKEN_JSON: list[str | bytes] = [
    "",
    " ",
    "{",
    "}",
    "nul",
    '{"price":',
    '{"price":1,}',
    "{'price':1}",
    '{"price":1}{"price":2}',
    '{"price":NaN}',
    '{"price":01}',
    '{"price":1e}',
    '{"price":+1}',
    '{"a":"\n"}',
    '{"a":"\\x"}',
    '{"a":"\\ud8"}',
    "[" * 100_000,
    '{"a":' * 100_000,
    "<html><body>maintenance</body></html>",
    "[]",
    "42",
    '"text"',
    "null",
    "true",
    b"\xff\xfe{}",
    b'{"symbol":"\xff"}',
    b"\x00" * 20,
    b"\x81\x05hello",
    json.dumps(GOOD)[:-1],
    json.dumps(GOOD)[1:],
    json.dumps(GOOD).replace(",", ";"),
]


async def test_malformed_json_handling(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    parser = PriceParser()
    for broken in BROKEN_JSON:
        with pytest.raises(DecodeError) as caught:
            parser.parse_json(broken)
        raw = broken.encode() if isinstance(broken, str) else broken
        assert caught.value.path.startswith("$")
        assert caught.value.raw == raw[:256]
        assert len(str(caught.value)) < 600

    async with open_prices(server) as feed:
        connection = await server.next_connection()
        for number, broken in enumerate(BROKEN_JSON):
            await connection.send(broken)
            await connection.send(price_message("BTC-USD", f"{number}.5", number))
        events = await read(feed, 2 * len(BROKEN_JSON))
        failed = [event for event in events if isinstance(event, DecodeFailed)]
        good = [event.sequence for event in events if isinstance(event, PriceUpdate)]
        assert len(failed) == feed.statistics().decode_errors == len(BROKEN_JSON)
        assert good == list(range(len(BROKEN_JSON)))
        assert feed.statistics().connections == 1, "one bad message never ends the stream"


async def test_missing_required_fields() -> None:
    parser = PriceParser("acme")
    required = ["symbol", "price", "size", "side", "sequence", "time"]
    for name in required:
        message = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(DecodeError) as caught:
            parser.parse_json(json.dumps(message))
        assert caught.value.problems == ((f"$.{name}", f"missing: {name}"),)
        assert caught.value.venue == "acme"
    with pytest.raises(DecodeError) as caught:
        parser.parse_json("{}")
    assert [problem.path for problem in caught.value.problems] == [f"$.{n}" for n in required]
    without_type = {key: value for key, value in GOOD.items() if key != "type"}
    assert parser.parse_json(json.dumps(without_type)).sequence == 17


WRONG: dict[str, list[Any]] = {
    "price": [
        True, None, [], {}, "", "abc", "NaN", "nan", "Infinity", "-Infinity", "sNaN", "1,5", "0x10",
        "1_000", "_1", "1_", " 1", "1 ", "\t1", "\uff11", "\u0663", "1e", "--1", "-1", -1, -0.5,
        "-1e-9", "1e999999999", "1e-999999999", "0e999999",
    ],
    "size": [False, None, ["1"], "-0.1", -2, "NaN", "1_0"],
    "side": [True, None, 1, "BUY", "bid", "", [], {}],
    "symbol": [None, 5, "", True, ["BTC-USD"]],
    "sequence": ["17", 17.0, 1.5, True, None, -1, []],
    "time": ["", "yesterday", 1.5, True, None, -1, [], "2026-13-01T00:00:00Z", "2026-08-09"],
}  # fmt: skip


async def test_price_type_validation() -> None:
    parser = PriceParser()
    for name, values in WRONG.items():
        for value in values:
            # Once as the fast decoder sees it first, once with an underscore in the message.
            for extra in ({}, {"a_b": 1}):
                with pytest.raises(DecodeError) as caught:
                    parser.parse_json(
                        json.dumps({**GOOD, name: value, **extra}, ensure_ascii=False)
                    )
                assert [problem.path for problem in caught.value.problems] == [f"$.{name}"], value

    with pytest.raises(DecodeError) as caught:
        parser.parse_json(with_(price=None, size=True, side="up", sequence="x"))
    assert [p.path for p in caught.value.problems] == ["$.price", "$.size", "$.side", "$.sequence"]

    assert parser.validate_price(Decimal(0)) == 0
    for bad in ("NaN", "sNaN", "Infinity", "-Infinity", "-1", "1e401"):
        with pytest.raises(DecodeError, match=r"\$\.price"):
            parser.validate_price(Decimal(bad))


DIGITS = [
    "0.12345678",
    "65083.670000",
    "0.123456789012345678",
    "123456789.123456789012345678901234567890",
    "0.000000000000000000000000000001",
    "100000000000000000000000000000.000000000000000000000000000001",
    "1E-18",
    "1.50e3",
    "12E+4",
    "0",
    "0.00",
    "18446744073709551616",
    "0.1",
    "2.675",
]


async def test_decimal_precision_preservation(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    parser = PriceParser()
    for text in DIGITS:
        exact = Decimal(text).as_tuple()
        assert parser.preserve_precision(text).as_tuple() == exact
        for extra in ({}, {"a_b": 1}):
            as_string = with_(price=text, size=text, **extra)
            as_number = with_(price="@", size="@", **extra).replace('"@"', text)
            for message in (as_string, as_number):
                update = parser.parse_json(message)
                assert update.price.as_tuple() == exact, message
                assert update.size.as_tuple() == exact, message
    for text in ("+1", "1.", ".5"):
        strings = [parser.parse_json(with_(price=text, **e)).price for e in ({}, {"a_b": 1})]
        assert strings == [Decimal(text)] * 2
    for bad in ("", "1_0", "NaN", "\uff11", " 1", "1e", "0x1"):
        with pytest.raises(DecodeError):
            parser.preserve_precision(bad)

    async with open_prices(server) as feed:
        connection = await server.next_connection()
        await connection.send_many(
            [price_message("BTC-USD", text, n, size=text) for n, text in enumerate(DIGITS)]
        )
        updates = await read(feed, len(DIGITS))
    for text, received in zip(DIGITS, updates, strict=True):
        assert isinstance(received, PriceUpdate)
        assert received.price.as_tuple() == Decimal(text).as_tuple()


INVALID_FRAMES: dict[str, tuple[bytes, int]] = {
    "unknown data opcode": (encode_frame(0x3, b"x"), 1002),
    "unknown control opcode": (encode_frame(0xB, b"x"), 1002),
    "reserved bit 1": (encode_frame(Opcode.TEXT, b"x", rsv=4), 1002),
    "reserved bit 3": (encode_frame(Opcode.PING, b"x", rsv=1), 1002),
    "masked": (encode_frame(Opcode.TEXT, b"x", mask=b"\x01\x02\x03\x04"), 1002),
    "bad UTF-8": (encode_frame(Opcode.TEXT, b"\xff"), 1007),
    "bad UTF-8 in fragments": (
        encode_frame(Opcode.TEXT, b"\xe2\x82", fin=False) + encode_frame(0, b"x"),
        1007,
    ),
    "bad UTF-8 early in fragments": (encode_frame(Opcode.TEXT, b"\xff", fin=False), 1007),
    "fragmented ping": (encode_frame(Opcode.PING, b"x", fin=False), 1002),
    "long ping": (encode_frame(Opcode.PING, b"x" * 126), 1002),
    "continuation of nothing": (encode_frame(Opcode.CONTINUATION, b"x"), 1002),
    "length not minimal": (b"\x81\x7e\x00\x01x", 1002),
    "length with top bit": (b"\x81\x7f\xff" + bytes(7), 1002),
    "close of one byte": (encode_frame(Opcode.CLOSE, b"\x03"), 1002),
    "close with code 1005": (encode_frame(Opcode.CLOSE, b"\x03\xed"), 1002),
}


async def test_invalid_message_handling(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    for name, (frame, code) in INVALID_FRAMES.items():
        backoff = BackoffConfig(max_retries=1, jitter=False)
        async with WebSocketClient(server.url, dial=server.dial, backoff=backoff) as client:
            seen = client.transitions()
            await client.connect()
            connection = await server.next_connection()
            before = encode_frame(Opcode.TEXT, b"before")
            await connection.send_raw(before + frame + encode_frame(Opcode.TEXT, b"after"))
            await connection.wait_closed()
            assert connection.close_code == code, name
            async for step in seen:
                if step.error is not None:
                    break
            assert isinstance(step.error, ProtocolViolation), name
            assert step.error.code == code, name
            await (await server.next_connection()).send("from the next connection")
            assert await anext(client) == "before"
            assert await anext(client) == "from the next connection", name


async def test_frame_buffering(autojump_clock: MockClock, server: MockWebSocketServer) -> None:
    euro = "1 €".encode()
    stream = b"".join(
        [
            encode_frame(Opcode.TEXT, b"plain"),
            encode_frame(Opcode.TEXT, b"frag", fin=False),
            encode_frame(Opcode.PING, b"between"),
            encode_frame(Opcode.CONTINUATION, b"men", fin=False),
            encode_frame(Opcode.PONG, b"unasked"),
            encode_frame(Opcode.CONTINUATION, b"ted"),
            encode_frame(Opcode.TEXT, euro[:3], fin=False),
            encode_frame(Opcode.CONTINUATION, euro[3:]),
            encode_frame(Opcode.BINARY, b"\x00" * 200),
            encode_frame(Opcode.BINARY, b"", fin=False),
            encode_frame(Opcode.CONTINUATION, b""),
            encode_frame(Opcode.TEXT, b"last"),
        ]
    )
    expected = ["plain", "fragmented", "1 €", b"\x00" * 200, b"", "last"]
    async with WebSocketClient(server.url, dial=server.dial) as client:
        await client.connect()
        connection = await server.next_connection()
        for cut in range(1, len(stream)):
            await connection.send_raw(stream[:cut])
            await trio.testing.wait_all_tasks_blocked()
            await connection.send_raw(stream[cut:])
            assert [await anext(client) for _ in expected] == expected, cut
        for byte in stream:
            await connection.send_raw(bytes([byte]))
        assert [await anext(client) for _ in expected] == expected
        await trio.testing.wait_all_tasks_blocked()
        assert connection.pongs_received == len(stream), "each ping was answered"


async def test_large_message_handling(
    autojump_clock: MockClock, server: MockWebSocketServer
) -> None:
    config = ConnectionConfig(max_message_bytes=5 * 2**20)
    async with WebSocketClient(server.url, dial=server.dial, config=config) as client:
        seen = client.transitions()
        await client.connect()
        connection = await server.next_connection()
        for size in (65_535, 65_536, 100_000, 5 * 2**20):
            text = "x" * (size - 1) + "y"
            await connection.send(text)
            assert await anext(client) == text
        chunk = b"z" * 2**20
        await connection.send_frame(Opcode.BINARY, chunk, fin=False)
        for n in range(4):
            await connection.send_frame(Opcode.CONTINUATION, chunk, fin=n == 3)
        assert await anext(client) == chunk * 5

        # Over the limit: refused at the header, before its bytes come, in one frame or in many.
        for whole in (True, False):
            if whole:
                await connection.send_raw(b"\x82\x7f" + (5 * 2**20 + 1).to_bytes(8, "big"))
            else:
                await connection.send_frame(Opcode.BINARY, chunk * 4, fin=False)
                await connection.send_raw(b"\x00\x7f" + (2**20 + 1).to_bytes(8, "big"))
            await connection.wait_closed()
            assert connection.close_code == 1009
            async for step in seen:
                if step.error is not None:
                    break
            assert isinstance(step.error, MessageTooLarge)
            assert step.error.limit == 5 * 2**20
            assert "max_message_bytes" in str(step.error)
            connection = await server.next_connection()

    async with open_prices(server) as feed:
        connection = await server.next_connection()
        await connection.send(with_(note="x" * 100_000))
        (update,) = await read(feed, 1)
        assert isinstance(update, PriceUpdate)
        assert not [e for e in feed.main_subscriber.take() or [] if isinstance(e, FeedStateChanged)]
