"""Who is told that a peer came or went: in which order, how often, and what it costs everybody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.serving.outbox import Outbox
from trio_relay.wsrelay import watching as watching_module
from trio_relay.wsrelay.addresses import Channel
from trio_relay.wsrelay.peer import LivePeer
from trio_relay.wsrelay.presence import Announcements
from trio_relay.wsrelay.registry import Registry
from trio_relay.wsrelay.watching import Watching

from .fakes import FakeConnection, connection_of, make_peer, make_rules, starting_in
from .support import ALICE, make_config, status

ADDRESSES: Final = ["pwa:a", "pwa:b", "pwa:c", "ext:a", "ext:b"]
MANY: Final = 33
"""One more watcher than are told at once."""


class World:
    """Peers that come, go and watch, as `RelayCore` lets them."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self.registry: Final = Registry()
        self.watching: Final = Watching(make_config(**options), self.registry, self.counts)
        self.rules: Final = make_rules(starting_in(nursery), self.counts, self.overflow)
        self.by_outbox: Final[dict[Outbox, LivePeer]] = {}
        nursery.start_soon(self.watching.run)

    def come(self, address: str, *, room: int = 1 << 40) -> LivePeer:
        peer = make_peer(address, FakeConnection(room=room), self.rules)
        replaced = self.registry.peers.get(address)
        if replaced is not None:
            self.registry.remove(replaced)
            replaced.registered = False
        self.registry.add(peer)
        peer.registered = True
        self.by_outbox[peer.outbox] = peer
        self.watching.announce(address, True)
        return peer

    def go(self, peer: LivePeer) -> None:
        peer.registered = False
        if self.registry.remove(peer):
            self.watching.announce(peer.address, False)

    def overflow(self, outbox: Outbox) -> None:
        peer = self.by_outbox[outbox]
        if peer.registered:
            self.go(peer)

    def watchers_of(self, address: str, number: int) -> list[LivePeer]:
        peers = [self.come(f"pwa:watcher{n:03}") for n in range(number)]
        for peer in peers:
            self.watching.watch(peer, address)
        return peers


def told(peer: LivePeer) -> list[bool]:
    return [frame["payload"]["online"] for frame in connection_of(peer).frames]


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery, **options)
        nursery.cancel_scope.cancel()


# Anything in any order


class Walk:
    """Keeps what each watch should be told: the answer, then states that came after it."""

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self.history: Final[dict[str, list[bool]]] = {address: [False] for address in ADDRESSES}
        self.replaced = 0
        # (watcher, address) -> where in its frames and in the address's history the watch began
        self.since: Final[dict[tuple[LivePeer, str], tuple[int, int]]] = {}

    def step(self, what: str, one: str, other: str) -> None:
        peers, watching = self.world.registry.peers, self.world.watching
        peer = peers.get(one)
        if what == "come":
            self.replaced += peer is not None
            if peer is not None:
                self.end_watches(peer)
            self.world.come(one)
            self.history[one].append(True)
        elif peer is not None and what == "go":
            self.end_watches(peer)
            self.world.go(peer)
            self.history[one].append(False)
        elif peer is not None and what == "watch" and one != other:
            self.check(peer, other)
            self.since[peer, other] = (len(connection_of(peer).wire), len(self.history[other]) - 1)
            watching.watch(peer, other)
        elif peer is not None and what == "unwatch" and one != other:
            self.check(peer, other)
            self.since.pop((peer, other), None)
            watching.unwatch(peer, other)

    def end_watches(self, peer: LivePeer) -> None:
        for address in ADDRESSES:
            self.check(peer, address)
            self.since.pop((peer, address), None)

    def check(self, watcher: LivePeer, address: str, *, idle: bool = False) -> None:
        if (watcher, address) not in self.since:
            return
        first, begun = self.since[watcher, address]
        frames = [f["payload"] for f in connection_of(watcher).frames[first:]]
        seen = [frame["online"] for frame in frames if frame["address"] == address]
        true = self.history[address][begun:]
        assert seen[0] == true[0], "the answer is not the state at that time"
        left = iter(true)
        assert all(state in left for state in seen), (seen, true)  # in this order
        if not self.replaced and not self.world.counts["presence_merged"]:
            assert all(old != new for old, new in pairwise(seen))
        if idle:
            assert seen[-1] == true[-1], (seen, true)

    def check_idle(self) -> None:
        for watcher, address in self.since:
            self.check(watcher, address, idle=True)
        assert self.world.registry.watches == len(self.since)
        frames = sum(len(connection_of(peer).wire) for peer in self.world.by_outbox.values())
        for peer in list(self.world.registry.peers.values()):
            self.world.go(peer)
        assert self.world.registry.watches == 0
        assert frames >= len(self.since)


steps = st.tuples(
    st.sampled_from(["come", "come", "go", "watch", "watch", "unwatch", "turn"]),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
)


@pytest.mark.parametrize("at_once", [1, 2])
def test_every_watcher_ends_with_the_truth_whatever_happened(at_once: int) -> None:
    @settings(max_examples=60)
    @given(st.lists(steps, max_size=60))
    def run(script: list[tuple[str, str, str]]) -> None:
        async def play() -> None:
            async with world() as here:
                walk = Walk(here)
                for what, one, other in script:
                    if what == "turn":
                        await trio.testing.wait_all_tasks_blocked() if one < other else await trio.lowlevel.checkpoint()
                    else:
                        walk.step(what, one, other)
                await trio.testing.wait_all_tasks_blocked()
                walk.check_idle()

        with patch.object(watching_module, "_AT_ONCE", at_once):
            trio.run(play)

    run()


