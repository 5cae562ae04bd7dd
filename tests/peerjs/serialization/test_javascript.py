"""What JavaScript makes of dates, numbers and keys; expectations are from Node.js."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from trio_relay.exceptions import LocalProtocolError
from trio_relay.peerjs.serialization.javascript import (
    date_text,
    in_key_order,
    iso_text,
    number_text,
    truthy,
    well_formed,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (5, "5"),
        (-7.0, "-7"),
        (0.1, "0.1"),
        (-1.25, "-1.25"),
        (123456.789, "123456.789"),
        (1e16, "10000000000000000"),
        (1.5e20, "150000000000000000000"),
        (1e21, "1e+21"),
        (1.234e25, "1.234e+25"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.25e-9, "1.25e-9"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2**53, "9007199254740992"),
        (2**63, "9223372036854776000"),
        (2**64 - 1, "18446744073709552000"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_as_text(number: float, text: str) -> None:
    assert number_text(number) == text


def test_dates_as_text() -> None:
    moment = datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert date_text(moment) == "Thu Feb 29 2024 01:02:03 GMT+0545"
    assert iso_text(moment) == "2024-02-28T19:17:03.456Z"
    assert date_text(datetime(1, 1, 1, tzinfo=UTC)) == "Mon Jan 01 0001 00:00:00 GMT+0000"


def test_a_date_without_an_offset_is_in_local_time() -> None:
    naive = datetime(2024, 7, 1, 12)
    assert iso_text(naive) == iso_text(naive.astimezone(UTC))
    assert date_text(naive) == date_text(naive.astimezone())


def test_a_date_beyond_the_years_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="years"):
        iso_text(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


def test_keys_that_are_indices_come_first() -> None:
    keys = ["b", "10", "9", "a", "-1", "01", "4294967294", "4294967295", "0", "", "²", "\u0661"]
    assert in_key_order(keys) == ["0", "9", "10", "4294967294", "b", "a", "-1", "01", "4294967295", "", "²", "\u0661"]


@pytest.mark.parametrize("value", [None, False, 0, 0.0, -0.0, math.nan, ""])
def test_falsy(value: Any) -> None:
    assert not truthy(value)


@pytest.mark.parametrize("value", [True, 1, -1.5, "0", [], {}, b""])
def test_truthy(value: Any) -> None:
    assert truthy(value)


def test_surrogates() -> None:
    assert well_formed("a\ud83d\ude00\udc00b\ud800") == "a\U0001f600\ufffdb\ufffd"
