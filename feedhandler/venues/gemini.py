"""Gemini, Market Data v2: trades and order books.

Sources, on developer.gemini.com:

- *Market Data v2* (kept in the archive of 2026, where a newer interface is preferred, at another
  address): one feed, `l2`, has the book and the trades of a symbol. The answer to a subscription is
  an `l2_updates` with the whole book in `changes` (side, price, size), and the last 50 trades; what
  follows are `l2_updates` with the new sizes of levels, 0 to end one, and a `trade` for each trade,
  with the taker's `side`, times in milliseconds, and its number as `tid`, or as `event_id` alone in
  what the venue sent in earlier years. Symbols are in capitals there. A trade whose `side` is
  ``block`` (observed in 2020) was made beside the book, has no taker, and is passed over.
- *Market Data v1*, heartbeats every 5 s. Errors: ``{"result": "error", "reason", "message"}``.
- *Rate limits*: 120 public requests a minute.
- REST, *Get Symbol Details*, each of whose answers is in the list at ``/v1/symbols/details/all``;
  the page does not name that (single answers can be read too). `tick_size` is the step of sizes,
  `quote_increment` that of prices.

There is no top of book, no time in a book's message, and nothing confirms a subscription but its
first answer, and nothing its end. Nothing numbers a book's messages, so a missing one can't be
told: its books are `UNVERIFIABLE`. The last 50 trades are from before the subscription: they are
told only where the feed was asked for anew for its book's sake, and then those that are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Dialer, Fetcher, Subscription
from feedhandler.config import valid_url
from feedhandler.errors import UsageError
from feedhandler.instruments import Instruments
from feedhandler.traits import Limits, VenueTraits
from feedhandler.venues.gemini_session import CHANNELS, GeminiSession, ask
from feedhandler.venues.gemini_symbols import parse_symbols

__all__ = ["Gemini"]

_TRAITS = VenueTraits(
    limits=Limits(requests_per_minute=120.0),
    silence_s=60.0,  # twelve heartbeats
)


@frozen
class Gemini:
    """Gemini's public market data, spot and perpetual."""

    url: str = field(
        default="wss://api.gemini.com/v2/marketdata", validator=valid_url, repr=redact_url
    )
    name: str = field(default="gemini", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True)
    rest_url: str = field(default="https://api.gemini.com", kw_only=True, repr=redact_url)

    @property
    def channels(self) -> Sequence[str]:
        return CHANNELS

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def session(self) -> GeminiSession:
        return GeminiSession(self.name, self.instruments or Instruments(()))

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask("subscribe", [one.symbol for one in subscriptions], self._listed)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask("unsubscribe", [one.symbol for one in subscriptions], self._listed)

    def instrument_urls(self) -> Sequence[str]:
        return (f"{self.rest_url}/v1/symbols/details/all",)

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_symbols(self.name, bodies)

    def with_instruments(self, instruments: Instruments) -> Self:
        return evolve(self, instruments=instruments)

    @property
    def _listed(self) -> Instruments:
        if self.instruments is None:
            raise UsageError(f"{self.name} has no list of instruments: `load_instruments()` it")
        return self.instruments
