"""Brokers for the tests with npm peerjs: npm peer in a process of Node.js, and ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import pytest
import trio

from trio_relay.peerjs import BrokerConfig, serve_broker

from .chromium import PATIENCE

__all__ = ["Broker", "OpenBroker", "npm_brokers", "open_broker", "our_broker_alone"]

HERE: Final = Path(__file__).parent
MILLISECONDS: Final = {
    "expire_timeout": "expire_timeout",
    "alive_timeout": "alive_timeout",
    "cleanup_interval": "cleanup_out_msgs",
}
"""Options that have this unit, and these names, in the original, and are seconds here."""


class Broker(Protocol):
    """A running broker at a port of 127.0.0.1.

    Attributes:
        options: what a Peer of npm peerjs needs to find it.
    """

    port: int
    options: dict[str, Any]

    async def stop(self) -> None:
        """Drops all of its connections and ends it."""
        ...

    async def start(self) -> None:
        """Starts it again, at the same port, without a memory."""
        ...


OpenBroker: TypeAlias = Callable[..., AbstractAsyncContextManager[Broker]]
"""Starts a broker with options of `BrokerConfig`."""


class NpmBrokers:
    """The process of `peerjs_server.js`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process: Final = process

    def do(self, **command: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    @asynccontextmanager
    async def open(self, **config: Any) -> AsyncIterator[Broker]:
        broker = NpmBroker(self, config)
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()


class NpmBroker:
    """One broker in the process of `NpmBrokers`."""

    def __init__(self, brokers: NpmBrokers, config: dict[str, Any]) -> None:
        self._brokers: Final = brokers
        self._config: Final = {
            MILLISECONDS.get(name, name): value * 1000 if name in MILLISECONDS else value
            for name, value in config.items()
        }
        self._runs = False
        self.port = 0
        self.options: dict[str, Any] = {}

    async def start(self) -> None:
        self.port = self._brokers.do(listen={**self._config, "port": self.port})["port"]
        self.options = peer_options(self.port, self._config)
        self._runs = True

    async def stop(self) -> None:
        if self._runs:
            self._runs = False
            assert self._brokers.do(kill=self.port) == {"killed": self.port}


def peer_options(port: int, config: dict[str, Any]) -> dict[str, Any]:
    return {"port": port, "path": config.get("path", "/"), "key": config.get("key", "peerjs")}


@pytest.fixture(scope="session")
def npm_brokers(node_modules: Path) -> Iterator[NpmBrokers]:
    """One process of Node.js, which must not crash."""
    command = ["node", "peerjs_server.js"]
    with subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield NpmBrokers(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


class OurBroker:
    """One broker of `serve_broker`, in a task of `nursery`."""

    def __init__(self, nursery: trio.Nursery, config: dict[str, Any]) -> None:
        self._nursery: Final = nursery
        self._config: Final = config
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.port = 0
        self.options: dict[str, Any] = {}

    async def start(self) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        config = BrokerConfig(**self._config, listen=f"127.0.0.1:{self.port}")
        with trio.fail_after(PATIENCE):
            broker = await self._nursery.start(self._serve, config)
        self.port = int(broker.addresses[0].rpartition(":")[2])
        self.options = peer_options(self.port, self._config)

    async def _serve(self, config: BrokerConfig, *, task_status: trio.TaskStatus[Any]) -> None:
        with self._scope:
            await serve_broker(config, task_status=task_status)
        self._ended.set()

    async def stop(self) -> None:
        self._scope.cancel()
        with trio.fail_after(PATIENCE):
            await self._ended.wait()


@asynccontextmanager
async def open_our_broker(**config: Any) -> AsyncIterator[Broker]:
    async with trio.open_nursery() as nursery:
        broker = OurBroker(nursery, config)
        await broker.start()
        yield broker
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["ours", "npm"])
def open_broker(request: pytest.FixtureRequest) -> OpenBroker:
    """Starts brokers: ours, or npm peer's."""
    if request.param == "ours":
        return open_our_broker
    brokers: NpmBrokers = request.getfixturevalue("npm_brokers")
    return brokers.open


our_broker_alone: Final = pytest.mark.parametrize("open_broker", ["ours"], indirect=True)
"""For tests in which the broker is not what matters."""
