"""Binance USD-M futures: trades, top of book, and order books whose snapshots come over REST.

Sources: developers.binance.com, "USDS-Margined Futures", in 2026.

- *Important WebSocket Change Notice* (2026-03-06): since 2026-04-23 there are two entries for
  market data, ``/public`` (depth, bookTicker) and ``/market`` (aggTrade). Neither refuses the
  other's streams, or sends them ("Market Data Streams", CaaS: it fails silently), so a feed has a
  connection to each that it needs (`entry()`). Any other address, such as a proxy's, has all.
- *Websocket Market Streams*: combined streams, 24 h of life, pings by the server every 3 minutes,
  10 messages a second. It has allowed 200 streams a connection and then 1,024: 200 fits both.
- *Aggregate Trade Streams*, *Individual Symbol Book Ticker Streams*, *Diff. Book Depth Streams*,
  and *How to manage a local order book correctly*: changes before the snapshot's `lastUpdateId` are
  dropped, the first that is applied holds it, and each names the end of the last (`pu`). What lies
  beyond a snapshot's last level is unknown until it changes.
- *Order Book* (weight 20 for 1,000 levels), *Exchange Information*: kinds of contracts, and 2,400
  of weight a minute. Times: `T` of a trade, `E` of a book's or a top's message.

Not on these pages: `serverShutdown`, which is spot's, is heeded here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Self
from urllib.parse import quote

from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Dialer, Fetcher, Subscription
from feedhandler.config import valid_url
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol
from feedhandler.traits import Limits, VenueTraits
from feedhandler.venues.binance_listing import Listed, read_instruments
from feedhandler.venues.binance_requests import CHANNELS, Naming, requests_of
from feedhandler.venues.binance_session import BinanceSession

__all__ = ["BinanceFutures"]

PUBLIC = "wss://fstream.binance.com/public/stream"
MARKET = "wss://fstream.binance.com/market/stream"
_REST = "https://fapi.binance.com"
_LIMITS = Limits(
    subscriptions=200,
    messages_per_s=10,  # pings and pongs count
    requests_per_minute=2400,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  # reads as what it is


@frozen
class BinanceFutures:
    """Binance's USD-M futures: ``BTC-USDT-PERP``, and dated ones, ``BTC-USDT-20260327``."""

    url: str = field(default=PUBLIC, validator=valid_url, repr=redact_url)
    name: str = field(default="binance_futures", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True)
    rest_url: str = field(default=_REST, kw_only=True, repr=redact_url)

    def entry(self, channel: str) -> Self:
        """See `feedhandler.abc.SplitVenue`: trades have an address of their own."""
        if self.url not in (PUBLIC, MARKET):
            return self
        return evolve(self, url=MARKET if channel == "trades" else PUBLIC)

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
        return BinanceSession(self.name, self._naming, linked=True, unit_ns=1_000_000)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [requests_of("SUBSCRIBE", subscriptions, self._naming, 1)]

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return [requests_of("UNSUBSCRIBE", subscriptions, self._naming, 2)]

    # --- REST ---

    @property
    def snapshot_weight(self) -> float:
        return 20

    def snapshot_url(self, subscription: Subscription) -> str:
        symbol = quote(self._naming.theirs(subscription.symbol))
        return f"{self.rest_url}/fapi/v1/depth?symbol={symbol}&limit=1000"

    def instrument_urls(self) -> list[str]:
        return [f"{self.rest_url}/fapi/v1/exchangeInfo"]

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        """See `feedhandler.abc.ListedVenue`."""
        return read_instruments(self.name, bodies, _instrument)

    def with_instruments(self, instruments: Instruments) -> Self:
        return evolve(self, instruments=instruments)

    @property
    def _naming(self) -> Naming:
        return Naming(self.instruments)


def _instrument(listed: Listed) -> Instrument:
    base, currency = listed.baseAsset, listed.quoteAsset
    # Of one that is not yet, or no longer, traded the kind may be empty; dated ones have a "_".
    if "PERPETUAL" in listed.contractType or "_" not in listed.symbol:
        kind = InstrumentKind.PERPETUAL
        return listed.instrument(canonical_symbol(base, currency, kind), kind)
    kind = InstrumentKind.FUTURE
    expiry = (_EPOCH + timedelta(milliseconds=listed.deliveryDate)).date()
    return listed.instrument(canonical_symbol(base, currency, kind, expiry=expiry), kind)
