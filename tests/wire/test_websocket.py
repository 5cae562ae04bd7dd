"""The WebSocket codec receiving: RFC vectors, every refusal with its close code, bounds, arbitrary bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    Outcome,
    both_ways,
    codec,
    each_role,
    frame,
    other,
    pieces_of,
    receive,
    refusal,
    streams,
    to,
)
from trio_relay.exceptions import LocalProtocolError
from trio_relay.wire import masking, websocket, websocket_batch
from trio_relay.wire.websocket import Role, WebSocketCodec


@pytest.fixture(params=["installed masker", "integer xor"])
def _each_masker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "integer xor":
        for module in (websocket, websocket_batch):
            monkeypatch.setattr(module, "apply_mask", masking.xor_mask)


# RFC 6455 section 5.7


@pytest.mark.parametrize(
    ("role", "stream", "message"),
    [
        (Role.CLIENT, "810548656c6c6f", "Hello"),
        (Role.SERVER, "818537fa213d7f9f4d5158", "Hello"),
        (Role.CLIENT, "010348656c80026c6f", "Hello"),
        (Role.CLIENT, "827e0100" + "61" * 256, b"a" * 256),
        (Role.CLIENT, "827f0000000000010000" + "61" * 65536, b"a" * 65536),
    ],
)
def test_rfc_data_vectors(role: Role, stream: str, message: bytes | str) -> None:
    assert both_ways(role, bytes.fromhex(stream)) == Outcome([message], None, None)


def test_rfc_ping_and_pong_vectors() -> None:
    server = codec(Role.SERVER)
    server.receive_data(bytes.fromhex("898537fa213d7f9f4d5158"))
    assert server.data_to_send() == bytes.fromhex("8a0548656c6c6f")
    client = WebSocketCodec(Role.CLIENT, max_message=9, max_fragments=9, new_mask=lambda: bytes.fromhex("37fa213d"))
    client.receive_data(bytes.fromhex("890548656c6c6f"))
    assert client.data_to_send() == bytes.fromhex("8a8537fa213d7f9f4d5158")


# Refusals

VIOLATIONS: list[tuple[str, Callable[[Role], bytes], int]] = [
    ("wrong masking", lambda role: frame(FIN | BINARY, b"x", masked=role is Role.CLIENT), 1002),
    ("wrong masking of a ping", lambda role: frame(FIN | PING, b"x", masked=role is Role.CLIENT), 1002),
    ("RSV1", lambda role: to(role, FIN | 0x40 | BINARY), 1002),
    ("RSV2", lambda role: to(role, FIN | 0x20 | TEXT), 1002),
    ("RSV3 of a ping", lambda role: to(role, FIN | 0x10 | PING), 1002),
    *[(f"opcode {n}", lambda role, n=n: to(role, FIN | n), 1002) for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    ("fragmented ping", lambda role: to(role, PING, b"x"), 1002),
    ("fragmented close", lambda role: to(role, CLOSE), 1002),
    ("ping of 126 bytes", lambda role: to(role, FIN | PING, b"x" * 126), 1002),
    ("pong with a long length", lambda role: to(role, FIN | PONG, b"x", width=2), 1002),
    ("close of 126 bytes", lambda role: to(role, FIN | CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    ("continuation of nothing", lambda role: to(role, FIN | CONTINUATION, b"x"), 1002),
    ("continuation after the end", lambda role: to(role, TEXT) + to(role, FIN) + to(role, FIN), 1002),
    ("text inside a message", lambda role: to(role, BINARY, b"x") + to(role, FIN | TEXT, b"y"), 1002),
    ("binary inside a message", lambda role: to(role, BINARY, b"x") + to(role, BINARY, b"y"), 1002),
    ("125 in 16 bits", lambda role: to(role, FIN | BINARY, b"x" * 125, width=2), 1002),
    ("125 in 64 bits", lambda role: to(role, FIN | BINARY, b"x" * 125, width=8), 1002),
    ("65535 in 64 bits", lambda role: to(role, FIN | BINARY, b"x" * 65535, width=8), 1002),
    ("length with its top bit", lambda role: to(role, FIN | BINARY)[:1] + b"\x7f\x80" + b"\0" * 7, 1002),
    ("invalid text", lambda role: to(role, FIN | TEXT, b"ok\xff"), 1007),
    ("surrogate in text", lambda role: to(role, FIN | TEXT, b"\xed\xa0\x80"), 1007),
    ("overlong text", lambda role: to(role, FIN | TEXT, b"\xc0\xaf"), 1007),
    ("text beyond U+10FFFF", lambda role: to(role, FIN | TEXT, b"\xf4\x90\x80\x80"), 1007),
    ("text that ends inside a character", lambda role: to(role, FIN | TEXT, b"\xe2\x82"), 1007),
    ("large invalid text", lambda role: to(role, FIN | TEXT, b"a" * 70000 + b"\xff"), 1007),
    ("invalid second fragment", lambda role: to(role, TEXT, b"\xe2") + to(role, CONTINUATION, b"a"), 1007),
    ("character never finished", lambda role: to(role, TEXT, b"\xe2\x82") + to(role, FIN), 1007),
    ("close of one byte", lambda role: to(role, FIN | CLOSE, b"\x03"), 1002),
    ("close reason not UTF-8", lambda role: to(role, FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    *[
        (f"close code {code}", lambda role, code=code: to(role, FIN | CLOSE, code.to_bytes(2, "big")), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
    ],
]


@each_role
@pytest.mark.parametrize(("violation", "code"), [v[1:] for v in VIOLATIONS], ids=[v[0] for v in VIOLATIONS])
def test_violations(role: Role, violation: Callable[[Role], bytes], code: int) -> None:
    stream = violation(role)
    if stream[1] & 0x7F == 127 and role is Role.SERVER:
        stream = stream[:1] + bytes([stream[1] | 0x80]) + stream[2:]
    before, after = to(role, FIN | BINARY, b"before"), to(role, FIN | BINARY, b"after")
    outcome = both_ways(role, before + stream + after)
    assert outcome.messages[0] == b"before"
    assert b"after" not in outcome.messages
    assert (outcome.refused_with, outcome.closed_with) == (code, None)

    subject, peer = codec(role), codec(other(role))
    subject.receive_data(before + stream)
    assert (subject.closed, subject.has_output) == (True, True)
    assert str(subject.failure).startswith("expected ")
    assert subject.held == 0
    assert subject.receive_data(after) == []
    with pytest.raises(LocalProtocolError, match="close frame was sent"):
        subject.send_binary([b"x"])
    peer.receive_data(subject.data_to_send())
    assert (peer.close_code, peer.close_reason) == (code, str(subject.failure))
    assert subject.data_to_send() == b""


@each_role
def test_a_message_too_big_is_refused_by_its_head(role: Role) -> None:
    assert both_ways(role, to(role, FIN | BINARY, b"x" * 200), max_message=200).messages == [b"x" * 200]
    head = to(role, FIN | BINARY, b"x" * 201)[:4]
    subject = codec(role, max_message=200)
    assert subject.receive_data(head[:3]) == []
    assert refusal(subject) is None
    assert subject.receive_data(head[3:]) == []
    assert refusal(subject) == 1009
    assert both_ways(role, to(role, FIN | TEXT, b"x" * 201), max_message=200).refused_with == 1009
    long_head = to(role, FIN | BINARY, b"x" * 70000)[:10]
    assert receive(codec(role, max_message=69999), [long_head[:3], long_head[3:]]).refused_with == 1009
    assert receive(codec(role, max_message=70000), [long_head]).refused_with is None


@each_role
def test_the_size_of_a_fragmented_message_is_the_sum(role: Role) -> None:
    start = to(role, BINARY, b"x" * 60) + to(role, FIN | PING, b"y" * 125)
    fits = start + to(role, FIN | CONTINUATION, b"x" * 40)
    assert both_ways(role, fits, max_message=100).messages == [b"x" * 100]
    too_big = start + to(role, CONTINUATION, b"x" * 41)[:2]
    assert both_ways(role, too_big, max_message=100).refused_with == 1009


@each_role
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_fragments_are_counted_empty_ones_too(role: Role, payload: bytes) -> None:
    middle = to(role, CONTINUATION, payload) + to(role, FIN | PING)
    last = to(role, FIN | CONTINUATION, payload)
    fits = (to(role, BINARY, payload) + middle * 2 + last) * 3
    assert both_ways(role, fits, max_fragments=4).messages == [payload * 4] * 3
    assert both_ways(role, to(role, BINARY, payload) + middle * 3 + last, max_fragments=4).refused_with == 1008


@each_role
def test_text_fails_with_the_fragment_that_is_invalid(role: Role) -> None:
    subject = codec(role)
    subject.receive_data(to(role, TEXT, b"\xf0\x9f") + to(role, CONTINUATION, b"\x98"))
    assert refusal(subject) is None
    subject.receive_data(to(role, CONTINUATION, b"\x80") + to(role, CONTINUATION, b"\x80"))
    assert refusal(subject) == 1007


@each_role
def test_text_split_inside_characters(role: Role) -> None:
    encoded = "aé€😀".encode()
    stream = to(role, TEXT) + b"".join(to(role, CONTINUATION, encoded[i : i + 1]) for i in range(len(encoded)))
    assert both_ways(role, stream + to(role, FIN)).messages == ["aé€😀"]


# What is kept


@each_role
def test_held_bytes_are_bounded_by_the_message_and_a_control_frame(role: Role) -> None:
    subject = codec(role, max_message=1000)
    stream = to(role, BINARY, b"x" * 600) + to(role, FIN | PING, b"y" * 125) + to(role, FIN, b"x" * 400)
    most = 0
    for i in range(len(stream) - 1):
        assert subject.receive_data(stream[i : i + 1]) == []
        most = max(most, subject.held)
    assert 1000 <= most <= 1000 + 8
    assert subject.receive_data(stream[-1:]) == [b"x" * 1000]
    assert subject.held == 0


def test_tiny_fragments_hold_their_payload_only() -> None:
    subject = codec(Role.SERVER)
    subject.receive_data(to(Role.SERVER, TEXT) + to(Role.SERVER, CONTINUATION, b"a") * 5000)
    assert subject.held == 5000


@each_role
def test_what_was_received_may_be_changed_afterwards(role: Role) -> None:
    data = bytearray(to(role, FIN | BINARY, b"abc") + to(role, BINARY, b"d"))
    subject = codec(role)
    (message,) = subject.receive_data(memoryview(data))
    data[:] = b"\0" * len(data)
    assert message == b"abc"
    assert subject.receive_data(to(role, FIN, b"e")) == [b"de"]
    data += b"not exported any more"


# Pings


@each_role
def test_only_the_newest_ping_is_answered(role: Role) -> None:
    subject = codec(role)
    subject.receive_data(b"".join(to(role, FIN | PING, b"%d" % i) for i in range(1000)))
    assert subject.data_to_send() == to(other(role), FIN | PONG, b"999")
    assert subject.data_to_send() == b""


@each_role
def test_pings_inside_a_message_and_after_our_close(role: Role) -> None:
    subject = codec(role)
    subject.send_close()
    stream = to(role, BINARY, b"a") + to(role, FIN | PING) + to(role, FIN, b"b")
    assert subject.receive_data(stream) == [b"ab"]
    assert subject.data_to_send() == to(other(role), FIN | PONG)


@each_role
def test_a_pong_needs_no_answer(role: Role) -> None:
    assert both_ways(role, to(role, FIN | PONG, b"unasked")) == Outcome([], None, None)


# Properties


@pytest.mark.usefixtures("_each_masker")
@each_role
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537])
def test_every_length_both_roles(role: Role, size: int) -> None:
    payload = bytes(i & 0xFF for i in range(size))
    sender = codec(other(role))
    stream = b"".join(sender.send_binary([payload])) + b"".join(sender.send_text([b"t" * size]))
    for step in (len(stream), 1000, 7):
        pieces = [stream[i : i + step] for i in range(0, len(stream), step)]
        assert receive(codec(role), pieces).messages == [payload, "t" * size]


@each_role
def test_one_cut_at_every_place(role: Role) -> None:
    stream = (
        to(role, FIN | BINARY, b"small")
        + to(role, FIN | TEXT, "ü".encode() * 5)
        + to(role, FIN | BINARY, b"x" * 126)
        + to(role, TEXT, b"\xe2\x82")
        + to(role, FIN | PING, b"ping")
        + to(role, FIN | CONTINUATION, b"\xac")
        + to(role, FIN | BINARY)
        + to(role, FIN | TEXT, b"y" * 130)
        + to(role, FIN | CLOSE, b"\x03\xe8end")
    )
    for i in range(len(stream) + 1):
        outcome = receive(codec(role), [stream[:i], stream[i:]])
        assert outcome.messages == [b"small", "üüüüü", b"x" * 126, "€", b"", "y" * 130]
        assert (outcome.refused_with, outcome.closed_with, outcome.reason) == (None, 1000, "end")


buffers = st.sampled_from([bytes, bytearray, memoryview])
cut_lists = st.lists(st.integers(0, 400), max_size=30)


@each_role
@given(data=st.data())
def test_round_trip_in_any_pieces(role: Role, data: st.DataObject) -> None:
    sender, subject = codec(other(role)), codec(role)
    messages = data.draw(st.lists(st.binary(max_size=150) | st.text(max_size=50), max_size=12))
    stream = b""
    for message in messages:
        encoded = message.encode() if isinstance(message, str) else message
        split = pieces_of(encoded, data.draw(st.lists(st.integers(0, 50), max_size=3)))
        send = sender.send_text if isinstance(message, str) else sender.send_binary
        stream += b"".join(send([data.draw(buffers)(piece) for piece in split])) + sender.send_ping()
    stream += sender.send_close(1000, "done")
    pieces = [data.draw(buffers)(piece) for piece in pieces_of(stream, data.draw(cut_lists))]
    outcome = receive(subject, pieces)
    assert outcome.messages == messages
    assert (outcome.refused_with, outcome.closed_with, outcome.reason) == (None, 1000, "done")


@each_role
@given(data=st.data(), max_message=st.integers(1, 200), max_fragments=st.integers(1, 5))
def test_the_pieces_do_not_matter(role: Role, data: st.DataObject, max_message: int, max_fragments: int) -> None:
    stream = data.draw(streams(masked=role is Role.SERVER) | st.binary(max_size=300))
    whole = both_ways(role, stream, max_message=max_message, max_fragments=max_fragments)
    pieces = pieces_of(stream, data.draw(cut_lists))
    subject = codec(role, max_message=max_message, max_fragments=max_fragments)
    assert receive(subject, pieces) == whole
    assert subject.held <= max_message + 131
    assert all(len(message) <= max_message for message in whole.messages)


@each_role
@given(stream=st.binary(max_size=200), tail=st.binary(max_size=50))
def test_arbitrary_bytes_raise_nothing(role: Role, stream: bytes, tail: bytes) -> None:
    subject = codec(role, max_message=100, max_fragments=3)
    first = receive(subject, [stream])
    ended = first.refused_with is not None or first.closed_with is not None
    assert subject.closed == ended
    assert subject.held <= 100 + 131
    assert bool(first.output) or not ended
    if ended:
        assert receive(subject, [tail]).messages == []
    subject.receive_eof()
    assert subject.closed
    assert receive(subject, [tail]).messages == []
