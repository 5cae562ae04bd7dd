"""The part of Protocol Buffers that is used here, against tables and against a reader of its own."""

from __future__ import annotations

import struct
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.packets.protobuf import (
    MAX_FIELDS,
    Field,
    Kind,
    Message,
    encode_varint,
    read_varint_untrusted,
)

MESSAGE: Final = Message(
    Field(1, "flag", Kind.BOOL),
    Field(2, "signed", Kind.INT32),
    Field(3, "unsigned", Kind.UINT32),
    Field(4, "real", Kind.FLOAT),
    Field(5, "text", Kind.STRING),
    Field(15, "data", Kind.BYTES),
)
WIRE_TYPES: Final = {1: 0, 2: 0, 3: 0, 4: 5, 5: 2, 15: 2}
NAMES: Final = {1: "flag", 2: "signed", 3: "unsigned", 4: "real", 5: "text", 15: "data"}


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("values", "encoded"),
    [
        ({}, ""),
        ({"flag": False, "signed": 0, "unsigned": 0, "real": 0.0}, "0800 1000 1800 2500000000"),
        ({"text": "", "data": b""}, "2a00 7a00"),
        ({"data": b"\x01", "flag": True}, "0801 7a0101"),
        ({"signed": -1}, "10ffffffff0f"),
        ({"signed": -(2**31)}, "108080808008"),
        ({"signed": 2**31 - 1}, "10ffffffff07"),
        ({"unsigned": 127}, "187f"),
        ({"unsigned": 128}, "188001"),
        ({"unsigned": 2**32 - 1}, "18ffffffff0f"),
        ({"real": 1.5}, "250000c03f"),
        ({"text": "é"}, "2a02c3a9"),
        ({"data": bytes(16320)}, "7ac07f" + "00" * 16320),
        ({"flag": None, "unsigned": 1}, "1801"),
    ],
)
def test_written_and_read(values: dict[str, Any], encoded: str) -> None:
    assert MESSAGE.encode(values) == unhex(encoded)
    assert MESSAGE.decode_untrusted(unhex(encoded)) == {
        name: value for name, value in values.items() if value is not None
    }


