"""`open_testnet`, as programs use it in their tests."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_relay import Identity, LocalProtocolError, Message
from trio_relay.testing import MemoryNetwork, open_testnet


@pytest.mark.parametrize(("relays", "leaves"), [(1, 0), (1, 2), (2, 1), (12, 4)])
async def test_every_node_can_send_to_every_other(autojump_clock: MockClock, relays: int, leaves: int) -> None:
    async with open_testnet(relays, leaves) as net:
        assert [len(net.relays), len(net.leaves)] == [relays, leaves]
        assert len({node.id for node in net.nodes}) == relays + leaves
        for number, sender in enumerate(net.nodes):
            for receiver in net.nodes:
                await sender.deliver(receiver.id, number)
                assert await receiver.receive() == Message(number, sender.id, proven=True)
        assert all(node.statistics().relaying for node in net.relays if relays + leaves > 1)
        assert not any(node.statistics().relaying for node in net.leaves)


async def test_the_clock_may_be_the_real_one() -> None:
    async with open_testnet(3, leaves=2) as net:
        with trio.fail_after(5):
            receipt = await net.leaves[0].deliver(net.leaves[1].id, "hello")
        assert receipt.hops == 2


async def test_identities_network_and_options_are_the_callers(autojump_clock: MockClock) -> None:
    network, identities = MemoryNetwork(latency=0.01), [Identity.generate() for _ in range(3)]
    async with network, open_testnet(2, 1, network=network, identities=identities, sealed=False) as net:
        assert [node.id for node in net.nodes] == [identity.id for identity in identities]
        network.partition(["relay-0"], ["relay-1"])
        assert network is net.network
        with pytest.raises(LocalProtocolError):
            await net.leaves[0].send(net.relays[0].id, 1, sealed=True)


async def test_who_is_not_linked_in_time_is_an_error(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    network.partition(["relay-0"], ["relay-1"])
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery(strict_exception_groups=True), open_testnet(2, network=network, timeout=3):
            pytest.fail("expected a TooSlowError")
    assert caught.group_contains(trio.TooSlowError)


async def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="one relay at least, not 0"):
        async with open_testnet(0, 3):
            pytest.fail("expected a ValueError")
    with pytest.raises(ValueError, match="expected 3 identities, not 1"):
        async with open_testnet(2, 1, identities=[Identity.generate()]):
            pytest.fail("expected a ValueError")
