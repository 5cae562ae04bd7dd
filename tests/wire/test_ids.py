from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.wire.ids import ID_LENGTH, as_node_id, bucket_index, distance, parse_node_id, short

ids = st.binary(min_size=ID_LENGTH, max_size=ID_LENGTH)


@given(ids)
def test_text_and_back(node_id: bytes) -> None:
    assert parse_node_id(node_id.hex()) == parse_node_id(node_id.hex().upper()) == node_id
    assert node_id.hex().startswith(short(node_id))


@given(st.text() | st.text("0123456789abcdefABCDEF \n_", min_size=38, max_size=42))
def test_any_other_text_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_node_id(text).hex() == text.lower()


@given(ids, ids, ids)
def test_distance_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(ids, ids)
def test_range_is_where_the_ids_first_differ(a: bytes, b: bytes) -> None:
    shared = 0
    while shared < 160 and (a[shared // 8] ^ b[shared // 8]) >> (7 - shared % 8) & 1 == 0:
        shared += 1
    assert bucket_index(a, b) == 159 - shared


def test_as_node_id() -> None:
    assert as_node_id(bytes(20)) == bytes(20)
    with pytest.raises(TypeError, match="not str"):
        as_node_id("0a" * 20)
    with pytest.raises(TypeError, match="not bytearray"):
        as_node_id(bytearray(20))
    with pytest.raises(ValueError, match="of 20 bytes, not 19"):
        as_node_id(bytes(19))
