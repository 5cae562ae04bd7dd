"""Heads of messages: what `JSON.parse` takes is taken, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.broker.messages import (
    BEGINNINGS,
    HEARTBEAT,
    ID_TAKEN,
    encode_error,
    encode_expire,
    encode_leave,
    encode_name,
    read_head_untrusted,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.text(), values, st.booleans())
@settings(max_examples=50)
def test_the_payload_means_the_same(type: str, dst: str, payload: Any, is_ascii: bool) -> None:
    raw = json.dumps({"payload": payload, "type": type, "src": 1, "dst": dst}, ensure_ascii=is_ascii)
    head = read_head_untrusted(raw.encode())
    assert (head.type, head.dst) == (type, dst)
    assert json.loads(bytes(head.payload)) == payload


@pytest.mark.parametrize(
    ("raw", "type", "dst", "payload"),
    [
        (HEARTBEAT, "HEARTBEAT", None, b""),
        (b'{"payload": [ 1 , 2 ] }', None, None, b"[ 1 , 2 ]"),
        (b'{"payload":null,"dst":null}', None, None, b"null"),
        (b'{"type":"a","type":"b","payload":1,"payload":2}', "b", None, b"2"),
        (b'{"type":7,"dst":0,"payload":"\\ud800"}', None, None, b'"\\ud800"'),
        (b'{"type":"\\ud800","dst":"\\udc00","payload":1e400}', "\ud800", "\udc00", b"null"),
        (b'{"payload":1e400}', None, None, b"1e400"),
        (b"[1]", None, None, b""),
    ],
)
def test_heads(raw: bytes, type: str | None, dst: str | None, payload: bytes) -> None:
    head = read_head_untrusted(raw)
    assert (head.type, head.dst, bytes(head.payload)) == (type, dst, payload)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"null", b"1", b'"x"', b"true", b"{", b"{}{}", b'{"a":01}', b'{"a":"\n"}', b"\xef\xbb\xbf{}"),
        *(b'{"payload":NaN}', b'{"payload":[1,]}', b'{"payload":"\\x"}', b'{"payload":"\\u12"}'),
        *(b'{"dst":[1]}', b'{"dst":true}', b'{"payload":' + b"[" * 64 + b"]" * 64 + b"}"),
        b'{"payload":' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}",
    ],
)
def test_what_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_head_untrusted(raw)
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("raw", [b"\xff", b'{"payload":"\xff"}', b'{"type":"\xed\xa0\x80"}'])
def test_what_is_not_utf_8_has_a_code_of_its_own(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_head_untrusted(raw)
    assert caught.value.close_code == 1007


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\truefalsn0123e-+. ').map(str.encode))
@settings(max_examples=50)
def test_anything_is_read_or_refused(raw: bytes) -> None:
    try:
        head = read_head_untrusted(raw)
    except RemoteProtocolError:
        return
    json.loads(raw)
    assert head.dst is None or isinstance(head.dst, str)


def test_frames() -> None:
    assert encode_expire('b"', "a") == b'{"type":"EXPIRE","src":"b\\"","dst":"a"}'
    assert encode_leave("b", "é") == '{"type":"LEAVE","src":"b","dst":"é"}'.encode()
    assert encode_error("No") == b'{"type":"ERROR","payload":{"msg":"No"}}'
    assert ID_TAKEN == b'{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}'
    assert encode_name("\x01\ud800") == b'"\\u0001\\ud800"'
    assert set(BEGINNINGS) == {"OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"}
