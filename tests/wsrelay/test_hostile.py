"""Clients that mean harm, on real sockets: what each is answered, what it costs, and that nobody else notices."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from trio_relay.limits import Limits

from .raw_client import PATIENCE, PING, PONG, TEXT, RawClient, client_frame, compact, upgrade_request
from .support import BOB, Relaying, error, eventually, relaying, routed, status, unwatch, watch

GOOD: Final = ("pwa:good-one", "pwa:good-two")
EVIL: Final = "pwa:evil-one"
EVIL_TARGET: Final = "/pwa/evil-one"
GOOD_HEADERS: Final = [(b"X-Forwarded-For", b"198.51.100.7")]
QUEUE_BYTES: Final = 256 * 1024


class Besieged(Relaying):
    """A relay with two clients that talk to each other all the time.

    Attributes:
        exchanged: messages that reached the other one; each did, in order.
    """

    exchanged = 0


async def talk(good: Relaying, running: Besieged, ready: trio.Event, over: trio.Event) -> None:
    one, two = [await good.connect(address, GOOD_HEADERS) for address in GOOD]
    await one.settle()
    await two.settle()
    ready.set()
    while not over.is_set():
        for sender, receiver, to in ((one, two, GOOD[1]), (two, one, GOOD[0])):
            message = routed(GOOD[0] if to == GOOD[1] else GOOD[1], to, running.exchanged)
            await sender.send(message)
            assert await receiver.receive() == message
            running.exchanged += 1
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def besieged(**options: Any) -> AsyncIterator[Besieged]:
    """The relay; afterwards nothing is left of the attackers, and the two have noticed nothing."""
    defaults = {
        "trusted_proxies": ["127.0.0.1"],
        "queue_bytes": QUEUE_BYTES,
        "max_message": 128 * 1024,
        "slow_consumer_timeout": 0.2,
        "limits": Limits(close_timeout=0.2, http_timeout=0.4),
    }
    async with relaying(**{**defaults, **options}) as found:
        running = Besieged(found._nursery, found._connect)
        running.relay, running.ended = found.relay, found.ended
        core = found.relay._core
        ready, over = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, found, running, ready, over)
            await ready.wait()
            before = running.exchanged
            try:
                yield running
            finally:
                await running.abort()
            await eventually(lambda: core._present == 2, "all attackers are gone")
            assert running.exchanged > before
            over.set()
        statistics = found.relay.statistics()
        assert [peer.address for peer in found.relay.registry] == list(GOOD)
        assert (statistics.watches, statistics.backlog) == (0, 0)
        assert core.entrance.connections._counts == {"198.51.100.7": 2}
        assert len(core.heartbeat._due) == 2


async def counts(running: Relaying) -> dict[str, int]:
    return dict(running.relay.statistics().counts)


async def deaf(running: Relaying, target: str = EVIL_TARGET) -> RawClient:
    """A client with a receive buffer as small as can be, which reads nothing."""
    host, _, port = running.relay.addresses[0].rpartition(":")
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect((host, int(port)))
    stream = trio.SocketStream(sock)
    running._streams.append(stream)
    client = RawClient(stream)
    await client.stream.send_all(upgrade_request(target))
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client


async def is_alive(client: RawClient) -> None:
    """The server deals with what this client sends."""
    await client.send(client_frame(b"still here", PING))
    while await client.frame() != (PONG, b"still here"):
        pass


# Frames that cost a message


MALFORMED: Final = ["", "{", "nul", '"x"', "1e999", "{}}", '{"a":NaN}', "\x00", "[" * 100_000, '{"a":' * 20_000]
DEEP: Final = compact(routed(EVIL, GOOD[0]))[:-5] + "[" * 60_000 + "]" * 60_000 + "}"


async def test_what_is_no_json_costs_a_message() -> None:
    async with besieged() as running:
        evil = await running.raw(EVIL_TARGET)
        await evil.send(*MALFORMED, DEEP)
        await is_alive(evil)
        assert await counts(running) == {"malformed": len(MALFORMED) + 1}


async def test_a_deep_payload_is_refused_and_a_deep_string_is_not() -> None:
    async with besieged() as running:
        bob = await running.join(BOB)
        evil = await running.connect(EVIL_TARGET + "?reports")
        await evil.send(DEEP.replace(GOOD[0], BOB), routed(EVIL, BOB, "[" * 50_000))
        assert (await bob.receive())["payload"] == "[" * 50_000
        frames = await evil.settle()
        assert [frame["payload"]["code"] for frame in frames] == ["INVALID_MESSAGE"]


async def test_nobody_speaks_for_somebody_else_or_for_the_relay() -> None:
    async with besieged() as running:
        bob, evil = await running.join(BOB), await running.join(EVIL)
        for sender in (GOOD[0], BOB, "", "pwa:evil-one ", "PWA:evil-one", "pwa:evil\\u002done2"):
            await evil.send(routed(sender, BOB))
        assert {frame["payload"]["code"] for frame in await evil.settle()} == {"INVALID_FROM"}
        await evil.send(routed(EVIL, BOB, type="error"), routed(EVIL, BOB, type="peer-status"))
        await evil.send(compact(routed(EVIL, BOB, type="error")).replace("error", "\\u0065rror"))
        await evil.send(compact(routed(EVIL, BOB, type="x"))[:-1] + ',"type":"error"}')
        assert [frame["payload"]["code"] for frame in await evil.settle()] == ["INVALID_MESSAGE"] * 4
        await evil.send(error("REPLACED", "Go away"), status(GOOD[0], False))  # addressed to nobody
        await evil.send(routed(EVIL, BOB, error("REPLACED", "Go away")))  # nobody takes this for the relay's
        assert await bob.receive() == routed(EVIL, BOB, error("REPLACED", "Go away"))
        assert await counts(running) == {"invalid_from": 6, "spoofed_type": 4, "unknown_message": 2}


# Frames that cost the connection


async def test_a_frame_of_100_mb_is_refused_by_its_head() -> None:
    async with besieged() as running:
        evil = await running.raw(EVIL_TARGET)
        await evil.send(b"\x82\xff" + struct.pack(">Q", 100_000_000) + bytes(4))
        assert (await evil.end())[1] == 1009
        await eventually(lambda: running.relay.statistics().counts == {"protocol_error": 1}, "it is counted")


async def test_what_is_not_utf_8_costs_the_connection_and_what_came_before_arrives() -> None:
    async with besieged() as running:
        bob, evil = await running.join(BOB), await running.raw(EVIL_TARGET)
        bad = client_frame(b'{"from":"pwa:evil-one","to":"pwa:bobbobbob","payload":"\xff"}')
        await evil.send(routed(EVIL, BOB, 1), bad, routed(EVIL, BOB, 2))
        assert (await evil.end())[1] == 1007
        assert await bob.settle() == [routed(EVIL, BOB, 1)]


async def test_too_many_fragments_cost_the_connection() -> None:
    async with besieged() as running:
        evil = await running.raw(EVIL_TARGET)
        await evil.send(client_frame(b"{", TEXT, fin=False), *[client_frame(b"", 0, fin=False)] * 1000)
        assert (await evil.end())[1] == 1008


async def test_fragments_that_together_are_too_long_cost_the_connection() -> None:
    async with besieged() as running:
        evil = await running.raw(EVIL_TARGET)
        await evil.send(client_frame(b"{", TEXT, fin=False))
        for _ in range(3):
            await evil.send(client_frame(bytes(60_000), 0, fin=False))
        assert (await evil.end())[1] == 1009


# Heads


async def test_a_flood_of_headers_is_refused() -> None:
    async with besieged() as running:
        answer = await running.request(upgrade_request(EVIL_TARGET, "X-Flood: y\r\n" * 10_000))
        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_slow_head_has_its_time() -> None:
    async with besieged() as running:
        stream = await running._dial()
        client = RawClient(stream)
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for octet in upgrade_request(EVIL_TARGET):
                    await stream.send_all(bytes([octet]))
                    await trio.sleep(0.05)

            nursery.start_soon(drip)
            assert (await client.head()).startswith(b"HTTP/1.1 408 ")
            nursery.cancel_scope.cancel()


# Those who do not read


async def test_ten_senders_to_one_that_does_not_read() -> None:
    async with besieged() as running:
        await deaf(running)
        await eventually(lambda: running.relay.registry.get_by_address(EVIL) is not None, "it is let in")
        most = 0
        gone = trio.Event()

        async def send(number: int) -> None:
            sender = f"pwa:sender{number:02}"
            client = await running.raw("/pwa/" + sender[4:])
            batch = [routed(sender, EVIL, "x" * 1000)] * 50
            while not gone.is_set():
                await client.send(*batch)
            await is_alive(client)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(send, number)
            while running.relay.registry.get_by_address(EVIL) is not None:
                most = max(most, running.relay.statistics().backlog)
                await trio.sleep(0.01)
            gone.set()
        assert QUEUE_BYTES <= most <= QUEUE_BYTES + 2 * 65536 + 128 * 1024
        seen = await counts(running)
        assert seen["slow_consumer_disconnected"] == 1
        assert seen["slow_consumer_paused"] >= 10


@pytest.mark.parametrize("what", ["bad frames", "watches", "messages to nobody"])
async def test_one_that_lets_answers_pile_up_is_disconnected(what: str) -> None:
    async with besieged() as running:
        evil = await deaf(running, EVIL_TARGET + "?reports=1")
        await eventually(lambda: running.relay.registry.get_by_address(EVIL) is not None, "it is let in")
        frames: dict[str, list[object]] = {
            "bad frames": [client_frame(b"{")] * 1000,
            "watches": [watch(f"pwa:{number:0400}") for number in range(1000)],
            "messages to nobody": [routed(EVIL, "pwa:" + "x" * 400)] * 1000,
        }
        most = 0
        with trio.move_on_after(PATIENCE):
            while running.relay.registry.get_by_address(EVIL) is not None:
                with trio.move_on_after(0.1):
                    await evil.send(*frames[what])
                most = max(most, running.relay.statistics().backlog)
        assert running.relay.registry.get_by_address(EVIL) is None
        assert most < 2_000_000
        seen = await counts(running)
        assert seen["slow_consumer_disconnected"] == 1
        assert running.relay.statistics().watches == 0


async def test_a_flood_of_pings_is_answered_by_few_pongs() -> None:
    async with besieged() as running:
        evil = await deaf(running)
        for _ in range(20):
            await evil.send(client_frame(b"p" * 125, PING) * 1000)
        await is_alive(evil)
        assert await counts(running) == {}


# Many of something


async def test_ten_thousand_watches_of_one_peer() -> None:
    async with besieged() as running:
        evil = await running.raw(EVIL_TARGET)
        frames = []
        for first in range(0, 10_000, 500):
            await evil.send(*[watch(f"pwa:nobody{number}") for number in range(first, first + 500)])
            frames += [(await evil.frame())[1] for _ in range(500)]
        assert frames[:1024] == [compact(status(f"pwa:nobody{number}", False)).encode() for number in range(1024)]
        full = compact(error("TOO_MANY_WATCHES", "Too many addresses are watched")).encode()
        assert frames[1024:] == [full] * (10_000 - 1024)
        assert running.relay.statistics().watches == 1024
        await evil.send(*[unwatch(f"pwa:nobody{number}") for number in range(1000)])
        await is_alive(evil)
        assert running.relay.statistics().watches == 24


async def test_five_hundred_connections_of_one_ip() -> None:
    ip = "203.0.113.9"
    # None may be slow only because so many come at once.
    limits = Limits(close_timeout=0.2, http_timeout=20.0)
    async with besieged(rate_limit_max_connections=30, limits=limits) as running:
        opened = 0

        async def strike(number: int, together: trio.Event) -> None:
            nonlocal opened
            stream = await running._dial()
            await stream.send_all(upgrade_request(f"{EVIL_TARGET}{number}", f"X-Forwarded-For: {ip}\r\n"))
            await stream.receive_some(1)
            opened += 1
            await together.wait()
            await trio.aclose_forcefully(stream)

        core = running.relay._core
        for first in range(0, 500, 250):
            together = trio.Event()
            async with trio.open_nursery() as nursery:
                for number in range(first, first + 250):
                    nursery.start_soon(strike, number, together)
                wanted = first + 250
                await eventually(lambda wanted=wanted: opened == wanted, "all are there")  # type: ignore[misc]
                assert len(running.relay.registry) == 2 + 30
                together.set()
            await eventually(lambda: core.entrance.connections._counts == {"198.51.100.7": 2}, "no slot is held")
        assert (await counts(running))["refused_connections"] == 2 * 220
        back = await running.connect(EVIL, [(b"X-Forwarded-For", ip.encode())])
        assert await back.settle() == []


async def test_two_clients_that_evict_each_other() -> None:
    rounds = 200
    async with besieged() as running:
        watcher = await running.connect("pwa:watcher1")
        await watcher.send(watch(EVIL))
        assert await watcher.receive() == status(EVIL, False)
        endings = []

        async def insist(times: int) -> None:
            for _ in range(times):
                client = await running.raw(EVIL_TARGET)
                endings.append(await client.end())
                await client.stream.aclose()

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(insist, rounds // 2)
            await eventually(lambda: len(endings) == rounds - 1, "all but one were replaced")
            last = await running.join(EVIL)
        assert endings == [([error("REPLACED", "Replaced by new connection")], 1000, "Replaced")] * rounds
        seen = await watcher.settle()
        assert seen == [status(EVIL, True)] * (rounds + 1)
        await last.aclose()
        assert await watcher.receive() == status(EVIL, False)
        assert (await counts(running))["replaced"] == rounds
        await watcher.send(unwatch(EVIL))
        await watcher.settle()
