"""Brokers that speak bytes as a test says, at the other end of streams in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import trio
import trio.testing

from trio_relay.peerix.drivers.broker_url import BrokerUrl
from trio_relay.peerix.drivers.byte_stream import ByteStream

Script = Callable[["Wire"], Awaitable[object]]


class Wire:
    """The broker's end of one connection."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream: Final = stream
        self._buffer = b""
        self.ended = False

    async def send(self, *data: bytes) -> None:
        await self._stream.send_all(b"".join(data))

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes, fewer only at the end."""
        while len(self._buffer) < size and (more := await self._stream.receive_some()):
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def line(self) -> bytes:
        """Up to CR LF, which are left out."""
        while b"\r\n" not in self._buffer:
            more = await self._stream.receive_some()
            if not more:
                raise EOFError(self._buffer)
            self._buffer += more
        taken, _, self._buffer = self._buffer.partition(b"\r\n")
        return taken

    async def rest(self) -> bytes:
        """All until the driver closes the connection."""
        while more := await self._stream.receive_some():
            self._buffer += more
        self.ended = True
        taken, self._buffer = self._buffer, b""
        return taken


class Wires:
    """Plays one script for each connection, the last one for all that follow; when it ends, so does the connection.

    Attributes:
        wires: one for each connection so far.
        dialled: what was asked for.
    """

    def __init__(self, nursery: trio.Nursery, scripts: tuple[Script, ...]) -> None:
        self._nursery: Final = nursery
        self._scripts: Final = deque(scripts)
        self.wires: list[Wire] = []
        self.dialled: list[tuple[BrokerUrl, object]] = []

    async def dial(self, url: BrokerUrl, ssl_context: object, *, subprotocol: str | bool) -> ByteStream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((url, subprotocol))
        ours, theirs = trio.testing.memory_stream_pair()
        wire = Wire(theirs)
        self.wires.append(wire)
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        self._nursery.start_soon(self._play, wire, script, theirs)
        return ByteStream(ours)

    async def _play(self, wire: Wire, script: Script, stream: trio.abc.AsyncResource) -> None:
        try:
            await script(wire)
        except (trio.BrokenResourceError, EOFError):
            wire.ended = True
        await stream.aclose()


def scripted(monkeypatch: pytest.MonkeyPatch, module: str, nursery: trio.Nursery, *scripts: Script) -> Wires:
    """Brokers for the driver of a module."""
    wires = Wires(nursery, scripts)
    monkeypatch.setattr(f"trio_relay.peerix.drivers.{module}.dial_broker", wires.dial)
    return wires
