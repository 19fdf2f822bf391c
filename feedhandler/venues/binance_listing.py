"""Binance's lists of instruments, spot and futures: the answers to `exchangeInfo`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from attrs import Factory, frozen

from feedhandler.codec import FastDecoder, parse_amount
from feedhandler.errors import ConfigError, DecodeError
from feedhandler.instruments import Instrument, InstrumentKind, Instruments

__all__ = ["Listed", "read_instruments"]


@frozen
class _Filter:
    filterType: str  # noqa: N815  # the venue's spelling, here and below
    tickSize: str = "0"  # noqa: N815
    stepSize: str = "0"  # noqa: N815


@frozen
class Listed:
    """One symbol of the list; of futures there is also what contract it is."""

    symbol: str
    status: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[_Filter] = Factory(list)
    contractType: str = ""  # noqa: N815
    deliveryDate: int = 0  # noqa: N815

    def instrument(self, symbol: str, kind: InstrumentKind) -> Instrument:
        """It under its canonical `symbol`. Raises `ValueError` for a step that is no number."""
        return Instrument(
            symbol,
            self.symbol,
            self.baseAsset.upper(),
            self.quoteAsset.upper(),
            kind,
            active=self.status == "TRADING",
            price_increment=self._step("PRICE_FILTER", lambda one: one.tickSize),
            size_increment=self._step("LOT_SIZE", lambda one: one.stepSize),
        )

    def _step(self, kind: str, step_of: Callable[[_Filter], str]) -> Decimal | None:
        for one in self.filters:
            if one.filterType == kind:
                return parse_amount(step_of(one)) or None  # 0 is no rule
        return None


@frozen
class _Info:
    symbols: list[Listed]


def read_instruments(
    venue: str, bodies: Sequence[bytes], instrument_of: Callable[[Listed], Instrument]
) -> Instruments:
    """The list in the one answer of `bodies`. Raises `DecodeError`."""
    instruments = []
    problems: list[tuple[str, str]] = []
    decoder = FastDecoder(_Info, venue=venue, amounts_as_text=True)
    body = b"".join(bodies)
    for i, listed in enumerate(decoder.decode(body).symbols):
        try:
            instruments.append(instrument_of(listed))
        except (ValueError, OverflowError) as error:
            problems.append((f"$.symbols[{i}]", f"{listed.symbol:.40}: {error}"))
    if not instruments and not problems:
        problems.append(("$.symbols", "there is none"))
    if problems:
        raise DecodeError(venue, body, problems)
    try:
        return Instruments(instruments, venue=venue)
    except ConfigError as error:
        raise DecodeError(venue, body, [("$.symbols", str(error))]) from error
