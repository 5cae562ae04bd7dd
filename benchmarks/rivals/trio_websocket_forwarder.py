"""``python -m benchmarks.rivals.trio_websocket_forwarder``: what comes from /N/a goes to /N/b as it is, and back."""

from __future__ import annotations

import json
import sys
from collections import defaultdict

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, WebSocketServer, serve_websocket

__all__ = ["main"]


class _Ends:
    """The connections, by path, and who waits for one."""

    def __init__(self) -> None:
        self._there: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self._connections: dict[str, WebSocketConnection] = {}

    async def handle(self, request: WebSocketRequest) -> None:
        """Forwards until the connection or its partner's closes."""
        path = request.path
        other = path[:-1] + ("b" if path.endswith("a") else "a")
        connection = await request.accept()
        self._connections[path] = connection
        self._there[path].set()
        await self._there[other].wait()
        partner = self._connections[other]
        try:
            while True:
                await partner.send_message(await connection.get_message())
        except ConnectionClosed:
            pass


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, _Ends().handle, "127.0.0.1", 0, None)
        print(json.dumps({"urls": [f"ws://127.0.0.1:{server.port}"]}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Runs until the end of input."""
    trio.run(_serve)


if __name__ == "__main__":
    main()
