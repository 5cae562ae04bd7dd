"""What is put in the place of parts of asyncio, aioice and aiortc that are slow."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from trio_relay.transports.aio import internals, open_factory

from .support import aiortc_of, connected, loop_of, two_connections


class _Counting(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors = 0

    def datagram_received(self, data: bytes, address: object) -> None:
        self.received.append(data)

    def error_received(self, error: Exception) -> None:
        self.errors += 1


class _Socket:
    """A socket that was not opened here, of a transport that the loop does not read."""

    def __init__(self, protocol: _Counting, wanted: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.ours, self.theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.ours.bind(("127.0.0.1", 0))
        self.ours.setblocking(False)
        with internals.eager_datagrams(self.loop, lambda: wanted):
            self.transport: Any = self.loop._make_datagram_transport(self.ours, protocol)  # type: ignore[attr-defined]

    def send(self, count: int) -> None:
        for number in range(count):
            self.theirs.sendto(bytes([number]), self.ours.getsockname())

    def close(self) -> None:
        self.transport.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        self.theirs.close()


@pytest.mark.parametrize(("wanted", "sent", "first"), [(True, 5, 5), (True, 40, 32), (False, 5, 1)])
def test_a_socket_is_read_until_it_is_empty(wanted: bool, sent: int, first: int) -> None:
    protocol = _Counting()
    there = _Socket(protocol, wanted)
    there.send(sent)
    there.transport._read_ready()
    assert protocol.received == [bytes([number]) for number in range(first)]
    while len(protocol.received) < sent:
        there.transport._read_ready()
    there.transport._read_ready()
    assert (len(protocol.received), protocol.errors) == (sent, 0)
    there.close()


def test_a_loop_is_left_as_it_was() -> None:
    loop = asyncio.new_event_loop()
    with internals.eager_datagrams(loop, lambda: True):
        assert "_make_datagram_transport" in loop.__dict__
    assert "_make_datagram_transport" not in loop.__dict__
    loop.close()


async def test_connections_have_eager_sockets() -> None:
    async with connected() as pair:
        for side in (pair.left, pair.right):
            transports: Any = loop_of(side)._transports  # type: ignore[attr-defined]
            kinds = {type(transport) for transport in transports.values()}
            assert kinds == {internals._EagerDatagrams}


async def test_an_open_channel_does_not_wait_for_the_next_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "_PACE", 60.0)
    async with connected() as pair:
        assert pair.left.selected_pair() is not None
        for side in (pair.left, pair.right):
            checks = internals.ice_connection(aiortc_of(side).sctp.transport).trio_relay_checks  # type: ignore[attr-defined]
            assert not checks.done()


async def test_checks_go_on_as_long_as_there_is_something_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "_PACE", 0.0)
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        await left.create_offer("x")
        connection: Any = internals.ice_connection(aiortc_of(left).sctp.transport)
        calls: list[bool] = []

        def periodic() -> bool:
            calls.append(len(calls) < 3)
            return calls[-1]

        connection._check_periodic = periodic
        internals.hasten_checks(aiortc_of(left).sctp.transport)
        connection._check_list = []
        assert connection._check_periodic() is True  # aioice calls again
        connection._check_list = [object()]
        left._loop.call(left._owner, connection._check_periodic)
        await left._loop.settle([connection.trio_relay_checks], 1.0)
        assert calls == [True, True, True, False]
        connection._check_list = []


async def test_slow_start_ends_early() -> None:
    async with connected() as pair:
        for side in (pair.left, pair.right):
            assert aiortc_of(side).sctp._ssthresh == 64 * 1024
