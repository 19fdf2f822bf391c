"""The frame splitter against wsproto, which parses every frame the slow way."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection as WsprotoConnection
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from feedhandler._core.frames import FrameSplitter, Opcode, encode_frame, remask
from feedhandler.errors import MessageTooLarge, ProtocolViolation

LIMIT = 70_000
Outcome = tuple[list[str | bytes], object]


class Reference:
    """What wsproto, alone, makes of a server's bytes: whole messages, then how it ended."""

    def __init__(self) -> None:
        self.connection = WsprotoConnection(ConnectionType.CLIENT)
        self.messages: list[str | bytes] = []
        self.parts: list[str | bytes] = []
        self.end: object = None

    def feed(self, data: bytes) -> None:
        if self.end is not None:
            return
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, CloseConnection):
                refused = self.connection.state.name == "OPEN"
                code = int(event.code)
                self.end = ("violation", code) if refused else ("close", code, event.reason or "")
                return
            if isinstance(event, TextMessage | BytesMessage):
                self.parts.append(event.data)
                if event.message_finished:
                    empty: str | bytes = "" if isinstance(event, TextMessage) else b""
                    self.messages.append(empty.join(self.parts))  # type: ignore[arg-type]  # one type
                    self.parts = []


def split(chunks: list[bytes]) -> Outcome:
    """What the splitter makes of it, with wsproto for what it passes on."""
    splitter = FrameSplitter(max_message_bytes=LIMIT)
    unusual = Reference()
    messages: list[str | bytes] = []
    for chunk in chunks:
        splitter.feed(chunk)
        while True:
            try:
                passed = splitter.take(messages)
            except ProtocolViolation as error:
                return messages, ("violation", error.code)
            if passed is None:
                break
            before = len(unusual.messages)
            unusual.feed(passed.data)
            if passed.close is not None:
                assert unusual.end == ("close", *passed.close)
                return messages, unusual.end
            if unusual.end is not None:
                return messages, unusual.end
            assert len(unusual.messages) - before == passed.completes
            messages += unusual.messages[before:]
    return messages, None


