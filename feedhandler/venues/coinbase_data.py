"""Coinbase's trades and tickers, from its messages to events, and what all its messages share.

A message is read at once into what its `channel` says. Where something about it is out of the
ordinary it is read once more, field by field, to name all that is wrong. Amounts are strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from feedhandler._core.construct import twin_of
from feedhandler._core.levels import are_written_right
from feedhandler.codec import MAX_AMOUNT, MIN_AMOUNT, FastDecoder, parse_amount, parse_time_ns
from feedhandler.errors import DecodeError
from feedhandler.model import Quote, Side, Trade
from feedhandler.venues.coinbase_messages import StrictTickers, StrictTrades, Tickers, Trades

__all__ = ["CoinbaseCodec", "Problems", "named"]

Problems = list[tuple[str, str]]

_MAX_TEXT = 64  # characters of a time; what is longer is none
_QUOTED = ("best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity")
# What a maker's side means for the taker, who is on the other one.
_TAKER = {"BUY": Side.SELL, "SELL": Side.BUY}
_TradeTwin = twin_of(Trade)
_QuoteTwin = twin_of(Quote)


class CoinbaseCodec:
    """Reads one connection's messages. `symbol_of` gives a product's canonical symbol, if any."""

    def __init__(self, venue: str, symbol_of: Callable[[str], str | None]) -> None:
        self._venue = venue
        self._symbol_of = symbol_of
        self._trades = FastDecoder(StrictTrades, venue=venue, amounts_as_text=True)
        self._tickers = FastDecoder(StrictTickers, venue=venue, amounts_as_text=True)
        self._second = ""  # the beginning of the time that was read last, and what it means
        self._second_ns = 0

    def time_ns(self, text: str) -> int:
        """Raises `ValueError`."""
        fraction = text[20:-1]
        if (
            text[:19] == self._second
            and text[19:20] == "."
            and text[-1:] == "Z"
            and len(fraction) < 10
            and fraction.isascii()
            and fraction.isdecimal()
        ):
            return self._second_ns + int(fraction.ljust(9, "0"))
        time_ns = parse_time_ns(text[:_MAX_TEXT])
        if text[-1:] == "Z" and text[10:11] == "T":
            self._second, self._second_ns = text[:19], time_ns - time_ns % 1_000_000_000
        return time_ns

    def check_time(self, text: str, path: str, problems: Problems) -> int:
        try:
            return self.time_ns(text)
        except ValueError as error:
            problems.append((path, str(error)))
            return 0

    # --- trades ---

    def trades(
        self, read: Trades | None, data: str | bytes, number: int, recv_ns: int, epoch: int
    ) -> list[Trade]:
        """The events of a message, already read or not. Raises `DecodeError`."""
        events: list[Trade] = []
        problems: Problems = []
        for i, event in enumerate((read or self._trades.decode_strictly(data)).events):
            for j, told in enumerate(event.trades):
                symbol = self._symbol_of(told.product_id)
                amounts: Sequence[Decimal]
                try:
                    amounts = exactly(told.price, told.size)
                    time_ns = self.time_ns(told.time)
                except (ArithmeticError, ValueError):
                    at = f"$.events[{i}].trades[{j}]"
                    amounts = named(told, ("price", "size"), at, problems)
                    time_ns = self.check_time(told.time, f"{at}.time", problems)
                if problems or symbol is None:
                    continue
                trade: Any = _TradeTwin(
                    symbol, amounts[0], amounts[1], _TAKER[told.side], told.trade_id, number,
                    time_ns, recv_ns, self._venue, epoch,
                )  # fmt: skip
                trade.__class__ = Trade
                events.append(trade)
        if problems:
            raise DecodeError(self._venue, data, problems)
        return events

    # --- the top of the book ---

    def quotes(
        self, read: Tickers | None, data: str | bytes, number: int, recv_ns: int, epoch: int
    ) -> list[Quote]:
        """As `trades()`."""
        quotes: list[Quote] = []
        problems: Problems = []
        message = read or self._tickers.decode_strictly(data)
        time_ns = self.check_time(message.timestamp, "$.timestamp", problems)
        for i, event in enumerate(message.events):
            for j, told in enumerate(event.tickers):
                symbol = self._symbol_of(told.product_id)
                amounts: Sequence[Decimal]
                try:
                    amounts = exactly(
                        told.best_bid, told.best_bid_quantity,
                        told.best_ask, told.best_ask_quantity,
                    )  # fmt: skip
                except (ArithmeticError, ValueError):
                    amounts = named(told, _QUOTED, f"$.events[{i}].tickers[{j}]", problems)
                if problems or symbol is None:
                    continue
                bid, bid_size, ask, ask_size = amounts
                quote: Any = _QuoteTwin(
                    symbol,
                    bid or None,  # a side that is empty has no price
                    bid_size if bid else None,
                    ask or None,
                    ask_size if ask else None,
                    number, time_ns, recv_ns, self._venue, epoch,
                )  # fmt: skip
                quote.__class__ = Quote
                quotes.append(quote)
        if problems:
            raise DecodeError(self._venue, data, problems)
        return quotes


def exactly(*texts: str) -> list[Decimal]:
    """Their numbers; raises `ArithmeticError` or `ValueError` where one is out of the ordinary."""
    if not are_written_right("".join(texts)):
        raise ValueError
    amounts = [Decimal(text) for text in texts]
    for amount in amounts:
        if not MIN_AMOUNT <= amount <= MAX_AMOUNT:
            raise ValueError
    return amounts


def named(message: Any, names: Iterable[str], at: str, problems: Problems) -> list[Decimal]:
    """The amounts in these fields of `message`, whose path is `at`, as far as they are right."""
    amounts = []
    for name in names:
        try:
            amounts.append(parse_amount(getattr(message, name)))
        except ValueError as error:
            problems.append((f"{at}.{name}", str(error)))
    return amounts
