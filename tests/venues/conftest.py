"""What a venue makes of a real recording, held to what an independent implementation made of it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from feedhandler import (
    BookDelta,
    BookShelf,
    BookSnapshot,
    Event,
    Gap,
    Level,
    Quote,
    Side,
    Trade,
    Trust,
)
from feedhandler.abc import (
    Control,
    HttpResponse,
    Malformed,
    Resync,
    Session,
    SnapshotSession,
    SnapshotVenue,
    Subscription,
    Venue,
)
from feedhandler.recording import Record, read_recording

Item = Event | Control


def exact(number: Decimal | None) -> str:
    """Without exponent and without trailing zeros."""
    if number is None:
        return "-"
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _microseconds(time_ns: int | None) -> str:
    return "-" if time_ns is None else str(time_ns // 1000)


def _sha(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _whole(digests: dict[str, str]) -> str:
    return _sha(f"{symbol}|{digests[symbol]}" for symbol in sorted(digests))


class Proof:
    """A recording with its expected results, and what was made of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.jsonl.zst"
        self.expected: dict[str, Any] = json.loads(
            (folder / "expected" / f"{name}.json").read_text()
        )
        with read_recording(self.path) as recording:
            self.subscribed = dict(recording.header.subscribed)
            self.records: list[Record] = [*recording]

    def rest_answers(self) -> Iterator[tuple[str, bytes]]:
        """Each recorded REST answer, with its URL."""
        for record in self.records:
            if record.k == "http" and record.url is not None and record.payload is not None:
                yield record.url, _bytes(record.payload)

    def instruments_bodies(self, venue: Any) -> list[bytes]:
        """The answers to the venue's `instrument_urls()`: the first recorded for each, or, where it
        was asked for in another way, for its path."""
        answers = dict(reversed([*self.rest_answers()]))
        of_path = {urlsplit(url).path: body for url, body in answers.items()}
        return [answers.get(url, of_path[urlsplit(url).path]) for url in venue.instrument_urls()]

    # --- driving a session ---

    def decode(
        self,
        venue: Venue,
        *,
        only: Callable[[str], bool] = lambda url: True,
        change: Callable[[Iterable[Record]], Iterable[Record]] = iter,
    ) -> list[Item]:
        """What a session makes of the messages of all connections whose URL is meant, in order.

        Connections have sessions of their own. A snapshot over REST is given to the session that
        has asked for it (`Resync`), when its recorded answer comes. `change` may plant faults.
        """
        sessions: dict[int, Session] = {}
        wanted: dict[Subscription, Session] = {}
        items: list[Item] = []

        def take(new: Iterable[Item], session: Session) -> None:
            for item in new:
                items.append(item)
                if isinstance(item, Resync):
                    wanted[item.subscription] = session

        for record in change(self.records):
            if record.k == "open" and record.c is not None and only(record.url or ""):
                sessions[record.c] = venue.session()
            elif record.k == "recv" and record.c in sessions and record.payload is not None:
                session = sessions[record.c]
                take(session.decode(record.payload, recv_ns=record.t, epoch=1), session)
            elif record.k == "http" and isinstance(venue, SnapshotVenue):
                for subscription in self._books() if sessions else ():
                    if not _same_request(venue.snapshot_url(subscription), record.url or ""):
                        continue
                    # Where it was fetched before anything was read, nobody has asked for it yet.
                    session = wanted.pop(subscription, None) or [*sessions.values()][-1]
                    assert isinstance(session, SnapshotSession)
                    answer = HttpResponse(200, (), _bytes(record.payload or b""))
                    new = session.decode_snapshot(subscription, answer, recv_ns=record.t, epoch=1)
                    take(new, session)
        return items

    def _books(self) -> list[Subscription]:
        return [Subscription("book", symbol) for symbol in self.subscribed.get("l2_book", ())]

    # --- judging ---

    def check(
        self, items: Iterable[object], *, trust: Trust, ticker: bool = True, partly: bool = False
    ) -> None:
        """Every count, sum and digest that is expected, no gap, and every book of this `trust`.

        With `partly` only the symbols that occur are compared, and not the venue's whole.
        """
        items = [*items]
        bad = [item for item in items if isinstance(item, Gap | Malformed)]
        assert not bad, bad[:3]
        lines, books = _lines(items)
        names = ["trades", "book_top", *(["ticker"] if ticker else [])]
        for name in names:
            for kind in (
                name,
                f"{name.removesuffix('_top')}_ts" if name == "book_top" else f"{name}_ts",
            ):
                got = {symbol: _sha(told) for symbol, told in lines[kind].items()}
                wanted = {
                    symbol: digests[kind]
                    for symbol, digests in self.expected["per_symbol"].items()
                    if kind in digests and (symbol in got or not partly)
                }
                assert got == wanted, (kind, [s for s in wanted if got.get(s) != wanted[s]])
                if not partly:
                    assert _whole(got) == self.expected["sha256"][kind], kind
        final = self.expected["final_books"]
        tops = {symbol: books.top(symbol, depth=None) for symbol in final}
        whole: dict[str, str] = {}
        for symbol, top in tops.items():
            if partly and top is None:
                continue
            assert top is not None, symbol
            assert top.trust is trust, (symbol, top.trust)
            assert len(top.bids) == final[symbol]["bid_levels"], symbol
            assert len(top.asks) == final[symbol]["ask_levels"], symbol
            assert _levels_digest(top.bids, top.asks) == final[symbol]["levels_sha256"], symbol
            whole[symbol] = _levels_digest(top.bids, top.asks)
            if top.sequence is not None and "last_sequence" in final[symbol]:
                assert top.sequence == final[symbol]["last_sequence"], symbol
        told = [i for i in items if isinstance(i, BookSnapshot | BookDelta)]
        assert {book.trust for book in told} == {trust}
        if not partly:
            assert _whole(whole) == self.expected["sha256"]["final_books"]
            self._check_counts(items)

    def _check_counts(self, items: list[object]) -> None:
        trades = [item for item in items if isinstance(item, Trade)]
        counts = {
            "trades": len(trades),
            "trades_buy": sum(trade.side is Side.BUY for trade in trades),
            "trades_sell": sum(trade.side is Side.SELL for trade in trades),
            "ticker": sum(isinstance(item, Quote) for item in items),
            "l2_snapshots": sum(isinstance(item, BookSnapshot) for item in items),
            "l2_deltas": sum(isinstance(item, BookDelta) for item in items),
        }
        expected = self.expected["counts"]
        assert {name: counts[name] for name in expected} == expected


