"""The client of a relay server: this one's, or the original ws-relay."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import random as _random
from typing import Final, Literal

import trio

from ...exceptions import PayloadTooLarge
from ...limits import Limits
from ...node.events import Events, EventStream
from ...node.services import open_services
from ...node.turns import Turns
from ...transports.backoff import Backoff
from ...wire.json import JSONValue
from .arguments import check_arguments
from .core import RelayMessage, encode_message, make_target, message_prefix
from .desk import Desk, Inbox, Outbox
from .endings import RelayRefused, RelayReplaced
from .events import ClientEvent, ClientStatistics, PresenceChanged
from .pace import Pace
from .running import Plan, Runner

__all__ = ["RelayClient", "RelayMessage", "RelayRefused", "RelayReplaced", "open_relay_client"]

_MIB: Final = 1024 * 1024
_LIMITS: Final = Limits()
_GOODBYE: Final = "Client closed"


class RelayClient:
    """A peer of a relay server; made by `open_relay_client`.

    Messages are an async iteration: ``async for message in client``. It ends when the client is closed.

    What a client sends arrives at most once, and in order as long as the connection lasts. Nothing confirms it:
    messages that were given to the socket just before a connection broke are lost, and so is what is sent to a peer
    that is offline (see ``reports``), or beyond the server's rate limit (`ServerError`).
    """

    def __init__(self, channel: str, id: str, place: str, desk: Desk, runner: Runner, max_message: int) -> None:
        self._channel: Final = channel
        self._id: Final = id
        self._place: Final = place
        self._desk: Final = desk
        self._runner: Final = runner
        self._max_message: Final = max_message
        self._prefix: Final = message_prefix(desk.address)
        self._line: Final = trio.StrictFIFOLock()  # who waits for room in the outbox
        self._sends: Final = Turns()
        self._receives: Final = Turns()

    def __repr__(self) -> str:
        state = "closed" if self._desk.over is not None else "connected" if self.connected else "not connected"
        return f"<RelayClient {self._place}, {state}>"

    # What it is

    @property
    def channel(self) -> str:
        """The channel that it is on."""
        return self._channel

    @property
    def id(self) -> str:
        """Its id there."""
        return self._id

    @property
    def address(self) -> str:
        """Where peers reach it, ``channel:id``."""
        return self._desk.address

    @property
    def connected(self) -> bool:
        """Whether the server has taken it in, and the connection has not ended since."""
        return self._desk.connected

    def statistics(self) -> ClientStatistics:
        """Every counter, and how full each queue is."""
        desk = self._desk
        sizes = {
            "outbox_messages": len(desk.outbox),
            "outbox_bytes": desk.outbox.bytes,
            "inbox_messages": len(desk.inbox),
            "inbox_bytes": desk.inbox.bytes,
            "watched": len(desk.watches.presence),
        }
        return ClientStatistics(dict(desk.counts), sizes, desk.connected)

    # Being connected

    async def wait_connected(self) -> None:
        """Returns when the server has taken this client in; at once if it is so now.

        Raises:
            RelayRefused: the server refused it for good (bad key, verification failed), or another connection took
                over its address (`RelayReplaced`).
            trio.BrokenResourceError: it was opened with ``reconnect=False``, and its one connection failed or ended.
            trio.ClosedResourceError: it was closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._desk.connected:
            self._desk.check_open()
            await self._desk.changed.wait()

    async def aclose(self) -> None:
        """Closes the connection with code 1000; whatever waits is told.

        Queued messages have two seconds to leave, also if the client is only about to be connected. Received messages
        can still be taken.
        """
        await self._runner.close(_GOODBYE)

    # Sending

    async def send(self, to: str, payload: JSONValue) -> None:
        """Sends a message; returns when it is in the queue.

        Waits for room in the queue, so for the server if that does not read; who came first has room first. Always a
        point of cancellation; where there is room, other tasks have their turn once in a millisecond, or in 32
        messages.

        Args:
            to: the peer's address, ``channel:id``.
            payload: any JSON value.

        Raises:
            LocalProtocolError: `to` is not an address, or `payload` not a JSON value that nests at most 63 deep and
                has only finite numbers. What was received need not be one: see `RelayMessage`.
            PayloadTooLarge: the message with its envelope exceeds ``max_message``, or ``queue_bytes``.
            RelayRefused: as from `wait_connected`.
            trio.BrokenResourceError: not connected, with ``when_disconnected="raise"``; or as from `wait_connected`.
            trio.ClosedResourceError: the client was closed.
        """
        frame = self._frame(to, payload)
        await self._sends.give_way()
        outbox = self._desk.outbox
        self._desk.check_sendable()
        if not self._line.locked() and outbox.has_room(len(frame)):
            outbox.put(frame)
            return
        async with self._line:
            self._desk.check_sendable()
            while not outbox.has_room(len(frame)):
                await outbox.room.wait()
                self._desk.check_sendable()
            outbox.put(frame)

    def send_nowait(self, to: str, payload: JSONValue) -> None:
        """`send` without waiting.

        Raises:
            trio.WouldBlock: the queue has no room now, or somebody waits for room in it.
        """
        frame = self._frame(to, payload)
        self._desk.check_sendable()
        if self._line.locked() or not self._desk.outbox.has_room(len(frame)):
            raise trio.WouldBlock
        self._desk.outbox.put(frame)

    def _frame(self, to: str, payload: JSONValue) -> bytes:
        frame = encode_message(self._prefix, to, payload)
        if len(frame) > self._max_message:
            raise PayloadTooLarge(
                f"expected a message of at most {self._max_message} bytes with its envelope, not {len(frame)}"
            )
        return frame

    # Receiving

    async def receive(self) -> RelayMessage:
        """Waits for the next message.

        While the inbox is full, the connection is not read. The server then keeps what comes, and may disconnect who
        takes too long. Signs of life are still sent, so that its heartbeat does not. When the connection is lost
        meanwhile, what was read with the message that waits, at most 64 KiB and one message, goes in above the bounds
        (`inbox_exceeded`); if they are exceeded already, it is dropped (`received_at_end`).

        Always a point of cancellation; where messages wait, other tasks have their turn once in a millisecond, or in 32
        messages.

        Raises:
            trio.EndOfChannel: the client was closed, and all messages were taken.
            RelayRefused: as from `wait_connected`, after all messages were taken.
            trio.BrokenResourceError: as from `wait_connected`, after all messages were taken.
        """
        await self._receives.give_way()
        inbox = self._desk.inbox
        try:
            return inbox.get_nowait() or await inbox.get()
        except trio.EndOfChannel:
            pass
        self._desk.check_ending()
        raise trio.EndOfChannel

    def __aiter__(self) -> AsyncIterator[RelayMessage]:
        """Messages, until the client is closed and all were taken; raises as `receive` otherwise."""
        return self

    async def __anext__(self) -> RelayMessage:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    # Presence

    async def watch(self, address: str) -> None:
        """Asks to be told whether a peer is online; remembered over connections, until `unwatch`.

        The server answers each watch: `presence`, and `PresenceChanged` in `events`. An original server takes 100
        frames in a minute from each client, watches included; those that it refuses are repeated a minute later.

        Raises:
            LocalProtocolError: `address` is not one, or longer than 512 characters, which servers do not take.
            ValueError: 1,023 addresses are watched already.
            RelayRefused, trio.BrokenResourceError, trio.ClosedResourceError: the client is done: see `wait_connected`.
        """
        self._desk.check_open()
        if self._desk.watches.watch(address):  # its own
            self._desk.events.publish(PresenceChanged(address, online=True))
        self._desk.outbox.work.set()
        await trio.lowlevel.checkpoint()

    async def unwatch(self, address: str) -> None:
        """Takes a `watch` back; does nothing if there was none."""
        self._desk.check_open()
        self._desk.watches.unwatch(address)
        self._desk.outbox.work.set()
        await trio.lowlevel.checkpoint()

    @property
    def presence(self) -> Mapping[str, bool | None]:
        """Whether each watched address is online, as last heard, or None where that is not known; a read-only view.

        Everything is unknown while the client is not connected.
        """
        return self._desk.watches.presence

    def events(self) -> AbstractAsyncContextManager[EventStream[ClientEvent]]:
        """What happens: ``async with client.events() as events``, then ``async for event in events``.

        A subscriber that does not read keeps ``event_buffer`` events and is told how many it lost. The iteration ends
        when the client is closed or refused for good.
        """
        return self._desk.events.subscribe()


