"""What the checks of connections and transports are written with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

import trio

from ..exceptions import RemoteProtocolError
from ..transports.connection import Connection

__all__ = [
    "CHUNK",
    "ENOUGH",
    "ConnectionCheck",
    "MakeConnections",
    "both_ways",
    "compare",
    "expect",
    "numbered",
    "raises",
    "send",
    "soon",
    "take",
    "take_rest",
]

MakeConnections: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Connection, Connection]]]
"""Opens a connection and yields its ends: (dialler's, acceptor's)."""
ConnectionCheck: TypeAlias = Callable[[MakeConnections], Awaitable[None]]

_PATIENCE: Final = 10.0
"""Seconds for what should take none; much longer than `Limits.close_timeout`."""
ENOUGH: Final = 64 * 1024 * 1024
"""More than the buffers below a connection may hold when nobody reads."""
CHUNK: Final = 64 * 1024


def expect(good: bool, wanted: str, got: object) -> None:
    """Raises AssertionError unless `good`."""
    if not good:
        text = repr(got)
        raise AssertionError(f"expected {wanted}, got {text if len(text) <= 200 else text[:200] + '...'}")


@asynccontextmanager
async def soon(what: str) -> AsyncIterator[None]:
    """Fails if the block takes long."""
    with trio.move_on_after(_PATIENCE) as scope:
        yield
    if scope.cancelled_caught:
        raise AssertionError(f"expected {what} within {_PATIENCE:g} seconds, got nothing")


@asynccontextmanager
async def raises(what: str, *errors: type[Exception]) -> AsyncIterator[None]:
    names = " or ".join(error.__name__ for error in errors)
    try:
        async with soon(f"{names} from {what}"):
            yield
    except errors:
        return
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"expected {names} from {what}, got {error!r}") from error
    raise AssertionError(f"expected {names} from {what}, got no error")


async def send(connection: Connection, message: bytes | str) -> None:
    if isinstance(message, str):
        await connection.send([message.encode()], text=True)
    else:
        await connection.send([message])


async def take(connection: Connection, count: int) -> list[bytes | str]:
    """So many messages."""
    taken: list[bytes | str] = []
    async with soon(f"{count} messages"):
        while len(taken) < count:
            batch = await connection.receive()
            expect(bool(batch), f"message {len(taken) + 1} of {count}", "the end of the connection")
            taken += [message if isinstance(message, str) else bytes(message) for message in batch]
    return taken


async def take_rest(connection: Connection) -> tuple[list[bytes | str], Exception | None]:
    """Everything until the end, and the error that was the end, if any."""
    taken: list[bytes | str] = []
    async with soon("the end of the connection"):
        try:
            while batch := await connection.receive():
                taken += [message if isinstance(message, str) else bytes(message) for message in batch]
        except (trio.BrokenResourceError, RemoteProtocolError) as error:
            return taken, error
    return taken, None


def compare(got: Sequence[bytes | str], wanted: Sequence[bytes | str]) -> None:
    """Says which message is the first that differs."""
    for number, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            raise AssertionError(f"expected {_brief(other)} as message {number + 1}, got {_brief(one)}")
    expect(len(got) == len(wanted), f"{len(wanted)} messages", f"{len(got)} messages")


def _brief(message: bytes | str) -> str:
    kind = "characters of text" if isinstance(message, str) else "bytes"
    return f"{len(message)} {kind} ({message[:12]!r}{'...' if len(message) > 12 else ''})"


def numbered(count: int, size: int) -> list[bytes | str]:
    return [number.to_bytes(4, "big") * (size // 4) for number in range(count)]


Both: TypeAlias = Callable[[Connection, Connection], Awaitable[None]]


async def both_ways(make: MakeConnections, check: Both) -> None:
    """The check with new connections: from the dialler's end, then from the acceptor's."""
    for reverse in (False, True):
        async with make() as (dialled, accepted):
            await (check(accepted, dialled) if reverse else check(dialled, accepted))
