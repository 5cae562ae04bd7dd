"""What raw generators know of each program that they measure: how to connect, what a message is, how to count it.

A `Traffic` is one program and one size of payload. Its messages are made beforehand, and all have the same length when
they arrive, so that counting them is a division; the first one on each link is compared with what was sent.
"""

from __future__ import annotations

import base64
import os
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from trio_relay.wire.masking import apply_mask

from .processes import certificate

__all__ = [
    "BINARY",
    "PING",
    "PONG",
    "READ_SIZE",
    "TEXT",
    "Bytes",
    "Counter",
    "Forwarder",
    "Receiver",
    "Sender",
    "Traffic",
    "client_frame",
    "connect",
    "frame_head",
    "payload",
    "read",
    "read_pending",
    "repeating",
    "upgrade",
]

READ_SIZE: Final = 256 * 1024
_TIMEOUT: Final = 5.0
"""Seconds for a connection and everything before the first message."""
BINARY: Final = 0x82
TEXT: Final = 0x81
PING: Final = 0x89
PONG: Final = 0x8A
"""First bytes of whole frames (RFC 6455 section 5.2)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A link that is ready, and the bytes of its next messages.

    Attributes:
        block: from the number of the first one on this link, the bytes of always as many messages.
    """

    socket: socket.socket
    block: Callable[[int], bytes | bytearray]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A link that is ready, and how many messages end in what was read from it."""

    socket: socket.socket
    count: Callable[[bytes], int]


class Traffic(Protocol):
    """One program and one size of payload. Pair *n* is a sender and the receiver of what it sends."""

    def receiver(self, url: str, pair: int) -> Receiver:
        """Connects the receiver of a pair, which comes before its sender."""

    def sender(self, url: str, pair: int, count: int) -> Sender:
        """Connects the sender of a pair; its blocks have `count` messages."""


def payload(size: int) -> bytes:
    """What all messages of this size carry; it looks random and is the same in every process."""
    return random.Random(size).randbytes(size)


def connect(url: str) -> socket.socket:
    """A blocking connection, with TLS if the scheme is ``wss``."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    sock = socket.create_connection((parts.hostname, parts.port or 0), _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme != "wss":
        return sock
    context = ssl.create_default_context(cafile=certificate().authority)
    return context.wrap_socket(sock, server_hostname=parts.hostname)


def read(sock: socket.socket) -> bytes:
    """What is there, at least one byte.

    Raises:
        ConnectionError: the other side has closed the connection.
    """
    data = sock.recv(READ_SIZE)
    if not data:
        raise ConnectionError("the other side closed the connection")
    return data


def read_pending(sock: socket.socket) -> bytes:
    """The same, and what TLS has read already, which does not wake a selector."""
    data = read(sock)
    while isinstance(sock, ssl.SSLSocket) and sock.pending():
        data += read(sock)
    return data


def upgrade(sock: socket.socket, url: str, *headers: str) -> bytes:
    """The opening handshake (RFC 6455 section 4.1); returns what follows the answer."""
    parts = urlsplit(url)
    lines = [
        f"GET {parts.path or '/'}{parts.query and '?'}{parts.query} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += read(sock)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(f"expected 101, got {head[:80]!r}")
    return rest


def frame_head(first: int, length: int, masked: int = 0) -> bytes:
    """The first bytes of a WebSocket frame, up to the mask (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((first, masked | length))
    if length < 1 << 16:
        return bytes((first, masked | 126)) + length.to_bytes(2, "big")
    return bytes((first, masked | 127)) + length.to_bytes(8, "big")


def client_frame(first: int, content: bytes, mask: bytes) -> bytes:
    """A masked frame."""
    return frame_head(first, len(content), 0x80) + mask + apply_mask(content, mask)


class Counter:
    """Counts messages of one length; the first must be the one expected."""

    def __init__(self, expected: bytes, rest: bytes = b"") -> None:
        self._expected: Final = expected
        self._length: Final = len(expected)
        self._first = rest
        self._checked = False
        self._left = 0

    def count(self, data: bytes) -> int:
        """How many messages end in `data`.

        Raises:
            ValueError: the first message is another one.
        """
        if not self._checked:
            self._first += data
            if len(self._first) < self._length:
                return 0
            if not self._first.startswith(self._expected):
                raise ValueError(f"expected {self._expected[:400]!r}, not {self._first[:400]!r}")
            self._checked, data = True, self._first
        messages, self._left = divmod(self._left + len(data), self._length)
        return messages


@dataclass(frozen=True, slots=True)
class Forwarder:
    """A WebSocket forwarder. Its messages are payload and nothing else: ours carry 56 bytes more, in its favour."""

    size: int

    def receiver(self, url: str, pair: int) -> Receiver:
        sock, rest = self._open(f"{url}/{pair}/b")
        content = payload(self.size)
        return Receiver(sock, Counter(frame_head(BINARY, len(content)) + content, rest).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        sock, _ = self._open(f"{url}/{pair}/a")
        return repeating(sock, [client_frame(BINARY, payload(self.size), os.urandom(4)) for _ in range(count)])

    def _open(self, url: str) -> tuple[socket.socket, bytes]:
        sock = connect(url)
        rest = upgrade(sock, url)
        sock.settimeout(None)
        return sock, rest


@dataclass(frozen=True, slots=True)
class Bytes:
    """The TCP forwarder: payloads back to back."""

    size: int

    def receiver(self, url: str, pair: int) -> Receiver:
        return Receiver(self._open(url, f"{pair:07}b"), Counter(payload(self.size)).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        return repeating(self._open(url, f"{pair:07}a"), [payload(self.size)] * count)

    def _open(self, url: str, hello: str) -> socket.socket:
        sock = connect(url)
        sock.sendall(hello.encode())
        sock.settimeout(None)
        return sock


def repeating(sock: socket.socket, messages: Sequence[bytes]) -> Sender:
    """A sender whose blocks are all the same."""
    block = b"".join(messages)
    return Sender(sock, lambda _: block)