# What went wrong once


async def test_a_change_does_not_overtake_one_that_waits_when_the_watchers_become_few() -> None:
    async with world() as here:
        watchers = here.watchers_of(ALICE, MANY)
        alice = here.come(ALICE)  # too many to be told at once
        here.go(watchers.pop())  # now few enough
        here.go(alice)
        await trio.testing.wait_all_tasks_blocked()
        assert all(told(watcher) == [False, True, False] for watcher in watchers)


async def test_watchers_that_drop_out_one_after_the_other_do_not_exhaust_the_stack() -> None:
    async with world() as here:
        chain = [here.come(f"pwa:chain{number:04}", room=0) for number in range(400)]
        for before, peer in zip([None, *chain], chain, strict=False):
            peer.outbox.send([b"x"], 1)
            peer.outbox.answer(*[b"{}"] * 1023)
            if before is not None:
                here.watching.watch(peer, before.address)  # whose answer is the last that fits
        here.go(chain[0])
        await trio.testing.wait_all_tasks_blocked()
        assert here.registry.peers == {}
        assert here.registry.watches == 0
        assert here.counts["control_full"] == 399


async def test_a_watch_of_a_peer_that_has_left_is_none() -> None:
    async with world() as here:
        peer = here.come(ALICE)
        here.go(peer)
        here.watching.watch(peer, "pwa:b")
        assert here.registry.watches == 0
        assert connection_of(peer).wire == []


async def test_a_watch_that_begins_while_others_are_told_is_told_only_what_comes_later() -> None:
    async with world() as here:
        early = here.watchers_of(ALICE, MANY)
        alice = here.come(ALICE)
        late = here.come("pwa:late-one")
        here.watching.watch(late, ALICE)
        await trio.testing.wait_all_tasks_blocked()
        assert told(late) == [True]
        here.watching.unwatch(early[0], ALICE)
        here.go(alice)
        here.watching.watch(early[2], ALICE)  # once more: what waits is older than the answer
        await trio.testing.wait_all_tasks_blocked()
        assert told(late) == [True, False]
        assert told(early[0]) == [False, True]
        assert told(early[1]) == told(early[2]) == [False, True, False]


@pytest.mark.parametrize(
    ("states", "left"),
    [
        ([True, False], [True, False]),
        ([True, False, True], [True]),
        ([False, True, False], [False]),
        ([False, True, True], [False, True]),  # replaced: that it had been away is still told
        ([True, True, False], [True, False]),
        ([True, True, True], [True]),
        ([False, True, False, True], [False, True]),
    ],
)
def test_of_what_waits_only_what_is_pointless_is_left_out(states: list[bool], left: list[bool]) -> None:
    announcements = Announcements(Counter())
    for state in states:
        announcements.add(announcements.make(ALICE, state))
    found = []
    while (announcement := announcements.take()) is not None:
        found.append(announcement)
    assert [announcement.online for announcement in found] == left
    assert found[-1].number == len(states)


# What it costs


async def test_many_watchers_are_told_in_turns_in_which_others_run() -> None:
    async with world() as here:
        watchers = here.watchers_of(ALICE, 10 * MANY)
        here.come(ALICE)
        most, before = 0, sum(len(connection_of(peer).wire) for peer in watchers)
        while before < 2 * len(watchers):
            await trio.lowlevel.checkpoint()
            now = sum(len(connection_of(peer).wire) for peer in watchers)
            most, before = max(most, now - before), now
        assert 0 < most <= 2 * 32  # at the most two of its turns in one of ours


async def test_a_flapping_peer_waits_in_two_announcements_at_most() -> None:
    async with world() as here:
        watchers = here.watchers_of(ALICE, MANY)
        for _ in range(1000):
            here.go(here.come(ALICE))
        await trio.testing.wait_all_tasks_blocked()
        assert {len(told(watcher)) for watcher in watchers} <= {2, 3}
        assert all(told(watcher)[-1] is False for watcher in watchers)
        assert here.counts["presence_merged"] > 900


async def test_one_peer_watches_a_bounded_number_of_addresses_of_bounded_length() -> None:
    async with world(max_watches=10) as here:
        peer = here.come(ALICE)
        for number in range(1000):
            here.watching.watch(peer, f"pwa:nobody{number:04}")
        here.watching.watch(peer, "pwa:" + "x" * 100_000)
        here.watching.watch(peer, "nowhere:nobody")
        assert here.registry.watches == 10
        assert here.counts["watches_full"] == 990
        frames = connection_of(peer).frames
        assert [frame["payload"].get("code") for frame in frames[10:1000]] == ["TOO_MANY_WATCHES"] * 990
        assert len(frames[1000]["payload"]["address"]) == 512
        assert frames[1001] == status("nowhere:nobody", False)
        here.watching.unwatch(peer, "pwa:nobody0003")
        here.watching.watch(peer, "pwa:nobody0999")
        assert connection_of(peer).frames[-1] == status("pwa:nobody0999", False)


async def test_who_may_not_watch_learns_nothing() -> None:
    channels = [Channel(name="pwa", watchable_by=["pwa"]), Channel(name="ext")]
    async with world(channels=channels) as here:
        alice, stranger = here.come(ALICE), here.come("ext:stranger")
        here.watching.watch(stranger, ALICE)
        here.go(alice)
        assert [frame["payload"].get("code") for frame in connection_of(stranger).frames] == ["WATCH_DENIED"]
        assert here.registry.watches == 0
