"""Original peer-relay nodes as processes, each driven through `original.js`."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from trio_relay.wire.ids import NodeId, parse_node_id

__all__ = ["ABSENT", "PATIENCE", "Message", "Original", "Originals", "State", "eventually", "open_originals"]

HERE: Final = Path(__file__).parent
PATIENCE: Final = 20.0
"""Seconds that anything may take on a machine that is busy with other things."""
_LOOK_AGAIN: Final = 0.05

ABSENT: Final = object()
"""JavaScript's `undefined`."""


@dataclass(frozen=True, slots=True)
class Message:
    """What an original's application was given."""

    data: Any
    sender: NodeId


@dataclass(frozen=True, slots=True)
class State:
    """What an original remembers: links, ids it heard of, and how many links it waits for."""

    peers: frozenset[NodeId]
    candidates: frozenset[NodeId]
    pending: int


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds that no event tells of.

    Raises:
        AssertionError: it does not within `PATIENCE`.
    """
    with trio.move_on_after(PATIENCE):
        while not holds():
            await trio.sleep(_LOOK_AGAIN)
        return
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


class Original:
    """One process. Every method that waits gives up after `PATIENCE`."""

    def __init__(self, process: trio.Process) -> None:
        self._process: Final = process
        self._events: dict[str, tuple[trio.MemorySendChannel[Any], trio.MemoryReceiveChannel[Any]]] = {}
        self.id = NodeId(bytes(20))
        self.url = ""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def _channel(self, event: str) -> tuple[trio.MemorySendChannel[Any], trio.MemoryReceiveChannel[Any]]:
        if event not in self._events:
            self._events[event] = trio.open_memory_channel[Any](10_000)
        return self._events[event]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        with suppress(trio.ClosedResourceError):
            async for chunk in self._process.stdout:
                rest = self._take(rest + chunk)

    def _take(self, data: bytes) -> bytes:
        """Hands out whole lines; returns what is left."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            event = json.loads(line)
            self._channel(event["event"])[0].send_nowait(event)
        return rest

    async def wait(self, event: str) -> Any:
        """The next event of a kind."""
        with trio.fail_after(PATIENCE):
            return await self._channel(event)[1].receive()

    async def _do(self, name: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"do": name, **arguments}).encode() + b"\n")

    async def send(self, to: NodeId, data: Any) -> None:
        """`data` is any JSON value, or `ABSENT`."""
        await self._do("send", to=to.hex(), **({} if data is ABSENT else {"data": data}))

    async def receive(self) -> Message:
        """The next message for its application."""
        event = await self.wait("message")
        return Message(ABSENT if event["absent"] else event["data"], parse_node_id(event["from"]))

    def received(self) -> list[Message]:
        """All messages that are there now."""
        messages: list[Message] = []
        while True:
            try:
                event = self._channel("message")[1].receive_nowait()
            except trio.WouldBlock:
                return messages
            messages.append(Message(ABSENT if event["absent"] else event["data"], parse_node_id(event["from"])))

    async def connect(self, to: NodeId) -> None:
        """Asks for a direct link."""
        await self._do("connect", to=to.hex())

    async def disconnect(self, to: NodeId) -> None:
        """Ends a direct link."""
        await self._do("disconnect", to=to.hex())

    async def state(self) -> State:
        """What it remembers now; that it answers shows that it is alive."""
        await self._do("state")
        event = await self.wait("state")
        return State(
            frozenset(map(parse_node_id, event["peers"])),
            frozenset(map(parse_node_id, event["candidates"])),
            event["pending"],
        )

    async def wait_linked(self, *peers: NodeId) -> State:
        """Waits until it has links with all of these ids."""
        with trio.fail_after(PATIENCE):
            while not (state := await self.state()).peers >= set(peers):
                await trio.sleep(_LOOK_AGAIN)
        return state

    async def bind(self, port: int) -> None:
        """Binds its socket, and waits for the first link."""
        await self._do("bind", port=port)
        await self.wait("listening")

    async def send_datagram(self, data: bytes, to: NodeId, port: int) -> None:
        """Sends from its socket."""
        await self._do("datagram", data=base64.b64encode(data).decode(), to=to.hex(), port=port)

    async def receive_datagram(self) -> tuple[bytes, dict[str, Any]]:
        """The next datagram, and where its receiver is told that it came from."""
        event = await self.wait("datagram")
        return base64.b64decode(event["data"]), event["from"]

    async def stop(self) -> None:
        """Lets it end.

        Raises:
            AssertionError: it had ended before, as it does at an exception; its last words are in the message.
        """
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        crashed = not self.alive
        await self._process.stdin.aclose()
        with trio.move_on_after(PATIENCE):
            await self._process.wait()
        words = b""
        with trio.move_on_after(1):
            async for chunk in self._process.stderr:
                words += chunk
        code = self._process.returncode
        assert code == 0, f"the original node ended with code {code}: {words.decode()[-2000:]}"
        assert not crashed, "the original node had ended"

    async def kill(self) -> None:
        """Ends it at once, as a lost machine would; idempotent."""
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert pipe is not None
                await pipe.aclose()


class Originals:
    """Starts processes; all are stopped, and none may have crashed, at the end of `open_originals`."""

    def __init__(self, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
        self._nursery: Final = nursery
        self._stack: Final = stack
        self._running: list[Original] = []

    async def start(self, *bootstrap: str, listen: bool = True, socket: bool = False) -> Original:
        """A new node, its id and URL known."""
        options = {"bootstrap": bootstrap, "listen": listen, "socket": socket}
        process = await trio.lowlevel.open_process(
            ["node", "--no-deprecation", "original.js", json.dumps(options)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        original = Original(process)
        self._stack.push_async_callback(original.kill)
        self._nursery.start_soon(original._read)
        self._running.append(original)
        ready = await original.wait("ready")
        original.id = parse_node_id(ready["id"])
        original.url = ready["url"] or ""
        return original

    async def stop(self, original: Original) -> None:
        """Stops one, which must not have crashed."""
        self._running.remove(original)
        await original.stop()

    async def kill(self, original: Original) -> None:
        """Kills one."""
        self._running.remove(original)
        await original.kill()

    async def stop_all(self) -> None:
        """Stops all that run."""
        while self._running:
            await self.stop(self._running[0])


@asynccontextmanager
async def open_originals() -> AsyncIterator[Originals]:
    """A place for processes of originals; leaving it checks that each is alive until then."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        originals = Originals(nursery, stack)
        try:
            yield originals
            await originals.stop_all()
        finally:
            nursery.cancel_scope.cancel()
