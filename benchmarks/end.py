"""``python -m benchmarks.end JSON``: one node that sends or receives through a relay, as fast as a window lets it.

The argument has `url`, `size`, `window` and `sealed`, and for a sender `to` and `credit`. On standard output a receiver
says its id and the port where it gives credit, a sender when its first message has arrived. Each line of input is
answered with how many messages were sent or received; ``stop`` also stops a sender. The end of input ends the node. A
receiver writes one byte to whoever is connected to its port when the first message arrives, and one for each quarter of
the window.

With `rate`, a sender sends so many messages a second instead, each with the time at which it left, and a receiver notes
how long each took: its answer to ``delays`` also has the microseconds of those since it was asked before.

rivals/end.js is the same for the original.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Final

import trio

from trio_relay import Node, open_node
from trio_relay.wire.ids import NodeId

__all__ = ["main"]

_FIRST: Final = b"first"
_ASK_AGAIN: Final = 0.1
_READ_SIZE: Final = 4096
_STAMP: Final = 8
"""Bytes of a time in nanoseconds, on the clock that all processes of a machine share."""


class _End:
    """A receiver or a sender, by what its options have."""

    def __init__(self, options: dict[str, object]) -> None:
        self._url: Final = str(options["url"])
        self._sealed: Final = options["sealed"] is True
        self._size: Final = int(str(options["size"]))
        self._window: Final = int(str(options["window"]))
        self._to: Final = NodeId(bytes.fromhex(str(options["to"]))) if "to" in options else None
        self._credit: Final = int(str(options.get("credit", 0)))
        self._quarter: Final = max(self._window // 4, 1)
        self._rate: Final = float(str(options.get("rate", 0)))
        self._delays: list[float] = []
        self._count = 0
        self._stopped = False

    async def run(self) -> None:
        """Until the end of input."""
        async with open_node(None, [self._url], sealed=self._sealed) as node, trio.open_nursery() as nursery:
            await node.wait_linked()
            nursery.start_soon(self._answer, nursery.cancel_scope)
            if self._to is None:
                await self._receive(node)
            else:
                await self._send(node, self._to)

    async def _answer(self, scope: trio.CancelScope) -> None:
        """Answers lines of input."""
        held = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as stream:
            async for data in stream:
                *lines, held = (held + data).split(b"\n")
                for line in lines:
                    self._stopped = self._stopped or line == b"stop"
                    delays = {}
                    if line == b"delays":
                        delays, self._delays = {"delays": self._delays}, []
                    _tell({"count": self._count, **delays})
        scope.cancel()

    async def _receive(self, node: Node) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        _tell({"id": node.id.hex(), "credit": listener.socket.getsockname()[1]})
        credit, found, quarter = await listener.accept(), False, self._quarter
        async for message in node:
            now = time.monotonic_ns()
            if message.data == _FIRST:
                if not found:
                    await credit.send_all(b"r")
                found = True
            elif isinstance(message.data, bytes) and len(message.data) == self._size:
                self._count += 1
                if self._rate:
                    self._delays.append((now - int.from_bytes(message.data[:_STAMP], "big")) / 1000)
                if self._count % quarter == 0:
                    await credit.send_all(b"c")

    async def _send(self, node: Node, to: NodeId) -> None:
        credit = await trio.open_tcp_stream("127.0.0.1", self._credit)
        credits = b""
        while not credits:
            await node.send(to, _FIRST)
            with trio.move_on_after(_ASK_AGAIN):
                credits = await credit.receive_some(_READ_SIZE)
        _tell({"ready": True})
        if self._rate:
            await self._pace(node, to)
        else:
            await self._fill(node, to, credit, len(credits) - 1)
        await trio.sleep_forever()

    async def _pace(self, node: Node, to: NodeId) -> None:
        start, rest = trio.current_time(), os.urandom(self._size - _STAMP)
        while True:
            await trio.sleep_until(start + self._count / self._rate)
            if self._stopped:
                return
            self._count += 1
            await node.send(to, time.monotonic_ns().to_bytes(_STAMP, "big") + rest)

    async def _fill(self, node: Node, to: NodeId, credit: trio.SocketStream, quarters: int) -> None:
        """Sends whatever the window allows; the receiver has given credit for so many `quarters` of it."""
        payload, credited = os.urandom(self._size), quarters * self._quarter
        while not self._stopped:
            if self._count - credited > self._window - self._quarter:
                credited += len(await credit.receive_some(_READ_SIZE)) * self._quarter
                continue
            self._count += self._quarter
            for _ in range(self._quarter):
                await node.send(to, payload)


def _tell(about: dict[str, object]) -> None:
    print(json.dumps(about), flush=True)


def main() -> None:
    """Runs one end."""
    trio.run(_End(json.loads(sys.argv[1])).run)


if __name__ == "__main__":
    main()
