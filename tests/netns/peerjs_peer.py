"""A PeerJS peer as a program; commands come, and what happens is told, in lines of JSON.

    python -m tests.netns.peerjs_peer alice 10.1.0.1 9000 --fallback --patience 2 --node ws://10.1.0.1:9000

``connect`` names a peer, ``send`` and ``receive`` numbers of bytes, ``send`` the size of a value, too; all have a
``ref``, by which their reply is found. They concern the connection that was opened or accepted last. Nothing is
received unasked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from benchmarks.memory import peak
from trio_relay import Limits, PeerError, WebRTCConfig, open_node, peerjs
from trio_relay.peerjs import opening
from trio_relay.peerjs.fallback.rounds import Timing

VALUE: Final = 100_000
NETWORK: Final = Limits(ping_after=1, dead_after=1)
"""A broker that is silent for two seconds is gone."""


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Program:
    """Runs commands, several at a time."""

    def __init__(self, peer: peerjs.Peer) -> None:
        self._peer: Final = peer
        self._connection: peerjs.DataConnection | None = None

    async def run(self) -> None:
        """Until the end of the input."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept)
            nursery.start_soon(self._watch)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                command = json.loads(line)
                do: Callable[..., Awaitable[dict[str, object]]] = getattr(self, f"do_{command.pop('do')}")
                nursery.start_soon(self._reply, do, command.pop("ref"), command)
            nursery.cancel_scope.cancel()

    async def _reply(
        self, do: Callable[..., Awaitable[dict[str, object]]], ref: object, arguments: dict[str, object]
    ) -> None:
        began = trio.current_time()
        try:
            facts = await do(**arguments)
        except PeerError as error:
            facts = {"error": error.type, "message": str(error)}
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            facts = {"error": type(error).__name__, "message": str(error)}
        transport = self._connection.transport if self._connection is not None else None
        tell("done", ref=ref, seconds=trio.current_time() - began, transport=transport, **facts)

    async def _accept(self) -> None:
        async for connection in self._peer:
            assert isinstance(connection, peerjs.DataConnection)
            self._connection = connection
            tell("accepted", peer=connection.peer, transport=connection.transport)

    async def _watch(self) -> None:
        async with self._peer.events() as events:
            async for event in events:
                tell(type(event).__name__, text=str(event))

    # Commands

    async def do_connect(self, peer: str, **options: Any) -> dict[str, object]:
        self._connection = await self._peer.connect(peer, reliable=True, **options)
        return {}

    async def do_send(self, count: int, size: int = VALUE) -> dict[str, object]:
        assert self._connection is not None
        digest = hashlib.sha256()
        for sent in range(0, count, size):
            value = os.urandom(size)
            digest.update(value)
            await self._connection.send(value)
            if (sent + size) * 4 // count != sent * 4 // count:
                tell("quarter", transport=self._connection.transport)
        return {"digest": digest.hexdigest()}

    async def do_receive(self, count: int) -> dict[str, object]:
        assert self._connection is not None
        digest, came = hashlib.sha256(), 0
        while came < count:
            value = await self._connection.receive()
            digest.update(value)
            came += len(value)
        return {"digest": digest.hexdigest()}

    async def do_close(self) -> dict[str, object]:
        assert self._connection is not None
        await self._connection.aclose()
        return {}

    async def do_state(self) -> dict[str, object]:
        counts = dict(self._peer.statistics().counts)
        return {"peak": peak(int(os.readlink("/proc/self"))), "open": self._peer.open, "counts": counts}


@asynccontextmanager
async def make_peer(options: argparse.Namespace) -> AsyncIterator[peerjs.Peer]:
    place: dict[str, Any] = {"host": options.host, "port": options.port, "secure": False, "network": NETWORK}
    config = WebRTCConfig()
    if not options.fallback:
        async with peerjs.open_peer(options.id, config=config, **place) as peer:
            yield peer
    elif options.node is None:
        async with peerjs.open_peer(options.id, config=config, fallback="relay", **place) as peer:
            yield peer
    else:
        async with open_node(None, [options.node]) as node:
            await node.wait_linked()
            async with peerjs.open_peer(options.id, config=config, fallback="relay", node=node, **place) as peer:
                yield peer


async def main(options: argparse.Namespace) -> None:
    if options.patience is not None:
        vars(opening)["Timing"] = partial(Timing, patience=options.patience)
    async with make_peer(options) as peer:
        tell("registered", id=peer.id)
        await Program(peer).run()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("id")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--fallback", action="store_true")
    parser.add_argument("--node")
    parser.add_argument("--patience", type=float)
    return parser.parse_args()


if __name__ == "__main__":
    trio.run(main, arguments())