@pytest.fixture(scope="session")
def proof(recordings: Path) -> Callable[[str], Proof]:
    """Makes the `Proof` of a recording by its name; each is read once."""
    made: dict[str, Proof] = {}

    def of(name: str) -> Proof:
        if name not in made:
            made[name] = Proof(recordings, name)
        return made[name]

    return of


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def _same_request(ours: str, recorded: str) -> bool:
    """Whether two URLs ask for the same thing, but for how much of it."""
    a, b = urlsplit(ours), urlsplit(recorded)
    return a.path.rstrip("/") == b.path.rstrip("/") and (
        parse_qs(a.query).get("symbol") == parse_qs(b.query).get("symbol")
    )


def _levels_digest(bids: Iterable[Level], asks: Iterable[Level]) -> str:
    sides = (("bid", bids), ("ask", asks))
    return _sha(f"{side}|{exact(p)}|{exact(s)}" for side, levels in sides for p, s in levels)


def _lines(items: Iterable[object]) -> tuple[dict[str, dict[str, list[str]]], BookShelf]:
    """The lines of the recordings' README, by kind and symbol, and the books in the end."""
    lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    shelf = BookShelf()
    for item in items:
        match item:
            case Trade():
                lines["trades"][item.symbol].append(
                    f"T|{item.symbol}|{item.side.value}|{exact(item.price)}|{exact(item.size)}"
                    f"|{item.trade_id or '-'}"
                )
                lines["trades_ts"][item.symbol].append(_microseconds(item.venue_time_ns))
            case Quote():
                line = f"Q|{item.symbol}|{exact(item.bid)}|{exact(item.ask)}"
                lines["ticker"][item.symbol].append(line)
                lines["ticker_ts"][item.symbol].append(_microseconds(item.venue_time_ns))
            case BookSnapshot() | BookDelta():
                shelf.fold([item])
                top = shelf.top(item.symbol, depth=1)
                assert top is not None
                levels = (top.best_bid or (None, None)), (top.best_ask or (None, None))
                told = "|".join(exact(number) for level in levels for number in level)
                kind = "S" if isinstance(item, BookSnapshot) else "D"
                lines["book_top"][item.symbol].append(f"B|{item.symbol}|{kind}|{told}")
                lines["book_ts"][item.symbol].append(_microseconds(item.venue_time_ns))
            case _:
                pass
    return lines, shelf
