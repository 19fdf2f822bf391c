"""Bitstamp: trades, the top of the book, and order books whose snapshots come over REST.

Sources, on www.bitstamp.net:

- /websocket/v2, *Subscriptions* and *Channels*: `live_trades_` (`type` is the taker's side: 0 buys,
  1 sells; prices and amounts as numbers, and exactly in `price_str` and `amount_str`);
  `diff_order_book_`, the levels that have changed, to their new amounts, 0 ends one; `order_book_`,
  the best 100 levels whole, of which the first are the top of the book (there is no channel of its
  own for that, and nothing comes before the first change). A connection may have 1,024 channels, a
  request under 512 bytes.
- The same, *Heartbeat*: ``bts:heartbeat`` is answered with one. *Forced reconnection*:
  ``bts:request_reconnect`` leaves a few seconds. *Maximum connection age*: 90 days. *Errors*:
  ``bts:error``, mostly without a channel; of a market that there is not the venue says nothing.
- /api, *Order book* (the snapshot), *Markets*, *Request limits*: 400 a second, and 10,000 in 10
  minutes.

Nothing numbers the changes of a book, so a missing one can't be told: its books are `UNVERIFIABLE`.
Of the changes that came before a snapshot, those whose `timestamp`, in whole seconds, is before the
snapshot's are dropped, up to the first that is not. (The documentation compares microseconds. As
levels are absolute, both end in the same book; between them lie the changes of one second, which
this rule tells and that one does not.)
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
from feedhandler.traits import KeepAlive, Limits, VenueTraits
from feedhandler.venues.bitstamp_markets import parse_markets
from feedhandler.venues.bitstamp_session import CHANNELS, BitstampSession, ask

__all__ = ["Bitstamp"]

_TRAITS = VenueTraits(
    limits=Limits(subscriptions=1024, per_message=1, requests_per_minute=1000.0),
    keep_alive=KeepAlive('{"event":"bts:heartbeat"}', 20.0),
    silence_s=60.0,  # of three heartbeats that were asked for, at least one is answered
    max_lifetime_s=90 * 86_400.0,
)


@frozen
class Bitstamp:
    """Bitstamp's public market data, spot and perpetual."""

    url: str = field(default="wss://ws.bitstamp.net", validator=valid_url, repr=redact_url)
    name: str = field(default="bitstamp", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments | None = field(default=None, kw_only=True)
    rest_url: str = field(default="https://www.bitstamp.net", kw_only=True, repr=redact_url)

    @property
    def channels(self) -> Sequence[str]:
        return tuple(CHANNELS)

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def session(self) -> BitstampSession:
        return BitstampSession(self.name, self.instruments or Instruments(()))

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask("bts:subscribe", subscriptions, self._listed)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask("bts:unsubscribe", subscriptions, self._listed)

    # --- REST ---

    @property
    def snapshot_weight(self) -> float:
        return 1.0

    def snapshot_url(self, subscription: Subscription) -> str:
        market = self._listed.by_symbol(subscription.symbol).venue_symbol
        return f"{self.rest_url}/api/v2/order_book/{market}/"

    def instrument_urls(self) -> Sequence[str]:
        return (f"{self.rest_url}/api/v2/markets/",)

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_markets(self.name, bodies)

    def with_instruments(self, instruments: Instruments) -> Self:
        return evolve(self, instruments=instruments)

    @property
    def _listed(self) -> Instruments:
        if self.instruments is None:
            raise UsageError(f"{self.name} has no list of instruments: `load_instruments()` it")
        return self.instruments
