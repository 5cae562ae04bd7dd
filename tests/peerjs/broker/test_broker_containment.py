"""Bad input, floods and slow readers: who causes them suffers, others notice nothing."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
import trio

from tests.wsrelay.raw_client import BINARY, CLOSE, client_frame
from trio_relay.limits import Limits
from trio_relay.peerjs.broker.hooks import BrokerClient, BrokerHooks, Registration

from .support import Brokering, Client, brokering, compact, eventually, message, signalling_target, upgrade_request


async def still_works(alice: Client, bob: Client) -> None:
    await alice.send(message("OFFER", bob.id, "are you there?"))
    assert (await bob.receive())["payload"] == "are you there?"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (client_frame(b"\xff"), 1007),
        (client_frame(b'{"type":"OFFER","dst":"bob","payload":"\xed\xa0\x80"}', BINARY), 1007),
        (client_frame(b"x" * 3000), 1009),
        (client_frame(b"x" * 1500, fin=False) + client_frame(b"x" * 1500, 0), 1009),
        (b"\xc1\x80" + bytes(4), 1002),
        (b"\x81\x01x", 1002),
        (client_frame(b"", 3), 1002),
    ],
)
async def test_a_broken_rule_ends_the_connection_of_its_sender(frame: bytes, code: int) -> None:
    seen: list[str] = []
    async with brokering(max_message=2000, hooks=BrokerHooks(on_error=seen.append)) as running:
        alice, bob, mallory = [await running.join(id) for id in ("alice", "bob", "mallory")]
        await mallory.send(message("OFFER", "bob", "before"), frame, message("OFFER", "bob", "after"))
        _, payload = await mallory.close_frame()
        assert int.from_bytes(payload[:2], "big") == code
        assert (await bob.receive())["payload"] == "before"
        await still_works(alice, bob)
        await eventually(lambda: sorted(running.broker.clients) == ["alice", "bob"], "mallory has left")
        assert running.counts("protocol_error") == 1
        assert len(seen) == 1


async def test_an_endless_id_is_refused_by_http() -> None:
    async with brokering() as running:
        stream = await running.dial()
        await stream.send_all(upgrade_request(signalling_target("a" * 100_000)))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 431 ")


async def test_deep_json_in_large_frames_is_refused_quickly() -> None:
    async with brokering() as running:
        alice, mallory = await running.join("alice"), await running.join("mallory")
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            depth = 100_000
            await mallory.send(f'{{"type":"OFFER","dst":"alice","payload":{opening * depth}1{closing * depth}}}')
        assert await mallory.settle() == []
        assert await alice.settle() == []
        assert running.counts("malformed") == 2


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with brokering(max_connections_per_ip=2, trusted_proxies=["127.0.0.1"]) as running:
        alice, _ = await running.join("alice"), await running.join("bob")
        for _ in range(3):
            carol = await running.connect("carol")
            assert "Too many connections" in (await carol.close_frame())[0][0]
        _, dave = await running.upgrade(signalling_target("dave"), "X-Forwarded-For: 192.0.2.1\r\n")
        assert await dave.text() == '{"type":"OPEN"}'
        await alice.leave()
        await eventually(lambda: len(running.broker.clients) == 2, "alice is gone")
        await running.join("carol")


async def test_too_many_messages_are_dropped_without_a_word(autojump_clock: trio.testing.MockClock) -> None:
    async with brokering(memory=True, max_messages_per_second=1, burst_messages=3) as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(*(message("OFFER", "bob", number) for number in range(5)))
        assert [(await bob.receive())["payload"] for _ in range(3)] == [0, 1, 2]
        await trio.sleep(2)
        await alice.send(message("OFFER", "bob", "later"))
        assert (await bob.receive())["payload"] == "later"
        assert await alice.settle() == []
        assert running.counts("rate_limited") == 2


async def test_a_flood_for_absent_peers_fills_no_more_than_its_share() -> None:
    async with brokering(queue_messages=8, queued_messages=64, trusted_proxies=["127.0.0.1"]) as running:
        _, alice = await running.upgrade(signalling_target("alice"), "X-Forwarded-For: 192.0.2.1\r\n")
        assert await alice.text() == '{"type":"OPEN"}'
        alice.id, mallory = "alice", await running.join("mallory")  # type: ignore[misc]
        await mallory.send(*(message("OFFER", "bob", number) for number in range(100)))
        assert await mallory.settle() + await mallory.settle() == ['{"type":"EXPIRE","src":"bob","dst":"mallory"}']
        await alice.send(message("OFFER", "bob", "hello"))
        assert await alice.settle() == []
        await mallory.send(*(message("OFFER", f"nobody {number}") for number in range(100)))
        await mallory.settle()
        statistics = running.broker.statistics()
        assert statistics.waiting_messages == 17  # a quarter, and that of alice
        assert statistics.counts["waiting_full"] == 96 + 100 - (statistics.waiting_messages - 5)
        bob = await running.join("bob")
        assert [(await bob.receive())["payload"] for _ in range(5)] == [0, 1, 2, 3, "hello"]


async def test_a_message_for_an_id_that_nobody_can_have_is_answered_at_once() -> None:
    async with brokering(expire_timeout=1000) as running:
        alice = await running.join("alice")
        await alice.send(message("OFFER", "x" * 300))
        assert await alice.receive() == {"type": "EXPIRE", "src": "x" * 300, "dst": "alice"}
        assert running.broker.statistics().waiting_messages == 0


async def test_a_client_that_does_not_read_what_it_caused_is_not_read_from() -> None:
    async with brokering(queued_messages=4) as running:
        alice, bob, mallory = [await running.join(id) for id in ("alice", "bob", "mallory")]
        flood = [client_frame(compact(message("OFFER", f"{number:0200}")).encode()) for number in range(30_000)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_quietly, mallory, b"".join(flood))
            await eventually(lambda: running.counts("slow_paused") > 0, "mallory is made to wait")
            await still_works(alice, bob)
            nursery.cancel_scope.cancel()


async def _send_quietly(client: Client, data: bytes) -> None:
    await client.stream.send_all(data)


async def test_a_slow_reader_is_disconnected_and_senders_are_told() -> None:
    async with brokering(slow_bytes=64 * 1024) as running:
        alice, bob, _ = [await running.join(id) for id in ("alice", "bob", "slow")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_flood, running, alice)
            assert await alice.text() == '{"type":"EXPIRE","src":"slow","dst":"alice"}'
            nursery.cancel_scope.cancel()
        assert running.counts("slow_disconnected") == 1
        assert "slow" not in running.broker.clients
        await still_works(bob, bob)


async def _flood(running: Brokering, client: Client) -> None:
    frame = client_frame(compact(message("OFFER", "slow", "x" * 8000)).encode()) * 8
    while not running.counts("slow_disconnected"):
        with trio.CancelScope(shield=True):
            await client.stream.send_all(frame)


async def test_the_sender_is_told_that_the_receivers_socket_is_gone() -> None:
    """The broker has not seen the end of the socket: its task waits for the application."""
    waiting, go_on = trio.Event(), trio.Event()

    async def on_message(client: BrokerClient, type: str, dst: str | None, payload: Any) -> None:
        if client.id == "bob":
            waiting.set()
            await go_on.wait()

    async with brokering(hooks=BrokerHooks(on_message=on_message)) as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await bob.send(message("HEARTBEAT"))
        await waiting.wait()
        assert isinstance(bob.stream, trio.SocketStream)
        bob.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await bob.stream.aclose()
        await alice.send(message("OFFER", "bob"))
        assert await alice.text() == '{"type":"LEAVE","src":"bob","dst":"alice"}'
        assert list(running.broker.clients) == ["alice"]
        await alice.send(message("OFFER", "bob"))
        assert await alice.settle() == []
        assert running.broker.statistics().waiting_messages == 1
        go_on.set()


# The end


async def test_a_drained_broker_closes_its_clients_and_ends() -> None:
    gone: list[str] = []
    async with brokering(hooks=BrokerHooks(on_disconnect=lambda client: gone.append(client.id))) as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(message("OFFER", "bob", 1))
        assert await alice.settle() == []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.broker.aclose)
            frames, _ = await bob.close_frame()
            assert [json.loads(frame)["payload"] for frame in frames] == [1]
            assert (await alice.close_frame())[0] == []
        assert running.ended.is_set()
        assert sorted(gone) == ["alice", "bob"]
        with pytest.raises(OSError, match="all attempts to connect"):
            await running.connect("carol")
        await running.broker.aclose()


async def test_a_mounted_broker_that_drains_takes_nobody_in() -> None:
    async with brokering(memory=True) as running:
        alice = await running.join("alice")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.broker.aclose)
            await trio.testing.wait_all_tasks_blocked()
            bob = await running.connect("bob")
            assert (await bob.close_frame())[0] == []
            assert (await alice.close_frame())[0] == []


async def test_who_is_asked_about_when_the_broker_drains_is_not_taken_in() -> None:
    asked, decide, names = trio.Event(), trio.Event(), list[str]()

    async def authenticate(who: Registration) -> None:
        names.append(who.id)
        asked.set()
        await decide.wait()

    async with brokering(memory=True, hooks=BrokerHooks(authenticate=authenticate)) as running:
        alice = await running.connect("alice")
        await asked.wait()
        running.broker._core.entrance.draining = True
        decide.set()
        assert (await alice.close_frame())[0] == []
        bob = await running.connect("bob")
        assert (await bob.close_frame())[0] == []
        assert running.counts("refused_draining") == 2
        assert names == ["alice"]


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with brokering(memory=True) as running:
        await running.join("alice")
        with trio.fail_after(5.1):
            await running.broker.aclose()


async def test_a_cancelled_broker_drops_its_clients() -> None:
    async with brokering() as running:
        alice = await running.join("alice")
        running.stop()
        await running.ended.wait()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await alice.frame()


async def test_clients_never_make_room_for_strangers() -> None:
    """And there is room for as many as the broker takes, unless somebody chose another number of sockets."""
    limits = Limits(unproven_connections=1, close_timeout=0.5)
    async with brokering(relayed=None, limits=limits) as running:
        clients = [await running.join(id) for id in ("alice", "bob", "carol", "dave")]
        assert [await client.settle() for client in clients] == [[]] * 4
        assert running.broker._pages._admission is not None
        assert running.broker._pages._admission._limits.connections == 5001
    async with brokering(limits=Limits(connections=2)) as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await (await running.upgrade(signalling_target("carol")))[1].frame()
        await still_works(alice, bob)


async def test_two_registered_clients_meet() -> None:
    async with brokering(limits=Limits(unproven_connections=2, close_timeout=0.5)) as running:
        await running.join("alice", "a"), await running.join("bob", "b")
        meeting = f"&meeting={'0' * 32}"
        targets = (
            f"/peerjs/relay?key=peerjs&id=alice&token=a&peer=bob{meeting}",
            f"/peerjs/relay?key=peerjs&id=bob&token=b&peer=alice{meeting}",
            f"/peerjs/relay?key=peerjs&id=bob&token=wrong&peer=alice{meeting}",
        )
        one, two, stranger = [(await running.upgrade(target))[1] for target in targets]
        assert (await stranger.frame())[0] == CLOSE
        for _ in range(3):
            await running.dial()
        await running.join("carol")
        await one.send(client_frame(b"hello", BINARY))
        assert await two.frame() == (BINARY, b"hello")
        assert running.broker.health() == {"clients": 3, "meetings": 1}
