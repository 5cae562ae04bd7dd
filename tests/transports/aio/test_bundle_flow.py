"""The other side's receive window: what is sent keeps within it, and a closed one is tried now and then."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from trio_relay.transports.aio import bundle_flow
from trio_relay.transports.aio.bundle_flow import SendWindow


class Association:
    """As much of an association as matters here: chunks of 100 bytes."""

    state = "connected"

    def __init__(self) -> None:
        self._cwnd = 1000
        self._flight_size = 0
        self._outbound_queue: deque[int] = deque(range(30))
        self._sent_queue: deque[int] = deque()
        self.sent: list[int] = []

    async def _receive_chunk(self, chunk: Any) -> None:
        self._sent_queue.clear()
        self._flight_size = 0
        await self._transmit()

    async def _transmit(self) -> None:
        while self._outbound_queue and self._flight_size < self._cwnd:
            self._sent_queue.append(self._outbound_queue.popleft())
            self.sent.append(self._sent_queue[-1])
            self._flight_size += 100


async def acknowledge(association: Association, window: int) -> int:
    """Everything has arrived; returns how many chunks go out then."""
    before = len(association.sent)
    await association._receive_chunk(SimpleNamespace(advertised_rwnd=window))
    assert association._cwnd == 1000
    return len(association.sent) - before


async def keep_within() -> None:
    association: Any = Association()
    window = SendWindow(association)
    assert await acknowledge(association, 350) == 4
    assert await acknowledge(association, 5000) == 10
    assert await acknowledge(association, 0) == 0
    while len(association.sent) < 15:
        await asyncio.sleep(0.001)
    assert association._flight_size == 100
    assert await acknowledge(association, 0) == 0
    while len(association.sent) < 16:
        await asyncio.sleep(0.001)
    association._flight_size = 0  # it is lost: the timer of the association repeats it, and that is no new one
    await association._transmit()
    assert await acknowledge(association, 100_000) == 10
    window.stop()


def test_window_and_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_flow, "_FIRST_PROBE", 0.001)
    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(keep_within(), 5))
