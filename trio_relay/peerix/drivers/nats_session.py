"""One connection to a NATS server."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from ...exceptions import DriverError, RemoteProtocolError
from ...wire.json import JSONValue
from .byte_session import ByteSession
from .byte_stream import ByteStream
from .nats_protocol import (
    PING,
    PONG,
    NatsError,
    NatsEvent,
    NatsInfo,
    NatsMessage,
    NatsParser,
    NatsPing,
    NatsPong,
    NatsSkipped,
    encode_connect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ["NatsSession"]

_FORBIDDEN: Final = "permissions violation for subscription"
_TOO_MANY: Final = "maximum subscriptions exceeded"
_ABOUT_PACKET: Final = ("permissions violation for publish", "invalid publish subject", "invalid subject")
"""How errors begin, in lower case, after which the server goes on; at all others it closes the connection."""


@dataclass(slots=True)
class _Round:
    """A subscription and the PING behind it."""

    subject: str
    done: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""


class NatsSession(ByteSession):
    """See `BrokerSession`. Before `run`: `read_info`, then TLS if it is wanted, then `greet`.

    Args:
        driver: gets the packets.
        stream: belongs to the session from now on.
        prefix: of subjects.
        keepalive, timeout: see `ByteSession`.
    """

    def __init__(self, driver: Driver, stream: ByteStream, prefix: str, *, keepalive: float, timeout: float) -> None:
        super().__init__(stream, keepalive=keepalive, timeout=timeout)
        self._driver: Final = driver
        self._prefix: Final = prefix
        self._parser: Final = NatsParser()
        self._events: Final[deque[NatsEvent]] = deque()  # of the greeting; those behind it are for `run`
        self._namespaces: Final[dict[int, str]] = {}
        self._numbers: Final[dict[str, int]] = {}
        self._last_number = 0
        self._rounds: Final[deque[_Round | None]] = deque()  # one for each PING that was not answered

    # The greeting

    async def read_info(self) -> NatsInfo:
        """What the server says first.

        Raises:
            DriverError, RemoteProtocolError: it says something else, or closes the connection.
            trio.BrokenResourceError: the connection broke.
        """
        event = await self._next()
        if isinstance(event, NatsError):
            raise DriverError(f"the server says: {event.text}")
        if not isinstance(event, NatsInfo):
            raise RemoteProtocolError("expected INFO from the server")
        return event

    def require_nothing_more(self) -> None:
        """Sees to it that nothing follows INFO: before TLS begins, anybody could have put it there.

        Raises:
            RemoteProtocolError: something does.
        """
        if self._events or self._parser.buffered:
            raise RemoteProtocolError("expected nothing more from the server before TLS begins")

    async def greet(self, options: dict[str, JSONValue], hint: str) -> None:
        """Says who we are; returns when the server has let us in.

        Args:
            hint: put behind the server's reason, if it does not.

        Raises:
            DriverError, RemoteProtocolError: it does not.
            trio.BrokenResourceError: the connection broke.
        """
        await self._stream.send(encode_connect(options) + PING)
        while not isinstance(event := await self._next(), NatsPong):
            if isinstance(event, NatsError):
                raise DriverError(f"the server says: {event.text}{hint}")
            if isinstance(event, NatsPing):
                await self._stream.send(PONG)

    async def _next(self) -> NatsEvent:
        while not self._events:
            data = await self._stream.receive()
            if not data:
                raise DriverError("the server closed the connection during the greeting")
            self._events.extend(self._parser.parse_untrusted(data))
        return self._events.popleft()

    # The conversation

    async def run(self) -> None:
        """See `BrokerSession`."""
        while self._events:
            self._take_event(self._events.popleft())
        await super().run()

    def received(self, data: bytes) -> None:
        """See `ByteSession`."""
        for event in self._parser.parse_untrusted(data):
            self._take_event(event)

    def _take_event(self, event: NatsEvent) -> None:
        match event:
            case NatsMessage():
                namespace = self._namespaces.get(event.sid)
                if namespace is None:  # it was on its way when we unsubscribed
                    self._driver.counts["driver_unwanted"] += 1
                else:
                    self._driver.deliver(namespace, event.payload)
            case NatsSkipped():
                self._driver.counts["driver_oversized"] += 1
            case NatsPing():
                self.answer(PONG)
            case NatsPong():
                if not self._rounds:
                    raise RemoteProtocolError("expected no PONG without a PING")
                done = self._rounds.popleft()
                if done is not None:
                    done.done.set()
            case NatsError():
                self._take_error(event.text)
            case NatsInfo():
                pass

    def _take_error(self, text: str) -> None:
        said = f"the server says: {text}"
        if text.lower().startswith(_ABOUT_PACKET):
            self._driver.counts["driver_refused"] += 1
            self._driver.fail(DriverError(said))
            return
        refused = [each for each in self._rounds if each is not None and not each.refusal]
        if text.lower().startswith(_FORBIDDEN):
            refused = [each for each in refused if f'"{each.subject}"' in text]
        elif not text.lower().startswith(_TOO_MANY):
            refused = []
        if not refused:  # it may be about a subscription that was confirmed, and has been taken from us
            raise DriverError(said)
        refused[0].refusal = said

    def ping(self) -> bytes:
        """See `ByteSession`."""
        self._rounds.append(None)
        return PING

    def goodbye(self) -> bytes:
        """See `ByteSession`."""
        return b""

    async def subscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        self._last_number += 1
        number = self._last_number
        subject = self._prefix + namespace
        await self.write(encode_subscribe(subject, number) + PING)
        self._namespaces[number] = namespace
        self._numbers[namespace] = number
        mine = _Round(subject)
        self._rounds.append(mine)
        await mine.done.wait()
        if mine.refusal:
            del self._namespaces[number], self._numbers[namespace]
            raise DriverError(mine.refusal)

    async def unsubscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        number = self._numbers.pop(namespace, None)
        if number is None:
            await trio.lowlevel.checkpoint()
            return
        self._namespaces.pop(number, None)
        await self.write(encode_unsubscribe(number))

    async def publish(self, namespace: str, packet: bytes) -> None:
        """See `BrokerSession`."""
        if len(packet) > self._parser.max_payload:
            raise DriverError(f"the server takes packets of at most {self._parser.max_payload} bytes")
        await self.write(encode_publish(self._prefix + namespace, packet))
