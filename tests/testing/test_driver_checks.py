"""The checks that writers of drivers get: ours in memory passes them, broken ones do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from trio_relay.peerix.drivers.driver import Driver, Handler
from trio_relay.peerix.drivers.memory import MemoryDriver
from trio_relay.testing import DRIVER_CHECKS, DriverCheck, check_driver


class Deaf(MemoryDriver):
    def deliver_own(self, namespace: str, packet: bytes) -> None:
        pass


class Cutting(MemoryDriver):
    def deliver_own(self, namespace: str, packet: bytes) -> None:
        super().deliver_own(namespace, packet[:1000])


class Clinging(MemoryDriver):
    async def unsubscribe(self, namespace: str, handler: Handler) -> None:
        pass


class Mixing(MemoryDriver):
    async def publish(self, namespace: str, packet: bytes) -> None:
        await super().publish(namespace, packet)
        for other in self.namespaces:
            if other != namespace:
                super().deliver_own(other, packet)


class Reckless(MemoryDriver):
    async def publish(self, namespace: str, packet: bytes) -> None:
        if self.active and namespace:
            self.deliver_own(namespace, packet)


@pytest.mark.parametrize("check", DRIVER_CHECKS)
async def test_a_driver_that_keeps_its_promises(check: DriverCheck, autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Driver, Driver]]:
        driver = MemoryDriver()
        yield driver, driver

    await check(make)


@pytest.mark.parametrize("kind", [Deaf, Cutting, Clinging, Mixing, Reckless])
async def test_a_driver_that_does_not(kind: type[MemoryDriver], autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Driver, Driver]]:
        driver = kind()
        yield driver, driver

    with pytest.raises(AssertionError, match="expected"):
        await check_driver(make)
