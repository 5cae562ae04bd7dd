"""Clients that say what a test wants, rules or not, and read when a test wants."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

import trio

PATIENCE: Final = 10.0
"""Seconds that an answer may take; nothing waits so long that works."""


def compact(value: object) -> str:
    """JSON as JavaScript writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def upgrade_request(target: str = "/pwa/alice123", headers: str = "") -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode("latin-1")


def client_frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """A frame with the mask 0, so that the payload can be seen in it."""
    first = bytes([opcode | (0x80 if fin else 0)])
    if len(payload) < 126:
        return first + bytes([0x80 | len(payload)]) + bytes(4) + payload
    if len(payload) < 65536:
        return first + b"\xfe" + struct.pack(">H", len(payload)) + bytes(4) + payload
    return first + b"\xff" + struct.pack(">Q", len(payload)) + bytes(4) + payload


def _as_bytes(frame: object) -> bytes:
    if isinstance(frame, bytes):
        return frame
    return client_frame((frame if isinstance(frame, str) else compact(frame)).encode())


class RawClient:
    """A stream after the upgrade; nothing is read or answered by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream: Final = stream
        self._read = b""

    async def send(self, *frames: object) -> None:
        """Frames in one write: JSON values and text as text frames, bytes as they are."""
        data = b"".join(
            frame
            if isinstance(frame, bytes)
            else client_frame((frame if isinstance(frame, str) else compact(frame)).encode())
            for frame in frames
        )
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def head(self) -> bytes:
        """The response to the upgrade request."""
        while b"\r\n\r\n" not in self._read:
            await self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head

    async def frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload.

        Raises:
            EOFError: the stream has ended.
        """
        first, length = await self._take(2)
        if length == 126:
            (length,) = struct.unpack(">H", await self._take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._take(8))
        return first & 0x0F, await self._take(length)

    async def end(self) -> tuple[list[Any], int, str]:
        """As `Client.end`; does not answer the close frame."""
        frames: list[Any] = []
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    return frames, int.from_bytes(payload[:2], "big"), payload[2:].decode()
                if opcode in (TEXT, BINARY):
                    frames.append(json.loads(payload))
        except (EOFError, trio.BrokenResourceError):
            return frames, 1006, ""

    async def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            await self._more()
        data, self._read = self._read[:size], self._read[size:]
        return data

    async def _more(self) -> None:
        with trio.fail_after(PATIENCE):
            chunk = await self.stream.receive_some(65536)
        if not chunk:
            raise EOFError
        self._read += bytes(chunk)
