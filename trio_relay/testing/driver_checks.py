"""What every driver of a room promises, as checks for whoever writes one.

```python
@asynccontextmanager
async def make():
    yield MyDriver(...), MyDriver(...)  # two that reach the same broker, not opened


@pytest.mark.parametrize("check", DRIVER_CHECKS)
async def test_my_driver(check):
    await check(make)
```
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

import trio

from ..exceptions import DriverError
from ..peerix.drivers.driver import MAX_PACKET, Driver, DriverActive
from .checking import expect, raises, soon
from .conformance import named

__all__ = ["DRIVER_CHECKS", "DriverCheck", "MakeDrivers", "check_driver"]

MakeDrivers: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Driver, Driver]]]
"""Yields two drivers that are not open, and reach the same broker; they may be one and the same."""
DriverCheck: TypeAlias = Callable[[MakeDrivers], Awaitable[None]]

_QUIET: Final = 0.3
"""Seconds in which nothing comes, where nothing may."""
_LARGE: Final = 20_000
"""Bytes of a packet with a large session description."""


class _Ear:
    """What has come for one namespace."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1024)

    def take(self, packet: bytes) -> None:
        self._send.send_nowait(packet)

    async def next(self, what: str) -> bytes:
        async with soon(what):
            return await self._receive.receive()
        raise AssertionError("unreachable")

    async def expect_nothing(self, what: str) -> None:
        with trio.move_on_after(_QUIET):
            packet = await self._receive.receive()
            raise AssertionError(f"expected nothing {what}, got {packet[:32]!r}")


@asynccontextmanager
async def _opened(make: MakeDrivers) -> AsyncIterator[tuple[Driver, Driver]]:
    async with make() as (one, other), one.use():
        if other is one:
            yield one, one
            return
        async with other.use():
            yield one, other


async def packets_arrive_as_they_were(make: MakeDrivers) -> None:
    """Every byte, small and large, in the order in which they were published."""
    async with _opened(make) as (one, other):
        ear = _Ear()
        async with soon("a confirmed subscription"):
            await other.subscribe("name", ear.take)
            await one.wait_active()
        packets = [b"x", bytes(range(256)), b"", bytes(_LARGE), b"\r\n\0{}'\""]
        for packet in packets:
            await one.publish("name", packet)
        for number, packet in enumerate(packets):
            got = await ear.next(f"packet {number + 1}")
            expect(got == packet, f"the {len(packet)} bytes of packet {number + 1}", got)


async def each_namespace_is_by_itself(make: MakeDrivers) -> None:
    """A handler gets what is published for its namespace, and nothing else."""
    async with _opened(make) as (one, other):
        first, second = _Ear(), _Ear()
        await other.subscribe("first", first.take)
        await other.subscribe("second", second.take)
        await one.wait_active()
        await one.publish("second", b"2")
        expect(await second.next("a packet") == b"2", "what was published", "something else")
        await first.expect_nothing("of another namespace")


async def several_handlers_share_a_namespace(make: MakeDrivers) -> None:
    """All of them are called; without one, the others still are; without all, nobody is."""
    async with _opened(make) as (one, other):
        ears = [_Ear(), _Ear()]
        for ear in ears:
            await other.subscribe("name", ear.take)
        await one.wait_active()
        await one.publish("name", b"1")
        for ear in ears:
            await ear.next("a packet for each handler")
        await other.unsubscribe("name", ears[0].take)
        await one.publish("name", b"2")
        await ears[1].next("a packet for the handler that is left")
        await ears[0].expect_nothing("after its unsubscription")
        await other.unsubscribe("name", ears[1].take)
        await one.publish("name", b"3")
        await ears[1].expect_nothing("after the last unsubscription")


async def a_subscription_can_be_made_again(make: MakeDrivers) -> None:
    """After an unsubscription, for the same namespace."""
    async with _opened(make) as (one, other):
        ear = _Ear()
        for number in range(3):
            await other.subscribe("name", ear.take)
            await one.wait_active()
            await one.publish("name", b"%d" % number)
            await ear.next("a packet after each subscription")
            await other.unsubscribe("name", ear.take)


async def what_is_too_large_is_refused(make: MakeDrivers) -> None:
    """A packet of more than `MAX_PACKET` bytes, and a namespace that is none."""
    async with _opened(make) as (one, _):
        await one.wait_active()
        async with raises("a packet that is too large", ValueError):
            await one.publish("name", bytes(MAX_PACKET + 1))
        async with raises("an empty namespace", ValueError):
            await one.publish("", b"x")


async def it_is_active_only_while_it_is_open(make: MakeDrivers) -> None:
    """It says when it is, refuses to publish when it is not, and can be opened again."""
    async with make() as (driver, _):
        async with raises("publishing over a driver that is not open", DriverError):
            await driver.publish("name", b"x")
        for _ in range(2):
            async with driver.events() as events, driver.use(), soon("an active driver"):
                await driver.wait_active()
                expect(isinstance(await anext(events), DriverActive), "an event that says so", "another one")
            expect(not driver.active, "an inactive driver after its block", driver)


DRIVER_CHECKS: Final[tuple[DriverCheck, ...]] = tuple(
    named(check)
    for check in (
        packets_arrive_as_they_were,
        each_namespace_is_by_itself,
        several_handlers_share_a_namespace,
        a_subscription_can_be_made_again,
        what_is_too_large_is_refused,
        it_is_active_only_while_it_is_open,
    )
)
"""What `Driver` promises; each takes a `MakeDrivers`."""


async def check_driver(make: MakeDrivers) -> None:
    """Every one of `DRIVER_CHECKS`, one after another."""
    for check in DRIVER_CHECKS:
        await check(make)
