"""Confirmed messages from everybody to everybody, and what became of each."""

from __future__ import annotations

from collections import Counter

import trio

from trio_relay import DeliveryError, Node


class Traffic:
    """Every leaf delivers to every other, over and over; each message is received at most once."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.confirmed: set[tuple[int, int, int]] = set()
        self.uncertain: set[tuple[int, int, int]] = set()
        self.received: Counter[tuple[int, int, int]] = Counter()

    async def run(self, *, rounds: int, pause: float, timeout: float) -> None:
        async with trio.open_nursery() as receivers:
            for node in self.nodes:
                receivers.start_soon(self._receive, node)
            async with trio.open_nursery() as senders:
                for sender in range(len(self.nodes)):
                    for to in range(len(self.nodes)):
                        if to != sender:
                            senders.start_soon(self._send, sender, to, rounds, pause, timeout)
            receivers.cancel_scope.cancel()

    async def _send(self, sender: int, to: int, rounds: int, pause: float, timeout: float) -> None:
        for number in range(rounds):
            message = (sender, to, number)
            try:
                await self.nodes[sender].deliver(self.nodes[to].id, list(message), timeout=timeout)
                self.confirmed.add(message)
            except DeliveryError as error:
                assert error.outcome == "unknown" or message not in self.received
                self.uncertain.add(message)
            await trio.sleep(pause)

    async def _receive(self, node: Node) -> None:
        async for message in node:
            assert isinstance(message.data, list)
            sender, to, number = (int(str(item)) for item in message.data)
            assert (message.sender, node) == (self.nodes[sender].id, self.nodes[to])
            self.received[sender, to, number] += 1

    def check(self, *, failures: int = 0) -> None:
        assert self.confirmed <= set(self.received)
        assert max(self.received.values()) == 1
        assert len(self.uncertain) <= failures
