"""The parsers of what Peerix peers send, on whatever may come: nothing but `RemoteProtocolError`, and what is read is
written the same."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.peerix.packets.test_control import controls
from tests.peerix.packets.test_protobuf import MESSAGE, messages, tags
from tests.peerix.packets.test_signalling import CANDIDATE_JSON, PAIR, A, signals
from tests.peerix.packets.test_transfer import encode as encode_transfer
from tests.peerix.packets.test_transfer import packets
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.packets import base62
from trio_relay.peerix.packets.candidates import (
    candidate_to_json,
    description_to_json,
    parse_candidate_untrusted,
    parse_description_untrusted,
)
from trio_relay.peerix.packets.compression import inflate_untrusted
from trio_relay.peerix.packets.control import ControlOffer, encode_control, parse_control_untrusted
from trio_relay.peerix.packets.protobuf import encode_varint, read_varint_untrusted
from trio_relay.peerix.packets.sealing import Keys, PairKey, id_of, id_to_bytes_untrusted
from trio_relay.peerix.packets.signalling import (
    Candidates,
    Packet,
    PacketType,
    encode_packet,
    encode_signal,
    open_signal_untrusted,
    parse_packet_untrusted,
    parse_signal_untrusted,
    seal_signal,
)
from trio_relay.peerix.packets.transfer import Piece, parse_transfer_untrusted


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """One of these messages, parts of which were cut out or replaced, perhaps."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=3)) + data[start + draw(st.sampled_from([0, 1, 2, 1000])) :]
    return data


tagged = st.lists(tags | st.integers(0, 255), max_size=16).map(bytes)
nested: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
descriptions = st.fixed_dictionaries(
    {"type": st.sampled_from(["offer", "answer"]) | nested}, optional={"sdp": st.text(max_size=5) | nested}
)
candidates = st.sampled_from([CANDIDATE_JSON, {"candidate": ""}]) | st.fixed_dictionaries(
    {"candidate": st.just(CANDIDATE_JSON["candidate"]) | nested},
    optional={"sdpMid": nested, "sdpMLineIndex": nested, "usernameFragment": nested},
)
requests = st.fixed_dictionaries(
    {"label": st.text(max_size=3) | nested},
    optional=dict.fromkeys(("protocol", "ordered", "maxPacketLifeTime", "maxRetransmits"), nested),
)
payloads = (nested | requests | st.lists(descriptions | candidates | nested, max_size=3)).map(
    lambda value: json.dumps(value).encode()
)


@given(damaged(st.builds(MESSAGE.encode, messages)) | tagged)
def test_protobuf(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        values = MESSAGE.decode_untrusted(data)
        again = MESSAGE.decode_untrusted(MESSAGE.encode(values))
        assert repr(sorted(again.items())) == repr(sorted(values.items()))
    with suppress(RemoteProtocolError):
        number, end = read_varint_untrusted(data, 1)
        assert 1 < end <= len(data)
        assert end - 1 >= len(encode_varint(number))


@given(st.text(max_size=8) | st.text("0aZ-", max_size=60), st.integers(0, 40))
def test_base_62(text: str, length: int) -> None:
    with suppress(RemoteProtocolError):
        assert base62.encode(base62.decode_untrusted(text, length)) == text
    with suppress(RemoteProtocolError):
        assert id_of(id_to_bytes_untrusted(text)) == text


@given(damaged(st.sampled_from([A.public, Keys.from_secret(9).public])) | st.binary(min_size=33, max_size=33))
def test_keys(public: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert isinstance(A.agree_untrusted(public), PairKey)
        assert len(public) == 33


@given(damaged(st.builds(PAIR.seal, st.binary(max_size=9), st.binary(min_size=12, max_size=12))))
def test_sealed(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert PAIR.seal(PAIR.open_untrusted(data), data[:12]) == data


@given(damaged(st.builds(zlib.compress, st.binary(max_size=99) | st.just(bytes(200)))) | st.binary(max_size=9))
def test_inflated(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        inflated = inflate_untrusted(data, 99)
        assert len(inflated) <= 99
        assert zlib.decompress(data) == inflated


def seal(signal: Any, compress: bool) -> bytes:
    return seal_signal(signal, A.public, None, nonce=b"", compress=compress)


@given(damaged(st.builds(seal, signals, st.booleans())) | tagged)
def test_packets(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        packet = parse_packet_untrusted(data)
        assert parse_packet_untrusted(encode_packet(packet)) == packet
        open_signal_untrusted(packet, None)
    with suppress(RemoteProtocolError):
        open_signal_untrusted(parse_packet_untrusted(data), PAIR)


@given(st.sampled_from(PacketType), payloads | damaged(payloads), st.booleans())
def test_payloads(type: PacketType, payload: bytes, sealed: bool) -> None:
    pair = PAIR if sealed else None
    data = PAIR.seal(payload, bytes(12)) if sealed else payload
    with suppress(RemoteProtocolError):
        signal = open_signal_untrusted(Packet(type, A.public, data, encrypted=sealed), pair)
        if signal != Candidates(()):
            assert repr(signal) == repr(parse_signal_untrusted(type, payload))
        with suppress(LocalProtocolError):  # infinite numbers in metadata
            assert parse_signal_untrusted(type, encode_signal(signal)) == signal


@given(descriptions | candidates | nested)
def test_descriptions_and_candidates(value: Any) -> None:
    with suppress(RemoteProtocolError):
        candidate = parse_candidate_untrusted(value)
        assert parse_candidate_untrusted(candidate_to_json(candidate)) == candidate
        assert (candidate.address is None) == (candidate.candidate == "")
    for type in ("offer", "answer"):
        with suppress(RemoteProtocolError):
            sdp = parse_description_untrusted(value, type)
            assert description_to_json(type, sdp) == {"type": value["type"], "sdp": value["sdp"]}


def control_of(event: int, payload: bytes) -> bytes:
    return bytes((8, event, 0x12)) + encode_varint(len(payload)) + payload


@given(damaged(st.builds(encode_control, controls)) | st.builds(control_of, st.integers(0, 3), payloads) | tagged)
def test_control(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        control = parse_control_untrusted(data)
        if control is not None:
            assert parse_control_untrusted(encode_control(control)) == control
        if isinstance(control, ControlOffer):
            assert all(isinstance(label, str) for label in control.labels.values())


@given(damaged(st.builds(encode_transfer, packets)) | tagged)
def test_transfers(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        packet = parse_transfer_untrusted(data)
        if packet is not None:
            assert 0 < packet.id < 65536
            assert parse_transfer_untrusted(encode_transfer(packet)) == packet
        if isinstance(packet, Piece):
            assert packet.index == 0 or (packet.type, packet.info) == (None, None)
