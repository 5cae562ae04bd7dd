"""How JavaScript writes, orders and judges values: what the originals do without saying so. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from ...exceptions import LocalProtocolError

__all__ = ["date_text", "in_key_order", "in_zone", "iso_text", "number_text", "truthy", "well_formed"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAX_INDEX_DIGITS: Final = 10
_INDEX_END: Final = (1 << 32) - 1
"""Keys that are numbers below this come first in an object (ECMAScript, OrdinaryOwnPropertyKeys)."""
_EXACT: Final = 1 << 53


def date_text(moment: datetime) -> str:
    """`Date.prototype.toString`, without the zone's name in brackets: ``Tue Aug 19 1975 23:15:30 GMT+0200``.

    The offset is the datetime's own; one without is in this machine's local time, as a `Date` is. Whole seconds.
    """
    if moment.utcoffset() is None:
        moment = in_zone(moment, None)
    offset = moment.utcoffset() or timedelta()
    sign = "-" if offset < timedelta() else "+"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    day = f"{_DAYS[moment.weekday()]} {_MONTHS[moment.month - 1]} {moment.day:02} {moment.year:04}"
    return f"{day} {moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT{sign}{hours:02}{minutes:02}"


def iso_text(moment: datetime) -> str:
    """`Date.prototype.toISOString`: UTC, milliseconds; a datetime without an offset is in local time."""
    utc = in_zone(moment, UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"


def in_zone(moment: datetime, zone: tzinfo | None) -> datetime:
    """The same moment in a zone, None being this machine's; a datetime without an offset is in that, too."""
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):
        raise LocalProtocolError("expected a datetime that is in the years 1 to 9999 everywhere") from None


def number_text(number: float) -> str:
    """`Number.prototype.toString`: the name of the property that a number as a key means."""
    if isinstance(number, int):
        if abs(number) <= _EXACT:
            return str(int(number))
        number = float(number)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    mantissa, _, exponent = f"{number!r}".partition("e")
    sign = "-" if number < 0 else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    shift = int(exponent or 0) + len(whole)
    digits = (whole + fraction).lstrip("0")
    shift -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    return sign + _placed(digits, shift)


def _placed(digits: str, point: int) -> str:
    """Number::toString of ECMAScript, from its shortest digits and the place of the point among them."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+}"


def well_formed(text: str) -> str:
    """`String.prototype.toWellFormed`: pairs of surrogates are one character, lone ones become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def in_key_order(keys: Iterable[str]) -> list[str]:
    """The order in which an object with these keys lists them: array indices ascending, then as they were added."""
    listed = list(keys)
    indices = sorted((key for key in listed if _is_index(key)), key=int)
    return [*indices, *(key for key in listed if not _is_index(key))]


def _is_index(key: str) -> bool:
    if not (key.isascii() and key.isdecimal() and len(key) <= _MAX_INDEX_DIGITS):
        return False
    return (key[0] != "0" or key == "0") and int(key) < _INDEX_END


def truthy(value: Any) -> bool:
    """Whether ``if (value)`` holds: of containers and bytes the empty ones, too."""
    if value is None or value is False:
        return False
    if isinstance(value, int | float):
        return bool(value) and value == value
    return value != "" if isinstance(value, str) else True
