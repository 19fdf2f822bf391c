"""Coinbase Advanced Trade: trades, the top of the book, and order books.

Sources, all on docs.cdp.coinbase.com, "Advanced Trade WebSocket":

- *Channels*: `market_trades`, whose `side` is the maker's; `ticker`; `level2`, which answers as
  `l2_data`, with a snapshot and then updates, each with the new size of a level (0 ends it), and
  whose asks are called ``offer``; `heartbeats`, each second, whose `heartbeat_counter` tells of
  messages that were missed. Products that are quoted in USDC are sent as those in USD.
- *Overview*: `sequence_num` counts the messages of a connection, from 0, whatever they are; a
  number that skips means lost messages. They may have been any book's, so all are had anew.
- *Subscribe*: a connection without a subscription is closed after 5 s, most channels after 60 to
  90 s without an update; `heartbeats` keeps them open. The venue answers each change with the list
  of all that is subscribed.
- *Rate Limits*: 8 connections and 8 messages a second; "Advanced Trade REST API", *Rate Limits*: 10
  public requests a second.

Nothing but the count can be checked: a wrong size in an update can't be told from a right one.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, field, frozen

from feedhandler._core.redaction import redact_url
from feedhandler.abc import Dialer, Fetcher, Subscription
from feedhandler.config import valid_url
from feedhandler.instruments import Instruments
from feedhandler.traits import Limits, VenueTraits
from feedhandler.venues.coinbase_products import CHANNELS, ask, parse_products
from feedhandler.venues.coinbase_session import CoinbaseSession

__all__ = ["Coinbase"]

URL = "wss://advanced-trade-ws.coinbase.com"
PRODUCTS_URL = "https://api.coinbase.com/api/v3/brokerage/market/products"
_TRAITS = VenueTraits(
    limits=Limits(messages_per_s=8.0, connects_per_minute=480.0, requests_per_minute=600.0),
    silence_s=10.0,  # heartbeats come each second
)


@frozen
class Coinbase:
    """Coinbase Advanced Trade's public market data.

    Without a list of instruments its symbols are its product ids, ``BTC-USD``; save perpetuals,
    which it calls ``BTC-PERP-INTX``, and which are ``BTC-USDC-PERP`` here as everywhere.
    """

    url: str = field(default=URL, validator=valid_url, repr=redact_url)
    name: str = field(default="coinbase", kw_only=True)
    dial: Dialer | None = field(default=None, kw_only=True, repr=False)
    fetch: Fetcher | None = field(default=None, kw_only=True, repr=False)
    instruments: Instruments = field(default=Instruments(()), kw_only=True)

    @property
    def channels(self) -> Sequence[str]:
        return tuple(CHANNELS)

    @property
    def book_channels(self) -> Sequence[str]:
        return ("book",)

    @property
    def traits(self) -> VenueTraits:
        return _TRAITS

    def instrument_urls(self) -> Sequence[str]:
        return (PRODUCTS_URL,)

    def parse_instruments(self, bodies: Sequence[bytes]) -> Instruments:
        return parse_products(self.name, bodies)

    def with_instruments(self, instruments: Instruments) -> Coinbase:
        return evolve(self, instruments=instruments)

    def session(self) -> CoinbaseSession:
        return CoinbaseSession(self.name, self.instruments)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask(subscribe=subscriptions, instruments=self.instruments)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        return ask(unsubscribe=subscriptions, instruments=self.instruments)
