"""The public face of one peer; everything here is a few lines over the runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, get_args

import trio

from ..exceptions import HandshakeError, LocalProtocolError, NoAcknowledgement, PayloadTooLarge
from ..overlay.actions import Preference
from ..transports.attached import AttachedConnection
from ..wire.content import Data, encode_content
from ..wire.ids import NodeId, as_node_id, short
from ..wire.record import PeerRecord
from .application import Application
from .dialler import Dialler
from .events import EventStream
from .runtime import Runtime
from .subscriptions import Subscription
from .values import Event, LinkInfo, Message, NodeStatistics, Receipt

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

__all__ = ["Node"]


class Node:
    """One peer of the overlay; made by `trio_relay.open_node`.

    Messages are an async iteration: ``async for message in node``. It never ends by itself.
    """

    def __init__(self, runtime: Runtime, application: Application, dialler: Dialler, urls: tuple[str, ...]) -> None:
        self._runtime: Final = runtime
        self._application: Final = application
        self._dialler: Final = dialler
        self._urls: Final = urls

    def __repr__(self) -> str:
        role = "relay" if self._runtime.router.relaying else "leaf"
        return f"<Node {short(self.id)}, {self._runtime.link_count} links, {role}>"

    # What it is

    @property
    def id(self) -> NodeId:
        """Its id: the first 20 bytes of SHA-256 of its public key."""
        return self._runtime.identity.id

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it tells other peers to dial it."""
        return self._urls

    @property
    def links(self) -> Mapping[NodeId, LinkInfo]:
        """Live links by id, as they are now."""
        return {info.id: info for info in self._application.link_infos()}

    def statistics(self) -> NodeStatistics:
        """Every counter, and how full each table is."""
        return self._application.statistics()

    # Sending

    async def send(self, to: NodeId, data: Data, *, sealed: bool = False) -> None:
        """Sends a message: at most once, unordered, no confirmation.

        The first message in a turn of Trio's loop leaves at once, those that follow in the same turn when it ends.

        Waits only for local room: while the first link's backlog is more than half full, or while the queue of
        messages that wait for the first link, or for a session with the peer, is full. Always a point of cancellation;
        where there is room, other tasks have their turn once in a millisecond, or in 32 messages.

        Args:
            to: any peer of the overlay.
            data: `bytes`, or any JSON value.
            sealed: never in plain text. Messages between peers with keys are always sealed; original nodes, to whom
                a node with ``legacy=True`` sends, can not.

        Raises:
            PayloadTooLarge: more than `Limits.payload` bytes.
            LocalProtocolError: neither bytes nor a JSON value, or `sealed` by a node that was opened without sealing.
            trio.ClosedResourceError: the node was closed.
        """
        payload = self._payload(to, data, sealed)
        await self._application.wait_room(to, len(payload), sealed=sealed)
        self._application.send(to, payload, sealed=sealed)

    def send_nowait(self, to: NodeId, data: Data, *, sealed: bool = False) -> None:
        """`send` without waiting.

        Raises:
            trio.WouldBlock: there is no local room now.
        """
        payload = self._payload(to, data, sealed)
        if not self._application.has_room(to, len(payload), sealed=sealed):
            raise trio.WouldBlock
        self._application.send(to, payload, sealed=sealed)

    def _payload(self, to: NodeId, data: Data, sealed: bool) -> bytes:
        as_node_id(to)
        self._runtime.desk.check_open()
        if sealed and not self._runtime.router.seals:
            raise LocalProtocolError("expected a node that seals, but this one was opened with sealed=False")
        payload = encode_content(data)
        if len(payload) - 1 > self._runtime.limits.payload:
            raise PayloadTooLarge(
                f"expected a payload of at most {self._runtime.limits.payload} bytes, not {len(payload) - 1}"
            )
        return payload

    async def deliver(self, to: NodeId, data: Data, timeout: float = 30, *, sealed: bool = False) -> Receipt:
        """Sends a message and returns when it is in the receiver's mailbox, once.

        It is sent again, over other paths, until it is acknowledged; for at most 108 seconds after it first left,
        whatever `timeout` is, because receivers know a copy again for 120.

        Raises:
            DeliveryError: not acknowledged within `timeout` seconds; its `outcome` says whether it can have arrived.
                `PeerUnreachable`: no way was found; `SessionTimeout`: the receiver did not answer to the opening of a
                session; `MailboxFull`: it had no room; `NoAcknowledgement`: no answer, or `to` is an original node
                (those confirm nothing) and `sealed` is false.
            PayloadTooLarge: more than `Limits.payload` bytes.
            LocalProtocolError: neither bytes nor a JSON value, or `sealed` by a node that was opened without sealing.
            trio.ClosedResourceError: the node was closed; the outcome is unknown.
        """
        payload = self._payload(to, data, sealed)
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline):
            if not sealed and await self._application.is_original(to):
                self._application.send(to, payload, sealed=False)
                raise NoAcknowledgement(f"{short(to)} is an original node; those do not acknowledge")
        return await self._application.deliver(to, payload, max(deadline - trio.current_time(), 0.0))

    # Receiving

    async def receive(self) -> Message:
        """Waits for the next message.

        Always a point of cancellation; where messages wait, other tasks have their turn once in a millisecond, or in 32
        messages.

        Raises:
            trio.EndOfChannel: the node was closed and its mailbox is empty.
        """
        return await self._application.receive()

    def __aiter__(self) -> AsyncIterator[Message]:
        """Messages, until the node is closed and its mailbox is empty."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._application.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    # Topics

    def subscribe(self, topic: str, *, timeout: float = 10) -> AbstractAsyncContextManager[Subscription]:
        """``async with node.subscribe(topic) as subscription``, then ``async for publication in subscription``.

        The block begins when every relay of the three that are closest to the topic's key keeps the subscription, or
        when one does and one more second has passed. It is kept up while the block runs, when relays come and go, too.
        `subscription.lost` says how many publications found its buffer full. A node's own publications come as well.
        Those of others do not if its clock is more than 300 s wrong; the counter `publications_untimely` says so.

        Args:
            topic: any text; whoever knows it may subscribe and publish. Relays see a hash of it.
            timeout: seconds until the first relay must have confirmed.

        Raises:
            TopicUnavailable: none did, or this node subscribes to 128 topics already.
            trio.ClosedResourceError: the node was closed.
        """
        return self._application.topics.subscribe(topic, timeout)

    async def publish(self, topic: str, data: bytes, *, timeout: float = 10) -> None:
        """Publishes to whoever subscribes to the topic; returns when the first relay has taken it.

        It goes to the three relays that are closest to the topic's key. They pass it on to their subscribers at once,
        and keep nothing. A subscriber gets it once, and has checked who published it. Nobody tells whether it arrived.
        These relays can read it: encrypt what they must not read.

        Args:
            topic: any text.
            data: at most 57,344 bytes.
            timeout: seconds.

        Raises:
            TopicUnavailable: no relay took it in time, or this node's clock is more than 300 s wrong; `outcome` says
                whether a relay can have passed it on.
            PayloadTooLarge: more than 57,344 bytes.
            TypeError: not bytes.
            trio.ClosedResourceError: the node was closed; the outcome is unknown.
        """
        await self._application.topics.publish(topic, data, timeout)

    # Links

    async def wait_linked(self, count: int = 1) -> None:
        """Returns when there are at least so many links."""
        await trio.lowlevel.checkpoint()
        while self._runtime.link_count < count:
            await self._runtime.desk.wait_change()

    async def connect(self, to: NodeId, *, prefer: Preference = "websocket") -> None:
        """Makes a direct link with a peer and returns when it is up; a link that is up already will do.

        Args:
            to: any peer of the overlay.
            prefer: ``"websocket"``: a WebSocket if either side has an address that the other can dial, and WebRTC when
                none has, or 3 seconds later. ``"webrtc"``: the reverse; a WebSocket that is up already is replaced.
                A node that was opened without `webrtc` makes WebSockets only.

        Raises:
            PeerUnreachable: the peer was not found within `Limits.connect_timeout`.
            NegotiationFailed: it was found, but there is no direct way, or it refused; the message says why.
            ValueError: `to` is this node, or `prefer` is neither.
        """
        as_node_id(to)
        if prefer not in get_args(Preference):
            raise ValueError(f"expected prefer to be 'websocket' or 'webrtc', not {prefer!r}")
        self._runtime.desk.check_open()
        if to == self.id:
            raise ValueError("expected another peer's id, not this node's")
        await trio.lowlevel.checkpoint()
        await self._application.connect(to, prefer)

    async def disconnect(self, to: NodeId) -> None:
        """Closes the direct link with a peer, if there is one, and refuses new ones for 60 seconds."""
        as_node_id(to)
        self._application.disconnect(to)
        await trio.lowlevel.checkpoint()

    async def lookup(self, to: NodeId) -> PeerRecord:
        """Finds a peer's signed record.

        Raises:
            PeerUnreachable: no relay that was asked has one.
        """
        as_node_id(to)
        self._runtime.desk.check_open()
        await trio.lowlevel.checkpoint()
        return await self._application.lookup(to)

    async def attach(self, connection: WebSocketConnection) -> None:
        """Makes a link over a trio-websocket connection of this program; it belongs to the node from now on.

        Returns when the link is up. The other end must be a node that attached its end, or that accepted or dialled
        it with the subprotocol ``trio-relay.1``.

        Raises:
            HandshakeError: the link did not come up; the connection is closed.
        """
        self._runtime.desk.check_open()
        try:
            attached = AttachedConnection(connection, self._runtime.limits)
        except OSError as error:
            raise HandshakeError("expected an open connection, not one that is closed already") from error
        try:
            await self._dialler.attach(attached, dialled=connection.is_client)
        except BaseException:
            attached.abort()
            await attached.aclose()
            raise

    def events(self) -> AbstractAsyncContextManager[EventStream[Event]]:
        """Links that come and go: ``async with node.events() as events``, then ``async for event in events``.

        A subscriber that does not read keeps `Limits.event_buffer` events and is told how many it lost.
        """
        return self._runtime.desk.events.subscribe()
