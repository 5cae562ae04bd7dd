"""Socket.IO packets: what `socket.io-parser` 4.2 writes and refuses."""

from __future__ import annotations

import pytest

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.socketio.packets import (
    MAX_ID,
    MAX_NAMESPACE,
    SocketPacket,
    SocketType,
    encode_ack,
    encode_connect,
    encode_connect_error,
    encode_disconnect,
    encode_event,
    encode_packet,
    parse_packet_untrusted,
)

T = SocketType
VECTORS = [
    (SocketPacket(T.CONNECT), "0"),
    (SocketPacket(T.CONNECT, {"token": "abc"}), '0{"token":"abc"}'),
    (SocketPacket(T.CONNECT, {"sid": "x"}, None, "/admin"), '0/admin,{"sid":"x"}'),
    (SocketPacket(T.DISCONNECT), "1"),
    (SocketPacket(T.DISCONNECT, None, None, "/admin"), "1/admin,"),
    (SocketPacket(T.EVENT, ["peerix:subscribe", "ns"], 0), '20["peerix:subscribe","ns"]'),
    (SocketPacket(T.EVENT, ["peerix:publish", "ns", [8, 1, 255]], 13), '213["peerix:publish","ns",[8,1,255]]'),
    (SocketPacket(T.EVENT, ["a"], 456, "/admin"), '2/admin,456["a"]'),
    (SocketPacket(T.EVENT, ["a"], None, "/admin"), '2/admin,["a"]'),
    (SocketPacket(T.EVENT, ["peerix:message", "ns", []]), '2["peerix:message","ns",[]]'),
    (SocketPacket(T.ACK, [], 0), "30[]"),
    (SocketPacket(T.ACK, [{"error": "é"}], 12, "/admin"), '3/admin,12[{"error":"é"}]'),
    (SocketPacket(T.CONNECT_ERROR, {"message": "Not authorized"}), '4{"message":"Not authorized"}'),
]
"""What its Encoder makes of these packets."""


@pytest.mark.parametrize(("packet", "text"), VECTORS)
def test_packets_of_the_original(packet: SocketPacket, text: str) -> None:
    assert encode_packet(packet) == text
    assert parse_packet_untrusted(text) == packet


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("2[1]", SocketPacket(T.EVENT, [1])),
        ("4", SocketPacket(T.CONNECT_ERROR)),
        ('4"no"', SocketPacket(T.CONNECT_ERROR, "no")),
        ('0{"a":1} ', SocketPacket(T.CONNECT, {"a": 1})),
        ('200012["a"]', SocketPacket(T.EVENT, ["a"], 12)),
        ("0/a", SocketPacket(T.CONNECT, None, None, "/a")),
        ('2/?a=1,["a"]', SocketPacket(T.EVENT, ["a"], None, "/?a=1")),
        (f'2{MAX_ID}["a"]', SocketPacket(T.EVENT, ["a"], MAX_ID)),
    ],
)
def test_what_else_is_taken(text: str, packet: SocketPacket) -> None:
    assert parse_packet_untrusted(text) == packet


@pytest.mark.parametrize(
    "text",
    # What the original's Decoder refuses ...
    [
        *(
            "9",
            "7",
            "x",
            "0null",
            "0[]",
            '0"a"',
            "0{",
            "1{}",
            "1[]",
            "2{}",
            "2[]",
            '2["connect"]',
            "2[null]",
            "2[true]",
        ),
        *('2["a"', "3{}", "4[]", '2-1["a"]', '2\u0661["a"]', '50-["a"]', '5["a"]', '2["a"]x', '2["disconnect",1]'),
        # ... and what it takes, or waits for attachments of, and we do not.
        *("", "2", "3", "2/admin", '2 1["a"]', '51-["a",{"_placeholder":true,"num":0}]', "61-[]", "1null", "4null"),
        *(f'2{MAX_ID + 1}["a"]', f'2{"9" * 5000}["a"]', f'2/{"n" * MAX_NAMESPACE},["a"]', "2" + "[" * 70 + "]" * 70),
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_packet_untrusted(text)


def test_short_forms() -> None:
    assert encode_connect() == "0"
    assert encode_connect({"token": "t"}, "/x") == '0/x,{"token":"t"}'
    assert encode_disconnect() == "1"
    assert encode_event("peerix:publish", "ns", [1, 2], id=7) == '27["peerix:publish","ns",[1,2]]'
    assert encode_event("a", namespace="/n") == '2/n,["a"]'
    assert encode_ack(3) == "33[]"
    assert encode_connect_error("no") == '4{"message":"no"}'
    with pytest.raises(LocalProtocolError):
        encode_event("a", float("inf"))
