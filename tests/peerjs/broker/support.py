"""Brokers for tests, and clients of them that share no code with the broker."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio.testing

from tests.wsrelay.raw_client import CLOSE, PATIENCE, TEXT, RawClient, client_frame, compact, upgrade_request
from trio_relay.limits import Limits
from trio_relay.peerjs.broker.config import BrokerConfig
from trio_relay.peerjs.broker.serving import Broker, serve_broker
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import RouteTable

__all__ = [
    "PATIENCE",
    "Brokering",
    "Client",
    "Clients",
    "brokering",
    "compact",
    "eventually",
    "heartbeat",
    "message",
    "signalling_target",
    "upgrade_request",
]

LIMITS: Final = Limits(close_timeout=0.5)
OPEN: Final = '{"type":"OPEN"}'


def signalling_target(id: str, token: str = "t", *, key: str = "peerjs", path: str = "/", more: str = "") -> str:
    return f"{path}peerjs?key={key}&id={id}&token={token}{more}"


def message(type: str, dst: object = None, payload: object = None, **more: object) -> dict[str, object]:
    """As an original client sends it; no `dst`, or payload, where it is None."""
    found = {"type": type, "payload": payload, "dst": dst, **more}
    return {name: value for name, value in found.items() if value is not None}


def heartbeat() -> dict[str, object]:
    return {"type": "HEARTBEAT"}


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds that no event tells of."""
    with trio.move_on_after(PATIENCE):
        while not holds():
            await trio.sleep(0.005)
        return
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


class Client(RawClient):
    """A WebSocket client that sees every frame as it was sent."""

    _numbers: Final = itertools.count()

    def __init__(self, stream: trio.abc.Stream, id: str) -> None:
        super().__init__(stream)
        self.id: Final = id

    async def text(self) -> str:
        """The next text frame."""
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    async def receive(self) -> Any:
        """The next text frame as JSON."""
        return json.loads(await self.text())

    async def settle(self) -> list[str]:
        """What came until the server had dealt with everything that this client sent."""
        marker = f"marker {next(self._numbers)}"
        await self.send(message("CANDIDATE", self.id, marker))
        frames = []
        while marker not in (frame := await self.text()):
            frames.append(frame)
        return frames

    async def close_frame(self) -> tuple[list[str], bytes]:
        """Text frames to the end, and the payload of the close frame; answers it, and waits for the end."""
        frames = []
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                break
            frames.append(payload.decode())
        try:
            await self.stream.send_all(client_frame(payload, CLOSE))
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        return frames, payload

    async def leave(self) -> None:
        """Says goodbye as browsers do."""
        await self.stream.send_all(client_frame(b"\x03\xe8", CLOSE))
        await self.close_or_end()

    async def close_or_end(self) -> None:
        try:
            while (await self.frame())[0] != CLOSE:
                pass
        except (EOFError, trio.BrokenResourceError):
            pass
        await self.stream.aclose()


Dial = Callable[[], Awaitable[trio.abc.Stream]]


class Clients:
    """Connects clients to one server.

    Attributes:
        path: prefix of its routes, with a slash at the end.
    """

    def __init__(self, dial: Dial, path: str = "/") -> None:
        self._dial: Final = dial
        self.path: Final = path
        self._streams: Final[list[trio.abc.Stream]] = []

    async def dial(self) -> trio.abc.Stream:
        with trio.fail_after(PATIENCE):
            stream = await self._dial()
        self._streams.append(stream)
        return stream

    async def abort(self) -> None:
        """All clients are gone, without a word."""
        with trio.CancelScope(shield=True):
            for stream in self._streams:
                await trio.aclose_forcefully(stream)

    async def upgrade(self, target: str, headers: str = "") -> tuple[bytes, Client]:
        """The head of the answer to an upgrade request."""
        client = Client(await self.dial(), "")
        await client.stream.send_all(upgrade_request(target, headers))
        return await client.head(), client

    async def connect(self, id: str, token: str = "t", *, quoted: str | None = None, **more: Any) -> Client:
        """A client whose upgrade succeeded; `quoted`: its id in the URL."""
        target = signalling_target(quoted or id, token, path=self.path, **more)
        client = Client(await self.dial(), id)
        await client.stream.send_all(upgrade_request(target))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def join(self, id: str, token: str = "t", **more: Any) -> Client:
        """The same for one that was told that it is registered."""
        client = await self.connect(id, token, **more)
        assert await client.text() == OPEN
        return client

    async def join_in_time(self, id: str, token: str = "t") -> Client:
        """The same where the server has yet to notice that there is room, or that the id is free."""
        with trio.fail_after(PATIENCE):
            while True:
                client = await self.connect(id, token)
                if await client.text() == OPEN:
                    return client
                await client.close_frame()

    async def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the answer to a plain request."""
        headers = {"Host": "127.0.0.1", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        stream = await self.dial()
        await stream.send_all(f"{method} {target} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n".encode())
        answer = b""
        with trio.fail_after(PATIENCE):
            while chunk := await stream.receive_some():
                answer += bytes(chunk)
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        found: dict[str, str] = {}
        for name, _, value in (line.partition(": ") for line in rest):
            found[name.lower()] = ", ".join(filter(None, (found.get(name.lower()), value)))
        return int(first.split()[1]), found, body.decode()


class Brokering(Clients):
    """A running broker of ours.

    Attributes:
        broker: its handle.
        ended: set when `serve_broker` has returned.
        stop: cancels it, not the clients.
    """

    broker: Broker
    ended: trio.Event
    stop: Callable[[], None]

    def counts(self, name: str) -> int:
        """One of the broker's counters."""
        return self.broker.statistics().counts.get(name, 0)


@asynccontextmanager
async def brokering(*, memory: bool = False, **options: Any) -> AsyncIterator[Brokering]:
    """A broker for the time of the block: on a socket, or over memory streams, for a mock clock."""
    defaults: dict[str, Any] = {"listen": None if memory else "127.0.0.1:0", "limits": LIMITS}
    config = BrokerConfig(**{**defaults, **options})
    ended, scope = trio.Event(), trio.CancelScope()

    async def serve(*, task_status: trio.TaskStatus[Broker]) -> None:
        with scope:
            await serve_broker(config, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        broker: Broker = await nursery.start(serve)
        server = HttpServer(
            RouteTable(broker.routes()), limits=config.limits, admission=Admission(config.limits, TransportStatistics())
        )

        async def dial() -> trio.abc.Stream:
            if memory:
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(server.serve_stream, theirs)
                return ours
            return await trio.open_tcp_stream("127.0.0.1", int(broker.addresses[0].rpartition(":")[2]))

        running = Brokering(dial, config.prefix + "/")
        running.broker, running.ended, running.stop = broker, ended, scope.cancel
        try:
            yield running
        finally:
            nursery.cancel_scope.cancel()
            await running.abort()
