"""One connection to a Socket.IO server.

Rules of this file:

1. One task reads and one writes; who has something to say puts it into a bounded queue. A full queue makes those who
   publish wait; a server that pings and does not read is given up.
2. What a server passes on from its other clients never ends the connection: what is no packet of Peerix is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import trio

from ...exceptions import DriverError, RemoteProtocolError
from ...transports.websocket import WebSocketConnection
from ...wire.json import JSONValue, array_to_bytes
from ..socketio.engineio import (
    EnginePacket,
    EngineType,
    encode_packet,
    parse_handshake_untrusted,
    parse_packet_untrusted,
)
from ..socketio.packets import SocketPacket, SocketType, encode_connect, encode_event
from ..socketio.packets import parse_packet_untrusted as parse_message_untrusted
from .driver import MAX_PACKET

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ["MAX_MESSAGE", "SocketIoSession"]

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of what a server may send at once; more ends the connection."""
_MAX_EVENT: Final = 4 * MAX_PACKET + 16 * 1024
"""Characters of an event that holds a packet: up to four for each byte, and the names. Larger ones are not read."""
_MAX_QUEUED: Final = 2 * _MAX_EVENT
_MAX_SHOWN: Final = 200
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_MESSAGE: Final = str(int(EngineType.MESSAGE))
_FROM_OTHERS: Final = tuple(str(int(kind)) for kind in (SocketType.EVENT, SocketType.BINARY_EVENT))


@dataclass(slots=True)
class _Question:
    """An event that is to be answered."""

    answered: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""
    broken: bool = False


