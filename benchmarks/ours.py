"""Raw ends of a link with this package's relay: the handshake of the overlay, and DATA frames made beforehand."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trio_relay.identity import Identity, verify
from trio_relay.limits import Limits
from trio_relay.overlay.handshake import Dialler
from trio_relay.wire.frame import HEADER_LENGTH, Frame, Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.hello import SUBPROTOCOL
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import build_record
from trio_relay.wire.urls import authority
from trio_relay.wire.websocket import Role, WebSocketCodec

from .ends import Receiver, Sender, connect, payload, read, upgrade

__all__ = ["Ours", "RawLink"]

_NO_ID: Final = bytes(8)
_TRUST: Final = b"\x01"
"""What a STATUS frame starts with when its sender accepts frames of others."""


@dataclass(frozen=True, slots=True)
class RawLink:
    """A proven link with a relay, over a blocking socket.

    Attributes:
        codec: the WebSocket; what was received and not asked for yet is in it.
    """

    socket: socket.socket
    codec: WebSocketCodec
    id: NodeId
    relay: NodeId

    @classmethod
    def open(cls, url: str, identity: Identity) -> RawLink:
        """Dials, proves both keys, and lets the relay send frames of others here."""
        sock = connect(url)
        codec = WebSocketCodec(
            Role.CLIENT, max_message=Limits().websocket_message, max_fragments=1, new_mask=lambda: os.urandom(4)
        )
        messages = codec.receive_data(upgrade(sock, url, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"))
        now = time.time()
        record = build_record(
            identity.public_key, identity.sign, sequence=int(now * 1_000_000), expiry=int(now + 3600)
        ).raw
        dialler = Dialler(identity.public_key, identity.sign, verify, os.urandom(32), record, authority(url))

        def next_message() -> bytes:
            while not messages:
                messages.extend(codec.receive_data(read(sock)))
            message = messages.pop(0)
            assert isinstance(message, bytes)
            return bytes(message)

        sock.sendall(b"".join(codec.send_binary([dialler.receive_hello(next_message())])))
        peer = dialler.receive_proof(next_message()).id
        link = cls(sock, codec, identity.id, peer)
        link.send(build_frame(Kind.STATUS, peer, identity.id, _NO_ID, _TRUST + record, hop_limit=0))
        # Frames are handled in order, so an answer says that the relay knows of our trust in it.
        link.send(build_frame(Kind.PING, peer, identity.id, b"benchmrk", b"", hop_limit=0))
        while not _has_pong(messages):
            messages[:] = codec.receive_data(read(sock))
        sock.settimeout(None)
        return link

    def send(self, frame: bytes) -> None:
        """Sends one frame in a message of its own."""
        self.socket.sendall(self.encode(frame))

    def encode(self, frame: bytes) -> bytes:
        """The same as bytes."""
        return b"".join(self.codec.send_binary([frame]))

    def answer(self, message: bytes) -> list[Frame]:
        """Answers the pings in a message; returns the DATA frames in it."""
        frames = parse_frames_untrusted(message)
        for frame in frames:
            if frame.kind == Kind.PING:
                self.send(build_frame(Kind.PONG, self.relay, self.id, frame.message_id, b"", hop_limit=0))
        return [frame for frame in frames if frame.kind == Kind.DATA]


def _has_pong(messages: Sequence[bytes | str]) -> bool:
    return any(
        frame.kind == Kind.PONG
        for message in messages
        if isinstance(message, bytes)
        for frame in parse_frames_untrusted(message)
    )


@dataclass(frozen=True, slots=True)
class Ours:
    """DATA frames with `size` bytes of payload, each in a WebSocket message.

    With the flag SEALED they are what a relay sees of sealed messages: it cannot open them and does not try.
    """

    size: int
    flags: int = 0

    def receiver(self, url: str, pair: int) -> Receiver:
        link = RawLink.open(url, _identity(pair, "b"))
        return Receiver(link.socket, _Frames(link, _identity(pair, "a").id, self.size).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        link = RawLink.open(url, _identity(pair, "a"))
        to, content = _identity(pair, "b").id, payload(self.size)
        block = b"".join(
            link.encode(build_frame(Kind.DATA, to, link.id, number.to_bytes(8, "big"), content, flags=self.flags))
            for number in range(count)
        )
        return Sender(link.socket, lambda _: block)


def _identity(pair: int, end: str) -> Identity:
    return Identity.from_seed(hashlib.sha256(f"{pair}/{end}".encode()).digest())


class _Frames:
    """Counts DATA frames of one size; a relay may join them in messages. The first is compared with what was sent."""

    def __init__(self, link: RawLink, source: NodeId, size: int) -> None:
        self._link: Final = link
        self._source: Final = source
        self._payload: Final = payload(size)
        self._length: Final = HEADER_LENGTH + size
        self._checked = False

    def count(self, data: bytes) -> int:
        number, length = 0, self._length
        for message in self._link.codec.receive_data(data):
            assert isinstance(message, bytes)
            # Those of one size need not be parsed to be counted.
            if self._checked and len(message) % length == 0 and message[4] == Kind.DATA:
                number += len(message) // length
            else:
                number += self._look(message)
        return number

    def _look(self, message: bytes) -> int:
        frames = self._link.answer(message)
        if frames and not self._checked:
            if (frames[0].source, bytes(frames[0].payload)) != (self._source, self._payload):
                raise ValueError(f"expected the payload that was sent from {self._source!r}, not {frames[0]!r}")
            self._checked = True
        return len(frames)
