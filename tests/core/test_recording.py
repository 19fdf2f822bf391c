"""Writing recordings and reading them back: exact, without secrets, torn ends tolerated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import RecordingError
from feedhandler.recording import Record, RecordingWriter, read_recording

RECORDS = [
    Record(1, "open", 0, url="wss://host/ws"),
    Record(2, "send", 0, payload='{"type":"subscribe"}'),
    Record(3, "recv", 0, payload="text, \u20ac"),
    Record(4, "recv", 0, payload=b"\x00\xff"),
    Record(5, "close", 0, code=1001, reason="going away"),
    Record(6, "http", url="https://host/depth", payload="{}"),
    Record(7, "open", 1, url="wss://host/ws"),
]


def write(path: Path, records: list[Record] | None = None) -> Path:
    with RecordingWriter(path, venue="coinbase", subscribed={"trades": ["BTC-USD"]}) as writer:
        for record in RECORDS if records is None else records:
            writer.write(record)
    return path


def lines_of(path: Path) -> list[dict[str, object]]:
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True)
    return [json.loads(line) for line in text.read().decode().splitlines()]


def compressed(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(zstandard.compress(text.encode()))
    return path


HEADER = {"format": "feedhandler-recording", "version": 1, "venue": "coinbase", "subscribed": {}}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zst")
    with read_recording(path) as recording:
        assert recording.header.venue == "coinbase"
        assert recording.header.subscribed == {"trades": ["BTC-USD"]}
        assert list(recording) == RECORDS
        assert not recording.torn


def test_secrets_are_never_written(tmp_path: Path) -> None:
    secrets = [
        Record(1, "open", 0, url="wss://user:hunter2@host/ws?listenKey=hunter2"),
        Record(2, "send", 0, payload='{"jwt":"hunter2","api_key": "hunter2","channel":"x"}'),
        Record(2, "send", 0, payload='{"args":["Bearer hunter2"],"auth":{"sign":"hunter2"}}'),
    ]
    path = write(tmp_path / "a.zst", secrets)
    assert "hunter2" not in json.dumps(lines_of(path))
    assert "***" in json.dumps(lines_of(path)[1:])
    assert "hunter2" not in repr(secrets)


def test_records_keep_their_order_when_the_clock_is_set_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zst", [Record(t, "close", 0) for t in (5, 3, 9)])
    with read_recording(path) as recording:
        assert [record.t for record in recording] == [5, 5, 9]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zst")
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="exists already; name another file"):
        write(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(1, "recv", 0), "needs its payload"),
        (Record(1, "recv", None, payload="x"), "needs its connection's number"),
    ],
)
def test_incomplete_records_are_refused(tmp_path: Path, record: Record, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        write(tmp_path / "a.zst", [record])


def test_a_crash_leaves_a_torn_end_and_what_was_flushed_before(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.zst", venue="x", subscribed={})
    writer.write(RECORDS[0])
    writer.flush()
    crashed = tmp_path / "crashed.zst"
    crashed.write_bytes((tmp_path / "a.zst").read_bytes())
    with writer:
        pass
    with read_recording(crashed) as recording:
        assert list(recording) == RECORDS[:1]
        assert recording.torn


def test_any_cut_gives_a_beginning_or_an_error_and_never_something_else(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.zst").read_bytes()
    cut = tmp_path / "cut.zst"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        error = None
        try:
            with read_recording(cut) as recording:
                records = list(recording)
                assert records == RECORDS[: len(records)]
                # Only the frame's end mark may be missing from a recording that is all there.
                assert recording.torn or len(records) == len(RECORDS)
        except RecordingError as caught:
            error = caught
        assert error is None or error.line == 1, "only the header may be missing"


def test_a_torn_last_line_is_tolerated_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    text = json.dumps(HEADER) + '\n{"t":1,"k":"close","c":0}\n{"t":2,"k":"clo'
    path.write_bytes(zstandard.compress(text.encode()))
    with read_recording(path) as recording:
        assert list(recording) == [Record(1, "close", 0)]
        assert recording.torn


BAD_HEADERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "not compressed": (lambda path: path.write_text(json.dumps(HEADER)), "not compressed with Z"),
    "another format": (lambda path: compressed(path, {"format": "x"}), "is not a recording"),
    "no JSON": (lambda path: compressed(path, "hello"), "is not a recording"),
    "newer": (
        lambda path: compressed(path, {**HEADER, "version": 2}),
        "has version 2, and this library reads version 1; install a newer feedhandler",
    ),
    "no venue": (
        lambda path: compressed(path, {"format": "feedhandler-recording", "version": 1}),
        "needs 'venue'",
    ),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_what_is_no_recording_is_one_clear_error(tmp_path: Path, name: str) -> None:
    make, message = BAD_HEADERS[name]
    make(tmp_path / "a.zst")
    with pytest.raises(RecordingError, match=message) as caught:
        read_recording(tmp_path / "a.zst")
    assert str(tmp_path / "a.zst") in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 3: not a JSON object"),
        ({"t": 1, "k": "party", "c": 0}, "line 3: the kind .* got 'party'"),
        ({"t": "1", "k": "open", "c": 0}, "line 3: the time"),
        ({"t": 1, "k": "open"}, "line 3: the connection"),
        ({"t": 1, "k": "recv", "c": 0}, "line 3: it has no payload"),
        ({"t": 1, "k": "recv", "c": 0, "b64": "!"}, "line 3: the payload"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = compressed(tmp_path / "a.zst", HEADER, {"t": 1, "k": "close", "c": 0}, line)
    with read_recording(path) as recording:
        assert next(iter(recording)) == Record(1, "close", 0)
        with pytest.raises(RecordingError, match=message):
            list(recording)


@given(payloads=st.lists(st.one_of(st.text(), st.binary()), max_size=5))
def test_any_payload_comes_back(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[str | bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.zst"
    records = [Record(n, "recv", 0, payload=payload) for n, payload in enumerate(payloads)]
    write(path, records)
    with read_recording(path) as recording:
        assert list(recording) == records


def test_a_flipped_byte_is_corruption_and_not_an_end(tmp_path: Path) -> None:
    records = [Record(n, "recv", 0, payload=str(n * 7919)) for n in range(5000)]
    path = write(tmp_path / "a.zst", records)
    data = bytearray(path.read_bytes())
    read = 0
    for at in range(10, len(data), len(data) // 40):
        damaged = data.copy()
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            with read_recording(path) as recording:
                read += [*recording] == records
                read += recording.torn or recording.truncated
        except RecordingError:
            read += 1
    assert read == len(range(10, len(data), len(data) // 40)), "never something else, silently"


@pytest.mark.parametrize("subscribed", [5, None, {"a": 5}, {"a": [5]}, {"a": "BTC"}])
def test_a_header_of_the_wrong_shape_is_refused(tmp_path: Path, subscribed: object) -> None:
    path = compressed(tmp_path / "a.zst", {**HEADER, "subscribed": subscribed})
    with pytest.raises(RecordingError, match="a list of symbols for each channel"):
        read_recording(path)
