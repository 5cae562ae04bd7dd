"""PeerJS connections between hosts: with UDP, without it, and when it ends; with our broker, and with the original."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from benchmarks.npm import install
from tests.cli.support import COMMAND, DEADLINE, JsonRunning, environment
from tests.netns.hosts import Host, find_program
from tests.netns.layouts import Layout, routed

pytestmark = pytest.mark.netns

PORT: Final = 9000
MB: Final = 1_000_000
MIB: Final = 1024 * 1024
INTEROP: Final = Path(__file__).parent.parent / "interop"
QUICK: Final = ("--fallback", "--patience", "2")
"""For what does not measure how long it takes until WebRTC is given up."""


class Peer(JsonRunning):
    """`peerjs_peer` on a host."""

    _commands = 0

    async def begin(self, do: str, **arguments: object) -> int:
        """Gives a command; `end` has its reply."""
        self._commands += 1
        await self.write(encode({"do": do, "ref": self._commands, **arguments}))
        return self._commands

    async def end(self, command: int) -> dict[str, Any]:
        return await self.event(ref=command)

    async def do(self, do: str, **arguments: object) -> dict[str, Any]:
        return await self.end(await self.begin(do, **arguments))


def encode(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@asynccontextmanager
async def program(host: Host, command: Sequence[str], folder: Path | None = None) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        host.command(*command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
        cwd=folder,
    )
    try:
        yield process
    finally:
        kill(process)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()


def kill(process: trio.Process) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@asynccontextmanager
async def our_broker(layout: Layout) -> AsyncIterator[trio.Process]:
    """With a node of the overlay, on one port."""
    async with program(
        layout.relay, [*COMMAND, "serve", "--peerjs", "--listen", f"{layout.address}:{PORT}"]
    ) as process:
        assert process.stderr is not None
        said = b""
        with trio.fail_after(DEADLINE):
            while b"listening" not in said:
                data = await process.stderr.receive_some()
                assert data, said
                said += data
        yield process


@asynccontextmanager
async def original_broker(layout: Layout) -> AsyncIterator[trio.Process]:
    """PeerServer of npm `peer`."""
    install(INTEROP)
    async with program(layout.relay, ["node", "peerjs/server.mjs"], INTEROP) as process:
        running = JsonRunning(process)
        await running.write(encode({"do": "listen", "options": {"host": layout.address, "port": PORT}}))
        assert (await running.event())["port"] == PORT
        yield process


@asynccontextmanager
async def open_peers(
    layout: Layout, *options: str, bobs: Sequence[str] | None = None
) -> AsyncIterator[tuple[Peer, Peer]]:
    """Alice and Bob, registered; Bob with the same options if he has none of his own."""
    async with AsyncExitStack() as stack:
        peers = []
        for name, host, chosen in (
            ("alice", layout.alice, options),
            ("bob", layout.bob, options if bobs is None else bobs),
        ):
            command = [sys.executable, "-m", "tests.netns.peerjs_peer", name, layout.address, str(PORT), *chosen]
            peers.append(Peer(await stack.enter_async_context(program(host, command))))
        alice, bob = peers
        for peer in peers:
            await peer.event(event="registered")
        yield alice, bob


async def exchange(alice: Peer, bob: Peer, count: int) -> tuple[dict[str, Any], ...]:
    """So many bytes each way at once; the same arrives, in its order. Returns the last replies of both."""
    sending = [await peer.begin("send", count=count) for peer in (alice, bob)]
    receiving = [await peer.begin("receive", count=count) for peer in (alice, bob)]
    return await finish(alice, bob, sending, receiving)


async def finish(alice: Peer, bob: Peer, sending: list[int], receiving: list[int]) -> tuple[dict[str, Any], ...]:
    sent = [await peer.end(command) for peer, command in zip((alice, bob), sending, strict=True)]
    came = [await peer.end(command) for peer, command in zip((alice, bob), receiving, strict=True)]
    assert [reply["digest"] for reply in sent] == [reply["digest"] for reply in reversed(came)]
    return tuple(came)


def filter_out(host: Host, *rules: str) -> None:
    """From now on the host's firewall lets nothing through that one of the rules describes; none: it lets all through.

    Programs that run there are told: sending is an error.
    """
    commands = ["table inet firewall", "delete table inet firewall", "add table inet firewall"]
    for hook in "input", "output":
        commands.append(f"add chain inet firewall {hook} {{ type filter hook {hook} priority 0; }}")
        commands += [f"add rule inet firewall {hook} {rule} drop" for rule in rules]
    host.run(find_program("nft") or "nft", "-f", "-", stdin="\n".join(commands) + "\n")


NO_UDP: Final = "meta l4proto udp"
NO_BROKER: Final = f"tcp dport {PORT}"


async def test_without_udp_the_broker_carries_everything() -> None:
    with routed() as layout:
        layout.cut(True)
        async with our_broker(layout), open_peers(layout, "--fallback") as (alice, bob):
            connected = await alice.do("connect", peer="bob")
            assert connected["transport"] == "relay"
            assert connected["seconds"] < 11, "WebRTC is given ten seconds"
            assert (await bob.event(event="accepted"))["transport"] == "relay"
            for reply in await exchange(alice, bob, 20 * MB):
                assert reply["transport"] == "relay"
            assert meetings(layout) == 1
            await stopped_sender(alice, bob)


def meetings(layout: Layout) -> int:
    """At the broker: connections that it carries."""
    ask = f"print(urllib.request.urlopen('http://{layout.address}:{PORT}/health').read().decode())"
    health = json.loads(layout.relay.run(sys.executable, "-c", f"import urllib.request; {ask}"))
    found: int = health["peerjs"]["meetings"]
    return found


async def stopped_sender(alice: Peer, bob: Peer) -> None:
    """A receiver that does not read stops the sender; nobody keeps in memory what it waits for."""
    before = [(await peer.do("state"))["peak"] for peer in (alice, bob)]
    sending = await alice.begin("send", count=40 * MB)
    await alice.event(event="quarter")
    await trio.sleep(1)
    assert not [line for line in alice.lines if json.loads(line).get("ref") == sending]
    after = [(await peer.do("state"))["peak"] for peer in (alice, bob)]
    assert max(now - then for now, then in zip(after, before, strict=True)) < 20 * MIB
    came = await bob.do("receive", count=40 * MB)
    assert came["digest"] == (await alice.end(sending))["digest"]


async def large_value(alice: Peer, bob: Peer) -> None:
    """It takes its own size of memory where it is sent, twice that where it arrives, and some MiB beside."""
    size = 20 * MB
    before = [(await peer.do("state"))["peak"] for peer in (alice, bob)]
    receiving = await bob.begin("receive", count=size)
    sent = await alice.do("send", count=size, size=size)
    assert (await bob.end(receiving))["digest"] == sent["digest"]
    sender, receiver = [
        (await peer.do("state"))["peak"] - then for peer, then in zip((alice, bob), before, strict=True)
    ]
    assert sender < size + 8 * MIB
    assert receiver < 2 * size + 8 * MIB


@pytest.mark.turn
async def test_behind_firewalls_the_overlay_carries_everything() -> None:
    with routed() as layout:
        for host in layout.alice, layout.bob:
            filter_out(host, NO_UDP)
        node = ("--node", f"ws://{layout.address}:{PORT}")
        async with our_broker(layout), open_peers(layout, *QUICK, *node) as (alice, bob):
            assert (await alice.do("connect", peer="bob"))["transport"] == "relay"
            await bob.event(event="accepted")
            for reply in await exchange(alice, bob, 20 * MB):
                assert reply["transport"] == "relay"
            assert meetings(layout) == 0


async def test_when_udp_ends_in_the_middle_the_broker_carries_the_rest() -> None:
    with routed() as layout:
        async with our_broker(layout), open_peers(layout, *QUICK) as (alice, bob):
            assert (await alice.do("connect", peer="bob"))["transport"] == "webrtc"
            await bob.event(event="accepted")
            sending = [await peer.begin("send", count=20 * MB) for peer in (alice, bob)]
            receiving = [await peer.begin("receive", count=20 * MB) for peer in (alice, bob)]
            assert (await alice.event(event="quarter"))["transport"] == "webrtc"
            layout.cut(True)
            for reply in await finish(alice, bob, sending, receiving):
                assert reply["transport"] == "relay"


async def test_with_udp_it_is_webrtc_and_outlives_the_broker() -> None:
    with routed() as layout:
        async with our_broker(layout) as broker, open_peers(layout, *QUICK) as (alice, bob):
            assert (await alice.do("connect", peer="bob"))["transport"] == "webrtc"
            await bob.event(event="accepted")
            for reply in await exchange(alice, bob, 2 * MB):
                assert reply["transport"] == "webrtc"
            await large_value(alice, bob)
            kill(broker)
            await alice.event(event="PeerLost")
            await bob.event(event="PeerLost")
            await exchange(alice, bob, 1 * MB)
            async with our_broker(layout):
                await alice.event(event="PeerOpened")
                await bob.event(event="PeerOpened")
                assert (await bob.do("connect", peer="alice"))["transport"] == "webrtc"
                await alice.event(event="accepted")
                await exchange(alice, bob, 1 * MB)


@pytest.mark.turn
async def test_a_silent_broker_is_left_and_found_again() -> None:
    with routed() as layout:
        async with our_broker(layout), open_peers(layout, *QUICK) as (alice, bob):
            await alice.do("connect", peer="bob")
            await bob.event(event="accepted")
            filter_out(layout.alice, NO_BROKER)
            await alice.event(event="PeerLost")
            await exchange(alice, bob, 1 * MB)
            filter_out(layout.alice)
            await alice.event(event="PeerOpened")
            assert (await bob.do("connect", peer="alice"))["transport"] == "webrtc"
            await alice.event(event="accepted")
            await exchange(alice, bob, 1 * MB)


@pytest.mark.parametrize("options", [(), ("--fallback",)])
async def test_without_udp_and_without_a_relay_it_is_an_error_in_time(options: tuple[str, ...]) -> None:
    """With the fallback on one side alone, too."""
    with routed() as layout:
        layout.cut(True)
        async with our_broker(layout), open_peers(layout, bobs=options) as (alice, _):
            connected = await alice.do("connect", peer="bob")
            assert connected["error"] == "negotiation-failed"
            assert connected["seconds"] < 11


@pytest.mark.interop
async def test_the_originals_broker() -> None:
    with routed() as layout:
        async with original_broker(layout), open_peers(layout, *QUICK) as (alice, bob):
            assert (await alice.do("connect", peer="bob"))["transport"] == "webrtc"
            await bob.event(event="accepted")
            await exchange(alice, bob, 2 * MB)
            layout.cut(True)
            connected = await bob.do("connect", peer="alice")
            assert connected["error"] == "negotiation-failed"
            assert connected["seconds"] < 11
