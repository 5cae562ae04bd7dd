"""Bytes as digits, small letters and capitals: the big-endian number in base 62. Pure.

Leading zero bytes vanish: who decodes knows how many bytes there are to be. One text stands for one value only.
"""

from __future__ import annotations

from typing import Final

from ...exceptions import RemoteProtocolError

__all__ = ["ALPHABET", "decode_untrusted", "encode"]

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

_VALUES: Final = {digit: value for value, digit in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """The text of some bytes. Quadratic: for a few hundred of them."""
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits)) or ALPHABET[0] * bool(data)


def decode_untrusted(text: str, length: int) -> bytes:
    """The bytes of a text that `encode` has made of `length` bytes.

    Raises:
        RemoteProtocolError: it is none.
    """
    # A byte is less than one and a half digits: what is longer is not even looked at.
    if len(text) <= 3 * length // 2 + 1 and _VALUES.keys() >= set(text):
        number = 0
        for digit in text:
            number = number * 62 + _VALUES[digit]
        if number >> 8 * length == 0:
            data = number.to_bytes(length, "big")
            if encode(data) == text:
                return data
    raise RemoteProtocolError(f"expected {length} bytes in base 62, got {text[:60]!r}")
