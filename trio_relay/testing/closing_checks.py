"""Checks of a connection that ends: politely, at once, on either side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio
import trio.testing

from ..transports.connection import Connection
from .checking import (
    CHUNK,
    ENOUGH,
    ConnectionCheck,
    MakeConnections,
    both_ways,
    compare,
    expect,
    numbered,
    raises,
    send,
    soon,
    take,
    take_rest,
)

__all__ = ["CLOSING_CHECKS"]


async def what_was_sent_arrives_before_the_end(make: MakeConnections) -> None:
    """`aclose` after some messages: all of them, then an empty list, as often as one asks."""

    async def check(sender: Connection, receiver: Connection) -> None:
        sent = numbered(20, 1024)

        async def send_and_close() -> None:
            for message in sent:
                await send(sender, message)
            await sender.aclose()

        async with soon("aclose to return"), trio.open_nursery() as nursery:
            nursery.start_soon(send_and_close)
            taken, error = await take_rest(receiver)
            expect(error is None, "an empty list at the end", error)
            compare(taken, sent)
        again = await receiver.receive()
        expect(again == [], "an empty list from receive after the end", again)

    await both_ways(make, check)


async def nothing_is_possible_after_closing(make: MakeConnections) -> None:
    """`trio.ClosedResourceError` from every call at the end that closed; `aclose` and `abort` may come again."""

    async def check(one: Connection, other: Connection, politely: bool) -> None:
        async with soon("aclose to return"), trio.open_nursery() as nursery:
            nursery.start_soon(take_rest, other)
            if politely:
                await one.aclose()
            one.abort()
            await one.aclose()
            one.abort()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "receive after closing": one.receive,
            "send after closing": lambda: one.send([b"x"]),
            "flush after closing": one.flush,
        }
        for what, call in calls.items():
            async with raises(what, trio.ClosedResourceError):
                await call()
        if one.direct:
            async with raises("send_nowait after closing", trio.ClosedResourceError):
                one.send_nowait([b"x"])

    for politely in (True, False):
        await both_ways(make, partial(check, politely=politely))


async def abort_is_seen_at_both_ends(make: MakeConnections) -> None:
    """Who receives at the aborted end gets `trio.ClosedResourceError`; the other end an error or the end."""

    async def check(one: Connection, other: Connection) -> None:
        async def receive_here() -> None:
            async with raises("receive while the connection is aborted", trio.ClosedResourceError):
                await one.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_here)
            nursery.start_soon(take_rest, other)
            await trio.testing.wait_all_tasks_blocked(0.01)
            one.abort()

    await both_ways(make, check)


async def closing_wakes_who_receives(make: MakeConnections) -> None:
    """A task is in `receive` when its own end is closed politely: it gets the end, or `trio.ClosedResourceError`."""

    async def check(one: Connection, other: Connection) -> None:
        async def receive_here() -> None:
            async with soon("receive to return after aclose"):
                try:
                    messages = await one.receive()
                except trio.ClosedResourceError:
                    return
                expect(messages == [], "the end of the connection", messages)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_here)
            nursery.start_soon(take_rest, other)
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with soon("aclose to return"):
                await one.aclose()

    await both_ways(make, check)


async def who_sends_to_a_closed_end_is_told(make: MakeConnections) -> None:
    """After the end was received, `send` raises `trio.BrokenResourceError`."""

    async def check(one: Connection, other: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            taken, error = await take_rest(other)
            expect((taken, error) == ([], None), "the end of the connection", taken or error)
        async with raises("send to an end that closed", trio.BrokenResourceError):
            await other.send([b"x"])
        async with soon("aclose to return"):
            await other.aclose()

    await both_ways(make, check)


async def closing_does_not_wait_for_a_stuck_peer(make: MakeConnections) -> None:
    """The other end receives nothing, and buffers are full: `aclose` returns, without an error."""

    async def check(one: Connection, other: Connection) -> None:
        with trio.move_on_after(0.05):
            for _ in range(ENOUGH // CHUNK):
                await one.send([bytes(CHUNK)])
        async with soon("aclose to return although nobody receives"):
            await one.aclose()
        other.abort()

    await both_ways(make, check)


async def both_may_close_at_once(make: MakeConnections) -> None:
    """Two ends that close at the same time."""
    async with make() as ends, soon("both ends to close"), trio.open_nursery() as nursery:
        for connection in ends:
            nursery.start_soon(connection.aclose)


async def closing_keeps_the_other_direction(make: MakeConnections) -> None:
    """What the other end sent before it heard of the close does no harm: it sees the end all the same."""

    async def check(one: Connection, other: Connection) -> None:
        await send(other, b"on its way")
        async with soon("both ends to close"), trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            taken, error = await take_rest(other)
            expect((taken, error) == ([], None), "the end of the connection", taken or error)

    await both_ways(make, check)


async def what_is_said_of_the_ends_is_usable(make: MakeConnections) -> None:
    """`remote` and `local` are ``host:port``; nothing waits for `flush` on a new connection."""

    async def check(one: Connection, other: Connection) -> None:
        for name, address in (("remote", one.remote), ("local", one.local)):
            host, _, port = address.rpartition(":")
            expect(bool(host) and port.isdecimal(), f"host:port as {name}", address)
        expect(one.control_pending is False, "False as control_pending of a new connection", one.control_pending)
        expect(isinstance(one.direct, bool), "True or False as direct", one.direct)
        await send(one, b"x")
        compare(await take(other, 1), [b"x"])

    await both_ways(make, check)


CLOSING_CHECKS: Final[tuple[ConnectionCheck, ...]] = (
    what_is_said_of_the_ends_is_usable,
    what_was_sent_arrives_before_the_end,
    nothing_is_possible_after_closing,
    abort_is_seen_at_both_ends,
    closing_wakes_who_receives,
    who_sends_to_a_closed_end_is_told,
    closing_does_not_wait_for_a_stuck_peer,
    both_may_close_at_once,
    closing_keeps_the_other_direction,
)
