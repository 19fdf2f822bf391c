"""Recordings of what venues sent: writing them, and reading them back, as streams.

The format is ``feedhandler-recording``, version 1: JSON lines in UTF-8, compressed with Zstandard.
The first line is a header with ``format``, ``version``, ``venue`` and ``subscribed``; then one
record a line, in order of time, with ``t`` (integer nanoseconds since the epoch), ``k`` (``open``,
``send``, ``recv``, ``close`` or ``http``), ``c`` (the connection's number from 0; not for
``http``), ``url`` (``open``, ``http``), ``text`` or ``b64`` (the payload), and ``code`` and
``reason`` (``close``).

This is file I/O: in a trio program call it through `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec
from attrs import field, frozen

from feedhandler._core.redaction import redact_payload, redact_url
from feedhandler.errors import RecordingError

if TYPE_CHECKING:
    import zstandard

__all__ = [
    "Record",
    "Recording",
    "RecordingHeader",
    "RecordingWriter",
    "check_writable",
    "read_recording",
]

FORMAT = "feedhandler-recording"
VERSION = 1
_End = Literal["whole", "torn", "truncated"]
_KINDS = frozenset({"open", "send", "recv", "close", "http"})
_MAX_LINE = 64 * 2**20
_CHUNK = 1 << 18
_FLUSH_BYTES = 1 << 20  # of text between two points up to which a crash loses nothing


@frozen
class RecordingHeader:
    """What a recording says of itself; `subscribed` maps channels to canonical symbols."""

    venue: str
    subscribed: Mapping[str, Sequence[str]]


@frozen
class Record:
    """One line: `t` in nanoseconds, kind `k`, connection `c` (`None` for ``http``)."""

    t: int
    k: Literal["open", "send", "recv", "close", "http"]
    c: int | None = None
    url: str | None = field(default=None, repr=lambda url: repr(url and redact_url(url)))
    payload: str | bytes | None = field(default=None, repr=False)
    code: int | None = None
    reason: str | None = None


def _zstandard() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise RecordingError(
            "recordings need the package zstandard; install feedhandler[recording]"
        ) from error
    return zstandard


# --- writing -------------------------------------------------------------------------------------


def check_writable(path: str | Path) -> None:
    """Raise `RecordingError` where no recording can be written to `path`; touch nothing."""
    _zstandard()
    path = Path(path)
    if path.exists():
        raise RecordingError(f"{path} exists already; name another file, nothing is overwritten")
    if not path.parent.is_dir():
        raise RecordingError(f"the folder {path.parent} does not exist; make it first")


class RecordingWriter:
    """Writes a recording; a context manager.

    Secrets are left out: the user part and the query's values of a URL (over REST, those that look
    like secrets), and secret members of what was sent. What was received is written as it is.
    `path` must not exist yet. Raises `RecordingError`, before anything is written, and `OSError`.
    """

    def __init__(
        self, path: str | Path, *, venue: str, subscribed: Mapping[str, Sequence[str]]
    ) -> None:
        zstd = _zstandard()
        try:
            self._file: BinaryIO = Path(path).open("xb")  # noqa: SIM115  # closed by __exit__
        except FileExistsError:
            raise RecordingError(
                f"{path} exists already; name another file, nothing is overwritten"
            ) from None
        compressor = zstd.ZstdCompressor(level=6, write_checksum=True)
        self._zstd: zstandard.ZstdCompressionWriter = compressor.stream_writer(
            self._file, closefd=True
        )
        self._unflushed = 0
        self._last_t = 0
        self._flush_block = zstd.FLUSH_BLOCK
        header = {"format": FORMAT, "version": VERSION, "venue": venue}
        self._write({**header, "subscribed": {c: [*s] for c, s in subscribed.items()}})

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._zstd.close()  # type: ignore[no-untyped-call]  # zstandard's stubs leave it out
        finally:
            self._file.close()  # also where what was left could not be written

    def write(self, record: Record) -> None:
        """Write one record. Raises `RecordingError` if it lacks what its kind needs, or is longer
        than can be read back."""
        if record.k != "http" and record.c is None:
            raise RecordingError(f"a record of kind {record.k!r} needs its connection's number (c)")
        if record.k in ("send", "recv") and record.payload is None:
            raise RecordingError(f"a record of kind {record.k!r} needs its payload")
        # The clock can be set back; the order of records is what counts.
        self._last_t = max(record.t, self._last_t)
        payload, url = record.payload, record.url
        if url is not None:
            # What was asked for over REST stands in the query.
            url = redact_url(url, only_secrets=record.k == "http")
        if record.k == "send" and payload is not None:
            payload = redact_payload(payload)
        line: dict[str, object | None] = {
            "t": self._last_t,
            "k": record.k,
            "c": record.c,
            "url": url,
            "text": payload if isinstance(payload, str) else None,
            "b64": base64.b64encode(payload).decode() if isinstance(payload, bytes) else None,
            "code": record.code,
            "reason": record.reason,
        }
        self._write({name: value for name, value in line.items() if value is not None})

    def _write(self, line: Mapping[str, object]) -> None:
        data = msgspec.json.encode(line) + b"\n"
        if len(data) > _MAX_LINE:
            raise RecordingError(
                f"a record of {len(data):,} bytes can't be written: none may be longer than "
                f"{_MAX_LINE:,}"
            )
        self._zstd.write(data)
        self._unflushed += len(data)
        if self._unflushed >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system, so that a crash of the process loses none."""
        self._zstd.flush(self._flush_block)
        self._file.flush()
        self._unflushed = 0


# --- reading -------------------------------------------------------------------------------------


