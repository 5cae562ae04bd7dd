"""Clients that are gone without a word: when they are noticed, who is taken for one and who not, and what it costs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_relay.wsrelay import Hooks
from trio_relay.wsrelay.heartbeat import Heartbeat
from trio_relay.wsrelay.peer import LivePeer

from .fakes import FakeConnection, connection_of, make_peer, make_rules, never_started, starting_in
from .raw_client import PING, client_frame
from .support import ALICE, make_config, relaying

INTERVAL = 30.0


class Steps(trio.abc.Instrument):
    """How often one task has run."""

    def __init__(self) -> None:
        self.number = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.number += task.name.endswith("Heartbeat.run")


class Watch:
    """A running heartbeat."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.counts: Counter[str] = Counter()
        self.heartbeat = Heartbeat(make_config(heartbeat_interval=INTERVAL), self.counts)
        self.steps = Steps()
        self.nursery = nursery

    def add(self, *, room: int = 1 << 40, direct: bool = True) -> LivePeer:
        rules = make_rules(never_started if direct else starting_in(self.nursery), self.counts)
        peer = make_peer(ALICE, FakeConnection(room=room, direct=direct), rules)
        self.heartbeat.add(peer)
        return peer


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    async with trio.open_nursery() as nursery:
        watch = Watch(nursery)
        trio.lowlevel.add_instrument(watch.steps)
        nursery.start_soon(watch.heartbeat.run)
        try:
            yield watch
        finally:
            trio.lowlevel.remove_instrument(watch.steps)
            nursery.cancel_scope.cancel()


async def test_who_falls_silent_is_noticed_after_one_to_two_intervals(autojump_clock: trio.testing.MockClock) -> None:
    rng = random.Random(1)
    noticed = []

    async def live(watch: Watch, begin: float, life: float) -> None:
        await trio.sleep(begin)
        peer = watch.add()
        end = trio.current_time() + life
        while trio.current_time() + 1.0 < end:
            await trio.sleep(1.0)
            connection_of(peer).heard = True
        last = trio.current_time()
        while not connection_of(peer).closed:
            await trio.sleep(0.25)
        noticed.append(trio.current_time() - last)

    async with watching() as watch, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(live, watch, rng.uniform(0, 40), rng.choice([0.0, rng.uniform(0, 100)]))
    assert min(noticed) >= INTERVAL - 0.25
    assert max(noticed) <= 2 * INTERVAL + 0.5
    assert max(noticed) - min(noticed) > INTERVAL / 2  # the pings are spread
    assert watch.counts == {"heartbeat_lost": 50}


@pytest.mark.parametrize("direct", [True, False])
async def test_who_answers_is_pinged_once_in_an_interval_and_stays(
    direct: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with watching() as watch:
        peer = watch.add(direct=direct)
        await trio.sleep(1)
        for _ in range(100):
            await trio.sleep(INTERVAL)
            connection_of(peer).heard = True
        assert connection_of(peer).pings == 100
        assert not connection_of(peer).closed
    assert watch.counts == {}


async def test_of_a_peer_that_the_relay_does_not_read_from_no_answer_is_expected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with watching() as watch:
        peer = watch.add()
        peer.paused = True
        await trio.sleep(10 * INTERVAL)
        assert not connection_of(peer).closed
        peer.paused = False
        await trio.sleep(2 * INTERVAL)
        assert connection_of(peer).closed


async def test_peers_come_and_go_at_any_time(autojump_clock: trio.testing.MockClock) -> None:
    rng = random.Random(2)
    async with watching() as watch:
        peers = [watch.add() for _ in range(20)]
        removed: list[tuple[LivePeer, int]] = []
        for _ in range(2000):
            await trio.sleep(rng.choice([0.0, 0.001, 0.5, 3.0, 0.9 * INTERVAL]))
            for peer in peers:
                connection_of(peer).heard = True
            if rng.random() < 0.5:
                peers.append(watch.add())
            else:
                for _ in range(rng.choice([1, 1, len(peers)])):
                    if peers:
                        gone = peers.pop(rng.randrange(len(peers)))
                        watch.heartbeat.remove(gone)
                        watch.heartbeat.remove(gone)
                        removed.append((gone, connection_of(gone).pings))
        assert all(not connection_of(peer).closed for peer in peers)
        assert all(connection_of(peer).pings == pings for peer, pings in removed)
        assert watch.counts == {}


async def test_it_sleeps_when_there_is_nothing_to_do(autojump_clock: trio.testing.MockClock) -> None:
    async with watching() as watch:
        await trio.sleep(100 * INTERVAL)
        assert watch.steps.number <= 2  # nobody there: not once
        peers = [watch.add() for _ in range(10)]
        for number in range(100):
            await trio.sleep(INTERVAL)
            if number == 50:
                for peer in peers[1:]:
                    watch.heartbeat.remove(peer)
            connection_of(peers[0]).heard = True
            for peer in peers[1:]:
                connection_of(peer).heard = True
        assert watch.steps.number <= 5 * 100 + 10


async def test_two_thousand_peers_that_came_at_once_are_pinged_in_turns(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with watching() as watch:
        peers = [watch.add() for _ in range(2_000)]
        await trio.sleep(INTERVAL - 1)
        done = most = 0
        autojump_clock.jump(1.0)
        for _ in range(len(peers) // 64 + 10):
            await trio.lowlevel.checkpoint()
            now = sum(connection_of(peer).pings for peer in peers)
            most, done = max(most, now - done), now
        assert most <= 2 * 64
        assert done == len(peers)


async def test_a_shorter_interval_counts_for_those_who_are_there_and_those_who_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with watching() as watch:
        watch.heartbeat.configure(make_config(heartbeat_interval=3600))
        await trio.sleep(1)
        old = watch.add()
        await trio.sleep(1)
        watch.heartbeat.configure(make_config(heartbeat_interval=5))
        new = watch.add()
        await trio.sleep(11)
        assert connection_of(new).closed
        assert connection_of(old).closed


# The same as the relay uses it


async def test_a_slow_hook_of_a_new_peer_is_not_taken_for_its_silence(autojump_clock: trio.testing.MockClock) -> None:
    async def on_peer_connect(peer: object, registry: object) -> None:
        await trio.sleep(9)

    async with relaying(memory=True, heartbeat_interval=2.0, hooks=Hooks(on_peer_connect=on_peer_connect)) as running:
        alice = await running.connect(ALICE)
        await trio.sleep(8.5)
        assert await alice.settle() == []
        assert await running.counts("heartbeat_lost") == 0


async def test_a_client_that_answers_nothing_is_dropped_and_any_frame_is_an_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with relaying(memory=True, heartbeat_interval=5.0) as running:
        silent, talking = await running.raw("/pwa/silent-one"), await running.raw("/pwa/talking-one")
        for _ in range(20):
            await trio.sleep(3)
            await talking.send(client_frame(b"x", PING))
        assert [peer.id for peer in running.relay.registry] == ["talking-one"]
        assert await running.counts("heartbeat_lost") == 1
        assert (await silent.end())[1] == 1006
