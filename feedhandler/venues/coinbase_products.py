"""Coinbase's products: their names and ours, their list, and how they are asked for.

Source: docs.cdp.coinbase.com, "Advanced Trade REST API", *List Public Products*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from feedhandler.abc import Subscription
from feedhandler.codec import parse_amount, parse_time_ns
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments, canonical_symbol

__all__ = ["CHANNELS", "OURS", "ask", "own_name", "parse_products", "their_name"]

_PERPETUALS = "-PERP-INTX"  # how the ids of those end that are settled in USDC
# Our channels, and the venue's names for them.
CHANNELS = {"trades": "market_trades", "ticker": "ticker", "book": "level2"}
OURS = {theirs: ours for ours, theirs in CHANNELS.items()}
_OWN_PERPETUALS = "-USDC-PERP"


def their_name(symbol: str, instruments: Instruments) -> str:
    if len(instruments):
        return instruments.by_symbol(symbol).venue_symbol
    if symbol.endswith(_OWN_PERPETUALS):
        return symbol.removesuffix(_OWN_PERPETUALS) + _PERPETUALS
    return symbol


def own_name(product: str) -> str:
    if product.endswith(_PERPETUALS):
        return product.removesuffix(_PERPETUALS) + _OWN_PERPETUALS
    return product


def ask(
    *,
    subscribe: Sequence[Subscription] = (),
    unsubscribe: Sequence[Subscription] = (),
    instruments: Instruments,
) -> list[str]:
    """One message for each channel: the venue takes one at a time. Heartbeats come with any."""
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for kind, subscriptions in (("unsubscribe", unsubscribe), ("subscribe", subscribe)):
        for subscription in subscriptions:
            product = their_name(subscription.symbol, instruments)
            asked.setdefault((kind, CHANNELS[subscription.channel]), {})[product] = None
    if subscribe:
        named = dict.fromkeys(their_name(one.symbol, instruments) for one in subscribe)
        asked["subscribe", "heartbeats"] = named
    return [
        msgspec.json.encode({"type": kind, "product_ids": [*products], "channel": channel}).decode()
        for (kind, channel), products in asked.items()
    ]


# --- the list -----------------------------------------------------------------------------------


class _Future(msgspec.Struct):
    contract_root_unit: str = ""
    contract_expiry_type: str = ""
    contract_expiry: str | None = None


class _Product(msgspec.Struct):
    product_id: str
    base_currency_id: str = ""
    quote_currency_id: str = ""
    product_type: str = "SPOT"
    status: str = ""
    base_increment: str = ""
    price_increment: str = ""
    alias: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    view_only: bool = False
    future_product_details: _Future | None = None


class _Products(msgspec.Struct):
    products: list[_Product]


def parse_products(venue: str, bodies: Sequence[bytes]) -> Instruments:
    """The list in the bodies of the answers. Raises `DecodeError`."""
    items: list[Instrument] = []
    for body in bodies:
        try:
            products = msgspec.json.decode(body, type=_Products).products
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise DecodeError(venue, body, [("$", f"no list of products: {error}")]) from error
        try:
            items += _instruments(products)
        except (ValueError, ConfigError) as error:
            raise DecodeError(venue, body, [("$.products", str(error))]) from error
    return Instruments(items, venue=venue)


def _instruments(products: Sequence[_Product]) -> Iterator[Instrument]:
    for product in products:
        found = _kind_of(product)
        if found is None:
            continue
        kind, base, quote, expiry = found
        yield Instrument(
            canonical_symbol(base, quote, kind, expiry=expiry),
            product.product_id,
            base.upper(),
            quote.upper(),
            kind,
            # Of a product with an alias the market data is sent under the other name.
            active=product.status in ("online", "")
            and not (product.is_disabled or product.trading_disabled or product.view_only)
            and not product.alias,
            price_increment=_increment(product.price_increment),
            size_increment=_increment(product.base_increment),
        )


def _kind_of(product: _Product) -> tuple[InstrumentKind, str, str, date | None] | None:
    """Kind, base, quote and expiry; `None` for what can't be named."""
    base, quote = product.base_currency_id, product.quote_currency_id
    future = product.future_product_details
    found: tuple[InstrumentKind, str, str, date | None]
    if product.product_type == "SPOT":
        found = (InstrumentKind.SPOT, base, quote, None)
    elif product.product_id.endswith(_PERPETUALS):
        found = (
            InstrumentKind.PERPETUAL,
            product.product_id.removesuffix(_PERPETUALS),
            "USDC",
            None,
        )
    elif future is not None and future.contract_expiry_type == "PERPETUAL":
        found = (InstrumentKind.PERPETUAL, future.contract_root_unit or base, quote, None)
    elif future is not None and future.contract_expiry:
        day = date.fromordinal(_EPOCH + parse_time_ns(future.contract_expiry) // _DAY_NS)
        found = (InstrumentKind.FUTURE, future.contract_root_unit or base, quote, day)
    else:
        return None
    return found if found[1] and found[2] else None


_EPOCH = date(1970, 1, 1).toordinal()
_DAY_NS = 86_400 * 10**9


def _increment(text: str) -> Decimal | None:
    return parse_amount(text) if text else None
