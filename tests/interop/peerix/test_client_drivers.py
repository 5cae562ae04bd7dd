"""The drivers for SSE and Socket.IO with servers that are not of their own making: npm's `socket.io`, a hub of a few
lines on Node.js; and with the hub of this package, whose two doors are tried from the other side in `test_hub.py`."""

from __future__ import annotations

import itertools
import subprocess
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.interop import brokers
from tests.interop.brokers import free_port
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import Driver
from trio_relay.peerix.drivers.socketio import SocketIoDriver
from trio_relay.peerix.drivers.sse import SseDriver
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.serving import Hub, serve_hub

pytestmark = pytest.mark.interop

FOLDER: Final = Path(__file__).parent
TOKEN: Final = "a-secret"
LARGE: Final = bytes(range(256)) * 256
"""As much as the hub takes."""


class Server(ABC):
    """A server that can be started again at its port."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.port: Final = free_port()
        self._nursery: Final = nursery

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    def driver(self, kind: str, token: str = TOKEN, timeout: float = 5.0) -> Driver:
        url = f"http://127.0.0.1:{self.port}"
        if kind == "sse":
            return SseDriver(f"{url}/.well-known/mercure", token=token, timeout=timeout, max_reconnect_delay=0.5)
        return SocketIoDriver(url, prefix="peerix:", auth={"token": token}, timeout=timeout, max_reconnect_delay=0.5)


class NodeServer(Server):
    _process: trio.Process

    async def start(self) -> None:
        command = ["node", "servers.mjs", str(self.port), TOKEN]
        run = partial(trio.run_process, command, cwd=FOLDER, stdout=subprocess.PIPE, check=False)
        self._process = await self._nursery.start(run)
        assert self._process.stdout is not None
        with trio.fail_after(brokers.PATIENCE):
            assert await self._process.stdout.receive_some() == b"ready\n"

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()


class OurServer(Server):
    _hub: Hub

    async def start(self) -> None:
        config = HubConfig(listen=f"127.0.0.1:{self.port}", access_keys=[TOKEN], retry=0.1, drain_timeout=0.1)
        self._hub = await self._nursery.start(serve_hub, config)

    async def stop(self) -> None:
        await self._hub.aclose()


KINDS: Final[dict[str, type[Server]]] = {"node": NodeServer, "ours": OurServer}
EACH: Final = list(itertools.product(KINDS, ("sse", "socketio")))


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = KINDS[kind](nursery)
        await server.start()
        yield server
        await server.stop()
        nursery.cancel_scope.cancel()


class Inbox:
    """Packets that came."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1000)

    def put(self, packet: bytes) -> None:
        self._send.send_nowait(packet)

    async def next(self) -> bytes:
        with trio.fail_after(brokers.PATIENCE):
            return await self._receive.receive()

    @property
    def empty(self) -> bool:
        return not self._receive.statistics().current_buffer_used


@pytest.mark.parametrize(("server_kind", "driver_kind"), EACH)
async def test_packets_both_ways(server_kind: str, driver_kind: str, node_modules: Path) -> None:
    async with running(server_kind) as server:
        a, b = server.driver(driver_kind), server.driver(driver_kind)
        for_a, for_b, for_both = Inbox(), Inbox(), Inbox()
        async with a, b:
            await a.subscribe("room", for_a.put)
            await b.subscribe("room", for_b.put)
            await b.subscribe("ä room & more", for_both.put)
            for packet in (b"", b"\x00\xff", LARGE, b"last"):
                # Everybody hears it once, also who published it.
                await a.publish("room", packet)
                assert (await for_a.next(), await for_b.next()) == (packet, packet)
                await b.publish("room", packet)
                assert (await for_a.next(), await for_b.next()) == (packet, packet)
            await a.publish("ä room & more", b"1")
            assert await for_both.next() == b"1"
            await b.unsubscribe("room", for_b.put)
            await a.publish("room", b"2")
            assert await for_a.next() == b"2"
            # Longer than a Socket.IO server waits for an answer to its ping.
            await trio.sleep(1)
            assert a.active
            assert for_a.empty
            assert for_b.empty
        assert set(a.counts) <= {"driver_connected"}
        assert set(b.counts) <= {"driver_connected", "driver_unwanted"}


@pytest.mark.parametrize(("server_kind", "driver_kind"), EACH)
async def test_a_wrong_token(server_kind: str, driver_kind: str, node_modules: Path) -> None:
    async with running(server_kind) as server, server.driver(driver_kind, "wrong", timeout=1) as driver:
        with pytest.raises(DriverError, match=r"401 Unauthorized|wrong token|unauthorized") as caught:
            await driver.subscribe("room", lambda packet: None)
        assert TOKEN not in str(caught.value)
        with pytest.raises(DriverError):
            await driver.publish("room", b"1")
        assert driver.namespaces == ()


@pytest.mark.parametrize(("server_kind", "driver_kind"), EACH)
async def test_the_server_is_started_again(server_kind: str, driver_kind: str, node_modules: Path) -> None:
    async with running(server_kind) as server:
        a, b = server.driver(driver_kind), server.driver(driver_kind)
        inbox = Inbox()
        async with a, b:
            await a.subscribe("room", inbox.put)
            await a.subscribe("a", inbox.put)
            await b.subscribe("b", inbox.put)
            await server.stop()
            with trio.fail_after(brokers.PATIENCE):
                while a.active or b.active:
                    await trio.sleep(brokers.LOOK_AGAIN)
            with pytest.raises(DriverError, match="inactive"):
                await b.publish("room", b"0")
            await server.start()
            with trio.fail_after(brokers.PATIENCE):
                await a.wait_active()
                await b.wait_active()
            for name in ("room", "a"):
                await b.publish(name, name.encode())
                assert await inbox.next() == name.encode()
        assert a.counts["driver_lost"] >= 1


async def test_one_room_through_both_doors_of_the_hub(node_modules: Path) -> None:
    async with running("ours") as server, server.driver("sse") as a, server.driver("socketio") as b:
        for_a, for_b = Inbox(), Inbox()
        await a.subscribe("room", for_a.put)
        await b.subscribe("room", for_b.put)
        for driver in (a, b):
            await driver.publish("room", LARGE)
            assert (await for_a.next(), await for_b.next()) == (LARGE, LARGE)


async def test_what_a_hub_does_not_take(node_modules: Path) -> None:
    async with running("ours") as server, server.driver("sse") as a, server.driver("socketio") as b:
        for driver in (a, b):
            await driver.subscribe("room", lambda packet: None)
            with pytest.raises(DriverError, match=r"answered 4|at most 65536 bytes"):
                await driver.publish("room", LARGE + bytes(9))
            assert driver.active
