"""The stream of MessagePack values; msgspec is the second opinion."""

from __future__ import annotations

import math
from array import array
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peerjs.serialization.support import SMALL, VALUES, memory_below, refusal, serializer, through
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerjs.serialization.serializer import SerializerLimits


def decoded(text: str, limits: SerializerLimits = SMALL) -> list[Any]:
    return serializer("MsgPack", limits).decode(bytes.fromhex(text))


@given(st.lists(VALUES, min_size=1, max_size=3), st.lists(st.integers(1, 50), min_size=1, max_size=5))
@settings(max_examples=15)
def test_where_messages_end_means_nothing(values: list[Any], sizes: list[int]) -> None:
    stream = b"".join(map(msgspec.msgpack.encode, values))
    receiver, got = serializer("MsgPack"), []
    position = 0
    while position < len(stream):
        size = sizes[position % len(sizes)]
        got += receiver.decode(stream[position : position + size])
        position += size
        assert receiver.unfinished <= position
    assert got == values
    assert receiver.unfinished == 0


@given(VALUES)
@settings(max_examples=15)
def test_another_decoder_reads_what_is_sent(value: Any) -> None:
    assert msgspec.msgpack.decode(b"".join(serializer("MsgPack").encode(value))) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("01ffc0", [1, -1, None]),
        ("ca3f800000cb3ff8000000000000", [1.0, 1.5]),
        ("ccffcdffffceffffffffcfffffffffffffffff", [255, 65535, 2**32 - 1, 2**64 - 1]),
        ("d080d18000d280000000d38000000000000000", [-128, -32768, -(2**31), -(2**63)]),
        ("a161d90161da000161db0000000161", ["a"] * 4),
        ("c40161c5000161c60000000161", [b"a"] * 3),
        ("dc000101dd0000000102", [[1], [2]]),
        ("8101c0de000101c0df0000000101c0", [{1: None}] * 3),
        ("84a16101cb3ff800000000000002c40162030004", [{"a": 1, 1.5: 2, b"b": 3, 0: 4}]),
        ("81c0c3", [{None: True}]),
        ("d6ff00000001", [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]),
        ("d7ff0000100000000002", [datetime(1970, 1, 1, 0, 0, 2, 1, tzinfo=UTC)]),
        ("c70cff00000000ffffffffffffffff", [datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)]),
        ("a3eda080", ["\ud800"]),
        ("8090", [{}, []]),
    ],
)
def test_every_tag(text: str, values: list[Any]) -> None:
    assert decoded(text) == values
    receiver = serializer("MsgPack")
    assert [value for byte in bytes.fromhex(text) for value in receiver.decode(bytes([byte]))] == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("c1", "c1"),
        ("a1ff", "utf-8"),
        ("8190c0", "keys"),
        ("8180c0", "keys"),
        ("d40000", "extensions"),
        ("d4ff00", "extensions"),
        ("c703ff000000", "extensions"),
        ("d7ffffffffff00000000", "nanoseconds"),
        ("c70cff000000007fffffffffffffff", "years"),
        ("dbffffffff", "100000 bytes"),
        ("c6ffffffff", "100000 bytes"),
        ("ddffffffff", "100000 bytes"),
        ("dfffffffff", "100000 bytes"),
        ("c9ffffffffff", "100000 bytes"),
        ("dd00018000dd00018000", "fewer items"),
        ("91" * 9, "less deeply"),
        ("8101" * 5 + "81", None),
    ],
)
def test_what_is_refused(text: str, reason: str | None) -> None:
    if reason is None:
        assert decoded(text) == []
        return
    with pytest.raises(RemoteProtocolError, match=reason):
        decoded(text)


def test_false_lengths_take_no_memory() -> None:
    limits = SerializerLimits()
    with memory_below(100_000):
        for text in ("dd06ffffff", "df009fffff", "db0effffff", "c60effffff", "9f" * 60 + "dd0000ffff"):
            assert decoded(text, limits) == []


def test_a_value_may_have_so_many_bytes_and_the_next_as_many() -> None:
    receiver = serializer("MsgPack")
    messages = list(serializer("MsgPack").encode([bytes(40_000), bytes(59_900)]))
    assert [len(each) for each in messages] == [32768] * 3 + [99_907 - 3 * 32768]
    for _ in range(2):
        assert [len(value) for each in messages for value in receiver.decode(each)] == [2]
    more = serializer("MsgPack").encode([bytes(40_000), bytes(60_000)])
    assert "100000 bytes" in str(refusal(receiver.decode, more))


@pytest.mark.parametrize("value", [bytes(100_000 - 5), bytearray(70_000), "x" * 70_000, [0] * 70_000])
def test_large_values_are_cut_in_pieces(value: Any) -> None:
    messages = list(serializer("MsgPack").encode(value))
    assert [len(each) for each in messages[:-1]] == [32768] * (len(messages) - 1)
    assert through("MsgPack", value) == [value]


def test_what_python_has_beside_javascript() -> None:
    value = {"a": array("H", [1]), "m": memoryview(b"abcd")[::2], "t": (1,), 5: 1.0}
    assert through("MsgPack", value) == [{"a": array("H", [1]).tobytes(), "m": b"ac", "t": [1], 5: 1.0}]
    assert math.isnan(through("MsgPack", math.nan)[0])
    naive = datetime(2024, 7, 1, 12)
    assert through("MsgPack", [naive]) == [[naive.astimezone(UTC)]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, {2}], r"not set at \$\[1\]"),
        ({"a": {(1,): 1}}, r"not tuple at \$\.a"),
        ([2**64], r"integers .* at \$\[0\]"),
        (["\ud800"], r"surrogates, got one at \$\[0\]"),
        ([[[[[[[[[1]]]]]]]]], "less deeply"),
        ({"x": 1 + 2j}, "not complex"),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(value: Any, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        serializer("MsgPack").encode(value)


def test_large_bytes_are_not_copied_as_a_whole() -> None:
    data = bytes(5_000_000)
    with memory_below(200_000):
        assert sum(map(len, serializer("MsgPack").encode(data))) == len(data) + 5


def test_the_memory_of_each_value_is_bounded_by_itself() -> None:
    receiver = serializer("MsgPack")
    [message] = serializer("MsgPack").encode([[0]] * 3000)
    for _ in range(10):
        assert len(receiver.decode(message)) == 1
