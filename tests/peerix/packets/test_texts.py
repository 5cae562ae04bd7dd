"""Base 62, namespaces, and compression."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.packets.base62 import decode_untrusted, encode
from trio_relay.peerix.packets.compression import compress, inflate_untrusted
from trio_relay.peerix.packets.namespaces import namespace


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", ""),
        ("00", "0"),
        ("0000", "0"),
        ("09", "9"),
        ("0a", "a"),
        ("23", "z"),
        ("24", "A"),
        ("3d", "Z"),
        ("3e", "10"),
        ("ff", "47"),
        ("00ff", "47"),
    ],
)
def test_base_62(data: str, text: str) -> None:
    assert encode(bytes.fromhex(data)) == text
    assert decode_untrusted(text, len(data) // 2).hex() == data


@pytest.mark.parametrize(
    ("text", "length"),
    [("", 1), ("0", 0), ("00", 2), ("0Z", 2), ("48", 1), ("-", 1), ("é", 1), ("Z" * 10**6, 33)],
    ids=["nothing", "something", "zeros", "leading-zero", "too-large", "sign", "letter", "endless"],
)
def test_not_base_62(text: str, length: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_untrusted(text, length)
    assert len(str(caught.value)) < 150


@given(st.binary(max_size=40))
@settings(max_examples=50)
def test_base_62_round(data: bytes) -> None:
    assert decode_untrusted(encode(data), len(data)) == data


@pytest.mark.parametrize(
    ("name", "hashed", "plain"),
    [
        ("default", "dcjHO465qAJI1IZONIXMIkFG0xWJrBMJqIdGY94W88L", "default"),
        ("my-room", "kt5sJF8R3JgTW2WOGWtOHhnzkniNtCjhEywWtylBd43", "my-room"),
        ("sandbox", "HyrkEDccxy8Y3GsWTEMRFjGEtR9GTwe7Dr64v6cnkv2", "sandbox"),
        ("a/b c.\u00e9\U0001f600_", encode(hashlib.sha256("a/b c.é😀_".encode()).digest()), "a_b_c____"),
        ("\ud800", encode(hashlib.sha256("\ufffd".encode()).digest()), "_"),
        ("\ud83d\ude00", encode(hashlib.sha256("😀".encode()).digest()), "__"),
    ],
)
def test_namespaces(name: str, hashed: str, plain: str) -> None:
    assert namespace(name, hashing=True) == hashed
    assert namespace(name, hashing=False) == plain


def test_only_what_gets_smaller_is_compressed() -> None:
    text = b'[{"name":"Bob"}]'
    assert compress(text) is None
    assert compress(b"") is None
    compressed = compress(text * 8)
    assert compressed is not None
    assert len(compressed) < len(text) * 8
    assert zlib.decompress(compressed) == text * 8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        zlib.compress(b"x" * 100)[:-1],
        zlib.compress(b"x" * 100) + b"\x00",
        zlib.compress(b"x" * 100)[:-1] + b"\x00",
        zlib.compress(b"x" * 100)[2:-4],
        zlib.compress(b"x" * 101),
    ],
    ids=["empty", "json", "truncated", "more", "checksum", "raw-deflate", "too-large"],
)
def test_not_inflated(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        inflate_untrusted(data, 100)


def test_as_much_as_is_allowed() -> None:
    assert inflate_untrusted(zlib.compress(b"x" * 100), 100) == b"x" * 100


def test_bombs_take_no_memory() -> None:
    bomb = zlib.compress(bytes(16 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="at most 262144"):
            inflate_untrusted(bomb, 1 << 18)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
