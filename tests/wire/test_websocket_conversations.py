"""The WebSocket codec in conversation with wsproto and with the Sans-I/O protocol of websockets.

What they send we must read, in any pieces, and what we answer they must read; and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from typing import Protocol as TypingProtocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage

from tests.wire.websocket_peer import codec, each_role, other, pieces_of, receive
from trio_relay.wire.websocket import Role

cut_lists = st.lists(st.integers(0, 600), max_size=20)


class Peer(TypingProtocol):
    """Another implementation at the other end; its events are messages and ``("ping" | "pong" | ..., value)``."""

    def send(self, parts: Sequence[bytes | str]) -> bytes: ...
    def ping(self, payload: bytes) -> bytes: ...
    def close(self, code: int, reason: str) -> bytes: ...
    def receive(self, data: bytes) -> tuple[list[object], bytes]: ...


class WsprotoPeer:
    def __init__(self, role: Role) -> None:
        self.connection = Connection(ConnectionType.CLIENT if role is Role.CLIENT else ConnectionType.SERVER)
        self.parts: list[Any] = []

    def send(self, parts: Sequence[bytes | str]) -> bytes:
        last = len(parts) - 1
        return b"".join(
            self.connection.send(
                TextMessage(data=part, message_finished=i == last)
                if isinstance(part, str)
                else BytesMessage(data=part, message_finished=i == last)
            )
            for i, part in enumerate(parts)
        )

    def ping(self, payload: bytes) -> bytes:
        return self.connection.send(Ping(payload=payload))

    def close(self, code: int, reason: str) -> bytes:
        return self.connection.send(CloseConnection(code=code, reason=reason))

    def receive(self, data: bytes) -> tuple[list[object], bytes]:
        self.connection.receive_data(data)
        events: list[object] = []
        reply = b""
        closing = False
        for event in self.connection.events():
            if isinstance(event, Message):
                self.parts.append(event.data)
                if event.message_finished:
                    events.append(type(self.parts[0])().join(self.parts))
                    self.parts = []
            elif isinstance(event, Ping):
                events.append(("ping", bytes(event.payload)))
                reply += self.connection.send(event.response())
            elif isinstance(event, Pong):
                events.append(("pong", bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                events.append(("close", int(event.code), event.reason or ""))
                closing = True
                if self.connection.state.name == "REMOTE_CLOSING":
                    reply += self.connection.send(event.response())
        assert closing or self.connection.state.name in ("OPEN", "LOCAL_CLOSING")
        return events, reply


class WebsocketsPeer:
    def __init__(self, role: Role) -> None:
        self.protocol = Protocol(Side.CLIENT if role is Role.CLIENT else Side.SERVER)

    def written(self) -> bytes:
        return b"".join(self.protocol.data_to_send())

    def send(self, parts: Sequence[bytes | str]) -> bytes:
        for i, part in enumerate(parts):
            data, final = part.encode() if isinstance(part, str) else part, i == len(parts) - 1
            if i:
                self.protocol.send_continuation(data, final)
            elif isinstance(part, str):
                self.protocol.send_text(data, final)
            else:
                self.protocol.send_binary(data, final)
        return self.written()

    def ping(self, payload: bytes) -> bytes:
        self.protocol.send_ping(payload)
        return self.written()

    def close(self, code: int, reason: str) -> bytes:
        self.protocol.send_close(code, reason)
        return self.written()

    def receive(self, data: bytes) -> tuple[list[object], bytes]:
        self.protocol.receive_data(data)
        assert self.protocol.parser_exc is None
        events: list[object] = []
        for frame in self.protocol.events_received():
            opcode, payload = frame.opcode, bytes(frame.data)  # type: ignore[union-attr]
            assert frame.fin  # type: ignore[union-attr]
            if opcode in (Opcode.TEXT, Opcode.BINARY):
                events.append(payload.decode() if opcode is Opcode.TEXT else payload)
            elif opcode is Opcode.CLOSE:
                assert self.protocol.close_rcvd is not None
                events.append(("close", self.protocol.close_rcvd.code, self.protocol.close_rcvd.reason))
            else:
                events.append((opcode.name.lower(), payload))
        return events, self.written()


each_peer = pytest.mark.parametrize("peer_type", [WsprotoPeer, WebsocketsPeer])
messages_of_parts = st.lists(st.binary(max_size=140), min_size=1, max_size=4) | st.lists(
    st.text(max_size=40), min_size=1, max_size=4
)
reasons = st.text(st.characters(codec="utf-8"), max_size=30)
codes = st.sampled_from([1000, 1001, 1003, 1011, 3000, 4999])


def joined(parts: Sequence[bytes | str]) -> bytes | str:
    return type(parts[0])().join(parts)  # type: ignore[arg-type]


@each_role
@each_peer
@given(data=st.data(), messages=st.lists(messages_of_parts, max_size=6), code=codes, reason=reasons)
def test_they_send_and_we_answer(
    role: Role,
    peer_type: Callable[[Role], Peer],
    data: st.DataObject,
    messages: list[Sequence[bytes | str]],
    code: int,
    reason: str,
) -> None:
    peer = peer_type(other(role))
    stream = b""
    for i, parts in enumerate(messages):
        stream += peer.send(parts) + peer.ping(b"%d" % i)
    stream += peer.close(code, reason)
    outcome = receive(codec(role), pieces_of(stream, data.draw(cut_lists)))
    assert outcome.verdict == ([joined(parts) for parts in messages], None, code, reason)
    events, _ = peer.receive(outcome.output)
    pongs = [("pong", b"%d" % (len(messages) - 1))] if messages else []
    assert events == [*pongs, ("close", code, "")]


@each_role
@each_peer
@given(data=st.data(), messages=st.lists(messages_of_parts, max_size=6), code=codes, reason=reasons)
def test_we_send_and_they_answer(
    role: Role,
    peer_type: Callable[[Role], Peer],
    data: st.DataObject,
    messages: list[Sequence[bytes | str]],
    code: int,
    reason: str,
) -> None:
    subject, peer = codec(role), peer_type(other(role))
    stream = subject.send_ping(b"hello")
    for parts in messages:
        encoded = [part.encode() if isinstance(part, str) else part for part in parts]
        stream += b"".join((subject.send_text if isinstance(parts[0], str) else subject.send_binary)(encoded))
    stream += subject.send_close(code, reason)
    events, replies = peer.receive(stream)
    assert events == [("ping", b"hello"), *[joined(parts) for parts in messages], ("close", code, reason)]
    outcome = receive(subject, pieces_of(replies, data.draw(cut_lists)))
    assert (outcome.messages, outcome.refused_with, outcome.closed_with, outcome.output) == ([], None, code, b"")


@each_role
@each_peer
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_every_length_both_ways(role: Role, peer_type: Callable[[Role], Peer], size: int) -> None:
    payload = bytes(i & 0xFF for i in range(size))
    subject, peer = codec(role), peer_type(other(role))
    assert peer.receive(b"".join(subject.send_binary([payload[:100], payload[100:]])))[0] == [payload]
    assert receive(subject, [peer.send([payload])]).messages == [payload]