def whole(data: bytes) -> Outcome:
    reference = Reference()
    reference.feed(data)
    return reference.messages, reference.end


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    opcode = draw(st.sampled_from([1, 1, 1, 2, 2, 0, 0, 8, 9, 10, 3, 11]))
    payload = draw(
        st.one_of(
            st.sampled_from(["", "a", "tick", "grüße", "€"]).map(str.encode),
            st.binary(max_size=20),
            st.sampled_from([b"", b"x" * 125, b"y" * 126, b"z" * 65_535, b"w" * 65_536]),
            st.sampled_from([b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x03\xed", b"\x0b\xb8\xff"]),
        )
    )
    return encode_frame(
        opcode,
        payload,
        fin=draw(st.sampled_from([True, True, True, False])),
        rsv=draw(st.sampled_from([0] * 20 + [1, 4])),
        mask=draw(st.sampled_from([None] * 20 + [b"abcd"])),
    )


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(frames(), max_size=8), st.lists(st.integers(0, 1 << 20), max_size=6))
@example([encode_frame(1, b"a", fin=False), encode_frame(9, b""), encode_frame(0, b"b")], [3])
def test_any_frames_cut_anywhere_are_what_wsproto_says(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    messages, end = split(cut(data, cuts))
    if end == ("violation", 1009):  # wsproto has no limit
        assert messages == whole(data)[0][: len(messages)]
    else:
        assert (messages, end) == whole(data)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_give_messages_or_a_violation(data: bytes, cuts: list[int]) -> None:
    # A length over the limit is refused before wsproto would look at the payload.
    messages, end = split(cut(data, cuts))
    if end == ("violation", 1009):
        return
    expected, expected_end = whole(data)
    assert messages == expected
    # Of a frame that is not finished wsproto judges the text, and this side only the header.
    assert end == expected_end or None in (end, expected_end)


def test_every_cut_of_a_mixed_stream_gives_the_same() -> None:
    data = b"".join(
        [
            encode_frame(Opcode.TEXT, "grüße".encode()),
            encode_frame(Opcode.TEXT, b"x" * 300),
            encode_frame(Opcode.TEXT, "ü".encode()[:1], fin=False),
            encode_frame(Opcode.PING, b"p"),
            encode_frame(Opcode.CONTINUATION, "ü".encode()[1:]),
            encode_frame(Opcode.BINARY, b"\xff\x00"),
            encode_frame(Opcode.CLOSE, b"\x03\xe8done"),
        ]
    )
    expected = ["grüße", "x" * 300, "ü", b"\xff\x00"], ("close", 1000, "done")
    for at in range(len(data) + 1):
        assert split([data[:at], data[at:]]) == expected
    assert split([data[i : i + 1] for i in range(len(data))]) == expected


VIOLATIONS = {
    "masked frame": (encode_frame(1, b"a", mask=b"abcd"), 1002),
    "masked long frame": (encode_frame(1, b"a" * 200, mask=b"abcd"), 1002),
    "reserved bit": (encode_frame(1, b"a", rsv=4), 1002),
    "unknown data opcode": (encode_frame(3, b"a"), 1002),
    "unknown control opcode": (encode_frame(11, b"a"), 1002),
    "fragmented ping": (encode_frame(9, b"a", fin=False), 1002),
    "ping of 126 bytes": (encode_frame(9, b"a" * 126), 1002),
    "16-bit length that is not minimal": (b"\x81\x7e\x00\x05hello", 1002),
    "64-bit length that is not minimal": (b"\x81\x7f" + (5).to_bytes(8, "big") + b"hello", 1002),
    "length with its top bit set": (b"\x81\x7f\x80" + bytes(7), 1002),
    "continuation of nothing": (encode_frame(0, b"a"), 1002),
    "message inside a message": (encode_frame(1, b"a", fin=False) + encode_frame(1, b"b"), 1002),
    "close of one byte": (encode_frame(8, b"\x03"), 1002),
    "close with 1005": (encode_frame(8, b"\x03\xed"), 1002),
    "close with 999": (encode_frame(8, b"\x03\xe7"), 1002),
    "close reason not UTF-8": (encode_frame(8, b"\x03\xe8\xff"), 1007),
    "text not UTF-8": (encode_frame(1, b"\xff"), 1007),
    "fragments not UTF-8": (encode_frame(1, b"\xc3", fin=False) + encode_frame(0, b"("), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_ends_the_stream_after_what_was_before_it(name: str) -> None:
    bad, code = VIOLATIONS[name]
    data = encode_frame(1, b"before") + bad + encode_frame(1, b"after")
    for at in range(len(data)):
        assert split([data[:at], data[at:]]) == (["before"], ("violation", code))


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 40])
def test_an_oversized_frame_is_refused_at_its_header(size: int) -> None:
    splitter = FrameSplitter(max_message_bytes=LIMIT)
    splitter.feed(b"\x82\x7f" + size.to_bytes(8, "big"))
    with pytest.raises(MessageTooLarge, match=str(LIMIT)):
        splitter.take([])
    assert splitter.pending_bytes <= 10


def test_an_oversized_fragmented_message_is_refused_before_the_last_fragment_is_kept() -> None:
    splitter = FrameSplitter(max_message_bytes=LIMIT)
    splitter.feed(encode_frame(2, b"a" * 40_000, fin=False))
    assert splitter.take([]) is not None
    splitter.feed(encode_frame(0, b"b" * 40_000)[:4])
    with pytest.raises(MessageTooLarge):
        splitter.take([])


def test_a_message_at_the_limit_is_delivered() -> None:
    messages, end = split([encode_frame(2, b"a" * LIMIT)])
    assert messages == [b"a" * LIMIT]
    assert end is None


@pytest.mark.parametrize("limit", [0, 60, 125, 126, 500, 1_024, LIMIT])
def test_texts_of_every_kind_of_length_are_taken_up_to_the_limit(limit: int) -> None:
    sizes = [*(0, 1, 3, 60, 124, 125, 126, 127, 500, 1_022, 1_023, 1_024, 1_025, 65_535)] * 2
    sent = [chr(97 + i) * size for i, size in enumerate(sizes)]
    fitting = list(itertools.takewhile(lambda text: len(text) <= limit, sent))
    data = b"".join(encode_frame(1, text.encode()) for text in sent)
    for step in (len(data), 1_024, 173):
        splitter = FrameSplitter(max_message_bytes=limit)
        messages: list[str | bytes] = []
        with pytest.raises(MessageTooLarge) if len(fitting) < len(sent) else nullcontext():
            for at in range(0, len(data), step):
                splitter.feed(data[at : at + step])
                assert splitter.take(messages) is None
        assert messages == fitting


@pytest.mark.parametrize("size", [40, 200, 2_000])
def test_text_that_is_not_utf_8_amid_others_ends_the_stream_after_those_before(size: int) -> None:
    sent = [b"a" * size, b"b" * size, b"c" * (size - 1) + b"\xc3", b"d" * size]
    data = b"".join(encode_frame(1, payload) for payload in sent)
    assert split([data]) == (["a" * size, "b" * size], ("violation", 1007))


def test_a_large_message_in_many_reads_is_copied_a_bounded_number_of_times() -> None:
    payload = b"0123456789abcdef" * 400_000
    data = encode_frame(2, payload)
    splitter = FrameSplitter(max_message_bytes=len(payload))
    messages: list[str | bytes] = []
    for start in range(0, len(data), 4096):
        splitter.feed(data[start : start + 4096])
        assert splitter.take(messages) is None
    assert messages == [payload]
    assert splitter.pending_bytes == 0


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.binary(min_size=4, max_size=4)), max_size=4),
    st.binary(min_size=4, max_size=4),
)
def test_masks_are_replaced_and_nothing_else(
    frames: list[tuple[bytes, bytes]], mask: bytes
) -> None:
    frames_given = b"".join(encode_frame(Opcode.BINARY, data, mask=old) for data, old in frames)
    wanted = b"".join(encode_frame(Opcode.BINARY, data, mask=mask) for data, _ in frames)
    assert remask(frames_given, lambda: mask) == wanted


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_masks_are_replaced_at_each_form_of_length(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    frame = encode_frame(Opcode.TEXT, data[:size], mask=b"abcd")
    assert remask(frame, lambda: b"wxyz") == encode_frame(Opcode.TEXT, data[:size], mask=b"wxyz")
