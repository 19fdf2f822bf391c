"""Measure the whole of a venue beside cryptofeed: ``python benchmarks/cryptofeed_peer.py``.

From the bytes of each recorded message to normalised events: trades, tickers, and books with the
message applied, of which the best bid and the best ask are read after each. No network, no task, no
socket: cryptofeed's own `message_handler` is awaited for one message after the other, with a
callback for each kind of event, and its REST requests are answered out of the recording. Messages
about candles, of which only cryptofeed would make anything, are left out (on Coinbase, where each
message has a number, a heartbeat of the same number takes their place).

cryptofeed needs Python 3.13 and packages that nobody else here needs, so both peers run in an
environment that is made for them, feedhandler with the same Python; where there is no such Python
or the packages cannot be had, the benchmark says so and is skipped. A peer whose books at the end,
or counts of trades and tickers, are not those that the recordings say is told of, and then there is
no ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).parent
ROOT = HERE.parent
VENUES = ("coinbase", "binance_futures", "bybit")
THEIRS, OURS = "cryptofeed", "feedhandler"
REQUIREMENT = "cryptofeed==3.0.1"
NEEDED = (3, 13)
TARGET = 5.0  # the least ratio of our messages a second to theirs
PASSES = 5  # of which the first warms up

_REST = -1  # stands in the place of a connection
Message = tuple[int, bytes, int]  # the connection, the payload, and when it was received
Pairs = Iterable[tuple[Decimal, Decimal]]


# --- the recording -------------------------------------------------------------------------------


class Recorded:
    """What a recording holds: messages, addresses of connections, answers of REST."""

    def __init__(self, venue: str, recordings: Path) -> None:
        from feedhandler.recording import read_recording

        self.venue = venue
        self.messages: list[Message] = []
        self.addresses: dict[int, str] = {}
        self.answers: dict[str, str] = {}
        self.depths: dict[str, bytes] = {}
        # The messages, and between them the addresses whose answers came then, if of a book.
        self.steps: list[Message] = []
        with read_recording(recordings / f"{venue}.jsonl.zst") as records:
            self.subscribed = records.header.subscribed
            for record in records:
                payload = record.payload
                if record.k == "open":
                    self.addresses[record.c or 0] = record.url or ""
                elif record.k == "http":
                    url, body = record.url or "", _text(payload)
                    self.answers[url] = body
                    if "/depth?" in url:
                        self.depths[url] = body.encode()
                        self.steps.append((_REST, url.encode(), record.t))
                elif record.k == "recv" and payload is not None:
                    kept = _without_candles(venue, _text(payload))
                    if kept is not None:
                        self.messages.append((record.c or 0, kept.encode(), record.t))
                        self.steps.append(self.messages[-1])


def _text(payload: str | bytes | None) -> str:
    return payload.decode() if isinstance(payload, bytes) else payload or ""


def _without_candles(venue: str, text: str) -> str | None:
    message = json.loads(text)
    if venue == "coinbase" and message.get("channel") == "candles":
        return json.dumps({**message, "channel": "heartbeats", "events": []})
    if "@kline" in message.get("stream", "") or message.get("topic", "").startswith("kline"):
        return None
    return text


def digest(bids: Pairs, asks: Pairs) -> str:
    """The digest of a book that the recordings' README defines; best levels first."""
    lines = hashlib.sha256()
    for side, levels in (("bid", bids), ("ask", asks)):
        for price, size in levels:
            lines.update(f"{side}|{_exact(price)}|{_exact(size)}\n".encode())
    return lines.hexdigest()


