"""Hubs that speak HTTP as a test says, at the other end of streams in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pytest
import trio
import trio.testing

from tests.peerix.drivers.wires import Wire
from trio_relay.peerix.drivers.broker_url import BrokerUrl
from trio_relay.peerix.drivers.http_exchange import LIMITS
from trio_relay.transports.http_client import HttpConnection

HubScript = Callable[["HubWire"], Awaitable[object]]
STREAM: Final = "text/event-stream"


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


class HubWire(Wire):
    """The hub's end of one connection."""

    async def request(self) -> Asked:
        method, target, _ = (await self.line()).decode().split(" ")
        headers: dict[str, str] = {}
        while line := await self.line():
            name, _, value = line.decode().partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        return Asked(method, target, headers, await self.read(int(headers.get("content-length", 0))))

    async def answer(self, status: int, headers: Mapping[str, str] = {}, body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode(), body)

    async def begin(self, *pieces: bytes, kind: str = STREAM) -> None:
        """The head of a stream of events, and some pieces of it."""
        await self.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            await self.piece(piece)

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n" % len(data), data, b"\r\n")

    async def finish(self) -> None:
        await self.send(b"0\r\n\r\n")


class Hubs:
    """Plays one script for each connection, the last one for all that follow; when it ends, so does the connection.

    Attributes:
        asked: what has been asked for, if a script puts it there.
        dials: when connections were made.
        closed: of how many connections the driver has closed its end.
        failures: what the next attempts to connect raise; None: they never end.
    """

    def __init__(self, nursery: trio.Nursery, scripts: tuple[HubScript, ...]) -> None:
        self._nursery: Final = nursery
        self._scripts: Final = deque(scripts)
        self.asked: list[Asked] = []
        self.dials: list[float] = []
        self.failures: deque[Exception | None] = deque()
        self.closed = 0

    async def dial(self, url: BrokerUrl, ssl_context: object) -> HttpConnection:
        self.dials.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.failures:
            failure = self.failures.popleft()
            if failure is None:
                await trio.sleep_forever()
            else:
                raise failure
        ours, theirs = trio.testing.memory_stream_pair()
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        self._nursery.start_soon(self._play, HubWire(theirs), script, theirs)
        return HttpConnection(ours, url.target.host_header, LIMITS)

    async def _play(self, wire: HubWire, script: HubScript, stream: trio.abc.AsyncResource) -> None:
        try:
            await script(wire)
        except (trio.BrokenResourceError, EOFError):
            self.closed += 1
        await stream.aclose()


def hubs(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, *scripts: HubScript) -> Hubs:
    """Hubs for the SSE driver."""
    made = Hubs(nursery, scripts)
    monkeypatch.setattr("trio_relay.peerix.drivers.sse.dial_http", made.dial)
    monkeypatch.setattr("trio_relay.peerix.drivers.http_exchange.dial_http", made.dial)
    return made
