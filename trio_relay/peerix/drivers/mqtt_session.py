"""One connection to an MQTT broker."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from ...exceptions import DriverError, RemoteProtocolError
from .byte_session import ByteSession
from .byte_stream import ByteStream
from .mqtt_packets import (
    DISCONNECT,
    PINGREQ,
    ConnAck,
    Disconnect,
    MqttEvent,
    MqttParser,
    PingResp,
    Publish,
    PubRel,
    SubAck,
    UnsubAck,
    encode_connect,
    encode_puback,
    encode_pubcomp,
    encode_publish,
    encode_pubrec,
    encode_subscribe,
    encode_unsubscribe,
)
from .mqtt_values import describe_reason

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ["RECEIVE_MAXIMUM", "MqttSession"]

RECEIVE_MAXIMUM: Final = 64
"""Messages with QoS 2 that were not released; a broker that follows the subscriptions sends none."""
_LAST_ID: Final = 65535
_FAILURE: Final = 0x80
"""The first of the reasons that are refusals."""


@dataclass(slots=True)
class _Request:
    """A SUBSCRIBE or UNSUBSCRIBE that waits for its answer."""

    answer: type[SubAck | UnsubAck]
    done: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""


class MqttSession(ByteSession):
    """See `BrokerSession`. Before `run`: `greet`.

    Args:
        driver: gets the packets.
        stream: belongs to the session from now on.
        prefix: of topics.
        keepalive, timeout: see `ByteSession`; the broker may want a shorter `keepalive`.
    """

    def __init__(self, driver: Driver, stream: ByteStream, prefix: str, *, keepalive: float, timeout: float) -> None:
        super().__init__(stream, keepalive=keepalive, timeout=timeout)
        self._driver: Final = driver
        self._prefix: Final = prefix
        self._parser: Final = MqttParser()
        self._events: Final[deque[MqttEvent]] = deque()  # behind CONNACK
        self._max_packet: int | None = None
        self._requests: Final[dict[int, _Request]] = {}
        self._last_id = 0
        self._unreleased: Final[set[int]] = set()

    async def greet(self, client_id: str, user: str | None, password: str | None) -> None:
        """Says who we are; returns when the broker has let us in.

        Raises:
            DriverError, RemoteProtocolError: it does not.
            trio.BrokenResourceError: the connection broke.
        """
        # The broker waits half as long again before it gives us up (section 3.1.2.10).
        keepalive = min(math.ceil(self._keepalive + self._timeout), 65535)
        await self._stream.send(encode_connect(client_id, user, password, keepalive=keepalive, receive=RECEIVE_MAXIMUM))
        while not self._events:
            data = await self._stream.receive()
            if not data:
                raise DriverError("the broker closed the connection during the greeting; does it speak MQTT 5?")
            self._events.extend(self._parser.parse_untrusted(data))
        answer = self._events.popleft()
        if not isinstance(answer, ConnAck):
            raise RemoteProtocolError(f"expected CONNACK, got {type(answer).__name__}")
        if answer.reason:
            raise DriverError(f"the broker says: {describe_reason(answer.reason, answer.text)}")
        if answer.session_present:
            raise RemoteProtocolError("expected a new session, got an old one")
        self._max_packet = answer.max_packet
        if answer.keepalive:
            self._keepalive = min(self._keepalive, answer.keepalive)

    async def run(self) -> None:
        """See `BrokerSession`."""
        while self._events:
            self._take_event(self._events.popleft())
        await super().run()

    def received(self, data: bytes) -> None:
        """See `ByteSession`."""
        for event in self._parser.parse_untrusted(data):
            self._take_event(event)

    def _take_event(self, event: MqttEvent) -> None:
        match event:
            case Publish():
                self._take_message(event)
            case PubRel():
                self.answer(encode_pubcomp(event.packet_id, known=event.packet_id in self._unreleased))
                self._unreleased.discard(event.packet_id)
            case SubAck() | UnsubAck():
                self._take_answer(event)
            case PingResp():
                pass
            case Disconnect():
                raise DriverError(f"the broker says: {describe_reason(event.reason, event.text)}")
            case ConnAck():
                raise RemoteProtocolError("expected CONNACK once")

    def _take_message(self, message: Publish) -> None:
        if message.qos == 1:
            self.answer(encode_puback(message.packet_id))
        elif message.qos == 2:
            known = message.packet_id in self._unreleased
            if not known and len(self._unreleased) >= RECEIVE_MAXIMUM:
                raise RemoteProtocolError(f"expected at most {RECEIVE_MAXIMUM} messages that were not released")
            self._unreleased.add(message.packet_id)
            self.answer(encode_pubrec(message.packet_id))
            if known:
                return
        if message.retained:  # signalling of a room that is over
            self._driver.counts["driver_retained"] += 1
        elif message.topic.startswith(self._prefix):
            self._driver.deliver(message.topic[len(self._prefix) :], message.payload)
        else:
            self._driver.counts["driver_unwanted"] += 1

    def _take_answer(self, answer: SubAck | UnsubAck) -> None:
        request = self._requests.pop(answer.packet_id, None)
        if request is None or request.answer is not type(answer) or len(answer.reasons) != 1:
            raise RemoteProtocolError(f"expected no {type(answer).__name__} without a request of that kind")
        if answer.reasons[0] >= _FAILURE:
            request.refusal = f"the broker says: {describe_reason(answer.reasons[0], answer.text)}"
        request.done.set()

    def ping(self) -> bytes:
        """See `ByteSession`."""
        return PINGREQ

    def goodbye(self) -> bytes:
        """See `ByteSession`."""
        return DISCONNECT

    async def subscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        number = self._next_id()
        await self._ask(number, SubAck, encode_subscribe(number, self._prefix + namespace))

    async def unsubscribe(self, namespace: str) -> None:
        """See `BrokerSession`."""
        number = self._next_id()
        await self._ask(number, UnsubAck, encode_unsubscribe(number, self._prefix + namespace))

    def _next_id(self) -> int:
        """One that is free: there are never as many requests as identifiers."""
        while True:
            self._last_id = self._last_id % _LAST_ID + 1
            if self._last_id not in self._requests:
                return self._last_id

    async def _ask(self, number: int, answer: type[SubAck | UnsubAck], packet: bytes) -> None:
        # It stays if this is cancelled: the answer to it will come all the same.
        request = self._requests[number] = _Request(answer)
        await self.write(packet)
        await request.done.wait()
        if request.refusal:
            raise DriverError(request.refusal)

    async def publish(self, namespace: str, packet: bytes) -> None:
        """See `BrokerSession`."""
        data = encode_publish(self._prefix + namespace, packet)
        if self._max_packet is not None and len(data) > self._max_packet:
            raise DriverError(f"the broker takes packets of at most {self._max_packet} bytes, not {len(data)}")
        await self.write(data)
