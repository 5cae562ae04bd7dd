"""The page about PeerJS in Python against a broker and peers on this machine: what it shows is executed.

The name `peer` is an open peer with the id ``alice``; ``bob`` sends back what it gets, and answers calls.
"""

from __future__ import annotations

import pytest
import trio
from aiortc.mediastreams import AudioStreamTrack

import trio_relay
from trio_relay import WebRTCConfig, peerjs

from .documents import PEER_PAGE
from .test_docs_python import DEADLINE, executed, run_blocks


async def echo(connection: peerjs.DataConnection) -> None:
    async for value in connection:
        await connection.send(value)


async def be_bob(bob: peerjs.Peer) -> None:
    async with trio.open_nursery() as nursery:
        async for connection in bob:
            if isinstance(connection, peerjs.DataConnection):
                nursery.start_soon(echo, connection)
            else:
                nursery.start_soon(connection.answer, [AudioStreamTrack()])


async def test_what_the_page_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = executed(PEER_PAGE)
    assert len(found.snippets) > 5
    assert not found.programs
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            config = peerjs.BrokerConfig(listen="127.0.0.1:0", expire_timeout=0.1, cleanup_interval=0.1)
            broker: peerjs.Broker = await nursery.start(peerjs.serve_broker, config)
            port = broker.addresses[0].rpartition(":")[2]
            local = f'host="127.0.0.1", port={port}'
            async with (
                peerjs.open_peer("alice", host="127.0.0.1", port=int(port), config=WebRTCConfig()) as peer,
                peerjs.open_peer("bob", host="127.0.0.1", port=int(port), config=WebRTCConfig()) as bob,
            ):
                nursery.start_soon(be_bob, bob)
                namespace = {"trio": trio, "trio_relay": trio_relay, "peerjs": peerjs, "peer": peer}
                await run_blocks(found.snippets, namespace, {'host="broker.example.org", port=9000': local})
            await broker.aclose()
            nursery.cancel_scope.cancel()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "{'text': 'hello', 'bytes': b'\\x00\\x01'} from bob",
        "[0, 1, 2]",
        "audio 48000",
        "registered as alice",
        "hello over webrtc",
        "peer-unavailable",
    ]
