"""The command line: what it prints, how it ends, and that no error is ever a traceback."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
import zstandard
from attrs import evolve
from click.testing import CliRunner, Result
from rich.console import Console
from trio.testing import MockClock

from feedhandler.cli.app import cli
from feedhandler.cli.board import Board, Output
from feedhandler.cli.demo import run_demo
from feedhandler.cli.record import Plan, record_venue, run_record
from feedhandler.cli.replay import connections_of, name_of, replay, run_replay
from feedhandler.cli.watch import run_watch
from feedhandler.errors import ConfigError, RecordingError
from feedhandler.handler import open_feed
from feedhandler.instruments import Instrument, InstrumentKind, Instruments
from feedhandler.model import Gap, PriceUpdate, Trust
from feedhandler.recording import Record, RecordingWriter, read_recording
from feedhandler.venues.price import PriceVenue
from feedhandler_testing import MockBook, MockWebSocketServer, price_message
from feedhandler_testing.dialect import dialect_by_name
from feedhandler_testing.replay import LoadedRecording

COMMANDS = ("demo", "replay", "record", "watch", "symbols")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def plain() -> tuple[Output, io.StringIO]:
    text = io.StringIO()
    return Output(plain=True, console=Console(file=text, width=200)), text


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from feedhandler.cli import main; main()", *arguments]


def prices_recording(path: Path, connections: int = 1, each: int = 50) -> Path:
    with RecordingWriter(path, venue="price", subscribed={"price": ["A"]}) as writer:
        t = 0
        for c in range(connections):
            writer.write(Record(t, "open", c, url="ws://mock.invalid/"))
            for n in range(each):
                t += 1_000_000
                payload = price_message("A", f"{n}.5", c * each + n)
                writer.write(Record(t, "recv", c, payload=payload))
            writer.write(Record(t, "close", c, code=1001, reason="bye"))
    return path


def instruments_file(path: Path, *, fetched_ns: int | None = None) -> Path:
    """OKX's list, as if fetched just now."""
    listed = Instruments(
        [
            Instrument("ETH-USDT", "ETH-USDT", "ETH", "USDT", InstrumentKind.SPOT),
            Instrument("BTC-USDT", "BTC-USDT", "BTC", "USDT", InstrumentKind.SPOT),
            Instrument("LUNA-USDT", "LUNA-USDT", "LUNA", "USDT", InstrumentKind.SPOT, active=False),
        ]
    )
    now_ns = time.time_ns() if fetched_ns is None else fetched_ns
    path.write_text(listed.stamped(venue="okx", fetched_ns=now_ns).dumps())
    return path


# --- help and errors -----------------------------------------------------------------------------