def _exact(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- the peers: each gives the time it took, what it counted, and its books ----------------------

Outcome = tuple[float, Counter[str], dict[str, tuple[Pairs, Pairs]]]


class Answering:
    """Stands where cryptofeed has its HTTP connection."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers

    async def read(self, address: str, **_: Any) -> str:
        if address in self._answers:
            return self._answers[address]
        if "/instruments-info" in address:  # of a market that the recording leaves out
            return '{"result": {"list": []}}'
        raise SystemExit(f"the recording has no answer for {address}")

    async def close(self) -> None:
        pass


async def theirs(recorded: Recorded) -> Outcome:
    """One pass of cryptofeed: its own handler, its own books, a callback for each kind of event."""
    from cryptofeed.defines import L2_BOOK, TICKER, TRADES
    from cryptofeed.exchanges import BinanceFutures, Bybit, Coinbase

    kind: Any = {"coinbase": Coinbase, "binance_futures": BinanceFutures, "bybit": Bybit}
    kind = kind[recorded.venue]
    getattr(kind, "tickers", {}).clear()  # Bybit's are the class's, and so the last pass's
    http = Answering(recorded.answers)
    await kind.load_symbols(conn=http)

    counts: Counter[str] = Counter()
    tops: list[Any] = [None, None]

    async def on_book(book: Any, _: float) -> None:
        counts["books"] += 1
        sides = book.book
        tops[0] = sides.bids.index(0) if len(sides.bids) else None
        tops[1] = sides.asks.index(0) if len(sides.asks) else None

    async def on_trade(_: Any, __: float) -> None:
        counts["trades"] += 1

    async def on_ticker(_: Any, __: float) -> None:
        counts["ticker"] += 1

    names = {"l2_book": L2_BOOK, "trades": TRADES, "ticker": TICKER}
    feed = kind(
        subscription={names[n]: [*s] for n, s in recorded.subscribed.items() if n in names},
        callbacks={L2_BOOK: on_book, TRADES: on_trade, TICKER: on_ticker},
        config={"log": {"disabled": True}},
    )
    feed.http_conn = http
    connections = {
        number: SimpleNamespace(address=address, uuid=str(number), subscription=feed.subscription)
        for number, address in recorded.addresses.items()
    }
    handle = feed.message_handler
    began = time.perf_counter()
    for number, payload, received in recorded.messages:
        # Its WebSocket library gives it text, and a time in seconds.
        await handle(payload.decode(), connections[number], received / 1e9)
    seconds = time.perf_counter() - began
    return seconds, counts, {
        symbol: (book.book.bids.to_list(), book.book.asks.to_list())
        for symbol, book in feed._l2_book.items()
    }  # fmt: skip


def ours(recorded: Recorded) -> Outcome:
    """One pass of feedhandler: each connection's session, which keeps its books and checks them.

    A session that has asked for a snapshot over REST (`Resync`) is given the recorded answer when
    that came. The best bid and ask are read from the session's own book after each of its events.
    """
    from feedhandler import BookDelta, BookSnapshot, Gap, Quote, Trade
    from feedhandler.abc import HttpResponse, Malformed, Resync

    venues = {number: _venue(recorded, url) for number, url in recorded.addresses.items()}
    sessions: dict[int, Any] = {number: venue.session() for number, venue in venues.items()}
    answers = {_request(url): HttpResponse(200, (), body) for url, body in recorded.depths.items()}
    waiting: dict[str, tuple[Any, Any]] = {}  # by request: the session, and the subscription
    counts: Counter[str] = Counter()
    tops: list[Any] = [None, None]
    began = time.perf_counter()
    for number, payload, received in recorded.steps:
        if number == _REST:
            session, subscription = waiting.pop(_request(payload.decode()))
            answer = answers[_request(payload.decode())]
            items = session.decode_snapshot(subscription, answer, recv_ns=received, epoch=1)
        else:
            session = sessions[number]
            items = session.decode(payload.decode(), recv_ns=received, epoch=1)
        for item in items:
            kind = type(item)
            if kind is BookDelta or kind is BookSnapshot:
                counts["books"] += 1
                tops[0], tops[1] = session.best(item.symbol)
            elif kind is Quote:
                counts["ticker"] += 1
            elif kind is Trade:
                counts["trades"] += 1
            elif kind is Resync:
                asked = venues[number].snapshot_url(item.subscription)
                waiting[_request(asked)] = session, item.subscription
            elif kind is Gap or kind is Malformed:
                counts["gaps and malformed messages"] += 1
    seconds = time.perf_counter() - began
    images = {
        symbol: image
        for session in sessions.values()
        for symbol in recorded.subscribed["l2_book"]
        if (image := session.book_image(symbol)) is not None
    }
    return seconds, counts, {symbol: (image.bids, image.asks) for symbol, image in images.items()}


def _venue(recorded: Recorded, address: str) -> Any:
    """The venue of the connection to `address`, with the instruments that the recording lists."""
    from feedhandler import venue_by_name
    from feedhandler.venues.bybit import Bybit

    venue: Any = venue_by_name(recorded.venue)
    if recorded.venue == "bybit":
        venue = Bybit(category="spot" if address.endswith("/spot") else "linear")
    listed = {_listing(url): body.encode() for url, body in recorded.answers.items()}
    bodies = [listed[_listing(url)] for url in venue.instrument_urls()]
    return venue.with_instruments(venue.parse_instruments(bodies))


def _listing(url: str) -> str:
    """What a list of instruments is of."""
    split = urlsplit(url)
    return f"{split.path}?{parse_qs(split.query).get('category')}"


def _request(url: str) -> str:
    """What a snapshot is of, however deep it is to be."""
    split = urlsplit(url)
    return f"{split.path}?{parse_qs(split.query).get('symbol')}"


def child(peer: str, venue: str, recordings: Path) -> dict[str, Any]:
    """In the peers' environment: some passes; the median of their rates, and what came of it."""
    recorded = Recorded(venue, recordings)
    expected = json.loads((recordings / "expected" / f"{venue}.json").read_text())
    rates = []
    counts: Counter[str] = Counter()
    found: dict[str, str] = {}
    for _ in range(PASSES):
        gc.collect()
        seconds, counts, books = asyncio.run(theirs(recorded)) if peer == THEIRS else ours(recorded)
        rates.append(len(recorded.messages) / seconds)
        found = {symbol: digest(*sides) for symbol, sides in books.items()}
        del books
    books_of = expected["final_books"].items()
    wrong = [f"book of {s}" for s, book in books_of if found.get(s) != book["levels_sha256"]]
    wanted = expected["counts"]
    wrong += [name for name in ("trades", "ticker") if counts[name] != wanted[name]]
    wrong += [name for name in ("gaps and malformed messages",) if counts[name]]
    if counts["books"] < wanted["l2_deltas"] + wanted["l2_snapshots"]:
        wrong.append("books after each message")
    return {
        "messages": len(recorded.messages),
        "rate": statistics.median(rates[1:]),
        "counts": counts,
        "wrong": wrong,
    }


# --- the environment, and telling ----------------------------------------------------------------


def _pythons() -> Iterator[str]:
    yield sys.executable
    for minor in range(NEEDED[1], NEEDED[1] + 3):
        name = f"python{NEEDED[0]}.{minor}"
        if found := shutil.which(name):
            yield found
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        yield from map(str, sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"), reverse=True))


def python_for_peers() -> str | None:
    """A Python that is new enough and runs; a version manager's shim may do neither."""
    check = f"import sys; sys.exit(sys.version_info < {NEEDED})"
    for python in _pythons():
        try:
            if (
                subprocess.run([python, "-c", check], capture_output=True, timeout=30).returncode
                == 0
            ):
                return python
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None


def environment(folder: Path, wheel: Path | None) -> Path | str:
    """The Python of the peers' environment, which is made in `folder`; or why there is none."""
    python = python_for_peers()
    if python is None:
        return f"no Python {NEEDED[0]}.{NEEDED[1]} or newer runs here, which {REQUIREMENT} needs"
    made = folder / "bin" / "python"
    pip = [str(made), "-m", "pip", "install", "--quiet"]
    us = f"feedhandler[recording] @ {(wheel or ROOT).resolve().as_uri()}"
    steps = [
        *([] if made.exists() else [[python, "-m", "venv", str(folder)]]),
        [*pip, REQUIREMENT, us],
        # Its version stays the same between two changes, so pip would keep the old one.
        [*pip, "--force-reinstall", "--no-deps", us],
    ]
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=900)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the environment of {REQUIREMENT} could not be made: {error}"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            return f"{REQUIREMENT} could not be installed: {last}"
    return made


def in_environment(python: Path, peer: str, venue: str, recordings: Path) -> dict[str, Any]:
    """One run of `peer`; `error` in its place where it fails."""
    done = subprocess.run(
        [python, Path(__file__), "--child", peer, venue, "--recordings", recordings],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return {"error": last}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(python: Path, venue: str, recordings: Path, rounds: int) -> dict[str, Any]:
    """Both peers in turn, `rounds` times."""
    found: dict[str, Any] = {}
    rates: dict[str, list[float]] = {THEIRS: [], OURS: []}
    for number in range(rounds):
        for peer in [*rates][:: -1 if number % 2 else 1]:
            if "error" in found.get(peer, {}):
                continue
            found[peer] = in_environment(python, peer, venue, recordings)
            if "error" not in found[peer]:
                rates[peer].append(found[peer]["rate"])
    for peer, values in rates.items():
        if "error" not in found[peer]:
            found[peer]["rate"] = statistics.median(values)
    if not any("error" in one or one["wrong"] for one in found.values()):
        pairs = zip(rates[OURS], rates[THEIRS], strict=True)
        found["ratio"] = statistics.median(ours / theirs for ours, theirs in pairs)
    return found


def tell(results: dict[str, Any]) -> None:
    print(f"\nbytes to events and books{'':15}{OURS:>12}{THEIRS:>12}   messages/s")
    for venue, found in results.items():
        rates = [f"{found[p]['rate']:12,.0f}" if "rate" in found[p] else f"{'-':>12}" for p in
                 (OURS, THEIRS)]  # fmt: skip
        ratio = found.get("ratio")
        met = "" if ratio is None else f"{ratio:6.2f} x  {'ok' if ratio >= TARGET else 'SHORT'}"
        print(f"{venue:40}{''.join(rates)}   {met}")
        for peer in (OURS, THEIRS):
            if "error" in found[peer]:
                print(f"  {peer}: {found[peer]['error']}")
            elif found[peer]["wrong"]:
                print(f"  {peer}: not what is expected: {', '.join(found[peer]['wrong'])}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    named = os.environ.get("FEEDHANDLER_RECORDINGS")
    there = Path(named) if named else ROOT.parent / "shared" / "recordings"
    parser.add_argument("--child", nargs=2, metavar=("PEER", "VENUE"), help=argparse.SUPPRESS)
    parser.add_argument("--recordings", type=Path, default=there)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--venues", nargs="*", default=list(VENUES), choices=VENUES)
    parser.add_argument("--wheel", type=Path, help="of feedhandler; otherwise it is built")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child, options.recordings)))
        return
    if not options.recordings.is_dir():
        print("cryptofeed is skipped: there are no recordings; set FEEDHANDLER_RECORDINGS")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    python = environment(options.out / "cryptofeed-venv", options.wheel)
    if isinstance(python, str):
        print(f"cryptofeed is skipped: {python}")
        return
    results = {}
    for venue in options.venues:
        results[venue] = measure(python, venue, options.recordings, options.rounds)
        print(f"  cryptofeed: {venue}", file=sys.stderr)
    tell(results)
    document = {"requirement": REQUIREMENT, "rounds": options.rounds, "venues": results}
    (options.out / "cryptofeed.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nwritten: {options.out / 'cryptofeed.json'}")


if __name__ == "__main__":
    main()
