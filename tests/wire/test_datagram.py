from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.datagram import MAX_ADDRESS, Datagram, build_datagram, parse_datagram_untrusted
from trio_relay.wire.json import JSONValue, bytes_to_buffer, decode_untrusted, encode

ID = "0a" * 20

addresses = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=MAX_ADDRESS)
json_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["buffer", "address", "port", "type", "data"]), inner, max_size=5)
    ),
)


@given(st.builds(Datagram, st.binary(), addresses, st.integers(0, 65535)))
def test_datagrams_survive(datagram: Datagram) -> None:
    assert parse_datagram_untrusted(decode_untrusted(encode(build_datagram(datagram)))) == datagram


@given(json_values | st.binary())
def test_arbitrary_values_raise_only_the_documented_error(value: bytes | JSONValue) -> None:
    with contextlib.suppress(RemoteProtocolError):
        datagram = parse_datagram_untrusted(value)
        assert parse_datagram_untrusted(build_datagram(datagram)) == datagram


def test_the_original_form() -> None:
    assert encode(build_datagram(Datagram(b"hi", ID, 9))) == (
        b'{"buffer":{"type":"Buffer","data":[104,105]},"address":"%s","port":9}' % ID.encode()
    )


@pytest.mark.parametrize(
    ("buffer", "octets"),
    [
        (bytes_to_buffer(b"hi"), b"hi"),
        ([104, 105], b"hi"),
        ([], b""),
        ("", b""),
        ("hé😀", "hé😀".encode()),
        ("\ud800x\udc00\ud83d\ude00\ud83d", b"\xef\xbf\xbdx\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd"),
    ],
)
def test_bytes_come_in_three_forms(buffer: JSONValue, octets: bytes) -> None:
    value: JSONValue = {"buffer": buffer, "address": "localhost", "port": 0, "ignored": 1}
    assert parse_datagram_untrusted(value) == Datagram(octets, "localhost", 0)


@pytest.mark.parametrize(
    "change",
    [
        *[{"buffer": None}, {"buffer": 5}, {"buffer": [256]}, {"buffer": {"data": [1]}}],
        *[{"address": None}, {"address": ""}, {"address": 5}, {"address": "é"}, {"address": "a\n"}],
        *[{"address": "a" * (MAX_ADDRESS + 1)}],
        *[{"port": None}, {"port": -1}, {"port": 65536}, {"port": "9"}, {"port": 9.0}, {"port": True}],
    ],
)
def test_what_is_not_a_datagram_is_refused(change: dict[str, JSONValue]) -> None:
    good = build_datagram(Datagram(b"hi", ID, 9))
    assert parse_datagram_untrusted(good)
    with pytest.raises(RemoteProtocolError, match=r"^expected "):
        parse_datagram_untrusted(good | change)


@pytest.mark.parametrize("value", [None, b"hi", "hi", 5, []])
def test_other_values_are_refused(value: bytes | JSONValue) -> None:
    with pytest.raises(RemoteProtocolError, match="datagram object"):
        parse_datagram_untrusted(value)


@pytest.mark.parametrize(("address", "port"), [("", 9), ("a" * 65, 9), ("é", 9), (ID, -1), (ID, 65536)])
def test_out_of_bounds_is_not_written(address: str, port: int) -> None:
    with pytest.raises(LocalProtocolError, match=r"^expected "):
        build_datagram(Datagram(b"hi", address, port))
