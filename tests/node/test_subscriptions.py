"""Topics: what the application sees of them, over the memory network and over sockets."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import pytest
import trio
from trio.testing import MockClock

from trio_relay import Limits, Node, PayloadTooLarge, Publication, Subscription, TopicUnavailable, open_node
from trio_relay.overlay import rendezvous_publishing
from trio_relay.testing import MemoryNetwork
from trio_relay.wire.ids import distance
from trio_relay.wire.rendezvous import MAX_DATA, topic_key

from .support import QUICK, count, open_town, relays_of, until, url


async def next_of(subscription: Subscription) -> Publication:
    with trio.fail_after(30):
        return await anext(aiter(subscription))


async def test_leaves_and_relays_subscribe_and_publish(autojump_clock: MockClock) -> None:
    async with open_town(4, 2) as net:
        alice, bob = net.leaves
        relay = net.relays[2]
        async with alice.subscribe("room") as at_alice, relay.subscribe("room") as at_relay:
            for node in (bob, relay, alice):
                await node.publish("room", b"from %s" % node.id.hex().encode())
                expected = Publication("room", b"from %s" % node.id.hex().encode(), node.id)
                assert await next_of(at_alice) == await next_of(at_relay) == expected
            keepers = [node for node in net.relays if node.statistics().sizes["topics"]]
            closest = sorted(net.relays, key=lambda node: distance(node.id, topic_key("room")))[:3]
            assert {node.id for node in keepers} == {node.id for node in closest}
        await until(lambda: not any(node.statistics().sizes["topics"] for node in net.relays))
        await bob.publish("room", b"to nobody")


async def test_subscriptions_of_one_node_to_one_topic_share_what_relays_keep(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as net:
        alice, bob = net.leaves
        (relay,) = net.relays
        async with alice.subscribe("room") as first:
            async with alice.subscribe("room") as second:
                assert relay.statistics().sizes["topic_subscriptions"] == 1
                await bob.publish("room", b"both")
                assert await next_of(first) == await next_of(second)
            with pytest.raises(StopAsyncIteration):
                await anext(aiter(second))
            await bob.publish("room", b"one")
            assert (await next_of(first)).data == b"one"
            assert relay.statistics().sizes["topic_subscriptions"] == 1


async def test_the_block_ends_the_subscription_also_when_it_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as net:
        with trio.move_on_after(1.0) as scope:
            async with net.leaves[0].subscribe("room") as subscription:
                async for _ in subscription:
                    raise AssertionError("nothing was published")
        assert scope.cancelled_caught
        assert net.leaves[0].statistics().sizes["own_topics"] == 0
        await until(lambda: net.relays[0].statistics().sizes["topics"] == 0)


async def test_a_subscriber_that_does_not_read_loses_the_newest(autojump_clock: MockClock) -> None:
    async with open_town(1, 2, limits=Limits(subscription_messages=3)) as net:
        alice, bob = net.leaves
        async with alice.subscribe("room") as subscription:
            for number in range(5):
                await bob.publish("room", b"%d" % number)
            await until(lambda: subscription.lost == 2)
            assert [(await next_of(subscription)).data for _ in range(3)] == [b"0", b"1", b"2"]
            await bob.publish("room", b"5")
            assert (await next_of(subscription)).data == b"5"
            assert count(alice, "subscription_full") == 2


async def test_one_publisher_has_half_of_the_buffer(autojump_clock: MockClock) -> None:
    async with open_town(1, 2, limits=Limits(subscription_bytes=10_000)) as net:
        alice, bob = net.leaves
        async with alice.subscribe("room") as subscription:
            for number in range(10):
                await bob.publish("room", bytes(744) + b"%d" % number)
            await until(lambda: subscription.lost == 6)
            await alice.publish("room", b"still room")
            got = [await next_of(subscription) for _ in range(5)]
            assert [item.publisher for item in got] == [bob.id] * 4 + [alice.id]


async def test_without_relays_it_is_said_so(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        started = trio.current_time()
        with pytest.raises(TopicUnavailable, match="'room': none answered"):
            async with node.subscribe("room", timeout=3):
                raise AssertionError("nobody keeps it")
        with pytest.raises(TopicUnavailable, match="no relay") as caught:
            await node.publish("room", b"", timeout=3)
        assert caught.value.outcome == "not_delivered"
        assert trio.current_time() - started == pytest.approx(6)
        assert node.statistics().sizes["own_topics"] == node.statistics().sizes["publishing"] == 0


async def test_a_node_that_others_may_dial_is_a_network_of_its_own(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network) as hub, hub.subscribe("room") as subscription:
        await hub.publish("room", b"alone")
        assert (await next_of(subscription)).data == b"alone"
        async with open_node(None, [url("hub")], network=network) as leaf:
            await leaf.publish("room", b"not alone")
            assert await next_of(subscription) == Publication("room", b"not alone", leaf.id)


async def test_arguments_are_checked(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as net:
        (alice,) = net.leaves
        with pytest.raises(PayloadTooLarge):
            await alice.publish("room", bytes(MAX_DATA + 1))
        with pytest.raises(TypeError):
            await alice.publish("room", "text")  # type: ignore[arg-type]
        async with alice.subscribe("largest") as subscription:
            await alice.publish("largest", bytes(MAX_DATA))
            assert (await next_of(subscription)).data == bytes(MAX_DATA)


async def test_a_node_that_closes_ends_subscriptions_and_publishing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network), trio.open_nursery() as nursery:
        ended = trio.Event()

        async def read(node: Node, *, task_status: trio.TaskStatus[None]) -> None:
            async with node.subscribe("room") as subscription:
                task_status.started()
                got = [item.data async for item in subscription]
                assert got == [b"last"]
                ended.set()

        async with open_node(None, [url("hub")], network=network) as node:
            await nursery.start(read, node)
            await node.publish("room", b"last")
        with trio.fail_after(5):
            await ended.wait()
        with pytest.raises(trio.ClosedResourceError):
            await node.publish("room", b"")
        with pytest.raises(trio.ClosedResourceError):
            async with node.subscribe("room"):
                raise AssertionError("the node is closed")


async def test_more_publications_than_may_be_under_way_wait(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous_publishing, "_UNTAKEN", 20)
    async with open_town(1, 2) as net:
        alice, bob = net.leaves
        async with alice.subscribe("room") as subscription, trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(bob.publish, "room", b"%d" % number)
            got = {(await next_of(subscription)).data for _ in range(60)}
            assert got == {b"%d" % number for number in range(60)}


async def test_who_waits_for_other_relays_is_told_of_them_and_of_the_end(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("hub", network=network),
        open_node(None, [url("hub")], network=network) as node,
        trio.open_nursery() as nursery,
    ):
        moved, ended = list[float](), trio.Event()

        async def wait(subscription: Subscription) -> None:
            with suppress(trio.ClosedResourceError):
                while True:
                    await subscription.wait_moved()
                    moved.append(trio.current_time())
            ended.set()

        async with node.subscribe("room") as subscription:
            nursery.start_soon(wait, subscription)
            await trio.sleep(130.0)
            assert moved == []
            async with open_node("second", [url("hub")], network=network):
                await until(lambda: moved, seconds=70)
        with trio.fail_after(1):
            await ended.wait()
        with pytest.raises(trio.ClosedResourceError):
            await subscription.wait_moved()


async def test_one_relay_that_says_nothing_delays_a_subscription_by_a_second(autojump_clock: MockClock) -> None:
    async with open_town(3, 1) as net:
        net.network.partition(["relay-0"])
        started = trio.current_time()
        async with net.leaves[0].subscribe("room"):
            assert 0.9 < trio.current_time() - started < 1.1


async def test_over_sockets_with_a_relay_that_ends() -> None:
    async with (
        open_node(limits=QUICK) as one,
        open_node(bootstrap=one.urls, limits=QUICK) as two,
        open_node(None, one.urls, limits=QUICK) as alice,
        open_node(None, two.urls, limits=QUICK) as bob,
    ):
        await until(lambda: relays_of(alice) and relays_of(bob))
        async with AsyncExitStack() as stack:
            async with open_node(bootstrap=one.urls, limits=QUICK) as third:
                await until(lambda: relays_of(third) and relays_of(one) == 2)
                subscription = await stack.enter_async_context(alice.subscribe("room"))
                await until(lambda: third.statistics().sizes["topics"])
                await bob.publish("room", b"hello")
                assert await next_of(subscription) == Publication("room", b"hello", bob.id)
                await third.publish("room", bytes(20_000))
                assert (await next_of(subscription)).data == bytes(20_000)
            await bob.publish("room", b"after the third ended")
            assert (await next_of(subscription)).data == b"after the third ended"
