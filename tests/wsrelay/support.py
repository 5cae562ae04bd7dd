"""Relay servers for tests, and clients of them that share no code with the relay."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio
import trio.testing
import trio_websocket

from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import RouteTable
from trio_relay.wsrelay import Relay, RelayConfig, serve_relay

from .raw_client import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawClient,
    client_frame,
    compact,
    upgrade_request,
)

__all__ = [
    "ALICE",
    "BINARY",
    "BOB",
    "CAROL",
    "CLOSE",
    "LIMITS",
    "PATIENCE",
    "PING",
    "PONG",
    "TEXT",
    "Client",
    "Clients",
    "RawClient",
    "Relaying",
    "client_frame",
    "compact",
    "error",
    "eventually",
    "make_config",
    "relaying",
    "routed",
    "status",
    "target_of",
    "unwatch",
    "upgrade_request",
    "watch",
]

ALICE: Final = "pwa:alice123"
BOB: Final = "pwa:bobbobbob"
CAROL: Final = "pwa:carol123"
LIMITS: Final = Limits(close_timeout=0.5)
LOOK_AGAIN: Final = 0.005

Headers = list[tuple[bytes, bytes]]


def target_of(address: str) -> str:
    """``channel:id`` -> ``/channel/id``."""
    return "/" + address.replace(":", "/", 1)


def routed(sender: str, to: str, payload: object = None, **more: object) -> dict[str, object]:
    return {"from": sender, "to": to, "payload": payload, **more}


def error(code: str, message: str, **more: str) -> dict[str, object]:
    return {"type": "error", "payload": {"code": code, "message": message, **more}}


def status(address: str, online: bool) -> dict[str, object]:
    return {"type": "peer-status", "payload": {"address": address, "online": online}}


def watch(address: str) -> dict[str, object]:
    return {"type": "watch", "address": address}


def unwatch(address: str) -> dict[str, object]:
    return {"type": "unwatch", "address": address}


async def eventually(holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Waits until something holds that no event tells of."""
    with trio.move_on_after(PATIENCE):
        while True:
            held = holds()
            if held is True or (not isinstance(held, bool) and await held):
                return
            await trio.sleep(LOOK_AGAIN)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


class Client:
    """A WebSocket client that sees every frame.

    Attributes:
        binary: how many of the frames so far were binary.
    """

    _numbers: Final = itertools.count()

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._connection: Final = connection
        self._stream: Final = stream
        self.binary = 0

    async def send(self, *frames: object) -> None:
        """JSON values, or text and bytes as they are: bytes as binary frames."""
        for frame in frames:
            with trio.fail_after(PATIENCE):
                await self._connection.send_message(frame if isinstance(frame, str | bytes) else compact(frame))

    async def frame(self) -> str:
        """The next frame as text."""
        with trio.fail_after(PATIENCE):
            frame = await self._connection.get_message()
        if isinstance(frame, bytes):
            self.binary += 1
            return frame.decode()
        return str(frame)

    async def receive(self) -> Any:
        """The next frame as JSON."""
        return json.loads(await self.frame())

    async def settle(self) -> list[Any]:
        """What came until the server had dealt with everything that this client sent."""
        marker = f"nowhere:{next(self._numbers)}"
        await self.send(watch(marker), unwatch(marker))
        frames = []
        while (frame := await self.receive()) != status(marker, False):
            frames.append(frame)
        return frames

    async def end(self) -> tuple[list[Any], int, str]:
        """Whatever else comes, and the code and reason of the server's close frame: 1006 if there is none."""
        frames = []
        try:
            while True:
                frames.append(await self.receive())
        except trio_websocket.ConnectionClosed as closed:
            assert closed.reason is not None
            await trio.aclose_forcefully(self._stream)
            return frames, closed.reason.code, closed.reason.reason or ""

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        with trio.fail_after(PATIENCE):
            await self._connection.aclose(code, reason)


Dial = Callable[[], Awaitable[trio.abc.Stream]]


