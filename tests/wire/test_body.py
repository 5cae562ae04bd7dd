from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.body import (
    MAX_FOUND_IDS,
    MAX_URL,
    Body,
    FindPeers,
    FoundPeers,
    HandshakeAnswer,
    HandshakeOffer,
    Signal,
    Tunnel,
    Unknown,
    User,
    body_fields,
    parse_body_fields_untrusted,
)
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import JSONValue, decode_untrusted, encode

A, B = NodeId(b"\x0a" * 20), NodeId(b"\x0b" * 20)
OFFER: dict[str, JSONValue] = {"type": "offer", "sdp": "v=0\r\n"}
CANDIDATE: dict[str, JSONValue] = {"candidate": {"candidate": "candidate:1 1 udp 1 ::1 9 typ host", "sdpMLineIndex": 0}}
TYPES = ["user", "findPeers", "foundPeers", "handshake-offer", "handshake-answer", "signal", "trio-relay", "x"]

node_ids = st.binary(min_size=20, max_size=20).map(NodeId)
json_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 300) | st.text(max_size=5) | node_ids.map(bytes.hex),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["ws", "wrtc", "sdp", "type", "candidate", "data"]), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies: st.SearchStrategy[Body] = st.one_of(
    st.binary().map(User),
    st.text().map(User),
    st.just(User(None, present=False)),
    node_ids.map(FindPeers),
    st.lists(node_ids, max_size=MAX_FOUND_IDS).map(lambda ids: FoundPeers(tuple(ids))),
    st.just(HandshakeOffer()),
    st.builds(HandshakeAnswer, ws=st.none() | st.just("ws://[::1]:80/path?query"), wrtc=st.booleans()),
    st.sampled_from([Signal(OFFER), Signal(CANDIDATE)]),
    st.binary().map(Tunnel),
    st.just(Unknown("x")),
)


@given(bodies)
def test_bodies_survive(body: Body) -> None:
    body_type, data, has_data = body_fields(body)
    assert parse_body_fields_untrusted(body_type, decode_untrusted(encode(data)), has_data) == body


@given(st.sampled_from(TYPES), json_values, st.booleans())
def test_arbitrary_data_raise_only_the_documented_errors(body_type: str, data: JSONValue, has_data: bool) -> None:
    with contextlib.suppress(RemoteProtocolError):
        body = parse_body_fields_untrusted(body_type, data, has_data)
        with contextlib.suppress(LocalProtocolError):
            written, again, has_again = body_fields(body)
            assert written == body_type
            assert parse_body_fields_untrusted(written, again, has_again) == body


@pytest.mark.parametrize(
    ("body_type", "data", "has_data", "body"),
    [
        ("user", {"type": "Buffer", "data": [1, 255]}, True, User(b"\x01\xff")),
        ("user", {"type": "Buffer", "data": [1], "more": 1}, True, User({"type": "Buffer", "data": [1], "more": 1})),
        ("user", [{"type": "Buffer", "data": [1]}], True, User([{"type": "Buffer", "data": [1]}])),
        ("user", None, True, User(None)),
        ("user", None, False, User(None, present=False)),
        ("findPeers", A.hex().upper(), True, FindPeers(A)),
        ("foundPeers", [A.hex(), 5, None, "zz", "", [A.hex()], B.hex()], True, FoundPeers((A, B))),
        ("foundPeers", [], True, FoundPeers(())),
        ("foundPeers", [A.hex()] * 1000, True, FoundPeers((A,) * MAX_FOUND_IDS)),
        ("handshake-offer", {"ignored": 1}, True, HandshakeOffer()),
        ("handshake-answer", {"ws": "ws://a:1", "wrtc": False}, True, HandshakeAnswer("ws://a:1", False)),
        ("handshake-answer", {"ws": None, "wrtc": True}, True, HandshakeAnswer(None, True)),
        ("handshake-answer", {"ws": "", "wrtc": 1}, True, HandshakeAnswer(None, False)),
        ("handshake-answer", {}, True, HandshakeAnswer(None, False)),
        ("handshake-answer", None, False, HandshakeAnswer(None, False)),
        ("signal", "any", True, Signal("any")),
        ("trio-relay", "AP8=", True, Tunnel(b"\x00\xff")),
        ("findpeers", 5, True, Unknown("findpeers")),
    ],
)
def test_what_originals_may_send(body_type: str, data: JSONValue, has_data: bool, body: Body) -> None:
    assert parse_body_fields_untrusted(body_type, data, has_data) == body


@pytest.mark.parametrize(
    ("body_type", "data"),
    [
        ("findPeers", None),
        ("findPeers", "0a"),
        ("findPeers", {"type": "Buffer", "data": [10] * 20}),
        ("foundPeers", None),
        ("foundPeers", {}),
        ("foundPeers", A.hex()),
        ("handshake-answer", "ws://localhost:1"),
        ("handshake-answer", {"ws": 5}),
        ("handshake-answer", {"ws": "http://localhost"}),
        ("trio-relay", None),
        ("trio-relay", "AP8"),
        ("trio-relay", "A P8="),
        ("trio-relay", "\ud800"),
    ],
)
def test_data_that_do_not_fit_the_type_are_refused(body_type: str, data: JSONValue) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^expected "):
        parse_body_fields_untrusted(body_type, data, True)


@pytest.mark.parametrize(
    "url",
    ["ws://a", "wss://a.example:443/", "WS://127.0.0.1:65535", "ws://[2001:db8::1]", "ws://docker_host:80?a=b"],
)
def test_urls_that_an_original_can_open(url: str) -> None:
    assert body_fields(HandshakeAnswer(url, False)) == ("handshake-answer", {"ws": url, "wrtc": False}, True)


@pytest.mark.parametrize(
    "url",
    [
        *["", "a", "ws://", "ws:///a", "http://a", "ws+unix://a", "ws://[a", "ws://é", "ws://u@a", "ws://-a"],
        *["ws://a:0", "ws://a:65536", "ws://a:", "ws://a:b", "ws://a/ b", "ws://a/\n", "ws://a\n", "ws://a/\ud800"],
        *["ws://xn--a", "ws://a.XN--b", "ws://a/" + "a" * MAX_URL],
    ],
    ids=lambda url: ascii(url[:20]),
)
def test_urls_that_end_an_original_are_not_written(url: str) -> None:
    with pytest.raises(LocalProtocolError, match="websocket url"):
        body_fields(HandshakeAnswer(url, False))


@pytest.mark.parametrize(
    "value",
    [OFFER, OFFER | {"type": "answer"}, CANDIDATE, OFFER | CANDIDATE, CANDIDATE | {"type": "candidate"}],
)
def test_signals_that_an_original_can_use(value: dict[str, JSONValue]) -> None:
    assert body_fields(Signal(value)) == ("signal", value, True)


@pytest.mark.parametrize(
    "value",
    [
        *[None, 5, "x", [], {}, {"type": "renegotiate", "renegotiate": True}],
        *[{"sdp": "v=0"}, {"sdp": None, "type": "offer"}, {**OFFER, "candidate": True}],
        *[{"candidate": "x"}, {"candidate": {}}, {"candidate": None}],
    ],
)
def test_signals_that_an_original_cannot_use_are_not_written(value: JSONValue) -> None:
    with pytest.raises(LocalProtocolError, match="signal"):
        body_fields(Signal(value))


def test_too_many_found_ids_are_not_written() -> None:
    with pytest.raises(LocalProtocolError, match="at most 64 found ids, not 65"):
        body_fields(FoundPeers((A,) * (MAX_FOUND_IDS + 1)))
