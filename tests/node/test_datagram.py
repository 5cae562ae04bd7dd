"""The datagram socket."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import DatagramSocket, Limits, PayloadTooLarge, open_datagram_socket, open_node
from trio_relay.testing import MemoryNetwork
from trio_relay.wire.content import Data

from .support import relays_of, until, url


async def test_datagrams_between_two_sockets(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("hub", network=network),
        open_datagram_socket(None, [url("hub")], network=network) as alice,
        open_datagram_socket(None, [url("hub")], network=network) as bob,
    ):
        await alice.bind(7)
        await bob.bind()
        await alice.sendto(b"\x00\xff hello", bob.getsockname())
        data, address = await bob.recvfrom()
        assert (data, address) == (b"\x00\xff hello", (alice.node.id.hex(), 7))
        await bob.sendto(b"", address)
        assert await alice.recvfrom() == (b"", bob.getsockname())
        assert bob.getsockname()[0] == bob.node.id.hex()
        assert 0 <= bob.getsockname()[1] <= 9998


async def test_unbound_socket_sends_from_port_zero(autojump_clock: MockClock) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        assert sock.getsockname() == (sock.node.id.hex(), 0)
        await sock.sendto(b"me", sock.getsockname())
        assert await sock.recvfrom() == (b"me", (sock.node.id.hex(), 0))


async def test_bind_returns_at_the_first_link(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_datagram_socket(None, [url("hub")], network=network) as sock, trio.open_nursery() as nursery:
        bound = trio.Event()

        async def bind() -> None:
            await sock.bind(1)
            bound.set()

        nursery.start_soon(bind)
        await trio.sleep(1)
        assert not bound.is_set()
        async with open_node("hub", network=network):
            with trio.fail_after(10):
                await bound.wait()
            assert sock.node.links


async def test_localhost_names_the_sockets_of_this_process(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("hub", network=network),
        open_datagram_socket(None, [url("hub")], network=network) as alice,
        open_datagram_socket(None, [url("hub")], network=network) as bob,
    ):
        await bob.bind(4000)
        await until(lambda: relays_of(alice.node))
        for host in ("localhost", "127.0.0.1"):
            await alice.sendto(b"by name", (host, 4000))
            assert (await bob.recvfrom())[0] == b"by name"
        with pytest.raises(ConnectionRefusedError, match="port 4001"):
            await alice.sendto(b"", ("localhost", 4001))
        bob.close()
        with pytest.raises(ConnectionRefusedError):
            await alice.sendto(b"", ("localhost", 4000))


async def test_port_belongs_to_one_socket_and_comes_back(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("hub", network=network),
        open_datagram_socket(None, [url("hub")], network=network) as one,
        open_datagram_socket(None, [url("hub")], network=network) as other,
        open_datagram_socket(None, network=network) as alone,
    ):
        await one.bind(9)
        for sock, error in ((one, errno.EINVAL), (other, errno.EADDRINUSE)):
            with pytest.raises(OSError, match="bound") as caught:
                await sock.bind(9)
            assert caught.value.errno == error
        with pytest.raises(ValueError, match="between 0 and 65535, not 65536"):
            await other.bind(65536)
        one.close()
        await other.bind(9)
        other.close()
        with trio.move_on_after(1):
            await alone.bind(9)
        # A `bind` that was given up has not taken the port.
        assert alone.getsockname()[1] == 0
        with trio.move_on_after(1):
            await alone.bind(9)
        assert alone.getsockname()[1] == 0


async def test_closed_socket(autojump_clock: MockClock) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock, trio.open_nursery() as nursery:
        told = trio.Event()

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await sock.recvfrom()
            told.set()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        sock.close()
        with trio.fail_after(1):
            await told.wait()
        sock.close()
        for call in (sock.bind, sock.recvfrom, lambda: sock.sendto(b"", ("localhost", 1))):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        with pytest.raises(trio.ClosedResourceError):
            sock.getsockname()


async def test_end_of_the_node_ends_receiving(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        told = trio.Event()

        async def receive(sock: DatagramSocket) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await sock.recvfrom()
            told.set()

        async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
            nursery.start_soon(receive, sock)
            await wait_all_tasks_blocked()
        with trio.fail_after(1):
            await told.wait()


async def test_other_messages_are_ignored_and_counted(autojump_clock: MockClock) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        others: list[Data] = [
            b"bytes",
            "text",
            {"buffer": [1], "address": "x"},
            {"buffer": 7, "address": "x", "port": 1},
        ]
        for data in others:
            await sock.node.send(sock.node.id, data)
        await sock.sendto(b"a datagram", sock.getsockname())
        assert (await sock.recvfrom())[0] == b"a datagram"
        assert sock.ignored == 4


async def test_sender_is_who_sent_whatever_the_datagram_claims(autojump_clock: MockClock) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        await sock.node.send(sock.node.id, {"buffer": [104, 105], "address": "f" * 40, "port": 3})
        assert await sock.recvfrom() == (b"hi", (sock.node.id.hex(), 3))


async def test_datagram_of_the_promised_size_fits(autojump_clock: MockClock) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        largest = b"\xff" * 15_000
        await sock.sendto(largest, sock.getsockname())
        assert (await sock.recvfrom())[0] == largest
        with pytest.raises(PayloadTooLarge):
            await sock.sendto(bytes([200]) * 20_000, sock.getsockname())


@pytest.mark.parametrize("host", ["", "nonsense", "0" * 39, "z" * 40])
async def test_malformed_host(autojump_clock: MockClock, host: str) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        with pytest.raises(ValueError, match="40 hexadecimal digits"):
            await sock.sendto(b"", (host, 1))


WITHOUT_MEANING: dict[str, Callable[[DatagramSocket], object]] = {
    "set_broadcast": lambda sock: sock.set_broadcast(True),
    "set_ttl": lambda sock: sock.set_ttl(1),
    "set_multicast_ttl": lambda sock: sock.set_multicast_ttl(1),
    "set_multicast_loopback": lambda sock: sock.set_multicast_loopback(True),
    "add_membership": lambda sock: sock.add_membership("224.0.0.1"),
    "drop_membership": lambda sock: sock.drop_membership("224.0.0.1", "eth0"),
    "ref": lambda sock: sock.ref(),
    "unref": lambda sock: sock.unref(),
}


@pytest.mark.parametrize("name", list(WITHOUT_MEANING))
async def test_what_has_no_meaning_here_names_itself(autojump_clock: MockClock, name: str) -> None:
    async with open_datagram_socket(None, network=MemoryNetwork()) as sock:
        with pytest.raises(NotImplementedError, match=f"^{name} "):
            WITHOUT_MEANING[name](sock)


async def test_every_argument_of_a_node_is_taken(autojump_clock: MockClock) -> None:
    limits = Limits(payload=100)
    async with open_datagram_socket("here", network=MemoryNetwork(), limits=limits, advertise=["memory://there"]) as s:
        assert s.node.urls == ("memory://there",)
        with pytest.raises(PayloadTooLarge):
            await s.sendto(bytes(100), s.getsockname())
