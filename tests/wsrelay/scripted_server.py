"""Relay servers that do what a test says, one script for each connection; over memory streams or real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.transports.support import serving
from trio_relay.limits import Limits
from trio_relay.transports.connection import Connection
from trio_relay.transports.routes import Request, Route
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.json import JSONValue
from trio_relay.wire.websocket import Role
from trio_relay.wsrelay.client import RelayClient, open_relay_client, running
from trio_relay.wsrelay.client.events import ClientEvent

LIMITS = Limits(close_timeout=0.5)
URL = "ws://relay.example"
OWN = "pwa:alice123"
BOB = "pwa:bobbobbob"


def error_frame(code: str, message: str = "words", **more: str) -> dict[str, Any]:
    return {"type": "error", "payload": {"code": code, "message": message, **more}}


def status_frame(address: str, online: bool) -> dict[str, Any]:
    return {"type": "peer-status", "payload": {"address": address, "online": online}}


def routed(payload: JSONValue, sender: str = BOB) -> dict[str, Any]:
    return {"from": sender, "to": OWN, "payload": payload}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


class ScriptedPeer:
    """The server's end of one connection.

    Attributes:
        path: what the client asked for, with the query.
        opened: when, Trio's clock.
    """

    def __init__(self, connection: WebSocketConnection, path: str) -> None:
        self.connection = connection
        self.path = path
        self.opened = trio.current_time()
        self._waiting: list[bytes | str] = []

    async def send(self, *frames: object, binary: bool = False) -> None:
        """JSON values, or text and bytes as they are."""
        for frame in frames:
            data = frame if isinstance(frame, str | bytes) else json.dumps(frame)
            text = isinstance(data, str) and not binary
            await self.connection.send([data.encode() if isinstance(data, str) else data], text=text)

    async def receive(self) -> Any:
        """The client's next frame as JSON; it must be text. None at the end."""
        while not self._waiting:
            self._waiting = list(await self.connection.receive())
            if not self._waiting:
                return None
        frame = self._waiting.pop(0)
        assert isinstance(frame, str)
        return json.loads(frame)

    async def accept(self, own: str = OWN) -> None:
        """Answers the client's first frame as a server that has taken it in."""
        assert await self.receive() == {"type": "watch", "address": own}
        await self.send(status_frame(own, True))

    async def refuse(self, code: str, close_code: int = 1008, message: str = "words") -> None:
        """What servers do after the upgrade to whom they do not let in."""
        await self.send(error_frame(code, message))
        await self.connection.aclose(close_code, message)

    async def until_end(self) -> list[Any]:
        """Whatever else comes."""
        frames = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        return frames


Script = Callable[[ScriptedPeer], Awaitable[object]]


async def stay(peer: ScriptedPeer) -> None:
    """The script of a server that takes the client in and then says nothing."""
    await peer.accept()
    await peer.until_end()


class ScriptedRelay:
    """Plays one script for each connection, the last one for all that follow; ends without a close frame after it.

    Attributes:
        peers: one for each connection so far.
        refused: what an attempt raises instead, one for each attempt; None: it succeeds.
        attempts: when the client dialled, Trio's clock.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts) or [stay]
        self.peers: list[ScriptedPeer] = []
        self.refused: list[Exception | None] = []
        self.attempts: list[float] = []

    async def play(self, connection: Connection, request: Request | None, path: str = "") -> None:
        """Runs the next script."""
        assert isinstance(connection, WebSocketConnection)
        peer = ScriptedPeer(connection, request.target if request is not None else path)
        script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
        self.peers.append(peer)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await script(peer)

    @asynccontextmanager
    async def over_memory(self, patch: pytest.MonkeyPatch) -> AsyncIterator[str]:
        """Clients that dial in the block get here without sockets, so that a mock clock may jump; yields a URL."""

        async def run(connection: WebSocketConnection, path: str) -> None:
            await self.play(connection, None, path)
            connection.abort()

        async def dial(url: str, *, max_message: int, **_: object) -> WebSocketConnection:
            self.attempts.append(trio.current_time())
            await trio.lowlevel.checkpoint()
            if self.refused and (error := self.refused.pop(0)) is not None:
                raise error
            near, far = trio.testing.memory_stream_pair()
            server = WebSocketConnection(far, Role.SERVER, limits=LIMITS, offered_subprotocol=False)
            nursery.start_soon(run, server, url.removeprefix(URL))
            return WebSocketConnection(
                near, Role.CLIENT, limits=LIMITS, offered_subprotocol=False, max_message=max_message
            )

        patch.setattr(running, "dial_websocket", dial)
        async with trio.open_nursery() as nursery:
            yield URL
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def over_sockets(self) -> AsyncIterator[str]:
        """Listens on 127.0.0.1; yields a URL."""
        async with serving([Route("/", upgrade=self.play, subtree=True)], limits=LIMITS) as served:
            yield served.url


def refusing(code: str, close_code: int = 1008, *, accept: bool = False) -> Script:
    async def script(peer: ScriptedPeer) -> None:
        if accept:
            await peer.accept()
        await peer.refuse(code, close_code)

    return script


class Recorder:
    """A server that takes the client in and keeps what it sends.

    Attributes:
        heard: of each connection, the frames after the first.
    """

    def __init__(self, *, ends_after: int | None = None) -> None:
        self.heard: list[list[Any]] = []
        self._ends_after = ends_after

    async def __call__(self, peer: ScriptedPeer) -> None:
        heard: list[Any] = []
        self.heard.append(heard)
        await peer.accept()
        while len(heard) != self._ends_after and (frame := await peer.receive()) is not None:
            heard.append(frame)


def message(number: object, to: str = BOB) -> dict[str, object]:
    return {"from": OWN, "to": to, "payload": number}


def watch(address: str) -> dict[str, object]:
    return {"type": "watch", "address": address}


def unwatch(address: str) -> dict[str, object]:
    return {"type": "unwatch", "address": address}


def telling(*frames: object, binary: bool = False) -> Script:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(*frames, binary=binary)
        await peer.until_end()

    return script


# Clients of them


def most() -> float:
    """The longest wait that chance gives, nearly."""
    return 1.0


@asynccontextmanager
async def client_of(relay: ScriptedRelay, patch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[RelayClient]:
    """A client of that relay, over memory."""
    async with (
        relay.over_memory(patch) as url,
        open_relay_client(url, "pwa", "alice123", **{"random": most, **options}) as client,
    ):
        yield client


async def collect(client: RelayClient, number: int) -> list[ClientEvent]:
    async with client.events() as events:
        return [await anext(events) for _ in range(number)]


def waits(relay: ScriptedRelay) -> list[float]:
    """Seconds between attempts."""
    return [later - earlier for earlier, later in zip(relay.attempts, relay.attempts[1:], strict=False)]
