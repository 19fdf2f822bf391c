"""Binance spot: trades, top of book, and order books whose snapshots come over REST.

Sources: github.com/binance/binance-spot-api-docs, as of 2026-07-17.

- *web-socket-streams.md*, "General WSS information": combined streams, names in lower case, 24 h
  of life, pings by the server every 20 s, `timeUnit`; "WebSocket Limits": 5 messages a second
  (pings and pongs count), 1,024 streams a connection, 300 connections in 5 minutes of an address;
  "Server Shutdown"; "Live Subscribing/Unsubscribing": requests, and answers by their id. (Streams
  that there are not are confirmed too; of a book, REST then says that the symbol is invalid.)
- The same, "Aggregate Trade Streams", "Individual Symbol Book Ticker Streams" (no time), "Diff.
  Depth Stream", and "How to manage a local order book correctly": changes up to the snapshot's
  `lastUpdateId` are dropped, the first that is applied holds the one after it, and each begins
  after the end of the last. What lies beyond a snapshot's last level is unknown until it changes.
- *rest-api.md*, "Order book" (weight 50 for up to 1,000 levels), "Exchange information", "IP
  Limits" (429, and 418 for a ban, each with `Retry-After`); the answer to `/api/v3/exchangeInfo`
  names 6,000 of weight a minute. *enums.md*: states of a symbol. *errors.md*: ``{"code", "msg"}``.

Aggregate trades are numbered; that their ids rise by one is seen, not documented.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self
from urllib.parse import quote, urlsplit

from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Dialer, Fetcher, Subscription
from feedhandler.config import valid_url
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol
from feedhandler.traits import Limits, VenueTraits
from feedhandler.venues.binance_listing import Listed, read_instruments
from feedhandler.venues.binance_requests import CHANNELS, Naming, requests_of
from feedhandler.venues.binance_session import BinanceSession

__all__ = ["Binance"]

_REST = "https://api.binance.com"
_LIMITS = Limits(
    subscriptions=1024,
    messages_per_s=5,  # pings and pongs count
    connects_per_minute=60,
    requests_per_minute=6000,
)


@frozen
class Binance:
    """Binance's spot market. With ``timeUnit=MICROSECOND`` in its `url` it sends exacter times."""

    url: str = field(
        default="wss://stream.binance.com:9443/stream", validator=valid_url, repr=redact_url
    )
    name: str = field(default="binance", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True)
    rest_url: str = field(default=_REST, kw_only=True, repr=redact_url)

    @property
    def channels(self) -> Sequence[str]:
        return tuple(CHANNELS)

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return VenueTraits(limits=_LIMITS, max_lifetime_s=86_400)

    def session(self) -> BinanceSession:
        exact = "timeunit=microsecond" in urlsplit(self.url).query.lower()
        unit_ns = 1000 if exact else 1_000_000
        return BinanceSession(self.name, self._naming, linked=False, unit_ns=unit_ns)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [requests_of("SUBSCRIBE", subscriptions, self._naming, 1)]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [requests_of("UNSUBSCRIBE", subscriptions, self._naming, 2)]

    # --- REST ---

    @property
    def snapshot_weight(self) -> float:
        return 50

    def snapshot_url(self, subscription: Subscription) -> str:
        symbol = quote(self._naming.theirs(subscription.symbol))
        return f"{self.rest_url}/api/v3/depth?symbol={symbol}&limit=1000"

    def instrument_urls(self) -> list[str]:
        return [f"{self.rest_url}/api/v3/exchangeInfo"]

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        """See `feedhandler.abc.ListedVenue`."""
        return read_instruments(self.name, bodies, _instrument)

    def with_instruments(self, instruments: Instruments) -> Self:
        return evolve(self, instruments=instruments)

    @property
    def _naming(self) -> Naming:
        return Naming(self.instruments)


def _instrument(listed: Listed) -> Instrument:
    return listed.instrument(
        canonical_symbol(listed.baseAsset, listed.quoteAsset), InstrumentKind.SPOT
    )