def test_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    result = run(name, "-h")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def _errors(folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    header = {"format": "feedhandler-recording", "version": 1, "venue": "price", "subscribed": {}}
    files: dict[str, dict[str, object]] = {
        "newer": {**header, "version": 7},
        "nowhere": {**header, "venue": "nowhere"},
        "other": {"format": "pcap"},
        "empty": header,
    }
    for name, document in files.items():
        lines = [json.dumps(document)]
        if name == "nowhere":
            lines.append('{"t":1,"k":"recv","c":0,"text":"{}"}')
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{name}.zst").write_bytes(zstandard.compress(text.encode()))
    text = json.dumps({**header, "subscribed": {"price": 5}})
    (folder / "shape.zst").write_bytes(zstandard.compress(text.encode() + b"\n"))
    (folder / "plain.zst").write_text("hello")
    (folder / "torn.zst").write_bytes((folder / "newer.zst").read_bytes()[:20])
    listed = instruments_file(folder / "okx.json")
    closed = "ws://127.0.0.1:9"
    out = folder / "out.zst"
    return {
        "no file": (["replay", folder / "none.zst"], "No such file"),
        "a folder": (["replay", folder], "Is a directory"),
        "not compressed": (["replay", folder / "plain.zst"], "not compressed with Zstandard"),
        "torn header": (["replay", folder / "torn.zst"], "truncated inside its header"),
        "newer version": (["replay", folder / "newer.zst"], "install a newer feedhandler"),
        "another format": (["replay", folder / "other.zst"], "is not a recording"),
        "header's shape": (["replay", folder / "shape.zst"], "a list of symbols for each channel"),
        "no folder": (["record", closed, "--out", folder / "no/x.zst"], "does not exist; make it"),
        "odd host": (["watch", "coinbase", "A", "--url", "ws://a..b/"], "url='ws://a..b/'"),
        "odd host to record": (["record", "ws://a..b/", "--out", out], "url='ws://a..b/'"),
        "seconds nan": (["watch", "coinbase", "A", "--seconds", "nan"], "'nan' is not possible"),
        "no messages": (["replay", folder / "empty.zst"], "holds no received message"),
        "venue without decoder": (["replay", folder / "nowhere.zst"], "'nowhere': is not known"),
        "speed 0": (["replay", folder / "empty.zst", "--speed", "0"], "'0' is not possible; use"),
        "speed nan": (["replay", folder / "empty.zst", "--speed", "nan"], "'nan' is not possible"),
        "unknown venue": (["watch", "coinbse", "A"], "did you mean 'coinbase'"),
        "unknown channel": (["watch", "coinbase", "A", "--channel", "x"], "no such channel"),
        "no symbols": (["watch", "coinbase"], "Missing argument"),
        "blank symbol": (["watch", "coinbase", " "], "must be a non-empty string"),
        "price without url": (["watch", "price", "A"], "has no address of its own"),
        "watch http": (["watch", "price", "A", "--url", "http://x"], "scheme must be ws or wss"),
        "record http": (["record", "https://u:pw@x/", "--out", out], "scheme must be ws or wss"),
        "record nowhere": (["record", closed, "--out", out], "refused the connection"),
        "record over": (["record", closed, "--out", folder / "empty.zst"], "exists already"),
        "record symbol": (
            ["record", closed, "--out", out, "--symbol", "A"], "venue='raw': is not known",
        ),
        "nothing to record": (["record", "--out", out], "there is nothing to record; name a URL"),
        "a venue without symbols": (["record", "--venue", "okx", "--out", out], "name a URL, or"),
        "--send to a venue": (
            ["record", "--venue", "okx", "--symbols", "A", "--send", "x", "--out", out, closed],
            "requests to okx are the handler's; leave --send out",
        ),
        "record nowhere, a venue": (
            ["record", closed, "--venue", "price", "--symbols", "A", "--out", out],
            "refused the connection",
        ),
        "record a channel": (
            ["record", "--venue", "coinbase", "--symbols", "A", "--channels", "x", "--out", out],
            "no such channel",
        ),
        "record over, a venue": (
            ["record", closed, "--venue", "price", "--symbols", "A", "--out", folder / "plain.zst"],
            "exists already",
        ),
        "watch the unlisted": (
            ["watch", "--venue", "okx", "BTC-USDTT", "--instruments", listed],
            "symbols='BTC-USDTT': okx has no such instrument; did you mean 'BTC-USDT'",
        ),
        "watch the delisted": (
            ["watch", "okx", "LUNA-USDT", "--instruments", listed], "halted or delisted",
        ),
        "another's list": (
            ["watch", "deribit", "BTC-USDT", "--instruments", listed],
            "it is the list of 'okx', not of 'deribit'",
        ),
        "a list for none": (
            ["watch", "price", "A", "--url", closed, "--instruments", listed],
            "price has no list of instruments",
        ),
        "symbols of none": (["symbols", "--venue", "price"], "has no address of its own"),
        "symbols that fit not": (
            ["symbols", "--venue", "okx", "XYZ", "--instruments", listed],
            "pattern='XYZ': none of the 3 instruments fits",
        ),
        "no venue to watch": (["watch"], "Missing argument '[VENUE]'"),
        "negative time": (["demo", "--seconds", "-1"], "'-1' is not possible; use a number over 0"),
        "no such command": (["dmo"], "No such command"),
    }  # fmt: skip


@pytest.mark.parametrize("name", [
    "no file", "a folder", "header's shape", "no folder", "odd host", "odd host to record",
    "seconds nan", "not compressed", "torn header", "newer version", "another format",
    "no messages", "venue without decoder", "speed 0", "speed nan", "unknown venue",
    "unknown channel", "no symbols", "blank symbol", "price without url", "watch http",
    "record http", "record nowhere", "record over", "record symbol", "negative time",
    "no such command", "nothing to record", "a venue without symbols", "--send to a venue",
    "record nowhere, a venue", "record a channel", "record over, a venue", "watch the unlisted",
    "watch the delisted", "another's list", "a list for none", "symbols of none",
    "symbols that fit not", "no venue to watch",
])  # fmt: skip
def test_an_error_is_one_clear_sentence_and_an_exit_code(tmp_path: Path, name: str) -> None:
    errors = _errors(tmp_path)
    arguments, message = errors[name]
    before = sorted(tmp_path.iterdir())
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    told = [line for line in result.output.splitlines() if line.startswith("Error:")]
    assert len(told) == 1, result.output
    assert message in told[0]
    assert "Traceback" not in result.output
    assert "pw" not in result.output
    assert sorted(tmp_path.iterdir()) == before, "nothing is written before it"


# --- demo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [30.0, 10.0])
async def test_the_demo_shows_every_fault_and_ends_with_a_summary(
    autojump_clock: MockClock, seconds: float
) -> None:
    output, text = plain()
    assert await run_demo(seconds, 7, output, tcp=False) == 0
    shown = text.getvalue()
    for number in range(1, 11):
        assert f"{number:2}. " in shown, shown
    for told in (
        "reset", "malformed:", "gap: BTC-USD sequence, sequence", "no frames for", "1012",
        "HTTP 429", "the circuit is open", "BTC-USD 6", "reconnects", "gaps announced",
        "at the end: connected",
    ):  # fmt: skip
        assert told in shown, f"{told!r} is not in:\n{shown}"


def test_ctrl_c_leaves_the_demo_at_once_and_cleanly() -> None:
    process = subprocess.Popen(  # noqa: S603  # this Python
        command("demo", "--plain"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(  # noqa: S603  # this Python
        command("demo", "--plain", "--seconds", "3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=20)


async def test_the_live_table_has_a_row_for_each_symbol() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=140, height=30)
    async with (
        MockWebSocketServer() as server,
        trio.open_nursery() as nursery,
        open_feed(PriceVenue(server.url, dial=server.dial), ["A", "B"]) as feed,
    ):
        board = Board(feed, "the title")
        connection = await server.next_connection()
        await connection.send_many([price_message("A", "1.50", 1), price_message("B", "2.25", 1)])
        with board.shown(Output(plain=False, console=console), nursery):
            while len(board.rows) < 2:
                board.take(await anext(feed))
        nursery.cancel_scope.cancel()
    for told in ("the title", "1.50", "2.25", "connected", "closed", "0.00 s, attempt 0"):
        assert told in text.getvalue()


# --- replay --------------------------------------------------------------------------------------


async def test_the_live_table_shows_the_best_bid_of_a_book(autojump_clock: MockClock) -> None:
    async with MockWebSocketServer() as server:
        book = server.books["A"] = MockBook("A", {"9.50": "1"}, {"11": "3"})
        venue = PriceVenue(server.url, dial=server.dial)
        async with open_feed(venue, ["A"], channels=["book"]) as feed:
            board = Board(feed, "the title")
            connection = await server.next_connection()
            await trio.testing.wait_all_tasks_blocked()
            await connection.send(json.dumps({**book.delta({"9.75": "2"}), "sequence": 3}))
            lines = [board.take(await anext(feed)) for _ in range(4)]
            assert str(board.rows["A"].price) == "9.50"
            assert lines[-1] == "gap: A book sequence, sequence 1..2"


def test_replay_ends_with_counts(tmp_path: Path) -> None:
    result = run("replay", prices_recording(tmp_path / "a.zst"), "--plain")
    assert result.exit_code == 0, result.output
    for told in ("messages      50", "PriceUpdate   50", "gaps          0", "decode errors 0"):
        assert told in result.output
    assert "messages/s" in result.output
    assert "latency" in result.output


async def test_replay_goes_through_the_reconnects_of_a_recording(tmp_path: Path) -> None:
    events: list[object] = []
    result = await replay(
        prices_recording(tmp_path / "a.zst", connections=3), on_event=events.append
    )
    numbers = [event.sequence for event in events if isinstance(event, PriceUpdate)]
    assert numbers == list(range(150))
    assert result.kinds["PriceUpdate"] == 150
    assert result.gaps == 2
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [(gap.symbol, gap.from_sequence) for gap in gaps] == [("A", 50), ("A", 100)]


async def test_replay_keeps_the_recorded_pace(tmp_path: Path) -> None:
    path = prices_recording(tmp_path / "a.zst", each=200)  # 0.2 s
    result = await replay(path, speed=2.0)
    assert result.elapsed_s >= 0.0995
    assert result.kinds["PriceUpdate"] == 200


async def test_a_truncated_recording_is_replayed_only_if_asked(tmp_path: Path) -> None:
    path = prices_recording(tmp_path / "a.zst", each=30_000)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(RecordingError, match=r"is truncated.* with --partial"):
        await replay(path)
    result = await replay(path, partial=True)
    assert result.torn
    assert 0 < result.kinds["PriceUpdate"] < 30_000


async def test_replay_tells_how_far_each_book_could_be_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    book = MockBook("A", {"9.50": "1"}, {"11": "3"})
    messages = [book.snapshot(), book.delta({"9.75": "2"})]
    book.delta({"9.50": "2"})  # is lost
    messages += [book.delta({"9.60": "1"}), book.snapshot()]
    messages += [book.delta({"9.80": f"{n}"}) for n in range(1, 5)]
    with RecordingWriter(path, venue="price", subscribed={"book": ["A"]}) as writer:
        for n, message in enumerate(messages):
            writer.write(Record(n, "recv", 0, payload=json.dumps(message)))
    result = await replay(path)
    messages_by_trust = result.coverage["A"].messages
    assert messages_by_trust[Trust.VERIFIED] == 7
    assert messages_by_trust[Trust.SUSPECT] >= 1
    top = result.tops["A"]
    assert [str(level.price) for level in (*top.bids, *top.asks)] == ["9.80", "11"]
    output, text = plain()
    assert await run_replay(path, math.inf, False, output) == 0
    for told in (
        "book          A", "by time     verified ", "by messages verified ", "suspect ",
        "final top   9.80 (4) / 11 (3)", "gap: A book sequence",
    ):  # fmt: skip
        assert told in text.getvalue(), text.getvalue()


@pytest.mark.parametrize(
    ("name", "venue", "books"),
    [
        ("binance", None, 4), ("binance_futures", None, 4), ("bybit", None, 4),
        ("bybit", "bybit_spot", 2), ("kraken", None, 10), ("coinbase", None, 2),
    ],
)  # fmt: skip
async def test_a_real_recording_is_replayed_whole(
    recordings: Path, name: str, venue: str | None, books: int
) -> None:
    """One venue has recorded two interfaces, another a connection for each channel."""
    result = await replay(recordings / f"{name}.jsonl.zst", venue=venue)
    assert (result.gaps, result.decode_errors) == (0, 0)
    assert len(result.coverage) == len(result.tops) == books
    for coverage in result.coverage.values():
        messages = coverage.messages
        assert messages[Trust.SUSPECT] == messages[Trust.STALE] == 0
        # The snapshots of Kraken's first interface have no checksum.
        assert messages[Trust.VERIFIED] >= 1
        assert messages[Trust.UNVERIFIABLE] == (1 if name == "kraken" else 0)
    for top in result.tops.values():
        assert top.best_bid is not None
        assert top.best_ask is not None
        assert top.best_bid.price < top.best_ask.price


def test_the_interface_is_told_by_the_recorded_address() -> None:
    def recorded(venue: str, *urls: str) -> LoadedRecording:
        opened = [Record(c, "open", c, url=url) for c, url in enumerate(urls)]
        return LoadedRecording(venue, {}, tuple(opened))

    one, two = "wss://stream.bybit.com/v5/public/linear", "wss://stream.bybit.com/v5/public/spot"
    both = recorded("bybit", one, two)
    assert name_of(both) == "bybit"
    assert connections_of(both, "bybit") == [0]
    assert connections_of(both, "bybit_spot") == [1]
    assert name_of(recorded("bybit", two)) == "bybit_spot"
    assert connections_of(recorded("bybit", two), "bybit_spot") is None, "that is all"
    assert name_of(recorded("kraken", "wss://ws.kraken.com")) == "kraken_v1"
    assert name_of(recorded("kraken", "wss://ws.kraken.com/v2")) == "kraken"
    assert name_of(recorded("kraken", "ws://127.0.0.1:80/")) == "kraken"
    assert name_of(recorded("okx", one)) == "okx", "another venue's address says nothing"
    assert connections_of(recorded("price", one), "price") is None


async def test_a_venue_is_recorded_through_the_whole_handler_and_replayed(tmp_path: Path) -> None:
    """Over loopback: its list of instruments and its snapshots come over REST."""
    path, cache = tmp_path / "a.zst", tmp_path / "binance.json"
    symbols = ["BTC-USDT", "ETH-USDT"]
    dialect = dialect_by_name("binance")
    async with MockWebSocketServer(tcp=True, dialect=dialect) as server, trio.open_nursery() as own:
        venue = evolve(server.venue(symbols), instruments=None)  # type: ignore[type-var]  # it is attrs'
        for symbol in symbols:
            server.next_delta(symbol)

        async def exchange() -> None:
            for c in range(2):
                connection = await server.next_connection()
                await connection.wait_heard()
                await trio.sleep(0.3)
                for _ in range(10):
                    for symbol in symbols:
                        await connection.send_messages(
                            [server.next_price(symbol), server.next_delta(symbol)]
                        )
                if c == 0:
                    await connection.close(1001, "bye")

        own.start_soon(exchange)
        output, text = plain()
        plan = Plan(
            out=path, venue="binance", symbols=symbols, channels=["trades", "book"],
            instruments=cache, seconds=2.0,
        )  # fmt: skip
        count = await record_venue(venue, plan, output)
        own.cancel_scope.cancel()
    assert "disconnected: the peer closed with code 1001 (bye)" in text.getvalue()
    assert "gap: BTC-USDT book reconnect" in text.getvalue()
    assert Instruments.loads(cache.read_text()).venue == "binance"
    with read_recording(path) as recording:
        assert recording.header.subscribed == {"trades": symbols, "book": symbols}
        records = list(recording)
    kinds = Counter(record.k for record in records)
    assert kinds["recv"] == count
    assert kinds["http"] == 1 + 2 * len(symbols)
    assert kinds["open"] == kinds["close"] == 2
    result = await replay(path)
    assert result.kinds["Trade"] == 40
    assert result.sent == count
    assert result.decode_errors == 0
    assert sorted(result.tops) == symbols
    for symbol in symbols:
        book = server.books[symbol]
        top = result.tops[symbol]
        assert [*map(str, top.bids[0])] == [*book.bids[0]]
        assert [*map(str, top.asks[0])] == [*book.asks[0]]
        assert result.coverage[symbol].message_share(Trust.VERIFIED) == 1.0


def test_symbols_are_listed_from_a_file(tmp_path: Path) -> None:
    listed = instruments_file(tmp_path / "okx.json")
    result = run("symbols", "--venue", "okx", "--instruments", listed)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "BTC-USDT   BTC-USDT   spot  active",
        "ETH-USDT   ETH-USDT   spot  active",
        "LUNA-USDT  LUNA-USDT  spot  not active",
    ]
    for pattern, found in (("btc", ["BTC-USDT"]), ("?TH-*", ["ETH-USDT"]), ("USDT", None)):
        result = run("symbols", "--venue", "okx", pattern, "--instruments", listed, "--active")
        names = [line.split()[0] for line in result.output.splitlines()]
        assert names == (found or ["BTC-USDT", "ETH-USDT"])


def test_without_httpx_an_old_list_is_used_and_else_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "feedhandler._io.http", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    old = instruments_file(tmp_path / "old.json", fetched_ns=1)
    assert run("symbols", "--venue", "okx", "--instruments", old).exit_code == 0
    out = tmp_path / "out.zst"
    for arguments in (
        ["symbols", "--venue", "okx"],
        ["watch", "--venue", "okx", "BTC-USDT"],
        ["watch", "okx", "BTC-USDT", "--instruments", str(tmp_path / "new.json")],
        ["record", "--venue", "binance", "--symbols", "BTC-USDT", "--out", str(out)],
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "install feedhandler[rest]" in result.output
    assert not out.exists()


# --- record and watch ----------------------------------------------------------------------------


async def test_what_is_recorded_through_a_reconnect_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    output, text = plain()
    async with MockWebSocketServer(tcp=True) as server, trio.open_nursery() as nursery:

        async def exchange() -> None:
            for c in range(2):
                connection = await server.next_connection()
                assert json.loads(await connection.receive())["symbols"] == ["A"]
                assert await connection.receive() == "hello"
                first = c * 3
                await connection.send_many(
                    [price_message("A", "1.5", n) for n in range(first, first + 3)]
                )
                await connection.send(b"\x01\x02")
                if c == 0:
                    await connection.close(1001, "bye")

        nursery.start_soon(exchange)
        plan = Plan(
            url=f"{server.url}?token=hunter2", out=path, venue="price", symbols=["A"],
            messages=["hello"], seconds=1.0,
        )  # fmt: skip
        assert await run_record(plan, output) == 0
    assert f"10 messages in {path}" in text.getvalue()
    assert "disconnected: the peer closed with code 1001 (bye)" in text.getvalue()
    with read_recording(path) as recording:
        assert recording.header.subscribed == {"price": ["A"]}
        records = list(recording)
    assert [record.t for record in records] == sorted(record.t for record in records)
    for c in range(2):
        own = [record for record in records if record.c == c]
        kinds = [record.k for record in own]
        assert kinds[0] == "open"
        assert kinds.count("send") == 2
        assert kinds.count("recv") == 5, "3 prices, the acknowledgement, a binary message"
        assert [r.payload for r in own if isinstance(r.payload, bytes)] == [b"\x01\x02"]
    assert [(r.code, r.reason) for r in records if r.k == "close"] == [(1001, "bye")]
    assert [r.c for r in records] == sorted(r.c for r in records if r.c is not None)
    assert "hunter2" not in repr([record.url for record in records])
    result = await replay(path)
    assert result.kinds["PriceUpdate"] == 6
    assert result.decode_errors == 2, "the binary messages"


async def test_a_symbol_of_an_unknown_venue_can_not_be_recorded(tmp_path: Path) -> None:
    plan = Plan(url="ws://127.0.0.1:9", out=tmp_path / "a", venue="x", symbols=["A"])
    with pytest.raises(ConfigError, match="is not known"):
        await run_record(plan, plain()[0])
    (tmp_path / "a").touch()
    with pytest.raises(RecordingError, match="nothing is overwritten"):
        await run_record(Plan(url="ws://127.0.0.1:9", out=tmp_path / "a"), plain()[0])


async def test_watch_prints_what_a_venue_sends() -> None:
    output, text = plain()
    async with MockWebSocketServer(tcp=True) as server, trio.open_nursery() as nursery:

        async def exchange() -> None:
            connection = await server.next_connection()
            await connection.send_many([price_message("A", "1.5", n) for n in (1, 5)])

        nursery.start_soon(exchange)
        assert await run_watch("price", ["A"], [], server.url, 1.3, output) == 0
    for told in ("state: connecting -> connected", "gap: A sequence, sequence 2..4", "A 1.5"):
        assert told in text.getvalue()
