"""A PeerJS broker, and a peer named `echo` that sends back what it gets: python peerjs_echo.py 127.0.0.1:9000

`peerjs_page/index.html` beside this file is a page that talks to it. It needs `trio-relay[webrtc]`.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import trio

from trio_relay import PeerError, WebRTCConfig, peerjs


async def echo(connection: peerjs.DataConnection) -> None:
    try:
        async for value in connection:
            await connection.send(value)
    except (PeerError, trio.BrokenResourceError) as error:
        print(connection.peer, "is gone:", error)


async def main(listen: str) -> None:
    async with trio.open_nursery() as nursery:
        broker = await nursery.start(peerjs.serve_broker, peerjs.BrokerConfig(listen=listen))
        port = int(broker.addresses[0].rpartition(":")[2])
        async with peerjs.open_peer("echo", host="127.0.0.1", port=port, config=WebRTCConfig()) as peer:
            print("broker at", broker.urls[0], flush=True)
            async for connection in peer:
                if isinstance(connection, peerjs.DataConnection):
                    nursery.start_soon(echo, connection)
                else:
                    await connection.aclose()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000")
