"""``node`` for people, as a process with real sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest
import trio

import trio_relay
from trio_relay import LinkDown, LinkUp
from trio_relay.cli import main
from trio_relay.identity import Identity

from .support import DEADLINE, open_json, open_readable


async def test_links_and_messages_are_printed() -> None:
    async with open_readable("--listen", "127.0.0.1:0", "--listen", "[::1]:0") as running:
        node_id = trio_relay.parse_node_id((await running.line()).removeprefix("id "))
        urls = [(await running.line()).removeprefix("listening on ") for _ in range(2)]
        assert urls[0].startswith("ws://127.0.0.1:")
        assert urls[1].startswith("ws://[::1]:")
        async with trio_relay.open_node(None, urls[1:]) as peer:
            with trio.fail_after(DEADLINE):
                await peer.wait_linked()
                up = await running.line("link up")
                assert re.fullmatch(rf"link up    {peer.id.hex()} \(websocket, [0-9.]+ ms\)", up)
                await peer.deliver(node_id, {"a": [True, None]})
                await peer.deliver(node_id, b"\x00\xff")
            assert await running.line("message") == f"message from {peer.id.hex()}: {{'a': [True, None]}}"
            assert await running.line("message") == f"message from {peer.id.hex()}: b'\\x00\\xff'"
        assert (await running.line("link down")).startswith(f"link down  {peer.id.hex()}: ")
        assert await running.stop() == 0
        assert await running.errors() == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_a_message_over_a_relay_is_proven_and_neighbours_hear_a_goodbye(
    number: signal.Signals, code: int
) -> None:
    async with (
        trio_relay.open_node() as relay,
        trio_relay.open_node(None, relay.urls) as sender,
        open_readable("--listen", "none", "--bootstrap", *relay.urls) as running,
        relay.events() as events,
    ):
        node_id = trio_relay.parse_node_id((await running.line()).removeprefix("id "))
        await running.line("link up")
        with trio.fail_after(DEADLINE):
            await sender.wait_linked()
            await sender.deliver(node_id, "hello")
            assert await running.line("message") == f"message from {sender.id.hex()}: 'hello'"
            assert await running.stop(number) == code
            while not isinstance(event := await anext(events), LinkDown):
                pass
        assert (event.id, event.reason) == (node_id, "shutdown")
        assert await running.errors() == ""


async def test_two_interrupts() -> None:
    """The second one comes while a neighbour is waited for that does not answer the goodbye."""
    async with open_readable() as silent:
        silent_id = (await silent.line()).removeprefix("id ")
        url = (await silent.line()).removeprefix("listening on ")
        async with open_json("--listen", "none", "--bootstrap", url) as (running, _):
            await running.event(event="link_up")
            silent.process.send_signal(signal.SIGSTOP)
            await running.write(json.dumps({"deliver": {"to": silent_id, "data": 1}, "ref": 1}).encode() + b"\n")
            await running.ask(2, statistics=True)
            running.process.send_signal(signal.SIGINT)
            assert (await running.event(ref=1))["error"] == "ClosedResourceError"
            running.process.send_signal(signal.SIGINT)
            silent.process.send_signal(signal.SIGCONT)
            assert await running.wait() == 130
            assert await running.errors() == ""


def test_a_port_that_is_taken(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["node", "--listen", place]) == 2
    assert capfd.readouterr() == ("", f"trio-relay: can't listen on {place}: Address already in use\n")


async def test_an_identity_outlives_the_process(tmp_path: Path) -> None:
    identity, path = Identity.generate(), tmp_path / "key.pem"
    identity.save(path)
    before, advertised = path.read_bytes(), "wss://relay.example.org/path"
    async with open_readable("--identity", str(path), "--advertise", advertised) as running:
        assert await running.line() == f"id {identity.id.hex()}"
        assert await running.line() == f"listening on {advertised}"
        assert await running.stop() == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [[], ["--jsonl"]], ids=["readable", "jsonl"])
async def test_nobody_reads_the_output_any_more(mode: list[str]) -> None:
    """As in ``trio-relay node | head -3``: it ends though it has nothing more to say."""
    async with (
        trio_relay.open_node() as neighbour,
        neighbour.events() as events,
        open_readable(*mode, "--listen", "none", "--bootstrap", *neighbour.urls) as running,
    ):
        with trio.fail_after(DEADLINE):
            await running.line('{"event":"link_up"' if mode else "link up")
            assert isinstance(await anext(events), LinkUp)
            await running.stdout.aclose()
            assert await running.wait() == 1
            down = await anext(events)
        assert isinstance(down, LinkDown)
        assert down.reason == "shutdown"
        assert await running.errors() == ""


async def test_what_was_acknowledged_is_written() -> None:
    """Nobody reads, so the output is full and messages wait; a node that is told to end writes them."""
    count, text = 30, "x" * 20_000
    async with open_readable("--jsonl") as running:
        listening = json.loads(await running.line())
        node_id = trio_relay.parse_node_id(listening["id"])
        async with trio_relay.open_node(None, listening["urls"]) as peer:
            with trio.fail_after(DEADLINE):
                await peer.wait_linked()
                for number in range(count):
                    await peer.deliver(node_id, [number, text])
            running.process.send_signal(signal.SIGTERM)
            reports = [json.loads(line) for line in await running.rest()]
            assert await running.wait() == 0
    assert [report["data"] for report in reports if report["event"] == "message"] == [[n, text] for n in range(count)]