class SocketIoSession:
    """See `BrokerSession`. Before `run`: `greet`.

    Args:
        driver: gets the packets.
        connection: belongs to the session from now on.
        prefix: of the names of events.
        namespace: of Socket.IO; what comes in another one is none of our business.
    """

    def __init__(self, driver: Driver, connection: WebSocketConnection, prefix: str, namespace: str) -> None:
        self._driver: Final = driver
        self._connection: Final = connection
        self._prefix: Final = prefix
        self._namespace: Final = namespace
        self._read: Final[deque[bytes | str]] = deque()  # of the greeting; what is behind it is for `run`
        self._patience = float("inf")
        self._most = 0
        self._numbers: Final = count()
        self._questions: Final[dict[int, _Question]] = {}
        self._queue: Final[deque[bytes]] = deque()
        self._queued = 0
        self._more: Final = trio.lowlevel.ParkingLot()
        self._less: Final = trio.lowlevel.ParkingLot()
        self._ended = False

    # The greeting

    async def greet(self, auth: dict[str, JSONValue] | None) -> None:
        """Says who we are; returns when the server has let us in.

        Raises:
            DriverError, RemoteProtocolError: it does not.
            trio.BrokenResourceError: the connection broke.
        """
        handshake = parse_handshake_untrusted(parse_packet_untrusted(await self._next()))
        self._patience = handshake.ping_interval + handshake.ping_timeout
        self._most = handshake.max_payload
        await self._send(_MESSAGE + encode_connect(auth, self._namespace))
        while True:
            packet = parse_packet_untrusted(await self._next())
            if packet.type is EngineType.PING:
                await self._send(encode_packet(EnginePacket(EngineType.PONG, packet.data)))
            elif packet.type is EngineType.CLOSE:
                raise DriverError("the server closed the session during the greeting")
            elif packet.type is EngineType.MESSAGE and isinstance(packet.data, str):
                answer = parse_message_untrusted(packet.data)
                if answer.namespace == self._namespace and answer.type is SocketType.CONNECT:
                    return
                if answer.namespace == self._namespace and answer.type is SocketType.CONNECT_ERROR:
                    raise DriverError(f"the server says: {_text(answer.data) or 'no'}")

    async def _next(self) -> bytes | str:
        if not self._read:
            self._read.extend(await self._connection.receive())
        if not self._read:
            raise DriverError("the server closed the connection during the greeting")
        return self._read.popleft()

    async def _send(self, packet: str) -> None:
        await self._connection.send([packet.encode()], text=True)

    # The conversation

    async def run(self) -> None:
        """See `BrokerSession`."""
        failures: list[Exception] = []

        async def take(part: Callable[[], Awaitable[None]]) -> None:
            try:
                await part()
            except (DriverError, RemoteProtocolError, *_BROKEN) as error:
                failures.append(error)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, self._read_on)
                nursery.start_soon(take, self._write_on)
        finally:
            self._ended = True
            self._less.unpark_all()
            for question in self._questions.values():
                question.broken = True
                question.answered.set()
        if failures:
            raise failures[0]

    async def _read_on(self) -> None:
        while True:
            while self._read:
                self._take_packet(self._read.popleft())
            with trio.move_on_after(self._patience) as patience:
                self._read.extend(await self._connection.receive())
            if patience.cancelled_caught:
                raise DriverError(f"the server has not pinged for {self._patience:g} s")
            if not self._read:
                raise DriverError("the server closed the connection")

    def _take_packet(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            self._driver.counts["driver_malformed"] += 1
            return
        packet = parse_packet_untrusted(message)
        match packet.type:
            case EngineType.MESSAGE:
                assert isinstance(packet.data, str)
                self._take_message(packet.data)
            case EngineType.PING:
                if self._queued > _MAX_QUEUED:
                    raise RemoteProtocolError("expected the server to read what it is sent")
                self._put(encode_packet(EnginePacket(EngineType.PONG, packet.data)).encode())
            case EngineType.CLOSE:
                raise DriverError("the server closed the session")
            case EngineType.NOOP:
                pass
            case _:
                raise RemoteProtocolError(f"expected no packet {packet.type.name} of engine.io")

    def _take_message(self, text: str) -> None:
        if len(text) > _MAX_EVENT:
            self._driver.counts["driver_oversized"] += 1
            return
        try:
            packet = parse_message_untrusted(text)
        except RemoteProtocolError:
            if not text.startswith(_FROM_OTHERS):
                raise
            self._driver.counts["driver_malformed"] += 1
            return
        if packet.namespace != self._namespace:
            self._driver.counts["driver_unwanted"] += 1
        elif packet.type is SocketType.EVENT:
            self._take_event(packet)
        elif packet.type is SocketType.ACK:
            self._take_answer(packet)
        elif packet.type is SocketType.DISCONNECT:
            raise DriverError("the server put us out")
        else:
            raise RemoteProtocolError(f"expected no packet {packet.type.name} of socket.io")

    def _take_event(self, packet: SocketPacket) -> None:
        name, *arguments = packet.data if isinstance(packet.data, list) else [None]
        if name == f"{self._prefix}message":
            namespace, content = arguments if len(arguments) == 2 else (None, None)
            data = array_to_bytes(content)
            if isinstance(namespace, str) and data is not None:
                self._driver.deliver(namespace, data)
            else:
                self._driver.counts["driver_malformed"] += 1
        elif name == "error":
            self._driver.fail(DriverError(f"the server says: {_text(arguments[0] if arguments else None) or name}"))
        else:
            self._driver.counts["driver_unwanted"] += 1

    def _take_answer(self, packet: SocketPacket) -> None:
        question = None if packet.id is None else self._questions.get(packet.id)
        if question is not None:  # else it comes after we have stopped waiting
            question.refusal = _text(packet.data[0]) if isinstance(packet.data, list) and packet.data else ""
            question.answered.set()

    async def _ask(self, action: str, namespace: str, *more: JSONValue) -> None:
        number = next(self._numbers)
        name = f"{self._prefix}{action}"
        said = (_MESSAGE + encode_event(name, namespace, *more, id=number, namespace=self._namespace)).encode()
        if len(said) > self._most:
            raise DriverError(f"the server takes messages of at most {self._most} bytes")
        question = self._questions[number] = _Question()
        try:
            await self._write(said)
            await question.answered.wait()
        finally:
            del self._questions[number]
        if question.broken:
            raise trio.BrokenResourceError("it has ended")
        if question.refusal:
            raise DriverError(f"the server says: {question.refusal}")

    async def subscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        await self._ask("subscribe", namespace)

    async def unsubscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        await self._ask("unsubscribe", namespace)

    async def publish(self, namespace: str, packet: bytes) -> None:
        """See `BrokerSession`; the server has taken the packet."""
        await self._ask("publish", namespace, list(packet))

    # Writing

    async def _write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while not self._ended and self._queued and self._queued + len(data) > _MAX_QUEUED:
            await self._less.park()
        if self._ended:
            raise trio.BrokenResourceError("it has ended")
        self._put(data)

    def _put(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)
        self._more.unpark()

    async def _write_on(self) -> None:
        while True:
            while not self._queue:
                await self._more.park()
            messages = tuple(self._queue)
            self._queue.clear()
            await self._connection.send(messages, text=True, each=True)
            self._queued -= sum(map(len, messages))
            self._less.unpark_all()

    async def aclose(self) -> None:
        """Closes the connection, within a second or so, also when it is cancelled."""
        self._ended = True
        with suppress(OSError, *_BROKEN):
            await self._connection.aclose()
        self._connection.abort()


def _text(value: JSONValue) -> str:
    """What a server means by an error: text, or an object with a text; empty: it is none."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("message", "error") if isinstance(value.get(name), str)), None)
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value[:_MAX_SHOWN])
