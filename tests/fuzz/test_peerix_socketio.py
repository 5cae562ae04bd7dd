"""The parsers of Engine.IO and Socket.IO packets, on whatever may come."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from tests.peerix.socketio.test_engineio import PAYLOAD
from tests.peerix.socketio.test_packets import VECTORS
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.socketio.engineio import (
    encode_payload,
    parse_handshake_untrusted,
    parse_packet_untrusted,
    parse_payload_untrusted,
)
from trio_relay.peerix.socketio.packets import encode_packet
from trio_relay.peerix.socketio.packets import parse_packet_untrusted as parse_socket_packet_untrusted

HANDSHAKE = '0{"sid":"s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
SEEDS = [PAYLOAD, HANDSHAKE, *(f"4{text}" for _, text in VECTORS)]
PIECES = ["\x1e", "b", "4", "2", "5", "1-", "/", "/a,", ",", "0", "9" * 20, "[", "]", "{", "}", '"', "null", "true"]
PIECES += ["\\ud800", "\ud800", "\x00", "1e999", "[" * 70, '"connect"', ":", "\u0664"]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Packets, parts of which were cut out or replaced."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        removed = draw(st.sampled_from([0, 1, 1, 2, 8, 1000]))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[start + removed :]
    return text


@given(texts() | st.text(max_size=6))
def test_messages_of_a_websocket(text: str) -> None:
    with suppress(RemoteProtocolError):
        packet = parse_packet_untrusted(text)
        with suppress(RemoteProtocolError):
            parse_handshake_untrusted(packet)
        assert isinstance(packet.data, str)
        inner = parse_socket_packet_untrusted(packet.data)
        with suppress(UnicodeEncodeError, LocalProtocolError):  # infinity
            again = encode_packet(inner).encode()
            assert encode_packet(parse_socket_packet_untrusted(again.decode())).encode() == again


@given(st.binary(max_size=20) | texts().map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(1, 16))
def test_payloads(body: bytes, most: int) -> None:
    with suppress(RemoteProtocolError):
        packets = parse_payload_untrusted(body, most)
        assert 0 < len(packets) <= most
        assert parse_payload_untrusted(encode_payload(packets), most) == packets
