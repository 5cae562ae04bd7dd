"""Requests and their replies: many at once over one node, each with its own deadline."""

from __future__ import annotations

import itertools
from typing import Any

import trio

import trio_relay


class Client:
    """Sends requests and hands each reply to whoever waits for it.

    `run` has to run, in a task of its own: it takes every message of the node.
    """

    def __init__(self, node: trio_relay.Node) -> None:
        self._node = node
        self._numbers = itertools.count()
        self._waiting: dict[tuple[bytes, int], trio.MemorySendChannel[Any]] = {}

    async def run(self) -> None:
        """Takes replies until the node is closed; what nobody waits for is ignored."""
        async for message in self._node:
            match message.data:
                case {"reply": int(number), "result": result}:
                    waiting = self._waiting.pop((message.sender, number), None)
                    if waiting is not None:
                        waiting.send_nowait(result)

    async def ask(self, to: trio_relay.NodeId, question: Any, timeout: float = 10) -> Any:
        """The answer of another peer.

        Raises:
            trio_relay.DeliveryError: the question was not confirmed.
            trio.TooSlowError: it was, and no answer came in time.
        """
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[Any](1)
        self._waiting[to, number] = send
        try:
            with trio.fail_after(timeout):
                await self._node.deliver(to, {"request": number, "question": question}, timeout)
                return await receive.receive()
        finally:
            self._waiting.pop((to, number), None)


async def answer(node: trio_relay.Node) -> None:
    """Serves: doubles every number that is asked about."""
    async for message in node:
        match message.data:
            case {"request": int(number), "question": int(question)}:
                await node.send(message.sender, {"reply": number, "result": 2 * question})


async def main() -> None:
    async with (
        trio_relay.open_node() as relay,
        trio_relay.open_node(listen=None, bootstrap=relay.urls) as server,
        trio_relay.open_node(listen=None, bootstrap=relay.urls) as node,
        trio.open_nursery() as nursery,
    ):
        client = Client(node)
        nursery.start_soon(answer, server)
        nursery.start_soon(client.run)
        await node.wait_linked()
        await server.wait_linked()
        print("twice 21 is", await client.ask(server.id, 21))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
