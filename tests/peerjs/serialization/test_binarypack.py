"""BinaryPack: the original's bytes, and a decoder that believes nothing."""

from __future__ import annotations

import enum
import math
import struct
from array import array
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peerjs.serialization.support import VALUES, memory_below, refusal
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerjs.serialization.binarypack import pack, unpack_slices_untrusted, unpack_untrusted


class Point(NamedTuple):
    x: int
    y: int


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "x"


class Old(str, enum.Enum):  # noqa: UP042 - its str() is not its text
    A = "x"


def packed(value: Any) -> bytes:
    return b"".join(pack(value))


# What the original makes of these values.
VECTORS: list[tuple[Any, str]] = [
    (0, "00"),
    (127, "7f"),
    (-1, "ff"),
    (-32, "e0"),
    (128, "cc80"),
    (255, "ccff"),
    (256, "cd0100"),
    (65535, "cdffff"),
    (65536, "ce00010000"),
    (2**32 - 1, "ceffffffff"),
    (4294967296, "d30000000100000000"),
    (-33, "d0df"),
    (-128, "d080"),
    (-129, "d1ff7f"),
    (-32768, "d18000"),
    (-32769, "d2ffff7fff"),
    (-(2**31), "d280000000"),
    (-2147483649, "d3ffffffff7fffffff"),
    (2**53, "d30020000000000000"),
    (-(2**63), "d38000000000000000"),
    (2**64 - 2048, "cffffffffffffff800"),
    (0.1, "cb3fb999999999999a"),
    (-0.5, "cbbfe0000000000000"),
    (math.pi, "cb400921fb54442d18"),
    ("", "b0"),
    ("é", "b2c3a9"),
    ("a" * 15, "bf" + "61" * 15),
    ("a" * 16, "d80010" + "61" * 16),
    ("a" * 65536, "d900010000" + "61" * 65536),
    (b"", "a0"),
    (bytes(16), "da0010" + "00" * 16),
    (bytes(65536), "db00010000" + "00" * 65536),
    ([1, [2], {"a": 1}], "9301910281b16101"),
    ([0] * 16, "dc0010" + "00" * 16),
    ([0] * 65536, "dd00010000" + "00" * 65536),
    ({"a": 1, "b": None, "é": None}, "83b16101b162c0b2c3a9c0"),
    (
        {f"k{n:02}": 0 for n in range(16)},
        "de0010" + "".join(f"b36b{48 + n // 10:x}{48 + n % 10:x}00" for n in range(16)),
    ),
    (True, "c3"),
    (False, "c2"),
    (None, "c0"),
    ({"__peerData": {"type": "close"}}, "81ba5f5f706565724461746181b474797065b5636c6f7365"),
]


@pytest.mark.parametrize(("value", "text"), VECTORS, ids=lambda each: repr(each)[:30])
def test_a_value_has_the_bytes_of_the_original(value: Any, text: str) -> None:
    assert packed(value).hex() == text
    again = unpack_untrusted(bytes.fromhex(text))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "01"),
        (-0.0, "00"),
        (-200.0, "d1ff38"),
        (1e19, "cf8ac7230489e80000"),
        (array("h", [1, -2]), array("h", [1, -2]).tobytes().hex().join(["a4", ""])),
        (bytearray(b"ab"), "a26162"),
        (memoryview(array("H", [1, 2, 3]))[1:2], "a2" + array("H", [2]).tobytes().hex()),
        (memoryview(b"abcdef")[::2], "a3616365"),
        ((1, 2), "920102"),
        (Point(1, 2), "920102"),
        (OrderedDict(b=1), "81b16201"),
        ({5: 1, "a": 2, 1: 3}, "83b13103b13501b16102"),
        ({"b": 1, "4294967295": 2, "10": 3, "9": 4, "01": 5}, "85b13904b2313003b16201ba3432393439363732393502b2303105"),
        ("\ud83d\ude00", "b4f09f9880"),
        ("a\ud800b\udc00", "b861efbfbd62efbfbd"),
        (Number.ONE, "01"),
        (Word.A, "b178"),
        (Old.A, "b178"),
        (datetime(2020, 5, 7, 8, 9, 10, 999999, tzinfo=UTC), "d80021" + b"Thu May 07 2020 08:09:10 GMT+0000".hex()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_python_has_beside_javascript(value: Any, text: str) -> None:
    assert packed(value).hex() == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, "cf8000000000000000"),
        (2**63 - 1, "cf7fffffffffffffff"),
        (float("inf"), "cb7ff0000000000000"),
        (-float("inf"), "cbfff0000000000000"),
        (1e20, "cb4415af1d78b58c40"),
        (5e-324, "cb0000000000000001"),
        (2.0**-29, "cb3e20000000000000"),
    ],
)
def test_where_the_original_is_wrong(value: Any, text: str) -> None:
    assert packed(value).hex() == text
    assert unpack_untrusted(packed(value)) == value


