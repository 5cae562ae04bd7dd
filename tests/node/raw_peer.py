"""A peer made by hand: it proves an id, or fails to, and then sends whatever a test wants."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_relay import Identity, Limits, NodeId
from trio_relay.identity import verify
from trio_relay.overlay.handshake import Dialler, Proven
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.frame import Frame, Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.record import PeerRecord, build_record
from trio_relay.wire.urls import authority

MESSAGE_ID = bytes(range(8))
LIMITS = Limits()
LIFETIME = 60


def make_record(
    identity: Identity,
    *,
    sequence: int = 1,
    expiry: int | None = None,
    urls: tuple[str, ...] = (),
    roles: int = 0,
) -> PeerRecord:
    """A record that its owner signed, by default without addresses and valid for a minute."""
    return build_record(
        identity.public_key,
        identity.sign,
        sequence=sequence,
        expiry=int(time.time()) + LIFETIME if expiry is None else expiry,
        urls=urls,
        roles=roles,
    )


class RawPeer:
    """The dialling end of a connection to a node.

    Attributes:
        connection: below it, for what is no overlay frame.
        frames: received and not yet asked for.
    """

    def __init__(self, connection: WebSocketConnection, identity: Identity) -> None:
        self.connection = connection
        self.identity = identity
        self.frames: deque[Frame] = deque()
        self._messages: deque[bytes | str] = deque()

    @property
    def id(self) -> NodeId:
        return self.identity.id

    # The handshake

    def dialler(self, dialled: str, *, from_record: bool = False, probe: bool = False) -> Dialler:
        """Our side of the handshake; `dialled` is the ``host:port`` that we say we dialled."""
        own = self.identity
        record = make_record(own).raw
        return Dialler(
            own.public_key,
            own.sign,
            verify,
            os.urandom(32),
            record,
            dialled,
            from_record=from_record,
            probe=probe,
        )

    async def prove(self, dialled: str, *, from_record: bool = False, probe: bool = False) -> Proven:
        """Runs the handshake to its end."""
        dialler = self.dialler(dialled, from_record=from_record, probe=probe)
        await self.send(dialler.receive_hello(await self.message()))
        return dialler.receive_proof(await self.message())

    # Messages

    async def message(self) -> bytes:
        """The next binary message of the other side.

        Raises:
            trio.EndOfChannel: it closed.
        """
        while not self._messages:
            received = await self.connection.receive()
            if not received:
                raise trio.EndOfChannel
            self._messages.extend(received)
        message = self._messages.popleft()
        assert isinstance(message, bytes)
        return bytes(message)

    async def send(self, *messages: bytes | bytearray) -> None:
        for message in messages:
            await self.connection.send([message])

    async def ended(self) -> int | None:
        """Reads until the other side closes; returns its close code."""
        try:
            with trio.fail_after(5):
                while True:
                    await self.message()
        except (trio.EndOfChannel, trio.BrokenResourceError):
            return self.connection.close_code

    # Frames

    def frame(
        self,
        to: NodeId,
        payload: bytes = b"\x00hello",
        *,
        kind: int = Kind.DATA,
        source: NodeId | None = None,
        message_id: bytes = MESSAGE_ID,
        flags: int = 0,
        hop_limit: int = 16,
        attempt: int = 0,
    ) -> bytes:
        """One frame, in our own name unless `source` is given."""
        own = self.id if source is None else source
        return build_frame(kind, to, own, message_id, payload, flags=flags, hop_limit=hop_limit, attempt=attempt)

    async def next(self, kind: int) -> Frame:
        """The next frame of a kind; those before it are thrown away.

        Raises:
            trio.TooSlowError: none came within five seconds.
        """
        with trio.fail_after(5):
            while True:
                while self.frames:
                    frame = self.frames.popleft()
                    if frame.kind == kind:
                        return frame
                self.frames.extend(parse_frames_untrusted(await self.message()))

    async def trust(self, node: NodeId) -> None:
        """Says that we take frames of others from the node; without that it brings none."""
        record = make_record(self.identity, sequence=2)
        await self.send(self.frame(node, b"\x01" + record.raw, kind=Kind.STATUS))
        await self.ping(node)

    async def ping(self, node: NodeId) -> None:
        """Returns when the node has handled everything that was sent before."""
        await self.send(self.frame(node, b"", kind=Kind.PING, message_id=b"are you?"))
        while (await self.next(Kind.PONG)).message_id != b"are you?":
            pass


@asynccontextmanager
async def open_stranger(url: str, identity: Identity | None = None) -> AsyncIterator[RawPeer]:
    """A connection after the upgrade, before the handshake."""
    connection = await dial_websocket(url, limits=LIMITS)
    try:
        yield RawPeer(connection, identity or Identity.generate())
    finally:
        connection.abort()


@asynccontextmanager
async def open_raw_peer(url: str, identity: Identity | None = None) -> AsyncIterator[RawPeer]:
    """A proven peer, a leaf to the node at `url`; the link is up when the block begins."""
    async with open_stranger(url, identity) as peer:
        proven = await peer.prove(authority(url))
        await peer.trust(proven.id)
        yield peer


__all__ = ["MESSAGE_ID", "RawPeer", "make_record", "open_raw_peer", "open_stranger"]
