"""Our own drivers at our own hub, by both doors, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
import pytest
import trio

from tests.peerix.hub.support import LIMITS
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import Driver
from trio_relay.peerix.drivers.socketio import SocketIoDriver
from trio_relay.peerix.drivers.sse import SseDriver
from trio_relay.peerix.hub import Hub, HubConfig, JwtConfig, serve_hub

SECRET: Final = "a secret of the hub, as long as it has to be"
PATIENCE: Final = 10.0
Drivers = Callable[[str, str], Driver]
BOTH: Final[list[Drivers]] = [
    lambda url, token: SseDriver(f"{url}/.well-known/mercure", token=token),
    lambda url, token: SocketIoDriver(url, prefix="peerix:", auth={"token": token}),
]


@asynccontextmanager
async def hub(listen: str = "127.0.0.1:0", **options: Any) -> AsyncIterator[Hub]:
    async with trio.open_nursery() as nursery:
        config = HubConfig(listen=listen, limits=LIMITS, retry=0.05, **options)
        running: Hub = await nursery.start(serve_hub, config)
        yield running
        await running.aclose()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not holds():
            await trio.sleep(0.005)


async def test_a_room_by_both_doors() -> None:
    async with hub(access_keys=["key-1"]) as served:
        heard: list[list[bytes]] = [[], []]
        sse, socketio = (make(served.urls[0], "key-1") for make in BOTH)
        async with sse, socketio:
            await sse.subscribe("room", heard[0].append)
            await socketio.subscribe("room", heard[1].append)
            await sse.publish("room", b"\x00\xff")
            await until(lambda: b"\x00\xff" in heard[1])
            large = bytes(range(256)) * 256
            await socketio.publish("room", large)
            await until(lambda: large in heard[0])
        await until(lambda: not served.statistics().clients)
        assert served.statistics().counts == {}


@pytest.mark.parametrize("make", BOTH)
async def test_what_a_token_does_not_allow(make: Drivers) -> None:
    token = jwt.encode({"mercure": {"publish": ["a"], "subscribe": ["a"]}}, SECRET)
    async with hub(jwt=JwtConfig(key=SECRET)) as served, make(served.urls[0], token) as driver:
        await driver.subscribe("a", lambda packet: None)
        await driver.publish("a", b"1")
        with pytest.raises(DriverError):
            await driver.publish("b", b"1")
        with pytest.raises(DriverError):
            await driver.subscribe("b", lambda packet: None)


@pytest.mark.parametrize("make", BOTH)
async def test_a_hub_that_comes_back(make: Drivers) -> None:
    heard: list[bytes] = []
    async with trio.open_nursery() as nursery:
        async with hub() as served:
            address, url = served.addresses[0], served.urls[0]
            driver = make(url, "any")
            await nursery.start(_keep, driver)
            await driver.subscribe("room", heard.append)
            await until(lambda: driver.active)
        await until(lambda: not driver.active)
        async with hub(address) as served:
            await until(lambda: driver.active and served.statistics().topics == 1)
            await driver.publish("room", b"self")
            async with BOTH[0](url, "any") as other:
                await other.subscribe("elsewhere", heard.append)
                await other.publish("room", b"other")
            await until(lambda: b"other" in heard)
            nursery.cancel_scope.cancel()


async def _keep(driver: Driver, *, task_status: trio.TaskStatus[None]) -> None:
    async with driver:
        task_status.started()
        await trio.sleep_forever()
