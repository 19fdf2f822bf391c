"""Any bytes are a price or a `DecodeError`, and the two ways of decoding agree."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedhandler import DecodeError, PriceParser, PriceUpdate
from feedhandler.codec import FastDecoder, PriceMessage, parse_time_ns

PARSER = PriceParser("fuzzed")
GOOD: dict[str, Any] = {
    "symbol": "A", "price": "1.50", "size": 2, "side": "buy", "sequence": 0, "time": 0,
}  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ODD = [
    "1_000", " 1", "1 ", "\u0661\u0662", "0x10", "1e400", "1e-500", "-0", "+1", ".5", "5.", "",
    "Infinity",
]  # fmt: skip
NUMBERS = (
    st.integers(-(10**30), 10**30)
    | st.decimals(allow_nan=True, allow_infinity=True).map(str)
    | st.sampled_from(ODD)
)


def outcome(data: str | bytes) -> PriceUpdate | DecodeError:
    try:
        return PARSER.parse_json(data)
    except DecodeError as refused:
        error = refused
    assert error.problems
    assert len(error.raw) <= DecodeError.RAW_BYTES
    return error


@given(data=st.binary() | st.text())
@example(data=b"")
@example(data=b"\xff\xfe{}")
@example(data="[" * 100_000)
@example(data='{"price":' * 10_000)
@example(data="\ud800")
def test_any_bytes_are_a_price_or_a_decode_error(data: str | bytes) -> None:
    outcome(data)


@given(document=st.dictionaries(st.sampled_from(sorted(GOOD)), JSON | NUMBERS))
def test_any_values_are_a_price_or_a_decode_error(document: dict[str, Any]) -> None:
    result = outcome(json.dumps({**GOOD, **document}))
    if isinstance(result, DecodeError):
        fields = {problem.path.partition("[")[0].removeprefix("$.") for problem in result.problems}
        assert fields <= {*GOOD, "$"}
        return
    for amount in (result.price, result.size):
        assert amount.is_finite()
        assert amount >= 0


@given(price=NUMBERS)
def test_both_ways_of_decoding_agree(price: object) -> None:
    data = json.dumps({**GOOD, "price": price})
    decoder = FastDecoder(PriceMessage, venue="fuzzed")
    try:
        strict = decoder.decode_strictly(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            PARSER.parse_json(data)
    else:
        fast = decoder.decode(data)
        assert fast == strict
        assert str(fast.price) == str(strict.price), "digit for digit"


DIGITS = r"(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?"


@given(digits=st.from_regex(DIGITS, fullmatch=True))
def test_every_digit_is_kept_as_a_number_and_as_a_string(digits: str) -> None:
    for written in (digits, f'"{digits}"'):
        data = json.dumps(GOOD).replace('"1.50"', written)
        price = PARSER.parse_json(data).price
        assert price.as_tuple() == Decimal(digits).as_tuple()


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-08-09T13:59:08.123456789Z", 1786283948123456789),
        ("2026-08-09T13:59:08.1Z", 1786283948100000000),
        ("2026-08-09T15:59:08.1+02:00", 1786283948100000000),
        (1786283948123456789, 1786283948123456789),
    ],
)
def test_times_keep_their_nanoseconds(text: object, time_ns: int) -> None:
    assert parse_time_ns(text) == time_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-08-09T13:59:08",
        "1969-12-31T23:59:59Z",
        True,
        None,
        -1,
        1.5,
    ],
)
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time_ns(text)


@pytest.mark.parametrize("data", [None, 5, memoryview(b"{}"), {"price": 1}])
def test_what_is_neither_text_nor_bytes_is_a_decode_error(data: Any) -> None:
    with pytest.raises(DecodeError, match="expected text or bytes"):
        PARSER.parse_json(data)


@pytest.mark.parametrize("price", ["1.5", 1.5, None, Decimal("NaN"), Decimal(-1)])
def test_only_a_decimal_is_a_valid_price(price: Any) -> None:
    with pytest.raises(DecodeError):
        PARSER.validate_price(price)


def test_a_float_has_lost_digits_and_is_refused() -> None:
    with pytest.raises(DecodeError, match="expected text, got float"):
        PARSER.preserve_precision(1.5)  # type: ignore[arg-type]  # the mistake