class Clients:
    """Connects clients to one server.

    Attributes:
        port: of a server on a socket; 0 otherwise.
    """

    port = 0

    def __init__(self, nursery: trio.Nursery, dial: Dial) -> None:
        self._nursery: Final = nursery
        self._connect: Final = dial
        self._streams: Final[list[trio.abc.Stream]] = []

    async def _dial(self) -> trio.abc.Stream:
        stream = await self._connect()
        self._streams.append(stream)
        return stream

    async def abort(self) -> None:
        """All clients are gone, without a word."""
        with trio.CancelScope(shield=True):
            for stream in self._streams:
                await trio.aclose_forcefully(stream)

    async def connect(self, target: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> Client:
        """A client whose upgrade succeeded; `target` is a path or ``channel:id``."""
        target = target if target.startswith("/") else target_of(target)
        with trio.fail_after(PATIENCE):
            stream = await self._dial()
            connection = await trio_websocket.wrap_client_stream(
                self._nursery,
                cast(trio.SocketStream, stream),
                "127.0.0.1",
                target,
                extra_headers=list(headers),
                message_queue_size=100_000,
                max_message_size=16 * 1024 * 1024,
            )
        return Client(connection, stream)

    async def join(self, target: str) -> Client:
        """The same for one that the server has let in already."""
        client = await self.connect(target)
        assert await client.settle() == []
        return client

    async def raw(self, target: str = "/pwa/alice123", headers: str = "") -> RawClient:
        """A client that says what a test wants and reads when a test wants."""
        stream = await self._dial()
        client = RawClient(stream)
        await stream.send_all(upgrade_request(target, headers))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def request(self, data: bytes) -> bytes:
        """The answer to bytes, to the end of the stream."""
        with trio.fail_after(PATIENCE):
            stream = await self._dial()
            async with stream:
                await stream.send_all(data)
                answer = b""
                while chunk := await stream.receive_some():
                    answer += chunk
        return answer


class Relaying(Clients):
    """A running relay server of ours.

    Attributes:
        relay: its handle.
        ended: set when `serve_relay` has returned.
        stop: cancels it, not the clients and not the server that has its routes.
    """

    relay: Relay
    ended: trio.Event
    stop: Callable[[], None]

    async def counts(self, name: str) -> int:
        """One of the relay's counters."""
        return self.relay.statistics().counts.get(name, 0)


def make_config(**options: Any) -> RelayConfig:
    """Options of tests: open to everybody, patient, quick to close."""
    defaults: dict[str, Any] = {
        "channels": ["pwa", "ext"],
        "key_store": False,
        "listen": "127.0.0.1:0",
        "rate_limit_max_messages": 100_000,
        "rate_limit_max_connections": 1000,
        "limits": LIMITS,
    }
    return RelayConfig(**{**defaults, **options})


@asynccontextmanager
async def relaying(*, memory: bool = False, lockstep: bool = False, **options: Any) -> AsyncIterator[Relaying]:
    """A relay server for the time of the block.

    On a socket; or over memory streams, for a mock clock; with `lockstep`, over ones that hold nothing between writer
    and reader.
    """
    memory = memory or lockstep
    config = make_config(**options, **({"listen": None} if memory else {}))
    ended, scope = trio.Event(), trio.CancelScope()

    async def serve(*, task_status: trio.TaskStatus[Relay]) -> None:
        with scope:
            await serve_relay(config, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        relay: Relay = await nursery.start(serve)
        server = HttpServer(
            RouteTable(relay.routes()), limits=config.limits, admission=Admission(config.limits, TransportStatistics())
        )

        async def dial() -> trio.abc.Stream:
            if memory:
                pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
                ours, theirs = pair()
                nursery.start_soon(server.serve_stream, theirs)
                return ours
            return await trio.open_tcp_stream("127.0.0.1", running.port)

        running = Relaying(nursery, dial)
        running.relay, running.ended, running.stop = relay, ended, scope.cancel
        if relay.addresses:
            running.port = int(relay.addresses[0].rpartition(":")[2])
        try:
            yield running
        finally:
            nursery.cancel_scope.cancel()
            await running.abort()
