"""What a relay of text messages needs of the codec: raw texts in, many messages out, pings of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.websocket_peer import (
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    codec,
    each_role,
    frame,
    other,
    pieces_of,
    to,
)
from trio_relay.exceptions import LocalProtocolError
from trio_relay.wire.websocket import Role, WebSocketCodec


def raw_codec(role: Role, max_message: int = 1 << 20) -> WebSocketCodec:
    return WebSocketCodec(role, max_message=max_message, max_fragments=9, new_mask=lambda: b"mask", raw=True)


@each_role
@given(data=st.data())
def test_raw_texts_are_the_bytes_that_were_sent(role: Role, data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.binary(max_size=300), max_size=5))
    sender, receiver = codec(other(role)), raw_codec(role)
    stream = b"".join(bytes(piece) for text in texts for piece in sender.send_text([text]))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
    received = [message for piece in pieces_of(stream, cuts) for message in receiver.receive_data(piece)]
    assert received == texts
    assert receiver.failure is None


@each_role
def test_raw_fragments_of_text_are_not_looked_at(role: Role) -> None:
    receiver = raw_codec(role)
    masked = role is Role.SERVER
    halves = frame(TEXT, b"\xff", masked=masked), frame(FIN | CONTINUATION, b"\xfe", masked=masked)
    assert [receiver.receive_data(half) for half in halves] == [[], [b"\xff\xfe"]]


@each_role
@pytest.mark.parametrize("text", [True, False])
@given(payloads=st.lists(st.binary(max_size=300) | st.sampled_from([bytes(125), bytes(126), bytes(65536)])))
def test_many_messages_are_framed_as_one_by_one(role: Role, text: bool, payloads: list[bytes]) -> None:
    sender = codec(role)
    single = sender.send_text if text else sender.send_binary
    together = b"".join(bytes(piece) for piece in sender.send_messages(payloads, text=text))
    assert together == b"".join(bytes(piece) for payload in payloads for piece in single([payload]))


@each_role
def test_no_messages_after_a_close_frame(role: Role) -> None:
    sender = codec(role)
    sender.send_close()
    with pytest.raises(LocalProtocolError):
        sender.send_messages([b"late"])


@each_role
def test_one_ping_is_due_however_often_it_is_asked_for(role: Role) -> None:
    sender = codec(role)
    assert not sender.has_output
    sender.ping_soon()
    sender.ping_soon()
    assert sender.data_to_send() == frame(FIN | PING, masked=role is Role.CLIENT)
    assert sender.data_to_send() == b""


@each_role
def test_a_pong_that_nobody_asked_for(role: Role) -> None:
    sender = codec(role)
    sender.pong_soon()
    assert sender.data_to_send() == frame(FIN | PONG, masked=role is Role.CLIENT)
    assert not sender.has_output
    sender.receive_data(to(role, FIN | PING, b"asked"))
    sender.pong_soon()
    assert sender.data_to_send() == frame(FIN | PONG, b"asked", masked=role is Role.CLIENT)


@each_role
def test_no_ping_after_a_close_frame(role: Role) -> None:
    sender = codec(role)
    sender.ping_soon()
    assert sender.send_close(1000)[0] == FIN | CLOSE
    assert sender.data_to_send() == b""
    assert not sender.has_output
