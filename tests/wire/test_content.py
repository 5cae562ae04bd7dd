from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.content import decode_content_untrusted, encode_content
from trio_relay.wire.json import JSONValue

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
json_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@given(st.binary() | json_values)
def test_data_survive(data: bytes | JSONValue) -> None:
    read = decode_content_untrusted(encode_content(data))
    assert read == data
    assert type(read) is type(data)


@given(st.binary())
def test_bytes_of_every_type_arrive_as_bytes(data: bytes) -> None:
    for form in (bytearray(data), memoryview(data), memoryview(data + data[::-1])[len(data) :][::-1]):
        read = decode_content_untrusted(encode_content(form))  # type: ignore[arg-type]
        assert read == data
        assert type(read) is bytes


def test_bytes_and_what_looks_like_them_stay_apart() -> None:
    assert decode_content_untrusted(encode_content(b"1")) == b"1"
    assert decode_content_untrusted(encode_content(1)) == 1
    buffer: JSONValue = {"type": "Buffer", "data": [49]}
    assert decode_content_untrusted(encode_content(buffer)) == buffer


@pytest.mark.parametrize("data", [float("nan"), object(), {1: 2}, [b"inner"], {"a": {1, 2}}])
def test_what_has_no_json_form_is_not_written(data: object) -> None:
    with pytest.raises(LocalProtocolError):
        encode_content(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(("payload", "complaint"), [(b"", "not nothing"), (b"\x02x", "not 02"), (b"{}", "not 7b")])
def test_an_unknown_type_is_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode_content_untrusted(payload)
