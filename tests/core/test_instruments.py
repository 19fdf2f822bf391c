"""A venue's instruments: names both ways, unknown symbols, and the list as a file."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import (
    ConfigError,
    DecodeError,
    Instrument,
    InstrumentKind,
    Instruments,
    UnknownSymbol,
    canonical_symbol,
)

SPOT, PERPETUAL, FUTURE, OPTION = InstrumentKind


def spot(base: str, quote: str = "USD", *, active: bool = True, name: str = "") -> Instrument:
    return Instrument(
        canonical_symbol(base, quote), name or f"{base}{quote}", base, quote, SPOT, active=active
    )


LIST = Instruments(
    [
        spot("BTC"),
        spot("ETH"),
        spot("BTC", "USDT"),
        spot("LUNA", active=False),
        Instrument(
            "BTC-USDT-PERP", "BTCUSDT_PERP", "BTC", "USDT", PERPETUAL, True, Decimal("0.10")
        ),
    ],
    venue="example",
)


# --- canonical names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({}, "BTC-USD"),
        ({"kind": PERPETUAL}, "BTC-USD-PERP"),
        ({"kind": FUTURE, "expiry": date(2026, 3, 27)}, "BTC-USD-20260327"),
        (
            {"kind": OPTION, "expiry": date(2026, 3, 27), "strike": Decimal(60000), "right": "C"},
            "BTC-USD-20260327-60000-C",
        ),
        (
            {"kind": OPTION, "expiry": date(2026, 3, 7), "strike": Decimal("0.2500"), "right": "P"},
            "BTC-USD-20260307-0.25-P",
        ),
        (
            {"kind": OPTION, "expiry": date(2026, 3, 7), "strike": Decimal("6E4"), "right": "P"},
            "BTC-USD-20260307-60000-P",
        ),
        (
            {"kind": OPTION, "expiry": date(2026, 3, 7), "strike": Decimal("100.0"), "right": "P"},
            "BTC-USD-20260307-100-P",
        ),
    ],
)
def test_canonical_names(parts: dict[str, Any], name: str) -> None:
    assert canonical_symbol("btc", "Usd", **parts) == name


@pytest.mark.parametrize(
    ("kind", "missing"), [(FUTURE, "expiry"), (OPTION, "strike"), (OPTION, "right")]
)
def test_a_name_needs_the_parts_of_its_kind(kind: InstrumentKind, missing: str) -> None:
    parts: dict[str, Any] = {"expiry": date(2026, 1, 2), "strike": Decimal(1), "right": "C"}
    with pytest.raises(ConfigError, match=missing):
        canonical_symbol("BTC", "USD", kind, **{**parts, missing: None})


# --- both ways -----------------------------------------------------------------------------------


def test_names_are_mapped_both_ways() -> None:
    found = LIST.by_symbol("BTC-USDT-PERP")
    assert found.venue_symbol == "BTCUSDT_PERP"
    assert LIST.by_venue_symbol("BTCUSDT_PERP") is found
    assert LIST.by_venue_symbol("nothing") is None
    assert LIST.symbols["BTCUSDT_PERP"] == "BTC-USDT-PERP"
    assert "BTC-USD" in LIST
    assert "BTCUSD" not in LIST
    assert len(LIST) == len(list(LIST)) == 5


def test_the_mapping_can_t_be_changed_from_outside() -> None:
    with pytest.raises(TypeError):
        LIST.symbols["X"] = "Y"  # type: ignore[index]  # that is what is tried


def test_what_is_not_active_is_found_by_the_venue_s_name_only() -> None:
    assert "LUNA-USD" not in LIST
    assert "LUNAUSD" not in LIST.symbols
    assert LIST.by_venue_symbol("LUNAUSD") is not None
    with pytest.raises(UnknownSymbol, match="not active: halted or delisted"):
        LIST.by_symbol("LUNA-USD")


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("BTCUSDT_PERP", ("BTC-USDT-PERP",)),  # the venue's own name
        ("btc/usd", ("BTC-USD",)),
        ("ETHUSD", ("ETH-USD",)),
        ("ETH-USB", ("ETH-USD",)),
        ("BTC-USDC", ("BTC-USD", "BTC-USDT")),
        ("€", ()),
        ("", ()),
    ],
)
def test_an_unknown_symbol_names_the_nearest(wrong: str, nearest: tuple[str, ...]) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        LIST.by_symbol(wrong)
    error = caught.value
    assert error.nearest[: len(nearest)] == nearest
    assert bool(error.nearest) is bool(nearest)
    assert (error.venue, error.symbol) == ("example", wrong)
    assert isinstance(error, ConfigError)
    for name in nearest:
        assert repr(name) in str(error)
    assert repr(wrong) in str(error)


def test_a_halted_instrument_is_never_the_suggestion() -> None:
    with pytest.raises(UnknownSymbol) as caught:
        LIST.by_symbol("LUNA-USB")
    assert "LUNA-USD" not in caught.value.nearest


def test_one_that_was_listed_anew_is_found_beside_the_old_one() -> None:
    listed = Instruments([spot("A", active=False, name="A1"), spot("A", name="A2")])
    assert listed.by_symbol("A-USD").venue_symbol == "A2"
    assert dict(listed.symbols) == {"A2": "A-USD"}


def test_a_symbol_of_two_instruments_can_t_be_used_and_the_others_can() -> None:
    listed = Instruments([spot("A", name="A1"), spot("A", name="A2"), spot("B")])
    with pytest.raises(UnknownSymbol, match="more than one such instrument: A1 and A2"):
        listed.by_symbol("A-USD")
    assert "A-USD" not in listed
    assert dict(listed.symbols) == {"BUSD": "B-USD"}


def test_a_venue_s_name_for_two_instruments_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'X'.*two instruments"):
        Instruments([spot("A", name="X"), spot("B", name="X")])
    assert len(Instruments([spot("A"), spot("A")])) == 1  # the same line twice says nothing new


def test_lists_are_values() -> None:
    same = Instruments(list(LIST), venue="example")
    assert same == LIST
    assert hash(same) == hash(LIST)
    assert same.stamped(venue="example", fetched_ns=1) != LIST
    assert copy.deepcopy(LIST) == pickle.loads(pickle.dumps(LIST)) == LIST  # noqa: S301  # its own
    assert repr(LIST) == "<Instruments example 5 fetched_ns=None>"


# --- as a file -----------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=12)
AMOUNTS = st.none() | st.decimals(0, 10**6, allow_nan=False, places=8)
ITEMS = st.builds(
    Instrument, NAMES, NAMES, NAMES, NAMES, st.sampled_from(InstrumentKind), st.booleans(),
    AMOUNTS, AMOUNTS,
)  # fmt: skip
LISTS = st.builds(
    Instruments,
    st.lists(ITEMS, max_size=20, unique_by=lambda one: one.venue_symbol),
    venue=NAMES,
    fetched_ns=st.none() | st.integers(0, 2**63 - 1),
)


@given(LISTS)
def test_what_is_written_is_read_back_the_same(listed: Instruments) -> None:
    read = Instruments.loads(listed.dumps())
    assert read == listed
    assert read.dumps() == listed.dumps()
    assert Instruments.loads(listed.dumps().encode()) == listed
    # Equal numbers may be written differently; these are the venue's own digits.
    assert [str(one.price_increment) for one in read] == [str(o.price_increment) for o in listed]


@given(LISTS)
def test_each_symbol_that_can_be_used_leads_back_to_itself(listed: Instruments) -> None:
    for one in listed:
        back = listed.by_venue_symbol(one.venue_symbol)
        assert back == one
        if one.symbol in listed:
            found = listed.by_symbol(one.symbol)
            assert found.active
            assert listed.symbols[found.venue_symbol] == one.symbol
        else:
            with pytest.raises(UnknownSymbol):
                listed.by_symbol(one.symbol)
    assert sorted(listed.symbols.values()) == sorted(set(listed.symbols.values()))


FILE: dict[str, Any] = json.loads(LIST.dumps())


def _with(path: list[str | int], value: object) -> str:
    document = copy.deepcopy(FILE)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"\$: not JSON"),
        ("<html>", r"\$: not JSON"),
        (LIST.dumps()[:-9], r"\$: not JSON"),
        (b"\xff\xfe", r"\$: not JSON"),
        ("[" * 100_000, r"\$: not JSON"),
        ("[]", r"\$\.format: this is no file of format"),
        ("{}", r"\$\.format"),
        (_with(["version"], 2), r"\$\.version: version 2 can't be read, only 1"),
        (_with(["venue"], 3), r"\$\.venue: expected text"),
        (_with(["fetched_ns"], "x"), r"\$\.fetched_ns: expected a whole number"),
        (_with(["instruments"], {}), r"\$\.instruments: expected a list"),
        (_with(["instruments", 1], 5), r"\$\.instruments\[1\]: expected an object"),
        (
            _with(["instruments", 1, "kind"], "swap"),
            r"instruments\[1\]\.kind: expected one of spot",
        ),
        (_with(["instruments", 4, "active"], 1), r"instruments\[4\]\.active: expected true or"),
        (_with(["instruments", 0, "symbol"], ""), r"instruments\[0\]\.symbol: expected text"),
        (_with(["instruments", 0, "price_increment"], "-1"), r"\.price_increment: negative"),
        (_with(["instruments", 0, "size_increment"], "NaN"), r"\.size_increment: not a finite"),
        (_with(["instruments", 0, "venue_symbol"], "ETHUSD"), "'ETHUSD'.*two instruments"),
    ],
)
def test_a_wrong_file_is_one_error_that_says_where(text: str | bytes, told: str) -> None:
    with pytest.raises(DecodeError, match=told):
        Instruments.loads(text)


def test_a_missing_field_is_named_and_one_of_a_later_version_is_passed_over() -> None:
    document = copy.deepcopy(FILE)
    document["later"] = document["instruments"][0]["later"] = {}
    assert Instruments.loads(json.dumps(document)) == LIST
    del document["instruments"][2]["base"]
    with pytest.raises(DecodeError, match=r"\$\.instruments\[2\]\.base: missing: base"):
        Instruments.loads(json.dumps(document))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.integers(0, 400))
def test_any_bytes_are_a_list_or_a_decode_error(noise: bytes, at: int) -> None:
    text = evolve(LIST, fetched_ns=5).dumps().encode()
    for data in (noise, text[:at] + noise + text[at + len(noise) :]):
        with contextlib.suppress(DecodeError):
            Instruments.loads(data)
