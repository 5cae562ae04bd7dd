"""Raw connections by the thousand: blocking sockets that stop after the upgrade, or after the proof of both keys.

`ours.RawLink` is a link that moves frames; here are the steps that lead to one, each of them alone.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from trio_relay.identity import Identity, verify
from trio_relay.limits import Limits
from trio_relay.overlay.handshake import Dialler
from trio_relay.wire.frame import Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.hello import SUBPROTOCOL
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import build_record
from trio_relay.wire.urls import authority
from trio_relay.wire.websocket import Role, WebSocketCodec

from .ends import read, read_pending, upgrade

__all__ = ["Guest", "Link", "Newcomer", "OverlayGuest", "PathGuest", "Place", "Proven", "Silent", "prove"]

_TIMEOUT: Final = 20.0
_TRUST: Final = b"\x01"
_NO_ID: Final = bytes(8)

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]


class Link(Protocol):
    """A connection that is held."""

    def answer(self) -> None:
        """Takes what came, and answers what wants an answer.

        Raises:
            ConnectionError: the server has closed the connection.
        """


class Guest(Protocol):
    """How one kind of server is visited."""

    def request(self, url: str, number: int) -> tuple[str, Sequence[str]]:
        """The URL and the headers with which connection `number` is upgraded."""

    def settle(self, sock: socket.socket, url: str, rest: bytes) -> Link:
        """All that an idle client does after the upgrade, of which `rest` is what came after it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect.

    Attributes:
        authority: a file with the certificate authority for TLS, None for plain TCP.
    """

    url: str
    authority: str | None
    guest: Guest

    def context(self) -> ssl.SSLContext | None:
        """For all connections of one process."""
        return None if self.authority is None else ssl.create_default_context(cafile=self.authority)

    def connect(self, context: ssl.SSLContext | None, number: int) -> tuple[socket.socket, bytes]:
        """A WebSocket with its opening handshake done, and what came after that."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        sock = socket.create_connection((parts.hostname, parts.port or 0), _TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=parts.hostname)
        url, headers = self.guest.request(self.url, number)
        return sock, upgrade(sock, url, *headers)


class Silent:
    """A link with a server that has nothing to say but that it ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: Final = sock

    def answer(self) -> None:
        read(self._socket)


class PathGuest:
    """Of a forwarder, which pairs connections by their path."""

    def request(self, url: str, number: int) -> tuple[str, Sequence[str]]:
        return f"{url}/{number // 2}/{'ab'[number % 2]}", ()

    def settle(self, sock: socket.socket, url: str, rest: bytes) -> Silent:
        return Silent(sock)


class OverlayGuest:
    """Of our nodes."""

    def request(self, url: str, number: int) -> tuple[str, Sequence[str]]:
        return url, [f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"]

    def settle(self, sock: socket.socket, url: str, rest: bytes) -> Proven:
        newcomer = Newcomer()
        link = prove(sock, url, rest, newcomer)
        link.trust(newcomer.record)
        return link


class Newcomer:
    """An id that nobody has seen yet, and its signed record, made before the clock runs."""

    def __init__(self) -> None:
        self.identity: Final = Identity.generate()
        now = time.time()
        own = self.identity
        self.record: Final = build_record(
            own.public_key, own.sign, sequence=int(now * 1_000_000), expiry=int(now + 3600)
        ).raw


@dataclass(slots=True)
class Proven:
    """The connection of a newcomer after the proof of both keys."""

    socket: socket.socket
    codec: WebSocketCodec
    id: NodeId
    relay: NodeId

    def trust(self, record: bytes) -> None:
        """Says what every leaf says first: the relay may send frames of others here."""
        self._tell(Kind.STATUS, _NO_ID, _TRUST + record)

    def answer(self) -> None:
        """Takes what came, and answers the pings in it."""
        self.take(self.codec.receive_data(read_pending(self.socket)))

    def take(self, messages: Sequence[bytes | str]) -> None:
        """Answers the pings in messages."""
        for message in messages:
            assert isinstance(message, bytes)
            for frame in parse_frames_untrusted(message):
                if frame.kind == Kind.PING:
                    self._tell(Kind.PONG, frame.message_id, b"")

    def _tell(self, kind: Kind, message_id: bytes, payload: bytes) -> None:
        frame = build_frame(kind, self.relay, self.id, message_id, payload, hop_limit=0)
        self.socket.sendall(b"".join(self.codec.send_binary([frame])))


def prove(sock: socket.socket, url: str, rest: bytes, newcomer: Newcomer, check: Verify = verify) -> Proven:
    """The link's handshake after the upgrade; `check` verifies the relay's proof."""
    own = newcomer.identity
    codec = WebSocketCodec(
        Role.CLIENT, max_message=Limits().websocket_message, max_fragments=1, new_mask=lambda: os.urandom(4)
    )
    messages = codec.receive_data(rest)

    def next_message() -> bytes:
        while not messages:
            messages.extend(codec.receive_data(read(sock)))
        message = messages.pop(0)
        assert isinstance(message, bytes)
        return message

    dialler = Dialler(own.public_key, own.sign, check, os.urandom(32), newcomer.record, authority(url))
    sock.sendall(b"".join(codec.send_binary([dialler.receive_hello(next_message())])))
    proven = Proven(sock, codec, own.id, dialler.receive_proof(next_message()).id)
    proven.take(messages)
    return proven
