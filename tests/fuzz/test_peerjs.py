"""The serializations of PeerJS on whatever may come: they return values, or raise the one error, in little memory."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_relay.peerjs.serialization
from tests.peerjs.serialization.support import memory_below
from trio_relay.exceptions import RelayError, RemoteProtocolError
from trio_relay.peerjs.serialization.binarypack import pack, unpack_slices_untrusted, unpack_untrusted
from trio_relay.peerjs.serialization.builtin import Serializers
from trio_relay.peerjs.serialization.chunks import Assembler, split
from trio_relay.peerjs.serialization.control import KEY
from trio_relay.peerjs.serialization.msgpack_stream import MsgPackStream
from trio_relay.peerjs.serialization.serializer import CLOSE, SerializerLimits

LIMITS: Final = SerializerLimits(max_value=2000, max_depth=8, max_unfinished=3)
VALUES: Final[list[Any]] = [
    {"a": [1, -2.5, None, True, "é€😀", b"\x00\xff"], "n": {"x": {}}, "7": 2**40},
    [[[[[[[]]]]]]],
    "x" * 300,
    bytes(300),
    list(range(-40, 300, 7)),
    {KEY: {"type": "close"}},
    *({KEY: 1, "n": index, "data": b"\x93\x01\x02\x03"[2 * index : 2 * index + 2], "total": 2} for index in (0, 1)),
]
HEADS: Final = (
    "dd dc df de db da d9 d8 c6 c5 c4 c9 c8 c7 ca cb cc cd ce cf d0 d1 d2 d3 9f 8f af bf c1 ffffffff 7fffffff"
)


def seeds(name: str) -> list[bytes]:
    serializer = Serializers().requested(name)[1](SerializerLimits())
    found = []
    for value in VALUES:
        if name == "binary":
            found.append(b"".join(pack(value)))
        with suppress(RelayError):
            found += [each if isinstance(each, bytes) else each.encode() for each in serializer.encode(value)]
    return [*found, *(list(split([bytes(600)], 5)) if name == "binary" else [])]


SEEDS: Final = {name: seeds(name) for name in ("binary", "json", "MsgPack")}


@st.composite
def messages(draw: st.DrawFn, name: str) -> list[bytes]:
    """Some messages, parts of which were cut out or replaced."""
    found = draw(st.lists(st.sampled_from(SEEDS[name]), min_size=1, max_size=4))
    pieces = st.sampled_from(list(map(bytes.fromhex, HEADS.split()))) | st.binary(max_size=4)
    for _ in range(draw(st.integers(0, 3))):
        number = draw(st.integers(0, len(found) - 1))
        start = draw(st.integers(0, len(found[number])))
        removed = draw(st.sampled_from([0, 1, 1, 2, 8, 1000]))
        found[number] = found[number][:start] + draw(pieces) + found[number][start + removed :]
    return found


@pytest.mark.parametrize("name", SEEDS)
def test_a_serializer_makes_values_of_it_or_refuses_it(name: str) -> None:
    factory = Serializers().offered_untrusted(name)

    @given(messages(name) | st.lists(st.binary(max_size=50), max_size=3))
    def feed(data: list[bytes]) -> None:
        receiver = factory(LIMITS)
        with memory_below(300_000):
            for message in data:
                try:
                    values = receiver.decode(message)
                except RemoteProtocolError:
                    return
                assert receiver.unfinished <= LIMITS.max_value
                assert all(value is CLOSE or depth(value) <= LIMITS.max_depth for value in values)

    feed()


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@given(messages("binary") | st.lists(st.binary(max_size=50), min_size=1, max_size=3))
def test_what_binarypack_reads_it_writes_and_reads_again(data: list[bytes]) -> None:
    whole = b"".join(data)
    value: Any = None
    refused = False
    try:
        value = unpack_untrusted(whole, max_depth=8)
    except RemoteProtocolError:
        refused = True
    try:
        assert repr(unpack_slices_untrusted(list(data), max_depth=8)) == repr(value)
        assert not refused
    except RemoteProtocolError:
        assert refused
    raw = b"".join(pack(value, max_depth=8))
    assert b"".join(pack(unpack_untrusted(raw, max_depth=8), max_depth=8)) == raw


@given(messages("MsgPack") | st.lists(st.binary(max_size=50), min_size=1, max_size=3))
def test_where_a_stream_is_cut_means_nothing(data: list[bytes]) -> None:
    def read(pieces: list[bytes]) -> tuple[list[Any], str]:
        stream, values = MsgPackStream(LIMITS), []
        for piece in pieces:
            try:
                values += stream.feed_untrusted(piece)
            except RemoteProtocolError as error:
                return values, str(error)
        return values, ""

    whole = b"".join(data)
    bytewise, last = read([bytes((byte,)) for byte in whole])
    at_once, error = read([whole])
    assert last == error
    # A refusal takes the values of its message with it.
    assert repr(at_once) == repr(bytewise) or (error and not at_once)


CHUNK_FIELDS: Final = st.integers(-2, 4) | st.sampled_from([None, True, 2**31, 1.5, "x", b""])


@given(st.lists(st.tuples(CHUNK_FIELDS, CHUNK_FIELDS, CHUNK_FIELDS, st.binary(max_size=3)), max_size=8))
def test_chunks_of_any_kind(chunks: list[tuple[Any, Any, Any, Any]]) -> None:
    assembler = Assembler(LIMITS)
    held = 0
    for set_id, index, total, data in chunks:
        with suppress(RemoteProtocolError):
            slices = assembler.add_untrusted({KEY: set_id, "n": index, "total": total, "data": data})
            held += len(data) - sum(map(len, slices or []))
            assert assembler.held == held
            assert slices is None or len(slices) == total
            continue
        break


@given(st.text(max_size=20))
def test_a_name_in_an_offer(name: str) -> None:
    with suppress(RemoteProtocolError):
        assert Serializers().offered_untrusted(name)(LIMITS).name


def test_every_parser_is_tried() -> None:
    found = set[Any]()
    for module in pkgutil.iter_modules(trio_relay.peerjs.serialization.__path__, "trio_relay.peerjs.serialization."):
        imported = importlib.import_module(module.name)
        holders = [imported, *(each for _, each in inspect.getmembers(imported, inspect.isclass))]
        for name, function in (each for holder in holders for each in inspect.getmembers(holder, inspect.isfunction)):
            if name.endswith("_untrusted") and name[0] != "_" and function.__module__ == module.name:
                found.add(function)
    assert found == {
        *(unpack_untrusted, unpack_slices_untrusted, Assembler.add_untrusted),
        *(MsgPackStream.feed_untrusted, Serializers.offered_untrusted),
    }
