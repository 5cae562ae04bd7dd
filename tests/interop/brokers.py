"""Real brokers as processes: `nats-server` and `mosquitto`, on free ports, with a configuration of their own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.netns.hosts import find_program

PATIENCE: Final = 20.0
"""Seconds that anything may take on a machine that is busy with other things."""
LOOK_AGAIN: Final = 0.01
PROGRAMS: Final = ("nats-server", "mosquitto", "mosquitto_pub", "mosquitto_sub", "mosquitto_passwd")


def has_brokers() -> bool:
    """Whether they are installed."""
    return all(map(find_program, PROGRAMS))


def program(name: str) -> str:
    return find_program(name) or name


def free_port() -> int:
    """One that nobody used a moment ago: a broker that is started again needs the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker that can be started again.

    Attributes:
        port: of TCP or TLS.
        web: of WebSockets.
        log: what it has said.
    """

    def __init__(self, folder: Path, command: Callable[[Path], list[str]]) -> None:
        self._config: Final = folder / "broker.conf"
        self._command: Final = command(self._config)
        self._process: trio.Process | None = None
        self.log: Final = folder / "broker.log"
        self.port: Final = free_port()
        self.web: Final = free_port()

    def configure(self, *lines: str) -> None:
        self._config.write_text("\n".join(lines) + "\n")

    async def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        with trio.move_on_after(PATIENCE):
            while self._process.poll() is None:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                    return
                except OSError:
                    await trio.sleep(LOOK_AGAIN)
        raise RuntimeError(f"{self._command[0]} does not answer: {self.log.read_text()}")

    async def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            with trio.CancelScope(shield=True):
                self._process.kill()
                await self._process.wait()


@asynccontextmanager
async def running(broker: Broker, *lines: str) -> AsyncIterator[Broker]:
    """A broker for the time of the block."""
    broker.configure(*lines)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()


def nats(folder: Path) -> Broker:
    return Broker(folder, lambda config: [program("nats-server"), "-c", str(config)])


def nats_lines(broker: Broker, *more: str) -> list[str]:
    """Listens for both kinds of connections."""
    web = f'websocket {{ listen: "127.0.0.1:{broker.web}", no_tls: true }}'
    return [f"listen: 127.0.0.1:{broker.port}", web, *more]


def mosquitto(folder: Path) -> Broker:
    return Broker(folder, lambda config: [program("mosquitto"), "-c", str(config)])


def mosquitto_lines(broker: Broker, *more: str) -> list[str]:
    # As root it would become another user, who may not read the folder.
    return ["user root", f"listener {broker.port} 127.0.0.1", "persistence false", *more]
