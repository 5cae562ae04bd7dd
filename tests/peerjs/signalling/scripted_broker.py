"""Brokers that do what a test says, one script for each WebSocket; over memory streams or real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.wsrelay.scripted_server import ScriptedPeer
from trio_relay.exceptions import PeerError
from trio_relay.limits import Limits
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.peerjs.signalling import signaller as signaller_module
from trio_relay.peerjs.signalling.address import BrokerAddress
from trio_relay.peerjs.signalling.signaller import Signaller
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.websocket import Role

LIMITS = Limits(close_timeout=0.5)
TOKEN = "secret+token/1"
OPEN = {"type": "OPEN"}
HEARTBEAT = {"type": "HEARTBEAT"}

Script = Callable[[ScriptedPeer], Awaitable[object]]


async def stay(peer: ScriptedPeer) -> None:
    """The script of a broker that takes the peer in and then says nothing."""
    await peer.send(OPEN)
    await peer.until_end()


async def say_nothing(peer: ScriptedPeer) -> None:
    """The script of one that has the peer's registration from before."""
    await peer.until_end()


def telling(*frames: object, end: bool = False) -> Script:
    """The script of one that says these things, and stays or ends."""

    async def script(peer: ScriptedPeer) -> None:
        await peer.send(*frames)
        if not end:
            await peer.until_end()

    return script


class ScriptedBroker:
    """Plays one script for each connection, the last one for all that follow; ends without a close frame after it.

    Attributes:
        peers: one for each connection so far.
        refused: what an attempt raises instead, one for each attempt; None: it succeeds.
        attempts: when the peer dialled, Trio's clock.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts) or [stay]
        self.peers: list[ScriptedPeer] = []
        self.refused: list[Exception | None] = []
        self.attempts: list[float] = []

    async def play(self, connection: WebSocketConnection, target: str) -> None:
        """Runs the next script."""
        peer = ScriptedPeer(connection, target)
        script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
        self.peers.append(peer)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await script(peer)

    @asynccontextmanager
    async def over_memory(self, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Signallers that dial in the block get here without sockets, so that a mock clock may jump."""

        async def run(connection: WebSocketConnection, url: str) -> None:
            await self.play(connection, url)
            connection.abort()

        async def dial(url: str, *, max_message: int, **_: object) -> WebSocketConnection:
            self.attempts.append(trio.current_time())
            await trio.lowlevel.checkpoint()
            if self.refused and (error := self.refused.pop(0)) is not None:
                raise error
            near, far = trio.testing.memory_stream_pair()
            server = WebSocketConnection(far, Role.SERVER, limits=LIMITS, offered_subprotocol=False)
            nursery.start_soon(run, server, url)
            return WebSocketConnection(
                near, Role.CLIENT, limits=LIMITS, offered_subprotocol=False, max_message=max_message
            )

        patch.setattr(signaller_module, "dial_websocket", dial)
        async with trio.open_nursery() as nursery:
            yield
            nursery.cancel_scope.cancel()


class RecordingDesk:
    """Keeps what it is told.

    Attributes:
        told: ``("open", id, relayed)``, a message, ``("lost", type, text)`` or ``("over", type, text)``, in order.
        times: when, Trio's clock.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.times: list[float] = []
        self._told = trio.Event()

    def _tell(self, what: object) -> None:
        self.told.append(what)
        self.times.append(trio.current_time())
        self._told.set()
        self._told = trio.Event()

    def on_open(self, id: str, relayed: bool) -> None:
        self._tell(("open", id, relayed))

    def on_message(self, message: ServerMessage) -> None:
        self._tell(message)

    def on_lost(self, error: PeerError) -> None:
        self._tell(("lost", error.type, str(error)))

    def on_over(self, error: PeerError) -> None:
        self._tell(("over", error.type, str(error)))

    async def wait(self, number: int) -> list[Any]:
        """The first so many things that it was told, once they were."""
        with trio.fail_after(300):
            while len(self.told) < number:
                await self._told.wait()
        return self.told[:number]


def most() -> float:
    """The longest wait that chance gives, nearly."""
    return 1.0


def make(desk: RecordingDesk, counts: Counter[str] | None = None, **options: Any) -> Signaller:
    """A signaller for a broker over memory, unless `server` is another one."""
    merged: dict[str, Any] = {
        "server": BrokerAddress(host="broker.example", port=9000),
        "id": "alice",
        "token": TOKEN,
        "ping_interval": 5.0,
        "reconnect": True,
        "max_reconnect_delay": 8.0,
        "connect_timeout": 15.0,
        "limits": LIMITS,
        "random": most,
        **options,
    }
    server = merged.pop("server")
    return Signaller(server, desk=desk, counts=Counter() if counts is None else counts, **merged)


@asynccontextmanager
async def running(signaller: Signaller) -> AsyncIterator[Signaller]:
    """Runs it for the time of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signaller.run)
        yield signaller
        nursery.cancel_scope.cancel()


async def ask(
    broker: ScriptedBroker, patch: pytest.MonkeyPatch, told: int, counts: Counter[str] | None = None, **options: Any
) -> RecordingDesk:
    """Runs a signaller until its desk was told so many things."""
    desk = RecordingDesk()
    async with broker.over_memory(patch), running(make(desk, counts, **options)):
        await desk.wait(told)
    return desk