class Recording:
    """A recording that is being read: iterate over its records, once; a context manager.

    A torn last line ends the iteration, and `torn` is then true. So is `truncated` where the
    compressed data has no end, such as a crash or half a copy leaves. Everything else that is
    wrong is one `RecordingError`, which names the line. Memory is bounded by the longest line,
    and that by 64 MiB.
    """

    def __init__(
        self, path: Path, lines: Iterator[tuple[int, bytes, _End]], file: BinaryIO
    ) -> None:
        self.path = path
        self.torn = False
        self.truncated = False
        self._lines = lines
        self._file = file
        self.header = self._read_header()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read_header(self) -> RecordingHeader:
        number, line, end = next(self._lines, (1, b"", "whole"))
        if end != "whole":
            raise RecordingError(f"{self.path} is truncated inside its header", line=1)
        if not line:
            raise RecordingError(f"{self.path} is empty; it has no header", line=1)
        header = _decode(line)
        if header is None or header.get("format") != FORMAT:
            raise RecordingError(
                f"{self.path} is not a recording: its first line is not a header with "
                f'"format": "{FORMAT}"',
                line=number,
            )
        version = header.get("version")
        if version != VERSION:
            raise RecordingError(
                f"{self.path} has version {version!r}, and this library reads version {VERSION}; "
                "install a newer feedhandler",
                line=number,
            )
        venue, subscribed = header.get("venue"), header.get("subscribed")
        lists = subscribed.values() if isinstance(subscribed, dict) else [None]
        symbols = [s for symbols in lists for s in (symbols if isinstance(symbols, list) else [0])]
        named = all(isinstance(symbol, str) for symbol in symbols)
        if not (isinstance(venue, str) and isinstance(subscribed, dict) and named):
            raise RecordingError(
                f"the header of {self.path} needs 'venue', a name, and 'subscribed', which has a "
                "list of symbols for each channel",
                line=number,
            )
        return RecordingHeader(venue, subscribed)

    def __iter__(self) -> Iterator[Record]:
        for number, line, end in self._lines:
            document = _decode(line)
            self.truncated = end == "truncated"
            if end != "whole" and (document is None or "k" not in document):
                self.torn = True
                return
            if document is None:
                raise RecordingError(f"not a JSON object: {line[:60]!r}", line=number)
            yield _record(document, number)


def read_recording(path: str | Path) -> Recording:
    """Open the recording at `path` and read its header.

    Raises `RecordingError` for what is not a recording, is of a newer version, or is empty; and
    `OSError` where the file cannot be read.
    """
    zstd = _zstandard()
    path = Path(path)
    file = path.open("rb")
    try:
        magic = file.read(4)
        if magic and magic != b"\x28\xb5\x2f\xfd":
            raise RecordingError(
                f"{path} is not a recording: it is not compressed with Zstandard", line=1
            )
        file.seek(0)
        return Recording(path, _lines(file, zstd), file)
    except BaseException:
        file.close()
        raise


def _lines(file: BinaryIO, zstd: Any) -> Iterator[tuple[int, bytes, _End]]:
    """The lines, with their numbers and how each ends; only the last one can be torn."""
    rest = io.BytesIO()
    number = 0
    for chunk, intact in _chunks(file, zstd):
        if not intact:
            yield number + 1, rest.getvalue(), "truncated"
            return
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            rest.write(chunk[start:end])
            start = end + 1
            number += 1
            yield number, rest.getvalue(), "whole"
            rest = io.BytesIO()
        rest.write(chunk[start:])
        if rest.tell() > _MAX_LINE:
            raise RecordingError(f"longer than {_MAX_LINE} bytes", line=number + 1)
    if rest.tell():
        yield number + 1, rest.getvalue(), "torn"


def _chunks(file: BinaryIO, zstd: Any) -> Iterator[tuple[bytes, bool]]:
    """Decompressed chunks; a last one that is not intact where the compressed data is torn."""
    context = zstd.ZstdDecompressor(max_window_size=1 << 27)
    frame = None
    while data := file.read(_CHUNK):
        while data:
            frame = frame or context.decompressobj()
            try:
                yield frame.decompress(data), True
            except zstd.ZstdError as error:
                raise RecordingError(
                    f"{file.name} is corrupt before its byte {file.tell()}: {error}; "
                    "get a whole copy of it"
                ) from error
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        yield b"", False


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _record(document: dict[str, Any], number: int) -> Record:
    kind, t, c = document.get("k"), document.get("t"), document.get("c")
    if kind not in _KINDS:
        raise RecordingError(
            f"the kind (k) must be one of {sorted(_KINDS)}, got {kind!r}", line=number
        )
    if not isinstance(t, int):
        raise RecordingError(f"the time (t) must be integer nanoseconds, got {t!r}", line=number)
    if kind != "http" and not isinstance(c, int):
        raise RecordingError(f"the connection (c) must be a number, got {c!r}", line=number)
    for name, wanted in (("url", str), ("text", str), ("code", int), ("reason", str)):
        if not isinstance(document.get(name), wanted | None):
            raise RecordingError(f"{name} must be {wanted.__name__}", line=number)
    payload: str | bytes | None = document.get("text")
    if "b64" in document:
        try:
            payload = base64.b64decode(document["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise RecordingError(
                f"the payload (b64) is not base64: {error}", line=number
            ) from error
    if kind in ("send", "recv") and not isinstance(payload, str | bytes):
        raise RecordingError("it has no payload (text or b64)", line=number)
    return Record(
        t, kind, c, document.get("url"), payload, document.get("code"), document.get("reason")
    )
