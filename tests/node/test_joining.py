"""Finding relays and keeping them: bootstrap addresses, relays that go away and come back. On a mock clock."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from trio_relay import DeliveryError, Limits, LinkDown, LinkUp, Node, open_node
from trio_relay.testing import MemoryNetwork, Testnet
from trio_relay.transports.connection import Connection
from trio_relay.transports.routes import Request, Route

from .support import count, identity, open_town, relays_of, until, url
from .traffic import Traffic

pytestmark = pytest.mark.usefixtures("repeatable")


async def test_bootstrap_that_comes_up_late_is_found(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_relay")
    network = MemoryNetwork()
    async with open_node(None, [url("late")], network=network) as node:
        await trio.sleep(600)
        attempts = count(node, "handshakes_failed")
        # Doubling pauses up to a minute, jittered down to half of that.
        assert 10 <= attempts <= 30
        assert all(record.levelno == logging.DEBUG for record in caplog.records)
        assert "does not listen" in caplog.text
        async with open_node("late", network=network) as late:
            with trio.fail_after(61):
                await node.wait_linked()
            assert set(node.links) == {late.id}


async def test_bootstrap_is_tried_for_ever(autojump_clock: MockClock) -> None:
    async with open_node(None, [url("never")], network=MemoryNetwork()) as node:
        await trio.sleep(6 * 3600)
        attempts = count(node, "handshakes_failed")
        assert 6 * 60 <= attempts <= 6 * 120 + 10


async def test_own_address_as_bootstrap_is_noticed(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("me", [url("me")], network=network) as node:
        await trio.sleep(600)
        assert node.links == {}
        # Both ends of the one attempt are ours.
        assert count(node, "handshakes_failed") == 2
        async with open_node(None, [url("me")], network=network) as other:
            assert (await other.deliver(node.id, 1)).hops == 1


async def test_one_bootstrap_is_enough_to_learn_the_others(autojump_clock: MockClock) -> None:
    async with open_town(4, 0) as town, open_node(None, [url("relay-0")], network=town.network) as leaf:
        await until(lambda: relays_of(leaf) == 4, seconds=20)
        assert set(leaf.links) == {relay.id for relay in town.relays}


async def test_full_relay_names_others(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("full", network=network, limits=Limits(leaves=2)) as full,
        open_node("free", [url("full")], network=network) as free,
        open_node(None, [url("full")], network=network) as early,
    ):
        await until(lambda: relays_of(early) == 2 and relays_of(free) == 1, seconds=100)
        async with open_node(None, [url("full")], network=network) as second:
            await until(lambda: relays_of(second) == 2, seconds=100)
            async with open_node(None, [url("full")], network=network) as late:
                await until(lambda: relays_of(late) == 1, seconds=5)
                assert set(late.links) == {free.id}
                assert count(full, "full") >= 1
                assert (await late.deliver(early.id, 1)).hops == 2


async def test_relays_behind_one_bootstrap_find_each_other(autojump_clock: MockClock) -> None:
    async with open_town(1, 0) as town:
        network = town.network
        async with (
            open_node("b", [url("relay-0")], network=network) as b,
            open_node("c", [url("relay-0")], network=network) as c,
        ):
            await until(lambda: b.id in c.links and c.id in b.links, seconds=100)
            network.kill("relay-0")
            assert (await b.deliver(c.id, 1)).hops == 1


async def greet_as_an_original(connection: Connection, request: Request | None) -> None:
    await connection.send([b'{"type":"hello"}'], text=True)
    await connection.receive()


async def test_bootstrap_that_is_an_original_node_is_tried_seldom(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery, open_node(None, [url("old")], network=network) as node:
        routes = [Route("/", upgrade=greet_as_an_original)]
        await nursery.start(network.host("old").serve, "old", routes)
        await trio.sleep(600)
        assert 8 <= count(node, "legacy_refused") <= 30
        nursery.cancel_scope.cancel()


async def test_bootstrap_that_refuses_is_tried_seldom(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("refusing", admit=set(), network=network),
        open_node(None, [url("refusing")], network=network) as node,
    ):
        await trio.sleep(600)
        assert 10 <= count(node, "handshakes_failed") <= 30


class Relay:
    """A relay that can be taken away and brought back, with the same identity."""

    def __init__(self, network: MemoryNetwork, name: str, known: list[str]) -> None:
        self.network, self.name, self.known = network, name, known
        self.node: Node
        self._leave = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._leave:
            own = identity(self.name)
            async with open_node(self.name, self.known, identity=own, network=self.network) as self.node:
                task_status.started()
                await trio.sleep_forever()

    def leave(self) -> None:
        """Politely."""
        self._leave.cancel()

    def die(self) -> None:
        """With all its connections, and without a word."""
        self.network.partition([self.name])
        self._leave.cancel()


async def test_all_relays_go_and_one_comes_back(autojump_clock: MockClock) -> None:
    """The application sees events, not exceptions."""
    network = MemoryNetwork()
    first = Relay(network, "first", [])
    second = Relay(network, "second", [url("first")])
    async with trio.open_nursery() as nursery:
        await nursery.start(first.run)
        await nursery.start(second.run)
        urls = [url("first"), url("second")]
        async with (
            open_node(None, urls, network=network) as alice,
            open_node(None, urls, network=network) as bob,
            alice.events() as events,
        ):
            await until(lambda: relays_of(alice) == relays_of(bob) == 2)
            await alice.deliver(bob.id, "before")
            ids = {first.node.id, second.node.id}
            first.leave()
            second.leave()
            await until(lambda: not alice.links and not bob.links)
            await trio.sleep(8)
            await nursery.start(Relay(network, "second", []).run)
            assert (await alice.deliver(bob.id, "after", timeout=60)).hops == 2
            assert [(await bob.receive()).data for _ in range(2)] == ["before", "after"]
            seen = [await anext(events) for _ in range(5)]
            assert {type(event) for event in seen[:2]} == {LinkUp}
            assert set(seen[2:4]) == {LinkDown(node_id, "shutdown") for node_id in ids}
            assert isinstance(seen[4], LinkUp)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("silently", [False, True], ids=["says goodbye", "dies silently"])
async def test_any_relay_may_go_away_under_traffic(autojump_clock: MockClock, victim: int, silently: bool) -> None:
    network = MemoryNetwork(seed=victim, latency=0.01, jitter=0.01)
    async with network, trio.open_nursery() as nursery, AsyncExitStack() as stack:
        names = ["relay-0", "relay-1", "relay-2"]
        relays = [Relay(network, name, [url(other) for other in names if other != name]) for name in names]
        for relay in relays:
            await nursery.start(relay.run)
        leaves = [
            await stack.enter_async_context(open_node(None, [url(name) for name in names], network=network))
            for _ in range(3)
        ]
        await until(lambda: all(relays_of(leaf) == 3 for leaf in leaves), seconds=20)
        traffic = Traffic(leaves)
        async with trio.open_nursery() as work:
            work.start_soon(lambda: traffic.run(rounds=40, pause=0.1, timeout=15))
            await trio.sleep(2)
            if silently:
                relays[victim].die()
            else:
                relays[victim].leave()
        traffic.check()
        assert len(traffic.confirmed) == 6 * 40
        await until(lambda: all(relays_of(leaf) == 2 for leaf in leaves), seconds=60)
        nursery.cancel_scope.cancel()


FAULTS = {
    "loss": {"loss": 0.1, "latency": 0.01},
    "duplication": {"duplication": 0.3, "latency": 0.01},
    "reordering": {"reordering": 0.5, "latency": 0.01, "jitter": 0.05},
    "everything": {"loss": 0.1, "duplication": 0.1, "reordering": 0.3, "latency": 0.01, "jitter": 0.03},
}


async def wait_for_relays(town: Testnet, number: int) -> None:
    await until(lambda: all(relays_of(leaf) == number for leaf in town.leaves), seconds=120)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("faults", list(FAULTS))
async def test_confirmed_messages_survive_a_bad_network(autojump_clock: MockClock, faults: str, seed: int) -> None:
    async with MemoryNetwork(seed) as network, open_town(2, 3, network=network) as town:
        # Links come up on a good network: the handshake has no retries of its own but those of the dialler.
        network.faults = type(network.faults)(**FAULTS[faults])
        traffic = Traffic(town.leaves)
        await traffic.run(rounds=25, pause=0.05, timeout=60)
        traffic.check()
        assert len(traffic.confirmed) == 6 * 25
        if "duplication" in FAULTS[faults]:
            assert network.counts["duplicated"] > 10
            assert sum(count(leaf, "duplicates") for leaf in town.leaves) > 0
        if "loss" in FAULTS[faults]:
            assert network.counts["lost"] > 10
            assert sum(count(leaf, "retries") for leaf in town.leaves) > 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_nodes_join_over_a_network_that_loses_messages(autojump_clock: MockClock, seed: int) -> None:
    async with MemoryNetwork(seed, latency=0.02, loss=0.05) as network, AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(open_node(name, [url("a"), url("b")], network=network)) for name in "abcd"
        ]
        await until(lambda: all(relays_of(node) >= 2 for node in nodes), seconds=300)
        for node in nodes[1:]:
            await nodes[0].deliver(node.id, 1, timeout=60)


@pytest.mark.parametrize("seed", [1, 2])
async def test_divided_network_grows_together_again(autojump_clock: MockClock, seed: int) -> None:
    async with MemoryNetwork(seed, latency=0.01) as network, open_town(4, 2, network=network) as town:
        alice, bob = town.leaves
        network.partition(["relay-0", "relay-1", "host-1"], ["relay-2", "relay-3", "host-2"])
        with pytest.raises(DeliveryError) as caught:
            await alice.deliver(bob.id, "into the void", timeout=30)
        # They never had a session, so nothing has left.
        assert caught.value.outcome == "not_delivered"
        assert relays_of(alice) == relays_of(bob) == 2
        assert (await alice.deliver(town.relays[1].id, "on this side")).hops == 1
        assert network.counts["partitioned"] > 0
        network.heal()
        await wait_for_relays(town, 4)
        assert (await alice.deliver(bob.id, "again")).hops == 2
        assert [(await bob.receive()).data] == ["again"]
