"""Unix time beside Trio's clock, on a machine that sleeps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from trio_relay.node import wall
from trio_relay.node.wall import WallClock

from .support import open_town


class Machine(SimpleNamespace):
    """Its two clocks; the second one stands still while it sleeps."""

    unix, awake = 1_800_000_000.0, 1000.0

    def time(self) -> float:
        return self.unix

    def monotonic(self) -> float:
        return self.awake


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(wall, "time", machine)
    return machine


async def test_sleep_is_noticed_and_small_corrections_are_not(machine: Machine, autojump_clock: MockClock) -> None:
    clock = WallClock()
    first = clock.offset
    assert first + trio.current_time() == machine.unix
    machine.unix, machine.awake = machine.unix + 50.5, machine.awake + 50.0
    assert not clock.look()
    assert clock.offset == first
    machine.unix += 3600.0
    assert clock.look()
    assert clock.offset == first + 3600.5
    assert not clock.look()


async def test_nodes_whose_machine_slept_hear_each_other(machine: Machine, autojump_clock: MockClock) -> None:
    async with open_town(2, 2) as net:
        alice, bob = net.leaves
        async with alice.subscribe("room") as subscription:
            machine.unix += 7200.0
            await trio.sleep(15.0)  # so often the nodes look at the clock
            await bob.publish("room", b"good morning")
            with trio.fail_after(5):
                assert (await anext(aiter(subscription))).data == b"good morning"
        for node in net.nodes:
            assert (await alice.lookup(node.id)).expiry > machine.unix
