"""Clients that come, go and come back at the wrong moment."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
import trio

from tests.transports.support import make_authority
from tests.wsrelay.raw_client import BINARY, client_frame
from trio_relay.limits import Limits
from trio_relay.peerjs.broker.hooks import BrokerClient, BrokerHooks, Registration

from .support import Client, Clients, brokering, eventually, message


def reset(client: Client) -> None:
    """The client is gone, and the next write to it fails."""
    assert isinstance(client.stream, trio.SocketStream)
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.stream.socket.close()


async def test_a_client_that_goes_while_it_comes_does_not_end_the_watch_over_others() -> None:
    asked, decide = trio.Event(), trio.Event()

    async def authenticate(who: Registration) -> None:
        if who.id == "first":
            asked.set()
            await decide.wait()

    async with brokering(alive_timeout=0.05, hooks=BrokerHooks(authenticate=authenticate)) as running:
        first = await running.connect("first")
        await asked.wait()
        reset(first)
        decide.set()
        await eventually(lambda: running.broker.statistics().total_clients == 1, "it came")
        await eventually(lambda: not running.broker.clients, "it is gone")
        silent = await running.join("silent")
        await silent.close_frame()
        assert running.counts("heartbeat_lost") == 1


async def test_who_came_back_twice_keeps_the_newer_connection() -> None:
    """The application takes longer for the older one."""
    asked, decide, seen = trio.Event(), trio.Event(), list[str]()

    async def authenticate(who: Registration) -> None:
        seen.append(who.id)
        if len(seen) == 1:
            asked.set()
            await decide.wait()

    async with brokering(hooks=BrokerHooks(authenticate=authenticate)) as running:
        older = await running.connect("alice")
        await asked.wait()
        newer = await running.join("alice")
        decide.set()
        assert (await older.close_frame())[0] == []
        assert await newer.settle() == []
        assert running.counts("refused_overtaken") == 1


async def test_a_disconnect_is_never_told_after_the_client_came_back(autojump_clock: trio.testing.MockClock) -> None:
    """Its old connection, which nobody reads from, takes a while to end."""
    online: set[str] = set()
    hooks = BrokerHooks(
        on_connection=lambda client: online.add(client.id), on_disconnect=lambda client: online.discard(client.id)
    )
    async with brokering(memory=True, hooks=hooks, alive_timeout=10) as running:
        await running.join("alice")
        await trio.sleep(10.1)
        assert running.counts("heartbeat_lost") == 1
        again = await running.join("alice", "another")
        await trio.sleep(5)
        assert online == {"alice"}
        await again.leave()
        await trio.sleep(1)
        assert online == set()


async def test_long_names_of_absent_peers_do_not_pile_up() -> None:
    """One EXPIRE repeats a name that may be as long as a message."""
    async with brokering() as running:
        mallory, most = await running.join("mallory"), 0
        async with trio.open_nursery() as nursery:
            frame = client_frame(json.dumps(message("OFFER", "x" * 500_000)).encode())
            nursery.start_soon(mallory.stream.send_all, frame * 40)
            await eventually(lambda: running.counts("slow_paused") > 0, "mallory is made to wait")
            (client,) = running.broker._core.tables.everybody()
            most = sum(map(len, client.outbox._control or ()))
            nursery.cancel_scope.cancel()
        assert 0 < most < 2_000_000


async def test_who_is_refused_a_meeting_makes_room_for_others() -> None:
    async with brokering(limits=Limits(unproven_connections=2, close_timeout=60.0)) as running:
        alice = await running.join("alice")
        target = f"/peerjs/relay?key=peerjs&id=alice&token=t&peer=alice&meeting={'0' * 32}"
        for _ in range(5):  # none of them answers the close frame
            assert (await running.upgrade(target))[0].startswith(b"HTTP/1.1 101 ")
        admission = running.broker._pages._admission
        assert admission is not None
        await eventually(lambda: admission.admitted <= 3, "no more than one client and two strangers are there")
        assert await alice.settle() == []


async def test_a_hook_that_hangs_at_the_end_has_its_time_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    async def on_disconnect(client: BrokerClient) -> None:
        await trio.sleep_forever()

    async with brokering(memory=True, hooks=BrokerHooks(on_disconnect=on_disconnect), hook_timeout=7) as running:
        await running.join("alice")
        with trio.fail_after(7.1):
            await running.broker.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_everything_over_tls(host: str) -> None:
    authority = make_authority("localhost")
    async with brokering(listen=f"{host}:0", tls=authority.server) as running:
        port = int(running.broker.addresses[0].rpartition(":")[2])

        async def dial() -> trio.abc.Stream:
            stream = await trio.open_tcp_stream(host.strip("[]"), port)
            return trio.SSLStream(stream, authority.client, server_hostname="localhost", https_compatible=True)

        clients = Clients(dial)
        try:
            await check_all(clients)
        finally:
            await clients.abort()
        assert running.broker.urls[0].startswith(f"https://{host}:")


async def check_all(clients: Clients) -> None:
    """An id, messages of all sizes both ways, a message that waits, a meeting, a client that comes back."""
    status, _, id = await clients.ask("/peerjs/id")
    assert (status, len(id)) == (200, 36)
    alice, bob = await clients.join(id), await clients.join("bob")
    sizes = [0, 10, 100_000, 1_000_000, 5]
    for sender, receiver in ((alice, bob), (bob, alice)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, sender, receiver.id, sizes)
            assert [len((await receiver.receive())["payload"]) for _ in sizes] == sizes
    await alice.send(message("OFFER", "carol", "wait"))
    await alice.settle()
    assert (await (await clients.join("carol")).receive())["payload"] == "wait"
    ends = [await meet(clients, one, other) for one, other in ((id, "bob"), ("bob", id))]
    await ends[0].send(client_frame(b"x" * 100_000, BINARY))
    assert await ends[1].frame() == (BINARY, b"x" * 100_000)
    await clients.join(id)
    assert (await alice.close_frame())[0] == []


async def send_all(client: Client, dst: str, sizes: list[int]) -> None:
    await client.send(*(message("OFFER", dst, "x" * size) for size in sizes))


async def meet(clients: Clients, id: str, peer: str) -> Any:
    _, client = await clients.upgrade(f"/peerjs/relay?key=peerjs&id={id}&token=t&peer={peer}&meeting={'a' * 32}")
    return client


async def test_a_client_that_gives_its_id_back_can_not_use_it() -> None:
    async with brokering() as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(message("LEAVE"), message("OFFER", "bob", 1), message("OFFER", "nobody", 2))
        await eventually(lambda: running.counts("not_registered") == 2, "both were dropped")
        other = await running.join("alice", "other")
        await alice.leave()
        await bob.send(message("OFFER", "alice", 3))
        assert (await other.receive())["payload"] == 3
        assert sorted(running.broker.clients) == ["alice", "bob"]
        assert await bob.settle() == []
