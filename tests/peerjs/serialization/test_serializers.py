"""The serializations behind their one face."""

from __future__ import annotations

import math
from array import array
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peerjs.serialization.support import (
    FLOATS,
    SMALL,
    TEXTS,
    VALUES,
    memory_below,
    nested,
    refusal,
    serializer,
    through,
)
from trio_relay.exceptions import LocalProtocolError, PayloadTooLarge, RemoteProtocolError
from trio_relay.peerjs.serialization.binary import BinarySerializer
from trio_relay.peerjs.serialization.binarypack import pack, unpack_untrusted
from trio_relay.peerjs.serialization.builtin import BUILTIN, Serializers
from trio_relay.peerjs.serialization.json import JSONSerializer
from trio_relay.peerjs.serialization.serializer import CLOSE, SerializerLimits

MOMENT = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=1)))
WITH_CLOSE = ("binary", "json", "MsgPack")


def packed(value: Any) -> bytes:
    return b"".join(pack(value))


def unpacked(message: bytes | str) -> Any:
    assert isinstance(message, bytes)
    return unpack_untrusted(message)


@given(VALUES)
@settings(max_examples=20)
def test_binary_and_msgpack_keep_every_value(value: Any) -> None:
    assert through("binary", value) == [value]
    assert through("MsgPack", value) == [value]


@given(nested(st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), FLOATS, TEXTS)))
@settings(max_examples=20)
def test_json_keeps_what_json_can_hold(value: Any) -> None:
    finite = "inf" not in repr(value)
    assert not finite or through("json", value) == [value]
    assert len(through("json", value)) == 1


