"""The broker inside the program."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.memory import _MAX_WAITING, MemoryDriver, default_memory_driver

Clock = trio.testing.MockClock


async def test_all_who_hold_it_hear_each_other_and_themselves(autojump_clock: Clock) -> None:
    driver = MemoryDriver()
    rooms: list[list[bytes]] = [[], []]
    async with driver.use(), driver.use():
        for room in rooms:
            await driver.subscribe("room", room.append)
        await driver.publish("room", b"1")
        await driver.publish("room", b"2")
        await driver.publish("empty", b"3")
        await trio.testing.wait_all_tasks_blocked()
    assert rooms == [[b"1", b"2"]] * 2
    assert not driver.counts


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 1.5), (0.5, 2.0), (1.0, 2.5)])
async def test_packets_take_75_to_125_percent_of_the_delay(autojump_clock: Clock, chance: float, delay: float) -> None:
    driver = MemoryDriver(2.0, random=lambda: chance)
    arrivals: list[tuple[float, bytes]] = []
    assert driver.delay == delay
    async with driver:
        await driver.subscribe("room", lambda packet: arrivals.append((trio.current_time(), packet)))
        began = trio.current_time()
        await driver.publish("room", b"1")
        assert trio.current_time() == began
        await trio.sleep(0.25)
        await driver.publish("room", b"2")
        await trio.sleep(10)
    assert arrivals == [(began + delay, b"1"), (began + delay + 0.25, b"2")]


async def test_it_is_there_until_the_last_user_leaves(autojump_clock: Clock) -> None:
    driver = MemoryDriver(1.0)
    packets: list[bytes] = []
    first_gone = trio.Event()

    async def first(*, task_status: trio.TaskStatus[None]) -> None:
        async with driver:
            task_status.started()
            await trio.sleep(0.5)
        first_gone.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(first)
        async with driver.use():
            await driver.subscribe("room", packets.append)
            await driver.publish("room", b"1")
            await first_gone.wait()
            assert driver.why_inactive == ""
            await trio.sleep(2)
            assert packets == [b"1"]
            await driver.publish("room", b"2")
    assert not driver.active
    assert driver.counts["driver_unsent"] == 1
    with pytest.raises(DriverError, match="nobody uses"):
        await driver.publish("room", b"3")
    async with driver:
        assert driver.namespaces == ()
        await trio.sleep(2)
    assert packets == [b"1"]


async def test_packets_on_their_way_are_bounded(autojump_clock: Clock) -> None:
    driver = MemoryDriver(1.0)
    async with driver:
        for _ in range(_MAX_WAITING):
            await driver.publish("room", b"")
        with pytest.raises(DriverError, match="on their way"):
            await driver.publish("room", b"")
    assert driver.counts["driver_overflow"] == 1


async def test_an_unsubscribed_handler_is_left_alone(autojump_clock: Clock) -> None:
    driver = MemoryDriver(1.0)
    packets: list[bytes] = []
    async with driver:
        await driver.subscribe("room", packets.append)
        await driver.publish("room", b"1")
        await driver.unsubscribe("room", packets.append)
        await trio.sleep(2)
    assert packets == []


@pytest.mark.parametrize("delay", [-1.0, float("inf"), float("nan")])
def test_a_delay_that_can_not_be_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="expected a delay"):
        MemoryDriver(delay)


def test_each_run_has_a_default_of_its_own() -> None:
    async def main() -> MemoryDriver:
        await trio.lowlevel.checkpoint()
        assert default_memory_driver() is default_memory_driver()
        return default_memory_driver()

    assert trio.run(main) is not trio.run(main)
    with pytest.raises(RuntimeError):
        default_memory_driver()
