"""Rooms' packets through the relays of the overlay."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.node.support import open_town, url
from trio_relay import Node, open_node
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import DriverActive, DriverInactive
from trio_relay.peerix.drivers.overlay import RelayDriver
from trio_relay.testing import MemoryNetwork


async def test_packets_come_to_every_handler_also_to_those_of_the_publisher(autojump_clock: MockClock) -> None:
    async with open_town(2, 2) as net:
        alice, bob = net.leaves
        got: list[tuple[str, bytes]] = []
        async with RelayDriver(alice) as at_alice, RelayDriver(bob) as at_bob:
            with trio.fail_after(5):
                await at_alice.wait_active()
                await at_bob.wait_active()

            def first(packet: bytes) -> None:
                got.append(("first", packet))

            def second(packet: bytes) -> None:
                got.append(("second", packet))

            await at_alice.subscribe("room", first)
            await at_alice.subscribe("room", second)
            await at_bob.subscribe("id", lambda packet: got.append(("bob", packet)))
            await at_bob.publish("room", b"from bob")
            await at_alice.publish("room", b"from alice")
            await at_alice.publish("id", b"to bob")
            await trio.sleep(0.1)
            assert sorted(got) == [
                ("bob", b"to bob"),
                *(("first", b"from alice"), ("first", b"from bob")),
                *(("second", b"from alice"), ("second", b"from bob")),
            ]
            await at_alice.unsubscribe("room", first)
            assert alice.statistics().sizes["own_topics"] == 1
            await at_alice.unsubscribe("room", second)
            await trio.sleep(0.1)
            assert alice.statistics().sizes["own_topics"] == 0
            with pytest.raises(DriverError, match="57344"):
                await at_alice.publish("room", bytes(60_000))
            assert at_alice.counts == {"driver_unsent": 1}
        assert bob.statistics().sizes["own_topics"] == 0


async def test_it_is_active_while_the_node_is_linked(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node(None, [url("hub")], network=network) as leaf,
        RelayDriver(leaf, timeout=1.0) as driver,
        driver.events() as events,
    ):
        await wait_all_tasks_blocked()
        assert not driver.active
        assert driver.why_inactive == "the node is not linked with anybody"
        with pytest.raises(DriverError, match="inactive"):
            await driver.publish("room", b"")
        with pytest.raises(DriverError):
            await driver.subscribe("room", print)
        with trio.fail_after(100):
            async with open_node("hub", network=network):
                assert await anext(events) == DriverActive()
                await driver.subscribe("room", print)
                await driver.publish("room", b"hello")
            assert await anext(events) == DriverInactive("the node is not linked with anybody")


async def test_a_node_that_can_be_dialled_is_active_at_once_and_anew_when_it_is_linked(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    got: list[bytes] = []
    async with open_node("hub", network=network) as hub, RelayDriver(hub) as driver, driver.events() as events:
        await driver.subscribe("room", got.append)
        await driver.publish("room", b"alone")
        assert await anext(events) == DriverActive()
        async with open_node(None, [url("hub")], network=network) as leaf, RelayDriver(leaf) as other:
            assert isinstance(await anext(events), DriverInactive)
            assert await anext(events) == DriverActive()
            await other.wait_active()
            await other.publish("room", b"together")
        await trio.sleep(0.1)
        assert got == [b"alone", b"together"]
        assert driver.active


async def test_after_a_divided_network_healed_rooms_are_told_to_announce_themselves(autojump_clock: MockClock) -> None:
    """Both halves had relays of their own, so that nobody saw that anything was wrong."""
    async with open_town(2, 2) as net:
        alice, bob = net.leaves
        async with RelayDriver(alice) as at_alice, RelayDriver(bob) as at_bob:
            got, told = list[bytes](), list[float]()
            for driver in (at_alice, at_bob):
                await driver.wait_active()
                await driver.subscribe("room", got.append)
            net.network.partition(["relay-0", "host-1"], ["relay-1", "host-2"])
            await trio.sleep(90)
            async with at_alice.events() as alices, at_bob.events() as bobs:
                net.network.heal()
                with trio.fail_after(150):
                    for events in (alices, bobs):
                        assert await anext(events) == DriverInactive("other relays carry packets now")
                        assert await anext(events) == DriverActive()
                        told.append(trio.current_time())
                at_alice._moved.set()  # once more, and soon
                with trio.fail_after(100):
                    assert isinstance(await anext(alices), DriverInactive)
                assert trio.current_time() - told[0] > 59.0
            await at_alice.publish("room", b"here I am")
            await trio.sleep(1.0)
            assert got == [b"here I am"] * 2


async def test_a_node_that_closes_ends_what_the_driver_does(autojump_clock: MockClock) -> None:
    enough = trio.Event()

    async def run_node(*, task_status: trio.TaskStatus[Node]) -> None:
        async with open_node("hub", network=MemoryNetwork()) as node:
            task_status.started(node)
            await enough.wait()

    async with trio.open_nursery() as nursery:
        node = await nursery.start(run_node)
        async with RelayDriver(node) as driver, driver.events() as events:
            await driver.subscribe("room", print)
            assert await anext(events) == DriverActive()
            enough.set()
            assert await anext(events) == DriverInactive("the node was closed")
            with pytest.raises(DriverError, match="the node was closed"):
                await driver.publish("room", b"")
            with pytest.raises(DriverError, match="the node was closed"):
                await driver.subscribe("another", print)
