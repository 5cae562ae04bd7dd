"""The relay client over real sockets, with and without TLS."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.transports.support import make_authority, serving
from tests.wsrelay.scripted_server import BOB, LIMITS, OWN, ScriptedPeer, ScriptedRelay, routed
from trio_relay.limits import Limits
from trio_relay.transports.routes import Request, Response, Route
from trio_relay.wsrelay.client import RelayClient, RelayRefused, open_relay_client

NUMBER, SIZE = 300, 20_000


async def echo(peer: ScriptedPeer) -> None:
    """Takes the client in, and returns each message to it, in a binary frame as original servers do."""
    await peer.accept()
    while (frame := await peer.receive()) is not None:
        await peer.send(routed(frame["payload"]), binary=True)


async def send_for_ever(client: RelayClient) -> None:
    while True:
        await client.send(BOB, "x" * SIZE)


async def exchange(url: str, **options: Any) -> None:
    """More than any buffer on the way holds, there and back, in order."""
    async with open_relay_client(url, "pwa", "alice123", queue_messages=8, inbox_messages=8, **options) as client:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(NUMBER):
                    await client.send(BOB, [number, "x" * SIZE])

            nursery.start_soon(send)
            for number in range(NUMBER):
                assert (await client.receive()).payload == [number, "x" * SIZE]
        counts = client.statistics().counts
        assert (counts["sent"], counts["received"]) == (NUMBER, NUMBER)


async def test_messages_there_and_back() -> None:
    relay = ScriptedRelay(echo)
    with trio.fail_after(10):
        async with relay.over_sockets() as url:
            await exchange(url)
            (peer,) = relay.peers
            assert (peer.connection.close_code, peer.connection.close_reason) == (1000, "Client closed")


async def test_messages_there_and_back_over_tls() -> None:
    relay, authority = ScriptedRelay(echo), make_authority("localhost", "127.0.0.1")
    routes = [Route("/", upgrade=relay.play, subtree=True)]
    with trio.fail_after(10):
        async with serving(routes, limits=LIMITS, tls=authority.server) as served:
            await exchange(f"wss://{served.bound[0]}", ssl_context=authority.client, key="some-access-key")
            assert relay.peers[0].path == "/pwa/alice123?key=some-access-key"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_upgrade(status: int) -> None:
    async def refuse(request: Request) -> Response:
        return Response.text(status, "Invalid key")

    relay = ScriptedRelay()
    with trio.fail_after(5):
        async with (
            serving([Route("/", upgrade=relay.play, guard=refuse, subtree=True)], limits=LIMITS) as served,
            open_relay_client(served.url, "pwa", "alice123", key="some-access-key") as client,
        ):
            with pytest.raises(RelayRefused) as caught:
                await client.receive()
            assert caught.value.code == f"HTTP_{status}"


async def test_a_refusal_reaches_a_client_that_has_much_to_send() -> None:
    async def refuse(peer: ScriptedPeer) -> None:
        await peer.accept()
        for _ in range(5):
            await peer.receive()
        await peer.refuse("INVALID_KEY")

    with trio.fail_after(5):
        async with (
            ScriptedRelay(refuse).over_sockets() as url,
            open_relay_client(url, "pwa", "alice123") as client,
        ):
            with pytest.raises(RelayRefused, match="INVALID_KEY"):
                await send_for_ever(client)


async def test_a_client_comes_back_and_goes_on() -> None:
    heard: list[Any] = []

    async def cut(peer: ScriptedPeer) -> None:
        await peer.accept()
        heard.append((await peer.receive())["payload"])
        peer.connection.abort()

    async def listen(peer: ScriptedPeer) -> None:
        await peer.accept()
        while (frame := await peer.receive()) is not None:
            heard.append(frame["payload"])

    with trio.fail_after(10):
        async with (
            ScriptedRelay(cut, listen).over_sockets() as url,
            open_relay_client(url, "pwa", "alice123", random=lambda: 0.01) as client,
        ):
            await client.send(BOB, "first")
            async with client.events() as events:
                assert [type(await anext(events)).__name__ for _ in range(3)] == [
                    "Connected",
                    "Disconnected",
                    "Connected",
                ]
            await client.send(BOB, "second")
    assert heard == ["first", "second"]
    assert client.address == OWN


async def test_what_was_being_written_when_the_connection_broke_is_lost_once_and_counted() -> None:
    stuck, heard = trio.Event(), list[int]()

    async def deaf(peer: ScriptedPeer) -> None:
        await peer.accept()
        await stuck.wait()
        peer.connection.abort()

    async def listen(peer: ScriptedPeer) -> None:
        await peer.accept()
        while (frame := await peer.receive()) is not None:
            heard.append(frame["payload"][0])

    with trio.fail_after(10):
        async with (
            ScriptedRelay(deaf, listen).over_sockets() as url,
            open_relay_client(url, "pwa", "alice123", random=lambda: 0.01, queue_bytes=1 << 26) as client,
        ):
            await client.wait_connected()
            number = 0
            while not stuck.is_set():
                await client.send(BOB, [number, "x" * 500_000])
                number += 1
                with trio.move_on_after(0.05) as pause:
                    while client.statistics().sizes["outbox_messages"]:
                        await trio.sleep(0.001)
                if pause.cancelled_caught:
                    stuck.set()
            await client.send(BOB, [number, "last"])
            while number not in heard:
                await trio.sleep(0.001)
        counts = client.statistics().counts
        assert counts["send_interrupted"] >= 1
        assert counts["sent"] + counts["send_interrupted"] == number + 1
        assert heard == list(range(number - len(heard) + 1, number + 1))
        assert heard[0] > 0


async def test_a_server_that_broke_the_protocol_is_not_believed_to_think(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goodbye takes longer than a server that does not answer has time."""
    monkeypatch.setattr("trio_relay.wsrelay.client.client._LIMITS", Limits(close_timeout=0.3))

    async def break_the_protocol(peer: ScriptedPeer) -> None:
        await peer.connection._stream.send_all(b"\x81\x81\0\0\0\0a")  # masked
        await trio.sleep_forever()

    with trio.fail_after(5):
        async with (
            ScriptedRelay(break_the_protocol).over_sockets() as url,
            open_relay_client(url, "pwa", "alice123", connect_timeout=0.1, reconnect=False) as client,
        ):
            with pytest.raises(trio.BrokenResourceError, match="broke the protocol"):
                await client.wait_connected()
            assert "connected" not in client.statistics().counts
