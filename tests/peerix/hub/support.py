"""Hubs for tests over streams in memory, and clients of both doors that share no code with the hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import h11
import trio
from trio.testing import memory_stream_pair

from trio_relay.limits import Limits
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.serving import Hub, serve_hub
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import RouteTable
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.websocket import Role

LIMITS: Final = Limits(close_timeout=0.01)
MERCURE: Final = "/.well-known/mercure"
SOCKETIO: Final = "/socket.io/"
SEPARATOR: Final = "\x1e"
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


@dataclass
class Answer:
    """A response; `body` is all of it, or what of it came first."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT), repr=False)

    @property
    def text(self) -> str:
        return self.body.decode()


class EventStream:
    """A client of the Mercure door that listens."""

    def __init__(self, stream: trio.abc.Stream, answer: Answer) -> None:
        self.stream: Final = stream
        self.status: Final = answer.status
        self.headers: Final = answer.headers
        self._http: Final = answer.http
        self._data = b""

    async def block(self) -> str | None:
        """The next event or comment as it was sent; None: the response has ended."""
        while b"\n\n" not in self._data:
            event = await next_event(self.stream, self._http)
            if isinstance(event, h11.EndOfMessage):
                return None
            assert isinstance(event, h11.Data)
            self._data += event.data
        block, _, self._data = self._data.partition(b"\n\n")
        return block.decode()

    async def data(self) -> str:
        """The data of the next event, of one line."""
        while not (block := await self.block() or "data: (the end)").startswith(("id", "data")):
            pass
        return block.rpartition("data: ")[2]

    async def aclose(self) -> None:
        await self.stream.aclose()


async def next_event(stream: trio.abc.Stream, http: h11.Connection) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some()))
    return event


class Served:
    """A hub that is mounted on a server, and the way to it."""

    def __init__(self, hub: Hub, admission: Admission, nursery: trio.Nursery) -> None:
        self.hub: Final = hub
        self.admission: Final = admission
        self._server: Final = HttpServer(RouteTable(hub.routes()), limits=hub.config.limits, admission=admission)
        self._nursery: Final = nursery

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.hub.statistics().counts)

    def connect(self, ip: str = "192.0.2.1", *, takes: int | None = None) -> trio.abc.Stream:
        """Our end of a stream that the server serves; it takes so many writes of the server and then none."""
        ours, theirs = memory_stream_pair()
        if takes is not None:
            left, pump = iter(range(takes)), theirs.send_stream.send_all_hook
            assert pump is not None

            async def clog() -> None:
                if next(left, None) is None:
                    await trio.sleep_forever()
                await pump()

            theirs.send_stream.send_all_hook = clog
        self._nursery.start_soon(self._server.serve_stream, theirs, (f"{ip}:1000", "192.0.2.99:80"))
        return ours

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None, ip: str = "192.0.2.1"
    ) -> Answer:
        """The whole answer to one request."""
        async with self.connect(ip) as stream:
            answer = await send(stream, method, target, body, headers)
            while isinstance(event := await next_event(stream, answer.http), h11.Data):
                answer.body += event.data
            return answer

    async def publish(self, topic: str, data: str, **headers: str) -> Answer:
        body = f"topic={topic}&data={data.replace('+', '%2B')}".encode()
        return await self.ask("POST", f"{MERCURE}?topic={topic}", body, FORM | headers)

    async def listen(
        self,
        *topics: str,
        more: str = "",
        headers: dict[str, str] | None = None,
        ip: str = "192.0.2.1",
        takes: int | None = None,
    ) -> EventStream:
        """Subscribes, and returns when the hub has it."""
        target = f"{MERCURE}?{'&'.join(f'topic={topic}' for topic in topics)}{more}"
        stream = self.connect(ip, takes=takes)
        events = EventStream(stream, await send(stream, "GET", target, b"", headers))
        if events.status == 200:
            assert await events.block() == "retry: 2000"
        return events

    async def websocket(
        self, target: str, headers: str = "", ip: str = "192.0.2.1", takes: int | None = None
    ) -> WebSocketConnection | int:
        """A WebSocket, or the status that refuses it."""
        stream = self.connect(ip, takes=takes)
        await stream.send_all(
            f"GET {target} HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n{headers}"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        head, _, rest = head.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status != 101:
            await stream.aclose()
            return status
        return WebSocketConnection(stream, Role.CLIENT, limits=LIMITS, offered_subprotocol=False, received=rest)


async def send(
    stream: trio.abc.Stream, method: str, target: str, body: bytes, headers: dict[str, str] | None
) -> Answer:
    """Sends a request; the head of its answer."""
    http = h11.Connection(h11.CLIENT)
    pairs = [("host", "h"), ("content-length", str(len(body))), *(headers or {}).items()]
    data = (http.send(h11.Request(method=method, target=target, headers=pairs)) or b"") + body
    http.send(h11.Data(data=body))
    http.send(h11.EndOfMessage())
    await stream.send_all(data)
    event = await next_event(stream, http)
    assert isinstance(event, h11.Response)
    given = {name.decode(): value.decode() for name, value in event.headers}
    return Answer(event.status_code, given, http=http)


@asynccontextmanager
async def serving_hub(**options: Any) -> AsyncIterator[Served]:
    """A hub for the time of the block, which is closed politely."""
    config = HubConfig(listen=None, **({"limits": LIMITS} | options))
    admission = Admission(config.limits, TransportStatistics())
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[Hub]) -> None:
            await serve_hub(config, admission=admission, task_status=task_status)

        hub: Hub = await nursery.start(serve)
        yield Served(hub, admission, nursery)
        await hub.aclose()
        nursery.cancel_scope.cancel()
