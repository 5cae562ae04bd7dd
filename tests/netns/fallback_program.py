"""A broker, or a peer that falls back to it, as a program: what happens is told in lines of JSON.

    python -m tests.netns.fallback_program broker 10.1.0.1 9000
    python -m tests.netns.fallback_program answer 10.1.0.1 9000
    python -m tests.netns.fallback_program call 10.1.0.1 9000 20000000

The caller sends so many bytes in values of 100,000, the answerer sends every one of them back, and the caller compares.
A tenth of the way it waits for a line on its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final

import trio

from trio_relay.peerjs.broker.config import BrokerConfig
from trio_relay.peerjs.broker.serving import serve_broker
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.opening import open_peer
from trio_relay.peerjs.peer import Peer
from trio_relay.transports.webrtc import WebRTCConfig

VALUE: Final = 100_000


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def broker(address: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_broker, BrokerConfig(listen=f"{address}:{port}"))
        tell("listening")


async def answer(peer: Peer) -> None:
    connection = await peer.accept()
    assert isinstance(connection, DataConnection)
    tell("open", transport=connection.transport)
    async for value in connection:
        await connection.send(value)
    tell("closed", transport=connection.transport)


async def call(peer: Peer, size: int) -> None:
    connection = await peer.connect("answer", reliable=True)
    tell("open", transport=connection.transport)
    values = [os.urandom(VALUE) for _ in range(size // VALUE)]

    async def send() -> None:
        for number, value in enumerate(values):
            if number == len(values) // 10:
                tell("tenth", transport=connection.transport)
                await trio.to_thread.run_sync(sys.stdin.readline)
            await connection.send(value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        equal = [await connection.receive() == value for value in values]
    tell("compared", equal=all(equal), bytes=len(equal) * VALUE, transport=connection.transport)
    await connection.aclose()


async def main(*arguments: str) -> None:
    role, address, port, size = arguments[0], arguments[1], int(arguments[2]), int("".join(arguments[3:]) or 0)
    if role == "broker":
        await broker(address, port)
        return
    options = {"host": address, "port": port, "secure": False, "config": WebRTCConfig(), "fallback": "relay"}
    async with open_peer(role, **options) as peer:  # type: ignore[arg-type]
        tell("registered")
        await (call(peer, size) if role == "call" else answer(peer))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
