"""The JavaScript client and server of this folder as processes, and our server under the same options."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from tests.wsrelay.support import Clients, relaying
from trio_relay.wsrelay import Channel, Hooks, Refusal, Verification, percent_decoded

FOLDER: Final = Path(__file__).parent.parent
PATIENCE: Final = 20.0
"""Seconds that anything may take on a machine that is busy with other things."""


class JsServer:
    """A process in which relays in the manner of the original run."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process: Final = process

    def _do(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def listen(self, **config: Any) -> int:
        """Starts a relay with the original's options; returns its port."""
        return int(self._do(do="listen", config={"channels": ["pwa"], **config})["port"])

    def kill(self, port: int) -> None:
        """Drops a relay and all of its connections."""
        self._do(do="kill", port=port)


@contextmanager
def js_server() -> Iterator[JsServer]:
    """One that must not crash."""
    command = ["node", "wsrelay/server.js"]
    with subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield JsServer(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


class JsClient:
    """One client in the process of a `JsClients`."""

    def __init__(self, clients: JsClients, name: str) -> None:
        self._clients: Final = clients
        self._name: Final = name
        self._events: dict[str, list[list[Any]]] = {}
        self._changed = trio.Event()

    def take(self, event: str, values: list[Any]) -> None:
        """Something happened to it."""
        self._events.setdefault(event, []).append(values)
        self._changed.set()
        self._changed = trio.Event()

    async def do(self, command: str, **arguments: Any) -> None:
        """Calls one of its methods."""
        await self._clients.write({"do": command, "name": self._name, **arguments})

    async def wait(self, event: str) -> list[Any]:
        """The values of the next event of a kind."""
        with trio.fail_after(PATIENCE):
            while not self._events.get(event):
                await self._changed.wait()
        return self._events[event].pop(0)

    def seen(self, event: str) -> list[list[Any]]:
        """The values of all events of a kind that nobody waited for."""
        return self._events.pop(event, [])

    async def connect(self) -> None:
        """Connects; returns when it is open."""
        await self.do("connect")
        await self.wait("open")

    async def settle(self, nobody: str = "pwa:nobody_at_all") -> None:
        """Returns when the server has dealt with what this client sent."""
        await self.do("watch", address=nobody)
        await self.do("unwatch", address=nobody)
        while await self.wait("peer-status") != [nobody, False]:
            pass


class JsClients:
    """A process in which clients in the manner of the original run."""

    def __init__(self, process: trio.Process) -> None:
        self._process: Final = process
        self._clients: dict[str, JsClient] = {}

    async def write(self, command: dict[str, Any]) -> None:
        """Sends one command."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")

    async def read(self) -> None:
        """Hands events out, until the process ends."""
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for event in map(json.loads, lines):
                self._clients[event["name"]].take(event["event"], event["values"])

    async def open(self, url: str, id: str, *, browser: bool = False, channel: str = "pwa", **config: Any) -> JsClient:
        """A client; `browser`: it sees binary frames as a browser does."""
        name = f"client {len(self._clients)}"
        client = self._clients[name] = JsClient(self, name)
        await client.do("open", browser=browser, config={"url": url, "channel": channel, "id": id, **config})
        return client


@asynccontextmanager
async def js_clients() -> AsyncIterator[JsClients]:
    """A process that is killed at the end."""
    process = await trio.lowlevel.open_process(
        ["node", "wsrelay/client.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        async with trio.open_nursery() as nursery:
            clients = JsClients(process)
            nursery.start_soon(clients.read)
            yield clients
            assert process.poll() is None, "the process of the clients ended"
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await pipe.aclose()


# Both servers under one set of options


class Keys:
    def __init__(self, good: list[str]) -> None:
        self._good: Final = good

    def validate(self, key: str) -> bool:
        return key in self._good


def our_options(config: dict[str, Any]) -> dict[str, Any]:
    """The original's options as ours; defaults are the same."""

    def verify(who: Verification) -> Refusal | None:
        verdict = config.get("refuse", {}).get(who.address.id)
        if verdict == "throw":
            raise LookupError("no such database")
        if verdict is None:
            return None
        return Refusal(verdict.get("reason"), verdict.get("closeCode", 1008), verdict.get("errorCode", "VERIFY_FAILED"))

    def channel(wanted: str | dict[str, str]) -> Channel:
        about = {"name": wanted} if isinstance(wanted, str) else wanted
        options: dict[str, Any] = {"name": about["name"], "on_duplicate": about.get("onDuplicate", "replace")}
        if about["name"] in config.get("decode", ()):
            options["parse_id"] = percent_decoded(lambda raw: raw)
        if about["name"] in config.get("raw", ()):
            options["parse_id"] = lambda raw: raw
        return Channel(**options)

    return {
        "channels": [channel(wanted) for wanted in config.get("channels", ["pwa"])],
        "key_store": Keys(config["keys"]) if config.get("keys") else False,
        "hooks": Hooks(verify_peer=verify),
        "on_invalid_key": config.get("onInvalidKey", "close-after-connect"),
        "rate_limit_max_connections": config.get("rateLimitMaxConnections", 30),
        "rate_limit_max_messages": config.get("rateLimitMaxMessages", 100),
        "cors": config.get("cors", True),
        "open_stats": True,
    }


@asynccontextmanager
async def raw_clients(server: JsServer | None, config: dict[str, Any]) -> AsyncIterator[Clients]:
    """Clients that see every frame, of a relay with these options: of ours if there is no other server."""
    if server is None:
        async with relaying(**our_options(config)) as running:
            yield running
        return
    port = server.listen(**config)

    async def dial() -> trio.abc.Stream:
        return await trio.open_tcp_stream("127.0.0.1", port)

    async with trio.open_nursery() as nursery:
        clients = Clients(nursery, dial)
        clients.port = port
        try:
            yield clients
        finally:
            nursery.cancel_scope.cancel()
            await clients.abort()
    server.kill(port)
