"""Packets through a broker: their bytes, what is refused, and the order of compressing and sealing."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, PayloadTooLarge, RemoteProtocolError
from trio_relay.peerix.packets.candidates import MAX_DESCRIPTION
from trio_relay.peerix.packets.sealing import Keys
from trio_relay.peerix.packets.signalling import (
    SIGNAL_LIMITS,
    Announce,
    Answer,
    Candidates,
    IceCandidate,
    Invoke,
    Offer,
    Packet,
    PacketType,
    Signal,
    SignalLimits,
    encode_packet,
    encode_signal,
    open_signal_untrusted,
    parse_packet_untrusted,
    parse_signal_untrusted,
    seal_signal,
)

A, B = Keys.from_secret(7), Keys.from_secret(255)
PAIR = A.agree_untrusted(B.public)
NONCE = bytes(range(12))
LINE: Final = "candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host"
CANDIDATE: Final = IceCandidate(LINE, "0", 0, "EsAw")
CANDIDATE_JSON: Final = {"candidate": LINE, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "EsAw"}
LONG = "v=0\r\n" + "a=x\r\n" * 50


def seal(signal: Signal, *, pair: Any = PAIR, compress: bool = True) -> Packet:
    return parse_packet_untrusted(seal_signal(signal, A.public, pair, nonce=NONCE, compress=compress))


@pytest.mark.parametrize(
    ("packet", "encoded"),
    [
        (Packet(PacketType.ANNOUNCE, A.public, b""), f"08011000 1a21{A.public.hex()} 2200"),
        (Packet(PacketType.INVOKE, bytes(33), b"[1]"), f"08021000 1a21{bytes(33).hex()} 2203 5b315d"),
        (Packet(PacketType.OFFER, A.public, b"x" * 200, True), f"08031001 1a21{A.public.hex()} 22c801 {'78' * 200}"),
        (Packet(PacketType.ANSWER, A.public, b"x", False, True), f"08041002 1a21{A.public.hex()} 2201 78"),
        (Packet(PacketType.CANDIDATES, A.public, b"x", True, True), f"08051003 1a21{A.public.hex()} 2201 78"),
    ],
)
def test_packets(packet: Packet, encoded: str) -> None:
    assert encode_packet(packet) == bytes.fromhex(encoded)
    assert parse_packet_untrusted(bytes.fromhex(encoded)) == packet


def test_flags_may_be_missing_and_unknown_ones_set() -> None:
    tail = bytes.fromhex(f"1a21{A.public.hex()} 2200")
    assert parse_packet_untrusted(b"\x08\x01" + tail) == Packet(PacketType.ANNOUNCE, A.public, b"")
    assert parse_packet_untrusted(b"\x08\x01\x10\x06" + tail) == Packet(PacketType.ANNOUNCE, A.public, b"", False, True)


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        ("", "type from 1 to 5, got None"),
        (f"1000 1a21{A.public.hex()} 2200", "type from 1 to 5, got None"),
        (f"0800 1000 1a21{A.public.hex()} 2200", "type from 1 to 5, got 0"),
        (f"0806 1000 1a21{A.public.hex()} 2200", "type from 1 to 5, got 6"),
        ("0801 1000 2200", "sender of 33 bytes"),
        (f"0801 1000 1a20{A.public[1:].hex()} 2200", "sender of 33 bytes"),
        (f"0801 1000 1a22{A.public.hex()}00 2200", "sender of 33 bytes"),
        ("0801 1000 1a00 2200", "sender of 33 bytes"),
        (f"0801 1000 1a21{A.public.hex()}", "a payload, empty"),
        (f"0801 1000 1a21{A.public.hex()} 2205", "5 bytes, got 0"),
        (f"0801 1000 1a21{A.public.hex()} 2000", "payload as another wire type"),
    ],
)
def test_no_packets(encoded: str, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        parse_packet_untrusted(bytes.fromhex(encoded))


def test_large_packets() -> None:
    assert SIGNAL_LIMITS.packet == 1 << 18
    packet = encode_packet(Packet(PacketType.OFFER, A.public, bytes(1000)))
    assert parse_packet_untrusted(packet, limits=SignalLimits(packet=len(packet))).payload == bytes(1000)
    with pytest.raises(RemoteProtocolError, match="at most 1041 bytes") as caught:
        parse_packet_untrusted(packet, limits=SignalLimits(packet=len(packet) - 1))
    assert caught.value.close_code == 1009


def test_the_senders_id_has_its_size() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        encode_packet(Packet(PacketType.ANNOUNCE, A.public[1:], b""))


# Payloads

SIGNALS: Final[list[tuple[Signal, PacketType, str]]] = [
    (Announce(), PacketType.ANNOUNCE, ""),
    (Invoke(), PacketType.INVOKE, ""),
    (Invoke({"name": "Bob"}), PacketType.INVOKE, '[{"name":"Bob"}]'),
    (Invoke(0), PacketType.INVOKE, "[0]"),
    (Invoke(False), PacketType.INVOKE, "[false]"),
    (Invoke([]), PacketType.INVOKE, "[[]]"),
    (Offer("x"), PacketType.OFFER, '[{"type":"offer","sdp":"x"},null]'),
    (Offer("x", "Bob"), PacketType.OFFER, '[{"type":"offer","sdp":"x"},"Bob"]'),
    (Answer("x"), PacketType.ANSWER, '[{"type":"answer","sdp":"x"}]'),
    (Candidates(()), PacketType.CANDIDATES, "[]"),
    (
        Candidates((CANDIDATE, IceCandidate("", None, None, None))),
        PacketType.CANDIDATES,
        f'[{{"candidate":"{LINE}","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}},'
        '{"candidate":"","sdpMid":null,"sdpMLineIndex":null,"usernameFragment":null}]',
    ),
]


@pytest.mark.parametrize(("signal", "type", "payload"), SIGNALS)
def test_payloads(signal: Signal, type: PacketType, payload: str) -> None:
    assert encode_signal(signal).decode() == payload
    assert parse_signal_untrusted(type, payload.encode()) == signal


@pytest.mark.parametrize(
    ("type", "items", "signal"),
    [
        (PacketType.ANNOUNCE, [1, 2], Announce()),
        (PacketType.INVOKE, [], Invoke()),
        (PacketType.INVOKE, [None], Invoke()),
        (PacketType.INVOKE, [1, 2], Invoke(1)),
        (PacketType.OFFER, [{"sdp": "x", "type": "offer", "more": 1}], Offer("x")),
        (PacketType.OFFER, [{"sdp": "x", "type": "offer"}, 1, 2], Offer("x", 1)),
        (PacketType.ANSWER, [{"sdp": "x", "type": "answer"}, 1], Answer("x")),
        (PacketType.CANDIDATES, [{"candidate": ""}], Candidates((IceCandidate("", None, None, None),))),
        (PacketType.CANDIDATES, [{**CANDIDATE_JSON, "more": 1}], Candidates((CANDIDATE,))),
    ],
)
def test_payloads_that_are_only_read(type: PacketType, items: list[Any], signal: Signal) -> None:
    assert parse_signal_untrusted(type, json.dumps(items).encode()) == signal


DESCRIBED: Final = {"type": "offer", "sdp": "x"}


@pytest.mark.parametrize(
    ("type", "items"),
    [
        (PacketType.ANNOUNCE, None),
        (PacketType.INVOKE, {}),
        (PacketType.INVOKE, "x"),
        (PacketType.OFFER, []),
        (PacketType.OFFER, [None]),
        (PacketType.OFFER, ["v=0"]),
        (PacketType.OFFER, [{"type": "offer"}]),
        (PacketType.OFFER, [{"type": "offer", "sdp": ""}]),
        (PacketType.OFFER, [{"type": "offer", "sdp": 1}]),
        (PacketType.OFFER, [{"type": "rollback", "sdp": "x"}]),
        (PacketType.OFFER, [{"type": "offer", "sdp": "x" * (MAX_DESCRIPTION + 1)}]),
        (PacketType.ANSWER, [DESCRIBED]),
        (PacketType.ANSWER, [{"type": "pranswer", "sdp": "x"}]),
        (PacketType.CANDIDATES, [None]),
        (PacketType.CANDIDATES, [[]]),
        (PacketType.CANDIDATES, [{"candidate": None}]),
        (PacketType.CANDIDATES, [{"candidate": "nonsense"}]),
        (PacketType.CANDIDATES, [{**CANDIDATE_JSON, "usernameFragment": 1}]),
        (PacketType.CANDIDATES, [{**CANDIDATE_JSON, "usernameFragment": "x" * 257}]),
        (PacketType.CANDIDATES, [{**CANDIDATE_JSON, "sdpMid": 1}]),
        (PacketType.CANDIDATES, [{"candidate": ""}] * (SIGNAL_LIMITS.candidates + 1)),
    ],
)
def test_no_payloads(type: PacketType, items: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_signal_untrusted(type, json.dumps(items).encode())


@pytest.mark.parametrize("payload", [b"[", b"\xff", b"[1]x", b"[" * 65 + b"]" * 65, b"\x00"])
def test_no_json(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_signal_untrusted(PacketType.INVOKE, payload)


def test_metadata_must_be_json() -> None:
    for metadata in (object(), float("nan"), {1: 2}):
        with pytest.raises(LocalProtocolError):
            encode_signal(Invoke(metadata))  # type: ignore[arg-type]


# Sealed ones


def test_sealed_vector() -> None:
    packet = seal(Invoke({"name": "Bob"}))
    assert packet.payload.hex() == (
        "000102030405060708090a0bf31f546831478a559a547f5ab4e90fbaf6550183b71a93ede8fcf0ae1153b77e"
    )
    assert (packet.type, packet.compressed, packet.encrypted) == (PacketType.INVOKE, False, True)


def test_announces_are_never_sealed() -> None:
    data = seal_signal(Announce(), A.public, PAIR, nonce=NONCE, compress=True)
    assert data == bytes.fromhex(f"08011000 1a21{A.public.hex()} 2200")
    assert len(data) == 41


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("pair", [None, PAIR], ids=["open", "sealed"])
@pytest.mark.parametrize("signal", [signal for signal, _, _ in SIGNALS] + [Offer(LONG), Answer(LONG)])
def test_round(signal: Signal, pair: Any, compress: bool) -> None:
    packet = seal(signal, pair=pair, compress=compress)
    theirs = B.agree_untrusted(packet.sender) if pair is not None else None
    assert open_signal_untrusted(packet, theirs) == signal


def test_compressed_before_it_is_sealed() -> None:
    packet = seal(Answer(LONG))
    assert (packet.compressed, packet.encrypted) == (True, True)
    assert zlib.decompress(PAIR.open_untrusted(packet.payload)) == encode_signal(Answer(LONG))
    assert not seal(Answer("x")).compressed
    assert not seal(Answer(LONG), compress=False).compressed


def test_the_flag_counts_whatever_the_receiver_does_itself() -> None:
    payload = zlib.compress(b"[1]")
    assert open_signal_untrusted(Packet(PacketType.INVOKE, A.public, payload, compressed=True), None) == Invoke(1)


def test_an_empty_payload_needs_no_key() -> None:
    for flags in ((False, False), (True, False), (False, True), (True, True)):
        assert open_signal_untrusted(Packet(PacketType.INVOKE, A.public, b"", *flags), PAIR) == Invoke()


@pytest.mark.parametrize(
    ("packet", "pair"),
    [
        (Packet(PacketType.INVOKE, A.public, b"[1]"), PAIR),
        (Packet(PacketType.ANNOUNCE, A.public, b"[]"), PAIR),
        (Packet(PacketType.INVOKE, A.public, zlib.compress(b"[1]"), compressed=True), PAIR),
        (Packet(PacketType.INVOKE, A.public, PAIR.seal(b"[1]", NONCE), encrypted=True), None),
        (Packet(PacketType.INVOKE, A.public, PAIR.seal(b"[1]", NONCE)), PAIR),
        (Packet(PacketType.INVOKE, A.public, b"[1]", encrypted=True), PAIR),
        (Packet(PacketType.INVOKE, A.public, b"[1]", compressed=True), None),
        (Packet(PacketType.INVOKE, A.public, PAIR.seal(b"[1]", NONCE), True, True), PAIR),
        (Packet(PacketType.INVOKE, A.public, zlib.compress(PAIR.seal(b"[1]", NONCE)), True, True), PAIR),
    ],
    ids=[
        "open",
        "open-announce",
        "open-compressed",
        "sealed",
        "no-flag",
        "not-sealed",
        "not-zlib",
        "sealed-not-zlib",
        "order",
    ],
)
def test_refused(packet: Packet, pair: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        open_signal_untrusted(packet, pair)


def test_what_is_too_large_when_it_is_inflated() -> None:
    payload = b"[" + b" " * SIGNAL_LIMITS.payload + b"]"
    packet = Packet(PacketType.INVOKE, A.public, zlib.compress(payload), compressed=True)
    with pytest.raises(RemoteProtocolError, match="at most 524288"):
        open_signal_untrusted(packet, None)
    assert open_signal_untrusted(packet, None, limits=SignalLimits(payload=len(payload))) == Invoke()


def test_what_is_too_large_as_it_is() -> None:
    limits = SignalLimits(payload=3)
    assert open_signal_untrusted(Packet(PacketType.INVOKE, A.public, b"[1]"), None, limits=limits) == Invoke(1)
    with pytest.raises(RemoteProtocolError, match="at most 3 bytes"):
        open_signal_untrusted(Packet(PacketType.INVOKE, A.public, b"[10]"), None, limits=limits)


@pytest.mark.parametrize("compress", [False, True])
def test_too_large_to_be_sent(compress: bool) -> None:
    with pytest.raises(PayloadTooLarge):
        seal(Invoke("x" * (SIGNAL_LIMITS.payload if compress else SIGNAL_LIMITS.packet)), compress=compress)


json_values: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
fragments = st.none() | st.text(max_size=8)
candidates = st.builds(
    IceCandidate, st.just(LINE), st.none() | st.sampled_from(["0", "audio"]), st.none() | st.integers(0, 255), fragments
)
signals: Final[st.SearchStrategy[Signal]] = (
    st.just(Announce())
    | st.builds(Invoke, json_values)
    | st.builds(Offer, st.text(min_size=1, max_size=9), json_values)
    | st.builds(Answer, st.text(min_size=1, max_size=200))
    | st.builds(Candidates, st.lists(candidates, max_size=3).map(tuple))
)


@given(signals, st.booleans(), st.sampled_from([None, PAIR]), st.binary(min_size=12, max_size=12))
@settings(max_examples=50)
def test_signals_round(signal: Signal, compress: bool, pair: Any, nonce: bytes) -> None:
    data = seal_signal(signal, A.public, pair, nonce=nonce, compress=compress)
    assert open_signal_untrusted(parse_packet_untrusted(data), pair) == signal
