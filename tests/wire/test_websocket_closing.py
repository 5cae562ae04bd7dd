"""The WebSocket codec: closing from either end, and what is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.websocket_peer import (
    BINARY,
    CLOSE,
    FIN,
    PING,
    TEXT,
    Outcome,
    both_ways,
    codec,
    each_role,
    frame,
    other,
    refusal,
    to,
)
from trio_relay.exceptions import LocalProtocolError
from trio_relay.wire.websocket import Buffer, Role, WebSocketCodec

# Closing


@each_role
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_a_close_frame_is_echoed_and_ends_receiving(role: Role, code: int) -> None:
    payload = code.to_bytes(2, "big")
    stream = to(role, FIN | BINARY, b"x") + to(role, FIN | CLOSE, payload + "adieu é".encode())
    outcome = both_ways(role, stream + to(role, FIN | BINARY, b"y") + b"\xff\xff\xff")
    assert outcome == Outcome([b"x"], None, code, "adieu é", to(other(role), FIN | CLOSE, payload))


@each_role
def test_a_close_frame_without_a_code(role: Role) -> None:
    outcome = both_ways(role, to(role, FIN | CLOSE))
    assert outcome == Outcome([], None, 1005, "", to(other(role), FIN | CLOSE))


@each_role
def test_a_close_frame_of_one_byte_is_called_that(role: Role) -> None:
    assert "got 1 byte" in both_ways(role, to(role, FIN | CLOSE, b"\x03")).violation


@each_role
def test_a_close_frame_inside_a_message(role: Role) -> None:
    subject = codec(role)
    assert subject.receive_data(to(role, TEXT, b"half") + to(role, FIN | CLOSE, b"\x03\xe8")) == []
    assert (subject.close_code, subject.failure, subject.held) == (1000, None, 0)


@each_role
def test_our_close_is_sent_once_and_not_repeated_as_a_reply(role: Role) -> None:
    subject = codec(role)
    assert subject.send_close(1001, "bye") == to(other(role), FIN | CLOSE, b"\x03\xe9bye")
    assert subject.send_close() == b""
    assert subject.receive_data(to(role, FIN | BINARY, b"early")) == [b"early"]
    stream = to(role, FIN | BINARY, b"late") + to(role, FIN | CLOSE, b"\x03\xe9")
    assert subject.receive_data(stream) == [b"late"]
    assert (subject.closed, subject.has_output) == (True, False)


@each_role
def test_a_violation_after_our_close_sends_nothing(role: Role) -> None:
    subject = codec(role)
    subject.send_close()
    subject.receive_data(to(role, FIN | 0x70))
    assert refusal(subject) == 1002
    assert not subject.has_output


@each_role
def test_the_reply_to_a_close_counts_as_our_close(role: Role) -> None:
    subject = codec(role)
    subject.receive_data(to(role, FIN | CLOSE, b"\x03\xe8"))
    assert subject.send_close(1011) == b""
    with pytest.raises(LocalProtocolError, match="close frame was sent"):
        subject.send_text([b"x"])
    assert subject.data_to_send() == to(other(role), FIN | CLOSE, b"\x03\xe8")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("x" * 124, b"x" * 123), ("é" * 62, "é".encode() * 61), ("x\ud800", b"x?"), ("😀" * 31, "😀".encode() * 30)],
)
def test_a_close_reason_is_cut_at_a_character(reason: str, sent: bytes) -> None:
    assert codec(Role.SERVER).send_close(4000, reason) == frame(FIN | CLOSE, b"\x0f\xa0" + sent, masked=False)


@each_role
@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, 70000, -1])
def test_close_codes_that_must_not_be_sent(role: Role, code: int) -> None:
    subject = codec(role)
    with pytest.raises(LocalProtocolError, match=f"not {code}"):
        subject.send_close(code)
    assert subject.send_close(1000) != b""


@each_role
def test_a_close_frame_of_ours_without_a_code(role: Role) -> None:
    assert codec(Role.SERVER).send_close(1005) == frame(FIN | CLOSE, b"", masked=False)
    with pytest.raises(LocalProtocolError, match="not 1005"):
        codec(role).send_close(1005, "a reason stands behind a code")


@each_role
def test_the_end_of_the_stream(role: Role) -> None:
    subject = codec(role)
    subject.receive_data(to(role, BINARY, b"half") + to(role, FIN, b"frame")[:-1])
    subject.receive_eof()
    assert (subject.close_code, subject.closed, subject.held, subject.has_output) == (1006, True, 0, False)
    closed = codec(role)
    closed.receive_data(to(role, FIN | CLOSE, b"\x03\xe9"))
    closed.receive_eof()
    assert closed.close_code == 1001


# Sending


@each_role
def test_data_and_pings_after_our_close_are_a_mistake(role: Role) -> None:
    subject = codec(role)
    subject.send_close()
    for send in (lambda: subject.send_binary([]), lambda: subject.send_text([]), subject.send_ping):
        with pytest.raises(LocalProtocolError, match="close frame was sent"):
            send()


@each_role
def test_a_ping_of_ours_is_short(role: Role) -> None:
    subject = codec(role)
    assert subject.send_ping(b"x" * 125) == to(other(role), FIN | PING, b"x" * 125)
    with pytest.raises(LocalProtocolError, match="125 bytes in a ping, not 126"):
        subject.send_ping(b"x" * 126)


def test_a_server_passes_its_pieces_on_untouched() -> None:
    pieces: list[Buffer] = [b"ab", bytearray(b"c"), memoryview(b"de")]
    sent = codec(Role.SERVER).send_binary(pieces)
    assert sent[0] == b"\x82\x05"
    assert all(a is b for a, b in zip(sent[1:], pieces, strict=True))


def test_a_client_takes_a_fresh_mask_for_every_frame() -> None:
    masks: Iterator[bytes] = iter([b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3", b"\0\0\0\4"])
    client = WebSocketCodec(Role.CLIENT, max_message=9, max_fragments=9, new_mask=lambda: next(masks))
    piece = bytearray(b"abcd")
    assert b"".join(client.send_binary([piece])) == b"\x82\x84\0\0\0\1abce"
    assert b"".join(client.send_text([b"ab", b"cd"])) == b"\x81\x84\0\0\0\2abcf"
    assert client.send_ping(b"abcd") == b"\x89\x84\0\0\0\3abcg"
    assert client.send_close() == b"\x88\x82\0\0\0\4\x03\xe8"
    assert piece == b"abcd"
