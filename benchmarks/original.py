"""Raw ends of a link with npm `peer-relay` 0.0.2: its handshake, and JSON envelopes that it forwards."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import zlib
from dataclasses import dataclass
from typing import Final

from trio_relay.wire.masking import apply_mask

from .ends import TEXT, Counter, Receiver, Sender, client_frame, connect, frame_head, payload, read, upgrade

__all__ = ["Numbered", "Original", "deflated", "envelope"]

_COMPRESSED: Final = 0x40
_NONCE: Final = "7316042"
"""How every nonce starts; eight digits follow. The original takes each nonce once, so they are made on the way."""
_DIGITS: Final = 8
_LITERAL: Final = bytes((0, _DIGITS, 0, 0xFF - _DIGITS, 0xFF))
"""The head of a block of eight bytes that are not compressed (RFC 1951 section 3.2.4)."""
_FLUSHED: Final = b"\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Original:
    """Text of `size` characters in envelopes from one node of the pair to the other, through the one that is measured.

    With `compression`, as in the original's defaults, its messages are compressed both ways. Those that are sent here
    are made without regard to earlier ones, which any receiver accepts, and have their nonce uncompressed.
    """

    size: int
    compression: bool

    def receiver(self, url: str, pair: int) -> Receiver:
        link = _Link.open(url, _id(pair, "b"), self.compression)
        text = envelope(_buffer(_id(pair, "b")), _buffer(_id(pair, "a")), [_id(pair, "a"), link.peer], self.size)
        first = text % (_NONCE + _DIGITS * "0")
        if not self.compression:
            return Receiver(link.socket, Counter(frame_head(TEXT, len(first)) + first.encode(), link.rest).count)
        return Receiver(link.socket, _Frames(link, first.encode()).count)

    def sender(self, url: str, pair: int, count: int) -> Sender:
        link = _Link.open(url, _id(pair, "a"), self.compression)
        text = envelope(_id(pair, "b").hex(), _id(pair, "a").hex(), [_id(pair, "a")], self.size)
        head, tail = (text % f"{_NONCE}|").encode().split(b"|")
        first = TEXT
        if self.compression:
            first |= _COMPRESSED
            head, tail = deflated(head, tail)
        return Sender(link.socket, Numbered(first, head, tail, count).block)


def _id(pair: int, end: str) -> bytes:
    return hashlib.sha1(f"{pair}/{end}".encode()).digest()


def _buffer(id: bytes) -> dict[str, object]:
    """How the original writes an id that it has read."""
    return {"type": "Buffer", "data": list(id)}


def envelope(to: object, source: object, path: list[bytes], size: int) -> str:
    """JSON as the original spells it, with ``%s`` for the nonce."""
    text = base64.b64encode(payload(size)).decode()[:size]
    content = {
        "to": to,
        "from": source,
        "path": [each.hex() for each in path],
        "nonce": "%s",
        "data": {"type": "user", "data": text},
    }
    return json.dumps(content, separators=(",", ":"))


def deflated(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """What stands before and after eight bytes in a compressed message that leaves those as they are."""
    return _deflate(head) + _FLUSHED + _LITERAL, _deflate(tail)


def _deflate(data: bytes) -> bytes:
    """A compressed message without its last four bytes (RFC 7692 section 7.2.1)."""
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)


@dataclass(slots=True)
class _Link:
    """A link that both sides know of: each has sent its id, and the original asked who else is there."""

    socket: socket.socket
    peer: bytes
    rest: bytes
    inflate: zlib._Decompress

    @classmethod
    def open(cls, url: str, id: bytes, compression: bool) -> _Link:
        sock = connect(url)
        offer = ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"] if compression else []
        rest = upgrade(sock, url, *offer)
        sock.sendall(client_frame(TEXT, json.dumps(_buffer(id)).encode(), os.urandom(4)))
        link = cls(sock, b"", rest, zlib.decompressobj(wbits=-15))
        link.peer = bytes(json.loads(link._next())["data"])
        asked = json.loads(link._next())["data"]["type"]
        if asked != "findPeers":
            raise ConnectionError(f"expected findPeers, not {asked}")
        sock.settimeout(None)
        return link

    def _next(self) -> bytes:
        """The content of the next message."""
        while (found := _take_frame(self.rest, 0)) is None:
            self.rest += read(self.socket)
        start, end = found
        content = self.content(self.rest[0], self.rest[start:end])
        self.rest = self.rest[end:]
        return content

    def content(self, first: int, data: bytes) -> bytes:
        """A message, inflated if it says that it is compressed; they have a common history."""
        return self.inflate.decompress(data + _FLUSHED) if first & _COMPRESSED else data


def _take_frame(data: bytes, position: int) -> tuple[int, int] | None:
    """Where the payload of the unmasked frame at `position` starts and ends, if the frame is there in full."""
    if len(data) < position + 2:
        return None
    length, start = data[position + 1], position + 2
    if length >= 126:
        start += 2 if length == 126 else 8
        length = int.from_bytes(data[position + 2 : start], "big")
    end = start + length
    return (start, end) if end <= len(data) and start <= len(data) else None


class _Frames:
    """Counts compressed messages, which differ in length, by their heads; the first is inflated and compared."""

    def __init__(self, link: _Link, expected: bytes) -> None:
        self._link: Final = link
        self._expected: Final = expected
        self._rest = link.rest
        self._checked = False

    def count(self, data: bytes) -> int:
        data = self._rest + data
        position = messages = 0
        while (found := _take_frame(data, position)) is not None:
            if not self._checked:
                self._check(data[position], data[slice(*found)])
            position = found[1]
            messages += 1
        self._rest = data[position:]
        return messages

    def _check(self, first: int, data: bytes) -> None:
        content = self._link.content(first, data)
        if not first & _COMPRESSED or content != self._expected:
            raise ValueError(f"expected {self._expected[:400]!r} compressed, not {content[:400]!r}")
        self._checked = True


class Numbered:
    """Blocks of masked messages of eight digits between `head` and `tail`, the numbers of the messages.

    Args:
        first: the first byte of each frame.
        count: messages in a block.
    """

    def __init__(self, first: int, head: bytes, tail: bytes, count: int) -> None:
        mask = os.urandom(4)
        message = client_frame(first, head + bytes(_DIGITS) + tail, mask)
        place = len(message) - len(tail) - _DIGITS
        # Four digits at a time, as they are under this mask at this place.
        rotated = (mask + mask)[len(head) % 4 :][:4]
        self._digits: Final = [apply_mask(f"{number:04}".encode(), rotated) for number in range(10_000)]
        self._block: Final = bytearray(message * count)
        self._places: Final = [place + number * len(message) for number in range(count)]

    def block(self, first: int) -> bytearray:
        """The messages with the numbers from `first` on; the next block is made in its place."""
        digits, block = self._digits, self._block
        for number, place in enumerate(self._places, first):
            high, low = divmod(number, 10_000)
            block[place : place + _DIGITS] = digits[high] + digits[low]
        return block
