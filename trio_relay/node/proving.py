"""The link handshake over a connection: the I/O around `overlay.handshake`. Callers set the deadline."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from ..exceptions import HandshakeError
from ..identity import Identity, verify
from ..overlay.handshake import Acceptor, Admit, Dialler, Proven, Refused
from ..transports.connection import Connection
from ..wire.ids import NodeId

__all__ = ["Introduced", "LegacyPeer", "prove_as_acceptor", "prove_as_dialler"]

Messages = Sequence[bytes | str]


@dataclass(frozen=True, slots=True)
class Introduced:
    """A proven peer.

    Attributes:
        rtt: seconds from a message of ours to its answer; the other side's signature is in it.
        messages: what it sent right after.
    """

    peer: Proven
    rtt: float
    messages: Messages = field(default=())


@dataclass(frozen=True, slots=True)
class LegacyPeer:
    """The other end is an original node: its first message was text."""

    first: str
    messages: Messages = field(default=())


async def _receive(connection: Connection) -> tuple[bytes | str, Messages]:
    messages = await connection.receive()
    if not messages:
        raise HandshakeError(f"{connection.remote} closed the connection during the handshake")
    return messages[0], messages[1:]


async def prove_as_acceptor(
    connection: Connection, identity: Identity, *, record: bytes, authorities: Collection[str], admit: Admit
) -> Introduced:
    """Runs the acceptor's side.

    Raises:
        HandshakeError: the peer left, or was refused (it was told), or refused.
        RemoteProtocolError: what it sent is malformed.
        trio.BrokenResourceError: the connection died.
    """
    acceptor = Acceptor(identity.public_key, identity.sign, verify, os.urandom(32), record, authorities, admit)
    await connection.send([acceptor.greet()])
    sent = trio.current_time()
    reply, rest = await _receive(connection)
    rtt = trio.current_time() - sent
    if isinstance(reply, str):
        raise HandshakeError(f"{connection.remote} asked for our protocol and then sent text")
    async with _telling(connection):
        proof, peer = acceptor.receive(bytes(reply))
    await connection.send([proof])
    return Introduced(peer, rtt, rest)


async def prove_as_dialler(
    connection: Connection,
    identity: Identity,
    *,
    record: Callable[[], bytes],
    authority: str,
    expected: NodeId | None = None,
    from_record: bool = False,
    probe: bool = False,
) -> Introduced | LegacyPeer:
    """Runs the dialler's side; nothing is sent before the first message of the other end was read.

    Raises:
        HandshakeError: the peer left, or was refused (it was told), or refused, or is not the expected one.
        RemoteProtocolError: what it sent is malformed.
        trio.BrokenResourceError: the connection died.
    """
    hello, rest = await _receive(connection)
    if isinstance(hello, str):
        return LegacyPeer(hello, rest)
    dialler = Dialler(
        identity.public_key,
        identity.sign,
        verify,
        os.urandom(32),
        record(),
        authority,
        expected,
        from_record,
        probe,
    )
    async with _telling(connection):
        reply = dialler.receive_hello(bytes(hello))
    await connection.send([reply])
    sent = trio.current_time()
    proof, rest = (rest[0], rest[1:]) if rest else await _receive(connection)
    rtt = trio.current_time() - sent
    if isinstance(proof, str):
        raise HandshakeError(f"{connection.remote} sent text during the handshake")
    async with _telling(connection):
        peer = dialler.receive_proof(bytes(proof))
    return Introduced(peer, rtt, rest)


@asynccontextmanager
async def _telling(connection: Connection) -> AsyncIterator[None]:
    """Sends a refusal of ours before it goes up."""
    try:
        yield
    except Refused as refusal:
        if refusal.message:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await connection.send([refusal.message])
            await connection.aclose(1008, str(refusal)[:100])
        raise
