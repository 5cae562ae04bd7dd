"""Clients of the relay server, as raw sockets: routed messages made beforehand, and connections that do nothing.

A message is the same text for the relay server and for the bare forwarder, which does not look at it.
"""

from __future__ import annotations

import json
import os
import socket
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .ends import (
    PING,
    PONG,
    TEXT,
    Counter,
    Receiver,
    Sender,
    client_frame,
    connect,
    frame_head,
    payload,
    read_pending,
    repeating,
    upgrade,
)
from .relay_server import ACCESS_KEY, CHANNEL

__all__ = ["Frames", "IdleClient", "RelayGuest", "Routed", "address", "idle_peer", "message", "open_client", "target"]

_MASK: Final = bytes(4)


def address(peer: str) -> str:
    """Of a peer on the benchmark's channel."""
    return f"{CHANNEL}:{peer}"


def target(peer: str) -> str:
    """The path and query by which a client connects."""
    return f"/{CHANNEL}/{peer}?key={ACCESS_KEY}"


def message(sender: str, to: str, size: int) -> bytes:
    """A routed message with a payload of `size` characters."""
    text = b64encode(payload(size))[:size].decode()
    return json.dumps({"from": address(sender), "to": address(to), "payload": text}, separators=(",", ":")).encode()


def open_client(url: str, peer: str) -> tuple[socket.socket, bytes]:
    """A connected client, and what came after the answer."""
    sock = connect(url)
    rest = upgrade(sock, url + target(peer))
    sock.settimeout(None)
    return sock, rest


@dataclass(frozen=True, slots=True)
class Routed:
    """Text messages with `size` characters of payload.

    Attributes:
        paths: whether the program pairs connections by their path; else it is the relay server.
    """

    size: int
    paths: bool = False

    def receiver(self, url: str, pair: int) -> Receiver:
        sock, rest = self._open(url, pair, "b")
        content = message(_peer(pair, "a"), _peer(pair, "b"), self.size)
        return Receiver(sock, Counter(frame_head(TEXT, len(content)) + content, rest).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        sock, _ = self._open(url, pair, "a")
        content = message(_peer(pair, "a"), _peer(pair, "b"), self.size)
        return repeating(sock, [client_frame(TEXT, content, os.urandom(4)) for _ in range(count)])

    def _open(self, url: str, pair: int, end: str) -> tuple[socket.socket, bytes]:
        if not self.paths:
            return open_client(url, _peer(pair, end))
        sock = connect(url)
        rest = upgrade(sock, f"{url}/{pair}/{end}")
        sock.settimeout(None)
        return sock, rest


def _peer(pair: int, end: str) -> str:
    return f"pair-{pair:06}-{end}"


class Frames:
    """Cuts a server's bytes into frames."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = b""

    def take(self, data: bytes) -> list[tuple[int, bytes]]:
        """The first byte and the content of each frame that ends in `data`."""
        data = self._left + data
        frames, start = [], 0
        while len(data) >= start + 2:
            length, head = data[start + 1], start + 2
            if length >= 126:
                head += 2 if length == 126 else 8
                length = int.from_bytes(data[start + 2 : head], "big")
            if len(data) < head + length:
                break
            frames.append((data[start], data[head : head + length]))
            start = head + length
        self._left = data[start:]
        return frames


class IdleClient:
    """A client that answers pings, and counts the messages that it gets."""

    __slots__ = ("_frames", "_socket", "got")

    def __init__(self, sock: socket.socket, rest: bytes = b"") -> None:
        self._socket: Final = sock
        self._frames: Final = Frames()
        self.got = 0
        self._take(rest)

    def send(self, content: bytes) -> None:
        """Sends a text message."""
        self._socket.sendall(client_frame(TEXT, content, _MASK))

    def answer(self) -> None:
        """Takes what came.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        self._take(read_pending(self._socket))

    def _take(self, data: bytes) -> None:
        for first, content in self._frames.take(data):
            if first == PING:
                self._socket.sendall(client_frame(PONG, content, _MASK))
            elif first == TEXT:
                self.got += 1


def idle_peer(number: int) -> str:
    """The id of an idle client of this process."""
    return f"idle-{os.getpid()}-{number}"


class RelayGuest:
    """Idle clients of the relay server, each with an id of its own."""

    def request(self, url: str, number: int) -> tuple[str, Sequence[str]]:
        return url + target(idle_peer(number)), ()

    def settle(self, sock: socket.socket, url: str, rest: bytes) -> IdleClient:
        return IdleClient(sock, rest)
