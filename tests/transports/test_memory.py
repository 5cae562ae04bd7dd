"""The network inside the process: delivery, bounds, faults that repeat, partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.support import ROUTES, echo, hello, take
from trio_relay.exceptions import HandshakeError
from trio_relay.limits import Limits
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.admission import Ending
from trio_relay.transports.connection import Connection
from trio_relay.transports.memory_connection import MemoryConnection
from trio_relay.transports.routes import Request, Route
from trio_relay.transports.transport import Transport, WebSocketTransport


def pair(network: MemoryNetwork) -> tuple[MemoryConnection, MemoryConnection]:
    return network.connect("a", "b", subprotocol=True)


@asynccontextmanager
async def listening(transport: Transport, listen: str, routes: tuple[Route, ...] = ROUTES) -> AsyncIterator[str]:
    """Serves beside the block; yields the URL."""
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await transport.serve(listen, routes, task_status=task_status)

        (bound,) = await nursery.start(serve)
        yield f"{transport.scheme}://{bound}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["memory", "websocket"])
async def test_a_node_can_use_either_transport_alike(kind: str) -> None:
    server: Transport
    client: Transport
    if kind == "memory":
        network = MemoryNetwork()
        server, client, listen = network.host("b"), network.host("a"), "b"
    else:
        server, client, listen = WebSocketTransport(Limits()), WebSocketTransport(Limits()), "127.0.0.1:0"
    async with listening(server, listen) as url:
        for subprotocol in (True, False):
            connection = await client.dial(url, subprotocol=subprotocol, allow_address=lambda address: True)
            assert connection.transport == kind
            assert connection.direct
            assert connection.offered_subprotocol is subprotocol
            await connection.send([b"by", b"tes"])
            assert await take(connection) == [b"bytes"]
            await connection.send([b"te", b"xt"], text=True)
            assert await take(connection) == ["text"]
            await connection.aclose()
        with pytest.raises(HandshakeError, match="not allowed"):
            await client.dial(url, allow_address=lambda address: False)
        connection = await client.dial(url)
        client.proven(connection)  # of a dialled connection that says nothing
        connection.abort()
    assert server.statistics.accepted == 3


async def test_the_acceptor_knows_who_dialled_and_what_was_offered() -> None:
    network = MemoryNetwork()
    seen: list[tuple[Connection, Request | None]] = []

    async def note(connection: Connection, request: Request | None) -> None:
        seen.append((connection, request))

    async with listening(network.host("b"), "memory://b", (Route("/", upgrade=note),)):
        connection = await network.host("a").dial("memory://b", subprotocol=False)
        assert await take(connection) == []
        await connection.aclose()
    ((accepted, request),) = seen
    assert request is None
    assert (accepted.remote, accepted.local) == ("a:0", "b:0") == (connection.local, connection.remote)
    assert not accepted.offered_subprotocol


async def test_without_faults_messages_arrive_in_the_call_that_sends_them() -> None:
    ours, theirs = pair(MemoryNetwork())
    for number in range(5):
        assert ours.send_nowait([b"%d" % number])
    assert ours.send_nowait(["\u00fc".encode()], text=True)
    assert await take(theirs) == [b"0", b"1", b"2", b"3", b"4", "\u00fc"]


async def test_what_was_sent_may_be_changed_afterwards() -> None:
    ours, theirs = pair(MemoryNetwork(duplication=1))
    piece = bytearray(b"abc")
    ours.send_nowait([piece])
    piece[:] = b"xyz"
    assert await theirs.receive() == [b"abc", b"abc"]


@pytest.mark.parametrize(("messages", "size"), [(4, 10), (100, 1000)])
async def test_a_receiver_that_does_not_receive_pushes_back(messages: int, size: int) -> None:
    ours, theirs = pair(MemoryNetwork(buffer_messages=4, buffer_bytes=4000))
    sent = 0
    while ours.send_nowait([bytes(size)]):
        sent += 1
    assert sent == 4
    assert ours.control_pending
    with pytest.raises(trio.BusyResourceError):
        ours.send_nowait([b"x"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.flush)
        await trio.testing.wait_all_tasks_blocked()
        assert len(await theirs.receive()) == 4
    assert await take(theirs) == [bytes(size)]
    assert ours.send_nowait([b"x"])


async def test_a_message_larger_than_the_buffer_travels_alone() -> None:
    ours, theirs = pair(MemoryNetwork(buffer_bytes=10))
    assert ours.send_nowait([bytes(100)])
    assert not ours.send_nowait([b"x"])
    assert await take(theirs) == [bytes(100)]
    await ours.flush()
    assert await take(theirs) == [b"x"]


async def test_messages_before_a_close_are_received() -> None:
    ours, theirs = pair(MemoryNetwork())
    ours.send_nowait([b"last"])
    await ours.aclose()
    await ours.aclose()
    assert await take(theirs) == [b"last"]
    assert await take(theirs) == []
    with pytest.raises(trio.BrokenResourceError):
        theirs.send_nowait([b"x"])
    await theirs.aclose()
    for connection in (ours, theirs):
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive()
        with pytest.raises(trio.ClosedResourceError):
            connection.send_nowait([b"x"])


async def test_a_close_gives_up_on_a_receiver_that_does_not_receive(autojump_clock: MockClock) -> None:
    ours, _ = pair(MemoryNetwork(buffer_messages=1, limits=Limits(close_timeout=3)))
    while ours.send_nowait([b"x"]):
        pass
    await ours.aclose()
    assert trio.current_time() == pytest.approx(3)


async def test_abort_wakes_both_ends_and_both_directions() -> None:
    ours, theirs = pair(MemoryNetwork(buffer_messages=1))
    while ours.send_nowait([b"x"]):
        pass
    ended: list[str] = []

    async def expect(error: type[Exception] | None, connection: MemoryConnection, name: str) -> None:
        if error is None:
            assert await take(theirs) == []
        else:
            with pytest.raises(error):
                await getattr(connection, name)()
        ended.append(name)

    async with trio.open_nursery() as nursery:
        assert await take(theirs) == [b"x"]
        await ours.flush()
        assert await take(theirs) == [b"x"]
        while ours.send_nowait([b"x"]):
            pass
        nursery.start_soon(expect, trio.ClosedResourceError, ours, "receive")
        nursery.start_soon(expect, trio.ClosedResourceError, ours, "flush")
        await trio.testing.wait_all_tasks_blocked()
        ours.abort()
        assert await take(theirs) == [b"x"]
        nursery.start_soon(expect, None, theirs, "receive")
    assert sorted(ended) == ["flush", "receive", "receive"]


async def test_an_interrupted_flush_breaks_the_connection() -> None:
    ours, _ = pair(MemoryNetwork(buffer_messages=1))
    while ours.send_nowait([b"x"]):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.flush)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        ours.send_nowait([b"x"])
    ours.abort()


async def test_two_receivers_are_one_too_many() -> None:
    ours, theirs = pair(MemoryNetwork())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await ours.receive()
        theirs.send_nowait([b"x"])


async def test_waiting_methods_are_checkpoints() -> None:
    ours, theirs = pair(MemoryNetwork())
    with trio.testing.assert_checkpoints():
        await ours.send([b"x"])
    with trio.testing.assert_checkpoints():
        await theirs.receive()
    with trio.testing.assert_checkpoints():
        await ours.flush()
    with trio.testing.assert_checkpoints():
        await ours.aclose()


async def outcome(seed: int, connections: int = 1) -> list[list[int]]:
    """Which of 200 numbered messages arrive over each connection, in which order."""
    network = MemoryNetwork(seed, loss=0.1, duplication=0.1, reordering=0.2, jitter=1.0, buffer_messages=1000)
    arrived: list[list[int]] = []
    async with network:
        pairs = [pair(network) for _ in range(connections)]

        async def send(connection: MemoryConnection) -> None:
            for number in range(200):
                await connection.send([b"%d" % number])

        async with trio.open_nursery() as nursery:
            for ours, _ in pairs:
                nursery.start_soon(send, ours)
        await trio.sleep(100)
        for ours, theirs in pairs:
            arrived.append([int(bytes(message)) for message in await theirs.receive() if not isinstance(message, str)])
            ours.abort()
            theirs.abort()
    return arrived


async def test_faults_repeat_with_the_seed(autojump_clock: MockClock) -> None:
    first = await outcome(1, connections=3)
    assert first == await outcome(1, connections=3)
    assert first != await outcome(2, connections=3)
    # The connections differ from each other.
    assert first[0] != first[1] != first[2]
    # Each fault shows.
    assert len(set(first[0])) < 200
    assert len(set(first[0])) < len(first[0])
    assert first[0] != sorted(first[0])


async def test_latency_keeps_the_order_and_moves_the_clock(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=2.0, jitter=1.0)
    async with network:
        ours, theirs = pair(network)
        for number in range(50):
            assert ours.send_nowait([b"%d" % number])
        await ours.aclose()
        received: list[object] = []
        while messages := await theirs.receive():
            received += messages
        assert received == [b"%d" % number for number in range(50)]
        assert 2.0 < trio.current_time() <= 3.0
        theirs.abort()


async def test_messages_in_flight_count_towards_the_bound(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=1.0, buffer_messages=3)
    async with network:
        ours, theirs = pair(network)
        assert [ours.send_nowait([b"x"]) for _ in range(4)] == [True, True, True, False]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.flush)
            assert await take(theirs) == [b"x"] * 3
            assert await take(theirs) == [b"x"]
        assert trio.current_time() == pytest.approx(2.0)


async def test_lost_messages_leave_room(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(loss=1.0, buffer_messages=1)
    ours, _ = pair(network)
    assert all(ours.send_nowait([b"x"]) for _ in range(10))
    assert network.counts == {"sent": 10, "lost": 10}


async def test_a_network_with_latency_must_run() -> None:
    with pytest.raises(RuntimeError, match="async with network"):
        pair(MemoryNetwork(latency=1))


@pytest.mark.parametrize(
    "faults", [{"loss": 1.5}, {"duplication": -0.1}, {"latency": -1.0}, {"jitter": -1.0}, {"reordering": 0.5}]
)
def test_impossible_faults_are_refused(faults: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs latency"):
        MemoryNetwork(**faults)  # type: ignore[arg-type]


async def test_a_partition_and_its_end() -> None:
    network = MemoryNetwork()
    host_a, host_b = network.host("a"), network.host("b")
    async with listening(host_b, "b"):
        connection = await host_a.dial("memory://b")
        network.partition({"a"}, {"b", "c"})
        assert connection.send_nowait([b"vanishes"])
        with pytest.raises(OSError, match="partitioned"):
            await host_a.dial("memory://b")
        assert (await network.host("c").dial("memory://b")).send_nowait([b"x"])
        network.heal()
        connection.send_nowait([b"arrives"])
        assert await take(connection) == [b"arrives"]
        assert network.counts["partitioned"] == 1


async def test_hosts_in_no_group_stay_together() -> None:
    network = MemoryNetwork()
    network.partition({"a"})
    assert network.reachable("x", "y")
    assert not network.reachable("a", "y")
    with pytest.raises(ValueError, match="host b is in two groups"):
        network.partition({"a", "b"}, {"b"})


async def test_what_is_in_flight_when_a_partition_comes_vanishes(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(latency=1.0, buffer_messages=1)
    async with network:
        ours, theirs = pair(network)
        ours.send_nowait([b"x"])
        network.partition({"a"}, {"b"})
        await trio.sleep(5)
        network.heal()
        assert ours.send_nowait([b"y"])
        assert await take(theirs) == [b"y"]


async def test_a_close_across_a_partition_is_noticed_after_it() -> None:
    network = MemoryNetwork()
    ours, theirs = pair(network)
    network.partition({"a"}, {"b"})
    await ours.aclose()
    theirs.send_nowait([b"x"])
    with trio.move_on_after(0) as scope:
        await theirs.receive()
    assert scope.cancelled_caught
    network.heal()
    with pytest.raises(trio.BrokenResourceError):
        theirs.send_nowait([b"x"])
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive()
    theirs.abort()


async def test_kill_breaks_all_connections_of_a_host_at_once() -> None:
    network = MemoryNetwork()
    ours, theirs = pair(network)
    other, _ = network.connect("c", "d", subprotocol=True)
    broken: list[MemoryConnection] = []

    async def expect_broken(connection: MemoryConnection) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()
        broken.append(connection)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken, ours)
        nursery.start_soon(expect_broken, theirs)
        await trio.testing.wait_all_tasks_blocked()
        network.kill("b")
    assert len(broken) == 2
    with pytest.raises(trio.BrokenResourceError):
        ours.send_nowait([b"x"])
    assert other.is_open
    ours.abort()
    await theirs.aclose()


async def test_dials_that_fail() -> None:
    network = MemoryNetwork()
    host_a = network.host("a")
    with pytest.raises(ConnectionRefusedError, match="host b does not listen"):
        await host_a.dial("memory://b")
    for url in ("memory://", "ws://b", "b"):
        with pytest.raises(ValueError, match="expected a URL like memory://NAME"):
            await host_a.dial(url)
    async with listening(network.host("b"), "b", (Route("/x", upgrade=echo), Route("/y", respond=hello))):
        for path in ("", "/y"):
            with pytest.raises(HandshakeError, match="no connections are taken"):
                await host_a.dial("memory://b" + path)
        assert (await host_a.dial("memory://b/x")).send_nowait([b"x"])
    with pytest.raises(ConnectionRefusedError):
        await host_a.dial("memory://b/x")


async def test_listeners_that_fail() -> None:
    network = MemoryNetwork()
    with pytest.raises(ValueError, match="expected b to listen on, not 'c'"):
        await network.host("b").serve("c", ROUTES)
    async with listening(network.host("b"), "b"):
        with pytest.raises(OSError, match="listens already"):
            await network.host("b").serve("b", ROUTES)


async def test_a_full_backlog_refuses_and_a_stopped_listener_closes_it() -> None:
    network = MemoryNetwork(limits=Limits(unproven_connections=1))
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await network.host("b").serve("b", ROUTES, task_status=task_status)

        await nursery.start(serve)
        await trio.testing.wait_all_tasks_blocked()
        # The first goes to the task that waits, the second into the backlog.
        _, waiting = [network.host("b").accept("a", "/", subprotocol=True) for _ in range(2)]
        with pytest.raises(ConnectionRefusedError, match="backlog"):
            network.host("b").accept("a", "/", subprotocol=True)
        nursery.cancel_scope.cancel()
    assert await take(waiting) == []
    waiting.abort()


async def test_an_expected_failure_in_a_handler_is_counted() -> None:
    async def give_up(connection: Connection, request: Request | None) -> None:
        raise trio.TooSlowError

    network = MemoryNetwork()
    async with listening(network.host("b"), "b", (Route("/", upgrade=give_up),)):
        connection = await network.host("a").dial("memory://b")
        assert await take(connection) == []
        assert network.host("b").statistics[Ending.TIMEOUT] == 1
        connection.abort()
