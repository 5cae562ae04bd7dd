"""Our hub under the real `socket.io-client`, over every transport that it has, and under event streams by `fetch`."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.serving import Hub, serve_hub
from trio_relay.peerix.socketio.packets import SocketPacket, SocketType, encode_packet, parse_packet_untrusted

pytestmark = pytest.mark.interop

FOLDER: Final = Path(__file__).parent
PATIENCE: Final = 20.0
TRANSPORTS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "websocket": {"transports": ["websocket"]},
    "polling": {"transports": ["polling"]},
    "changed": {},
}


class Node:
    """The process with the clients."""

    def __init__(self, process: trio.Process, nursery: trio.Nursery) -> None:
        self._process: Final = process
        self._answers: Final[dict[int, Any]] = {}  # an event until there is one
        self._refs = 0
        nursery.start_soon(self._read)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        text = b""
        async for data in self._process.stdout:
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                event = self._answers[answer["ref"]]
                self._answers[answer["ref"]] = answer
                event.set()

    async def do(self, command: str, /, **options: Any) -> Any:
        """What a command results in."""
        assert self._process.stdin is not None
        self._refs += 1
        ref, answered = self._refs, trio.Event()
        self._answers[ref] = answered
        await self._process.stdin.send_all(json.dumps({"ref": ref, "do": command, **options}).encode() + b"\n")
        with trio.fail_after(PATIENCE):
            await answered.wait()
        answer = self._answers.pop(ref)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]


@asynccontextmanager
async def hub_and_node(node_modules: Path, **options: Any) -> AsyncIterator[tuple[Hub, Node]]:
    async with trio.open_nursery() as nursery:
        config = HubConfig(listen="127.0.0.1:0", drain_timeout=1, **options)
        hub: Hub = await nursery.start(serve_hub, config)
        command = partial(trio.run_process, ["node", "clients.mjs"], cwd=FOLDER, stdin=subprocess.PIPE)
        process: trio.Process = await nursery.start(partial(command, stdout=subprocess.PIPE))
        yield hub, Node(process, nursery)
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        await hub.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rooms_over_each_transport(transport: str, node_modules: Path) -> None:
    async with hub_and_node(node_modules) as (hub, node):
        for name in ("ann", "ben"):
            await node.do("connect", name=name, url=hub.urls[0], options=TRANSPORTS[transport])
            if transport == "changed":
                assert await node.do("upgraded", name=name) == "websocket"
            assert await node.do("ask", name=name, event="subscribe", args=["room"]) == []
        # Through the change from polling to a WebSocket, if there is one, nothing is lost, and the order is kept.
        for number in range(100):
            assert await node.do("ask", name="ann", event="publish", args=["room", [number, 0, 255]]) == []
        heard = [await node.do("message", name="ben") for _ in range(100)]
        assert heard == [["room", [number, 0, 255]] for number in range(100)]
        large = [255] * hub.config.max_packet
        await node.do("ask", name="ben", event="publish", args=["room", large])
        assert await node.do("message", name="ann") == ["room", large]
        expected = "polling" if transport == "polling" else "websocket"
        assert await node.do("transport", name="ann") == expected
        assert await node.do("ask", name="ben", event="unsubscribe", args=["room"]) == []
        await node.do("ask", name="ann", event="publish", args=["room", [1]])
        refused = await node.do("ask", name="ann", event="publish", args=["room", [0] * (hub.config.max_packet + 1)])
        assert refused == [f"expected at most {hub.config.max_packet} bytes in an array"]
        await node.do("close", name="ann")
        await node.do("close", name="ben")
        with trio.fail_after(PATIENCE):
            while hub.statistics().clients:
                await trio.sleep(0.01)
        assert dict(hub.statistics().counts) == {"bad_request": 1}


async def test_pings_keep_clients_and_silence_ends_them(node_modules: Path) -> None:
    async with hub_and_node(node_modules, ping_interval=0.2, ping_timeout=0.5) as (hub, node):
        for name, transports in (("ann", ["websocket"]), ("ben", ["polling"])):
            await node.do("connect", name=name, url=hub.urls[0], options={"transports": transports})
        await trio.sleep(1.2)
        assert hub.statistics().sessions == 2
        assert dict(hub.statistics().counts) == {}


async def test_both_doors_lead_to_one_room(node_modules: Path) -> None:
    async with hub_and_node(node_modules) as (hub, node):
        url = f"{hub.urls[0]}/.well-known/mercure"
        assert await node.do("listen", name="eve", url=f"{url}?topic=room") == "text/event-stream"
        await node.do("connect", name="ann", url=hub.urls[0], prefix="")
        await node.do("ask", name="ann", event="subscribe", args=["room"])
        status, id = await node.do("publish", url=url, topic="room", data="+/8=")
        assert (status, id[:9]) == (200, "urn:uuid:")
        assert await node.do("message", name="ann") == ["room", [251, 255]]
        assert await node.do("event", name="eve") == "+/8="
        await node.do("ask", name="ann", event="publish", args=["room", []])
        assert await node.do("event", name="eve") == ""
        await hub.aclose()
        assert await node.do("event", name="eve") is None
        assert await node.do("end", name="ann") == "transport close"  # so that it connects again


async def test_access_keys(node_modules: Path) -> None:
    async with hub_and_node(node_modules, access_keys=["key-1"], allow_wildcard=True) as (hub, node):
        url = f"{hub.urls[0]}/.well-known/mercure"
        with pytest.raises(RuntimeError, match="unauthorized"):
            await node.do("connect", name="mal", url=hub.urls[0], options={"auth": {"token": "key-2"}})
        options: dict[str, Any]
        for name, options in (
            ("ann", {"auth": {"token": "key-1"}}),
            ("ben", {"query": {"token": "key-1"}}),
            ("cid", {"extraHeaders": {"authorization": "Bearer key-1"}}),
        ):
            assert await node.do("connect", name=name, url=hub.urls[0], options=options)
        assert await node.do("listen", name="eve", url=f"{url}?topic=room") == 401
        shown = {"authorization": "Bearer key-1"}
        assert await node.do("listen", name="eve", url=f"{url}?topic=*", headers=shown) == "text/event-stream"
        assert (await node.do("publish", url=url, topic="room", data="AA=="))[0] == 401
        assert (await node.do("publish", url=url, topic="room", data="AA==", headers=shown))[0] == 200
        assert await node.do("event", name="eve") == "AA=="


async def test_the_codec(node_modules: Path) -> None:
    seeded = random.Random(8)

    def value(depth: int = 2) -> Any:
        scalars: list[Any] = [None, True, 0, -7, 1.5, "", "aé€\u2028", '"\\/']
        if not depth or seeded.random() < 0.5:
            return seeded.choice(scalars)
        members = [value(depth - 1) for _ in range(seeded.randrange(4))]
        return members if seeded.random() < 0.5 else {f"k{n}": member for n, member in enumerate(members)}

    packets = [
        SocketPacket(
            kind := seeded.choice([SocketType.EVENT, SocketType.ACK]),
            ["name"] * (kind is SocketType.EVENT) + [value() for _ in range(seeded.randrange(4))],
            seeded.choice([None, 0, 12, 2**53 - 1]),
            seeded.choice(["/", "/admin"]),
        )
        for _ in range(200)
    ]
    plain = [{"type": int(p.type), "nsp": p.namespace, "data": p.data, "id": p.id} for p in packets]
    async with hub_and_node(node_modules) as (_, node):
        texts = await node.do("encode", packets=plain)
        assert texts == [encode_packet(packet) for packet in packets]
        assert [parse_packet_untrusted(text) for text in texts] == packets
        decoded = await node.do("decode", texts=texts)
        assert [{"id": None, **packet} for packet in decoded] == plain
