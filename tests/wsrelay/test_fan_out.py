"""One peer that comes and goes, and hundreds that watch it, on real sockets."""

from __future__ import annotations

import json
from itertools import pairwise

import trio

from .raw_client import TEXT, RawClient
from .support import ALICE, Relaying, eventually, relaying, routed, status, target_of, watch

WATCHERS = 300
FLAPS = 30
MARKER = "nowhere:marker"


async def states(watcher: RawClient) -> list[bool]:
    """What a watcher was told, to the answer to a last watch of its own."""
    await watcher.send(watch(MARKER))
    seen: list[bool] = []
    while True:
        opcode, payload = await watcher.frame()
        assert opcode == TEXT
        frame = json.loads(payload)
        if frame == status(MARKER, False):
            return seen
        assert frame == status(ALICE, frame["payload"]["online"])
        seen.append(frame["payload"]["online"])


async def come(running: Relaying) -> RawClient:
    """Alice, let in."""
    alice = await running.raw(target_of(ALICE))
    await alice.send(routed(ALICE, ALICE))
    await alice.frame()
    return alice


async def test_every_watcher_sees_a_consistent_sequence_that_ends_with_the_truth() -> None:
    async with relaying() as running:
        watchers = [await running.raw(f"/pwa/watcher{number:04}") for number in range(WATCHERS)]
        for watcher in watchers:
            await watcher.send(watch(ALICE))
        for _ in range(FLAPS):
            alice = await come(running)
            await alice.stream.aclose()
            while running.relay.registry.get_by_address(ALICE) is not None:
                await trio.lowlevel.checkpoint()
        await eventually(lambda: not running.relay._core.watching._busy, "everything is told")
        told = 0
        for watcher in watchers:
            seen = await states(watcher)
            told += len(seen)
            assert len(seen) >= 2
            assert seen[0] is seen[-1] is False
            assert all(old != new for old, new in pairwise(seen))
        # What was not told one by one was merged: two announcements of each watcher at a time.
        merged = await running.counts("presence_merged")
        assert told + 2 * merged * WATCHERS >= WATCHERS * (2 * FLAPS + 1)
        await come(running)
        await eventually(lambda: not running.relay._core.watching._busy, "everything is told")
        assert [await states(watcher) for watcher in watchers] == [[True]] * WATCHERS
        statistics = running.relay.statistics()
        assert statistics.watches == WATCHERS
        assert statistics.backlog == 0
        assert set(statistics.counts) <= {"presence_merged"}
