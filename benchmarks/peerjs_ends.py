"""Clients of a broker of PeerJS, as raw sockets: offers made beforehand, registrations, clients that do nothing.

The bytes are the same for our broker and for the original, npm ``peer``; so are those that a receiver expects.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .dialling import Silent
from .ends import TEXT, Counter, Receiver, Sender, client_frame, connect, frame_head, read, repeating, upgrade
from .relay_ends import Frames

__all__ = ["LEAST", "BrokerGuest", "Offers", "leave", "offer", "register", "target"]

LEAST: Final = 256
"""Bytes of the smallest payload: what is around the session description takes half of that."""
_CLOSE: Final = 0x88
_MASK: Final = bytes(4)
_OPEN: Final = {"type": "OPEN"}
_CONNECTION: Final = "dc_k3v9x0q2m7a"
_DESCRIPTION: Final = (
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "a=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
    "a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlAG\r\na=ice-options:trickle\r\na=setup:actpass\r\na=mid:0\r\n"
    "a=sctp-port:5000\r\na=max-message-size:262144\r\n"
)


def target(peer: str, token: str) -> str:
    """The path and query by which a client connects."""
    return f"/peerjs?key=peerjs&id={peer}&token={token}&version=1.5.5"


def offer(size: int) -> str:
    """The payload of an OFFER, as the original's client writes it: `size` bytes of JSON.

    Its session description has as many candidates as there is room for.
    """
    payload = {
        "sdp": {"type": "offer", "sdp": ""},
        "type": "data",
        "connectionId": _CONNECTION,
        "label": _CONNECTION,
        "reliable": True,
        "serialization": "binary",
    }
    room = size - len(_compact(payload))
    text, numbers = _DESCRIPTION, random.Random(size)
    while len(text) < room:
        text += (
            f"a=candidate:{numbers.getrandbits(32)} 1 udp 2113937151 192.0.2.{numbers.randrange(256)}"
            f" {numbers.randrange(1024, 65536)} typ host generation 0 network-cost 999\r\n"
        )
    # Cut where it is full, but not within an escape.
    escaped = _compact(text)[1:-1][:room].rstrip("\\").ljust(room, "0")
    payload["sdp"] = {"type": "offer", "sdp": json.loads(f'"{escaped}"')}
    return _compact(payload)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def register(sock: socket.socket, rest: bytes) -> None:
    """Waits for OPEN; `rest` is what came after the answer to the upgrade.

    Raises:
        ValueError: something else came.
    """
    frames = Frames()
    found = frames.take(rest)
    while not found:
        found = frames.take(read(sock))
    if [(first, json.loads(content)) for first, content in found] != [(TEXT, _OPEN)]:
        raise ValueError(f"expected OPEN, not {found[:3]!r}")


def leave(sock: socket.socket) -> None:
    """Closes the WebSocket as a browser does, and waits until the broker has done so.

    Raises:
        ValueError: something else came.
    """
    sock.sendall(client_frame(_CLOSE, b"", _MASK))
    data = read(sock)
    if data[0] != _CLOSE:
        raise ValueError(f"expected a close frame, not {data[:100]!r}")


@dataclass(frozen=True, slots=True)
class Offers:
    """OFFER messages with `size` bytes of payload, from one client to another."""

    size: int

    def receiver(self, url: str, pair: int) -> Receiver:
        one, other = _peer(pair, "a"), _peer(pair, "b")
        content = f'{{"type":"OFFER","src":"{one}","dst":"{other}","payload":{offer(self.size)}}}'.encode()
        return Receiver(self._open(url, other), Counter(frame_head(TEXT, len(content)) + content).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        content = f'{{"type":"OFFER","payload":{offer(self.size)},"dst":"{_peer(pair, "b")}"}}'.encode()
        sock = self._open(url, _peer(pair, "a"))
        return repeating(sock, [client_frame(TEXT, content, os.urandom(4)) for _ in range(count)])

    def _open(self, url: str, peer: str) -> socket.socket:
        sock = connect(url)
        register(sock, upgrade(sock, url + target(peer, "token-0")))
        sock.settimeout(None)
        return sock


def _peer(pair: int, end: str) -> str:
    return f"pair-{pair:06}-{end}"


class BrokerGuest:
    """Idle clients of a broker: each is registered, has an id and a token of its own, and sends one HEARTBEAT."""

    def request(self, url: str, number: int) -> tuple[str, Sequence[str]]:
        # As long as the ids that a broker gives.
        peer = f"{os.getpid():08x}-0000-4000-8000-{number:012x}"
        return url + target(peer, f"token{number:06}"), ()

    def settle(self, sock: socket.socket, url: str, rest: bytes) -> Silent:
        register(sock, rest)
        sock.sendall(client_frame(TEXT, b'{"type":"HEARTBEAT"}', _MASK))
        return Silent(sock)
