"""``python -m benchmarks.rivals.tcp_forwarder``: bytes from one connection to its partner, with nothing else.

A connection first sends eight bytes, seven of them for the pair and then ``a`` or ``b``. This is the ceiling: what any
Trio program that forwards between sockets costs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Final

import trio

__all__ = ["HELLO_LENGTH", "main"]

HELLO_LENGTH: Final = 8
_READ_SIZE: Final = 64 * 1024


class _Ends:
    """The connections, by what they said first, and who waits for one."""

    def __init__(self) -> None:
        self._there: defaultdict[bytes, trio.Event] = defaultdict(trio.Event)
        self._streams: dict[bytes, trio.SocketStream] = {}

    async def handle(self, stream: trio.SocketStream) -> None:
        """Forwards until either connection ends."""
        try:
            hello = b""
            while len(hello) < HELLO_LENGTH:
                data = await stream.receive_some(HELLO_LENGTH - len(hello))
                if not data:
                    return
                hello += data
            other = hello[:-1] + (b"b" if hello.endswith(b"a") else b"a")
            self._streams[hello] = stream
            self._there[hello].set()
            await self._there[other].wait()
            partner = self._streams[other]
            while data := await stream.receive_some(_READ_SIZE):
                await partner.send_all(data)
        except trio.BrokenResourceError:
            pass


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, _Ends().handle, [listener])
        print(json.dumps({"urls": [f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"]}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Runs until the end of input."""
    trio.run(_serve)


if __name__ == "__main__":
    main()