def test_nan_is_nan() -> None:
    assert math.isnan(unpack_untrusted(packed(math.nan)))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [1, 2, 3, {4}]}, r"not set at \$\.a\[3\]$"),
        ([{"b c": [object()]}], r"not object at \$\[0\]\['b c'\]\[0\]$"),
        (2**64, r"integers from .* at \$$"),
        (-(2**63) - 1, r"integers from .* at \$$"),
        ({"a": {None: 1}}, r"str or int keys in a dict, not NoneType at \$\.a$"),
        ({True: 1}, "not bool"),
        ({"1": 1, 1: 2}, "differ as text"),
        ({"1": 1, (): 2}, "not tuple"),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(value: Any, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        pack(value)


def test_a_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append([value])
    with pytest.raises(LocalProtocolError, match="less deeply"):
        pack(value)


def test_depth_is_bounded_both_ways() -> None:
    value: Any = 1
    for _ in range(8):
        value = [value]
    assert unpack_untrusted(packed(value), max_depth=8) == value
    with pytest.raises(RemoteProtocolError, match="less deeply"):
        unpack_untrusted(packed(value), max_depth=7)
    pack(value, max_depth=8)
    with pytest.raises(LocalProtocolError, match="less deeply"):
        pack(value, max_depth=7)
    with pytest.raises(RemoteProtocolError, match="less deeply"):
        unpack_untrusted(b"\x91" * 100_000, max_depth=10**9)


def test_large_bytes_are_not_copied() -> None:
    data, other = bytes(100_000), bytearray(50_000)
    parts = pack(["x", data, other, 5])
    assert any(part is data for part in parts)
    assert sum(isinstance(part, memoryview) and part.obj is other for part in parts) == 1
    assert b"".join(parts) == b"\x94\xb1x\xdb\x00\x01\x86\xa0" + data + b"\xda\xc3\x50" + other + b"\x05"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("c1", None),
        ("ca3f800000", 1.0),
        ("ca00000000", 0.0),
        ("cb0000000000000000", 0.0),
        ("cf0000000000000005", 5),
        ("93c4d401", [None, None, 1]),
        ("98c5c6c7c8c9d5d6d7", [None] * 8),
        ("01ffff", 1),
        ("81b95f5f70726f746f5f5f01", {"__proto__": 1}),
        ("83010102020103", {"1": 3, "2": 2}),
        ("82b16101b16102", {"a": 2}),
    ],
)
def test_what_originals_do_not_send_but_read(text: str, value: Any) -> None:
    assert unpack_untrusted(bytes.fromhex(text)) == value


def test_keys_become_text_as_in_javascript() -> None:
    keys = [1, -5, 1.5, None, True, False, 1e21, 2**63, math.nan]
    raw = bytes((0x80 + len(keys),)) + b"".join(packed(key) + b"\x00" for key in keys)
    names = ["1", "-5", "1.5", "null", "true", "false", "1e+21", "9223372036854776000", "NaN"]
    assert unpack_untrusted(raw) == dict.fromkeys(names, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "91", "9201", "81", "81b161", "b3ff", "b261", "a1", "da0001", "d8", "d80005ff", "cc", "cb00", "d3", "dd"),
        *("ddffffffff", "dfffffffff01", "dbffffffff00", "d9ffffffff", "dcffff", "de000101"),
    ],
)
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="whole value"):
        unpack_untrusted(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("b1ff", "utf-8"), ("b3eda080", "utf-8"), ("81a101", "expected"), ("819000", "keys"), ("818000", "keys")],
)
def test_what_is_not_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        unpack_untrusted(bytes.fromhex(text))


def test_lists_and_dicts_may_take_so_much_memory() -> None:
    many = b"\xdd" + struct.pack(">I", 100_000) + b"\x80" * 100_000
    with memory_below(1_000_000):
        assert "fewer items" in str(refusal(lambda data: unpack_untrusted(data, max_structure=500_000), [many]))
    with memory_below(100_000):
        assert refusal(unpack_untrusted, [b"\xdd\xff\xff\xff\xff" * 60 + bytes(1000)])
        assert refusal(unpack_untrusted, [b"\xdd\x00\x00\x03\xff" * 60 + bytes(1000)])


@given(VALUES)
@settings(max_examples=20)
def test_whatever_is_packed_comes_out(value: Any) -> None:
    raw = packed(value)
    assert unpack_untrusted(raw) == value
    assert packed(unpack_untrusted(raw)) == raw
    for cut in {0, len(raw) // 2, len(raw) - 1}:
        with pytest.raises(RemoteProtocolError):
            unpack_untrusted(raw[:cut])


@given(VALUES | st.binary(min_size=16, max_size=70_000), st.integers(1, 20_000))
@settings(max_examples=15)
def test_slices_are_read_as_if_joined_and_let_go(value: Any, size: int) -> None:
    raw = packed(value)
    slices = [raw[start : start + size] for start in range(0, len(raw), size)]
    assert unpack_slices_untrusted(slices) == value
    assert not slices


def test_one_large_binary_in_slices_needs_its_size_once_more() -> None:
    raw = packed(bytes(3_000_000))
    slices = [raw[start : start + 16300] for start in range(0, len(raw), 16300)]
    with memory_below(3_200_000):
        assert len(unpack_slices_untrusted(slices)) == 3_000_000


def test_dates_have_the_offset_that_they_had() -> None:
    moment = datetime(1975, 8, 19, 23, 15, 30, tzinfo=timezone(-timedelta(hours=3, minutes=30)))
    assert unpack_untrusted(packed(moment)) == "Tue Aug 19 1975 23:15:30 GMT-0330"
