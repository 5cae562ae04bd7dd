"""The checks that writers of transports get: our own transports pass them, broken ones do not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from tests.transports.support import Authority, make_authority
from trio_relay.exceptions import HandshakeError
from trio_relay.limits import Limits
from trio_relay.testing import (
    CONNECTION_CHECKS,
    TRANSPORT_CHECKS,
    ConnectionCheck,
    MemoryNetwork,
    TransportCheck,
    check_connection,
    check_transport,
)
from trio_relay.transports.admission import TransportStatistics
from trio_relay.transports.attached import AttachedConnection
from trio_relay.transports.connection import Connection
from trio_relay.transports.transport import Transport, WebSocketTransport
from trio_relay.transports.upgrade import SUBPROTOCOL

LIMITS = Limits(close_timeout=0.5)


@asynccontextmanager
async def memory() -> AsyncIterator[tuple[Transport, Transport, str]]:
    network = MemoryNetwork(limits=LIMITS)
    yield network.host("a"), network.host("b"), "b"


@asynccontextmanager
async def slow_memory() -> AsyncIterator[tuple[Transport, Transport, str]]:
    async with MemoryNetwork(latency=0.001, jitter=0.001, limits=LIMITS) as network:
        yield network.host("a"), network.host("b"), "b"


@asynccontextmanager
async def websocket(
    server: ssl.SSLContext | None = None, client: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Transport, Transport, str]]:
    yield WebSocketTransport(LIMITS, client_tls=client), WebSocketTransport(LIMITS, tls=server), "127.0.0.1:0"


@asynccontextmanager
async def attached() -> AsyncIterator[tuple[Connection, Connection]]:
    """Both ends of a trio-websocket connection over sockets."""
    accepted, done = trio.open_memory_channel[Any](1), trio.Event()

    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        await accepted[0].send(await request.accept(subprotocol=SUBPROTOCOL))
        await done.wait()

    wrap: Any = trio_websocket.wrap_client_stream  # it takes any stream, but its annotation does not say so
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, None)
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:  # trio-websocket may leave it open
            client = await wrap(nursery, stream, "localhost", "/", subprotocols=[SUBPROTOCOL])
            ends = AttachedConnection(client, LIMITS), AttachedConnection(await accepted[1].receive(), LIMITS)
            try:
                yield ends
            finally:
                async with trio.open_nursery() as closing:
                    for end in ends:
                        closing.start_soon(end.aclose)
        done.set()
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("127.0.0.1")


@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
@pytest.mark.parametrize("make", [memory, slow_memory])
async def test_the_network_in_memory(autojump_clock: MockClock, make: Any, check: TransportCheck) -> None:
    await check(make)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_websockets(check: TransportCheck) -> None:
    await check(websocket)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_websockets_over_tls(authority: Authority, check: TransportCheck) -> None:
    await check(lambda: websocket(authority.server, authority.client))


@pytest.mark.parametrize("check", CONNECTION_CHECKS)
async def test_attached_connections(check: ConnectionCheck) -> None:
    await check(attached)


# Transports that break a promise each


class Wrapped:
    """A connection, or a transport, that is like another in all that is not overridden."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class CutsLargeMessages(Wrapped):
    async def send(self, pieces: Any, *, text: bool = False) -> None:
        await self.inner.send([b"".join(pieces)[:100_000]], text=text)


class ForgetsText(Wrapped):
    async def send(self, pieces: Any, *, text: bool = False) -> None:
        await self.inner.send(pieces)


class SwapsMessages(Wrapped):
    async def receive(self) -> Any:
        return (await self.inner.receive())[::-1]


class SaysNothing(Wrapped):
    async def send(self, pieces: Any, *, text: bool = False) -> None:
        await trio.lowlevel.checkpoint()


class LosesWhatACancelledReceiveTook(Wrapped):
    async def receive(self) -> Any:
        messages = await self.inner.receive()
        await trio.lowlevel.checkpoint()
        return messages


class NeverFull(Wrapped):
    def send_nowait(self, pieces: Any, *, text: bool = False) -> bool:
        return True


class NeverFlushes(Wrapped):
    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()