@pytest.mark.parametrize(
    ("encoded", "values"),
    [
        ("1801 1802", {"unsigned": 2}),
        ("0801 3005 1801", {"flag": True, "unsigned": 1}),
        ("31 0011223344556677 1801", {"unsigned": 1}),
        ("3203 616263 1801", {"unsigned": 1}),
        ("35 00112233 1801", {"unsigned": 1}),
        ("188100", {"unsigned": 1}),
        ("1881808000", {"unsigned": 1}),
        ("988000 01", {"unsigned": 1}),
        ("f8ffffff0f 01", {}),
    ],
    ids=[
        "last-wins",
        "varint",
        "64-bit",
        "sized",
        "32-bit",
        "long-varint",
        "longest-varint",
        "long-tag",
        "high-number",
    ],
)
def test_only_read(encoded: str, values: dict[str, Any]) -> None:
    assert MESSAGE.decode_untrusted(unhex(encoded)) == values


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        ("08", "truncated"),
        ("0802", "0 or 1"),
        ("1880", "truncated"),
        ("188080808080", "5 bytes"),
        ("188080808010", "32 bits"),
        ("18ffffffffff01", "5 bytes"),
        ("0001", "field numbers"),
        ("0200", "field numbers"),
        ("0a00", "flag as another wire type than 2"),
        ("7801", "data as another wire type than 0"),
        ("33", "got 3"),
        ("34", "got 4"),
        ("36", "got 6"),
        ("25000000", "4 bytes, got 3"),
        ("3100", "8 bytes, got 1"),
        ("7a0201", "2 bytes, got 1"),
        ("7affffffff0f", "4294967295 bytes, got 0"),
        ("2a01ff", "utf-8"),
        ("3000" * (MAX_FIELDS + 1), "at most 64 fields"),
    ],
)
def test_refused(encoded: str, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        MESSAGE.decode_untrusted(unhex(encoded))


def test_as_many_fields_as_are_allowed() -> None:
    assert MESSAGE.decode_untrusted(unhex("3000" * (MAX_FIELDS - 1) + "1801")) == {"unsigned": 1}


@pytest.mark.parametrize("value", [-(2**31) - 1, 2**31])
def test_too_large_for_int32(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        MESSAGE.encode({"signed": value})


@pytest.mark.parametrize("value", [-1, 2**32])
def test_too_large_for_a_varint(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        MESSAGE.encode({"unsigned": value})


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
@settings(max_examples=50)
def test_varints_round(number: int, before: bytes) -> None:
    encoded = encode_varint(number)
    assert read_varint_untrusted(before + encoded + b"\xff", len(before)) == (number, len(before) + len(encoded))


floats = st.floats(width=32, allow_nan=False)
messages: Final = st.fixed_dictionaries(
    {},
    optional={
        "flag": st.booleans(),
        "signed": st.integers(-(2**31), 2**31 - 1),
        "unsigned": st.integers(0, 2**32 - 1),
        "real": floats,
        "text": st.text(max_size=5),
        "data": st.binary(max_size=200),
    },
)


@given(messages)
@settings(max_examples=50)
def test_round(values: dict[str, Any]) -> None:
    assert MESSAGE.decode_untrusted(MESSAGE.encode(values)) == values


# The naive reader: one byte at a time, with no regard to speed


class Naive(Exception):
    """It refuses."""


def naive_varint(octets: list[int]) -> int:
    number = 0
    for place in range(5):
        if not octets:
            raise Naive
        octet = octets.pop(0)
        number += octet % 128 << 7 * place
        if octet < 128:
            if number >= 2**32:
                raise Naive
            return number
    raise Naive


def naive_take(octets: list[int], count: int) -> bytes:
    if count > len(octets):
        raise Naive
    taken = bytes(octets[:count])
    del octets[:count]
    return taken


def naive_value(number: int, octets: list[int], wire_type: int) -> Any:
    if wire_type == 0:
        value = naive_varint(octets)
        if number == 1 and value > 1:
            raise Naive
        if number == 2 and value >= 2**31:
            value -= 2**32
        return value == 1 if number == 1 else value
    taken = naive_take(octets, {1: 8, 5: 4}[wire_type] if wire_type != 2 else naive_varint(octets))
    if number == 4:
        return struct.unpack("<f", taken)[0]
    try:
        return taken.decode() if number == 5 else taken
    except UnicodeDecodeError:
        raise Naive from None


def naive_decode(data: bytes) -> dict[str, Any] | None:
    octets, values = list(data), {}
    try:
        for _ in range(MAX_FIELDS):
            if octets:
                number, wire_type = divmod(naive_varint(octets), 8)
                if number == 0 or wire_type not in (0, 1, 2, 5) or WIRE_TYPES.get(number, wire_type) != wire_type:
                    return None
                value = naive_value(number, octets, wire_type)
                if number in NAMES:
                    values[NAMES[number]] = value
    except Naive:
        return None
    return values if not octets else None


def ours(data: bytes) -> dict[str, Any] | None:
    try:
        return MESSAGE.decode_untrusted(data)
    except RemoteProtocolError:
        return None


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """A message with parts cut out or replaced, and repeated."""
    data = b"".join(MESSAGE.encode(draw(messages)) for _ in range(draw(st.integers(1, 2))))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=3)) + data[start + draw(st.integers(0, 2)) :]
    return data


tags = st.sampled_from([8, 16, 24, 37, 42, 122, 48, 49, 50, 53, 51, 0, 0x88])


@given(nearly_messages() | st.lists(tags | st.integers(0, 255), max_size=12).map(bytes))
@settings(max_examples=80)
def test_the_same_as_the_naive_reader(data: bytes) -> None:
    assert repr(ours(data)) == repr(naive_decode(data))
