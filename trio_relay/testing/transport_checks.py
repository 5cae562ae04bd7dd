"""Checks of a transport: listening, dialling, and how each is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import trio
import trio.testing

from ..exceptions import HandshakeError, RemoteProtocolError
from ..transports.connection import Connection
from ..transports.routes import Handler, Request, Route
from ..transports.transport import Transport
from .checking import MakeConnections, compare, expect, raises, send, soon, take, take_rest

__all__ = ["SERVING_CHECKS", "MakeTransports", "TransportCheck", "connections_of"]

MakeTransports: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Transport, Transport, str]]]
"""Yields two transports, who dials and who listens, and where to listen; neither serves yet."""
TransportCheck: TypeAlias = Callable[[MakeTransports], Awaitable[None]]


@asynccontextmanager
async def _serving(transport: Transport, listen: str, handler: Handler) -> AsyncIterator[str]:
    """Serves the path ``/`` beside the block; yields the URL."""
    async with trio.open_nursery() as nursery:
        async with soon("serve to say where it listens"):
            bound: object = await nursery.start(partial(transport.serve, listen, [Route("/", upgrade=handler)]))
        good = isinstance(bound, list) and bound and all(isinstance(where, str) for where in bound)
        expect(bool(good), "a list of host:port from serve", bound)
        assert isinstance(bound, list)
        yield f"{transport.scheme}://{bound[0]}"
        nursery.cancel_scope.cancel()


def connections_of(make: MakeTransports) -> MakeConnections:
    """Both ends of connections that these transports make."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[tuple[Connection, Connection]]:
        accepted, done = trio.open_memory_channel[Connection](1), trio.Event()

        async def keep(connection: Connection, request: Request | None) -> None:
            acceptor.proven(connection)
            accepted[0].send_nowait(connection)
            await done.wait()

        async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, keep) as url:
            async with soon("a connection at both ends"):
                dialled = await dialler.dial(url)
                other = await accepted[1].receive()
            try:
                yield dialled, other
            finally:
                done.set()
                dialled.abort()
                other.abort()

    return connect


async def _echo(connection: Connection, request: Request | None) -> None:
    while messages := await connection.receive():
        for message in messages:
            await send(connection, message)


async def _serve(transport: Transport, listen: str) -> None:
    await transport.serve(listen, [Route("/", upgrade=_echo)])


async def _works(dialler: Transport, url: str) -> None:
    """A connection can be made and used."""
    async with soon("an echo"):
        connection = await dialler.dial(url)
        try:
            await send(connection, b"hello")
            compare(await take(connection, 1), [b"hello"])
        finally:
            await connection.aclose()


async def one_listener_serves_many(make: MakeTransports) -> None:
    """Several connections at once at the address that `serve` reported; each is counted."""
    async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, _echo) as url:
        before = acceptor.statistics.accepted
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_works, dialler, url)
        counted = acceptor.statistics.accepted - before
        expect(counted == 5, "5 more in statistics.accepted", counted)


async def both_ends_know_the_subprotocol(make: MakeTransports) -> None:
    """`offered_subprotocol` is what the dialler asked for, at both ends."""
    accepted = trio.open_memory_channel[Connection](1)

    async def tell(connection: Connection, request: Request | None) -> None:
        accepted[0].send_nowait(connection)
        await connection.receive()

    async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, tell) as url:
        for subprotocol in (True, False):
            async with soon("a connection at both ends"):
                dialled = await dialler.dial(url, subprotocol=subprotocol)
                other = await accepted[1].receive()
            for end, connection in (("dialler", dialled), ("acceptor", other)):
                got = connection.offered_subprotocol
                expect(got is subprotocol, f"offered_subprotocol {subprotocol} at the {end}", got)
            dialled.abort()


async def nobody_listens(make: MakeTransports) -> None:
    """`dial` to where somebody listened before raises OSError."""
    async with make() as (dialler, acceptor, listen):
        async with _serving(acceptor, listen, _echo) as url:
            await _works(dialler, url)
        async with raises("dial to an address where nobody listens", OSError):
            (await dialler.dial(url)).abort()


async def a_listener_can_be_opened_again(make: MakeTransports) -> None:
    """`serve` leaves nothing behind when it ends; and twice at the same time is an OSError."""
    async with make() as (dialler, acceptor, listen):
        async with _serving(acceptor, listen, _echo) as url:
            where = url.partition("://")[2]
            async with raises("serve at an address that is in use", OSError):
                await _serve(acceptor, where)
            await _works(dialler, url)
        async with _serving(acceptor, where, _echo) as url:
            await _works(dialler, url)


async def unusable_addresses_are_refused(make: MakeTransports) -> None:
    """ValueError from `dial` and `serve`, at once."""
    async with make() as (dialler, acceptor, _):
        for url in ("", "nowhere", f"{acceptor.scheme}://"):
            async with raises(f"dial to {url!r}", ValueError):
                (await dialler.dial(url)).abort()
        async with raises("serve at ''", ValueError):
            await _serve(acceptor, "")


async def a_path_that_nobody_serves_is_refused(make: MakeTransports) -> None:
    """HandshakeError from `dial`."""
    async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, _echo) as url:
        async with raises("dial to a path without a route", HandshakeError):
            (await dialler.dial(url + "/nothing")).abort()
        await _works(dialler, url)


async def an_address_may_be_forbidden(make: MakeTransports) -> None:
    """`allow_address` is asked before anything is sent; HandshakeError from `dial` if it says no."""
    async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, _echo) as url:
        asked: list[str] = []

        def allow(address: str) -> bool:
            asked.append(address)
            return False

        before = acceptor.statistics.accepted
        async with raises("dial to a forbidden address", HandshakeError):
            (await dialler.dial(url, allow_address=allow)).abort()
        expect(bool(asked), "allow_address to be asked", asked)
        await _works(dialler, url)
        counted = acceptor.statistics.accepted - before
        expect(counted == 1, "no connection to a forbidden address", f"{counted - 1}")


async def a_connection_ends_with_its_handler(make: MakeTransports) -> None:
    """The handler of an accepted connection returns, or fails as handlers may: the dialler sees the end.

    The listener goes on, and a failure is counted.
    """
    failures: list[Exception | None] = [None, RemoteProtocolError("not a word"), trio.TooSlowError()]

    async def handle(connection: Connection, request: Request | None) -> None:
        await connection.receive()
        failure = failures[0]
        if failure is not None:
            raise failure

    async with make() as (dialler, acceptor, listen), _serving(acceptor, listen, handle) as url:
        before = acceptor.statistics.snapshot()
        while failures:
            async with soon("a connection"):
                connection = await dialler.dial(url)
                await send(connection, b"x")
            taken, _ = await take_rest(connection)
            expect(not taken, "the end of the connection", taken)
            await connection.aclose()
            del failures[0]
        await trio.testing.wait_all_tasks_blocked(0.01)
        after = acceptor.statistics.snapshot()
        for name in ("protocol_error", "timeout"):
            expect(after.get(name, 0) > before.get(name, 0), f"one more {name} in statistics", after)


SERVING_CHECKS: Final[tuple[TransportCheck, ...]] = (
    one_listener_serves_many,
    both_ends_know_the_subprotocol,
    nobody_listens,
    a_listener_can_be_opened_again,
    unusable_addresses_are_refused,
    a_path_that_nobody_serves_is_refused,
    an_address_may_be_forbidden,
    a_connection_ends_with_its_handler,
)