@pytest.mark.parametrize("size", [16297, 16298, 16300, 40_000, 90_000])
@pytest.mark.parametrize("make", [bytes, lambda size: "é" * (size // 2), lambda size: {"a": [bytes(size)], "b": 1}])
def test_large_binary_values_are_cut_at_16300_bytes(size: int, make: Any) -> None:
    value = make(size)
    messages = list(serializer("binary").encode(value))
    assert all(len(message) <= 16300 + 60 for message in messages)
    assert (len(messages) == 1) == (len(messages[0]) <= 16300 and b"__peerData" not in messages[0])
    assert through("binary", value) == [value]


def test_sets_of_chunks_are_numbered_from_1_and_may_mix() -> None:
    sender, receiver = serializer("binary"), serializer("binary")
    first, second = list(sender.encode(bytes(30_000))), list(sender.encode("x" * 30_000))
    assert [unpacked(each)["__peerData"] for each in (*first, *second)] == [1, 1, 2, 2]
    arrived = [second[1], *sender.encode(5), first[1], first[0], second[0]]
    assert [receiver.decode(each) for each in arrived] == [[], [5], [], [bytes(30_000)], ["x" * 30_000]]
    assert receiver.unfinished == 0


def test_unfinished_bytes_are_told() -> None:
    sender, receiver = serializer("binary"), serializer("binary")
    first, _ = sender.encode(bytes(30_000))
    receiver.decode(first)
    assert receiver.unfinished == 16300
    sender, receiver = serializer("MsgPack"), serializer("MsgPack")
    first, _ = sender.encode(bytes(40_000))
    receiver.decode(first)
    assert receiver.unfinished == len(first)


@pytest.mark.parametrize("name", WITH_CLOSE)
def test_the_request_to_close(name: str) -> None:
    message = serializer(name).encode_close()
    assert message is not None
    assert serializer(name).decode(message) == [CLOSE]


def test_raw_has_no_request_to_close() -> None:
    assert serializer("raw").encode_close() is None


@pytest.mark.parametrize("name", WITH_CLOSE)
@pytest.mark.parametrize("inner", [1, "x", {"type": "close"}, [], {}])
def test_the_key_of_control_values_is_reserved(name: str, inner: Any) -> None:
    with pytest.raises(LocalProtocolError, match="reserved"):
        serializer(name).encode({"__peerData": inner})
    within = [{"__peerData": inner}]
    assert through(name, within) == [within]


@pytest.mark.parametrize("name", WITH_CLOSE)
@pytest.mark.parametrize("inner", [None, 0, False, ""])
def test_a_falsy_one_is_data(name: str, inner: Any) -> None:
    assert through(name, {"__peerData": inner}) == [{"__peerData": inner}]


def test_control_values_of_another_kind_are_passed_over_and_counted() -> None:
    receiver = BinarySerializer(SMALL)
    assert receiver.decode(packed({"__peerData": {"type": "new"}})) == []
    assert receiver.decode(packed({"__peerData": {}})) == []
    assert receiver.ignored == 2


@pytest.mark.parametrize("value", [{"__peerData": 1}, {"__peerData": "x", "n": 0, "data": b"x", "total": 1}])
def test_a_chunk_that_is_none_ends_the_connection(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="chunk"):
        serializer("binary").decode(packed(value))


def test_a_chunk_inside_a_chunk_is_refused_and_a_request_to_close_is_not() -> None:
    def in_one_chunk(value: Any) -> bytes:
        return packed({"__peerData": 9, "n": 0, "data": packed(value), "total": 1})

    receiver = BinarySerializer(SMALL)
    assert receiver.decode(in_one_chunk(5)) == [5]
    assert receiver.decode(in_one_chunk({"__peerData": {"type": "close"}})) == [CLOSE]
    assert receiver.decode(in_one_chunk({"__peerData": {"type": "new"}})) == []
    with pytest.raises(RemoteProtocolError, match="a chunk in them"):
        receiver.decode(in_one_chunk({"__peerData": 1, "n": 0, "data": b"\x05", "total": 1}))


@pytest.mark.parametrize("name", ["binary", "json", "raw"])
def test_a_message_may_have_so_many_bytes(name: str) -> None:
    receiver = serializer(name, SerializerLimits(max_value=1000))
    with pytest.raises(RemoteProtocolError, match="1000 bytes"):
        receiver.decode(b"1" * 1001)


@pytest.mark.parametrize("name", ["binary", "MsgPack"])
def test_text_is_refused_where_bytes_are_due(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="binary messages"):
        serializer(name).decode("5")


def test_a_value_in_chunks_may_have_so_many_bytes_and_takes_no_more() -> None:
    limits = SerializerLimits(max_value=1_000_000)
    assert through("binary", bytes(999_000), limits=limits) == [bytes(999_000)]
    receiver = serializer("binary", limits)
    messages = serializer("binary").encode(bytes(1_001_000))
    with memory_below(1_300_000):
        assert "1000000 bytes" in str(refusal(receiver.decode, messages))


# JSON


def test_json_is_sent_as_bytes_until_text_arrives() -> None:
    one = JSONSerializer(SMALL)
    assert list(one.encode({"é": [1, "\ud800"]})) == ['{"é":[1,"\\ud800"]}'.encode()]
    assert one.decode(b"5") == [5]
    assert list(one.encode(1)) == [b"1"]
    assert one.decode('{"a":1}') == [{"a": 1}]
    assert one.as_text
    assert list(one.encode({"é": 1})) == ['{"é":1}']
    assert one.encode_close() == '{"__peerData":{"type":"close"}}'


def test_json_as_javascript_writes_it() -> None:
    value = {"d": MOMENT, "f": [math.nan, math.inf, 1.5], 5: (1, None)}
    [message] = serializer("json").encode(value)
    assert message == b'{"d":"2020-01-02T02:04:05.678Z","f":[null,null,1.5],"5":[1,null]}'


def test_json_is_never_cut() -> None:
    sender = JSONSerializer(SMALL)
    assert len(next(iter(sender.encode("x" * 16297)))) == 16299
    with pytest.raises(PayloadTooLarge, match="16299 bytes of json, got 16300"):
        sender.encode("x" * 16298)


def test_json_has_no_bytes() -> None:
    with pytest.raises(LocalProtocolError, match=r"not bytearray; .*'binary'.* at \$\.a\[1\]"):
        serializer("json").encode({"a": [1, bytearray(b"x")]})


@pytest.mark.parametrize("message", [b"", b"{", b"\xff", "nul", "[" * 9 + "]" * 9, b"1 2"])
def test_what_is_not_json_is_refused(message: bytes | str) -> None:
    with pytest.raises(RemoteProtocolError):
        serializer("json").decode(message)


# Raw


def test_raw_is_what_was_sent() -> None:
    assert through("raw", "é", b"\x00", bytearray(b"x"), memoryview(b"abc")[1:], array("B", [1])) == [
        *("é", b"\x00", b"x", b"bc", b"\x01")
    ]


@pytest.mark.parametrize("value", [None, 5, ["x"], {}])
def test_raw_takes_nothing_else(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match="raw"):
        serializer("raw").encode(value)


# By name


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        *(("binary", "binary"), ("binary-utf8", "binary"), ("default", "binary"), ("json", "json")),
        *(("raw", "raw"), ("none", "raw"), ("MsgPack", "MsgPack")),
    ],
)
def test_what_is_asked_for_and_what_is_offered(asked: str, offered: str) -> None:
    name, factory = Serializers().requested(asked)
    assert name == offered
    assert factory(SMALL).name == offered
    assert Serializers().offered_untrusted(asked) is factory


def test_an_unknown_serialization() -> None:
    with pytest.raises(LocalProtocolError, match=r"expected one of MsgPack, binary, .* not 'BINARY'"):
        Serializers().requested("BINARY")
    with pytest.raises(RemoteProtocolError, match="BINARY") as caught:
        Serializers().offered_untrusted("BINARY" * 1000)
    assert len(str(caught.value)) < 200


def test_serializers_of_an_application_take_precedence() -> None:
    class Mine(JSONSerializer):
        name = "mine"  # type: ignore[misc]

    table = Serializers({"mine": Mine, "default": Mine})
    assert table.requested("mine") == ("mine", Mine)
    assert table.requested("default") == ("mine", Mine)
    assert table.requested("binary") == ("binary", BinarySerializer)
    assert table.offered_untrusted("mine") is Mine
    assert "mine" not in BUILTIN


def test_a_datetime_of_each() -> None:
    assert through("binary", MOMENT) == ["Thu Jan 02 2020 03:04:05 GMT+0100"]
    assert through("json", MOMENT) == ["2020-01-02T02:04:05.678Z"]
    assert through("MsgPack", MOMENT) == [MOMENT.astimezone(UTC)]


@pytest.mark.parametrize("name", WITH_CLOSE)
def test_the_deepest_values_that_limits_allow(name: str) -> None:
    limits = SerializerLimits(max_depth=128)
    value: Any = "x"
    for level in range(128):
        value = [value] if level % 2 else {"a": value}
    assert through(name, value, limits=limits) == [value]
    with pytest.raises(LocalProtocolError, match="less deeply"):
        serializer(name, limits).encode([value])


@pytest.mark.parametrize("limits", [{"max_depth": 0}, {"max_depth": 129}, {"max_value": 0}, {"max_unfinished": 0}])
def test_limits_that_make_no_sense(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SerializerLimits(**limits)
