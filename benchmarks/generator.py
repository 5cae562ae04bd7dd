"""Raw ends of a link: blocking sockets that do the upgrade and the handshake, then move bytes made beforehand.

They cost little beside the relay between them, which is what is to be measured. Each function that is a process
takes what it shares with the measuring process as `Shared`: no pipes, and nothing to wake up for.
"""

from __future__ import annotations

import base64
import ctypes
import multiprocessing
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trio_relay.identity import Identity, verify
from trio_relay.limits import Limits
from trio_relay.overlay.handshake import Dialler
from trio_relay.wire.frame import HEADER_LENGTH, Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.hello import SUBPROTOCOL
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import build_record
from trio_relay.wire.urls import authority
from trio_relay.wire.websocket import Role, WebSocketCodec

__all__ = ["RawLink", "Shared", "receive_frames", "receive_times", "send_frames", "send_paced"]

_READ_SIZE: Final = 256 * 1024
_POLL: Final = 50e-6
"""Seconds between two looks at the receiver's count; a window lasts longer."""
_CONNECT_TIMEOUT: Final = 5.0

_NO_ID: Final = bytes(8)
_TRUST: Final = b"\x01"
"""What a STATUS frame starts with when its sender accepts frames of others."""


class Shared:
    """Numbers in memory shared between the measuring process and the generators; each has one writer."""

    def __init__(self, times: int = 0) -> None:
        self.sent = multiprocessing.RawValue(ctypes.c_uint64)
        self.received = multiprocessing.RawValue(ctypes.c_uint64)
        self.ready = multiprocessing.RawValue(ctypes.c_uint64)
        self.stop = multiprocessing.RawValue(ctypes.c_bool)
        self.stopped = multiprocessing.RawValue(ctypes.c_bool)
        self.left = multiprocessing.RawArray(ctypes.c_double, times)
        self.arrived = multiprocessing.RawArray(ctypes.c_double, times)


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
        place = authority(url)
        host, _, port = place.rpartition(":")
        sock = socket.create_connection((host, int(port)), _CONNECT_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        codec = WebSocketCodec(
            Role.CLIENT, max_message=Limits().websocket_message, max_fragments=1, new_mask=lambda: os.urandom(4)
        )
        messages = codec.receive_data(_upgrade(sock, place))
        now = time.time()
        record = build_record(
            identity.public_key, identity.sign, sequence=int(now * 1_000_000), expiry=int(now + 3600)
        ).raw
        dialler = Dialler(identity.public_key, identity.sign, verify, os.urandom(32), record, place)

        def next_message() -> bytes:
            while not messages:
                messages.extend(codec.receive_data(_read(sock)))
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
            messages[:] = codec.receive_data(_read(sock))
        sock.settimeout(None)
        return link

    def send(self, frame: bytes) -> None:
        """Sends one frame in a message of its own."""
        self.socket.sendall(self.encode(frame))

    def encode(self, frame: bytes) -> bytes:
        """The same as bytes."""
        return b"".join(self.codec.send_binary([frame]))

    def answer(self, message: bytes) -> list[int]:
        """Answers the pings in a message; returns the numbers of the DATA frames in it (their message ids)."""
        numbers = []
        for frame in parse_frames_untrusted(message):
            if frame.kind == Kind.DATA:
                numbers.append(int.from_bytes(frame.message_id, "big"))
            elif frame.kind == Kind.PING:
                self.send(build_frame(Kind.PONG, self.relay, self.id, frame.message_id, b"", hop_limit=0))
        return numbers


def _read(sock: socket.socket) -> bytes:
    data = sock.recv(_READ_SIZE)
    if not data:
        raise ConnectionError("the relay closed the connection")
    return data


def _upgrade(sock: socket.socket, place: str) -> bytes:
    """The opening handshake (RFC 6455 section 4.1); returns what follows the answer."""
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET / HTTP/1.1\r\nHost: {place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
    )
    data = b""
    while b"\r\n\r\n" not in data:
        data += _read(sock)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"expected 101, got {head[:80]!r}")
    return rest


def _has_pong(messages: Sequence[bytes | str]) -> bool:
    return any(
        frame.kind == Kind.PONG
        for message in messages
        if isinstance(message, bytes)
        for frame in parse_frames_untrusted(message)
    )


# Processes


def send_frames(url: str, seed: bytes, to: NodeId, size: int, window: int, flags: int, shared: Shared) -> None:
    """Sends DATA frames with `size` random bytes of payload, each in a WebSocket message, until `shared.stop`.

    A quarter of the window is written at once, as soon as so much of it is free.
    """
    link = RawLink.open(url, Identity.from_seed(seed))
    count = max(window // 4, 1)
    payload = os.urandom(size)
    frames = [
        build_frame(Kind.DATA, to, link.id, number.to_bytes(8, "big"), payload, flags=flags) for number in range(count)
    ]
    block = b"".join(map(link.encode, frames))
    shared.ready.value += 1
    sent, received, stop = 0, shared.received, shared.stop
    while not stop.value:
        if sent - received.value + count > window:
            time.sleep(_POLL)
        else:
            link.socket.sendall(block)
            sent += count
            shared.sent.value = sent
    shared.stopped.value = True
    # The measuring process ends this one; a link that ends early is an event for the relay, and costs it time.
    time.sleep(3600)


def receive_frames(url: str, seed: bytes, size: int, shared: Shared) -> None:
    """Counts DATA frames with `size` bytes of payload."""
    link = RawLink.open(url, Identity.from_seed(seed))
    length = HEADER_LENGTH + size
    shared.ready.value += 1
    received = 0
    while True:
        for message in link.codec.receive_data(_read(link.socket)):
            assert isinstance(message, bytes)
            # A relay may join frames. Those of one size need not be parsed to be counted.
            if len(message) % length == 0 and message[4] == Kind.DATA:
                received += len(message) // length
            else:
                received += len(link.answer(message))
        shared.received.value = received


def send_paced(url: str, seed: bytes, to: NodeId, size: int, rate: float, shared: Shared) -> None:
    """Sends one message at a time, `rate` a second; notes when each left."""
    link = RawLink.open(url, Identity.from_seed(seed))
    payload = os.urandom(size)
    shared.ready.value += 1
    while shared.ready.value < 2:
        time.sleep(0.01)
    start = time.monotonic()
    for number in range(len(shared.left)):
        data = link.encode(build_frame(Kind.DATA, to, link.id, number.to_bytes(8, "big"), payload))
        time.sleep(max(start + number / rate - time.monotonic(), 0))
        shared.left[number] = time.monotonic()
        link.socket.sendall(data)
        shared.sent.value = number + 1
    shared.stopped.value = True
    time.sleep(3600)


def receive_times(url: str, seed: bytes, shared: Shared) -> None:
    """Notes when each message arrived."""
    link = RawLink.open(url, Identity.from_seed(seed))
    shared.ready.value += 1
    while True:
        data = _read(link.socket)
        now = time.monotonic()
        for message in link.codec.receive_data(data):
            assert isinstance(message, bytes)
            for number in link.answer(message):
                shared.arrived[number] = now
                shared.received.value += 1
