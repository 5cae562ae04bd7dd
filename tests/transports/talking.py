"""A client that talks with a server over a stream in memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import trio
import trio.testing

from tests.transports.support import ROUTES, read_all
from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import Route, RouteTable

KEY = base64.b64encode(bytes(16))
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: h\r\nupgrade: WebSocket\r\nconnection: keep-alive, UPGRADE\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: " + KEY + b"\r\n"
)

LAST = "connection: close"

Pair = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Client:
    """Our end of a stream that a server serves."""

    def __init__(self, stream: Pair, statistics: TransportStatistics) -> None:
        self.stream = stream
        self.statistics = statistics

    async def ask(self, data: bytes) -> str:
        """All that the server says to `data` until it ends the stream."""
        await self.stream.send_all(data)
        return (await read_all(self.stream)).decode("latin-1")

    async def ask_status(self, data: bytes) -> int:
        return int((await self.ask(data)).split(" ", 2)[1])

    async def read_response(self, http: h11.Connection) -> tuple[int, bytes]:
        """The next response on a connection that is kept alive."""
        status, body = 0, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return status, body


@asynccontextmanager
async def talking(routes: tuple[Route, ...] = ROUTES, limits: Limits | None = None) -> AsyncIterator[Client]:
    """A client whose server runs beside the block and ends with it."""
    limits = limits or Limits()
    statistics = TransportStatistics()
    server = HttpServer(RouteTable(routes), limits=limits, admission=Admission(limits, statistics))
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        yield Client(ours, statistics)
        await ours.aclose()


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: h", *headers, "", ""]).encode("latin-1")