@asynccontextmanager
async def open_relay_client(
    url: str,
    channel: str,
    id: str,
    *,
    key: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    encode_id: bool = False,
    reports: bool = False,
    reconnect: bool = True,
    max_reconnect_delay: float = 30.0,
    stable_after: float = 5.0,
    connect_timeout: float = 10.0,
    idle_timeout: float = 75.0,
    when_disconnected: Literal["queue", "raise"] = "queue",
    max_message: int = _MIB,
    queue_messages: int = 256,
    queue_bytes: int = _MIB,
    inbox_messages: int = 1024,
    inbox_bytes: int = 8 * _MIB,
    event_buffer: int = 256,
    random: Callable[[], float] = _random,
) -> AsyncIterator[RelayClient]:
    """Runs a client of a relay server for as long as the block; it connects in the background.

    After a connection ends, and after an attempt that failed, it waits and tries again, except after a refusal for
    good: a bad key, a bad URL, a failed verification, HTTP 401 or 403, an address taken over by another connection, or
    a server that knows the client under another address. Calls raise `RelayRefused` then. A server that is full or
    limits connections, and one where the id is in use, is tried again.

    Args:
        url: ``ws://…`` or ``wss://…``, without a query.
        channel: a channel of the server; without a colon, and of characters that a URL's path holds.
        id: 1 to 256 characters; what an original server takes by default is 8 to 64 of ``A-Z a-z 0-9 _ -``.
        key: an access key: 8 to 64 of the same characters. It is sent in the URL: use ``wss``.
        ssl_context: for ``wss``; default: the system's authorities.
        encode_id: allow an id with characters that a URL's path does not hold. It is percent-encoded there. Original
            servers decode nothing unless they are told to; by one that does not, the client is refused.
        reports: ask the server to tell which messages it could not deliver (`Undelivered`); original servers do not.
        reconnect: False: one attempt, one connection.
        max_reconnect_delay: seconds; the wait is random, up to 1 s at first, and up to twice as much each time.
        stable_after: seconds; only a connection that lasted so long makes the waits short again.
        connect_timeout: seconds for the upgrade, TLS included. Also how long a server that does not answer to a watch
            of the client's own address is believed to be still at it; then it counts as connected.
        idle_timeout: seconds; a server that was silent so long is pinged, and has ten seconds to answer. While the
            inbox is full, it has at least as long in all to take a message.
        when_disconnected: ``"queue"``: messages wait in the queue for the next connection, and `send` for room in it;
            ``"raise"``: sending raises `trio.BrokenResourceError`, and what waited is dropped and counted.
        max_message: bytes in one message with its envelope. A longer one that arrives ends the connection.
        queue_messages: messages that wait to be sent.
        queue_bytes: their bytes.
        inbox_messages: messages that were received and not yet taken; beyond that the connection is not read: see
            `RelayClient.receive`.
        inbox_bytes: their bytes.
        event_buffer: events that wait in one subscription.
        random: gives numbers from 0 up to 1, for the waits.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument is unusable. Neither the key nor a password in the URL is in any message.
    """
    check_arguments(dict(locals()))
    target = make_target(url, channel, id, key=key, encode_id=encode_id, reports=reports)
    plan = Plan(
        target=target,
        ssl_context=ssl_context,
        reports=reports,
        reconnect=reconnect,
        stable_after=stable_after,
        connect_timeout=connect_timeout,
        max_message=max_message,
        pace=Pace(connect_timeout, idle_timeout, _LIMITS.dead_after, _LIMITS.close_timeout),
    )
    outbox, inbox = Outbox(queue_messages, queue_bytes), Inbox(inbox_messages, inbox_bytes)
    desk = Desk(target.address, outbox, inbox, Events[ClientEvent](event_buffer), keeps=when_disconnected == "queue")
    runner = Runner(desk, plan, Backoff(max_reconnect_delay, random), _LIMITS)
    async with open_services() as services:
        client = RelayClient(channel, id, target.place, desk, runner, min(max_message, queue_bytes))
        services.start_soon(runner.run)
        try:
            yield client
        finally:
            await client.aclose()
