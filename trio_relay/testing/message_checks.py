"""Checks of a connection that carries messages."""

from __future__ import annotations

from typing import Final

import trio

from ..exceptions import RemoteProtocolError
from ..transports.connection import Buffer, Connection
from .checking import (
    CHUNK,
    ENOUGH,
    ConnectionCheck,
    MakeConnections,
    both_ways,
    compare,
    expect,
    numbered,
    send,
    soon,
    take,
    take_rest,
)

__all__ = ["MESSAGE_CHECKS"]

_SIZES: Final = (0, 1, 125, 126, 65535, 65536, 128 * 1024)
"""Bytes in a message: around the length fields of a WebSocket frame, and the largest that a node sends."""


# Messages


async def messages_arrive_whole_and_in_order(make: MakeConnections) -> None:
    """Binary and text, of every size, sent in pieces of every kind."""

    async def check(sender: Connection, receiver: Connection) -> None:
        sent: list[bytes | str] = [
            *(bytes([size % 251]) * size for size in _SIZES),
            "",
            "te\u00fct \U0001f600",
            b"\xff",
        ]
        sent += numbered(50, 64)

        async def send_all() -> None:
            for message in sent:
                data = message.encode() if isinstance(message, str) else message
                middle = len(data) // 2
                pieces: list[Buffer] = [data[:1], bytearray(data[1:middle]), memoryview(data)[max(1, middle) :]]
                await sender.send(pieces, text=isinstance(message, str))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            compare(await take(receiver, len(sent)), sent)

    await both_ways(make, check)


async def both_ends_send_at_once(make: MakeConnections) -> None:
    """More than buffers hold, at the same time; nobody waits for ever."""
    sent = numbered(100, CHUNK)

    async def send_all(connection: Connection) -> None:
        for message in sent:
            await send(connection, message)

    async def take_all(connection: Connection) -> None:
        compare(await take(connection, len(sent)), sent)

    async with make() as ends, soon("both ends to send and receive"), trio.open_nursery() as nursery:
        for connection in ends:
            nursery.start_soon(send_all, connection)
            nursery.start_soon(take_all, connection)


async def a_cancelled_receive_loses_nothing(make: MakeConnections) -> None:
    """Whenever the cancellation comes, what had arrived is in the next `receive`."""

    async def check(sender: Connection, receiver: Connection) -> None:
        sent, taken = numbered(60, 16), list[bytes | str]()

        async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        for number, message in enumerate(sent):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, sender, message)
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_after, number % 6, scope)
                    taken += [m if isinstance(m, str) else bytes(m) for m in await receiver.receive()]
        compare(taken + await take(receiver, len(sent) - len(taken)), sent)

    await both_ways(make, check)


async def a_large_message_is_whole_or_an_error(make: MakeConnections) -> None:
    """A message of one MiB may be refused with `RemoteProtocolError`; it is never cut."""

    async def check(sender: Connection, receiver: Connection) -> None:
        large = bytes(range(256)) * 4096

        async def send_large() -> None:
            try:
                await sender.send([large])
                await sender.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_large)
            taken, error = await take_rest(receiver)
            receiver.abort()
        if error is None:
            compare(taken, [large])
        else:
            expect(isinstance(error, RemoteProtocolError), "the message or a RemoteProtocolError", error)
            expect(not taken, "nothing of a message that is refused", taken)

    await both_ways(make, check)


# Slow receivers


async def _fill(connection: Connection) -> list[bytes | str]:
    """Sends until `send_nowait` returns False; what it was given."""
    sent: list[bytes | str] = []
    while len(sent) * CHUNK < ENOUGH:
        sent += [len(sent).to_bytes(4, "big") * (CHUNK // 4)]
        if not connection.send_nowait([sent[-1]] if isinstance(sent[-1], bytes) else []):
            return sent
    raise AssertionError(f"expected False from send_nowait before {ENOUGH} bytes that nobody takes, got True")


async def send_nowait_says_when_to_flush(make: MakeConnections) -> None:
    """True: the message is on its way. False: `flush` waits for the receiver, then the next may follow."""

    async def check(sender: Connection, receiver: Connection) -> None:
        if not sender.direct:
            return
        expect(sender.send_nowait([b"fi", b"rst"]), "True from the first send_nowait", False)
        compare(await take(receiver, 1), [b"first"])
        sent = await _fill(sender)
        async with soon("flush to return while the other end receives"), trio.open_nursery() as nursery:
            nursery.start_soon(sender.flush)
            compare(await take(receiver, len(sent)), sent)
        expect(sender.send_nowait([b"last"]), "True from send_nowait after flush", False)
        compare(await take(receiver, 1), [b"last"])

    await both_ways(make, check)


async def send_waits_for_a_slow_receiver(make: MakeConnections) -> None:
    """Nobody receives: `send` waits before all memory is used; then everything arrives."""

    async def check(sender: Connection, receiver: Connection) -> None:
        sent, progress = list[bytes | str](), 0
        stop = False

        async def send_on() -> None:
            while not stop and len(sent) * CHUNK < ENOUGH:
                sent.append(len(sent).to_bytes(4, "big") * (CHUNK // 4))
                await send(sender, sent[-1])

        async with soon("everything that was sent"), trio.open_nursery() as nursery:
            nursery.start_soon(send_on)
            while progress != len(sent) or not sent:
                progress = len(sent)
                await trio.sleep(0.02)
            stop = True
            bound = f"send to wait before {ENOUGH} bytes that nobody takes"
            expect(len(sent) * CHUNK < ENOUGH, bound, f"{len(sent) * CHUNK} bytes sent")
            compare(await take(receiver, len(sent)), sent)

    await both_ways(make, check)


async def an_interrupted_write_is_never_half_a_message(make: MakeConnections) -> None:
    """`flush`, or `send`, is cancelled and the connection aborted: whole messages arrive, then the end."""

    async def check(sender: Connection, receiver: Connection) -> None:
        sent = list[bytes | str]()
        with trio.move_on_after(0.05):
            if sender.direct:
                sent = await _fill(sender)
                await sender.flush()
            while len(sent) * CHUNK < ENOUGH:
                sent.append(len(sent).to_bytes(4, "big") * (CHUNK // 4))
                await send(sender, sent[-1])
        sender.abort()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.aclose)  # some connections can only end in a task
            taken, _ = await take_rest(receiver)
        compare(taken, sent[: len(taken)])

    await both_ways(make, check)


MESSAGE_CHECKS: Final[tuple[ConnectionCheck, ...]] = (
    messages_arrive_whole_and_in_order,
    both_ends_send_at_once,
    a_cancelled_receive_loses_nothing,
    a_large_message_is_whole_or_an_error,
    send_nowait_says_when_to_flush,
    send_waits_for_a_slow_receiver,
    an_interrupted_write_is_never_half_a_message,
)