class NeverWaits(Wrapped):
    async def send(self, pieces: Any, *, text: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        self.inner.peer.arrive(b"".join(pieces))


class BreaksAtTheEnd(Wrapped):
    async def receive(self) -> Any:
        messages = await self.inner.receive()
        if not messages:
            raise trio.BrokenResourceError("the end")
        return messages


class EndsInAnError(Wrapped):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.inner.abort()
        raise OSError("not connected")


class AbortsInsteadOfClosing(Wrapped):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.inner.flush()
        self.inner.peer.cut()
        self.inner.abort()


class CanBeUsedAfterClosing(Wrapped):
    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()


class HidesWhoItIs(Wrapped):
    remote = "somewhere"


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (CutsLargeMessages, "messages_arrive_whole_and_in_order", "expected 131072 bytes"),
        (CutsLargeMessages, "a_large_message_is_whole_or_an_error", "expected 1048576 bytes"),
        (
            ForgetsText,
            "messages_arrive_whole_and_in_order",
            "expected 0 characters of text .* got 0 bytes",
        ),
        (SwapsMessages, "messages_arrive_whole_and_in_order", "as message"),
        (SaysNothing, "both_ends_send_at_once", "expected .* within 10 seconds, got nothing"),
        (LosesWhatACancelledReceiveTook, "a_cancelled_receive_loses_nothing", "expected"),
        (NeverFull, "send_nowait_says_when_to_flush", "expected 1 messages within"),
        (NeverFlushes, "send_nowait_says_when_to_flush", "expected"),
        (NeverWaits, "send_waits_for_a_slow_receiver", "expected send to wait before"),
        (BreaksAtTheEnd, "what_was_sent_arrives_before_the_end", "expected an empty list at the end"),
        (AbortsInsteadOfClosing, "what_was_sent_arrives_before_the_end", "expected"),
        (EndsInAnError, "both_may_close_at_once", "expected no error, got OSError"),
        (CanBeUsedAfterClosing, "nothing_is_possible_after_closing", "expected ClosedResourceError from flush after"),
        (HidesWhoItIs, "what_is_said_of_the_ends_is_usable", "expected host:port as remote, got 'somewhere'"),
    ],
)
async def test_broken_connections_fail(autojump_clock: MockClock, broken: Any, check: str, message: str) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        one, other = MemoryNetwork(limits=LIMITS).connect("a", "b", subprotocol=True)
        yield broken(one), broken(other)

    (run,) = [run for run in CONNECTION_CHECKS if getattr(run, "__name__", "") == check]
    with pytest.raises(AssertionError, match=f"^{check}: .*{message}"):
        await run(make)


class AcceptsAnything(Wrapped):
    """Dials succeed whatever they are for."""

    async def dial(self, url: str, **options: Any) -> Any:
        options.pop("allow_address", None)
        try:
            return await self.inner.dial(url, **options)
        except (OSError, ValueError, HandshakeError):
            return self.inner._network.connect("a", "b", subprotocol=True)[0]


class FailsInItsOwnWay(Wrapped):
    async def dial(self, url: str, **options: Any) -> Any:
        try:
            return await self.inner.dial(url, **options)
        except OSError as error:
            raise RuntimeError("nobody") from error


class AlwaysOffersTheSubprotocol(Wrapped):
    async def dial(self, url: str, **options: Any) -> Any:
        return await self.inner.dial(url, **{**options, "subprotocol": True})


class HidesWhereItListens(Wrapped):
    async def serve(self, listen: str, routes: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(None)
        await trio.sleep_forever()


class CountsNothing(Wrapped):
    @property
    def statistics(self) -> TransportStatistics:
        return TransportStatistics()


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (
            AcceptsAnything,
            "nobody_listens",
            "expected OSError from dial to an address .*, got no error",
        ),
        (AcceptsAnything, "unusable_addresses_are_refused", "expected ValueError from dial to '', got no error"),
        (AcceptsAnything, "a_path_that_nobody_serves_is_refused", "expected HandshakeError from dial to a path"),
        (AcceptsAnything, "an_address_may_be_forbidden", "expected HandshakeError from dial to a forbidden address"),
        (FailsInItsOwnWay, "nobody_listens", r"expected OSError from .*, got RuntimeError\('nobody'\)"),
        (AlwaysOffersTheSubprotocol, "both_ends_know_the_subprotocol", "expected offered_subprotocol False"),
        (HidesWhereItListens, "one_listener_serves_many", "expected a list of host:port from serve, got None"),
        (
            HidesWhereItListens,
            "messages_arrive_whole_and_in_order",
            "expected a list of host:port from serve, got None",
        ),
        (CountsNothing, "one_listener_serves_many", "expected 5 more in statistics.accepted, got 0"),
        (CountsNothing, "a_connection_ends_with_its_handler", "expected one more protocol_error in statistics"),
    ],
)
async def test_broken_transports_fail(autojump_clock: MockClock, broken: Any, check: str, message: str) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any, str]]:
        network = MemoryNetwork(limits=LIMITS)
        yield broken(network.host("a")), broken(network.host("b")), "b"

    (run,) = [run for run in TRANSPORT_CHECKS if getattr(run, "__name__", "") == check]
    with pytest.raises(AssertionError, match=f"^{check}: .*{message}"):
        await run(make)


async def test_all_at_once(autojump_clock: MockClock) -> None:
    await check_transport(memory)

    @asynccontextmanager
    async def lossy() -> AsyncIterator[tuple[Connection, Connection]]:
        yield MemoryNetwork(seed=1, loss=0.2).connect("a", "b", subprotocol=True)

    with pytest.raises(AssertionError, match="messages_arrive_whole_and_in_order: expected"):
        await check_connection(lossy)
